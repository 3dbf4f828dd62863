"""PowerPoint: each slide's title, text, tables and notes."""

from __future__ import annotations

import io
from collections import Counter
from functools import cache
from typing import Any

from rag_vs_ft.corpus.markdown.blocks import Block, repeat_below, table
from rag_vs_ft.corpus.readers import Content, Damaged, FileContext
from rag_vs_ft.corpus.readers.archive import Archive
from rag_vs_ft.corpus.readers.assemble import assemble, heading, paragraph

MAX_DEPTH = 10


def read(data: bytes, context: FileContext) -> Content:
    """The slides in order, each a place; shapes are read from top to bottom, then from left to right."""
    Archive(data, "PowerPoint")
    from pptx import Presentation

    notes: Counter[str] = Counter()
    if context.path.lower().endswith(".pptm"):
        notes["macros left out"] += 1
    try:
        slides = list(Presentation(io.BytesIO(data)).slides)
    except (KeyError, ValueError, AttributeError) as error:
        raise Damaged("PowerPoint", str(error)[:200]) from error
    parts = []
    for number, slide in enumerate(slides, start=1):
        title = slide.shapes.title
        named = title.text_frame.text.strip() if title is not None and title.has_text_frame else ""
        blocks = [heading(named.replace("\v", " ") or f"Slide {number}", 2)]
        shapes = [shape for shape in slide.shapes if title is None or shape.shape_id != title.shape_id]
        for shape in _in_order(shapes):
            blocks += _shape(shape, notes, 0)
        if slide.has_notes_slide and (said := slide.notes_slide.notes_text_frame) is not None and said.text.strip():
            blocks += [paragraph("Notes:"), *map(paragraph, filter(str.strip, said.text.split("\n")))]
        if len(blocks) > 1 or named:
            parts.append((f"slide {number}", blocks))
        else:
            notes["slides without text"] += 1
    return assemble(parts, notes, parts[0][1][0].text if parts and parts[0][1][0].text != "Slide 1" else "")


@cache
def _running() -> frozenset[Any]:
    from pptx.enum.shapes import PP_PLACEHOLDER

    return frozenset((PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.HEADER))


def _in_order(shapes: list[Any]) -> list[Any]:
    # Positions are in 914,400ths of an inch; what begins within a third of an inch stands in one row.
    return sorted(shapes, key=lambda shape: ((shape.top or 0) // 300_000, shape.left or 0))


def _shape(shape: Any, notes: Counter[str], depth: int) -> list[Block]:
    if shape.is_placeholder and shape.placeholder_format.type in _running():
        notes["running headers, footers and page numbers dropped"] += 1
        return []
    if getattr(shape, "shapes", None) is not None and depth < MAX_DEPTH:
        return [block for inner in _in_order(list(shape.shapes)) for block in _shape(inner, notes, depth + 1)]
    if getattr(shape, "has_table", False):
        return [_table(shape.table)]
    if getattr(shape, "has_chart", False):
        return _chart(shape.chart)
    if shape.has_text_frame:
        return _text(shape.text_frame)
    if "Picture" in type(shape).__name__:
        notes["images dropped"] += 1
    return []


def _table(found: Any) -> Block:
    rows = [[" ".join(cell.text.split()) for cell in row.cells] for row in found.rows]
    for number, row in enumerate(found.rows):
        for column, cell in enumerate(row.cells):
            if cell.is_merge_origin and cell.span_height > 1:
                repeat_below(rows, number, number + cell.span_height - 1, column)
    return table(rows)


def _text(frame: Any) -> list[Block]:
    lines = [(found.level, found.text.replace("\v", "\n").strip()) for found in frame.paragraphs]
    lines = [(level, text) for level, text in lines if text]
    if len(lines) < 2:
        return [paragraph(text) for _, text in lines]
    return [_list(lines)]


def _list(lines: list[tuple[int, str]]) -> Block:
    """Lines as a list, those of a deeper level in the item before them."""
    found = Block("list", tight=True)
    deeper: list[tuple[int, str]] = []
    for place, (level, text) in enumerate(lines):
        if found.parts and level > lines[0][0]:
            deeper.append((level, text))
        else:
            found.parts.append([paragraph(text)])
        if deeper and (place + 1 == len(lines) or lines[place + 1][0] <= lines[0][0]):
            found.parts[-1].append(_list(deeper))
            deeper = []
    return found


def _shown(value: float | None) -> str:
    return "" if value is None else str(int(value)) if value.is_integer() else str(value)


def _chart(chart: Any) -> list[Block]:
    """A chart's numbers as a table."""
    blocks = []
    if chart.has_title and chart.chart_title.has_text_frame:
        blocks.append(paragraph(chart.chart_title.text_frame.text))
    plots = list(chart.plots)
    if plots:
        series = list(plots[0].series)
        categories = [str(name) for name in plots[0].categories]
        rows = [["", *(one.name or "" for one in series)]]
        for place, name in enumerate(categories):
            rows.append([name, *(_shown(one.values[place]) if place < len(one.values) else "" for one in series)])
        blocks.append(table(rows))
    return blocks
