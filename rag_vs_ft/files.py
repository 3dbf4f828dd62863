"""The one place that writes files: in one step, flushed to the disk, under a lock; and that reads back what was written so.

Everything that the product keeps goes through here, so a killed process leaves the old state or the new one, and a full disk or
a folder that cannot be written is an error that names the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import Busy, CheckFailed, UserError

# Python's own JSON reader recurses; nothing that is written here is nested deeper.
MAX_DEPTH = 100


def sha256_text(text: str) -> str:
    """Hex SHA-256 of the UTF-8 bytes of `text`; a lone surrogate counts as its three bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk. Windows cannot open a folder; there the file system is trusted."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems refuse to flush a folder.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let what the system refuses inside the block name `path`: a full disk says nothing of where it is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it takes the place of `path` in one step when the block ends.

    When the block raises, the temporary file is removed and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with naming(path):
            yield temporary
            fsync(temporary)
            temporary.replace(path)
            fsync(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8, line ends as given) in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def append_text(path: Path, text: str) -> None:
    """Add to the end of a text file (UTF-8, line ends as given) and flush it. A killed process may leave a line cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("a", encoding="utf-8", newline="") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def drop_half_line(path: Path) -> None:
    """Remove what stands after the last line end of a file that lines are added to: a killed process has left it."""
    data = path.read_bytes() if path.is_file() else b""
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file in one step; the keys keep their order."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent) + "\n")


@contextmanager
def publishing(final: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `final`, which must not exist, in one step when the block ends.

    Everything in it is flushed first. When the block raises, nothing is left. The caller holds the lock.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f"{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        inside = list(temporary.rglob("*"))
        for path in [path for path in inside if path.is_file()] + [path for path in inside if path.is_dir()]:
            fsync(path)
        fsync(temporary)
        temporary.replace(final)
        fsync(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def damage(folder: Path, expected: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What is wrong with the files of a manifest, or None when each has its `bytes` and its `sha256`."""
    for name, facts in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != facts["bytes"]:
            return f"{name} has {size:,} bytes, {facts['bytes']:,} were written"
        if sha256_file(path) != facts["sha256"]:
            return f"{name} has changed since it was written"
    return None


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below `folder` by its POSIX path, for a manifest that `damage` compares with."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in found}


@contextmanager
def lock(path: Path, busy: str, hint: str = "wait for it, or stop it") -> Iterator[None]:
    """Hold the lock file `path`. A process that dies holds nothing.

    Raises Busy with the sentence `busy`, and who holds the lock since when, when another process or thread holds it; UserError
    when the lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    holder = path.with_name(f"{path.name}.holder")
    held = FileLock(path, is_singleton=False, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=0)
    except Timeout:
        raise Busy(f"{busy}{_holder(holder)}", hint) from None
    except OSError as error:
        raise unusable(error) from error
    try:
        with suppress(OSError):  # Who holds it is a courtesy: a full disk must not stop a rollback.
            since = datetime.now(UTC).isoformat(timespec="seconds")
            holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        held.release()


def _holder(path: Path) -> str:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {int(known['pid'])} on {known['host']} since {known['since']})"
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def unusable(error: OSError) -> UserError:
    """What a user is told when the system refuses a file: which, why, and the next step."""
    hints = {
        errno.ENOSPC: "make room on that disk; nothing that was there is lost, and the same command goes on",
        errno.EDQUOT: "make room on that disk; nothing that was there is lost, and the same command goes on",
        errno.EROFS: "use a folder that can be written: --home FOLDER, or RAG_VS_FT_HOME and RAG_VS_FT_CACHE",
        errno.EACCES: "use a folder that you may write: --home FOLDER, or RAG_VS_FT_HOME and RAG_VS_FT_CACHE",
        errno.EPERM: "use a folder that you may write: --home FOLDER, or RAG_VS_FT_HOME and RAG_VS_FT_CACHE",
        errno.EIO: "the disk reports a fault: check it, then run the same command again",
    }
    hint = hints.get(error.errno or 0, "check that file or folder, then run the same command again")
    where = f"{error.filename}: " if error.filename else ""
    return UserError(f"{where}{error.strerror or error}", hint)


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """The JSON object in a file of the product's own.

    Raises FileNotFoundError when there is none, and CheckFailed with `hint` when it cannot be read, is not JSON, is nested
    deeper than `MAX_DEPTH` or is not an object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise CheckFailed(f"cannot read {path}: {error}", hint) from error
    return json_object(text, str(path), hint)


def json_object(text: str, where: str, hint: str) -> dict[str, Any]:
    """The JSON object that `text` is; `where` names it in the CheckFailed that anything else raises."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise CheckFailed(f"cannot read {where}: {reason}", hint) from error
    if not isinstance(value, dict):
        raise CheckFailed(f"cannot read {where}: it is a JSON {_kind(value)}, not an object", hint)
    if _deeper(value, MAX_DEPTH):
        raise CheckFailed(f"cannot read {where}: it is nested more than {MAX_DEPTH} deep", hint)
    return value


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "string", bool: "truth value", int: "number", float: "number", type(None): "null"}
    return kinds.get(type(value), type(value).__name__)


def _deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        inner = [part for outer in level if isinstance(outer, (dict, list)) for part in _parts(outer)]
        if not inner:
            return False
        level = inner
    return any(isinstance(part, (dict, list)) for part in level)


def _parts(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
