"""Each reader on files made here: the exact text that comes out. test_readers_office.py has those of office programs."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections import Counter
from typing import Any

import pytest
from made_files import deck, epub, notebook, pdf, places, read, word_xml, workbook

from rag_vs_ft.corpus import child
from rag_vs_ft.corpus.pdf.blocks import drop_contents
from rag_vs_ft.corpus.pdf.lines import PdfLine, PdfPage
from rag_vs_ft.corpus.readers import BY_KIND, Content, FileContext, LeftOut

# --- CSV ----------------------------------------------------------------------------------------------------------------


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
        (
            "<p>Open <i>all</i> of<div>Sold:<table><caption>Sales</caption><tr><th>Region<th colspan=2>Cities<tr>"
            "<td rowspan=2>North<td>Oslo<td>Bergen<tr><td>Tromsø</table>"
            "Not closed <ul><li>one<ol><li>inner</ol><li>two<blockquote>Said.",
            "Open all of\n\nSold:\n\nSales\n\n| Region | Cities |  |\n| --- | --- | --- |\n| North | Oslo | Bergen |\n"
            "| North | Tromsø |  |\n\nNot closed\n\n- one\n  1. inner\n- two\n\n  > Said.\n",
        ),
        (
            "<body><p>Read <code>a&lt;b&gt; --c</code> &amp; go.<br>Next line.</p><pre>\n$ run\n  it\n   </pre><form><input>"
            "<p>Name</form><p hidden>no</p><div role=navigation>no</div><p>H<sub>2</sub>O<sup>2</sup></body>",
            "Read `a<b> --c` & go.\nNext line.\n\n```\n$ run\n  it\n```\n\nH2O^2\n",
        ),
        (
            "<table><tr><td>Key<td>Value<tr><td>a<td><table><tr><td>x<td>1<tr><td>y<td>2</table><tr><td>b<td><ul><li>p<li>q</ul></table>",
            "| Key | Value |\n| --- | --- |\n| a | x, 1; y, 2 |\n| b | - p - q |\n",
        ),
        (
            "<pre class='language-js'>a</pre><pre><code class='hljs language-c++'>b</code></pre><pre lang=x><code>c</code></pre>",
            "```js\na\n```\n\n```c++\nb\n```\n\n```\nc\n```\n",
        ),
        ("<nav>All that<p>is left", "All that\n\nis left\n"),
        (
            "<ul><li><div><img alt='The old logo[1]'></div><div>The old logo<sup>[1]</sup></div><li>Plain</ul>"
            "<p><img alt='a b.JPG'><p>Anna<p>Anna",
            "- The old logo^[1]\n- Plain\n\nAnna\n\nAnna\n",
        ),
        (
            "<p>Said.<sup>[1]</sup></p><ol><li><span class='mw-cite-backlink'><a href='#r'>^</a></span> A book.</ol>"
            "<p>Note. <a class='footnote-backref' href='#s'>↩</a></p>",
            "Said.^[1]\n\n1. A book.\n\nNote.\n",
        ),
        (
            "<table><tr><th colspan=2>Duck<tr><td colspan=2><img alt=''><tr><td>Kingdom<td><div>One Street"
            "<div>Oslo</div>, Norway</div><tr><td>Steps<td><ol start=3><li>go<li>stay</ol></table>",
            "| Duck |  |\n| --- | --- |\n| Kingdom | One Street; Oslo, Norway |\n| Steps | 3. go; 4. stay |\n",
        ),
        ("<ul><li>Run:<pre>\n      $ a\n        b\n    </pre></ul>", "- Run:\n\n  ```\n  $ a\n    b\n  ```\n"),
        ("<", "<\n"),
        ("<dl><dt>Coffee</dt><dd>Black and hot</dd></dl><script>alert(1)</script>", "- Coffee: Black and hot\n"),
    ],
)
def test_html(source: str, text: str) -> None:
    assert read("a.html", source).text == text


def test_html_title_and_encoding() -> None:
    page = "<html><head><meta charset='iso-8859-1'><title>Über uns</title></head><body><p>Grüße</p></body></html>"
    content = read("a.html", page.encode("latin-1"))
    assert (content.title, content.text) == ("Über uns", "Grüße\n")


def test_epub_chapters_in_the_order_of_the_spine() -> None:
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


def test_epub_tables_lists_and_code() -> None:
    table = "<table><tr><th>Plan</th><th>Price</th></tr><tr><td>A</td><td>5</td></tr></table>"
    assert read("a.epub", epub({"a.xhtml": f"<h2>Prices</h2>{table}<ul><li>one</li></ul><pre>x\n y</pre>"})).text == (
        "## Prices\n\n| Plan | Price |\n| --- | --- |\n| A | 5 |\n\n- one\n\n```\nx\n y\n```\n"
    )


def test_epub_chapters_in_folders_and_without_headings() -> None:
    content = read("a.epub", epub({"Text/b.xhtml": "<p>No heading.</p>", "Text/../a.xhtml": "<h1>Two</h1><p>Text.</p>"}))
    assert content.text == "No heading.\n"  # the second path stands in no archive under that name
    assert (content.title, content.places, content.notes) == ("", (), {"missing chapters": 1})


def test_epub_titles_of_the_book_and_of_chapters() -> None:
    chapters = {
        "a.xhtml": "<h1>The <i>first</i> one</h1><p>A.</p>",
        "b.xhtml": "<p>B &amp; c.</p><h1>Last</h1>",
        "c.xhtml": "<p></p>",
    }
    content = read("a.epub", epub(chapters, "<dc:title> A   book </dc:title>"))
    assert content.title == "A   book"
    assert places(content) == {"chapter The first one": "# The first one\n\nA.", "chapter Last": "B & c.\n\n# Last"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (epub({"a.xhtml": ""}, encryption="<e><EncryptedData/></e>"), "encrypted EPUB"),
        (epub({"a.xhtml": ""}, "&bomb;"), "damaged: cannot be read as EPUB"),
        (epub({"a.xhtml": "<p>x"})[:150], "damaged: cannot be read as EPUB"),
        (word_xml("<w:p/>"), "damaged: cannot be read as EPUB"),
    ],
    ids=["encrypted", "broken package", "cut off", "a Word file"],
)
def test_epub_that_cannot_be_read(data: bytes, reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        child.read("epub", data, FileContext("a.epub", lambda _: None))


def test_notebook_cells_and_outputs() -> None:
    printed = [
        {"output_type": "stream", "text": ["1\n"]},
        {"output_type": "display_data", "data": {"image/png": "...", "text/plain": "<Figure>"}},
        {"output_type": "error", "traceback": ["boom"]},
    ]
    content = read(
        "a.ipynb",
        notebook(
            {"cell_type": "markdown", "source": ["# Try\n", "\n", "Some **text**."]},
            {"cell_type": "code", "source": "print(1)", "outputs": printed},
        ),
    )
    assert content.text == "# Try\n\nSome text.\n\n```python\nprint(1)\n```\n\n```output\n1\n```\n"
    assert content.title == "Try"
    assert content.notes == {"images dropped": 1, "tracebacks in outputs left out": 1}


def test_notebook_long_output_is_cut_at_a_line() -> None:
    lines = "".join(f"line {number}\n" for number in range(500))
    cell = {"cell_type": "code", "source": "for x: y", "outputs": [{"output_type": "stream", "text": lines}]}
    content = read("a.ipynb", notebook(cell, language="julia"))
    kept = lines[: lines.rindex("\n", 0, 2_000)]
    assert content.text == f"```julia\nfor x: y\n```\n\n```output\n{kept}\n...\n```\n"
    assert content.notes == {"long outputs cut": 1}


def test_notebook_tables_in_cells_and_fences_in_code() -> None:
    content = read(
        "a.ipynb",
        notebook(
            {"cell_type": "markdown", "source": "Prices:\n\n|Plan|Price|\n|--|--|\n|A|5|\n\n![a plot](attachment:x.png)"},
            {"cell_type": "code", "source": 'text = """\n```\n"""', "outputs": []},
            {"cell_type": "code", "source": "  ", "outputs": [{"data": {"text/plain": ["42"]}, "output_type": "execute_result"}]},
            {"cell_type": "raw", "source": "As it stands."},
        ),
    )
    assert content.text == (
        'Prices:\n\n| Plan | Price |\n| --- | --- |\n| A | 5 |\n\n````python\ntext = """\n```\n"""\n````\n'
        "\n```output\n42\n```\n\nAs it stands.\n"
    )
    assert content.notes == {"images dropped": 1}


def test_notebook_of_version_three() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Old"]},
        {"cell_type": "code", "language": "python", "input": ["1 + 1"], "outputs": [{"output_type": "pyout", "text": ["2"]}]},
    ]
    old = json.dumps({"worksheets": [{"cells": cells}], "metadata": {"name": ""}, "nbformat": 3})
    assert read("a.ipynb", old).text == "## Old\n\n```python\n1 + 1\n```\n\n```output\n2\n```\n"


@pytest.mark.parametrize("broken", ["[]", "{", '{"cells": 1}', "[" * 100_000, '{"worksheets": []}', "null"])
def test_notebook_that_cannot_be_read(broken: str) -> None:
    with pytest.raises(LeftOut, match="damaged: cannot be read as notebook"):
        read("a.ipynb", broken)


def test_notebook_without_cells_is_empty() -> None:
    assert read("a.ipynb", notebook()).text == ""
    assert read("a.ipynb", '{"cells": [1, null, {"cell_type": "code", "source": 7, "outputs": [3]}]}').text == ""


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
            content = BY_KIND[kind].read(data, FileContext("a.x", lambda _: None, include_faq=True))
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
    found["epub"] = epub({"a.xhtml": "<h1>One</h1><table><tr><td>a<td>b</table>"})
    found["sheet"] = workbook(lambda book: book.active.append(["a", 1]))

    def slides(made: Any) -> None:
        made.slides.add_slide(made.slide_layouts[1]).placeholders[1].text = "One\nTwo"

    found["pptx"] = deck(slides)
    return found


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
            content = child.read(kind, bytes(data), FileContext("a.x", lambda _: None, include_faq=True))
        except LeftOut as left_out:
            assert not re.search("crashed|takes its reader|memory", left_out.reason), (case, left_out.reason)
        else:
            assert all(0 <= place.offset < len(content.text) for place in content.places)
            assert all(content.text[heading.offset :] for heading in content.headings)


def test_thousands_of_digits_are_no_page_number_in_a_table_of_contents() -> None:
    notes: Counter[str] = Counter()
    texts = [["Contents"], *([f"Part {number}", "9" * 5_000] for number in range(4))]
    lines = [PdfLine([(0.0, 1.0, text) for text in cells], 0.0, 1.0, 10.0, False) for cells in texts]
    whole = PdfPage(1, 100.0, lines)
    drop_contents([whole], notes)
    assert len(whole.lines) == 5 and not notes
