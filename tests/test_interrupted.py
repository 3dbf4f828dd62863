"""A process that dies, a full disk and a disk that fails, at the steps of every verb that writes. `faults.py` tries them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rag_vs_ft import conversations, feedback, settings

HERE = Path(__file__).parent
HEAVY = ("index-build", "index-update", "rollback", "export", "eval", "eval-resume", "pull", "conversion")


def tried(sample: int, *verbs: str) -> list[dict[str, object]]:
    command = [sys.executable, str(HERE / "faults.py"), *verbs, "--sample", str(sample)]
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=550, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_corpus_survives_faults_at_any_step() -> None:
    found = tried(2, "corpus-add", "corpus-update")
    assert [one["verb"] for one in found] == ["corpus-add", "corpus-update"]
    assert all(one["steps"] > 8 and one["tries"] == 6 and one["broken"] == 0 for one in found)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_verb_that_writes_survives_faults_at_any_step() -> None:
    found = tried(2, *HEAVY)
    assert [one["verb"] for one in found] == list(HEAVY)
    assert all(one["steps"] > 3 and one["broken"] == 0 for one in found)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_training_survives_faults_at_any_step() -> None:
    found = tried(1, "train", "resume")
    assert all(one["steps"] > 50 and one["tries"] == 3 and one["broken"] == 0 for one in found)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace puts faults into SQLite's system calls")
def test_ratings_and_conversations_survive_faults_at_any_system_call() -> None:
    (found,) = tried(8, "feedback")
    assert found["steps"] > 40 and found["tries"] >= 18 and found["broken"] == 0


SAVING = """
import sys
from pathlib import Path
from rag_vs_ft import conversations, feedback, settings
home = settings.home(Path(sys.argv[1]))
for number in range(10_000):
    turn = conversations.Turn(f"Question {number}?", {"k": 3}, id=f"turn-{number}")
    conversations.save(home, "one", turn)
    feedback.store_rating(home, f"Question {number}?", ("a", "b"), ("yes", "no"), "first")
    print(number, flush=True)
"""


def test_a_killed_process_loses_no_conversation_and_no_rating_that_was_acknowledged(tmp_path: Path) -> None:
    home = settings.home(tmp_path)
    acknowledged = -1
    for moment in (0.0, 0.004, 0.02):
        with subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "0\n"
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines()
            acknowledged = max(acknowledged, *(int(line) for line in rest if line.isdigit()), 0)
        turns = {turn.id for turn in conversations.load(home, "one").turns}
        assert {f"turn-{number}" for number in range(acknowledged + 1)} <= turns
        assert len(feedback.rated_questions(home, ("a", "b"))) >= acknowledged + 1
        assert conversations.verify(home) == [] and feedback.verify(home) == []
    conversations.save(home, "one", conversations.Turn("After all?", {}, id="after"))
    assert "after" in {turn.id for turn in conversations.load(home, "one").turns}


SPILLING = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_size = 1")
database.execute("DELETE FROM ratings")
row = ("now", "Lost?", "a", "b", "x" * 50_000, "y", "first")
for _ in range(20):
    database.execute("INSERT INTO ratings (time, question, first_arm, second_arm, first_answer, second_answer, verdict)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?)", row)
os._exit(9)
"""


def test_what_a_process_left_that_died_in_the_middle_of_a_rating_is_undone_by_whoever_reads(tmp_path: Path) -> None:
    home = settings.home(tmp_path)
    feedback.store_rating(home, "Kept?", ("a", "b"), ("yes", "no"), "first")
    path = feedback.database_path(home)
    assert subprocess.run([sys.executable, "-c", SPILLING, str(path)], check=False).returncode == 9
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    assert feedback.rated_questions(home, ("a", "b")) == {"Kept?"}
    assert feedback.verify(home) == []
