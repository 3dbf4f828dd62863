"""The records that flow through the system, and their JSON Lines form.

documents -> chunks -> hits -> answers, and the questions that judge them. All are frozen; a stage that adds something makes a
new record. Field names are the JSON contract of the command line and of the files in `eval/`.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rag_vs_ft import files
from rag_vs_ft.errors import UserError


@dataclass(frozen=True, slots=True)
class Heading:
    """One heading of a document: level 1-6, its plain text, and the offset (characters) of its line in the clean text."""

    level: int
    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its file a text stands from this offset (characters) on: "p. 3", "sheet Prices", "slide 4"."""

    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Document:
    """One cleaned document.

    `id` is its POSIX path below the folder that was added, with control characters escaped; `date` is ISO 8601 or empty. `kind`
    is that of its file (`corpus.readers`), and `places` are its pages, sheets or slides, in order. `language` is an ISO 639-1
    code (`rag_vs_ft.language`), "" where it could not be told or the corpus is of an earlier version. `groups` may read it; none
    named: everyone (`rag_vs_ft.groups`).
    """

    id: str
    title: str
    text: str
    headings: tuple[Heading, ...] = ()
    url: str = ""
    service: str = ""
    date: str = ""
    commit: str = ""
    description: str = ""
    kind: str = "markdown"
    places: tuple[Place, ...] = ()
    language: str = ""
    groups: tuple[str, ...] = ()

    def place(self, start: int, end: int) -> str:
        """Where the characters from `start` to `end` stand: "p. 3", or "p. 3 to p. 5"; "" where the file has no places."""
        names = [name for name, _, _ in self.places_of(start, end)]
        return " to ".join(dict.fromkeys((names[0], names[-1]))) if names else ""

    def places_of(self, start: int, end: int) -> list[tuple[str, int, int]]:
        """The pages, sheets or slides on which the characters from `start` to `end` stand: the name of each, and where its text
        begins and ends. Text before the first place belongs to it."""
        if not self.places:
            return []
        offsets = [place.offset for place in self.places]
        first, last = (max(0, bisect_right(offsets, at) - 1) for at in (start, max(start, end - 1)))
        bounds = [0, *offsets[1:], len(self.text)]
        return [(self.places[number].name, bounds[number], bounds[number + 1]) for number in range(first, last + 1)]

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the clean text."""
        return files.sha256_text(self.text)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one document, small enough for the embedding model.

    `text` is what a reader sees and a prompt gets; `heading` is the path of headings above it ("Upgrade > Surge settings").
    `start` and `end` are character offsets of the piece in the clean document; a table piece also carries the header row
    repeated in `text`, so `text` may be longer than that range. `kind` is that of the document's file and `place` the page,
    sheet or slide ("p. 3"); `language` and `groups` are the document's. All are empty in an index of an earlier version. `tokens`
    counts the embedding model's own tokens of what is embedded, special tokens included.
    """

    id: str
    document_id: str
    title: str
    heading: str
    text: str
    start: int
    end: int
    tokens: int
    url: str = ""
    service: str = ""
    date: str = ""
    kind: str = ""
    place: str = ""
    language: str = ""
    groups: tuple[str, ...] = ()

    @property
    def cited(self) -> str:
        """How an answer cites the chunk: its breadcrumb and, where its file has pages, the page."""
        return f"{self.breadcrumb}, {self.place}" if self.place else self.breadcrumb

    @property
    def breadcrumb(self) -> str:
        """Title and headings in one line: "Upgrade a cluster > Surge settings"."""
        return f"{self.title} > {self.heading}" if self.heading else self.title


Reranker = Callable[[str, Sequence[Chunk]], Sequence[float]]
"""Question and passages -> one score a passage, higher is better."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved chunk: 1-based rank, the score of the search, and what each leg said of it (None: not in its list).

    The document ranks are those of its whole document, by words and by vectors; only hybrid search has them. After reranking,
    `rerank_score` decided the rank and `found_rank` is the one before; both are None for what was not reranked.
    """

    rank: int
    chunk: Chunk
    score: float
    bm25_rank: int | None = None
    bm25_score: float | None = None
    dense_rank: int | None = None
    dense_score: float | None = None
    document_bm25_rank: int | None = None
    document_dense_rank: int | None = None
    rerank_score: float | None = None
    found_rank: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that `search --json` and `ask --json` print for this hit; `document` and `rerank` only where they were
        used, `kind` and `place` only where a file has pages, sheets or slides."""
        record = {
            "rank": self.rank,
            "chunk_id": self.chunk.id,
            "document_id": self.chunk.document_id,
            "title": self.chunk.title,
            "heading": self.chunk.heading,
            "text": self.chunk.text,
            "score": self.score,
            "url": self.chunk.url,
            "bm25": None if self.bm25_rank is None else {"rank": self.bm25_rank, "score": self.bm25_score},
            "dense": None if self.dense_rank is None else {"rank": self.dense_rank, "score": self.dense_score},
        }
        if self.chunk.place:
            record["kind"], record["place"] = self.chunk.kind, self.chunk.place
        if self.document_dense_rank is not None:
            record["document"] = {"bm25_rank": self.document_bm25_rank, "dense_rank": self.document_dense_rank}
        if self.rerank_score is not None:
            record["rerank"] = {"score": self.rerank_score, "rank_before": self.found_rank}
        return record


@dataclass(frozen=True, slots=True)
class Question:
    """One question of an evaluation set; see the format in `docs/guide.md`.

    `answerable` is None when nobody has checked. `evidence` holds runs of words of the gold documents that prove the answer.
    `split` is "dev", "test" or "" (the set is not split).
    """

    id: str
    question: str
    answer: str | None = None
    choices: tuple[str, ...] | None = None
    answer_index: int | None = None
    gold_documents: tuple[str, ...] = ()
    answerable: bool | None = None
    source: str = ""
    tags: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    split: Literal["dev", "test", ""] = ""

    def to_json(self) -> dict[str, Any]:
        """The JSON Lines object; `evidence` and `split` only where they say something."""
        record = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in record.items() if key not in ("evidence", "split") or value}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said and everything needed to see why. `citations` are ranks of hits; tokens and seconds are this answer's.

    `engine` is what computed it, with the weights where they were rounded for it ("openvino int8"); "" when no model was asked.
    """

    answer: str
    citations: tuple[int, ...]
    hits: tuple[Hit, ...]
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    model: str
    index_generation: str | None = None
    prompt: str = ""
    dropped_hits: int = 0
    finish: str = ""
    notices: tuple[str, ...] = field(default=())
    engine: str = ""

    def to_json(self) -> dict[str, Any]:
        """The object that `ask --json` prints."""
        return {
            "answer": self.answer,
            "citations": list(self.citations),
            "hits": [hit.to_json() for hit in self.hits],
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": self.seconds,
            "model": self.model,
            "index_generation": self.index_generation,
            "dropped_hits": self.dropped_hits,
            "finish": self.finish,
            "notices": list(self.notices),
            "engine": self.engine,
        }


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (1-based line number, object) of a JSON Lines file; blank lines are passed over.

    Raises UserError naming the file and the line when a line is not UTF-8, not JSON, or not an object.
    """
    try:
        lines = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    with lines:
        for number, raw in enumerate(lines, start=1):
            # Splitting bytes at \n only: U+2028 and its like are legal inside JSON strings.
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                record = json.loads(text) if text else None
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: not UTF-8 (byte {error.start})", "save the file as UTF-8") from error
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: not JSON: {error.msg} (column {error.colno})", "one object a line") from error
            except (ValueError, RecursionError) as error:
                reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
                raise UserError(f"{path}:{number}: not JSON that can be read: {reason}", "one object a line") from error
            if record is None and not text:
                continue
            if not isinstance(record, dict):
                raise UserError(f"{path}:{number}: expected an object, found {type(record).__name__}", "one object a line")
            yield number, record


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object a line (UTF-8, \\n) in one step; returns the number of lines."""
    count = 0
    with files.writing(path) as out:
        for record in records:
            # A lone surrogate has no UTF-8; it is written as JSON's own escape.
            out.write((json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
            count += 1
    return count
