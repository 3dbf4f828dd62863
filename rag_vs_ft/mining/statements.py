"""What a document states: its sentences and its table cells, each with the heading it stands under."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from rag_vs_ft.language import language, split_sentences
from rag_vs_ft.records import Document

if TYPE_CHECKING:
    from markdown_it import MarkdownIt


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence, or one cell of a table, as plain text on one line (inline code keeps its backticks).

    `section` is the nearest heading above, "" below the title itself. A cell (`row` is not empty) has the first cell of its row
    as `row`, what stands above that as `key` and what stands above the cell as `column`.
    """

    document_id: str
    section: str
    text: str
    row: str = ""
    key: str = ""
    column: str = ""

    @property
    def place(self) -> tuple[str, ...]:
        """Where a cell stands, by names, as a reader compares them: section, heading of the row, row, column."""
        return tuple(re.sub(r"[`*]", "", name).casefold() for name in (self.section, self.key, self.row, self.column))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.disable(["inline", "text_join"])
    return parser


def statements(document: Document) -> Iterator[Statement]:
    """The sentences and table cells of a document in reading order; code blocks and headings are left out."""
    section = ""
    cells: list[str] = []
    header: list[str] = []
    in_heading = in_cell = False
    for token in _parser().parse(document.text):
        kind = token.type
        if kind == "heading_open":
            in_heading = True
        elif kind == "thead_open":
            header = []
        elif kind == "tr_open":
            cells = []
        elif kind in ("td_open", "th_open"):
            in_cell = True
        elif kind == "tr_close":
            if header:
                yield from _cells(document.id, section, header, cells)
            else:
                header = cells
        elif kind == "inline":
            text = " ".join(token.content.split())
            if in_cell:
                cells.append(text)
            elif in_heading:
                section = "" if text == document.title else text
            else:
                for sentence in split_sentences(text, language(document.language)):
                    yield Statement(document.id, section, sentence)
            in_cell = in_heading = False


def _cells(document_id: str, section: str, header: list[str], cells: list[str]) -> Iterator[Statement]:
    for column, cell in list(zip(header, cells, strict=False))[1:]:
        if cell and cells[0] and column:
            yield Statement(document_id, section, cell, cells[0], header[0], column)
