"""PDF: text in reading order, headings by outline or font, tables, and the page that everything stands on.

pdfplumber finds words, their fonts and ruled tables; what makes a document of them is here.
"""

from __future__ import annotations

import io
import logging
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby, pairwise
from typing import Any

from rag_vs_ft.corpus.markdown.blocks import Block, code_block, table
from rag_vs_ft.corpus.readers import Content, Damaged, FileContext, LeftOut
from rag_vs_ft.corpus.readers.assemble import assemble, heading, paragraph
from rag_vs_ft.records import Place

MARGIN = 0.12
"""Share of a page's height at its top and bottom in which running headers and footers stand."""
REPEATED = 0.5
"""Share of the pages on which a line must stand, digits aside, to be a running header or footer."""
LARGER = 1.12
"""How much larger than the text a heading's letters are."""
MAX_HEADING_WORDS = 20
SLANTED = 45
"""Stands for every direction that is neither along nor across the page."""
PICTURE = 20
"""Points that a picture is wide and high at least; smaller ones are lines and dots."""

SMALLER = 0.8
"""How large a raised letter is at most, next to the letters of its line."""

_PAGE_NUMBER = re.compile(r"(?:page |p\. ?|seite )?[-–— ]*(?:\d{1,4}|[ivxlc]{1,6})[-–— ]*(?:(?:of|/|von) ?\d{1,4})?", re.I)
_BULLETS = "•●▪◦‣∙·–*-"
_BULLET = re.compile(rf"[{_BULLETS}]\s+|\(?(?:\d{{1,2}}|[a-z])[.)]\s+|\^(?:\d{{1,2}}|[a-z]\b)")
_LABEL = re.compile(rf"[{_BULLETS}]|\(?(?:\d{{1,2}}|[a-zA-Z]|[ivx]{{1,4}})[.)]|\.\d{{1,2}}|(?:\d{{1,2}}\.)+")
"""What stands before the text of an item, often behind a wide gap."""
_ITEM = re.compile(r"\(?(\d{1,2})[.)]\s+(?=\S)")
_ORNAMENT = re.compile(r"([=_~*#.·–—-])(?:\s?\1){4,}")
_LEADERS = re.compile(r"(?<![.·…_])(?<![.·…_]\s)(?:\s?[.·…_]){4,}+\s*\d{1,4}$")
_PAGE = re.compile(r"\d{1,9}")
"""The page in a line of contents: digits that make a number, and not as many as `int` refuses."""
_CONTENTS = re.compile(
    r"(?:table of )?contents|inhalt(?:sverzeichnis)?|sommaire|table des matières|índice|contenido|indice|sumário|"
    r"目次|目录|目錄|содержание|оглавление",
    re.I,
)
_MONO = re.compile(r"mono(?!type)|courier|consol|menlo|typewriter|cmtt|sftt|inconsolata|source ?code|fira ?code", re.I)
_LONG_NUMBER = re.compile(r"\d{9}")
_SUM = re.compile(r"[$€£¥]\s?-?\d[\d.,]*$")
_NUMBERED = re.compile(r"(?:\d{1,2}\.){1,4}\d{0,2}\s+\S|(?:chapter|section|appendix)\s+\w+", re.I)
_UNKNOWN_LETTER = re.compile(r"\(cid:\d+\)|[\ue000-\uf8ff\U000f0000-\U0010fffd]")
_SYMBOLS = str.maketrans(
    dict.fromkeys("\uf0b7\uf0a7\uf0a8\uf076\uf0d8\uf06e\uf071\uf09f", "•")
    | {"\uf0e0": "→", "\uf0e8": "→", "\uf0fc": "✓", "\uf0b0": "°", "\uf0b1": "±", "\uf0b3": "≥", "\uf0a3": "≤", "\uf0b4": "×"}
)
"""The private letters by which Word writes the Symbol and Wingdings fonts: bullets and a few signs."""
_PAGE_BREAK = "\uf8ff"
"""Stands in a paragraph where the next page begins; a private letter, which no text of a page keeps."""


@dataclass(slots=True)
class _Line:
    """Words in a row: their text by cells (what wide gaps part), where they stand, and how they are printed.

    `text_left` is where the second word begins: under it hangs the text of an item whose first word is its number.
    """

    cells: list[tuple[float, float, str]]
    top: float
    bottom: float
    size: float
    bold: bool
    column: int = 0
    text_left: float = 0.0
    mono: bool = False
    rows: list[list[str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(text for _, _, text in self.cells)

    @property
    def ends_in_number(self) -> bool:
        """Whether it is a label and, behind a gap, its number, as in a list of sums."""
        return len(self.cells) > 1 and not re.search(r"[^\W\d_]", self.cells[-1][2])

    @property
    def left(self) -> float:
        return self.cells[0][0] if self.cells else 0.0

    @property
    def right(self) -> float:
        return self.cells[-1][1] if self.cells else 0.0


@dataclass(slots=True)
class _Page:
    number: int
    height: float
    lines: list[_Line]


def _damaged(error: Exception) -> Damaged:
    cause = next((found for found in error.args if isinstance(found, Exception)), error)  # pdfplumber wraps pdfminer's
    return Damaged("PDF", f"{type(cause).__name__}: {cause}"[:200])


def read(data: bytes, context: FileContext) -> Content:
    """The pages in order, each a place."""
    import pdfplumber
    from pdfminer.pdfdocument import PDFPasswordIncorrect
    from pdfplumber.utils.exceptions import PdfminerException

    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    notes: Counter[str] = Counter()
    try:
        book = pdfplumber.open(io.BytesIO(data))
    except PdfminerException as error:
        if any(isinstance(found, PDFPasswordIncorrect) for found in error.args) or "PasswordIncorrect" in repr(error):
            raise LeftOut("encrypted PDF (save it without a password)") from error
        raise _damaged(error) from error
    pages: list[_Page] = []
    pictures = 0  # pages that are one
    for number, page in enumerate(book.pages, start=1):
        try:
            found = _Page(number, float(page.height), _lines(page, notes))
        except Exception as error:  # one bad page costs that page
            notes["pages that cannot be read"] += 1
            if number == len(book.pages) and not pages:
                raise _damaged(error) from error
            continue
        if len(found.lines) < 3 and sum(len(line.text) for line in found.lines) < 20 and page.images:
            pictures += 1
        else:
            notes["images dropped"] += sum(image["width"] >= PICTURE <= image["height"] for image in page.images)
        pages.append(found)
        page.close()
    _drop_running(pages, notes)
    _drop_contents(pages, notes)
    if not any(page.lines for page in pages):
        if pictures:
            raise LeftOut("PDF without a text layer: needs OCR (ocrmypdf IN.pdf OUT.pdf, then add that)")
        return Content("", notes=notes)
    notes = +notes  # without zeros
    if pictures:
        notes["pages without a text layer (they need OCR)"] += pictures
    if attached := _attachments(book):
        notes["attachments left out"] += attached
    return _content(pages, _outline(book), notes, str((book.metadata or {}).get("Title") or ""))


def _attachments(book: Any) -> int:
    from pdfminer.pdftypes import resolve1

    try:
        names = resolve1(book.doc.catalog["Names"])
        return len(resolve1(resolve1(names["EmbeddedFiles"])["Names"])) // 2
    except Exception:  # an index of attachments may be anything
        return 0


def _outline(book: Any) -> dict[str, int]:
    """The headings of the outline, without spaces and case, and how deep each is."""
    try:
        found = {_key(str(title)): int(level) for level, title, *_ in book.doc.get_outlines()}
    except Exception:  # none, or a broken one
        return {}
    return {title: level for title, level in found.items() if len(title) > 2}


def _key(text: str) -> str:
    return re.sub(r"[\W_]+", "", re.sub(r"^[\d.]+\s", "", text.strip())).casefold()


# --- words -> lines in reading order ---


def _lines(page: Any, notes: Counter[str]) -> list[_Line]:
    page = page.dedupe_chars(tolerance=1) if len(page.chars) < 20_000 else page
    _mark_raised(page.chars)
    turned = [char for char in page.chars if _turn(char)]
    if any(_turn(char) == SLANTED and char["text"].strip() for char in turned):
        notes["slanted text (a watermark) left out"] += 1
    if turned:
        page = page.filter(lambda thing: thing["object_type"] != "char" or not _turn(thing))
    words = page.extract_words(**_WORDS)
    tables: list[_Line] = []
    for found in page.find_tables() if page.rects or page.lines or page.curves else []:
        cells = [[cell or "" for cell in row] for row in found.extract()]
        if any(_is_box(cell) for row in cells for cell in row):
            continue
        rows = [[" ".join(_named(cell).split()) for cell in row] for row in cells]
        rows = [row for row in rows if any(row)]
        columns = [number for number in range(max(map(len, rows), default=0)) if any(row[number] for row in rows)]
        # One row may be the last of a table that began on the page before.
        if len(columns) < 2 or (len(rows) < 2 and any(word["top"] < found.bbox[1] - 1 for word in words)):
            continue
        left, top, right, bottom = found.bbox
        frame = _is_frame(rows)
        boxes = (
            [row.bbox for row, texts in zip(found.rows, cells, strict=True) if sum(map(bool, texts)) > 1]
            if frame
            else [found.bbox]
        )
        inside = [word for word in words if any(_within(word, *box) for box in boxes)]
        if not inside:
            continue
        words = [word for word in words if not any(_within(word, *box) for box in boxes)]
        rows = [[row[number] for number in columns] for row in rows if not frame or sum(map(bool, row)) > 1]
        if frame:
            top, bottom = boxes[0][1], boxes[-1][3]
        tables.append(_Line([(left, right, "")], top, bottom, 0.0, False, rows=rows))
    lines = _in_order(words, float(page.width))
    for found in sorted(tables, key=lambda line: line.top):
        place = next((place for place, line in enumerate(lines) if line.top >= found.top and _beside(line, found)), len(lines))
        lines.insert(place, found)
    rotated = [line for turn in (90, 180, 270) for line in _turned_lines(turned, turn, float(page.width), float(page.height))]
    return rotated + lines if len(turned) > len(page.chars) else lines + rotated


_WORDS: dict[str, Any] = {"x_tolerance_ratio": 0.13, "y_tolerance": 2, "extra_attrs": ["size", "fontname"]}


def _mark_raised(chars: Sequence[dict[str, Any]]) -> None:
    """Put "^" before raised numbers and single letters: the mark of a footnote would else be a digit of the number before it."""
    start = 0
    while start < len(chars):
        end = start + 1
        while (
            end < len(chars) and abs(chars[end]["size"] - chars[start]["size"]) < 0.1 and _on_a_line(chars[end - 1], chars[end])
        ):
            end += 1
        text = "".join(char["text"] for char in chars[start:end]).strip()
        before, after = chars[start - 1] if start else None, chars[end] if end < len(chars) else None
        ordinal = before is not None and before["text"].isdigit() and text.isalpha()
        raised = (before is not None and _is_raised(chars[start], before, before["x1"] - chars[start]["x0"])) or (
            after is not None and _is_raised(chars[start], after, after["x0"] - chars[end - 1]["x1"])
        )
        if raised and not ordinal and re.fullmatch(r"[-−+]?\d{1,3}(?:,\d{1,2}){0,5}|[a-z]", text):
            chars[start]["text"] = "^" + chars[start]["text"]
        start = end


def _on_a_line(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return bool(abs(before["bottom"] - after["bottom"]) < 0.5 and -1 < after["x0"] - before["x1"] < 2 * after["size"])


def _is_raised(char: dict[str, Any], beside: dict[str, Any], gap: float) -> bool:
    height = beside["size"]
    return bool(
        char["size"] <= SMALLER * height
        and abs(gap) < 0.6 * height
        and beside["top"] - 0.5 * height < char["top"]
        and char["bottom"] < beside["bottom"] - 0.12 * height
    )


def _turn(char: dict[str, Any]) -> int:
    """By how many degrees a letter is turned to the left: 0, 90, 180, 270, or SLANTED."""
    right, up = char["matrix"][:2]
    if abs(up) <= 0.2 * abs(right):
        return 0 if right >= 0 else 180
    if abs(right) <= 0.2 * abs(up):
        return 90 if up > 0 else 270
    return SLANTED


def _turned_lines(chars: Sequence[dict[str, Any]], turn: int, width: float, height: float) -> list[_Line]:
    """The lines that are turned by `turn` degrees, read as if the page had been turned back."""
    from pdfplumber.utils.text import extract_words

    straight = []
    for char in chars:
        if _turn(char) != turn:
            continue
        x0, x1, top, bottom = char["x0"], char["x1"], char["top"], char["bottom"]
        if turn == 90:
            x0, x1, top, bottom = height - bottom, height - top, x0, x1
        elif turn == 270:
            x0, x1, top, bottom = top, bottom, width - x1, width - x0
        else:
            x0, x1, top, bottom = width - x1, width - x0, height - bottom, height - top
        straight.append(
            char | {"x0": x0, "x1": x1, "top": top, "bottom": bottom, "doctop": top, "size": bottom - top, "upright": True}
        )
    return _in_order(extract_words(straight, **_WORDS), width if turn == 180 else height, -turn)


def _named(text: str) -> str:
    """Text with U+FFFD for letters that the PDF does not name; code 127 is the bullet of the usual encoding."""
    return _UNKNOWN_LETTER.sub("\ufffd", text.replace("(cid:127)", "•").translate(_SYMBOLS))


def _is_frame(rows: list[list[str]]) -> bool:
    """Whether a "table" is a frame around lines, as of a letterhead: most rows have one cell, and none has more than two."""
    filled = [sum(map(bool, row)) for row in rows]
    return len(filled) > 2 and max(filled) == 2 and filled.count(1) > filled.count(2)


def _is_box(cell: str) -> bool:
    """Whether a "cell" is a box with a table without rules in it, or a list of short lines."""
    lines = cell.split("\n")
    return len(lines) >= 5 and statistics.mean(len(line.split()) for line in lines) <= 5


def _within(word: dict[str, Any], left: float, top: float, right: float, bottom: float) -> bool:
    middle, height = (word["x0"] + word["x1"]) / 2, (word["top"] + word["bottom"]) / 2
    return bool(left - 1 <= middle <= right + 1 and top - 1 <= height <= bottom + 1)


def _beside(line: _Line, other: _Line) -> bool:
    return line.right > other.left and line.left < other.right


def _in_order(words: Sequence[dict[str, Any]], width: float, column: int = 0) -> list[_Line]:
    """Lines from top to bottom; where a page has columns, those of one column before those of the next."""
    rows = _rows(words)
    gutter = _gutter(rows)
    if gutter is None:
        return [_line(row, column) for row in rows]
    ordered: list[_Line] = []
    left: list[dict[str, Any]] = []
    right: list[dict[str, Any]] = []

    def flush() -> None:
        for number, half in enumerate((left, right)):
            if half:
                ordered.extend(_in_order(half, width / 2, 2 * column + 1 + number))
                half.clear()

    for row in rows:
        if _bridges(row, gutter):
            flush()
            ordered.append(_line(row, column))
        else:
            left += [word for word in row if word["x1"] <= gutter + 2]
            right += [word for word in row if word["x1"] > gutter + 2]
    flush()
    return ordered


def _rows(words: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Words that stand on one base line, from left to right."""
    rows: list[list[dict[str, Any]]] = []
    for word in sorted(words, key=lambda word: (word["bottom"], word["x0"])):
        for row in rows[-3:]:
            height = min(word["bottom"] - word["top"], row[0]["bottom"] - row[0]["top"])
            overlap = min(word["bottom"], max(one["bottom"] for one in row)) - max(word["top"], min(one["top"] for one in row))
            if overlap > 0.5 * height:
                row.append(word)
                break
        else:
            rows.append([word])
    for row in rows:
        row.sort(key=lambda word: word["x0"])
    return sorted(rows, key=lambda row: min(word["top"] for word in row))


def _gutter(rows: list[list[dict[str, Any]]]) -> float | None:
    """Where the white stripe between two columns of prose is; None when there is none."""
    gaps: Counter[int] = Counter()
    for row in rows:
        for before, after in pairwise(row):
            space = after["x0"] - before["x1"]
            if space > 0.8 * before["size"]:
                for position in range(int(before["x1"]) + 1, int(after["x0"]) + 1):
                    gaps[position] += 1
    if not gaps:
        return None
    most = max(gaps.values())
    best = sorted(position for position, count in gaps.items() if count >= 0.9 * most)
    gutter = best[len(best) // 2] + 0.0
    both = [row for row in rows if row[0]["x1"] < gutter < row[-1]["x0"] and not _bridges(row, gutter)]
    if len(both) < 5 or len(both) < 0.35 * len(rows):
        return None
    left = statistics.mean(sum(word["x1"] <= gutter for word in row) for row in both)
    right = statistics.mean(sum(word["x0"] >= gutter for word in row) for row in both)
    return gutter if min(left, right) >= 3 else None


def _bridges(row: list[dict[str, Any]], gutter: float) -> bool:
    """Whether a row runs on across the gutter, as a title does."""
    return any(word["x0"] < gutter - 2 and word["x1"] > gutter + 2 for word in row) or any(
        before["x1"] <= gutter + 2 and after["x0"] >= gutter - 2 and after["x0"] - before["x1"] <= 0.6 * before["size"]
        for before, after in pairwise(row)
    )


def _line(row: list[dict[str, Any]], column: int) -> _Line:
    cells: list[tuple[float, float, str]] = []
    for word in row:
        text = _named(word["text"])
        if cells and word["x0"] - cells[-1][1] <= max(1.0 * word["size"], 6.0):
            glue = "" if word["x0"] - cells[-1][1] < 0.08 * word["size"] else " "
            cells[-1] = (cells[-1][0], word["x1"], cells[-1][2] + glue + text)
        else:
            cells.append((word["x0"], word["x1"], text))
    if len(cells) == 2 and _LABEL.fullmatch(cells[0][2]):
        cells = [(cells[0][0], cells[1][1], f"{cells[0][2]} {cells[1][2]}")]
    sizes = Counter({round(word["size"], 1): 0 for word in row})
    for word in row:
        sizes[round(word["size"], 1)] += len(word["text"])
    bold = sum(len(word["text"]) for word in row if re.search(r"bold|black|heavy|cmbx|demi", word["fontname"], re.I))
    letters = sum(len(word["text"]) for word in row)
    return _Line(
        cells,
        min(word["top"] for word in row),
        max(word["bottom"] for word in row),
        sizes.most_common(1)[0][0],
        bold > 0.8 * letters,
        column,
        row[1]["x0"] if len(row) > 1 else row[0]["x0"],
        sum(len(word["text"]) for word in row if _MONO.search(word["fontname"])) > 0.9 * letters,
    )


# --- lines -> blocks ---


def _drop_running(pages: list[_Page], notes: Counter[str]) -> None:
    """Drop lines that stand at the same edge of many pages, and page numbers."""
    seen: Counter[str] = Counter()
    for page in pages:
        seen.update({_running_key(line) for line in _edge_lines(page)})
    least = max(3, REPEATED * len(pages))
    dropped = 0
    for page in pages:
        edges = {id(line) for line in _edge_lines(page)}
        lowest = max(page.lines, key=lambda line: line.top, default=None)

        def runs(line: _Line, edges: set[int] = edges, page: _Page = page, lowest: _Line | None = lowest) -> bool:
            shown = line.text.strip()
            numbered = _PAGE_NUMBER.fullmatch(shown) and (len(pages) > 1 or shown.strip("-–— ") == str(page.number))
            if numbered and line is lowest and line.top > 0.75 * page.height:
                return True
            if line is lowest and line.top > 0.9 * page.height and shown.isdigit() and _PAGE_NUMBER.fullmatch(shown):
                return True  # of a page that was taken out of a longer document
            return id(line) in edges and (seen[_running_key(line)] >= least or bool(numbered))

        kept = [line for line in page.lines if not runs(line)]
        dropped += len(page.lines) - len(kept)
        page.lines = kept
    if dropped:
        notes["running headers, footers and page numbers dropped"] += dropped


def _edge_lines(page: _Page) -> list[_Line]:
    return [
        line
        for line in page.lines
        if not line.rows and (line.bottom < MARGIN * page.height or line.top > (1 - MARGIN) * page.height)
    ]


def _running_key(line: _Line) -> str:
    return f"{round(line.top / 6)} {re.sub(r'[0-9]+', '#', line.text)}"


def _drop_contents(pages: list[_Page], notes: Counter[str]) -> None:
    """Drop tables of contents: three entries or more, with dots before their page numbers or below a title that says so.

    They are the headings once more, each far from its text.
    """
    for page in pages:
        kept: list[_Line] = []
        place = 0
        while place < len(page.lines):
            titled = bool(_CONTENTS.fullmatch(page.lines[place].text.strip(" :")))
            end = place + titled
            entries: list[int] = []
            while end < len(page.lines) and not page.lines[end].rows:
                line = page.lines[end]
                if not (_LEADERS.search(line.text) or (titled and line.ends_in_number and _PAGE.fullmatch(line.cells[-1][2]))):
                    break
                number = int(re.findall(r"(?<!\d)\d++$", line.text)[0])
                if entries and number < entries[-1]:
                    break
                entries.append(number)
                end += 1
            if len(entries) >= 3:
                notes["tables of contents left out"] += 1
                place = end
            else:
                kept.append(page.lines[place])
                place += 1
        page.lines = kept


def _content(pages: list[_Page], outline: dict[str, int], notes: Counter[str], title: str) -> Content:
    letters: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            letters[line.size] += len(line.text) if not line.rows else 0
    body = letters.most_common(1)[0][0] if letters else 0.0
    larger = sorted((size for size in letters if size >= LARGER * body), reverse=True)
    ranks = list(accumulate((before > 1.05 * after for before, after in pairwise(larger)), initial=0))
    levels = {size: min(4, rank + 1) for size, rank in zip(larger, ranks, strict=False)}
    vocabulary = {word.casefold() for page in pages for line in page.lines for word in re.findall(r"[\w-]+", line.text)}
    typed = 2 * sum(len(line.text) for page in pages for line in page.lines if line.mono) > sum(letters.values())
    outlined = sum(_key(line.text) in outline for page in pages for line in page.lines) >= max(1, len(outline) // 2)

    def level_of(line: _Line, alone: bool) -> int:
        text = line.text.strip()
        if line.ends_in_number or _LONG_NUMBER.search(text) or _SUM.search(text):
            return 0
        if outline and outlined:
            return outline.get(_key(text), 0) if line.size >= body or line.bold else 0
        if (
            len(line.cells) > 2
            or not re.search(r"[^\W\d_]{2}", text)
            or len(text.split()) > MAX_HEADING_WORDS
            or (_BULLET.match(text) and not line.bold)
        ):
            return 0
        if line.size in levels:
            return levels[line.size]
        if (
            line.bold
            and alone
            and len(line.cells) == 1
            and line.size >= body
            and len(text.split()) <= 12
            and not text.endswith((".", ":", ";", ","))
        ):
            return min(5, len(set(levels.values())) + 1)
        return 0

    parts: list[tuple[str, list[Block]]] = []
    open_table: _Line | None = None
    for page in pages:
        blocks: list[Block] = []
        groups = list(_groups(page.lines))
        for place, group in enumerate(groups):
            first = group[0]
            if first.rows and place == 0 and open_table is not None and _goes_on(open_table, first):
                first.rows.insert(0, open_table.rows[0])
            if len(first.rows) > 1:
                blocks.append(table(first.rows))
            elif first.rows:
                blocks.append(paragraph(" ".join(filter(None, first.rows[0]))))
            else:
                for is_code, part in groupby(group, lambda line: line.mono and not typed and line.size not in levels):
                    found = list(part)
                    blocks += [_code(found)] if is_code else _text_blocks(found, level_of, vocabulary)
        if groups:
            open_table = groups[-1][0] if len(groups[-1][0].rows) > 1 else None
        parts.append((f"p. {page.number}", blocks))
    breaks = _join_pages(parts, vocabulary)
    content = _with_breaks(assemble(parts, notes), breaks)
    if "\ufffd" in content.text:
        notes["letters that the PDF does not name"] += content.text.count("\ufffd")
    titled = content.title if any(found.level == 1 for found in content.headings) else ""
    given = (
        ""
        if re.search(r"\.(?:docx?|tex|indd|pptx?|pdf|dvi|odt)$|^untitled|^microsoft word", title.strip(), re.I)
        else title.strip()
    )
    return content.with_title(titled or given or content.title)


def _groups(lines: list[_Line]) -> Iterator[list[_Line]]:
    """Lines that belong together: a table that rules were drawn around, cells that stand in columns, or running text."""
    place = 0
    text: list[_Line] = []
    while place < len(lines):
        if lines[place].rows:
            if text:
                yield text
                text = []
            yield [lines[place]]
            place += 1
            continue
        end = place
        while end < len(lines) and not lines[end].rows and len(lines[end].cells) > 1 and lines[end].column == lines[place].column:
            end += 1
        rows = _aligned(lines[place:end]) if end - place >= 3 else None
        if rows:
            if text:
                yield text
                text = []
            yield [_Line(lines[place].cells, lines[place].top, lines[end - 1].bottom, 0.0, False, rows=rows)]
            place = end
        else:
            text.append(lines[place])
            place += 1
    if text:
        yield text


def _aligned(lines: list[_Line]) -> list[list[str]] | None:
    """The rows of a table without rules, if the cells of some lines stand in columns; None when they do not."""
    spans = sorted((left, right) for line in lines for left, right, _ in line.cells)
    columns: list[list[float]] = []
    for left, right in spans:
        if columns and left <= columns[-1][1] + 2:
            columns[-1][1] = max(columns[-1][1], right)
        else:
            columns.append([left, right])
    if len(columns) < 2 or (len(columns) == 2 and len(lines) < 4):
        return None
    rows = []
    for line in lines:
        row = [""] * len(columns)
        for left, _, text in line.cells:
            number = next(number for number, (first, last) in enumerate(columns) if first <= left <= last)
            row[number] = f"{row[number]} {text}".strip()
        rows.append(row)
    filled = sum(bool(cell) for row in rows for cell in row)
    words = statistics.mean(len(cell.split()) for row in rows for cell in row if cell)
    # Under a header in every column, cells may be empty.
    least = 0.4 if len(columns) > 2 and all(rows[0]) else 0.6
    return rows if filled >= least * len(rows) * len(columns) and words <= 6 else None


def _goes_on(before: _Line, after: _Line) -> bool:
    """Whether the table at the top of a page is the rest of the one at the end of the page before, without its header.

    It has the same columns in the same place. A row of words above columns of numbers is a header of its own.
    """
    header, first = before.rows[0], after.rows[0]
    ruled = not (before.text or after.text)
    if len(header) != len(first) or abs(before.left - after.left) > 3 or (ruled and abs(before.right - after.right) > 3):
        return False
    if [_key(cell) for cell in header] == [_key(cell) for cell in first]:
        return False
    for number, cell in enumerate(first):
        above = [row[number] for row in before.rows[1:] if row[number]]
        if cell and not _is_number(cell) and above and all(map(_is_number, above)):
            return False
    return True


def _is_number(cell: str) -> bool:
    return bool(re.search(r"\d", cell)) and not re.search(r"[^\W\d_]{3}", cell)


def _code(lines: list[_Line]) -> Block:
    """Lines in a typewriter's font, indented as they stand."""
    letter = min((line.right - line.left) / max(1, len(line.text)) for line in lines) or 1.0
    edge = min(line.left for line in lines)
    height = min((after.top - before.top for before, after in pairwise(lines) if after.top > before.top), default=0.0)
    shown = []
    for before, line in pairwise([None, *lines]):
        if line is None:
            continue
        if before and height and line.top - before.top > 1.7 * height:
            shown.append("")
        shown.append(" " * round((line.left - edge) / letter) + line.text)
    return code_block("\n".join(shown))


def _text_blocks(lines: list[_Line], level_of: Any, vocabulary: set[str]) -> list[Block]:
    blocks: list[Block] = []
    open_text = ""
    lists = _Lists(blocks)
    steps = sorted(after.top - before.top for before, after in pairwise(lines) if after.top > before.top)
    leading = steps[len(steps) // 4] if steps else 12.0
    last: _Line | None = None
    last_level = 0

    def gap_before(place: int) -> bool:
        line, last = lines[place], lines[place - 1] if place else None
        return last is None or line.column != last.column or not 0 <= line.top - last.top <= 1.3 * max(leading, line.size)

    def end() -> None:
        nonlocal open_text
        if open_text and not lists.end_item(open_text):
            blocks.append(paragraph(open_text))
        open_text = ""

    gaps = [gap_before(place) for place in range(len(lines))]
    verses = _verses(lines, gaps)
    for place, line in enumerate(lines):
        after = lines[place + 1] if place + 1 < len(lines) else None
        gap = gaps[place]
        if _ORNAMENT.fullmatch(line.text):
            end()
            last, last_level = line, 0
            continue
        alone = gap and (after is None or after.top - line.top > 1.2 * leading or not after.bold)
        level = level_of(line, alone or bool(line.bold and _NUMBERED.match(line.text)))
        bullet = _BULLET.match(line.text)
        begins = gap or lists.in_item or (place > 0 and _ended_early(lines, place, spare=8)) or last_level > 0
        number = _number_of(lines, place, lists.last_number, begins)
        if level:
            end()
            joined = f"{blocks[-1].text} {line.text}" if blocks else ""
            if (
                last_level == level
                and not gap
                and last is not None
                and last.size == line.size
                and len(joined.split()) <= MAX_HEADING_WORDS
            ):
                blocks[-1] = heading(joined, level)
            else:
                blocks.append(heading(line.text, level))
        elif number or (bullet and line.text[0] in _BULLETS):
            end()
            lists.open_item(line, number)
            open_text = re.sub(r"^\S+\s+", "", line.text)
        elif (
            (bullet and (begins or line.text.startswith("^")))
            or (gap and not (last is not None and line.column != last.column and _runs_on(open_text, line.text)))
            or lists.is_over(line)
        ):
            end()
            open_text = line.text
        elif last and open_text and (_keeps_apart(last, line) or place in verses or _ended_early(lines, place)):
            open_text += "\n" + line.text
        else:
            open_text = _joined(open_text, line.text, vocabulary)
        last, last_level = line, level
    end()
    return blocks


def _keeps_apart(last: _Line, line: _Line) -> bool:
    """Whether two lines are rows of something: sums, words at both edges of the page, or centred lines."""
    centred = abs(last.left + last.right - line.left - line.right) < 3 and abs(last.left - line.left) > line.size
    return last.ends_in_number or line.ends_in_number or len(last.cells) > 1 < len(line.cells) or centred


def _number_of(lines: list[_Line], place: int, last_number: int, begins: bool) -> int:
    """The number of the item that a line begins; 0 when it begins none.

    A list begins with 1 and counts on. A number without a mark is one when the text hangs beside it. Where the line may as well
    go on with a sentence (not `begins`), another must begin with the next number.
    """
    line = lines[place]
    marked = _ITEM.match(line.text)
    found = marked or re.match(r"(\d{1,2})\s+(?=\S)", line.text)
    if not found or int(found[1]) not in (1, last_number + 1):
        return 0
    number = int(found[1])
    below = [other for other in lines[place + 1 :] if other.column == line.column]
    if not marked:
        hangs = bool(below) and 0 < below[0].top - line.top < 2 * line.size and abs(below[0].left - line.text_left) < 2
        return number if hangs and below[0].left > line.left + 2 else 0
    counted = any(
        (next_one := _ITEM.match(other.text)) and int(next_one[1]) == number + 1 and abs(other.left - line.left) < 6
        for other in below
    )
    return number if begins or counted else 0


class _Lists:
    """The list at the end of `blocks`: its items, nested by where they stand."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self.open: list[tuple[float, int, Block]] = []  # left edge, column, list; the innermost last
        self.in_item = False
        self.hangs = False
        self.numbers: dict[int, int] = {}  # of the list of blocks that begins at a place in `blocks` -> its last number
        self.last_number = 0

    def open_item(self, line: _Line, number: int) -> None:
        """Begin an item: in the list that is open, in one inside its last item, or in a new one."""
        if not self.open or self.blocks[-1:] != [self.open[0][2]]:
            self.open = []
            self.hangs = False
        elif self.open[-1][1] != line.column:  # a list goes on in the next column
            self.open = [(line.left, line.column, self.open[0][2])]
        while len(self.open) > 1 and line.left < self.open[-1][0] - 4:
            self.open.pop()
        if self.open and line.left > self.open[-1][0] + 8:
            found = Block("list", start=number or None, tight=True)
            self.open[-1][2].parts[-1].append(found)
            self.open.append((line.left, line.column, found))
        elif not self.open or not self._goes_on(self.open[-1][2], number):
            found = Block("list", start=number or None, tight=True)
            if len(self.open) > 1:
                self.open.pop()
                self.open[-1][2].parts[-1].append(found)
            else:
                self.open = []
                self.blocks.append(found)
            self.open.append((line.left, line.column, found))
        self.in_item = True
        self.label, self.text_left, self.column = line.left, line.text_left, line.column
        self.last_number = number or self.last_number

    @staticmethod
    def _goes_on(found: Block, number: int) -> bool:
        return (
            number == found.start + len(found.parts) if number and found.start is not None else not number and found.start is None
        )

    def is_over(self, line: _Line) -> bool:
        """Whether a line stands left of the text that hangs beside the mark of the open item, and so is no part of it."""
        if not self.in_item or line.column != self.column:
            return False
        hanging = line.left > self.label + 3
        self.hangs = self.hangs or hanging
        return self.hangs and not hanging

    def end_item(self, text: str) -> bool:
        """Put the text into the open item; False when none is open. Numbers that count on inside it begin items, too."""
        if not self.in_item:
            return False
        self.in_item = False
        found = self.open[-1][2]
        while found.start is not None:
            inside = re.search(rf"(?<=[.;:!?])\s+\(?{found.start + len(found.parts) + 1}[.)]\s+(?=\S)", text)
            if not inside:
                break
            found.parts.append([paragraph(text[: inside.start()])])
            text = text[inside.end() :]
            self.last_number = found.start + len(found.parts)
        found.parts.append([paragraph(text)])
        return True


def _verses(lines: list[_Line], gaps: list[bool]) -> set[int]:
    """The places of lines that do not run on from the line before: those of a till's slip, and of paragraphs most of whose lines
    end early and unevenly."""
    found: set[int] = set()
    slip = _is_slip(lines)
    starts = [
        place for place, line in enumerate(lines) if gaps[place] or _ORNAMENT.fullmatch(line.text) or _BULLET.match(line.text)
    ]
    for first, end in pairwise([*starts, len(lines)]):
        if _BULLET.match(lines[first].text):
            continue
        first += bool(_ORNAMENT.fullmatch(lines[first].text))
        block = range(first + 1, end)
        if slip:
            found.update(block)
        elif len(block) >= 3 and not any(lines[place - 1].text.endswith("-") for place in block):
            early = sum(_ended_early(lines, place, around=6, spare=1) for place in block)
            left = min(lines[place].left for place in range(first, end))
            rights = [lines[place].right for place in range(first, end - 1)]
            if early >= 0.5 * len(block) and max(rights) - min(rights) > 0.2 * (max(rights) - left):
                found.update(block)
    return found


def _is_slip(lines: list[_Line]) -> bool:
    """Whether the lines are those of a till's slip: few letters of a typewriter wide."""
    typed = [line for line in lines if line.mono and line.right > line.left]
    if not typed or len(typed) < 0.8 * len(lines):
        return False
    letter = min((line.right - line.left) / len(line.text) for line in typed)
    return max(line.right for line in typed) - min(line.left for line in typed) < 48 * letter


def _ended_early(lines: list[_Line], place: int, around: int = 4, spare: int = 4) -> bool:
    """Whether the next line's first word would have fitted on the line before, so that its author began a new line.

    The margin is where the lines `around` it end; `spare` letters must be left over.
    """
    last, line = lines[place - 1], lines[place]
    if last.column != line.column or last.text.endswith("-"):
        return False
    margin = max(one.right for one in lines[max(0, place - around) : place + around] if one.column == last.column)
    letter = (line.right - line.left) / max(1, len(line.text))
    return margin - last.right > letter * (len(line.text.split(" ", 1)[0]) + spare)


def _runs_on(before: str, after: str) -> bool:
    """Whether a sentence goes on in the next column or on the next page."""
    return bool(before) and before.rstrip()[-1:] not in ".!?:" and after[:1].islower()


def _joined(before: str, after: str, vocabulary: set[str]) -> str:
    """Two lines of a paragraph; a word that was divided at the line's end is mended, one that has a hyphen keeps it."""
    if not before:
        return after
    divided = re.search(r"(?<![^\W\d_])([^\W\d_]++)[-\u00ad\u2010]$", before)
    follows = re.match(r"[^\W\d_]+", after)
    if divided and follows and after[:1].islower():
        whole, hyphened = divided[1] + follows[0], f"{divided[1]}-{follows[0]}"
        keeps = hyphened.casefold() in vocabulary and whole.casefold() not in vocabulary
        return before + after if keeps else before[:-1] + after
    return before + ("" if before.endswith(("-", "/")) and after[:1].isalnum() and before[-2:-1].isalnum() else " ") + after


def _join_pages(parts: list[tuple[str, list[Block]]], vocabulary: set[str]) -> list[str]:
    """Join the paragraphs that go on overleaf; the names of the pages that begin inside one, in order, each marked there."""
    inside: list[str] = []
    last: Block | None = None
    for name, blocks in parts:
        if last and blocks and last.kind == blocks[0].kind == "paragraph" and _runs_on(last.text, blocks[0].text):
            overleaf = blocks.pop(0).text
            joined = _joined(last.text, overleaf, vocabulary)
            last.text = joined[: -len(overleaf)] + _PAGE_BREAK + overleaf
            inside.append(name)
        last = blocks[-1] if blocks else last
    return inside


def _with_breaks(content: Content, names: list[str]) -> Content:
    """The content without the marks that `_join_pages` set, and with a place for each."""
    pieces = content.text.split(_PAGE_BREAK)
    starts = list(accumulate(len(piece) for piece in pieces[:-1]))

    def moved(offset: int) -> int:
        return offset - sum(start + number < offset for number, start in enumerate(starts))

    places = [Place(moved(place.offset), place.name) for place in content.places]
    places += [Place(start, name) for start, name in zip(starts, names, strict=True)]
    places.sort(key=lambda place: place.offset)
    return replace(
        content,
        text="".join(pieces),
        headings=tuple(replace(found, offset=moved(found.offset)) for found in content.headings),
        places=tuple(place for number, place in enumerate(places) if not number or place.name != places[number - 1].name),
    )
