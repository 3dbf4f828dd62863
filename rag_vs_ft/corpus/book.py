"""A plain-text book -> its chapters: Project Gutenberg's header and footer removed, split at BOOK and CHAPTER headings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rag_vs_ft.corpus.text import NotText, decode, escape_block_start, normalise
from rag_vs_ft.errors import UserError

PART_CHARACTERS = 20_000
"""Size of the parts of a book in which no chapters are recognised; a part ends at a paragraph."""

_START = re.compile(r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK[^\n]*(?:\n[^\n]+)?\*\*\*[ \t]*$", re.M | re.I)
_END = re.compile(
    r"^(?:End of (?:the )?Project Gutenberg[^\n]*\n\s*)?\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK", re.M | re.I
)
_TITLE = re.compile(r"^Title:[ \t]*(.+)$", re.M)
_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen"
    "|nineteen|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?"
    "|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last"
)
_NUMBER = rf"(?:the[ \t]+)?(?:[ivxlc]+|\d+|{_WORDS})"
_LINE = (
    rf"[ \t]*(?:(?P<book>(?:book|part|volume)[ \t]+{_NUMBER}|(?:(?:first|second|third)[ \t]+)?epilogue)"
    rf"|(?P<chapter>(?:chapter|letter)[ \t]+{_NUMBER}|prologue))(?:[.:—–-][^\n]{{0,100}})?[ \t]*$"
)
# A heading has an empty line above it; a sentence that happens to begin with the word has not.
_HEADING = re.compile(r"(?:\A|(?<=\n\n))" + _LINE, re.M | re.I)
_LISTED = re.compile("^" + _LINE, re.M | re.I)


@dataclass(frozen=True, slots=True)
class BookPart:
    """One chapter, or one part of a book without chapters: a stable id, a title, its text as Markdown."""

    id: str
    title: str
    text: str


def split(data: bytes, name: str) -> tuple[list[BookPart], list[str]]:
    """The parts of a book in order, and notices of what was done that a reader should know.

    Ids are `book-01/chapter-03` (`chapter-03` in a book without books); the text before the first chapter is `front`.
    A book without recognisable chapters becomes `part-001` and so on. Raises UserError when the file is not text or
    holds none.
    """
    try:
        raw, replaced = decode(data)
    except NotText as error:
        raise UserError(f"{name} is not a text file: {error}", "give a plain-text book (Project Gutenberg: .txt)") from error
    text = normalise(raw)
    notices = ["bytes that are not UTF-8 replaced"] if replaced else []
    start, end = _START.search(text), _END.search(text)
    if start or end:
        notices.append("Project Gutenberg header and footer left out")
    titled = _TITLE.search(text[: start.start()]) if start else None
    title = titled.group(1).strip() if titled else name.rpartition(".")[0] or name
    body = text[start.end() if start else 0 : end.start() if end else len(text)]
    if not body.strip():
        raise UserError(f"{name} holds no text", "check the file")
    parts = _chapters(body, title)
    if not parts:
        parts = _fixed(body, title)
        notices.append(f"no chapters recognised: split into parts of about {PART_CHARACTERS:,} characters")
    return parts, notices


def _chapters(body: str, title: str) -> list[BookPart]:
    """One part a heading that has text below it; a book's heading numbers the chapters below it."""
    headings = list(_HEADING.finditer(body))
    ends = [*(heading.start() for heading in headings[1:]), len(body)]
    contents = [body[heading.end() : end] for heading, end in zip(headings, ends, strict=False)]
    # Below a heading of a table of contents there are only other headings.
    told = [bool(_LISTED.sub("", content).strip()) for content in contents]
    if not any(told):
        return []
    parts = [_part("front", title, body[: headings[0].start()])]
    books = chapters = 0
    book = ""
    for place, (heading, content) in enumerate(zip(headings, contents, strict=True)):
        line = " ".join(heading.group().split())
        if heading["book"]:
            last = next((later for later in range(place + 1, len(headings)) if headings[later]["book"]), len(headings))
            if any(told[place:last]):
                books, chapters, book = books + 1, 0, line
                parts.append(_part(f"book-{books:02d}/front", line, content))
        elif told[place]:
            chapters += 1
            folder = f"book-{books:02d}/" if books else ""
            parts.append(_part(f"{folder}chapter-{chapters:02d}", f"{book}, {line}" if book else line, content))
    return [part for part in parts if part.text]


def _fixed(body: str, title: str) -> list[BookPart]:
    """Parts of about PART_CHARACTERS, cut between paragraphs (a longer paragraph stays whole)."""
    groups: list[list[str]] = [[]]
    size = 0
    for paragraph in re.split(r"\n[ \t]*\n", body):
        if size and size + len(paragraph) > PART_CHARACTERS:
            groups.append([])
            size = 0
        groups[-1].append(paragraph)
        size += len(paragraph)
    numbered = enumerate((group for group in groups if "".join(group).strip()), start=1)
    return [_part(f"part-{number:03d}", f"{title}, part {number}", "\n\n".join(group)) for number, group in numbered]


def _part(key: str, title: str, content: str) -> BookPart:
    """A part whose text is its title as a heading and its paragraphs; no text when there are none."""
    lines = [escape_block_start(line.strip()) for line in content.strip().split("\n")]
    paragraphs = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    return BookPart(key, title, f"# {title}\n\n{paragraphs}\n" if paragraphs else "")
