"""Jupyter notebooks: Markdown and code cells, and what the code printed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from rag_vs_ft.corpus.markdown.blocks import Block, code_block
from rag_vs_ft.corpus.markdown.dialect import Dialect
from rag_vs_ft.corpus.readers import Content, Damaged, FileContext
from rag_vs_ft.corpus.readers.text import text_of
from rag_vs_ft.corpus.text import headings_of, one_line

MAX_OUTPUT = 2_000
"""Characters that are kept of what a cell printed."""


def read(data: bytes, context: FileContext) -> Content:
    """The cells in order; pictures and tracebacks are left out, and long output is cut."""
    text, notes = text_of(data)
    try:
        notebook = json.loads(text)
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        language = str(((notebook.get("metadata") or {}).get("language_info") or {}).get("name") or "python")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise Damaged("notebook", type(error).__name__) from error
    if not isinstance(cells, list):
        raise Damaged("notebook", "its cells are not a list")
    parts = [part for cell in cells if isinstance(cell, dict) for part in _cell(cell, language, notes, context)]
    whole = "\n".join(part for part in parts if part.strip())
    headings = headings_of(whole)
    first = min(headings, key=lambda heading: heading.level, default=None)
    return Content(whole, first.text if first else "", headings, notes=notes)


def _cell(cell: dict[str, Any], language: str, notes: Counter[str], context: FileContext) -> list[str]:
    source = _joined(cell.get("source", cell.get("input")))
    if cell.get("cell_type") == "heading":  # of notebooks before version 4
        level = cell.get("level")
        source = "#" * (level if isinstance(level, int) and 1 <= level <= 6 else 1) + " " + one_line(source)
    if cell.get("cell_type") in ("markdown", "raw", "heading"):
        content = Dialect().clean(source, context.path, lambda _: None)
        notes.update(content.notes)
        return [content.text]
    blocks = [code_block(source, language)] if source.strip() else []
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        if isinstance(output, dict):
            blocks += _output(output, notes)
    return [_written(block) for block in blocks]


def _output(output: dict[str, Any], notes: Counter[str]) -> list[Block]:
    found = output.get("data")
    shown = found if isinstance(found, dict) else output
    text = _joined(shown.get("text/plain", output.get("text")))
    if output.get("output_type") in ("error", "pyerr"):
        notes["tracebacks in outputs left out"] += 1
        return []
    if any(str(kind).startswith("image/") for kind in shown):
        notes["images dropped"] += 1
        text = ""
    if len(text) > MAX_OUTPUT:
        notes["long outputs cut"] += 1
        text = text[:MAX_OUTPUT].rsplit("\n", 1)[0] + "\n..."
    return [code_block(text, "output")] if text.strip() else []


def _joined(value: object) -> str:
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _written(block: Block) -> str:
    return f"{block.fence}{block.info}\n{block.text}{block.fence}\n"
