"""The one place that writes, flushes, renames, removes, locks and hashes files.

Everything that the product keeps goes through here, so a killed process leaves the old state or the new one, and a full disk or
a folder that cannot be written is an error that names the file. Libraries that write files themselves are given a path by
`replacing` or inside `publishing`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rag_vs_ft.errors import Busy, CheckFailed, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOK_SECONDS = 0.25
"""How long a lock is waited for: `locked` takes it for a moment, which must not make another process Busy."""
# Python's own JSON reader recurses; nothing that is written here is nested deeper.
MAX_DEPTH = 100
SEAL = "content_sha256"
"""The last key of what `write_record` writes: a hash of all the others, so that a changed digit is noticed."""


def sha256(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_text(text: str) -> str:
    """Hex SHA-256 of the UTF-8 bytes of `text`; a lone surrogate counts as its three bytes."""
    return sha256(text.encode("utf-8", "surrogatepass"))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- the steps that touch the disk: all that follows is made of these -------------------------------------------------

fault: Callable[[str, Path], None] | None = None
"""Tests put a function here that is called before each step ("write", "fsync", "rename", "unlink", "mkdir", "link") with its
path. It may raise what a disk raises, or end the process."""


def _step(what: str, path: Path) -> None:
    if fault is not None:
        fault(what, path)


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk. Windows cannot open a folder; there the file system is trusted."""
    _step("fsync", path)
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


def rename(source: Path, target: Path) -> None:
    """Give a file, link or folder another name on the same disk in one step; a file or link called `target` is replaced."""
    _step("rename", target)
    source.replace(target)
    fsync(target.parent)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; nothing to do when it is absent."""
    if not os.path.lexists(path):
        return
    _step("unlink", path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove what nobody needs any more, as far as the system lets it go."""
    with suppress(OSError):
        remove(path)
    if path.is_dir() and not path.is_symlink():  # one file of it could not be removed: the others still can
        shutil.rmtree(path, ignore_errors=True)


def cut(path: Path, size: int) -> None:
    """Drop what a file has beyond `size` bytes."""
    _step("write", path)
    with path.open("r+b") as file:
        file.truncate(size)


def append_bytes(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Add to the end of a file, made with its folder when absent; a killed process may leave `data` cut off.

    Without `flush` a power failure may lose it as well: for what can be computed again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("ab") as out:
        if fault is not None:  # half of it stands there when the process dies
            out.write(data[: len(data) // 2])
            out.flush()
            _step("write", path)
            data = data[len(data) // 2 :]
        out.write(data)
        if flush:
            out.flush()
            _step("fsync", path)
            os.fsync(out.fileno())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a system error inside the block name `path`: that of a full disk names no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


# --- whole files ------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` for a library to write to; it takes the place of `path` when the block ends.

    When the block raises, the temporary file is removed and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with naming(path):
            _step("write", temporary)
            yield temporary
            publish(temporary, path)
    except BaseException:
        discard(temporary)
        raise


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Yield an empty file to write bytes to; it takes the place of `path` when the block ends."""
    with replacing(path) as temporary, temporary.open("wb") as out:
        yield out
        out.close()  # what the disk refuses is told here, before the file takes its place


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one step."""
    with writing(path) as out:
        out.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8, line ends as given) in one step."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file in one step; the keys keep their order."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent) + "\n")


def write_record(path: Path, record: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write a JSON object with a seal, which `read_json` checks: for what no manifest has a hash of."""
    write_json(path, sealed(record), indent=indent)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file in one step."""
    import numpy as np

    with writing(path) as out:
        np.save(out, array, allow_pickle=False)


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes in one step."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def append_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Add to the end of a text file (UTF-8, line ends as given), as `append_bytes` does."""
    append_bytes(path, text.encode(), flush=flush)


def drop_half_line(path: Path) -> None:
    """Remove what a killed process left after the last line end of a file that lines are added to."""
    data = path.read_bytes() if path.is_file() else b""
    if data and not data.endswith(b"\n"):
        cut(path, data.rfind(b"\n") + 1)


# --- whole folders ----------------------------------------------------------------------------------------------------


def publish(made: Path, final: Path) -> None:
    """Flush a file, or a folder with all that is in it, then rename it to `final`. The caller holds the lock."""
    if made.is_dir():
        inside = list(made.rglob("*"))
        for path in [path for path in inside if path.is_file()] + [path for path in inside if path.is_dir()]:
            fsync(path)
    fsync(made)
    rename(made, final)


@contextmanager
def publishing(final: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `final`, which must not exist, in one step when the block ends.

    Everything in it is flushed first. When the block raises, nothing is left. The caller holds the lock.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f"{final.name}.tmp")
    discard(temporary)
    _step("mkdir", temporary)
    temporary.mkdir()
    try:
        yield temporary
        publish(temporary, final)
    except BaseException:
        discard(temporary)
        raise


def sweep_scratch(folder: Path) -> None:
    """Remove what dead processes have left of `scratch` in `folder`."""
    for left in folder.glob(".scratch-*-*"):
        import psutil

        if not psutil.pid_exists(int(number) if (number := left.name.split("-")[1]).isdigit() else -1):
            discard(left)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Yield an empty folder below `folder` that is removed when the block ends, with those that dead processes have left there.

    For what several processes may make at once, each for itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep_scratch(folder)
    made = folder / f".scratch-{os.getpid()}-{secrets.token_hex(4)}"
    _step("mkdir", made)
    made.mkdir()
    try:
        yield made
    finally:
        discard(made)


def point(link: Path, folder: Path) -> None:
    """Let `link` lead to `folder`, which lies below the link's own folder, replacing an old link in one step.

    Windows lets only administrators make symbolic links; there it is a junction, which cannot be replaced in one step.
    """
    temporary = link.with_name(f".{link.name}.tmp")
    remove(temporary)
    _step("link", link)
    try:
        temporary.symlink_to(folder.relative_to(link.parent), target_is_directory=True)
    except OSError:
        if os.name != "nt":
            raise
        import _winapi

        if os.path.lexists(link):
            link.rmdir()  # a junction goes as an empty folder does; what it leads to stays
        _winapi.CreateJunction(str(folder.resolve()), str(link))  # type: ignore[attr-defined, unused-ignore]
        return
    rename(temporary, link)


# --- manifests, locks, errors -----------------------------------------------------------------------------------------


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
        held.acquire(timeout=LOOK_SECONDS, poll_interval=0.01)
    except Timeout:
        raise Busy(f"{busy}{_holder(holder)}", hint) from None
    except OSError as error:
        raise unusable(error) from error
    try:
        with suppress(OSError):  # Who holds it is a courtesy: a full disk must not stop a rollback.
            since = datetime.now(UTC).isoformat(timespec="seconds")
            _step("write", holder)
            holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}), encoding="utf-8")
        yield
    finally:
        discard(holder)
        held.release()


def locked(path: Path) -> bool:
    """Whether a process or thread holds the lock file `path`; False where no lock can be made."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    held = FileLock(path, is_singleton=False, thread_local=False)
    try:
        held.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a folder that is gone or cannot be written
        return False
    held.release()
    return False


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

    Raises FileNotFoundError when the file is missing, and CheckFailed with `hint` when it cannot be read, is not JSON, is nested
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
    try:
        return unsealed(value)
    except ValueError as error:
        raise CheckFailed(f"{where} is damaged: {error}", hint) from error


def content_sha256(record: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a JSON object, whatever the order of its keys and its layout."""
    return sha256_text(json.dumps(json.loads(json.dumps(record)), sort_keys=True, separators=(",", ":")))


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with its seal as the last key."""
    return {**record, SEAL: content_sha256(record)}


def unsealed(record: dict[str, Any]) -> dict[str, Any]:
    """`record` without its seal; one of an earlier version has none and is taken as it is.

    Raises ValueError when the content is not what was sealed.
    """
    *_, last = record or [""]
    content = {key: value for key, value in record.items() if key != last}
    if SEAL in record:
        content = {key: value for key, value in record.items() if key != SEAL}
        if record[SEAL] != content_sha256(content):
            raise ValueError("its content is not what was written")
    elif isinstance(seal := record.get(last), str) and len(seal) == 64 and seal == content_sha256(content):
        raise ValueError("the name of its checksum has changed")
    else:
        return record
    return content


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
