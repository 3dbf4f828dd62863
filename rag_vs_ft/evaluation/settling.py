"""What dev questions decide, and its frozen form: k, retriever, primary score, and when a search finds nothing relevant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from rag_vs_ft import settings
from rag_vs_ft.evaluation.contexts import CONTEXTS
from rag_vs_ft.evaluation.experiments import Arm, ChoiceScore, Choose
from rag_vs_ft.evaluation.heuristics import HEURISTICS
from rag_vs_ft.evaluation.measures import ACCURACY, LETTER
from rag_vs_ft.evaluation.predictions import Prediction
from rag_vs_ft.records import Hit, Question

FEW = 5
"""Fewer dev questions than this of a kind do not settle a threshold."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Choice accuracy on dev questions of one arm with one retriever and k (None: nothing to try), by each score."""

    arm: str
    retriever: str | None
    k: int | None
    scores: Mapping[ChoiceScore, float]


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is settled before the test questions are opened; `dev` is the table that it was settled by."""

    k: int
    retriever: str
    score: ChoiceScore
    refuse_below: float
    dev_questions: int
    tried_questions: int
    dev: tuple[Tried, ...]

    def to_json(self) -> dict[str, Any]:
        """The object in manifest.json, where a row of `dev` has its scores under their own names."""
        rows = [{"arm": row.arm, "retriever": row.retriever, "k": row.k, **row.scores} for row in self.dev]
        return {**asdict(self), "dev": rows}

    @staticmethod
    def nested(record: dict[str, Any]) -> dict[str, Any]:
        """The fields of a `Frozen` in what `to_json` gave."""
        rows = record.get("dev")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return record
        own = ("arm", "retriever", "k")
        dev = [{key: row.get(key) for key in own} | {"scores": {key: row[key] for key in row if key not in own}} for row in rows]
        return {**record, "dev": dev}


@dataclass(frozen=True, slots=True)
class Variant:
    """An arm as it is tried on dev questions: with one retriever and k, or (None) as it is, there being nothing to try."""

    arm: Arm
    tried: tuple[str, int] | None
    settled: Arm


def settled(arm: Arm, *, retriever: str, k: int) -> Arm:
    """The arm with what it leaves open filled in, as far as its context uses it."""
    found: dict[str, Any] = {}
    context = CONTEXTS[arm.context]
    if context.uses_k and arm.k is None:
        found["k"] = k
    if context.uses_retriever and arm.retriever is None:
        found["retriever"] = retriever
    return arm.model_copy(update=found)


def variants(arms: Sequence[Arm], choose: Choose) -> list[Variant]:
    """Every arm that searches once for each candidate; the others, which are probes and take what is chosen, once.

    Heuristics have no say: what is chosen is chosen for those who read.
    """
    result = []
    for arm in arms:
        if arm.model in HEURISTICS:
            continue
        free = CONTEXTS[arm.context].is_search and (arm.k is None or arm.retriever is None)
        for retriever, k in candidates(choose) if free else candidates(choose)[:1]:
            label = f"{arm.name} ({retriever}, k={k})" if free else arm.name
            variant = settled(arm, retriever=retriever, k=k).model_copy(update={"name": label})
            result.append(Variant(arm, (retriever, k) if free else None, variant))
    return result


def candidates(choose: Choose) -> list[tuple[str, int]]:
    """Pairs of retriever and k in order of preference."""
    return [(retriever, k) for retriever in choose.retriever for k in choose.k]


def choose_best(
    choose: Choose,
    tried: Sequence[Variant],
    rows: Mapping[str, Mapping[str, Prediction]],
    questions: Sequence[Question],
) -> tuple[ChoiceScore, tuple[str, int], tuple[Tried, ...]]:
    """The score and the candidate with the best mean choice accuracy over all arms, chosen jointly, and the table of all.

    `rows` are predictions by the name of the settled arm and question id. Of equals the first in the experiment's order wins.
    """
    accuracy: dict[tuple[str, tuple[str, int], ChoiceScore], float] = {}
    table: list[Tried] = []
    for variant in tried:
        mine = rows[variant.settled.name]
        scores: dict[ChoiceScore, float] = {
            score: sum(_credit(mine[question.id], question, score) for question in questions) / len(questions)
            for score in choose.score
        }
        for candidate in [variant.tried] if variant.tried else candidates(choose):
            for score, value in scores.items():
                accuracy[variant.arm.name, candidate, score] = value
        retriever, k = variant.tried or (None, None)
        table.append(Tried(variant.arm.name, retriever, k, scores))
    names = dict.fromkeys(variant.arm.name for variant in tried)
    options = [(score, candidate) for score in choose.score for candidate in candidates(choose)]
    score, candidate = max(options, key=lambda option: sum(accuracy[name, option[1], option[0]] for name in names))
    return score, candidate, tuple(table)


def _credit(prediction: Prediction, question: Question, score: ChoiceScore) -> float:
    """What an arm is chosen by: the accuracy that it has, by likelihood or by letter. Arms are not compared here."""
    found = [measure.of(prediction, question, score) for measure in (ACCURACY, LETTER)]
    return next((value for value in found if value is not None), 0.0)


def choose_threshold(search: Callable[[str], Sequence[Hit]], questions: Sequence[Question]) -> float:
    """The best cosine of a search from which a question is answered: where it separates the answerable from the unanswerable
    questions best (Youden's J). The default of `ask` where there are too few of either, or no cosines (BM25)."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for question in questions:
        if question.answerable is not None:
            cosines = [hit.dense_score for hit in search(question.question) if hit.dense_score is not None]
            found[question.answerable] += [max(cosines)] if cosines else []
    if min(len(found[True]), len(found[False])) < FEW:
        return settings.RELEVANT_COSINE
    cuts = [0.0, *((low + high) / 2 for low, high in pairwise(sorted({*found[True], *found[False]})))]

    def separated(cut: float) -> float:
        kept = sum(value >= cut for value in found[True]) / len(found[True])
        refused = sum(value < cut for value in found[False]) / len(found[False])
        return kept + refused

    return round(float(max(cuts, key=separated)), 4)
