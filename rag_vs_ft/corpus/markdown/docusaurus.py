"""The dialect of Docusaurus: MDX, with components by their text, partials that are imported, admonitions and tabs.

https://docusaurus.io/docs/markdown-features and https://mdxjs.com/docs/what-is-mdx/
"""

from __future__ import annotations

import posixpath
import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from rag_vs_ft.corpus.markdown.blocks import Block
from rag_vs_ft.corpus.markdown.builder import Builder, Page
from rag_vs_ft.corpus.markdown.dialect import Dialect, folders_above, titled_code
from rag_vs_ft.corpus.markdown.parser import TERMINATES
from rag_vs_ft.corpus.text import one_line

_ADMONITION = re.compile(r"(:{3,})[ \t]*(?:([A-Za-z][\w-]*)(?:\[([^\]\n]*)\])?[ \t]*([^\n{}]*?)[ \t]*(?:\{[^{}\n]*\}[ \t]*)?)?")
_MODULE = re.compile(
    r"import[ \t]+(?:(?:type[ \t]+)?[\w*$,{} \t]+[ \t]from[ \t]+['\"][^'\"\n]+['\"];?|\{[^'\"\n]*|['\"][^'\"\n]+['\"];?)[ \t]*"
    r"|export[ \t]+(?:const|let|var|function|default|class|\{|\*)[^\n]*"
)
_PARTIAL = re.compile(r"^import[ \t]+(\w+)[ \t]+from[ \t]+['\"]([^'\"\n]+\.mdx?)['\"]", re.M)
_VALUE = r"""(?:"[^"<]*"|'[^'<]*'|\{(?:[^{}<]|\{[^{}<]*\}|<[^<>{}]*>)*\})"""
_TAG = re.compile(rf"<(/?)([A-Za-z][\w.-]*)((?:\s+[\w:-]+(?:\s*=\s*{_VALUE})?|\s+\{{[^{{}}<]*\}}){{0,40}})\s*(/?)>|</?>")
_ATTRIBUTE = re.compile(rf"(?<![\w:-])([\w:-]++)\s*+=\s*+({_VALUE})")
_EXPRESSION = re.compile(r"""\{[ \t]*(?:/\*.{0,2000}?\*/|(['"`])([^'"`{}\n]{0,300})\1)[ \t]*\}""", re.S)
_HIGHLIGHT = re.compile(r"^[ \t]*(?://|#|--|<!--|\{?/\*)[ \t]*highlight-(?:start|end|next-line)\b[^\n]*\n?", re.M)
_TITLES = ("title", "label", "summary", "caption", "heading", "text", "name")
_TAG_LINES = 20
_MODULE_LINES = 100


class Docusaurus(Dialect):
    """MDX: imports and exports go, partials are included, other components show their titles and what is in them."""

    name = "docusaurus"
    title = "Docusaurus and MDX"
    marks = re.compile(
        r"^(?::::(?:note|tip|info|warning|danger|caution|important|success|secondary)\b|[ \t]*</?(?:Tabs|TabItem)\b"
        r"|import[ \t]+\w+[ \t]+from[ \t]+['\"](?:@theme/|@site/|[^'\"\n]+\.mdx?['\"])|sidebar_(?:label|position):"
        r"|\{/\*[^\n]*\*/\}[ \t]*$|#+[ \t].*[ \t]\{#[\w-]+\}[ \t]*$)",
        re.M,
    )
    configuration = ("docusaurus.config.js", "docusaurus.config.ts", "docusaurus.config.mjs")
    attribute_lists = True
    components = True

    def passed_over(self, path: str) -> str:
        """A name that begins with an underscore is a partial."""
        return "include (read where it is included)" if posixpath.basename(path).startswith("_") else ""

    def extend(self, parser: MarkdownIt) -> None:
        # The content of components is indented; MDX has no indented code.
        parser.disable("code")
        parser.block.ruler.before("table", "module", _module_rule)
        parser.block.ruler.before("table", "docusaurus", _line_rule, {"alt": TERMINATES})
        parser.inline.ruler.before("html_inline", "docusaurus", _inline_rule)

    def prepare(self, body: str, page: Page, builder: Builder) -> str:
        """The body; the partials that it imports are kept by their names."""
        builder.partials.update(_PARTIAL.findall(body))
        return body

    def directive(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        name, text = token.info, token.meta["text"]
        if name == "label":
            builder.notes["alerts"] += 1
            return [Block("label", text.rstrip(":") + ":")]
        if name == "module":
            builder.notes["imports and exports dropped"] += 1
            return []
        return self._component(name, token.meta, page, builder) if name else []

    def _component(self, name: str, found: dict[str, str], page: Page, builder: Builder) -> list[Block]:
        closing = found.get("closing") == "yes"
        if name == "Tabs":
            return [Block("tabs-end")] if closing else []
        if closing:
            return []
        title = next((one_line(found[key]) for key in _TITLES if found.get(key)), "")
        if name == "TabItem":
            return [Block("tab", one_line(found.get("label") or found.get("value") or ""))]
        if name in builder.partials:
            return builder.include_blocks(builder.partials[name], page)
        builder.notes["components by their text"] += 1
        return [Block("paragraph", title)] if title else []

    def inline_directive(self, token: Token, page: Page, builder: Builder) -> str:
        return str(token.meta["text"])

    def code(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        token.content = _HIGHLIGHT.sub("", token.content)
        return titled_code(token)

    def candidates(self, target: str, page: Page) -> list[str]:
        """Beside the page; `@site` is the folder of the site, which is some folder above it."""
        if target.startswith("@site/"):
            return [posixpath.join(folder, target[6:]) for folder in folders_above(page.path)]
        return [posixpath.join(posixpath.dirname(page.path), target)]


DOCUSAURUS = Docusaurus()


def _source(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _push(state: StateBlock, name: str, text: str = "", attributes: dict[str, str] | None = None) -> None:
    token = state.push("directive", "", 0)
    token.info, token.meta = name, {**(attributes or {}), "text": text}


def _module_rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`import` and `export` at the start of a block, to the blank line after which their brackets are closed."""
    if state.level or state.tShift[start] or not _MODULE.fullmatch(_source(state, start)):
        return False
    if silent:
        return True
    first_blank = 0
    depth = 0
    line = start
    for line in range(start, min(end, start + _MODULE_LINES)):
        if state.isEmpty(line):
            first_blank = first_blank or line
            if depth <= 0:
                break
        source = _source(state, line)
        depth += sum(map(source.count, "{([")) - sum(map(source.count, "})]"))
    else:
        line = line + 1 if depth <= 0 or not first_blank else first_blank
    _push(state, "module")
    state.line = max(line, start + 1)
    return True


def _line_rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    source = _source(state, start)
    if source.startswith(":::") and (match := _ADMONITION.fullmatch(source)):
        if not silent:
            kind = match[2] or ""
            title = one_line(match[3] or match[4] or "")
            _push(state, "label" if kind else "", title or kind.capitalize())
            state.line = start + 1
        return True
    if not source.startswith("<"):
        return False
    position = state.bMarks[start] + state.tShift[start]
    last = min(end, start + _TAG_LINES) - 1
    tag = _TAG.match(state.src, position, state.eMarks[last])
    if tag is None:
        return False
    following = start + 1
    while following < end and state.bMarks[following] < tag.end():
        following += 1
    rest = state.src[tag.end() : state.eMarks[following - 1]].strip()
    component = not tag[2] or tag[2][0].isupper()
    if not component and (rest or tag[2] in ("pre", "script", "style", "textarea", "svg")):
        return False
    if silent:
        return True
    if component:
        found = {name: _text(value) for name, value in _ATTRIBUTE.findall(tag[3] or "")}
        _push(state, tag[2] or "", found.get("text", ""), {**found, "closing": "yes" if tag[1] else ""})
    else:
        state.push("html_block", "", 0).content = re.sub(
            r"(?<!\s)\s+[\w:-]+\s*=\s*\{.{0,2000}?\}(?=[\s/>])", "", tag.group(), flags=re.S
        )
    if rest:
        _rest_of_line(state, following - 1, tag.end())
    state.line = following
    return True


def _rest_of_line(state: StateBlock, line: int, position: int) -> None:
    """What stands behind a tag, as inline text with tags of its own."""
    text = state.src[position : state.eMarks[line]].strip()
    state.push("paragraph_open", "p", 1)
    token = state.push("inline", "", 0)
    token.content, token.children = text, []
    state.push("paragraph_close", "p", -1)


def _text(value: str) -> str:
    """The text of an attribute: a string, or a string in braces."""
    inner = value[1:-1].strip()
    if value.startswith("{"):
        return inner[1:-1] if len(inner) > 1 and inner[0] in "\"'`" and inner[-1] == inner[0] else ""
    return inner


def _inline_rule(state: StateInline, silent: bool) -> bool:
    """Components in a line, comments, and texts in braces; any other expression stays as written."""
    source, position = state.src, state.pos
    text = ""
    match: re.Match[str] | None = None
    if source[position] == "<":
        match = _TAG.match(source, position)
        if match and match[2] and not match[2][0].isupper() and "={" not in match[3]:
            return False
    elif source[position] == "{" and (match := _EXPRESSION.match(source, position)):
        text = match[2] or ""
    if match is None:
        return False
    if not silent:
        token = state.push("directive", "", 0)
        token.info, token.meta = "text", {"text": text}
    state.pos = match.end()
    return True
