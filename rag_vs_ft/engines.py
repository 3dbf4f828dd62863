"""The same work on many shards: in this process, in several of this machine, or on a Ray cluster.

A `Work` is opened once in each worker, where it loads its model, and then gets shard after shard. What it makes of a shard
depends on that shard alone, so every engine gives the same results. A worker that dies or is silent for too long is replaced and
its shard given out again; a shard that fails is reported and the others are finished. Every wait has an end.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import socket
import sys
import threading
import time
import types
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from rag_vs_ft import __version__, remote, settings
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.progress import Progress, silent

NAMES = ("local", "ray")
TRIES = 3
"""Workers that may die or fall silent over one shard before it is given up."""
START_SECONDS = 600.0
"""Time in which the first worker has to be there, its model loaded."""
SHARD_SECONDS = 1_800.0
"""Time that a shard may take."""


class Work(Protocol):
    """What is done to each shard. It is sent to the workers, so it holds plain data."""

    def open(self) -> Callable[[Any], Any]:
        """Load what is needed; returns what makes a result of a shard's data. Runs once in each worker."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the data, how messages name it, and its place among all (from 0)."""

    name: str
    data: Any
    number: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a shard."""

    shard: Shard
    result: Any


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A shard that could not be finished, and why."""

    shard: Shard
    reason: str


@dataclass(frozen=True, slots=True)
class WorkEngine:
    """Where shards are worked on. `workers` None: this process alone ("local"), or a worker for each CPU of the cluster ("ray");
    `address` None starts a cluster on this machine. Raises UserError for settings that cannot be."""

    name: str = "local"
    workers: int | None = None
    address: str | None = None
    start_seconds: float = START_SECONDS
    shard_seconds: float = SHARD_SECONDS

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UserError(f"there is no engine {self.name!r}", f"use one of: {', '.join(NAMES)}")
        if self.workers is not None and not 1 <= self.workers <= settings.MAX_THREADS:
            raise UserError(f"{self.workers} workers are out of range", f"use 1 to {settings.MAX_THREADS}")
        if self.address is not None and self.name != "ray":
            raise UserError("an address is that of a Ray cluster", "use it with --engine ray")

    @property
    def is_here(self) -> bool:
        """Whether this process alone does the work."""
        return self.name == "local" and (self.workers or 1) == 1

    def run(
        self, work: Work, shards: Iterable[Shard], *, here: Callable[[Any], Any] | None = None, progress: Progress = silent
    ) -> Iterator[Finished | Poisoned]:
        """Work on all shards; they come as they are finished. Shards are taken from their iterator when a worker is free.

        `here` is an opened `work` of this process, for the engine that is this process. Raises UserError when no worker can be
        had, and whatever UserError the work raises, since that is about the input or the model and not about a shard.
        """
        if self.is_here:
            return _run_here(here or work.open(), shards)
        pool = WorkerPool(self, work)
        return pool.run(shards, progress, last=True)


HERE = WorkEngine()
"""This process alone."""


def in_order(outcomes: Iterable[Finished | Poisoned]) -> Iterator[Finished | Poisoned]:
    """The outcomes in the order of their shards' numbers, each as soon as those before it are there."""
    early: dict[int, Finished | Poisoned] = {}
    number = 0
    for outcome in outcomes:
        early[outcome.shard.number] = outcome
        while number in early:
            yield early.pop(number)
            number += 1


def require_all(poisoned: Sequence[Poisoned], total: int, hint: str) -> None:
    """Raise CheckFailed when shards could not be finished, naming the first ones."""
    if poisoned:
        shown = "\n".join(f"  {one.shard.name}: {one.reason}" for one in poisoned[:10])
        raise CheckFailed(f"{len(poisoned)} of {total} shards could not be finished; the others were:\n{shown}", hint)


def _run_here(ask: Callable[[Any], Any], shards: Iterable[Shard]) -> Iterator[Finished | Poisoned]:
    for shard in shards:
        try:
            result = ask(shard.data)
        except UserError:
            raise
        except Exception as error:
            yield Poisoned(shard, _reason(error))
        else:
            yield Finished(shard, result)


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__


# --- workers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Event:
    """News of a worker: it is "ready" for its first shard, "finished" one, or "raised" over it; it "died", or its user is "told"
    an error (message, hint)."""

    worker: int
    kind: str
    value: Any = None


class _Crew(Protocol):
    """Workers by number."""

    size: int

    def hire(self, worker: int) -> None:
        """Begin to start a worker."""

    def give(self, worker: int, data: Any) -> None:
        """Let a worker that is ready work on a shard."""

    def wait(self, seconds: float) -> list[_Event]:
        """News, after so many seconds at most."""

    def dismiss(self, worker: int) -> None:
        """End a worker, whatever it does."""

    def lacking(self) -> str:
        """Why no worker may have come up."""

    def close(self) -> None:
        """End all of them."""


@dataclass
class _Books:
    """Who does what: workers that start, are idle, or are busy with a shard until a time."""

    starting: dict[int, float] = field(default_factory=dict)
    idle: list[int] = field(default_factory=list)
    busy: dict[int, tuple[Shard, float]] = field(default_factory=dict)
    again: deque[Shard] = field(default_factory=deque)
    lost: Counter[int] = field(default_factory=Counter)
    hired: int = 0


class WorkerPool:
    """Workers that stay for several runs of one work, until it is closed. Raises UserError when a cluster cannot be joined."""

    def __init__(self, engine: WorkEngine, work: Work) -> None:
        self._engine = engine
        self._crew: _Crew = _RayCrew(work, engine) if engine.name == "ray" else _ProcessCrew(work, engine)
        self._books = _Books()
        self.closed = False

    def run(self, shards: Iterable[Shard], progress: Progress = silent, *, last: bool = False) -> Iterator[Finished | Poisoned]:
        """As `WorkEngine.run`. The workers end with the `last` run, and with one that is left before its end."""
        whole = False
        try:
            yield from _scheduled(self._crew, self._books, self._engine, shards, progress)
            whole = True
        finally:
            if last or not whole:
                self.close()

    def close(self) -> None:
        """End the workers."""
        self._crew.close()
        self.closed = True


def _scheduled(
    crew: _Crew, books: _Books, engine: WorkEngine, shards: Iterable[Shard], progress: Progress
) -> Iterator[Finished | Poisoned]:
    source, exhausted = iter(shards), False
    failed_starts = 0
    books.lost.clear()

    def hire() -> None:
        books.hired += 1
        books.starting[books.hired] = time.monotonic() + engine.start_seconds
        crew.hire(books.hired)

    def lose(worker: int, why: str) -> Poisoned | None:
        """A worker is gone; its shard is given out again, or given up."""
        crew.dismiss(worker)
        shard, _ = books.busy.pop(worker)
        books.lost[id(shard)] += 1
        hire()
        if books.lost[id(shard)] < TRIES:
            progress("engine", detail=f"{shard.name}: {why}; it is given to another worker")
            books.again.append(shard)
            return None
        return Poisoned(shard, f"{why}, {TRIES} times")

    if not books.hired:
        for _ in range(crew.size):
            hire()
    while True:
        while books.idle:
            shard = books.again.popleft() if books.again else next(source, None)
            if shard is None:
                exhausted = True
                break
            worker = books.idle.pop()
            books.busy[worker] = (shard, time.monotonic() + engine.shard_seconds)
            crew.give(worker, shard.data)
        if exhausted and not books.busy and not books.again:
            return
        ends = [end for _, end in books.busy.values()] or list(books.starting.values())
        if not ends:
            raise UserError("no worker is left", crew.lacking())
        for event in crew.wait(max(0.0, min(ends) - time.monotonic())):
            if event.kind == "told":
                raise UserError(*event.value)
            if event.worker in books.starting:
                del books.starting[event.worker]
                if event.kind == "ready":
                    books.idle.append(event.worker)
                    continue
                failed_starts += 1
                crew.dismiss(event.worker)
                if failed_starts < TRIES * crew.size:
                    hire()
                elif not (books.busy or books.idle or books.starting):
                    raise UserError(f"no worker could be started: {event.value}", crew.lacking())
            elif event.worker in books.busy:
                if event.kind == "died":
                    if given_up := lose(event.worker, f"its worker died ({event.value})"):
                        yield given_up
                    continue
                shard, _ = books.busy.pop(event.worker)
                books.idle.append(event.worker)
                yield Finished(shard, event.value) if event.kind == "finished" else Poisoned(shard, event.value)
            elif event.worker in books.idle and event.kind == "died":
                books.idle.remove(event.worker)
                crew.dismiss(event.worker)
                hire()
        now = time.monotonic()
        for worker in [worker for worker, (_, end) in books.busy.items() if end <= now]:
            if given_up := lose(worker, f"it took more than {engine.shard_seconds:g} s"):
                yield given_up
        if not books.busy and not books.idle and books.starting and min(books.starting.values()) <= now:
            raise UserError(f"no worker was ready within {engine.start_seconds:g} s", crew.lacking())


def _opened(work: Work, threads: int) -> Callable[[Any], Any]:
    """The work, opened in a worker that has so many threads for itself."""
    settings.quiet_dependencies()
    os.environ["RAG_VS_FT_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    return work.open()


def _answered(ask: Callable[[Any], Any], data: Any) -> tuple[str, Any]:
    """What a worker says of a shard."""
    try:
        return "finished", ask(data)
    except UserError as error:
        return "told", (error.message, error.hint)
    except Exception as error:
        return "raised", _reason(error)


# --- processes of this machine ----------------------------------------------------------------------------------------


def _serve(connection: Any, work: Work, threads: int) -> None:
    """A worker process: it opens the work, then answers until its connection is closed."""
    try:
        ask = _opened(work, threads)
        connection.send(("ready", None))
        while True:
            connection.send(_answered(ask, connection.recv()))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except UserError as error:
        connection.send(("told", (error.message, error.hint)))
    except Exception as error:
        connection.send(("died", _reason(error)))


_STARTING = threading.Lock()


@contextmanager
def _no_main_script() -> Iterator[None]:
    """Processes started inside do not run the caller's script again: a page of the app runs only there, and a short script may
    lack the guard against it. What a worker needs is imported by name."""
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


class _ProcessCrew:
    """Processes of this machine, each with a connection."""

    def __init__(self, work: Work, engine: WorkEngine) -> None:
        self.size = engine.workers or 1
        self._threads = max(1, settings.threads() // self.size)
        self._work = work
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, tuple[Any, Any]] = {}

    def hire(self, worker: int) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work, self._threads), daemon=True)
        with _no_main_script():
            process.start()
        theirs.close()
        self._processes[worker] = process, ours

    def give(self, worker: int, data: Any) -> None:
        with suppress(OSError):  # it died, as the next wait finds
            self._processes[worker][1].send(data)

    def wait(self, seconds: float) -> list[_Event]:
        by_connection: dict[Any, int] = {connection: worker for worker, (_, connection) in self._processes.items()}
        heard: list[Any] = multiprocessing.connection.wait(list(by_connection), seconds)
        events = []
        for connection in heard:
            worker = by_connection[connection]
            try:
                kind, value = connection.recv()
            except (EOFError, OSError):
                process, _ = self._processes[worker]
                process.join(5)
                kind, value = "died", f"exit code {process.exitcode}"
            events.append(_Event(worker, kind, value))
        return events

    def dismiss(self, worker: int) -> None:
        process, connection = self._processes.pop(worker)
        connection.close()
        process.kill()
        process.join(5)

    def lacking(self) -> str:
        return "see the message above, and free some memory"

    def close(self) -> None:
        for worker in list(self._processes):
            self.dismiss(worker)


# --- a Ray cluster ----------------------------------------------------------------------------------------------------


class _RayCrew:
    """Actors of a Ray cluster, of one CPU each, so that nodes of one CPU have room for one."""

    def __init__(self, work: Work, engine: WorkEngine) -> None:
        settings.quiet_dependencies()
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError as error:
            raise UserError("ray is not installed", "pip install 'rag-vs-ft[ray]'") from error
        self._ray = ray
        self._mine = not ray.is_initialized()
        if self._mine:
            _join(ray, engine)
        try:
            _require_here(ray)
        except UserError:
            if self._mine:
                ray.shutdown()
            raise
        cpus = int(ray.cluster_resources().get("CPU", 1))
        self.size = engine.workers or max(1, cpus)
        self._work = ray.put(work)
        self._actor: Any = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}

    def hire(self, worker: int) -> None:
        actor = self._actors[worker] = self._actor.remote()
        self._asked[actor.ready.remote(self._work, __version__)] = worker

    def give(self, worker: int, data: Any) -> None:
        self._asked[self._actors[worker].answer.remote(data)] = worker

    def wait(self, seconds: float) -> list[_Event]:
        if not self._asked:
            time.sleep(min(seconds, 0.1))
            return []
        done, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=seconds)
        events = []
        for reference in done:
            worker = self._asked.pop(reference)
            try:
                kind, value = self._ray.get(reference, timeout=60)
            except self._ray.exceptions.RayError as error:
                kind, value = "died", f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:300]}"
            events.append(_Event(worker, kind, value))
        return events

    def dismiss(self, worker: int) -> None:
        self._asked = {reference: who for reference, who in self._asked.items() if who != worker}
        self._ray.kill(self._actors.pop(worker), no_restart=True)

    def lacking(self) -> str:
        free = self._ray.available_resources().get("CPU", 0)
        total = self._ray.cluster_resources().get("CPU", 0)
        return f"the cluster has {total:g} CPUs, {free:g} of them free, and each worker needs one: see `ray status`"

    def close(self) -> None:
        for worker in list(self._actors):
            self.dismiss(worker)
        if self._mine:
            self._ray.shutdown()


class _Actor:
    """A worker on a node of the cluster."""

    def ready(self, work: Work, version: str) -> tuple[str, Any]:
        if version != __version__:
            return "told", (f"a node has rag-vs-ft {__version__}, and here is {version}", "install one version on all nodes")
        try:
            self._ask = _opened(work, 1)
        except UserError as error:
            return "told", (f"on a node: {error.message}", error.hint)
        except Exception as error:
            return "died", _reason(error)
        return "ready", None

    def answer(self, data: Any) -> tuple[str, Any]:
        return _answered(self._ask, data)


def _join(ray: Any, engine: WorkEngine) -> None:
    """Connect to the cluster, or start one on this machine."""
    hint = "start one with `ray start --head`, or leave --address out to use this machine alone"
    quiet = {"include_dashboard": False} if engine.address is None else {}
    if engine.address not in (None, "auto"):
        host, _, port = str(engine.address).removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"{engine.address!r} is not the address of a cluster", "write it as HOST:PORT, or auto")
        _require_allowed(host.strip("[]"))
        try:
            socket.create_connection((host.strip("[]"), int(port)), 5).close()
        except OSError as error:
            raise UserError(f"nothing answers at {engine.address}: {error.strerror or error}", hint) from error
    try:
        ray.init(address=engine.address or "local", log_to_driver=False, logging_level="ERROR", **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(f"the Ray cluster cannot be used: {_reason(error)}", hint) from error


def _require_allowed(host: str) -> None:
    if not remote.is_here(host) and host not in _own_addresses() and not settings.remote_allowed():
        raise UserError(
            f"{host} is not this machine, and documents and questions would be sent there",
            "allow it: --allow-remote (or RAG_VS_FT_ALLOW_REMOTE=1)",
        )


def _own_addresses() -> set[str]:
    import psutil

    return {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}


def _require_here(ray: Any) -> None:
    """Raise UserError when a node of the cluster is another machine, unless that is allowed."""
    for node in ray.nodes():
        if node["Alive"]:
            _require_allowed(node["NodeManagerAddress"])
