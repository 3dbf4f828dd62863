"""The error for a file of an index that is damaged inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rag_vs_ft.errors import CheckFailed


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While a file of a generation is read: what the library raises for damaged content becomes a CheckFailed.

    Only content: sizes were compared when the generation was opened.
    """
    try:
        yield
    # FAISS raises the first; numpy, Arrow, JSON of another shape and places beyond an array the others.
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckFailed(
            f"{path} is damaged: {error}", "see `rag-vs-ft index verify NAME`, then roll back or build again"
        ) from error
