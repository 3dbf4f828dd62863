"""`rag-vs-ft app`: where its files are, and what it says instead of starting."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rag_vs_ft.cli import app as _registered  # the package's Typer application hides the module of this name
from rag_vs_ft.cli import main
from rag_vs_ft.serving import OPTIONS

verb = sys.modules["rag_vs_ft.cli.app"]


@pytest.fixture
def run(monkeypatch, capsys):
    def go(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rag-vs-ft", "app", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out + captured.err

    return go


def test_help_has_an_example(run) -> None:
    code, said = run("--help")
    assert _registered is not verb and code == 0 and "rag-vs-ft app --port 8501" in said


def test_a_port_that_is_taken_or_is_none_is_told(run, home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said = run("--port", str(port), "--home", str(home.root))
        assert code == 2 and f"port {port} is taken" in said and f"--port {port + 1}" in said
    assert run("--port", "0")[0] == 2 and run("--port", "70000")[0] == 2


def test_a_wrong_number_of_threads_is_told_before_the_server_starts(run, monkeypatch, home) -> None:
    monkeypatch.setenv("RAG_VS_FT_THREADS", "many")
    code, said = run("--port", "8599", "--home", str(home.root))
    assert code == 2 and "RAG_VS_FT_THREADS" in said


def test_the_files_are_found_in_a_checkout_and_in_an_installed_package(tmp_path, monkeypatch) -> None:
    found = verb.find_main()
    assert found == Path(verb.__file__).parents[2] / "app" / "main.py"
    package = tmp_path / "site-packages" / "rag_vs_ft"
    (package / "cli").mkdir(parents=True)
    monkeypatch.setattr(verb, "__file__", str(package / "cli" / "app.py"))
    with pytest.raises(verb.UserError, match="not where they should be"):
        verb.find_main()
    shutil.copytree(found.parent, package / "_app")
    assert verb.find_main() == package / "_app" / "main.py"


def test_the_first_page_does_not_wait_for_training_and_evaluation(home) -> None:
    """They took a third of a first visit, for the name of the sample."""
    code = """
import sys
from streamlit.testing.v1 import AppTest
at = AppTest.from_file(sys.argv[1], default_timeout=60).run()
assert not at.exception and at.title[0].value == "Nothing has been indexed yet"
print([name for name in sys.modules if name.startswith(("rag_vs_ft.evaluation", "rag_vs_ft.training", "torch."))])
"""
    main_file = verb.find_main()
    environment = {
        **os.environ,
        "RAG_VS_FT_HOME": str(home.root),
        "PYTHONPATH": os.pathsep.join([str(main_file.parent), *sys.path]),
    }
    said = subprocess.run(
        [sys.executable, "-c", code, str(main_file)], capture_output=True, text=True, check=True, env=environment
    )
    assert said.stdout.strip() == "[]"


def test_nothing_is_reported_and_no_file_is_served() -> None:
    """The browser test checks the effect; this names the settings that must not be lost."""
    expected = {
        "server.enableStaticServing": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "viewer",
        "browser.gatherUsageStats": False,
        "runner.postScriptGC": False,
    }
    assert expected.items() <= OPTIONS.items()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--address", "0.0.0.0"], "without RAG_VS_FT_PASSWORD"),
        (["--host", "docs.example.org"], "without RAG_VS_FT_PASSWORD"),
        (["--base-path", "/a b"], "base path"),
        (["--base-path", "/../x"], "base path"),
        (["--address", "evil/../x"], "not an address"),
        (["--host", ""], "not an address"),
    ],
)
def test_what_may_not_be_served_is_told(run, home, words, says) -> None:
    code, said = run("--port", "8599", "--home", str(home.root), *words)
    assert code == 2 and says in said


def test_a_short_password_is_refused_and_none_stays_in_the_environment(run, home, monkeypatch) -> None:
    monkeypatch.setenv("RAG_VS_FT_PASSWORD", "short")
    code, said = run("--port", "8599", "--home", str(home.root), "--address", "0.0.0.0")
    assert code == 2 and "under 8 characters" in said and "short" not in said.replace("shorter", "")
    assert "RAG_VS_FT_PASSWORD" not in os.environ
