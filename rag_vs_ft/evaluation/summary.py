"""Predictions -> figures: what each arm scores, how each pair differs, and what it costs. Pure functions of predictions.

Every question of the set counts for every arm. A question that an arm could not be asked (its window is too small) is wrong for
choices and has no bits per byte; `errors` counts them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from rag_vs_ft.evaluation.contexts import CONTEXTS
from rag_vs_ft.evaluation.costs import ArmCost
from rag_vs_ft.evaluation.experiments import Arm, ChoiceScore
from rag_vs_ft.evaluation.figures import (
    UPDATES,
    Abstention,
    AgainstBaseline,
    ArmFigures,
    BreakEven,
    Calibration,
    Citations,
    ContextGain,
    ContextQuality,
    Estimate,
    Freshness,
    Openings,
    PairFigures,
    QuestionCounts,
    RetrievalFigures,
    ScoreFigures,
    Summary,
    TagFigures,
)
from rag_vs_ft.evaluation.heuristics import HEURISTICS, is_way
from rag_vs_ft.evaluation.measures import ACCURACY, BITS, MEASURES, PAIRED, SCORES, Measure, choice_credit, confidence
from rag_vs_ft.evaluation.metrics import distinct, ndcg_at, recall_at, reciprocal_rank_at
from rag_vs_ft.evaluation.predictions import Prediction
from rag_vs_ft.evaluation.questions import gold_answer
from rag_vs_ft.evaluation.refusals import is_refusal
from rag_vs_ft.evaluation.statistics import (
    Difference,
    Interval,
    calibration,
    clustered_interval,
    detectable_difference,
    effective_clusters,
    holm,
    paired_difference,
    risk_coverage_area,
    share_of_gain,
)
from rag_vs_ft.evaluation.verdict import can_be_given, verdict
from rag_vs_ft.mining.updates import larger_number
from rag_vs_ft.records import Question

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """The predictions of all arms on one set of questions: `rows[arm][question id]`, every arm on every question."""

    questions: tuple[Question, ...]
    arms: tuple[Arm, ...]
    rows: Mapping[str, Mapping[str, Prediction]]
    clusters: Mapping[str, str]
    flagged: frozenset[str]
    score: ChoiceScore
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
    pairs = _pairs(table, baseline, progress)
    scores, counts = _by_score(table, baseline), _counts(table)
    return Summary(
        run=run,
        experiment=experiment,
        primary_score=table.score,
        baseline=baseline,
        questions=counts,
        arms=tuple(arms),
        pairs=pairs,
        break_even=_break_even(arms, counts.chance),
        verdict=verdict(arms, pairs, scores, counts, baseline),
        by_score=scores,
        freshness=_freshness(table),
        context_gains=_context_gains(table),
        openings=openings,
        retrieval=dict(retrieval),
        skipped=dict(skipped),
        failed=dict(failed),
    )


def _counts(table: Table) -> QuestionCounts:
    chosen = table.with_choices()
    tags = Counter(tag for question in table.questions for tag in question.tags)
    scored = chosen or [question for question in table.questions if gold_answer(question) is not None]
    clusters = [table.clusters[question.id] for question in scored]
    return QuestionCounts(
        n=len(table.questions),
        with_choices=len(chosen),
        unanswerable=sum(question.answerable is False for question in table.questions),
        flagged=len(table.flagged),
        clusters=len(set(clusters)),
        effective_clusters=effective_clusters(clusters),
        tags=dict(sorted(tags.items())),
        chance=_mean([1 / len(question.choices or "1") for question in chosen]),
        longest_choice=_mean([_longest(question) for question in chosen]),
    )


def _longest(question: Question) -> float:
    """Whether always taking the longest choice is right; equally long ones share the credit."""
    lengths = [len(choice) for choice in question.choices or ()]
    return (lengths[question.answer_index or 0] == max(lengths)) / lengths.count(max(lengths))


def _freshness(table: Table) -> Freshness | None:
    asked = [question for question in table.with_choices() if UPDATES in question.tags]
    if not asked:
        return None
    clusters = [table.clusters[question.id] for question in asked]
    guesses = [larger_number(question) for question in asked]
    return Freshness(
        n=len(asked),
        clusters=len(set(clusters)),
        effective_clusters=effective_clusters(clusters),
        with_numbers=sum(guess is not None for guess in guesses),
        larger_number=sum(
            1 / len(question.choices or "1") if guess is None else guess for question, guess in zip(asked, guesses, strict=True)
        )
        / len(asked),
    )


def _context_gains(table: Table) -> tuple[ContextGain, ...]:
    """For each arm that searches and has, with the same model, an arm without passages and one with the right passage."""
    found = []
    for arm in table.arms:
        same = [other for other in table.arms if (other.model, other.adapter) == (arm.model, arm.adapter)]
        nothing = next((other.name for other in same if not CONTEXTS[other.context].shows_passages), None)
        right = next((other.name for other in same if other.context == "oracle"), None)
        if not CONTEXTS[arm.context].is_search or nothing is None or right is None:
            continue
        none, some, most = (table.values(name, BITS) for name in (nothing, arm.name, right))
        ids = [name for name in some if name in none and name in most]
        of = [[values[name] for name in ids] for values in (none, some, most)]
        gain = share_of_gain(of[0], of[1], of[2], [table.clusters[name] for name in ids])
        if gain is not None:
            found.append(ContextGain(arm.name, nothing, right, len(ids), *gain))
    return tuple(found)


def _by_score(table: Table, baseline: str | None) -> tuple[ScoreFigures, ...]:
    ways = [arm.name for arm in table.arms if is_way(arm.model, arm.context)]
    if not ways or not table.with_choices():
        return ()
    result = []
    for score in SCORES:
        found = {name: replace(table, score=score).values(name, ACCURACY) for name in ways}
        values = {name: credits for name, credits in found.items() if credits}
        if not values:
            return ()
        contrasts = {}
        if baseline in values:
            rivals = (name for name in values if name != baseline)
            contrasts = {name: _compared(table, values[baseline], values[name]) for name in rivals}
        adjusted = dict(zip(contrasts, holm([one.p_value for one in contrasts.values()]), strict=True))
        best = max(values, key=lambda name: sum(values[name].values()))
        lead = contrasts.get(best)
        result.append(
            ScoreFigures(
                score=score,
                best=best,
                choice_accuracy=_mean(list(values[best].values())) or 0.0,
                difference=lead.difference if lead else None,
                interval=lead.interval if lead else None,
                holm_p=adjusted.get(best),
            )
        )
    return tuple(result)


def _compared(table: Table, a: Mapping[str, float], b: Mapping[str, float]) -> Difference:
    """b - a on the questions that both have."""
    both = [name for name in a if name in b]
    clusters = [table.clusters[name] for name in both]
    return paired_difference([a[name] for name in both], [b[name] for name in both], clusters)


# --- one arm ----------------------------------------------------------------------------------------------------------


def _arm(table: Table, arm: Arm, baseline: str | None, cost: ArmCost) -> ArmFigures:
    rows = [table.rows[arm.name][question.id] for question in table.questions]
    chosen = table.with_choices()
    values = {measure: table.values(arm.name, measure) for measure in MEASURES}
    credits = values[ACCURACY]
    by_likelihood = [question for question in chosen if question.id in credits]
    sure = [confidence(table.rows[arm.name][question.id], question, table.score) for question in by_likelihood]
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


def _accuracy(table: Table, arm: str, score: ChoiceScore) -> float | None:
    found = [choice_credit(table.rows[arm][question.id], question, score) for question in table.with_choices()]
    return _mean([value for value in found if value is not None])


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
        mine = {question.id: credits[question.id] for question in table.with_choices() if tag in question.tags and credits}
        result[tag] = TagFigures(len(mine), _mean(list(mine.values())), table.interval(mine))
    return result


def _known(table: Table, arm: str, baseline: str | None, credits: Mapping[str, float]) -> AgainstBaseline | None:
    if baseline is None or not credits:
        return None
    before = table.values(baseline, ACCURACY)
    known = [credits[name] for name, value in before.items() if value > 0.5]
    unknown = [credits[name] for name, value in before.items() if value <= 0.5]
    return AgainstBaseline(
        known=len(known),
        accuracy_on_known=_mean(known),
        destroyed=sum(value <= 0.5 for value in known),
        unknown=len(unknown),
        accuracy_on_unknown=_mean(unknown),
        gained=sum(value > 0.5 for value in unknown),
    )


# --- pairs ------------------------------------------------------------------------------------------------------------


def _pairs(table: Table, baseline: str | None, progress: Callable[[str, int, int], None]) -> tuple[PairFigures, ...]:
    ways = {arm.name for arm in table.arms if is_way(arm.model, arm.context)}
    rules = {arm.name for arm in table.arms if arm.model in HEURISTICS}
    pairs = [pair for pair in combinations([arm.name for arm in table.arms], 2) if not set(pair) <= rules]
    result: list[PairFigures] = []
    for measure in PAIRED:
        values = {arm.name: table.values(arm.name, measure) for arm in table.arms}
        found = {}
        for done, (a, b) in enumerate(pairs):
            progress(f"pairs by {measure.title}", done, len(pairs))
            if values[a].keys() & values[b].keys():
                found[a, b] = _compared(table, values[a], values[b])
        real = [pair for pair in found if set(pair) <= ways]
        planned = [pair for pair in real if baseline in pair]
        # The best way is picked by looking: what it is compared with besides the baseline is corrected for all that there was.
        holm_p = _corrected(real, found) | _corrected(planned, found)
        for (a, b), test in found.items():
            better, worse = (test.worse, test.better) if measure.lower_is_better else (test.better, test.worse)
            contrasts = len(planned) if (a, b) in planned else len(real)
            result.append(
                PairFigures(
                    a=a,
                    b=b,
                    measure=measure.name,
                    n=better + worse + test.same,
                    difference=test.difference,
                    interval=test.interval,
                    p_value=test.p_value,
                    mcnemar_p=test.mcnemar_p,
                    better=better,
                    worse=worse,
                    same=test.same,
                    holm_p=holm_p.get((a, b)),
                    planned=(a, b) in planned,
                    detectable=_detectable(table, values[a], values[b], contrasts) if (a, b) in holm_p else None,
                )
            )
    return tuple(result)


def _corrected(family: Sequence[Pair], found: Mapping[Pair, Difference]) -> dict[Pair, float]:
    return dict(zip(family, holm([found[pair].p_value for pair in family]), strict=True))


def _detectable(table: Table, a: Mapping[str, float], b: Mapping[str, float], contrasts: int) -> float | None:
    both = [name for name in a if name in b]
    clusters = [table.clusters[name] for name in both]
    return detectable_difference([a[name] for name in both], [b[name] for name in both], clusters, comparisons=contrasts)


def _break_even(arms: Sequence[ArmFigures], chance: float | None) -> tuple[BreakEven, ...]:
    """For each arm that retrieves with an untrained model and each that was trained and does not: from how many questions on
    the training has paid for itself, in seconds as measured and in FLOPs (embedding the documents is not counted there).

    An arm that is not shown to be better than a guess pays for nothing and is left out, as is one whose index took nobody knows
    how long.
    """
    able = [arm for arm in arms if can_be_given(arm) and not arm.is_a_guess(chance)]
    retrieving = [
        arm
        for arm in able
        if CONTEXTS[arm.context].is_search and not arm.cost.training_seconds and arm.cost.index_seconds is not None
    ]
    trained = [arm for arm in able if not CONTEXTS[arm.context].shows_passages and arm.cost.training_seconds]
    return tuple(
        BreakEven(
            retrieval=one.name,
            finetuning=other.name,
            questions_by_seconds=_crossing(
                other.cost.training_seconds - (one.cost.index_seconds or 0.0),
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
