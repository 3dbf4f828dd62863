"""The Markdown dialect of Microsoft Learn (DocFX) -> plain CommonMark with tables, and what its front matter says.

The blocks that `learn_blocks` reads are put in order (alerts, tabs, zone pivots, navigation) and written out again;
everything that is dropped is counted in `notes`.

The dialect: https://learn.microsoft.com/contribute/content/markdown-reference
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import yaml

from rag_vs_ft.corpus.front_matter import BrokenYaml, iso_date, load_yaml, scalar, split_front_matter
from rag_vs_ft.corpus.learn_blocks import Block, Read, read_blocks
from rag_vs_ft.corpus.text import escape_block_start, headings_of, one_line
from rag_vs_ft.records import Heading


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A clean document; `notes` counts what was resolved, dropped or could not be resolved."""

    text: str
    title: str
    description: str
    service: str
    date: str
    headings: tuple[Heading, ...]
    notes: Counter[str]


def clean(raw: str, *, path: str = "", read: Read | None = None, navigation: bool = False) -> Cleaned:
    """Clean one document of the dialect; never raises.

    `navigation` keeps sections such as "See also", which another dialect's readers may need.
    `path` is where it lies below the root of its source (POSIX), and `read(path)` gives the text of another file below
    that root or None; includes are resolved by it and reach nothing else.
    """
    notes: Counter[str] = Counter()
    metadata, body = split_front_matter(raw, notes)
    blocks = _arrange(read_blocks(body, path, notes, read or (lambda _: None)), notes, navigation=navigation)
    text = "\n".join(_write(blocks)).strip("\n")
    text = text + "\n" if text.strip() else ""
    headings = headings_of(text)
    first = next((heading.text for heading in headings if heading.level == 1), "")
    return Cleaned(
        text=text,
        title=first or re.sub(r" \| Microsoft (Learn|Docs)$", "", scalar(metadata, "title")),
        description=scalar(metadata, "description"),
        service=scalar(metadata, "ms.service", "ms.services", "service", "services", "ms.prod"),
        date=iso_date(metadata),
        headings=headings,
        notes=notes,
    )


def faq_to_markdown(raw: str) -> str:
    """FAQ YAML (`### YamlMime:FAQ`) as a document of the dialect: title, summary, each question a heading.

    YAML that cannot be read gives "".
    """
    try:
        faq = load_yaml(raw)
    except BrokenYaml:
        return ""
    if not isinstance(faq, dict):
        return ""
    parts = [f"# {one_line(faq.get('title'))}" if faq.get("title") else "", str(faq.get("summary") or "")]
    for section in _dicts(faq.get("sections")):
        for entry in _dicts(section.get("questions")):
            if entry.get("question"):
                parts += [f"## {one_line(entry['question'])}", str(entry.get("answer") or "")]
    found = faq.get("metadata")
    metadata = found if isinstance(found, dict) else {}
    front = yaml.safe_dump({key: value for key, value in metadata.items() if isinstance(value, str | date)})
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


# --- putting blocks in order ---

_ALERT = re.compile(r"\[!([A-Za-z]+)[ \t]*([^\]\n]*)\][ \t]*\n?")
_NAVIGATION_TITLE = re.compile(
    r"(next steps?|related (content|articles?|links?|resources|topics)|see also|learn more|more information|further reading"
    r"|additional (resources|reading|information))\W*",
    re.I,
)


_POINTER_TITLE = re.compile(r"(next steps?|related (content|articles?|links?|resources|topics)|see also)\W*", re.I)
"""Sections that only say where to go on, whatever sentences they put around the links."""
_LONGEST_POINTER = 150
"""Words over which a section under such a title is taken to say something of its own."""


def _arrange(blocks: list[Block], notes: Counter[str], nested: bool = False, navigation: bool = False) -> list[Block]:
    """Alerts, navigation, tabs and zones of one level; lists and quotes below it are done the same way."""
    flat: list[Block] = []
    for block in blocks:
        flat.extend(_alert(block, notes))
    for block in flat:
        block.parts = [_arrange(part, notes, nested=True) for part in block.parts]
    if not nested and not navigation:
        flat = _without_navigation(flat, notes)
    flat = _tabs(flat, notes, nested)
    flat = _zones(flat, notes, nested)
    return [block for block in flat if block.kind not in ("rule", "zone", "zone-end") and not _is_empty(block)]


def _is_empty(block: Block) -> bool:
    if block.kind == "list":
        block.parts = [part for part in block.parts if part]
    return not any(block.parts) if block.kind in ("list", "quote") else not block.text.strip()


def _alert(block: Block, notes: Counter[str]) -> list[Block]:
    """`> [!NOTE]` as paragraphs that begin with "Note:"; the buttons of `[!div]` go, its other contents stay."""
    content = block.parts[0] if block.kind == "quote" else [block]
    first = content[0] if content and content[0].kind == "paragraph" else None
    match = _ALERT.match(first.text) if first else None
    if first is None or match is None:
        return [block]
    first.text = first.text[match.end() :]
    name, rest = match.group(1).lower(), content if first.text else content[1:]
    if name == "div":
        if "nextstepaction" in match.group(2) or "op_single_selector" in match.group(2):
            notes["navigation dropped"] += 1
            return []
        return rest
    notes["alerts"] += 1
    label = name.capitalize() + ":"
    if rest and rest[0].kind == "paragraph":
        rest[0].text = f"{label} {rest[0].text}"
        return rest
    return [Block("paragraph", label), *rest]


def _without_navigation(blocks: list[Block], notes: Counter[str]) -> list[Block]:
    """Leave out sections such as "Next steps" that say only where to go on, or hold nothing but links."""
    kept: list[Block] = []
    place = 0
    while place < len(blocks):
        block = blocks[place]
        end = place + 1
        if block.kind == "heading" and _NAVIGATION_TITLE.fullmatch(block.text):
            while end < len(blocks) and blocks[end].kind not in ("heading", "zone", "zone-end"):
                end += 1
            section = blocks[place + 1 : end]
            pointer = _POINTER_TITLE.fullmatch(block.text) and sum(map(_prose_words, section)) <= _LONGEST_POINTER
            if pointer or all(_is_navigation(part) for part in section):
                notes["navigation dropped"] += 1
                place = end
                continue
        kept.append(block)
        place += 1
    return kept


def _prose_words(block: Block) -> float:
    """Words of paragraphs and lists; a block of another kind (code, a table) counts as endless."""
    if block.kind in ("list", "quote"):
        return sum(_prose_words(child) for part in block.parts for child in part)
    return len(block.text.split()) if block.kind in ("paragraph", "rule") else float("inf")


def _is_navigation(block: Block) -> bool:
    """Links alone, or the line that leads to them."""
    if block.kind in ("list", "quote"):
        return all(_is_navigation(child) for part in block.parts for child in part)
    if block.kind == "rule":
        return True
    return block.kind == "paragraph" and (block.text.endswith(":") or len(one_line(block.text)) - block.linked <= 4)


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
        while end < len(blocks) and blocks[end].kind != "rule" and not _ends_tabs(blocks[end], block.level):
            end += 1
        group, place = blocks[place:end], end
        if place < len(blocks) and blocks[place].kind == "rule":
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
                part = Block("heading", part.text, min(6, level + 1)) if as_heading else _label(part.text)
            done.append(part)
    return done


def _ends_tabs(block: Block, level: int) -> bool:
    return block.kind == "heading" and block.level <= level


def _label(text: str) -> Block:
    return Block("paragraph", text.rstrip(":") + ":")


def _zones(blocks: list[Block], notes: Counter[str], nested: bool) -> list[Block]:
    """Zone pivots: all text stays, and says which pivot it is for, in its headings or, before them, in a line."""
    done: list[Block] = []
    pivot = ""
    hidden = False
    labelled = 0
    for place, block in enumerate(blocks):
        if block.kind == "zone":
            notes["zones"] += 1
            pivot, hidden, labelled = one_line(block.text), block.info == "chromeless", 7
            after = blocks[place + 1].kind if place + 1 < len(blocks) else "zone-end"
            if pivot and not hidden and (nested or after != "heading") and after != "zone-end":
                done.append(_label(f"For {pivot}"))
        elif block.kind == "zone-end":
            pivot, hidden = "", False
        elif not hidden:
            if pivot and block.kind == "heading" and block.level <= labelled:
                labelled = block.level
                if not _words(pivot) <= _words(block.text):
                    block.text = f"{block.text} ({pivot})"
            done.append(block)
    return done


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


# --- blocks -> Markdown ---


def _write(blocks: Sequence[Block], nested: bool = False, tight: bool = False) -> list[str]:
    lines: list[str] = []
    for place, block in enumerate(blocks):
        if place and not (tight and blocks[place - 1].kind == "paragraph" and block.kind == "list" and block.start in (None, 1)):
            lines.append("")
        if block.kind == "heading" and not nested:
            lines.append("#" * block.level + " " + block.text)
        elif block.kind in ("paragraph", "heading", "tab"):
            lines.extend(escape_block_start(line) for line in block.text.split("\n"))
        elif block.kind == "code":
            lines.append(block.fence + block.info)
            lines.extend(block.text.split("\n")[:-1] if block.text.endswith("\n") else block.text.split("\n"))
            lines.append(block.fence)
        elif block.kind == "table":
            lines.extend(block.text.split("\n"))
        elif block.kind == "quote":
            lines.extend(f"> {line}".rstrip() for line in _write(block.parts[0], nested=True))
        elif block.kind == "list":
            lines.extend(_write_list(block))
    return lines


def _write_list(block: Block) -> list[str]:
    lines: list[str] = []
    for number, part in enumerate(block.parts):
        marker = "- " if block.start is None else f"{block.start + number}. "
        content = _write(part, nested=True, tight=block.tight)
        if lines and not block.tight:
            lines.append("")
        lines.append(marker + content[0])
        lines.extend(" " * len(marker) + line if line else "" for line in content[1:])
    return lines
