"""The experiments that come with the project run from the first command of [train] to the report, with tiny random models under
the catalogue's names."""

import shlex
import shutil
from pathlib import Path

import pytest
import tiny
from typer.testing import CliRunner

from rag_vs_ft import catalogue, pulling, settings
from rag_vs_ft.cli import app
from rag_vs_ft.corpus import store
from rag_vs_ft.evaluation.experiments import load_experiment
from rag_vs_ft.evaluation.harness import run_experiment
from rag_vs_ft.evaluation.heuristics import HEURISTICS
from rag_vs_ft.evaluation.measures import BITS
from rag_vs_ft.index import build

FOLDER = Path(__file__).parents[2] / "eval" / "experiments"
SMALL = {"steps": 2, "window": 384, "rows_per_step": 2, "batch_size": 2, "eval_every": 2, "warmup_steps": 0, "eval_rows": 2}
SMALL |= {"validation_fraction": 0.3}
SMALL_SCRATCH = {"layers": 1, "heads": 2, "width": 16, "vocab_size": 384}


def commands(line: str) -> list[list[str]]:
    """The words of each command of a line, without the program's name."""
    parts = [shlex.split(part) for part in line.split("&&")]
    assert all(words[0] == "rag-vs-ft" for words in parts)
    return [words[1:] for words in parts]


def smaller(words: list[str]) -> list[str]:
    """A training command with settings for seconds."""
    if words[0] != "train":
        return words
    settings_ = SMALL | (SMALL_SCRATCH if words[1] == "scratch" else {})
    return [*words, *(word for key, value in settings_.items() for word in ("--set", f"{key}={value}"))]


@pytest.fixture
def catalogue_of_tiny_models(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pulling, "_check_hashes", lambda known, place: None)  # they are hashes of the real weights
    gpt2 = tiny.save_gpt2(tmp_path / "made" / "gpt2", window=1024)
    # A tokenizer kept as OpenAI keeps it: two files.
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(gpt2).backend_tokenizer.model.save(str(gpt2))
    llama = tiny.save_llama(tmp_path / "made" / "llama", window=2048)
    for name, source in (
        ("gpt2", gpt2),
        ("gpt2-tokenizer", gpt2),
        ("open-llama-3b", llama),
        ("smollm2-135m-instruct", llama),
    ):
        pulling.pull(name, source=source)


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.toml")), ids=lambda file: file.stem)
def test_a_shipped_experiment_runs_with_what_its_own_commands_train(
    file, world, tmp_path, tiny_embedder, catalogue_of_tiny_models, monkeypatch
):
    experiment, _ = load_experiment(file)
    monkeypatch.chdir(tmp_path)
    home = settings.home(tmp_path)
    monkeypatch.setenv("RAG_VS_FT_HOME", str(tmp_path))
    store.add(experiment.corpus, str(world / "docs"), home=home)
    recipe = build.Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32)
    build.build(experiment.index, experiment.corpus, recipe, home)
    questions = tmp_path / "eval" / "questions"
    questions.mkdir(parents=True)
    for name in ("sample.jsonl", "azure-cloze.jsonl", "azure-faq.jsonl"):
        shutil.copy(world / "questions.jsonl", questions / name)

    runner = CliRunner()
    for run, line in experiment.train.items():
        for words in commands(line):
            done = runner.invoke(app, smaller(words), catch_exceptions=False)
            assert done.exit_code == 0, f"{run}: {done.output}"
        assert (home.runs / run / "best").exists()

    result = run_experiment(file, home=home, questions=[world / "questions.jsonl"], limit=3)
    assert not result.failed and not result.skipped
    assert [arm.name for arm in result.summary.arms] == [arm.name for arm in experiment.arms]
    readers = [arm for arm in result.summary.arms if arm.model not in HEURISTICS]
    assert all(arm.errors == 0 for arm in result.summary.arms) and all((arm.of(BITS).value or 0) > 0 for arm in readers)
    trained = {arm["arm"] for arm in result.summary.to_json()["arms"] if arm["cost"]["training_seconds"]}
    assert trained == {arm.name for arm in experiment.arms if arm.model in experiment.train}


def test_every_trained_arm_of_a_shipped_experiment_has_a_command_that_makes_it():
    for file in FOLDER.glob("*.toml"):
        experiment, _ = load_experiment(file)
        for run, line in experiment.train.items():
            *_, words = commands(line)
            assert words[:1] == ["train"] and words[words.index("--run") + 1] == run
            assert any(arm.model == run for arm in experiment.arms)
        for arm in experiment.arms:
            assert arm.model in experiment.train or arm.model in catalogue.CATALOGUE or arm.model in HEURISTICS
