"""The dialect of Microsoft Learn (DocFX), and its FAQ files.

The dialect: https://learn.microsoft.com/contribute/content/markdown-reference
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from rag_vs_ft.corpus import azure
from rag_vs_ft.corpus.front_matter import BrokenYaml, load_yaml
from rag_vs_ft.corpus.markdown import arrange
from rag_vs_ft.corpus.markdown.blocks import Block
from rag_vs_ft.corpus.markdown.builder import Builder, Page
from rag_vs_ft.corpus.markdown.dialect import Dialect, is_include
from rag_vs_ft.corpus.markdown.html import alternative
from rag_vs_ft.corpus.markdown.parser import TERMINATES
from rag_vs_ft.corpus.readers import LeftOut, Read
from rag_vs_ft.corpus.text import one_line


class Learn(Dialect):
    """Microsoft Learn: directives (`:::name`), includes (`[!INCLUDE]`) and code samples; navigation is left out."""

    name = "learn"
    title = "Microsoft Learn (DocFX)"
    marks = re.compile(
        r"^ms\.(?:author|custom|date|devlang|prod|reviewer|service|subservice|topic):"
        r"|^[ \t]*:::[ \t]*(?:zone|moniker|image|code|row|column)\b|\[!(?:INCLUDE|CODE|VIDEO|div)\b|\]\(#tab/|\A### YamlMime:",
        re.M,
    )
    configuration = ("docfx.json", ".openpublishing.publish.config.json")

    def passed_over(self, path: str) -> str:
        name = posixpath.basename(path).lower()
        return is_include(path) or ("table of contents" if name.rpartition(".")[0] == "toc" else "")

    def facts(self, path: str) -> Mapping[str, str]:
        return azure.page_facts(path)

    def page_title(self, title: str) -> str:
        return re.sub(r" \| Microsoft (Learn|Docs)$", "", title)

    def extend(self, parser: MarkdownIt) -> None:
        parser.block.ruler.before("table", "learn", _block_rule, {"alt": TERMINATES})
        parser.inline.ruler.before("link", "learn", _inline_rule)

    def directive(self, token: Token, page: Page, builder: Builder) -> list[Block]:
        name, attributes = token.info, token.meta
        if name == "include":
            return builder.include_blocks(attributes["source"], page)
        if name.startswith("code"):
            return builder.sample(
                attributes.get("source", ""),
                page,
                attributes.get("language", name[5:]),
                lambda text: _part_of_sample(text, attributes.get("range", ""), attributes.get("id", "")),
            )
        if name == "zone":
            return [Block("zone", attributes.get("pivot", ""), info=attributes.get("target", ""))]
        if name == "zone-end":
            return [Block("zone-end")]
        if name in ("image", "video"):
            builder.notes[f"{name}s dropped"] += 1
        return []

    def inline_directive(self, token: Token, page: Page, builder: Builder) -> str:
        name, attributes = token.info, token.meta
        if name == "include":
            return " ".join(one_line(block.text) for block in builder.include_blocks(attributes["source"], page))
        if name == "image":
            return alternative(attributes.get("alt-text", ""), builder.notes)
        if name == "no-loc":
            return str(attributes.get("text", ""))
        builder.notes["videos dropped" if name == "video" else "unresolved code samples"] += 1
        return ""

    def candidates(self, target: str, page: Page) -> list[str]:
        """`~/` is the root of a docset, which is some folder above the file."""
        target = target.split("?")[0].split("#")[0].replace("\\", "/").strip()
        folders = page.path.split("/")[:-1]
        if not target.startswith("~/"):
            return [posixpath.join("/".join(folders), target)]
        roots = ["/".join(folders[:depth]) for depth in range(len(folders) + 1)]
        return [posixpath.join(root, rest) for root in roots for rest in (target[2:], target)]

    def arrange(self, blocks: list[Block], notes: Counter[str]) -> list[Block]:
        def alert(name: str, argument: str, content: list[Block]) -> list[Block] | None:
            if name != "div":
                return None
            if ("nextstepaction" in argument or "op_single_selector" in argument) and all(map(_is_navigation, content)):
                notes["navigation dropped"] += 1
                return []
            return content

        return arrange.arrange(blocks, notes, alert, _without_navigation)


LEARN = Learn()


def clean_text(raw: str, path: str = "", read: Read = lambda _: None) -> str:
    """The clean text of a piece of the dialect that lies at `path`; "" if it takes too long to read."""
    try:
        return LEARN.clean(raw, path, read).text.strip()
    except LeftOut:
        return ""


def _part_of_sample(text: str, ranges: str, mark: str) -> str:
    """The lines of a range such as "1,3-4", or those between the two comments `<mark>`."""
    lines = text.split("\n")
    if wanted := re.findall(r"(\d{1,7})(?:-(\d{1,7}))?", ranges):
        lines = [line for first, last in wanted[:100] for line in lines[int(first) - 1 : int(last or first)]]
    elif mark := mark.lower():
        inside = [place for place, line in enumerate(lines) if f"<{mark}>" in line.lower() or f"</{mark}>" in line.lower()]
        lines = lines[inside[0] + 1 : inside[1]] if len(inside) == 2 else lines
    return "\n".join(lines)


# --- the two rules ---

_NAMES = "zone|zone-end|moniker|moniker-end|row|row-end|column|column-end|image|image-end|code|video|form"
_DIRECTIVE = re.compile(rf":{{3,}}[ \t]*({_NAMES})(?![\w-])((?:(?!:::).)*?)(?::{{3,}})?(?<![ \t])[ \t]*", re.S | re.I)
_INLINE_DIRECTIVE = re.compile(r":{3,6}[ \t]*(image|code|video|no-loc)(?![\w-])((?:(?!:::).){0,2000}?):{3,}", re.S | re.I)
_LINKED = re.compile(
    r"\[!(?P<name>INCLUDE|CODE(?:-[\w+#]+)?)[ \t]*\[(?:[^\]\\\n]|\\.){0,500}\][ \t]*\([ \t]*<?(?P<target>[^()<>\n]{1,500}?)>?"
    r"(?:[ \t]+\"[^\"\n]*\")?[ \t]*\)[ \t]*\]",
    re.I,
)
_VIDEO = re.compile(r"\[!VIDEO[^\]\n]{0,500}\]", re.I)
_ATTRIBUTE = re.compile(r"(?<![\w-])([\w-]++)[ \t]*+=[ \t]*+\"([^\"]*)\"")
_CONTINUATION_LINES = 6


def _block_rule(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A line that is one directive or one include, wherever a block can start, also deeper than a list's indentation."""
    text = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    following = start + 1
    if text.startswith(":::"):
        if re.match(r":{3,}[ \t]*(image|code)(?![\w-])", text, re.I) and not re.search(r":::[ \t]*$", text[3:]):
            # Attributes may run over several lines.
            while following < min(end, start + _CONTINUATION_LINES) and not re.search(r":::[ \t]*$", text[3:]):
                text += "\n" + state.getLines(following, following + 1, 0, False).strip()
                following += 1
            if not text.endswith(":::"):
                return False
        match = _DIRECTIVE.fullmatch(text)
        if not match:
            return False
        name, attributes = match.group(1).lower(), dict(_ATTRIBUTE.findall(match.group(2)))
    elif text.startswith("[!"):
        linked = _LINKED.fullmatch(text.rstrip())
        if not linked:
            return False
        name, attributes = linked.group("name").lower(), {"source": linked.group("target")}
    else:
        return False
    if not silent:
        token = state.push("directive", "", 0)
        token.info, token.meta = name, attributes
        state.line = following
    return True


def _inline_rule(state: StateInline, silent: bool) -> bool:
    """The same inside a line of text."""
    source = state.src
    if source.startswith(":::", state.pos):
        match = _INLINE_DIRECTIVE.match(source, state.pos)
        found = (match.group(1).lower(), dict(_ATTRIBUTE.findall(match.group(2)))) if match else None
    elif source.startswith("[!", state.pos):
        match = _LINKED.match(source, state.pos)
        found = (match.group("name").lower(), {"source": match.group("target")}) if match else None
        if match is None and (match := _VIDEO.match(source, state.pos)):
            found = ("video", {})
    else:
        return False
    if match is None or found is None:
        return False
    if not silent:
        token = state.push("directive", "", 0)
        token.info, token.meta = found
    state.pos = match.end()
    return True


# --- navigation ---

_NAVIGATION_TITLE = re.compile(
    r"(next steps?|related (content|articles?|links?|resources|topics)|see also|learn more|more information|further reading"
    r"|additional (resources|reading|information))\W*",
    re.I,
)


_POINTER_TITLE = re.compile(r"(next steps?|related (content|articles?|links?|resources|topics)|see also)\W*", re.I)
"""Sections that only say where to go on, whatever sentences they put around the links."""
_LONGEST_POINTER = 150
"""Words over which a section under such a title is taken to say something of its own."""


def _without_navigation(blocks: list[Block], notes: Counter[str]) -> list[Block]:
    """Leave out sections such as "Next steps" that say only where to go on, or hold nothing but links."""
    kept: list[Block] = []
    place = 0
    while place < len(blocks):
        block = blocks[place]
        end = place + 1
        if block.kind == "heading" and _NAVIGATION_TITLE.fullmatch(block.text):
            while end < len(blocks) and blocks[end].kind not in ("heading", "zone", "zone-end"):
                end += 1
            section = blocks[place + 1 : end]
            pointer = _POINTER_TITLE.fullmatch(block.text) and sum(map(_prose_words, section)) <= _LONGEST_POINTER
            if pointer or all(_is_navigation(part) for part in section):
                notes["navigation dropped"] += 1
                place = end
                continue
        kept.append(block)
        place += 1
    return kept


def _prose_words(block: Block) -> float:
    """Words of paragraphs and lists; a block of another kind (code, a table) counts as endless."""
    if block.kind in ("list", "quote"):
        return sum(_prose_words(child) for part in block.parts for child in part)
    return len(block.text.split()) if block.kind in ("paragraph", "rule") else float("inf")


def _is_navigation(block: Block) -> bool:
    """Links alone, or the line that leads to them."""
    if block.kind in ("list", "quote"):
        return all(_is_navigation(child) for part in block.parts for child in part)
    if block.kind == "rule":
        return True
    return block.kind == "paragraph" and (block.text.endswith(":") or len(one_line(block.text)) - block.linked <= 4)


# --- FAQ files ---


def faq_to_markdown(raw: str) -> str:
    """FAQ YAML (`### YamlMime:FAQ`) as a document of the dialect: title, summary, each question a heading.

    YAML that cannot be read gives "".
    """
    try:
        faq = load_yaml(raw)
    except BrokenYaml:
        return ""
    if not isinstance(faq, dict):
        return ""
    parts = [f"# {one_line(faq.get('title'))}" if faq.get("title") else "", str(faq.get("summary") or "")]
    for section in _dicts(faq.get("sections")):
        for entry in _dicts(section.get("questions")):
            if entry.get("question"):
                parts += [f"## {one_line(entry['question'])}", str(entry.get("answer") or "")]
    found = faq.get("metadata")
    metadata = found if isinstance(found, dict) else {}
    front = yaml.safe_dump({key: value for key, value in metadata.items() if isinstance(value, str | date)})
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part)


def _dicts(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
