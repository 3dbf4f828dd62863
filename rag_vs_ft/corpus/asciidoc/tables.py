"""The cells of a table, from lines with bars, commas or colons between them.

https://docs.asciidoctor.org/asciidoc/latest/tables/build-a-basic-table/
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_COLUMNS = 100
MAX_REPEATS = 100

_SPECIFIER = re.compile(r"(?:(?:(\d{1,3})?(?:\.(\d{1,4}))?([+*]))?(?:[<^>]?\.?[<^>]|[<^>])?([a-z])?)$")
_COLUMN = re.compile(r"(?:(\d{1,3})\*)?(?:[<^>]?\.?[<^>]|[<^>])?(?:\d+%?|~)?([a-z])?$")


@dataclass(slots=True)
class TableCell:
    """One cell: its text as written, the letter of its style ("a" holds blocks, "m" code, "h" a header), its spans."""

    text: str
    style: str = ""
    columns: int = 1
    rows: int = 1


def rows_of(lines: list[str], columns: str, layout: str, separator: str, options: set[str]) -> list[list[TableCell]]:
    """The rows of a table. `columns` is its `cols`, `layout` psv, csv, tsv or dsv; the cells of a header have the style "h"."""
    styles = _styles(columns)
    first_row = 0
    if layout == "psv":
        cells = list(_bars(lines, separator or "|"))
        first = next((place for place, line in enumerate(lines) if line.strip()), 0)
        first_row = sum(1 for _ in _bars(lines[first : first + 1], separator or "|"))
    else:
        split = list(_separated(lines, layout, separator))
        cells = [TableCell(value) for row in split for value in row]
        first_row = len(split[0]) if split else 0
    width = min(len(styles) or sum(cell.columns for cell in cells[:first_row]), MAX_COLUMNS)
    if not width or not cells:
        return []
    rows = _filled(cells, width)
    if _has_header(lines, options, len(rows), layout):
        for cell in rows[0]:
            cell.style = "h"
    for row in rows:
        column = 0
        for cell in row:
            cell.style = cell.style or (styles[column] if column < len(styles) else "")
            column += cell.columns
    return rows


def _has_header(lines: list[str], options: set[str], rows: int, layout: str) -> bool:
    if "header" in options:
        return True
    if "noheader" in options or rows < 2 or len(lines) < 2 or not lines[0].strip():
        return False
    return not lines[1].strip()


def _styles(columns: str) -> list[str]:
    """The style of each column that `cols` names."""
    if re.fullmatch(r"\s*\d{1,3}\s*", columns):
        return [""] * min(int(columns), MAX_COLUMNS)
    styles: list[str] = []
    for part in re.split(r"[,;]", columns) if columns.strip() else []:
        found = _COLUMN.match(part.strip())
        styles += [found[2] or "" if found else ""] * min(int(found[1] or 1) if found else 1, MAX_COLUMNS)
    return styles[:MAX_COLUMNS]


def _bars(lines: list[str], separator: str) -> Iterable[TableCell]:
    """Cells that begin with a separator; what stands before it, up to a space, says what the cell is."""
    cell: TableCell | None = None
    repeats = 1
    text: list[str] = []
    mark = re.escape("\t" if separator == "\\t" else separator)

    def ended() -> Iterable[TableCell]:
        if cell is not None:
            said = "\n".join(text).replace(f"\\{separator}", separator)
            yield from (TableCell(said, cell.style, cell.columns, cell.rows) for _ in range(repeats))

    for line in lines:
        pieces = re.split(rf"(?<!\\){mark}", line)
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            before, specifier = (piece, "") if last else _cut(piece)
            if number == 0:
                text.append(before)
            else:
                text[-1] += before
            if last:
                continue
            yield from ended()
            found = _SPECIFIER.match(specifier)
            assert found is not None
            across, down, sign, style = found.groups()
            repeats = min(int(across or 1), MAX_REPEATS) if sign == "*" else 1
            spans = (min(int(across or 1), MAX_COLUMNS), int(down or 1)) if sign == "+" else (1, 1)
            cell = TableCell("", style or "", *(max(1, span) for span in spans))
            text = [""]
    yield from ended()


def _cut(piece: str) -> tuple[str, str]:
    """What stands before a separator, as the text of the cell before it and the specifier of the cell behind it."""
    place = max(piece.rfind(" "), piece.rfind("\t")) + 1
    specifier = piece[place:]
    if specifier and len(specifier) < 20 and _SPECIFIER.match(specifier):
        return piece[:place], specifier
    return piece, ""


def _separated(lines: list[str], layout: str, separator: str) -> Iterable[list[str]]:
    mark = {"csv": ",", "tsv": "\t", "dsv": ":"}.get(layout, ",") if not separator else separator.replace("\\t", "\t")
    kept = [line for line in lines if line.strip()]
    if layout == "dsv":
        pattern = re.compile(rf"(?<!\\){re.escape(mark)}")
        for line in kept:
            yield [cell.strip().replace(f"\\{mark}", mark) for cell in pattern.split(line)]
        return
    csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, kept)) + 1))
    try:
        rows = list(csv.reader((f"{line}\n" for line in kept), delimiter=mark[:1], skipinitialspace=True))
    except csv.Error:
        rows = [line.split(mark) for line in kept]
    yield from ([cell.strip() for cell in row] for row in rows if row)


def _filled(cells: list[TableCell], width: int) -> list[list[TableCell]]:
    """The cells in rows of a width, with room for those that span rows above."""
    rows: list[list[TableCell]] = [[]]
    taken: dict[int, int] = {}
    used = 0
    for cell in cells:
        while used >= width or used + taken.get(len(rows) - 1, 0) >= width:
            rows.append([])
            used = 0
        cell.columns = min(cell.columns, width)
        rows[-1].append(cell)
        used += cell.columns
        for below in range(len(rows), len(rows) - 1 + min(cell.rows, 1_000)):
            taken[below] = taken.get(below, 0) + cell.columns
    return [row for row in rows if row]
