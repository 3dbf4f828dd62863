from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_vs_ft.corpus.text import NotText, decode, escape_block_start, headings_of, normalise, one_line
from rag_vs_ft.records import Heading


def test_utf8_with_and_without_mark() -> None:
    assert decode("é".encode()) == ("é", False)
    assert decode(b"\xef\xbb\xbf# T") == ("# T", False)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_read_by_its_mark(encoding: str) -> None:
    mark = {"utf-16": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}[encoding]
    assert decode(mark + "# Größe".encode(encoding)) == ("# Größe", False)


def test_bytes_that_are_not_utf8_are_replaced_and_flagged() -> None:
    assert decode(b"caf\xe9 au lait") == ("caf\ufffd au lait", True)


def test_a_nul_byte_means_binary() -> None:
    with pytest.raises(NotText):
        decode(b"\x89PNG\r\n\x00\x00")
    assert decode(b"a" * 8192 + b"\0")[0].startswith("aaa")  # only the first 8 KB decide


def test_normalise_removes_what_cannot_be_seen() -> None:
    assert normalise("a\u200bb\u202ec\x00d\ufeff\ud800") == "abcd"
    assert normalise("a\r\nb\rc\u2028d") == "a\nb\nc\nd"
    assert normalise("az\u00a0aks\u202fcreate") == "az aks create"
    assert normalise("e\u0301") == "é"
    assert normalise("می\u200cخواهم") == "می\u200cخواهم"  # a joiner that Persian needs
    assert normalise("a\tb") == "a\tb"


@given(st.text(alphabet=st.characters()))
def test_normalised_text_is_storable_and_stable(text: str) -> None:
    clean = normalise(text)
    clean.encode("utf-8")
    assert unicodedata.is_normalized("NFC", clean)
    assert "\r" not in clean and "\0" not in clean


@given(st.binary(max_size=300))
def test_decode_gives_text_or_says_that_it_is_none(data: bytes) -> None:
    try:
        text, _ = decode(data)
    except NotText:
        assert b"\0" in data
    else:
        normalise(text).encode("utf-8")


def test_headings_are_those_of_commonmark() -> None:
    fence = "````md\n```\n# not this\n```\n````\n"
    text = f"# One `a b`\n\ntext\n\n{fence}\n- item\n\n  ## nor this\n\nTwo\n---\n\n### Three **bold** ###\n"
    assert headings_of(text) == (
        Heading(1, "One a b", 0),
        Heading(2, "Two", text.index("Two")),
        Heading(3, "Three bold", text.index("###")),
    )


@given(st.text(alphabet=st.sampled_from("#>-+*_=~`|<[]:1.) ab\\\"'("), min_size=1, max_size=12))
@example("***")
@example("** *")
@example("___")
@example("_ _ _ _")
def test_an_escaped_line_is_a_paragraph(line: str) -> None:
    """What the writer puts at the start of a line never becomes a heading, list, fence or the like."""
    from markdown_it import MarkdownIt

    text = one_line(line)
    tokens = MarkdownIt("commonmark").enable("table").parse(f"before\n{escape_block_start(text)}\n\nafter\n")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"] * 2


def test_a_query_is_normalised_like_the_documents() -> None:
    from rag_vs_ft.index.search import checked_query

    assert checked_query("cafe\u0301 Donau\u00addampf\u200bschiff")[0] == "café Donaudampfschiff"
