"""The HTML inside Markdown, element by element, into the tree that the Markdown around it goes into.

CommonMark ends a piece of HTML at a blank line, so a table's rows may come in several pieces with Markdown between them. One
`HtmlTree` takes them all: it knows which elements are open, and where the next block belongs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from textwrap import dedent

from rag_vs_ft.corpus.markdown.blocks import MAX_REPEATED, Block, cell_text, code_block, code_span, table
from rag_vs_ft.corpus.text import normalise, one_line

MAX_OPEN = 50
"""Open lists, tables and quotes below which elements no longer nest."""
MAX_SPAN = 30
MAX_DEFINITION = 1_000
"""Characters of a definition that can be an item of a list; a longer one is a part of the page."""
MAX_NESTED_TABLE = 300
"""Characters of a table that can be a cell of another one."""
MOST_HOLDING = 4
"""A table without a header of which more than one in so many cells holds a table lays out a page."""

# HTML's elements; any other name in angle brackets is a placeholder that the reader has to fill in, and is text.
ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        """a abbr article aside audio b big blockquote body br button caption center cite code col colgroup dd del details
        dfn div dl dt em embed fieldset figcaption figure font footer form h1 h2 h3 h4 h5 h6 head header hr html
        i iframe img input ins kbd label legend li link main mark meta nav ol p picture pre q s samp script
        section select small source span strike strong style sub summary sup svg table tbody td textarea tfoot
        th thead time tr tt u ul var video wbr""",
    )
)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_NESTING = ("ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "tr", "td", "th", "blockquote", *_HEADINGS)
_KEEPS_PICTURES = frozenset(["td", "caption", "dt", "dd"])
"""Elements in which a picture stands for a word; elsewhere it is left out where it stands alone, as in Markdown."""
_BREAKS = frozenset(
    re.findall(
        r"\w+",
        """article aside body center details div fieldset figcaption figure footer form header hr html legend main
        nav p section summary tbody tfoot thead""",
    )
)
EXPLAINED = frozenset(["abbr", "dfn"])
"""Elements whose title says what their text stands for."""
_SILENT = ("script", "style", "svg")
_HIDDEN = re.compile(rf"<!--|<({'|'.join(_SILENT)})\b[^<>]*>", re.I)
_CLOSINGS = {"": re.compile("-->"), **{name: re.compile(f"</{name}[^<>]*>?", re.I) for name in _SILENT}}
_PIECE = re.compile(r"""(<(?:/?[A-Za-z]|[!?])(?:[^<>"']|"[^"<]*"|'[^'<]*')*>|<(?:/?[A-Za-z]|[!?])[^<>]*>)""")
_FILE_NAME = re.compile(r"[^/\\]*\.(?:jpe?g|png|gif|svg|webp|bmp|tiff?)", re.I)
_PICTURE_OF = re.compile(
    r"(an? |the )?(screen ?shot|screen ?capture|screen|diagram|image|picture|illustration|photo|figure)\b", re.I
)


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag: its name in lower case, whether it closes, its attributes, and how it was written."""

    name: str
    closing: bool
    attributes: dict[str, str]
    source: str


class _OneTag(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: tuple[str, bool, dict[str, str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found = (tag, False, {name: value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        # The parser tells of `<br/>` as both.
        self.found = self.found or (tag, True, {})


def parse_tag(source: str) -> Tag | None:
    """The tag that a text is, or None (a declaration, or no tag)."""
    parser = _OneTag()
    parser.feed(source)
    if parser.found is None:
        return None
    name, closing, attributes = parser.found
    return Tag(name, closing, attributes, source)


def visible(source: str, notes: Counter[str]) -> str:
    """HTML without comments, scripts, styles and drawings; of one that is never closed only the opening goes."""
    parts: list[str] = []
    position = 0
    unclosed: set[str] = set()
    while match := _HIDDEN.search(source, position):
        parts.append(source[position : match.start()])
        name = (match[1] or "").lower()
        closing = None if name in unclosed else _CLOSINGS[name].search(source, match.end())
        if closing is None:
            unclosed.add(name)
            notes["unclosed HTML comments, scripts and styles"] += 1
            position = match.end()
        else:
            notes["HTML scripts and styles dropped" if name else "HTML comments dropped"] += 1
            position = closing.end()
    return "".join([*parts, source[position:]])


def pieces(source: str) -> Iterator[Tag | str]:
    """Tags and the raw text between them; reads each character a bounded number of times."""
    for number, piece in enumerate(_PIECE.split(source)):
        if number % 2 == 0:
            if piece:
                yield piece
        elif tag := parse_tag(piece):
            yield tag
        elif not piece.startswith(("<!", "<?")):
            yield piece


def alternative(alt: str, notes: Counter[str]) -> str:
    """The alternative text of an image: kept where it stands for a word, not where it is a file's name or only says
    "Screenshot"."""
    notes["images dropped"] += 1
    return "" if _PICTURE_OF.match(alt.strip()) or _FILE_NAME.fullmatch(alt.strip()) else one_line(normalise(alt))


def explanation(tag: Tag, text: str) -> str:
    """What an abbreviation or a term stands for, in parentheses to follow its text; "" where its tag does not say it."""
    title = one_line(normalise(tag.attributes.get("title", "")))
    return f" ({title})" if title and title.casefold() != one_line(text).casefold() else ""


class _Alternative(str):
    """The alternative text of a picture."""

    __slots__ = ()


@dataclass(slots=True)
class _Open:
    """An element that holds blocks: where they go, and what is made of it at its end.

    `rows` are a table's, `entries` the terms and definitions of a definition list.
    """

    name: str
    sink: list[Block]
    block: Block | None = None
    rows: list[list[Cell]] = field(default_factory=list)
    entries: list[Definition] = field(default_factory=list)


@dataclass(slots=True)
class Cell:
    """One cell of a table: its blocks, and how many columns and rows it spans."""

    blocks: list[Block]
    columns: int = 1
    rows: int = 1
    header: bool = False


@dataclass(slots=True)
class Definition:
    """One entry of a definition list: terms that share a definition."""

    terms: list[Block] = field(default_factory=list)
    definition: list[Block] = field(default_factory=list)
    is_defined: bool = False


class HtmlTree:
    """The open HTML elements of one Markdown container, whose blocks are `root`.

    `components`: unknown tags are components, of which only the content shows; else they are placeholders, and are text.
    """

    def __init__(self, root: list[Block], notes: Counter[str], components: bool = False) -> None:
        self.notes = notes
        self.components = components
        self.open = [_Open("", root)]
        self.text: list[str] = []
        self.level = 0
        self.code: int | None = None
        self.pre: list[str] | None = None
        self.picture = ""  # the alternative text of the last picture
        self.explained: tuple[Tag, int] | None = None  # the last open element of `EXPLAINED`, and where its text begins
        self.language = ""

    @property
    def here(self) -> list[Block]:
        """Where the next block goes."""
        return self.open[-1].sink

    def feed(self, source: str) -> None:
        """Take one piece of HTML; what it leaves open stays open for the next."""
        for piece in pieces(visible(source, self.notes)):
            if isinstance(piece, str):
                self._data(unescape(piece))
            elif piece.name not in ELEMENTS:
                if not self.components:
                    self._data(piece.source)
            else:
                self.notes["HTML tags dropped"] += 1
                self._close(piece.name) if piece.closing else self._start(piece)
        self._end_paragraph()

    def close(self) -> None:
        """The Markdown container ends, and with it whatever is open."""
        self._end_paragraph()
        while len(self.open) > 1:
            self._pop()

    def _data(self, text: str) -> None:
        if self.pre is not None:
            self.pre.append(text)
        else:
            self.text.append(normalise(text.replace("\n", " ")).replace("\n", " "))

    def _start(self, tag: Tag) -> None:
        name = tag.name
        if self.pre is not None:
            if name == "br":
                self.pre.append("\n")
            elif name == "code":
                self.language = self.language or _language(tag)
            return
        if name == "br":
            self.text.append("\n")
        elif name == "img":
            self.picture = alternative(tag.attributes.get("alt", ""), self.notes)
            self.text.append(_Alternative(self.picture))
        elif name == "sup":
            self.text.append("^")
        elif name == "code":
            self.code = len(self.text)
        elif name in EXPLAINED:
            self.explained = tag, len(self.text)
        elif name == "pre":
            self._end_paragraph()
            self.pre = []
            self.language = _language(tag)
        elif name in _NESTING:
            self._end_paragraph()
            self._start_block(tag)
        elif name in _BREAKS:
            self._end_paragraph()

    def _start_block(self, tag: Tag) -> None:
        name = tag.name
        if name in _HEADINGS:
            self.level = int(name[1])
        elif name == "li":
            self._close_inside("li", "ul")
            if self.open[-1].name != "ul":
                self._push(_Open("ul", [], Block("list", tight=True)))
            if (block := self.open[-1].block) is not None:
                block.parts.append([])
                self._push(_Open("li", block.parts[-1]))
        elif name in ("ul", "ol"):
            start = _number(tag.attributes.get("start", "1"), 999_999_999) if name == "ol" else None
            self._push(_Open("ul", [], Block("list", start=start, tight=True)))
        elif name == "blockquote":
            block = Block("quote", parts=[[]])
            self._push(_Open(name, block.parts[0], block))
        elif name in ("table", "dl"):
            self._push(_Open(name, []))
        elif name in ("dt", "dd"):
            self._start_in_definitions(name)
        elif any(element.name == "table" for element in self.open):
            self._start_in_table(name, tag.attributes)

    def _start_in_table(self, name: str, attributes: dict[str, str]) -> None:
        self._close_inside("td", "table")
        self._close_inside("caption", "table")
        element = self.open[-1]
        if element.name != "table":
            return
        if name == "caption":
            # A caption stands before its table.
            self._push(_Open(name, self.open[-2].sink))
            return
        if name == "tr" or not element.rows:
            element.rows.append([])
        if name != "tr":
            spans = _number(attributes.get("colspan", "1")), _number(attributes.get("rowspan", "1"))
            cell = Cell([], *spans, header=name == "th")
            element.rows[-1].append(cell)
            self._push(_Open("td", cell.blocks))

    def _start_in_definitions(self, name: str) -> None:
        self._close_inside("dt", "dl")
        self._close_inside("dd", "dl")
        element = self.open[-1]
        if element.name != "dl":
            return
        if not element.entries or (name == "dt" and element.entries[-1].is_defined):
            element.entries.append(Definition())
        entry = element.entries[-1]
        entry.is_defined |= name == "dd"
        self._push(_Open(name, entry.terms if name == "dt" else entry.definition))

    def _push(self, element: _Open) -> None:
        if len(self.open) <= MAX_OPEN:
            self.open.append(element)

    def _close(self, name: str) -> None:
        if self.pre is not None:
            if name == "pre":
                text = "".join(self.pre)
                self.pre = None
                if text.strip():
                    self.here.append(code_block(dedent(text.removeprefix("\n")).rstrip(), self.language))
            return
        if name == "code":
            self._end_code()
        elif name in EXPLAINED and self.explained:
            tag, start = self.explained
            self.explained = None
            self.text.append(explanation(tag, "".join(self.text[start:])))
        elif name in _NESTING:
            self._end_paragraph()
            if name in _HEADINGS:
                self.level = 0
            elif name in ("table", "dl"):
                self._close_inside(name, "" if name == "table" else "table")
            elif name in ("dt", "dd"):
                self._close_inside(name, "dl")
            else:
                self._close_inside({"ol": "ul", "tr": "td", "th": "td"}.get(name, name), "table")
        elif name in _BREAKS:
            self._end_paragraph()

    def _close_inside(self, name: str, boundary: str = "") -> None:
        """Close the innermost open element of this name and what is open in it, if no boundary lies between."""
        for depth in range(len(self.open) - 1, 0, -1):
            found = self.open[depth].name
            if found == name:
                while len(self.open) > depth:
                    self._pop()
                return
            if found == boundary:
                return

    def _pop(self) -> None:
        self._end_paragraph()
        element = self.open.pop()
        if element.name == "table":
            self.here.extend(table_of_cells(element.rows, element.sink))
        elif element.name == "dl":
            self.here.extend([*element.sink, *definitions(element.entries)])
        elif element.block is not None:
            self.here.append(element.block)

    def _end_code(self) -> None:
        if self.code is not None:
            text = one_line("".join(self.text[self.code :]))
            self.text[self.code :] = [code_span(text)] if text else []
            self.code = None

    def _end_paragraph(self) -> None:
        if self.pre is not None:
            self._close("pre")
        self._end_code()
        text, level = "".join(self.text), self.level
        is_pictures = all(isinstance(part, _Alternative) or not part.strip() for part in self.text)
        self.text.clear()
        self.explained = None
        if is_pictures and not level and not any(element.name in _KEEPS_PICTURES for element in self.open):
            return
        lines = [one_line(line) for line in normalise(text).split("\n")]
        text = "\n".join(line for line in lines if line)
        if text and level:
            self.here.append(Block("heading", one_line(text), level))
        elif text:
            last = self.here[-1] if self.here else None
            if last and self.picture and last.text == self.picture == text.replace("^", ""):
                last.text = text  # a caption that its picture's alternative text says as well
            else:
                self.here.append(Block("paragraph", text))


def _language(tag: Tag) -> str:
    """The language that the class of a block of code names."""
    found = re.search(r"(?:^|\s)(?:language|lang)-([\w+#.-]{1,40})(?:\s|$)", tag.attributes.get("class", ""))
    return found[1] if found and found[1] not in ("none", "text", "plaintext", "default") else ""


def _number(text: str, most: int = MAX_SPAN) -> int:
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def table_of_cells(rows: list[list[Cell]], beside: list[Block]) -> list[Block]:
    """A table, or the blocks of its cells one after the other where a cell holds what no cell can hold.

    A cell that spans rows stands in each of them, so that a row says all by itself. `beside` is what stood outside the cells.
    """
    cells = [cell for row in rows for cell in row]
    holding = sum(any(block.kind == "table" for block in cell.blocks) for cell in cells)
    is_data = len(rows) > 1 and (any(cell.header for cell in rows[0]) or MOST_HOLDING * holding <= len(cells))
    if any(not (_fits(block) or (is_data and _fits_in_data(block))) for cell in cells for block in cell.blocks):
        return [*beside, *(block for cell in cells for block in cell.blocks)]
    grid: list[list[str]] = []
    above: dict[int, tuple[int, str]] = {}
    named = False
    for row in rows:
        line: list[str] = []
        following: dict[int, tuple[int, str]] = {}
        waiting = list(row)
        while waiting or len(line) in above:
            if len(line) in above:
                left, text = above.pop(len(line))
                span = 1
            else:
                cell = waiting.pop(0)
                text, left, span = cell_text(_flat(cell.blocks)), cell.rows, cell.columns
            if left > 1:
                repeated = text if len(text) <= MAX_REPEATED else ""
                following.update({len(line) + number: (left - 1, repeated if number == 0 else "") for number in range(span)})
            line += [text] + [""] * (span - 1)
        above = following
        # A cell above the whole row, as in tables of options, is the name of the row below it, whose first cell is empty.
        if named and len(line) == 2 and not line[0] and line[1]:
            line = [grid.pop()[0], line[1]]
            grid += [line] if grid else [["", ""], line]  # a row of its own, which is no header
        elif line:
            grid.append(line)
        named = len(row) == 1 and row[0].columns == len(line) == 2
    return [*beside, *([table(grid)] if any(any(line) for line in grid) else [])]


def _fits(block: Block) -> bool:
    if block.kind == "list":
        return all(_fits(child) for part in block.parts for child in part)
    return block.kind == "paragraph" or (block.kind == "code" and block.text.count("\n") == 1)


def _fits_in_data(block: Block) -> bool:
    """Whether a cell of a table that holds data can hold a block: a small table is a list of its rows there."""
    return block.kind == "table" and len(block.text) <= MAX_NESTED_TABLE


def definitions(entries: list[Definition]) -> list[Block]:
    """Definitions as a list, `- term: definition`; as paragraphs where one is a part of the page, with headings or much text."""
    if any(_is_part(block) for entry in entries for block in (*entry.terms, *entry.definition)) or any(
        sum(len(block.text) for block in entry.definition) > MAX_DEFINITION for entry in entries
    ):
        return [block for entry in entries for block in (*entry.terms, *entry.definition)]
    items = []
    for entry in entries:
        term = ", ".join(one_line(block.text) for block in entry.terms if block.text).rstrip(":")
        rest = entry.definition
        if rest and rest[0].kind == "paragraph":
            text, rest = f"{term}: {rest[0].text}" if term else rest[0].text, rest[1:]
        else:
            text = f"{term}:" if term and rest else term
        if item := [*([Block("paragraph", text)] if text else []), *rest]:
            items.append(item)
    tight = all(len(item) == 1 or all(block.kind == "list" for block in item[1:]) for item in items)
    return [Block("list", tight=tight, parts=items)] if items else []


def _is_part(block: Block) -> bool:
    return block.kind == "heading" or any(_is_part(inner) for part in block.parts for inner in part)


def _flat(blocks: list[Block]) -> str:
    lines = []
    for block in blocks:
        if block.kind == "list":
            marks = (f"{block.start + number}." if block.start is not None else "-" for number in range(len(block.parts)))
            lines += [f"{mark} {cell_text(_flat(part))}" for mark, part in zip(marks, block.parts, strict=True)]
        elif block.kind == "table":
            rows = block.text.split("\n")
            cells = ([cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in (rows[0], *rows[2:]))
            lines.append("; ".join(", ".join(filter(None, row)) for row in cells).replace("\\|", "|"))
        else:
            lines.append(code_span(block.text.strip()) if block.kind == "code" else block.text)
    return "\n".join(lines)
