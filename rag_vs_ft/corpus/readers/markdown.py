"""Markdown, in the dialect of its folder."""

from __future__ import annotations

from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import Content, FileContext
from rag_vs_ft.corpus.readers.text import text_of


def read(data: bytes, context: FileContext) -> Content:
    """Clean Markdown of a file; see `corpus.dialects`."""
    text, notes = text_of(data)
    return from_text(text, context).with_notes(notes)


def from_text(text: str, context: FileContext) -> Content:
    """The same of a text that is already decoded."""
    return DIALECTS[context.dialect].clean(text, context.path, context.read)
