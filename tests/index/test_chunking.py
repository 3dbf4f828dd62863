from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_vs_ft.errors import UserError
from rag_vs_ft.index.chunking import Chunker, chunk_document, embedded_text, fitted_breadcrumb
from rag_vs_ft.records import Document, Heading


def words(text: str) -> list[tuple[int, int]]:
    """A tokenizer whose tokens are words and single marks: counts by hand are easy."""
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


CHUNKER = Chunker(size=40, limit=64)


def document(text: str, title: str = "Pools", id: str = "aks/pools.md") -> Document:
    headings, offset = [], 0
    for line in text.split("\n"):
        if match := re.match(r"(#{1,6}) (.*)", line):
            headings.append(Heading(len(match[1]), match[2], offset))
        offset += len(line) + 1
    return Document(id=id, title=title, text=text, headings=tuple(headings), url="https://example.test/pools")


def test_sections_carry_their_heading_path_and_the_first_h1_is_the_title() -> None:
    text = "# Pools\n\nIntro.\n\n## Create\n\nFirst.\n\n### Surge\n\nSecond.\n\n## Delete\n\nThird.\n"
    chunks = chunk_document(document(text), CHUNKER, words)
    assert [(chunk.heading, chunk.text) for chunk in chunks] == [
        ("", "Intro."),
        ("Create", "First."),
        ("Create > Surge", "Second."),
        ("Delete", "Third."),
    ]
    assert chunks[2].breadcrumb == "Pools > Create > Surge"
    assert [text[chunk.start : chunk.end].strip() for chunk in chunks] == [chunk.text for chunk in chunks]


def test_a_hash_inside_a_code_block_is_no_heading_and_the_block_stays_whole() -> None:
    code = "````bash\n```\n# not a heading\naz aks create\n```\n````"
    chunks = chunk_document(document(f"## Run\n\nDo this:\n\n{code}\n\nDone.\n"), CHUNKER, words)
    assert {chunk.heading for chunk in chunks} == {"Run"}
    assert sum(code in chunk.text for chunk in chunks) == 1


def test_a_code_block_larger_than_a_chunk_is_cut_at_lines_inside_fences() -> None:
    lines = [f"az aks nodepool add --name pool{number}" for number in range(30)]
    chunks = chunk_document(document("```azurecli\n" + "\n".join(lines) + "\n```\n"), CHUNKER, words)
    assert len(chunks) > 3
    for chunk in chunks:
        assert chunk.text.startswith("```azurecli\n") and chunk.text.endswith("\n```")
    body = [line for chunk in chunks for line in chunk.text.splitlines()[1:-1] if line]
    assert body == lines


def test_a_split_table_repeats_its_header_and_cuts_no_row() -> None:
    rows = [f"| Standard_D{number}s_v3 | {number} | {number * 4} |" for number in range(2, 22)]
    header = "| SKU | vCPU | GiB |\n|---|---|---|"
    chunks = chunk_document(document(f"{header}\n" + "\n".join(rows) + "\n"), CHUNKER, words)
    assert len(chunks) > 2
    assert all(chunk.text.startswith(header) for chunk in chunks)
    assert [line for chunk in chunks for line in chunk.text.splitlines()[2:]] == rows


def test_list_items_stay_whole_while_they_fit() -> None:
    items = [f"- item number {number} with some words to fill the line" for number in range(12)]
    chunks = chunk_document(document("\n".join(items) + "\n"), CHUNKER, words)
    assert [line for chunk in chunks for line in chunk.text.splitlines() if line] == items


def test_ids_are_stable_under_edits_elsewhere_and_distinct_for_repeated_text() -> None:
    before = chunk_document(document("## A\n\nSame.\n\n## B\n\nOld text.\n\n## A\n\nSame.\n"), CHUNKER, words)
    after = chunk_document(document("## A\n\nSame.\n\n## B\n\nNew text.\n\n## A\n\nSame.\n"), CHUNKER, words)
    assert before[0].id == after[0].id and before[2].id == after[2].id
    assert before[1].id != after[1].id
    assert len({chunk.id for chunk in before}) == 3
    elsewhere = chunk_document(document("## A\n\nSame.\n", id="aks/other.md"), CHUNKER, words)
    assert elsewhere[0].id != before[0].id


def test_a_breadcrumb_too_long_is_cut_and_the_limit_holds() -> None:
    title = " ".join(f"word{number}" for number in range(100))
    chunks = chunk_document(document("text " * 200, title=title), CHUNKER, words)
    for chunk in chunks:
        assert len(words(embedded_text(chunk, CHUNKER, words))) + 2 == chunk.tokens <= CHUNKER.limit
    assert fitted_breadcrumb(title, CHUNKER, words).startswith("word0 word1")


@pytest.mark.parametrize("text", ["", "\n\n \n", "[ref]: https://example.test/\n"])
def test_documents_without_text_give_no_chunks(text: str) -> None:
    assert chunk_document(document(text), CHUNKER, words) == []


def test_a_chunk_size_that_cannot_work_is_refused() -> None:
    with pytest.raises(UserError, match="chunk size 300"):
        Chunker(size=300, limit=256)


def test_a_huge_unbroken_line_is_cut_in_time() -> None:
    chunks = chunk_document(
        document("x" * 100_000 + " end"), CHUNKER, lambda text: [(at, at + 1) for at in range(0, len(text), 3)]
    )
    assert sum(len(chunk.text) for chunk in chunks) >= 100_000


markdown = st.lists(
    st.sampled_from(
        [
            "# Title",
            "## Section",
            "### Part",
            "A sentence of some words that goes on for a while, with a comma.",
            "- one\n- two\n- three words here\n\n  more of it",
            "1. step\n\n   ```bash\n   az aks create\n   ```\n2. next",
            "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
            "```\n# code\n```",
            "> quoted text\n> goes on",
            "~~~\nunclosed",
            "<div>html</div>",
            "\u00e9\u4e2d\u6587 \u200f text",
            "    indented code",
            "Setext\n======",
        ]
    )
    | st.text(max_size=200),
    max_size=12,
).map("\n\n".join)


SENTENCE = "A sentence of some words that goes on for a while, with a comma."
BLANK_LINES = f"~~~\nunclosed\n\n# Title\n\n{SENTENCE}\n\n\n\n{SENTENCE}\n\n- one\n- two\n- three words here\n\n  more of it"


def test_blank_lines_in_a_long_code_block_lose_nothing_of_it() -> None:
    """The splitter gives blank lines twice, at the end of a part and before the next: what followed them was left out."""
    chunks = chunk_document(document(BLANK_LINES), CHUNKER, words)
    assert len(chunks) > 1 and all(chunk.text.startswith("~~~\n") for chunk in chunks)
    assert "".join(BLANK_LINES[chunk.start : chunk.end] for chunk in chunks).split() == BLANK_LINES.split()[1:]
    assert "- three words here" in chunks[-1].text and "more of it" in chunks[-1].text


@settings(max_examples=150, deadline=None)
@given(markdown)
@example(BLANK_LINES)
def test_any_markdown_gives_chunks_within_the_limit_that_keep_every_word(text: str) -> None:
    text = text.replace("\r", "\n").replace("\0", "")
    chunks = chunk_document(document(text), CHUNKER, words)
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    for chunk in chunks:
        assert 0 <= chunk.start < chunk.end <= len(text)
        assert len(words(embedded_text(chunk, CHUNKER, words))) + 2 <= CHUNKER.limit
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(starts)
    if "]:" in text:  # link reference definitions are no text
        return
    lines = text.split("\n")
    under = {index for index, line in enumerate(lines[1:]) if re.fullmatch(r" {0,3}(=+|-+) *", line)}
    headings = {index for index, line in enumerate(lines) if re.match(r"[ >*+\d.)-]*#", line)} | under
    expected = {word for index, line in enumerate(lines) if index not in headings for word in re.findall(r"\w{2,}", line)}
    shown = "\n".join(f"{chunk.heading}\n{chunk.text}" for chunk in chunks)
    # A setext heading takes the paragraph above it along, so only what follows no underline is certain.
    if not under:
        assert not {word for word in expected if word not in shown}
