import json
import random

import numpy as np
import pytest

from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.retrieval import evaluate_retrieval, load_beir
from rag_vs_ft.index.search import checked_k
from rag_vs_ft.records import Chunk, Hit, Question


def hits(documents):
    """One chunk of each document named, in that order."""
    chunks = [Chunk(f"{name}#{i}", name, name, "", "text", 0, 4, 3) for i, name in enumerate(documents)]
    return [Hit(rank, chunk, 1 / rank) for rank, chunk in enumerate(chunks, start=1)]


class Rankings:
    """A search whose list of documents for each question is written down; keeps what was asked."""

    def __init__(self, rankings):
        self.rankings = rankings
        self.asked = []

    def __call__(self, text, k):
        self.asked.append((text, checked_k(k)))
        return hits(self.rankings.get(text, [])[:k])


def asks(number, *gold, split=""):
    return Question(f"q{number}", f"question {number}", gold_documents=gold, split=split)


def test_scores_by_hand_and_questions_without_gold_are_counted():
    search = Rankings({"question 1": ["x", "a"], "question 2": ["b"] + ["y"] * 4})
    questions = [asks(1, "a", split="dev"), asks(2, "b", "c", split="dev"), asks(3)]
    report = evaluate_retrieval(search, questions)
    assert (report.questions, report.left_out, report.splits) == (2, 1, {"dev": 2})
    assert report.mrr_at_10 == 0.75
    assert report.recall_at_5 == report.recall_at_10 == 0.75
    assert report.ndcg_at_10 == pytest.approx((1 / np.log2(3) + 1 / (1 + 1 / np.log2(3))) / 2)
    assert report.rows[1].ranking == ("b", "y")
    assert report.latency_ms_p99 >= report.latency_ms_p50 > 0
    printed = json.loads(json.dumps(report.to_json()))
    assert {"questions", "ndcg_at_10", "recall_at_5", "recall_at_10", "mrr_at_10", "latency_ms_p50"} <= printed.keys()


def test_a_question_for_which_nothing_is_found_scores_zero():
    report = evaluate_retrieval(Rankings({"question 1": ["a"]}), [asks(1, "a"), asks(2, "b")])
    assert report.recall_at_10 == report.ndcg_at_10 == report.mrr_at_10 == 0.5


def test_it_searches_deeper_until_ten_documents_appear():
    # 60 chunks of one document come before the nine others: 30 chunks hold one document only.
    search = Rankings({"question 1": ["big"] * 60 + [f"d{i}" for i in range(20)]})
    report = evaluate_retrieval(search, [asks(1, "d8")])
    assert [k for text, k in search.asked if text == "question 1"] == [30, 60, 120]
    assert len(report.rows[0].ranking) == 10
    assert report.recall_at_10 == 1 and report.mrr_at_10 == 0.1


def test_it_stops_where_the_list_ends():
    search = Rankings({"question 1": ["a"] * 30})
    assert evaluate_retrieval(search, [asks(1, "b")]).recall_at_10 == 0
    assert [k for text, k in search.asked if text == "question 1"] == [30, 60]


def test_it_stops_at_the_most_a_search_gives():
    search = Rankings({"question 1": ["big"] * 2000 + ["b"]})
    assert evaluate_retrieval(search, [asks(1, "b")]).rows[0].ranking == ("big",)
    assert [k for text, k in search.asked if text == "question 1"] == [30, 60, 120, 240, 480, 960, 1000]


def test_nothing_to_score_and_repeated_ids_are_refused():
    with pytest.raises(UserError, match="none of the 1 questions"):
        evaluate_retrieval(Rankings({}), [asks(1)])
    with pytest.raises(UserError, match="'q1'"):
        evaluate_retrieval(Rankings({}), [asks(1, "a"), asks(1, "b")])


def test_grades_count_when_they_are_given():
    search = Rankings({"question 1": ["a", "b"]})
    plain = evaluate_retrieval(search, [asks(1, "a", "b")])
    graded = evaluate_retrieval(search, [asks(1, "a", "b")], judged={"q1": {"a": 1, "b": 2}})
    assert plain.ndcg_at_10 == 1
    assert graded.ndcg_at_10 == pytest.approx((1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3)))


def set_of(size, chance, seed, per_document=1):
    """Questions whose gold document is found first with a probability, else not at all."""
    draw = random.Random(seed)
    questions = [asks(i, f"d{i // per_document}") for i in range(size)]
    rankings = {q.question: [q.gold_documents[0]] if draw.random() < chance else ["x"] for q in questions}
    return evaluate_retrieval(Rankings(rankings), questions)


def test_intervals_are_the_same_each_time_and_have_the_width_theory_gives():
    report = set_of(200, 0.6, seed=1)
    assert report.intervals == set_of(200, 0.6, seed=1).intervals
    low, high = report.intervals["recall_at_10"]
    half_width = 1.96 * (report.recall_at_10 * (1 - report.recall_at_10) / 200) ** 0.5
    assert low < report.recall_at_10 < high
    assert (high - low) / 2 == pytest.approx(half_width, rel=0.08)


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "toy"
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": "d1", "title": "Nodes", "text": "A node runs pods.", "metadata": {}}, {"_id": "d2", "text": "Vaults."}]
    queries = [{"_id": str(i), "text": f"query {i}", "metadata": {}} for i in range(4)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n0\td1\t2\n0\td2\t1\n2\td2\t0\n3\tgone\t1\n")
    return folder


def test_a_beir_folder_is_read(beir):
    found = load_beir(beir)
    assert [(d.id, d.title, d.text) for d in found.documents] == [("d1", "Nodes", "A node runs pods."), ("d2", "", "Vaults.")]
    assert [(q.id, q.question, q.gold_documents) for q in found.questions] == [
        ("0", "query 0", ("d1", "d2")),
        ("2", "query 2", ()),
        ("3", "query 3", ("gone",)),
    ]
    assert found.judged["0"] == {"d1": 2, "d2": 1} and found.missing_documents == 1
    report = evaluate_retrieval(Rankings({"query 0": ["d1", "d2"]}), found.questions, judged=found.judged)
    assert (report.questions, report.left_out, report.ndcg_at_10) == (2, 1, 0.5)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n0\td1\tone\n", "test.tsv:2"),
        ("qrels/test.tsv", "0 d1 1\n", "test.tsv:1"),
        ("qrels/test.tsv", "9\td1\t1\n", "'9'"),
        ("queries.jsonl", '{"_id": 0, "text": "query"}\n', "queries.jsonl:1"),
        ("corpus.jsonl", '{"_id": "d1", "text": null}\n', "corpus.jsonl:1"),
    ],
)
def test_what_is_wrong_with_a_beir_folder_is_named(beir, name, text, complaint):
    (beir / name).write_text(text)
    with pytest.raises(UserError, match=complaint):
        load_beir(beir)


def test_a_missing_split_names_those_there_are(beir):
    with pytest.raises(UserError) as caught:
        load_beir(beir, "dev")
    assert "test" in caught.value.hint
