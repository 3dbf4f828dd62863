"""Near duplicates stay on one side, and the split is what it says it is."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_vs_ft.corpus import splits
from rag_vs_ft.errors import UserError
from rag_vs_ft.records import Document


def words(seed: int, count: int = 120) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnop", k=5)) for _ in range(count))


def document(name: str, text: str) -> Document:
    return Document(id=name, title=name, text=text)


def test_near_duplicates_are_on_one_side() -> None:
    documents = [document(f"single-{number}", words(number)) for number in range(30)]
    for number in range(100, 110):  # the same page for three versions of a product, one of them with a section more
        text = words(number)
        documents += [document(f"v1-{number}", text), document(f"v2-{number}", text.replace("a", "a ", 1))]
        documents.append(document(f"v3-{number}", words(number + 1000, 60) + " " + text))
    for seed in range(5):
        split = splits.split_documents(documents, fraction=0.3, seed=seed)
        held = set(split.validation)
        for number in range(100, 110):
            assert len({f"v{version}-{number}" in held for version in (1, 2, 3)}) == 1
        assert split.clusters == 40 and split.largest_cluster == 3
        assert sorted(split.train + split.validation) == sorted(item.id for item in documents)
        assert split.shared == 0.0
        size = sum(len(item.text) for item in documents if item.id in held)
        assert 0.15 < size / sum(len(item.text) for item in documents) < 0.6


def test_text_that_two_sides_share_is_measured() -> None:
    include = words(5000, 40)
    documents = [document(f"{number:02}", f"{words(number)} {include}") for number in range(40)]
    split = splits.split_documents(documents, fraction=0.2, seed=0)
    assert split.clusters == 40  # a short include alone does not make near duplicates
    runs = 160 - splits.SHINGLE_WORDS + 1
    shared = 40 - splits.SHINGLE_WORDS + 1
    distinct = len(split.validation) * (runs - shared) + shared
    assert split.shared == pytest.approx(shared / distinct, rel=1e-6)


def test_split_depends_on_seed_and_ids_alone() -> None:
    documents = [document(f"{number:02}", words(number)) for number in range(60)]
    split = splits.split_documents(documents, fraction=0.05, seed=1)
    assert splits.split_documents(list(reversed(documents)), fraction=0.05, seed=1).validation == split.validation
    assert splits.split_documents(documents, fraction=0.05, seed=2).validation != split.validation


def test_sampled_shingles_find_the_same_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    sketches = [splits.shingle_hashes(words(number // 2, 2_000)) for number in range(8)]
    exact = splits.clusters_of(sketches).tolist()
    monkeypatch.setattr(splits, "MAX_SHINGLES", 2_000)
    assert splits.clusters_of(sketches).tolist() == exact == [0, 0, 1, 1, 2, 2, 3, 3]


def test_documents_that_cannot_be_split() -> None:
    with pytest.raises(UserError, match="corpus is empty"):
        splits.default_split([])
    with pytest.raises(UserError, match="near duplicates of one another"):
        splits.default_split([document("a", words(1)), document("b", words(1))])
    with pytest.raises(UserError, match="validation_fraction is 1"):
        splits.split_documents([document("a", words(1)), document("b", words(2))], fraction=1, seed=0)
    # One large and one small document: the small one is held out, not the large one.
    assert splits.default_split([document("a", words(1, 500)), document("b", words(2))]).validation == ("b",)
    assert len(splits.default_split([document("a", ""), document("b", "!"), document("c", words(3))]).train) > 0


@given(st.text(max_size=200))
def test_shingles_of_any_text(text: str) -> None:
    hashes = splits.shingle_hashes(text)
    assert hashes.dtype == np.uint64 and len(np.unique(hashes)) == len(hashes)
    assert np.array_equal(splits.shingle_hashes(f"  {text.lower()}!"), hashes)


def test_a_run_of_words_is_found_wherever_it_stands() -> None:
    phrase = words(9, splits.SHINGLE_WORDS)
    (alone,) = splits.shingle_hashes(phrase).tolist()
    assert alone in splits.shingle_hashes(f"{words(1, 30)} {phrase} {words(2, 30)}").tolist()
    assert alone not in splits.shingle_hashes(" ".join(reversed(phrase.split()))).tolist()
