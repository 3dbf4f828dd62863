"""Paths and numbers that a user gives: what cannot be one is named, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError


@pytest.mark.parametrize("path", ["~nosuchuser/x", "a\0b", "n" * 300])
def test_what_cannot_be_a_path_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for ask in (settings.user_path, settings.home):
        with pytest.raises(UserError, match="not a usable path"):
            ask(path)
    if "\0" in path:
        return  # no environment can hold it
    monkeypatch.setenv("RAG_VS_FT_CACHE", path)
    with pytest.raises(UserError, match="not a usable path"):
        settings.cache_folder()


def test_the_home_of_a_user_is_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.home("~/docs").root == (tmp_path / "docs").resolve()


@pytest.mark.parametrize("threads", ["0", "-1", "1.5", "many", "²", "٣", "99999999999999999999", "1025"])
def test_threads_that_are_no_number_of_threads(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_VS_FT_THREADS", threads)
    with pytest.raises(UserError, match="is not a number from 1 to 1024"):
        settings.threads()


def test_threads_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_VS_FT_THREADS", "3")
    assert settings.threads() == 3
