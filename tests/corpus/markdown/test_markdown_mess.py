"""Input that tries to break the cleaner: random pieces of the dialect, any code in a fence, and bombs."""

from __future__ import annotations

import pytest
from examples import at_least
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rag_vs_ft.corpus.markdown.learn import LEARN
from rag_vs_ft.corpus.readers import Content, Read


def clean(raw: str, *, path: str = "", read: Read = lambda _: None) -> Content:
    return LEARN.clean(raw, path, read)


PIECES = [
    *("# ", "## ", "[a](#tab/b)", "---\n", "> ", "[!NOTE]", "[!INCLUDE [a](a.md)]", "[!INCLUDE[", ":::", ':::zone pivot="p"\n'),
    *(":::zone-end\n", ':::image source="x"', ':::code source="a.md" range="3-1":::', "```", "~~~\n", "`", "|", "- ", "1. "),
    *(
        "| a | b |\n|---|---|\n",
        "    ",
        "\t",
        "\n",
        "\n\n",
        "text ",
        "**",
        "_",
        "<br>",
        "<table>",
        "<td>",
        "<!--",
        "-->",
        "<name>",
    ),
    *(
        "</",
        "&lt;",
        "&#0;",
        "[x]: /y\n",
        "[x]",
        "![",
        "](",
        "\\",
        "Next steps\n",
        '[!div class="checklist"]\n',
        "<pre>",
        "<script>",
    ),
]
MESS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=100)


@settings(max_examples=at_least(300), deadline=None)
@given(MESS, MESS)
def test_clean_never_raises_and_its_headings_are_where_it_says(raw: str, other: str) -> None:
    document = clean(raw, path="d/x.md", read={"d/a.md": other, "d/x.md": raw}.get)
    assert document.text == "" or document.text.endswith("\n")
    for heading in document.headings:
        assert document.text[heading.offset :].startswith(("#", "\\", heading.text[:1]))
    assert [h.offset for h in document.headings] == sorted({h.offset for h in document.headings})


CODE = st.text(alphabet=st.sampled_from("ab #>-[](){}*_`~|<!:.\"'\\$&1\n"), min_size=1, max_size=120).filter(str.strip)


@settings(max_examples=at_least(200), deadline=None)
@given(CODE, st.sampled_from(["", "- item\n\n  ", "> [!TIP]\n> ", "1. a\n   1. b\n\n      "]))
def test_fenced_code_survives_verbatim(code: str, before: str) -> None:
    """Whatever stands in a fence comes out of the clean document's own fence, at the top, in lists and in alerts."""
    prefix = before.rsplit("\n", 1)[-1]
    fence = "`" * (2 + code.count("`") + 1)
    lines = [f"{fence}x", *code.split("\n"), fence]
    continued = prefix if prefix.startswith(">") else " " * len(prefix)
    raw = before + "\n".join([lines[0], *(continued + line for line in lines[1:])]) + "\n"
    document = clean(raw)
    fences = [token for token in MarkdownIt("commonmark").enable("table").parse(document.text) if token.type == "fence"]
    assert [token.content for token in fences] == [code + "\n"]


@pytest.mark.parametrize(
    "bomb",
    [
        ">" * 20_000 + " x",
        "[" * 30_000,
        "![" * 20_000,
        ":::" * 20_000,
        "<!--" * 20_000,
        "[!INCLUDE [" * 5_000,
        "<a b='" * 10_000,
        "".join("  " * depth + "- a\n" for depth in range(300)),
        "| a " * 300 + "|\n" + "|-" * 300 + "|\n" + ("| b " * 300 + "|\n") * 50,
        "word " * 400_000,
        "# [a](#tab/a)\nx\n" * 3_000,
    ],
    ids=["quotes", "brackets", "images", "colons", "comments", "includes", "tags", "nesting", "table", "one line", "tabs"],
)
def test_bombs_end(bomb: str) -> None:
    clean(bomb, path="a.md", read=lambda _: None)
