"""The tree that Markdown and the HTML inside it are read into."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from rag_vs_ft.corpus.text import one_line

BlockKind = Literal[
    "heading", "paragraph", "code", "table", "list", "quote", "rule", "label", "tab", "tabs-end", "zone", "zone-end"
]
"""The last five are marks that a dialect's `arrange` resolves: a label is what the block after it is ("Note"), a tab and a zone
name the alternative that the blocks after it belong to."""


@dataclass(slots=True)
class Block:
    """One block. `text` is clean inline text (of code: verbatim), `parts` the items of a list or the content of a quote.

    `level` is of a heading or tab; `plain` a heading's text without markup; `start` the first number of an ordered list, None of
    a bulleted one; `linked` how many characters of a paragraph are link text; `info` the language of code or the kind of a mark.
    """

    kind: BlockKind
    text: str = ""
    level: int = 0
    plain: str = ""
    start: int | None = None
    tight: bool = False
    linked: int = 0
    info: str = ""
    fence: str = "```"
    parts: list[list[Block]] = field(default_factory=list)


def code_block(text: str, info: str = "") -> Block:
    """A block of code in a fence that the text does not close."""
    return Block("code", text.rstrip("\n") + "\n", info=one_line(info).replace("`", ""), fence=fence_for(text))


def code_span(text: str, fence: str = "") -> str:
    """Inline code in the backticks given, or in as many as the text needs."""
    fence = fence or fence_for(text, 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def fence_for(text: str, least: int = 3) -> str:
    """Backticks that do not stand in the text."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def cell_text(text: str) -> str:
    """The lines of a cell as one: a semicolon between two values, a space inside a sentence."""
    joined = ""
    for line in filter(None, (one_line(line) for line in text.split("\n"))):
        if line[0] in ",.;:)":
            joined += line
            continue
        values = joined and joined[-1] not in ".,;:!?" and not line[0].islower() and line[0] not in "(•-"
        joined += ("; " if values else " ") + line if joined else line
    return joined


MAX_REPEATED = 100
"""Characters of a cell that are repeated in each of the rows that it spans."""


def repeat_below(rows: list[list[str]], first: int, last: int, column: int) -> None:
    """Put the cell that spans the rows `first` to `last` into each of them, so that a row says all by itself."""
    if first < len(rows) and column < len(rows[first]) and len(rows[first][column]) <= MAX_REPEATED:
        for row in rows[first + 1 : last + 1]:
            if column < len(row):
                row[column] = rows[first][column]


def table(rows: list[list[str]]) -> Block:
    """A table whose first row is its header; short rows are filled up, rows without text go."""
    rows = rows[:1] + [row for row in rows[1:] if any(row)]
    width = max(map(len, rows), default=0)
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row + [""] * (width - len(row))) + " |" for row in rows]
    return Block("table", "\n".join([*lines[:1], "| " + " | ".join(["---"] * width) + " |", *lines[1:]]))
