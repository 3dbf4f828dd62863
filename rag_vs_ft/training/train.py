"""Train a model on a corpus: from scratch, all weights of a model that is there, a LoRA adapter, or on instructions.

    train(Request("scratch", corpus="docs", preset="nano"), "first", home)
    resume("first", home)

The same call under `accelerate launch` or `torchrun` trains on several processes; each step sees the same rows.
"""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rag_vs_ft import __version__, files, settings
from rag_vs_ft.corpus.store import open_corpus
from rag_vs_ft.environment import git_commit
from rag_vs_ft.errors import CheckFailed, Stopped, UserError
from rag_vs_ft.models.devices import choose_device
from rag_vs_ft.models.loading import weights_sha256
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.training import plots, runs
from rag_vs_ft.training.prepare import Prepared, make_rows, put_together, tokenizer_and_model, uses_bfloat16
from rag_vs_ft.training.presets import Preset, TrainingArm, checked, load_preset
from rag_vs_ft.training.record import RECORD, Plan, RunInput, RunOutcome, RunRecord, read_record, write_record

TRACKERS = ("tensorboard", "trackio", "wandb")
_FREE = ("batch_size", "device", "compile", "gradient_checkpointing", "keep_checkpoints")
"""Settings that may differ on resuming: they change the cost of a step, not the rows it sees."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to train and how. A run that is resumed remembers all of it.

    `data` is the Alpaca JSON file of the arm `instruct`; the other arms learn the documents of the corpus. `overrides` are
    settings of the preset as a user writes them: names and texts.
    """

    arm: TrainingArm | None = None
    preset: str | None = None
    corpus: str | None = None
    data: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)


_NOTHING = Request()


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that ended: its name, folder, and how it ended. `plan` is None when there was nothing left to do."""

    name: str
    folder: Path
    outcome: RunOutcome
    plan: Plan | None

    def to_json(self) -> dict[str, Any]:
        """The object that `train --json` prints."""
        plan = asdict(self.plan) if self.plan else None
        return {"name": self.name, "folder": str(self.folder), **asdict(self.outcome), "plan": plan}


def train(
    request: Request, run_name: str, home: settings.Home, *, track: str | None = None, progress: Progress = silent
) -> RunResult:
    """Train the run `run_name` and leave its model in `runs/<run_name>/best` and `last`.

    `track` also reports to one of `TRACKERS`. Raises UserError for input that cannot be trained on, CheckFailed when the loss is
    no longer finite, Busy when the run is being trained, Stopped when it was asked to stop (`runs.ask_to_stop`).
    """
    return _train(_started(request), run_name, home, False, track, progress)


def resume(
    run_name: str,
    home: settings.Home,
    asked: Request = _NOTHING,
    *,
    track: str | None = None,
    progress: Progress = silent,
) -> RunResult:
    """Go on with a run from its last whole checkpoint, exactly as if it had not been stopped.

    The run's record says what it was started with. `asked` may repeat any of it; what differs is refused by name, but for the
    settings in `_FREE`, which change the cost of a step and not the rows it sees. Raises what `train` raises.
    """
    record = read_record(runs.run_folder(home, run_name))
    if asked.preset is None:
        preset = checked({**record.settings, **asked.overrides}, record.arm, f"run {run_name!r}")
    else:
        preset = load_preset(asked.preset, asked.arm or record.arm, asked.overrides)
    corpus = asked.corpus or (record.corpus.name if record.corpus else None)
    data = asked.data or (Path(record.data.file) if record.data else None)
    started = _Started(asked.arm or record.arm, record.preset, preset, corpus, data)
    return _train(started, run_name, home, True, track, progress)


@dataclass(frozen=True, slots=True)
class _Started:
    """What a run is started or resumed with, its settings checked."""

    arm: TrainingArm
    preset_name: str
    preset: Preset
    corpus: str | None
    data: Path | None


def _started(request: Request) -> _Started:
    if request.arm is None or request.preset is None:
        missing = "an arm" if request.arm is None else "a preset"
        raise UserError(
            f"a new run needs {missing}",
            "for example: rag-vs-ft train scratch --preset nano --corpus NAME --run NAME; or --resume one that is there",
        )
    preset = load_preset(request.preset, request.arm, request.overrides)
    return _Started(request.arm, request.preset, preset, request.corpus, request.data)


def _train(
    started: _Started, run_name: str, home: settings.Home, resume: bool, track: str | None, progress: Progress
) -> RunResult:
    arm, preset, corpus_name, data = started.arm, started.preset, started.corpus, started.data
    _check_request(arm, corpus_name, data, track)
    folder = runs.run_folder(home, run_name)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    _check_world(preset, world)
    tell: Progress = progress if rank == 0 else silent
    began = time.perf_counter()
    with ExitStack() as held, _explain_full_disk(folder):
        if rank == 0:
            held.enter_context(runs.lock(folder))
        device = _start(preset, world)
        description = _describe(started, home)
        with _first_process_first(rank, world):
            checkpoint = _open_run(folder, description, resume, tell, write=rank == 0)
            if checkpoint and read_record(folder).state == "finished":
                tell("resume", detail=f"run {run_name} is finished: nothing to resume")
                return _result(folder, None)
            tokenizer, model = tokenizer_and_model(arm, preset, folder, corpus_name, home, device)
            rows, notes = make_rows(preset, folder, tokenizer, corpus_name, home, data, write=rank == 0, tell=tell)
        before = max((row.get("seconds", 0.0) for row in runs.read_metrics(folder)), default=0.0) if checkpoint else 0.0
        job = put_together(arm, preset, tokenizer, model, rows, notes, device, probe=world == 1 and not checkpoint)
        if rank == 0:
            created = read_record(folder).created
            write_record(folder, description.with_changes(state="training", created=created, plan=job.plan))
            tell("plan", detail=str(job.plan))
        stopped_early = _run(job, preset, folder, device, world, checkpoint, track, tell, before)
        if stopped_early and runs.asked_to_stop(folder):
            raise _keep(folder)
        if rank == 0:
            files.remove(folder / runs.STOP)
            _finish(folder, stopped_early, before + time.perf_counter() - began, tell)
        _wait_for_all(world)
        _leave(world)
        result = _result(folder, job.plan)
    tell("finished", detail=f"{result.outcome.why}. Ask it: rag-vs-ft sample {run_name} --prompt TEXT")
    return result


def plan(request: Request, home: settings.Home, *, progress: Progress = silent) -> Plan:
    """What `train` would take with this request: it prepares the data in a temporary folder, probes, and leaves nothing.

    Raises what `train` raises before its first step.
    """
    import tempfile

    started = _started(request)
    arm, preset, corpus, data = started.arm, started.preset, started.corpus, started.data
    _check_request(arm, corpus, data, None)
    device = _start(preset, 1)
    with tempfile.TemporaryDirectory(prefix="rag-vs-ft-plan-") as temporary:
        folder = Path(temporary) / "plan"
        folder.mkdir()
        tokenizer, model = tokenizer_and_model(arm, preset, folder, corpus, home, device)
        rows, notes = make_rows(preset, folder, tokenizer, corpus, home, data, write=True, tell=progress)
        return put_together(arm, preset, tokenizer, model, rows, notes, device, probe=True).plan


# --- what is asked for ------------------------------------------------------------------------------------------------


def _check_request(arm: TrainingArm, corpus_name: str | None, data: Path | None, track: str | None) -> None:
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


def _describe(started: _Started, home: settings.Home) -> RunRecord:
    """What makes a run this run: it must be the same to resume."""
    preset, data = started.preset, started.data
    corpus = open_corpus(started.corpus, home) if started.corpus else None
    packages: dict[str, str | None] = {name: version(name) for name in ("torch", "transformers", "peft")}
    return RunRecord(
        arm=started.arm,
        preset=started.preset_name,
        settings=preset.model_dump(),
        base=RunInput(weights_sha256(preset.base, home), preset.base) if preset.base else None,
        corpus=RunInput(corpus.sha256, started.corpus or "") if corpus else None,
        data=RunInput(files.sha256_file(data), file=str(data)) if data else None,
        template="alpaca" if started.arm == "instruct" else "",
        versions={"rag-vs-ft": __version__, "commit": git_commit(), **packages},
        state="preparing",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _open_run(folder: Path, description: RunRecord, resume: bool, tell: Progress, *, write: bool) -> Path | None:
    """Make the run's folder, or find the checkpoint to resume from; None is the beginning."""
    if not resume:
        if not write:
            return None
        if runs.has_checkpoint(folder):
            raise UserError(f"run {folder.name!r} exists", "continue it with --resume, or use another name")
        if (folder / RECORD).exists() or _only_leftovers(folder):
            files.remove(folder)  # it ended before its first checkpoint
        elif folder.exists():
            raise UserError(f"{folder} exists and is not a run", "use another name")
        try:
            write_record(folder, description)
        except OSError:
            files.discard(folder)  # or the name would be taken by nothing
            raise
        return None
    _require_same(read_record(folder), description, folder)
    checkpoint = runs.last_whole_checkpoint(folder, tell if write else silent)
    step = runs.read_step(checkpoint) if checkpoint else 0
    if write:
        files.remove(folder / runs.STOP)
        runs.rewind_metrics(folder, step)
        if checkpoint:
            runs.link(folder, checkpoint)
    start = f"resuming from step {step}" if checkpoint else "there is no checkpoint yet: starting from the beginning"
    tell("resume", detail=start)
    return checkpoint


def _only_leftovers(folder: Path) -> bool:
    """Whether a run's folder holds only what a process left that died before it wrote the record."""
    return folder.is_dir() and all(path.name.endswith(".tmp") for path in folder.iterdir())


def _require_same(old: RunRecord, new: RunRecord, folder: Path) -> None:
    """Refuse to resume as something else, with the differences."""
    differences = [
        f"{key}: was {old.settings.get(key)!r}, now {value!r}"
        for key, value in new.settings.items()
        if key not in _FREE and old.settings.get(key) != value
    ]
    if old.arm != new.arm:
        differences.append(f"arm: was {old.arm!r}, now {new.arm!r}")
    for key, before, now in (("corpus", old.corpus, new.corpus), ("data", old.data, new.data), ("base", old.base, new.base)):
        # Records of earlier versions name no base.
        if (before or key != "base") and (before.sha256 if before else None) != (now.sha256 if now else None):
            differences.append(f"{key}: its contents have changed")
    if differences:
        raise UserError(
            f"run {folder.name!r} was started differently: " + "; ".join(differences),
            f"resume it with: rag-vs-ft train --run {folder.name} --resume; or start a new run under another name",
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
    job: Prepared,
    preset: Preset,
    folder: Path,
    device: str,
    world: int,
    checkpoint: Path | None,
    track: str | None,
    tell: Progress,
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


def _keep(folder: Path) -> Stopped:
    """What is told of a run that was asked to stop and has written its checkpoint."""
    files.remove(folder / runs.STOP)
    last = (folder / "last").resolve()
    if not (folder / "best").exists():  # it was not evaluated yet
        runs.point(folder, "best", last)
    command = shlex.join(["rag-vs-ft", "train", "--run", folder.name, "--resume", "--home", str(folder.parent.parent)])
    return Stopped(
        f"the run {folder.name} was stopped after step {runs.read_step(last):,}; this checkpoint is kept",
        f"go on with: {command}",
    )


def _finish(folder: Path, stopped_early: bool, seconds: float, tell: Progress) -> None:
    """Draw the curves and write down how the run ended. The first process only."""
    if not (folder / "best").exists():
        tell("finish", detail="the best checkpoint is no longer whole: best is set to the last")
        runs.point(folder, "best", (folder / "last").resolve())
    record = read_record(folder)
    rows = runs.read_metrics(folder)
    checks = {row["step"]: row for row in rows if "validation_loss" in row}
    speeds = sorted(row["tokens_per_second"] for row in rows if "tokens_per_second" in row)
    best_step, last_step = (runs.read_step((folder / name).resolve()) for name in ("best", "last"))
    why = f"the lowest validation loss was at step {best_step}"
    if stopped_early:
        why += f"; stopped at step {last_step}, {record.settings['patience']} evaluations without gain"
    elif best_step == last_step:
        why += ", the last"
    outcome = RunOutcome(
        steps=last_step,
        best_step=best_step,
        best_loss=checks[best_step]["validation_loss"],
        best_bits_per_byte=checks[best_step]["bits_per_byte"],
        last_loss=checks[last_step]["validation_loss"],
        last_bits_per_byte=checks[last_step]["bits_per_byte"],
        stopped_early=stopped_early,
        loads="best",
        why=f"{folder.name} loads its best checkpoint: {why}",
        seconds=round(seconds, 1),
        tokens_per_second=speeds[len(speeds) // 2] if speeds else 0.0,
    )
    record = record.with_changes(state="finished", result=outcome)
    plots.draw(folder, record, rows)
    write_record(folder, record)


def _result(folder: Path, facts: Plan | None) -> RunResult:
    outcome = read_record(folder).result
    if outcome is None:
        raise CheckFailed(f"{folder / RECORD} says finished and holds no result", f"remove {folder} and train again")
    return RunResult(folder.name, folder, outcome, facts)
