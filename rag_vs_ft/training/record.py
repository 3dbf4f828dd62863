"""What a run says of itself: what it was started with, what it was expected to take, and how it ended. The JSON of `run.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.training.presets import TrainingArm

FORMAT = 1
RECORD = "run.json"

RunState = Literal["preparing", "training", "finished"]


@dataclass(frozen=True, slots=True)
class RunInput:
    """Something a run was made from: its name (for data: its file) and the SHA-256 of its contents."""

    sha256: str
    name: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take. `flops` are the operations of all steps; `seconds` is expected from a probe of 3 passes (None: not
    probed, because several processes share the work); `warnings` say what is unlikely to end well."""

    arm: str
    device: str
    parameters: int
    trainable_parameters: int
    rows: int
    train_tokens: int
    validation_tokens: int
    tokens_per_step: int
    steps: int
    epochs: float
    flops: float
    seconds: float | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        seen = self.tokens_per_step * self.steps
        lines = [
            f"{self.arm} on {self.device}",
            f"parameters       {self.parameters:,}, of which trained {self.trainable_parameters:,}",
            f"tokens           {self.train_tokens:,} to train on, {self.validation_tokens:,} held out",
            f"steps            {self.steps:,} of {self.tokens_per_step:,} tokens: {self.epochs:.2f} epochs, {seen:,} tokens, "
            f"{seen / self.parameters:.2f} per parameter",
            f"operations       {self.flops:.2e}",
        ]
        if self.seconds is not None:
            lines.append(f"expected time    {duration(self.seconds)} (from three passes just made)")
        lines += [f"note             {note}" for note in self.notes]
        lines += [f"WARNING          {warning}" for warning in self.warnings]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. Losses are nats per token on the validation side; `loads` is the checkpoint that loading the run by its
    name takes, and `why` says why. `seconds` run from start to end, including those before a checkpoint it was resumed from."""

    steps: int
    best_step: int
    best_loss: float
    best_bits_per_byte: float
    last_loss: float
    last_bits_per_byte: float
    stopped_early: bool
    loads: str
    why: str
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """`run.json`. `settings` are all settings of the preset as they were used, so a run can be resumed from its record alone.

    `base` is the model that was trained further (None for scratch); `template` the prompt that instructions were learned in.
    """

    arm: TrainingArm
    preset: str
    settings: dict[str, Any]
    versions: dict[str, str | None]
    state: RunState
    corpus: RunInput | None = None
    base: RunInput | None = None
    data: RunInput | None = None
    template: str = ""
    created: str = ""
    plan: Plan | None = None
    result: RunOutcome | None = None
    format: int = field(default=FORMAT)

    def to_json(self) -> dict[str, Any]:
        """The object that `run.json` holds; what is not known yet is left out."""
        record = {"format": self.format, **asdict(self)}
        record["base"], record["corpus"] = (_named(source) for source in (self.base, self.corpus))
        record["data"] = {"file": self.data.file, "sha256": self.data.sha256} if self.data else None
        return {key: value for key, value in record.items() if key not in ("plan", "result", "created") or value}

    def with_changes(self, **changes: Any) -> Self:
        """A copy with other values."""
        return replace(self, **changes)


def read_record(folder: Path) -> RunRecord:
    """The record of the run in `folder`. Raises UserError when it does not exist, CheckFailed when it cannot be read."""
    path, hint = folder / RECORD, f"remove {folder} and train again"
    try:
        found = files.read_json(path, hint)
    except FileNotFoundError as error:
        hint = "rag-vs-ft runs list names those there are; a new one starts without --resume"
        raise UserError(f"there is no run {folder.name!r} in {folder.parent}", hint) from error
    if found.get("format") != FORMAT:
        raise CheckFailed(f"{path}: format {found.get('format')!r}, this version reads {FORMAT}", hint)
    try:
        # By way of JSON, so that whole numbers are not taken for strings and lists become tuples.
        return _READER.validate_json(json.dumps(found), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        raise CheckFailed(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", hint) from error


def write_record(folder: Path, record: RunRecord) -> None:
    """Write the record in one step."""
    files.write_record(folder / RECORD, record.to_json())


def duration(seconds: float) -> str:
    """Seconds as a person says them: "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h"


def _named(source: RunInput | None) -> dict[str, str] | None:
    return {"name": source.name, "sha256": source.sha256} if source else None


_READER = TypeAdapter(RunRecord)
