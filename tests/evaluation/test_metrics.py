import math
import random

import pytest
import pytrec_eval
from examples import at_least
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_vs_ft.evaluation.metrics import (
    distinct,
    exact_match,
    fact_recall,
    groundedness,
    holds,
    mean_over_queries,
    ndcg_at,
    normalise_answer,
    recall_at,
    reciprocal_rank_at,
    rouge_l,
    token_f1,
)

RANKED = {
    "ndcg_cut_5": (ndcg_at, 5),
    "ndcg_cut_10": (ndcg_at, 10),
    "recall_5": (recall_at, 5),
    "recall_10": (recall_at, 10),
}


def trec_scores(run: dict[str, list[str]], judged: dict[str, dict[str, int]], measures: set[str]) -> dict:
    """trec_eval's scores of rankings; it sorts by score, so each place gets its own."""
    scores = {query: {name: float(len(ranking) - i) for i, name in enumerate(ranking)} for query, ranking in run.items()}
    return pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(scores)


documents = st.integers(0, 30).map(lambda number: f"d{number:02}")
rankings = st.lists(documents, unique=True, min_size=1, max_size=25)
judgements = st.dictionaries(documents, st.integers(0, 3), min_size=1, max_size=12).filter(lambda j: max(j.values()) > 0)


@given(rankings, judgements)
@settings(max_examples=at_least(300), deadline=None)
def test_every_ranking_metric_agrees_with_trec_eval(ranking, judged):
    theirs = trec_scores({"q": ranking}, {"q": judged}, {"ndcg_cut.5,10", "recall.5,10"})["q"]
    for name, (metric, k) in RANKED.items():
        assert metric(ranking, judged, k) == pytest.approx(theirs[name], abs=1e-9)
    cut = trec_scores({"q": ranking[:10]}, {"q": judged}, {"recip_rank"})["q"]["recip_rank"]
    assert reciprocal_rank_at(ranking, judged, 10) == pytest.approx(cut, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_means_over_random_runs_agree_with_trec_eval_and_missing_queries_count_as_zero(seed):
    draw = random.Random(seed)
    names = [f"d{number:03}" for number in range(200)]
    judged = {f"q{i}": {name: draw.randint(1, 3) for name in draw.sample(names, draw.randint(1, 20))} for i in range(50)}
    run = {query: draw.sample(names, 100) for query in judged if draw.random() < 0.8}
    assert 0 < len(run) < len(judged)
    theirs = trec_scores(run, judged, {"ndcg_cut.5,10", "recall.5,10"})
    for name, (metric, k) in RANKED.items():
        expected = sum(scores[name] for scores in theirs.values()) / len(judged)
        assert mean_over_queries(metric, run, judged, k) == pytest.approx(expected, abs=1e-9)


def test_ndcg_by_hand():
    # Gains 0, 2, 1 at ranks 1, 2, 3; ideal 2, 1.
    expected = (2 / math.log2(3) + 1 / 2) / (2 + 1 / math.log2(3))
    assert ndcg_at(["x", "b", "a"], {"a": 1, "b": 2, "c": 0, "d": -1}, 10) == pytest.approx(expected)
    # Grade 0 and below is not relevant, though judged.
    assert ndcg_at(["c", "d"], {"a": 1, "c": 0, "d": -1}, 10) == 0


def test_cut_off_and_recall_by_hand():
    ranking = ["x", "a", "y", "b"]
    assert reciprocal_rank_at(ranking, {"a": 1, "b": 1}, 10) == 0.5
    assert reciprocal_rank_at(ranking, {"a": 1}, 1) == 0
    assert recall_at(ranking, {"a": 1, "b": 1, "c": 1}, 3) == pytest.approx(1 / 3)
    assert recall_at([], {"a": 1}, 5) == 0


def test_a_ranking_that_repeats_a_document_is_refused():
    # Counted twice it would lift recall above what was found.
    with pytest.raises(ValueError, match="twice"):
        recall_at(["a", "a"], {"a": 1, "b": 1}, 5)
    assert distinct(["a", "b", "a", "c", "b"]) == ["a", "b", "c"]


def test_a_query_without_relevant_documents_has_no_score_and_is_left_out_of_the_mean():
    with pytest.raises(ValueError, match="relevant"):
        ndcg_at(["a"], {"a": 0}, 5)
    assert mean_over_queries(recall_at, {"q": ["a"], "r": ["a"]}, {"q": {"a": 1}, "r": {"a": 0}}, 5) == 1
    with pytest.raises(ValueError, match="no query"):
        mean_over_queries(recall_at, {}, {"r": {"a": 0}}, 5)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Premium tier.", "premium tier"),
        ("a node-pool", "nodepool"),
        ("An answer, another; theory", "answer another theory"),
        ("99.95%", "99.95"),
        ("Since v1.27.", "since v1.27"),
        ("10,000 nodes, 1.5 hours", "10000 nodes 1.5 hours"),
        ("-1 (no limit); well-known", "-1 no limit wellknown"),
        (".5 cores", "0.5 cores"),
        ("The", ""),
    ],
)
def test_normalisation_is_that_of_the_squad_script_but_for_numbers(text, normal):
    assert normalise_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "reference", "exact", "f1"),
    [
        ("The 90 days!", "90 days", 1, 1),
        ("90 days by default", "90 days", 0, 2 * 0.5 * 1 / 1.5),
        ("days days", "90 days", 0, 0.5),  # repeats count once each: precision 1/2, recall 1/2
        ("7", "90 days", 0, 0),
        ("the", "an", 1, 1),
        ("", "90 days", 0, 0),
        ("v1.27", "v12.7", 0, 0),
        ("1.5 hours", "15 hours", 0, 0.5),
        ("1,000", "1000", 1, 1),
        ("-1", "1", 0, 0),
        ("10:30", "1030", 0, 0),
    ],
)
def test_exact_match_and_token_f1_by_hand(prediction, reference, exact, f1):
    assert exact_match(prediction, reference) == exact
    assert token_f1(prediction, reference) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "reference", "question", "share"),
    [
        ("It keeps 30 days.", "Logs are kept for 30 days.", "How long are logs kept?", 1),
        ("It keeps 7 days.", "Logs are kept for 30 days.", "How long are logs kept?", 0),
        ("Long enough.", "30 days", "How long?", 0),
        ("Use --force and -n.", "Pass `--force` with -n prod", "How?", 1),
        ("Use force.", "--force", "How?", 0),
        ("The API is called tokenrequest.", "By the TokenRequest API.", "How is a token obtained?", 1),
        ("A token.", "By the TokenRequest API.", "How is a token obtained?", 0),
        ("See /etc/hosts/x", "/etc/hosts", "Where?", 0),
        ("In `/etc/hosts`.", "/etc/hosts", "Where?", 1),
        ("NodePorts open a port.", "A NodePort.", "Which type opens a port?", 1),
        # No number, flag or name: the words beyond the question's, stemmed.
        ("It restarts the pod.", "The pod is restarted later.", "What happens to the pod?", 0.5),
        # What the question says is no news, unless nothing else is said.
        ("In v1.22 use tokens.", "In v1.22 use the KMS.", "What is used in v1.22?", 0),
        ("v1.22", "v1.22", "Is it v1.22?", 1),
        ("", "30 days", "How long?", 0),
        ("30 days", "", "How long?", 0),
    ],
)
def test_facts_of_a_reference_by_hand(answer, reference, question, share):
    assert fact_recall(answer, reference, question) == pytest.approx(share)


PASSAGES = (
    "Pods > Restart\nA Pod's restartPolicy defaults to Always. The kubelet waits 10s, 20s, 40s before it restarts a container.",
    "Drain the node with `kubectl drain --ignore-daemonsets` before an upgrade.",
)


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("The restartPolicy of a Pod defaults to Always. [1]", 1.0),
        ("It is Never.", 0.0),
        ("The kubelet waits 10s and then 20s.", 1.0),
        ("The kubelet waits 10s and then 30s.", 0.0),  # no passage has 30
        ("1. The kubelet waits 20s\n2. The moon is made of cheese", 0.5),
        ("- Drain the node with `--ignore-daemonsets`\n- Drain the node with `--force`", 0.5),
        ("The kubelet restarts a container with `--ignore-daemonsets`.", 0.0),  # its parts stand in two passages
        ("The default restartPolicy.", None),  # nothing that the question does not say
        ("Yes.", None),
        ("[1]", None),
        ("", None),
    ],
)
def test_claims_that_a_passage_holds_by_hand(answer, share):
    assert groundedness(answer, PASSAGES, "What is the default restartPolicy?") == share


def test_an_index_in_code_is_no_citation():
    assert groundedness("It is `spec.volumes[1].name`. [2]", ("Set `spec.volumes[1].name` to that.",), "Where?") == 1.0


def test_nothing_is_grounded_where_nothing_was_shown():
    assert groundedness("It is Always.", (), "What is the default restartPolicy?") is None


def test_texts_that_are_compared_are_read_as_one_language():
    # By themselves the two would be Polish and Czech, where "represents" has another stem.
    passage = "A Job represents a one-off task, whereas each CronJob repeats according to a schedule."
    assert groundedness("Pods > a Job represents a task to do", (passage,), "What is a CronJob?") == 1.0
    assert fact_recall("it represents one task", "A Job represents a one-off task", "What is a Job?") > 0.5


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Up to 5GB a day.", "5 GB"),
        ("1-5 GB", "5 GB"),
        ("It takes (1.5 hours).", "1.5 hours"),
        ("Needs v1.27.", "v1.27"),
        ("Needs v1.27.", "1.27"),
        ("up to 10,000 nodes", "10000 nodes"),
        ("The answer is: no.", "No"),
        ("Set it to -1.", "-1"),
        ("A 0.5 share", ".5 share"),
        ("in the node pool", "a node pool"),
        ("pass --max-surge=33%", "max-surge 33%"),
        ("最大值为 5 GB。", "最大值为5GB"),
        ("don't", "Don't"),
    ],
)
def test_an_answer_that_a_text_holds(text, answer):
    assert holds(text, answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("15 GB", "5 GB"),
        ("1.5 GB", "5 GB"),
        ("node", "no"),
        ("15 hours", "1.5 hours"),
        ("v1.27", "v1.2"),
        ("v12.7", "v1.27"),
        ("v1.27.3", "v1.27"),
        ("1,000 nodes", "000 nodes"),
        ("1,000 nodes", "1 nodes"),
        ("-1", "1"),
        ("words only", "the"),
        ("anything", "?!"),
        ("", "5"),
    ],
)
def test_an_answer_that_a_text_does_not_hold(text, answer):
    assert not holds(text, answer)


@given(
    st.lists(st.sampled_from(["5", "15", "1.5", "1,000", "GB", "no", "node", "v1.2", "v1.27", "the", "."]), max_size=8), st.data()
)
def test_a_text_holds_each_of_its_runs_of_words(words, data):
    start = data.draw(st.integers(0, len(words)))
    run = words[start : data.draw(st.integers(start, len(words)))]
    if any(word not in ("the", ".") for word in run):
        assert holds(" ".join(words), " ".join(run))


@given(st.integers(0, 99_999), st.integers(0, 99_999))
def test_a_number_is_held_by_itself_alone(one, other):
    assert holds(f"It is {one:,} GB.", f"{other} GB") is (one == other)


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("police kill the gunman", "police killed the gunman", 0.75),  # Lin (2004), section 3.1: LCS 3 of 4 and 4
        ("the gunman kill police", "police killed the gunman", 0.5),  # LCS 2
        ("kubectl get nodes", "Run kubectl get nodes -o wide", 2 * 3 / (3 + 6)),
        ("a b c d", "d c b a", 0.25),
        ("", "text", 0),
        ("узел", "Узел", 1),
    ],
)
def test_rouge_l_by_hand(prediction, reference, score):
    assert rouge_l(prediction, reference) == pytest.approx(score)


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_answer_metrics_are_symmetric_bounded_and_one_for_equal_texts(left, right):
    for metric in (exact_match, token_f1, rouge_l):
        assert 0 <= metric(left, right) <= 1
        assert metric(left, right) == metric(right, left)
        if left.split():
            assert metric(left, left) == 1
