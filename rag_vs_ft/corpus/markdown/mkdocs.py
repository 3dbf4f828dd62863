"""The dialects of MkDocs and Material for MkDocs (Python-Markdown with PyMdown extensions), and FastAPI's includes.

Admonitions and tabs come as `!!! note` and `=== "Tab"` with indented content, or as blocks between slashes (`/// note`).
https://squidfunk.github.io/mkdocs-material/reference/ and https://facelessuser.github.io/pymdown-extensions/
"""

from __future__ import annotations

import posixpath
import re
from html import unescape

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from rag_vs_ft.corpus.markdown.blocks import Block
from rag_vs_ft.corpus.markdown.builder import Builder, Page
from rag_vs_ft.corpus.markdown.dialect import Dialect, folders_above, titled_code
from rag_vs_ft.corpus.markdown.parser import TERMINATES
from rag_vs_ft.corpus.text import one_line

_INDENTED = re.compile(r'(!!!|\?\?\?\+?|===[!+]?)[ \t]++(?:([\w-]++(?:[ \t]++[\w-]++)*+)?+[ \t]*+(?:"([^"\n]*+)")?+)[ \t]*+')
_SLASHES = re.compile(r"(/{3,})[ \t]*+([A-Za-z][\w-]*+)?+[ \t]*+(?:\|[ \t]*+(?:([^ \t].*?)(?<![ \t])[ \t]*)?)?")
_SAMPLE = re.compile(r"\{\*[ \t]*(\S+)((?:[ \t]+(?:\w+\[[^\]\n]*\]|\w+=\S+))*)[ \t]*\*\}[ \t]*")
_GENERATED = re.compile(r":::[ \t]+([A-Za-z_][\w.]*)[ \t]*")
_TABLE_OF_CONTENTS = re.compile(r"\[\[?_?TOC_?\]?\][ \t]*", re.I)
_ABBREVIATION = re.compile(r"\*\[([^\]\n]{1,100})\]:[ \t]*(.+)")
_SNIPPET = re.compile(
    r"^([ \t]*)(?:-{2,}8<-{2,}[ \t]+[\"']([^\"'\n]+)[\"']|\{!>?[ \t]*([^!\n]+?)[ \t]*!\}"
    r"|\{%-?[ \t]*include(?:-markdown)?[ \t]+[\"']([^\"'\n]+)[\"'][^%\n]*%\})[ \t]*$",
    re.M,
)
_SECTION = re.compile(r"(?<!-)-{2,}8<-{2,}[ \t]++\[(start|end):[ \t]*+([^\]\n]{1,200}+)\]")
_MARKDOWN_IN_HTML = re.compile(
    r"^([ \t]*+<\w++(?=[^<>\n]*+>[ \t]*+$)[^<>\n]*\smarkdown(?:=[\"']?\w+[\"']?)?(?:\s[^<>\n]*)?>)[ \t]*$", re.M
)
_KEYS = re.compile(r"\+\+([\w-]+(?:\+[\w-]+){0,6})\+\+")
_ICON = re.compile(r":(?:material|octicons|fontawesome|simple)-[\w-]{1,80}:")
_TEMPLATE = re.compile(r"\{%-?[^%{}\n]{0,300}%\}|\{\{-?[^{}\n]{0,200}\}\}")
_STATEMENT = re.compile(r"\{%-?[ \t]*+(for|endfor|raw|endraw)\b[^%{}\n]{0,300}%\}")
_CODE_OR_STATEMENT = re.compile(rf"(?<!`)(`++)[^`\n]++\1(?!`)|{_STATEMENT.pattern}")
_MARKED = re.compile(r"==(?=[^\s=])([^=\n]{1,300})(?<=\S)==|\^\^(?=[^\s^])([^^\n]{1,300})(?<=\S)\^\^")
_TERMINAL_TAGS = re.compile(r"</?(?:font|span|b|u|i|em|strong|a|small)\b[^<>\n]*>")
_QUIET = frozenset(["details", "html", "caption", "figure-caption", "table-caption", "define", "admonition"])
"""Blocks whose kind says nothing to a reader."""


class MkDocs(Dialect):
    """Admonitions and tabs in both spellings, snippets, attribute lists, samples of FastAPI's documentation."""

    name = "mkdocs"
    title = "MkDocs and Material"
    marks = re.compile(
        r"^(?:[ \t]*(?:(?:!!!|\?\?\?\+?)[ \t]+\w|===[!+]?[ \t]+\"|-{2,}8<-{2,})|/{3,}[ \t]*\w+[ \t]*(?:\||$)"
        r"|\{\*[ \t][^*\n]+\*\}|:::[ \t]+[a-z_]\w*(?:\.\w+)+[ \t]*$|#+[ \t].*\{[ \t]+#[\w-]+[ \t]+\}[ \t]*$)"
        r"|:(?:material|octicons)-\w",
        re.M,
    )
    configuration = ("mkdocs.yml", "mkdocs.yaml", "zensical.toml")
    attribute_lists = True

    def extend(self, parser: MarkdownIt) -> None:
        parser.block.ruler.before("table", "mkdocs_indented", _indented_rule, {"alt": TERMINATES})
        parser.block.ruler.before("table", "mkdocs_line", _line_rule, {"alt": TERMINATES})
        parser.inline.ruler.before("emphasis", "mkdocs", _inline_rule)

    def prepare(self, body: str, page: Page, builder: Builder) -> str:
        """The body with its snippets in their place, also inside code, and without the templates in its HTML."""
        body = _without_loops(_MARKDOWN_IN_HTML.sub(r"\1\n", body), builder)
        body = _without_templates(body, builder)
        return _SNIPPET.sub(lambda match: _snippet(match, page, builder), body)

    def directive(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        name, text = token.info, token.meta["text"]
        if name == "label":
            builder.notes["alerts"] += 1
            return [Block("label", text.rstrip(":") + ":")]
        if name == "tab":
            return [Block("tab", text)]
        if name == "tabs-end":
            return [Block("tabs-end")]
        if name == "text":
            return [Block("paragraph", text)]
        if name == "sample":
            return builder.sample(text, page, select=lambda sample: _lines(sample, token.meta["lines"]))
        if name == "generated":
            builder.notes["generated reference left out"] += 1
            return [Block("paragraph", f"`{text}`")]
        return []

    def inline_directive(self, token: Token, page: Page, builder: Builder) -> str:
        return str(token.meta["text"])

    def code(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        """Samples of a terminal that is animated bear tags for its colours."""
        if token.info.strip().startswith("console") and _TERMINAL_TAGS.search(token.content):
            token.content = unescape(_TERMINAL_TAGS.sub("", token.content))
        return titled_code(token)

    def candidates(self, target: str, page: Page) -> list[str]:
        """Beside the page, and below or beside each folder above it: paths begin where the site's configuration lies."""
        beside = posixpath.join(posixpath.dirname(page.path), target)
        return [beside, *(posixpath.join(folder, target) for folder in folders_above(page.path))]


MKDOCS = MkDocs()


def _without_loops(body: str, builder: Builder) -> str:
    """The body without loops that show data of the site, which is not there. Code and what is `{% raw %}` keep theirs."""
    if "{%" not in body:
        return body
    kept: list[str] = []
    opened: list[int] = []
    position, offset, fence, is_raw = 0, 0, "", False
    for line in body.split("\n"):
        opening = re.match(r"[ \t]*(`{3,}|~{3,})", line)
        if opening and (not fence or opening[1].startswith(fence)):
            fence = "" if fence else opening[1]
        for found in () if fence else _CODE_OR_STATEMENT.finditer(line):
            name = found[2]
            if name in ("raw", "endraw"):
                is_raw = name == "raw"
            elif name == "for" and not is_raw:
                opened.append(offset + found.start())
            elif name == "endfor" and not is_raw and opened:
                start, end = opened.pop(), offset + found.end()
                if not opened and "{{" in body[start:end]:
                    kept.append(body[position:start])
                    position = end
                    builder.notes["loops of templates left out"] += 1
        offset += len(line) + 1
    return "".join([*kept, body[position:]])


def _without_templates(body: str, builder: Builder) -> str:
    """The body without the statements and values of templates in HTML blocks; elsewhere the inline rule drops them."""
    if not _TEMPLATE.search(body):
        return body
    lines = body.split("\n")
    fence, is_html = "", False
    for number, line in enumerate(lines):
        opening = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if opening and (not fence or opening[1].startswith(fence)):
            fence = "" if fence else opening[1]
        is_html = not fence and bool(line.strip()) and (is_html or bool(re.match(r" {0,3}</?[A-Za-z]", line)))
        if is_html:
            # The value of an attribute without quotation marks leaves an empty one.
            lines[number], dropped = _TEMPLATE.subn(
                lambda found: '""' if found.string[: found.start()].endswith("=") else "", line
            )
            if dropped:
                builder.notes["values of templates left out"] += dropped
    return "\n".join(lines)


def _snippet(match: re.Match[str], page: Page, builder: Builder) -> str:
    indent, target = match[1], one_line(match[2] or match[3] or match[4])
    path, _, part = target.partition(":")
    included = builder.include(path, page)
    if included is None:
        return ""
    text = included[0]
    if re.fullmatch(r"\d*(?::\d*)?", part) and part:
        text = _lines(text, part if ":" in part else f"{part}:{part}")
    elif part:
        text = _section(text, part)
    text = "\n".join(line for line in text.split("\n") if not _SECTION.search(line)).strip("\n")
    return "\n".join(indent + line for line in text.split("\n"))


def _section(text: str, name: str) -> str:
    """The lines between the two comments that name a section."""
    inside = False
    kept = []
    for line in text.split("\n"):
        if (found := _SECTION.search(line)) and found[2].strip() == name:
            inside = found[1] == "start"
        elif inside:
            kept.append(line)
    return "\n".join(kept) if kept else text


def _lines(text: str, ranges: str) -> str:
    """The lines of ranges such as "1:3,7"; all of them without any."""
    lines = text.split("\n")
    wanted = re.findall(r"(\d{0,7})(:?)(\d{0,7})", ranges)[:100]
    kept = [
        line
        for first, colon, last in wanted
        if first or colon
        for line in lines[max(0, int(first or 1) - 1) : int(last) if last else (len(lines) if colon else int(first or 1))]
    ]
    return "\n".join(kept) if kept else text


# --- rules ---


def _push(state: StateBlock, name: str, text: str = "", lines: str = "") -> None:
    token = state.push("directive", "", 0)
    token.info, token.meta = name, {"text": text, "lines": lines}


def _source(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _next_line(state: StateBlock, line: int, end: int) -> str:
    """The next line that is not blank."""
    while line < end and state.isEmpty(line):
        line += 1
    return _source(state, line) if line < end else ""


def _indented_rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`!!! note "Title"` or `=== "Tab"` and the lines indented by four or more below it."""
    source = _source(state, start)
    if source[:3] not in ("!!!", "???", "===") or state.is_code_block(start):
        return False
    match = _INDENTED.fullmatch(source)
    if match is None or not (match[2] or match[3]) or (source[0] == "=" and match[3] is None):
        return False
    if silent:
        return True
    indent = state.sCount[start] + 4
    last = start + 1
    while last < end and (state.isEmpty(last) or state.sCount[last] >= indent):
        last += 1
    if source[0] == "=":
        _push(state, "tab", one_line(match[3]))
    else:
        kind = (match[2] or "").split()[0] if match[2] else ""
        _push(state, "label", match[3] if match[3] else kind.replace("-", " ").capitalize())
    before = state.blkIndent, state.parentType, state.lineMax
    state.blkIndent, state.parentType, state.lineMax = indent, "admonition", last
    state.level += 1
    state.md.block.tokenize(state, start + 1, last)
    state.level -= 1
    state.blkIndent, state.parentType, state.lineMax = before
    state.line = last
    if source[0] == "=" and not _next_line(state, last, end).startswith("==="):
        _push(state, "tabs-end")
    return True


def _line_rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    source = _source(state, start)
    following = start + 1
    if source.startswith("///"):
        found = _slashes(state, source, start, end, silent)
        if found is None:
            return False
        following = found
    elif source.startswith("{*") and (match := _SAMPLE.fullmatch(source)):
        if not silent:
            lines = re.search(r"\bln\[([^\]]{0,1000})\]", match[2])
            _push(state, "sample", match[1], lines[1] if lines else "")
    elif source.startswith(":::") and (match := _GENERATED.fullmatch(source)):
        while following < end and (state.sCount[following] > state.sCount[start] or state.isEmpty(following)):
            following += 1
        if not silent:
            _push(state, "generated", match[1])
    elif source.startswith("*[") and (match := _ABBREVIATION.fullmatch(source)):
        if not silent:
            _push(state, "text", f"{match[1]}: {one_line(match[2])}")
    elif source.startswith("[") and _TABLE_OF_CONTENTS.fullmatch(source):
        if not silent:
            _push(state, "end")
    else:
        return False
    if not silent:
        state.line = following
    return True


def _slashes(state: StateBlock, source: str, start: int, end: int, silent: bool) -> int | None:
    """A line that opens or closes a block; gives the line after it and its options."""
    match = _SLASHES.fullmatch(source)
    if match is None:
        return None
    following = start + 1
    opened: list[tuple[int, str]] = state.env.setdefault("slashes", [])
    width, name, title = len(match[1]), (match[2] or "").lower(), one_line(match[3] or "")
    if silent:
        return following
    if not name:
        closed = ""
        while opened and opened[-1][0] <= width:
            length, closed = opened.pop()
            if length == width:
                break
        next_tab = re.match(r"/{3,}[ \t]*tab\b", _next_line(state, following, end))
        _push(state, "tabs-end" if closed == "tab" and not next_tab else "end")
        return following
    opened.append((width, name))
    while following < end and re.match(r" {4,}[\w-]+:", state.src[state.bMarks[following] : state.eMarks[following]]):
        following += 1
    if name == "tab":
        _push(state, "tab", title)
    elif name in _QUIET:
        _push(state, "text" if title else "end", title)
    else:
        _push(state, "label", title or name.replace("-", " ").capitalize())
    return following


def _inline_rule(state: StateInline, silent: bool) -> bool:
    """Keys, icons, marked text, and the statements of templates, which go."""
    source = state.src
    character = source[state.pos]
    match: re.Match[str] | None = None
    text = ""
    if character == "+" and (match := _KEYS.match(source, state.pos)):
        text = "+".join(key.replace("-", " ").title() for key in match[1].split("+"))
    elif character == ":":
        match = _ICON.match(source, state.pos)
    elif character == "{":
        match = _TEMPLATE.match(source, state.pos)
        statement = _STATEMENT.match(source, state.pos)
        if statement and not silent and statement[1] in ("raw", "endraw"):
            state.env["raw"] = statement[1] == "raw"
        elif state.env.get("raw"):
            return False
    elif character in "=^" and (match := _MARKED.match(source, state.pos)):
        text = match[1] or match[2]
    if match is None:
        return False
    if not silent:
        token = state.push("directive", "", 0)
        token.info, token.meta = "text", {"text": text}
    state.pos = match.end()
    return True
