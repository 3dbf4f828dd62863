"""Each reader on files made here: the exact text that comes out."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Sequence

import pytest

from rag_vs_ft.corpus import child
from rag_vs_ft.corpus.readers import BY_ENDING, BY_KIND, Content, Context, LeftOut


def read(name: str, data: bytes | str, others: dict[str, str] | None = None) -> Content:
    """What the reader of a file's name makes of it; headings and places stand where they are said to."""
    raw = data.encode() if isinstance(data, str) else data
    ending = name[name.rindex(".") :]
    content = BY_ENDING[ending].read(raw, Context(name, (others or {}).get))
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


# --- PDF -------------------------------------------------------------------------------------------------------------

Draw = Callable[["Sheet"], None]


class Sheet:
    """A page of a PDF: lines of text at places counted from the top left, in points."""

    def __init__(self, canvas: object) -> None:
        self.canvas = canvas

    def line(self, text: str, x: float, y: float, size: float = 10, font: str = "Helvetica") -> None:
        self.canvas.setFont(font, size)  # type: ignore[attr-defined]
        self.canvas.drawString(x, 792 - y, text)  # type: ignore[attr-defined]


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


def test_pdf_headings_by_font_paragraphs_and_mended_hyphens() -> None:
    def page(sheet: Sheet) -> None:
        sheet.line("House rules", 72, 80, 20)
        sheet.line("The pump", 72, 120, 14)
        for number, text in enumerate(
            ["Never open the main valve while the pump is run-", "ning, and keep the well-", "known key."]
        ):
            sheet.line(text, 72, 145 + 12 * number)
        sheet.line("A second paragraph has the well-known word too, in one line.", 72, 200)

    content = read("a.pdf", pdf(page))
    assert content.text == (
        "# House rules\n\n## The pump\n\nNever open the main valve while the pump is running, and keep the well-known key.\n\n"
        "A second paragraph has the well-known word too, in one line.\n"
    )
    assert content.title == "House rules"


def test_pdf_running_lines_go_and_every_page_is_a_place() -> None:
    def page(number: int) -> Draw:
        def draw(sheet: Sheet) -> None:
            sheet.line("ACME handbook, internal", 72, 30)
            sheet.line(f"Fact {number} is told here and nowhere else.", 72, 200)
            sheet.line(f"Page {number} of 4", 280, 770)

        return draw

    content = read("a.pdf", pdf(*map(page, range(1, 5))))
    assert places(content) == {f"p. {number}": f"Fact {number} is told here and nowhere else." for number in range(1, 5)}
    assert content.notes == {"running headers, footers and page numbers dropped": 8}


def test_pdf_headings_by_outline() -> None:
    def page(sheet: Sheet) -> None:
        sheet.line("Start", 72, 80)
        sheet.line("Words of the beginning that fill a line.", 72, 100)
        sheet.line("Inside", 72, 140)
        sheet.line("Words of the inside that fill a line.", 72, 160)

    content = read("a.pdf", pdf(page, outline=[("Start", 0, 0), ("Inside", 1, 0)]))
    assert [(heading.level, heading.text) for heading in content.headings] == [(1, "Start"), (2, "Inside")]


def test_pdf_two_columns_in_order() -> None:
    left = [
        "Left one tells of the",
        "first part and left two",
        "goes on with the story",
        "until the left column",
        "is read to its end",
    ]
    right_lines = [
        "then the right column",
        "begins with its own story",
        "that also takes five lines",
        "of text until it in fact",
        "comes to an end.",
    ]

    def page(sheet: Sheet) -> None:
        sheet.line("A title across both columns of this whole page here", 72, 60, 16)
        for number, (one, other) in enumerate(zip(left, right_lines, strict=True)):
            sheet.line(one, 72, 100 + 12 * number)
            sheet.line(other, 330, 100 + 12 * number)

    assert read("a.pdf", pdf(page)).text.split("\n\n", 1)[1] == " ".join(left + right_lines) + "\n"


def test_pdf_tables_with_and_without_rules() -> None:
    rows = [["Plan", "Price", "Seats"], ["Small", "5", "1"], ["Team", "50", "12"], ["Large", "500", "200"]]

    def page(sheet: Sheet) -> None:
        sheet.line("Without rules the columns stand apart from each other by white space.", 72, 80)
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                sheet.line(cell, 72 + 130 * column, 120 + 20 * number)
        canvas = sheet.canvas
        canvas.grid([72, 202, 332, 462], [792 - y for y in (300, 320, 340, 360, 380)])  # type: ignore[attr-defined]
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                sheet.line(cell, 76 + 130 * column, 314 + 20 * number)

    written = "| Plan | Price | Seats |\n| --- | --- | --- |\n| Small | 5 | 1 |\n| Team | 50 | 12 |\n| Large | 500 | 200 |"
    assert read("a.pdf", pdf(page)).text.count(written) == 2


def test_pdf_that_cannot_be_read() -> None:
    from PIL import Image
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    with pytest.raises(LeftOut, match="encrypted"):
        read("a.pdf", pdf(lambda sheet: sheet.line("secret", 72, 72), password="x"))
    out = io.BytesIO()
    canvas = Canvas(out)
    canvas.drawImage(ImageReader(Image.new("RGB", (50, 50))), 10, 10)
    canvas.save()
    with pytest.raises(LeftOut, match="OCR"):
        read("a.pdf", out.getvalue())
    with pytest.raises(LeftOut, match="damaged"):
        read("a.pdf", b"%PDF-1.4 and nothing more")


# --- Word ------------------------------------------------------------------------------------------------------------


def word(fill: Callable[..., None]) -> bytes:
    import docx

    document = docx.Document()
    fill(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_docx_headings_and_paragraphs() -> None:
    def fill(document: object) -> None:
        document.add_heading("Guide", 0)  # type: ignore[attr-defined]
        document.add_heading("Setup", 1)  # type: ignore[attr-defined]
        document.add_paragraph("First line\nsecond line.")  # type: ignore[attr-defined]
        document.add_heading("Keys", 2)  # type: ignore[attr-defined]
        document.add_paragraph("Kept in the safe.")  # type: ignore[attr-defined]

    content = read("a.docx", word(fill))
    assert content.text == "# Guide\n\n# Setup\n\nFirst line\nsecond line.\n\n## Keys\n\nKept in the safe.\n"
    assert content.title == "Guide"


def test_docx_lists() -> None:
    def fill(document: object) -> None:
        for style, text in [
            ("List Number", "Turn it off"),
            ("List Number", "Wait"),
            ("List Bullet", "a bullet"),
            ("List Bullet 2", "a deeper one"),
        ]:
            document.add_paragraph(text, style=style)  # type: ignore[attr-defined]

    assert read("a.docx", word(fill)).text == "1. Turn it off\n2. Wait\n\n- a bullet\n\n- a deeper one\n"


def test_docx_tables_merged_cells_and_boxes() -> None:
    def fill(document: object) -> None:
        table = document.add_table(rows=3, cols=3)  # type: ignore[attr-defined]
        for number, row in enumerate(table.rows):
            for column, cell in enumerate(row.cells):
                cell.text = f"{number}{column}"
        table.cell(1, 0).merge(table.cell(2, 0)).text = "both"
        document.add_table(rows=1, cols=1).cell(0, 0).text = "A box around text."  # type: ignore[attr-defined]

    expected = "| 00 | 01 | 02 |\n| --- | --- | --- |\n| both | 11 | 12 |\n| both | 21 | 22 |\n\nA box around text.\n"
    assert read("a.docx", word(fill)).text == expected


def word_xml(body: str, **parts: str) -> bytes:
    space = 'xmlns:w="http://purl.oclc.org/ooxml/wordprocessingml/main" xmlns:m="x" xmlns:mc="y"'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>")
        for name, content in parts.items():
            archive.writestr(f"word/{name}.xml", content.replace("<w:", f"<w:{name} {space}><w:", 1) + f"</w:{name}>")
    return out.getvalue()


def test_docx_footnotes_comments_and_deleted_text() -> None:
    body = (
        '<w:p><w:r><w:t>The tank holds 90 l</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r>'
        "<w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:ins><w:r><w:t>, and more.</w:t></w:r></w:ins></w:p>"
    )
    notes = '<w:footnote w:id="2"><w:p><w:r><w:t>Filled to the mark.</w:t></w:r></w:p></w:footnote>'
    comments = '<w:comment w:id="0"><w:p><w:r><w:t>Is this true?</w:t></w:r></w:p></w:comment>'
    content = read("a.docx", word_xml(body, footnotes=notes, comments=comments))
    assert content.text == "The tank holds 90 l [1], and more.\n\n[1] Filled to the mark.\n"
    assert content.notes == {"comments left out": 1, "deleted text left out": 1}


def test_docx_text_boxes_equations_and_code() -> None:
    body = (
        "<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>In a box</w:t></w:r></w:p></w:txbxContent>"
        "</mc:Choice><mc:Fallback><w:txbxContent><w:p><w:r><w:t>In a box</w:t></w:r></w:p></w:txbxContent></mc:Fallback>"
        "</mc:AlternateContent></w:r></w:p>"
        "<w:p><w:r><w:t>Half: </w:t></w:r><m:oMath><m:f><m:num><m:r><m:t>1</m:t></m:r></m:num><m:den><m:r>"
        "<m:t>2</m:t></m:r></m:den>"
        "</m:f></m:oMath></w:p>"
        '<w:p><w:r><w:rPr><w:rFonts w:ascii="Consolas"/></w:rPr><w:t>x = f(1)</w:t></w:r></w:p>'
        '<w:p><w:r><w:rPr><w:rFonts w:ascii="Consolas"/></w:rPr><w:t xml:space="preserve">  y</w:t></w:r></w:p>'
    )
    assert read("a.docx", word_xml(body)).text == "In a box\n\nHalf: (1)/(2)\n\n```\nx = f(1)\n  y\n```\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\x03\x04 cut off", "damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "encrypted Word"),
        (b"", "damaged"),
        (word_xml("<w:p>&bomb;</w:p>"), "damaged"),
    ],
)
def test_docx_that_cannot_be_read(data: bytes, reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        read("a.docx", data)


def test_an_archive_that_unpacks_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_vs_ft.corpus.readers import archive

    monkeypatch.setattr(archive, "MAX_UNPACKED", 10)
    with pytest.raises(LeftOut, match="unpacks to more"):
        read("a.docx", word_xml("<w:p/>"))


# --- PowerPoint and spreadsheets ----------------------------------------------------------------------------------------


def test_pptx() -> None:
    pptx = pytest.importorskip("pptx")
    from pptx.util import Inches

    deck = pptx.Presentation()
    one = deck.slides.add_slide(deck.slide_layouts[1])
    one.shapes.title.text = "Plans"
    one.placeholders[1].text = "Small costs 5\nTeam costs 50"
    one.notes_slide.notes_text_frame.text = "Say it slowly."
    two = deck.slides.add_slide(deck.slide_layouts[5])
    two.shapes.title.text = "Seats"
    table = two.shapes.add_table(2, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for row, cells in enumerate([("Plan", "Seats"), ("Team", "12")]):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    deck.slides.add_slide(deck.slide_layouts[6])
    out = io.BytesIO()
    deck.save(out)
    content = read("a.pptx", out.getvalue())
    assert places(content) == {
        "slide 1": "## Plans\n\n- Small costs 5\n- Team costs 50\n\nNotes:\n\nSay it slowly.",
        "slide 2": "## Seats\n\n| Plan | Seats |\n| --- | --- |\n| Team | 12 |",
    }
    assert content.title == "Plans" and content.notes == {"slides without text": 1}


def test_sheets() -> None:
    pytest.importorskip("python_calamine")
    import datetime

    import openpyxl

    book = openpyxl.Workbook()
    prices = book.active
    prices.title = "Prices"
    for row in [
        ["Prices of 2026"],
        ["Plan", "Price", "Since"],
        ["Small", 5.0, datetime.date(2026, 1, 2)],
        ["Team", 49.5, None],
        [],
        ["Note", "Value"],
        ["VAT", True],
    ]:
        prices.append(row)
    book.create_sheet("Empty")
    book.create_sheet("More").append(["only text"])
    out = io.BytesIO()
    book.save(out)
    assert places(read("a.xlsx", out.getvalue())) == {
        "sheet Prices": (
            "## Prices\n\nPrices of 2026\n\n| Plan | Price | Since |\n| --- | --- | --- |\n| Small | 5 | 2026-01-02 |\n"
            "| Team | 49.5 |  |\n\n| Note | Value |\n| --- | --- |\n| VAT | TRUE |"
        ),
        "sheet More": "## More\n\nonly text",
    }
    with pytest.raises(LeftOut, match="damaged"):
        read("a.xlsx", out.getvalue()[:500])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("a,b\n1,2\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n"),
        ('a;b\n"x; y";"2\nlines"\n', "| a | b |\n| --- | --- |\n| x; y | 2 lines |\n"),
        ("a\tb\n1|2\t3\n", "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |\n"),
        (
            "名前,年齢\n三木英子,25\n髙橋淳,35\n".encode("cp932"),
            "| 名前 | 年齢 |\n| --- | --- |\n| 三木英子 | 25 |\n| 髙橋淳 | 35 |\n",
        ),
        ("a,b\n\n,\n1\n", "| a | b |\n| --- | --- |\n| 1 |  |\n"),
    ],
)
def test_csv(data: bytes | str, text: str) -> None:
    assert read("a.csv", data).text == text


# --- HTML, EPUB, notebooks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "<html><head><title>T</title><style>p{}</style></head><body><nav><a href=x>Menu</a></nav><main><h1>Pump</h1>"
            "<p>Never <b>open</b> it.</p></main><footer>Imprint</footer></body></html>",
            "# Pump\n\nNever open it.\n",
        ),
        (
            "<body><div class='sidebar'><p>Links</p></div><p>Plans:</p><table><tr><th>Plan<th>Price<tr><td>A<td>5</table></body>",
            "Plans:\n\n| Plan | Price |\n| --- | --- |\n| A | 5 |\n",
        ),
        ("<p>Run:</p><pre><code>if x:\n    y()</code></pre>", "Run:\n\n```\nif x:\n    y()\n```\n"),
        (
            "<article>" + "<p>A story that is long.</p>" * 3 + "</article><div>Comments of others</div>",
            "A story that is long.\n\n" * 2 + "A story that is long.\n",
        ),
        ("<dl><dt>Coffee</dt><dd>Black and hot</dd></dl><script>alert(1)</script>", "- Coffee: Black and hot\n"),
    ],
)
def test_html(source: str, text: str) -> None:
    assert read("a.html", source).text == text


def test_html_title_and_encoding() -> None:
    page = "<html><head><meta charset='iso-8859-1'><title>Über uns</title></head><body><p>Grüße</p></body></html>"
    content = read("a.html", page.encode("latin-1"))
    assert (content.title, content.text) == ("Über uns", "Grüße\n")


def test_epub() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("META-INF/container.xml", '<c><rootfile full-path="O/p.opf"/></c>')
        archive.writestr(
            "O/p.opf",
            '<package xmlns:dc="d"><dc:title>The book</dc:title><item id="n" href="nav.xhtml" properties="nav"/>'
            '<item id="a" href="a%20b.xhtml"/><item id="z" href="gone.xhtml"/>'
            '<spine><itemref idref="n"/><itemref idref="a"/><itemref idref="z"/></spine></package>',
        )
        archive.writestr("O/nav.xhtml", "<body><p>Contents</p></body>")
        archive.writestr("O/a b.xhtml", "<body><h1>One</h1><p>Once.</p></body>")
    content = read("a.epub", out.getvalue())
    assert (content.title, places(content), content.notes) == (
        "The book",
        {"chapter One": "# One\n\nOnce."},
        {"missing chapters": 1},
    )


def test_notebook() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Try\n", "\n", "Some **text**."]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                {"output_type": "display_data", "data": {"image/png": "...", "text/plain": "<Figure>"}},
                {"output_type": "error", "traceback": ["boom"]},
            ],
        },
    ]
    content = read("a.ipynb", json.dumps({"cells": cells, "metadata": {}}))
    assert content.text == "# Try\n\nSome text.\n\n```python\nprint(1)\n```\n\n```output\n1\n```\n"
    assert content.notes == {"images dropped": 1, "tracebacks in outputs left out": 1}
    for broken in ("[]", "{", '{"cells": 1}', "[" * 100_000):
        with pytest.raises(LeftOut):
            read("a.ipynb", broken)


# --- reStructuredText and AsciiDoc --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Title\n=====\n\nSee :ref:`the part <part>` and :func:`~os.path.join`.\n", "# Title\n\nSee the part and `join`.\n"),
        (".. code-block:: python\n   :linenos:\n\n   if x:\n       y()\n", "```\nif x:\n    y()\n```\n"),
        (".. versionadded:: 2.0\n   Handy.\n\n.. toctree::\n\n   other\n", "Added in version 2.0: Handy.\n"),
        ("=====  =====\nPlan   Price\n=====  =====\nA      5\n=====  =====\n", "| Plan | Price |\n| --- | --- |\n| A | 5 |\n"),
        (".. unknown-thing:: x\n   :option: y\n\n   Kept all the same.\n", "Kept all the same.\n"),
    ],
)
def test_rst(source: str, text: str) -> None:
    pytest.importorskip("docutils")
    assert read("a.rst", source).text == text


def test_rst_includes_reach_the_source_alone() -> None:
    pytest.importorskip("docutils")
    others = {"docs/part.rst": "Included.\n", "code.py": "a = 1\nb = 2\n"}
    source = ".. include:: part.rst\n\n.. literalinclude:: ../code.py\n   :lines: 2\n\n.. include:: /etc/passwd\n"
    content = read("docs/a.rst", source, others)
    assert content.text == "Included.\n\n```\nb = 2\n```\n"
    assert content.notes == {"includes resolved": 2, "unresolved includes": 1}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "= Pump manual\nAda L <a@x.org>\n:v: 12\n\nOpen valve {v} *slowly*, see xref:a.adoc[the list].\n",
            "# Pump manual\n\nOpen valve 12 slowly, see the list.\n",
        ),
        ("[source,python]\n----\nx = [1] # <1>\n----\n<1> A list.\n", "```python\nx = [1]\n```\n\n1. A list.\n"),
        (
            "* one\n** deeper\n* two\n+\nmore of two\n\n. first\n. second\n",
            "- one\n  - deeper\n- two\n\n  more of two\n  1. first\n  2. second\n",
        ),
        (
            '[cols="1,1"]\n|===\n|Plan |Price\n\n|A |5\n|===\n\nNOTE: With VAT.\n',
            "| Plan | Price |\n| --- | --- |\n| A | 5 |\n\nNote: With VAT.\n",
        ),
        ("// hidden\nifdef::x[]\nno\nendif::[]\nCPU:: fast\nDisk::\nlarge\n", "- CPU: fast\n- Disk: large\n"),
    ],
)
def test_asciidoc(source: str, text: str) -> None:
    assert read("a.adoc", source).text == text


def test_asciidoc_includes() -> None:
    others = {"m/partials/p.adoc": "Shared.\n", "m/pages/code.py": "# tag::a[]\nx\n# end::a[]\ny\n"}
    content = read(
        "m/pages/a.adoc", "include::partial$p.adoc[]\n\n----\ninclude::code.py[tag=a]\n----\n\ninclude::gone.adoc[]\n", others
    )
    assert content.text == "Shared.\n\n```\nx\n```\n"
    assert content.notes == {"includes resolved": 2, "unresolved includes": 1}


# --- text ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"One.\r\n\r\nTwo.\r\n", "One.\n\nTwo.\n"),
        ("Größe 😀".encode("utf-16"), "Größe 😀\n"),
        (b"Caf\xe9 au lait", "Café au lait\n"),
        (b"\xef\xbb\xbfmark", "mark\n"),
        (b"", ""),
    ],
)
def test_text(data: bytes, text: str) -> None:
    assert read("a.txt", data).text == text


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_what_is_no_text_at_all(kind: str) -> None:
    for data in (b"", b"\0" * 50, bytes(range(256)) * 4):
        try:
            content = BY_KIND[kind].read(data, Context("a.x", lambda _: None, include_faq=True))
        except LeftOut as left_out:
            assert left_out.reason
        else:
            assert isinstance(content, Content)


# --- damage -------------------------------------------------------------------------------------------------------------


def samples() -> dict[str, bytes]:
    """A small whole file of each kind."""
    found: dict[str, bytes] = {
        "markdown": b"---\ntitle: T\n---\n# A\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<div>x</div>\n\n[![a](b)](c) **d**\n",
        "faq": b"### YamlMime:FAQ\ntitle: Q\nsections:\n- questions:\n  - question: Why?\n    answer: Because.\n",
        "text": b"Some text.\n\nMore of it.\n",
        "html": b"<html><body><nav>x</nav><main><h1>A</h1><table><tr><td rowspan=2>b<td>c</table><pre>d</pre><ul><li>e</main>",
        "csv": b'a;b\n1;"2\n3"\n',
        "ipynb": json.dumps({"cells": [{"cell_type": "code", "source": ["x"], "outputs": [{"text": "y"}]}]}).encode(),
        "rst": b"A\n=\n\n.. note:: b\n\n   c\n\n=== ===\nd   e\n=== ===\n1   2\n=== ===\n\n:ref:`f <g>`\n\n.. code:: h\n\n   i\n",
        "asciidoc": (
            b"= A\n:b: c\n\n[cols=2]\n|===\n|d |e\n|===\n\n* f\n+\n----\ng\n----\n\ninclude::h[]\n\n"
            b"ifdef::b[]\ni:: j\nendif::[]\n"
        ),
        "docx": word_xml("<w:p><w:r><w:t>A</w:t></w:r></w:p><w:tbl><w:tr><w:tc><w:p/></w:tc></w:tr></w:tbl>"),
        "pdf": pdf(lambda sheet: sheet.line("Some words of a page", 72, 72), outline=[("Some", 0, 0)]),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("META-INF/container.xml", '<c><rootfile full-path="p.opf"/></c>')
        archive.writestr("p.opf", '<p><item id="a" href="a.xhtml"/><spine><itemref idref="a"/></spine></p>')
        archive.writestr("a.xhtml", "<h1>One</h1>")
    return found | {"epub": out.getvalue()}


@pytest.mark.parametrize("kind", sorted(samples()))
def test_random_cut_and_changed_files_are_text_or_a_reason(kind: str) -> None:
    """The same for 2,000 cases of each kind, made from real files, ended without a crash; these are a few of them."""
    whole = samples()[kind]
    rng = random.Random(kind)
    for case in range(40):
        data = bytearray(whole)
        if case % 4 == 0:
            data = bytearray(rng.randbytes(rng.randrange(400)))
        elif case % 4 == 1:
            del data[rng.randrange(len(data)) :]
        else:
            for _ in range(rng.choice((1, 3, 20))):
                data[rng.randrange(len(data))] = rng.choice(b"<>{}[]()|*_=#:.`\n\0 0123\xff")
        try:
            content = child.read(kind, bytes(data), Context("a.x", lambda _: None, include_faq=True))
        except LeftOut as left_out:
            assert not re.search("crashed|takes its reader|memory", left_out.reason), (case, left_out.reason)
        else:
            assert all(0 <= place.offset < len(content.text) for place in content.places)
            assert all(content.text[heading.offset :] for heading in content.headings)
