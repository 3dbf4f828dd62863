"""The lines of all pages -> the document: headings by outline or font, paragraphs, lists, code and tables, page by page."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, groupby, pairwise
from typing import Any

from rag_vs_ft.corpus.markdown.blocks import Block, code_block, table
from rag_vs_ft.corpus.pdf.lines import BULLETS, PdfLine, PdfPage
from rag_vs_ft.corpus.readers import Content
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
_BULLET = re.compile(rf"[{BULLETS}]\s+|\(?(?:\d{{1,2}}|[a-z])[.)]\s+|\^(?:\d{{1,2}}|[a-z]\b)")
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
_LONG_NUMBER = re.compile(r"\d{9}")
_SUM = re.compile(r"[$€£¥]\s?-?\d[\d.,]*$")
_NUMBERED = re.compile(r"(?:\d{1,2}\.){1,4}\d{0,2}\s+\S|(?:chapter|section|appendix)\s+\w+", re.I)
_PAGE_BREAK = "\uf8ff"
"""Stands in a paragraph where the next page begins; a private letter, which no text of a page keeps."""


def heading_key(text: str) -> str:
    """A heading without numbers, spaces, signs and case: the outline and the page may differ in these."""
    return re.sub(r"[\W_]+", "", re.sub(r"^[\d.]+\s", "", text.strip())).casefold()


def drop_running(pages: list[PdfPage], notes: Counter[str]) -> None:
    """Drop lines that stand at the same edge of many pages, and page numbers."""
    seen: Counter[str] = Counter()
    for page in pages:
        seen.update({_running_key(line) for line in _edge_lines(page)})
    least = max(3, REPEATED * len(pages))
    dropped = 0
    for page in pages:
        edges = {id(line) for line in _edge_lines(page)}
        lowest = max(page.lines, key=lambda line: line.top, default=None)

        def runs(line: PdfLine, edges: set[int] = edges, page: PdfPage = page, lowest: PdfLine | None = lowest) -> bool:
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


def _edge_lines(page: PdfPage) -> list[PdfLine]:
    return [
        line
        for line in page.lines
        if not line.rows and (line.bottom < MARGIN * page.height or line.top > (1 - MARGIN) * page.height)
    ]


def _running_key(line: PdfLine) -> str:
    return f"{round(line.top / 6)} {re.sub(r'[0-9]+', '#', line.text)}"


def drop_contents(pages: list[PdfPage], notes: Counter[str]) -> None:
    """Drop tables of contents: three entries or more, with dots before their page numbers or below a title that says so.

    They are the headings once more, each far from its text.
    """
    for page in pages:
        kept: list[PdfLine] = []
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


def content_of(pages: list[PdfPage], outline: dict[str, int], notes: Counter[str], title: str) -> Content:
    """The document that the lines of these pages make, each page a place.

    `outline` has the level of each heading by its `heading_key`, empty where the file has none; `title` is what the file says.
    """
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
    outlined = sum(heading_key(line.text) in outline for page in pages for line in page.lines) >= max(1, len(outline) // 2)

    def level_of(line: PdfLine, alone: bool) -> int:
        text = line.text.strip()
        if line.ends_in_number or _LONG_NUMBER.search(text) or _SUM.search(text):
            return 0
        if outline and outlined:
            return outline.get(heading_key(text), 0) if line.size >= body or line.bold else 0
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
    open_table: PdfLine | None = None
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


def _groups(lines: list[PdfLine]) -> Iterator[list[PdfLine]]:
    """Lines that belong together: a table that rules were drawn around, cells that stand in columns, or running text."""
    place = 0
    text: list[PdfLine] = []
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
            yield [PdfLine(lines[place].cells, lines[place].top, lines[end - 1].bottom, 0.0, False, rows=rows)]
            place = end
        else:
            text.append(lines[place])
            place += 1
    if text:
        yield text


def _aligned(lines: list[PdfLine]) -> list[list[str]] | None:
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


def _goes_on(before: PdfLine, after: PdfLine) -> bool:
    """Whether the table at the top of a page is the rest of the one at the end of the page before, without its header.

    It has the same columns in the same place. A row of words above columns of numbers is a header of its own.
    """
    header, first = before.rows[0], after.rows[0]
    ruled = not (before.text or after.text)
    if len(header) != len(first) or abs(before.left - after.left) > 3 or (ruled and abs(before.right - after.right) > 3):
        return False
    if [heading_key(cell) for cell in header] == [heading_key(cell) for cell in first]:
        return False
    for number, cell in enumerate(first):
        above = [row[number] for row in before.rows[1:] if row[number]]
        if cell and not _is_number(cell) and above and all(map(_is_number, above)):
            return False
    return True


def _is_number(cell: str) -> bool:
    return bool(re.search(r"\d", cell)) and not re.search(r"[^\W\d_]{3}", cell)


def _code(lines: list[PdfLine]) -> Block:
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


def _text_blocks(lines: list[PdfLine], level_of: Any, vocabulary: set[str]) -> list[Block]:
    blocks: list[Block] = []
    open_text = ""
    lists = _Lists(blocks)
    steps = sorted(after.top - before.top for before, after in pairwise(lines) if after.top > before.top)
    leading = steps[len(steps) // 4] if steps else 12.0
    last: PdfLine | None = None
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
        elif number or (bullet and line.text[0] in BULLETS):
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


def _keeps_apart(last: PdfLine, line: PdfLine) -> bool:
    """Whether two lines are rows of something: sums, words at both edges of the page, or centred lines."""
    centred = abs(last.left + last.right - line.left - line.right) < 3 and abs(last.left - line.left) > line.size
    return last.ends_in_number or line.ends_in_number or len(last.cells) > 1 < len(line.cells) or centred


def _number_of(lines: list[PdfLine], place: int, last_number: int, begins: bool) -> int:
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

    def open_item(self, line: PdfLine, number: int) -> None:
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

    def is_over(self, line: PdfLine) -> bool:
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


def _verses(lines: list[PdfLine], gaps: list[bool]) -> set[int]:
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


def _is_slip(lines: list[PdfLine]) -> bool:
    """Whether the lines are those of a till's slip: few letters of a typewriter wide."""
    typed = [line for line in lines if line.mono and line.right > line.left]
    if not typed or len(typed) < 0.8 * len(lines):
        return False
    letter = min((line.right - line.left) / len(line.text) for line in typed)
    return max(line.right for line in typed) - min(line.left for line in typed) < 48 * letter


def _ended_early(lines: list[PdfLine], place: int, around: int = 4, spare: int = 4) -> bool:
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
