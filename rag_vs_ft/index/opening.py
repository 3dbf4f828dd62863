"""The name of an index -> the index, wherever it is: in the home, or on a server (`qdrant:URL/NAME`)."""

from __future__ import annotations

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import generations, qdrant
from rag_vs_ft.index.search import Index
from rag_vs_ft.settings import Home


def open_index(name: str, home: Home) -> Index:
    """Open the generation of index `name` that answers now.

    Where `settings.or_local()` says so, the local index of the same name stands in for a server that does not answer, with a
    notice. Raises what `Index.open` and `QdrantIndex.at` raise.
    """
    if not qdrant.is_published(name):
        return Index.open(name, home)
    try:
        return qdrant.QdrantIndex.at(name)
    except qdrant.Unreachable as error:
        if not settings.or_local():
            raise
        own = qdrant.Published.of(name).name
        try:
            index = Index.open(own, home)
        except UserError as missing:
            raise UserError(f"{error.message}; and {missing.message}", error.hint) from error
        index.notices = (f"{error.message}: {own}, {index.generation.name}, of this machine answers instead",)
        return index


def all_indexes(home: Home) -> list[str]:
    """The indexes of the home, then those on servers that `settings.published` names."""
    return [*generations.list_indexes(home), *settings.published()]
