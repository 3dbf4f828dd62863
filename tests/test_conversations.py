"""Conversations on disk."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from markdown_it import MarkdownIt

from rag_vs_ft import conversations
from rag_vs_ft.conversations import Turn
from rag_vs_ft.errors import UserError
from rag_vs_ft.records import Answer, Chunk, Hit


def turn_of(question: str, answer: str = "90 days") -> Turn:
    hit = Hit(1, Chunk("c1", "d.md", "Title", "", "Text", 0, 4, 3), 0.5, 1, 2.5)
    turn = Turn(question, {"k": 3, "index": "docs"}, hits=(hit,), matched={"c1": ["text"]}, notices=("a note",))
    turn.answer = Answer(answer, (1,), (hit,), 10, 3, 0.5, "tiny", "gen-000001", notices=("cut off",))
    turn.state = "answered"
    return turn


def test_nothing_is_there_at_first_and_reading_makes_no_file(home) -> None:
    assert conversations.summaries(home) == [] and not conversations.database_path(home).exists()
    with pytest.raises(UserError, match="not there"):
        conversations.load(home, "none")


def test_a_turn_comes_back_as_it_was_and_is_replaced_when_saved_again(home) -> None:
    turn = turn_of("How long?")
    turn.state = "answering"
    conversations.save(home, "one", turn)
    turn.state = "answered"
    conversations.save(home, "one", turn)
    found = conversations.load(home, "one")
    assert found.turns == (turn,) and found.name == "How long?" and found.unreadable == 0


def test_search_needs_every_word_in_question_or_answer_and_no_pattern(home) -> None:
    conversations.save(home, "one", turn_of("How long is 100% kept?"))
    conversations.save(home, "two", turn_of("Which port?", "443"))
    conversations.save(home, "two", turn_of("And now?", "8443"))
    assert [one.id for one in conversations.summaries(home)] == ["two", "one"]
    assert [one.questions for one in conversations.summaries(home)] == [2, 1]
    assert [one.id for one in conversations.summaries(home, "PORT 8443")] == ["two"]
    assert [one.id for one in conversations.summaries(home, "100%")] == ["one"]
    assert conversations.summaries(home, "%") != [] and conversations.summaries(home, "_") == []


def test_names_and_deletion(home) -> None:
    named = {
        "One\n line": "One line",
        "x" * 300: "x" * 78 + " …",
        "x" * 77 + " and more": "x" * 77 + " …",
        "how " * 30: ("how " * 19).strip() + " …",
    }
    for number, (question, name) in enumerate(named.items()):
        conversations.save(home, str(number), turn_of(question))
        assert conversations.load(home, str(number)).name == name and len(name) <= conversations.MAX_NAME
        conversations.delete(home, str(number))
    conversations.save(home, "one", turn_of("q " * 200))
    assert len(conversations.load(home, "one").name) <= conversations.MAX_NAME
    conversations.rename(home, "one", "  Vaults\n and keys ")
    assert conversations.load(home, "one").name == "Vaults and keys"
    with pytest.raises(UserError, match="needs a name"):
        conversations.rename(home, "one", " ")
    conversations.delete(home, "one")
    assert conversations.summaries(home) == []


@pytest.mark.parametrize("record", ["{", "[]", "null", "{}", '{"hits": 3}', '{"hits": [], "answer": {}, "notices": []}'])
def test_a_turn_that_cannot_be_read_is_counted_and_the_others_are_there(home, record) -> None:
    conversations.save(home, "one", turn_of("first"))
    damaged = turn_of("second")
    conversations.save(home, "one", damaged)
    with sqlite3.connect(conversations.database_path(home)) as database:
        database.execute("UPDATE turns SET record = ? WHERE id = ?", (record, damaged.id))
    found = conversations.load(home, "one")
    assert [turn.question for turn in found.turns] == ["first"] and found.unreadable == 1


def test_fields_of_another_version_are_left_out(home) -> None:
    record = turn_of("q").to_json()
    record["hits"][0]["chunk"]["colour"] = record["answer"]["mood"] = record["later"] = 1
    assert Turn.of_json(record).answer.answer == "90 days"


def test_a_file_that_is_no_database_is_a_user_error(home) -> None:
    home.root.mkdir()
    conversations.database_path(home).write_bytes(b"not a database " * 100)
    with pytest.raises(UserError, match="not a database"):
        conversations.summaries(home)
    with pytest.raises(UserError, match="not a database"):
        conversations.save(home, "one", turn_of("q"))


def test_many_visitors_at_once(home) -> None:
    threads = [
        threading.Thread(target=conversations.save, args=(home, f"c{number % 4}", turn_of(f"q{number}"))) for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.questions for one in conversations.summaries(home)) == 16


@pytest.mark.parametrize("text", ["plain", "~~~\n# out", "~~~~~", "![i](http://evil.example/i.png)"])
def test_export_keeps_every_text_inside_a_fence(text) -> None:
    turn = Turn(text, {"k": 3}, text=text, hits=[Hit(1, Chunk("c", "d.md", text, "", text, 0, 1, 1), 1.0)])
    tokens = MarkdownIt().parse(conversations.as_markdown([turn], text))
    fences = [token.content for token in tokens if token.type == "fence"]
    assert len(fences) == 4 and all(text in fence for fence in fences)
    outside = [token.content for token in tokens if token.type == "inline"]
    assert not any("evil" in line or "out" in line for line in outside)
