"""The figures of a run as records, and summary.json, which is their file form.

Everything that reads figures reads these attributes. Keys exist at the file boundary only: `Summary.to_json` and `read_summary`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation.costs import ArmCost
from rag_vs_ft.evaluation.experiments import ChoiceScore
from rag_vs_ft.evaluation.measures import ACCURACY, MEASURES, Measure
from rag_vs_ft.evaluation.predictions import PREDICTIONS, Prediction, read_records
from rag_vs_ft.evaluation.statistics import Bin, Interval

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from rag_vs_ft.evaluation.retrieval import RetrievalReport

T = TypeVar("T")
AGAIN = "rag-vs-ft eval EXPERIMENT --resume writes it anew, from the predictions that are there"
SUMMARY = "summary.json"
UPDATES = "updates"
"""The tag of questions about facts that an update of the documents has changed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of a measure over the questions that have it, and its 95% interval; None where there is nothing to say."""

    value: float | None = None
    interval: Interval = None


@dataclass(frozen=True, slots=True)
class Citations:
    """Of the free answers given with passages: the share that cites one, and the share of those passages that hold the
    answer."""

    answers: int
    citing: float
    precision: float | None


@dataclass(frozen=True, slots=True)
class Abstention:
    """Shares of the unanswerable and of the answerable questions that the search (best cosine) and the answer's words refuse,
    and the area under the risk-coverage curve."""

    refused_unanswerable_by_search: float | None
    refused_unanswerable_by_answer: float | None
    refused_answerable_by_search: float | None
    refused_answerable_by_answer: float | None
    risk_coverage_area: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Bins of confidence, and the expected calibration error (None without questions)."""

    bins: tuple[Bin, ...]
    error: float | None


@dataclass(frozen=True, slots=True)
class ContextQuality:
    """What the passages that got into the prompt were worth, over the questions with gold documents. `dropped` counts passages
    a question for which the window had no room."""

    recall: float | None
    mrr: float | None
    ndcg: float | None
    gold_in_prompt: float | None
    answer_in_prompt: float | None
    dropped: float | None


@dataclass(frozen=True, slots=True)
class TagFigures:
    """The questions with choices that have a tag: how many, and how many are right."""

    n: int
    choice_accuracy: float | None
    choice_accuracy_ci: Interval


@dataclass(frozen=True, slots=True)
class AgainstBaseline:
    """Apart: the questions that the baseline had right, and the others.

    `destroyed` right answers became wrong, `gained` wrong ones right. Part of both is luck on questions that were guessed: the
    accuracies on either side regress to the mean even for an arm that only changes the guesses.
    """

    known: int
    accuracy_on_known: float | None
    destroyed: int
    unknown: int
    accuracy_on_unknown: float | None
    gained: int


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What one arm scored and cost. `n` questions count; `errors` of them could not be put to the model.

    `estimates` holds each measure by name; read them by `of`. Seconds, tokens and FLOPs are means per question.
    """

    name: str
    model: str
    adapter: str | None
    context: str
    k: int | None
    retriever: str | None
    n: int
    errors: int
    estimates: Mapping[str, Estimate]
    choice_accuracy_by_score: Mapping[ChoiceScore, float | None]
    choice_accuracy_clean: float | None
    answered: int
    finish: Mapping[str, int]
    citations: Citations | None
    abstention: Abstention
    calibration: Calibration
    context_quality: ContextQuality | None
    by_tag: Mapping[str, TagFigures]
    known: AgainstBaseline | None
    seconds_per_question: float | None
    seconds_are_of: str
    tokens_per_question: float | None
    flops_per_question: float
    cost: ArmCost

    def of(self, measure: Measure) -> Estimate:
        """The arm's mean of a measure; a run of before the measure existed has none."""
        return self.estimates.get(measure.name, Estimate())

    @property
    def accuracy(self) -> Estimate:
        """The share of questions with choices that are right, by the primary score."""
        return self.of(ACCURACY)

    @property
    def right(self) -> float:
        """`accuracy` as a number to rank by; 0 without questions with choices."""
        return self.accuracy.value or 0.0

    def is_a_guess(self, chance: float | None) -> bool:
        """Whether the arm is not shown to be right more often than a guess."""
        low = self.accuracy.interval[0] if self.accuracy.interval else self.right
        return chance is not None and low <= chance

    @property
    def seconds_per_right_answer(self) -> float | None:
        """Seconds of questions for each one that is right; None when none is."""
        return self.seconds_per_question / self.right if self.seconds_per_question is not None and self.right else None

    def to_json(self) -> dict[str, Any]:
        """The object in summary.json: the name as `arm`, each measure under its own name, its interval as `NAME_ci`."""
        record = asdict(self)
        del record["name"], record["estimates"]
        for measure in MEASURES:
            record[measure.name] = self.of(measure).value
            if measure.paired:
                record[f"{measure.name}_ci"] = self.of(measure).interval
        record["seconds_per_right_answer"] = self.seconds_per_right_answer
        return {"arm": self.name, **record, "peak_memory_bytes": self.cost.peak_memory_bytes}


@dataclass(frozen=True, slots=True)
class PairFigures:
    """b - a by one measure on the `n` questions that both have; see `statistics.Difference`. `better` counts for b.

    A pair is `planned` when it is a way of answering against the baseline. Its `holm_p` is corrected for these contrasts alone,
    that of two other ways for all pairs of ways; a pair with a probe has none. `detectable` is the smallest difference that
    questions of this kind show with 80% power, at the level that is left after Bonferroni over as many contrasts.
    """

    a: str
    b: str
    measure: str
    n: int
    difference: float
    interval: Interval
    p_value: float
    mcnemar_p: float | None
    better: int
    worse: int
    same: int
    holm_p: float | None
    planned: bool = False
    detectable: float | None = None

    def against(self, arm: str) -> float:
        """The difference as the other arm's lead over `arm`."""
        return self.difference if self.a == arm else -self.difference


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """Which way answers best by one score, and its lead over the baseline, corrected for all contrasts with the baseline; None
    where the best way is the baseline, or no baseline ran."""

    score: ChoiceScore
    best: str
    choice_accuracy: float
    difference: float | None
    interval: Interval
    holm_p: float | None


@dataclass(frozen=True, slots=True)
class BreakEven:
    """After how many questions training has cost less than retrieving each time; None: never."""

    retrieval: str
    finetuning: str
    questions_by_seconds: int | None
    questions_by_flops: int | None


@dataclass(frozen=True, slots=True)
class ContextGain:
    """Of what the right passage gives a reader, the share that found passages give it, with its 95% interval.

    (found - nothing) / (right passage - nothing), of bits per byte of the gold answer, over the `n` questions that all three
    have.
    """

    arm: str
    nothing: str
    right_passage: str
    n: int
    share: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class QuestionCounts:
    """What was asked. `chance` is the accuracy of a guess, `longest_choice` that of always taking the longest choice: no arm
    should be praised for less.

    `clusters` are the groups by document of the questions that are scored, and `effective_clusters` how many equally large ones
    would say as much (see `statistics.effective_clusters`). Questions that nothing can answer are in neither.
    """

    n: int
    with_choices: int
    unanswerable: int
    flagged: int
    clusters: int
    tags: Mapping[str, int]
    chance: float | None
    longest_choice: float | None
    effective_clusters: float | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """The questions about facts that an update of the documents has changed, and what they are worth.

    `larger_number` is the accuracy of a guesser that takes the choice with the larger number, and tosses a coin where the choices
    have none or the same: most facts that change are versions and limits, and these grow. `with_numbers` counts questions whose
    choices have different numbers.
    """

    n: int
    clusters: int
    effective_clusters: float
    with_numbers: int
    larger_number: float


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """A retriever by itself, to depth 10; see `retrieval.RetrievalReport`."""

    questions: int
    left_out: int
    splits: Mapping[str, int]
    ndcg_at_10: float
    recall_at_5: float
    recall_at_10: float
    mrr_at_10: float
    intervals: Mapping[str, Interval]
    chunks: int

    @staticmethod
    def of(report: RetrievalReport) -> RetrievalFigures:
        """The report without its rows and times."""
        return RetrievalFigures(**{one.name: getattr(report, one.name) for one in fields(RetrievalFigures)})


@dataclass(frozen=True, slots=True)
class Openings:
    """How often the test questions were opened in this results folder, and by how many frozen configurations."""

    times: int
    configurations: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures of a run. `skipped` and `failed` are arms that are not in it, with the reason."""

    run: str
    experiment: str
    primary_score: ChoiceScore
    baseline: str | None
    questions: QuestionCounts
    arms: tuple[ArmFigures, ...]
    pairs: tuple[PairFigures, ...]
    break_even: tuple[BreakEven, ...]
    verdict: str
    openings: Openings
    by_score: tuple[ScoreFigures, ...] = ()
    freshness: Freshness | None = None
    context_gains: tuple[ContextGain, ...] = ()
    retrieval: Mapping[str, RetrievalFigures] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def scored(self) -> tuple[ArmFigures, ...]:
        """The arms that answered questions with choices."""
        return tuple(arm for arm in self.arms if arm.accuracy.value is not None)

    def pairs_by(self, measure: Measure) -> tuple[PairFigures, ...]:
        """The pairs that were compared by a measure."""
        return tuple(pair for pair in self.pairs if pair.measure == measure.name)

    def to_json(self) -> dict[str, Any]:
        """The object in summary.json, which `eval --json` prints too."""
        return {**asdict(self), "arms": [arm.to_json() for arm in self.arms]}


def read_summary(folder: Path) -> Summary:
    """The figures of a finished run, of this version or an earlier one.

    Raises UserError when the folder holds no finished run, or its summary.json is damaged: the message names file and field.
    """
    path = folder / SUMMARY
    try:
        record = files.read_json(path, AGAIN)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no finished run: it has no {SUMMARY}", "rag-vs-ft eval EXPERIMENT --resume") from None
    except CheckFailed as error:  # exit code 1 is a comparison's own
        raise UserError(error.message, error.hint) from error
    arms = record.get("arms")
    if isinstance(arms, list):
        record["arms"] = [_estimates_apart(arm) if isinstance(arm, dict) else arm for arm in arms]
    return checked(_summaries(), record, str(path), AGAIN)


@dataclass(frozen=True, slots=True)
class QuestionScore:
    """What one arm scored on one test question, by name of the paired measures."""

    arm: str
    question_id: str
    cluster: str
    values: Mapping[str, float | None]

    def of(self, measure: Measure) -> float | None:
        """The value of a measure; None where the question has none."""
        return self.values.get(measure.name)


def read_scores(folder: Path) -> list[QuestionScore]:
    """The scores of a finished run's test questions. Raises UserError naming file, line and field of what is damaged."""
    return [score for _, _, score in _scored_lines(folder)]


def read_answers(folder: Path) -> list[tuple[Prediction, QuestionScore]]:
    """The predictions of a finished run's test questions with their scores. Raises what `read_scores` raises."""
    result = []
    for place, record, score in _scored_lines(folder):
        try:
            result.append((Prediction.of_json(record), score))
        except ValueError as error:
            raise UserError(f"{place}: this is no prediction: {str(error).splitlines()[0]}", AGAIN) from error
    return result


def _scored_lines(folder: Path) -> Iterator[tuple[str, dict[str, Any], QuestionScore]]:
    """Place, object and scores of each line of predictions.jsonl that has scores."""
    path = folder / PREDICTIONS
    for line, record in _records(path):
        if record.get("split") == "test" and record.get("scores") is not None:
            scores = record["scores"] if isinstance(record["scores"], dict) else {}
            values = {name: value for name, value in scores.items() if name != "cluster"}
            row = {"arm": record.get("arm"), "question_id": record.get("question_id"), "cluster": scores.get("cluster")}
            yield f"{path}:{line}", record, checked(_question_scores(), row | {"values": values}, f"{path}:{line}", AGAIN)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        yield from read_records(path)
    except CheckFailed as error:  # exit code 1 is a comparison's own
        raise UserError(error.message, error.hint) from error


def checked(adapter: TypeAdapter[T], record: Any, where: str, hint: str) -> T:
    """The record that `adapter` reads; UserError naming `where` and the first faulty field for anything else."""
    from pydantic import ValidationError

    try:
        return adapter.validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "the whole"
        raise UserError(f"{where}: {place}: {fault['msg'][0].lower()}{fault['msg'][1:]}", hint) from error


def _estimates_apart(arm: dict[str, Any]) -> dict[str, Any]:
    record = {key: value for key, value in arm.items() if key != "arm"} | ({"name": arm["arm"]} if "arm" in arm else {})
    record["estimates"] = {
        measure.name: {"value": arm[measure.name], "interval": arm.get(f"{measure.name}_ci")}
        for measure in MEASURES
        if measure.name in arm
    }
    return record


@cache
def _question_scores() -> TypeAdapter[QuestionScore]:
    from pydantic import TypeAdapter

    return TypeAdapter(QuestionScore)


@cache
def _summaries() -> TypeAdapter[Summary]:
    from pydantic import TypeAdapter

    return TypeAdapter(Summary)
