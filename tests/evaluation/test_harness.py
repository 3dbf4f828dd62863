import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from manifests import MEASURED

from rag_vs_ft import files, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.engines import WorkEngine
from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.evaluation.experiments import load_experiment
from rag_vs_ft.evaluation.figures import Openings
from rag_vs_ft.evaluation.harness import run_experiment
from rag_vs_ft.evaluation.ledger import LEDGER
from rag_vs_ft.evaluation.manifest import MANIFEST, read_manifest
from rag_vs_ft.evaluation.predictions import PREDICTIONS

TEST_QUESTIONS = 14 + 3
RETRIEVAL_VARIANTS = 2


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_time(value):
    if isinstance(value, dict):
        return {key: without_time(one) for key, one in value.items() if key not in MEASURED}
    return [without_time(one) for one in value] if isinstance(value, list) else value


def edited(world: Path, target: Path, *changes: tuple[str, str], questions: Path | None = None) -> Path:
    """The world's experiment with some text replaced, in a file of its own."""
    text = (world / "experiment.toml").read_text(encoding="utf-8")
    for old, new in (("questions.jsonl", str(questions or world / "questions.jsonl")), *changes):
        assert old in text
        text = text.replace(old, new)
    target.write_text(text, encoding="utf-8")
    return target


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A home with one finished run, and its summary."""
    root = tmp_path_factory.mktemp("finished")
    for part in ("corpora", "indexes"):
        (root / part).symlink_to(world / "home" / part, target_is_directory=True)
    home = settings.home(root)
    return home, run_experiment(world / "experiment.toml", home=home)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "ray"])
def test_workers_give_the_predictions_of_one_process(finished, world, tmp_path, name):
    if name == "ray":
        pytest.importorskip("ray")
    for part in ("corpora", "indexes"):
        (tmp_path / part).symlink_to(world / "home" / part, target_is_directory=True)
    engine = WorkEngine(name, workers=2)
    run = run_experiment(world / "experiment.toml", home=settings.home(tmp_path), engine=engine)

    def timeless(value):
        if not isinstance(value, dict):
            return value
        return {key: timeless(one) for key, one in value.items() if not key.endswith("seconds") and key != "sha256"}

    mine, theirs = ([timeless(line) for line in lines(one / PREDICTIONS)] for one in (finished[1].folder, run.folder))
    assert theirs == mine and not run.failed


def test_a_run_leaves_everything_that_is_promised(finished, world):
    _, run = finished
    assert {path.name for path in run.folder.iterdir()} == {
        "experiment.toml",
        "manifest.json",
        "predictions.jsonl",
        "summary.json",
        "report.md",
        "report.html",
    }
    assert (run.folder / "experiment.toml").read_text() == (world / "experiment.toml").read_text()
    assert files.read_json(run.folder / "summary.json", "") == json.loads(json.dumps(run.summary.to_json()))
    arms = {arm["arm"]: arm for arm in run.summary.to_json()["arms"]}
    assert set(arms) == {"alone", "retrieval", "oracle"} and not run.failed and not run.skipped
    for arm in arms.values():
        assert arm["n"] == TEST_QUESTIONS and arm["errors"] == 0 and arm["answered"] <= 3
        assert 0 <= arm["choice_accuracy"] <= 1 and arm["bits_per_byte"] > 0
        assert arm["seconds_per_question"] > 0 and arm["tokens_per_question"] > 0 and arm["cost"]["parameters"] > 0
    assert arms["oracle"]["context_quality"]["answer_in_prompt"] == 1.0
    assert arms["alone"]["context_quality"] is None and arms["alone"]["cost"]["index_bytes"] == 0
    assert arms["retrieval"]["cost"]["index_bytes"] > 0 and arms["retrieval"]["k"] in (1, 2)
    assert len(run.summary.pairs) >= 2 * 3
    assert "bm25" in run.summary.to_json()["retrieval"]
    run.raise_failures()


def test_the_manifest_says_what_is_needed_to_repeat_the_run(finished, world):
    _, run = finished
    manifest = json.loads((run.folder / "manifest.json").read_text())
    (entry,) = manifest["questions"]
    assert entry["sha256"] == files.sha256_file(world / "questions.jsonl")
    assert len(manifest["question_ids"]) == TEST_QUESTIONS and len(manifest["answered_ids"]) == 3
    (model,) = manifest["models"].values()
    assert len(model["weights_sha256"]) == 64 and model["dtype"] == "float32"
    assert model["validation"]["documents"] == 1 and model["validation"]["bits_per_byte"] > 0
    assert {"versions", "git_commit", "machine", "seed", "frozen", "leaks", "index", "corpus"} <= manifest.keys()
    assert manifest["index"]["embedder"] and manifest["index"]["precision"] == "fp32"
    assert manifest["frozen"]["dev_questions"] == 7 and manifest["frozen"]["tried_questions"] == 6
    assert manifest["frozen"]["refuse_below"] == settings.RELEVANT_COSINE  # one unanswerable dev question settles nothing


def test_predictions_hold_every_arm_on_every_question_once_with_its_scores(finished):
    _, run = finished
    rows = lines(run.folder / PREDICTIONS)
    test = [row for row in rows if row["split"] == "test"]
    assert len({(row["arm"], row["question_id"]) for row in test}) == len(test) == 3 * TEST_QUESTIONS
    assert len(rows) - len(test) == 6 * (2 + RETRIEVAL_VARIANTS)
    for arm in run.summary.to_json()["arms"]:
        mine = [row["scores"]["choice_accuracy"] for row in test if row["arm"] == arm["arm"]]
        scored = [value for value in mine if value is not None]
        assert sum(scored) / len(scored) == pytest.approx(arm["choice_accuracy"])
    assert all(row["prompt"] for row in test)


def test_the_frozen_choice_is_the_best_of_its_table(finished):
    _, run = finished
    frozen = json.loads((run.folder / "manifest.json").read_text())["frozen"]
    by_option = {}
    for score in ("pmi", "sum"):
        for k in (1, 2):
            rows = [row for row in frozen["dev"] if row["k"] in (None, k)]
            assert len(rows) == 3
            by_option[score, k] = sum(row[score] for row in rows)
    assert by_option[frozen["score"], frozen["k"]] == max(by_option.values())
    assert run.summary.primary_score == frozen["score"]


def test_running_it_again_gives_the_same_summary_computed_anew(finished, world, results_home):
    _, first = finished
    second = run_experiment(world / "experiment.toml", home=results_home)
    assert json.loads((second.folder / "manifest.json").read_text())["predictions"]["computed"] > 0
    assert without_time(second.summary.to_json()) == without_time(first.summary.to_json())
    outcomes = [
        [
            (row["arm"], row["question_id"], row["outcome"]["choice_logprobs"], row["outcome"]["answer"])
            for row in lines(run.folder / PREDICTIONS)
        ]
        for run in (first, second)
    ]
    assert outcomes[0] == outcomes[1]


def test_another_run_takes_over_what_is_equal(finished, world):
    home, first = finished
    again = run_experiment(world / "experiment.toml", home=home, run_name="again")
    assert json.loads((again.folder / "manifest.json").read_text())["predictions"]["computed"] == 0
    same = [without_time({**run.summary.to_json(), "run": "", "openings": 0}) for run in (first, again)]
    assert same[0] == same[1]
    assert again.summary.openings.times == first.summary.openings.times + 1


def test_another_model_does_not_get_the_cached_answers_of_the_first(finished, world, tmp_path):
    home, first = finished
    other = run_experiment(
        edited(
            world, tmp_path / "other.toml", (str(world / "model"), str(world / "other")), ('name = "small"', 'name = "other"')
        ),
        home=home,
    )
    bits = [[arm["bits_per_byte"] for arm in run.summary.to_json()["arms"]] for run in (first, other)]
    assert all(abs(a - b) > 1e-6 for a, b in zip(*bits, strict=True))


def test_a_run_name_is_not_overwritten(finished, world):
    home, _ = finished
    with pytest.raises(UserError, match=r"there is a run 'small'.*\n.*--resume"):
        run_experiment(world / "experiment.toml", home=home)


def test_a_changed_experiment_cannot_be_resumed(finished, world, tmp_path):
    home, _ = finished
    with pytest.raises(UserError, match="of another experiment_sha256"):
        run_experiment(edited(world, tmp_path / "e.toml", ("k = [1, 2]", "k = [1]")), home=home, run_name="small", resume=True)
    with pytest.raises(UserError, match="of another limit"):
        run_experiment(world / "experiment.toml", home=home, limit=2, resume=True)


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_resuming_repeats_nothing_and_loses_nothing(finished, world, results_home):
    _, first = finished
    folder = results_home.results / "small"
    folder.mkdir(parents=True)
    # What a killed process leaves: some lines, the last one cut off.
    whole = (first.folder / PREDICTIONS).read_bytes().splitlines(keepends=True)
    (folder / PREDICTIONS).write_bytes(b"".join(whole[:20]) + whole[20][:100])
    run = run_experiment(world / "experiment.toml", home=results_home, resume=True)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    distinct = len({row["key"] for row in lines(first.folder / PREDICTIONS)})
    kept = len({json.loads(line)["key"] for line in whole[:20]})
    assert manifest["predictions"]["computed"] == distinct - kept
    assert without_time(run.summary.to_json()) == without_time(first.summary.to_json())
    rows = lines(folder / PREDICTIONS)
    assert len({(row["arm"], row["split"], row["question_id"]) for row in rows}) == len(rows) == len(whole)


@pytest.mark.slow
def test_a_killed_run_is_resumed_where_it_stopped(finished, world, results_home):
    _, first = finished
    predictions = results_home.results / "small" / PREDICTIONS
    code = (
        "import sys; from pathlib import Path; from rag_vs_ft import settings;"
        "from rag_vs_ft.evaluation.harness import run_experiment;"
        "run_experiment(Path(sys.argv[1]), home=settings.home(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(world / "experiment.toml"), str(results_home.root)], env=os.environ
    )
    deadline = time.monotonic() + 120
    while (not predictions.is_file() or predictions.read_bytes().count(b"\n") < 10) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = predictions.read_bytes().splitlines(keepends=True)
    assert 10 <= len(before) < len(lines(first.folder / PREDICTIONS))
    run = run_experiment(world / "experiment.toml", home=results_home, resume=True)
    computed = json.loads((run.folder / "manifest.json").read_text())["predictions"]["computed"]
    kept = {json.loads(line)["key"] for line in before if line.endswith(b"\n")}
    assert computed == len({row["key"] for row in lines(first.folder / PREDICTIONS)} - kept)
    assert without_time(run.summary.to_json()) == without_time(first.summary.to_json())


def test_two_processes_do_not_write_one_run(world, results_home):
    from filelock import FileLock

    results_home.results.mkdir(parents=True)
    with FileLock(results_home.results / ".small.lock"), pytest.raises(Busy):
        run_experiment(world / "experiment.toml", home=results_home)


# --- what is missing or fails ------------------------------------------------------------------------------------------

MISSING = """
[[arms]]
name = "trained"
model = "my-run"
context = "none"

[[arms]]
name = "hub"
model = "gpt2"
context = "none"

[train]
my-run = "rag-vs-ft train lora --run my-run"
"""


@pytest.fixture
def with_missing(world, tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    path = edited(world, tmp_path / "missing.toml")
    path.write_text(path.read_text() + MISSING)
    return path


def test_all_missing_models_are_named_with_the_command_that_makes_them(with_missing, results_home):
    with pytest.raises(UserError) as error:
        run_experiment(with_missing, home=results_home)
    message = str(error.value)
    assert "2 arms have no model" in message and "--skip-missing" in message
    assert "there is no run 'my-run'; train it: rag-vs-ft train lora --run my-run" in message
    assert "rag-vs-ft models pull gpt2" in message
    assert not (results_home.results / LEDGER).exists()


def test_skip_missing_runs_the_rest_and_says_so_in_the_report(with_missing, results_home):
    run = run_experiment(with_missing, home=results_home, skip_missing=True, limit=2)
    assert set(run.skipped) == {"trained", "hub"} and len(run.summary.arms) == 3
    assert "SKIPPED trained: there is no run" in (run.folder / "report.md").read_text()
    assert "SKIPPED hub" in (run.folder / "report.html").read_text()


def test_an_arm_that_fails_does_not_take_the_others_with_it(world, tmp_path, results_home):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (world / "model").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    path = edited(world, tmp_path / "e.toml")
    path.write_text(path.read_text() + f'[[arms]]\nname = "broken"\nmodel = "{broken}"\ncontext = "none"\n')
    run = run_experiment(path, home=results_home, limit=3)
    assert [arm.name for arm in run.summary.arms] == ["alone", "retrieval", "oracle"]
    assert "damaged" in run.failed["broken"]
    assert "FAILED broken" in (run.folder / "report.md").read_text()
    with pytest.raises(CheckFailed, match="1 arms failed") as error:
        run.raise_failures()
    assert error.value.exit_code == 1


def test_an_arm_that_fails_midway_keeps_what_it_has_and_is_finished_later(finished, world, results_home, monkeypatch):
    from rag_vs_ft.evaluation import arms

    _, whole = finished
    real, batches = arms.run_batch, []

    def failing(lm, tasks, priors):
        if tasks[0].question.split == "test" and tasks[0].passages.hits is not None:
            batches.append(tasks)
            if len(batches) == 2:  # of the first arm with passages
                raise RuntimeError("out of memory")
        return real(lm, tasks, priors)

    monkeypatch.setattr(arms, "run_batch", failing)
    run = run_experiment(world / "experiment.toml", home=results_home)
    assert run.failed == {"retrieval": "RuntimeError: out of memory"}
    assert [arm.name for arm in run.summary.arms] == ["alone", "oracle"]
    assert "FAILED retrieval: RuntimeError: out of memory" in (run.folder / "report.md").read_text()
    assert "Traceback" in json.loads((run.folder / "manifest.json").read_text())["failed"]["retrieval"]
    monkeypatch.setattr(arms, "run_batch", real)
    again = run_experiment(world / "experiment.toml", home=results_home, resume=True)
    assert not again.failed and without_time(again.summary.to_json()) == without_time(whole.summary.to_json())
    assert json.loads((again.folder / "manifest.json").read_text())["predictions"]["computed"] < TEST_QUESTIONS


def test_an_experiment_whose_every_arm_fails_is_a_failed_check(world, tmp_path, results_home):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckFailed, match="every arm failed"):
        run_experiment(edited(world, tmp_path / "e.toml", (str(world / "model"), str(empty))), home=results_home)


def test_gold_documents_that_the_corpus_lacks_are_named(world, tmp_path, results_home):
    text = (world / "questions.jsonl").read_text().replace('"alpha.md"', '"missing.md"')
    questions = tmp_path / "q.jsonl"
    questions.write_text(text)
    with pytest.raises(
        UserError, match=r"1 gold documents are not in the corpus 'handbook', such as 'missing.md' of question 'alpha-"
    ):
        run_experiment(edited(world, tmp_path / "e.toml", questions=questions), home=results_home)


def test_a_malformed_question_file_is_named_with_line_and_field(world, tmp_path, results_home):
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"id": "a", "question": "What?"}\n{"id": "b", "question": 3}\n')
    with pytest.raises(UserError, match="line 2: question"):
        run_experiment(world / "experiment.toml", home=results_home, questions=[questions])
    questions.write_text("")
    with pytest.raises(UserError, match="no questions"):
        run_experiment(world / "experiment.toml", home=results_home, questions=[questions])
    with pytest.raises(UserError, match="cannot read"):
        run_experiment(world / "experiment.toml", home=results_home, questions=[tmp_path / "none.jsonl"])


def test_one_id_in_two_files_is_refused(world, tmp_path, results_home):
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((world / "questions.jsonl").read_bytes())
    with pytest.raises(UserError, match="the id 'alpha-limit' is also one of"):
        run_experiment(world / "experiment.toml", home=results_home, questions=[world / "questions.jsonl", copy])


def test_an_index_of_another_state_of_the_corpus_is_refused(world, tmp_path, tiny_embedder):
    from rag_vs_ft.index import build

    home = settings.home(tmp_path / "home")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "alpha.md").write_text("# Alpha\n\nThe limit of alpha is 3 units.\n")
    store.add("handbook", str(docs), home=home)
    build.build("handbook", "handbook", build.Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    (docs / "alpha.md").write_text("# Alpha\n\nThe limit of alpha is 4 units.\n")
    store.update("handbook", home=home)
    with pytest.raises(UserError, match="not of the corpus 'handbook' as it is now"):
        run_experiment(world / "experiment.toml", home=home)


# --- dev and test -----------------------------------------------------------------------------------------------------


def test_without_dev_questions_nothing_can_be_chosen_and_test_stays_closed(world, tmp_path, results_home):
    records = [{**record, "split": ""} for record in lines(world / "questions.jsonl")]
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(UserError, match="no dev question"):
        run_experiment(edited(world, tmp_path / "e.toml", questions=questions), home=results_home)
    assert not (results_home.results / LEDGER).exists()
    fixed = edited(world, tmp_path / "f.toml", ("k = [1, 2]", "k = [1]"), ('["pmi", "sum"]', '["sum"]'), questions=questions)
    run = run_experiment(fixed, home=results_home, limit=3)
    assert run.summary.primary_score == "sum" and run.summary.questions.n == 3
    assert all(row["split"] == "test" for row in lines(run.folder / PREDICTIONS))


def test_what_is_frozen_is_on_disk_before_the_test_questions_are_opened(world, results_home, monkeypatch):
    from rag_vs_ft.evaluation.held_out import QuestionSet

    seen = {}

    def closed(self, frozen, results, run, identity):
        seen.update(json.loads((results / run / "manifest.json").read_text()))
        raise RuntimeError("stop here")

    monkeypatch.setattr(QuestionSet, "open_test", closed)
    with pytest.raises(RuntimeError, match="stop here"):
        run_experiment(world / "experiment.toml", home=results_home, limit=2)
    assert seen["frozen"]["score"] in ("pmi", "sum")
    assert "question_ids" not in seen


def test_the_ledger_counts_configurations_and_not_resumptions(world, tmp_path, results_home):
    first = run_experiment(world / "experiment.toml", home=results_home, limit=2)
    again = run_experiment(world / "experiment.toml", home=results_home, limit=2, resume=True)
    assert first.summary.openings == again.summary.openings == Openings(1, 1)
    other = run_experiment(
        edited(world, tmp_path / "e.toml", ("k = [1, 2]", "k = [2]")), home=results_home, limit=2, run_name="b"
    )
    assert other.summary.openings == Openings(2, 2)
    assert len(lines(results_home.results / LEDGER)) == 2


def test_a_small_sample_is_part_of_a_larger_one(world, results_home):
    ids = []
    for limit in (3, 6):
        run = run_experiment(world / "experiment.toml", home=results_home, limit=limit, run_name=f"limit-{limit}")
        ids.append(set(json.loads((run.folder / "manifest.json").read_text())["question_ids"]))
        assert run.summary.questions.n == limit
    assert ids[0] < ids[1]
    with pytest.raises(UserError, match="--limit 0"):
        run_experiment(world / "experiment.toml", home=results_home, limit=0)


def test_a_question_that_is_too_long_counts_as_wrong_and_is_shown(world, tmp_path, results_home):
    records = lines(world / "questions.jsonl")
    long = next(record for record in records if record["split"] == "test")
    long["question"] = "why " * 300
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps(record) + "\n" for record in records))
    run = run_experiment(edited(world, tmp_path / "e.toml", questions=questions), home=results_home)
    for arm in run.summary.to_json()["arms"]:
        assert arm["errors"] == 1 and arm["n"] == TEST_QUESTIONS
    row = next(row for row in lines(run.folder / PREDICTIONS) if row["question_id"] == long["id"])
    assert "does not fit" in row["error"] and row["scores"]["choice_accuracy"] == 0 and row["scores"]["bits_per_byte"] is None
    assert "did not fit" in (run.folder / "report.md").read_text()


# --- training cost ----------------------------------------------------------------------------------------------------


def test_the_cost_of_a_run_includes_the_runs_it_was_trained_on(tmp_path):
    from rag_vs_ft.evaluation.costs import TrainingCost, training_cost
    from rag_vs_ft.training.record import Plan, RunOutcome, RunRecord, write_record
    from rag_vs_ft.training.runs import append_metrics

    home = settings.home(tmp_path)
    plan = Plan(
        "lora", "cpu", 9, 9, 9, 9, 9, tokens_per_step=64, steps=100, epochs=1.0, flops=1e12, seconds=None, notes=(), warnings=()
    )
    for name, base, steps, seconds in (("first", "gpt2", 100, 10.0), ("second", "first", 50, 6.0)):
        ended = RunOutcome(steps, steps, 1.0, 1.0, 1.0, 1.0, False, "best", "", seconds, 1.0)
        record = RunRecord("lora", "nano", {"base": base}, {}, "finished", plan=plan, result=ended)
        write_record(home.runs / name, record)
        (home.runs / name / "best").mkdir()
    assert training_cost(home, "second/best") == TrainingCost(seconds=16.0, flops=1.5e12, tokens=9600)
    assert training_cost(home, "gpt2") == TrainingCost()
    stopped = RunRecord("lora", "nano", {"base": "first"}, {}, "training", plan=plan)
    write_record(home.runs / "third", stopped)
    (home.runs / "third" / "best").mkdir()
    assert training_cost(home, "third") == TrainingCost(seconds=10.0, flops=1e12, tokens=6400), "nothing is written yet"
    for step, seconds in ((10, 2.0), (25, 5.0)):
        append_metrics(home.runs / "third", {"step": step, "loss": 1.0, "seconds": seconds})
    assert training_cost(home, "third") == TrainingCost(seconds=15.0, flops=1.25e12, tokens=8000), "stopped, to go on later"


# --- the demo's last step ---------------------------------------------------------------------------------------------


def test_the_demo_comparison_runs_again_and_again_and_takes_a_trained_model(world, tmp_path, results_home, monkeypatch):
    import shutil

    from rag_vs_ft.evaluation import harness

    monkeypatch.setattr(harness, "DEMO", edited(world, tmp_path / "demo.toml"))
    first = harness.demo_comparison(results_home, limit=2)
    shutil.copytree(world / "other", results_home.runs / "nano")
    second = harness.demo_comparison(results_home, scratch_run="nano", limit=2)
    assert first.name == second.name == "demo"
    assert [arm.name for arm in second.summary.arms] == ["alone", "retrieval", "oracle", "scratch"]
    assert second.summary.openings.configurations == 2
    assert json.loads((second.folder / "manifest.json").read_text())["predictions"]["reused"] > 0
    with pytest.raises(UserError, match="no model"):
        harness.demo_comparison(results_home, scratch_run="not-there", limit=2)


# --- what a run rests on -------------------------------------------------------------------------------------------------


def test_a_changed_digit_of_another_run_is_noticed_computed_again_and_said(finished, world, results_home):
    _, first = finished
    other = results_home.results / "other"
    other.mkdir(parents=True)
    whole = (first.folder / PREDICTIONS).read_text().splitlines(keepends=True)
    at = next(at for at, line in enumerate(whole) if '"split": "test"' in line)
    logprob = str(json.loads(whole[at])["outcome"]["choice_logprobs"][0])
    whole[at] = whole[at].replace(logprob, logprob[:-1] + ("1" if logprob[-1] != "1" else "2"), 1)
    (other / PREDICTIONS).write_text("".join(whole))
    run = run_experiment(world / "experiment.toml", home=results_home)
    assert without_time(run.summary.to_json()) == without_time(first.summary.to_json())
    assert json.loads((run.folder / MANIFEST).read_text())["predictions"]["computed"] == 1
    (notice,) = run.notices
    assert f"other/predictions.jsonl:{at + 1}" in notice


def test_a_search_is_timed_when_it_is_first_made_and_not_again(finished, world):
    home, first = finished
    again = run_experiment(world / "experiment.toml", home=home, run_name="timed-again")
    seconds = [
        {(row["arm"], row["split"], row["question_id"]): row["search_seconds"] for row in lines(run.folder / PREDICTIONS)}
        for run in (first, again)
    ]
    assert seconds[0] == seconds[1] and sum(seconds[0].values()) > 0


def test_a_blank_line_in_the_question_file_does_not_reset_the_ledger(world, tmp_path, results_home):
    fixed = edited(world, tmp_path / "e.toml", ("k = [1, 2]", "k = [1]"), ('["pmi", "sum"]', '["sum"]'))
    run_experiment(fixed, home=results_home, limit=1)
    more = tmp_path / "q.jsonl"
    more.write_text((world / "questions.jsonl").read_text() + "\n")
    run = run_experiment(fixed, home=results_home, limit=1, questions=[more], run_name="again")
    assert run.summary.openings.times == 2


def test_the_same_question_in_dev_and_in_test_is_refused_before_anything_is_opened(world, tmp_path, results_home):
    records = lines(world / "questions.jsonl")
    dev = next(record for record in records if record["split"] == "dev")
    records.append({**dev, "id": "copy", "split": "test", "question": dev["question"].upper().replace("?", " ?!")})
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(UserError, match=f"1 test questions are dev questions too: 'copy' asks what {dev['id']!r} does"):
        run_experiment(world / "experiment.toml", home=results_home, questions=[questions])
    assert not (results_home.results / LEDGER).exists()


def test_a_run_trained_on_a_corpus_that_holds_the_questions_is_flagged(world, tmp_path, tiny_embedder):
    import shutil

    from rag_vs_ft.training.record import RunInput, RunRecord, write_record

    home = settings.home(tmp_path / "home")
    shutil.copytree(world / "home" / "corpora", home.corpora)
    shutil.copytree(world / "home" / "indexes", home.indexes)
    docs = tmp_path / "faq"
    docs.mkdir()
    asked = [record for record in lines(world / "questions.jsonl") if record["split"] == "test" and "choices" in record]
    (docs / "faq.md").write_text("# FAQ\n\n" + "\n\n".join(f"{one['question']} It is {one['answer']}." for one in asked))
    store.add("faq", str(docs), home=home)
    sha256 = store.open_corpus("faq", home).sha256
    shutil.copytree(world / "other", home.runs / "base")
    write_record(home.runs / "base", RunRecord("finetune", "nano", {}, {}, "finished", corpus=RunInput(sha256, "faq")))
    shutil.copytree(world / "other", home.runs / "instructed")
    write_record(home.runs / "instructed", RunRecord("instruct", "nano", {"base": "base"}, {}, "finished"))
    path = edited(world, tmp_path / "e.toml", ("k = [1, 2]", "k = [1]"), ('["pmi", "sum"]', '["sum"]'))
    path.write_text(path.read_text() + '\n[[arms]]\nname = "instructed"\nmodel = "instructed"\ncontext = "none"\n')
    run = run_experiment(path, home=home)
    manifest = json.loads((run.folder / MANIFEST).read_text())
    assert manifest["training_corpora"] == ["faq"]
    assert set(manifest["leaks"]["flagged"]) == {one["id"] for one in asked}
    assert run.notices == ()
    shutil.rmtree(home.corpora / "faq")
    again = run_experiment(path, home=home, run_name="again")
    assert len(again.notices) == 1 and "not searched for leaks" in again.notices[0]


def test_a_damaged_corpus_run_or_result_of_another_name_does_not_stop_a_run(world, results_home, tmp_path):
    import shutil

    (results_home.root / "corpora").unlink()
    shutil.copytree(world / "home" / "corpora", results_home.corpora)
    for folder in (results_home.corpora / "broken", results_home.runs / "broken", results_home.results / "broken"):
        folder.mkdir(parents=True)
        for name in ("manifest.json", "run.json", "summary.json", PREDICTIONS):
            (folder / name).write_text("null\n")
    path = edited(
        world, tmp_path / "e.toml", ('corpus = "handbook"', 'corpus = "handbook"\nsource = "x"'), ("k = [1, 2]", "k = [1]")
    )
    run = run_experiment(path, home=results_home, limit=1)
    assert len(run.notices) == 1 and "broken" in run.notices[0]


@pytest.mark.parametrize("damage", ["null", "[]", "{", '{"format": 1}'])
def test_resuming_on_a_damaged_manifest_is_a_failed_check_that_names_it(world, results_home, damage):
    folder = results_home.results / "small"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(damage)
    with pytest.raises(CheckFailed, match=r"small/manifest\.json"):
        run_experiment(world / "experiment.toml", home=results_home, resume=True)


def test_a_disk_that_is_full_midway_stops_the_run_and_the_same_command_goes_on(finished, world, results_home, monkeypatch):
    import errno

    _, first = finished
    real, written = files.append_text, []

    def full(path, text, **how):
        written.extend(text.splitlines())
        if path.name == PREDICTIONS and len(written) > 30:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, text, **how)

    monkeypatch.setattr(files, "append_text", full)
    with pytest.raises(UserError, match=r"predictions\.jsonl: No space left on device"):
        run_experiment(world / "experiment.toml", home=results_home)
    monkeypatch.setattr(files, "append_text", real)
    run = run_experiment(world / "experiment.toml", home=results_home, resume=True)
    assert not run.failed and without_time(run.summary.to_json()) == without_time(first.summary.to_json())


def test_a_home_that_cannot_be_written_is_told_by_its_name(world, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(UserError, match="file"):
        run_experiment(world / "experiment.toml", home=settings.home(blocked))


# --- arms without a language model -----------------------------------------------------------------------------------------


def test_heuristics_are_arms_on_the_same_passages_and_win_no_verdict(world, tmp_path, results_home):
    path = edited(world, tmp_path / "e.toml")
    rules = {"string-match": "retrieved", "word-overlap": "oracle", "extractive": "retrieved", "majority": "none"}
    path.write_text(
        path.read_text()
        + "".join(f'\n[[arms]]\nname = "{name}"\nmodel = "{name}"\ncontext = "{context}"\n' for name, context in rules.items())
    )
    run = run_experiment(path, home=results_home)
    assert not run.failed and {row.arm for row in json_frozen(run)} == {"alone", "retrieval", "oracle"}
    rows = {(row["arm"], row["question_id"]): row for row in lines(run.folder / PREDICTIONS) if row["split"] == "test"}
    for (arm, question), row in rows.items():
        if arm == "string-match":
            passages = [passage["chunk_id"] for passage in row["passages"]]
            assert passages == [passage["chunk_id"] for passage in rows["retrieval", question]["passages"]]
            assert row["search_seconds"] == rows["retrieval", question]["search_seconds"]
    arms = {arm.name: arm for arm in run.summary.arms}
    # The documents say "The limit of ... is 53 units", and no other number.
    assert arms["word-overlap"].right > 0.9 and arms["word-overlap"].cost.parameters == 0
    assert arms["extractive"].answered == arms["alone"].answered == 3
    verdict = run.summary.verdict
    assert verdict.startswith(("alone", "retrieval", "No way")) and "Without a language model: " in verdict
    assert "string-match" in (run.folder / "report.md").read_text()
    again = run_experiment(path, home=results_home, run_name="again")
    assert json.loads((again.folder / MANIFEST).read_text())["predictions"]["computed"] == 0


def json_frozen(run):
    return read_manifest(run.folder).frozen.dev


def test_a_heuristic_with_what_it_cannot_use_is_a_fault_of_the_experiment(world, tmp_path):
    path = edited(world, tmp_path / "e.toml")
    path.write_text(
        path.read_text()
        + '\n[[arms]]\nname = "a"\nmodel = "string-match"\ncontext = "none"\n'
        + '\n[[arms]]\nname = "b"\nmodel = "majority"\ncontext = "retrieved"\ntemplate = "plain"\n'
    )
    with pytest.raises(UserError) as error:
        load_experiment(path)
    assert "'a': string-match reads passages" in error.value.message
    assert "'b': passages have no meaning for majority" in error.value.message
    assert "'b': template has no meaning for majority" in error.value.message


def test_a_run_called_like_a_heuristic_is_named_as_what_it_is(world, tmp_path, results_home):
    import shutil

    shutil.copytree(world / "other", results_home.runs / "majority")
    path = edited(world, tmp_path / "e.toml")
    path.write_text(path.read_text() + '\n[[arms]]\nname = "m"\nmodel = "majority"\ncontext = "none"\n')
    with pytest.raises(UserError, match="'majority' is a heuristic, and the name of a run"):
        run_experiment(path, home=results_home)
