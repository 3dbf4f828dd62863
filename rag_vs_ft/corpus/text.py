"""Bytes -> text that is safe to store, index and show; and the heading tree of a Markdown text."""

from __future__ import annotations

import codecs
import re
import unicodedata
from functools import cache

from markdown_it import MarkdownIt

from rag_vs_ft.records import Heading

# Controls but tab and newline; zero-width space, word joiner and byte-order mark; soft hyphen; the marks that reorder
# text on the screen; lone surrogates. The zero-width joiners U+200C and U+200D stay: Persian, Hindi and emoji need them.
_REMOVED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)
_NEWLINES = re.compile("\r\n|[\r\x85\u2028\u2029]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


class NotText(ValueError):
    """The bytes are not text."""


def decode(data: bytes) -> tuple[str, bool]:
    """Text of `data` and whether bytes that are not UTF-8 were replaced by U+FFFD; byte-order marks are honoured.

    Raises NotText when there is a NUL byte in the first 8 KB and no UTF-16 mark.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
        return text, "\ufffd" in text
    if b"\0" in data[:8192]:
        raise NotText("a NUL byte in the first 8 KB")
    try:
        return data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        return data.decode("utf-8-sig", errors="replace"), True


def normalise(text: str) -> str:
    """Unicode NFC, line ends as newlines, unusual spaces as spaces; controls, invisible marks and lone surrogates removed."""
    text = _REMOVED.sub("", _NEWLINES.sub("\n", text))
    return unicodedata.normalize("NFC", _SPACES.sub(" ", text))


_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(name: str) -> str:
    """A file name with its controls, line ends and marks of reading direction as escapes (`\\u001b`), so that they do nothing."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", name)


def one_line(value: object) -> str:
    """The value's text with every run of white space as one space."""
    return " ".join(str(value).split())


@cache
def _blocks() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.disable(["inline", "text_join"])
    return parser


@cache
def _inline() -> MarkdownIt:
    return MarkdownIt("commonmark")


def plain_inline(markdown: str) -> str:
    """The text of one line of inline Markdown, without its markup."""
    children = _inline().parseInline(markdown)[0].children or []
    return "".join(token.content or " " * (token.type in ("softbreak", "hardbreak")) for token in children).strip()


def headings_of(text: str) -> tuple[Heading, ...]:
    """The headings of a Markdown text that stand outside lists and quotes (CommonMark block structure), in order.

    `offset` is where the heading's line starts, in characters.
    """
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    tokens = _blocks().parse(text)
    found = []
    for position, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            line = plain_inline(tokens[position + 1].content)
            found.append(Heading(level=int(token.tag[1]), text=line, offset=starts[token.map[0]]))
    return tuple(found)


# What at the start of a line would make a block of something that is text.
_BLOCK_START = re.compile(
    r"#{1,6}(?:\s|$)|[-+*](?:\s|$)|([*_])[ \t]*(?:\1[ \t]*){2,}$|>|"
    r"`{3,}[^`]*$|~{3}|=+\s*$|(?=[|:\s]*-)[|:\s-]*$|<[A-Za-z/!?]|\||\[[^\]]*\]:\s*+\S*+(?:\s+[\"'(].*)?$"
)
_NUMBER_START = re.compile(r"(\d{1,9})([.)])(?=\s|$)")


def escape_block_start(line: str) -> str:
    """A line of text so that CommonMark reads it as text, with a backslash where it would begin a block."""
    if _BLOCK_START.match(line):
        return "\\" + line
    return _NUMBER_START.sub(r"\1\\\2", line, count=1) if _NUMBER_START.match(line) else line
