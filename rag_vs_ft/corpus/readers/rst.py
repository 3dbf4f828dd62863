"""reStructuredText, with the directives and roles of Sphinx: docutils parses, its HTML is read like any other."""

from __future__ import annotations

import ast
import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rag_vs_ft.corpus.markdown.dialect import folders_above
from rag_vs_ft.corpus.readers import Content, FileContext
from rag_vs_ft.corpus.readers.assemble import assemble
from rag_vs_ft.corpus.readers.html import blocks_of
from rag_vs_ft.corpus.readers.text import text_of
from rag_vs_ft.corpus.text import one_line

_CODE = ("code-block", "sourcecode", "highlight", "prompt", "doctest", "testcode", "testoutput", "console")
_DIAGRAMS = ("graphviz", "digraph", "graph", "mermaid", "uml", "plantuml", "productionlist", "aafig", "blockdiag", "seqdiag")
_NOTED = {
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "deprecated-removed": "Deprecated since version",
    "seealso": "See also",
}
_DROPPED = (
    "toctree", "index", "contents", "raw", "meta", "highlight", "highlightlang", "default-domain", "sectionauthor", "codeauthor",
    "moduleauthor", "tabularcolumns", "program", "nosearch",
)  # fmt: skip
_MODULES = ("currentmodule", "py:currentmodule", "module", "py:module", "automodule")
_PICTURES = ("image", "thumbnail", "video", "youtube")
_PREFIXED = {"class": "class ", "exception": "exception ", "autoclass": "class ", "autoexception": "exception "}
_OF_MODULES = frozenset(
    f"{prefix}{name}"
    for name in ("class", "exception", "function", "data", "decorator", "attribute", "method")
    for prefix in ("", "py:", "auto")
)
"""Directives that describe a thing of the current module, whose name the page shows with it."""
_CALLED = frozenset(f"{domain}{name}" for name in ("func", "meth") for domain in ("", "py:", "c:", "cpp:", "js:"))
_PLAIN = frozenset(
    re.findall(
        r"\w+", "ref doc term abbr dfn guilabel menuselection numref any issue pr user rfc pep index eq token cite gh ghsa cve"
    )
)
_OTHER_OUTPUTS = re.compile(r"(?:latex|man|texinfo|text|epub|gettext|confluence)\b(?!.*\b(?:html|or not)\b)")
_BUILT_IN_LABELS = {
    "genindex": "Index",
    "modindex": "Module Index",
    "py-modindex": "Python Module Index",
    "search": "Search Page",
}
MAX_INCLUDES = 5
"""Files in files."""
MAX_PAGES = 100
"""Other pages that are opened for the titles of links."""
_LITERAL = re.compile(r'<span class="docutils literal">((?:[^<]|<span class="pre">[^<]*</span>)*)</span>')
_SHOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r'(<p class="admonition-title">)!DANGER!'), r"\1Danger"),
    (re.compile(r'<p class="(?:admonition-title|topic-title)">([^<>]{0,200}?):?</p>\s*<p>'), r"<p>\1: "),
    (re.compile(r'<p class="(?:admonition-title|topic-title)">(.{0,500}?):?</p>', re.S), r"<p>\1:</p>"),
    (re.compile(r'<pre class="([^"]*)" lang="([^"]*)">'), r'<pre class="\1 language-\2">'),
    (re.compile(r'<span class="label"><span class="fn-bracket">(\[)</span>(.{0,500}?)</span>\s*<p>', re.S), r"<p>\1\2 "),
    (re.compile(r'<div class="line">(.*?)</div>', re.S), r"\1<br>"),
    (re.compile(r"<dt>(?:param|parameter|arg|argument|key|keyword) ([^<>]{1,200}<span)"), r"<dt>Parameter \1"),
    (re.compile(r"<dt>(?:raises|raise|except|exception) ([^<>]{1,200}<span)"), r"<dt>Raises \1"),
    (re.compile(r"<dt>(?:returns|return)<span"), "<dt>Returns<span"),
    (re.compile(r"<dt>rtype<span"), "<dt>Return type<span"),
    (re.compile(r"<dt>type ([^<>]{1,200}<span)"), r"<dt>Type of \1"),
)
"""The HTML of docutils -> HTML whose text says what a site's page shows."""
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
        "rag": _Page(context, notes, _labels(text.split("\n"))),
    }
    parts = publish_parts(
        _with_substitutions(text, _configuration(context)), source_path=context.path, writer="html5", settings_overrides=settings
    )
    body = _LITERAL.sub(r"<code>\1</code>", str(parts["body"]))
    for pattern, replacement in _SHOWN:
        body = pattern.sub(replacement, body)
    return assemble([("", blocks_of(body, notes))], +notes)


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
        page: _Page = inliner.document.settings.rag
        found = _TARGET.match(shown)
        if found and found[1]:
            shown = found[1]
        elif name in ("doc", "std:doc"):
            shown = page.title_of(shown)
        elif name in ("ref", "std:ref", "numref"):
            shown = page.label_title(found[2] if found else shown)
        elif name in ("samp", "file"):
            shown = re.sub(r"(?<!\\)[{}]", "", shown)
        elif name == "guilabel":
            shown = re.sub(r"&(?=\S)", "", shown)
        elif name == "menuselection":
            shown = _menu(re.sub(r"&(?=\S)", "", shown))
        else:
            shown = shown.lstrip("!")
            shown = shown[1:].rpartition(".")[2] if shown.startswith("~") else shown.lstrip(".")
            shown += "()" if name in _CALLED and not shown.endswith(")") else ""
        if found and not found[1]:
            shown = shown.replace(f"<{found[2]}>", found[2])
        plain = name.removeprefix("std:") in _PLAIN
        return [nodes.Text(shown) if plain else nodes.literal(rawtext, shown)], []

    class Flexible(Directive):
        has_content = True
        optional_arguments = 1
        final_argument_whitespace = True
        option_spec: Any = _AnyOption()

    class Code(Flexible):
        def run(self) -> list[Any]:
            text = "\n".join(self.content)
            named = (self.arguments or [""])[0].strip() or self.options.get("language", "")
            language = named if self.name in ("code-block", "sourcecode", "code", "highlight", "prompt") else ""
            return [*_caption(self), _literal(text, language, nodes)]

    class Noted(Flexible):
        def run(self) -> list[Any]:
            label = _NOTED[self.name]
            first, rest = [*(self.arguments[0] if self.arguments else "").split(None, 1), "", ""][:2]
            if self.name == "seealso":
                head = f"{label}: {first} {rest}"
            else:
                said = rest or "\n".join(self.content).strip()
                head = f"{label} {first}{':' if said else '.'} {rest}"
            body = nodes.container()
            inline, messages = self.state.inline_text(head.strip(), self.lineno)
            body += nodes.paragraph(head, "", *inline)
            self.state.nested_parse(self.content, self.content_offset, body)
            follows = body.children[1:2]
            if not rest and follows and isinstance(follows[0], nodes.paragraph):
                # The page shows what is said of a version behind it, in the same paragraph.
                body.children[0] += nodes.Text(" ")
                body.children[0] += [child.deepcopy() for child in follows[0].children]
                body.remove(follows[0])
            return [*body.children, *messages]

    class Dropped(Flexible):
        def run(self) -> list[Any]:
            return []

    class Picture(Flexible):
        def run(self) -> list[Any]:
            self.state.document.settings.rag.notes["images dropped"] += 1
            return []

    class Module(Flexible):
        """The module that the directives below it describe things of."""

        def run(self) -> list[Any]:
            page: _Page = self.state.document.settings.rag
            name = (self.arguments or [""])[0].strip()
            page.module = "" if name == "None" else name
            page.notes["descriptions that come from code left out"] += self.name == "automodule"
            body = nodes.container()
            self.state.nested_parse(self.content, self.content_offset, body)
            return list(body.children)

    class Described(Flexible):
        """A function, class or option: its signature, then what is said of it."""

        def run(self) -> list[Any]:
            if self.name == "class" and not re.search(r"[A-Z.(]", (self.arguments or [""])[0]) and not self.content:
                return []  # docutils' own: a class of the page's style sheet
            page: _Page = self.state.document.settings.rag
            page.notes["descriptions that come from code left out"] += self.name.startswith("auto")
            body = nodes.container()
            for line in re.sub(r"\\\n\s*", "", self.arguments[0] if self.arguments else "").split("\n"):
                if signature := page.signature(self.name, line.strip(), self.options):
                    paragraph = nodes.paragraph()
                    paragraph += nodes.literal(line, signature)
                    body += paragraph
            page.depth += 1
            self.state.nested_parse(self.content, self.content_offset, body)
            page.depth -= 1
            return list(body.children)

    class Glossary(Flexible):
        """Terms that share a definition stand in lines of their own."""

        def run(self) -> list[Any]:
            from docutils.statemachine import StringList

            lines: list[str] = []
            for line in self.content:
                is_term = bool(line[:1].strip()) and not line.startswith("..")
                if is_term and lines and lines[-1][:1].strip() and not lines[-1].startswith(".."):
                    lines[-1] += f", {line}"
                else:
                    lines.append(line)
            body = nodes.container()
            self.state.nested_parse(StringList(lines, source="glossary"), self.content_offset, body)
            return list(body.children)

    class Centered(Flexible):
        def run(self) -> list[Any]:
            return [_line(self, self.arguments[0])] if self.arguments else []

    class Only(Flexible):
        """What only other outputs than a site's pages show is left out."""

        def run(self) -> list[Any]:
            if _OTHER_OUTPUTS.match((self.arguments or [""])[0].strip()):
                return []
            body = nodes.container()
            self.state.nested_parse(self.content, self.content_offset, body, match_titles=True)
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
                body += _line(self, self.arguments[0], "" if self.name == "rubric" else ":")
            if self.name == "code-tab":
                language, _, title = (self.arguments or [""])[0].partition(" ")
                body.children[:] = [nodes.paragraph("", "", nodes.Text(f"{title or language}:"))] if language else []
                body += _literal("\n".join(self.content), language, nodes)
            else:
                self.state.nested_parse(self.content, self.content_offset, body)
            return list(body.children)

    class Included(Flexible):
        def run(self) -> list[Any]:
            page: _Page = self.state.document.settings.rag
            context, notes = page.context, page.notes
            path = (self.arguments[0] if self.arguments else "").strip()
            where = path.lstrip("/") if path.startswith("/") else posixpath.join(posixpath.dirname(context.path), path)
            found = context.read(posixpath.normpath(where))
            if found is None or page.included > MAX_INCLUDES:
                notes["unresolved includes"] += 1
                return []
            notes["includes resolved"] += 1
            lines = _picked(found, self.options)
            if self.name == "literalinclude" or "literal" in self.options or "code" in self.options:
                language = self.options.get("language") or self.options.get("code", "")
                return [*_caption(self), _literal("\n".join(lines), language, nodes)]
            from docutils.statemachine import StringList

            page.included += 1
            body = nodes.container()
            self.state.nested_parse(StringList(lines, source=where), 0, body, match_titles=True)
            page.included -= 1
            return list(body.children)

    tables: list[tuple[type[Directive], tuple[str, ...]]] = [
        (Code, (*_CODE, *_DIAGRAMS)),
        (Picture, _PICTURES),
        (Module, _MODULES),
        (Only, ("only",)),
        (Glossary, ("glossary",)),
        (Centered, ("centered",)),
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
        if found is None or name == "class":
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


def _literal(text: str, language: str, nodes: Any) -> Any:
    """A block of code, whose language its HTML names."""
    node = nodes.literal_block(text, text)
    if re.fullmatch(r"[\w+#.-]{1,40}", language):
        node["classes"].append(f"language-{language}")
    return node


def _caption(directive: Any) -> list[Any]:
    """What stands above a block of code."""
    return [_line(directive, directive.options["caption"])] if directive.options.get("caption") else []


def _line(directive: Any, text: str, end: str = "") -> Any:
    """A paragraph of one line of text, with its markup read."""
    from docutils import nodes

    inline, _ = directive.state.inline_text(text, directive.lineno)
    return nodes.paragraph("", "", *inline, *([nodes.Text(end)] if end else []))


@dataclass(slots=True)
class _Page:
    """What the directives and roles of one page know. `depth` counts descriptions in descriptions, `included` files in files."""

    context: FileContext
    notes: Counter[str]
    labels: dict[str, str]
    module: str = ""
    depth: int = 0
    included: int = 0
    titles: dict[str, str] = field(default_factory=dict)

    def signature(self, directive: str, line: str, options: dict[str, Any]) -> str:
        """What the page shows of the thing described, under its full name."""
        name = directive.removeprefix("py:")
        module = options.get("module") or self.module
        if line and directive in _OF_MODULES and self.depth == 0 and module and line.split(".")[0] != module.split(".")[0]:
            line = f"{module}.{line}"
        line += "()" if line and re.search(r"(?:function|method)$", directive) and not line.endswith(")") else ""
        kind = f": {options['type']}" if options.get("type") else ""
        value = f" = {options['value']}" if options.get("value") else ""
        return f"{_PREFIXED.get(name, '')}{line}{kind}{value}" if line else ""

    def title_of(self, target: str) -> str:
        """The title of another page; its name where it is not known."""
        if target not in self.titles and len(self.titles) < MAX_PAGES:
            self.titles[target] = self._title(target)
        return self.titles.get(target) or _words(target.rstrip("/").rpartition("/")[2])

    def _title(self, target: str) -> str:
        names = (
            [posixpath.join(folder, target.lstrip("/")) for folder in folders_above(self.context.path)]
            if target.startswith("/")
            else [posixpath.join(posixpath.dirname(self.context.path), target)]
        )
        for name in names:
            name = posixpath.normpath(f"{name.removesuffix('.rst')}.rst")
            if not name.startswith(("../", "/")) and (text := self.context.read(name)) is not None:
                return _first_title(text.split("\n"))
        return ""

    def label_title(self, label: str) -> str:
        """The title of the section that a label of this page stands above; else the label's words."""
        key = " ".join(label.lower().split())
        return self.labels.get(key) or _BUILT_IN_LABELS.get(key) or _words(label.rpartition(":")[2])


def _words(name: str) -> str:
    return re.sub(r"[-_]+", " ", name).strip()


def _menu(text: str) -> str:
    """The steps of a selection between single marks; what stands around the whole stays."""
    steps = text.split("-->")
    steps[1:] = [step.lstrip() for step in steps[1:]]
    return " > ".join([step.rstrip() for step in steps[:-1]] + steps[-1:])


_UNDERLINE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*$")
_LABEL = re.compile(r"\.\. _(`[^`]+`|[^:`]+):\s*$")
_TITLED = re.compile(r"\.\. (?:table|list-table|csv-table|topic|sidebar|admonition|rubric):: (\S.*)$")
_MARKUP = re.compile(
    r":[\w:+.-]{1,100}:`~?([^`<]*?)(?:(?<!\s)\s*+<[^`]*>)?`|``(.+?)``|"
    r"`([^`<]+?)(?:(?:(?<!\s)|(?<=`\s))\s*+<[^`]*>)?`_{0,2}|\*{1,2}([^*]+)\*{1,2}"
)


def _title_at(lines: list[str], place: int) -> str:
    """The title that stands at a place, underlined or between two lines."""
    if place < len(lines) and _UNDERLINE.match(lines[place]):
        place += 1
    if place + 1 >= len(lines) or not lines[place].strip() or not (under := _UNDERLINE.match(lines[place + 1])):
        return ""
    title = lines[place].strip()
    if len(under[0].rstrip()) < min(len(title), 4):
        return ""
    return _MARKUP.sub(lambda found: found[1] or found[2] or found[3] or found[4], title)


def _first_title(lines: list[str]) -> str:
    for place, line in enumerate(lines[:200]):
        if line[:1].strip() and (title := _title_at(lines, place)):
            return title
    return ""


def _labels(lines: list[str]) -> dict[str, str]:
    """Labels and the titles of the sections that they stand above."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    for place, line in enumerate(lines):
        if label := _LABEL.match(line):
            waiting.append(" ".join(label[1].strip("`").lower().split()))
        elif waiting and line.strip():
            titled = _TITLED.match(line)
            if title := titled[1] if titled else _title_at(lines, place):
                found.update(dict.fromkeys(waiting, title))
            waiting = []
    return found


def _configuration(context: FileContext) -> dict[str, str]:
    """The plain texts that the nearest `conf.py` above a page sets; it is parsed and never run."""
    for folder in folders_above(context.path):
        text = context.read(posixpath.join(folder, "conf.py"))
        if text is None:
            continue
        try:
            statements = ast.parse(text[:200_000]).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return {}
        return {
            target.id: statement.value.value
            for statement in statements
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
            for target in statement.targets
            if isinstance(target, ast.Name) and isinstance(statement.value.value, str)
        }
    return {}


def _with_substitutions(text: str, configuration: dict[str, str]) -> str:
    """The page between its site's prolog and epilog, with the substitutions that Sphinx defines."""
    defined = [
        f".. |{name}| replace:: {one_line(configuration[name])}"
        for name in ("version", "release")
        if configuration.get(name) and f"|{name}|" in text and f".. |{name}|" not in text
    ]
    parts = (configuration.get("rst_prolog", ""), text, configuration.get("rst_epilog", ""), "\n".join(defined))
    return "\n\n".join(part for part in parts if part.strip()) + "\n" if any(parts[::2]) or defined else text


def _picked(text: str, options: dict[str, str]) -> list[str]:
    """The lines of an included file that its options ask for."""
    lines = text.split("\n")
    if wanted := re.findall(r"(?<!\d)(\d{1,7})(?:(-)(\d{0,7}))?(?=,|\s|$)", options.get("lines", "")):
        ends = [int(last) if last else len(lines) if open_end else int(first) for first, open_end, last in wanted]
        lines = [line for (first, _, _), end in zip(wanted, ends, strict=True) for line in lines[max(0, int(first) - 1) : end]]
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
