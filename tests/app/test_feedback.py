"""Feedback and blind ratings on disk."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading

import pytest

from rag_vs_ft import database
from rag_vs_ft.cli import main
from rag_vs_ft.database import rows
from rag_vs_ft.errors import UserError
from rag_vs_ft.feedback import (
    agreements,
    database_path,
    preferences,
    rated_questions,
    read_feedback,
    store_feedback,
    store_rating,
    verify,
)
from rag_vs_ft.records import Answer, Chunk, Hit


@pytest.fixture
def answer() -> Answer:
    hit = Hit(1, Chunk("c1", "d.md", "Title", "", "Text", 0, 4, 3), 0.5)
    return Answer("90 days", (1,), (hit,), 10, 3, 0.5, "tiny", "gen-000001")


def rate(home, verdict: str, question: str = "q", arms: tuple[str, str] = ("a", "b")) -> None:
    store_rating(home, question, arms, ("x", "y"), verdict)


def test_nothing_is_there_at_first_and_reading_makes_no_file(home) -> None:
    assert read_feedback(home) == [] and preferences(home) == []
    assert not database_path(home).exists()


def test_feedback_is_kept_with_what_it_is_about(home, answer) -> None:
    store_feedback(home, "id1", "How long?", answer, thumb=1, index_name="docs", settings={"k": 3})
    store_feedback(home, "id2", "Other?", answer, note='it\'s "wrong"; DROP TABLE feedback')
    store_feedback(home, "id1", "How long?", answer, thumb=0, note="no", index_name="docs", settings={"k": 3})
    second, first = read_feedback(home)
    assert first["answer_id"] == "id1" and (first["thumb"], first["note"]) == (0, "no")
    assert first["chunk_ids"] == ["c1"] and first["settings"] == {"k": 3} and first["generation"] == "gen-000001"
    assert second["thumb"] is None and second["note"] == 'it\'s "wrong"; DROP TABLE feedback'


def test_wins_ties_and_losses_do_not_depend_on_the_order_shown(home) -> None:
    rate(home, "first", "q1")
    rate(home, "second", "q2", ("b", "a"))
    rate(home, "second", "q3")
    rate(home, "tie", "q4")
    rate(home, "both bad", "q5", ("b", "a"))
    rate(home, "first", "q1", ("c", "a"))
    one, two = preferences(home)
    assert (one.arm, one.other, one.wins, one.ties, one.losses, one.both_bad) == ("a", "b", 2, 2, 1, 1)
    assert one.share == pytest.approx(2 / 3)
    # Wilson (1927) by hand: n=3, p=2/3, z=1.959964
    assert one.interval == pytest.approx((0.20765, 0.93851), abs=1e-4)
    assert (two.arm, two.other, two.wins, two.losses, two.share) == ("a", "c", 0, 1, 0.0)


def test_the_last_rating_of_a_question_counts(home) -> None:
    rate(home, "first")
    rate(home, "first", arms=("b", "a"))
    (only,) = preferences(home)
    assert (only.wins, only.losses) == (0, 1)


def test_raters_are_kept_apart_and_their_agreement_is_cohens(home) -> None:
    verdicts = {"ann": "first first second tie tie", "bob": "first second second tie first"}
    for rater, given in verdicts.items():
        for number, verdict in enumerate(given.split()):
            store_rating(home, f"q{number}", ("a", "b"), ("x", "y"), verdict, rater)
    store_rating(home, "q0", ("b", "a"), ("y", "x"), "first", "bob")  # again, and the other way round
    store_rating(home, "q0", ("b", "a"), ("y", "x"), "second", "bob")
    (only,) = preferences(home)
    assert (only.wins, only.ties, only.losses) == (4, 3, 3)
    # By hand: 3 of 5 agree; by chance (2*2 + 1*2 + 2*1) / 25 = 0.32; (0.6 - 0.32) / 0.68
    (pair,) = agreements(home)
    assert (pair.rater, pair.other, pair.rated, pair.share) == ("ann", "bob", 5, 0.6)
    assert pair.kappa == pytest.approx(0.28 / 0.68)
    assert rated_questions(home, ("b", "a"), "ann") == {f"q{number}" for number in range(5)}
    assert rated_questions(home, ("a", "b"), "eve") == set()
    assert verify(home) == []


def test_a_file_of_before_there_were_raters_is_read_and_written(home) -> None:
    rate(home, "first")
    with sqlite3.connect(database_path(home)) as opened:
        opened.execute("DROP TABLE raters")
    assert preferences(home)[0].wins == 1 and agreements(home) == [] and verify(home) == []
    store_rating(home, "q", ("a", "b"), ("x", "y"), "first", "ann")
    (pair,) = agreements(home)
    assert (pair.rater, pair.other, pair.share, pair.kappa) == ("", "ann", 1.0, None)


def test_ties_alone_have_no_share(home) -> None:
    rate(home, "tie")
    (only,) = preferences(home)
    assert only.share is None and only.interval is None and only.ties == 1


@pytest.mark.parametrize(("verdict", "arms"), [("third", ("a", "b")), ("first", ("a", "a"))])
def test_what_is_no_rating_is_refused(home, verdict, arms) -> None:
    with pytest.raises(UserError, match="is no rating"):
        rate(home, verdict, arms=arms)
    assert preferences(home) == []


def test_a_file_that_is_no_database_a_lock_and_a_read_only_folder_are_user_errors(home, answer, monkeypatch) -> None:
    home.root.mkdir()
    database_path(home).write_bytes(b"not a database " * 100)
    with pytest.raises(UserError, match="not a database"):
        store_feedback(home, "id", "q", answer)
    database_path(home).unlink()
    with sqlite3.connect(database_path(home)) as holder:
        holder.execute("CREATE TABLE other (id)")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="locked"):
            store_feedback(home, "id", "q", answer)
    database_path(home).unlink()
    database_path(home).mkdir()
    with pytest.raises(UserError, match="unable to open"):
        store_feedback(home, "id", "q", answer)


def test_what_reads_while_the_first_writer_makes_the_tables_waits_for_them(home, answer, monkeypatch) -> None:
    home.root.mkdir()
    with sqlite3.connect(database_path(home)) as begun:
        begun.execute("CREATE TABLE other (id)")
    writer = threading.Timer(0.2, store_feedback, (home, "id", "q", answer), {"thumb": 1})
    writer.start()
    found = rows(database_path(home), "SELECT * FROM feedback")  # its table is there before its row
    writer.join()
    assert [row["thumb"] for row in found] in ([], [1])
    assert [row["thumb"] for row in rows(database_path(home), "SELECT * FROM feedback")] == [1]
    monkeypatch.setattr(database, "_MOMENT", 0.001)
    with pytest.raises(UserError, match="no such table: absent"):
        rows(database_path(home), "SELECT * FROM absent")


def test_the_verbs_list_and_export_what_people_said(home, answer, tmp_path, monkeypatch, capsys) -> None:
    store_feedback(home, "id1", "How long?", answer, thumb=0, note="too short")

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["rag-vs-ft", "feedback", *words, "--home", str(home.root)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        return capsys.readouterr().out

    listed = run("list")
    assert "down" in listed and "How long?" in listed and "answer: 90 days" in listed and "note: too short" in listed
    out = tmp_path / "feedback.jsonl"
    assert "1 rows in" in run("export", str(out))
    row = json.loads(out.read_text(encoding="utf-8"))
    assert (row["question"], row["thumb"], row["note"], row["chunk_ids"]) == ("How long?", 0, "too short", ["c1"])


def test_many_visitors_at_once(home, answer) -> None:
    threads = [
        threading.Thread(target=store_feedback, args=(home, f"id{number}", "q", answer), kwargs={"thumb": number % 2})
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_feedback(home)) == 16
