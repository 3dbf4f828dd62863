"""The titles of what cross references lead to: sections and blocks of this page, and other pages of the site."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rag_vs_ft.corpus.asciidoc.blocks import ANCHOR_LINE, ATTRIBUTE_LINE, HEADING, TITLE
from rag_vs_ft.corpus.asciidoc.lines import VERBATIM
from rag_vs_ft.corpus.asciidoc.site import Site

_ID = re.compile(r"^[^,]*?#([\w:.-]+)|\bid=\"?([\w:.-]+)")
_ANCHOR = re.compile(r"\[\[([\w:][^\[\],]{0,200}), *([^\[\]]{1,300})\]\]|\banchor:([\w:.-]{1,200})\[([^\]]{1,300})\]")
_REFTEXT = re.compile(r"\breftext=(?:\"([^\"]*)\"|([^,\]]+))")


class References:
    """Titles as they are written, by what leads to them."""

    def __init__(self, site: Site, lines: list[str]) -> None:
        self._site = site
        self._here = titles(lines)
        self._others: dict[str, dict[str, str]] = {}

    def title_of(self, target: str) -> str:
        """The title of a section, a block or a page; "" where it is not known."""
        page, mark, part = target.partition("#")
        if not mark and not re.search(r"\.adoc$|[:$/]", page):
            return self._here.get(page, "")
        if not page:
            return self._here.get(part, "")
        if page not in self._others:
            text = self._site.page(page)
            self._others[page] = titles(text.split("\n")) if text is not None else {}
        other = self._others[page]
        return other.get(part, "") or other.get("", "")


def titles(lines: Iterable[str]) -> dict[str, str]:
    """The titles of a page by their ids, given or made from the title, and by themselves; the page's own under ""."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    title = verbatim = ""
    for line in lines:
        line = line.rstrip()
        if verbatim:
            verbatim = "" if line == verbatim else verbatim
            continue
        if mark := VERBATIM.match(line):
            verbatim = mark[1]
        if anchor := ANCHOR_LINE.match(line):
            waiting.append(anchor[1])
            if anchor[2]:
                found.setdefault(anchor[1], anchor[2])
            continue
        if about := ATTRIBUTE_LINE.match(line):
            if given := _ID.search(about[1]):
                waiting.append(given[1] or given[2])
                if text := _REFTEXT.search(about[1]):
                    found.setdefault(waiting[-1], text[1] or text[2])
            continue
        for anchor in _ANCHOR.finditer(line) if "[" in line else ():
            found.setdefault(anchor[1] or anchor[3], anchor[2] or anchor[4])
        if above := TITLE.match(line):
            title = above[1]
            continue
        section = HEADING.match(line)
        if section is not None:
            inside = re.findall(r"\[\[([\w:][^\[\],]*)(?:,[^\[\]]*)?\]\]", section[2])
            title = re.sub(r"\[\[[^\[\]]*\]\]\s*", "", section[2]).strip()
            words = re.sub(r"[^\w\s.-]", "", title.lower())
            for separator in "_-":
                made = re.sub(r"[\s._-]+", separator, words).strip(separator)
                waiting += [made, f"_{made}"]
            if len(section[1]) == 1:
                found.setdefault("", title)
            waiting += [title, *inside]
        if title:
            for name in waiting:
                found.setdefault(name, title)
        if line:
            waiting, title = [], ""
    return found
