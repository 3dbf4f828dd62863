"""Corpus -> index generation: build from nothing, or update so that only new chunk texts are embedded.

A build and an update are one function. Both take over the chunks of documents that have not changed and the vectors of texts that
are known, from the generation that answers now and from what a killed build left in `work/`; a build from nothing finds neither.
Rows are in the order of chunk ids, so the files depend on the documents and the settings and not on the history.

Chunks and vectors pass through files, a batch in memory at a time; what grows in memory with the number of chunks is their ids
and keys, BM25's terms and the FAISS index (docs/performance.md, "Size").
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import __version__, catalogue, files, settings
from rag_vs_ft.corpus.store import Corpus, open_corpus
from rag_vs_ft.engines import HERE, Poisoned, Shard, WorkEngine, require_all
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index import dense, embedding, generations, lexical
from rag_vs_ft.index import documents as whole
from rag_vs_ft.index.chunking import Chunker, chunk_document, embedded_text
from rag_vs_ft.index.embedding import Embedder, EmbedderId
from rag_vs_ft.index.generations import Generation
from rag_vs_ft.index.manifest import CorpusState, DenseKind, IndexCounts, IndexManifest, Inputs, Vectors
from rag_vs_ft.index.sessions import Tell
from rag_vs_ft.index.table import ChunkTable, ChunkWriter
from rag_vs_ft.language import language
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.records import Chunk, Document
from rag_vs_ft.settings import Home

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SHARD = 2_048
"""Texts embedded between two saves: a killed build loses less than a minute of work."""
WORKER_TEXTS = 256
"""Texts in a shard for several workers: some ten seconds of one CPU, so that none waits long for the last."""
WORKER_DOCUMENTS = 32
"""Documents in a shard that is cut into chunks."""


_AGAIN = "rag-vs-ft index build NAME, or index update NAME"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to build: everything but the documents that decides an index.

    `chunk_size` None: as many tokens as the model's window suggests, up to 200. `dimension` None: all that the model gives.
    """

    embedder: str = settings.EMBEDDER
    precision: str = "auto"
    dimension: int | None = None
    chunk_size: int | None = None
    analyzer: lexical.Analyzer = field(default_factory=lexical.Analyzer)
    bm25: lexical.Bm25Settings = field(default_factory=lexical.Bm25Settings)


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did: the generation, whether it is new, and the counts and seconds that its manifest records."""

    generation: Generation
    published: bool
    counts: IndexCounts
    seconds: dict[str, float]

    @property
    def notices(self) -> tuple[str, ...]:
        """What users of the index should know."""
        manifest = self.generation.manifest
        embedder = manifest.inputs.embedder.name
        read = catalogue.CATALOGUE[embedder].languages if embedder in catalogue.CATALOGUE else ()
        other = {code: count for code, count in manifest.languages.items() if read and code and code not in read}
        if not other:
            return ()
        names = ", ".join(language(code).name for code in sorted(other, key=lambda code: -other[code]))
        return (
            f"{sum(other.values()):,} of {manifest.counts.chunks:,} chunks are in {names}, and {embedder} was trained on "
            f"{', '.join(language(code).name for code in read)}: vectors find little there. Use a multilingual --embedder, "
            "or search with --retriever bm25",
        )

    def to_json(self) -> dict[str, Any]:
        """The object that `index build` and `index update` print; `notices` only where there are any."""
        notices = {"notices": list(self.notices)} if self.notices else {}
        return {
            "index": self.generation.folder.parent.name,
            "generation": self.generation.name,
            "published": self.published,
            "counts": asdict(self.counts),
            "seconds": self.seconds,
            **notices,
        }


def build(
    name: str, corpus_name: str, recipe: Recipe, home: Home, progress: Progress = silent, engine: WorkEngine = HERE
) -> BuildResult:
    """Build index `name` from a corpus and publish it as the generation that answers; `engine` cuts and embeds.

    Raises UserError for a missing corpus, model or a corpus that gives no chunks, Busy when the index is being built already,
    CheckFailed when a shard could not be finished (what the others gave is kept for the next build). Until the last step the
    generation that answers stays as it is.
    """
    corpus = open_corpus(corpus_name, home)
    embedder = Embedder(recipe.embedder, precision=recipe.precision, dimension=recipe.dimension)
    folder = generations.index_folder(name, home, must_exist=False)
    with generations.building(folder):
        chunker = Chunker.of(recipe.chunk_size, embedder.model.window, embedder.around)
        return _build(folder, corpus, chunker, recipe.analyzer, recipe.bm25, embedder, progress, engine)


def update(name: str, home: Home, progress: Progress = silent, engine: WorkEngine = HERE) -> BuildResult:
    """Bring index `name` up to its corpus, as it was built; publishes nothing when nothing has changed.

    Raises what `build` raises.
    """
    folder = generations.index_folder(name, home)
    with generations.building(folder):
        was = generations.current(folder).manifest.inputs
        corpus = open_corpus(was.corpus.name, home)
        embedder = Embedder.of(was.embedder)
        chunker = Chunker.of(was.chunker.size, embedder.model.window, embedder.around)
        analyzer = replace(was.analyzer, version=lexical.VERSION)
        return _build(folder, corpus, chunker, analyzer, was.bm25, embedder, progress, engine)


def _build(
    folder: Path,
    corpus: Corpus,
    chunker: Chunker,
    analyzer: lexical.Analyzer,
    bm25: lexical.Bm25Settings,
    embedder: Embedder,
    progress: Progress,
    engine: WorkEngine,
) -> BuildResult:
    inputs = Inputs(
        corpus=CorpusState(
            name=corpus.name,
            sha256=corpus.sha256,
            table=corpus.manifest.table,
            source=corpus.manifest.source,
            commits=dict(corpus.manifest.commits),
            created=corpus.manifest.created,
        ),
        chunker=chunker,
        analyzer=analyzer,
        bm25=bm25,
        embedder=embedder.id,
        vectors=Vectors(embedding.VERSION),
    )
    old = _answering(folder)
    if old is not None and _same(old.manifest.inputs, inputs) and not generations.verify(old):
        generations.mend(folder, old)
        files.discard(folder / "work")
        return BuildResult(old, False, replace(old.manifest.counts, embedded=0), {"total": 0.0})

    started = time.perf_counter()
    seconds: dict[str, float] = {}

    def timed(stage: str) -> None:
        seconds[stage] = round(time.perf_counter() - started - sum(seconds.values()), 3)

    work = folder / "work"

    def write(target: Path) -> IndexManifest:
        import numpy as np

        old_table = _table_of(old)
        kept_table = old_table if old is not None and old.manifest.inputs.chunker == chunker else None
        table, documents = _write_chunks(target, corpus, chunker, embedder, kept_table, progress, engine)
        if not len(table):
            raise UserError(f"corpus {corpus.name!r} gives no chunks", f"look at it: rag-vs-ft corpus info {corpus.name}")
        timed("chunk")

        store = VectorStore(work / files.sha256_text(repr((embedder.id, embedding.VERSION)))[:16], embedder.dimension)
        known = _known_vectors(old, old_table, embedder)
        vectors, unique, reused = _row_vectors(work / "rows", table, chunker, embedder, store, known, progress, engine)
        timed("embed")
        counts = _counts(table, documents, old_table, unique, reused)

        progress("bm25", 0, len(table))
        lexical.build(target / "bm25", map(lexical.searchable_text, table.chunks()), analyzer, bm25, table.languages())
        timed("bm25")
        progress("faiss", 0, len(table))
        kind = dense.build(target, vectors, embedder.threads)
        timed("faiss")
        progress("documents", 0, len(documents))
        parts = (table.chunks(rows) for rows in np.array_split(table.reading_order(), len(table) // SHARD + 1))
        in_order = itertools.chain.from_iterable(parts)
        whole.build(target / "documents", in_order, table.document_numbers(), vectors, analyzer, bm25)
        timed("documents")
        return IndexManifest(
            code_version=__version__,
            inputs=inputs,
            dense=DenseKind(kind),
            languages=dict(sorted(Counter(table.languages()).items())),
            counts=counts,
            seconds=seconds,
            threads=embedder.threads,
            seconds_in_all=_seconds_in_all(old, counts, sum(seconds.values())),
        )

    try:
        generation = generations.publish(folder, write)
    except OSError as error:
        said = files.unusable(error)
        before = "the index answers as before" if old is not None else f"there is no index {folder.name!r} yet"
        raise UserError(f"{said.message}; {before}", f"{said.hint} (what is embedded already is kept)") from error
    files.discard(work)
    return BuildResult(generation, True, generation.manifest.counts, seconds | {"total": round(time.perf_counter() - started, 3)})


def _same(one: Inputs, other: Inputs) -> bool:
    """Whether two inputs give the same index; the embedder's name is only where its files are."""
    return not one.embedder.differences(other.embedder) and replace(one, embedder=other.embedder) == other


def _seconds_in_all(old: Generation | None, counts: IndexCounts, seconds: float) -> float | None:
    """What the index has cost when this build took `seconds`; None when vectors are from a build whose time nobody knows."""
    if not counts.reused:
        return round(seconds, 3)
    before = old.manifest.cost_seconds if old else None
    return None if before is None else round(before + seconds, 3)


def _answering(folder: Path) -> Generation | None:
    try:
        return generations.current(folder)
    except (UserError, CheckFailed):
        return None


def _table_of(old: Generation | None) -> ChunkTable | None:
    """The old generation's chunks, if its files are as they were."""
    if old is None:
        return None
    if faults := generations.verify(old):
        logging.getLogger("rag_vs_ft").warning("nothing is taken over from %s: %s", old.name, "; ".join(faults))
        return None
    return ChunkTable.open(old.folder)


@dataclass(frozen=True, slots=True)
class ChunkWork:
    """Documents -> (chunk, key of what is embedded of it) of each of their chunks (`engines.Work`)."""

    embedder: EmbedderId
    chunker: Chunker

    def open(self) -> Callable[[list[Document]], list[tuple[Chunk, bytes]]]:
        """With the tokenizer of the embedding model."""
        return partial(chunk_shard, _same_embedder(self.embedder), self.chunker)


def chunk_shard(embedder: Embedder, chunker: Chunker, documents: list[Document]) -> list[tuple[Chunk, bytes]]:
    """What every engine does to a shard of documents."""
    return [(chunk, _text_key(chunk)) for document in documents for chunk in chunk_document(document, chunker, embedder.offsets)]


@dataclass(frozen=True, slots=True)
class EmbedWork:
    """Chunks -> their vectors, (chunks, dimension) in half precision (`engines.Work`)."""

    embedder: EmbedderId
    chunker: Chunker

    def open(self) -> Callable[[list[Chunk]], NDArray[np.float16]]:
        """With the embedding model loaded."""
        embedder = _same_embedder(self.embedder)
        embedder.encode([])
        return partial(embed_shard, embedder, self.chunker)


def embed_shard(embedder: Embedder, chunker: Chunker, chunks: list[Chunk], tell: Tell | None = None) -> NDArray[np.float16]:
    """What every engine does to a shard of chunks. A text's vector depends on nothing but the text and the model."""
    import numpy as np

    shown = [embedded_text(chunk, chunker, embedder.offsets) for chunk in chunks]
    return embedder.encode(shown, tell).astype(np.float16)


def _same_embedder(recorded: EmbedderId) -> Embedder:
    """The embedder that the build was begun with. Raises UserError when what is here by its name is another."""
    embedder = Embedder.of(recorded)
    if different := recorded.differences(embedder.id):
        raise UserError(
            f"the embedding model {recorded.name!r} is another one here: {', '.join(different)}",
            f"install the same on all machines: rag-vs-ft models pull {recorded.name}",
        )
    return embedder


def _write_chunks(
    target: Path,
    corpus: Corpus,
    chunker: Chunker,
    embedder: Embedder,
    old: ChunkTable | None,
    progress: Progress,
    engine: WorkEngine,
) -> tuple[ChunkTable, dict[str, bytes]]:
    """Write all chunks with the key of what is embedded of them, in order of id; and the key of each document."""
    unchanged = old.documents() if old is not None else {}
    same: set[str] = set()
    documents: dict[str, bytes] = {}
    writer = ChunkWriter(target)

    def changed() -> Iterator[Document]:
        for number, document in enumerate(corpus.all_documents()):
            document = replace(document, language=document.language or corpus.manifest.main_language)
            documents[document.id] = key = _document_key(document)
            if unchanged.get(document.id) == key:
                same.add(document.id)
            else:
                yield document
            if number % 50 == 0:
                progress("chunk", number, len(corpus))

    source, size = changed(), 1 if engine.is_here else WORKER_DOCUMENTS
    parts = iter(lambda: list(islice(source, size)), [])
    shards = (Shard(f"documents {part[0].id} to {part[-1].id}", part) for part in parts)
    here = partial(chunk_shard, embedder, chunker) if engine.is_here else None
    poisoned: list[Poisoned] = []
    finished = 0
    for outcome in engine.run(ChunkWork(embedder.id, chunker), shards, here=here, progress=progress):
        if isinstance(outcome, Poisoned):
            poisoned.append(outcome)
            continue
        finished += 1
        for chunk, key in outcome.result:
            writer.add(chunk, key)
    require_all(poisoned, finished + len(poisoned), f"see why, or leave these documents out; then build again: {_AGAIN}")
    if old is not None:
        for batch in old.batches_of(same):
            writer.add_batch(batch)
    progress("chunk", len(corpus), len(corpus))
    return writer.finish(documents), documents


def _counts(table: ChunkTable, documents: dict[str, bytes], old: ChunkTable | None, unique: int, reused: int) -> IndexCounts:
    import pyarrow.compute as pc

    kept = pc.sum(pc.is_in(table.arrow.column("id"), old.arrow.column("id"))).as_py() if old is not None else 0
    return IndexCounts(
        documents=len(documents),
        chunks=len(table),
        chunks_kept=kept,
        chunks_added=len(table) - kept,
        chunks_removed=len(old) - kept if old is not None else 0,
        tokens=pc.sum(table.arrow.column("tokens")).as_py(),
        unique_texts=unique,
        reused=reused,
        embedded=unique - reused,
    )


def _document_key(document: Document) -> bytes:
    """Hash of all that the chunks of a document are made from."""
    labels = (document.title, document.url, document.service, document.date, document.kind, document.language)
    parts = (*labels, document.text, repr(document.headings), repr(document.places), repr(document.groups))
    return bytes.fromhex(files.sha256("\0".join(parts).encode()))


def _text_key(chunk: Chunk) -> bytes:
    """Hash of what is embedded of a chunk."""
    return bytes.fromhex(files.sha256(f"{chunk.breadcrumb}\n{chunk.text}".encode()))


@dataclass(frozen=True, slots=True)
class _Known:
    """Vectors by the key of the text that they are of: one key (32 bytes) for each row of `vectors`."""

    keys: pa.Array | pa.ChunkedArray
    vectors: NDArray[Any]


def _known_vectors(old: Generation | None, table: ChunkTable | None, embedder: Embedder) -> _Known | None:
    """What the old generation holds, if the same embedder made it."""
    if old is None or table is None:
        return None
    was = old.manifest.inputs
    if was.embedder.differences(embedder.id) or was.vectors != Vectors(embedding.VERSION):
        return None
    return _Known(table.arrow.column("key"), dense.Dense(old.folder, embedder.threads).vectors)


_CHECKSUM = 8


def _checksum(key: bytes, vector: bytes) -> bytes:
    return bytes.fromhex(files.sha256(key + vector))[:_CHECKSUM]


class VectorStore:
    """Vectors of a build that is under way, by text key: files that grow, and that the next build finds if this one dies.

    A key is written once its vector and the checksum of both are on the disk: every whole key then has a whole vector. What is
    beyond, and what follows a row that has changed since it was written, is cut off and embedded again.
    """

    def __init__(self, folder: Path, dimension: int) -> None:
        self._paths = {folder / "vectors": 2 * dimension, folder / "checksums": _CHECKSUM, folder / "keys": 32}
        self._dimension = dimension
        for path in self._paths:
            files.append_bytes(path, b"")  # makes it when it is absent
        self._rows = self._whole_rows(min(path.stat().st_size // width for path, width in self._paths.items()))
        for path, width in self._paths.items():
            files.cut(path, self._rows * width)

    def _whole_rows(self, rows: int) -> int:
        """How many of the first `rows` rows are as they were written."""
        with ExitStack() as opened:
            columns = [(opened.enter_context(path.open("rb")), width) for path, width in self._paths.items()]
            for row in range(rows):
                vector, checksum, key = (file.read(width) for file, width in columns)
                if _checksum(key, vector) != checksum:
                    told = "%s has changed since it was written: row %d and all after it are embedded again"
                    logging.getLogger("rag_vs_ft").warning(told, columns[0][0].name, row)
                    return row
        return rows

    def append(self, keys: list[bytes], vectors: NDArray[np.floating[Any]]) -> None:
        """Keep these vectors, in half precision."""
        import numpy as np

        rows = [row.tobytes() for row in vectors.astype(np.float16)]
        checksums = map(_checksum, keys, rows)
        for path, data in zip(self._paths, (rows, checksums, keys), strict=True):
            files.append_bytes(path, b"".join(data))
        self._rows += len(keys)

    def known(self) -> _Known:
        """What is there now, memory-mapped."""
        import numpy as np
        import pyarrow as pa

        if not self._rows:
            return _Known(pa.array([], pa.binary()), np.zeros((0, self._dimension), dtype=np.float16))
        vectors, _, keys = self._paths
        numbers = np.memmap(vectors, dtype=np.float16, mode="r", shape=(self._rows, self._dimension))
        buffers = [None, pa.py_buffer(keys.read_bytes())]
        return _Known(pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), self._rows, buffers).cast(pa.binary()), numbers)


def _row_vectors(
    path: Path,
    table: ChunkTable,
    chunker: Chunker,
    embedder: Embedder,
    store: VectorStore,
    known: _Known | None,
    progress: Progress,
    engine: WorkEngine,
) -> tuple[NDArray[np.float16], int, int]:
    """The vector of every row, in a file at `path`; the number of different texts, and how many of them were `known`.

    A text is embedded once, and not at all if `known` or `store` has it.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    def places(keys: pa.Array, among: _Known | None) -> NDArray[np.int64]:
        """The row of each key in `among`, -1 where it is not."""
        if among is None:
            return np.full(len(keys), -1)
        return pc.index_in(keys, value_set=among.keys).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)

    # Rows with one text share its number in `texts`; `first` is one row of each.
    encoded = pa.concat_arrays(table.arrow.column("key").chunks).dictionary_encode()
    keys, texts = encoded.dictionary, encoded.indices.to_numpy()
    first = np.unique(texts, return_index=True)[1]
    in_known = places(keys, known)
    missing = np.flatnonzero((in_known < 0) & (places(keys, store.known()) < 0))
    total = int((in_known < 0).sum())
    done = total - len(missing)
    if len(missing) and engine.is_here:
        embedder.encode([])  # loads the model, so that its time is not the first text's
    progress("embed", done, total)

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress("embed", done, total)

    # Long texts first: on a GPU, which takes many at once, each batch then holds texts of about one length.
    lengths = table.arrow.column("tokens").to_numpy()[first[missing]]
    missing = missing[np.argsort(-lengths, kind="stable")]
    size = SHARD if engine.is_here else WORKER_TEXTS
    parts = {f"texts {start + 1:,} on": missing[start : start + size] for start in range(0, len(missing), size)}
    shards = (Shard(name, list(table.chunks(first[part]))) for name, part in parts.items())
    here = partial(embed_shard, embedder, chunker, tell=tell) if engine.is_here else None
    poisoned: list[Poisoned] = []
    for outcome in engine.run(EmbedWork(embedder.id, chunker), shards, here=here, progress=progress):
        if isinstance(outcome, Poisoned):
            poisoned.append(outcome)
            continue
        part = parts[outcome.shard.name]
        store.append(keys.take(pa.array(part)).to_pylist(), outcome.result)
        if not engine.is_here:
            tell(len(part))
    require_all(poisoned, len(parts), f"see why; what the others gave is kept: {_AGAIN}")

    saved = store.known()
    in_store = places(keys, saved)
    shape = (len(table), embedder.dimension)
    # Written and then mapped: on a full disk a write fails where a store into a mapping would end the process.
    with files.writing(path) as file:
        for start in range(0, len(table), SHARD):
            part = texts[start : start + SHARD]
            rows = np.empty((len(part), shape[1]), dtype=np.float16)
            old = in_known[part] >= 0
            if known is not None:
                rows[old] = known.vectors[in_known[part[old]]]
            rows[~old] = saved.vectors[in_store[part[~old]]]
            file.write(rows.tobytes())
    vectors = np.memmap(path, dtype=np.float16, mode="r", shape=shape)
    return vectors, len(keys), int((in_known >= 0).sum())
