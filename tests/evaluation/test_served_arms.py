"""Arms behind a server: both measures of choosing, kept apart; several questions at once; going on after a fault."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from stub_server import Reply, Stub, serving, streamed

from rag_vs_ft import settings
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation.compare import compare_runs
from rag_vs_ft.evaluation.harness import run_experiment
from rag_vs_ft.evaluation.served import NONE_NAMED, letter_of
from rag_vs_ft.models import served

EXPERIMENT = """
name = "served"
corpus = "handbook"
index = "handbook"
questions = ["QUESTIONS"]
baseline = "alone"
parallel = 3

[choose]
k = [1]
retriever = ["bm25"]
score = ["sum"]

[answers]
questions = 2
max_new_tokens = 6

[[arms]]
name = "alone"
model = "URL#tiny"
context = "none"
TEMPLATE

[[arms]]
name = "retrieval"
model = "URL#tiny"
context = "retrieved"
TEMPLATE
"""


def experiment(world: Path, target: Path, url: str, template: str = "", more: str = "") -> Path:
    text = EXPERIMENT.replace("QUESTIONS", str(world / "questions.jsonl")).replace("URL", url)
    target.write_text(text.replace("TEMPLATE", template) + more, encoding="utf-8")
    return target


def names_the_second(path: str, body: dict[str, Any]) -> Reply:
    return streamed("B." if "the letter" in body["messages"][0]["content"] else "I do not know.")


def echoes(path: str, body: dict[str, Any]) -> Reply:
    """Log-probabilities by which the longer text is less likely, one token a character."""
    text = body["prompt"]
    if not body.get("stream") and not body.get("echo"):
        return Reply(
            {"choices": [{"text": "x", "logprobs": {"tokens": ["x"], "token_logprobs": [-0.5]}, "finish_reason": "length"}]}
        )
    if not body.get("echo"):
        return streamed("nothing")
    logprobs = {"tokens": [*text, "!"], "token_logprobs": [None, *([-0.5] * len(text))]}
    return Reply({"choices": [{"text": text + "!", "logprobs": logprobs, "finish_reason": "length"}]})


def arms_of(run: Any) -> dict[str, Any]:
    return {arm["arm"]: arm for arm in run.summary.to_json()["arms"]}


@pytest.fixture
def stub() -> Any:
    with serving(names_the_second) as found:
        yield found


def test_choices_by_letter_have_a_measure_of_their_own(
    stub: Stub, world: Path, results_home: settings.Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(served.KEY, "sk-secret-2")
    here = f'\n[[arms]]\nname = "here"\nmodel = "{world / "model"}"\ncontext = "none"\n'
    run = run_experiment(experiment(world, tmp_path / "served.toml", stub.url, more=here), home=results_home)
    assert not run.failed and not run.skipped
    arms = arms_of(run)
    questions = [json.loads(line) for line in (world / "questions.jsonl").read_text().splitlines()]
    right = [q["answer_index"] == 1 for q in questions if q["split"] == "test" and q.get("choices")]
    for name in ("alone", "retrieval"):
        assert arms[name]["letter_accuracy"] == pytest.approx(sum(right) / len(right))
        assert arms[name]["choice_accuracy"] is None and arms[name]["bits_per_byte"] is None
        assert arms[name]["tokens_per_question"] > 10 and arms[name]["cost"]["parameters"] == 0
    assert arms["here"]["choice_accuracy"] is not None and arms["here"]["letter_accuracy"] is None
    pairs = {(pair["a"], pair["b"], pair["measure"]) for pair in run.summary.to_json()["pairs"]}
    assert ("alone", "retrieval", "letter_accuracy") in pairs
    assert not [pair for pair in pairs if "here" in pair[:2] and pair[2].endswith("accuracy")], "the two are never compared"
    report = (run.folder / "report.md").read_text()
    assert "By letter, which is another measure than likelihood" in report and "right by letter" in report
    written = "".join(path.read_text() for path in [*run.folder.iterdir(), *results_home.results.glob("*.jsonl")])
    assert "sk-secret-2" not in written and stub.requests[-1][2]["Authorization"] == "Bearer sk-secret-2"
    assert stub.most_at_once > 1


@pytest.mark.slow
def test_choices_by_likelihood_of_a_server_share_the_measure_of_loaded_models(
    stub: Stub, world: Path, results_home: settings.Home, tmp_path: Path
) -> None:
    stub.answer = echoes
    plain = run_experiment(
        experiment(world, tmp_path / "plain.toml", stub.url, 'template = "plain"'), home=results_home, run_name="plain"
    )
    arm = arms_of(plain)["alone"]
    assert arm["letter_accuracy"] is None and arm["choice_accuracy"] is not None and arm["bits_per_byte"] > 0
    lines = [json.loads(line) for line in (plain.folder / "predictions.jsonl").read_text().splitlines()]
    (line,) = [one for one in lines if one["arm"] == "alone" and one["question_id"] == "kappa-limit"]
    assert line["outcome"]["choice_logprobs"] == [-1.5, -1.5, -1.5] and line["prompt"].endswith("\nAnswer:")
    stub.answer = names_the_second
    letters = run_experiment(experiment(world, tmp_path / "chat.toml", stub.url), home=results_home, run_name="chat")
    with pytest.raises(UserError, match="cannot be compared: alone chose by likelihood in one, by letter in one"):
        compare_runs(plain.folder, letters.folder)
    assert compare_runs(letters.folder, letters.folder).arms[0].difference == 0


def test_an_evaluation_goes_on_from_where_a_server_stopped(
    stub: Stub, world: Path, results_home: settings.Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "sleep", lambda seconds: None)
    path = experiment(world, tmp_path / "served.toml", stub.url)
    lock, left = threading.Lock(), [12]

    def some(route: str, body: dict[str, Any]) -> Reply:
        with lock:
            left[0] -= 1
            if left[0] < 0:
                return Reply({"error": "out of memory"}, status=500)
        return names_the_second(route, body)

    stub.answer = some
    with pytest.raises(CheckFailed, match=r"every arm failed: alone: the server at http://127\.0\.0\.1.* it answered 500"):
        run_experiment(path, home=results_home)
    kept = [json.loads(line) for line in (results_home.results / "served" / "predictions.jsonl").read_text().splitlines()]
    assert 0 < len(kept) < 17
    stub.answer = names_the_second
    before = stub.asked
    run = run_experiment(path, home=results_home, resume=True)
    assert not run.failed
    assert stub.asked - before <= 2 * 17 + 2 * 2 + 4 - len(kept), "what was answered is not asked again"


def test_a_question_too_long_for_the_server_is_shown_less_and_then_counts_as_wrong(
    stub: Stub, world: Path, results_home: settings.Home, tmp_path: Path
) -> None:
    def narrow(path: str, body: dict[str, Any]) -> Reply:
        content = body["messages"][0]["content"]
        if "[1]" in content or "iota" in content:
            return Reply({"error": {"message": "the prompt exceeds the context size"}}, status=400)
        return names_the_second(path, body)

    stub.answer = narrow
    run = run_experiment(experiment(world, tmp_path / "served.toml", stub.url), home=results_home)
    arm = arms_of(run)["retrieval"]
    assert arm["errors"] == 2 and arm["choice_accuracy"] is None and arm["letter_accuracy"] is not None
    assert arm["context_quality"]["left_out"] > 0 if "left_out" in arm["context_quality"] else True
    lines = [json.loads(line) for line in (run.folder / "predictions.jsonl").read_text().splitlines()]
    (line,) = [one for one in lines if one["arm"] == "retrieval" and one["question_id"] == "kappa-limit"]
    assert "[1]" not in line["prompt"] and [passage["in_prompt"] for passage in line["passages"]] == [False]


def test_a_server_that_is_not_there_is_told_before_the_test_questions_are_opened(
    world: Path, results_home: settings.Home, tmp_path: Path
) -> None:
    path = experiment(world, tmp_path / "served.toml", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match=r"2 arms have no model:\n  alone: the server at http://127.0.0.1:9/v1"):
        run_experiment(path, home=results_home)
    assert not list(results_home.results.glob("*.jsonl"))
    with pytest.raises(UserError, match="is not this machine"):
        run_experiment(experiment(world, tmp_path / "far.toml", "http://example.org/v1"), home=results_home)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", 1),
        ("B.", 1),
        ("**C**", 2),
        ("(A) 30 days", 0),
        ("B) because A is wrong", 1),
        ("The answer is C.", 2),
        ("A guess: it is C", 2),
        ("A is right", 0),
        ("Perhaps a C, for a reason", 2),
        ("30 days", 0),
        ("90 Days.", 1),
        ("B or C", 1),
        ("either B or C", NONE_NAMED),
        ("D", NONE_NAMED),
        ("Bananas", NONE_NAMED),
        ("I do not know", NONE_NAMED),
        ("", NONE_NAMED),
    ],
)
def test_which_letter_an_answer_names(answer: str, expected: int) -> None:
    assert letter_of(answer, ("30 days", "90 days", "7 days")) == expected
