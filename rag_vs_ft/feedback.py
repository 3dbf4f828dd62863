"""What people say about answers: thumbs with notes, and blind ratings of one answer against another, in one SQLite file.

feedback.sqlite     in the home folder
  feedback          one row for each answer that somebody gave a thumb or a note
  ratings           one row for each blind comparison of two arms' answers to a question
  raters            who gave a rating, where a name was given
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from rag_vs_ft import database
from rag_vs_ft.errors import UserError
from rag_vs_ft.records import Answer
from rag_vs_ft.settings import Home

Verdict = Literal["first", "second", "tie", "both bad"]
"""Of the two answers as they were shown."""

WITH_PASSAGES = " + passages"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
  answer_id TEXT PRIMARY KEY, time TEXT NOT NULL, thumb INTEGER, note TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL,
  model TEXT NOT NULL, index_name TEXT NOT NULL, generation TEXT NOT NULL, chunk_ids TEXT NOT NULL, settings TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS ratings (
  id INTEGER PRIMARY KEY, time TEXT NOT NULL, question TEXT NOT NULL, first_arm TEXT NOT NULL, second_arm TEXT NOT NULL,
  first_answer TEXT NOT NULL, second_answer TEXT NOT NULL, verdict TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS raters (rating INTEGER PRIMARY KEY REFERENCES ratings(id), name TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Preference:
    """How often `arm` was preferred to `other`; `ties` count answers that were equally good or both bad.

    `share` is wins / (wins + losses) and `interval` its 95% Wilson score interval; both None before the first decision.
    """

    arm: str
    other: str
    wins: int
    ties: int
    losses: int
    both_bad: int
    share: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two raters agree on the questions and pairs of arms that both have rated.

    `share` of them got the same verdict; `kappa` is Cohen's (1960) over the four verdicts, None when each gave one verdict alone.
    """

    rater: str
    other: str
    rated: int
    share: float
    kappa: float | None


def arm_name(model: str, passages: bool) -> str:
    """What ratings call a way of answering: "MODEL", or "MODEL + passages" when it is given what a search finds."""
    return f"{model}{WITH_PASSAGES}" if passages else model


def database_path(home: Home) -> Path:
    """Where a home keeps its feedback."""
    return home.root / "feedback.sqlite"


def store_feedback(
    home: Home,
    answer_id: str,
    question: str,
    answer: Answer,
    *,
    thumb: int | None = None,
    note: str = "",
    index_name: str = "",
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Keep the thumb (1 up, 0 down, None taken back) and note of one answer; a later call for the same answer replaces it.

    Raises UserError when the file cannot be written.
    """
    values = (
        answer_id,
        _now(),
        thumb,
        note,
        question,
        answer.answer,
        answer.model,
        index_name,
        answer.index_generation or "",
        json.dumps([hit.chunk.id for hit in answer.hits]),
        json.dumps(dict(settings or {}), sort_keys=True),
    )
    with _open(home) as opened:
        opened.execute(f"INSERT OR REPLACE INTO feedback VALUES ({', '.join('?' * len(values))})", values)
        database.seal(opened, "feedback", "answer_id", answer_id)


def read_feedback(home: Home) -> list[dict[str, Any]]:
    """All feedback, oldest first; `chunk_ids` and `settings` as JSON values. Raises UserError for a damaged file."""
    rows = _read(home, "SELECT * FROM feedback ORDER BY time")
    try:
        return [{**row, "chunk_ids": json.loads(row["chunk_ids"]), "settings": json.loads(row["settings"])} for row in rows]
    except (ValueError, TypeError) as error:
        raise UserError(f"{database_path(home)} is damaged: {error}", "rag-vs-ft doctor names the rows") from error


def given(home: Home, answer_ids: Sequence[str]) -> dict[str, tuple[int | None, str]]:
    """Thumb and note of those of these answers that have one, by answer. Raises UserError when the file cannot be read."""
    marks = ", ".join("?" * len(answer_ids))
    query = f"SELECT answer_id, thumb, note FROM feedback WHERE answer_id IN ({marks})"
    found = database.rows(database_path(home), query, tuple(answer_ids))
    return {row["answer_id"]: (row["thumb"], row["note"]) for row in found}


def verify(home: Home) -> list[str]:
    """What is wrong with the kept feedback and ratings, row by row."""
    tables = {"feedback": "answer_id", "ratings": "id"}
    return database.verify(database_path(home), tables | ({"raters": "rating"} if _names_raters(home) else {}))


def as_json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Feedback as it is exported: one JSON object a line."""
    return "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)


def store_rating(
    home: Home, question: str, arms: tuple[str, str], answers: tuple[str, str], verdict: Verdict, rater: str = ""
) -> None:
    """Keep a blind rating of two arms' answers, in the order they were shown. Raises UserError when that cannot be done."""
    if verdict not in get_args(Verdict) or arms[0] == arms[1]:
        raise UserError(f"{verdict!r} of {arms[0]!r} and {arms[1]!r} is no rating", f"use one of: {', '.join(get_args(Verdict))}")
    with _open(home) as opened:
        added = opened.execute(
            "INSERT INTO ratings (time, question, first_arm, second_arm, first_answer, second_answer, verdict) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (_now(), question, *arms, *answers, verdict),
        )
        database.seal(opened, "ratings", "id", added.lastrowid)
        if rater:
            opened.execute("INSERT INTO raters VALUES (?, ?)", (added.lastrowid, rater))
            database.seal(opened, "raters", "rating", added.lastrowid)


def rated_questions(home: Home, arms: tuple[str, str], rater: str | None = None) -> set[str]:
    """The questions for which these two arms have been rated, in either order, by anybody or by one rater.

    Raises UserError when the file cannot be read.
    """
    return {
        question for (name, arm, other, question) in _last_verdicts(home) if {arm, other} == set(arms) and rater in (None, name)
    }


def preferences(home: Home) -> list[Preference]:
    """Win, tie and loss of each pair of arms that was rated, by name; of each rater the last rating of a question counts.

    Raises UserError when the file cannot be read.
    """
    from scipy.stats import binomtest

    last = _last_verdicts(home)
    found = []
    for arm, other in sorted({key[1:3] for key in last}):
        verdicts = [verdict for key, verdict in last.items() if key[1:3] == (arm, other)]
        wins, losses = verdicts.count(arm), verdicts.count(other)
        decided = wins + losses
        interval = binomtest(wins, decided).proportion_ci(0.95, "wilson") if decided else None
        found.append(
            Preference(
                arm=arm,
                other=other,
                wins=wins,
                ties=len(verdicts) - decided,
                losses=losses,
                both_bad=verdicts.count("both bad"),
                share=wins / decided if decided else None,
                interval=(float(interval.low), float(interval.high)) if interval else None,
            )
        )
    return found


def agreements(home: Home) -> list[Agreement]:
    """How far each two raters agree who have rated the same; one without a name is a rater too.

    Raises UserError when the file cannot be read.
    """
    by_rater: dict[str, dict[tuple[str, str, str], str]] = {}
    for (rater, arm, other, question), winner in _last_verdicts(home).items():
        verdict = {arm: "first", other: "second"}.get(winner, winner)
        by_rater.setdefault(rater, {})[arm, other, question] = verdict
    found = []
    for rater, second in combinations(sorted(by_rater), 2):
        both = sorted(by_rater[rater].keys() & by_rater[second].keys())
        if both:
            pairs = [(by_rater[rater][key], by_rater[second][key]) for key in both]
            share = sum(one == two for one, two in pairs) / len(pairs)
            counts = [Counter(column) for column in zip(*pairs, strict=True)]
            chance = sum(counts[0][verdict] * counts[1][verdict] for verdict in counts[0]) / len(pairs) ** 2
            found.append(Agreement(rater, second, len(pairs), share, (share - chance) / (1 - chance) if chance < 1 else None))
    return found


def _last_verdicts(home: Home) -> dict[tuple[str, str, str, str], str]:
    """By rater, the two arms by name and the question: the arm that won, "tie" or "both bad"."""
    names = {row["rating"]: row["name"] for row in _read(home, "SELECT * FROM raters")} if _names_raters(home) else {}
    last = {}
    for row in _read(home, "SELECT id, question, first_arm, second_arm, verdict FROM ratings ORDER BY id"):
        arms = (row["first_arm"], row["second_arm"])
        arm, other = sorted(arms)
        winner = {"first": arms[0], "second": arms[1]}.get(row["verdict"], row["verdict"])
        last[names.get(row["id"], ""), arm, other, row["question"]] = winner
    return last


def _names_raters(home: Home) -> bool:
    """Whether the file has the table of raters, which earlier versions did not make."""
    return bool(_read(home, "SELECT name FROM sqlite_master WHERE name = 'raters'"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _open(home: Home) -> AbstractContextManager[sqlite3.Connection]:
    return database.transaction(database_path(home), _SCHEMA)


def _read(home: Home, query: str) -> list[dict[str, Any]]:
    return database.rows(database_path(home), query)
