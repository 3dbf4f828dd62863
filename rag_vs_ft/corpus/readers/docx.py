"""Word: headings, numbered lists, tables, code, text boxes, footnotes, equations.

The parts are read as XML by the names of their elements. In a trial the libraries lost list items, text boxes or equations, or
could not read the strict form of the format (docs/decisions.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from rag_vs_ft.corpus.markdown.blocks import Block, code_block, table
from rag_vs_ft.corpus.readers import Content, FileContext
from rag_vs_ft.corpus.readers.archive import Archive
from rag_vs_ft.corpus.readers.assemble import assemble, heading, paragraph

MAX_DEPTH = 20
_CODE_STYLES = re.compile(r"\bcode\b|preformatted|macro text|plain text", re.I)
_CODE_SIGNS = re.compile(r"[{}();=<>$#\\_|]|^\s{2}")
_CONTENTS_STYLES = re.compile(r"toc (?:heading|\d)", re.I)
_CODE_FONTS = re.compile(r"courier|consolas|mono|menlo|source code", re.I)


_ROMAN_VALUES = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
_ROMAN_SIGNS = ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i")
_CHINESE = "〇一二三四五六七八九"


def read(data: bytes, context: FileContext) -> Content:
    """The body in order. Comments and deleted text are left out and counted; headers and footers are left out."""
    archive = Archive(data, "Word")
    return _Word(archive, macros=context.path.lower().endswith(".docm")).content()


def _name(node: Element) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _get(node: Element | None, name: str) -> str:
    """An attribute by its name without namespace."""
    if node is None:
        return ""
    return next((value for key, value in node.attrib.items() if key.rpartition("}")[2] == name), "")


def _child(node: Element | None, *path: str) -> Element | None:
    for name in path:
        node = next((child for child in node if _name(child) == name), None) if node is not None else None
    return node


@dataclass(slots=True)
class _Style:
    name: str = ""
    based_on: str = ""
    level: int | None = None
    number: tuple[str, int] | None = None
    code: bool = False


@dataclass(slots=True)
class _Level:
    """How a list counts at a depth: the kind of number, what stands around it ("%1.%2)"), and the first one."""

    format: str = "bullet"
    text: str = ""
    start: int = 1


@dataclass(slots=True)
class _Item:
    """A paragraph of a list: the list's key, how deep it stands, and its number (None: a bullet, or a number in its text)."""

    key: str
    depth: int
    number: int | None
    block: Block


class _Word:
    def __init__(self, archive: Archive, macros: bool) -> None:
        self.archive = archive
        self.notes: Counter[str] = Counter()
        if macros or "word/vbaProject.bin" in archive:
            self.notes["macros left out"] += 1
        self.styles = self._read_styles()
        self.levels, self.counters, self.restarts = self._read_numbering()
        self.counted: dict[str, dict[int, int]] = {}
        self.footnotes = self._read_notes()
        self.used: list[str] = []

    def content(self) -> Content:
        document = self.archive.xml(self._main())
        body = _child(document, "body")
        blocks = self._blocks(body if body is not None else document, 0)
        for number, key in enumerate(self.used, start=1):
            blocks.append(paragraph(f"[{number}] {self.footnotes[key]}"))
        if count := sum(_name(node) == "comment" for node in self._part("word/comments.xml").iter()):
            self.notes["comments left out"] += count
        title = next((node.text or "" for node in self._part("docProps/core.xml").iter() if _name(node) == "title"), "")
        titled = next((block.plain for block in blocks if block.kind == "heading" and block.level == 1), "")
        return assemble([("", blocks)], self.notes, titled or title.strip())

    def _part(self, name: str) -> Element:
        """A part that the text can do without; an empty element when it is not there or damaged."""
        found = self.archive.part(name)
        if found is None and name in self.archive:
            self.notes["damaged parts passed over"] += 1
        return Element("none") if found is None else found

    def _main(self) -> str:
        if "word/document.xml" in self.archive:
            return "word/document.xml"
        relations = self.archive.xml("_rels/.rels")
        targets = [_get(node, "Target") for node in relations if _get(node, "Type").endswith("/officeDocument")]
        return targets[0].lstrip("/") if targets else "word/document.xml"

    # --- styles, numbering, footnotes ---

    def _read_styles(self) -> dict[str, _Style]:
        styles: dict[str, _Style] = {}
        for node in self._part("word/styles.xml"):
            if _name(node) != "style":
                continue
            properties = _child(node, "pPr")
            outline = _get(_child(properties, "outlineLvl"), "val")
            name = _get(_child(node, "name"), "val")
            known = re.fullmatch(r"heading (\d)", name, re.I)
            level = int(known[1]) if known else int(outline) + 1 if outline.isdigit() and int(outline) < 9 else None
            fonts = _child(node, "rPr", "rFonts")
            styles[_get(node, "styleId")] = _Style(
                name,
                _get(_child(node, "basedOn"), "val"),
                1 if name.lower() == "title" else level,
                self._number(properties),
                bool(_CODE_STYLES.search(name) or _CODE_FONTS.search(_get(fonts, "ascii"))),
            )
        return styles

    def _style(self, key: str) -> _Style:
        """A style with what it takes from those that it is based on."""
        found = _Style()
        for _ in range(10):
            style = self.styles.get(key)
            if style is None:
                break
            found.name = found.name or style.name
            found.level = style.level if found.level is None else found.level
            found.number = found.number or style.number
            found.code = found.code or style.code
            key = style.based_on
        return found

    def _number(self, properties: Element | None) -> tuple[str, int] | None:
        number = _child(properties, "numPr")
        if number is None:
            return None
        depth = _get(_child(number, "ilvl"), "val")
        key = _get(_child(number, "numId"), "val")
        return (key, int(depth) if depth.isdigit() else 0) if key and key != "0" else None

    def _read_numbering(self) -> tuple[dict[tuple[str, int], _Level], dict[str, str], dict[tuple[str, int], int]]:
        """Of each (list, depth) its level; of each list what counts it, which lists may share; where a list begins anew."""
        levels: dict[tuple[str, int], _Level] = {}
        counters: dict[str, str] = {}
        restarts: dict[tuple[str, int], int] = {}
        root = self._part("word/numbering.xml")
        abstract = {_get(node, "abstractNumId"): node for node in root if _name(node) == "abstractNum"}
        for node in root:
            if _name(node) != "num":
                continue
            number, counter = _get(node, "numId"), _get(_child(node, "abstractNumId"), "val")
            counters[number] = counter
            overrides = [child for child in node if _name(child) == "lvlOverride"]
            own = [level for override in overrides for level in override if _name(level) == "lvl"]
            for level in (*abstract.get(counter, ()), *own):
                depth = _get(level, "ilvl")
                if _name(level) == "lvl" and depth.isdigit():
                    start = _get(_child(level, "start"), "val")
                    levels[number, int(depth)] = _Level(
                        _get(_child(level, "numFmt"), "val") or "decimal",
                        _get(_child(level, "lvlText"), "val"),
                        int(start) if start.isdigit() else 1,
                    )
            for override in overrides:
                depth, start = _get(override, "ilvl"), _get(_child(override, "startOverride"), "val")
                if depth.isdigit() and start.isdigit():
                    restarts[number, int(depth)] = int(start)
        return levels, counters, restarts

    def _read_notes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for part, kind in (("word/footnotes.xml", "footnote"), ("word/endnotes.xml", "endnote")):
            for node in self._part(part):
                if _name(node) == kind and not _get(node, "type"):
                    found[f"{kind} {_get(node, 'id')}"] = " ".join(" ".join(self._inline(one)[0].split()) for one in node).strip()
        return found

    def _count(self, key: tuple[str, int]) -> tuple[int | None, str]:
        """The number of the next item of a list at a depth, None for a bullet, and how it is shown. Deeper items begin anew."""
        number, depth = key
        counted = self.counted.setdefault(self.counters.get(number, number), {})
        for deeper in [other for other in counted if other > depth]:
            del counted[deeper]
        level = self.levels.get(key, _Level())
        before = counted.get(depth, level.start - 1)
        counted[depth] = self.restarts.pop(key, before + 1)
        if level.format in ("bullet", "none"):
            return None, ""

        def shown(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            of = self.levels.get((number, at), _Level("decimal"))
            return _numeral(counted.get(at, of.start), of.format)

        return counted[depth], re.sub(r"%(\d)", shown, level.text)

    # --- the body ---

    def _blocks(self, parent: Element, depth: int) -> list[Block]:
        blocks: list[Block] = []
        items: list[_Item] = []
        code: list[str] = []
        contents = 0

        def end_list() -> None:
            if items:
                blocks.extend(_lists(items))
                items.clear()

        def end_code() -> None:
            if code:
                blocks.append(code_block("\n".join(code)))
                code.clear()

        for node in _children(parent, depth):
            if _name(node) == "tbl":
                end_list()
                end_code()
                blocks.extend(self._table(node, depth + 1))
                continue
            properties = _child(node, "pPr")
            style = self._style(_get(_child(properties, "pStyle"), "val"))
            if _CONTENTS_STYLES.fullmatch(style.name):
                contents += 1
                continue
            text, boxes, is_code = self._inline(node)
            outline = _get(_child(properties, "outlineLvl"), "val")
            level = int(outline) + 1 if outline.isdigit() and int(outline) < 9 else style.level
            number = self._number(properties) or style.number
            if (style.code or (is_code and (code or _CODE_SIGNS.search(text)))) and level is None and text.strip("\n"):
                end_list()
                code.append(text)
            else:
                if text.strip() or boxes:
                    end_code()
                if level is not None and text.strip():
                    end_list()
                    blocks.append(heading(f"{self._count(number)[1]} {text}" if number else text, level))
                elif number and text.strip():
                    counted, label = self._count(number)
                    if not re.fullmatch(r"\(?\d+[.)]?", label):  # a Markdown list counts in figures, and one depth at a time
                        counted, text = None, f"{label} {text}"
                    items.append(_Item(*number, counted, paragraph(text)))
                elif text.strip():
                    end_list()
                    blocks.append(paragraph(text))
            for box in boxes:
                end_list()
                blocks.extend(self._blocks(box, depth + 1) if depth < MAX_DEPTH else [])
        end_list()
        end_code()
        if contents:
            self.notes["tables of contents left out"] += 1
        return blocks

    def _inline(self, parent: Element) -> tuple[str, list[Element], bool]:
        """The text of a paragraph, the text boxes that are anchored in it, and whether all of it is in a typewriter's font."""
        parts: list[str] = []
        boxes: list[Element] = []
        fonts: list[bool] = []
        pending = [iter(parent)]
        while pending:
            node = next(pending[-1], None)
            if node is None:
                pending.pop()
                continue
            name = _name(node)
            if name in ("pPr", "rPr", "Fallback", "instrText", "sectPr", "tblPr"):
                continue
            if name in ("del", "moveFrom"):
                self.notes["deleted text left out"] += 1
                continue
            if name == "txbxContent":
                boxes.append(node)
                continue
            if name == "oMath":
                parts.append(_equation(node))
                continue
            text = "".join(child.text or "" for child in node if _name(child) == "t") if name == "r" else ""
            if text.strip():
                fonts.append(bool(_CODE_FONTS.search(_get(_child(node, "rPr", "rFonts"), "ascii"))))
            if name == "r" and text and _get(_child(node, "rPr", "vertAlign"), "val") == "superscript" and text.strip().isalnum():
                parts.append("^")
            if name == "t":
                parts.append(node.text or "")
            elif name == "tab":
                parts.append("\t")
            elif name in ("br", "cr"):
                parts.append("\n")
            elif name == "noBreakHyphen":
                parts.append("-")
            elif name == "sym":
                parts.append("• ")
            elif name in ("footnoteReference", "endnoteReference"):
                parts.append(self._call(f"{name.removesuffix('Reference')} {_get(node, 'id')}"))
            elif name == "checkBox":
                state = _child(node, "checked") if _child(node, "checked") is not None else _child(node, "default")
                parts.append("[ ] " if state is None or _get(state, "val") in ("0", "false") else "[x] ")
            elif name in ("blip", "imagedata"):
                self.notes["images dropped"] += 1
            elif name == "checkbox":  # its sign stands in the text that follows
                continue
            if len(pending) < 200:
                pending.append(iter(node))
        return "".join(parts).replace("☐", "[ ]").replace("☒", "[x]").replace("☑", "[x]"), boxes, bool(fonts) and all(fonts)

    def _call(self, key: str) -> str:
        if key not in self.footnotes:
            return ""
        if key not in self.used:
            self.used.append(key)
        return f" [{self.used.index(key) + 1}]"

    def _table(self, node: Element, depth: int) -> list[Block]:
        """A table; one of a single cell is a box around its content."""
        rows: list[list[str]] = []
        single: Element | None = None
        cells = 0
        for row in _descend(node, "tr"):
            skipped = _get(_child(row, "trPr", "gridBefore"), "val")
            line = [""] * (min(int(skipped), 60) if skipped.isdigit() else 0)
            for cell in _descend(row, "tc"):
                cells += 1
                single = cell
                properties = _child(cell, "tcPr")
                span = _get(_child(properties, "gridSpan"), "val")
                merged = _child(properties, "vMerge")
                text = "" if depth >= MAX_DEPTH else _flat(self._blocks(cell, depth))
                if merged is not None and _get(merged, "val") != "restart" and rows and len(rows[-1]) > len(line) and not text:
                    text = rows[-1][len(line)]
                line += [text] + [""] * (min(int(span), 60) - 1 if span.isdigit() else 0)
            rows.append(line)
        if cells == 1 and single is not None and depth < MAX_DEPTH:
            return self._blocks(single, depth)
        return [table(rows)] if any(any(row) for row in rows) else []


def _children(parent: Element, depth: int) -> Iterator[Element]:
    """Paragraphs and tables below an element, through the elements that only wrap them."""
    for node in parent:
        name = _name(node)
        if name in ("p", "tbl"):
            yield node
        elif (
            name in ("sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag", "AlternateContent", "Choice")
            and depth < MAX_DEPTH
        ):
            yield from _children(node, depth + 1)


def _descend(parent: Element, wanted: str, depth: int = 0) -> Iterator[Element]:
    for node in parent:
        if _name(node) == wanted:
            yield node
        elif _name(node) in ("sdt", "sdtContent", "customXml", "ins") and depth < MAX_DEPTH:
            yield from _descend(node, wanted, depth + 1)


def _flat(blocks: list[Block]) -> str:
    """The text of blocks in one line, for a cell."""
    lines: list[str] = []
    for block in blocks:
        if block.kind == "table":
            rows = [row.strip("| ") for row in block.text.split("\n")]
            lines.append("; ".join(row.replace(" | ", ", ") for row in rows if set(row) - set("-| ")))
        elif block.kind == "list":
            lines.append("; ".join(_flat(part) for part in block.parts))
        else:
            lines.append(" ".join(block.text.split()))
    return " / ".join(line for line in lines if line)


def _lists(items: list[_Item]) -> list[Block]:
    """Paragraphs of lists as nested lists; another list, and a change between numbers and bullets, begins a new one."""
    roots: list[Block] = []
    stack: list[tuple[_Item, Block]] = []
    for item in items:
        while stack and (
            stack[-1][0].depth > item.depth
            or (
                stack[-1][0].depth == item.depth
                and (stack[-1][0].key, stack[-1][1].start is None) != (item.key, item.number is None)
            )
        ):
            stack.pop()
        if not stack or stack[-1][0].depth < item.depth:
            found = Block("list", start=item.number, tight=True)
            if stack:
                stack[-1][1].parts[-1].append(found)
            else:
                roots.append(found)
            stack.append((item, found))
        stack[-1][1].parts.append([item.block])
    return roots


def _numeral(number: int, kind: str) -> str:
    """A number as a list shows it."""
    if kind in ("lowerLetter", "upperLetter"):
        text = "abcdefghijklmnopqrstuvwxyz"[(number - 1) % 26] * min(1 + (number - 1) // 26, 9) if number > 0 else "0"
        return text if kind == "lowerLetter" else text.upper()
    if kind in ("lowerRoman", "upperRoman") and 0 < number < 4_000:
        text = ""
        for value, sign in zip(_ROMAN_VALUES, _ROMAN_SIGNS, strict=True):
            text += sign * (number // value)
            number %= value
        return text if kind == "lowerRoman" else text.upper()
    if kind == "decimalZero":
        return f"{number:02}"
    if "ounting" in kind and 0 < number < 100:
        tens, ones = divmod(number, 10)
        return (_CHINESE[tens] if tens > 1 else "") + ("十" if tens else "") + (_CHINESE[ones] if ones else "")
    return str(number)


def _equation(node: Element) -> str:
    """An equation as text on one line: fractions as (a)/(b), powers with ^, indices with _."""
    name = _name(node)
    if name == "t":
        return (node.text or "").replace("\u2061", " ")  # the sign that a function is applied is not seen

    def part(wanted: str) -> str:
        found = _child(node, wanted)
        return "".join(_equation(child) for child in found) if found is not None else ""

    if name == "f":
        return f"({part('num')})/({part('den')})"
    if name == "sSup":
        return f"{part('e')}^{_grouped(part('sup'))}"
    if name == "sSub":
        return f"{part('e')}_{_grouped(part('sub'))}"
    if name == "sSubSup":
        return f"{part('e')}_{_grouped(part('sub'))}^{_grouped(part('sup'))}"
    if name == "rad":
        return f"√({part('e')})"
    if name == "nary":
        sign = _get(_child(node, "naryPr", "chr"), "val") or "∫"
        return f"{sign}_{_grouped(part('sub'))}^{_grouped(part('sup'))} {part('e')}"
    if name == "d":
        return f"({part('e')})"
    return "".join(_equation(child) for child in node)


def _grouped(text: str) -> str:
    return text if len(text) < 2 else f"({text})"
