"""Blocks -> Markdown, and where its headings are."""

from __future__ import annotations

from collections.abc import Sequence

from rag_vs_ft.corpus.markdown.blocks import Block
from rag_vs_ft.corpus.text import escape_block_start
from rag_vs_ft.records import Heading

_LARGEST_NUMBER = 999_999_999
"""An item with a larger number would be no item to CommonMark; it counts the items after the first by itself."""


def write(blocks: Sequence[Block]) -> tuple[str, tuple[Heading, ...]]:
    """The text of blocks, "" or ending in a newline, and its headings."""
    headings = []
    lines: list[str] = []
    offset = 0
    for place, block in enumerate(blocks):
        written = _write(block, nested=False)
        if place:
            written = ["", *written]
        if block.kind == "heading":
            headings.append(Heading(block.level, block.plain or block.text, offset + (1 if place else 0)))
        lines.extend(written)
        offset += sum(len(line) + 1 for line in written)
    return "".join(line + "\n" for line in lines), tuple(headings)


def _write_nested(blocks: Sequence[Block], tight: bool = False) -> list[str]:
    lines: list[str] = []
    for place, block in enumerate(blocks):
        if place and not (tight and blocks[place - 1].kind == "paragraph" and block.kind == "list" and block.start in (None, 1)):
            lines.append("")
        lines.extend(_write(block, nested=True))
    return lines


def _write(block: Block, nested: bool) -> list[str]:
    if block.kind == "heading" and not nested:
        return ["#" * block.level + " " + block.text]
    if block.kind == "code":
        body = block.text.removesuffix("\n").split("\n")
        return [block.fence + block.info, *body, block.fence]
    if block.kind == "table":
        return block.text.split("\n")
    if block.kind == "quote":
        return [f"> {line}".rstrip() for line in _write_nested(block.parts[0])]
    if block.kind == "list":
        return _write_list(block)
    return [escape_block_start(line) for line in block.text.split("\n")]


def _write_list(block: Block) -> list[str]:
    lines: list[str] = []
    for number, part in enumerate(block.parts):
        marker = "- " if block.start is None else f"{min(block.start + number, _LARGEST_NUMBER)}. "
        content = _write_nested(part, tight=block.tight)
        if lines and not block.tight:
            lines.append("")
        lines.append(marker + content[0])
        lines.extend(" " * len(marker) + line if line else "" for line in content[1:])
    return lines
