import pytest

from rag_vs_ft import settings
from rag_vs_ft.evaluation.experiments import Arm, Choose
from rag_vs_ft.evaluation.predictions import Outcome, Prediction
from rag_vs_ft.evaluation.settling import Tried, choose_best, choose_threshold, settled, variants
from rag_vs_ft.records import Chunk, Hit, Question


def arm(name, context, **settings):
    return Arm(name=name, model="m", context=context, **settings)


ARMS = [arm("bare", "none"), arm("rag", "retrieved"), arm("fixed", "retrieved", k=9, retriever="bm25"), arm("gold", "oracle")]
CHOOSE = Choose(k=(1, 3), retriever=("hybrid", "dense"), score=("pmi", "sum"))


def test_only_what_is_left_open_is_tried():
    tried = variants(ARMS, CHOOSE)
    assert [variant.settled.name for variant in tried] == [
        "bare",
        "rag (hybrid, k=1)",
        "rag (hybrid, k=3)",
        "rag (dense, k=1)",
        "rag (dense, k=3)",
        "fixed",
        "gold",
    ]
    assert (tried[5].settled.k, tried[5].settled.retriever) == (9, "bm25")
    assert (tried[0].settled.k, tried[0].settled.retriever) == (None, None)


def test_settings_fill_in_only_what_a_context_uses():
    assert settled(arm("a", "oracle"), retriever="dense", k=3).k is None
    assert settled(arm("a", "random"), retriever="dense", k=3).retriever is None
    assert settled(arm("a", "gold-removed"), retriever="dense", k=3).k == 3


def prediction(logprobs, priors):
    outcome = Outcome(choice_logprobs=logprobs, prior_logprobs=priors)
    return Prediction("a", "dev", "q", "key", "", 1, (), (), None, 0.0, outcome)


def test_the_best_mean_over_all_arms_wins_and_of_equals_the_first():
    question = Question("q", "?", choices=("x", "y"), answer_index=1, answer="y")
    right_by_sum, wrong, right = (
        prediction((-2.0, -1.0), (-5.0, -1.0)),
        prediction((-1.0, -2.0), (-1.0, -1.0)),
        prediction((-2.0, -1.0), (-1.0, -1.0)),
    )
    tried = variants(ARMS[:2], CHOOSE)
    rows = {variant.settled.name: {"q": wrong} for variant in tried}
    score, candidate, table = choose_best(CHOOSE, tried, rows, [question])
    assert (score, candidate) == ("pmi", ("hybrid", 1))
    rows["rag (hybrid, k=3)"] = rows["rag (dense, k=1)"] = {"q": right}
    rows["bare"] = {"q": right_by_sum}
    score, candidate, table = choose_best(CHOOSE, tried, rows, [question])
    assert (score, candidate) == ("sum", ("hybrid", 3))
    assert Tried("rag", "hybrid", 3, {"pmi": 1.0, "sum": 1.0}) in table
    assert table[0] == Tried("bare", None, None, {"pmi": 0.0, "sum": 1.0})


def searching(cosines):
    chunk = Chunk("c", "d", "t", "", "x", 0, 1, 1)
    return lambda query: [Hit(rank, chunk, 1.0, dense_score=value) for rank, value in enumerate(cosines[query], start=1)]


def test_the_threshold_tells_answerable_from_unanswerable():
    cosines = {f"yes{n}": [0.2, 0.6 + n / 100] for n in range(6)} | {f"no{n}": [0.3 + n / 100, None] for n in range(6)}
    questions = [Question(name, name, answerable=name.startswith("yes")) for name in cosines]
    assert choose_threshold(searching(cosines), questions) == pytest.approx((0.35 + 0.6) / 2)


def test_too_few_questions_or_no_cosines_leave_the_default():
    few = {f"yes{n}": [0.9] for n in range(9)} | {f"no{n}": [0.1] for n in range(4)}
    questions = [Question(name, name, answerable=name.startswith("yes")) for name in few]
    assert choose_threshold(searching(few), questions) == settings.RELEVANT_COSINE
    none = {f"{kind}{n}": [None] for kind in ("yes", "no") for n in range(9)}
    questions = [Question(name, name, answerable=name.startswith("yes")) for name in none]
    assert choose_threshold(searching(none), questions) == settings.RELEVANT_COSINE
