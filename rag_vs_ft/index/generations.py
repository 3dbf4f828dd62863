"""An index on disk: immutable generations, and one pointer file that says which of them answers.

    indexes/NAME/gen-000042/{manifest.json, ...}     a whole index, never written to again
    indexes/NAME/CURRENT                             the name of the generation that answers
    indexes/NAME/lock                                held by the one process that builds

A generation is written under a temporary name, flushed to disk with its manifest last, renamed, and only then pointed to.
Whenever a build dies, a reader finds either the old generation or the new one, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.settings import Home, check_name

FORMAT = 1
KEEP = 2
"""Generations kept: the one that answers and the one before it, for `rollback`."""

_GENERATION = re.compile(r"gen-(\d{6})")


@dataclass(frozen=True, slots=True)
class Generation:
    """One whole index on disk and its manifest."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """`gen-000042`."""
        return self.folder.name


def index_folder(name: str, home: Home, *, must_exist: bool = True) -> Path:
    """The folder of an index; raises UserError with the command that builds it when there is none."""
    folder = home.indexes / check_name("index", name)
    if must_exist and not folder.is_dir():
        known = ", ".join(list_indexes(home)) or "none yet"
        raise UserError(f"there is no index {name!r} under {home.indexes} (there: {known})", f"rag-vs-ft index build {name}")
    return folder


def list_indexes(home: Home) -> list[str]:
    """Names of the indexes that have at least one generation."""
    if not home.indexes.is_dir():
        return []
    return sorted(folder.name for folder in home.indexes.iterdir() if folder.is_dir() and _names(folder))


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Hold the index's lock; raises Busy when another process holds it. A dead process holds nothing."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(f"another process is building {folder.name}", "wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def publish(folder: Path, write: Callable[[Path], dict[str, Any]]) -> Generation:
    """Let `write` fill a temporary folder and return its manifest, then make that the generation that answers.

    The caller holds the lock. When `write` raises, nothing has changed.
    """
    sweep(folder)
    number = max((int(name[4:]) for name in _names(folder)), default=0) + 1
    final = folder / f"gen-{number:06d}"
    temporary = folder / f"{final.name}.tmp"
    temporary.mkdir()
    try:
        manifest = write(temporary)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT,
            "generation": final.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **manifest,
            "files": {
                path.relative_to(temporary).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files
            },
        }
        for path in files:
            _flush(path)
        _write(temporary / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
        for path in [inner for inner in temporary.rglob("*") if inner.is_dir()]:
            _flush(path)
        _flush(temporary)
        temporary.replace(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(folder)
    point_to(folder, final.name)
    sweep(folder)
    return Generation(final, manifest)


def point_to(folder: Path, name: str) -> None:
    """Make generation `name` the one that answers, in one step."""
    temporary = folder / "CURRENT.tmp"
    _write(temporary, name + "\n")
    temporary.replace(folder / "CURRENT")
    _flush(folder)


def mend(folder: Path, generation: Generation) -> None:
    """Finish what a process left that was killed while it published `generation`; the caller holds the lock."""
    if _pointed(folder) != generation.name:
        point_to(folder, generation.name)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove what a killed build left, and generations older than the last `KEEP`; the caller holds the lock.

    A reader that still has a removed generation open keeps its memory-mapped files.
    """
    for path in folder.glob("gen-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / "CURRENT.tmp").unlink(missing_ok=True)
    current = _pointed(folder)
    for name in _names(folder)[:-KEEP]:
        if name != current:
            shutil.rmtree(folder / name, ignore_errors=True)


def current(folder: Path) -> Generation:
    """The generation that answers.

    When the pointer or the generation is damaged (a missing file, a wrong size, a bad manifest), the newest whole one is used
    and a warning is logged. Sizes are compared every time, hashes by `verify`.
    """
    import logging

    pointed = _pointed(folder)
    names = _names(folder)
    order = [*([pointed] if pointed in names else []), *(name for name in reversed(names) if name != pointed)]
    faults = [] if pointed in names else [f"CURRENT names {pointed!r}, which is not there"]
    for name in order:
        try:
            generation = _read(folder / name)
        except CheckFailed as error:
            faults.append(error.message)
            continue
        if faults:
            logging.getLogger("rag_vs_ft").warning("index %s: %s; answering from %s", folder.name, "; ".join(faults), name)
        return generation
    if not names:
        raise UserError(f"the index {folder.name!r} has no generation yet", f"rag-vs-ft index build {folder.name}")
    raise CheckFailed(
        f"no generation of index {folder.name!r} is whole: {'; '.join(faults)}", f"rag-vs-ft index build {folder.name}"
    )


def all_generations(folder: Path) -> list[Generation]:
    """Every readable generation, oldest first."""
    found = []
    for name in _names(folder):
        try:
            found.append(_read(folder / name))
        except CheckFailed:
            continue
    return found


def unreadable(folder: Path) -> list[str]:
    """Why each generation that cannot be opened cannot be."""
    faults = []
    for name in _names(folder):
        try:
            _read(folder / name)
        except CheckFailed as error:
            faults.append(error.message)
    return faults


def verify(generation: Generation) -> list[str]:
    """Compare every file with the manifest; returns the faults, each naming its file."""
    faults = []
    listed = generation.manifest["files"]
    for name, expected in listed.items():
        path = generation.folder / name
        if not path.is_file():
            faults.append(f"{path}: missing")
        elif path.stat().st_size != expected["bytes"]:
            faults.append(f"{path}: {path.stat().st_size} bytes, expected {expected['bytes']}")
        elif _sha256(path) != expected["sha256"]:
            faults.append(f"{path}: its content has changed since it was built")
    there = {path.relative_to(generation.folder).as_posix() for path in generation.folder.rglob("*") if path.is_file()}
    faults += [f"{generation.folder / name}: not in the manifest" for name in sorted(there - set(listed) - {"manifest.json"})]
    return faults


def rollback(folder: Path) -> Generation:
    """Point to the newest whole generation before the current one; the caller holds the lock."""
    answering = _pointed(folder)
    for generation in reversed(all_generations(folder)):
        if generation.name < answering and not verify(generation):
            point_to(folder, generation.name)
            return generation
    raise UserError(f"index {folder.name!r} has no whole generation before {answering or 'the current one'}", "build it again")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While a file of a generation is read: what the library says of damage within (its size was right) becomes a CheckFailed."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # FAISS says the one; numpy, Arrow and JSON the other
        raise CheckFailed(
            f"{path} is damaged: {error}", "see `rag-vs-ft index verify NAME`, then roll back or build again"
        ) from error


def _read(folder: Path) -> Generation:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise CheckFailed(f"{folder.name} has format {manifest['format']}, this version reads {FORMAT}", "build it again")
        for name, expected in manifest["files"].items():
            size = (folder / name).stat().st_size
            if size != expected["bytes"]:
                raise CheckFailed(f"{folder / name} has {size} bytes, expected {expected['bytes']}", "build it again")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckFailed(f"{folder.name} is damaged: {error}", "build it again") from error
    return Generation(folder, manifest)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("gen-*") if _GENERATION.fullmatch(path.name) and path.is_dir())


def _pointed(folder: Path) -> str:
    try:
        return (folder / "CURRENT").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    """fsync a file or a folder; some systems cannot open a folder, and then the file system is trusted."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
