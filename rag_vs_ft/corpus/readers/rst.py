"""reStructuredText, with the directives and roles of Sphinx: docutils parses, its HTML is read like any other."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from rag_vs_ft.corpus.readers import Content, FileContext
from rag_vs_ft.corpus.readers.assemble import assemble
from rag_vs_ft.corpus.readers.html import blocks_of
from rag_vs_ft.corpus.readers.text import text_of

_CODE = ("code-block", "sourcecode", "highlight", "parsed-literal", "prompt", "doctest", "testcode", "testoutput", "console")
_NOTED = {
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "deprecated-removed": "Deprecated since version",
    "seealso": "See also",
}
_DROPPED = ("toctree", "index", "currentmodule", "module", "contents", "raw", "image", "meta", "highlightlang", "only-latex")
_LITERAL = re.compile(r'<span class="docutils literal">((?:[^<]|<span class="pre">[^<]*</span>)*)</span>')
_TARGET = re.compile(r"^(.*?)(?<!\s)\s*(?<!\\)<([^<>]+)>$", re.S)


def read(data: bytes, context: FileContext) -> Content:
    """The document; tables of contents and indexes are left out, included files are put in."""
    text, notes = text_of(data)
    from docutils.core import publish_parts

    _register()
    settings = {
        "file_insertion_enabled": False,
        "raw_enabled": False,
        "report_level": 5,
        "halt_level": 5,
        "warning_stream": False,
        "embed_stylesheet": False,
        "syntax_highlight": "none",
        "doctitle_xform": False,
        "sectnum_xform": False,
        "initial_header_level": 1,
        "line_length_limit": 1_000_000,
        "math_output": "LaTeX",
        "rag": (context, notes, 0),
    }
    parts = publish_parts(text, source_path=context.path, writer="html5", settings_overrides=settings)
    body = _LITERAL.sub(r"<code>\1</code>", str(parts["body"]))
    return assemble([("", blocks_of(body, notes))], notes)


_registered = False


def _register() -> None:
    """Teach docutils what Sphinx adds: once in a process."""
    global _registered
    if _registered:
        return
    _registered = True
    from docutils import nodes
    from docutils.parsers.rst import Directive, directives, roles

    def role(name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None) -> Any:
        shown = text.replace("\x00", "")
        if found := _TARGET.match(shown):
            shown = found[1] or found[2]
        shown = shown.lstrip("!")
        shown = shown[1:].rpartition(".")[2] if shown.startswith("~") else shown
        plain = name in (
            "ref",
            "doc",
            "term",
            "abbr",
            "dfn",
            "guilabel",
            "menuselection",
            "numref",
            "any",
            "issue",
            "pr",
            "user",
            "rfc",
            "pep",
        )
        return [nodes.Text(shown) if plain else nodes.literal(rawtext, shown)], []

    class Flexible(Directive):
        has_content = True
        optional_arguments = 1
        final_argument_whitespace = True
        option_spec: Any = _AnyOption()

    class Code(Flexible):
        def run(self) -> list[Any]:
            text = "\n".join(self.content)
            node = nodes.literal_block(text, text)
            return [_caption(self.options, nodes), node] if self.options.get("caption") else [node]

    class Noted(Flexible):
        def run(self) -> list[Any]:
            label = _NOTED[self.name]
            first, rest = [*(self.arguments[0] if self.arguments else "").split(None, 1), "", ""][:2]
            head = f"{label} {first}: {rest}" if first and self.name != "seealso" else f"{label}: {first} {rest}"
            body = nodes.container()
            inline, messages = self.state.inline_text(head.strip(), self.lineno)
            body += nodes.paragraph(head, "", *inline)
            self.state.nested_parse(self.content, self.content_offset, body)
            return [*body.children, *messages]

    class Dropped(Flexible):
        def run(self) -> list[Any]:
            return []

    class Described(Flexible):
        """A function, class or option: its signature, then what is said of it."""

        def run(self) -> list[Any]:
            body = nodes.container()
            for line in (self.arguments[0] if self.arguments else "").split("\n"):
                if line.strip():
                    paragraph = nodes.paragraph()
                    paragraph += nodes.literal(line, line.strip())
                    body += paragraph
            self.state.nested_parse(self.content, self.content_offset, body)
            return list(body.children)

    class Section(Flexible):
        """A box with a title: its content stays."""

        def run(self) -> list[Any]:
            body = nodes.container()
            if self.arguments and self.name in (
                "tab",
                "tab-item",
                "dropdown",
                "card",
                "grid-item-card",
                "group-tab",
                "code-tab",
                "rubric",
            ):
                body += nodes.paragraph(
                    "", "", nodes.Text(f"{self.arguments[0]}:" if self.name != "rubric" else self.arguments[0])
                )
            if self.name == "code-tab":
                text = "\n".join(self.content)
                body += nodes.literal_block(text, text)
            else:
                self.state.nested_parse(self.content, self.content_offset, body)
            return list(body.children)

    class Included(Flexible):
        def run(self) -> list[Any]:
            context, notes, depth = self.state.document.settings.rag
            path = (self.arguments[0] if self.arguments else "").strip()
            where = path.lstrip("/") if path.startswith("/") else posixpath.join(posixpath.dirname(context.path), path)
            found = context.read(posixpath.normpath(where))
            if found is None or depth > 5:
                notes["unresolved includes"] += 1
                return []
            notes["includes resolved"] += 1
            lines = _picked(found, self.options)
            if self.name == "literalinclude" or "literal" in self.options or "code" in self.options:
                text = "\n".join(lines)
                return [nodes.literal_block(text, text)]
            from docutils.statemachine import StringList

            self.state.document.settings.rag = (context, notes, depth + 1)
            body = nodes.container()
            self.state.nested_parse(StringList(lines, source=where), 0, body, match_titles=True)
            self.state.document.settings.rag = (context, notes, depth)
            return list(body.children)

    tables: list[tuple[type[Directive], tuple[str, ...]]] = [
        (Code, _CODE),
        (Noted, tuple(_NOTED)),
        (Dropped, _DROPPED),
        (Included, ("literalinclude", "include")),
    ]
    for directive, names in tables:
        for name in names:
            directives.register_directive(name, directive)
    known = directives.directive

    def directive_of(name: str, language: Any, document: Any) -> Any:
        found, _ = known(name, language, document)
        if found is None:
            described = name.startswith(("auto", "py:", "c:", "cpp:", "js:", "std:", "rst:")) or name in (
                "function", "method", "class", "attribute", "data", "exception", "option", "envvar", "confval", "describe",
                "classmethod", "staticmethod", "decorator", "property", "program", "cmdoption", "glossary-term", "click",
            )  # fmt: skip
            found = Described if described else Section
        return found, []

    known_role = roles.role

    def role_of(name: str, language: Any, lineno: int, reporter: Any) -> Any:
        found, messages = known_role(name, language, lineno, reporter)
        return (found, messages) if found else (role, [])

    from docutils.parsers.rst import states

    states.directives.directive = directive_of
    states.roles.role = role_of


class _AnyOption(dict[str, Any]):
    """Every option of a directive, as text."""

    def __getitem__(self, key: str) -> Any:
        return lambda value: value or ""

    def __contains__(self, key: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True


def _caption(options: dict[str, Any], nodes: Any) -> Any:
    return nodes.paragraph("", "", nodes.Text(options["caption"]))


def _picked(text: str, options: dict[str, str]) -> list[str]:
    """The lines of an included file that its options ask for."""
    lines = text.split("\n")
    if wanted := re.findall(r"(?<!\d)(\d++)(?:-(\d++)?)?(?=,|\s|$)", options.get("lines", "")):
        lines = [line for first, last in wanted for line in lines[int(first) - 1 : int(last or first)]]
    if start := options.get("start-after"):
        lines = lines[next((place + 1 for place, line in enumerate(lines) if start in line), 0) :]
    if end := options.get("end-before"):
        lines = lines[: next((place for place, line in enumerate(lines) if end in line), len(lines))]
    if name := options.get("pyobject"):
        begin = next(
            (place for place, line in enumerate(lines) if re.match(rf"\s*(?:async )?(?:def|class) {re.escape(name)}\b", line)), 0
        )
        indent = len(lines[begin]) - len(lines[begin].lstrip())
        after = (
            place
            for place in range(begin + 1, len(lines))
            if lines[place].strip() and len(lines[place]) - len(lines[place].lstrip()) <= indent
        )
        lines = lines[begin : next(after, len(lines))]
    return lines
