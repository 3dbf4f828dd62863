"""MyST, the Markdown of Sphinx: directives in fences of backticks or colons, and roles.

https://mystmd.org/guide and https://myst-parser.readthedocs.io/
"""

from __future__ import annotations

import posixpath
import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from rag_vs_ft.corpus.markdown.blocks import Block, code_block, code_span
from rag_vs_ft.corpus.markdown.builder import Builder, Page
from rag_vs_ft.corpus.markdown.dialect import Dialect, folders_above
from rag_vs_ft.corpus.markdown.parser import TERMINATES
from rag_vs_ft.corpus.text import one_line

_COLONS = re.compile(r"(:{3,})[ \t]*(\{[\w:+-]+\}[^\n]*)")
_DIRECTIVE = re.compile(r"\{([\w:+-]+)\}[ \t]*(.*)")
_OPTION = re.compile(r"[ \t]*:([\w-]+):[ \t]*(.*)")
_TARGET = re.compile(r"\([^()\n]+\)=[ \t]*")
_ROLE = re.compile(r"\{([\w:+-]{1,50})\}(`{1,3})(?!`)(.{1,500}?)(?<!`)\2(?!`)", re.S)
_TITLED = re.compile(r"(.*?)(?<!\s)\s*<[^<>]*>", re.S)
_SUBSTITUTION = re.compile(r"\{\{[ \t]*([\w.-]+)[ \t]*(?:\|[^{}\n]*)?\}\}")

_CALLOUTS = frozenset(
    re.findall(r"\w+", "note tip hint important warning caution danger error attention seealso admonition todo topic sidebar")
)
_VERSIONS = {
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "versionremoved": "Removed in version",
}
_CODE = frozenset(["code-block", "code", "code-cell", "sourcecode", "parsed-literal", "eval-rst", "mermaid", "prompt", "math"])
_LEFT_OUT = frozenset(
    re.findall(
        r"[\w:-]+",
        """toctree contents index bibliography tableofcontents automodule autoclass autofunction autosummary only raw
        list-of-figures currentmodule module highlight sectionauthor codeauthor""",
    )
)
_TABS = frozenset(["tab-set", "tabs"])
_CODE_ROLES = re.compile(
    r"(?:py|c|cpp|js|rst)(?::\w+)?|code|command|file|option|envvar|program|class|func|meth|mod|attr|literal|samp"
)


class Myst(Dialect):
    """Directives by their content, roles by their text."""

    name = "myst"
    title = "MyST (Sphinx, Jupyter Book)"
    marks = re.compile(
        r"^(?:[ \t]*(?:`{3,}|:{3,})[ \t]*\{[\w:+-]+\}|\([\w:. -]+\)=[ \t]*$)"
        r"|\{(?:ref|doc|term|py:\w+|cite|eq|numref|download)\}`",
        re.M,
    )
    configuration = ("myst.yml", "_toc.yml")
    attribute_lists = True

    def extend(self, parser: MarkdownIt) -> None:
        parser.block.ruler.before("table", "myst_colons", _colon_rule, {"alt": TERMINATES})
        parser.block.ruler.before("table", "myst_line", _line_rule, {"alt": TERMINATES})
        parser.inline.ruler.before("backticks", "myst_role", _role_rule)

    def code(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        match = _DIRECTIVE.fullmatch(token.info.strip())
        if match is None or token.type == "code_block":
            return super().code(token, page, builder)
        options, content = _options(token.content)
        return self._directive(match[1], match[2].strip(), options, content, page, builder)

    def _directive(
        self, name: str, argument: str, options: dict[str, str], content: str, page: Page, builder: Builder
    ) -> list[Block]:
        if name in _CALLOUTS or name in _VERSIONS:
            builder.notes["alerts"] += 1
            if name in _VERSIONS:
                version, _, rest = argument.partition(" ")
                return [Block("label", f"{_VERSIONS[name]} {version}:"), *builder.parse(f"{rest}\n\n{content}", page)]
            # A title is the argument of `admonition` and its kin; of the others, the argument is their first words.
            titled = name in ("admonition", "topic", "sidebar", "todo")
            label = argument if titled and argument else {"seealso": "See also"}.get(name, name.capitalize())
            text = content if titled else f"{argument}\n{content}"
            return [Block("label", one_line(label).rstrip(":") + ":"), *builder.parse(text, page)]
        if name in _CODE:
            language = {"math": "math", "mermaid": "mermaid", "eval-rst": "rst"}.get(name, argument)
            code = [code_block(content, language)] if content.strip() else []
            return [*_paragraph(options.get("caption", "")), *code]
        if name == "literalinclude":
            return builder.sample(
                argument, page, options.get("language", ""), lambda text: _lines(text, options.get("lines", ""))
            )
        if name == "include":
            return builder.include_blocks(argument, page)
        if name in _LEFT_OUT:
            builder.notes["directives that the site generates dropped"] += 1
            return []
        if name in ("image", "figure"):
            builder.notes["images dropped"] += 1
            return builder.parse(content, page) if name == "figure" else []
        inside = builder.parse(content, page)
        if name in _TABS:
            return [*inside, Block("tabs-end")]
        if name in ("tab-item", "tab"):
            return [Block("tab", one_line(argument)), *inside]
        return [*_paragraph(argument), *inside]

    def directive(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        return []

    def inline_directive(self, token: Token, page: Page, builder: Builder) -> str:
        return str(token.meta["text"])

    def candidates(self, target: str, page: Page) -> list[str]:
        """Beside the page; a path that begins with a slash is from the root of the documentation, which is some folder above."""
        if target.startswith("/"):
            return [posixpath.join(folder, target[1:]) for folder in folders_above(page.path)]
        return [posixpath.join(posixpath.dirname(page.path), target)]


MYST = Myst()


def _paragraph(text: str) -> list[Block]:
    return [Block("paragraph", one_line(text))] if text.strip() else []


def _options(content: str) -> tuple[dict[str, str], str]:
    """The options at the head of a directive, as `:name: value` lines or between two rules, and its content."""
    lines = content.split("\n")
    options: dict[str, str] = {}
    if lines[0].strip() == "---" and "---" in (line.strip() for line in lines[1:50]):
        end = next(number for number, line in enumerate(lines[1:], 1) if line.strip() == "---")
        for line in lines[1:end]:
            name, _, value = line.partition(":")
            options[name.strip()] = value.strip()
        return options, "\n".join(lines[end + 1 :])
    place = 0
    while place < len(lines) and (match := _OPTION.fullmatch(lines[place])):
        options[match[1]] = match[2].strip()
        place += 1
    return options, "\n".join(lines[place:])


def _lines(text: str, ranges: str) -> str:
    """The lines of ranges such as "1-3,7"; all of them without any."""
    lines = text.split("\n")
    kept = [
        line
        for first, dash, last in re.findall(r"(\d{1,7})(-?)(\d{0,7})", ranges)[:100]
        for line in lines[int(first) - 1 : int(last) if last else (len(lines) if dash else int(first))]
    ]
    return "\n".join(kept) if kept else text


def _source(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _colon_rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A directive between colons, like one between backticks; one that is not closed loses only its first line."""
    source = _source(state, start)
    match = _COLONS.fullmatch(source) if source.startswith(":::") else None
    if match is None:
        return False
    if silent:
        return True
    unclosed: dict[int, int] = state.env.setdefault("unclosed_colons", {})
    last = start + 1
    if unclosed.get(len(match[1]), -1) != end:
        while last < end and not re.fullmatch(rf":{{{len(match[1])},}}[ \t]*", _source(state, last)):
            last += 1
    closed = last < end and unclosed.get(len(match[1]), -1) != end
    if not closed:
        unclosed[len(match[1])] = end
        last = start
    token = state.push("fence", "code", 0)
    token.info, token.markup, token.map = match[2], "```", [start, last + 1]
    token.content = state.getLines(start + 1, last, state.sCount[start], True) if closed else ""
    state.line = last + 1
    return True


def _line_rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Targets, comments, block breaks, and colons that close nothing."""
    source = _source(state, start)
    if state.is_code_block(start) or not (
        (source.startswith("(") and _TARGET.fullmatch(source))
        or source.startswith("% ")
        or re.fullmatch(r"\+{3}[ \t]*(?:\{.*)?|:{3,}[ \t]*", source)
    ):
        return False
    if not silent:
        state.push("directive", "", 0)
        state.line = start + 1
    return True


def _role_rule(state: StateInline, silent: bool) -> bool:
    """A role by its text: "text <target>" by the text, "~package.Name" by the name; a substitution by its name."""
    if state.src[state.pos] != "{":
        return False
    match = _ROLE.match(state.src, state.pos)
    if match is None:
        match = _SUBSTITUTION.match(state.src, state.pos)
        if match is None:
            return False
        name, text = "", f"<{match[1]}>"
    else:
        name, text = match[1], one_line(match[3])
        text = text if (titled := _TITLED.fullmatch(text)) is None or not titled[1] else titled[1]
        text = text.rpartition(".")[2] if text.startswith("~") else text.lstrip("!")
    if not silent:
        if name == "math":
            state.push("verbatim", "", 0).content = f"${text}$"
        elif _CODE_ROLES.fullmatch(name):
            state.push("verbatim", "", 0).content = code_span(text)
        else:
            token = state.push("directive", "", 0)
            token.info, token.meta = "text", {"text": text}
    state.pos = match.end()
    return True
