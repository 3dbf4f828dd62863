"""What is different on macOS and Windows, faked here: nothing of this has run on those systems."""

from __future__ import annotations

import ast
import builtins
import os
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from rag_vs_ft import files, settings

PACKAGE = Path(__file__).parents[1] / "rag_vs_ft"
UNIX_ALONE = {"resource", "fcntl", "pwd", "grp", "termios"}
WINDOWS_ALONE = {"msvcrt", "winreg", "_winapi"}


def test_modules_of_one_system_are_imported_where_they_may_be_missing() -> None:
    """Never at the top of a module, where their absence would stop the import."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not (UNIX_ALONE | WINDOWS_ALONE) & set(names), path


def test_no_process_is_forked() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "os.fork(" not in text and 'get_context("fork")' not in text and "preexec_fn" not in text, path


def test_a_folder_that_cannot_be_opened_is_not_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def windows(path: object, flags: int, *rest: object) -> int:
        if Path(str(path)).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return opened(str(path), flags)

    monkeypatch.setattr(os, "open", windows)
    files.write_text(tmp_path / "a", "text")
    with files.publishing(tmp_path / "made") as folder:
        files.write_text(folder / "part", "text")
    assert (tmp_path / "made" / "part").read_text() == "text"


def test_a_link_is_a_junction_where_links_are_for_administrators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str]] = []

    class Windows:
        @staticmethod
        def CreateJunction(target: str, link: str) -> None:
            made.append((target, link))

    def refused(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    (tmp_path / "checkpoints" / "one").mkdir(parents=True)
    monkeypatch.setattr(Path, "symlink_to", refused)
    with pytest.raises(OSError, match="privilege"):  # elsewhere it is an error
        files.point(tmp_path / "best", tmp_path / "checkpoints" / "one")
    monkeypatch.setitem(sys.modules, "_winapi", Windows)
    monkeypatch.setattr("rag_vs_ft.files.os.name", "nt")
    try:
        files.point(tmp_path / "best", tmp_path / "checkpoints" / "one")
    finally:
        monkeypatch.undo()
    assert made == [(str((tmp_path / "checkpoints" / "one").resolve()), str(tmp_path / "best"))]


def test_threads_are_counted_where_no_affinity_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAG_VS_FT_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert settings.threads() == (os.cpu_count() or 1)


def test_memory_is_measured_or_unknown_without_the_module_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_vs_ft import environment

    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name in UNIX_ALONE:
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    peak = environment.peak_memory("cpu")
    assert peak is None or peak > 0


@pytest.mark.parametrize("encoding", ["cp1252", pytest.param("cp437", marks=pytest.mark.slow)])
def test_a_console_of_another_encoding_shows_what_it_can(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "日本.md").write_text("# Ключ → 日本 \U0001f511\n\nText.\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "RAG_VS_FT_HOME": str(tmp_path / "home"), "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "rag_vs_ft", "corpus", "add", "docs", str(tmp_path / "docs")]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert b"1 documents" in done.stdout


@pytest.mark.parametrize("name", ["aux", "con", "a:b", "a\\b", "a/b", "..", "a b", "nul.txt", "é"])
def test_names_are_refused_that_some_system_has_no_file_for(name: str) -> None:
    from rag_vs_ft.errors import UserError

    if PureWindowsPath(name).is_reserved() or not name.isascii() or set(name) & set(":\\/ ") or name == "..":
        with pytest.raises(UserError):
            settings.check_name("corpus", name)
