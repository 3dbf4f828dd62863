"""What all verbs share: options, printing, progress."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_vs_ft import groups, settings
from rag_vs_ft.errors import UserError

if TYPE_CHECKING:
    from rag_vs_ft.index.search import Filters, Index
    from rag_vs_ft.models.language_model import LanguageModel
    from rag_vs_ft.records import Reranker

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder for corpora, indexes and runs [default: $RAG_VS_FT_HOME or .]")
]
MODEL_HELP = (
    "A run, catalogue name, hub id, folder, GGUF file or server (http://127.0.0.1:8080/v1#NAME); where one name means two: "
    "run:NAME, pulled:NAME or ./FOLDER."
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
IndexOption = Annotated[
    str, typer.Option("--index", help="The index to search: its name, or qdrant:URL/NAME for one that was published.")
]
RetrieverOption = Annotated[str, typer.Option("--retriever", help="hybrid, bm25 or dense.")]
ServiceOption = Annotated[str, typer.Option("--service", help="Only documents of this service (ms.service).")]
PathOption = Annotated[str, typer.Option("--path", help="Only documents whose id begins with this.")]
SinceOption = Annotated[str, typer.Option("--since", help="Only documents dated this day (YYYY-MM-DD) or later.")]
RerankOption = Annotated[
    str,
    typer.Option("--rerank", help="Order the first hits again: a cross-encoder (pulled hub id or folder), lm, or lm:MODEL."),
]
RerankDepthOption = Annotated[int, typer.Option("--rerank-depth", help="How many hits are reranked.")]


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys or what turns the reading direction: all of Unicode's Cc but tab and line end, and the bidi controls."""


def printable(text: str) -> str:
    """`text` with each control character as its escape (\\u001b), which in JSON stands for that same character."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Printable(io.TextIOWrapper):
    """Standard output through `printable`: a document's title must not steer the reader's terminal."""

    def write(self, text: str) -> int:
        super().write(printable(text))
        return len(text)


def make_output_safe() -> None:
    """Let standard output print control characters as escapes, and what the console cannot encode as well."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not isinstance(sys.stdout, _Printable):
        old = sys.stdout
        old.flush()
        # A second wrapper around the same bytes; the first is kept, since closing it would close them.
        sys.stdout = _Printable(
            old.buffer, encoding=old.encoding, errors="backslashreplace", line_buffering=old.line_buffering, write_through=True
        )
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """Print to standard error: progress, notices, anything that is not the result."""
    print(printable(text), file=sys.stderr, flush=True)


def show(result: dict[str, Any]) -> None:
    """Print a result as one JSON object on standard output."""
    print(json.dumps(result, ensure_ascii=False), flush=True)


class StageBar:
    """The Progress of the command line, with the time that a stage still takes.

    A bar on a terminal, otherwise a line every ten seconds. A detail is a line of its own, always printed.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._printed = time.monotonic()
        self._began = (0.0, 0)

    def __call__(self, stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        """Show a step; see `progress.Progress`."""
        now = time.monotonic()
        if stage != self._stage:
            self._began = (now, done)
            self.close()
        if detail:
            left = self._left(now, done, total)
            line = printable(f"{stage} {done:,}/{total:,}: {detail}{left}" if total else detail)
            if self._bar is not None:
                self._bar.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)
            self._printed = now
        if total and sys.stderr.isatty():
            from tqdm import tqdm

            if self._bar is None:
                self._bar = tqdm(total=total, desc=stage, unit="", file=sys.stderr, leave=True)
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif detail:
            pass
        elif now - self._printed > 10 or (sys.stderr.isatty() and stage != self._stage):
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


def open_index(name: str, home: Path | None) -> Index:
    """The index of this name in the home of a verb, or on a server."""
    from rag_vs_ft.index.opening import open_index

    return open_index(name, settings.home(home))


def _read_as(names: list[str] | None) -> list[str] | None:
    """Take `--as` for this process and what it starts."""
    if names:
        try:
            os.environ["RAG_VS_FT_AS"] = ",".join(groups.parse(names))
        except ValueError as error:
            raise UserError(f"--as: {error}", "name groups, as in --as staff --as finance") from error
    return names


AsOption = Annotated[
    list[str] | None,
    typer.Option("--as", help="Read as this group (repeat for several) [default: $RAG_VS_FT_AS, or none].", callback=_read_as),
]


def _taken(variable: str) -> Callable[[bool], bool]:
    """Takes a switch for this process and what it starts."""

    def take(given: bool) -> bool:
        if given:
            os.environ[variable] = "1"
        return given

    return take


AllowRemoteOption = Annotated[
    bool,
    typer.Option(
        "--allow-remote",
        help="Let a model or an index be on a server of another machine, to which questions and passages are sent.",
        callback=_taken("RAG_VS_FT_ALLOW_REMOTE"),
    ),
]
OrLocalOption = Annotated[
    bool,
    typer.Option(
        "--or-local",
        help="Where the server of a published index does not answer, search the index of the same name here, and say so.",
        callback=_taken("RAG_VS_FT_OR_LOCAL"),
    ),
]


def _offer(names: list[str] | None) -> list[str] | None:
    """Take published indexes for this process and what it starts. Raises UserError for what is none."""
    from rag_vs_ft.index.qdrant import PREFIX, is_published

    if wrong := [name for name in names or () if not is_published(name) or len(name.split()) != 1]:
        raise UserError(f"--index {wrong[0]!r} is not a published index", f"write it as {PREFIX}http://127.0.0.1:6333/NAME")
    if names:
        os.environ["RAG_VS_FT_PUBLISHED"] = " ".join(names)
    return names


PublishedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--index",
        help="A published index, qdrant:URL/NAME, to offer beside those of the home (repeat for several).",
        callback=_offer,
    ),
]


EngineOption = Annotated[
    str, typer.Option("--engine", help="Where the work is done: local, or ray (needs `pip install 'rag-vs-ft[ray]'`).")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", help="Processes, or actors of the cluster [default: this process, or one for each CPU]."),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="A Ray cluster: HOST:PORT, or auto for the one that runs here [default: start one here]."),
]


def say_hidden(hidden: int, what: str) -> None:
    """Say how many passages or documents are left out because they are for other groups."""
    if hidden:
        say(f"note: {hidden:,} {what} for named groups are left out; --as GROUP takes in those of a group")


def filters_of(service: str, path: str, since: str) -> Filters | None:
    """The filters of a verb's options, or None without any. Raises UserError for a date that cannot be read."""
    from datetime import date

    from rag_vs_ft.index.search import Filters

    if since:
        try:
            since = date.fromisoformat(since).isoformat()
        except ValueError:
            raise UserError(f"--since {since!r} is not a date", "write it as YYYY-MM-DD") from None
    return Filters(service, path, since) or None


def reranker_of(name: str, depth: int, home: Path | None, lm: LanguageModel | None = None) -> Reranker | None:
    """The reranker of a verb's options, None when `name` is empty; "lm" is `lm` where the verb has loaded one."""
    from rag_vs_ft.index.search import checked_rerank_depth

    checked_rerank_depth(depth)
    if not name:
        return None
    from rag_vs_ft.models.reranking import load

    return load(name, settings.home(home), lm)


def verbs(help: str) -> typer.Typer:
    """A group of verbs."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)
