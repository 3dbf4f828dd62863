"""Text that is taken as it stands: text files, the texts of a JSON Lines file, the chapters of a book."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from contextlib import suppress

from rag_vs_ft.corpus.readers import Content, FileContext, LeftOut
from rag_vs_ft.corpus.text import NotText, decode, headings_of, normalise


def text_of(data: bytes, encoding: str = "") -> tuple[str, Counter[str]]:
    """The normalised text of a file, and notes of how it was decoded. Raises LeftOut for a file that is not text.

    Bytes that are not UTF-8 are read in the encoding that the file names, else in the one that they look like.
    """
    try:
        text, replaced = decode(data)
    except NotText as error:
        raise LeftOut("binary") from error
    if not replaced:
        return normalise(text), Counter()
    for name in (encoding, _looks_like(data)):
        with suppress(LookupError, UnicodeError):
            return normalise(data.decode(name)), Counter({f"read as {codecs.lookup(name).name}": 1})
    return normalise(text), Counter({"bytes that are not UTF-8 replaced": 1})


def _looks_like(data: bytes) -> str:
    """The encoding that some bytes are in, by their frequencies; "" when that is not clear."""
    # Few letters beyond ASCII, each alone among others, are western; frequencies say nothing of so few.
    beyond = len(re.findall(rb"[\x80-\xff]", data))
    if 2 * len(re.findall(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])", data)) > beyond and 4 * beyond < len(data):
        return "cp1252"
    from charset_normalizer import from_bytes

    best = from_bytes(data[:200_000]).best()
    return best.encoding if best else ""


def read(data: bytes, context: FileContext) -> Content:
    """The text, with headings where it happens to be Markdown."""
    raw, notes = text_of(data)
    text = raw.strip("\n") + "\n" if raw.strip() else ""
    headings = headings_of(text)
    return Content(text, headings[0].text if headings else "", headings, notes=notes)
