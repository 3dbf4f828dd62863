import json
import shutil
from dataclasses import replace

import pytest

from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation.predictions import CHECKSUM, PREDICTIONS, Outcome, Passage, Prediction, Store, line_of, read_records

OUTCOME = Outcome(choice_logprobs=(-1.25, -2.5), prior_logprobs=(-3.0, -3.5), answer_logprob=-0.125, score_seconds=0.5)
ROW = Prediction("arm", "test", "q1", "key", "Question: q\nAnswer:", 7, (), (), None, 0.25, OUTCOME, search_key="search")


@pytest.fixture
def results(tmp_path):
    """A results folder with a run `one` that holds `ROW`."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / PREDICTIONS).write_text(line_of(ROW.to_json()))
    (tmp_path / "two").mkdir()
    return tmp_path


def test_a_line_comes_back_as_it_was_with_its_scores():
    passage = Passage(1, "c", "d.md", 0.5, True, False)
    row = replace(ROW, passages=(passage,), citations=(1,), outcome=replace(OUTCOME, answer="é\u2028x", finish="length"))
    record = json.loads(line_of({**row.to_json(), "scores": {"choice_accuracy": 1.0}}))
    assert Prediction.of_json(record) == row and record["scores"] == {"choice_accuracy": 1.0}


def test_outcomes_of_all_runs_are_used_again_and_so_is_the_time_that_a_search_first_took(results):
    other = replace(ROW, search_seconds=9.0, outcome=replace(OUTCOME, score_seconds=9.0))
    (results / "two" / PREDICTIONS).write_text(line_of(other.to_json()))
    for run, seconds in (("one", 0.25), ("two", 9.0), ("three", 0.25)):
        (results / run).mkdir(exist_ok=True)
        store = Store(results / run)
        assert store.search_seconds("search") == seconds and store.notices == ()  # a run's own lines come first
        assert store.outcome("key").choice_logprobs == (-1.25, -2.5)
    assert store.outcome("other") is None and store.search_seconds("") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-1.25", "-1.26"),
        ("-1.25", "NaN"),
        ("-1.25", "Infinity"),
        ("-1.25", "1e999"),
        ("-1.25", '"-1.25"'),
        ('"q1"', '"q2"'),
        ('"arm"', '"other"'),
        ('"outcome": {', '"outcome": 3, "other": {'),
        ('"key": "key"', '"key": "other"'),
    ],
)
@pytest.mark.parametrize("run", ["one", "two"])
def test_what_was_changed_is_noticed_in_this_run_and_in_others(results, old, new, run):
    path = results / "one" / PREDICTIONS
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    store = Store(results / run)
    assert store.outcome("key") is None and store.outcome("other") is None
    assert len(store.notices) == 1 and f"{path}:1" in store.notices[0]
    with pytest.raises(CheckFailed, match=r"predictions\.jsonl:1"):
        list(read_records(path))


@pytest.mark.parametrize("line", ["null", "[]", "3", "{}", "{", '{"a":' * 100_000, '"text"', '{"outcome": {}}'])
def test_lines_of_another_shape_cost_their_prediction_and_nothing_else(results, line):
    path = results / "one" / PREDICTIONS
    path.write_text(f"{line}\n" + path.read_text())
    store = Store(results / "two")
    assert store.outcome("key") == OUTCOME and len(store.notices) == 1


def test_bytes_that_are_not_text_cost_their_line_alone(results):
    path = results / "one" / PREDICTIONS
    path.write_bytes(b"\xff\xfe\n" + path.read_bytes())
    store = Store(results / "two")
    assert store.outcome("key") == OUTCOME and "one/predictions.jsonl:1" in store.notices[0]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(results):
    (results / "broken" / PREDICTIONS).mkdir(parents=True)
    store = Store(results / "two")
    assert store.outcome("key") == OUTCOME and "broken" in store.notices[0]


def test_predictions_of_before_the_checksum_open_and_are_computed_again(results):
    path = results / "one" / PREDICTIONS
    record = json.loads(path.read_text())
    del record[CHECKSUM], record["search_key"], record["outcome"]["choice_values"]
    path.write_text(json.dumps(record) + "\n")
    ((number, read),) = read_records(path)
    assert number == 1 and Prediction.of_json(read) == replace(ROW, search_key="")
    store = Store(results / "two")
    assert store.outcome("key") is None and "1 predictions without a checksum" in store.notices[0]


def test_half_a_line_is_cut_off_before_the_next_is_added(results):
    path = results / "one" / PREDICTIONS
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    store = Store(results / "one")
    store.add([replace(ROW, question_id="q2")])
    assert [record["question_id"] for _, record in read_records(path)] == ["q1", "q2"]


def test_a_prediction_is_written_once(results):
    store = Store(results / "one")
    store.add([ROW, ROW])
    assert len(list(read_records(results / "one" / PREDICTIONS))) == 1


def test_a_full_disk_is_told_with_the_file_and_what_was_there_is_kept(results, monkeypatch):
    store = Store(results / "one")
    # A device that is always full, in the place of the file.
    path = results / "one" / PREDICTIONS
    shutil.move(path, results / "kept")
    path.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"predictions\.jsonl: No space left on device"):
        store.add([replace(ROW, question_id="q2")])
    path.unlink()
    shutil.move(results / "kept", path)
    again = Store(results / "one")
    assert again.outcome("key") == OUTCOME
    again.add([replace(ROW, question_id="q2")])
    assert len(list(read_records(path))) == 2


def test_the_finished_file_holds_what_is_scored_and_what_unfinished_arms_have(results):
    store = Store(results / "one")
    left = replace(ROW, arm="unfinished")
    store.add([left, replace(ROW, arm="gone")])
    store.finish([replace(ROW, split="dev")], [ROW], {("arm", "q1"): {"choice_accuracy": 1.0}}, ["unfinished"])
    rows = [record for _, record in read_records(results / "one" / PREDICTIONS)]
    assert [(row["arm"], row["split"]) for row in rows] == [("unfinished", "test"), ("arm", "dev"), ("arm", "test")]
    assert "scores" in rows[2] and "scores" not in rows[0]


def test_a_number_that_is_none_is_not_written():
    with pytest.raises(ValueError, match="Out of range"):
        line_of(replace(ROW, outcome=replace(OUTCOME, answer_logprob=float("nan"))).to_json())
    assert not replace(OUTCOME, prior_logprobs=(0.0, float("-inf"))).is_finite() and OUTCOME.is_finite()
