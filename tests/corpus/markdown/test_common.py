"""What all dialects share: nothing is lost or changed without a count, whatever is written or left open."""

from __future__ import annotations

import pytest

from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import Content


def cleaned(raw: str, dialect: str = "github") -> Content:
    return DIALECTS[dialect].clean(raw, "docs/a.md", lambda _: None)


def text(raw: str) -> str:
    return cleaned(raw).text


# --- lines ---


def test_inline_code_and_references_without_a_target_stay_as_written() -> None:
    raw = "Write `$n = [string][char]65`, `return [first][second]`. Codes [0-9][A-F]. `a  b` and ``c`d``.\n"
    assert text(raw) == raw
    assert text("See [the guide][nowhere] and [gone][].\n") == "See [the guide][nowhere] and [gone][].\n"


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_formulas_stay_as_written(dialect: str) -> None:
    document = cleaned("# Area $a*b*c$\n\n$a*b*c$ costs $5 and *then* $6.\n\n$$\na_1\n- b_2\n$$\n", dialect)
    assert document.text == "# Area $a*b*c$\n\n$a*b*c$ costs $5 and then $6.\n\n```math\na_1\n- b_2\n```\n"
    assert document.headings[0].text == document.title == "Area $a*b*c$"


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_struck_out_text_stays_without_its_marks(dialect: str) -> None:
    document = cleaned("# ~~Old~~ new\n\nCall ~~`a()`~~ `b()`, not ~~*c* d~~; ~~ e ~~ and `~~f~~` stay.\n", dialect)
    assert document.text == "# Old new\n\nCall `a()` `b()`, not c d; ~~ e ~~ and `~~f~~` stay.\n"


def test_a_heading_is_told_as_it_is_read() -> None:
    document = cleaned("# The `__init__` of \\*x\\* and a*b*c\n")
    assert document.text == "# The `__init__` of *x* and abc\n"
    assert document.title == "The __init__ of *x* and abc"


def test_characters_from_entities_are_normalised_like_all_others() -> None:
    assert text("Donau&shy;dampf&shy;schiff\n") == "Donaudampfschiff\n"
    assert text("caf&#101;&#x301; a&nbsp;b x&#10;# y z&ZeroWidthSpace;z\n") == "café a b x # y zz\n"
    assert text("<p>caf&#101;&#x301; Donau&shy;dampf</p>\n") == "café Donaudampf\n"
    assert cleaned('---\ntitle: "Cafe\\u0301 Donau\\u00addampf"\n---\nText.\n').title == "Café Donaudampf"


def test_footnotes() -> None:
    assert text("The old API[^1] stays.\n\n[^1]: Deprecated\n") == "The old API (Deprecated) stays.\n"
    assert text("| a | b |\n|---|---|\n| 1[^x] | 2[^x] |\n\n[^x]: Rounded\n") == (
        "| a | b |\n| --- | --- |\n| 1 (Rounded) | 2 (Rounded) |\n"
    )
    assert text("A[^1].\n\n[^1]: First.\n\n    ```sh\n    ls\n    ```\n") == (
        "A (footnote 1).\n\nFootnote 1: First.\n\n```sh\nls\n```\n"
    )
    assert text("Not called.\n\n[^9]: Alone\n") == "Not called.\n\nFootnote 9: Alone\n"
    assert text("Not written[^9].\n") == "Not written[^9].\n"
    assert text("Round[^1].\n\n[^1]: and round[^1]\n") == "Round (and round (footnote 1)).\n"


# --- nesting ---


def test_deep_lists_and_quotes_keep_their_inner_text() -> None:
    lists = "".join("  " * depth + f"- level {depth}\n" for depth in range(15))
    assert text(lists) == lists
    assert text("> " * 30 + "deep\n") == "> " * 30 + "deep\n"
    beyond = text("".join("  " * depth + f"- level {depth}\n" for depth in range(200)))
    assert all(f"level {depth}" in beyond.split("\n")[depth] for depth in range(200))
    assert "deep" in text(">" * 500 + " deep\n")


# --- HTML ---


def test_paragraph_caption_cells_and_text_after_a_table_each_in_their_place() -> None:
    raw = (
        "<p>Ships next day.</p>\n<table>\n<caption>Without VAT</caption>\n<tr><th>Plan</th><th>Price</th></tr>\n"
        "<tr><td>A</td><td>5</td></tr>\n</table>\n<p>Refunds: 14 days.</p>\n"
    )
    table = "| Plan | Price |\n| --- | --- |\n| A | 5 |\n"
    assert text(raw) == f"Ships next day.\n\nWithout VAT\n\n{table}\nRefunds: 14 days.\n"
    left_open = raw.replace("</caption>", "").replace("</td>", "").replace("</th>", "").replace("</tr>", "")
    assert text(left_open) == text(raw)


def test_a_table_in_pieces_with_markdown_inside() -> None:
    raw = "<table>\n<tr><td>x</td>\n\n<td>\n\n**y** `z`\n\n</td></tr>\n</table>\nAfter.\n"
    assert text(raw) == "| x | y `z` |\n| --- | --- |\n\nAfter.\n"


def test_cells_that_span_rows_and_columns() -> None:
    raw = "<table><tr><th rowspan=2>A</th><th colspan='2'>B</th></tr><tr><td>1</td><td>2</td></tr></table>\n"
    assert text(raw) == "| A | B |  |\n| --- | --- | --- |\n| A | 1 | 2 |\n"


def test_a_table_that_lays_out_a_page_is_no_table() -> None:
    raw = "<table><tr><td><h2>Run</h2><pre>a\n  b</pre></td><td>Then wait.</td></tr></table>\n"
    document = cleaned(raw)
    assert document.text == "## Run\n\n```\na\n  b\n```\n\nThen wait.\n"
    assert [heading.text for heading in document.headings] == ["Run"]


def test_preformatted_text_keeps_its_indentation() -> None:
    assert text("<div><pre>\nif a:\n    b\n\n      c\n</pre></div>\n\nAfter.\n") == (
        "```\nif a:\n    b\n\n      c\n```\n\nAfter.\n"
    )


def test_lists_quotes_and_definitions_in_html() -> None:
    assert text("<ul><li>a<ol start=3><li>b</li><li>c</li></ol></li><li>d</ul>e\n") == (
        "- a\n  3. b\n  4. c\n- d\n\ne\n".replace("- a\n  3", "- a\n\n  3")
    )
    assert text("<dl><dt>A<dt>B<dd>one<dd>two<dt>C</dl>") == "- A, B: one\n\n  two\n\n- C\n"
    assert text("<dl><div><dt>A</dt><dd>x<dl><dt>i<dd>j</dl></dd></div><dt>B:<dd><pre>c\nd</pre></dl>after") == (
        "- A: x\n\n  - i: j\n\n- B:\n\n  ```\n  c\n  d\n  ```\n\nafter\n"
    )
    # A definition with a heading is a part of the page.
    assert text("<dl><dt><h3>A</h3></dt><dd>x</dd></dl><dt>alone<dd>as well") == "### A\n\nx\n\nalone\n\nas well\n"
    assert text("<dl><dt>Pod<dd>Some <code>a*b</code> containers</dl><blockquote>Said.</blockquote>\n") == (
        "- Pod: Some `a*b` containers\n\n> Said.\n"
    )


def test_placeholders_are_text_and_attributes_may_hold_angle_brackets() -> None:
    assert text('<div title="a > b">Use <resource-group> here.</div>\n') == "Use <resource-group> here.\n"


# --- what is never closed ---

REST = "# Rest\n\nmore\n"


@pytest.mark.parametrize(
    "opening",
    [
        *("<!--", "<script>", "<style>", "<pre>", "<textarea>", "<?", "<!X", "<![CDATA[", "<div", "<div>", "<details>"),
        *("<table><tr><td>", "<svg>", "<ul><li>", "> [!NOTE]", "$$", "---", "+++", "{", "[^1]:", "*[x]:"),
    ],
)
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_what_is_never_closed_drops_nothing(dialect: str, opening: str) -> None:
    for raw in (f"{opening}\n\n{REST}", f"Before\n\n{opening} words\n\n{REST}"):
        found = cleaned(raw, dialect).text
        assert "Rest" in found and "more" in found
        assert "Before" not in raw or ("Before" in found and "words" in found)


def test_unclosed_fences_keep_their_rest_as_code() -> None:
    assert text(f"```\n{REST}") == f"```\n{REST}```\n"


def test_unclosed_html_in_a_line_stays() -> None:
    assert text("Text <script>x and <!-- y <code>z\n") == "Text x and <!-- y z\n"


# --- heads ---


def test_text_between_two_rules_is_no_front_matter() -> None:
    raw = "---\n\nWarning: never open valve 12 while the pump runs.\n\n---\n\n# Pump manual\n"
    assert text(raw) == "Warning: never open valve 12 while the pump runs.\n\n# Pump manual\n"
    assert "Warning: never" in text(raw.replace("---\n\n", "---\n", 1).replace("\n\n---", "\n---"))


def test_toml_and_json_heads() -> None:
    for head in ("+++\ntitle = 'Pump'\ndate = 2024-01-02\n+++\n", '{\n  "title": "Pump",\n  "date": "2024-01-02"\n}\n'):
        document = cleaned(head + "Body\n")
        assert (document.text, document.title, document.date) == ("Body\n", "Pump", "2024-01-02")
    broken = cleaned("+++\ntitle = 'Pump\nweight = 2\n+++\nBody\n")
    assert (broken.text, broken.title, broken.notes["broken front matter"]) == ("Body\n", "Pump", 1)
    assert text("+++\nAnd then.\n+++\n") == "+++\nAnd then.\n+++\n"


def test_tables_in_tables() -> None:
    inner = "<table><tr><th>x<th>y<tr><td>1<td>2|3</table>"
    assert text(f"<table><tr><th>Key<th>Value<tr><td>a<td>{inner}<tr><td>b<td>c</table>") == (
        "| Key | Value |\n| --- | --- |\n| a | x, y; 1, 2\\|3 |\n| b | c |\n"
    )
    assert text(f"<table><tr><td>a<td>{inner}<tr><td>b<td>c</table>") == "| a | x, y; 1, 2\\|3 |\n| --- | --- |\n| b | c |\n"
    # A table without a header, of which many cells hold tables, lays out a page.
    assert text(f"<table><tr><td>a<td>{inner}<tr><td>b</table>") == "a\n\n| x | y |\n| --- | --- |\n| 1 | 2\\|3 |\n\nb\n"


def test_cells_beyond_the_header_of_a_table_stay() -> None:
    assert text("| a | b |\n|---|---|\n| 1 | 2 | 3\\|4 | **5** |\n| 6 |\n7|8|9\n") == (
        "| a | b |  |  |\n| --- | --- | --- | --- |\n| 1 | 2 | 3\\|4 | 5 |\n| 6 |  |  |  |\n| 7 | 8 | 9 |  |\n"
    )


def test_link_definitions_that_nothing_calls_are_text_or_counted() -> None:
    raw = "See [here][Bar] and [foo]: fine.\n\n[x]: word\n\n[bar]: page.md\n[foo]: word\n[z]: /c 'title'\n[comment]: # (hidden)\n"
    found = cleaned(raw)
    assert found.text == "See here and foo: fine.\n\n\\[x]: word\n"
    assert found.notes == {"link definitions that nothing calls dropped": 2}


def test_a_cell_above_a_row_names_it() -> None:
    rows = "".join(f"<tr><td colspan=2>--{name}<tr><td><td>Sets {name}." for name in ("a", "b"))
    assert text(f"<table>{rows}<tr><td colspan=2>alone<tr><td>c<td>d</table>") == (
        "|  |  |\n| --- | --- |\n| --a | Sets a. |\n| --b | Sets b. |\n| alone |  |\n| c | d |\n"
    )


def test_emoji_that_stand_for_a_word() -> None:
    raw = "Applies to: :heavy_check_mark: Linux :x: Windows, `:x:` and a:b:c\n\n| a |\n| --- |\n| :white_check_mark: |\n"
    assert text(raw) == "Applies to: ✔ Linux ❌ Windows, `:x:` and a:b:c\n\n| a |\n| --- |\n| ✅ |\n"


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_emphasis_in_scripts_without_spaces_leaves_no_mark(dialect: str) -> None:
    raw = "**メモリ（RAM）**を、**[案内](a.md)**に、用**（旧）默认**时、~~（旧）~~は。한국어**“말”**은 a(*b, **c)。5 * 3。\n"
    assert cleaned(raw, dialect).text == ("メモリ（RAM）を、案内に、用（旧）默认时、（旧）は。한국어“말”은 a(*b, **c)。5 * 3。\n")
    assert cleaned("- **名（a）**は**b（c）**と***d（e）***を\n", dialect).text == "- 名（a）はb（c）とd（e）を\n"


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_what_an_abbreviation_or_term_stands_for_follows_it(dialect: str) -> None:
    raw = """An <abbr title="Large
Language Model">LLM</abbr>, a <dfn title="a group"><code>set</code></dfn>, <abbr>id</abbr>, <abbr title="ORM">orm</abbr>, </abbr>.

<div><abbr title="Input/Output">I/<b>O</b></abbr> bound</div>

## <dfn title="endpoints">Paths</dfn>
"""
    document = cleaned(raw, dialect)
    assert document.text == (
        "An LLM (Large Language Model), a `set` (a group), id, orm, .\n\nI/O (Input/Output) bound\n\n## Paths (endpoints)\n"
    )
    assert document.headings[0].text == "Paths (endpoints)"


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_html_of_pictures_alone_is_left_out_and_a_picture_for_a_word_stays(dialect: str) -> None:
    raw = """<p align="center"><a href="a"><img alt="Build" src="b.svg"/></a> <img alt="Coverage" src="c.svg"/></p>

<a href="a"><img alt="Film" src="g.svg"/></a>

- <img alt="One" src="h.svg"/> ![Two](h.svg)

<p>Press <img alt="Enter" src="d.png"/> now.</p>

Or <img alt="Return" src="d.png"/>.

<table><tr><th>OS</th><th>Works</th></tr><tr><td>Linux</td><td><img alt="yes" src="e.png"/></td></tr></table>

<h2><img alt="Logo" src="f.png"/></h2>
"""
    found = cleaned(raw, dialect)
    assert found.text == "Press Enter now.\n\nOr Return.\n\n| OS | Works |\n| --- | --- |\n| Linux | yes |\n\n## Logo\n"
    assert found.notes["images dropped"] == 9


def test_a_table_in_a_cell_of_markdown_is_a_list_of_its_rows() -> None:
    rows = "<tr><td><code>a</code></td><td>int</td></tr><tr><td>b</td><td>Text.</td></tr><tr><td>c</td></tr>"
    inner = f"<table><thead><tr><th>Name</th><th>Type</th></tr></thead>{rows}</table>"
    assert text(f"| f | what |\n|---|---|\n| x | Has fields. <details><summary>Fields</summary>{inner}</details> more |\n") == (
        "| f | what |\n| --- | --- |\n| x | Has fields. Fields; Name, Type; `a`, int; b, Text. c more |\n"
    )
