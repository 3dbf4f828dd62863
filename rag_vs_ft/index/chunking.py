"""Heading-aware chunks, sized in the embedding model's own tokens.

A document is cut where its author cut it: at headings first, then between blocks (paragraph, list item, table row, code block).
Only a block that is larger than a chunk is cut inside, by langchain-text-splitters; a cut table repeats its header row and a cut
code block its fence, so that every piece reads as what it is.
"""

from __future__ import annotations

import textwrap
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from rag_vs_ft.errors import UserError
from rag_vs_ft.records import Chunk, Document, sha256_text

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

VERSION = 2
"""Raised whenever the same document and settings would give other chunks: an index of another version is rebuilt."""

LONGEST_UNIT = 20_000
"""Characters given to the size splitter at once: its time grows faster than the length of an unbroken line."""

SPECIAL_TOKENS = 2
"""What a BERT-like embedding model puts around a text: [CLS] and [SEP]."""

Encode = Callable[[str], Sequence[tuple[int, int]]]
"""Text -> the character range (start, end) of each of its tokens, special tokens left out."""


@dataclass(frozen=True, slots=True)
class Chunker:
    """How documents are cut: at most `size` tokens of text, for a model that reads `limit` tokens, breadcrumb included."""

    size: int = 200
    limit: int = 256

    def __post_init__(self) -> None:
        if not 32 <= self.size <= self.limit - 16:
            raise UserError(
                f"chunk size {self.size} is outside 32..{self.limit - 16} tokens",
                f"the embedding model reads {self.limit} tokens, of which 16 at least are kept for the title",
            )

    def to_json(self) -> dict[str, Any]:
        """What an index manifest records of the chunker."""
        return {"version": VERSION, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range of the document that stays together, its tokens, and what is repeated around it when it is shown."""

    start: int
    end: int
    tokens: int
    before: str = ""
    after: str = ""


def chunk_document(document: Document, chunker: Chunker, encode: Encode) -> list[Chunk]:
    """Cut one document into chunks, in reading order.

    An id depends on the document's id, the headings above and the text alone, so it survives edits elsewhere in the document.
    """
    text = document.text
    # One encoding of the whole document gives the tokens of any range that begins and ends at white space, because WordPiece
    # splits there first.
    token_starts = [start for start, _ in encode(text)]

    def count(start: int, end: int) -> int:
        return bisect_left(token_starts, end) - bisect_left(token_starts, start)

    chunks: list[Chunk] = []
    seen: Counter[str] = Counter()
    for heading, blocks in _sections(document):
        chunk = Chunk("", document.id, document.title, heading, "", 0, 0, 0, document.url, document.service, document.date)
        overhead = SPECIAL_TOKENS + len(encode(fitted_breadcrumb(chunk.breadcrumb, chunker, encode)))
        room = min(chunker.size, chunker.limit - overhead)
        pieces = [piece for block in blocks for piece in _pieces(text, block, room, count, encode)]
        for start, end, shown, tokens in _packed(text, pieces, room):
            identity = sha256_text(f"{document.id}\0{heading}\0{shown}")
            seen[identity] += 1
            chunks.append(
                replace(
                    chunk,
                    id=sha256_text(f"{identity}\0{seen[identity]}")[:16],
                    text=shown,
                    start=start,
                    end=end,
                    tokens=overhead + tokens,
                )
            )
    return chunks


def fitted_breadcrumb(breadcrumb: str, chunker: Chunker, encode: Encode) -> str:
    """The breadcrumb as it is embedded: cut at a token so that `chunker.size` tokens of text still fit beside it."""
    ranges = encode(breadcrumb)
    allowed = chunker.limit - chunker.size - SPECIAL_TOKENS
    return breadcrumb if len(ranges) <= allowed else breadcrumb[: ranges[allowed - 1][1]]


def embedded_text(chunk: Chunk, chunker: Chunker, encode: Encode) -> str:
    """What the embedding model reads of a chunk: its breadcrumb on one line, then its text; never over `chunker.limit` tokens."""
    return f"{fitted_breadcrumb(chunk.breadcrumb, chunker, encode)}\n{chunk.text}"


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    # Only blocks matter here; inline parsing is four fifths of the time.
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


@dataclass(frozen=True, slots=True)
class _Block:
    """A node of the syntax tree with the character range of its lines."""

    kind: str
    start: int
    end: int
    children: tuple[_Block, ...]


def _sections(document: Document) -> Iterator[tuple[str, list[_Block]]]:
    """Yield (heading path, blocks) for every stretch between headings that holds text."""
    from markdown_it.tree import SyntaxTreeNode

    lines = [0, *accumulate(len(line) + 1 for line in document.text.split("\n"))]
    headings = {heading.offset: heading for heading in document.headings}
    path: list[tuple[int, str]] = []
    blocks: list[_Block] = []
    first_h1 = True
    for node in SyntaxTreeNode(_parser().parse(document.text)).children:
        block = _block(node, lines, len(document.text))
        if node.type != "heading":
            blocks.append(block)
            continue
        if blocks:
            yield " > ".join(text for _, text in path), blocks
            blocks = []
        level = int(node.tag[1])
        known = headings.get(block.start)
        title = known.text if known else document.text[block.start : block.end].strip("# \n")
        path = [entry for entry in path if entry[0] < level]
        # The first H1 is the page's title over again, in Microsoft Learn as elsewhere.
        if not (level == 1 and first_h1):
            path.append((level, title))
        first_h1 = first_h1 and level != 1
    if blocks:
        yield " > ".join(text for _, text in path), blocks


def _block(node: SyntaxTreeNode, lines: list[int], length: int) -> _Block:
    first, last = node.map or (0, 0)
    children = tuple(_block(child, lines, length) for child in node.children if child.map and child.type != "inline")
    return _Block(node.type, min(lines[first], length), min(lines[last], length), children)


def _pieces(text: str, block: _Block, room: int, count: Callable[[int, int], int], encode: Encode) -> Iterator[_Piece]:
    """Yield the largest ranges of a block that fit into `room` tokens and cut nothing that must stay whole."""
    tokens = count(block.start, block.end)
    if tokens <= room:
        if text[block.start : block.end].strip():
            yield _Piece(block.start, block.end, tokens)
    elif block.kind == "table":
        yield from _table_pieces(text, block, room, count, encode)
    elif block.kind in ("fence", "code_block"):
        yield from _fence_pieces(text, block, room, encode)
    elif block.children and block.kind in ("bullet_list", "ordered_list", "list_item", "blockquote"):
        for child in block.children:
            yield from _pieces(text, child, room, count, encode)
    else:
        yield from _split(text, block.start, block.end, room, encode)


def _table_pieces(text: str, table: _Block, room: int, count: Callable[[int, int], int], encode: Encode) -> Iterator[_Piece]:
    """Groups of whole rows; every group but the first repeats the header row and the delimiter row under it."""
    rows = [row for part in table.children for row in part.children if part.kind == "tbody"]
    head_end = rows[0].start if rows else table.end
    header = text[table.start : head_end]
    header_tokens = count(table.start, head_end)
    if header_tokens > room // 2:  # a header that leaves no room for rows is text like any other
        yield from _split(text, table.start, table.end, room, encode)
        return
    start, used = table.start, header_tokens
    for row in rows:
        tokens = count(row.start, row.end)
        if used + tokens > room and row.start > max(start, head_end):
            yield _Piece(start, row.start, used, before="" if start == table.start else header)
            start, used = row.start, header_tokens
        if header_tokens + tokens > room:
            for piece in _split(text, row.start, row.end, room - header_tokens, encode):
                yield replace(piece, tokens=piece.tokens + header_tokens, before=header)
            start, used = row.end, header_tokens
        else:
            used += tokens
    if start < table.end and text[start : table.end].strip():
        yield _Piece(start, table.end, used, before="" if start == table.start else header)


def _fence_pieces(text: str, fence: _Block, room: int, encode: Encode) -> Iterator[_Piece]:
    """Runs of whole lines of a code block too large for a chunk, each inside the fence of its own."""
    source = text[fence.start : fence.end]
    opening = source.split("\n", 1)[0]
    mark = opening.strip()[:3]
    if mark not in ("```", "~~~"):  # indented code
        yield from _split(text, fence.start, fence.end, room, encode)
        return
    close = opening.lstrip()[: len(opening.lstrip()) - len(opening.lstrip().lstrip(mark[0]))]
    body_start = fence.start + len(opening) + 1
    body_end = fence.end
    last = source.rstrip().rsplit("\n", 1)[-1]
    if last.strip().startswith(close) and not last.strip().strip(mark[0]):
        body_end = fence.start + len(source.rstrip()) - len(last)
    around = len(encode(opening)) + len(encode(close))
    for piece in _split(text, body_start, body_end, max(16, room - around), encode):
        yield replace(piece, tokens=piece.tokens + around, before=opening.strip() + "\n", after="\n" + close)


def _split(text: str, start: int, end: int, room: int, encode: Encode) -> Iterator[_Piece]:
    """Cut a range that must be cut: at blank lines, lines, sentences, words, and only then inside a word."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        chunk_size=room,
        chunk_overlap=0,
        length_function=lambda part: len(encode(part)),
        separators=["\n\n", "\n", ". ", "; ", ", ", " ", ""],
        keep_separator="end",
        strip_whitespace=False,
    )
    position = start
    for unit_start in range(start, end, LONGEST_UNIT):
        for part in splitter.split_text(text[unit_start : min(end, unit_start + LONGEST_UNIT)]):
            if body := part.lstrip():
                # A separator without tokens of its own may be given twice: at the end of a part and before the next one.
                found = text.index(body, position, end)
                first, position = max(position, found - (len(part) - len(body))), found + len(body)
                yield _Piece(first, position, len(encode(text[first:position])))


def _packed(text: str, pieces: list[_Piece], room: int) -> Iterator[tuple[int, int, str, int]]:
    """Join neighbouring pieces into chunks of about equal size; yield (start, end, shown text, tokens)."""
    total = sum(piece.tokens for piece in pieces)
    target = total / max(1, -(-total // room))
    group: list[_Piece] = []
    used = 0
    for piece in [*pieces, None]:
        full = piece is None or used + piece.tokens > room or used >= target
        if group and full:
            shown = _shown(text, group)
            if shown:
                yield group[0].start, group[-1].end, shown, used
            group, used = [], 0
        if piece is not None:
            group.append(piece)
            used += piece.tokens


def _shown(text: str, group: list[_Piece]) -> str:
    """The text of joined pieces: neighbours as one slice, repeated headers and fences where they are needed."""
    runs: list[list[_Piece]] = []
    for piece in group:
        # What stands between blocks and is no block (link reference definitions) was not counted, and is not shown.
        if runs and not (piece.before or runs[-1][-1].before or text[runs[-1][-1].end : piece.start].strip()):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    parts = []
    for run in runs:
        body = textwrap.dedent(text[run[0].start : run[-1].end]).strip("\n").rstrip()
        parts.append(f"{run[0].before}{body}{run[0].after}")
    return "\n\n".join(part for part in parts if part.strip())
