"""AsciiDoc, with Antora's includes and attributes."""

from __future__ import annotations

from dataclasses import replace

from rag_vs_ft.corpus.asciidoc.attributes import Attributes
from rag_vs_ft.corpus.asciidoc.blocks import Blocks
from rag_vs_ft.corpus.asciidoc.inline import Inline
from rag_vs_ft.corpus.asciidoc.lines import Lines
from rag_vs_ft.corpus.asciidoc.references import References
from rag_vs_ft.corpus.asciidoc.site import Site
from rag_vs_ft.corpus.front_matter import iso_date, scalar, split_front_matter
from rag_vs_ft.corpus.readers import Content, FileContext, LeftOut
from rag_vs_ft.corpus.readers.assemble import assemble
from rag_vs_ft.corpus.readers.text import text_of

MAX_TITLES = 3
"""References in the titles that references stand for."""


def read(data: bytes, context: FileContext) -> Content:
    """The page with its includes; comments and what conditions leave out are not in it. Raises LeftOut for what is no page."""
    text, notes = text_of(data)
    site = Site(context.path, context.read)
    if reason := site.no_page():
        raise LeftOut(reason)
    metadata, body = split_front_matter(text, notes)
    defined = site.attributes()
    lines = Lines(site, Attributes(defined), notes).of(body)
    references = References(site, lines)
    attributes = Attributes(defined)
    asked: list[str] = []

    def title_of(target: str) -> str:
        if len(asked) >= MAX_TITLES or target in asked:
            return ""
        asked.append(target)
        title = inline.text(references.title_of(target))
        asked.pop()
        return title

    inline = Inline(attributes, notes, title_of)
    blocks = Blocks(inline, attributes, notes).page(lines)
    content = assemble([("", blocks)], +notes, attributes.get("doctitle") or scalar(metadata, "title") or attributes.get("title"))
    description = scalar(metadata, "description") or inline.text(attributes.get("description"))
    return replace(content, description=description, date=iso_date(metadata))
