"""FAQ files of Microsoft Learn (`### YamlMime:FAQ`)."""

from __future__ import annotations

from rag_vs_ft.corpus.markdown.learn import faq_to_markdown
from rag_vs_ft.corpus.readers import Content, FileContext, LeftOut, markdown
from rag_vs_ft.corpus.readers.text import text_of


def is_faq(data: bytes) -> bool:
    """Whether a YAML file says in its first line that it is an FAQ."""
    first = data[:200].decode("utf-8-sig", errors="replace").split("\n", 1)[0]
    return first.replace(" ", "").strip() == "###YamlMime:FAQ"


def read(data: bytes, context: FileContext) -> Content:
    """Each question as a heading above its answer."""
    if not is_faq(data):
        raise LeftOut("YAML other than FAQ")
    if not context.include_faq:
        raise LeftOut("FAQ YAML (questions are mined from it; --include-faq takes it in)")
    text, notes = text_of(data)
    return markdown.from_text(faq_to_markdown(text), context).with_notes(notes)
