"""HTML pages: the main content, without menus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html import unescape

from rag_vs_ft.corpus.markdown.blocks import Block
from rag_vs_ft.corpus.markdown.html import HtmlTree, Tag, pieces, visible
from rag_vs_ft.corpus.readers import Content, FileContext
from rag_vs_ft.corpus.readers.assemble import assemble
from rag_vs_ft.corpus.readers.text import text_of

_DROPPED = frozenset(
    re.findall(r"\w+", "nav aside footer form button select option textarea noscript template iframe dialog object")
)
_DROPPED_ROLES = frozenset(
    re.findall(r"\w+", "navigation banner contentinfo search complementary menu menubar dialog alertdialog")
)
_DROPPED_CLASSES = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navbox|navigation|menu|sidebar|breadcrumbs?|cookies?|toc|dropdown|portlet|indicators|pagination|skip-?link|share|social|noprint|back-?link|backref|reversefootnote|"
    r"editsection|headerlink|catlinks|printfooter|jump-link|advert\w*)(?:$|[\s_-])",
    re.I,
)
_VOID = frozenset(re.findall(r"\w+", "area base br col embed hr img input link meta source track wbr"))
_MAIN_SHARE = 0.25
"""Share of a page's text that its <main> or <article> must have to be taken for the content."""
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w-]{2,40})", re.I)
_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,1000}?)</title", re.S | re.I)


def read(data: bytes, context: FileContext) -> Content:
    """The blocks of a page's main content."""
    declared = _CHARSET.search(data[:4_096])
    source, notes = text_of(data, declared[1].decode("ascii", "replace") if declared else "")
    content = assemble([("", blocks_of(main_content(source), notes))], notes)
    titled = _TITLE.search(source)
    if not any(heading.level == 1 for heading in content.headings) and titled:
        content = content.with_title(" ".join(unescape(titled[1]).split()))
    return content


def blocks_of(source: str, notes: Counter[str]) -> list[Block]:
    """The blocks of a piece of HTML."""
    root: list[Block] = []
    tree = HtmlTree(root, notes, components=True)
    tree.feed(source)
    tree.close()
    notes.pop("HTML tags dropped", None)  # every page has them
    return root


def main_content(source: str) -> str:
    """The part of a page that is its own: the text of <main> or <article> if there is one, without menus, forms and footers."""
    kept = list(_without_menus(list(pieces(visible(source, Counter())))))
    for is_main in (_is_main, _is_article):
        inside = _inside(kept, is_main)
        if _length(inside) > _MAIN_SHARE * _length(kept):
            return _joined(inside)
    return _joined(_inside(kept, lambda tag: tag.name == "body") or kept)


def _without_menus(found: list[Tag | str]) -> list[Tag | str]:
    kept: list[Tag | str] = []
    skipping, depth = "", 0
    in_head = False
    for piece in found:
        if isinstance(piece, str):
            if not skipping and not in_head:
                kept.append(piece)
            continue
        if piece.name == "head":
            in_head = not piece.closing
        if skipping:
            if piece.name == skipping:
                depth += -1 if piece.closing else 1
                skipping = skipping if depth else ""
        elif not piece.closing and piece.name not in _VOID and piece.name not in ("body", "html", "main") and _is_menu(piece):
            skipping, depth = piece.name, 1
        elif not in_head:
            kept.append(piece)
    # A menu that is never closed would take the rest of the page with it.
    return found if skipping and _length(kept) < _MAIN_SHARE * _length(found) else kept


def _is_menu(tag: Tag) -> bool:
    attributes = tag.attributes
    if tag.name in _DROPPED or attributes.get("role", "").lower() in _DROPPED_ROLES or "hidden" in attributes:
        return True
    return bool(_DROPPED_CLASSES.search(attributes.get("class", "")) or _DROPPED_CLASSES.search(attributes.get("id", "")))


def _is_main(tag: Tag) -> bool:
    return tag.name == "main" or tag.attributes.get("role", "").lower() == "main"


def _is_article(tag: Tag) -> bool:
    return tag.name == "article"


def _inside(found: list[Tag | str], wanted: Callable[[Tag], bool]) -> list[Tag | str]:
    """What stands in the elements that are wanted."""
    inside: list[Tag | str] = []
    name, depth = "", 0
    for piece in found:
        if isinstance(piece, str):
            if name:
                inside.append(piece)
        elif name:
            if piece.name == name:
                depth += -1 if piece.closing else 1
                name = name if depth else ""
            inside.append(piece)
        elif not piece.closing and wanted(piece):
            name, depth = piece.name, 1
    return inside


def _length(found: list[Tag | str]) -> int:
    return sum(len(piece.strip()) for piece in found if isinstance(piece, str))


def _joined(found: list[Tag | str]) -> str:
    return "".join(piece if isinstance(piece, str) else piece.source for piece in found)
