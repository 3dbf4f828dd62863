"""What an arm costs besides the time of its questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rag_vs_ft.index.search import Index
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.naming import run_of
from rag_vs_ft.settings import Home
from rag_vs_ft.training.record import RECORD, RunRecord, read_record


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
    """What training a run of this home and the runs below it cost; nothing for a model that was not trained here."""
    ended = [(record.plan, record.result) for record in lineage(home, model) if record.plan and record.result]
    return TrainingCost(
        seconds=sum(result.seconds for _, result in ended),
        # A run that stopped early did a part of what was planned.
        flops=sum(result.steps / plan.steps * plan.flops for plan, result in ended),
        tokens=sum(result.steps * plan.tokens_per_step for plan, result in ended),
    )


def lineage(home: Home, model: str) -> Iterator[RunRecord]:
    """The record of a run of this home, then those of the runs that it was trained on; none for other models."""
    seen: set[str] = set()
    while (record := run_record(home, model)) is not None and model not in seen:
        seen.add(model)
        yield record
        model = str(record.settings.get("base") or "")


def run_record(home: Home, model: str) -> RunRecord | None:
    """The record of the run that a model name means; None for other models."""
    name = run_of(model, home)
    return read_record(home.runs / name) if name and (home.runs / name / RECORD).is_file() else None
