"""The words of a page -> lines in reading order, with ruled tables among them."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

SLANTED = 45
"""Stands for every direction that is neither along nor across the page."""
SMALLER = 0.8
"""How large a raised letter is at most, next to the letters of its line."""
BULLETS = "•●▪◦‣∙·–*-"
_LABEL = re.compile(rf"[{BULLETS}]|\(?(?:\d{{1,2}}|[a-zA-Z]|[ivx]{{1,4}})[.)]|\.\d{{1,2}}|(?:\d{{1,2}}\.)+")
"""What stands before the text of an item, often behind a wide gap."""
_MONO = re.compile(r"mono(?!type)|courier|consol|menlo|typewriter|cmtt|sftt|inconsolata|source ?code|fira ?code", re.I)
_UNKNOWN_LETTER = re.compile(r"\(cid:\d+\)|[\ue000-\uf8ff\U000f0000-\U0010fffd]")
_SYMBOLS = str.maketrans(
    dict.fromkeys("\uf0b7\uf0a7\uf0a8\uf076\uf0d8\uf06e\uf071\uf09f", "•")
    | {"\uf0e0": "→", "\uf0e8": "→", "\uf0fc": "✓", "\uf0b0": "°", "\uf0b1": "±", "\uf0b3": "≥", "\uf0a3": "≤", "\uf0b4": "×"}
)
"""The private letters by which Word writes the Symbol and Wingdings fonts: bullets and a few signs."""


@dataclass(slots=True)
class PdfLine:
    """Words in a row: their text by cells (what wide gaps part), where they stand, and how they are printed.

    `text_left` is where the second word begins: under it hangs the text of an item whose first word is its number.
    """

    cells: list[tuple[float, float, str]]
    top: float
    bottom: float
    size: float
    bold: bool
    column: int = 0
    text_left: float = 0.0
    mono: bool = False
    rows: list[list[str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The words of all cells."""
        return " ".join(text for _, _, text in self.cells)

    @property
    def ends_in_number(self) -> bool:
        """Whether it is a label and, behind a gap, its number, as in a list of sums."""
        return len(self.cells) > 1 and not re.search(r"[^\W\d_]", self.cells[-1][2])

    @property
    def left(self) -> float:
        """Where it begins."""
        return self.cells[0][0] if self.cells else 0.0

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.cells[-1][1] if self.cells else 0.0


@dataclass(slots=True)
class PdfPage:
    """One page: its number from 1, its height in points, and its lines in reading order."""

    number: int
    height: float
    lines: list[PdfLine]


def lines_of(page: Any, notes: Counter[str]) -> list[PdfLine]:
    """The lines of a page of pdfplumber's in reading order; a ruled table is a line with `rows`, turned text comes last."""
    page = page.dedupe_chars(tolerance=1) if len(page.chars) < 20_000 else page
    _mark_raised(page.chars)
    turned = [char for char in page.chars if _turn(char)]
    if any(_turn(char) == SLANTED and char["text"].strip() for char in turned):
        notes["slanted text (a watermark) left out"] += 1
    if turned:
        page = page.filter(lambda thing: thing["object_type"] != "char" or not _turn(thing))
    words = page.extract_words(**_WORDS)
    tables: list[PdfLine] = []
    for found in page.find_tables() if page.rects or page.lines or page.curves else []:
        cells = [[cell or "" for cell in row] for row in found.extract()]
        if any(_is_box(cell) for row in cells for cell in row):
            continue
        rows = [[" ".join(_named(cell).split()) for cell in row] for row in cells]
        rows = [row for row in rows if any(row)]
        columns = [number for number in range(max(map(len, rows), default=0)) if any(row[number] for row in rows)]
        # One row may be the last of a table that began on the page before.
        if len(columns) < 2 or (len(rows) < 2 and any(word["top"] < found.bbox[1] - 1 for word in words)):
            continue
        left, top, right, bottom = found.bbox
        frame = _is_frame(rows)
        boxes = (
            [row.bbox for row, texts in zip(found.rows, cells, strict=True) if sum(map(bool, texts)) > 1]
            if frame
            else [found.bbox]
        )
        inside = [word for word in words if any(_within(word, *box) for box in boxes)]
        if not inside:
            continue
        words = [word for word in words if not any(_within(word, *box) for box in boxes)]
        rows = [[row[number] for number in columns] for row in rows if not frame or sum(map(bool, row)) > 1]
        if frame:
            top, bottom = boxes[0][1], boxes[-1][3]
        tables.append(PdfLine([(left, right, "")], top, bottom, 0.0, False, rows=rows))
    lines = _in_order(words, float(page.width))
    for found in sorted(tables, key=lambda line: line.top):
        place = next((place for place, line in enumerate(lines) if line.top >= found.top and _beside(line, found)), len(lines))
        lines.insert(place, found)
    rotated = [line for turn in (90, 180, 270) for line in _turned_lines(turned, turn, float(page.width), float(page.height))]
    return rotated + lines if len(turned) > len(page.chars) else lines + rotated


_WORDS: dict[str, Any] = {"x_tolerance_ratio": 0.13, "y_tolerance": 2, "extra_attrs": ["size", "fontname"]}


def _mark_raised(chars: Sequence[dict[str, Any]]) -> None:
    """Put "^" before raised numbers and single letters: the mark of a footnote would else be a digit of the number before it."""
    start = 0
    while start < len(chars):
        end = start + 1
        while (
            end < len(chars) and abs(chars[end]["size"] - chars[start]["size"]) < 0.1 and _on_a_line(chars[end - 1], chars[end])
        ):
            end += 1
        text = "".join(char["text"] for char in chars[start:end]).strip()
        before, after = chars[start - 1] if start else None, chars[end] if end < len(chars) else None
        ordinal = before is not None and before["text"].isdigit() and text.isalpha()
        raised = (before is not None and _is_raised(chars[start], before, before["x1"] - chars[start]["x0"])) or (
            after is not None and _is_raised(chars[start], after, after["x0"] - chars[end - 1]["x1"])
        )
        if raised and not ordinal and re.fullmatch(r"[-−+]?\d{1,3}(?:,\d{1,2}){0,5}|[a-z]", text):
            chars[start]["text"] = "^" + chars[start]["text"]
        start = end


def _on_a_line(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return bool(abs(before["bottom"] - after["bottom"]) < 0.5 and -1 < after["x0"] - before["x1"] < 2 * after["size"])


def _is_raised(char: dict[str, Any], beside: dict[str, Any], gap: float) -> bool:
    height = beside["size"]
    return bool(
        char["size"] <= SMALLER * height
        and abs(gap) < 0.6 * height
        and beside["top"] - 0.5 * height < char["top"]
        and char["bottom"] < beside["bottom"] - 0.12 * height
    )


def _turn(char: dict[str, Any]) -> int:
    """By how many degrees a letter is turned to the left: 0, 90, 180, 270, or SLANTED."""
    right, up = char["matrix"][:2]
    if abs(up) <= 0.2 * abs(right):
        return 0 if right >= 0 else 180
    if abs(right) <= 0.2 * abs(up):
        return 90 if up > 0 else 270
    return SLANTED


def _turned_lines(chars: Sequence[dict[str, Any]], turn: int, width: float, height: float) -> list[PdfLine]:
    """The lines that are turned by `turn` degrees, read as if the page had been turned back."""
    from pdfplumber.utils.text import extract_words

    straight = []
    for char in chars:
        if _turn(char) != turn:
            continue
        x0, x1, top, bottom = char["x0"], char["x1"], char["top"], char["bottom"]
        if turn == 90:
            x0, x1, top, bottom = height - bottom, height - top, x0, x1
        elif turn == 270:
            x0, x1, top, bottom = top, bottom, width - x1, width - x0
        else:
            x0, x1, top, bottom = width - x1, width - x0, height - bottom, height - top
        straight.append(
            char | {"x0": x0, "x1": x1, "top": top, "bottom": bottom, "doctop": top, "size": bottom - top, "upright": True}
        )
    return _in_order(extract_words(straight, **_WORDS), width if turn == 180 else height, -turn)


def _named(text: str) -> str:
    """Text with U+FFFD for letters that the PDF does not name; code 127 is the bullet of the usual encoding."""
    return _UNKNOWN_LETTER.sub("\ufffd", text.replace("(cid:127)", "•").translate(_SYMBOLS))


def _is_frame(rows: list[list[str]]) -> bool:
    """Whether a "table" is a frame around lines, as of a letterhead: most rows have one cell, and none has more than two."""
    filled = [sum(map(bool, row)) for row in rows]
    return len(filled) > 2 and max(filled) == 2 and filled.count(1) > filled.count(2)


def _is_box(cell: str) -> bool:
    """Whether a "cell" is a box with a table without rules in it, or a list of short lines."""
    lines = cell.split("\n")
    return len(lines) >= 5 and statistics.mean(len(line.split()) for line in lines) <= 5


def _within(word: dict[str, Any], left: float, top: float, right: float, bottom: float) -> bool:
    middle, height = (word["x0"] + word["x1"]) / 2, (word["top"] + word["bottom"]) / 2
    return bool(left - 1 <= middle <= right + 1 and top - 1 <= height <= bottom + 1)


def _beside(line: PdfLine, other: PdfLine) -> bool:
    return line.right > other.left and line.left < other.right


def _in_order(words: Sequence[dict[str, Any]], width: float, column: int = 0) -> list[PdfLine]:
    """Lines from top to bottom; where a page has columns, those of one column before those of the next."""
    rows = _rows(words)
    gutter = _gutter(rows)
    if gutter is None:
        return [_line(row, column) for row in rows]
    ordered: list[PdfLine] = []
    left: list[dict[str, Any]] = []
    right: list[dict[str, Any]] = []

    def flush() -> None:
        for number, half in enumerate((left, right)):
            if half:
                ordered.extend(_in_order(half, width / 2, 2 * column + 1 + number))
                half.clear()

    for row in rows:
        if _bridges(row, gutter):
            flush()
            ordered.append(_line(row, column))
        else:
            left += [word for word in row if word["x1"] <= gutter + 2]
            right += [word for word in row if word["x1"] > gutter + 2]
    flush()
    return ordered


def _rows(words: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Words that stand on one base line, from left to right."""
    rows: list[list[dict[str, Any]]] = []
    for word in sorted(words, key=lambda word: (word["bottom"], word["x0"])):
        for row in rows[-3:]:
            height = min(word["bottom"] - word["top"], row[0]["bottom"] - row[0]["top"])
            overlap = min(word["bottom"], max(one["bottom"] for one in row)) - max(word["top"], min(one["top"] for one in row))
            if overlap > 0.5 * height:
                row.append(word)
                break
        else:
            rows.append([word])
    for row in rows:
        row.sort(key=lambda word: word["x0"])
    return sorted(rows, key=lambda row: min(word["top"] for word in row))


def _gutter(rows: list[list[dict[str, Any]]]) -> float | None:
    """Where the white stripe between two columns of prose is; None when there is none."""
    gaps: Counter[int] = Counter()
    for row in rows:
        for before, after in pairwise(row):
            space = after["x0"] - before["x1"]
            if space > 0.8 * before["size"]:
                for position in range(int(before["x1"]) + 1, int(after["x0"]) + 1):
                    gaps[position] += 1
    if not gaps:
        return None
    most = max(gaps.values())
    best = sorted(position for position, count in gaps.items() if count >= 0.9 * most)
    gutter = best[len(best) // 2] + 0.0
    both = [row for row in rows if row[0]["x1"] < gutter < row[-1]["x0"] and not _bridges(row, gutter)]
    if len(both) < 5 or len(both) < 0.35 * len(rows):
        return None
    left = statistics.mean(sum(word["x1"] <= gutter for word in row) for row in both)
    right = statistics.mean(sum(word["x0"] >= gutter for word in row) for row in both)
    return gutter if min(left, right) >= 3 else None


def _bridges(row: list[dict[str, Any]], gutter: float) -> bool:
    """Whether a row runs on across the gutter, as a title does."""
    return any(word["x0"] < gutter - 2 and word["x1"] > gutter + 2 for word in row) or any(
        before["x1"] <= gutter + 2 and after["x0"] >= gutter - 2 and after["x0"] - before["x1"] <= 0.6 * before["size"]
        for before, after in pairwise(row)
    )


def _line(row: list[dict[str, Any]], column: int) -> PdfLine:
    cells: list[tuple[float, float, str]] = []
    for word in row:
        text = _named(word["text"])
        if cells and word["x0"] - cells[-1][1] <= max(1.0 * word["size"], 6.0):
            glue = "" if word["x0"] - cells[-1][1] < 0.08 * word["size"] else " "
            cells[-1] = (cells[-1][0], word["x1"], cells[-1][2] + glue + text)
        else:
            cells.append((word["x0"], word["x1"], text))
    if len(cells) == 2 and _LABEL.fullmatch(cells[0][2]):
        cells = [(cells[0][0], cells[1][1], f"{cells[0][2]} {cells[1][2]}")]
    sizes = Counter({round(word["size"], 1): 0 for word in row})
    for word in row:
        sizes[round(word["size"], 1)] += len(word["text"])
    bold = sum(len(word["text"]) for word in row if re.search(r"bold|black|heavy|cmbx|demi", word["fontname"], re.I))
    letters = sum(len(word["text"]) for word in row)
    return PdfLine(
        cells,
        min(word["top"] for word in row),
        max(word["bottom"] for word in row),
        sizes.most_common(1)[0][0],
        bold > 0.8 * letters,
        column,
        row[1]["x0"] if len(row) > 1 else row[0]["x0"],
        sum(len(word["text"]) for word in row if _MONO.search(word["fontname"])) > 0.9 * letters,
    )
