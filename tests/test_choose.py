"""The whole comparison within a budget, on a corpus and models that are tiny and real."""

import json
import re
from dataclasses import replace

import pytest
from tiny import save_gpt2

from rag_vs_ft import choose as chooser
from rag_vs_ft import files, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation import checks
from rag_vs_ft.index import build

pytestmark = pytest.mark.slow  # models are trained and asked

PRESET = """
[scratch]
tokenizer = "corpus"
vocab_size = 300
layers = 1
heads = 2
width = 16
window = 256
steps = 4
rows_per_step = 2
batch_size = 2
learning_rate = 1e-3
eval_every = 2
"""
NAMES = [first + second for first in ("Ar", "Bel", "Cor", "Dun", "Eld", "Fir") for second in ("ano", "iva", "osk", "ume", "eth")]


def text(number: int, name: str) -> str:
    return (
        f"# {name}\n\n## Limits\n\nThe largest node pool of the service {name} can hold {40 + 3 * number} nodes in a region.\n\n"
        f"## Time\n\nA request that is sent to the service {name} is stopped after {200 + 7 * number} seconds by the gateway.\n"
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_embedder):
    """A home with a corpus and its index, a reader and a preset; the sources are in docs/."""
    root = tmp_path_factory.mktemp("choose")
    (root / "docs").mkdir()
    for number, name in enumerate(NAMES):
        (root / "docs" / f"{name}.md").write_text(text(number, name), encoding="utf-8")
    home = settings.home(root / "home")
    store.add("docs", str(root / "docs"), home=home)
    build.build("docs", "docs", build.Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    save_gpt2(root / "reader", window=1024)
    (root / "tiny.toml").write_text(PRESET, encoding="utf-8")
    return root, home


def run(world, **options):
    root, home = world
    return chooser.choose(
        "docs", home, **{"reader": str(root / "reader"), "train": {"scratch": str(root / "tiny.toml")}} | options
    )


@pytest.fixture(scope="module")
def chosen(world):
    return run(world, hours=0.5)


def test_a_refused_plan_trains_and_asks_nothing(world):
    _, home = world
    seen = []
    assert run(world, hours=0.4, run_name="planned", go_on=lambda plan: bool(seen.append(plan))) is None
    (plan,) = seen
    assert plan.training[0].steps == plan.training[0].wanted == 4 and plan.asking_seconds > 0 and not plan.left_out
    assert plan.dev_questions >= 5 and plan.test_questions >= 5
    assert "train    scratch" in str(plan) and "in all" in str(plan)
    assert not (home.runs / plan.training[0].run).exists() and not (home.results / "planned" / "summary.json").exists()


def test_everything_is_compared_and_written_down(world, chosen):
    _, home = world
    folder = home.results / "choose-docs"
    arms = {arm.name for arm in chosen.run.summary.scored}
    assert {"alone", "retrieval", "right-passage", "scratch", "string-match", "majority"} <= arms
    record = files.read_json(folder / "chosen.json", "")
    assert record == json.loads(json.dumps(chosen.to_json())) and record["verdict"] and record["more_hours"]
    gold = {"dev": set(), "test": set()}
    for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        gold[question["split"]].update(question["gold_documents"])
    assert gold["dev"] and gold["test"] and not gold["dev"] & gold["test"]
    assert "it took" in str(chosen) and "seconds for a right answer" in str(chosen)


def test_called_again_it_computes_nothing_anew(world, chosen):
    before = (chosen.run.folder / "predictions.jsonl").read_bytes()
    again = run(world, hours=0.5)
    assert again.plan == chosen.plan and (chosen.run.folder / "predictions.jsonl").read_bytes() == before
    with pytest.raises(UserError, match="other --hours"):
        run(world, hours=0.25)
    with pytest.raises(UserError, match="other --train"):
        run(world, hours=0.5, train={})


@pytest.mark.parametrize("name", ["plan.json", "chosen.json", "questions.jsonl"])
def test_a_changed_digit_is_named_and_not_taken_for_another_plan(world, chosen, name):
    path = chosen.run.folder / name
    whole = path.read_text(encoding="utf-8")
    assert checks.verify(path.parent) == []
    try:
        path.write_text(re.sub(r"[1-8]", lambda digit: str(int(digit[0]) + 1), whole, count=1), encoding="utf-8")
        assert any(name in fault for fault in checks.verify(path.parent))
        if name != "chosen.json":  # which only the page shows
            for options in ({"hours": 0.5}, {"gate": path.parent}):
                with pytest.raises(UserError, match=f"{name}.* (damaged|not what was written)"):
                    run(world, **options)
    finally:
        path.write_text(whole, encoding="utf-8")


def test_arms_without_time_are_named(world, monkeypatch):
    monkeypatch.setattr(chooser, "FEWEST_STEPS", 3)
    plans = []
    run(world, hours=1e-6, run_name="no-time", go_on=lambda plan: bool(plans.append(plan)))
    assert not plans[0].training and "0 steps fit, 3 are the least" in plans[0].left_out["scratch"]


def test_the_gate_passes_what_is_unchanged_and_names_what_was_lost(world, chosen):
    same = run(world, gate=chosen.run.folder)
    assert all(arm.difference == 0 and not arm.lost for arm in same.gate.arms)
    chooser.require_no_worse(same)
    lost = tuple(replace(arm, difference=-0.5, holm_p=0.001, worse=2, lost=("q1", "q2")) for arm in same.gate.arms[:1])
    with pytest.raises(CheckFailed, match=re.escape("lost 2 questions: q1, q2")):
        chooser.require_no_worse(replace(same, gate=replace(same.gate, arms=lost)))


def test_the_gate_asks_only_what_the_documents_still_answer(world, chosen):
    root, home = world
    changed = sorted((root / "docs").glob("*.md"))[:10]
    kept = {path: path.read_text(encoding="utf-8") for path in changed}
    try:
        for path in changed:
            path.write_text(f"# {path.stem}\n\nThis service was withdrawn, and nothing is said of it here.\n", encoding="utf-8")
        store.update("docs", home=home)
        found = run(world, gate=chosen.run.folder)
        assert "no longer answered" in found.plan.left_out["questions"] and found.plan.questions < chosen.plan.questions
    finally:
        for path, before in kept.items():
            path.write_text(before, encoding="utf-8")
        store.update("docs", home=home)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hours": 0.0}, "no budget"),
        ({"hours": float("nan")}, "no budget"),
        ({"gate": True}, "holds no plan.json"),
        ({"train": {"lora": "nope"}}, "no preset 'nope'"),
        ({"train": {"nope": "nano"}}, "nope"),
        ({"reader": "nope"}, "nope"),
    ],
)
def test_wrong_input_is_named(world, tmp_path, options, said):
    if "gate" in options:
        options = {"gate": tmp_path}
    with pytest.raises(UserError, match=said):
        run(world, **options)
