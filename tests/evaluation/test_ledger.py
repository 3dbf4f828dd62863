import errno
import json
import os

import pytest

from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation.figures import Openings
from rag_vs_ft.evaluation.ledger import LEDGER, fingerprint, record_opening
from rag_vs_ft.records import Question

QUESTIONS = [Question(f"q{number}", f"What is {number}?", answer=f"It is {number}.") for number in range(4)]


def opened(folder, questions=QUESTIONS, run="run", configuration=(), file_hashes=("file",)):
    return record_opening(folder, run=run, configuration=list(configuration), questions=questions, file_hashes=file_hashes)


def test_openings_are_counted_by_question_whatever_file_they_stand_in(tmp_path):
    assert opened(tmp_path) == Openings(1, 1)
    assert opened(tmp_path, run="b", configuration=["k=2"], file_hashes=["the same with a blank line"]) == Openings(2, 2)
    assert opened(tmp_path, QUESTIONS[:1], run="c", configuration=["k=3"], file_hashes=["a part"]) == Openings(3, 3)
    others = [Question("o", "Something else?", answer="Yes.")]
    assert opened(tmp_path, others, run="d", file_hashes=["other"]) == Openings(1, 1)


def test_going_on_with_a_run_is_no_new_opening(tmp_path):
    opened(tmp_path)
    assert opened(tmp_path) == Openings(1, 1)
    assert len((tmp_path / LEDGER).read_text().splitlines()) == 1
    assert opened(tmp_path, run="b") == Openings(2, 1)


def test_ids_marks_and_case_do_not_make_another_question():
    same = Question("other", 'what is "1"', choices=("It is 2.", "it is 1"), answer_index=1)
    assert fingerprint(same) == fingerprint(QUESTIONS[1]) != fingerprint(QUESTIONS[2])


def test_a_ledger_of_an_earlier_version_counts_by_file(tmp_path):
    line = {"time": "2026-01-01T00:00:00+00:00", "run": "old", "configuration": "c", "questions": ["file"]}
    (tmp_path / LEDGER).write_text(json.dumps(line) + "\n")
    assert opened(tmp_path, file_hashes=["another"]) == Openings(1, 1)
    assert opened(tmp_path, run="b") == Openings(3, 2)


@pytest.mark.parametrize(
    "line", ["null", "[]", "3", "{", "{}", '{"a":' * 100_000, '{"time": "t", "run": 3, "configuration": "c", "questions": []}']
)
def test_a_damaged_line_is_named_and_nothing_is_opened(tmp_path, line):
    opened(tmp_path)
    path = tmp_path / LEDGER
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CheckFailed, match=r"openings\.jsonl:2"):
        opened(tmp_path, run="b")
    assert path.read_text().endswith(line + "\n")


def test_half_a_line_was_never_an_opening(tmp_path):
    opened(tmp_path)
    path = tmp_path / LEDGER
    path.write_text(path.read_text() + '{"time": "2026')
    assert opened(tmp_path, run="b") == Openings(2, 1)
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2


def test_what_cannot_be_written_down_is_not_opened(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"openings\.jsonl: No space left"):
        opened(tmp_path)
