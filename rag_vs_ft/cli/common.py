"""What all verbs share: options, printing, progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError

if TYPE_CHECKING:
    from rag_vs_ft.index.search import Filters, Index
    from rag_vs_ft.models.loading import LanguageModel
    from rag_vs_ft.records import Reranker

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder for corpora, indexes and runs [default: $RAG_VS_FT_HOME or .]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
IndexOption = Annotated[str, typer.Option("--index", help="Name of the index to search.")]
RetrieverOption = Annotated[str, typer.Option("--retriever", help="hybrid, bm25 or dense.")]
ServiceOption = Annotated[str, typer.Option("--service", help="Only documents of this service (ms.service).")]
PathOption = Annotated[str, typer.Option("--path", help="Only documents whose id begins with this.")]
SinceOption = Annotated[str, typer.Option("--since", help="Only documents dated this day (YYYY-MM-DD) or later.")]
RerankOption = Annotated[
    str,
    typer.Option("--rerank", help="Order the first hits again: a cross-encoder (pulled hub id or folder), lm, or lm:MODEL."),
]
RerankDepthOption = Annotated[int, typer.Option("--rerank-depth", help="How many hits are reranked.")]


def say(text: str = "") -> None:
    """Print to standard error: progress, notices, anything that is not the result."""
    print(text, file=sys.stderr, flush=True)


def show(result: dict[str, Any]) -> None:
    """Print a result as one JSON object on standard output."""
    print(json.dumps(result, ensure_ascii=False), flush=True)


class StageBar:
    """Progress of long work and the time its stage still takes: a bar on a terminal, otherwise a line every ten seconds."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._printed = time.monotonic()
        self._began = (0.0, 0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` (0: not known) of a stage is done."""
        now = time.monotonic()
        if stage != self._stage:
            self._began = (now, done)
        if sys.stderr.isatty():
            from tqdm import tqdm

            if stage != self._stage:
                self.close()
                self._bar = tqdm(total=total or None, desc=stage, unit="", file=sys.stderr, leave=True)
            self._bar.total = total or None
            self._bar.update(done - self._bar.n)
        elif now - self._printed > 10:
            self._printed = now
            say(f"{stage}: {done:,} of {total:,}{self._left(now, done, total)}" if total else f"{stage} ...")
        self._stage = stage

    def _left(self, now: float, done: int, total: int) -> str:
        began, first = self._began
        if done <= first or done >= total:
            return ""
        seconds = (now - began) / (done - first) * (total - done)
        return f", {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"

    def close(self) -> None:
        """Finish the bar that is open, if any."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def said_every(seconds: float = 10.0) -> Callable[[str], None]:
    """A progress callback for messages: each on a terminal, one in `seconds` otherwise."""
    last = 0.0

    def tell(message: str) -> None:
        nonlocal last
        if sys.stderr.isatty() or time.monotonic() - last > seconds:
            last = time.monotonic()
            say(message)

    return tell


def open_index(name: str, home: Path | None) -> Index:
    """The index of this name in the home of a verb."""
    from rag_vs_ft.index.search import Index

    return Index.open(name, settings.home(home))


def filters_of(service: str, path: str, since: str) -> Filters | None:
    """The filters of a verb's options; None when none is given. Raises UserError for a date that is none."""
    from datetime import date

    from rag_vs_ft.index.search import Filters

    if since:
        try:
            since = date.fromisoformat(since).isoformat()
        except ValueError:
            raise UserError(f"--since {since!r} is no date", "write it as YYYY-MM-DD") from None
    return Filters(service, path, since) or None


def reranker_of(name: str, depth: int, home: Path | None, lm: LanguageModel | None = None) -> Reranker | None:
    """The reranker of a verb's options, None when `name` is empty; "lm" is `lm` where the verb has loaded one."""
    from rag_vs_ft.index.search import checked_rerank_depth

    checked_rerank_depth(depth)
    if not name:
        return None
    from rag_vs_ft.models.reranking import load

    return load(name, lm=lm, home=settings.home(home).root)


def verbs(help: str) -> typer.Typer:
    """A group of verbs."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)
