"""An index on disk: immutable generations, and one pointer file that says which of them answers.

    indexes/NAME/gen-000042/{manifest.json, ...}     a whole index, never written to again
    indexes/NAME/CURRENT                             the name of the generation that answers
    indexes/NAME/REJECTED                            the names of generations that were rolled back from
    indexes/NAME/lock                                held by the one process that builds

A generation is written under a temporary name, flushed to disk with its manifest last, renamed, and only then pointed to.
Whenever a build dies, a reader finds either the old generation or the new one, whole. A rejected generation never answers again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index.manifest import FileRecord, IndexManifest
from rag_vs_ft.settings import Home, check_name

KEEP = 2
"""Generations kept: the one that answers and the one before it, for `rollback`."""

_GENERATION = re.compile(r"gen-(\d{6})")


@dataclass(frozen=True, slots=True)
class Generation:
    """One whole index on disk and its manifest."""

    folder: Path
    manifest: IndexManifest

    @property
    def name(self) -> str:
        """`gen-000042`."""
        return self.folder.name


def index_folder(name: str, home: Home, *, must_exist: bool = True) -> Path:
    """The folder of an index; raises UserError with the command that builds it when it does not exist."""
    folder = home.indexes / check_name("index", name)
    if must_exist and not folder.is_dir():
        known = ", ".join(list_indexes(home)) or "none yet"
        raise UserError(f"there is no index {name!r} under {home.indexes} (there: {known})", f"rag-vs-ft index build {name}")
    return folder


def list_indexes(home: Home) -> list[str]:
    """Names of the indexes that have at least one generation."""
    try:
        folders = sorted(home.indexes.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(
            f"cannot read {home.indexes}: {error.strerror}", "check its permissions, or use another --home"
        ) from error
    return [folder.name for folder in folders if folder.is_dir() and _names(folder)]


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Hold the index's lock; raises Busy when another process holds it, UserError when the folder cannot be written."""
    with files.lock(folder / "lock", f"another process is building {folder.name}"):
        yield


def publish(folder: Path, write: Callable[[Path], IndexManifest]) -> Generation:
    """Let `write` fill a temporary folder and return its manifest, then make that the generation that answers.

    The caller holds the lock. When `write` raises, nothing has changed.
    """
    # A number is used once: a reader knows its generation by it, and a rejected one stays rejected.
    used = {*_names(folder), _pointed(folder), *_lines(folder / "REJECTED")}
    number = max((int(name[4:]) for name in used if _GENERATION.fullmatch(name)), default=0) + 1
    sweep(folder)
    final = folder / f"gen-{number:06d}"
    with files.publishing(final) as temporary:
        manifest = write(temporary)
        written = {path.relative_to(temporary).as_posix(): path for path in sorted(temporary.rglob("*")) if path.is_file()}
        manifest = replace(
            manifest,
            generation=final.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files={name: FileRecord(path.stat().st_size, files.sha256_file(path)) for name, path in written.items()},
        )
        files.write_record(temporary / "manifest.json", manifest.to_json())
    _point_to(folder, final.name)
    sweep(folder)
    return Generation(final, manifest)


def _point_to(folder: Path, name: str) -> None:
    """Make generation `name` the one that answers, in one step."""
    files.write_text(folder / "CURRENT", name + "\n")


def mend(folder: Path, generation: Generation) -> None:
    """Finish what a process left that was killed while it published `generation`; the caller holds the lock."""
    if _pointed(folder) != generation.name:
        _point_to(folder, generation.name)
    sweep(folder)


def sweep(folder: Path) -> None:
    """Remove what a killed build left, rejected generations, and those older than the last `KEEP`; the caller holds the lock.

    A reader that still has a removed generation open keeps its memory-mapped files.
    """
    for path in folder.glob("*.tmp"):
        files.remove(path)
    names, rejected, current = _names(folder), _rejected(folder), _pointed(folder)
    kept = {current, *[name for name in names if name not in rejected][-KEEP:]}
    for name in names:
        if name not in kept:
            files.discard(folder / name)


def current(folder: Path) -> Generation:
    """The generation that answers.

    When the pointer or the generation is damaged (a missing file, a wrong size, a bad manifest), the newest whole one that was
    not rejected is used and a warning is logged. Sizes are compared every time, hashes by `verify`.
    """
    pointed = _pointed(folder)
    names = _names(folder)
    rejected = _rejected(folder)
    order = [*([pointed] if pointed in names else []), *(name for name in reversed(names) if name not in {pointed, *rejected})]
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
    build = f"rag-vs-ft index build {folder.name}"
    if not names:
        raise UserError(f"the index {folder.name!r} has no generation yet", build)
    faults += [f"{name} was rolled back from" for name in names if name not in order]
    raise CheckFailed(f"no generation of index {folder.name!r} is whole: {'; '.join(faults)}", build)


def answers(generation: Generation) -> bool:
    """Whether this generation, which was read before, is the one that answers now.

    Of one that is pointed to and has all its files in their sizes the manifest is not read again: a page asks several times
    each time that it is drawn.
    """
    folder = generation.folder
    if _pointed(folder.parent) == generation.name and _damaged_file(folder, generation.manifest) is None:
        return True
    return current(folder.parent).name == generation.name


def all_generations(folder: Path) -> list[Generation]:
    """Every readable generation, oldest first."""
    return [generation for generation, _ in _opened(folder) if generation is not None]


def unreadable(folder: Path) -> list[str]:
    """Why each generation that cannot be opened cannot be."""
    return [fault for generation, fault in _opened(folder) if generation is None]


def _opened(folder: Path) -> Iterator[tuple[Generation | None, str]]:
    for name in _names(folder):
        try:
            yield _read(folder / name), ""
        except CheckFailed as error:
            yield None, error.message


def verify(generation: Generation) -> list[str]:
    """Compare every file with the manifest; returns the faults, each naming its file."""
    faults = []
    listed = generation.manifest.files
    for name, expected in listed.items():
        path = generation.folder / name
        try:
            if not path.is_file():
                faults.append(f"{path}: missing")
            elif path.stat().st_size != expected.bytes:
                faults.append(f"{path}: {path.stat().st_size} bytes, expected {expected.bytes}")
            elif files.sha256_file(path) != expected.sha256:
                faults.append(f"{path}: its content has changed since it was built")
        except OSError as error:
            faults.append(f"{path}: cannot be read ({error.strerror})")
    there = {path.relative_to(generation.folder).as_posix() for path in generation.folder.rglob("*") if path.is_file()}
    faults += [f"{generation.folder / name}: not in the manifest" for name in sorted(there - set(listed) - {"manifest.json"})]
    return faults


def verify_all(folder: Path) -> list[str]:
    """The faults of an index: of each of its generations, and of what says which one answers."""
    faults = [fault for generation in all_generations(folder) for fault in verify(generation)] + unreadable(folder)
    names, pointed, rejected = _names(folder), _pointed(folder), _lines(folder / "REJECTED")
    if pointed not in names:
        faults.append(f"{folder / 'CURRENT'}: it names {pointed!r}, which is not there")
    for name in names:
        if pointed in names and name > pointed and name not in rejected:
            faults.append(f"{folder / 'CURRENT'}: it names {pointed}, and {name} is newer and was not rolled back from")
    faults += [f"{folder / 'REJECTED'}: {line!r} names no generation" for line in rejected if not _GENERATION.fullmatch(line)]
    return faults


def rollback(folder: Path) -> Generation:
    """Point to the newest whole generation before the one that answers, and reject that one; the caller holds the lock.

    Raises UserError when there is no whole generation before it that was not rejected.
    """
    names, rejected = _names(folder), _rejected(folder)
    # A generation that is pointed to is rolled back from even when it is damaged: that may be the reason.
    answering = pointed if (pointed := _pointed(folder)) in names else current(folder).name
    for generation in reversed(all_generations(folder)):
        if generation.name < answering and generation.name not in rejected and not verify(generation):
            # The rejection first: a process that dies between the two has changed nothing that answers.
            lines = dict.fromkeys((*_lines(folder / "REJECTED"), answering))
            files.write_text(folder / "REJECTED", "".join(f"{line}\n" for line in lines))
            _point_to(folder, generation.name)
            return generation
    raise UserError(
        f"index {folder.name!r} has no whole generation before {answering}",
        f"build it again: rag-vs-ft index build {folder.name}",
    )


def _read(folder: Path) -> Generation:
    manifest = IndexManifest.read(folder / "manifest.json")
    if fault := _damaged_file(folder, manifest):
        raise CheckFailed(fault, f"rag-vs-ft index rollback {folder.parent.name}, or build the index again")
    return Generation(folder, manifest)


def _damaged_file(folder: Path, manifest: IndexManifest) -> str | None:
    """What is wrong with the first file that is missing or has another size; None when there is none."""
    for name, expected in manifest.files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            return f"cannot read {folder / name}: {error.strerror}"
        if size != expected.bytes:
            return f"{folder / name} has {size} bytes, expected {expected.bytes}"
    return None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if _GENERATION.fullmatch(path.name) and path.is_dir())
    except FileNotFoundError:
        return []


def _pointed(folder: Path) -> str:
    return next(iter(_lines(folder / "CURRENT")), "")


def _rejected(folder: Path) -> set[str]:
    """Names of the generations that were rolled back from; the one that is pointed to answers whatever was said of it."""
    return set(_lines(folder / "REJECTED")) - {_pointed(folder)}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return []
