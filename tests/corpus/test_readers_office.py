"""The readers of what office programs write, on files made here: the exact text that comes out."""

from __future__ import annotations

import datetime
import io
from typing import Any

import pytest
from made_files import Draw, Sheet, deck, pdf, places, read, word, word_xml, workbook

from rag_vs_ft.corpus.readers import LeftOut

# --- PDF -------------------------------------------------------------------------------------------------------------


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
        sheet.table(rows, 72, 314)

    written = "| Plan | Price | Seats |\n| --- | --- | --- |\n| Small | 5 | 1 |\n| Team | 50 | 12 |\n| Large | 500 | 200 |"
    assert read("a.pdf", pdf(page)).text.count(written) == 2


def test_pdf_tables_that_go_on_overleaf_keep_their_header_and_their_page() -> None:
    prices = [["Plan", "Price"], ["Small", "5"], ["Team", "50"]]

    def first(sheet: Sheet) -> None:
        sheet.line("Prices of the plans are told in the table.", 72, 80)
        sheet.table(prices, 72, 120)

    def second(sheet: Sheet) -> None:
        sheet.table([["Large", "500"]], 72, 80)

    def third(sheet: Sheet) -> None:
        sheet.table([["Seats", "Limit"], ["12", "200"]], 72, 80)  # words above numbers: a header of its own
        sheet.line("Nothing follows.", 72, 300)

    def fourth(sheet: Sheet) -> None:
        sheet.table(prices, 72, 80)

    assert places(read("a.pdf", pdf(first, second, third, fourth))) == {
        "p. 1": "Prices of the plans are told in the table.\n\n| Plan | Price |\n| --- | --- |\n| Small | 5 |\n| Team | 50 |",
        "p. 2": "| Plan | Price |\n| --- | --- |\n| Large | 500 |",
        "p. 3": "| Seats | Limit |\n| --- | --- |\n| 12 | 200 |\n\nNothing follows.",
        "p. 4": "| Plan | Price |\n| --- | --- |\n| Small | 5 |\n| Team | 50 |",
    }


def test_pdf_paragraphs_that_go_on_overleaf_are_whole_and_say_where_each_page_begins() -> None:
    told = [
        "The pump starts when the tank is nearly empty and it never stops be-",
        "fore the tank is full, which takes an hour",
        "or two.",
    ]

    def page(number: int) -> Draw:
        def draw(sheet: Sheet) -> None:
            sheet.line(told[number], 72, 100)
            if number == 2:
                sheet.line("Summary", 72, 160, 16)

        return draw

    content = read("a.pdf", pdf(*map(page, range(3))))
    assert content.text == (
        "The pump starts when the tank is nearly empty and it never stops before the tank is full, which takes an hour or two.\n"
        "\n# Summary\n"
    )
    assert places(content) == {
        "p. 1": "The pump starts when the tank is nearly empty and it never stops be",
        "p. 2": "fore the tank is full, which takes an hour",
        "p. 3": "or two.\n\n# Summary",
    }


def test_pdf_lists_and_sums() -> None:
    def page(sheet: Sheet) -> None:
        sheet.line("Bring these things along and leave the others at home:", 72, 80)
        for number, text in enumerate(["• a torch", "• a rope that is long and strong enough for two", "people", "• water"]):
            sheet.line(text, 72 + 10 * (number == 2), 100 + 12 * number)
        for number, (label, value) in enumerate([("Parts", "60"), ("Tax", "5"), ("Sum", "65")]):
            sheet.line(label, 72, 200 + 14 * number, 12)
            sheet.line(value, 300, 200 + 14 * number, 12)

    assert read("a.pdf", pdf(page)).text == (
        "Bring these things along and leave the others at home:\n\n- a torch\n"
        "- a rope that is long and strong enough for two people\n- water\n"
        "\nParts 60\nTax 5\nSum 65\n"
    )


def test_pdf_numbered_lists_nest_count_on_and_end() -> None:
    lines = [
        (72, "To change the filter of the pump, without spilling oil, do this:"),
        (72, "1. Close both valves and wait until the needle of the gauge shows"),
        (86, "nothing."),
        (72, "2. Take off the lid:"),
        (92, "\u2022 loosen the screws"),
        (92, "\u2022 lift it"),
        (72, "3. Put the new filter in."),
        (72, "Then open the valves, and look at the pump for an hour, until you see that"),
        (72, "it leaks no more."),
    ]

    def page(sheet: Sheet) -> None:
        for number, (left, text) in enumerate(lines):
            sheet.line(text, left, 80 + 12 * number)
        sheet.line("1. Only one sentence. 2. And another on its line. 3. A third.", 72, 260)
        sheet.line("It was made in the year 1999, in the old works, and sold for the price of about", 72, 320)
        sheet.line("12. The next year it cost more, as everything did in that time.", 72, 332)

    assert read("a.pdf", pdf(page)).text == (
        "To change the filter of the pump, without spilling oil, do this:\n\n"
        "1. Close both valves and wait until the needle of the gauge shows nothing.\n"
        "2. Take off the lid:\n   - loosen the screws\n   - lift it\n3. Put the new filter in.\n\n"
        "Then open the valves, and look at the pump for an hour, until you see that it leaks no more.\n\n"
        "1. Only one sentence.\n2. And another on its line.\n3. A third.\n\n"
        "It was made in the year 1999, in the old works, and sold for the price of about 12. The next "
        "year it cost more, as everything did in that time.\n"
    )


def test_pdf_numbers_that_hang_beside_their_text_count_a_list() -> None:
    lines = [
        (72, "The frame rests on two ideas."),
        (74, "1"),
        (84, "First idea. Agents talk to one"),
        (84, "another."),
        (74, "2"),
        (84, "Second idea. People may also"),
        (84, "join."),
    ]

    def page(sheet: Sheet) -> None:
        top = 80
        for number, (left, text) in enumerate(lines):
            sheet.line(text, left, top)
            top += 0 if text.isdigit() else 24 if number == 0 else 12
        sheet.line("-", 72, 200)
        sheet.line("a dash far from its text", 110, 200)

    assert read("a.pdf", pdf(page)).text == (
        "The frame rests on two ideas.\n\n1. First idea. Agents talk to one another.\n2. Second idea. People may also join.\n\n"
        "- a dash far from its text\n"
    )


def test_pdf_raised_numbers_are_marked() -> None:
    def page(sheet: Sheet) -> None:
        sheet.line("The town has 83,190", 72, 80)
        sheet.line("2", 72 + 92, 76, 6)
        sheet.line("people on 12 km", 172, 80)
        sheet.line("2", 172 + 69.5, 76, 6)
        sheet.line("by the 1", 250, 80)
        sheet.line("st", 250 + 36, 76, 6)
        sheet.line("count, and H", 296, 80)
        sheet.line("2", 296 + 56, 82, 6)
        sheet.line("O.", 296 + 60, 80)
        sheet.table([["Town", "People"], ["Ulm", "126,000"]], 72, 200)
        sheet.line("3", 72 + 4 + 130 + 37, 216, 6)
        sheet.line("2", 72, 400, 6)
        sheet.line("An estimate.", 76, 404)
        sheet.line("3", 72, 412, 6)
        sheet.line("Of 2021.", 76, 416)

    assert read("a.pdf", pdf(page)).text == (
        "The town has 83,190^2 people on 12 km^2 by the 1st count, and H2O.\n\n| Town | People |\n| --- | --- |\n"
        "| Ulm | 126,000^3 |\n\n^2An estimate.\n\n^3Of 2021.\n"
    )


def test_pdf_turned_text_is_read_along_its_lines_and_watermarks_are_left_out() -> None:
    def page(sheet: Sheet) -> None:
        sheet.line("This page stands upright.", 72, 80)
        sheet.line("Its second line follows.", 72, 92)
        for angle, x, y, text in ((90, 30, 300, "Up the margin"), (270, 580, 500, "Down the edge"), (45, 200, 300, "DRAFT")):
            sheet.canvas.saveState()
            sheet.canvas.translate(x, y)
            sheet.canvas.rotate(angle)
            sheet.canvas.drawString(0, 0, text)
            sheet.canvas.restoreState()

    content = read("a.pdf", pdf(page))
    assert content.text == "This page stands upright. Its second line follows.\n\nUp the margin\n\nDown the edge\n"
    assert content.notes == {"slanted text (a watermark) left out": 1}

    def upside_down(sheet: Sheet) -> None:
        sheet.canvas.translate(612, 792)
        sheet.canvas.rotate(180)
        sheet.line("Scanned the wrong way round,", 72, 80)
        sheet.line("and yet it can be read.", 72, 92)

    assert read("a.pdf", pdf(upside_down)).text == "Scanned the wrong way round, and yet it can be read.\n"


def test_pdf_lines_of_a_slip_stay_lines_and_its_ornaments_go() -> None:
    def page(sheet: Sheet) -> None:
        for number, text in enumerate(
            ["Corner shop", "11/23/2024 14:32", "=" * 30, "Rope, long and thick and", "strong", "$5.00", "-" * 30, "TOTAL $5.00"]
        ):
            sheet.line(text, 20, 80 + 9 * number, 8, "Courier")
        sheet.line("*TXN12345678901234*", 20, 200, 12, "Courier")

    content = read("a.pdf", pdf(page))
    assert content.text == (
        "Corner shop\n11/23/2024 14:32\n\nRope, long and thick and\nstrong\n$5.00\n\nTOTAL $5.00\n\n*TXN12345678901234*\n"
    )
    assert not content.headings


def test_pdf_verses_stay_lines() -> None:
    lines = [
        "Roses are red and they grow by the garden gate.",
        "Violets are blue.",
        "Sugar is sweet,",
        "and so is all that I have to say to you.",
        "End.",
    ]

    def page(sheet: Sheet) -> None:
        for number, text in enumerate(lines):
            sheet.line(text, 72, 80 + 12 * number)

    assert read("a.pdf", pdf(page)).text == "\n".join(lines) + "\n"


def test_pdf_code_keeps_its_lines_and_indents() -> None:
    def page(sheet: Sheet) -> None:
        sheet.line("The pump is started by a script, which is not long, and which you call like this:", 72, 80)
        for number, (left, text) in enumerate([(72, "def start(pump):"), (96, "pump.open()"), (96, "return True")]):
            sheet.line(text, left, 100 + 12 * number, 10, "Courier")
        sheet.line("Nothing else is needed for it to run, and to go on running for a day.", 72, 150)

    assert read("a.pdf", pdf(page)).text == (
        "The pump is started by a script, which is not long, and which you call like this:\n\n"
        "```\ndef start(pump):\n    pump.open()\n    return True\n```\n\n"
        "Nothing else is needed for it to run, and to go on running for a day.\n"
    )


def test_pdf_letterheads_and_lines_set_at_both_edges() -> None:
    def page(sheet: Sheet) -> None:
        sheet.canvas.grid([72, 540], [792 - 60, 792 - 110, 792 - 130, 792 - 150])
        sheet.canvas.line(306, 792 - 130, 306, 792 - 150)
        sheet.canvas.setFont("Helvetica", 10)
        sheet.canvas.drawCentredString(306, 792 - 75, "The Corner Garage")
        sheet.canvas.drawCentredString(306, 792 - 95, "12 Main Street")
        sheet.line("Estimate 1008", 200, 124)
        sheet.line("Customer", 80, 144)
        sheet.line("Vehicle", 320, 144)
        for number, (left, right) in enumerate(
            [("Call for offers", "Section 43"), ("The Society of the House", "Instructions"), ("House", "Page 1")]
        ):
            sheet.line(left, 72, 200 + 18 * number)
            sheet.line(right, 450, 200 + 18 * number)
        for number in range(4):
            sheet.line(
                "A line of text that goes from the left edge of the page to its right edge, and that has no gap in it, none.",
                72,
                300 + 14 * number,
            )

    line = "A line of text that goes from the left edge of the page to its right edge, and that has no gap in it, none."
    assert read("a.pdf", pdf(page)).text == (
        "The Corner Garage\n12 Main Street\n\nEstimate 1008\n\nCustomer Vehicle\n\n"
        "Call for offers Section 43\nThe Society of the House Instructions\nHouse Page 1\n\n" + " ".join([line] * 4) + "\n"
    )


def test_pdf_tables_of_contents_and_pictures_are_left_out_and_counted() -> None:
    from PIL import Image
    from reportlab.lib.utils import ImageReader

    def page(sheet: Sheet) -> None:
        sheet.line("Contents", 72, 80)
        for number, (title, at) in enumerate([("The pump", 2), ("The tank", 2), ("The roof", 5)]):
            sheet.line(title, 72, 100 + 14 * number)
            sheet.line(str(at), 500, 100 + 14 * number)
        for number, (title, at) in enumerate([("1 Pump", 2), ("1.1 Valve", 2), ("2 Roof", 5)]):
            sheet.line(f"{title} . . . . . . . . {at}", 72, 200 + 14 * number)
        sheet.line("Only this is text.", 72, 300)
        sheet.canvas.drawImage(ImageReader(Image.new("RGB", (50, 50))), 100, 100)
        sheet.canvas.drawImage(ImageReader(Image.new("RGB", (5, 5))), 100, 300)

    content = read("a.pdf", pdf(page))
    assert content.text == "Only this is text.\n"
    assert content.notes == {"tables of contents left out": 2, "images dropped": 1}


def test_pdf_private_letters_are_bullets_or_counted() -> None:
    from rag_vs_ft.corpus.pdf.lines import _named

    assert _named("\uf0b7 one \uf0e0 two (cid:127) \uf03d\U000f03d9(cid:7)") == "• one → two • \ufffd\ufffd\ufffd"


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


def test_docx_headings_and_paragraphs() -> None:
    def fill(document: Any) -> None:
        document.add_heading("Guide", 0)
        document.add_heading("Setup", 1)
        document.add_paragraph("First line\nsecond line.")
        document.add_heading("Keys", 2)
        document.add_paragraph("Kept in the safe.")

    content = read("a.docx", word(fill))
    assert content.text == "# Guide\n\n# Setup\n\nFirst line\nsecond line.\n\n## Keys\n\nKept in the safe.\n"
    assert content.title == "Guide"


def test_docx_lists() -> None:
    def fill(document: Any) -> None:
        for style, text in [
            ("List Number", "Turn it off"),
            ("List Number", "Wait"),
            ("List Bullet", "a bullet"),
            ("List Bullet 2", "a deeper one"),
        ]:
            document.add_paragraph(text, style=style)

    assert read("a.docx", word(fill)).text == "1. Turn it off\n2. Wait\n\n- a bullet\n\n- a deeper one\n"


def _numbering(*levels: tuple[str, str, int], more: str = "") -> str:
    """Lists 1 and 2, which share a counter: the kind, the text and the first number of each depth."""
    inside = "".join(
        f'<w:lvl w:ilvl="{depth}"><w:start w:val="{start}"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for depth, (kind, text, start) in enumerate(levels)
    )
    lists = "".join(f'<w:num w:numId="{key}"><w:abstractNumId w:val="0"/>{more if key == 2 else ""}</w:num>' for key in (1, 2))
    return f'<w:abstractNum w:abstractNumId="0">{inside}</w:abstractNum>{lists}'


def _item(text: str, depth: int = 0, key: int = 1, style: str = "") -> str:
    styled = f'<w:pStyle w:val="{style}"/>' if style else ""
    properties = f'{styled}<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{key}"/></w:numPr>'
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def test_docx_numbers_that_word_shows_before_headings_and_clauses() -> None:
    styles = "".join(f'<w:style w:styleId="H{level}"><w:name w:val="heading {level}"/></w:style>' for level in (1, 2))
    body = (
        _item("Scope", 0, style="H1")
        + _item("Parties", 1, style="H2")
        + _item("Terms", 0, style="H1")
        + _item("Price", 1, style="H2")
        + _item("paid in advance", 2)
        + _item("paid late", 2)
    )
    numbering = _numbering(("upperRoman", "Part %1:", 1), ("decimal", "%1.%2", 1), ("lowerLetter", "(%3)", 1))
    assert read("a.docx", word_xml(body, numbering=numbering, styles=styles)).text == (
        "# Part I: Scope\n\n## I.1 Parties\n\n# Part II: Terms\n\n## II.1 Price\n\n- (a) paid in advance\n- (b) paid late\n"
    )


def test_docx_lists_count_on_and_begin_anew_as_in_word() -> None:
    text = "<w:p><w:r><w:t>Between.</w:t></w:r></w:p>"
    body = _item("one") + _item("inside", 1) + text + _item("two") + _item("three", 0, 2) + _item("four", 0, 2)
    numbering = _numbering(("decimal", "%1.", 1), ("chineseCounting", "%2、", 11))
    shared = read("a.docx", word_xml(body, numbering=numbering)).text
    assert shared == "1. one\n   - 十一、 inside\n\nBetween.\n\n2. two\n\n3. three\n4. four\n"
    anew = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride>'
    numbering = _numbering(("decimal", "%1.", 1), ("lowerRoman", "%2)", 4), more=anew)
    restarted = read("a.docx", word_xml(body, numbering=numbering)).text
    assert restarted == "1. one\n   - iv) inside\n\nBetween.\n\n2. two\n\n1. three\n2. four\n"


def test_docx_tables_of_contents_go_and_rows_that_begin_late_stay_in_their_columns() -> None:
    styles = '<w:style w:styleId="T"><w:name w:val="toc 1"/></w:style>'
    cell = "<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
    body = (
        '<w:p><w:pPr><w:pStyle w:val="T"/></w:pPr><w:r><w:t>Scope 7</w:t></w:r></w:p>'
        f"<w:tbl><w:tr>{cell.format('Name')}{cell.format('Price')}</w:tr>"
        f'<w:tr><w:trPr><w:gridBefore w:val="1"/></w:trPr>{cell.format("5")}</w:tr></w:tbl>'
    )
    content = read("a.docx", word_xml(body, styles=styles))
    assert content.text == "| Name | Price |\n| --- | --- |\n|  | 5 |\n"
    assert content.notes == {"tables of contents left out": 1}


def test_docx_tables_merged_cells_and_boxes() -> None:
    def fill(document: Any) -> None:
        table = document.add_table(rows=3, cols=3)
        for number, row in enumerate(table.rows):
            for column, cell in enumerate(row.cells):
                cell.text = f"{number}{column}"
        table.cell(1, 0).merge(table.cell(2, 0)).text = "both"
        document.add_table(rows=1, cols=1).cell(0, 0).text = "A box around text."

    expected = "| 00 | 01 | 02 |\n| --- | --- | --- |\n| both | 11 | 12 |\n| both | 21 | 22 |\n\nA box around text.\n"
    assert read("a.docx", word(fill)).text == expected


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


# --- PowerPoint ---------------------------------------------------------------------------------------------------------


def test_pptx_titles_bullets_notes_and_tables() -> None:
    def fill(slides: Any) -> None:
        one = slides.slides.add_slide(slides.slide_layouts[1])
        one.shapes.title.text = "Plans"
        one.placeholders[1].text = "Small costs 5\nTeam costs 50"
        one.notes_slide.notes_text_frame.text = "Say it slowly."
        two = slides.slides.add_slide(slides.slide_layouts[5])
        two.shapes.title.text = "Seats"
        table = two.shapes.add_table(2, 2, 0, 2_000_000, 4_000_000, 1_000_000).table
        for row, cells in enumerate([("Plan", "Seats"), ("Team", "12")]):
            for column, cell in enumerate(cells):
                table.cell(row, column).text = cell
        slides.slides.add_slide(slides.slide_layouts[6])

    content = read("a.pptx", deck(fill))
    assert places(content) == {
        "slide 1": "## Plans\n\n- Small costs 5\n- Team costs 50\n\nNotes:\n\nSay it slowly.",
        "slide 2": "## Seats\n\n| Plan | Seats |\n| --- | --- |\n| Team | 12 |",
    }
    assert content.title == "Plans" and content.notes == {"slides without text": 1}


def test_pptx_deeper_bullets_and_broken_lines() -> None:
    def fill(slides: Any) -> None:
        frame = slides.slides.add_slide(slides.slide_layouts[1]).placeholders[1].text_frame
        frame.text = "Open the valve"
        for level, text in [(1, "slowly"), (2, "by hand"), (1, "and fully"), (0, "Wait\van hour")]:
            paragraph = frame.add_paragraph()
            paragraph.text, paragraph.level = text, level

    assert read("a.pptx", deck(fill)).text == (
        "## Slide 1\n\n- Open the valve\n  - slowly\n    - by hand\n  - and fully\n- Wait\n  an hour\n"
    )


def test_pptx_shapes_are_read_in_rows_and_groups_whole() -> None:
    def fill(slides: Any) -> None:
        shapes = slides.slides.add_slide(slides.slide_layouts[6]).shapes
        for text, left, top in [("third", 0, 3_000_000), ("second", 4_000_000, 1_000_000), ("first", 0, 1_050_000)]:
            shapes.add_textbox(left, top, 900_000, 300_000).text_frame.text = text
        group = shapes.add_group_shape()
        for text, top in [("inner two", 5_000_000), ("inner one", 4_500_000)]:
            group.shapes.add_textbox(0, top, 900_000, 300_000).text_frame.text = text

    assert read("a.pptx", deck(fill)).text == "## Slide 1\n\nfirst\n\nsecond\n\nthird\n\ninner one\n\ninner two\n"


def test_pptx_merged_cells_and_charts() -> None:
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE

    def fill(slides: Any) -> None:
        slide = slides.slides.add_slide(slides.slide_layouts[5])
        slide.shapes.title.text = "Sales"
        table = slide.shapes.add_table(3, 2, 0, 0, 4_000_000, 1_000_000).table
        for row, column, text in [(0, 0, "Region"), (0, 1, "City"), (1, 0, "North"), (1, 1, "Oslo"), (2, 1, "Bergen")]:
            table.cell(row, column).text = text
        table.cell(1, 0).merge(table.cell(2, 0))
        data = CategoryChartData()
        data.categories = ["2025", "2026"]
        data.add_series("Sold", (10, 12.5))
        slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 3_000_000, 4_000_000, 2_000_000, data)

    assert read("a.pptx", deck(fill)).text == (
        "## Sales\n\n| Region | City |\n| --- | --- |\n| North | Oslo |\n| North | Bergen |\n"
        "\n|  | Sold |\n| --- | --- |\n| 2025 | 10 |\n| 2026 | 12.5 |\n"
    )


def test_pptx_pictures_and_running_lines_are_counted() -> None:
    from PIL import Image
    from pptx.enum.shapes import PP_PLACEHOLDER

    def fill(slides: Any) -> None:
        slide = slides.slides.add_slide(slides.slide_layouts[5])
        slide.shapes.title.text = "A map"
        picture = io.BytesIO()
        Image.new("RGB", (5, 5)).save(picture, "PNG")
        slide.shapes.add_picture(picture, 0, 0)
        for found in slides.slide_layouts[5].placeholders:
            if found.placeholder_format.type == PP_PLACEHOLDER.SLIDE_NUMBER:
                slide.shapes.clone_placeholder(found)
                slide.shapes[-1].text_frame.text = "1"

    content = read("a.pptm", deck(fill))
    assert content.text == "## A map\n"
    assert content.notes == {"images dropped": 1, "running headers, footers and page numbers dropped": 1, "macros left out": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "damaged: cannot be read as PowerPoint"),
        (deck(lambda slides: None)[:5_000], "damaged: cannot be read as PowerPoint"),
        (word_xml("<w:p/>"), "damaged: cannot be read as PowerPoint"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "encrypted PowerPoint"),
    ],
    ids=["empty", "cut off", "a Word file", "encrypted"],
)
def test_pptx_that_cannot_be_read(data: bytes, reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        read("a.pptx", data)


# --- spreadsheets -------------------------------------------------------------------------------------------------------


def test_sheets_titles_and_several_tables() -> None:
    def fill(book: Any) -> None:
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

    whole = workbook(fill)
    assert places(read("a.xlsx", whole)) == {
        "sheet Prices": (
            "## Prices\n\nPrices of 2026\n\n| Plan | Price | Since |\n| --- | --- | --- |\n| Small | 5 | 2026-01-02 |\n"
            "| Team | 49.5 |  |\n\n| Note | Value |\n| --- | --- |\n| VAT | TRUE |"
        ),
        "sheet More": "## More\n\nonly text",
    }
    with pytest.raises(LeftOut, match="damaged: cannot be read as spreadsheet"):
        read("a.xlsx", whole[:500])


def test_sheets_merged_cells() -> None:
    def fill(book: Any) -> None:
        sheet = book.active
        for row in [["Region", "City", "Sold"], ["North", "Oslo", 1], [None, "Bergen", 2], ["All of them", None, 3]]:
            sheet.append(row)
        sheet.merge_cells("A2:A3")
        sheet.merge_cells("A4:B4")

    assert read("a.xlsx", workbook(fill)).text == (
        "## Sheet\n\n| Region | City | Sold |\n| --- | --- | --- |\n"
        "| North | Oslo | 1 |\n| North | Bergen | 2 |\n| All of them |  | 3 |\n"
    )


def test_sheets_that_begin_elsewhere_and_values_of_all_types() -> None:
    def fill(book: Any) -> None:
        sheet = book.active
        for row, (name, value) in enumerate(
            [
                ("Name", "Value"),
                ("time", datetime.datetime(2026, 1, 2, 3, 4)),
                ("day", datetime.datetime(2026, 1, 2)),
                ("lines | bars", "a|b\nc"),
                ("whole", 12345678.0),
                ("part", 0.25),
                ("false", False),
            ],
            start=5,
        ):
            sheet.cell(row, 3, name)
            sheet.cell(row, 4, value)

    assert read("a.xlsm", workbook(fill)).text == (
        "## Sheet\n\n| Name | Value |\n| --- | --- |\n| time | 2026-01-02 03:04 |\n| day | 2026-01-02 |\n"
        "| lines \\| bars | a\\|b c |\n| whole | 12345678 |\n| part | 0.25 |\n| false | FALSE |\n"
    )


def test_sheets_longer_than_the_limit_are_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_vs_ft.corpus.readers import sheet

    monkeypatch.setattr(sheet, "MAX_ROWS", 2)
    monkeypatch.setattr(sheet, "MAX_COLUMNS", 2)

    def fill(book: Any) -> None:
        for row in (["a", "b", "c"], [1, 2, 3], [4, 5, 6], [7, 8, 9]):
            book.active.append(row)

    content = read("a.xlsx", workbook(fill))
    assert content.text == "## Sheet\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert content.notes == {"rows beyond 2 left out": 2, "columns beyond 2 left out": 1}


def test_sheets_without_anything_are_empty() -> None:
    assert read("a.xlsx", workbook(lambda book: None)).text == ""


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", word_xml("<w:p/>")], ids=["empty", "cut off", "a Word file"])
def test_sheets_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(LeftOut, match="damaged: cannot be read as spreadsheet"):
        read("a.xlsx", data)
