"""A local generation -> a Qdrant server (`index.qdrant` reads it there).

    NAME                        an alias, to the collection that answers
    NAME--a, NAME--b            passages of two generations: the one that answers and the one before it
    ...--documents              their documents

Publishing fills the collection that does not answer, counts its points, and only then moves the alias. What a collection has is
compared with the new generation by the number of each point and a hash of its content, so that only what changed is sent, also
after a publication that was stopped. A generation that was rolled back to is in the other collection still: only the alias moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index import generations, lexical
from rag_vs_ft.index.dense import Dense
from rag_vs_ft.index.generations import Generation
from rag_vs_ft.index.manifest import Inputs
from rag_vs_ft.index.qdrant import (
    DENSE,
    WORDS,
    NotPublished,
    QdrantServer,
    State,
    count,
    document_number,
    documents_of,
    labels,
    point_number,
    qdrant_url,
    read_state,
    sparse,
)
from rag_vs_ft.index.table import ChunkTable
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Chunk
from rag_vs_ft.settings import Home

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
"""Raised whenever the same generation would give other points."""
BATCH = 128
"""Points in a request: about 1.5 MB."""
DRIFT = 0.02
"""Share by which the average length of rows may differ from the one that a collection's weights were made with. A weight then
differs by less than 1%, and the rows that did not change need not be sent again."""
PATIENCE = 6.0
"""A write may take so many times as long as a search."""
_INDEXED = {"groups": "keyword", "service": "keyword", "service_key": "keyword", "day": "integer"}
_OF_DOCUMENT = ("document_id", "title", "url", "service", "date", "kind", "language")
_BLOCK = 2_048


@dataclass(frozen=True, slots=True)
class Sent:
    """Points of one collection: how many were sent, were there already as they are, and were removed."""

    sent: int
    kept: int
    removed: int


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing did. `switched` is whether another collection answers now; `previous` the one that did before ("": none).
    `restricted` counts the passages that name groups."""

    index: str
    generation: str
    collection: str
    previous: str
    switched: bool
    passages: Sent
    documents: Sent
    restricted: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The object that `index publish --json` prints."""
        return asdict(self)


def publish(
    name: str,
    url: str,
    home: Home,
    *,
    shards: int | None = None,
    replicas: int | None = None,
    progress: Progress = silent,
    server: QdrantServer | None = None,
) -> Publication:
    """Bring the generation of index `name` that answers here to the server at `url`, and let it answer there.

    `shards` and `replicas` are those of the collections (None: the server's own choice); a collection that has others is made
    anew. Raises UserError for an address that cannot be used or an index by rank-bm25, whose weights a server cannot compute,
    Unreachable when the server does not answer, Busy while the index is being built, CheckFailed when points are missing at the
    end; the alias is then where it was.
    """
    server = server or QdrantServer(qdrant_url(url), patience=PATIENCE)
    folder = generations.index_folder(name, home)
    with generations.building(folder):
        generation = generations.current(folder)
        if generation.manifest.inputs.bm25.backend != "bm25s":
            raise UserError(
                f"index {name!r} scores by {generation.manifest.inputs.bm25.backend}, whose weights a server cannot compute",
                f"build it with bm25s: rag-vs-ft index build {name} --corpus {generation.manifest.inputs.corpus.name}",
            )
        return _Publishing(name, generation, server, shards, replicas, progress).run()


@dataclass(frozen=True)
class _Publishing:
    """One publication of a generation."""

    name: str
    generation: Generation
    server: QdrantServer
    shards: int | None
    replicas: int | None
    progress: Progress

    def run(self) -> Publication:
        started = time.perf_counter()
        table = ChunkTable.open(self.generation.folder)
        numbers = table.document_numbers()
        expected = {"passages": len(table), "documents": int(numbers.max()) + 1}
        record = self.generation.manifest.to_json()
        answering = self._answering()
        state = read_state(self.server, answering) if answering else None
        target = answering
        if state is None or state.manifest != record or not self._as_wanted(answering):
            target = f"{self.name}--b" if answering == f"{self.name}--a" else f"{self.name}--a"
            state = self._made_ready(target, table)
        passages = self._fill(target, "send passages", len(table), self._passages(table, state))
        documents = self._fill(documents_of(target), "send documents", expected["documents"], self._documents(table, state))
        for what, collection in (("passages", target), ("documents", documents_of(target))):
            if (found := count(self.server, collection)) != expected[what]:
                raise CheckFailed(
                    f"{collection} has {found:,} points and not {expected[what]:,}, so the alias was not moved",
                    "see whether another process publishes there, and the server's log; then publish again",
                )
        if target != answering:
            self._write_state(replace(state, documents=expected["documents"], manifest=record))
            self._switch(answering, target)
        readable = table.readable(frozenset())
        return Publication(
            index=self.name,
            generation=self.generation.name,
            collection=target,
            previous=answering if target != answering else "",
            switched=target != answering,
            passages=passages,
            documents=documents,
            restricted=0 if readable is None else int((~readable).sum()),
            seconds=round(time.perf_counter() - started, 3),
        )

    # --- collections ---

    def _answering(self) -> str:
        """The collection that answers, "" when there is none."""
        aliases = self.server.call("get_aliases").aliases
        return next((str(alias.collection_name) for alias in aliases if alias.alias_name == self.name), "")

    def _switch(self, answering: str, target: str) -> None:
        from qdrant_client import models

        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=target, alias_name=self.name),
        )
        delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.name))
        steps = [delete, create] if answering else [create]
        self.server.call("update_collection_aliases", change_aliases_operations=steps)

    def _as_wanted(self, collection: str) -> bool:
        """Whether a collection has as many shards and replicas as were asked for."""
        wanted = {"shard_number": self.shards, "replication_factor": self.replicas}
        params = self.server.call("get_collection", collection).config.params
        return all(number in (None, getattr(params, key)) for key, number in wanted.items())

    def _made_ready(self, target: str, table: ChunkTable) -> State:
        """The collection to fill: what it has stays where this generation's points would be of the same shape."""
        shape = files.sha256_text(repr((FORMAT, _shape(self.generation.manifest.inputs))))
        folder = self.generation.folder
        means = (
            _mean_length(lexical.load(folder / "bm25"), _texts(table)),
            _mean_length(lexical.load(folder / "documents" / "bm25"), _document_texts(table)),
        )
        try:
            state = read_state(self.server, target)
            if state is None or state.index != self.name:
                raise UserError(
                    f"{self.server.place.host} has a collection {target!r} that was not published from an index {self.name!r}",
                    "give the index another name, or remove that collection",
                )
            if state.shape == shape and self._as_wanted(target):
                kept = (_kept(state.mean_length, means[0]), _kept(state.document_mean_length, means[1]))
                state = State(self.name, target, shape, *kept)
                self._write_state(state)
                return state
        except NotPublished:
            pass
        for collection in (target, documents_of(target)):
            with suppress(NotPublished):
                self.server.call("delete_collection", collection)
        state = State(self.name, target, shape, *means)
        self._create(target, half=True, metadata=state.metadata())
        self._create(documents_of(target), half=False, metadata={})
        return state

    def _create(self, collection: str, *, half: bool, metadata: dict[str, Any]) -> None:
        from qdrant_client import models

        dense = models.VectorParams(
            size=self.generation.manifest.inputs.embedder.dimension,
            # Vectors have length 1, rounded to half precision: their product is what a local index ranks by.
            distance=models.Distance.DOT,
            datatype=models.Datatype.FLOAT16 if half else models.Datatype.FLOAT32,
        )
        self.server.call(
            "create_collection",
            collection,
            vectors_config={DENSE: dense},
            sparse_vectors_config={WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            shard_number=self.shards,
            replication_factor=self.replicas,
            on_disk_payload=True,
            metadata=metadata,
        )
        prefix = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True)
        for field, kind in {**_INDEXED, "document_id": prefix}.items():
            self.server.call("create_payload_index", collection, field, kind)

    def _write_state(self, state: State) -> None:
        self.server.call("update_collection", state.collection, metadata=state.metadata())

    # --- points ---

    def _fill(self, collection: str, stage: str, total: int, points: Iterator[_Point]) -> Sent:
        """Send the points that the collection lacks or has otherwise, and remove those that it has beside them."""
        import numpy as np

        there = self._there(collection)
        left = dict.fromkeys(there)
        waiting: list[Any] = []
        sent = kept = 0

        def send() -> None:
            batch = list(waiting)
            self.server.call("upsert", collection, points=batch, wait=True)
            waiting.clear()

        self.progress(stage, 0, total)
        for done, point in enumerate(points, start=1):
            left.pop(point.number, None)
            if there.get(point.number) == point.content:
                kept += 1
            else:
                waiting.append(point.made(self.generation.name))
                sent += 1
                if len(waiting) == BATCH:
                    send()
            if done % BATCH == 0:
                self.progress(stage, done, total)
        if waiting:
            send()
        removed = list(left)
        for part in np.array_split(np.array(removed, dtype=np.uint64), len(removed) // 1_000 + 1) if removed else ():
            numbers = [int(number) for number in part]
            self.server.call("delete", collection, points_selector=numbers, wait=True)
        self.progress(stage, total, total)
        return Sent(sent, kept, len(removed))

    def _there(self, collection: str) -> dict[int, str]:
        """The number and the hash of each point that the collection has."""
        found: dict[int, str] = {}
        offset = None
        while True:
            points, offset = self.server.call("scroll", collection, limit=2_000, offset=offset, with_payload=["content"])
            found |= {int(point.id): str((point.payload or {}).get("content", "")) for point in points}
            if offset is None:
                return found

    def _passages(self, table: ChunkTable, state: State) -> Iterator[_Point]:
        bm25 = lexical.load(self.generation.folder / "bm25")
        vectors = Dense(self.generation.folder, 1).vectors
        keys = table.arrow.column("key").to_pylist()
        for start in range(0, len(table), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(table)))
            for row, chunk in zip(rows, table.chunks(_array(rows)), strict=True):
                record = asdict(chunk) | {"groups": list(chunk.groups)}
                yield _Point(
                    point_number(chunk.id),
                    files.sha256_text(repr((record, keys[row], state.mean_length)))[:16],
                    record | labels(record),
                    vectors[row],
                    partial(_weights, bm25, state.mean_length, lexical.searchable_text(chunk), chunk.language),
                )

    def _documents(self, table: ChunkTable, state: State) -> Iterator[_Point]:
        import numpy as np

        bm25 = lexical.load(self.generation.folder / "documents" / "bm25")
        vectors = np.load(self.generation.folder / "documents" / "vectors.npy", mmap_mode="r", allow_pickle=False)
        keys = table.documents()
        for number, chunks in enumerate(_documents_in_order(table)):
            first = chunks[0]
            record = {
                name: getattr(first, name) for name in ("document_id", "title", "url", "service", "date", "kind", "language")
            }
            record["groups"] = list(first.groups)
            yield _Point(
                document_number(first.document_id),
                files.sha256_text(repr((record, keys[first.document_id], state.document_mean_length)))[:16],
                record | labels(record),
                vectors[number],
                partial(_weights, bm25, state.document_mean_length, lexical.document_text(chunks), first.language),
            )


@dataclass(frozen=True, slots=True)
class _Point:
    """A point as it would be sent: its number, the hash of its content, payload and vector; `weights` are made when it is."""

    number: int
    content: str
    payload: dict[str, Any]
    vector: NDArray[np.floating[Any]]
    weights: Callable[[], dict[str, float]]

    def made(self, generation: str) -> Any:
        """The point itself, in this generation's name."""
        from qdrant_client import models

        vectors: dict[str, Any] = {DENSE: [float(value) for value in self.vector]}
        if weights := self.weights():
            vectors[WORDS] = sparse(weights.items())
        payload = self.payload | {"generation": generation, "content": self.content}
        return models.PointStruct(id=self.number, vector=vectors, payload=payload)


def _shape(inputs: Inputs) -> tuple[Any, ...]:
    """All that decides points beside the documents; the embedder's name decides nothing."""
    return (replace(inputs.embedder, name=""), inputs.chunker, inputs.analyzer, inputs.bm25, inputs.vectors)


def _weights(bm25: lexical.Lexical, mean_length: float, text: str, language: str) -> dict[str, float]:
    return lexical.weights(bm25.terms_of(text, language), mean_length, bm25.settings)


def _array(rows: range) -> NDArray[np.int64]:
    import numpy as np

    return np.arange(rows.start, rows.stop)


def _texts(table: ChunkTable) -> Iterator[tuple[str, str]]:
    return ((lexical.searchable_text(chunk), chunk.language) for chunk in table.chunks())


def _documents_in_order(table: ChunkTable) -> Iterator[list[Chunk]]:
    """The passages of each document, in order of the documents' ids."""
    import numpy as np

    parts = (table.chunks(rows) for rows in np.array_split(table.reading_order(), len(table) // _BLOCK + 1))
    in_order = (chunk for part in parts for chunk in part)
    return (list(chunks) for _, chunks in groupby(in_order, lambda chunk: chunk.document_id))


def _document_texts(table: ChunkTable) -> Iterator[tuple[str, str]]:
    return ((lexical.document_text(chunks), chunks[0].language) for chunks in _documents_in_order(table))


def _kept(was: float, now: float) -> float:
    return was if abs(was - now) <= DRIFT * was else now


def _mean_length(bm25: lexical.Lexical, texts: Iterator[tuple[str, str]]) -> float:
    """Terms in a row on average: as recorded, else counted."""
    if bm25.mean_length is not None:
        return bm25.mean_length
    lengths = [len(bm25.terms_of(text, language)) for text, language in texts]
    return sum(lengths) / max(1, len(lengths))
