"""Marks among blocks, resolved: alerts, labels, tabs and zones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from rag_vs_ft.corpus.markdown.blocks import Block
from rag_vs_ft.corpus.text import one_line

_ALERT = re.compile(r"\[!([A-Za-z]++)[ \t]*+([^\]\n]*+)\][ \t]*\n?")

Alert = Callable[[str, str, list[Block]], list[Block] | None]
"""(name, argument, content) of a `[!name argument]` quote -> the blocks that it stands for, or None for a labelled paragraph."""
Level = Callable[[list[Block], Counter[str]], list[Block]]


def _no_alert(name: str, argument: str, content: list[Block]) -> list[Block] | None:
    return None


def _as_it_is(blocks: list[Block], notes: Counter[str]) -> list[Block]:
    return blocks


def arrange(
    blocks: list[Block],
    notes: Counter[str],
    alert: Alert = _no_alert,
    top: Level = _as_it_is,
    nested: bool = False,
) -> list[Block]:
    """The marks of one level resolved, and those of the lists and quotes below it. `top` is applied to the outermost level."""
    flat: list[Block] = []
    for block in blocks:
        flat.extend(_alert(block, alert, notes))
    flat = _labels(flat)
    for block in flat:
        block.parts = [arrange(part, notes, alert, nested=True) for part in block.parts]
    if not nested:
        flat = top(flat, notes)
    flat = _zones(_tabs(flat, notes, nested), notes, nested)
    return [block for block in flat if block.kind not in ("rule", "zone", "zone-end", "tabs-end") and not _is_empty(block)]


def _is_empty(block: Block) -> bool:
    if block.kind == "list":
        block.parts = [part for part in block.parts if part]
    return not any(block.parts) if block.kind in ("list", "quote") else not block.text.strip()


def _alert(block: Block, alert: Alert, notes: Counter[str]) -> list[Block]:
    """`> [!NOTE]` as paragraphs that begin with "Note:"; as a quote it would put `> ` before its code."""
    content = block.parts[0] if block.kind == "quote" else [block]
    first = content[0] if content and content[0].kind == "paragraph" else None
    match = _ALERT.match(first.text) if first else None
    if first is None or match is None:
        return [block]
    rest = first.text[match.end() :]
    inside = [Block("paragraph", rest, linked=first.linked), *content[1:]] if rest else content[1:]
    special = alert(match[1].lower(), match[2], inside)
    if special is not None:
        return special
    if block.kind != "quote" and not match[2].strip() and not inside:
        return [block]
    notes["alerts"] += 1
    return [Block("label", match[1].capitalize()), *inside]


def _labels(blocks: list[Block]) -> list[Block]:
    """A label stands before the paragraph that follows it, or on a line of its own."""
    done: list[Block] = []
    for place, block in enumerate(blocks):
        if place and blocks[place - 1].kind == "label" and block.kind == "paragraph":
            done[-1] = Block("paragraph", f"{done[-1].text} {block.text}")
        else:
            done.append(_line(block.text) if block.kind == "label" else block)
    return done


def _line(text: str) -> Block:
    return Block("paragraph", text.rstrip(":") + ":")


def _tabs(blocks: list[Block], notes: Counter[str], nested: bool) -> list[Block]:
    """Tabs as sections of their own below the section they stand in.

    A tab becomes a heading one level below the current one, where nothing but a new section follows its group; else, and
    inside lists, a line "Azure CLI:", because what follows the group would otherwise stand under the last tab.
    """
    done: list[Block] = []
    level = 1
    place = 0
    while place < len(blocks):
        block = blocks[place]
        if block.kind != "tab":
            level = block.level if block.kind == "heading" else level
            done.append(block)
            place += 1
            continue
        end = place
        while end < len(blocks) and blocks[end].kind not in ("rule", "tabs-end") and not _ends_tabs(blocks[end], block.level):
            end += 1
        group, place = blocks[place:end], end
        if place < len(blocks) and blocks[place].kind in ("rule", "tabs-end"):
            place += 1
        following = blocks[place] if place < len(blocks) else None
        as_heading = not nested and (following is None or following.kind in ("heading", "zone", "zone-end"))
        inner = [part.level for part in group if part.kind == "heading"]
        shift = max(0, level + 2 - min(inner)) if as_heading and inner else 0
        for number, part in enumerate(group):
            if part.kind == "heading":
                part.level = min(6, part.level + shift)
            elif part.kind == "tab":
                notes["tabs"] += 1
                if number + 1 == len(group) or group[number + 1].kind == "tab":
                    continue
                part = Block("heading", part.text, min(6, level + 1), part.plain) if as_heading else _line(part.text)
            done.append(part)
    return done


def _ends_tabs(block: Block, level: int) -> bool:
    return block.kind == "heading" and block.level <= level


def _zones(blocks: list[Block], notes: Counter[str], nested: bool) -> list[Block]:
    """Zone pivots: all text stays, and says which pivot it is for, in its headings or, before them, in a line.

    A zone that is hidden is left out, unless it is never closed.
    """
    done: list[Block] = []
    pivot = ""
    hidden = False
    labelled = 0
    last_end = max((place for place, block in enumerate(blocks) if block.kind == "zone-end"), default=-1)
    for place, block in enumerate(blocks):
        if block.kind == "zone":
            notes["zones"] += 1
            closed = place < last_end
            if not closed:
                notes["zones that are never closed"] += 1
            pivot, hidden, labelled = one_line(block.text), block.info == "chromeless" and closed, 7
            after = blocks[place + 1].kind if place + 1 < len(blocks) else "zone-end"
            if pivot and not hidden and (nested or after != "heading") and after != "zone-end":
                done.append(_line(f"For {pivot}"))
        elif block.kind == "zone-end":
            pivot, hidden = "", False
        elif not hidden:
            if pivot and block.kind == "heading" and block.level <= labelled:
                labelled = block.level
                if not _words(pivot) <= _words(block.text):
                    block.text, block.plain = f"{block.text} ({pivot})", f"{block.plain or block.text} ({pivot})"
            done.append(block)
    return done


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
