"""PDF: text in reading order, headings by outline or font, tables, and the page that everything stands on."""

from __future__ import annotations

import io
import logging
from collections import Counter
from typing import Any

from rag_vs_ft.corpus.pdf.blocks import content_of, drop_contents, drop_running, heading_key
from rag_vs_ft.corpus.pdf.lines import PdfPage, lines_of
from rag_vs_ft.corpus.readers import Content, Damaged, FileContext, LeftOut

PICTURE = 20
"""Points that a picture is wide and high at least; smaller ones are lines and dots."""


def _damaged(error: Exception) -> Damaged:
    cause = next((found for found in error.args if isinstance(found, Exception)), error)  # pdfplumber wraps pdfminer's
    return Damaged("PDF", f"{type(cause).__name__}: {cause}"[:200])


def read(data: bytes, context: FileContext) -> Content:
    """The pages in order, each a place."""
    import pdfplumber
    from pdfminer.pdfdocument import PDFPasswordIncorrect
    from pdfplumber.utils.exceptions import PdfminerException

    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    notes: Counter[str] = Counter()
    try:
        book = pdfplumber.open(io.BytesIO(data))
    except PdfminerException as error:
        if any(isinstance(found, PDFPasswordIncorrect) for found in error.args) or "PasswordIncorrect" in repr(error):
            raise LeftOut("encrypted PDF (save it without a password)") from error
        raise _damaged(error) from error
    pages: list[PdfPage] = []
    pictures = 0  # pages that are one
    for number, page in enumerate(book.pages, start=1):
        try:
            found = PdfPage(number, float(page.height), lines_of(page, notes))
        except Exception as error:  # one bad page costs that page
            notes["pages that cannot be read"] += 1
            if number == len(book.pages) and not pages:
                raise _damaged(error) from error
            continue
        if len(found.lines) < 3 and sum(len(line.text) for line in found.lines) < 20 and page.images:
            pictures += 1
        else:
            notes["images dropped"] += sum(image["width"] >= PICTURE <= image["height"] for image in page.images)
        pages.append(found)
        page.close()
    drop_running(pages, notes)
    drop_contents(pages, notes)
    if not any(page.lines for page in pages):
        if pictures:
            raise LeftOut("PDF without a text layer: needs OCR (ocrmypdf IN.pdf OUT.pdf, then add that)")
        return Content("", notes=notes)
    notes = +notes  # without zeros
    if pictures:
        notes["pages without a text layer (they need OCR)"] += pictures
    if attached := _attachments(book):
        notes["attachments left out"] += attached
    return content_of(pages, _outline(book), notes, str((book.metadata or {}).get("Title") or ""))


def _attachments(book: Any) -> int:
    from pdfminer.pdftypes import resolve1

    try:
        names = resolve1(book.doc.catalog["Names"])
        return len(resolve1(resolve1(names["EmbeddedFiles"])["Names"])) // 2
    except Exception:  # an index of attachments may be anything
        return 0


def _outline(book: Any) -> dict[str, int]:
    """The headings of the outline, without spaces and case, and how deep each is."""
    try:
        found = {heading_key(str(title)): int(level) for level, title, *_ in book.doc.get_outlines()}
    except Exception:  # none, or a broken one
        return {}
    return {title: level for title, level in found.items() if len(title) > 2}
