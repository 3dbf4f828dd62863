"""One look at everything that a home and the cache keep: what is damaged, and the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from rag_vs_ft import catalogue, conversations, conversions, feedback, jobs, schedules
from rag_vs_ft.corpus import reading, store
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation import checks, ledger
from rag_vs_ft.index import generations
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.settings import Home
from rag_vs_ft.training import runs


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its kind and name, its faults (each names its file), and what to do about them."""

    kind: str
    name: str
    faults: tuple[str, ...]
    todo: str

    def to_json(self) -> dict[str, Any]:
        """The object that `doctor --json` prints for it."""
        return {**asdict(self), "ok": not self.faults}


def examine(home: Home, progress: Progress = silent) -> list[Finding]:
    """Compare every file that is kept with what was written. A thing that cannot be read does not hide the others."""
    found = []
    for kind, look in KINDS.items():
        progress(f"checking {kind}")
        try:
            found += list(look(home))
        except UserError as error:
            found.append(Finding(kind, "-", (error.message,), error.hint))
    return found


def _finding(kind: str, name: str, look: Callable[[], list[str]], todo: str) -> Finding:
    try:
        faults = look()
    except (UserError, OSError) as error:
        faults = [str(error).splitlines()[0]]
    return Finding(kind, name, tuple(faults), todo if faults else "")


def _corpora(home: Home) -> Iterator[Finding]:
    for name in store.names(home):
        finding = _finding("corpus", name, partial(store.verify, name, home), f"rag-vs-ft corpus update {name}")
        if not all(reading.FILES in fault for fault in finding.faults):
            again = f"rag-vs-ft corpus add {name} SOURCE"
            finding = replace(finding, todo=f"remove {home.corpora / name}, then: {again}")
        yield finding


def _indexes(home: Home) -> Iterator[Finding]:
    for name in generations.list_indexes(home):
        folder = generations.index_folder(name, home)
        todo = f"rag-vs-ft index update {name} (what is damaged is built again), or: rag-vs-ft index rollback {name}"
        yield _finding("index", name, partial(generations.verify_all, folder), todo)


def _runs(home: Home) -> Iterator[Finding]:
    listed = runs.list_runs(home)
    going_on = {run.name for run in listed.runs if run.record.state != "finished"}
    for name in sorted([*(run.name for run in listed.runs), *listed.damaged]):
        todo = f"remove {home.runs / name} and train it again"
        if name in going_on:
            todo = f"rag-vs-ft train --run {name} --resume goes on from the last whole checkpoint"
        yield _finding("run", name, partial(runs.verify, home.runs / name), todo)


def _results(home: Home) -> Iterator[Finding]:
    for name in checks.names(home):
        again = f"rag-vs-ft eval EXPERIMENT --run {name}-again (what is whole is used again)"
        todo = f"{again}, then remove {home.results / name}"
        yield _finding("results", name, partial(checks.verify, home.results / name), todo)


def _ledger(home: Home) -> Iterator[Finding]:
    counted = {name: summary.openings.times for name, summary in checks.list_results(home).finished.items()}
    if counted or (home.results / ledger.LEDGER).exists():
        todo = "restore that line from a copy, or move the file away: the openings in it are then no longer counted"
        yield _finding("ledger", ledger.LEDGER, partial(ledger.verify, home.results, counted), todo)


def _conversations(home: Home) -> Iterator[Finding]:
    path = conversations.database_path(home)
    if path.exists():
        todo = f"restore {path} from a copy, or move it away: a new one is made"
        yield _finding("conversations", path.name, partial(conversations.verify, home), todo)


def _feedback(home: Home) -> Iterator[Finding]:
    path = feedback.database_path(home)
    if path.exists():
        todo = f"restore {path} from a copy, or move it away: a new one is made"
        yield _finding("feedback", path.name, partial(feedback.verify, home), todo)


def _jobs(home: Home) -> Iterator[Finding]:
    damaged = jobs.damaged(home)
    for id in sorted({*damaged, *(job.id for job in jobs.list_jobs(home))}):
        faults = (damaged[id],) if id in damaged else ()
        yield Finding("job", id, faults, f"remove {jobs.folder(home) / id}.jsonl" if faults else "")


def _schedules(home: Home) -> Iterator[Finding]:
    path = schedules.schedules_path(home)
    if path.exists():
        todo = f"remove {path}, then choose again on the page Index"
        yield _finding("schedules", path.name, partial(schedules.verify, home), todo)


def _models(home: Home) -> Iterator[Finding]:
    for model in catalogue.list_models():
        if model["state"] != "not pulled":
            name = model["name"]
            yield _finding("model", name, partial(catalogue.verify, name), catalogue.remedy(name))
    for place in catalogue.unnamed_conversions():
        todo = f"remove {place}: it is made again when its GGUF file is used"
        yield _finding("model", place.name, partial(catalogue.faults_of, place), todo)


def _conversions(home: Home) -> Iterator[Finding]:
    for folder, faults in conversions.verify():
        todo = f"remove {folder}: what is needed is made again" if faults else ""
        yield Finding("conversion", f"{folder.parent.name}/{folder.name}", tuple(faults), todo)


KINDS: dict[str, Callable[[Home], Iterator[Finding]]] = {
    "corpora": _corpora,
    "indexes": _indexes,
    "runs": _runs,
    "results": _results,
    "ledger": _ledger,
    "conversations": _conversations,
    "feedback": _feedback,
    "jobs": _jobs,
    "schedules": _schedules,
    "models": _models,
    "conversions": _conversions,
}
"""What is looked at, in the order in which it is shown."""
