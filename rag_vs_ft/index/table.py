"""The chunks of a generation in an Arrow file: opened at once whatever its size, read row by row from the disk's cache."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.index.damage import reading
from rag_vs_ft.index.lazy import loaded_once
from rag_vs_ft.records import Chunk

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

CHUNKS = "chunks.arrow"
DOCUMENTS = "documents.arrow"
_BATCH = 8_192
"""Rows that are in memory at once while a table is written."""


class ChunkWriter:
    """Takes (chunk, key of its embedded text) in any order, and leaves the table of them in order of chunk id in `folder`.

    What it was given lies in a file meanwhile, so that memory does not grow with the number of chunks.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        kinds = dict.fromkeys(("start", "end", "tokens"), pa.int64()) | {"groups": pa.list_(pa.string())}
        columns = [(field.name, kinds.get(field.name, pa.string())) for field in fields(Chunk)]
        self.schema = pa.schema([*columns, ("key", pa.binary())])
        self.folder = folder
        self._unsorted = folder / "unsorted.arrow"
        self._writer = pa.ipc.new_file(str(self._unsorted), self.schema)
        self._waiting: list[dict[str, Any]] = []

    def add(self, chunk: Chunk, key: bytes) -> None:
        """One chunk."""
        self._waiting.append({**asdict(chunk), "key": key})
        if len(self._waiting) == _BATCH:
            self._write_waiting()

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Rows of another table of chunks, as they are."""
        self._write_waiting()
        if batch.num_rows:  # a table of an earlier version lacks columns, and nothing is taken from it
            self._writer.write_batch(batch.select(self.schema.names))

    def _write_waiting(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._waiting, schema=self.schema))
            self._waiting = []

    def finish(self, documents: dict[str, bytes]) -> ChunkTable:
        """Sort what was added, write each document's key beside it, and open the table."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._write_waiting()
        self._writer.close()
        with pa.memory_map(str(self._unsorted)) as source:
            table = pa.ipc.open_file(source).read_all()
            order = pc.sort_indices(table.column("id")).to_numpy()
            with pa.ipc.new_file(str(self.folder / CHUNKS), self.schema) as writer:
                for start in range(0, len(order), _BATCH):
                    writer.write_table(_taken(table, order[start : start + _BATCH]))
            del table
        files.remove(self._unsorted)
        keys = pa.table({"id": list(documents), "key": pa.array(documents.values(), pa.binary())})
        with pa.ipc.new_file(str(self.folder / DOCUMENTS), keys.schema) as writer:
            writer.write_table(keys)
        return ChunkTable(self.folder)


def _taken(table: pa.Table, rows: NDArray[np.integer[Any]]) -> pa.Table:
    """These rows of a table, in their order. Arrow's own `take` first copies all of the table, and fails over 2 GiB of text."""
    import numpy as np
    import pyarrow as pa

    batches = table.to_batches()
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
    order = np.argsort(rows, kind="stable")
    ascending = rows[order].astype(np.int64)
    bounds = np.searchsorted(ascending, starts)
    parts = [
        batch.take(pa.array(ascending[low:high] - start))
        for batch, start, low, high in zip(batches, starts[:-1], bounds[:-1], bounds[1:], strict=True)
        if high > low
    ]
    return pa.Table.from_batches(parts, table.schema).combine_chunks().take(pa.array(np.argsort(order)))


def _chunk(record: dict[str, Any]) -> Chunk:
    return Chunk(**{**record, "groups": tuple(record.get("groups") or ())})


@dataclass(frozen=True)
class ChunkTable:
    """The chunks of one generation, memory-mapped; row numbers are those of its BM25 and FAISS indexes."""

    folder: Path

    @staticmethod
    def open(folder: Path) -> ChunkTable:
        """The table of the generation in `folder`."""
        return ChunkTable(folder)

    @loaded_once
    def arrow(self) -> pa.Table:
        """The table itself, with the columns of a Chunk and `key`."""
        import pyarrow as pa

        with reading(self.folder / CHUNKS):
            return pa.ipc.open_file(pa.memory_map(str(self.folder / CHUNKS))).read_all()

    def __len__(self) -> int:
        return self.arrow.num_rows

    def chunk(self, row: int) -> Chunk:
        """The chunk in row `row`."""
        return self.some([row])[0]

    def some(self, rows: Sequence[int]) -> list[Chunk]:
        """The chunks in these few rows, in their order."""
        import pyarrow as pa

        starts, batches = self._batches
        places = [(batches[at := bisect_right(starts, row) - 1], row - starts[at]) for row in rows]
        parts = [batch.slice(row, 1) for batch, row in places]
        return [_chunk(record) for record in pa.Table.from_batches(parts).to_pylist()] if parts else []

    @loaded_once
    def _batches(self) -> tuple[list[int], list[pa.RecordBatch]]:
        """The first row of each record batch, and the batches without keys; slicing one is faster than slicing the table."""
        batches = [batch for batch in self.arrow.drop_columns(["key"]).to_batches() if batch.num_rows]
        return [0, *accumulate(batch.num_rows for batch in batches[:-1])], batches

    def chunks(self, rows: NDArray[np.integer[Any]] | None = None) -> Iterator[Chunk]:
        """The chunks of these rows, in their order; without `rows` all of them, a batch in memory at a time."""
        table = self.arrow if rows is None else _taken(self.arrow, rows)
        for batch in table.drop_columns(["key"]).to_batches(max_chunksize=_BATCH):
            for record in batch.to_pylist():
                yield _chunk(record)

    def row(self, chunk_id: str) -> int:
        """The row of the chunk with this id; -1 when it is not in the table."""
        import pyarrow.compute as pc

        return pc.index(self.arrow.column("id"), chunk_id).as_py()

    def column(self, name: str) -> list[Any]:
        """One column as Python values."""
        return self.arrow.column(name).to_pylist()

    def languages(self) -> list[str]:
        """The language of each row ("" in a table of an earlier version)."""
        return self.column("language") if "language" in self.arrow.column_names else [""] * len(self)

    def documents(self) -> dict[str, bytes]:
        """Each document's id and key."""
        import pyarrow as pa

        with reading(self.folder / DOCUMENTS):
            table = pa.ipc.open_file(pa.memory_map(str(self.folder / DOCUMENTS))).read_all()
        return dict(zip(table.column("id").to_pylist(), table.column("key").to_pylist(), strict=True))

    def batches_of(self, documents: Iterable[str]) -> Iterator[pa.RecordBatch]:
        """The rows of every chunk of these documents, in pieces."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(list(documents), pa.string())
        for batch in self.arrow.to_batches():
            yield batch.filter(pc.is_in(batch.column("document_id"), wanted))

    def rows_of(self, documents: Iterable[str]) -> Iterator[tuple[Chunk, bytes]]:
        """(chunk, key) of every chunk of these documents."""
        for batch in self.batches_of(documents):
            for record in batch.to_pylist():
                key = record.pop("key")
                yield _chunk(record), key

    def document_numbers(self) -> NDArray[np.int64]:
        """For each row the place of its document among all, in order of id."""
        import numpy as np

        encoded = self.arrow.column("document_id").combine_chunks().dictionary_encode()
        order = np.argsort(np.array(encoded.dictionary.to_pylist(), dtype=object))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return place[np.from_dlpack(encoded.indices)]  # to_numpy would import pandas

    def reading_order(self) -> NDArray[np.int64]:
        """All rows, by the id of their document and by their place in it."""
        import numpy as np

        return np.lexsort((self.arrow.column("start").to_numpy(), self.document_numbers()))

    def documents_of(self, rows: NDArray[np.int64]) -> set[str]:
        """Ids of the documents that these rows belong to."""
        import pyarrow as pa

        return set(self.arrow.column("document_id").take(pa.array(rows)).to_pylist())

    def readable(self, reader: frozenset[str]) -> NDArray[np.bool_] | None:
        """For each row whether someone of these groups may read it; None when everyone may read every row."""
        if "groups" not in self.arrow.column_names:
            return None
        # Arrow's functions import pandas, a fifth of a second of a first search; most tables name no groups.
        if not any(len(chunk.values) for chunk in self.arrow.column("groups").chunks):
            return None
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        groups = self.arrow.column("groups").combine_chunks()
        readable = pc.fill_null(pc.list_value_length(groups), 0).to_numpy(zero_copy_only=False) == 0
        theirs = pc.is_in(pc.list_flatten(groups), pa.array(sorted(reader), pa.string())).to_numpy(zero_copy_only=False)
        readable[pc.list_parent_indices(groups).to_numpy()[theirs]] = True
        return np.asarray(readable)

    def hidden_documents(self, reader: frozenset[str]) -> set[str]:
        """Ids of the documents with passages that nobody of these groups may read."""
        import numpy as np

        readable = self.readable(reader)
        return set() if readable is None else self.documents_of(np.flatnonzero(~readable))

    def matching(self, *, service: str = "", path: str = "", since: str = "") -> NDArray[np.int64]:
        """Row numbers of the chunks of a service, below a path and dated at `since` (ISO 8601) or later; empty means any."""
        import numpy as np
        import pyarrow.compute as pc

        mask = np.ones(len(self), dtype=bool)
        if service:
            mask &= pc.equal(pc.utf8_lower(self.arrow.column("service")), service.lower()).to_numpy()
        if path:
            mask &= pc.starts_with(self.arrow.column("document_id"), path).to_numpy()
        if since:
            mask &= pc.greater_equal(self.arrow.column("date"), since).to_numpy()
        return np.flatnonzero(mask)
