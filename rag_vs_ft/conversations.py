"""Conversations in one SQLite file of the home: each question with its answer, passages and settings.

conversations.sqlite
  conversations     one row for each: id, name, when it began
  turns             one row for each question; `record` is the whole Turn as JSON, `said` what is searched
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from rag_vs_ft import database, files
from rag_vs_ft.errors import UserError
from rag_vs_ft.records import Answer, Chunk, Hit
from rag_vs_ft.settings import Home

TurnState = Literal["answering", "answered", "found", "stopped", "failed"]
"""`found`: passages alone were asked for."""
MAX_NAME = 80

_SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (id TEXT PRIMARY KEY, name TEXT NOT NULL, started TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS turns (
  id TEXT PRIMARY KEY, conversation TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE, time TEXT NOT NULL,
  said TEXT NOT NULL, record TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS turns_of ON turns (conversation, time);
PRAGMA foreign_keys = ON;
"""


@dataclass
class Turn:
    """A question and what has come of it so far.

    `earlier` are the questions before it, oldest first, for one that refers to them. `text` is what was written until now,
    `answer` the whole of it once it is finished. `failure` and `hint` say what went wrong. `chosen` are the page's settings.
    `loading_seconds` were spent before the question could be asked, `seconds` in all. `matched` has the query's terms that each
    chunk holds.
    """

    question: str
    chosen: dict[str, Any]
    earlier: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    state: TurnState = "answering"
    text: str = ""
    hits: Sequence[Hit] = ()
    answer: Answer | None = None
    failure: str = ""
    hint: str = ""
    window: int = 0
    loading_seconds: float = 0.0
    first_token_seconds: float = 0.0
    tokens_per_second: float = 0.0
    seconds: float = 0.0
    matched: dict[str, list[str]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object that the database keeps; hits are kept once, beside the answer."""
        answer = {**asdict(self.answer), "hits": []} if self.answer else None
        return {**asdict(self), "answer": answer}

    @staticmethod
    def of_json(record: Mapping[str, Any]) -> Turn:
        """The Turn of such an object; fields of another version are left out. Raises KeyError, TypeError or ValueError."""
        hits = tuple(_made(Hit, {**hit, "chunk": _chunk(hit["chunk"])}) for hit in record["hits"])
        answer = None
        if record["answer"] is not None:
            listed = {key: tuple(record["answer"][key]) for key in ("citations", "notices")}
            answer = _made(Answer, {**record["answer"], **listed, "hits": hits})
        return _made(
            Turn,
            {
                **record,
                "hits": hits,
                "answer": answer,
                "notices": tuple(record["notices"]),
                "earlier": tuple(record.get("earlier", ())),
            },
        )


def _chunk(values: Mapping[str, Any]) -> Chunk:
    chunk: Chunk = _made(Chunk, {**values, "groups": tuple(values.get("groups", ()))})
    return chunk


def _made(kind: type[Any], values: Mapping[str, Any]) -> Any:
    known = {one.name for one in fields(kind)}
    return kind(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True, slots=True)
class ConversationInfo:
    """A conversation in a list: its name, how many questions it has and when the last was asked (ISO 8601)."""

    id: str
    name: str
    questions: int
    last: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation; `unreadable` turns were written by another version or are damaged, and left out of `turns`."""

    id: str
    name: str
    turns: tuple[Turn, ...]
    unreadable: int


def database_path(home: Home) -> Path:
    """Where a home keeps its conversations."""
    return home.root / "conversations.sqlite"


def verify(home: Home) -> list[str]:
    """What is wrong with the kept conversations, row by row."""
    return database.verify(database_path(home), {"conversations": "id", "turns": "id"})


def new_id() -> str:
    """An id that nobody can guess: anyone who has it can read the conversation."""
    return secrets.token_urlsafe(12)


def save(home: Home, conversation: str, turn: Turn) -> None:
    """Keep a turn as it is now; the conversation is made with its first one and named by its question."""
    record = json.dumps(files.sealed(turn.to_json()), ensure_ascii=False)
    said = f"{turn.question}\n{turn.answer.answer if turn.answer else turn.text}"
    with database.transaction(database_path(home), _SCHEMA) as opened:
        name = " ".join(turn.question.split())
        if len(name) > MAX_NAME:
            begins = name[: MAX_NAME - 2]
            name = f"{begins.rpartition(' ')[0] or begins} …"
        opened.execute("INSERT OR IGNORE INTO conversations VALUES (?, ?, ?)", (conversation, name, turn.time))
        opened.execute(
            "INSERT INTO turns VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT(id) DO UPDATE SET said = excluded.said, record = excluded.record",
            (turn.id, conversation, turn.time, said, record),
        )
        database.seal(opened, "conversations", "id", conversation)
        database.seal(opened, "turns", "id", turn.id)


def load(home: Home, conversation: str) -> Conversation:
    """A conversation by its id. Raises UserError when it does not exist."""
    path = database_path(home)
    found = database.rows(path, "SELECT name FROM conversations WHERE id = ?", (conversation,))
    if not found:
        raise UserError("this conversation is not there", "it was deleted, or the address is not whole: begin a new one")
    turns, unreadable = [], 0
    for row in database.rows(path, "SELECT record FROM turns WHERE conversation = ? ORDER BY time", (conversation,)):
        try:
            turns.append(_turn(row["record"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            unreadable += 1
    return Conversation(conversation, found[0]["name"], tuple(turns), unreadable)


@lru_cache(2048)  # a page reads its conversation at each click
def _turn(record: str) -> Turn:
    return Turn.of_json(files.unsealed(json.loads(record)))


def summaries(home: Home, words: str = "") -> list[ConversationInfo]:
    """All conversations whose name, questions or answers hold every one of the words, the newest first."""
    query = (
        "SELECT c.id, c.name, COUNT(t.id) AS questions, COALESCE(MAX(t.time), c.started) AS last "
        "FROM conversations c LEFT JOIN turns t ON t.conversation = c.id "
    )
    conditions, values = [], []
    for word in words.split():
        conditions.append(
            "(instr(lower(c.name), lower(?)) OR c.id IN (SELECT conversation FROM turns WHERE instr(lower(said), lower(?))))"
        )
        values += [word, word]
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    found = database.rows(database_path(home), f"{query}{where}GROUP BY c.id ORDER BY last DESC", tuple(values))
    return [ConversationInfo(**row) for row in found]


def rename(home: Home, conversation: str, name: str) -> None:
    """Give a conversation another name. Raises UserError for an empty one."""
    name = " ".join(name.split())[:MAX_NAME]
    if not name:
        raise UserError("a conversation needs a name", "type one")
    with database.transaction(database_path(home), _SCHEMA) as opened:
        opened.execute("UPDATE conversations SET name = ? WHERE id = ?", (name, conversation))
        database.seal(opened, "conversations", "id", conversation)


def delete(home: Home, conversation: str) -> None:
    """Remove a conversation and its turns; what people said of its answers stays in the feedback."""
    with database.transaction(database_path(home), _SCHEMA) as opened:
        for row in opened.execute("SELECT id FROM turns WHERE conversation = ?", (conversation,)).fetchall():
            database.unseal(opened, "turns", row["id"])
        database.unseal(opened, "conversations", conversation)
        opened.execute("DELETE FROM turns WHERE conversation = ?", (conversation,))
        opened.execute("DELETE FROM conversations WHERE id = ?", (conversation,))


def as_markdown(turns: Sequence[Turn], name: str = "A conversation with rag-vs-ft") -> str:
    """The conversation as a file to keep. Texts are fenced, so nothing in them is read as Markdown."""

    def fenced(text: str) -> str:
        fence = "~" * 3
        while fence in text:
            fence += "~"
        return f"{fence}text\n{text}\n{fence}\n"

    parts = ["# A conversation with rag-vs-ft\n", fenced(name)]
    for number, turn in enumerate(turns, start=1):
        text = turn.answer.answer if turn.answer else turn.text
        cited = turn.answer.citations if turn.answer else ()
        parts += [f"## Question {number}\n", fenced(turn.question)]
        if turn.state != "found":
            parts += ["Answer:\n", fenced(text)]
        parts.append(
            f"Settings: {', '.join(f'{key} {value}' for key, value in turn.chosen.items() if value not in ('', None))}\n"
        )
        for hit in turn.hits:
            parts.append(f"Passage {hit.rank}{' (cited)' if hit.rank in cited else ''}:\n")
            parts.append(fenced(f"{hit.chunk.breadcrumb}\n{hit.chunk.url or hit.chunk.document_id}\n\n{hit.chunk.text}"))
    return "\n".join(parts)
