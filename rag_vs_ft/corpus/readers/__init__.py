"""Files -> text: one reader for each format, in a table by file name ending.

A reader is a module of this package with one function, `read(data, context) -> Content`. It raises `LeftOut` for a file that
holds nothing to index. To add a format, write its module and add a line to `FORMATS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module

from rag_vs_ft.records import Heading, Place

Read = Callable[[str], str | None]
"""POSIX path below the root of the source -> the text of that file; None for a file that is not there or not text."""


@dataclass(frozen=True, slots=True)
class FileContext:
    """What a reader knows of a file besides its bytes.

    `path` is where it lies below the root of its source (POSIX), `read` opens other files of that source and nothing else,
    `dialect` is the name of its folder's Markdown dialect, and `include_faq` says whether FAQ files are documents.
    """

    path: str
    read: Read
    dialect: str = "github"
    include_faq: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What a reader found in a file: clean Markdown, and what the file says of itself.

    `headings` are those of `text`; `places` say from which offset on it stands on which page, sheet or slide. `notes` counts
    what was resolved, dropped, or could not be resolved. `language` is an ISO 639-1 code, "" where it is not known: `child.read`
    fills it in. An empty text means that there is nothing to index.
    """

    text: str
    title: str = ""
    headings: tuple[Heading, ...] = ()
    places: tuple[Place, ...] = ()
    description: str = ""
    service: str = ""
    date: str = ""
    language: str = ""
    notes: Counter[str] = field(default_factory=Counter)

    def with_notes(self, notes: Counter[str]) -> Content:
        """The same content with more notes."""
        return replace(self, notes=self.notes + notes)

    def with_title(self, title: str) -> Content:
        """The same content under another title."""
        return replace(self, title=title)


class LeftOut(Exception):
    """The file is not a document. `reason` is what a user reads after a count, with what would help; `detail` is of this file."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Damaged(LeftOut):
    """The file cannot be read as what its name says it is, here called `title`."""

    def __init__(self, title: str, detail: str = "") -> None:
        super().__init__(f"damaged: cannot be read as {title} (open it in its program and save it again)", detail)


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file: its reader's module in this package, the endings of its file names, the largest size that is read,
    and the seconds of processor time that a file may take."""

    kind: str
    title: str
    endings: tuple[str, ...]
    max_bytes: int = 8_000_000
    seconds: int = 30

    def read(self, data: bytes, context: FileContext) -> Content:
        """Read one file. Raises LeftOut."""
        return import_module(f"{__name__}.{self.kind}").read(data, context)


VERSION = 9
"""Raised whenever a reader or a dialect would give another text for the same file: unchanged files are then read again."""

FORMATS = (
    Format("markdown", "Markdown", (".md", ".markdown", ".mdx")),
    Format("faq", "FAQ YAML", (".yml", ".yaml")),
    Format("text", "text", (".txt", ".text")),
    Format("html", "HTML", (".html", ".htm", ".xhtml"), 32_000_000),
    Format("pdf", "PDF", (".pdf",), 200_000_000, seconds=600),
    Format("docx", "Word", (".docx", ".docm", ".dotx"), 200_000_000, seconds=120),
    Format("pptx", "PowerPoint", (".pptx", ".pptm", ".ppsx"), 200_000_000, seconds=120),
    Format("sheet", "spreadsheet", (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), 100_000_000, seconds=120),
    Format("csv", "CSV", (".csv", ".tsv"), 32_000_000),
    Format("epub", "EPUB", (".epub",), 200_000_000, seconds=120),
    Format("ipynb", "notebook", (".ipynb",), 32_000_000),
    Format("rst", "reStructuredText", (".rst",)),
    Format("asciidoc", "AsciiDoc", (".adoc", ".asciidoc", ".asc")),
)

BY_KIND = {entry.kind: entry for entry in FORMATS}
BY_ENDING = {ending: entry for entry in FORMATS for ending in entry.endings}

HELP = {
    ".doc": "save it as .docx",
    ".ppt": "save it as .pptx",
    ".rtf": "save it as .docx",
    ".odt": "save it as .docx",
    ".odp": "save it as .pptx",
    ".pages": "export it as .docx",
    ".zip": "unpack it",
    ".jsonl": "add it by itself: jsonl:FILE",
}
"""What helps with kinds of files that have no reader."""
