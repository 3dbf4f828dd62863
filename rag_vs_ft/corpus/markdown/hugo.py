"""The dialect of Hugo: shortcodes (`{{< name >}}`, `{{% name %}}`), among them those of the Kubernetes documentation.

Hugo resolves shortcodes before Markdown is read, also inside code; so does `prepare`. What stands for text becomes that text;
what stands for blocks is put on a line of its own, for a block rule to find. https://gohugo.io/content-management/shortcodes/
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token

from rag_vs_ft.corpus.front_matter import BrokenYaml, load_yaml, scalar, split_front_matter
from rag_vs_ft.corpus.markdown.blocks import Block, fence_for
from rag_vs_ft.corpus.markdown.builder import Builder, Page
from rag_vs_ft.corpus.markdown.dialect import Dialect, folders_above, is_include
from rag_vs_ft.corpus.markdown.parser import TERMINATES
from rag_vs_ft.corpus.text import one_line

_SHORTCODE = re.compile(
    r"""\{\{([<%])-?\s*+(/?)\s*+([A-Za-z][\w./-]*+)((?:"[^"\n]*"|`[^`]*`|(?![>%]\}\}|\{\{)[^"`])*?)(/?)(?<!\s)\s*[>%]\}\}"""
)
_ESCAPED = re.compile(r"\{\{([<%])/\*(.{0,1000}?)\*/([>%])\}\}", re.S)
_FOUND = re.compile(rf"{_ESCAPED.pattern}|{_SHORTCODE.pattern}", re.S)
_ARGUMENT = re.compile(r"""(?:([\w-]+)\s*=\s*)?("(?:[^"\\]|\\.)*"|`[^`]*`|[^\s"`=]+)""")
_MARK = re.compile(r"\{\{\|([a-z-]{1,20}) ?(.{0,2000}?)\|\}\}[ \t]*")
_FENCE = "`" * 9

_CALLOUTS = frozenset(
    re.findall(r"\w+", "note tip info important warning caution danger hint callout alert admonition notice attention")
)
_CODE = frozenset(["highlight", "mermaid"])
_SAMPLES = frozenset(["code_sample", "codenew", "code", "example", "readfile"])
_GENERATED = frozenset(
    re.findall(
        r"[\w-]+",
        """thirdparty-content legacy-repos-deprecation dockershim-removal feature-gate-table feature-gate-list cve-feed
        feature-gate-description cncf-landscape doc-versions-list latest-release-notes page-api-reference kat-button
        youtube vimeo gist tweet x instagram button toc""",
    )
)
_TEXTS = ("text", "title", "summary", "caption", "header", "name", "label", "alt")
"""The arguments of an unknown shortcode that are shown, best first."""

# What the theme of the Kubernetes documentation calls its recurring sections.
_HEADINGS = {
    "objectives": "Objectives",
    "prerequisites": "Before you begin",
    "whatsnext": "What's next",
    "cleanup": "Cleaning up",
    "synopsis": "Synopsis",
    "options": "Options",
    "options_inherited": "Options inherited from parent commands",
    "parentoptions": "Options inherited from parent commands",
    "seealso": "See also",
    "examples": "Examples",
    "envvars": "Environment variables",
}


@dataclass(frozen=True, slots=True)
class _Shortcode:
    name: str
    closing: bool
    named: Mapping[str, str]
    positional: tuple[str, ...]

    def get(self, *names: str) -> str:
        """The first of these arguments that is given; a number is a position."""
        for name in names:
            if name.isdigit():
                if int(name) < len(self.positional):
                    return self.positional[int(name)]
            elif self.named.get(name):
                return self.named[name]
        return ""


class Hugo(Dialect):
    """Hugo's shortcodes by their text: tooltips, notes, tabs, samples, includes, versions from the site's configuration."""

    name = "hugo"
    title = "Hugo"
    marks = re.compile(r"\{\{[<%]-?\s*+/?\s*+[A-Za-z][^{}\n]*+(?<=[>%])\}\}")
    configuration = ("hugo.toml", "hugo.yaml", "hugo.yml", "hugo.json")
    attribute_lists = True

    def passed_over(self, path: str) -> str:
        return is_include(path)

    def extend(self, parser: MarkdownIt) -> None:
        parser.block.ruler.before("table", "hugo", _block_rule, {"alt": TERMINATES})

    def prepare(self, body: str, page: Page, builder: Builder) -> str:
        return _Shortcodes(self, page, builder).resolve(body)

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
        if name == "include":
            return builder.include_blocks(text, page)
        if name == "sample":
            file, _, language = text.partition("|")
            return builder.sample(file, page, language)
        return []

    def code(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        blocks = super().code(token, page, builder)
        for block in blocks:
            block.fence = fence_for(block.text) if block.fence == _FENCE else block.fence
        return blocks

    def arrange(self, blocks: list[Block], notes: Counter[str]) -> list[Block]:
        _without_marks(blocks)
        return super().arrange(blocks, notes)

    def candidates(self, target: str, page: Page) -> list[str]:
        """Beside the page, and in `includes`, `examples` and the like of each folder above it."""
        target = target.strip().lstrip("/")
        found = [posixpath.join(posixpath.dirname(page.path), target)]
        for folder in folders_above(page.path):
            found += [posixpath.join(folder, part, target) for part in ("", "includes", "examples", "content/en/examples")]
        return found


HUGO = Hugo()
_SITE_FILES = ("hugo.toml", "hugo.yaml", "hugo.yml", "config.toml", "config.yaml")


def _without_marks(blocks: list[Block]) -> None:
    """Marks where no block can start, in code and HTML, by their text."""
    for block in blocks:
        if "{{|" in block.text:
            block.text = _MARK.sub(lambda match: match[2] if match[1] in ("label", "text", "tab") else "", block.text)
        for part in block.parts:
            _without_marks(part)


def _block_rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    position = state.bMarks[start] + state.tShift[start]
    if not state.src.startswith("{{|", position):
        return False
    match = _MARK.fullmatch(state.src, position, state.eMarks[start])
    if match is None:
        return False
    if not silent:
        token = state.push("directive", "", 0)
        token.info, token.meta = match[1], {"text": match[2]}
        state.line = start + 1
    return True


class _Shortcodes:
    """The shortcodes of one page, resolved from its start to its end."""

    def __init__(self, dialect: Hugo, page: Page, builder: Builder) -> None:
        self.dialect = dialect
        self.page = page
        self.builder = builder
        self.code: list[str] = []

    def resolve(self, body: str) -> str:
        """The body with text for what stands for text, and marks on lines of their own for what stands for blocks."""
        body = self._without_comments(body)
        parts: list[str] = []
        line = ""
        position = 0
        for match in _FOUND.finditer(body):
            before = body[position : match.start()]
            parts.append(before)
            line = _line_start(line, before)
            position = match.end()
            # `{{</* note */>}}` is how a page shows a shortcode instead of using it.
            shown = f"{{{{{match[1]}{match[2]}{match[3]}}}}}"
            text, own_line = (shown, False) if match[1] else self._one(_parsed(*match.group(5, 6, 7)))
            if own_line:
                indent = re.match(r"[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?", line)
                width = " " * len(indent.group()) if indent else ""
                lines = text.split("\n")
                text = ("\n" + width if line.strip() and (indent is None or line != indent.group()) else "") + lines[0]
                text += "".join("\n" + width + more for more in lines[1:])
                line_end = body.find("\n", position)
                rest = body[position : line_end if line_end >= 0 else len(body)]
                if rest.strip():
                    text += "\n" + width
                    # The spaces between a shortcode and the text after it would be indentation.
                    position += len(rest) - len(rest.lstrip())
            parts.append(text)
            line = _line_start(line, text)
        return "".join([*parts, body[position:]])

    def _without_comments(self, body: str) -> str:
        found = re.compile(r"\{\{[<%]\s*comment\s*[>%]\}\}|\{\{[<%]\s*/\s*comment\s*[>%]\}\}")
        parts: list[str] = []
        position = 0
        start: re.Match[str] | None = None
        for match in found.finditer(body):
            if "/" not in match.group():
                start = start or match
            elif start is not None:
                self.builder.notes["comments dropped"] += 1
                parts.append(body[position : start.start()])
                position, start = match.end(), None
        return "".join([*parts, body[position:]])

    def _one(self, code: _Shortcode) -> tuple[str, bool]:
        """The text of one shortcode, and whether it has a line of its own."""
        name, notes = code.name, self.builder.notes
        notes["shortcodes resolved"] += 1
        if name in _CALLOUTS:
            label = code.get("title", "type", "kind", "0") if name not in ("note", "tip", "warning", "caution") else ""
            return ("{{|end |}}" if code.closing else f"{{{{|label {_label(label or name)}|}}}}"), True
        if name in _CODE or (name == "tab" and (code.get("codelang") or (code.closing and self.code))):
            return self._fenced(code), True
        if name in ("tab", "tabs", "tabpane", "tabbed-content"):
            if not code.closing:
                title = one_line(code.get("name", "header", "title", "tabName", "0"))
                file = code.get("include")
                inside = f"\n\n{{{{|include {file}|}}}}" if file else ""
                return (f"{{{{|tab {title}|}}}}{inside}" if name == "tab" else "{{|end |}}"), True
            return ("{{|end |}}" if name == "tab" else "{{|tabs-end |}}"), True
        if name in _SAMPLES:
            file = code.get("file", "0")
            return ("{{|end |}}" if code.closing or not file else f"{{{{|sample {file}|{code.get('language')}|}}}}"), True
        if name == "include":
            return f"{{{{|include {code.get('file', 'path', '0')}|}}}}", True
        if resolve := _TEXT_SHORTCODES.get(name):
            return resolve(self, code), name in _BLOCK_TEXTS
        if name in _GENERATED or code.closing:
            notes["shortcodes that the site generates dropped"] += not code.closing
            return "", False
        text = one_line(code.get(*_TEXTS))
        notes["unknown shortcodes"] += 1
        return text, False

    def _fenced(self, code: _Shortcode) -> str:
        """Code between two shortcodes, as a fence that nothing in it closes."""
        if code.closing:
            if not self.code or self.code.pop() != code.name:
                return "{{|end |}}"
            return _FENCE
        self.code.append(code.name)
        language = code.get("codelang", "lang", "0") if code.name != "mermaid" else "mermaid"
        title = f"{{{{|tab {one_line(code.get('name'))}|}}}}\n" if code.name == "tab" else ""
        return f"{title}{_FENCE}{language}"

    # --- shortcodes that stand for text ---

    def glossary(self, code: _Shortcode) -> str:
        """A term by the text that the page gives it, else by the title of its entry."""
        text, term = code.get("text"), code.get("term_id", "0")
        return text or scalar(self._entry(term)[0], "title") or term.replace("-", " ")

    def definition(self, code: _Shortcode) -> str:
        """The entry of a term: its first part, or all of it."""
        term = code.get("term_id", "0")
        _, body = self._entry(term)
        short, _, rest = body.partition("<!--more-->")
        text = short.strip() + ("\n\n" + rest.strip() if code.get("length") == "all" and rest.strip() else "")
        if not text or self.builder.included > 1_000_000:
            self.builder.notes["unresolved includes"] += 1
            return ""
        self.builder.included += len(text)
        if prepend := code.get("prepend"):
            text = f"{prepend.strip()} {text[0].lower()}{text[1:]}"
        # An entry calls other terms, and no definitions.
        return _SHORTCODE.sub(
            lambda match: self.glossary(_parsed(*match.group(2, 3, 4))) if match[3] == "glossary_tooltip" else "", text
        )

    def _entry(self, term: str) -> tuple[dict[str, Any], str]:
        return self._page(f"reference/glossary/{term}.md")

    def _page(self, name: str) -> tuple[dict[str, Any], str]:
        """Front matter and body of a page below the root of the documentation, whatever lies above it."""
        for folder in folders_above(self.page.path):
            for root in ("", "docs", "content/en/docs"):
                path = posixpath.normpath(posixpath.join(folder, root, name))
                if not path.startswith(("../", "/")) and (text := self.builder.read(path)) is not None:
                    return split_front_matter(text, self.builder.notes)
        return {}, ""

    def heading(self, code: _Shortcode) -> str:
        """The title of a section that the site gives to all its pages."""
        name = code.get("0", "name")
        return _HEADINGS.get(name, name.replace("_", " ").capitalize())

    def feature_state(self, code: _Shortcode) -> str:
        """ "Feature state: Kubernetes v1.25 [stable]", also by the entry of a feature gate."""
        version, state = code.get("for_k8s_version"), code.get("state", "0")
        if gate := code.get("feature_gate_name"):
            metadata, _ = self._page(f"reference/command-line-tools-reference/feature-gates/{gate}.md")
            stages = [stage for stage in metadata.get("stages") or [] if isinstance(stage, dict)]
            if stages:
                version, state = f"v{stages[-1].get('fromVersion', '')}", str(stages[-1].get("stage", ""))
                default = " (enabled by default)" if stages[-1].get("defaultValue") is True else " (disabled by default)"
                state += default if state in ("alpha", "beta") else ""
            else:
                state = f"feature gate {gate}"
        return self._line(f"Feature state: {'Kubernetes ' + version if version else ''} {f'[{state}]' if version else state}")

    def version_check(self, code: _Shortcode) -> str:
        """What the site says below its prerequisites."""
        return self._line("To check the version, enter `kubectl version`.")

    def parameter(self, code: _Shortcode) -> str:
        """A parameter of the site's configuration, or its name as a placeholder."""
        return self._known(code.get("0", "name"))

    def release(self, code: _Shortcode) -> str:
        """A shortcode that only says which release the site is about."""
        return self._known(code.name)

    def _known(self, name: str) -> str:
        value = self._site().get(name)
        if isinstance(value, str | int | float):
            return str(value)
        self.builder.notes["parameters of the site that are not known"] += 1
        return f"<{_words(name)}>"

    def skew(self, code: _Shortcode) -> str:
        """A version counted from the site's own, or its name as a placeholder."""
        name = code.get("0")
        steps = code.get("1") or "0"
        moved = {"currentVersion": 0, "latestVersion": 0, "nextMinorVersion": 1, "prevMinorVersion": -1}
        if name == "currentVersionAddMinor" and re.fullmatch(r"-?\d{1,3}", steps):
            moved[name] = int(steps)
        version = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.\d+)?", str(self._site().get("version", "")))
        if version and name in moved:
            return f"{version[1]}.{int(version[2]) + moved[name]}"
        self.builder.notes["parameters of the site that are not known"] += 1
        moved_by = f" {moved[name]:+d}" if name == "currentVersionAddMinor" and moved.get(name) else ""
        return f"<{_words(name.replace('AddMinor', ''))}{moved_by}>"

    def _site(self) -> Mapping[str, Any]:
        """`params` of the nearest configuration above the page."""
        for folder in folders_above(self.page.path):
            for name in _SITE_FILES:
                if (text := self.builder.read(posixpath.join(folder, name))) is not None:
                    return _parameters(text, name.endswith("toml"))
        return {}

    def figure(self, code: _Shortcode) -> str:
        """The words under a picture."""
        self.builder.notes["images dropped"] += 1
        return self._line(code.get("caption", "title"))

    def caption(self, code: _Shortcode) -> str:
        """The words above a table."""
        return "{{|end |}}" if code.closing else self._line(code.get("caption"))

    def details(self, code: _Shortcode) -> str:
        """What is folded away stays, below its summary."""
        return "{{|end |}}" if code.closing else self._line(code.get("summary", "title", "0"))

    def target(self, code: _Shortcode) -> str:
        """The target of a link."""
        return code.get("path", "0").replace(" ", "%20")

    def reference(self, code: _Shortcode) -> str:
        """A page of the reference, by its title."""
        page = code.get("page", "0")
        return (
            code.get("text") or scalar(self._page(f"reference/kubernetes-api/{page}.md")[0], "title") or page.rpartition("/")[2]
        )

    @staticmethod
    def _line(text: str) -> str:
        return f"{{{{|text {one_line(text)}|}}}}" if text.strip() else "{{|end |}}"


_TEXT_SHORTCODES: Mapping[str, Callable[[_Shortcodes, _Shortcode], str]] = {
    "glossary_tooltip": _Shortcodes.glossary,
    "glossary_definition": _Shortcodes.definition,
    "heading": _Shortcodes.heading,
    "feature-state": _Shortcodes.feature_state,
    "version-check": _Shortcodes.version_check,
    "param": _Shortcodes.parameter,
    "skew": _Shortcodes.skew,
    "release-branch": _Shortcodes.release,
    "latest-version": _Shortcodes.release,
    "latest-semver": _Shortcodes.release,
    "figure": _Shortcodes.figure,
    "imgproc": _Shortcodes.figure,
    "table": _Shortcodes.caption,
    "details": _Shortcodes.details,
    "expand": _Shortcodes.details,
    "ref": _Shortcodes.target,
    "relref": _Shortcodes.target,
    "api-reference": _Shortcodes.reference,
}
_BLOCK_TEXTS = frozenset(
    ["glossary_definition", "feature-state", "version-check", "figure", "imgproc", "table", "details", "expand"]
)


def _line_start(line: str, text: str) -> str:
    """The start of the line that `text` ends in, when it is written after `line`; enough of it to see where its words begin."""
    return (text.rpartition("\n")[2] if "\n" in text else line + text)[:200]


def _parsed(slash: str, name: str, arguments: str) -> _Shortcode:
    named: dict[str, str] = {}
    positional: list[str] = []
    for argument, value in _ARGUMENT.findall(arguments):
        value = value[1:-1].replace('\\"', '"') if value[:1] in ('"', "`") else value
        if argument:
            named[argument] = value
        else:
            positional.append(value)
    return _Shortcode(name, bool(slash), named, tuple(positional))


def _label(text: str) -> str:
    return one_line(text)[:1].upper() + one_line(text)[1:]


def _words(name: str) -> str:
    """`currentVersion` and `release-branch` as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[-_]", " ", name).lower()


@lru_cache(maxsize=8)
def _parameters(text: str, toml: bool) -> Mapping[str, Any]:
    try:
        found: object = tomllib.loads(text) if toml else load_yaml(text)
    except (tomllib.TOMLDecodeError, BrokenYaml, RecursionError):
        return {}
    params = found.get("params") if isinstance(found, dict) else None
    return params if isinstance(params, dict) else {}
