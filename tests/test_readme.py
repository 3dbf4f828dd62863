"""Every command in the README and the guide is run, in their order, as a reader would; what needs the network is left out."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rag_vs_ft import settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/guide.md")


def commands(page: str) -> list[str]:
    """Command lines of the page's bash blocks, comments cut off."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [line.partition("  #")[0].rstrip() for line in lines if "needs the network" not in line]


def test_pages_name_only_verbs_that_exist() -> None:
    from typer.main import get_command

    from rag_vs_ft.cli import app

    root = get_command(app)
    for page in PAGES:
        for line in commands(page):
            words = shlex.split(line)
            if words[0] != "rag-vs-ft":
                continue
            group = root
            for word in words[1:]:
                if not hasattr(group, "commands"):
                    break
                assert word in group.commands, line
                group = group.commands[word]


def test_what_make_reproduce_measures_stands_on_the_page(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    reproduce = importlib.import_module("reproduce")
    page = reproduce.PAGE.read_text(encoding="utf-8")
    for name in (*reproduce.WAYS, reproduce.SEARCH):
        assert re.search(reproduce._INTERVAL, reproduce.row_of(page, name)), name
    with pytest.raises(LookupError, match="no such way"):
        reproduce.row_of(page, "no such way")
    assert reproduce.Figure("a", 0.5, 0.4, 0.6, 0.6).agrees and not reproduce.Figure("a", 0.5, 0.4, 0.6, 0.61).agrees


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_of_the_pages_runs(tmp_path) -> None:
    """In one home, in order; folders and files that the pages only stand for are made here."""
    folder = tmp_path / "path/to/your/folder"
    folder.mkdir(parents=True)
    for number in range(8):
        text = (
            f"# Pool {number}\n\nThe pool named p{number} holds at most {10 + number} nodes of the size Standard_D{number}s_v3.\n"
        )
        (folder / f"pool-{number}.md").write_text(text, encoding="utf-8")
    faq = "### YamlMime:FAQ\ntitle: FAQ\nsections:\n- name: A\n  questions:\n"
    faq += "  - question: How many?\n    answer: |\n      Ten [p](pool-1.md).\n"
    (folder / "faq.yml").write_text(faq, encoding="utf-8")
    checks = tmp_path / "path/to/knowledge-checks"
    checks.mkdir()
    quiz = "### YamlMime:ModuleUnit\ntitle: Check\nquiz:\n  questions:\n  - content: How many?\n    choices:\n"
    quiz += "    - content: One\n      isCorrect: false\n    - content: Two\n      isCorrect: true\n"
    (checks / "check.yml").write_text(quiz, encoding="utf-8")
    (tmp_path / "path/to/book.txt").write_text("CHAPTER I\n\nIt began.\n\nCHAPTER II\n\nIt went on.\n", encoding="utf-8")
    (tmp_path / "eval/questions").mkdir(parents=True)
    sample = ROOT / "rag_vs_ft/sample/questions.jsonl"
    (tmp_path / "eval/questions/sample.jsonl").write_bytes(sample.read_bytes())
    (tmp_path / "eval/experiments").symlink_to(ROOT / "eval/experiments")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/models").symlink_to(settings.cache_folder() / "models")
    environment = {**os.environ, "RAG_VS_FT_HOME": str(tmp_path), "RAG_VS_FT_CACHE": str(tmp_path / "cache")}
    environment.pop("RAG_VS_FT_THREADS", None)
    for page in PAGES:
        for line in commands(page):
            words = shlex.split(line)
            if words[0] != "rag-vs-ft" or words[1] in RUN_ELSEWHERE or {"az08", "nano"} & set(words) or "127.0.0.1:6" in line:
                continue
            _prepare(words, tmp_path)
            done = subprocess.run(
                [sys.executable, "-m", "rag_vs_ft", *words[1:]],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr}"


# Qdrant and Ray (127.0.0.1:6333 and :6379) have tests of their own.
RUN_ELSEWHERE = ("app", "serve", "mcp", "train", "sample", "eval", "report", "choose")
"""Verbs that run for minutes or until they are stopped; their own tests run them, and what asks the run they make."""


def _prepare(words: list[str], home: Path) -> None:
    """What a command of the pages takes for granted: a second generation to go back to, two versions of a corpus."""
    run = [sys.executable, "-m", "rag_vs_ft"]
    if words[1:3] == ["index", "rollback"]:
        (home / "path/to/your/folder/new.md").write_text("# New\n\nA new page.\n", encoding="utf-8")
        for verb in ("corpus", "index"):
            subprocess.run([*run, verb, "update", "docs", "--home", str(home)], check=True, capture_output=True)
    if words[1:4] == ["questions", "mine", "updates"]:
        for name, source in (("docs-june", "sample"), ("docs-august", "sample:update")):
            subprocess.run([*run, "corpus", "add", name, source, "--home", str(home)], check=True, capture_output=True)
