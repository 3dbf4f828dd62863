"""Lines -> blocks. Which lines belong to an item of a list is decided as Asciidoctor's parser decides it."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from rag_vs_ft.corpus.asciidoc.attributes import ENTRY, Attributes
from rag_vs_ft.corpus.asciidoc.inline import NORMAL, Inline
from rag_vs_ft.corpus.asciidoc.tables import rows_of
from rag_vs_ft.corpus.markdown.blocks import Block, cell_text, code_block
from rag_vs_ft.corpus.markdown.html import Cell, Definition, definitions, table_of_cells
from rag_vs_ft.corpus.readers.assemble import heading, paragraph
from rag_vs_ft.corpus.readers.html import blocks_of

MAX_DEPTH = 8
"""Blocks in blocks; what is deeper is read as paragraphs."""
ADMONITIONS = ("NOTE", "TIP", "IMPORTANT", "WARNING", "CAUTION")

MAX_HEADER_LINE = 500
"""Characters of a line of authors or of a revision; a longer one is text."""

HEADING = re.compile(r"(={1,6}|#{1,6})[ \t]+(\S.*?)(?:(?<![ \t])[ \t]++\1)?$")
_UNDERLINES = "=-~^+"
_DELIMITER = re.compile(r"(?:-{4,}|={4,}|\.{4,}|\*{4,}|_{4,}|\+{4,}|/{4,}|--|[|,:!]={3,})$|(`{3,})([\w+#-]*+)[\w,+ -]*$")
ATTRIBUTE_LINE = re.compile(r"\[(|[\w.#%{,\"'].*)\]$")
ANCHOR_LINE = re.compile(r"\[\[([\w:][^\[\],]*)(?:, *([^\[\]]+))?\]\]$")
TITLE = re.compile(r"\.(\.?[^\s.].*)$")
_ADMONITION = re.compile(rf"({'|'.join(ADMONITIONS)}):[ \t]+(.*)$")
_MACRO = re.compile(r"(image|video|audio|toc)::(?=.*\]$)(\S*)\[(.*)\]$")
_COMMENT = re.compile(r"//(?!/)")
_RULE = re.compile(r"'{3,}$|<{3,}$|(?:- ?){3}$|(?:\* ?){3}$")
_AUTHOR = re.compile(r"([\w.'’-]+(?: [\w.'’-]+){0,3})(?: +<([^<>\s]+)>)?(?:; .*)?$")
_REVISION = re.compile(r"v?(\d[\w.-]*)(?:, *([^:]*?))?(?:: *(.*))?$|(?:\D.*, *)?(\d{4}-\d\d-\d\d)(?:: *.*)?$")

_BULLET = re.compile(r"[ \t]*(-|\*{1,6}|•)[ \t]+(\S.*)$")
_NUMBER = re.compile(r"[ \t]*(\.{1,6}|\d{1,9}\.|[a-zA-Z]\.|[IVXivx]+\))[ \t]+(\S.*)$")
_TERM = re.compile(r"(?!//(?!/))[ \t]*(\S.{0,1000}?)(:{2,4}|;;)(?:[ \t]+(\S.*)|)$")
_CALLOUT = re.compile(r"<(\d{1,4}|\.)>[ \t]+(\S.*)$")
_CHECKED = re.compile(r"\[([ x*])\][ \t]+")
_CALLOUTS = 200
"""Characters at the end of a line of code in which its callouts stand."""
_MARK = re.compile(r"(?:<!--(\d{1,4}|\.)-->|<(\d{1,4}|\.)>)(?=(?:[ \t]*(?:<!--(?:\d{1,4}|\.)-->|<(?:\d{1,4}|\.)>))*$)")


@dataclass(slots=True)
class _About:
    """What the lines above a block say of it."""

    title: str = ""
    positions: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    options: set[str] = field(default_factory=set)

    @property
    def style(self) -> str:
        return self.positions[0] if self.positions else ""

    def position(self, number: int) -> str:
        return self.positions[number] if number < len(self.positions) else ""

    def add(self, line: str) -> None:
        """Take the text between the brackets of an attribute line."""
        parts = re.findall(r"\s*(?:([\w-]+)\s*=\s*)?(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^,]*)(?:,|$)", line[:2_000])[:30]
        positions = []
        for name, value in parts:
            value = value.strip()
            value = value[1:-1].replace('\\"', '"') if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
            if name in ("opts", "options"):
                self.options |= set(re.split(r"[,\s]+", value))
            elif name:
                self.named[name] = value
            else:
                positions.append(value)
        if positions:
            style, *marks = re.split(r"(?=[.#%])", positions[0])
            self.options |= {mark[1:] for mark in marks if mark.startswith("%")}
            positions[0] = style
        for place, value in enumerate(positions):
            if place == len(self.positions):
                self.positions.append(value)
            elif value:
                self.positions[place] = value


class Blocks:
    """The blocks of a page. `text` gives the text of its paragraphs, `attributes` change from line to line."""

    def __init__(self, text: Inline, attributes: Attributes, notes: Counter[str]) -> None:
        self._inline = text
        self._attributes = attributes
        self._notes = notes
        self._numbers = 0

    def page(self, lines: list[str]) -> list[Block]:
        """The blocks of a whole page, without the lines of its authors and its revision."""
        place = 0
        while place < len(lines) and (not lines[place] or lines[place].startswith("//") or ENTRY.match(lines[place])):
            if lines[place].startswith("////"):
                place = _end(lines, place)
            elif entry := ENTRY.match(lines[place]):
                place = self._set(entry, lines, place)
            place += 1
        if place >= len(lines) or not (found := HEADING.match(lines[place])) or len(found[1]) > 1:
            return self.blocks(lines[place:], 0)
        title = [heading(self._inline.text(found[2]), 1 + self._attributes.number("leveloffset"))]
        self._attributes.set("doctitle", title[0].text)
        return title + self.blocks(lines[self._header(lines, place + 1) :], 0)

    def _header(self, lines: list[str], place: int) -> int:
        """The place after the lines below a title: authors, revision, attributes."""
        for number, pattern in enumerate((_AUTHOR, _REVISION)):
            if place >= len(lines) or not lines[place] or ENTRY.match(lines[place]) or lines[place].startswith("//"):
                break
            found = pattern.match(lines[place]) if len(lines[place]) <= MAX_HEADER_LINE else None
            if found is None:
                break
            names = ("author", "email") if number == 0 else ("revnumber", "revdate", "revremark")
            for name, value in zip(names, found.groups(), strict=False):
                if value:
                    self._attributes.set(name, value.strip())
            if number and found[4]:
                self._attributes.set("revdate", found[4])
            place += 1
        return place

    def blocks(self, lines: list[str], depth: int, in_item: bool = False) -> list[Block]:
        """The blocks of some lines; `in_item` says that a list ends their paragraphs."""
        found: list[Block] = []
        place = 0
        about = _About()
        while place < len(lines):
            line = lines[place]
            if not line or line == "+" or _COMMENT.match(line):
                place += 1
            elif entry := ENTRY.match(line):
                place = self._set(entry, lines, place) + 1
            elif ANCHOR_LINE.match(line):
                place += 1
            elif attributes := ATTRIBUTE_LINE.match(line):
                about.add(self._attributes.resolved(attributes[1]))
                place += 1
            elif (title := TITLE.match(line)) and not _NUMBER.match(line):
                about.title = self._inline.text(title[1])
                place += 1
            else:
                made, after = self._block(lines, place, about, depth, in_item)
                found += made
                place = max(after, place + 1)
                about = _About()
        return [*found, *([paragraph(about.title)] if about.title else [])]

    def _set(self, entry: re.Match[str], lines: list[str], place: int) -> int:
        """Set an attribute whose value may go on in the lines below; the place of its last line."""
        value = entry[2] or ""
        while value.endswith(" \\") and place + 1 < len(lines):
            place += 1
            value = value[:-2].removesuffix(" +") + " " + lines[place].strip()
        self._attributes.set(entry[1], value)
        return place

    def _block(self, lines: list[str], place: int, about: _About, depth: int, in_item: bool) -> tuple[list[Block], int]:
        line = lines[place]
        if level := self._heading(lines, place, about, depth):
            title = HEADING.match(line)
            return [heading(self._inline.text(title[2] if title else line), level)], place + (1 if title else 2)
        above = [paragraph(about.title if about.title[-1] in ".:?!" else f"{about.title}:")] if about.title else []
        if macro := _MACRO.match(line):
            self._notes["images dropped"] += macro[1] == "image"
            return [paragraph(about.title)] if about.title and macro[1] != "toc" else [], place + 1
        if _RULE.match(line):
            return above, place + 1
        if depth <= MAX_DEPTH and _DELIMITER.match(line):
            end = _end(lines, place)
            self._notes["blocks that are never closed"] += end == len(lines)
            if above and about.style in ADMONITIONS:
                above = _labelled(above, about.style)
                about.positions[0] = ""
            made = self._delimited(line, lines[place + 1 : end], about, depth)
            return above + made if made else [], end + 1
        if depth <= MAX_DEPTH and _item(line):
            made, after = self._list(lines, place, about, depth)
            return above + made, after
        end = place + 1
        while end < len(lines) and lines[end] and not _interrupts(lines[end], in_item):
            end += 1
        said = [text for text in lines[place:end] if not _COMMENT.match(text)]
        return above + self._paragraph(said, about, depth), end

    def _heading(self, lines: list[str], place: int, about: _About, depth: int) -> int:
        """The level of the heading at a place, of one line or underlined; 0 where there is none."""
        found = HEADING.match(lines[place])
        level = len(found[1]) if found else 0
        after = lines[place + 1] if place + 1 < len(lines) else ""
        if not level and depth == 0 and len(after) > 1 and after[0] in _UNDERLINES and after == after[0] * len(after):
            text = lines[place]
            is_title = (
                abs(len(text) - len(after)) < 2 and re.search(r"\w", text) and not _DELIMITER.match(text) and not _item(text)
            )
            level = 1 + _UNDERLINES.index(after[0]) if is_title else 0
        return max(1, level + self._attributes.number("leveloffset")) if level else 0

    # --- paragraphs and delimited blocks ---

    def _paragraph(self, said: list[str], about: _About, depth: int) -> list[Block]:
        style = about.style
        if style == "comment" or not said:
            return []
        if (
            (indented := said[0][0] in " \t" and style != "normal")
            or style in ("source", "listing", "literal")
            or (not style and about.position(1))
        ):
            return self._code(said, about if not indented or style else _About(named=about.named))
        if style in ("stem", "latexmath", "asciimath", "pass"):
            return self._delimited("++++", said, about, depth)
        if style in ("quote", "verse") or (said[0].startswith('"') and said[-1].startswith("-- ") and said[-2:-1] != []):
            if style not in ("quote", "verse"):
                about.positions = ["quote", *re.split(r",\s*", said.pop()[3:], maxsplit=1)]
                said = ["\n".join(said).strip('"')]
            return self._quote(self._text(said), about)
        if said[0].startswith("> "):
            inner = self.blocks([re.sub(r"^> ?", "", line) for line in said], depth + 1) if depth < MAX_DEPTH else []
            return [Block("quote", parts=[inner])] if inner else []
        if found := _ADMONITION.match(said[0]):
            return _labelled(self._text([found[2], *said[1:]]), found[1])
        made = self._text(said)
        return _labelled(made, style) if style in ADMONITIONS else made

    def _text(self, said: list[str]) -> list[Block]:
        text = self._inline.text("\n".join(line.strip() for line in said))
        return [paragraph(text)] if text else []

    def _quote(self, inner: list[Block], about: _About) -> list[Block]:
        by = ", ".join(filter(None, (self._inline.text(about.position(place)) for place in (1, 2))))
        inner = inner + ([paragraph(f"— {by}")] if by else [])
        return [Block("quote", parts=[inner])] if inner else []

    def _delimited(self, mark: str, inside: list[str], about: _About, depth: int) -> list[Block]:
        style, kind = about.style, mark[0]
        if mark.startswith("////") or style == "comment":
            return []
        if mark[1:3] == "==" and kind in "|,:!":
            return self._table(inside, kind, about, depth)
        if kind == "`" and not style:
            about.positions = ["source", mark.strip("`")]
        if mark == "--":
            kind = {"source": "-", "listing": "-", "literal": ".", "quote": "_", "verse": "_", "pass": "+"}.get(style, "=")
        if style in ("stem", "latexmath", "asciimath"):
            return [code_block("\n".join(inside))] if any(inside) else []
        if kind in "-.`":
            return self._code(inside, about)
        if kind == "+":
            source = "\n".join(inside)
            return blocks_of(
                self._attributes.resolved(source) if "attributes" in about.named.get("subs", "") else source, self._notes
            )
        if style == "verse":
            return self._quote([Block("paragraph", self._inline.text("\n".join(inside)))], about)
        inner = self.blocks(inside, depth + 1)
        if kind == "_":
            return self._quote(inner, about)
        return _labelled(inner, style) if style in ADMONITIONS else inner

    def _code(self, lines: list[str], about: _About) -> list[Block]:
        text = textwrap.dedent("\n".join(lines))
        subs = set(re.findall(r"(?<![\w-])[a-z_]+", about.named.get("subs", "")))
        steps = NORMAL if "normal" in subs else NORMAL & subs
        steps = frozenset(steps | {"macros"}) if "macros" in steps else steps - {"post_replacements"}
        if steps:
            text = _without_code_marks(self._inline.text(text, steps))
        self._numbers = 0
        text = "\n".join(line[:-_CALLOUTS] + _MARK.sub(self._number, line[-_CALLOUTS:]) for line in text.split("\n"))
        language = about.named.get("language") or (about.position(1) if about.style in ("source", "") else "")
        if about.style == "source" and not language:
            language = self._attributes.get("source-language")
        if about.style not in ("", "source", "listing", "literal", "normal") and about.style.islower():
            language = about.style  # a diagram, in the language of the program that draws it
        language = language if re.fullmatch(r"[\w+#-]{1,40}", language) else ""
        return [code_block(text, language)] if text.strip() else []

    def _number(self, mark: re.Match[str]) -> str:
        """A callout, as the page shows it: its number in parentheses."""
        self._numbers += 1
        number = mark[1] or mark[2]
        return f"({self._numbers if number == '.' else number})"

    # --- lists ---

    def _list(self, lines: list[str], place: int, about: _About, depth: int) -> tuple[list[Block], int]:
        """The list that begins at a place, with what belongs to its items, and the place after it."""
        kind, mark, *_ = _item(lines[place]) or ("", "", None, "")
        parts: list[list[Block]] = []
        entries: list[Definition] = []
        start = about.named.get("start", "")
        first = re.match(r"\s*<?(\d{1,9})[.>]", lines[place])
        while place < len(lines):
            item = _item(lines[place])
            if item is None or item[:2] != (kind, mark):
                break
            _, _, term, text = item
            inside, place = _lines_of_item(lines, place + 1, kind, mark, bool(text))
            body = self._item_blocks(text, inside, depth, kind == "bullet")
            if kind == "term":
                if not entries or entries[-1].is_defined:
                    entries.append(Definition())
                entries[-1].terms.append(paragraph(self._inline.text(term or "")))
                entries[-1].definition += body
                entries[-1].is_defined = bool(body)
            elif body:
                parts.append(body)
            place = _after_blank(lines, place, kind, mark)
        if kind == "term":
            return definitions(entries), place
        number = None if kind == "bullet" else int(start) if re.fullmatch(r"\d{1,9}", start) else int(first[1]) if first else 1
        return [Block("list", start=number, tight=True, parts=parts)] if parts else [], place

    def _item_blocks(self, text: str, inside: list[str], depth: int, is_bullet: bool) -> list[Block]:
        """The blocks of an item: the paragraph that begins in its first line, and the rest."""
        said = [text] if text else []
        place = 0
        if not text:
            while place < len(inside) and not inside[place]:
                place += 1
        starts_here = bool(text) or (place < len(inside) and inside[place][:1] not in (" ", "\t"))
        while starts_here and place < len(inside) and inside[place] and not _interrupts(inside[place], in_item=True):
            if not said and (TITLE.match(inside[place]) or HEADING.match(inside[place]) or _MACRO.match(inside[place])):
                break
            said += [inside[place]] if not _COMMENT.match(inside[place]) else []
            place += 1
        if said and is_bullet:
            said[0] = _CHECKED.sub(lambda found: "[ ] " if found[1] == " " else "[x] ", said[0], count=1)
        made = self._paragraph([line.strip() for line in said], _About(), depth) if said else []
        return made + self.blocks(inside[place:], depth + 1, in_item=True)

    # --- tables ---

    def _table(self, inside: list[str], kind: str, about: _About, depth: int) -> list[Block]:
        rows = rows_of(
            [line for line in inside if not _COMMENT.match(line)],
            columns=about.named.get("cols", ""),
            layout={",": "csv", ":": "dsv"}.get(kind, about.named.get("format", "psv")),
            separator=about.named.get("separator", "!" if kind == "!" else ""),
            options=about.options,
        )
        cells = [
            [Cell(self._cell(cell.text, cell.style, depth), cell.columns, cell.rows, cell.style == "h") for cell in row]
            for row in rows
        ]
        return table_of_cells(cells, []) if rows else []

    def _cell(self, text: str, style: str, depth: int) -> list[Block]:
        if style == "a" and depth < MAX_DEPTH:
            return self.blocks([line.rstrip() for line in text.strip("\n").split("\n")], depth + 1)
        if style == "l":
            return [code_block(textwrap.dedent(text.strip("\n")))] if text.strip() else []
        parts = []
        for part in re.split(r"\n\s*\n", text.strip()):
            # A line of the source is no line of the cell, unless it ends with the mark of a break.
            lines = re.sub(r"(?<! \+)\n[ \t]*", " ", part.strip())
            said = "\n".join(self._inline.text(lines).split("\n"))
            if said:
                parts.append(paragraph(f"`{cell_text(said)}`" if style == "m" and "`" not in said else said))
        return parts


def _labelled(blocks: list[Block], style: str) -> list[Block]:
    label = f"{style.capitalize()}:"
    if blocks and blocks[0].kind == "paragraph":
        blocks[0].text = f"{label} {blocks[0].text}"
        return blocks
    return [paragraph(label), *blocks] if blocks else []


def _without_code_marks(text: str) -> str:
    """Code in code has no marks of its own."""
    return re.sub(r"(?<!`)`([^`\n]+)`(?!`)", r"\1", text) if text.count("`") > 1 else text


def _end(lines: list[str], place: int) -> int:
    """The place of the line that ends the block that begins at a place."""
    fence = re.match(r"`{3,}", lines[place])
    mark = fence[0] if fence else lines[place]
    return next((later for later in range(place + 1, len(lines)) if lines[later] == mark), len(lines))


def _item(line: str) -> tuple[str, str, str | None, str] | None:
    """Kind, mark, term and text of the item of a list that a line begins; items of one list have the same kind and mark."""
    if found := _BULLET.match(line):
        return "bullet", found[1], None, found[2]
    if found := _NUMBER.match(line):
        mark = found[1]
        mark = (
            mark
            if mark[0] == "."
            else "1."
            if mark[0].isdigit()
            else ")"
            if mark[-1] == ")"
            else "A."
            if mark[0].isupper()
            else "a."
        )
        return "number", mark, None, found[2]
    if found := _CALLOUT.match(line):
        return "callout", "<>", None, found[2]
    if (":" in line or ";;" in line) and (found := _TERM.match(line)) and not _MACRO.match(line):
        return "term", found[2], found[1], found[3] or ""
    return None


def _interrupts(line: str, in_item: bool) -> bool:
    if _DELIMITER.match(line) or ATTRIBUTE_LINE.match(line):
        return True
    return in_item and (line == "+" or _item(line) is not None)


def _after_blank(lines: list[str], place: int, kind: str, mark: str) -> int:
    """The place of the list's next item behind blank lines and comments, or the same place where there is none."""
    later = place
    while later < len(lines) and (not lines[later] or _COMMENT.match(lines[later])):
        later += 1
    item = _item(lines[later]) if later < len(lines) else None
    return later if item is not None and item[:2] == (kind, mark) else place


def _lines_of_item(lines: list[str], place: int, kind: str, mark: str, has_text: bool) -> tuple[list[str], int]:
    """The lines of an item behind its first, and the place after them; marks that attach blocks to this item become blank lines.

    https://github.com/asciidoctor/asciidoctor/blob/main/lib/asciidoctor/parser.rb, read_lines_for_list_item
    """
    kept: list[str] = []
    attaching = frozen = nested = False
    detached = -1
    before = ""
    is_sibling: Callable[[str], bool] = lambda line: (_item(line) or ("", ""))[:2] == (kind, mark)  # noqa: E731
    while place < len(lines):
        line = lines[place]
        if is_sibling(line) and not attaching:
            break
        if before == "+" and not frozen and kept:
            if not attaching:
                attaching = has_text = True
                if not nested:
                    kept[-1] = ""
            if line == "+":
                frozen = True
                kept.append(line)
                before, place = line, place + 1
                continue
        if _DELIMITER.match(line):
            if not attaching:
                break
            end = min(_end(lines, place) + 1, len(lines))
            kept += lines[place:end]
            place, attaching, frozen, before = end, False, False, "x"
            continue
        if attaching and line:
            kept.append(line)
            if line[0] in " \t" and _item(line) is None:
                place += 1
                while place < len(lines) and lines[place] and lines[place] != "+":
                    kept.append(lines[place])
                    place += 1
                attaching, before = False, "x"
                continue
            if not (TITLE.match(line) or ATTRIBUTE_LINE.match(line) or ANCHOR_LINE.match(line) or ENTRY.match(line)):
                nested = nested or _item(line) is not None
                attaching = frozen = False
        elif not before and kept and not attaching:
            while place < len(lines) and not lines[place]:
                place += 1
            if place == len(lines) or is_sibling(lines[place]):
                break
            line = lines[place]
            if line == "+":
                detached = len(kept)
                kept.append(line)
            elif has_text:
                if (item := _item(line)) is not None:
                    kept.append(line)
                    nested = True
                    has_text = bool(item[3]) or item[0] != "term"
                elif line[0] in " \t":
                    while place < len(lines) and lines[place] and lines[place] != "+" and not is_sibling(lines[place]):
                        kept.append(lines[place])
                        place += 1
                    before = "x"
                    continue
                elif _leads_to_nested(lines, place, kind, mark):
                    kept.append(line)
                    before, place = "x", place + 1
                    continue
                else:
                    break
            else:
                kept.append(line)
                has_text = True
        else:
            if (
                kind == "term"
                and line.startswith("[")
                and ATTRIBUTE_LINE.match(line)
                and not _leads_to_nested(lines, place, kind, mark)
            ):
                break
            has_text = has_text or bool(line)
            if (item := _item(line)) is not None and (not nested or item[0] == "term"):
                nested = True
                has_text = bool(item[3]) or item[0] != "term"
            kept.append(line)
        before, place = line, place + 1
    if detached >= 0:
        del kept[detached]
    while kept and kept[-1] in ("", "+"):
        kept.pop()
    return kept, place


def _leads_to_nested(lines: list[str], place: int, kind: str, mark: str) -> bool:
    """Whether lines about a block are about a list that is no sibling."""
    while place < len(lines) and (not lines[place] or ATTRIBUTE_LINE.match(lines[place]) or TITLE.match(lines[place])):
        if not lines[place] or (TITLE.match(lines[place]) and _NUMBER.match(lines[place])):
            break
        place += 1
    item = _item(lines[place]) if place < len(lines) else None
    return item is not None and item[:2] != (kind, mark)
