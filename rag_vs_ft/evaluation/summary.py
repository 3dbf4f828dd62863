"""Predictions -> figures: what each arm scores, how each pair differs, and what it costs. Pure functions of predictions.

Every question of the set counts for every arm. A question that an arm could not be asked (its window is too small) is wrong for
choices and has no bits per byte; `errors` counts them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from rag_vs_ft.evaluation.arms import gold_answer, is_refusal
from rag_vs_ft.evaluation.costs import ArmCost
from rag_vs_ft.evaluation.experiments import Arm, Score
from rag_vs_ft.evaluation.metrics import distinct, exact_match, ndcg_at, recall_at, reciprocal_rank_at, rouge_l, token_f1
from rag_vs_ft.evaluation.predictions import Prediction
from rag_vs_ft.evaluation.statistics import (
    calibration,
    detectable_difference,
    holm,
    mean_interval,
    paired_difference,
    risk_coverage_area,
)
from rag_vs_ft.records import Question

SCORES: tuple[Score, ...] = ("sum", "per_byte", "pmi")
PAIRED = ("choice_accuracy", "bits_per_byte", "f1")
"""The measures that every pair of arms is compared by; Holm's correction runs over the pairs of one measure."""
LOWER_IS_BETTER = ("bits_per_byte",)
DISCORDANT = 1 / 3
"""Share of questions that just one of two arms gets right, as assumed for the smallest detectable difference."""
MEASURED = ("seconds_per_question", "peak_memory_bytes", "break_even", "cost")
"""Keys of a summary that hold measured time or memory: all others are the same whenever a run is repeated on a machine."""


def choice_scores(prediction: Prediction, question: Question, score: Score) -> tuple[float, ...] | None:
    """A score for each choice, higher is likelier; None without choices or outcome.

    sum: log P(choice | prompt). per_byte: the same per byte of the choice. pmi: log P(choice | prompt) - log P(choice | prompt
    without question and passages) (domain-conditional PMI; Holtzman et al., 2021).
    """
    sums, priors = prediction.outcome.choice_logprobs, prediction.outcome.prior_logprobs
    if question.choices is None or sums is None or priors is None:
        return None
    if score == "sum":
        return sums
    if score == "per_byte":
        return tuple(value / len(choice.encode()) for value, choice in zip(sums, question.choices, strict=True))
    return tuple(value - prior for value, prior in zip(sums, priors, strict=True))


def choice_credit(prediction: Prediction, question: Question, score: Score) -> float:
    """1 when the right choice has the highest score, 0 when not; equal scores share the credit."""
    scores = choice_scores(prediction, question, score)
    if scores is None or question.answer_index is None:
        return 0.0
    best = max(scores)
    return (scores[question.answer_index] == best) / scores.count(best)


def confidence(prediction: Prediction, question: Question, score: Score) -> float:
    """Probability of the chosen choice among the choices: softmax of the scores (per byte: times the choices' mean length)."""
    scores = choice_scores(prediction, question, score)
    if scores is None or question.choices is None:
        return 0.0
    scale = sum(len(choice.encode()) for choice in question.choices) / len(question.choices) if score == "per_byte" else 1.0
    best = max(scores)
    return 1.0 / sum(math.exp(scale * (value - best)) for value in scores)


def bits_per_byte(prediction: Prediction, question: Question) -> float | None:
    """Bits per UTF-8 byte of the gold answer after the prompt; None without one."""
    answer = gold_answer(question)
    if answer is None or prediction.outcome.answer_logprob is None:
        return None
    return -prediction.outcome.answer_logprob / math.log(2) / len(answer.encode())


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

    def values(self, arm: str, measure: str) -> dict[str, float]:
        """A measure of `PAIRED` for each question that has it."""
        rows = self.rows[arm]
        found: dict[str, float | None] = {}
        for question in self.questions:
            row = rows[question.id]
            if measure == "choice_accuracy":
                found[question.id] = choice_credit(row, question, self.score) if question.choices is not None else None
            elif measure == "bits_per_byte":
                found[question.id] = bits_per_byte(row, question)
            else:
                gold = gold_answer(question)
                answered = row.outcome.answer is not None and gold is not None
                found[question.id] = token_f1(row.outcome.answer or "", gold or "") if answered else None
        return {name: value for name, value in found.items() if value is not None}

    def mean(self, values: Mapping[str, float]) -> tuple[float | None, tuple[float, float] | None]:
        """Mean and clustered 95% interval of a measure by question id."""
        if not values:
            return None, None
        numbers = list(values.values())
        return math.fsum(numbers) / len(numbers), mean_interval(numbers, [self.clusters[name] for name in values])


def question_scores(table: Table) -> dict[tuple[str, str], dict[str, Any]]:
    """For each (arm, question id) the paired measures (None where a question has none) and the question's cluster."""
    values = {(arm.name, measure): table.values(arm.name, measure) for arm in table.arms for measure in PAIRED}
    return {
        (arm.name, question.id): {measure: values[arm.name, measure].get(question.id) for measure in PAIRED}
        | {"cluster": table.clusters[question.id]}
        for arm in table.arms
        for question in table.questions
    }


def summarise(
    table: Table, *, baseline: str | None, costs: Mapping[str, ArmCost], progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """The figures of summary.json: `arms`, `pairs` and what they rest on. `baseline` is None when that arm did not run."""
    arms = []
    for number, arm in enumerate(table.arms):
        progress("figures of the arms", number, len(table.arms))
        arms.append(_arm(table, arm, baseline, costs[arm.name]))
    pairs = _pairs(table, progress)
    chosen = table.with_choices()
    tags = Counter(tag for question in table.questions for tag in question.tags)
    return {
        "primary_score": table.score,
        "baseline": baseline,
        "questions": {
            "n": len(table.questions),
            "with_choices": len(chosen),
            "unanswerable": sum(question.answerable is False for question in table.questions),
            "flagged": len(table.flagged),
            "clusters": len({table.clusters[question.id] for question in table.questions}),
            "tags": dict(sorted(tags.items())),
            "chance": sum(1 / len(question.choices or "1") for question in chosen) / len(chosen) if chosen else None,
            "longest_choice": _longest(chosen),
        },
        "detectable_difference": detectable(len(chosen), len(table.arms)),
        "arms": arms,
        "pairs": pairs,
        "break_even": _break_even(table.arms, arms),
        "verdict": verdict(arms, pairs, baseline),
    }


def detectable(questions: int, arms: int) -> dict[str, Any] | None:
    """The smallest difference in choice accuracy that the set can show, for one planned pair and after Holm over all pairs."""
    if not questions:
        return None
    comparisons = max(arms * (arms - 1) // 2, 1)
    return {
        "assumed_discordant": round(DISCORDANT, 4),
        "power": 0.8,
        "one_pair": detectable_difference(questions, discordant=DISCORDANT),
        "all_pairs": detectable_difference(questions, discordant=DISCORDANT, comparisons=comparisons),
        "pairs": comparisons,
    }


def _longest(questions: Sequence[Question]) -> float | None:
    """How often a guesser is right that always takes the longest choice: no arm should be praised for less."""
    credit = 0.0
    for question in questions:
        lengths = [len(choice) for choice in question.choices or ()]
        credit += (lengths[question.answer_index or 0] == max(lengths)) / lengths.count(max(lengths))
    return credit / len(questions) if questions else None


# --- one arm ----------------------------------------------------------------------------------------------------------


def _arm(table: Table, arm: Arm, baseline: str | None, cost: ArmCost) -> dict[str, Any]:
    rows = [table.rows[arm.name][question.id] for question in table.questions]
    chosen = table.with_choices()
    credits = table.values(arm.name, "choice_accuracy")
    accuracy, accuracy_ci = table.mean(credits)
    bits, bits_ci = table.mean(table.values(arm.name, "bits_per_byte"))
    f1, f1_ci = table.mean(table.values(arm.name, "f1"))
    answered = [
        (row.outcome.answer, gold)
        for question, row in zip(table.questions, rows, strict=True)
        if row.outcome.answer is not None and (gold := gold_answer(question)) is not None
    ]
    clean = {name: value for name, value in credits.items() if name not in table.flagged}
    sure = [confidence(table.rows[arm.name][question.id], question, table.score) for question in chosen]
    bins, error = calibration(list(credits.values()), sure)
    asked = [row for row in rows if not row.error]
    spent = [row for row in asked if row.outcome.answer is not None] or asked
    seconds = [
        row.search_seconds + (row.outcome.score_seconds if row.outcome.answer is None else row.outcome.answer_seconds)
        for row in spent
    ]
    tokens = [row.prompt_tokens + row.outcome.completion_tokens for row in spent]
    return {
        "arm": arm.name,
        "model": arm.model,
        "adapter": arm.adapter,
        "context": arm.context,
        "k": arm.k,
        "retriever": arm.retriever,
        "n": len(table.questions),
        "errors": sum(bool(row.error) for row in rows),
        "choice_accuracy": accuracy,
        "choice_accuracy_ci": accuracy_ci,
        "choice_accuracy_by_score": {score: _accuracy(table, arm.name, score) for score in SCORES},
        "choice_accuracy_clean": _mean(list(clean.values())),
        "bits_per_byte": bits,
        "bits_per_byte_ci": bits_ci,
        "answered": len(answered),
        "f1": f1,
        "f1_ci": f1_ci,
        "em": _mean([exact_match(answer, gold) for answer, gold in answered]),
        "rouge_l": _mean([rouge_l(answer, gold) for answer, gold in answered]),
        "finish": dict(Counter(row.outcome.finish for row in rows if row.outcome.answer is not None)),
        "citations": _citations(rows),
        "abstention": _abstention(table, arm, rows)
        | {"risk_coverage_area": risk_coverage_area(list(credits.values()), sure) if credits else None},
        "calibration": {"bins": [asdict(one) for one in bins], "error": error if credits else None},
        "context_quality": _context_quality(table, arm.name) if arm.context != "none" else None,
        "by_tag": _by_tag(table, credits),
        "known": _known(table, arm.name, baseline, credits),
        "seconds_per_question": _mean(seconds),
        "seconds_are_of": "search and a greedy answer" if spent and spent[0].outcome.answer is not None else "search and scoring",
        "tokens_per_question": _mean(tokens),
        "flops_per_question": 2.0 * cost.parameters * (_mean(tokens) or 0.0),
        "peak_memory_bytes": cost.peak_memory_bytes,
        "cost": asdict(cost),
    }


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _accuracy(table: Table, arm: str, score: Score) -> float | None:
    return _mean([choice_credit(table.rows[arm][question.id], question, score) for question in table.with_choices()])


def _citations(rows: Sequence[Prediction]) -> dict[str, Any] | None:
    """Of the answers given with passages: how many rest on one, and of the passages cited, the share that holds the answer."""
    shown = [row for row in rows if row.outcome.answer is not None and any(passage.in_prompt for passage in row.passages)]
    if not shown:
        return None
    cited = [passage.holds_answer for row in shown for passage in row.passages if passage.rank in row.citations]
    return {
        "answers": len(shown),
        "citing": sum(bool(row.citations) for row in shown) / len(shown),
        "precision": _mean([float(holds) for holds in cited]),
    }


def _abstention(table: Table, arm: Arm, rows: Sequence[Prediction]) -> dict[str, Any]:
    """Shares refused of the questions that the corpus cannot and can answer, by the search (best cosine) and by the answer's
    words."""
    shares: dict[str, Any] = {}
    for name, wanted in (("unanswerable", False), ("answerable", True)):
        mine = [row for question, row in zip(table.questions, rows, strict=True) if question.answerable is wanted]
        found = [row.best_cosine < table.refuse_below for row in mine if row.best_cosine is not None]
        said = [is_refusal(row.outcome.answer) for row in mine if row.outcome.answer is not None]
        shares[f"refused_{name}_by_search"] = _mean([float(value) for value in found]) if arm.context == "retrieved" else None
        shares[f"refused_{name}_by_answer"] = _mean([float(value) for value in said])
    return shares


def _context_quality(table: Table, arm: str) -> dict[str, Any] | None:
    """What the passages that got into the prompt were worth, over the questions with gold documents."""
    scored = [question for question in table.questions if question.gold_documents]
    if not scored:
        return None
    figures: dict[str, list[float]] = {
        name: [] for name in ("recall", "mrr", "ndcg", "gold_in_prompt", "answer_in_prompt", "dropped")
    }
    for question in scored:
        passages = table.rows[arm][question.id].passages
        shown = [passage for passage in passages if passage.in_prompt]
        ranking, gold = distinct(passage.document_id for passage in shown), dict.fromkeys(question.gold_documents, 1)
        figures["recall"].append(recall_at(ranking, gold, len(ranking)))
        figures["mrr"].append(reciprocal_rank_at(ranking, gold, len(ranking)))
        figures["ndcg"].append(ndcg_at(ranking, gold, max(len(ranking), 1)))
        figures["gold_in_prompt"].append(float(any(name in gold for name in ranking)))
        figures["answer_in_prompt"].append(float(any(passage.holds_answer for passage in shown)))
        figures["dropped"].append(len(passages) - len(shown))
    return {name: _mean(values) for name, values in figures.items()}


def _by_tag(table: Table, credits: Mapping[str, float]) -> dict[str, Any]:
    tags = sorted({tag for question in table.with_choices() for tag in question.tags})
    result = {}
    for tag in tags:
        mine = {question.id: credits[question.id] for question in table.with_choices() if tag in question.tags}
        accuracy, interval = table.mean(mine)
        result[tag] = {"n": len(mine), "choice_accuracy": accuracy, "choice_accuracy_ci": interval}
    return result


def _known(table: Table, arm: str, baseline: str | None, credits: Mapping[str, float]) -> dict[str, Any] | None:
    """Apart: questions that the baseline already had right, and those that it had not.

    `destroyed` right answers became wrong, `gained` wrong ones right. Part of both is luck on questions that were guessed: the
    accuracies on either side regress to the mean even for an arm that changes nothing but the guesses.
    """
    if baseline is None or not credits:
        return None
    before = table.values(baseline, "choice_accuracy")
    known = [credits[name] for name, value in before.items() if value > 0.5]
    unknown = [credits[name] for name, value in before.items() if value <= 0.5]
    return {
        "known": len(known),
        "accuracy_on_known": _mean(known),
        "destroyed": sum(value <= 0.5 for value in known),
        "unknown": len(unknown),
        "accuracy_on_unknown": _mean(unknown),
        "gained": sum(value > 0.5 for value in unknown),
    }


# --- pairs ------------------------------------------------------------------------------------------------------------


def _pairs(table: Table, progress: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    pairs = list(combinations([arm.name for arm in table.arms], 2))
    result: list[dict[str, Any]] = []
    for measure in PAIRED:
        values = {arm.name: table.values(arm.name, measure) for arm in table.arms}
        found = []
        for number, (a, b) in enumerate(pairs):
            progress(f"pairs by {measure.replace('_', ' ')}", number, len(pairs))
            both = [name for name in values[a] if name in values[b]]
            if both:
                clusters = [table.clusters[name] for name in both]
                row = asdict(paired_difference([values[a][name] for name in both], [values[b][name] for name in both], clusters))
                if measure in LOWER_IS_BETTER:
                    row |= {"better": row["worse"], "worse": row["better"]}
                found.append({"a": a, "b": b, "measure": measure, "n": len(both), **row})
        for row, adjusted in zip(found, holm([row["p_value"] for row in found]), strict=True):
            row["holm_p"] = adjusted
        result += found
    return result


def _break_even(arms: Sequence[Arm], figures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each arm that retrieves with an untrained model and each that was trained and does not: from how many questions on
    the training has paid for itself, in seconds as measured and in FLOPs (embedding the documents is not counted there)."""
    result = []
    retrieving = [
        row for arm, row in zip(arms, figures, strict=True) if arm.context == "retrieved" and not row["cost"]["training_seconds"]
    ]
    trained = [row for arm, row in zip(arms, figures, strict=True) if arm.context == "none" and row["cost"]["training_seconds"]]
    for one in retrieving:
        for other in trained:
            ahead = other["cost"]["training_seconds"] - one["cost"]["index_seconds"]
            result.append(
                {
                    "retrieval": one["arm"],
                    "finetuning": other["arm"],
                    "questions_by_seconds": _crossing(
                        ahead, (one["seconds_per_question"] or 0) - (other["seconds_per_question"] or 0)
                    ),
                    "questions_by_flops": _crossing(
                        other["cost"]["training_flops"], one["flops_per_question"] - other["flops_per_question"]
                    ),
                }
            )
    return result


def _crossing(ahead: float, saved: float) -> int | None:
    """Questions after which a saving of `saved` each makes up for `ahead`; None when it never does."""
    return max(0, math.ceil(ahead / saved)) if saved > 0 else None


def verdict(arms: Sequence[Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]], baseline: str | None) -> str:
    """One sentence that says no more than the intervals do. Arms that are shown the gold passage are no candidates."""
    scored = [arm for arm in arms if arm["choice_accuracy"] is not None]
    real = [arm for arm in scored if arm["context"] in ("none", "retrieved")] or scored
    if not real:
        return "No arm answered a question with choices."
    best = max(real, key=lambda arm: arm["choice_accuracy"])
    shown = (
        f"{best['arm']} answers best: {best['choice_accuracy']:.1%} of the questions right{_percent(best['choice_accuracy_ci'])}"
    )
    others = [arm["arm"] for arm in real if arm is not best]
    if not others:
        return shown + "; there is no other arm to compare it with."
    apart = {
        _other(pair, best["arm"]): pair
        for pair in pairs
        if pair["measure"] == "choice_accuracy" and best["arm"] in (pair["a"], pair["b"])
    }
    unclear = [name for name in others if apart[name]["holm_p"] > 0.05]
    if not unclear:
        return f"{shown}, more than every other way to answer (Holm p at most 0.05)."
    text = f"{shown}, but this set does not tell it apart from {', '.join(unclear)}"
    if baseline is not None and baseline in others:
        pair = apart[baseline]
        points = pair["difference"] * 100 * (1 if pair["b"] == best["arm"] else -1)
        text += f"; against {baseline} it is {points:+.1f} points (Holm p {pair['holm_p']:.3f})"
    return text + "."


def _other(pair: Mapping[str, Any], arm: str) -> str:
    return pair["b"] if pair["a"] == arm else pair["a"]


def _percent(interval: Sequence[float] | None) -> str:
    return f" [{interval[0]:.1%}, {interval[1]:.1%}]" if interval else ""
