"""How a model is trained: every number that matters, from a TOML file that a user can copy and change.

A preset has keys for all arms at the top and a table for each arm it is meant for, whose keys go before those at the top.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError

TrainingArm = Literal["scratch", "finetune", "lora", "instruct"]
TRAINING_ARMS: tuple[TrainingArm, ...] = ("scratch", "finetune", "lora", "instruct")
FOLDER = Path(__file__).with_name("presets")


class Preset(BaseModel):
    """The settings of one run, checked. Sizes are in tokens, rows (windows or records) and optimizer steps."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base: str = Field("", description="model that is trained further: catalogue name, hub id, folder or run; none for scratch")
    tokenizer: str = Field("", description='scratch only: "corpus" for one trained on the documents, "gpt2", a run or a folder')
    vocab_size: int = Field(0, ge=0, description="scratch only: rows of the embedding, and size of a trained tokenizer")
    layers: int = Field(0, ge=0, description="scratch only")
    heads: int = Field(0, ge=0, description="scratch only")
    width: int = Field(0, ge=0, description="scratch only: size of the hidden state")
    dropout: float = Field(0.0, ge=0, lt=1, description="scratch only: on embeddings and on what each block adds")
    window: int = Field(ge=2, description="tokens that the model sees at once")

    epochs: float = Field(0.0, ge=0, description="passes over the training tokens; or give steps")
    steps: int = Field(0, ge=0, description="optimizer steps; go before epochs")
    rows_per_step: int = Field(ge=1, description="rows of one optimizer step, over all devices and accumulation")
    batch_size: int = Field(ge=1, description="rows that a device holds at once; memory depends on it, the result does not")
    learning_rate: float = Field(gt=0)
    final_learning_rate: float = Field(0.1, ge=0, le=1, description="share of the peak that the cosine ends at")
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.1, ge=0, description="on matrices only")
    beta2: float = Field(0.95, gt=0, lt=1)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    lora_rank: int = Field(0, ge=0, description="0: all weights are trained")
    lora_alpha: float = Field(0.0, ge=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)

    validation_fraction: float = Field(
        settings.VALIDATION_FRACTION, gt=0, lt=1, description="of the text, held out by whole documents"
    )
    eval_every: int = Field(ge=1, description="steps between evaluations; each writes a checkpoint")
    eval_rows: int = Field(0, ge=0, description="rows held out that an evaluation scores, the same each time; 0: all")
    log_every: int = Field(10, ge=1)
    patience: int = Field(0, ge=0, description="evaluations without gain before the run stops; 0: never")
    min_gain: float = Field(0.0, ge=0, description="smaller falls of the validation loss are no gain")
    keep_checkpoints: int = Field(2, ge=2, description="newest checkpoints kept, beside the best")

    seed: int = Field(settings.SEED, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    bf16: bool | None = Field(None, description="compute in bfloat16; by itself where the device has instructions for it")
    compile: bool | None = Field(None, description="torch.compile; by itself on CUDA under Linux only")
    gradient_checkpointing: bool = Field(False, description="less memory for about a third more time")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.steps and not self.epochs:
            raise ValueError("set steps or epochs")
        if self.rows_per_step % self.batch_size:
            raise ValueError(f"rows_per_step={self.rows_per_step} is not a multiple of batch_size={self.batch_size}")
        if self.heads and self.width % self.heads:
            raise ValueError(f"width={self.width} is not a multiple of heads={self.heads}")
        return self


def list_presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def checked_arm(name: str) -> TrainingArm:
    """`name` if it is an arm; raises UserError for anything else."""
    for arm in TRAINING_ARMS:
        if name == arm:
            return arm
    raise UserError(f"there is no arm {name!r}", f"use one of: {', '.join(TRAINING_ARMS)}")


def load_preset(name: str, arm: TrainingArm, overrides: Mapping[str, str]) -> Preset:
    """The settings of preset `name` (or a TOML file) for `arm`, with `overrides` (key -> value as typed) on top.

    Raises UserError naming the key or the arm that the preset does not have, or the value that is not allowed.
    """
    path = settings.user_path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if (not name.endswith(".toml") and name not in list_presets()) or not path.is_file():
        raise UserError(f"there is no preset {name!r}", f"use one of: {', '.join(list_presets())}, or a TOML file of your own")
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}", "correct the file; it must be TOML, like the packaged presets") from error
    there = [key for key in TRAINING_ARMS if isinstance(table.get(key), dict)]
    if arm not in there:
        raise UserError(f"preset {name!r} has no arm {arm!r}", f"it has: {', '.join(there) or 'none'}")
    merged = {key: value for key, value in table.items() if key not in there} | table[arm]
    merged |= overrides
    if "steps" in overrides and "epochs" not in overrides:
        merged["epochs"] = 0
    elif "epochs" in overrides and "steps" not in overrides:
        merged["steps"] = 0
    return checked(merged, arm, f"preset {name!r}")


def checked(values: Mapping[str, Any], arm: TrainingArm, where: str) -> Preset:
    """The settings in `values`, complete and fit for the arm. Raises UserError, which names their source `where`, for others."""
    for key in values:
        if key not in Preset.model_fields:
            raise UserError(f"there is no setting {key!r}", f"use one of: {', '.join(Preset.model_fields)}")
    try:
        preset = Preset.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        said = problem["msg"].removeprefix("Value error, ")
        value = f" is {values[key]!r}" if key in values else ""
        hint = f"change it with --set {key}=VALUE or in the preset's file" if key else "change one of them with --set"
        raise UserError(f"{where}: {key}{value}: {said}" if key else f"{where}: {said}", hint) from error
    _require_arm(preset, arm, where)
    return preset


def _require_arm(preset: Preset, arm: TrainingArm, where: str) -> None:
    shape = ("tokenizer", "vocab_size", "layers", "heads", "width")
    needed = [*shape] if arm == "scratch" else ["base"]
    if arm == "lora":
        needed += ["lora_rank", "lora_alpha"]
    missing = [key for key in needed if not getattr(preset, key)]
    if missing:
        raise UserError(f"{where}: arm {arm!r} needs {', '.join(missing)}", "add them, or give them with --set")
    unused = ["base", "lora_rank"] if arm == "scratch" else [*shape, "dropout"]
    if arm == "finetune":
        unused += ["lora_rank"]
    senseless = [key for key in unused if getattr(preset, key)]
    if senseless:
        raise UserError(f"{where}: {', '.join(senseless)} mean nothing for the arm {arm!r}", "leave them out")
