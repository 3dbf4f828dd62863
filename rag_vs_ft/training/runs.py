"""One training run on disk, and checkpoints that are whole or not there.

    runs/<name>/
      run.json              arm, settings, hashes, versions, state and result
      tokens/               the token file (arms that learn documents)
      metrics.jsonl         one line for each log and each evaluation
      samples.jsonl         one line for each evaluation: what the model wrote then
      STOP                  somebody asks the process that trains to stop and keep what it has
      curves.png, curves.html
      checkpoints/step-00000050/   weights (Hugging Face or peft layout), tokenizer, optimizer state, manifest
      best -> checkpoints/...      lowest validation loss
      last -> checkpoints/...      newest

A checkpoint is written under another name, flushed to disk, given a manifest with the size and SHA-256 of each file, and only
then renamed; `best` and `last` are links that are replaced in one step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.settings import Home, check_name
from rag_vs_ft.training.record import FORMAT, RECORD, RunRecord, read_record

METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
STOP = "STOP"
MANIFEST = "manifest.json"
TRAINER_STATE = "trainer_state.json"
"""In a checkpoint: the step, the losses, and the step of the lowest one."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run by its name, folder and record (`run.json`)."""

    name: str
    folder: Path
    record: RunRecord


def run_folder(home: Home, name: str) -> Path:
    """Where the run `name` is kept; raises UserError when the name is unusable."""
    return home.runs / check_name("run", name)


@dataclass(frozen=True, slots=True)
class RunList:
    """The runs of a home by name, and of each folder that cannot be read the reason."""

    runs: tuple[RunInfo, ...]
    damaged: dict[str, str]


def list_runs(home: Home) -> RunList:
    """All runs of this home. A damaged record does not hide the others; folders without a record are not runs."""
    found, damaged = [], {}
    for folder in sorted(home.runs.iterdir()) if home.runs.is_dir() else []:
        if (folder / RECORD).is_file():
            try:
                found.append(RunInfo(folder.name, folder, read_record(folder)))
            except UserError as error:
                damaged[folder.name] = str(error)
    return RunList(tuple(found), damaged)


def lock(folder: Path) -> AbstractContextManager[None]:
    """Hold the run for writing; raises Busy when another process trains it."""
    return files.lock(
        _lock_file(folder),
        f"another process is training the run {folder.name!r}",
        "wait for it to end, or use another name",
    )


def being_trained(folder: Path) -> bool:
    """Whether a process holds the run."""
    return files.locked(_lock_file(folder))


def _lock_file(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"


def ask_to_stop(folder: Path) -> None:
    """Ask the process that trains a run to stop after its step and keep a checkpoint. Raises UserError when it cannot be told."""
    try:
        files.write_text(folder / STOP, "")
    except OSError as error:
        raise files.unusable(error) from error


def asked_to_stop(folder: Path) -> bool:
    """Whether somebody has asked for that since the run was started or resumed."""
    return (folder / STOP).exists()


def append_metrics(folder: Path, row: dict[str, Any], file: str = METRICS) -> None:
    """Add one line to the metrics (or `file`)."""
    files.append_text(folder / file, json.dumps(files.sealed(row)) + "\n")


def read_metrics(folder: Path, file: str = METRICS) -> list[dict[str, Any]]:
    """The lines of the metrics (or `file`), up to the first that is cut off or damaged."""
    path = folder / file
    rows = []
    for line in _lines(path):
        try:
            row = files.json_object(line, str(path), "")
        except CheckFailed:
            break
        if not isinstance(row.get("step"), int):
            break
        rows.append(row)
    return rows


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def rewind_metrics(folder: Path, step: int) -> None:
    """Remove what was logged after `step`, which a resumed run will log again."""
    for file in (METRICS, SAMPLES):
        if (folder / file).exists() or file == METRICS:
            rows = [row for row in read_metrics(folder, file) if row["step"] <= step]
            files.write_text(folder / file, "".join(json.dumps(files.sealed(row)) + "\n" for row in rows))


def checkpoint_name(step: int) -> str:
    """The folder name of the checkpoint after `step` optimizer steps; names sort by step."""
    return f"step-{step:08d}"


def read_step(place: Path) -> int:
    """The optimizer step of a checkpoint folder."""
    return int(place.name.removeprefix("step-"))


def save_checkpoint(folder: Path, step: int, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a folder and publish it as the checkpoint of `step`, whole or not at all.

    Raises UserError when it cannot be written (a full disk); what was there before is untouched.
    """
    from safetensors import SafetensorError

    place = folder / "checkpoints" / checkpoint_name(step)
    try:
        files.remove(place)  # a damaged one that was passed over on resuming
        with files.publishing(place) as temporary:
            write(temporary)
            manifest = {"format": FORMAT, "step": step, "files": files.listed(temporary)}
            files.write_record(temporary / MANIFEST, manifest)
    except (OSError, SafetensorError) as error:
        kept = [f"the last good one is {path.name}" for path in _checkpoints(folder)] or ["none was written before"]
        raise UserError(
            f"cannot write the checkpoint of step {step} in {folder}: {error}",
            f"free some space, then continue with --resume ({kept[-1]})",
        ) from error
    return place


def check_checkpoint(place: Path) -> str | None:
    """What is wrong with a checkpoint, or None: every file of its manifest has its size and SHA-256."""
    try:
        return files.damage(place, files.read_json(place / MANIFEST, "")["files"])
    except FileNotFoundError:
        return "it has no manifest"
    except (OSError, KeyError, TypeError, AttributeError, CheckFailed) as error:
        return f"its manifest cannot be read: {error}"


def verify(folder: Path) -> list[str]:
    """Compare every file of a run with what was written; the faults, each naming its file. UserError when there is no run."""
    try:
        record = read_record(folder)
    except CheckFailed as error:
        return [error.message]
    faults = []
    rows, samples = read_metrics(folder), read_metrics(folder, SAMPLES)
    for file, read in ((METRICS, rows), (SAMPLES, samples)):
        if len(read) < len(_lines(folder / file)):
            faults.append(f"{folder / file}:{len(read) + 1}: it is not what was written, and nothing from there on is read")
    for place, manifest in ((folder / "tokens", "header.json"), (folder / "tokenizer", MANIFEST)):
        if place.is_dir():
            try:
                if problem := files.damage(place, files.read_json(place / manifest, "").get("files", {})):
                    faults.append(f"{place}: {problem}")
            except FileNotFoundError:
                faults.append(f"{place / manifest}: it is missing")
            except CheckFailed as error:
                faults.append(error.message)
    for place in _checkpoints(folder):
        if problem := check_checkpoint(place):
            faults.append(f"{place}: {problem}")
    if has_checkpoint(folder) or record.state == "finished":
        faults += [f"{folder / name}: it leads to no checkpoint" for name in ("best", "last") if not (folder / name).is_dir()]
    if record.result and (rows[-1]["step"] if rows else 0) < record.result.steps:
        faults.append(f"{folder / METRICS}: it ends before step {record.result.steps}")
    evaluated = max((row["step"] for row in rows if "validation_loss" in row), default=0)
    if record.result and (folder / SAMPLES).is_file() and (samples[-1]["step"] if samples else 0) < evaluated:
        faults.append(f"{folder / SAMPLES}: it ends before step {evaluated}")
    return faults


def has_checkpoint(folder: Path) -> bool:
    """Whether the run has got as far as a checkpoint."""
    return bool(_checkpoints(folder))


def last_whole_checkpoint(folder: Path, progress: Progress = silent) -> Path | None:
    """The newest checkpoint that is whole, or None; those passed over are reported, and what a killed process left is removed."""
    for left in (folder / "checkpoints").glob("*.tmp"):
        files.remove(left)
    for place in reversed(_checkpoints(folder)):
        problem = check_checkpoint(place)
        if problem is None:
            return place
        progress("resume", detail=f"checkpoint {place.name} is damaged and passed over: {problem}")
    return None


def point(folder: Path, name: str, place: Path) -> None:
    """Let `folder/name` ("best", "last") be the checkpoint `place`, replacing the old link in one step."""
    files.point(folder / name, place)


def link(folder: Path, checkpoint: Path) -> None:
    """Let `last` lead to `checkpoint`, and `best` to the one that its state names: a process may have died between the two."""
    point(folder, "last", checkpoint)
    state = files.read_json(checkpoint / TRAINER_STATE, "start a new run")
    best = folder / "checkpoints" / checkpoint_name(state.get("best_global_step") or 0)
    if best.is_dir():
        point(folder, "best", best)


def prune(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep` and the best."""
    best = (folder / "best").resolve()
    for place in _checkpoints(folder)[:-keep]:
        if place.resolve() != best:
            # Renamed first: a folder that is half removed must not look like a checkpoint.
            gone = place.with_name(f".{place.name}.tmp")
            files.rename(place, gone)
            files.remove(gone)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "checkpoints").glob("step-*") if not path.name.endswith(".tmp"))
