"""Spreadsheets (Excel, OpenDocument): each sheet's tables, with the header row that every passage repeats."""

from __future__ import annotations

import datetime
import io
from collections import Counter

from rag_vs_ft.corpus.markdown.blocks import Block, repeat_below, table
from rag_vs_ft.corpus.readers import Content, Damaged, FileContext, LeftOut
from rag_vs_ft.corpus.readers.assemble import assemble, heading, paragraph

MAX_ROWS = 200_000
MAX_COLUMNS = 200


def read(data: bytes, context: FileContext) -> Content:
    """The sheets in order, each a place; rows with an empty row between them are tables of their own.

    A cell that is merged over rows stands in each of them.
    """
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    except CalamineError as error:
        what = str(error)
        if "assword" in what or "ncrypt" in what:
            raise LeftOut("encrypted spreadsheet (save it without a password)") from error
        raise Damaged("spreadsheet", what[:200]) from error
    notes: Counter[str] = Counter()
    if context.path.lower().endswith((".xlsm", ".xlsb")):
        notes["macros left out"] += 1
    parts: list[tuple[str, list[Block]]] = []
    for name in book.sheet_names:
        sheet = book.get_sheet_by_name(name)
        rows = sheet.to_python(skip_empty_area=False)
        if len(rows) > MAX_ROWS:
            notes[f"rows beyond {MAX_ROWS:,} left out"] += len(rows) - MAX_ROWS
        if rows and len(rows[0]) > MAX_COLUMNS:
            notes[f"columns beyond {MAX_COLUMNS} left out"] += len(rows[0]) - MAX_COLUMNS
        cells = [[_shown(cell) for cell in row[:MAX_COLUMNS]] for row in rows[:MAX_ROWS]]
        for (first, column), (last, _) in sheet.merged_cell_ranges or ():
            repeat_below(cells, first, last, column)
        blocks = _tables(cells)
        if blocks:
            parts.append((f"sheet {name}", [heading(name, 2), *blocks]))
    return assemble(parts, notes)


def _tables(rows: list[list[str]]) -> list[Block]:
    groups: list[list[list[str]]] = [[]]
    for row in rows:
        if any(row):
            groups[-1].append(row)
        elif groups[-1]:
            groups.append([])
    blocks: list[Block] = []
    for group in filter(None, groups):
        used = [number for number in range(max(map(len, group))) if any(number < len(row) and row[number] for row in group)]
        cells = [[row[number] if number < len(row) else "" for number in used] for row in group]
        # A line of text above a table is its title, and no header.
        while cells and len(used) > 1 and sum(map(bool, cells[0])) == 1:
            blocks.append(paragraph("".join(cells.pop(0))))
        if len(used) == 1:
            blocks.extend(paragraph(row[0]) for row in cells)
        elif cells:
            blocks.append(table(cells))
    return blocks


def _shown(value: object) -> str:
    """A cell as a person reads it."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "minutes")
    return " ".join(str(value).split())
