"""Each benchmark runs at its smallest, so that none rots. Their figures mean nothing here."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from rag_vs_ft import __version__, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.index import build

FOLDER = Path(__file__).parents[1] / "benchmarks"
SAMPLE = FOLDER.parent / "rag_vs_ft" / "sample"

SMALLEST: dict[str, str] = {
    "costs": "",
    "cuts": "--home {home} --corpus sample --cut 120 --cache {root}/vectors",
    "dialects": "{old}",
    "embedding": "--home {home} --index sample --chunks 2 --precision int8",
    "endurance": "--questions 2 --updates 1 --documents 2",
    "follow_ups": "--home {home} --index sample",
    "fuzz_readers": "--cases 6 markdown",
    "languages": "",
    "likelihood": "--model {model} --questions 1 --words 0",
    "pair_weight": "--home {home} sample {questions}",
    "query": "--home {home} --index sample --questions {questions} --peer-queries 1",
    "readers": "",
    "retrieval_choices": "--home {home} --set dev=sample={questions} --rows defaults",
    "sample_originality": "rag_vs_ft/sample/docs/aks",
    "scale": "vectors --home {home} --index sample --questions {questions} --work {root}/scale --rows 2000",
    "shards": "--home {home} --index sample --questions {questions} --shards 2",
    "threads": "--home {home} --index sample --questions {questions} --threads 2 --rounds 1",
    "training": "--steps 1 --rounds 1 --set rows_per_step=1 --set batch_size=1 --set window=32",
    "update": "{old} {new}",
}

LEFT_OUT = {
    "app": "starts a browser; tests/app does so too",
    "copied": "needs a trained run",
    "engines": "starts a Ray cluster; tests/test_engines.py does so too",
    "generation": "converts a model of 135 million parameters",
    "gpu": "starts seven processes; run it with --smallest",
    "lm_harness": "needs lm-evaluation-harness, which is not a dependency",
    "machine": "prints the first line of the others",
    "reproduce": "runs the demo; its reading of the published page is tested in test_readme.py",
    "reader_sizes": "needs finished evaluations and their question files",
}


def test_every_benchmark_is_run_or_said_to_be_left_out() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == SMALLEST.keys() | LEFT_OUT.keys()
    assert not SMALLEST.keys() & LEFT_OUT.keys()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home with an index of four documents of the sample, two versions of their folder, questions, a language model, and
    a folder in place of the documents that some benchmarks read beside the checkout."""
    root = tmp_path_factory.mktemp("benchmarks")
    home = settings.home(root / "home")
    documents = sorted((SAMPLE / "docs").rglob("*.md"))[:4]
    names = [document.relative_to(SAMPLE / "docs") for document in documents]
    for version in ("old", "new"):
        for document, name in zip(documents, names, strict=True):
            (root / version / name).parent.mkdir(parents=True, exist_ok=True)
            (root / version / name).write_text(document.read_text(encoding="utf-8")[:3000], encoding="utf-8")
    (root / "new" / names[0]).write_text("# Changed\n\nAnother text, of another day.\n", encoding="utf-8")
    store.add("sample", str(root / "old"), home=home)
    build.build("sample", "sample", build.Recipe(), home)
    asked = [
        {
            "id": str(at),
            "question": f"What does page {at} say?",
            "answer": "It says much.",
            "gold_documents": [name.as_posix()],
            "answerable": True,
            "source": "test",
            "split": "dev",
        }
        for at, name in enumerate(names)
    ]
    (root / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)) + "\n", encoding="utf-8")
    shared = root / "shared"
    shutil.copytree(root / "old", shared / "azure-docs" / "2026-08")
    shutil.copytree(root / "old", shared / "formats" / "mkdocs" / "docs" / "en")
    (shared / "formats" / "html").mkdir()
    (shared / "formats" / "html" / "page.html").write_text("<h1>Limits</h1><p>Five disks.</p>", encoding="utf-8")
    made = {name: str(root / name) for name in ("home", "old", "new", "shared")}
    model = tiny.save_llama(root / "model")
    return made | {"root": str(root), "questions": str(root / "questions.jsonl"), "model": str(model)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs_at_its_smallest(name: str, places: dict[str, str]) -> None:
    arguments = [argument.format(**places) for argument in shlex.split(SMALLEST[name])]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent), "RAG_VS_FT_SHARED": places["shared"]}
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *arguments],
        env=environment,
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    # 1 is a check that failed: a ratio under its bound, which a step of one row may well have, or words that two texts share.
    assert done.returncode in ((0, 1) if name in ("training", "sample_originality") else (0,)), done.stderr
    assert "Traceback" not in done.stderr
    assert f"rag_vs_ft {__version__}" in done.stdout, "the line about the machine"
