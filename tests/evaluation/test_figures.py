"""Figures and their file form. `finished_run` is the results folder of a run made before figures were typed."""

import json
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from rag_vs_ft import files, settings
from rag_vs_ft.cli import main
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.compare import compare_runs, read_report
from rag_vs_ft.evaluation.figures import ArmFigures, read_scores, read_summary
from rag_vs_ft.evaluation.harness import run_experiment
from rag_vs_ft.evaluation.measures import ACCURACY, BITS, F1, MARGIN, MEASURES

sys.path.append(str(Path(__file__).parents[1]))
from string_keys import string_keys

OLD = Path(__file__).with_name("finished_run")
ROOT = Path(__file__).parents[2]
NAMES = frozenset({"tags", "splits", "finish", "by_tag", "retrieval", "skipped", "failed"})
"""Objects whose keys are data."""


def key_paths(value, place=""):
    """Every path of keys in a JSON value; keys that are data, and places in lists, count as one."""
    if isinstance(value, dict):
        if place.rpartition(".")[2] in NAMES:
            return {path for one in value.values() for path in key_paths(one, f"{place}.*")}
        return {path for key, one in value.items() for path in key_paths(one, f"{place}.{key}" if place else key)} | {place}
    if isinstance(value, list):
        return {path for one in value for path in key_paths(one, f"{place}[]")} | {place}
    return {place}


def kept(value, like):
    """A JSON value without the keys that another lacks."""
    if isinstance(value, dict):
        return {key: kept(one, like[key]) for key, one in value.items() if key in like}
    return [kept(*pair) for pair in zip(value, like, strict=True)] if isinstance(value, list) else value


@pytest.fixture
def old(tmp_path):
    """The old run's folder in a home."""
    folder = settings.home(tmp_path / "place").results / "small"
    shutil.copytree(OLD, folder)
    return folder


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    for part in ("corpora", "indexes"):
        (root / part).symlink_to(world / "home" / part, target_is_directory=True)
    return run_experiment(world / "experiment.toml", home=settings.home(root))


GONE = {"detectable_difference" + key for key in ("", ".assumed_discordant", ".power", ".one_pair", ".all_pairs", ".pairs")}
ADDED = {
    "arms[].fact_recall",
    "arms[].fact_recall_ci",
    "arms[].fact_recall_ci[]",
    "arms[].groundedness",
    "arms[].groundedness_ci",
    "arms[].groundedness_ci[]",
    "context_gains",
    "context_gains[]",
    *(f"context_gains[].{key}" for key in ("arm", "nothing", "right_passage", "n", "share", "interval", "interval[]")),
    "arms[].letter_accuracy",
    "arms[].letter_accuracy_ci",
    "arms[].margin",
    "arms[].margin_ci",
    "arms[].margin_ci[]",
    "arms[].seconds_per_right_answer",
    "pairs[].planned",
    "pairs[].detectable",
    "questions.effective_clusters",
    "freshness",
    "by_score",
    "by_score[]",
    *(f"by_score[].{key}" for key in ("score", "best", "choice_accuracy", "difference", "interval", "interval[]", "holm_p")),
}


def test_summary_json_has_the_keys_that_it_had(finished):
    old, new = (key_paths(files.read_json(folder / "summary.json", "")) for folder in (OLD, finished.folder))
    assert old - new == GONE and new - old <= ADDED
    assert key_paths(json.loads(json.dumps(finished.to_json()))) == new | {"folder"}


def test_a_summary_is_read_back_as_it_was_written(finished):
    assert read_summary(finished.folder) == finished.summary


def test_a_run_of_before_is_read_and_loses_nothing():
    record, again = json.loads((OLD / "summary.json").read_text()), json.loads(json.dumps(read_summary(OLD).to_json()))
    assert kept(again, record) == {key: value for key, value in record.items() if key not in GONE}
    assert read_summary(OLD).arms[0].of(MARGIN).value is None and read_summary(OLD).by_score == ()


def test_a_measure_that_an_old_run_lacks_has_no_value(tmp_path):
    record = json.loads((OLD / "summary.json").read_text())
    for arm in record["arms"]:
        del arm["rouge_l"]
    (tmp_path / "summary.json").write_text(json.dumps(record))
    arm = read_summary(tmp_path).arms[0]
    assert arm.of(MEASURES[-1]).value is None and arm.of(F1).value is not None


def test_a_run_of_before_opens_in_report_and_comparison(old, finished):
    assert read_report(old) == (OLD / "report.md").read_text()
    found = compare_runs(old, finished.folder)
    assert {arm.arm for arm in found.arms} == {"alone", "retrieval", "oracle"} and all(arm.same == 14 for arm in found.arms)
    assert {score.of(ACCURACY) for score in read_scores(old)} == {None, 0.0, 1.0}
    assert all(score.of(BITS) for score in read_scores(old) if score.of(ACCURACY) is not None)


DAMAGES = {
    "null": lambda record: None,
    "list": lambda record: [record],
    "misspelt": lambda record: {("verdic" if key == "verdict" else key): value for key, value in record.items()},
    "arms of another type": lambda record: record | {"arms": "three"},
    "an arm that is a number": lambda record: record | {"arms": [3]},
    "a text for a number": lambda record: record | {"questions": record["questions"] | {"n": "17"}},
    "another score": lambda record: record | {"primary_score": "best"},
    "half an interval": lambda record: record | {"arms": [record["arms"][0] | {"choice_accuracy_ci": [0.1]}]},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_summary_is_named(damage, old, capsys, monkeypatch):
    path = old / "summary.json"
    path.write_text(json.dumps(DAMAGES[damage](json.loads(path.read_text()))))
    with pytest.raises(UserError, match=r"summary\.json"):
        read_summary(old)
    monkeypatch.setattr(sys, "argv", ["rag-vs-ft", "report", str(old)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "summary.json" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"a": ' * 100_000, "[" * 100_000])
def test_a_summary_that_is_not_json_is_named(text, old):
    (old / "summary.json").write_text(text)
    with pytest.raises(UserError, match=r"summary\.json"):
        read_summary(old)


@pytest.mark.parametrize(
    "line", ["null", "[]", '{"split": "test", "scores": 3}', '{"split": "test", "scores": {"cluster": "c"}, "arm": 3}', "{"]
)
def test_a_damaged_line_of_predictions_is_named(line, old):
    path = old / "predictions.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(UserError, match=r"predictions\.jsonl:2"):
        read_scores(old)


def test_figures_are_read_as_attributes():
    """What a type checker sees; a read by a string key is an empty cell when the field is renamed."""
    names = ("compare", "measures", "plots", "ratings", "render", "report", "statistics", "summary", "verdict")
    files = [ROOT / "rag_vs_ft" / "evaluation" / f"{name}.py" for name in names]
    assert {path.name: string_keys(path) for path in files} == {path.name: 0 for path in files}


def test_measures_have_names_of_their_own():
    taken = {one.name for one in fields(ArmFigures)}
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names) and not taken & set(names)
