"""What an arm costs besides the time of its questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rag_vs_ft.index.search import Index
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.naming import run_of
from rag_vs_ft.settings import Home
from rag_vs_ft.training.record import RECORD, RunRecord, read_record
from rag_vs_ft.training.runs import read_metrics


@dataclass(frozen=True, slots=True)
class ArmCost:
    """What an arm costs besides its questions: parameters, bytes of weights and index, seconds to build and to train.

    `index_seconds` are of the build and of all updates since; None where that is not known.
    `training_flops` and `training_tokens` are 0 for a model that was not trained here; `peak_memory_bytes` is of the process
    while the arm ran, None when nothing was computed or the system does not tell.
    """

    parameters: int = 0
    model_bytes: int = 0
    index_bytes: int = 0
    index_seconds: float | None = 0.0
    training_seconds: float = 0.0
    training_flops: float = 0.0
    training_tokens: int = 0
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Seconds, floating-point operations and tokens of training; 0 for a model that was not trained here."""

    seconds: float = 0.0
    flops: float = 0.0
    tokens: int = 0


def arm_cost(lm: LanguageModel | None, index: Index | None, model: str, home: Home, peak_memory_bytes: int | None) -> ArmCost:
    """The cost of an arm; `lm` is None for one without a language model, `index` for one that does not search. `model` is a
    name as `models.naming` reads it: a run's name brings the cost of its training."""
    weights = list(lm.model.parameters()) if lm and not lm.server else []
    training = training_cost(home, model) if lm else TrainingCost()
    return ArmCost(
        parameters=sum(weight.numel() for weight in weights),
        model_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
        index_bytes=index.bytes if index else 0,
        index_seconds=index.manifest.cost_seconds if index else 0.0,
        training_seconds=training.seconds,
        training_flops=training.flops,
        training_tokens=training.tokens,
        peak_memory_bytes=peak_memory_bytes,
    )


def training_cost(home: Home, model: str) -> TrainingCost:
    """What training a run of this home and the runs below it cost so far; nothing for a model that was not trained here."""
    spent = [(record.plan, *_spent(folder, record)) for folder, record in _runs_below(home, model) if record.plan]
    return TrainingCost(
        seconds=sum(seconds for *_, seconds in spent),
        # A run that stopped early did a part of what was planned.
        flops=sum(steps / plan.steps * plan.flops for plan, steps, _ in spent),
        tokens=sum(steps * plan.tokens_per_step for plan, steps, _ in spent),
    )


def _spent(folder: Path, record: RunRecord) -> tuple[int, float]:
    """Steps and seconds of a run: as it ended, or as far as its metrics go where it was stopped and goes on later."""
    if record.result:
        return record.result.steps, record.result.seconds
    timed = [row for row in read_metrics(folder) if "seconds" in row]
    return (timed[-1]["step"], timed[-1]["seconds"]) if timed else (0, 0.0)


def lineage(home: Home, model: str) -> Iterator[RunRecord]:
    """The record of a run of this home, then those of the runs that it was trained on; none for other models."""
    return (record for _, record in _runs_below(home, model))


def _runs_below(home: Home, model: str) -> Iterator[tuple[Path, RunRecord]]:
    seen: set[str] = set()
    while (name := _run_with_record(home, model)) and model not in seen:
        seen.add(model)
        record = read_record(home.runs / name)
        yield home.runs / name, record
        model = str(record.settings.get("base") or "")


def run_record(home: Home, model: str) -> RunRecord | None:
    """The record of the run that a model name means; None for other models."""
    name = _run_with_record(home, model)
    return read_record(home.runs / name) if name else None


def _run_with_record(home: Home, model: str) -> str | None:
    name = run_of(model, home)
    return name if name and (home.runs / name / RECORD).is_file() else None
