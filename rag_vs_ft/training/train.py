"""Train a model on a corpus: from scratch, all weights of a model that is there, a LoRA adapter, or on instructions.

    train("scratch", "docs", "nano", "first", overrides={}, resume=False, home=None, data=None, track=None, progress=print)

The same call under `accelerate launch` or `torchrun` trains on several processes; each step sees the same rows.
"""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rag_vs_ft import __version__, settings
from rag_vs_ft.catalogue import sha256_file
from rag_vs_ft.corpus.store import open_corpus
from rag_vs_ft.environment import git_commit
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.loading import choose_device, weights_sha256
from rag_vs_ft.training import plots, runs
from rag_vs_ft.training.prepare import Job, Plan, make_rows, put_together, tokenizer_and_model, uses_bfloat16
from rag_vs_ft.training.presets import Arm, Preset, load_preset

TRACKERS = ("tensorboard", "trackio", "wandb")
_FREE = ("batch_size", "device", "compile", "gradient_checkpointing", "keep_checkpoints")
"""Settings that may differ on resuming: they change the cost of a step, not the rows it sees."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that ended. Losses are nats per token on the validation side; `loads` is the checkpoint that loading the run by its
    name takes, and `why` says why. `seconds` are from start to end, those before a checkpoint it was resumed from included."""

    name: str
    folder: Path
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
    plan: Plan | None

    def to_json(self) -> dict[str, Any]:
        """The object that `train --json` prints."""
        return {**asdict(self), "folder": str(self.folder)}


def train(
    arm: Arm,
    corpus_name: str | None,
    preset: str,
    run_name: str,
    *,
    overrides: Mapping[str, str] | None = None,
    resume: bool = False,
    home: Path | None = None,
    data: Path | None = None,
    track: str | None = None,
    progress: runs.Progress | None = None,
) -> RunResult:
    """Train the run `run_name` and leave its model in `runs/<run_name>/best` and `last`.

    `data` is the Alpaca JSON file of the arm `instruct`; the other arms learn the documents of the corpus. With `resume` the run
    continues from its last whole checkpoint, exactly as if it had not been stopped. `track` also reports to one of `TRACKERS`.

    Raises UserError for input that cannot be trained on, CheckFailed when the loss is no longer finite, Busy when the run is
    being trained.
    """
    where = settings.home(home)
    chosen = load_preset(preset, arm, overrides or {})
    _check_request(arm, corpus_name, data, track)
    folder = runs.run_folder(where, run_name)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    _check_world(chosen, world)
    tell: runs.Progress = progress if progress is not None and rank == 0 else (lambda _: None)
    began = time.perf_counter()
    with ExitStack() as held, _explain_full_disk(folder):
        if rank == 0:
            held.enter_context(runs.lock(folder))
        device = _start(chosen, world)
        description = _describe(arm, corpus_name, preset, chosen, data, where)
        with _first_process_first(rank, world):
            checkpoint = _open_run(folder, description, resume, tell, write=rank == 0)
            if checkpoint and runs.read_record(folder).get("state") == "finished":
                tell(f"run {run_name} is finished: nothing to resume")
                return _result(folder, None)
            tokenizer, model = tokenizer_and_model(arm, chosen, folder, corpus_name, where, device)
            rows, notes = make_rows(chosen, folder, tokenizer, corpus_name, where, data, write=rank == 0, tell=tell)
        before = max((row.get("seconds", 0.0) for row in runs.read_metrics(folder)), default=0.0) if checkpoint else 0.0
        job = put_together(arm, chosen, tokenizer, model, rows, notes, device, probe=world == 1 and not checkpoint)
        if rank == 0:
            record = runs.read_record(folder) | description
            runs.write_record(folder, {**record, "state": "training", "plan": asdict(job.plan)})
            tell(str(job.plan))
        stopped_early = _run(job, chosen, folder, device, world, checkpoint, track, tell, before)
        if rank == 0:
            _finish(folder, stopped_early, before + time.perf_counter() - began, tell)
        _wait_for_all(world)
        _leave(world)
        result = _result(folder, job.plan)
    tell(f"{result.why}. Ask it: rag-vs-ft sample {run_name}")
    return result


def plan(
    arm: Arm,
    corpus_name: str | None,
    preset: str,
    *,
    overrides: Mapping[str, str] | None = None,
    home: Path | None = None,
    data: Path | None = None,
    progress: runs.Progress | None = None,
) -> Plan:
    """What `train` would take with these arguments: it prepares the data in a temporary folder, probes, and leaves nothing.

    Raises what `train` raises before its first step.
    """
    import tempfile

    where = settings.home(home)
    chosen = load_preset(preset, arm, overrides or {})
    _check_request(arm, corpus_name, data, None)
    tell: runs.Progress = progress or (lambda _: None)
    device = _start(chosen, 1)
    with tempfile.TemporaryDirectory(prefix="rag-vs-ft-plan-") as temporary:
        folder = Path(temporary) / "plan"
        folder.mkdir()
        tokenizer, model = tokenizer_and_model(arm, chosen, folder, corpus_name, where, device)
        rows, notes = make_rows(chosen, folder, tokenizer, corpus_name, where, data, write=True, tell=tell)
        return put_together(arm, chosen, tokenizer, model, rows, notes, device, probe=True).plan


# --- what is asked for ------------------------------------------------------------------------------------------------


def _check_request(arm: Arm, corpus_name: str | None, data: Path | None, track: str | None) -> None:
    if arm == "instruct":
        if data is None:
            raise UserError("the arm instruct needs records to learn from", "give an Alpaca JSON file with --data FILE")
        if not data.is_file():
            raise UserError(f"there is no file {data}", "give an Alpaca JSON file with --data FILE")
    else:
        if data is not None:
            raise UserError(f"the arm {arm} learns documents, not records", "leave --data out, or use the arm instruct")
        if not corpus_name:
            raise UserError(f"the arm {arm} needs a corpus", "give its name with --corpus NAME")
    if track is not None and track not in TRACKERS:
        raise UserError(f"there is no tracker {track!r}", f"use one of: {', '.join(TRACKERS)}")
    if track is not None:
        try:
            importlib.import_module(track)
        except Exception as error:  # not there, or it does not get on with what is there
            raise UserError(f"{track} cannot be imported: {error}", f"pip install {track}, or leave --track out") from error


def _check_world(preset: Preset, world: int) -> None:
    if preset.rows_per_step % (preset.batch_size * world):
        share, rest = divmod(preset.rows_per_step, world)
        raise UserError(
            f"rows_per_step={preset.rows_per_step} cannot be shared by {world} processes of batch_size={preset.batch_size}",
            f"use --set batch_size={share}: the same training" if share and not rest else "make it a multiple of both",
        )


@contextmanager
def _explain_full_disk(folder: Path) -> Iterator[None]:
    """Make a UserError of an error that says that nothing (more) can be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise UserError(f"cannot write {error.filename or folder}: {error.strerror}", "make room, then use --resume") from error


def _describe(
    arm: Arm, corpus_name: str | None, preset_name: str, preset: Preset, data: Path | None, where: settings.Home
) -> dict[str, Any]:
    """What makes a run this run: it must be the same to resume."""
    corpus = open_corpus(corpus_name, where) if corpus_name else None
    packages = {name: version(name) for name in ("torch", "transformers", "peft")}
    return {
        "arm": arm,
        "preset": preset_name,
        "settings": preset.model_dump(),
        "base": {"name": preset.base, "sha256": weights_sha256(preset.base, where.root)} if preset.base else None,
        "corpus": {"name": corpus_name, "sha256": corpus.sha256} if corpus else None,
        "data": {"file": str(data), "sha256": sha256_file(data)} if data else None,
        "template": "alpaca" if arm == "instruct" else "",
        "versions": {"rag-vs-ft": __version__, "commit": git_commit(), **packages},
    }


def _open_run(folder: Path, description: dict[str, Any], resume: bool, tell: runs.Progress, *, write: bool) -> Path | None:
    """Make the run's folder, or find the checkpoint to resume from; None is the beginning."""
    if not resume:
        if not write:
            return None
        if runs.has_checkpoint(folder):
            raise UserError(f"run {folder.name!r} exists", "continue it with --resume, or use another name")
        if (folder / runs.RECORD).exists():
            shutil.rmtree(folder)  # it ended before its first checkpoint
        elif folder.exists():
            raise UserError(f"{folder} exists and is no run", "use another name")
        runs.write_record(
            folder, {**description, "state": "preparing", "created": datetime.now(UTC).isoformat(timespec="seconds")}
        )
        return None
    _require_same(runs.read_record(folder), description, folder)
    checkpoint = runs.last_whole_checkpoint(folder, tell if write else lambda _: None)
    step = runs.read_step(checkpoint) if checkpoint else 0
    if write:
        runs.rewind_metrics(folder, step)
        if checkpoint:
            runs.point(folder, "last", checkpoint)
    tell(f"resuming from step {step}" if checkpoint else "there is no checkpoint yet: starting from the beginning")
    return checkpoint


def _require_same(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    """Refuse to resume as something else, with the differences."""
    differences = [
        f"{key}: was {old['settings'].get(key)!r}, now {value!r}"
        for key, value in new["settings"].items()
        if key not in _FREE and old["settings"].get(key) != value
    ]
    differences += [f"{key}: was {old[key]!r}, now {new[key]!r}" for key in ("arm",) if old[key] != new[key]]
    for key in ("base", "corpus", "data"):
        # Records of earlier versions name no base.
        if key in old and (old[key] or {}).get("sha256") != (new[key] or {}).get("sha256"):
            differences.append(f"{key}: its contents have changed")
    if differences:
        raise UserError(
            f"run {folder.name!r} was started otherwise: " + "; ".join(differences),
            "resume with what it was started with, or start a new run under another name",
        )


# --- getting ready ----------------------------------------------------------------------------------------------------


def _start(preset: Preset, world: int) -> str:
    """Settle the device and threads, and join the other processes."""
    import torch

    device = choose_device(preset.device)
    # Processes of one machine share its cores.
    torch.set_num_threads(max(1, device.threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if device.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    if world > 1:
        from accelerate import PartialState

        cpu = device.device == "cpu"
        PartialState(cpu=cpu, **({"backend": "gloo"} if cpu else {}))
    return device.device


def _first_process_first(rank: int, world: int) -> ExitStack:
    """A context that the first process goes through before the others begin it: it writes what they read."""
    stack = ExitStack()
    if world > 1:
        if rank > 0:
            _wait_for_all(world)
        else:
            stack.callback(_wait_for_all, world)
    return stack


def _wait_for_all(world: int) -> None:
    if world > 1:
        import torch.distributed

        torch.distributed.barrier()


def _leave(world: int) -> None:
    """End the talk with the other processes: one that exits while its threads still listen is aborted now and then."""
    if world > 1:
        import torch.distributed

        torch.distributed.destroy_process_group()


# --- the run ----------------------------------------------------------------------------------------------------------


def _run(
    job: Job,
    preset: Preset,
    folder: Path,
    device: str,
    world: int,
    checkpoint: Path | None,
    track: str | None,
    tell: runs.Progress,
    before: float,
) -> bool:
    """Train to the end; whether it ended before its last step for want of gain. `before`: seconds that went before resuming."""
    from transformers.utils.logging import disable_progress_bar

    from rag_vs_ft.training import engine

    disable_progress_bar()  # of writing shards
    sharded = _is_sharded(preset)
    arguments = training_arguments(preset, folder, job.order.steps, device, world=world, track=track)
    if preset.gradient_checkpointing:
        # Newer versions of transformers call it activation checkpointing and warn about the older name.
        enable = getattr(job.model, "activation_checkpointing_enable", None) or job.model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    trainer = engine.RunTrainer(
        job.model,
        arguments,
        preset=preset,
        order=job.order,
        validation=job.validation,
        tokenizer=job.tokenizer,
        folder=folder,
        progress=tell,
        flops_per_token=job.flops_per_token,
        seconds_before=before,
    )
    if sharded and not trainer.is_fsdp_enabled:
        raise UserError(f"FSDP shards over several GPUs, and this runs on {device}", "launch without FSDP")
    resume_from = str(checkpoint) if checkpoint else None
    engine.guard(lambda: trainer.train(resume_from_checkpoint=resume_from), preset, world)
    return bool(trainer.state.global_step < job.order.steps)


def training_arguments(preset: Preset, folder: Path, steps: int, device: str, *, world: int, track: str | None) -> Any:
    """The preset in the Trainer's terms: bfloat16 and torch.compile where the device gains by them, fused AdamW with decay on
    matrices only, warmup and cosine, losses weighted by token over micro-batches and processes."""
    from transformers import TrainingArguments

    cuda = device.startswith("cuda")
    compiled = preset.compile if preset.compile is not None else cuda and sys.platform == "linux"
    return TrainingArguments(
        output_dir=str(folder),
        run_name=folder.name,
        max_steps=steps,
        per_device_train_batch_size=preset.batch_size,
        gradient_accumulation_steps=preset.rows_per_step // (preset.batch_size * world),
        average_tokens_across_devices=True,
        train_sampling_strategy="sequential",  # `Order` has shuffled already
        learning_rate=preset.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": preset.final_learning_rate},
        warmup_steps=preset.warmup_steps,
        optim="adamw_torch_fused",
        weight_decay=preset.weight_decay,
        adam_beta2=preset.beta2,
        max_grad_norm=preset.clip,
        bf16=uses_bfloat16(preset, device),
        torch_compile=compiled,
        eval_strategy="steps",
        eval_steps=preset.eval_every,
        save_strategy="steps",
        save_steps=preset.eval_every,
        metric_for_best_model="loss",
        greater_is_better=False,
        logging_steps=preset.log_every,
        logging_nan_inf_filter=False,
        report_to=[track] if track else "none",
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        use_cpu=device == "cpu",
        ddp_backend="gloo" if device == "cpu" and world > 1 else None,
        ddp_find_unused_parameters=False if world > 1 else None,
        dataloader_pin_memory=cuda,
        seed=preset.seed,
    )


def _is_sharded(preset: Preset) -> bool:
    """Whether the launcher asks for FSDP, which is for training all weights, in its second version."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    if preset.lora_rank:
        raise UserError("a LoRA adapter is not trained with FSDP", "launch without it: the frozen base fits one device")
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError("this needs FSDP version 2", "set fsdp_version: 2 in the launcher's configuration")
    return True


def _finish(folder: Path, stopped_early: bool, seconds: float, tell: runs.Progress) -> None:
    """Draw the curves and write down how the run ended. The first process only."""
    if not (folder / "best").exists():
        tell("the best checkpoint is no longer whole: best is set to the last")
        runs.point(folder, "best", (folder / "last").resolve())
    record = runs.read_record(folder)
    rows = runs.read_metrics(folder)
    checks = {row["step"]: row for row in rows if "validation_loss" in row}
    speeds = sorted(row["tokens_per_second"] for row in rows if "tokens_per_second" in row)
    best_step, last_step = (runs.read_step((folder / name).resolve()) for name in ("best", "last"))
    why = f"the lowest validation loss was at step {best_step}"
    if stopped_early:
        why += f"; stopped at step {last_step}, {record['settings']['patience']} evaluations without gain"
    elif best_step == last_step:
        why += ", the last"
    record |= {
        "state": "finished",
        "result": {
            "steps": last_step,
            "best_step": best_step,
            "best_loss": checks[best_step]["validation_loss"],
            "best_bits_per_byte": checks[best_step]["bits_per_byte"],
            "last_loss": checks[last_step]["validation_loss"],
            "last_bits_per_byte": checks[last_step]["bits_per_byte"],
            "stopped_early": stopped_early,
            "loads": "best",
            "why": f"{folder.name} loads its best checkpoint: {why}",
            "seconds": round(seconds, 1),
            "tokens_per_second": speeds[len(speeds) // 2] if speeds else 0.0,
        },
    }
    plots.draw(folder, record, rows)
    runs.write_record(folder, record)


def _result(folder: Path, facts: Plan | None) -> RunResult:
    return RunResult(name=folder.name, folder=folder, plan=facts, **runs.read_record(folder)["result"])
