"""Tables in text: comma, semicolon or tab between the values."""

from __future__ import annotations

import csv
import io

from rag_vs_ft.corpus.markdown.blocks import table
from rag_vs_ft.corpus.readers import Content, Damaged, FileContext
from rag_vs_ft.corpus.readers.assemble import assemble
from rag_vs_ft.corpus.readers.text import text_of

MAX_ROWS = 200_000


def read(data: bytes, context: FileContext) -> Content:
    """One table; its first row is the header, which every passage repeats."""
    text, notes = text_of(data)
    sample = text[:8_192]
    delimiter = max(",;\t|", key=lambda mark: sum(line.count(mark) > 0 for line in sample.split("\n")[:20]))
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # of the process: never less than another reader needs
    try:
        rows = [[one.strip() for one in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter)]
    except csv.Error as error:
        raise Damaged("CSV", str(error)) from error
    rows = [[" ".join(cell.split()) for cell in row] for row in rows if any(row)]
    if len(rows) > MAX_ROWS:
        notes[f"rows beyond {MAX_ROWS:,} left out"] += len(rows) - MAX_ROWS
    return assemble([("", [table(rows[:MAX_ROWS])] if rows else [])], notes)
