import math
import sys
from dataclasses import replace

import pytest

from rag_vs_ft.evaluation import contexts, measures, report
from rag_vs_ft.evaluation.costs import ArmCost
from rag_vs_ft.evaluation.experiments import Arm
from rag_vs_ft.evaluation.figures import (
    AgainstBaseline,
    BreakEven,
    Citations,
    Estimate,
    Openings,
    PairFigures,
    QuestionCounts,
    ScoreFigures,
    TagFigures,
)
from rag_vs_ft.evaluation.measures import (
    ACCURACY,
    BITS,
    F1,
    Measure,
    bits_per_byte,
    choice_credit,
    choice_scores,
    confidence,
    margin,
)
from rag_vs_ft.evaluation.predictions import Outcome, Passage, Prediction
from rag_vs_ft.evaluation.summary import Table, summarise
from rag_vs_ft.evaluation.verdict import verdict, why_wrong
from rag_vs_ft.records import Question


def ask(name, tags=("fact",), **fields):
    return Question(
        **{
            "id": name,
            "question": f"{name}?",
            "answer": "yes",
            "choices": ("yes", "no no"),
            "answer_index": 0,
            "gold_documents": ("gold.md",),
            "answerable": True,
            "tags": tags,
            **fields,
        }
    )


def row(name, logprobs=(-1.0, -2.0), priors=(-1.0, -1.0), **fields):
    outcome = Outcome(
        **{
            "choice_logprobs": logprobs,
            "prior_logprobs": priors,
            "answer_logprob": -2.0,
            "score_seconds": 0.5,
            **fields.pop("outcome", {}),
        }
    )
    values = {"prompt": "p", "prompt_tokens": 10, "passages": (), "citations": (), "best_cosine": None, "search_seconds": 0.1}
    return Prediction(arm="", split="test", question_id=name, key=name, outcome=outcome, **{**values, **fields})


RIGHT, WRONG = (-1.0, -2.0), (-2.0, -1.0)


UNANSWERABLE = ask("d", choices=None, answer_index=None, answer=None, answerable=False, gold_documents=())


def table(rows, questions, contexts, **fields):
    arms = tuple(Arm(name=name, model="m", context=context) for name, context in contexts.items())
    values = {
        "clusters": {question.id: question.id for question in questions},
        "flagged": frozenset(),
        "score": "sum",
        "refuse_below": 0.4,
        **fields,
    }
    return Table(questions=tuple(questions), arms=arms, rows=rows, **values)


def summary(given, baseline="bare", costs=None):
    costs = costs or {arm.name: ArmCost(parameters=100) for arm in given.arms}
    return summarise(
        given,
        run="run",
        experiment="experiment",
        baseline=baseline,
        costs=costs,
        openings=Openings(1, 1),
        retrieval={},
        skipped={},
        failed={},
        progress=lambda *_: None,
    )


def test_scores_of_choices_by_hand():
    question = ask("q")
    given = row("q", (-6.0, -5.0), (-6.0, -2.0))
    assert choice_scores(given, question, "sum") == (-6.0, -5.0)
    assert choice_scores(given, question, "per_byte") == (-2.0, -1.0)
    assert choice_scores(given, question, "pmi") == (0.0, -3.0)
    assert [choice_credit(given, question, score) for score in ("sum", "per_byte", "pmi")] == [0.0, 0.0, 1.0]
    assert bits_per_byte(given, question) == pytest.approx(2 / math.log(2) / 3)
    assert confidence(given, question, "sum") == pytest.approx(1 / (1 + math.exp(-1)))
    assert confidence(given, question, "per_byte") == pytest.approx(1 / (1 + math.exp(-4)))


def test_equal_scores_share_the_credit_and_do_not_go_to_the_first():
    assert choice_credit(row("q", (-1.0, -1.0)), ask("q"), "sum") == 0.5
    assert choice_credit(row("q", (-1.0, -1.0)), ask("q", answer_index=1, answer="no no"), "sum") == 0.5


def test_an_arm_by_hand():
    questions = [ask("a"), ask("b"), ask("c", tags=("update",)), UNANSWERABLE]
    passage = Passage(1, "c", "gold.md", 1.0, True, True)
    other = Passage(2, "d", "other.md", 0.5, True, False)
    answer = {"answer": "It is yes", "completion_tokens": 4, "answer_seconds": 1.0, "finish": "end"}
    none = {"choice_logprobs": None, "prior_logprobs": None, "answer_logprob": None}
    rows = {
        "bare": {"a": row("a", RIGHT), "b": row("b", WRONG), "c": row("c", WRONG), "d": row("d", outcome=none)},
        "rag": {
            "a": row("a", WRONG, passages=(passage, other), citations=(1, 2), best_cosine=0.9, outcome=answer),
            "b": row("b", RIGHT, passages=(other,), best_cosine=0.3),
            "c": row("c", RIGHT, passages=(other, Passage(3, "e", "gold.md", 0.1, False, True)), best_cosine=0.8),
            "d": row("d", best_cosine=0.2, outcome={**none, **answer, "answer": "The passages do not say."}, passages=(other,)),
        },
    }
    found = summary(table(rows, questions, {"bare": "none", "rag": "retrieved"}, flagged=frozenset({"a"})))
    bare, rag = found.arms
    assert (bare.accuracy.value, rag.accuracy.value) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (bare.choice_accuracy_clean, rag.choice_accuracy_clean) == (0.0, 1.0)
    assert rag.known == AgainstBaseline(1, 0.0, destroyed=1, unknown=2, accuracy_on_unknown=1.0, gained=2)
    assert rag.abstention.refused_unanswerable_by_search == 1.0
    assert rag.abstention.refused_answerable_by_search == pytest.approx(1 / 3)
    assert rag.abstention.refused_unanswerable_by_answer == 1.0 and rag.abstention.refused_answerable_by_answer == 0.0
    assert bare.abstention.refused_unanswerable_by_search is None
    assert rag.citations == Citations(answers=2, citing=0.5, precision=0.5)
    assert rag.context_quality.gold_in_prompt == rag.context_quality.answer_in_prompt == pytest.approx(1 / 3)
    assert rag.context_quality.dropped == pytest.approx(1 / 3)
    assert rag.context_quality.recall == pytest.approx(1 / 3)
    assert rag.of(F1).value == pytest.approx(0.5) and rag.answered == 1 and rag.estimates["em"].value == 0.0
    assert rag.seconds_per_question == pytest.approx(1.1) and rag.tokens_per_question == 14
    assert bare.seconds_per_question == pytest.approx(0.6)
    assert rag.flops_per_question == 2 * 100 * 14
    assert rag.by_tag["update"] == TagFigures(1, 1.0, None)
    assert found.questions.chance == 0.5 and found.questions.longest_choice == 0.0
    (pair,) = found.pairs_by(ACCURACY)
    assert (pair.a, pair.b, pair.better, pair.worse) == ("bare", "rag", 2, 1)


def test_for_bits_per_byte_less_is_better():
    questions = [ask("a"), ask("b")]
    rows = {
        "bare": {name: row(name, outcome={"answer_logprob": -9.0}) for name in "ab"},
        "good": {name: row(name, outcome={"answer_logprob": -3.0}) for name in "ab"},
    }
    found = summary(table(rows, questions, {"bare": "none", "good": "none"}))
    (pair,) = found.pairs_by(BITS)
    assert pair.difference < 0 and (pair.better, pair.worse) == (2, 0)


def test_a_question_that_was_not_asked_is_wrong_and_counted():
    questions = [ask("a"), ask("b")]
    rows = {"bare": {"a": row("a"), "b": row("b", None, None, error="too long", outcome={"answer_logprob": None})}}
    (arm,) = summary(table(rows, questions, {"bare": "none"})).arms
    assert (arm.accuracy.value, arm.errors, arm.n) == (0.5, 1, 2)


def test_break_even_by_hand():
    questions = [ask("a")]
    rows = {
        "rag": {"a": row("a", outcome={"score_seconds": 1.9}, prompt_tokens=500)},
        "tuned": {"a": row("a", outcome={"score_seconds": 0.9}, prompt_tokens=100)},
    }
    costs = {
        "rag": ArmCost(parameters=10, index_seconds=20.0),
        "tuned": ArmCost(parameters=10, training_seconds=120.0, training_flops=1e6),
    }
    found = summary(table(rows, questions, {"rag": "retrieved", "tuned": "none"}), baseline=None, costs=costs)
    assert found.break_even == (
        BreakEven("rag", "tuned", questions_by_seconds=100, questions_by_flops=math.ceil(1e6 / (20 * 400))),
    )
    unknown = costs | {"rag": ArmCost(parameters=10, index_seconds=None)}
    given = table(rows, questions, {"rag": "retrieved", "tuned": "none"})
    assert summary(given, baseline=None, costs=unknown).break_even == ()
    costs["rag"], rows["rag"]["a"] = ArmCost(parameters=10), row("a", outcome={"score_seconds": 0.5}, prompt_tokens=90)
    found = summary(table(rows, questions, {"rag": "retrieved", "tuned": "none"}), baseline=None, costs=costs)
    assert found.break_even == (BreakEven("rag", "tuned", None, None),)


def pair(a, b, difference, p, detectable=0.1):
    return PairFigures(a, b, "choice_accuracy", 10, difference, None, p, p, 0, 0, 0, holm_p=p, detectable=detectable)


def wins(name, accuracy, context="none", interval=None):
    figures = summary(table({name: {"a": row("a")}}, [ask("a")], {name: context}), baseline=None).arms[0]
    return replace(figures, estimates={"choice_accuracy": Estimate(accuracy, interval)})


def by(score, best, difference, p):
    return ScoreFigures(score, best, 0.6, difference, None, p)


COUNTS = QuestionCounts(60, 50, 10, 0, 20, {}, chance=0.25, longest_choice=0.3)
AGREED = [by("sum", "rag", 0.2, 0.01), by("per_byte", "rag", 0.2, 0.02), by("pmi", "rag", 0.2, 0.04)]


def test_the_verdict_claims_no_more_than_the_tests():
    arms = [wins("bare", 0.4), wins("rag", 0.6, "retrieved"), wins("gold", 0.9, "oracle")]
    sure = verdict(arms, [pair("bare", "rag", 0.2, 0.01)], AGREED, COUNTS, "bare")
    decision, grounds = sure.splitlines()
    assert decision == (
        "rag answers best: 60.0% of 50 questions right; a guess has 25.0%. It is ahead of every other way (Holm p 0.010)."
    )
    assert "gold" not in decision and "Probes, which no user can be given: gold 90.0% (shown the right passage)." in grounds
    assert "less than 10.0 points more than one time in five" in grounds
    assert "All three scores agree on rag: sum 60.0% (+20.0 points over bare, Holm p 0.010), per byte 60.0%" in grounds
    unsure = verdict(arms, [pair("bare", "rag", 0.2, 0.2)], AGREED, COUNTS, "bare")
    assert "Against bare, the baseline, that is +20.0 points (Holm p 0.200), which chance can explain." in unsure
    turned = verdict([wins("rag", 0.6), wins("bare", 0.4)], [pair("rag", "bare", -0.2, 0.2)], AGREED, COUNTS, "bare")
    assert "+20.0 points" in turned
    assert verdict([], [], [], COUNTS, None) == "No arm answered a question with choices."
    assert verdict([wins("gold", 0.9, "oracle")], [], [], COUNTS, None).startswith("No arm that a user could be given")


def test_the_verdict_says_when_the_scores_disagree():
    arms, pairs = [wins("bare", 0.4), wins("rag", 0.6, "retrieved")], [pair("bare", "rag", 0.2, 0.01)]
    other_winner = [*AGREED[:2], by("pmi", "bare", None, None)]
    assert "THE SCORES DISAGREE" in verdict(arms, pairs, other_winner, COUNTS, "bare")
    other_evidence = [*AGREED[:2], by("pmi", "rag", 0.1, 0.057)]
    assert "PMI rag 60.0% (+10.0 points over bare, Holm p 0.057)" in verdict(arms, pairs, other_evidence, COUNTS, "bare")
    assert "THE SCORES DISAGREE" in verdict(arms, pairs, other_evidence, COUNTS, "bare")


def test_the_verdict_praises_no_guess():
    said = verdict([wins("bare", 0.3, interval=(0.2, 0.4))], [], [], COUNTS, "bare")
    assert said.startswith("No way is shown to answer better than a guess (25.0%). The best, bare, has 30.0% of 50 questions")


def test_the_verdict_says_when_nothing_could_have_been_found():
    arms = [wins("bare", 0.4), wins("rag", 0.6, "retrieved")]
    assert "too few" in verdict(arms, [pair("bare", "rag", 0.2, 0.2, None)], AGREED, COUNTS, "bare")


def test_holms_correction_is_for_the_contrasts_that_were_planned():
    questions = [ask(f"q{number}") for number in range(8)]
    rows = {
        "bare": {question.id: row(question.id, WRONG) for question in questions},
        "rag": {question.id: row(question.id, RIGHT) for question in questions},
        "tuned": {question.id: row(question.id, RIGHT if question.id < "q4" else WRONG) for question in questions},
        "gold": {question.id: row(question.id, RIGHT) for question in questions},
        "random": {question.id: row(question.id, WRONG) for question in questions},
    }
    contexts = {"bare": "none", "rag": "retrieved", "tuned": "none", "gold": "oracle", "random": "random"}
    found = summary(table(rows, questions, contexts))
    pairs = {(one.a, one.b): one for one in found.pairs_by(ACCURACY)}
    assert {name for name, one in pairs.items() if one.planned} == {("bare", "rag"), ("bare", "tuned")}
    assert pairs["bare", "rag"].holm_p == pytest.approx(2 * 2 / 2**8) and pairs["bare", "tuned"].holm_p == 2 / 2**4
    # Not planned: corrected for the three pairs of ways, so the probes, of which four pairs are as clear, cost nothing.
    assert pairs["rag", "tuned"].holm_p == pytest.approx(2 * 2 / 2**4)
    assert all(one.holm_p is None for name, one in pairs.items() if {"gold", "random"} & set(name))
    assert [(one.score, one.best, one.difference) for one in found.by_score] == [
        (score, "rag", 1.0) for score in ("sum", "per_byte", "pmi")
    ]
    assert [one.holm_p for one in found.by_score] == [pytest.approx(2 * 2 / 2**8)] * 3


def test_groups_are_those_of_the_questions_that_are_scored():
    questions = [ask("a"), ask("b"), UNANSWERABLE]
    rows = {"bare": {question.id: row(question.id) for question in questions}}
    rows["bare"]["d"] = row("d", outcome={"choice_logprobs": None, "prior_logprobs": None, "answer_logprob": None})
    found = summary(table(rows, questions, {"bare": "none"}, clusters={"a": "one", "b": "one", "d": "d"})).questions
    assert (found.n, found.clusters, found.effective_clusters) == (3, 1, 1.0)


def test_the_larger_number_is_guessed_without_a_model():
    def fact(name, new, old):
        return ask(name, tags=("updates",), choices=(new, old), answer=new)

    questions = [
        fact("a", "5 nodes", "3 nodes"),
        fact("b", "1.9", "1.10"),
        fact("c", "1,000 pods", "900 pods"),
        fact("d", "preview", "stable"),
        fact("e", "30 days", "30 hours"),
    ]
    rows = {"bare": {question.id: row(question.id) for question in questions}}
    given = {question.id: "one" if question.id in "abc" else question.id for question in questions}
    found = summary(table(rows, questions, {"bare": "none"}, clusters=given)).freshness
    assert (found.n, found.clusters, found.with_numbers) == (5, 3, 3)
    assert found.effective_clusters == pytest.approx(25 / 11) and found.larger_number == pytest.approx(
        (1 + 0 + 1 + 0.5 + 0.5) / 5
    )
    assert summary(table(rows, [ask("a")], {"bare": "none"})).freshness is None


def test_the_margin_is_what_the_wrong_choices_cost_more():
    question = ask("q")  # choices "yes" and "no no", of 3 and 5 bytes
    assert margin(row("q", (-3.0, -10.0)), question) == pytest.approx((-1.0 + 2.0) / math.log(2))
    assert margin(row("q", (-6.0, -5.0)), question) == pytest.approx((-2.0 + 1.0) / math.log(2))
    assert margin(row("q", None, None), question) is None
    assert margin(row("q", None, None, outcome={"choice_values": (1.0, 0.0)}), question) is None


def test_an_arm_at_chance_pays_nothing_back():
    questions = [ask(name) for name in "abcd"]
    rows = {
        "rag": {name: row(name, RIGHT, prompt_tokens=500) for name in "abcd"},
        "tuned": {name: row(name, RIGHT if name in "ab" else WRONG, prompt_tokens=10) for name in "abcd"},
    }
    costs = {"rag": ArmCost(parameters=10, index_seconds=1.0), "tuned": ArmCost(parameters=10, training_seconds=9.0)}
    found = summary(table(rows, questions, {"rag": "retrieved", "tuned": "none"}), baseline=None, costs=costs)
    assert found.arms[1].is_a_guess(0.5) and not found.arms[0].is_a_guess(0.5) and found.break_even == ()
    assert found.arms[1].seconds_per_right_answer == pytest.approx(0.6 / 0.5)


def test_an_entry_alone_is_a_measure_or_a_context(monkeypatch):
    """Nothing else is edited for a new one: every module that has the table gets the entry, and figures and report show it."""
    length = Measure("length", "characters", lambda given, *_: len(given.outcome.answer or "") or None, paired=True)
    for name, longer in (("MEASURES", (*measures.MEASURES, length)), ("PAIRED", (*measures.PAIRED, length))):
        old = getattr(measures, name)
        for module in [module for module in sys.modules.values() if getattr(module, name, None) is old]:
            monkeypatch.setattr(module, name, longer)
    headlines = replace(contexts.CONTEXTS["retrieved"], name="headlines", shows="headlines alone")
    monkeypatch.setitem(contexts.CONTEXTS, "headlines", headlines)

    said = [{"answer": text, "completion_tokens": 1, "answer_seconds": 1.0, "finish": "end"} for text in ("yes", "yes, it is")]
    rows = {arm: {name: row(name, outcome=said[at]) for name in "abc"} for at, arm in enumerate(("bare", "rag"))}
    found = summary(table(rows, [ask("a"), ask("b"), ask("c")], {"bare": "none", "rag": "headlines"}))
    kept = found.to_json()
    assert [arm["length"] for arm in kept["arms"]] == [3, 10] and "length_ci" in kept["arms"][0]
    assert [pair.difference for pair in found.pairs if pair.measure == "length"] == [7]
    result = report._main(found)
    assert "characters" in result.table[0] and "10.000" in result.table[2]
    pairs = [pair for pair in found.pairs if pair.measure == "choice_accuracy"]
    assert "characters" in report._pairs(found, pairs, ACCURACY).table[0][-1]


@pytest.mark.parametrize(
    ("model", "shown", "why"),
    [
        ("smollm2", None, "asked without passages, the model did not know"),
        ("majority", None, "a rule that looks at no passage was wrong"),
        ("smollm2", True, "the model misread: passage [2] holds the answer"),
        ("word-overlap", True, "the rule misread: passage [2] holds the answer"),
        ("smollm2", False, "the search missed: no passage holds the answer"),
    ],
)
def test_why_an_answer_was_wrong_speaks_of_a_model_only_where_there_is_one(model, shown, why) -> None:
    passages = () if shown is None else (Passage(1, "a", "a", 1.0, True, False), Passage(2, "b", "b", 1.0, True, shown))
    assert why_wrong(row("q", passages=passages), model) == why
