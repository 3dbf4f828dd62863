"""Files of each kind as tests make them, and what their reader makes of them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rag_vs_ft.corpus.readers import BY_ENDING, Content, FileContext


def read(name: str, data: bytes | str, others: dict[str, str] | None = None) -> Content:
    """What the reader of a file's name makes of it; headings and places stand where they are said to."""
    raw = data.encode() if isinstance(data, str) else data
    ending = name[name.rindex(".") :]
    content = BY_ENDING[ending].read(raw, FileContext(name, (others or {}).get))
    for heading in content.headings:
        assert content.text[heading.offset] == "#"
    assert [place.offset for place in content.places] == sorted(place.offset for place in content.places)
    return content


def places(content: Content) -> dict[str, str]:
    """The text of each page, sheet or slide."""
    bounds = [place.offset for place in content.places] + [len(content.text)]
    return {
        place.name: content.text[start:end].strip() for place, start, end in zip(content.places, bounds, bounds[1:], strict=False)
    }


Draw = Callable[["Sheet"], None]


class Sheet:
    """A page of a PDF: lines of text at places counted from the top left, in points."""

    def __init__(self, canvas: Any) -> None:
        self.canvas = canvas

    def line(self, text: str, x: float, y: float, size: float = 10, font: str = "Helvetica") -> None:
        self.canvas.setFont(font, size)
        self.canvas.drawString(x, 792 - y, text)

    def table(self, rows: Sequence[Sequence[str]], x: float, y: float, width: float = 130, ruled: bool = True) -> None:
        """A table whose first row's base line is at `y`; its rows are 20 points high."""
        if ruled:
            across = [x + width * number for number in range(len(rows[0]) + 1)]
            self.canvas.grid(across, [792 - y + 14 - 20 * number for number in range(len(rows) + 1)])
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                self.line(cell, x + 4 + width * column, y + 20 * number)


def pdf(*pages: Draw, outline: Sequence[tuple[str, int, int]] = (), password: str = "") -> bytes:
    from reportlab.lib import pdfencrypt
    from reportlab.pdfgen.canvas import Canvas

    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(612, 792), encrypt=pdfencrypt.StandardEncryption(password) if password else None)
    for number, draw in enumerate(pages):
        draw(Sheet(canvas))
        for title, level, page in outline:
            if page == number:
                canvas.bookmarkPage(title)
                canvas.addOutlineEntry(title, title, level)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def word(fill: Callable[[Any], None]) -> bytes:
    import docx

    document = docx.Document()
    fill(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def word_xml(body: str, **parts: str) -> bytes:
    """A Word file of the strict form: its body and other parts by name, as XML."""
    space = 'xmlns:w="http://purl.oclc.org/ooxml/wordprocessingml/main" xmlns:m="x" xmlns:mc="y"'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>")
        for name, content in parts.items():
            archive.writestr(f"word/{name}.xml", content.replace("<w:", f"<w:{name} {space}><w:", 1) + f"</w:{name}>")
    return out.getvalue()


def deck(fill: Callable[[Any], None]) -> bytes:
    """A PowerPoint file with the slides that `fill` adds to a presentation."""
    from pptx import Presentation

    presentation = Presentation()
    fill(presentation)
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def workbook(fill: Callable[[Any], None]) -> bytes:
    """An Excel file with what `fill` does to an empty workbook."""
    import openpyxl

    book = openpyxl.Workbook()
    fill(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def epub(chapters: Mapping[str, str], package: str = "", **parts: str) -> bytes:
    """A book: the file name and the body of each chapter, in order; `package` stands before the list of its parts."""
    items = "".join(f'<item id="c{number}" href="{name}"/>' for number, name in enumerate(chapters))
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(len(chapters)))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("META-INF/container.xml", '<c><rootfile full-path="O/p.opf"/></c>')
        archive.writestr("O/p.opf", f'<package xmlns:dc="d">{package}{items}<spine>{spine}</spine></package>')
        for name, body in chapters.items():
            archive.writestr(f"O/{name}", f"<html><head><title>no heading</title></head><body>{body}</body></html>")
        for name, content in parts.items():
            archive.writestr(f"META-INF/{name}.xml", content)
    return out.getvalue()


def notebook(*cells: dict[str, Any], language: str = "") -> str:
    """A notebook of cells, each with `cell_type` and `source`."""
    about = {"language_info": {"name": language}} if language else {}
    return json.dumps({"cells": cells, "metadata": about, "nbformat": 4})
