"""Texts of models and documents: what is drawn of them, and what is not."""

from __future__ import annotations

import importlib
import re

import pytest
from examples import at_least
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_vs_ft.cli.app import find_main


@pytest.fixture(scope="module")
def readable():
    import sys

    sys.path.insert(0, str(find_main().parent))
    yield importlib.import_module("readable")
    sys.path.remove(str(find_main().parent))


ODD = "<>/!\"'=&[]()`*_~|#-. \nabjs:script\ue000\ue001"
ATTRIBUTES = r'class="[\w -]*"|href="https://[^"]*" rel="noopener noreferrer" target="_blank"|start="\d+"|'
TEXT = """# Pools

A pool has nodes. The surge is **10 nodes** here. Another sentence.

- item `a` says 5 GB

| Tier | Days |
|---|---|
| basic | 7 days |

```azurecli
az aks create --name x
```
"""


def html_of(blocks) -> str:
    return "".join(block.content for block in blocks if not block.is_code)


def test_markdown_becomes_lists_tables_and_code_that_can_be_copied(readable) -> None:
    blocks = readable.blocks(TEXT)
    assert [block.content for block in blocks if block.is_code] == ["az aks create --name x"]
    drawn = html_of(blocks)
    assert "<li>item <code>a</code> says 5 GB</li>" in drawn and "<td>7 days</td>" in drawn
    assert "<strong>Pools</strong>" in drawn and "<h1" not in drawn, "a page has headings of its own"


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("[a](https://a.example/x)", '<a href="https://a.example/x" rel="noopener noreferrer" target="_blank">a</a>'),
        ("[a](http://a.example)", "a"),
        ("[a](//a.example)", "a"),
        ("[a](index)", "a"),
        ("[a](https:evil)", "a"),
        ("<https://a.example>", '<a href="https://a.example" rel="noopener noreferrer" target="_blank">https://a.example</a>'),
        ("<http://a.example>", "http://a.example"),
        ("![alt](https://a.example/i.png)", "alt"),
        ("[![alt](https://a.example/i.png)](http://x)", "alt"),
        ("<b onclick=x>", "&lt;b onclick=x&gt;"),
        ("a & b", "a &amp; b"),
    ],
)
def test_only_https_is_a_link_and_nothing_is_loaded(readable, text, drawn) -> None:
    assert html_of(readable.blocks(text)) == f'<div class="readable"><p>{drawn}</p>\n</div>'


@settings(max_examples=at_least(200), deadline=None)
@given(
    st.text(alphabet="<>/!\"'=&[]()`*_~|#-. \nabjs:script\ue000\ue001", max_size=80),
    st.tuples(st.integers(0, 80), st.integers(0, 80)),
)
def test_no_text_makes_a_tag_of_its_own(readable, text, marked) -> None:
    allowed = {"div", "p", "br", "strong", "em", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "a", "mark"}
    allowed |= {"table", "thead", "tbody", "tr", "th", "td", "s"}
    start, end = sorted(min(at, len(text)) for at in marked)
    for one in (None, (start, end)):
        drawn = html_of(readable.blocks(text, one))
        assert set(re.findall(r"<\s*/?\s*([a-zA-Z!]+)", drawn)) <= allowed, drawn
        for attributes in re.findall(r"<[a-z]+\s([^>]*)>", drawn):
            assert re.fullmatch(ATTRIBUTES, attributes.strip(" /")), drawn


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("10 nodes is the surge", "The surge is **10 nodes** here."),
        ("basic: 7 days", "| basic | 7 days |"),
        ("It says 5 GB", "item `a` says 5 GB"),
        ("Purple elephants dance", None),
        ("", None),
    ],
)
def test_the_sentence_that_supports_an_answer(readable, answer, sentence) -> None:
    found = readable.supporting_sentence(answer, TEXT)
    assert (TEXT[slice(*found)] if found else None) == sentence
    if found:
        assert "<mark>" in html_of(readable.blocks(TEXT, found))


WRAPPED = """# Limits

A node pool holds at most
1,000 nodes. Another sentence about
something else.

1. Stop the cluster with
   `az aks stop`, which keeps disks.
2. Start it again.

> A vault keeps deleted keys
> for 90 days.

```bash
az lock list --resource-group rg-orders-prod
```

ノードは最大1000台で
す。次の文。
"""


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("It holds 1,000 nodes at most.", "A node pool holds at most\n1,000 nodes."),
        ("az aks stop keeps the disks", "Stop the cluster with\n   `az aks stop`, which keeps disks."),
        ("Deleted keys: 90 days", "A vault keeps deleted keys\n> for 90 days."),
        ("az lock list --resource-group rg-orders-prod", None),
        ("limits", "Limits"),
    ],
)
def test_a_sentence_goes_on_after_the_end_of_its_line(readable, answer, sentence) -> None:
    found = readable.supporting_sentence(answer, WRAPPED)
    assert (WRAPPED[slice(*found)] if found else None) == sentence
    if found:
        drawn = html_of(readable.blocks(WRAPPED, found))
        assert drawn.count("<mark>") == drawn.count("</mark>") == 1 and "\ue000" not in drawn


def test_sentences_are_places_of_the_text_in_order(readable) -> None:
    found = [WRAPPED[start:end] for start, end in readable._sentences(WRAPPED)]
    assert found[-2:] == ["ノードは最大1000台で\nす。", "次の文。"], found
    assert found[:3] == ["Limits", "A node pool holds at most\n1,000 nodes.", "Another sentence about\nsomething else."]


def test_a_snippet_shows_the_place_with_most_matches(readable) -> None:
    text = "Nothing here. " * 60 + "The surge of a node pool is ten nodes. " + "Nothing there. " * 60
    drawn = readable.snippet(text, ["surg", "node", "pool"])
    assert "<mark>surge</mark>" in drawn and drawn.count("<mark>") == 4 and len(drawn) < 600
    assert readable.snippet("<b>x</b>", []) == '<div class="readable">&lt;b&gt;x&lt;/b&gt;</div>'
    assert len(readable.snippet("x" * 5_000, [])) < 500


@pytest.mark.parametrize("text", ["[4] [5] [6] [44]", "1. 1. 1. 2.", "[1], [2]", "1) 2)"])
def test_marks_of_lists_are_no_answer(readable, text) -> None:
    assert readable.is_degenerate(text)


@pytest.mark.parametrize(
    "text", ["", "443", "90.", "[1]", "10.0.0.0/16", "1. Open the portal.", "[1] It is 443.", "1.27 and 1.28"]
)
def test_short_answers_are_answers(readable, text) -> None:
    assert not readable.is_degenerate(text)
