"""Updates that the app starts by itself while it runs: which indexes, and how often.

schedules.json    in the home; by index, the hours between two updates and when the last one was begun
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rag_vs_ft import files, jobs
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index import generations
from rag_vs_ft.jobs import Job
from rag_vs_ft.settings import Home

INTERVALS = {"never": 0, "every hour": 1, "every day": 24, "every week": 168}
"""What a visitor can choose, in hours."""
_WORDS = {hours: words for words, hours in INTERVALS.items()}
SECONDS_BETWEEN_LOOKS = 30.0
_LOG = logging.getLogger("rag_vs_ft.schedules")
_CHANGE = threading.Lock()


@dataclass(frozen=True, slots=True)
class Schedule:
    """An index is updated every `hours`; `last` (seconds since 1970) is when that was begun last, or chosen."""

    hours: int
    last: float

    @property
    def next(self) -> float:
        """When the next update is due, in seconds since 1970."""
        return self.last + self.hours * 3600


def interval_of(schedule: Schedule | None) -> str:
    """How often an index is updated, as a visitor chose it."""
    return _WORDS[schedule.hours if schedule else 0]


def schedules_path(home: Home) -> Path:
    """Where a home keeps its schedules."""
    return home.root / "schedules.json"


def read(home: Home) -> dict[str, Schedule]:
    """The schedules by index. Raises UserError when the file is damaged."""
    path, hint = schedules_path(home), "remove it, then choose again on the page Index"
    if not path.exists():
        return {}
    found = files.read_json(path, hint).get("updates")
    try:
        schedules = {name: Schedule(int(one["hours"]), float(one["last"])) for name, one in found.items()}  # type: ignore[union-attr]
        if unknown := {one.hours for one in schedules.values()} - (set(_WORDS) - {0}):
            raise ValueError(f"hours {unknown}")
        return schedules
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckFailed(f"{path} is no list of schedules: {error!r}", hint) from error


def verify(home: Home) -> list[str]:
    """The faults of the file of schedules."""
    try:
        read(home)
    except UserError as error:
        return [error.message]
    return []


def choose(home: Home, index: str, hours: int) -> None:
    """Update `index` every so many hours from now on, or not any more (0). Raises UserError when that cannot be kept."""
    with _CHANGE:
        found = {name: one for name, one in read(home).items() if name != index}
        _write(home, found | ({index: Schedule(hours, time.time())} if hours else {}))


def _write(home: Home, schedules: Mapping[str, Schedule]) -> None:
    try:
        files.write_record(schedules_path(home), {"format": 1, "updates": {key: asdict(one) for key, one in schedules.items()}})
    except OSError as error:
        raise files.unusable(error) from error


def update(home: Home, index: str) -> Job:
    """Start the job that updates an index from its documents, or join the one that runs. Raises UserError when it cannot."""
    corpus = generations.current(home.indexes / index).manifest.inputs.corpus.name
    return jobs.start(home, "update", update_title(index), {"name": index, "corpus": corpus})


def update_title(index: str) -> str:
    """What the job that updates an index is called."""
    return f"Updating {index}"


def start_due(home: Home) -> list[Job]:
    """Start the updates that are due; the schedule of an index that is gone is forgotten. Raises UserError as `read` does."""
    with _CHANGE:
        now, schedules = time.time(), read(home)
        there = set(generations.list_indexes(home))
        kept = {name: one for name, one in schedules.items() if name in there}
        due = [name for name, one in kept.items() if one.next <= now]
        if due or kept != schedules:  # written first: an update that cannot be started is not tried at each look
            _write(home, kept | {name: Schedule(kept[name].hours, now) for name in due})
    started = []
    for name in due:
        try:
            started.append(update(home, name))
        except UserError as error:
            _LOG.error("the update of %s was not started: %s", name, error)
    return started


def begin(home: Home) -> None:
    """Look for updates that are due, now and then, in a thread that ends with the process."""

    def watch() -> None:
        while True:
            try:
                start_due(home)
            except Exception as error:  # the next look may go better; the page says what is wrong with the file
                _LOG.error("no update was started: %s", error)
            time.sleep(SECONDS_BETWEEN_LOOKS)

    threading.Thread(target=watch, daemon=True, name="Schedules").start()
