"""Blocks -> the content of a document, with the pages, sheets or slides that they stand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rag_vs_ft.corpus.markdown.blocks import Block
from rag_vs_ft.corpus.markdown.writer import write
from rag_vs_ft.corpus.readers import Content
from rag_vs_ft.corpus.text import normalise
from rag_vs_ft.records import Heading, Place


def assemble(parts: Iterable[tuple[str, Sequence[Block]]], notes: Counter[str], title: str = "") -> Content:
    """The content of (name of the place, its blocks), in order; a part without blocks is passed over, a name "" is no place.

    The title is the one given, else the first heading of the highest level.
    """
    text: list[str] = []
    headings: list[Heading] = []
    places: list[Place] = []
    offset = 0
    for name, blocks in parts:
        written, found = write([_clean(block) for block in blocks if _says_something(block)])
        if not written.strip():
            continue
        if text:
            text.append("\n")
            offset += 1
        if name:
            places.append(Place(offset, name))
        headings.extend(replace(heading, offset=heading.offset + offset) for heading in found)
        text.append(written)
        offset += len(written)
    first = min(headings, key=lambda heading: heading.level, default=None)
    return Content(
        text="".join(text),
        title=title or (first.text if first else ""),
        headings=tuple(headings),
        places=tuple(places),
        notes=notes,
    )


def heading(text: str, level: int) -> Block:
    """A heading of a level from 1 to 6."""
    line = " ".join(text.split())
    return Block("heading", line, max(1, min(6, level)), plain=line)


def paragraph(text: str) -> Block:
    """A paragraph; empty lines in it are dropped."""
    return Block("paragraph", "\n".join(line for line in (" ".join(line.split()) for line in text.split("\n")) if line))


def _clean(block: Block) -> Block:
    return replace(
        block,
        text=normalise(block.text),
        plain=normalise(block.plain),
        parts=[[_clean(inner) for inner in part] for part in block.parts],
    )


def _says_something(block: Block) -> bool:
    if block.kind in ("list", "quote"):
        block.parts = [kept for part in block.parts if (kept := [inner for inner in part if _says_something(inner)])]
        return bool(block.parts)
    return bool(block.text.strip())
