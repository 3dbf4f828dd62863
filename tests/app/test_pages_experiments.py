"""Evaluate and Training: running, reading what was run, and what is missing."""

from __future__ import annotations

import json
import shlex
import time
import tomllib

import psutil
import pytest
from tiny import train

from rag_vs_ft import jobs as work_jobs
from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.evaluation.harness import run_experiment
from rag_vs_ft.index import build
from rag_vs_ft.training import runs

EXPERIMENT = f"""
name = "small"
corpus = "docs"
index = "docs"
questions = ["questions.jsonl"]
baseline = "alone"

[choose]
k = [1]
score = ["sum"]

[answers]
questions = 2
max_new_tokens = 4

[[arms]]
name = "alone"
model = "{settings.LANGUAGE_MODEL}"
context = "none"

[[arms]]
name = "retrieval"
model = "{settings.LANGUAGE_MODEL}"
context = "retrieved"

[[arms]]
name = "missing"
model = "nowhere"
context = "none"
"""


SCRATCH = {"arm": "scratch", "corpus": "docs", "preset": "nano"}
SIZES = {
    **{"steps": "4", "eval_every": "2", "log_every": "1", "layers": "1", "heads": "2", "width": "16", "window": "16"},
    **{"vocab_size": "300", "rows_per_step": "2", "batch_size": "2", "validation_fraction": "0.3", "warmup_steps": "1"},
}


def button(at, label: str):
    return next(one for one in at.button if one.label == label)


@pytest.fixture
def experiment(built, hostile):
    folder = built.root / "eval" / "experiments"
    folder.mkdir(parents=True)
    assert tomllib.loads(EXPERIMENT)
    (folder / "small.toml").write_text(EXPERIMENT, encoding="utf-8")
    facts = [
        ("1000", "How many nodes?", "aks/pools.md"),
        ("443", "Which port?", "vault/keys.md"),
        ("90", hostile, "vault/keys.md"),
    ]
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as out:
        for number in range(12):
            answer, question, gold = facts[number % 3]
            choices = [answer, "7", "12", "none"]
            choices = choices[number % 4 :] + choices[: number % 4]
            record = {
                "id": f"q{number}",
                "question": f"{question} ({number})",
                "answer": answer,
                "choices": choices,
                "answer_index": choices.index(answer),
                "gold_documents": [gold],
                "answerable": True,
                "source": "test",
                "tags": ["fact", "updates"] if number >= 9 else ["fact"],
                "split": "dev" if number < 3 else "test",
            }
            out.write(json.dumps(record) + "\n")
    return built


def test_nothing_was_run_yet(place, open_page) -> None:
    at = open_page("evaluate")
    assert any("No run is finished yet" in caption.value for caption in at.caption)
    assert any("no index sample yet" in caption.value for caption in at.caption) and button(at, "Run").disabled
    assert "demo" in at.selectbox[0].options


def test_an_experiment_runs_in_the_background_and_its_questions_can_be_read(experiment, open_page, hostile, ended_job) -> None:
    at = open_page("evaluate")
    at.selectbox[0].set_value("small").run()
    at.number_input[0].set_value(0).run()
    button(at, "Run").click().run()
    ended_job("evaluate")
    at.run()
    assert not at.exception and not at.error
    assert "small is finished" in at.success[0].value and "missing is not in it" in at.warning[0].value
    table = at.dataframe[0].value
    assert list(table["arm"]) == ["alone (baseline)", "retrieval"] and all("%" in share for share in table["right"])
    assert len(at.get("image")) == 1
    at.session_state["shown"] = "Questions"
    at.run()
    predictions = [json.loads(line) for line in (experiment.results / "small" / "predictions.jsonl").open(encoding="utf-8")]
    right = {(one["arm"], one["question_id"]): one["scores"]["choice_accuracy"] for one in predictions if one["split"] == "test"}
    ids = {key for _, key in right}
    differ = [key for key in ids if right["retrieval", key] > right["alone", key]]
    assert any(f"{len(differ)} of {len(ids)} questions" in caption.value for caption in at.caption)


def test_freshness_compares_the_runs_before_and_after_an_update(experiment, documents, open_page) -> None:
    path = experiment.root / "eval" / "experiments" / "small.toml"
    run_experiment(path, home=experiment, run_name="before", skip_missing=True)
    at = open_page("evaluate")
    at.session_state["shown"] = "Freshness"
    at.run()
    assert any("index before the update" in caption.value for caption in at.caption)
    (documents / "vault/keys.md").write_text("# Vault\n\nA deleted key vault is kept for 30 days; its port is 443.\n", "utf-8")
    store.update("docs", home=experiment)
    build.update("docs", experiment)
    run_experiment(path, home=experiment, run_name="after", skip_missing=True)
    at = open_page("evaluate", run="after")
    at.session_state["shown"] = "Freshness"
    at.run()
    assert not at.exception and not at.error
    fresh, change = (table.value for table in at.dataframe[:2])
    assert list(fresh["questions"]) == [3, 3, 3] and list(change["questions"]) == [3, 3], "of nine, those about what has changed"
    assert list(fresh["arm"]) == ["alone", "retrieval", "no model: the larger number"]
    assert {"before", "after"} <= set(change.columns)
    assert any("gen\\-000001" in caption.value and "gen\\-000002" in caption.value for caption in at.caption)
    at.session_state["shown"] = "Against another run"
    at.run()
    assert list(at.dataframe[0].value["questions"]) == [9, 9]


def test_an_index_that_is_behind_its_documents_is_updated_before_it_is_evaluated(experiment, documents, open_page) -> None:
    at = open_page("evaluate")
    at.selectbox[0].set_value("small").run()
    assert not button(at, "Run").disabled
    (documents / "new.md").write_text("# New\n\nThe port of the new one is 8443.\n", encoding="utf-8")
    store.update("docs", home=experiment)
    at.run()
    assert button(at, "Run").disabled and any("update it first" in caption.value for caption in at.caption)
    build.update("docs", experiment)
    at.run()
    assert not button(at, "Run").disabled


def credit(folder, **given):
    """Rewrite what arms scored: `arm="01"` is a digit a question."""
    path = folder / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["split"] == "test" and line["question_id"] in ("delta-limit", "delta-timeout"):
            at = line["question_id"] == "delta-timeout"
            line["scores"]["choice_accuracy"] = float(given[line["arm"]][at])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_a_run_of_before_is_shown_whole(old_run, open_page) -> None:
    at = open_page("evaluate")
    assert not at.error and "answers best" in at.info[0].value
    table = at.dataframe[0].value
    assert list(table["arm"]) == ["alone (baseline)", "retrieval", "oracle (probe)"]
    assert "margin, bits per byte" not in table.columns, "a column without a value says nothing"
    assert list(table.columns)[-2:] == ["model", "context"], "a phone shows the first columns, and they decide"
    said = " ".join(caption.value for caption in at.caption)
    assert "A guess is right in 33" in said and "test questions" in said
    at.session_state["shown"] = "Report"
    at.run()
    titles = {expander.label for expander in at.expander}
    assert not at.error and {"Every pair\\, on the same questions", "Calibration", "Cost", "Models", "Leaks"} <= titles


def test_disagreements_are_read_one_after_the_other_with_the_reason(old_run, open_page) -> None:
    credit(old_run, alone="00", retrieval="11", oracle="01")
    at = open_page("evaluate")
    at.session_state["shown"] = "Questions"
    at.run()
    choose = {one.label: one for one in at.selectbox}
    choose["Right"].set_value("retrieval")
    choose["Wrong"].set_value("alone").run()
    assert not at.error and any("2 of 2 questions" in caption.value for caption in at.caption)
    assert "asked without passages" in at.warning[0].value and button(at, "Previous").disabled
    button(at, "Next").click().run()
    assert next(one for one in at.selectbox if one.label.startswith("Question 2 of 2")).value == "delta-timeout"
    assert button(at, "Next").disabled and not button(at, "Previous").disabled
    assert any(text.value.startswith("- 12\n* 26") for text in at.text)
    button(at, "Previous").click().run()
    choose = {one.label: one for one in at.selectbox}
    choose["Wrong"].set_value("oracle").run()
    assert any("1 of 2 questions" in caption.value for caption in at.caption)
    assert "the model misread" in at.warning[0].value


def test_a_pair_that_disagrees_is_shown_first_and_one_is_named_where_the_chosen_does_not(old_run, open_page) -> None:
    credit(old_run, alone="11", retrieval="11", oracle="01")
    at = open_page("evaluate")
    at.session_state["shown"] = "Questions"
    at.run()
    choose = {one.label: one for one in at.selectbox}
    assert choose["Wrong"].value == "oracle" and any("1 of 2 questions" in caption.value for caption in at.caption)
    choose["Right"].set_value("retrieval")
    choose["Wrong"].set_value("alone").run()
    said = " ".join(caption.value for caption in at.caption)
    assert "0 of 2 questions" in said and "Choose another pair: " in said and "oracle wrong" in said
    credit(old_run, alone="11", retrieval="11", oracle="11")
    at.run()
    assert any("No two arms disagree" in caption.value for caption in at.caption)


@pytest.mark.parametrize(
    ("figures", "heading", "sure"),
    [
        ({"retrieval": 0.8, "low": 0.6, "holm_p": 0.01}, "Retrieval answers best", "is larger than chance explains"),
        ({"retrieval": 0.8, "low": 0.6, "holm_p": 0.3}, "Retrieval answers best", "the model alone costs least"),
        ({"retrieval": 0.5, "low": 0.2, "holm_p": 0.3}, "No way answers better than a guess", "Nothing is decided"),
    ],
)
def test_a_comparison_ends_in_a_decision_that_says_how_sure_it_is(comparison, open_page, figures, heading, sure) -> None:
    comparison(**figures)
    at = open_page("choose")
    assert not at.error and not at.warning and heading in at.subheader[0].value
    assert any(sure in text.value for text in at.markdown)
    assert [metric.value for metric in at.metric][:2] == [f"{figures['retrieval']:.1%}", "0.01"]
    assert list(at.table[0].value["way"]) == ["Retrieval", "The model alone"], "a probe is not a way"
    assert len(at.get("vega_lite_chart")) == 1
    assert any("twice the \\<b\\>questions" in text.value for text in at.markdown)


def test_a_comparison_that_was_stopped_goes_on_and_changed_documents_are_said(comparison, documents, open_page, built) -> None:
    folder = comparison()
    at = open_page("choose")
    assert "0\\.5 hours" in at.info[0].value and button(at, "Go on") and not at.metric
    comparison(retrieval=0.8, low=0.6, holm_p=0.01)
    (documents / "vault/keys.md").write_text("# Vault\n\nThe port is 8443 now.\n", encoding="utf-8")
    store.update("docs", home=built)
    at = open_page("choose")
    assert "have changed since" in at.warning[0].value and at.metric
    (folder / "plan.json").write_text("{", encoding="utf-8")
    at = open_page("choose")
    assert "plan\\.json" in at.error[0].value and button(at, "Start"), "one damaged folder does not hide the page"


def test_a_comparison_that_failed_or_was_stopped_is_told_to_who_comes_later(built, open_page) -> None:
    wanted = {"corpus": "docs", "hours": 0.1, "run": "choose-docs"}
    for ends, cancelled in (("failed", False), ("cancelled", True)):
        job = work_jobs.start(built, "choose", "Comparing the ways for docs", wanted)
        if cancelled:
            work_jobs.cancel(built, job.id)
        assert work_jobs.wait(built, job.id, 200).state == ends
        at = open_page("choose")
        assert button(at, "Start").disabled is False
        assert bool(at.error) is not cancelled and (cancelled or "Comparing the ways for docs failed" in at.error[0].value)
        assert any("Start begins from the beginning" in caption.value for caption in at.caption) is cancelled


@pytest.mark.parametrize(
    ("page", "named"),
    [
        ("evaluate", {"run": "nope"}),
        ("choose", {"comparison": "nope"}),
        ("choose", {"corpus": "nope"}),
        ("train", {"run": "nope"}),
    ],
)
def test_a_run_or_a_comparison_of_the_address_that_is_not_there_is_said(comparison, open_page, page, named) -> None:
    comparison(retrieval=0.8, low=0.6, holm_p=0.01)
    ((key, _),) = named.items()
    at = open_page(page, **named)
    assert "nope: not there" in at.error[0].value.replace("\\", "") and not at.metric and not at.dataframe
    for offered in [one for one in at.button if one.key == f"instead-{key}"]:
        offered.click().run()
        assert not at.error and (at.metric or at.dataframe)


@pytest.mark.parametrize(("page", "key"), [("evaluate", "run"), ("choose", "comparison"), ("train", "run")])
def test_where_nothing_was_run_what_the_address_names_is_said_too(built, open_page, page, key) -> None:
    assert "nope: not there" in open_page(page, **{key: "nope"}).error[0].value.replace("\\", "")


def test_choosing_begins_with_documents(place, open_page) -> None:
    at = open_page("choose")
    assert "no documents yet" in at.info[0].value and not at.button


def test_one_damaged_run_hides_no_other(old_run, open_page) -> None:
    for name, text in (("null", "null"), ("half", '{"run": "half"}'), ("list", "[]")):
        (old_run.parent / name).mkdir()
        (old_run.parent / name / "summary.json").write_text(text, encoding="utf-8")
    at = open_page("evaluate", run="old")
    assert not at.error and len(at.dataframe) == 1
    assert set(next(one for one in at.selectbox if one.label == "Run").options) == {"old", "null", "half", "list"}
    for name in ("null", "half", "list"):
        at = open_page("evaluate", run=name)
        assert not at.exception and "summary\\.json" in at.error[0].value


def test_a_run_that_was_damaged_is_told(experiment, open_page) -> None:
    folder = experiment.results / "broken"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{", encoding="utf-8")
    at = open_page("evaluate")
    assert not at.exception and "summary\\.json" in at.error[0].value and "resume" in at.error[0].value


def test_an_experiment_with_faults_names_them(experiment, open_page) -> None:
    path = experiment.root / "eval" / "experiments" / "faulty.toml"
    path.write_text(EXPERIMENT.replace("baseline", "basline"), encoding="utf-8")
    at = open_page("evaluate")
    at.selectbox[0].set_value("faulty").run()
    assert not at.exception and "basline" in at.error[0].value
    assert all(one.label != "Run" for one in at.button)


def test_no_corpus_to_train_on(place, open_page) -> None:
    at = open_page("train")
    assert "no documents yet" in at.info[0].value and not at.button and not at.code


def test_the_command_is_shown_before_it_is_run(built, open_page) -> None:
    at = open_page("train")
    at.text_input[0].set_value("mine").run()
    assert "rag-vs-ft train scratch --corpus docs --preset nano --run mine --home" in at.code[0].value
    at.get("button_group")[0].set_value("LoRA").run()
    assert at.text_input[0].value == "lora-docs"
    assert f"rag-vs-ft train lora --corpus docs --preset {settings.LANGUAGE_MODEL} --run lora-docs --home" in at.code[0].value
    at.text_input[0].set_value("../out").run()
    button(at, "Train").click().run()
    assert "not usable" in at.error[0].value


@pytest.mark.slow
def test_a_run_is_trained_from_the_page_and_a_failure_is_told(built, open_page, ended_job) -> None:
    at = open_page("train")
    at.text_input[0].set_value("mine").run()
    at.number_input[0].set_value(2).run()
    button(at, "Train").click().run()
    ended_job("train")
    at.run()
    assert "mine is trained" in at.success[0].value
    assert {metric.label: metric.value for metric in at.metric}["State"] == "finished"
    at = open_page("train", run="mine")
    at.text_input[0].set_value("second").run()
    at.number_input[0].set_value(2).run()
    button(at, "Train").click().run()
    assert [one for one in at.selectbox if one.key == "run"] == [] or at.selectbox(key="run").value == "second"
    ended_job("train")
    at.run()
    assert at.selectbox(key="run").value == "second", "and not the one of the address"
    table = next((built.corpora / "docs").glob("documents-*.parquet"))
    table.write_bytes(b"x" * table.stat().st_size)
    at.text_input[0].set_value("other").run()
    button(at, "Train").click().run()
    ended_job("train", "failed")
    at.run()
    assert "Training other failed" in at.error[0].value and "damaged" in at.error[0].value


@pytest.mark.slow
def test_a_run_with_changed_settings_is_stopped_and_resumed_from_the_page(built, open_page, ended_job, monkeypatch) -> None:
    train("scratch", "docs", "nano", "old", overrides=SIZES, home=built.root)
    at = open_page("train")
    assert at.selectbox(key="run").value == "old"
    sizes = {**SIZES, "steps": "100000", "eval_every": "5", "patience": "0"}
    job = work_jobs.start(built, "train", "Training first", {**SCRATCH, "run": "first", "overrides": sizes})
    while work_jobs.find(built, job.id).running and not list((built.runs / "first").glob("checkpoints/step-*")):
        time.sleep(0.1)
    assert psutil.Process(job.pid).nice() > psutil.Process().nice(), "it gives way to questions"
    at.run()
    assert at.selectbox(key="run").value == "first", "what is trained now, and not the older one"
    state = {metric.label: metric.value for metric in at.metric}["State"]
    assert state == "training" and not [one for one in at.button if one.label == "Resume"]
    assert any(caption.value.startswith("Step ") for caption in at.caption), "what it writes meanwhile"
    at.selectbox(key="run").set_value("old").run()
    assert at.selectbox(key="run").value == "old" and "Stop and keep" not in [one.label for one in at.button]
    at.selectbox(key="run").set_value("first").run()
    button(at, "Stop and keep").click().run()
    ended_job("train", "cancelled")
    at.run()
    assert at.info[0].value.startswith("The run first was stopped after step") and "this checkpoint is kept" in at.info[0].value
    assert {metric.label: metric.value for metric in at.metric}["State"] == "stopped"
    kept = last_step(built)
    assert any(f"Its last checkpoint is step {kept:,}." in caption.value for caption in at.caption)
    command = ["rag-vs-ft", "train", "--run", "first", "--resume", "--home", str(built.root)]
    assert (
        shlex.split(at.code[-1].value) == command and work_jobs.find(built, job.id).hint == f"go on with: {shlex.join(command)}"
    )
    looks = []
    monkeypatch.setattr(runs, "being_trained", lambda folder, look=runs.being_trained: looks.append(folder) or look(folder))
    first = button(at, "Resume").click().run()
    assert not first.exception and not first.error
    assert len(looks) <= 2, "drawn once or twice, and not until the process holds the run"
    assert "Resume" not in [one.label for one in at.button], "though its process has hardly begun"
    reached = last_step(built)
    resumed = work_jobs.latest(built, "resume")
    assert resumed.id != job.id
    while work_jobs.find(built, resumed.id).running and last_step(built) <= reached + 5:
        time.sleep(0.1)
    work_jobs.cancel(built, resumed.id)
    ended = work_jobs.wait(built, resumed.id, 60)
    assert ended.state in ("cancelled", "finished") and last_step(built) > reached, "on it went, with the settings it had"


def last_step(home) -> int:
    return max(row["step"] for row in runs.read_metrics(home.runs / "first"))


def test_a_damaged_corpus_or_run_is_named_and_the_others_are_offered(built, open_page) -> None:
    for name in ("broken", "cut"):
        (built.corpora / name).mkdir()
        (built.corpora / name / "manifest.json").write_text("[]" if name == "cut" else "{", encoding="utf-8")
        (built.runs / name).mkdir(parents=True)
        (built.runs / name / "run.json").write_text("[]" if name == "cut" else "{", encoding="utf-8")
    at = open_page("train")
    assert at.selectbox[0].options == ["docs"]
    told = " ".join(error.value for error in at.error)
    assert "corpora/broken".replace("/", r"\/") in told and "corpora/cut".replace("/", r"\/") in told, told
    assert set(at.selectbox(key="run").options) == {"broken", "cut"} and r"runs\/" in at.error[-1].value
    for page in ("", "index", "compare", "rate", "tokens", "evaluate", "work"):
        assert not open_page(page).exception, page


def test_a_run_with_curves_and_what_it_writes(built, open_page) -> None:
    train("scratch", "docs", "nano", "first", overrides=SIZES, home=built.root)
    at = open_page("train")
    assert not at.error
    values = {metric.label: metric.value for metric in at.metric}
    assert values["State"] == "finished" and float(values["Best bits per byte"]) > 0
    assert len(at.get("vega_lite_chart")) + len(at.get("arrow_vega_lite_chart")) == 4
    metrics = built.runs / "first" / runs.METRICS
    metrics.write_text(metrics.read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8")
    at.run()
    assert any("at step" in text.value for text in at.text), "one point is no curve"
    assert not at.get("vega_lite_chart") and not at.get("arrow_vega_lite_chart")
    button(at, "Go on").click().run()
    assert not at.exception and not at.error
    assert any(text.value.startswith("An AKS cluster") for text in at.text)
    (built.runs / "first" / "run.json").write_text("{}", encoding="utf-8")
    at.run()
    assert not at.exception and "train again" in at.error[0].value
