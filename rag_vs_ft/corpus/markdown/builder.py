"""Tokens -> a tree of blocks with clean text.

Code is copied from its token, so it stays as it was; what is dropped or cannot be resolved is counted. What a dialect's own rules
have found comes as tokens of the type "directive", which the dialect resolves.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

from markdown_it import MarkdownIt
from markdown_it.token import Token

from rag_vs_ft.corpus.front_matter import split_front_matter
from rag_vs_ft.corpus.markdown.blocks import Block, cell_text, code_block, code_span, table
from rag_vs_ft.corpus.markdown.html import ELEMENTS, EXPLAINED, HtmlTree, Tag, alternative, explanation, parse_tag
from rag_vs_ft.corpus.readers import Read
from rag_vs_ft.corpus.text import normalise, one_line

MAX_INCLUDE_DEPTH = 5
MAX_INCLUDED_CHARACTERS = 1_000_000
MAX_PARSES = 20
"""Directives in directives (and includes) whose content is still read as Markdown; what is deeper stays as it is written."""
MAX_INLINE_FOOTNOTE = 300
"""Characters up to which a footnote of one paragraph stands in parentheses where it is called."""

_EMOJI = {
    "heavy_check_mark": "✔",
    "white_check_mark": "✅",
    "x": "❌",
    "warning": "⚠",
    "information_source": "ℹ",
    "bulb": "💡",
}
"""The short names of GitHub's emoji that stand for a word, as in tables of what is supported."""
_LINES = frozenset(["p", "div", "ul", "ol", "summary", "dt", "dd", "caption", "table"])
"""Elements after which a new line begins where they stand inside a line."""
_MARKUP = re.compile(r"[*_`\[<&\\=^~]")
_EMOJI_NAME = re.compile(rf":({'|'.join(_EMOJI)}):")

_ATTRIBUTE = r"""(?:[#.][^\s{}"'=]+|[\w-]+=(?:"[^"{}\n]*"|'[^'{}\n]*'|[^\s{}"']+))"""
_ATTRIBUTES = re.compile(rf"\{{:?[ ]*{_ATTRIBUTE}(?:[ ]+{_ATTRIBUTE}){{0,20}}[ ]*\}}")
_LAST_ATTRIBUTES = re.compile(rf"(?<!\s)\s*{_ATTRIBUTES.pattern}$")
_ATTRIBUTE_LINE = re.compile(rf"^{_ATTRIBUTES.pattern}$\n?", re.M)


@dataclass(frozen=True, slots=True)
class Page:
    """The file that tokens are of: its path, and the files that include it, outermost first."""

    path: str
    above: tuple[str, ...] = ()


class Syntax(Protocol):
    """What the builder asks of a dialect."""

    components: bool
    attribute_lists: bool

    def parser(self) -> MarkdownIt:
        """The parser with the dialect's rules."""

    def prepare(self, body: str, page: Page, builder: Builder) -> str:
        """The body of a file before it is parsed."""

    def directive(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        """The blocks that a directive stands for."""

    def inline_directive(self, token: Token, page: Page, builder: Builder) -> str:
        """The text that a directive in a line stands for."""

    def code(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        """The blocks that a fenced or indented code block stands for."""

    def candidates(self, target: str, page: Page) -> list[str]:
        """Where an included file may lie, by path below the root of the source, best first."""


class Builder:
    """Turns the tokens of one document into blocks, with includes put in their place."""

    def __init__(self, syntax: Syntax, notes: Counter[str], read: Read) -> None:
        self.syntax = syntax
        self.notes = notes
        self.read = read
        self.included = 0
        self.env = {"steps": 0, "length": 0}
        self.footnotes: dict[str, list[Token]] = {}
        self.called: set[str] = set()
        self.depth = 0
        self.partials: dict[str, str] = {}

    def document(self, body: str, page: Page) -> list[Block]:
        """Blocks of a body. Raises TooMuchWork."""
        return self.parse(self.syntax.prepare(body, page, self), page)

    def parse(self, text: str, page: Page) -> list[Block]:
        """Blocks of a text that is prepared, of a whole file or the content of a directive. Raises TooMuchWork."""
        if self.depth == MAX_PARSES:
            return [code_block(text)]
        self.depth += 1
        self.env["length"] += len(text)
        env = dict(self.env)
        tokens = self.syntax.parser().parse(text, env)
        self.env["steps"] = env["steps"]
        if uncalled := env.get("uncalled"):
            self.notes["link definitions that nothing calls dropped"] += uncalled
        outer = self.footnotes, self.called
        tokens, self.footnotes = _split_footnotes(tokens)
        self.called = {child.content for token in tokens for child in token.children or () if child.type == "footnote_ref"}
        blocks = self.blocks(tokens, page)
        self.footnotes, self.called = outer
        self.depth -= 1
        return blocks

    def blocks(self, tokens: Sequence[Token], page: Page) -> list[Block]:
        """Blocks of parsed tokens."""
        root: list[Block] = []
        trees = [self._tree(root)]
        open_lists: list[Block] = []
        rows: list[list[str]] = []
        opened: Token | None = None
        for token in tokens:
            kind = token.type
            here = trees[-1].here
            if kind in ("heading_open", "paragraph_open", "td_open", "th_open"):
                opened = token
            elif kind == "inline" and opened is not None:
                if opened.type in ("td_open", "th_open"):
                    text = self.inline(token.children or [], page).text
                    rows[-1].append(cell_text(text) if opened.type == "td_open" else one_line(text))
                else:
                    here.extend(self._leaf(opened, token, page))
            elif kind in ("fence", "code_block"):
                here.extend(self.syntax.code(token, page, self))
            elif kind in ("bullet_list_open", "ordered_list_open"):
                start = int(token.attrs.get("start", 1)) if kind == "ordered_list_open" else None
                here.append(Block("list", start=start, tight=True))
                open_lists.append(here[-1])
            elif kind in ("bullet_list_close", "ordered_list_close"):
                open_lists.pop()
            elif kind == "list_item_open":
                open_lists[-1].parts.append([])
                trees.append(self._tree(open_lists[-1].parts[-1]))
            elif kind == "blockquote_open":
                here.append(Block("quote", parts=[[]]))
                trees.append(self._tree(here[-1].parts[0]))
            elif kind in ("list_item_close", "blockquote_close"):
                trees.pop().close()
            elif kind == "table_open":
                rows = []
            elif kind == "tr_open":
                rows.append([])
            elif kind == "table_close":
                here.append(table(rows))
            elif kind == "hr":
                here.append(Block("rule"))
            elif kind == "html_block":
                trees[-1].feed(token.content)
            elif kind == "directive":
                here.extend(self._titled(block, page) for block in self.syntax.directive(token, page, self))
            elif kind == "footnote":
                here.extend(self._footnote(token.info, page))
            if kind == "paragraph_open" and open_lists and not token.hidden:
                open_lists[-1].tight = False
        trees[0].close()
        return root

    def _tree(self, root: list[Block]) -> HtmlTree:
        return HtmlTree(root, self.notes, self.syntax.components)

    def _leaf(self, opened: Token, token: Token, page: Page) -> list[Block]:
        children = token.children or []
        if opened.type == "heading_open":
            found = self.inline(children, page)
            text, plain = one_line(found.text), one_line(found.plain)
            if self.syntax.attribute_lists:
                text, plain = _LAST_ATTRIBUTES.sub("", text), _LAST_ATTRIBUTES.sub("", plain)
            level = int(opened.tag[1])
            target = _only_link(children)
            if not text:
                return []
            kind: Any = "tab" if target.startswith("#tab/") else "heading"
            return [Block(kind, text, level, plain=plain)]
        if _is_pictures(children, self.syntax.attribute_lists):
            self.notes["images dropped"] += sum(
                child.type == "image" or bool(_PICTURE_TAG.match(child.content)) for child in children
            )
            return []
        found = self.inline(children, page)
        text = _ATTRIBUTE_LINE.sub("", found.text).strip() if self.syntax.attribute_lists else found.text
        return [Block("paragraph", text, linked=found.linked)] if text else []

    # --- footnotes ---

    def _footnote(self, label: str, page: Page) -> list[Block]:
        """What stands where a footnote is written: nothing if its text stands where it is called."""
        if label in self.called and self._short_footnote(label, page):
            return []
        blocks = self.blocks(self.footnotes.get(label, []), page)
        if blocks and blocks[0].kind == "paragraph":
            blocks[0].text = f"Footnote {label}: {blocks[0].text}"
            return blocks
        return [Block("paragraph", f"Footnote {label}:"), *blocks] if blocks else []

    def _short_footnote(self, label: str, page: Page) -> str:
        """The text of a footnote of one short paragraph; "" for any other, and once too much has been repeated."""
        tokens = self.footnotes.get(label, [])
        if len(tokens) != 3 or self.included > MAX_INCLUDED_CHARACTERS:
            return ""
        # A footnote that calls itself ends here.
        tokens, self.footnotes[label] = self.footnotes[label], []
        text = one_line(self.inline(tokens[1].children or [], page).text)
        self.footnotes[label] = tokens
        return text if len(text) <= MAX_INLINE_FOOTNOTE else ""

    def _call(self, label: str, page: Page) -> str:
        text = self._short_footnote(label, page)
        self.included += len(text)
        return f" ({text})" if text else f" (footnote {label})"

    def _titled(self, block: Block, page: Page) -> Block:
        """A block, of a label or tab with its text clean: a title may be written in Markdown."""
        if block.kind in ("label", "tab") and _MARKUP.search(block.text):
            env = dict(self.env)
            tokens = self.syntax.parser().parseInline(block.text, env)
            self.env["steps"] = env["steps"]
            block.text = one_line(self.inline(tokens[0].children or [], page).text)
        return block

    # --- lines of text ---

    def inline(self, children: Sequence[Token], page: Page) -> Line:
        """Clean text of inline tokens."""
        line = Line()
        links = 0
        after = ""
        for child in children:
            kind = child.type
            before = len(line.parts)
            if kind == "code_inline":
                line.verbatim(code_span(child.content, child.markup), child.content)
            elif kind == "verbatim":
                line.verbatim(child.content, child.content)
            elif kind in ("softbreak", "hardbreak"):
                line.parts.append(InlinePart("\n"))
            elif kind == "text":
                text = self._without_attributes(child.content, after)
                line.add(_EMOJI_NAME.sub(lambda found: _EMOJI[found[1]], text) if ":" in text else text)
            elif kind == "image":
                line.add(alternative(child.content, self.notes))
            elif kind == "html_inline":
                self._tag(child.content, line)
            elif kind == "directive":
                line.parts.append(InlinePart(self.syntax.inline_directive(child, page, self)))
            elif kind == "footnote_ref":
                line.add(self._call(child.content, page))
            elif kind in ("link_open", "link_close"):
                links += 1 if kind == "link_open" else -1
            after = kind
            if links:
                line.linked += sum(len(part.text) for part in line.parts[before:])
        return line

    def _without_attributes(self, text: str, after: str) -> str:
        """Text without the attribute list of the link, image, code or emphasis before it."""
        if (
            self.syntax.attribute_lists
            and text.startswith("{")
            and (after.endswith("_close") or after in ("image", "code_inline", "directive"))
        ):
            return _ATTRIBUTES.sub("", text, count=1)
        return text

    def _tag(self, source: str, line: Line) -> None:
        """One tag in a line; the text between an opening and a closing one is in tokens of its own."""
        tag = parse_tag(source)
        if tag is None or tag.name not in ELEMENTS:
            if source.startswith("<!--"):
                self.notes["HTML comments dropped"] += 1
            elif not source.startswith(("<!", "<?")) and not (tag and self.syntax.components):
                line.add(source)
            return
        self.notes["HTML tags dropped"] += 1
        name = tag.name
        if name in ("code", "script", "style", "svg"):
            if not tag.closing:
                line.opened[name] = len(line.parts)
            elif (start := line.opened.pop(name, None)) is not None:
                inside = one_line("".join(part.plain for part in line.parts[start:]))
                del line.parts[start:]
                if inside and name == "code":
                    line.verbatim(code_span(inside), inside)
        elif name == "img":
            line.add(alternative(tag.attributes.get("alt", ""), self.notes))
        elif name in EXPLAINED and not tag.closing:
            line.explained = tag, len(line.parts)
        elif name in EXPLAINED and line.explained:
            opening, start = line.explained
            line.explained = None
            line.add(explanation(opening, "".join(part.plain for part in line.parts[start:])))
        elif name == "li" and not tag.closing:
            line.parts.append(InlinePart("\n- "))
        elif name in ("tr", "td", "th") and not tag.closing and line.parts and not line.parts[-1].text.endswith("\n"):
            ended = line.parts[-1].text.rstrip().endswith((".", ":", ";", "!", "?"))
            line.parts.append(InlinePart(", " if name != "tr" else "\n" if ended else ";\n"))
        elif name == "br" or (name in _LINES and tag.closing):
            line.parts.append(InlinePart("\n"))
        elif name == "sup" and not tag.closing:
            line.add("^")

    # --- other files ---

    def find(self, target: str, page: Page) -> tuple[str, str] | None:
        """Path and text of a file that a directive names, or None; nothing outside the source's root can be reached."""
        for name in self.syntax.candidates(target, page):
            name = posixpath.normpath(name)
            if not name.startswith(("../", "/")) and (text := self.read(name)) is not None:
                return name, text
        return None

    def include(self, target: str, page: Page) -> tuple[str, Page] | None:
        """Body and page of an included file; None (counted) when it cannot be included."""
        found = self.find(target, page)
        if found is None:
            self.notes["unresolved includes"] += 1
            return None
        where, text = found
        above = (*page.above, page.path)
        if where in above:
            self.notes["include cycles"] += 1
        elif len(above) > MAX_INCLUDE_DEPTH:
            self.notes["includes too deep"] += 1
        elif self.included + len(text) > MAX_INCLUDED_CHARACTERS:
            self.notes["includes beyond the size limit"] += 1
        else:
            self.included += len(text)
            self.notes["includes resolved"] += 1
            return split_front_matter(text, self.notes)[1], Page(where, above)
        return None

    def include_blocks(self, target: str, page: Page) -> list[Block]:
        """Blocks of an included file; none (counted) when it cannot be included."""
        found = self.include(target, page)
        return self.document(*found) if found else []

    def sample(self, target: str, page: Page, language: str = "", select: Callable[[str], str] = str) -> list[Block]:
        """A file as a block of code, or the part of it that `select` gives; none (counted) when it is not there."""
        found = self.find(target, page)
        if found is None:
            self.notes["unresolved code samples"] += 1
            return []
        self.notes["code samples resolved"] += 1
        text = select(found[1]).strip("\n")
        return [code_block(text, language or posixpath.splitext(found[0])[1][1:])] if text else []


@dataclass(frozen=True, slots=True)
class InlinePart:
    """A piece of a line: its text, the same without markup, and whether its spaces matter."""

    text: str
    plain: str = ""
    verbatim: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", self.plain or self.text)


@dataclass(slots=True)
class Line:
    """Inline text while it is put together; `linked` counts the characters that are link text, `explained` is the last open
    element of `EXPLAINED` and where its text begins."""

    parts: list[InlinePart] = field(default_factory=list)
    linked: int = 0
    opened: dict[str, int] = field(default_factory=dict)
    explained: tuple[Tag, int] | None = None

    def add(self, text: str) -> None:
        """Text on one line, also where an entity stands for a line end."""
        self.parts.append(InlinePart(normalise(text).replace("\n", " ")))

    def verbatim(self, text: str, plain: str) -> None:
        """Code or a formula."""
        self.parts.append(InlinePart(text, plain, verbatim=True))

    @property
    def text(self) -> str:
        """Lines without spaces at their ends or runs of spaces in them, in normal form."""
        return self._joined(lambda part: part.text)

    @property
    def plain(self) -> str:
        """The same without the marks of code."""
        return self._joined(lambda part: part.plain)

    def _joined(self, of: Callable[[InlinePart], str]) -> str:
        runs = []
        for verbatim, parts in groupby(self.parts, key=lambda part: part.verbatim):
            run = "".join(map(of, parts))
            runs.append(run if verbatim else re.sub(r"[ \t]+", " ", normalise(run)))
        lines = [line.strip() for line in "".join(runs).split("\n")]
        return "\n".join(line for line in lines if line)


def _split_footnotes(tokens: list[Token]) -> tuple[list[Token], dict[str, list[Token]]]:
    """The tokens with one token for each footnote, and the tokens inside each."""
    kept: list[Token] = []
    footnotes: dict[str, list[Token]] = {}
    inside: list[Token] = []
    depth = 0
    for token in tokens:
        if token.type == "footnote_reference_open":
            if depth == 0:
                label = token.meta["label"]
                inside = []
                if label not in footnotes:
                    footnotes[label] = inside
                    kept.append(Token("footnote", "", 0, info=label))
            depth += 1
        elif token.type == "footnote_reference_close":
            depth -= 1
        else:
            (inside if depth else kept).append(token)
    return kept, footnotes


_PICTURE_TAG = re.compile(r"<img\b", re.I)
_TAG_AROUND = re.compile(r"</?(?:a|br|picture|source|span)\b", re.I)


def _is_pictures(children: Sequence[Token], attribute_lists: bool) -> bool:
    """Whether a paragraph is pictures alone, in Markdown or HTML, with links around them."""
    pictures = False
    for child in children:
        if child.type == "image" or (child.type == "html_inline" and _PICTURE_TAG.match(child.content)):
            pictures = True
        elif child.type == "text":
            if (_ATTRIBUTES.sub("", child.content) if attribute_lists else child.content).strip():
                return False
        elif child.type == "html_inline":
            if not _TAG_AROUND.match(child.content):
                return False
        elif child.type not in ("link_open", "link_close", "softbreak", "hardbreak"):
            return False
    return pictures


def _only_link(children: Sequence[Token]) -> str:
    """The target of a link at the start of a heading, or ""."""
    shown = [child for child in children if child.type != "text" or child.content.strip()]
    return str(shown[0].attrs.get("href", "")) if shown and shown[0].type == "link_open" else ""
