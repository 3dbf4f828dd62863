"""Long work in processes of its own: it outlives the page, the visitor and the server that started it.

    jobs/ID.jsonl    what was started, then its progress line by line, then how it ended
    jobs/ID.log      what the process printed, with the traceback of a failure that nobody expected

Any process that knows the home can list, watch and cancel the jobs. What a job does is an entry of `work.WORK`.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rag_vs_ft import files, settings
from rag_vs_ft.errors import CheckFailed, Stopped, UserError
from rag_vs_ft.settings import Home

JobState = Literal["running", "stopping", "finished", "failed", "cancelled", "died"]
KEEP = 30
"""Ended jobs that are listed; older ones are removed when another one is started."""
SECONDS_BETWEEN_LINES = 0.5
NICENESS = 5
"""Jobs give way to the questions that the app answers meanwhile."""
_TAIL = 16_384
"""Bytes from the end of a job's file that surely hold its last line."""


class Cancelled(BaseException):
    """Raised in the work when it is cancelled. Not an Exception, so that no stage takes it for a failure of its own."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its file tells it.

    `done` of `total` (0: not known) units of `stage` are finished and `left` seconds remain of it; `detail` is the last line
    worth reading. `notes` say what it made (finished) or what went wrong (failed), the most important first; `hint` is the next
    step after a failure. `seconds` is the time it has taken. `pid` and `created` identify its process.
    """

    id: str
    work: str
    title: str
    arguments: Mapping[str, Any]
    started: float
    pid: int
    created: float
    state: JobState = "running"
    stage: str = "starting"
    done: int = 0
    total: int = 0
    left: float | None = None
    detail: str = ""
    notes: tuple[str, ...] = ()
    hint: str = ""
    seconds: float = 0.0

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.state in ("running", "stopping")

    def to_json(self) -> dict[str, Any]:
        """The object that `jobs list --json` prints for it."""
        return {**asdict(self), "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds")}


_FIELDS = frozenset(field.name for field in fields(Job))
_START = threading.Lock()
_CHILDREN: list[subprocess.Popen[str]] = []


def folder(home: Home) -> Path:
    """Where a home keeps its jobs."""
    return home.root / "jobs"


def start(home: Home, work: str, title: str, arguments: Mapping[str, Any] | None = None) -> Job:
    """Start `work` (a key of `work.WORK`) in a process of its own; a running job of the same title is given back instead.

    Raises UserError when the job's file cannot be written.
    """
    with _START:
        for job in list_jobs(home):
            if job.running and job.title == title:
                return job
        _prune(home)
        now = datetime.now(UTC)
        path = folder(home) / f"{now:%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}.jsonl"
        task = {"id": path.stem, "work": work, "title": title, "arguments": dict(arguments or {}), "started": now.timestamp()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".log").open("w", encoding="utf-8") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "rag_vs_ft.jobs", str(path)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "RAG_VS_FT_HOME": str(home.root)},
                    start_new_session=True,  # the terminal's Ctrl-C ends the server, not the work
                )
            _CHILDREN.append(process)
            first = {**task, "pid": process.pid, "created": _created(process.pid)}
            files.write_text(path, json.dumps(files.sealed(first)) + "\n")
        except OSError as error:
            raise files.unusable(error) from error
        assert process.stdin is not None
        with suppress(OSError):  # it died at once, which its file will tell
            process.stdin.write(json.dumps(task))
            process.stdin.close()
        return read(path)


def list_jobs(home: Home) -> list[Job]:
    """All jobs, the newest first. Files that cannot be read are left out: `damaged` names them."""
    found = []
    for path in sorted(folder(home).glob("*.jsonl"), reverse=True):
        with suppress(OSError, CheckFailed, ValueError, KeyError, TypeError):
            found.append(read(path))
    return found


def damaged(home: Home) -> dict[str, str]:
    """What is wrong with each job whose file is not what was written, by id."""
    found = {}
    for path in sorted(folder(home).glob("*.jsonl")):
        try:
            read(path)
            # A line that is cut off at the end was being written when the process died.
            lines = path.read_bytes().split(b"\n")[:-1]
            for number, line in enumerate(lines, start=1):
                files.json_object(line.decode("utf-8", "replace"), f"{path}:{number}", "")
        except CheckFailed as error:
            found[path.stem] = error.message
        except (OSError, ValueError, KeyError, TypeError) as error:
            found[path.stem] = f"{path}: {error or type(error).__name__}"
    return found


def find(home: Home, id: str) -> Job:
    """The job of this id. Raises UserError when it does not exist."""
    path = folder(home) / f"{settings.check_name('job', id)}.jsonl"
    try:
        return read(path)
    except FileNotFoundError:
        raise UserError(f"there is no job {id!r} in {path.parent}", "rag-vs-ft jobs list names them") from None


def latest(home: Home, *work: str, title: str = "") -> Job | None:
    """The newest job that does one of these kinds of work, under this title if one is given."""
    return next((job for job in list_jobs(home) if job.work in work and title in ("", job.title)), None)


def read(path: Path) -> Job:
    """The job of a file. Raises OSError, CheckFailed, ValueError, KeyError or TypeError for any other file."""
    with path.open("rb") as file:
        first = files.json_object(file.readline().decode("utf-8", "replace"), str(path), f"remove {path}")
        file.seek(max(file.tell(), path.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    last: dict[str, Any] = {}
    for line in reversed(lines):  # the last line may be half written
        with suppress(CheckFailed):
            last = files.json_object(line, str(path), "")
            break
    known = {key: value for key, value in {**first, **last}.items() if key in _FIELDS}
    job = Job(**{**known, "notes": tuple(known.get("notes", ()))})
    if not job.running:
        return job
    seconds = time.time() - job.started
    if _alive(job):
        state: JobState = "stopping" if path.with_suffix(".stop").exists() else "running"
        return Job(**{**_values(job), "seconds": seconds, "state": state})
    if path.with_suffix(".stop").exists():
        return Job(**{**_values(job), "state": "cancelled"})
    notes = ("It ended without a word: the system may have stopped it because memory ran out, or the machine was restarted.",)
    return Job(
        **{**_values(job), "state": "died", "notes": notes, "hint": f"see {path.with_suffix('.log')}, then start it again"}
    )


def cancel(home: Home, id: str) -> Job:
    """Ask a job to stop, and end it at once when it was asked before; a job that has ended stays as it is.

    Raises UserError when there is no such job or its process may not be stopped.
    """
    import psutil

    job = find(home, id)
    if not job.running:
        return job
    asked = folder(home) / f"{job.id}.stop"
    try:
        process = psutil.Process(job.pid)
        if asked.exists():
            process.kill()
        else:
            files.write_text(asked, "")
            process.terminate()
    except psutil.NoSuchProcess:
        pass
    except (psutil.AccessDenied, OSError) as error:
        raise UserError(f"the job {id} cannot be stopped: {error}", "it belongs to another user: ask them to stop it") from error
    return find(home, id)


def wait(home: Home, id: str, seconds: float) -> Job:
    """The job when it has ended, or as it is after so many seconds."""
    deadline = time.monotonic() + seconds
    while (job := find(home, id)).running and time.monotonic() < deadline:
        time.sleep(0.05)
    return job


def _values(job: Job) -> dict[str, Any]:
    return {field.name: getattr(job, field.name) for field in fields(Job)}


def _created(pid: int) -> float:
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def _alive(job: Job) -> bool:
    """Whether the job's own process runs, and not another one that was given its number."""
    import psutil

    for child in _CHILDREN[:]:
        if child.poll() is not None:
            _CHILDREN.remove(child)
    try:
        process = psutil.Process(job.pid)
        return abs(process.create_time() - job.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _prune(home: Home) -> None:
    for job in [job for job in list_jobs(home) if not job.running][KEEP - 1 :]:
        for suffix in ("jsonl", "log", "stop"):
            files.remove(folder(home) / f"{job.id}.{suffix}")


class Reporter:
    """The Progress of a job: writes lines to its file, and raises Cancelled once it was told to stop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stage, self._began, self._first, self._written = "", 0.0, 0, 0.0
        self._detail = ""
        self._started = time.time()
        self.cancelled = False

    def __call__(self, stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        """Tell a step; most steps of a fast stage are not written."""
        if self.cancelled:
            raise Cancelled
        now = time.monotonic()
        with self._lock:
            new = stage != self._stage
            if new:
                self._stage, self._began, self._first = stage, now, done
            if not new and not detail and now - self._written < SECONDS_BETWEEN_LINES:
                return
            self._written, self._detail = now, detail or ("" if new else self._detail)
            left = None
            if self._first < done < total:
                left = round((now - self._began) / (done - self._first) * (total - done), 1)
            self._write(stage=stage, done=done, total=total, left=left, detail=self._detail)

    def end(self, state: JobState, notes: Sequence[str] = (), hint: str = "") -> None:
        """Tell how the job ended."""
        seconds = time.time() - self._started
        self._write(state=state, notes=list(notes), hint=hint, seconds=round(seconds, 2), stage=self._stage, detail=self._detail)

    def _write(self, **values: Any) -> None:
        files.append_text(self._path, json.dumps(files.sealed(values)) + "\n", flush=False)


def run(path: Path, task: Mapping[str, Any], home: Home) -> None:
    """Do the work of a job in this process and write to its file how it goes."""
    import traceback

    reporter = Reporter(path)

    def stop(*_: object) -> None:
        reporter.cancelled = True
        raise Cancelled

    signal.signal(signal.SIGTERM, stop)
    try:
        from rag_vs_ft.work import WORK

        reporter("starting")
        reporter.end("finished", WORK[task["work"]](home, reporter, **task["arguments"]))
    except (Cancelled, KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reporter.end("cancelled")
    except Stopped as stopped:
        reporter.end("cancelled", [stopped.message], stopped.hint)
    except UserError as error:
        reporter.end("failed", [error.message], error.hint)
    except OSError as error:
        told = files.unusable(error)
        reporter.end("failed", [told.message], told.hint)
    except Exception as error:  # the one place between the work and those who watch it
        traceback.print_exc()
        reporter.end("failed", [f"{type(error).__name__}: {error}"], f"the details are in {path.with_suffix('.log')}")


def main() -> None:
    """The process of a job: the file is its argument, the task comes on standard input once the file is there."""
    given = sys.stdin.read()
    if not given:  # the process that started it is gone
        return
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    settings.quiet_dependencies()
    run(Path(sys.argv[1]), json.loads(given), settings.home())


if __name__ == "__main__":
    main()
