"""Jobs: work in processes of its own, seen by every process that knows the home."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from rag_vs_ft import jobs
from rag_vs_ft.errors import UserError


def long_work(home) -> jobs.Job:
    """A job that goes on for a minute and more: a corpus is read out of very many small files."""
    source = home.root / "many.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    with source.open("w", encoding="utf-8") as out:
        for number in range(200_000):
            out.write(json.dumps({"id": f"{number}.md", "title": "T", "text": f"Text {number}. " * 20}) + "\n")
    return jobs.start(home, "index", "Indexing many", {"name": "many", "source": f"jsonl:{source}"})


def test_a_failure_that_a_user_can_act_on_is_kept_with_its_hint(home) -> None:
    job = jobs.start(home, "update", "Updating gone", {"name": "gone", "corpus": "gone"})
    ended = jobs.wait(home, job.id, 60)
    assert ended.state == "failed" and "gone" in ended.notes[0] and "corpus add" in ended.hint
    assert jobs.latest(home, "update") == ended and jobs.list_jobs(home) == [ended]


def test_a_failure_that_nobody_expected_leaves_its_traceback_in_the_log(home) -> None:
    job = jobs.start(home, "pull", "Downloading", {"name": 3})
    ended = jobs.wait(home, job.id, 60)
    log = jobs.folder(home) / f"{job.id}.log"
    assert ended.state == "failed" and "Traceback" in log.read_text(encoding="utf-8") and str(log) in ended.hint


def test_work_goes_on_without_its_starter_and_is_cancelled_by_another_process(home) -> None:
    (home.root).mkdir(parents=True)
    code = f"""
import sys; sys.path.insert(0, {str(__file__.rsplit("/", 1)[0])!r})
from rag_vs_ft import settings
import test_jobs
print(test_jobs.long_work(settings.home({str(home.root)!r})).id)
"""
    id = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    job = jobs.find(home, id)
    assert job.running and jobs.start(home, "index", "Indexing many").id == id, "its starter is gone, and it is not begun twice"
    asked = jobs.cancel(home, id)
    assert asked.state in ("stopping", "cancelled")
    assert jobs.wait(home, id, 60).state == "cancelled"
    assert jobs.cancel(home, id).state == "cancelled", "a job that has ended stays as it is"
    assert not (home.corpora / "many" / "manifest.json").exists()


def test_a_killed_process_is_told(home) -> None:
    import psutil

    job = long_work(home)
    psutil.Process(job.pid).kill()
    ended = jobs.wait(home, job.id, 60)
    assert ended.state == "died" and "memory" in ended.notes[0] and ".log" in ended.hint


def test_progress_has_the_time_left_and_raises_once_it_is_cancelled(home, monkeypatch) -> None:
    path = home.root / "jobs" / "one.jsonl"
    path.parent.mkdir(parents=True)
    import psutil

    own = psutil.Process()
    start = {"id": "one", "work": "update", "title": "T", "arguments": {}, "started": time.time(), "pid": own.pid}
    path.write_text(json.dumps({**start, "created": own.create_time()}) + "\n", encoding="utf-8")
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    reporter = jobs.Reporter(path)
    reporter("embed", 0, 100)
    clock += 10.0
    reporter("embed", 25, 100)
    assert (jobs.read(path).done, jobs.read(path).total, jobs.read(path).left) == (25, 100, 30.0)
    clock += 0.1
    reporter("embed", 26, 100)
    assert jobs.read(path).done == 25, "two lines of a stage are half a second apart"
    reporter("step", detail="loss 2.5")
    assert (jobs.read(path).stage, jobs.read(path).total, jobs.read(path).left) == ("step", 0, None)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"stage": "half')
    assert jobs.read(path).detail == "loss 2.5", "a line that is half written is not there yet"
    reporter.cancelled = True
    with pytest.raises(jobs.Cancelled):
        reporter("step")


def test_only_the_last_jobs_are_kept(home, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "KEEP", 2)
    for number in range(4):
        job = jobs.start(home, "pull", f"Downloading {number}", {"name": "no/../model"})
        jobs.wait(home, job.id, 60)
    assert [job.title for job in jobs.list_jobs(home)] == ["Downloading 3", "Downloading 2"]
    assert len(list(jobs.folder(home).iterdir())) == 4


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '{"id": "x"}', '{"id": "x", "pid": "no"}'])
def test_a_file_that_is_no_job_is_left_out(home, content) -> None:
    (home.root / "jobs").mkdir(parents=True)
    (home.root / "jobs" / "odd.jsonl").write_text(content, encoding="utf-8")
    assert jobs.list_jobs(home) == []
    with pytest.raises(UserError, match="there is no job"):
        jobs.find(home, "other")


def test_verbs_list_and_cancel(home, monkeypatch, capsys) -> None:
    from rag_vs_ft.cli import main

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["rag-vs-ft", "jobs", *words, "--home", str(home.root)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        return capsys.readouterr().out

    job = long_work(home)
    assert f"{job.id} " in run("list") and json.loads(run("list", "--json"))["jobs"][0]["work"] == "index"
    run("cancel", job.id)
    jobs.wait(home, job.id, 60)
    assert "Indexing many: cancelled" in run("cancel", job.id)
