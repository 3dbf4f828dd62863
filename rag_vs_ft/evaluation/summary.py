"""Predictions -> figures: what each arm scores, how each pair differs, and what it costs. Pure functions of predictions.

Every question of the set counts for every arm. A question that an arm could not be asked (its window is too small) is wrong for
choices and has no bits per byte; `errors` counts them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from rag_vs_ft.evaluation.contexts import CONTEXTS, WAYS
from rag_vs_ft.evaluation.costs import ArmCost
from rag_vs_ft.evaluation.experiments import Arm, Score
from rag_vs_ft.evaluation.figures import (
    Abstention,
    ArmFigures,
    BreakEven,
    Calibration,
    Citations,
    ContextQuality,
    Detectable,
    Estimate,
    Known,
    Openings,
    PairFigures,
    QuestionCounts,
    RetrievalFigures,
    Summary,
    TagFigures,
)
from rag_vs_ft.evaluation.measures import ACCURACY, MEASURES, PAIRED, SCORES, Measure, choice_credit, confidence
from rag_vs_ft.evaluation.metrics import distinct, ndcg_at, recall_at, reciprocal_rank_at
from rag_vs_ft.evaluation.predictions import Prediction
from rag_vs_ft.evaluation.questions import gold_answer
from rag_vs_ft.evaluation.refusals import is_refusal
from rag_vs_ft.evaluation.statistics import (
    Interval,
    calibration,
    clustered_interval,
    detectable_difference,
    holm,
    paired_difference,
    risk_coverage_area,
)
from rag_vs_ft.records import Question

DISCORDANT = 1 / 3
"""Share of questions that just one of two arms gets right, as assumed for the smallest detectable difference."""


@dataclass(frozen=True, slots=True)
class Table:
    """The predictions of all arms on one set of questions: `rows[arm][question id]`, every arm on every question."""

    questions: tuple[Question, ...]
    arms: tuple[Arm, ...]
    rows: Mapping[str, Mapping[str, Prediction]]
    clusters: Mapping[str, str]
    flagged: frozenset[str]
    score: Score
    refuse_below: float

    def with_choices(self) -> list[Question]:
        """Questions that have choices."""
        return [question for question in self.questions if question.choices is not None]

    def values(self, arm: str, measure: Measure) -> dict[str, float]:
        """A measure by question id, for each question that has it."""
        rows = self.rows[arm]
        found = {question.id: measure.of(rows[question.id], question, self.score) for question in self.questions}
        return {name: value for name, value in found.items() if value is not None}

    def interval(self, values: Mapping[str, float]) -> Interval:
        """Clustered 95% interval of the mean of values by question id."""
        return clustered_interval(list(values.values()), [self.clusters[name] for name in values])


def question_scores(table: Table) -> dict[tuple[str, str], dict[str, Any]]:
    """For each (arm, question id) the paired measures (None where a question has none) and the question's cluster."""
    values = {(arm.name, measure.name): table.values(arm.name, measure) for arm in table.arms for measure in PAIRED}
    return {
        (arm.name, question.id): {measure.name: values[arm.name, measure.name].get(question.id) for measure in PAIRED}
        | {"cluster": table.clusters[question.id]}
        for arm in table.arms
        for question in table.questions
    }


def summarise(
    table: Table,
    *,
    run: str,
    experiment: str,
    baseline: str | None,
    costs: Mapping[str, ArmCost],
    openings: Openings,
    retrieval: Mapping[str, RetrievalFigures],
    skipped: Mapping[str, str],
    failed: Mapping[str, str],
    progress: Callable[[str, int, int], None],
) -> Summary:
    """The figures of a run. `baseline` is None when that arm did not run; `costs` are by arm."""
    arms = []
    for done, arm in enumerate(table.arms):
        progress("figures of the arms", done, len(table.arms))
        arms.append(_arm(table, arm, baseline, costs[arm.name]))
    pairs = _pairs(table, progress)
    return Summary(
        run=run,
        experiment=experiment,
        primary_score=table.score,
        baseline=baseline,
        questions=_counts(table),
        detectable_difference=detectable(len(table.with_choices()), len(table.arms)),
        arms=tuple(arms),
        pairs=pairs,
        break_even=_break_even(arms),
        verdict=verdict(arms, pairs, baseline),
        openings=openings,
        retrieval=dict(retrieval),
        skipped=dict(skipped),
        failed=dict(failed),
    )


def _counts(table: Table) -> QuestionCounts:
    chosen = table.with_choices()
    tags = Counter(tag for question in table.questions for tag in question.tags)
    return QuestionCounts(
        n=len(table.questions),
        with_choices=len(chosen),
        unanswerable=sum(question.answerable is False for question in table.questions),
        flagged=len(table.flagged),
        clusters=len({table.clusters[question.id] for question in table.questions}),
        tags=dict(sorted(tags.items())),
        chance=_mean([1 / len(question.choices or "1") for question in chosen]),
        longest_choice=_mean([_longest(question) for question in chosen]),
    )


def detectable(questions: int, arms: int) -> Detectable | None:
    """The smallest difference in choice accuracy that the set can show, for one planned pair and after Holm over all pairs."""
    if not questions:
        return None
    comparisons = max(arms * (arms - 1) // 2, 1)
    return Detectable(
        assumed_discordant=round(DISCORDANT, 4),
        power=0.8,
        one_pair=detectable_difference(questions, discordant=DISCORDANT),
        all_pairs=detectable_difference(questions, discordant=DISCORDANT, comparisons=comparisons),
        pairs=comparisons,
    )


def _longest(question: Question) -> float:
    """Whether always taking the longest choice is right; equally long ones share the credit."""
    lengths = [len(choice) for choice in question.choices or ()]
    return (lengths[question.answer_index or 0] == max(lengths)) / lengths.count(max(lengths))


# --- one arm ----------------------------------------------------------------------------------------------------------


def _arm(table: Table, arm: Arm, baseline: str | None, cost: ArmCost) -> ArmFigures:
    rows = [table.rows[arm.name][question.id] for question in table.questions]
    chosen = table.with_choices()
    values = {measure: table.values(arm.name, measure) for measure in MEASURES}
    credits = values[ACCURACY]
    sure = [confidence(table.rows[arm.name][question.id], question, table.score) for question in chosen]
    bins, error = calibration(list(credits.values()), sure)
    asked = [row for row in rows if not row.error]
    spent = [row for row in asked if row.outcome.answer is not None] or asked
    tokens = _mean([row.prompt_tokens + row.outcome.completion_tokens for row in spent])
    return ArmFigures(
        name=arm.name,
        model=arm.model,
        adapter=arm.adapter,
        context=arm.context,
        k=arm.k,
        retriever=arm.retriever,
        n=len(table.questions),
        errors=sum(bool(row.error) for row in rows),
        estimates={
            measure.name: Estimate(_mean(list(found.values())), table.interval(found) if measure.paired else None)
            for measure, found in values.items()
        },
        choice_accuracy_by_score={score: _accuracy(table, arm.name, score) for score in SCORES},
        choice_accuracy_clean=_mean([value for name, value in credits.items() if name not in table.flagged]),
        answered=sum(
            row.outcome.answer is not None and gold_answer(question) is not None
            for question, row in zip(table.questions, rows, strict=True)
        ),
        finish=dict(Counter(row.outcome.finish for row in rows if row.outcome.answer is not None)),
        citations=_citations(rows),
        abstention=_abstention(table, arm, rows, risk_coverage_area(list(credits.values()), sure) if credits else None),
        calibration=Calibration(tuple(bins), error if credits else None),
        context_quality=_context_quality(table, arm.name) if CONTEXTS[arm.context].shows_passages else None,
        by_tag=_by_tag(table, credits),
        known=_known(table, arm.name, baseline, credits),
        seconds_per_question=_mean([_seconds(row) for row in spent]),
        seconds_are_of="search and a greedy answer" if spent and spent[0].outcome.answer is not None else "search and scoring",
        tokens_per_question=tokens,
        flops_per_question=2.0 * cost.parameters * (tokens or 0.0),
        cost=cost,
    )


def _seconds(row: Prediction) -> float:
    return row.search_seconds + (row.outcome.score_seconds if row.outcome.answer is None else row.outcome.answer_seconds)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _accuracy(table: Table, arm: str, score: Score) -> float | None:
    return _mean([choice_credit(table.rows[arm][question.id], question, score) or 0.0 for question in table.with_choices()])


def _citations(rows: Sequence[Prediction]) -> Citations | None:
    shown = [row for row in rows if row.outcome.answer is not None and any(passage.in_prompt for passage in row.passages)]
    if not shown:
        return None
    cited = [passage.holds_answer for row in shown for passage in row.passages if passage.rank in row.citations]
    return Citations(
        answers=len(shown),
        citing=sum(bool(row.citations) for row in shown) / len(shown),
        precision=_mean([float(holds) for holds in cited]),
    )


def _abstention(table: Table, arm: Arm, rows: Sequence[Prediction], area: float | None) -> Abstention:
    def refused(answerable: bool) -> tuple[float | None, float | None]:
        mine = [row for question, row in zip(table.questions, rows, strict=True) if question.answerable is answerable]
        found = [row.best_cosine < table.refuse_below for row in mine if row.best_cosine is not None]
        said = [is_refusal(row.outcome.answer) for row in mine if row.outcome.answer is not None]
        by_search = _mean([float(value) for value in found]) if CONTEXTS[arm.context].is_search else None
        return by_search, _mean([float(value) for value in said])

    rightly, wrongly = refused(False), refused(True)
    return Abstention(
        refused_unanswerable_by_search=rightly[0],
        refused_unanswerable_by_answer=rightly[1],
        refused_answerable_by_search=wrongly[0],
        refused_answerable_by_answer=wrongly[1],
        risk_coverage_area=area,
    )


def _context_quality(table: Table, arm: str) -> ContextQuality | None:
    scored = [question for question in table.questions if question.gold_documents]
    if not scored:
        return None
    found = [_passages(table.rows[arm][question.id], question) for question in scored]
    return ContextQuality(*(_mean(list(values)) for values in zip(*found, strict=True)))


def _passages(row: Prediction, question: Question) -> tuple[float, ...]:
    """The fields of `ContextQuality` for one question, in their order."""
    shown = [passage for passage in row.passages if passage.in_prompt]
    ranking, gold = distinct(passage.document_id for passage in shown), dict.fromkeys(question.gold_documents, 1)
    return (
        recall_at(ranking, gold, len(ranking)),
        reciprocal_rank_at(ranking, gold, len(ranking)),
        ndcg_at(ranking, gold, max(len(ranking), 1)),
        float(any(name in gold for name in ranking)),
        float(any(passage.holds_answer for passage in shown)),
        float(len(row.passages) - len(shown)),
    )


def _by_tag(table: Table, credits: Mapping[str, float]) -> dict[str, TagFigures]:
    tags = sorted({tag for question in table.with_choices() for tag in question.tags})
    result = {}
    for tag in tags:
        mine = {question.id: credits[question.id] for question in table.with_choices() if tag in question.tags}
        result[tag] = TagFigures(len(mine), _mean(list(mine.values())), table.interval(mine))
    return result


def _known(table: Table, arm: str, baseline: str | None, credits: Mapping[str, float]) -> Known | None:
    if baseline is None or not credits:
        return None
    before = table.values(baseline, ACCURACY)
    known = [credits[name] for name, value in before.items() if value > 0.5]
    unknown = [credits[name] for name, value in before.items() if value <= 0.5]
    return Known(
        known=len(known),
        accuracy_on_known=_mean(known),
        destroyed=sum(value <= 0.5 for value in known),
        unknown=len(unknown),
        accuracy_on_unknown=_mean(unknown),
        gained=sum(value > 0.5 for value in unknown),
    )


# --- pairs ------------------------------------------------------------------------------------------------------------


def _pairs(table: Table, progress: Callable[[str, int, int], None]) -> tuple[PairFigures, ...]:
    pairs = list(combinations([arm.name for arm in table.arms], 2))
    result: list[PairFigures] = []
    for measure in PAIRED:
        values = {arm.name: table.values(arm.name, measure) for arm in table.arms}
        found = []
        for done, (a, b) in enumerate(pairs):
            progress(f"pairs by {measure.title}", done, len(pairs))
            both = [name for name in values[a] if name in values[b]]
            if both:
                clusters = [table.clusters[name] for name in both]
                found.append(
                    (a, b, paired_difference([values[a][one] for one in both], [values[b][one] for one in both], clusters))
                )
        for (a, b, test), adjusted in zip(found, holm([test.p_value for *_, test in found]), strict=True):
            better, worse = (test.worse, test.better) if measure.lower_is_better else (test.better, test.worse)
            result.append(
                PairFigures(
                    a=a,
                    b=b,
                    measure=measure.name,
                    n=test.better + test.worse + test.same,
                    difference=test.difference,
                    interval=test.interval,
                    p_value=test.p_value,
                    mcnemar_p=test.mcnemar_p,
                    better=better,
                    worse=worse,
                    same=test.same,
                    holm_p=adjusted,
                )
            )
    return tuple(result)


def _break_even(arms: Sequence[ArmFigures]) -> tuple[BreakEven, ...]:
    """For each arm that retrieves with an untrained model and each that was trained and does not: from how many questions on
    the training has paid for itself, in seconds as measured and in FLOPs (embedding the documents is not counted there)."""
    retrieving = [arm for arm in arms if CONTEXTS[arm.context].is_search and not arm.cost.training_seconds]
    trained = [arm for arm in arms if not CONTEXTS[arm.context].shows_passages and arm.cost.training_seconds]
    return tuple(
        BreakEven(
            retrieval=one.name,
            finetuning=other.name,
            questions_by_seconds=_crossing(
                other.cost.training_seconds - one.cost.index_seconds,
                (one.seconds_per_question or 0) - (other.seconds_per_question or 0),
            ),
            questions_by_flops=_crossing(other.cost.training_flops, one.flops_per_question - other.flops_per_question),
        )
        for one in retrieving
        for other in trained
    )


def _crossing(ahead: float, saved: float) -> int | None:
    """Questions after which a saving of `saved` each makes up for `ahead`; None when it never does."""
    return max(0, math.ceil(ahead / saved)) if saved > 0 else None


def verdict(arms: Sequence[ArmFigures], pairs: Sequence[PairFigures], baseline: str | None) -> str:
    """One sentence that says no more than the intervals do. Arms that are shown the gold passage are no candidates."""
    scored = [arm for arm in arms if arm.accuracy.value is not None]
    real = [arm for arm in scored if arm.context in WAYS] or scored
    if not real:
        return "No arm answered a question with choices."
    best = max(real, key=lambda arm: arm.right)
    shown = f"{best.name} answers best: {best.right:.1%} of the questions right{_percent(best.accuracy.interval)}"
    others = [arm.name for arm in real if arm is not best]
    if not others:
        return shown + "; there is no other arm to compare it with."
    mine = [pair for pair in pairs if pair.measure == ACCURACY.name and best.name in (pair.a, pair.b)]
    apart = {pair.b if pair.a == best.name else pair.a: pair for pair in mine}
    unclear = [name for name in others if apart[name].holm_p > 0.05]
    if not unclear:
        return f"{shown}, more than every other way to answer (Holm p at most 0.05)."
    text = f"{shown}, but this set does not tell it apart from {', '.join(unclear)}"
    if baseline is not None and baseline in others:
        pair = apart[baseline]
        text += f"; against {baseline} it is {pair.against(baseline) * 100:+.1f} points (Holm p {pair.holm_p:.3f})"
    return text + "."


def _percent(interval: Interval) -> str:
    return f" [{interval[0]:.1%}, {interval[1]:.1%}]" if interval else ""
