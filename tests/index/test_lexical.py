from __future__ import annotations

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index import lexical, postings
from rag_vs_ft.index.lexical import Analyzer, Bm25Settings

TEXTS = [
    "Configuring policies for a resource group with --resource-group myGroup",
    "az aks create --name prod --node-vm-size Standard_D2s_v3",
    "Kubernetes v1.27 is supported; v1.26 is not.",
    "Policies are configured in the portal. Policies cost nothing.",
    "",
]


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("--resource-group", 0),
        ("resource group", 0),
        ("Standard_D2s_v3", 1),
        ("az aks create", 1),
        ("v1.27", 2),
        ("policies configured", 3),
        ("NODE VM SIZE", 1),
    ],
)
def test_commands_versions_and_inflected_words_are_found(tmp_path, query, row) -> None:
    index = lexical.build(tmp_path, TEXTS, Analyzer(), Bm25Settings())
    scores = lexical.load(tmp_path).scores(query)
    assert np.argmax(scores) == row and scores[row] > 0
    assert np.array_equal(scores, index.scores(query))


def test_the_flag_itself_ranks_above_its_words(tmp_path) -> None:
    index = lexical.build(tmp_path, ["the resource group of a vault", "pass --resource-group here"], Analyzer(), Bm25Settings())
    scores = index.scores("--resource-group")
    assert scores[1] > scores[0] > 0


def test_queries_without_a_known_term_score_nothing(tmp_path) -> None:
    index = lexical.build(tmp_path, TEXTS, Analyzer(), Bm25Settings())
    for query in ("", "the of and", "zebra", '"foo', ":", "(((", "\U0001f600" * 50, "x" * 10_000):
        assert not index.scores(query).any()


def test_a_corpus_of_empty_texts_can_be_indexed(tmp_path) -> None:
    for backend in lexical.BACKENDS:
        index = lexical.build(tmp_path / backend, ["", ""], Analyzer(), Bm25Settings(backend=backend))
        assert index.scores("anything").tolist() == [0, 0]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("params.index.json", "{}"),
        ("params.index.json", "[]"),
        ("params.index.json", '{"num_docs": 1}'),
        ("params.index.json", "{"),
        ("vocab.index.json", "[]"),
        ("vocab.index.json", '{"polici": 1000}'),
        ("indices.csc.index.npy", "no array"),
    ],
)
def test_files_that_are_damaged_inside_are_named(tmp_path, file, text) -> None:
    lexical.build(tmp_path, TEXTS, Analyzer(), Bm25Settings())
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(CheckFailed, match="is damaged"):
        for query in TEXTS:
            lexical.load(tmp_path).scores(query)


def test_rank_bm25_scores_as_the_library_does(tmp_path) -> None:
    analyzer = Analyzer()
    lexical.build(tmp_path, TEXTS, analyzer, Bm25Settings(backend="rank-bm25", k1=1.5))
    index = lexical.load(tmp_path)
    expected = BM25Okapi([analyzer.terms(text) for text in TEXTS], k1=1.5, b=0.75)
    for query in ("policies", "az aks", "v1.27 supported"):
        terms = analyzer.terms(query)
        words = expected.get_scores([term for term in terms if " " not in term])
        pairs = expected.get_scores([term for term in terms if " " in term])
        np.testing.assert_allclose(index.scores(query), words + lexical.PAIRS_WEIGHT * pairs, rtol=1e-6)


def test_bm25s_agrees_with_the_formula_worked_by_hand(tmp_path) -> None:
    """Lucene's BM25: idf = ln(1 + (N - n + 0.5) / (n + 0.5)), tf part f / (f + k1 (1 - b + b dl / avgdl))."""
    texts = ["alpha beta", "alpha alpha gamma", "delta"]
    index = lexical.build(tmp_path, texts, Analyzer(stem=False, stop_words=False, pairs=False), Bm25Settings(k1=1.2, b=0.75))
    idf = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = [idf * 1 / (1 + 1.2 * (0.25 + 0.75 * 2 / 2)), idf * 2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2)), 0.0]
    np.testing.assert_allclose(index.scores("alpha"), expected, rtol=1e-5)


def test_both_backends_rank_alike_where_their_formulas_agree(tmp_path) -> None:
    """With no term in over half the rows, IDF differs by a monotone factor; one-term queries must then rank alike."""
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{rng.integers(0, 400)}" for _ in range(rng.integers(5, 40))) for _ in range(200)]
    fast = lexical.build(tmp_path / "fast", texts, Analyzer(), Bm25Settings(k1=1.5))
    slow = lexical.build(tmp_path / "slow", texts, Analyzer(), Bm25Settings(k1=1.5, backend="rank-bm25"))
    for word in range(0, 400, 7):
        left, right = fast.scores(f"w{word}"), slow.scores(f"w{word}")
        assert np.array_equal(left > 0, right > 0)
        matched = np.flatnonzero(left > 0)
        assert np.array_equal(
            np.argsort(-left[matched].round(5), kind="stable"), np.argsort(-right[matched].round(5), kind="stable")
        )


@pytest.mark.parametrize("bad", [{"backend": "elastic"}, {"k1": -1.0}, {"b": 1.5}, {"k1": float("nan")}])
def test_settings_out_of_range_are_refused(bad) -> None:
    with pytest.raises(UserError):
        Bm25Settings(**bad)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("Azure Cloud HSM", ["azur cloud", "cloud hsm"]),
        ("keys of the vault", ["key vault"]),  # a word that is dropped parts nothing
        ("the cloud. HSM", []),
        ("cloud, HSM", []),
        ("cloud\nHSM", []),
        ("(cloud) HSM", []),
        ("auto-upgrade channel", ["auto upgrad", "upgrad channel"]),
        ("--resource-group prod", ["resourc group", "group prod"]),
        ("the of", []),
        ("cloud; the HSM", []),
    ],
)
def test_neighbours_are_a_term_too(text, pairs) -> None:
    assert [term for term in Analyzer().terms(text) if " " in term] == pairs
    assert [term for term in Analyzer().terms(text) if " " not in term] == Analyzer(pairs=False).terms(text)


def test_a_name_of_two_words_ranks_above_its_words_apart(tmp_path) -> None:
    texts = ["An HSM, dedicated. The cloud is near.", "The cloud HSM is dedicated. It is near."]
    scores = lexical.build(tmp_path, texts, Analyzer(), Bm25Settings()).scores("cloud HSM")
    assert scores[1] > scores[0] > 0


@given(st.text(max_size=300), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_any_text_is_analysed_the_same_twice(text, stem, stop_words, names, pairs) -> None:
    analyzer = Analyzer(stem, stop_words, names, pairs)
    terms = analyzer.terms(text)
    assert terms == analyzer.terms(text)
    assert all(term and not term.isspace() for term in terms)


def test_german_is_stemmed_as_german_and_its_function_words_drop() -> None:
    assert Analyzer(pairs=False).terms("Die Häuser und das Haus", "de") == ["haus", "haus"]
    assert Analyzer(pairs=False).terms("mit --resource-group", "de")[0] == "--resource-group"


@pytest.mark.parametrize("code", ["ja", "zh", "ko"])
def test_letters_and_their_pairs_are_terms_where_spaces_part_no_words(code) -> None:
    assert Analyzer().terms("東京都", code) == ["東", "京", "都", "東京", "京都"]
    # Names among them are read as English; full-width letters are the letters that they look like.
    assert Analyzer().terms("東京のＦａｓｔＡＰＩ servers", code)[-3:] == ["fastapi", "server", "fastapi server"]


def test_a_pair_stands_for_a_letter_of_thai() -> None:
    assert Analyzer().terms("กขค", "th") == ["กข", "ขค"]


def test_marks_belong_to_words_of_other_languages_and_english_stays_as_it_was() -> None:
    assert len(Analyzer(stem=False, pairs=False).terms("नमस्ते दुनिया", "hi")) == 2
    assert Analyzer().terms("日本", "en") == ["日本"]


def test_an_index_of_several_languages_finds_each_by_its_own_words(tmp_path) -> None:
    texts = ["The houses are old.", "Die Häuser sind alt.", "これは古い家です。"]
    index = lexical.build(tmp_path, texts, Analyzer(), Bm25Settings(), ["en", "de", "ja"])
    assert index.languages == ("de", "en", "ja") == lexical.load(tmp_path).languages
    for query, row in (("house", 0), ("Haus", 1), ("古い家", 2)):
        assert np.argmax(lexical.load(tmp_path).scores(query)) == row
        assert set(index.terms(query)) & set(index.terms_of(texts[row], index.languages[(1, 0, 2)[row]]))
    assert index.terms("古い家") == Analyzer().terms("古い家", "ja")


def test_an_english_index_says_nothing_of_languages_and_opens_as_one_of_earlier_did(tmp_path) -> None:
    for languages in (None, ["en", ""]):
        lexical.build(tmp_path, ["one", "two"], Analyzer(), Bm25Settings(), languages)
        assert "languages" not in (tmp_path / "analyzer.json").read_text()
        assert lexical.load(tmp_path).languages == ("en",)


@pytest.mark.parametrize("backend", lexical.BACKENDS)
def test_a_pair_weighs_less_than_a_word(tmp_path, backend) -> None:
    texts = ["a cloud hsm here", "hsm of a cloud", "cloud", "other things", "more of other things", "nothing"]
    index = lexical.build(tmp_path, texts, Analyzer(), Bm25Settings(backend=backend))
    words, pairs = index.scores_of("cloud hsm")
    assert [row for row, score in enumerate(pairs) if score] == [0] and words[1] > 0
    assert index.scores("cloud hsm") == pytest.approx(words + lexical.PAIRS_WEIGHT * pairs)
    assert not index.scores("zebra").any()


@pytest.mark.parametrize("parts", [(8_192, 4_000_000), (7, 20)])
@pytest.mark.parametrize("texts", [TEXTS, ["", ""], ["one"], [f"page {n % 5} of {n % 3} and {n} or {n}" for n in range(60)]])
def test_scores_made_by_parts_are_the_files_of_bm25s(tmp_path, monkeypatch, texts, parts) -> None:
    monkeypatch.setattr(postings, "_ROWS", parts[0])
    monkeypatch.setattr(postings, "_PART", parts[1])
    lexical.build(tmp_path / "ours", texts, Analyzer(), Bm25Settings(k1=1.2, b=0.6))
    vocabulary: dict[str, int] = {}
    rows = [[vocabulary.setdefault(term, len(vocabulary)) for term in Analyzer().terms(text)] for text in texts]
    if not vocabulary:  # which bm25s cannot index
        rows[0] = [vocabulary.setdefault("\0", 0)]
    theirs = bm25s.BM25(method="lucene", k1=1.2, b=0.6)
    theirs.index((rows, vocabulary), show_progress=False)
    theirs.save(tmp_path / "theirs", show_progress=False)
    made = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir() if path.name != "analyzer.json"}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    ours, theirs = lexical.load(tmp_path / "ours"), bm25s.BM25.load(tmp_path / "ours", mmap=True, show_progress=False)
    for query in texts:
        words, pairs = ours.scores_of(query)
        for scores, kept in ((words, False), (pairs, True)):
            terms = [term for term in ours.terms(query) if (" " in term) == kept and term in theirs.vocab_dict]
            expected = theirs.get_scores(terms) if terms else np.zeros(len(texts), np.float32)
            assert scores.dtype == np.float32 and np.array_equal(scores, expected)
