"""What an answer is scored by. A new measure is one entry of `MEASURES`.

Figures, reports, pictures, comparisons, the app and the choice on dev questions all read the table: none of them knows a measure
by itself but `ACCURACY`, by which arms are ranked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rag_vs_ft.evaluation.experiments import ChoiceScore
from rag_vs_ft.evaluation.metrics import exact_match, fact_recall, rouge_l, token_f1
from rag_vs_ft.evaluation.predictions import Prediction
from rag_vs_ft.evaluation.questions import gold_answer
from rag_vs_ft.evaluation.render import NONE, number, percent, points, span
from rag_vs_ft.evaluation.statistics import Interval
from rag_vs_ft.records import Question

SCORES: dict[ChoiceScore, str] = {"sum": "sum", "per_byte": "per byte", "pmi": "PMI"}
"""The scores that a choice can be preferred by, and what reports call them."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One way to score one answer.

    `name` is the key in summary.json and predictions.jsonl, `title` the head of a column. `of` gives the value for a prediction,
    its question and the primary score, None where the question has no such value. `share` values lie in 0..1 and are shown as
    percentages. Arms are compared pair by pair on `paired` measures, which therefore have intervals.
    """

    name: str
    title: str
    of: Callable[[Prediction, Question, ChoiceScore], float | None]
    lower_is_better: bool = False
    share: bool = False
    paired: bool = False

    def show(self, value: float | None) -> str:
        """A value as reports print it."""
        return percent(value) if self.share else number(value)

    def show_interval(self, interval: Interval) -> str:
        """An interval as reports print it."""
        return span(interval) if self.share else span(interval, scale=1, digits=3)

    def show_difference(self, value: float | None) -> str:
        """A difference with its sign: of shares in points."""
        if value is None:
            return NONE
        return points(value) if self.share else f"{value:+.3f}"


def choice_scores(prediction: Prediction, question: Question, score: ChoiceScore) -> tuple[float, ...] | None:
    """A score for each choice, higher is likelier; None without choices or outcome.

    sum: log P(choice | prompt). per_byte: the same per byte of the choice. pmi: log P(choice | prompt) - log P(choice | prompt
    without question and passages) (domain-conditional PMI; Holtzman et al., 2021). A heuristic has one value for each choice,
    whatever the score.
    """
    if question.choices is not None and prediction.outcome.choice_values is not None:
        return prediction.outcome.choice_values
    sums, priors = prediction.outcome.choice_logprobs, prediction.outcome.prior_logprobs
    if question.choices is None or sums is None or priors is None:
        return None
    if score == "sum":
        return sums
    if score == "per_byte":
        return tuple(value / len(choice.encode()) for value, choice in zip(sums, question.choices, strict=True))
    return tuple(value - prior for value, prior in zip(sums, priors, strict=True))


def choice_credit(prediction: Prediction, question: Question, score: ChoiceScore) -> float | None:
    """1 when the right choice has the highest score, 0 when not; equal scores share the credit. None without choices, and where
    the model was asked for a letter; 0 for a question that could not be asked."""
    if question.choices is None or prediction.outcome.letter is not None:
        return None
    scores = choice_scores(prediction, question, score)
    if scores is None or question.answer_index is None:
        return 0.0
    best = max(scores)
    return (scores[question.answer_index] == best) / scores.count(best)


def letter_credit(prediction: Prediction, question: Question, score: ChoiceScore = "sum") -> float | None:
    """1 when the model, shown the choices, named the right one by its letter, else 0. None where it was not asked so."""
    if question.choices is None or prediction.outcome.letter is None:
        return None
    return float(prediction.outcome.letter == question.answer_index)


def chosen(prediction: Prediction, question: Question, score: ChoiceScore) -> str | None:
    """The choice with the highest score, or the one that was named by letter; None without choices or outcome."""
    if (letter := prediction.outcome.letter) is not None and question.choices is not None:
        return question.choices[letter] if letter >= 0 else None
    scores = choice_scores(prediction, question, score)
    return None if scores is None or question.choices is None else question.choices[scores.index(max(scores))]


def confidence(prediction: Prediction, question: Question, score: ChoiceScore) -> float:
    """Probability of the chosen choice among the choices: softmax of the scores (per byte: times the choices' mean length).

    A heuristic is sure of what it chooses, and divides itself between equals.
    """
    scores = choice_scores(prediction, question, score)
    if scores is None or question.choices is None:
        return 0.0
    if prediction.outcome.choice_values is not None:
        return 1.0 / scores.count(max(scores))
    scale = sum(len(choice.encode()) for choice in question.choices) / len(question.choices) if score == "per_byte" else 1.0
    best = max(scores)
    return 1.0 / sum(math.exp(scale * (value - best)) for value in scores)


def bits_per_byte(prediction: Prediction, question: Question, score: ChoiceScore = "sum") -> float | None:
    """Bits per UTF-8 byte of the gold answer after the prompt, whatever the primary score; None without one."""
    answer = gold_answer(question)
    if answer is None or prediction.outcome.answer_logprob is None:
        return None
    return -prediction.outcome.answer_logprob / math.log(2) / len(answer.encode())


def margin(prediction: Prediction, question: Question, score: ChoiceScore = "sum") -> float | None:
    """How many bits per byte the wrong choices cost more than the right one, on average; None without choices or outcome, and
    for an arm without a language model.

    An arm that only learned to expect such texts expects all choices more, and gains nothing here.
    """
    scores = choice_scores(prediction, question, "per_byte")
    if prediction.outcome.choice_values is not None or scores is None or question.answer_index is None or len(scores) < 2:
        return None
    wrong = [value for at, value in enumerate(scores) if at != question.answer_index]
    return (scores[question.answer_index] - sum(wrong) / len(wrong)) / math.log(2)


def _of_answer(metric: Callable[[str, str], float]) -> Callable[[Prediction, Question, ChoiceScore], float | None]:
    """A metric of a free answer and the gold answer, for the questions that have both."""

    def of(prediction: Prediction, question: Question, score: ChoiceScore) -> float | None:
        answer, gold = prediction.outcome.answer, gold_answer(question)
        return None if answer is None or gold is None else metric(answer, gold)

    return of


def facts(prediction: Prediction, question: Question, score: ChoiceScore = "sum") -> float | None:
    """`metrics.fact_recall` of a free answer; None without an answer or a gold answer."""
    answer, gold = prediction.outcome.answer, gold_answer(question)
    return None if answer is None or gold is None else fact_recall(answer, gold, question.question)


def grounded(prediction: Prediction, question: Question, score: ChoiceScore = "sum") -> float | None:
    """`metrics.groundedness` of a free answer in the passages of its prompt, whatever the gold answer."""
    return prediction.groundedness


ACCURACY = Measure("choice_accuracy", "right", choice_credit, share=True, paired=True)
LETTER = Measure("letter_accuracy", "right by letter", letter_credit, share=True, paired=True)
"""Choosing by letter is another task than being likely: the two are never averaged or compared."""
BITS = Measure("bits_per_byte", "bits per byte", bits_per_byte, lower_is_better=True, paired=True)
MARGIN = Measure("margin", "margin, bits per byte", margin, paired=True)
F1 = Measure("f1", "F1", _of_answer(token_f1), paired=True)
FACTS = Measure("fact_recall", "facts held", facts, share=True, paired=True)
GROUNDED = Measure("groundedness", "claims held by a passage", grounded, share=True, paired=True)
MEASURES = (
    ACCURACY,
    LETTER,
    BITS,
    MARGIN,
    FACTS,
    GROUNDED,
    F1,
    Measure("em", "exact", _of_answer(exact_match)),
    Measure("rouge_l", "ROUGE-L", _of_answer(rouge_l)),
)
"""Every measure, in the order of a report's columns."""
PAIRED = tuple(measure for measure in MEASURES if measure.paired)
"""Those that every pair of arms is compared by; Holm's correction runs over the pairs of one measure."""
