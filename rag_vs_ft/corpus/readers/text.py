"""Text that is taken as it stands: the texts of a JSON Lines file and the chapters of a book."""

from __future__ import annotations

from collections import Counter

from rag_vs_ft.corpus.readers import Content, Context, LeftOut
from rag_vs_ft.corpus.text import NotText, decode, headings_of, normalise


def text_of(data: bytes) -> tuple[str, Counter[str]]:
    """The normalised text of a file, and a note of what was replaced in it. Raises LeftOut for a file that is not text."""
    try:
        text, replaced = decode(data)
    except NotText as error:
        raise LeftOut("binary") from error
    return normalise(text), Counter({"bytes that are not UTF-8 replaced": 1} if replaced else {})


def read(data: bytes, context: Context) -> Content:
    """The text, with headings where it happens to be Markdown."""
    raw, notes = text_of(data)
    text = raw.strip("\n") + "\n" if raw.strip() else ""
    headings = headings_of(text)
    return Content(text, headings[0].text if headings else "", headings, notes=notes)
