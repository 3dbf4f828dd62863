from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_vs_ft.corpus.front_matter import BrokenYaml, iso_date, load_yaml, scalar, split_front_matter


def split(raw: str) -> tuple[dict[str, object], str, int]:
    notes: Counter[str] = Counter()
    metadata, body = split_front_matter(raw, notes)
    return metadata, body, notes["broken front matter"]


def test_fields_and_body() -> None:
    metadata, body, broken = split("---\ntitle: A guide\nms.date: 03/09/2026\n---\n\n# A\n")
    assert (metadata, body, broken) == ({"title": "A guide", "ms.date": "03/09/2026"}, "\n# A\n", 0)


def test_unclosed_head_is_body() -> None:
    raw = "---\ntitle: x\n\n# A\n"
    assert split(raw) == ({}, raw, 0)


def test_text_between_two_rules_is_body() -> None:
    for between in (
        "just text",
        "\n[a broken list\n",
        "- a\n- b",
        "note: do not open",
        "Warning: do not open.",
        "remember: the pump runs",
        "pump: it has to be primed before it is started",
        "first: Open it.\nsecond: Close it.",
    ):
        raw = f"---\n{between}\n---\nmore"
        assert split(raw) == ({}, raw, 0)


def test_a_head_of_unknown_fields_is_a_head() -> None:
    head = "owner: platform team\nstages:\n  - stage: beta, since the third of the versions. It\n    from: 1.2\n"
    metadata, body, _ = split(f"---\n{head}---\nmore")
    assert (list(metadata), body) == (["owner", "stages"], "more")
    assert split("---\nnote: x\ntitle: A guide\n---\nmore")[:2] == ({"note": "x", "title": "A guide"}, "more")


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("title: Azure: the guide", "Azure: the guide"),
        ("title: A\n\tdescription: tab", "A"),
        ("title: A\nlist: [1, 2", "A"),
        ("title: A\nx: !!python/object/apply:os.system ['true']", "A"),
        ("title: A\nx: !!timestamp nonsense", "A"),
        ("title: A\na: &a [x, x]\nb: [*a, *a]", "A"),
        ("title: A\nx: " + "[" * 60_000, "A"),
        ("title: A\nx: " + "y" * 70_000, "A"),
    ],
    ids=["colon", "tab", "bracket", "python tag", "bad value", "alias", "nesting", "too long"],
)
def test_broken_head_keeps_the_document_and_its_title(head: str, title: str) -> None:
    metadata, body, broken = split(f"---\n{head}\n---\n# Body\n")
    assert (metadata["title"], body, broken) == (title, "# Body\n", 1)


def test_no_alias_is_followed_and_no_object_made() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    start = time.perf_counter()
    for source in (bomb, "!!python/object/apply:os.getcwd []", "[" * 1_000_000, "a: " + "{b: " * 5_000):
        with pytest.raises(BrokenYaml):
            load_yaml(source)
    assert time.perf_counter() - start < 2


@given(st.text(max_size=200))
def test_any_text_is_values_or_broken(source: str) -> None:
    with suppress(BrokenYaml):
        load_yaml(source)


@given(st.text(alphabet="-\n: ab[]&*!#'\"{}|>", max_size=80))
def test_nothing_of_the_body_is_lost(head: str) -> None:
    _, body, _ = split(f"---\n{head}\n---\nthe body")
    assert body.endswith("the body")


def test_scalars_and_dates() -> None:
    assert scalar({"services": ["a", "b"]}, "ms.service", "services") == "a, b"
    assert scalar({"title": " two\n lines "}, "title") == "two lines"
    assert scalar({"title": {"nested": 1}}, "title") == ""
    assert iso_date({"ms.date": "3/9/2026"}) == "2026-03-09"
    assert iso_date(load_yaml("ms.date: 2026-03-09")) == "2026-03-09"  # type: ignore[arg-type]
    assert iso_date(load_yaml("ms.date: 2026-03-09T10:00:00Z")) == "2026-03-09"  # type: ignore[arg-type]
    assert iso_date({"ms.date": "soon"}) == iso_date({}) == ""
