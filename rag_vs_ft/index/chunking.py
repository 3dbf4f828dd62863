"""Heading-aware chunks, sized in the embedding model's own tokens.

A document is cut where its author cut it: at headings first, then between blocks (paragraph, list item, table row, code block).
Only a block that is larger than a chunk is cut inside; a cut table repeats its header row and a cut code block its fence, so that
every piece reads as what it is. Time and memory grow linearly with the document.
"""

from __future__ import annotations

import textwrap
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.errors import UserError
from rag_vs_ft.records import Chunk, Document

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

VERSION = 3
"""Raised whenever the same document and settings would give other chunks: an update then cuts all documents anew."""

STRETCH = 25
"""Characters that count as one token at most. A tokenizer may take a word of any length, or any run of spaces, for one token or
for none; with this, no chunk is longer than `STRETCH` times its size."""

LONGEST_HEADING = 300
"""Characters of a heading or title that a chunk repeats. A longer heading is also text of its section."""

_SEPARATORS = ("\n\n", "\n", ". ", "; ", ", ", " ")
"""Where a block is cut that is too large, best first; only a longer stretch without any is cut inside a word."""

Encode = Callable[[str], Sequence[tuple[int, int]]]
"""Text -> the character range (start, end) of each of its tokens, special tokens left out."""


@dataclass(frozen=True, slots=True)
class Chunker:
    """How documents are cut: at most `size` tokens of text, for a model that reads `limit` tokens, breadcrumb included.

    `around` tokens of the limit are the model's own: special tokens, and the prompt that it puts before a passage.
    """

    size: int = 200
    limit: int = 256
    around: int = 2
    version: int = VERSION

    def __post_init__(self) -> None:
        most = self.limit - 14 - self.around
        if not 32 <= self.size <= most:
            raise UserError(
                f"chunk size {self.size} is outside 32..{most} tokens",
                f"the embedding model reads {self.limit} tokens; {self.limit - most} of them are kept for the title",
            )

    @staticmethod
    def of(size: int | None, limit: int, around: int) -> Chunker:
        """Chunks of `size` tokens; without it as many as fit beside a breadcrumb, up to 200."""
        return Chunker(size or min(200, limit * 25 // 32), limit, around)

    def to_json(self) -> dict[str, Any]:
        """What an index manifest records of the chunker."""
        return asdict(self)


class _Text:
    """A document's text with the starts of its tokens, which give the tokens of any range by two look-ups.

    That is exact for ranges between white space and a tokenizer that splits there first, as WordPiece does.
    """

    def __init__(self, text: str, encode: Encode) -> None:
        self.text = text
        self.starts = token_starts(text, encode)

    def count(self, start: int, end: int) -> int:
        """Tokens that begin in [start, end)."""
        return bisect_left(self.starts, end) - bisect_left(self.starts, start)


def token_starts(text: str, encode: Encode) -> list[int]:
    """Where each token of `text` begins; a longer stretch from one to the next than `STRETCH` is as many tokens as it fills."""
    starts = sorted(start for start, _ in encode(text))
    filled = [position for one, other in pairwise([0, *starts, len(text)]) for position in range(one + STRETCH, other, STRETCH)]
    return sorted([*starts, *filled])


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range of the document that stays together, its tokens, and what is repeated around it when it is shown."""

    start: int
    end: int
    tokens: int
    before: str = ""
    after: str = ""


def chunk_document(document: Document, chunker: Chunker, encode: Encode) -> list[Chunk]:
    """Cut one document into chunks, in reading order; `Chunk.tokens` never exceeds `chunker.limit`.

    An id depends on the document's id, the headings above and the text alone, so it survives edits elsewhere in the document.
    """
    text = _Text(document.text, encode)
    title = _clipped(document.title)
    chunks: list[Chunk] = []
    seen: Counter[str] = Counter()
    for heading, blocks in _sections(document):
        where = (document.url, document.service, document.date, document.kind)
        chunk = Chunk("", document.id, title, heading, "", 0, 0, 0, *where, language=document.language, groups=document.groups)
        for start, end, shown, tokens in _fitting(text, blocks, chunk, chunker, encode):
            identity = files.sha256_text(f"{document.id}\0{heading}\0{shown}")
            seen[identity] += 1
            key = files.sha256_text(f"{identity}\0{seen[identity]}")[:16]
            place = document.place(start, end)
            chunks.append(replace(chunk, id=key, text=shown, start=start, end=end, tokens=tokens, place=place))
    return chunks


def _fitting(
    text: _Text, blocks: list[_Block], chunk: Chunk, chunker: Chunker, encode: Encode
) -> list[tuple[int, int, str, int]]:
    """Cut the blocks of a section: (start, end, shown text, tokens of what is embedded) of each chunk."""
    overhead = chunker.around + len(token_starts(fitted_breadcrumb(chunk.breadcrumb, chunker, encode), encode))
    room = min(chunker.size, chunker.limit - overhead)
    while True:
        pieces = [piece for block in blocks for piece in _pieces(text, block, room, encode)]
        cut = []
        for start, end, shown, counted in _packed(text.text, pieces, room):
            tokens = overhead + counted
            # Other tokenizers than WordPiece may need more tokens for a part than they needed for it within the whole.
            if tokens > chunker.limit * 0.9:
                embedded = embedded_text(replace(chunk, text=shown), chunker, encode)
                tokens = max(tokens, chunker.around + len(encode(embedded)))
            cut.append((start, end, shown, tokens))
        if room <= 16 or all(tokens <= chunker.limit for *_, tokens in cut):
            return cut
        room = room * 4 // 5


def fitted_breadcrumb(breadcrumb: str, chunker: Chunker, encode: Encode) -> str:
    """The breadcrumb as it is embedded: cut at a token so that `chunker.size` tokens of text still fit beside it."""
    starts = token_starts(breadcrumb, encode)
    allowed = chunker.limit - chunker.size - chunker.around
    return breadcrumb if len(starts) <= allowed else breadcrumb[: starts[allowed]].rstrip()


def _clipped(heading: str) -> str:
    return heading if len(heading) <= LONGEST_HEADING else heading[: LONGEST_HEADING - 1] + "…"


def embedded_text(chunk: Chunk, chunker: Chunker, encode: Encode) -> str:
    """What the embedding model reads of a chunk: its breadcrumb on one line, then its text; never over `chunker.limit` tokens."""
    return f"{fitted_breadcrumb(chunk.breadcrumb, chunker, encode)}\n{chunk.text}"


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    # Only blocks matter here; inline parsing is four fifths of the time.
    parser.core.ruler.enableOnly(["normalize", "block"])
    # The readers resolve links. What still looks like the definition of one is text, and would be in no block.
    parser.disable("reference")
    return parser


@dataclass(frozen=True, slots=True)
class _Block:
    """A node of the syntax tree with the character range of its lines."""

    kind: str
    start: int
    end: int
    children: tuple[_Block, ...]


def _sections(document: Document) -> Iterator[tuple[str, list[_Block]]]:
    """Yield (heading path, blocks) for every stretch between headings that holds text, in reading order.

    A heading that has no text below it, nor below the headings under it, is text itself: it belongs to the path above it,
    together with its neighbours of the same kind.
    """
    from markdown_it.tree import SyntaxTreeNode

    lines = [0, *accumulate(len(line) + 1 for line in document.text.split("\n"))]
    headings = {heading.offset: heading for heading in document.headings}
    nodes = SyntaxTreeNode(_parser().parse(document.text)).children
    path: list[tuple[int, str]] = []
    blocks: list[_Block] = []
    bare: list[_Block] = []
    above: list[tuple[int, str]] = []  # the path that `bare` belongs to
    titled, title = False, None
    last: tuple[_Block, int] | None = None  # the heading that `blocks` stand under, and its level
    found = False
    for node in (*nodes, None):
        if node is not None and node.type != "heading":
            blocks.append(_block(node, lines, len(document.text)))
            continue
        level = int(node.tag[1]) if node is not None else 0
        is_bare = not blocks and last is not None and level <= last[1]
        if bare and (blocks or (is_bare and above != path[:-1])):
            yield _joined(above), bare
            bare, found = [], True
        if blocks:
            yield _joined(path), blocks
            blocks, found = [], True
        elif is_bare and last is not None:
            bare.append(last[0])
            above = path[:-1]
        if node is None:
            break
        block = _block(node, lines, len(document.text))
        known = headings.get(block.start)
        text = known.text if known else document.text[block.start : block.end].strip("#=- \n")
        path = [entry for entry in path if entry[0] < level]
        last = None
        # The first H1 is the page's title over again, in Microsoft Learn as elsewhere.
        if level == 1 and not titled:
            titled, title = True, block if text else None
        elif text:
            path.append((level, _clipped(text)))
            last = (block, level)
        if len(text) > LONGEST_HEADING:
            blocks.append(block)
    if bare:
        yield _joined(above), bare
    elif not found and title is not None:
        yield "", [title]


def _joined(path: list[tuple[int, str]]) -> str:
    return " > ".join(text for _, text in path)


def _block(node: SyntaxTreeNode, lines: list[int], length: int) -> _Block:
    first, last = node.map or (0, 0)
    children = tuple(_block(child, lines, length) for child in node.children if child.map and child.type != "inline")
    return _Block(node.type, min(lines[first], length), min(lines[last], length), children)


def _pieces(text: _Text, block: _Block, room: int, encode: Encode) -> Iterator[_Piece]:
    """Yield the largest ranges of a block that fit into `room` tokens and cut nothing that must stay whole."""
    tokens = text.count(block.start, block.end)
    if tokens <= room:
        if text.text[block.start : block.end].strip():
            yield _Piece(block.start, block.end, tokens)
    elif block.kind == "table":
        yield from _table_pieces(text, block, room)
    elif block.kind == "fence":
        yield from _fence_pieces(text, block, room, encode)
    elif block.children and block.kind in ("bullet_list", "ordered_list", "list_item", "blockquote"):
        for child in block.children:
            yield from _pieces(text, child, room, encode)
    else:
        yield from _split(text, block.start, block.end, room)


def _table_pieces(text: _Text, table: _Block, room: int) -> Iterator[_Piece]:
    """Groups of whole rows; every group but the first repeats the header row and the delimiter row under it."""
    rows = [row for part in table.children for row in part.children if part.kind == "tbody"]
    head_end = rows[0].start if rows else table.end
    header = text.text[table.start : head_end]
    header_tokens = text.count(table.start, head_end)
    if header_tokens > room // 2:  # a header that leaves no room for rows is text like any other
        yield from _split(text, table.start, table.end, room)
        return
    start, used = table.start, header_tokens
    for row in rows:
        tokens = text.count(row.start, row.end)
        if used + tokens > room and row.start > max(start, head_end):
            yield _Piece(start, row.start, used, before="" if start == table.start else header)
            start, used = row.start, header_tokens
        if header_tokens + tokens > room:
            for piece in _split(text, row.start, row.end, room - header_tokens):
                yield replace(piece, tokens=piece.tokens + header_tokens, before=header)
            start, used = row.end, header_tokens
        else:
            used += tokens
    if start < table.end and text.text[start : table.end].strip():
        yield _Piece(start, table.end, used, before="" if start == table.start else header)


def _fence_pieces(text: _Text, fence: _Block, room: int, encode: Encode) -> Iterator[_Piece]:
    """Runs of whole lines of a code block too large for a chunk, each inside the fence of its own."""
    source = text.text[fence.start : fence.end]
    opening = source.split("\n", 1)[0]
    mark = opening.strip()[:3]
    fence_marks = opening.lstrip()
    close = fence_marks[: len(fence_marks) - len(fence_marks.lstrip(mark[:1]))]
    around = len(token_starts(opening, encode)) + len(token_starts(close, encode))
    # In a quote the first line does not begin with the fence; a fence of half a chunk is text like any other.
    if mark not in ("```", "~~~") or around > room // 2:
        yield from _split(text, fence.start, fence.end, room)
        return
    body_start = min(fence.start + len(opening) + 1, fence.end)
    body_end = fence.end
    last = source.rstrip().rsplit("\n", 1)[-1]
    if last.strip().startswith(close) and not last.strip().strip(mark[0]):
        body_end = max(body_start, fence.start + len(source.rstrip()) - len(last))
    for piece in _split(text, body_start, body_end, room - around):
        yield replace(piece, tokens=piece.tokens + around, before=opening.strip() + "\n", after="\n" + close)


def _split(text: _Text, start: int, end: int, room: int, level: int = 0) -> Iterator[_Piece]:
    """Cut a range into pieces of at most `room` tokens: at blank lines, lines, sentences, clauses, words, and only then inside.

    Neighbours that fit together stay together. What is blank is left out.
    """
    first = start  # of the parts that wait to be one piece
    for part in _parts(text, start, end, room, level):
        if text.count(first, part.stop) <= room:
            continue
        if first < part.start:
            yield from _whole(text, first, part.start)
        first = part.start
        if text.count(first, part.stop) > room:
            yield from _split(text, first, part.stop, room, level + 1)
            first = part.stop
    yield from _whole(text, first, end)


def _parts(text: _Text, start: int, end: int, room: int, level: int) -> Iterator[range]:
    """The range cut behind each separator of `level`; beyond the last one, at every `room`-th token."""
    if level < len(_SEPARATORS):
        separator = _SEPARATORS[level]
        while (at := text.text.find(separator, start, end)) >= 0:
            yield range(start, at + len(separator))
            start = at + len(separator)
    else:
        inside = text.starts[bisect_left(text.starts, start) : bisect_left(text.starts, end)]
        for cut in inside[room::room]:
            yield range(start, cut)
            start = cut
    yield range(start, end)


def _whole(text: _Text, start: int, end: int) -> Iterator[_Piece]:
    if text.text[start:end].strip():
        yield _Piece(start, end, text.count(start, end))


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
        # Blank lines between blocks were not counted, so a long run of them is not shown.
        if runs and not (piece.before or runs[-1][-1].before or piece.start - runs[-1][-1].end > STRETCH):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    parts = []
    for run in runs:
        body = textwrap.dedent(text[run[0].start : run[-1].end]).strip("\n").rstrip()
        parts.append(f"{run[0].before}{body}{run[0].after}")
    return "\n\n".join(part for part in parts if part.strip())
