"""A small corpus, a tiny preset, and a base model that they made: everything is real, nothing is fetched."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import train

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.training.train import RunResult

PRESET = """
window = 96
rows_per_step = 4
batch_size = 2
learning_rate = 3e-3
warmup_steps = 2
eval_every = 5
log_every = 1
steps = 20
bf16 = false
validation_fraction = 0.15
{base}
[scratch]
tokenizer = "corpus"
vocab_size = 320
layers = 2
heads = 2
width = 32
dropout = 0.1

[finetune]
[lora]
lora_rank = 2
lora_alpha = 4
[instruct]
"""
THINGS = ["gateway", "vault", "cluster", "registry", "subnet", "policy", "secret", "node", "pool", "image", "token", "queue"]
VERBS = ["opens", "rotates", "stores", "checks", "deletes", "scales", "limits", "signs", "copies", "restarts"]


def sentence(rng: random.Random) -> str:
    return f"The {rng.choice(THINGS)} {rng.choice(VERBS)} the {rng.choice(THINGS)} after {rng.randrange(2, 90)} days."


@pytest.fixture(scope="session")
def base_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the corpus "docs": 24 articles of invented sentences."""
    root = tmp_path_factory.mktemp("home")
    source = root / "source"
    source.mkdir()
    for number in range(24):
        rng = random.Random(number)
        text = "\n\n".join(" ".join(sentence(rng) for _ in range(4)) for _ in range(4))
        (source / f"article-{number:02}.md").write_text(f"# Article {number}\n\n{text}\n", encoding="utf-8")
    store.add("docs", str(source), home=settings.home(root))
    return root


@pytest.fixture(scope="session")
def preset_file(base_home: Path) -> str:
    path = base_home / "tiny.toml"
    path.write_text(PRESET.format(base=""), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def straight(base_home: Path, preset_file: str) -> RunResult:
    """20 steps from scratch in one go."""
    return train("scratch", "docs", preset_file, "straight", home=base_home)


@pytest.fixture(scope="session")
def plain(base_home: Path, preset_file: str) -> RunResult:
    """A few steps from scratch without dropout: a base to train further."""
    over = {"dropout": "0", "steps": "5"}
    return train("scratch", "docs", preset_file, "plain", overrides=over, home=base_home)


@pytest.fixture(scope="session")
def base_preset_file(base_home: Path, plain: RunResult) -> str:
    """The tiny preset for the arms that train the run `plain` further."""
    path = base_home / "further.toml"
    path.write_text(PRESET.format(base='base = "plain"'), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def alpaca_file(base_home: Path) -> Path:
    """60 records whose responses have from 2 to some 40 tokens."""
    rng = random.Random(5)
    records = []
    for number in range(60):
        output = " ".join(rng.choice(THINGS) for _ in range(1 + number % 9))
        records.append({"instruction": f"Name it: {number}?", "input": "", "output": output})
    path = base_home / "alpaca.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python code in a new process, or in several below a launcher given as module and arguments."""

    def run(code: str, *launcher: str, **environment: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.py"
        script.write_text(code, encoding="utf-8")
        command = [sys.executable, *(["-m", *launcher] if launcher else []), str(script)]
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH", "")]))
        variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAG_VS_FT_THREADS": "1", **environment}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=variables, start_new_session=True, **pipes) as process:
            try:
                out, err = process.communicate(timeout=150)
            finally:
                with contextlib.suppress(ProcessLookupError):  # a launcher that is killed leaves its workers
                    os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return run
