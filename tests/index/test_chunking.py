from __future__ import annotations

import re
import sys

import pytest
from examples import at_least
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_vs_ft.errors import UserError
from rag_vs_ft.index.chunking import LONGEST_HEADING, STRETCH, Chunker, chunk_document, embedded_text, fitted_breadcrumb
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


@pytest.mark.parametrize("text", ["", "\n\n \n"])
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


@settings(max_examples=at_least(150), deadline=None)
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


def test_a_heading_without_text_of_its_own_is_in_a_chunk() -> None:
    text = "# House rules\n\n## Never unplug the red router\n\n## The alarm code is 4711\n"
    (chunk,) = chunk_document(document(text, title="House rules"), CHUNKER, words)
    assert chunk.text == "## Never unplug the red router\n\n## The alarm code is 4711"
    assert (chunk.title, chunk.heading) == ("House rules", "")
    assert text[chunk.start : chunk.end].strip() == chunk.text


def test_headings_are_in_the_breadcrumb_of_what_stands_below_them_or_in_the_text() -> None:
    text = "# T\n\n## A\n\n### B\n\n### C\n\n#### D\n\nText.\n\n### E\n\n## F\n\n## G\n\nMore.\n\n### H\n"
    chunks = chunk_document(document(text), CHUNKER, words)
    assert [(chunk.heading, chunk.text) for chunk in chunks] == [
        ("A", "### B"),
        ("A > C > D", "Text."),
        ("A", "### E"),
        ("", "## F"),
        ("G", "More."),
        ("G", "### H"),
    ]
    (alone,) = chunk_document(document("# Only a heading\n"), CHUNKER, words)
    assert alone.text == "# Only a heading"
    assert chunk_document(document("# \n\n##\n"), CHUNKER, words) == []


def test_a_long_code_block_is_never_cut_inside_a_word() -> None:
    line = "kubectl-apply --namespace=production --filename=deployment.yaml"
    text = "```bash\n" + "\n".join(f"{line} {number}" for number in range(1_000)) + "\n```\n"
    assert len(text) > 63_000
    chunks = chunk_document(document(text), CHUNKER, words)
    shown = [part for chunk in chunks for part in chunk.text.splitlines()[1:-1]]
    assert shown == text.splitlines()[1:-1]


def one_word(text: str) -> list[tuple[int, int]]:
    """A tokenizer as BERT's is for long words: any run without white space is one token."""
    return [match.span() for match in re.finditer(r"\S+", text)]


@pytest.mark.parametrize(
    "filling",
    [
        "0123456789abcdef" * 12_500,
        "a " + " " * 200_000 + "b",
        "a\n" * 3 + "\n" * 200_000 + "b",
        "x\t" * 5_000,
        "\u200b" * 200_000,
    ],
    ids=["hexadecimal", "spaces", "lines", "tabs", "zero width"],
)
@pytest.mark.parametrize(
    "around", ["{}", "```\n{}\n```", "- {}", "> {}", "| a | b |\n|---|---|\n| {} | y |", "# {}\n\ntext", "## a\n\n### {}"]
)
def test_no_chunk_is_longer_than_a_limit_of_characters_whatever_the_tokenizer_says(filling, around) -> None:
    text = "The code is 4711.\n\n" + around.format(filling) + "\n\nThe port is 443.\n"
    chunks = chunk_document(document(text, title=filling), CHUNKER, one_word)
    # What is repeated around a piece (a fence, a header row) is at most half as long again.
    assert max(len(chunk.text) for chunk in chunks) <= STRETCH * CHUNKER.size * 1.5
    assert all(len(chunk.breadcrumb) <= 3 * LONGEST_HEADING + 6 for chunk in chunks)
    assert all(len(embedded_text(chunk, CHUNKER, one_word)) <= STRETCH * CHUNKER.limit * 1.5 for chunk in chunks)
    assert "The code is 4711." in chunks[0].text and "The port is 443." in chunks[-1].text
    kept = "".join("".join(chunk.text.split()) for chunk in chunks)
    assert len(kept) >= len("".join(filling.split()))


def test_what_looks_like_the_definition_of_a_link_is_text() -> None:
    (chunk,) = chunk_document(document("[alarm]: 4711\n"), CHUNKER, words)
    assert chunk.text == "[alarm]: 4711"


def test_a_tokenizer_that_needs_more_tokens_for_a_part_gives_no_chunk_over_the_limit() -> None:
    def leading(text: str) -> list[tuple[int, int]]:
        """A word costs two tokens more at the beginning of a text, as it may without the space before it."""
        ranges = words(text)
        return [ranges[0]] * 4 + ranges if ranges else []

    text = "\n\n".join(f"## {'heading ' * 6}\n\n" + "word " * 200 for _ in range(3))
    chunks = chunk_document(document(text, title="title " * 8), CHUNKER, leading)
    assert max(chunk.tokens for chunk in chunks) <= CHUNKER.limit
    for chunk in chunks:
        assert len(leading(embedded_text(chunk, CHUNKER, leading))) + 2 <= CHUNKER.limit


GROWING = {
    "headings": lambda n: "".join(f"{'#' * (number % 6 + 1)} h{number}\n\n" for number in range(n)),
    "headings of growing depth": lambda n: "".join(f"{'#' * number} h\n" for number in range(1, int((16 * n) ** 0.5))),
    "bare headings": lambda n: "## h\n\n" * n,
    "paragraphs": lambda n: "word word\n\n" * n,
    "one paragraph": lambda n: "word word. " * n,
    "list": lambda n: "- item\n" * n,
    "nested list": lambda n: "".join("  " * number + "- x\n" for number in range(int((8 * n) ** 0.5))),
    "ordered list": lambda n: "".join(f"{99_999_999 + number}. x\n" for number in range(n)),
    "quotes": lambda n: "> " * n + "x",
    "table": lambda n: "| a | b |\n|---|---|\n" + "| x | y |\n" * n,
    "code": lambda n: "```\n" + "x = 1\n" * n + "```\n",
    "fences": lambda n: "~~~\n" * n,
    "growing fences": lambda n: "".join("`" * (3 + number) + "\n" for number in range(int((8 * n) ** 0.5))),
    "backticks": lambda n: "`" * 8 * n,
    "emphasis": lambda n: "**_**_" * n,
    "references": lambda n: "[a][b" * n,
    "definitions": lambda n: "[a]: b\n" * n,
    "markup": lambda n: "<div>\n" * n,
    "one word": lambda n: "0123456789abcdef" * n,
    "blank lines": lambda n: "a" + "\n" * 8 * n + "b",
}


@pytest.mark.parametrize("kind", GROWING)
def test_the_work_grows_as_the_document_does(kind) -> None:
    """Calls are counted, of Python and of C, and the characters that the tokenizer reads."""

    def work(n: int) -> float:
        done = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal done
            done += event in ("call", "c_call")

        def encode(text: str) -> list[tuple[int, int]]:
            nonlocal done
            done += len(text)
            return words(text)

        text = document(GROWING[kind](n))
        sys.setprofile(count)
        try:
            chunk_document(text, CHUNKER, encode)
        finally:
            sys.setprofile(None)
        return done / len(text.text)

    work(100)  # imports
    assert work(800) < 1.3 * work(200) + 1
