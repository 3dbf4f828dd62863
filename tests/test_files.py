"""What the product writes is whole or not there, and who holds a lock is told."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rag_vs_ft import files
from rag_vs_ft.errors import Busy, CheckFailed


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    files.write_record(target, {"is": "old"})
    with pytest.raises(RuntimeError), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(target, "") == {"is": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "gen"
    with pytest.raises(RuntimeError), files.publishing(final) as temporary:
        (temporary / "part").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "gen.tmp").mkdir()
    (tmp_path / "gen.tmp" / "left by a killed process").touch()
    with files.publishing(final) as temporary:
        (temporary / "part").write_text("whole")
    assert [path.name for path in final.iterdir()] == ["part"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "made with the folder" / "a.npy"
    files.write_array(target, np.arange(3))
    with pytest.raises(RuntimeError), files.writing(target) as out:
        out.write(b"half")
        raise RuntimeError
    assert np.load(target).tolist() == [0, 1, 2]
    files.copy(target, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == target.read_bytes()
    assert {path.name for path in tmp_path.rglob("*")} == {"made with the folder", "a.npy", "b"}


def test_files_grow_and_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines"
    for flush in (True, False):
        files.append_bytes(path, b"one\n", flush=flush)
    files.append_text(path, "hal")
    files.drop_half_line(path)
    assert path.read_bytes() == b"one\none\n"
    files.cut(path, 4)
    assert path.read_bytes() == b"one\n"


@pytest.mark.parametrize("remove", [files.remove, files.discard])
def test_removing_takes_a_link_and_not_what_it_leads_to(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    folder = tmp_path / "folder"
    files.write_text(folder / "inside" / "file", "kept")
    files.point(tmp_path / "link", folder)
    remove(tmp_path / "link")
    assert (folder / "inside" / "file").read_text() == "kept"
    remove(folder)
    remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / ".best.tmp").symlink_to("left by a killed process")
        files.point(tmp_path / "best", tmp_path / name)
        assert (tmp_path / "best").resolve() == tmp_path / name
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "best"}


def test_line_ends_are_written_as_given(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "one\r\ntwo\n")
    assert (tmp_path / "a").read_bytes() == b"one\r\ntwo\n"


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"""
import sys
from pathlib import Path
from rag_vs_ft import files
with files.lock(Path({str(path)!r}), "another process is building it"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with (
            pytest.raises(Busy, match=f"another process is building it .process {other.pid} on "),
            files.lock(path, "another process is building it"),
        ):
            pass
        other.kill()
    with files.lock(path, "busy"), pytest.raises(Busy, match=f"process {os.getpid()}"), files.lock(path, "busy"):
        pass
    with files.lock(path, "busy"):
        pass


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("null", "JSON null"),
        ("[1]", "JSON list"),
        ('{"a": 1', "line 1"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        ('{"a": ' + "[" * 150 + "]" * 150 + "}", "nested"),
        (b"\xff", "utf-8"),
    ],
)
def test_json_of_another_shape_is_named(tmp_path: Path, text: str | bytes, reason: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckFailed, match=reason) as raised:
        files.read_json(path, "build it again")
    assert str(path) in raised.value.message and raised.value.hint == "build it again"


def test_who_only_looks_at_a_lock_makes_nobody_busy(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not files.locked(path) and not path.exists()
    with files.lock(path, "busy"):
        assert files.locked(path)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            files.locked(path)

    looking = [threading.Thread(target=look) for _ in range(3)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(100):
            with files.lock(path, "busy"):
                pass
    finally:
        done.set()
        for thread in looking:
            thread.join()
    assert not files.locked(path)


def test_a_write_that_the_system_refuses_names_file_and_next_step() -> None:
    full = files.unusable(OSError(errno.ENOSPC, "No space left on device", "a/b"))
    assert "a/b" in full.message and "No space" in full.message and "make room" in full.hint


def test_a_changed_byte_a_missing_and_a_short_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "weights").write_bytes(bytes(100))
    manifest = files.listed(tmp_path)
    assert list(manifest) == ["in/weights"] and files.damage(tmp_path, manifest) is None
    (tmp_path / "in" / "weights").write_bytes(bytes(50) + b"1" + bytes(49))
    assert files.damage(tmp_path, manifest) == "in/weights has changed since it was written"
    (tmp_path / "in" / "weights").write_bytes(bytes(50))
    assert files.damage(tmp_path, manifest) == "in/weights has 50 bytes, 100 were written"
    (tmp_path / "in" / "weights").unlink()
    assert files.damage(tmp_path, manifest) == "in/weights is missing"


def test_a_full_disk_names_the_file_that_was_being_written(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (files.write_text, files.append_text):
        with pytest.raises(OSError) as error:
            write(tmp_path / "kept.txt", "text")
        assert error.value.filename == str(tmp_path / "kept.txt")
