"""Whether a results folder is what an evaluation wrote, and which folders there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation.figures import SUMMARY, Summary, read_summary
from rag_vs_ft.evaluation.manifest import MANIFEST, FinishedManifest, RunManifest, read_manifest
from rag_vs_ft.evaluation.predictions import CHECKSUM, PREDICTIONS, read_records
from rag_vs_ft.settings import Home

EXPERIMENT = "experiment.toml"
REPORTS = ("report.md", "report.html")


@dataclass(frozen=True, slots=True)
class ResultsList:
    """The finished runs of a home by name; the names of those that were stopped; and why each of the others cannot be read."""

    finished: dict[str, Summary]
    stopped: tuple[str, ...]
    damaged: dict[str, str]


def list_results(home: Home) -> ResultsList:
    """All results folders of this home. One that is damaged does not hide the others."""
    finished, stopped, damaged = {}, [], {}
    for name in names(home):
        folder = home.results / name
        try:
            if isinstance(read_manifest(folder), FinishedManifest):
                finished[name] = read_summary(folder)
            else:
                stopped.append(name)
        except FileNotFoundError as error:
            damaged[name] = f"{error.filename or folder}: it is missing"
        except UserError as error:
            damaged[name] = error.message
    return ResultsList(finished, tuple(stopped), damaged)


def names(home: Home) -> list[str]:
    """Names of the results folders."""
    kept = (EXPERIMENT, MANIFEST, SUMMARY, PREDICTIONS)
    folders = sorted(home.results.iterdir()) if home.results.is_dir() else []
    return [folder.name for folder in folders if any((folder / file).is_file() for file in kept)]


def verify(folder: Path) -> list[str]:
    """Compare the files of a results folder with what was written; the faults, each naming its file.

    Raises UserError when there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there are no results {folder.name!r} in {folder.parent}", "rag-vs-ft results list names them")
    faults: list[str] = []
    manifest = summary = None
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        faults.append(f"{folder / MANIFEST}: it is missing")
    except CheckFailed as error:
        faults.append(error.message)
    finished = isinstance(manifest, FinishedManifest)
    if finished or (folder / SUMMARY).exists():
        try:
            summary = read_summary(folder)
        except UserError as error:
            faults.append(error.message)
    if manifest and (not (text := folder / EXPERIMENT).is_file() or _changed(text, manifest.identity.experiment_sha256)):
        faults.append(f"{text}: it is not the experiment that the run was of")
    if isinstance(manifest, FinishedManifest) and summary and manifest.run != summary.run:
        faults.append(f"{folder / SUMMARY}: it is of the run {summary.run!r}, {MANIFEST} of {manifest.run!r}")
    if isinstance(manifest, FinishedManifest):
        changed = (files.damage(folder, {name: manifest.files[name]}) for name in manifest.files)
        faults += [f"{folder}: {fault}" for fault in changed if fault]
    faults += _others(folder, manifest)
    faults += _predictions(folder / PREDICTIONS, manifest, summary)
    if finished:
        faults += [f"{folder / name}: it is missing" for name in REPORTS if not (folder / name).is_file()]
    return faults


def _others(folder: Path, manifest: RunManifest | None) -> list[str]:
    """Faults of what else a folder may hold: the plan and the outcome of `choose`, and the questions that it wrote."""
    faults = []
    for path in sorted(folder.glob("*.json")):
        if path.name not in (MANIFEST, SUMMARY):
            try:
                files.read_json(path, "")
            except CheckFailed as error:
                faults.append(error.message)
    for asked in manifest.identity.questions if manifest else ():
        path = folder / Path(asked.path).name
        if Path(asked.path).parent.name == folder.name and not (path.is_file() and files.sha256_file(path) == asked.sha256):
            faults.append(f"{path}: it is not the file of questions that the run was of")
    return faults


def _changed(path: Path, sha256: str) -> bool:
    try:
        return files.sha256_text(path.read_text(encoding="utf-8")) != sha256
    except ValueError:
        return True


def _predictions(path: Path, manifest: object, summary: Summary | None) -> list[str]:
    """The first line that is not what was written; for a finished run also an answer that is missing."""
    there: set[tuple[str, str]] = set()
    signed = unsigned = 0
    if path.is_file():
        try:
            for _, record in read_records(path):
                signed, unsigned = (signed + 1, unsigned) if CHECKSUM in record else (signed, unsigned + 1)
                if record.get("split") == "test":
                    there.add((str(record.get("arm")), str(record.get("question_id"))))
        except UserError as error:
            return [error.message]
    if signed and unsigned:
        return [f"{path}: {unsigned} lines lack the checksum that the others have"]
    if not isinstance(manifest, FinishedManifest) or summary is None:
        return []
    wanted = {(arm.name, question) for arm in summary.arms for question in manifest.question_ids}
    missing = sorted(wanted - there)
    if missing:
        arm, question = missing[0]
        return [f"{path}: {len(missing)} answers are missing, such as that of {arm!r} to {question!r}"]
    return []
