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
from itertools import accumulate, pairwise
from typing import Any

from rag_vs_ft.corpus.markdown.blocks import Block, table
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

_PAGE_NUMBER = re.compile(r"(?:page |p\. ?|seite )?[-–— ]*(?:\d{1,4}|[ivxlc]{1,6})[-–— ]*(?:(?:of|/|von) ?\d{1,4})?", re.I)
_BULLET = re.compile(r"[•●▪◦‣∙·–*-]\s+|\(?(?:\d{1,2}|[a-z])[.)]\s+")
_NUMBERED = re.compile(r"(?:\d{1,2}\.){1,4}\d{0,2}\s+\S|(?:chapter|section|appendix)\s+\w+", re.I)
_UNKNOWN_LETTER = re.compile(r"\(cid:\d+\)|\uf8ff")
_PAGE_BREAK = "\uf8ff"
"""Stands in a paragraph where the next page begins; a private letter, which no text of a page keeps."""


@dataclass(slots=True)
class _Line:
    """Words in a row: their text by cells (what wide gaps part), where they stand, and how they are printed."""

    cells: list[tuple[float, float, str]]
    top: float
    bottom: float
    size: float
    bold: bool
    column: int = 0
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
        raise Damaged("PDF", repr(error)[:200]) from error
    pages: list[_Page] = []
    pictures = 0
    for number, page in enumerate(book.pages, start=1):
        try:
            found = _Page(number, float(page.height), _lines(page))
        except Exception as error:  # one bad page costs that page
            notes["pages that cannot be read"] += 1
            if number == len(book.pages) and not pages:
                raise Damaged("PDF", repr(error)[:200]) from error
            continue
        if len(found.lines) < 3 and sum(len(line.text) for line in found.lines) < 20 and page.images:
            pictures += 1
        pages.append(found)
        page.close()
    _drop_running(pages, notes)
    if not any(page.lines for page in pages):
        if pictures:
            raise LeftOut("PDF without a text layer: needs OCR (ocrmypdf IN.pdf OUT.pdf, then add that)")
        return Content("", notes=notes)
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


def _lines(page: Any) -> list[_Line]:
    page = page.dedupe_chars(tolerance=1) if len(page.chars) < 20_000 else page
    words = page.extract_words(x_tolerance_ratio=0.13, y_tolerance=2, use_text_flow=False, extra_attrs=["size", "fontname"])
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
        inside = [word for word in words if _within(word, left, top, right, bottom)]
        if not inside:
            continue
        words = [word for word in words if not _within(word, left, top, right, bottom)]
        rows = [[row[number] for number in columns] for row in rows]
        tables.append(_Line([(left, right, "")], top, bottom, 0.0, False, rows=rows))
    lines = _in_order(words, float(page.width))
    for found in sorted(tables, key=lambda line: line.top):
        place = next((place for place, line in enumerate(lines) if line.top >= found.top and _beside(line, found)), len(lines))
        lines.insert(place, found)
    return lines


def _named(text: str) -> str:
    """Text with U+FFFD for letters that the PDF does not name; code 127 is the bullet of the usual encoding."""
    return _UNKNOWN_LETTER.sub("\ufffd", text.replace("(cid:127)", "•"))


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
        if any(word["x0"] < gutter - 2 and word["x1"] > gutter + 2 for word in row) or _bridges(row, gutter):
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
    return any(
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


def _content(pages: list[_Page], outline: dict[str, int], notes: Counter[str], title: str) -> Content:
    letters: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            letters[line.size] += len(line.text) if not line.rows else 0
    body = letters.most_common(1)[0][0] if letters else 0.0
    larger = sorted((size for size in letters if size >= LARGER * body), reverse=True)
    levels = {size: min(4, rank + 1) for rank, size in enumerate(larger)}
    vocabulary = {word.casefold() for page in pages for line in page.lines for word in re.findall(r"[\w-]+", line.text)}
    outlined = sum(_key(line.text) in outline for page in pages for line in page.lines) >= max(1, len(outline) // 2)

    def level_of(line: _Line, alone: bool) -> int:
        text = line.text.strip()
        if line.ends_in_number:
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
                blocks += _text_blocks(group, level_of, vocabulary)
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


def _text_blocks(lines: list[_Line], level_of: Any, vocabulary: set[str]) -> list[Block]:
    blocks: list[Block] = []
    open_text = ""
    is_item = False
    steps = sorted(after.top - before.top for before, after in pairwise(lines) if after.top > before.top)
    leading = steps[len(steps) // 4] if steps else 12.0
    last: _Line | None = None
    last_level = 0

    def end() -> None:
        nonlocal open_text, is_item
        if open_text:
            item = [paragraph(open_text)]
            if is_item and blocks and blocks[-1].kind == "list":
                blocks[-1].parts.append(item)
            elif is_item:
                blocks.append(Block("list", tight=True, parts=[item]))
            else:
                blocks.extend(item)
        open_text, is_item = "", False

    for place, line in enumerate(lines):
        after = lines[place + 1] if place + 1 < len(lines) else None
        gap = last is None or line.column != last.column or not 0 <= line.top - last.top <= 1.45 * max(leading, line.size)
        alone = gap and (after is None or after.top - line.top > 1.2 * leading or not after.bold)
        level = level_of(line, alone or bool(line.bold and _NUMBERED.match(line.text)))
        bullet = _BULLET.match(line.text)
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
        elif bullet and line.text[0] in "•●▪◦‣∙·–*-":
            end()
            open_text, is_item = line.text[bullet.end() :], True
        elif bullet or (gap and not (last is not None and line.column != last.column and _runs_on(open_text, line.text))):
            end()
            open_text = line.text
        elif last and open_text and (last.ends_in_number or line.ends_in_number or _ended_early(lines, place)):
            open_text += "\n" + line.text
        else:
            open_text = _joined(open_text, line.text, vocabulary)
        last, last_level = line, level
    end()
    return blocks


def _ended_early(lines: list[_Line], place: int) -> bool:
    """Whether the next line's first word would have fitted on the line before, so that its author began a new line."""
    last, line = lines[place - 1], lines[place]
    if last.column != line.column or last.text.endswith("-"):
        return False
    margin = max(one.right for one in lines[max(0, place - 4) : place + 4] if one.column == last.column)
    letter = (line.right - line.left) / max(1, len(line.text))
    return margin - last.right > letter * (len(line.text.split(" ", 1)[0]) + 4)


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
