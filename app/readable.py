"""Texts of documents and models as readers expect them: paragraphs, lists, tables and code, and nothing that loads or runs.

Markdown is read by markdown-it without HTML. Images become their alternative text, links work when they lead to https, headings
are bold paragraphs, since a page has an outline of its own. Code blocks can be copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from typing import Any
from urllib.parse import urlsplit

import streamlit as st
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from rag_vs_ft.language import content_words, language, stemmer
from rag_vs_ft.models.extractive import passage_sentences

CUT_OFF = ("loop", "length")
"""How an answer ended that was not written to its end."""
EMPTY = "The answer is empty."
_BEGIN, _END = "\ue000", "\ue001"
"""Stand around a marked place while Markdown is read; private letters that no document uses."""
_MARKS = str.maketrans({_BEGIN: "<mark>", _END: "</mark>"})
_NO_MARKS = str.maketrans({_BEGIN: None, _END: None})
_LINE_START = re.compile(r"\s*(?:(?:[-*+]|\d{1,3}[.)]|>|#{1,6})\s+)*")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_SYNTAX = re.compile(r"^[ \t]*(?:`{3,}|~{3,}).*$|^(?=[^\n]*---)[ \t|:-]+$|[`*|#]+|^[ \t]*[-+]\s", re.MULTILINE)
"""Marks of Markdown, which a snippet of one line leaves out."""
_LIST_MARKS = re.compile(r"\[[\d,\s]*\]|(?<![\w.])\d{1,3}[.)](?=\s|$)")


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a text: HTML that is safe to show, or the content of a code block."""

    content: str
    is_code: bool = False


def show_readable(text: str, marked: tuple[int, int] | None = None) -> None:
    """Show a text; the characters from `marked[0]` to `marked[1]` of it are highlighted."""
    for block in blocks(text, marked):
        if block.is_code:
            st.code(block.content, language=None, wrap_lines=True)
        else:
            st.html(block.content)


@lru_cache(1024)  # a page is drawn anew at each click, with all its answers
def blocks(text: str, marked: tuple[int, int] | None = None) -> tuple[Fragment, ...]:
    """The parts of a text in order; see `show_readable`."""
    text = text.translate(_NO_MARKS)
    if marked is not None:
        text = _with_marks(text, *marked)
    reader = _reader()
    found: list[Fragment] = []
    waiting: list[Token] = []

    def flush() -> None:
        if waiting:
            html = reader.renderer.render(waiting, reader.options, {}).translate(_MARKS)
            found.append(Fragment(f'<div class="readable">{html}</div>'))
            waiting.clear()

    for token in reader.parse(text):
        if token.level == 0 and token.type in ("fence", "code_block"):
            flush()
            found.append(Fragment(token.content.translate(_NO_MARKS).rstrip("\n"), is_code=True))
        else:
            waiting.append(token)
    flush()
    return tuple(found)


def _with_marks(text: str, start: int, end: int) -> str:
    part = text[start:end]
    if "|" in part and part.lstrip().startswith("|"):  # the cells of a table's row
        part = re.sub(r"(?<=\|)(\s*)([^|\n]+?)(\s*)(?=\|)", rf"\1{_BEGIN}\2{_END}\3", part)
        return text[:start] + part + text[end:]
    return f"{text[:start]}{_BEGIN}{part}{_END}{text[end:]}"


class _Renderer(RendererHTML):
    """HTML without images, without headings, and with links to https alone."""

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return escape(self.renderInlineAsText(tokens[idx].children, options, env))

    def heading_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "<p><strong>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</strong></p>\n"

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        href = str(tokens[idx].attrGet("href") or "").translate(_NO_MARKS)
        works = _is_https(href)
        env.setdefault("links", []).append(works)
        return f'<a href="{escape(href)}" rel="noopener noreferrer" target="_blank">' if works else ""

    def link_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</a>" if env["links"].pop() else ""


def _is_https(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


@cache
def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True}, renderer_cls=_Renderer).enable("table")
    return reader.disable("lheading")


@lru_cache(1024)
def supporting_sentence(answer: str, passage: str) -> tuple[int, int] | None:
    """Where in a passage the sentence stands that holds most of the answer's content words; None when none holds half of them."""
    spoken = language()
    wanted = content_words(answer, spoken)
    best: tuple[float, tuple[int, int]] | None = None
    for start, end in _sentences(passage):
        held = content_words(passage[start:end], spoken)
        if not held:
            continue
        # Of sentences that hold as much of the answer, the shorter one says it.
        score = len(wanted & held) - len(held) / 1000
        if len(wanted & held) * 2 >= len(wanted) > 0 and (best is None or score > best[0]):
            best = (score, (start, end))
    return best[1] if best else None


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where the sentences and table rows of a text stand; code blocks have none."""
    # Sentences are those of the lines joined: letters are sought without the spaces between them.
    letters = [at for at, letter in enumerate(text) if not letter.isspace()]
    solid = "".join(text[at] for at in letters)
    code, place = _code(text), 0
    for sentence in passage_sentences(text, language()):
        wanted = "".join(sentence.split())
        found = solid.find(wanted, place) if wanted else -1
        if found < 0:
            continue
        place = found + len(wanted)
        start, end = letters[found], letters[place - 1] + 1
        if skipped := _LINE_START.match(text, start, end):
            start = skipped.end()
        if start < end and not any(begin <= start < stop for begin, stop in code):
            yield start, end


def _code(text: str) -> list[tuple[int, int]]:
    """Where the code blocks of a text stand, with their fences."""
    found, place, begin, fence = [], 0, 0, ""
    for line in text.splitlines(keepends=True):
        opened = _FENCE.match(line)
        if opened and not fence:
            begin, fence = place, opened.group(1)
        elif fence and line.strip().startswith(fence):
            found.append((begin, place + len(line)))
            fence = ""
        place += len(line)
    return [*found, (begin, place)] if fence else found


def snippet(text: str, stems: Sequence[str], size: int = 320) -> str:
    """HTML of the part of a passage that holds most of the matched words, which are marked."""
    flat = " ".join(_SYNTAX.sub(" ", text.translate(_NO_MARKS)).split())
    stem, wanted = stemmer(language()), set(stems)
    hits = [word.span() for word in re.finditer(r"\w+", flat) if {word.group().lower(), stem(word.group().lower())} & wanted]
    first = max(range(len(hits)), key=lambda at: sum(hits[at][0] <= start < hits[at][0] + size for start, _ in hits), default=0)
    begin = max(0, hits[first][0] - 60) if hits else 0
    begin = flat.find(" ", begin) + 1 if begin else 0
    end = len(flat)
    if end > begin + size:
        space = flat.rfind(" ", begin, begin + size)
        end = space if space > begin else begin + size
    parts, at = ["… " if begin else ""], begin
    for start, stop in hits:
        if begin <= start and stop <= end:
            parts += [escape(flat[at:start]), f"<mark>{escape(flat[start:stop])}</mark>"]
            at = stop
    parts += [escape(flat[at:end]), " …" if end < len(flat) else ""]
    return f'<div class="readable">{"".join(parts)}</div>'


def cut_off(text: str) -> str:
    """A text that was not written to its end, with the code in it closed and dots after it."""
    fences = sum(bool(_FENCE.match(line)) for line in text.splitlines())
    if fences % 2:
        return f"{text}\n```\n…"
    return f"{text}{'`' * (text.count('`') % 2)} …"


@lru_cache(1024)
def held_words(text: str, stems: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a text that have one of these stems, in lower case, each once."""
    stem, wanted = stemmer(language()), set(stems)
    words = dict.fromkeys(word.lower() for word in re.findall(r"\w+", text))
    return tuple(word for word in words if {word, stem(word)} & wanted)


def is_degenerate(answer: str) -> bool:
    """Whether a model wrote marks of lists or citations and nothing else, two or more of them."""
    return len(_LIST_MARKS.findall(answer)) >= 2 and not any(letter.isalnum() for letter in _LIST_MARKS.sub("", answer))
