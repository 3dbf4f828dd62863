"""Updates that start by themselves: when they are due, of what, and what is said of a damaged list."""

from __future__ import annotations

import shutil
import time

import pytest

from rag_vs_ft import files, schedules
from rag_vs_ft.errors import CheckFailed


def begun_long_ago(home, *indexes: str) -> None:
    """Schedules of every day whose last update was two days ago."""
    updates = {name: {"hours": 24, "last": time.time() - 48 * 3600} for name in indexes}
    files.write_record(schedules.schedules_path(home), {"format": 1, "updates": updates})


def test_nothing_is_updated_before_it_is_due_and_never_is_forgotten(built) -> None:
    assert schedules.read(built) == {} and schedules.start_due(built) == []
    schedules.choose(built, "docs", 24)
    (kept,) = schedules.read(built).values()
    assert kept.hours == 24 and kept.next - time.time() == pytest.approx(24 * 3600, abs=60)
    assert schedules.start_due(built) == [] and schedules.read(built) == {"docs": kept}
    schedules.choose(built, "docs", 0)
    assert schedules.read(built) == {}


def test_the_schedule_of_an_index_that_is_gone_is_forgotten(built) -> None:
    begun_long_ago(built, "docs")
    shutil.rmtree(built.indexes / "docs")
    assert schedules.start_due(built) == [] and schedules.read(built) == {}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": 1, "updates": {"docs": {"hours": "often"}}}',
        '{"updates": 3}',
        '{"updates": {"docs": {"hours": 5, "last": 0}}}',
    ],
)
def test_a_damaged_list_is_told(home, text) -> None:
    home.root.mkdir()
    schedules.schedules_path(home).write_text(text, encoding="utf-8")
    with pytest.raises(CheckFailed, match=r"schedules\.json"):
        schedules.read(home)


@pytest.mark.slow
def test_what_is_due_is_updated_once(built, documents, ended_job) -> None:
    (documents / "new.md").write_text("# New\n\nA new article.\n", encoding="utf-8")
    begun_long_ago(built, "docs")
    (job,) = schedules.start_due(built)
    assert job.title == "Updating docs" and ended_job("update").notes[0].startswith("The index was updated: 1 passage added")
    assert schedules.start_due(built) == [], "the next one is due tomorrow"
