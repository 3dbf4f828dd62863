"""Query -> hits: BM25, vectors, or both fused, with the places of the passages' documents.

Ties are broken by chunk id (rows are in that order), so the same query on the same index gives the same list always.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, Literal, get_args

from rag_vs_ft import settings
from rag_vs_ft.corpus.text import normalise
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.groups import may_read
from rag_vs_ft.index import documents, generations, lexical
from rag_vs_ft.index.dense import Dense
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.generations import Generation
from rag_vs_ft.index.lazy import loaded_once
from rag_vs_ft.index.ranking import Ranking
from rag_vs_ft.index.table import ChunkTable
from rag_vs_ft.index.turns import take_turn
from rag_vs_ft.records import Chunk, Hit, Reranker
from rag_vs_ft.settings import Home

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Retriever = Literal["hybrid", "bm25", "dense"]
"""The ways to search: what a page, a verb, a request or an experiment can name."""
RETRIEVERS: tuple[Retriever, ...] = get_args(Retriever)
Fusion = Literal["sum", "rrf"]
"""The ways to join the legs of a hybrid search, the default first."""
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the legs of a hybrid search: words and vectors of passages, then of documents. A leg without weight is not asked."""

    bm25: float
    dense: float
    document_bm25: float
    document_dense: float


WEIGHTS: dict[str, Weights] = {"sum": Weights(0.6, 0.4, 0.0, 0.35), "rrf": Weights(1.0, 1.0, 1.0, 0.25)}
"""By fusion; chosen over six sets of questions (docs/notebook.md, "How the legs are joined")."""
DEPTH = 300
"""Hits of each leg that are fused: some twenty chunks a document, so that each leg still speaks for dozens of documents."""
_SAMPLED = 16
"""One score in so many tells `top_rows` which cannot be among the best."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What is searched: one service, documents below a path, documents dated `since` (ISO 8601) or later; empty means all."""

    service: str = ""
    path: str = ""
    since: str = ""

    def __bool__(self) -> bool:
        return bool(self.service or self.path or self.since)


def checked_query(text: str) -> tuple[str, tuple[str, ...]]:
    """The query as it is searched, and notices about what was done to it. Raises UserError when nothing is left of it."""
    text = normalise(text)
    query = " ".join((text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)).split())
    if not query:
        raise UserError("the question is empty", 'ask something: rag-vs-ft ask "How do I upgrade a node pool?"')
    limit = settings.MAX_QUESTION_CHARACTERS
    if len(query) > limit:
        return query[:limit], (f"the question has {len(query)} characters; the first {limit} were used",)
    return query, ()


def checked_k(k: int) -> int:
    """`k` if it is a usable number of hits, else UserError."""
    if not 1 <= k <= settings.MAX_HITS:
        raise UserError(f"k={k} is out of range", f"ask for 1 to {settings.MAX_HITS} hits")
    return k


def depth_for(k: int) -> int:
    """Hits that each leg gives to a search for `k`: the scores of a fusion depend on it."""
    return max(DEPTH, k)


def checked_rerank_depth(depth: int) -> int:
    """`depth` if it is a usable number of hits to rerank, else UserError."""
    if not 1 <= depth <= settings.MAX_HITS:
        raise UserError(f"a reranking depth of {depth} is out of range", f"rerank the first 1 to {settings.MAX_HITS} hits")
    return depth


class Index:
    """One generation, open for searching. Safe to use from several threads; everything is loaded at its first use.

    Whoever searches is of the groups `reader` (None: `settings.reader`). Passages for other groups are left out before anything
    is ranked, so no search, document leg or explanation shows them. What BM25 counts of words is counted over all passages.
    `index.qdrant` has the one that lies on a server.
    """

    notices: tuple[str, ...] = ()
    """What a reader of any hit should know of the index."""

    def __init__(self, generation: Generation, embedder: Embedder | None = None, reader: frozenset[str] | None = None) -> None:
        self.generation = generation
        self.manifest = generation.manifest
        self._given_embedder = embedder
        self.reader = settings.reader() if reader is None else reader
        self._refuse_foreign()

    @staticmethod
    def open(name: str, home: Home, *, embedder: Embedder | None = None) -> Index:
        """Open the generation of index `name` that answers now.

        Raises UserError when there is no such index, CheckFailed when none of its generations is whole or when it was made by
        another analyzer than this version has.
        """
        return Index(generations.current(generations.index_folder(name, home)), embedder)

    def __len__(self) -> int:
        return self.manifest.counts.chunks

    @property
    def name(self) -> str:
        """The name of the index."""
        return self.generation.folder.parent.name

    def _refuse_foreign(self) -> None:
        found = self.manifest.inputs.analyzer.version
        if found != lexical.VERSION:
            raise CheckFailed(
                f"index {self.name!r} was made by analyzer version {found}, this is version {lexical.VERSION}", self._rebuild()
            )

    def _rebuild(self) -> str:
        """The command that builds this index again as it was."""
        was = self.manifest.inputs
        full = f"rag-vs-ft index build {self.name} --corpus {was.corpus.name} --chunk-size {was.chunker.size}"
        return full + (f" --embedder {was.embedder.name}" if was.embedder.name != settings.EMBEDDER else "")

    def read_as(self, reader: frozenset[str]) -> Index:
        """The same index for someone else; what is loaded is shared."""
        if reader == self.reader:
            return self
        other = copy.copy(self)
        other.reader = reader
        other.__dict__.pop("_readable", None)
        return other

    @loaded_once
    def table(self) -> ChunkTable:
        """The passages."""
        return ChunkTable.open(self.generation.folder)

    @loaded_once
    def _readable(self) -> NDArray[np.bool_] | None:
        return self.table.readable(self.reader)

    def answers_now(self) -> bool:
        """Whether this is the generation that answers now."""
        return generations.answers(self.generation)

    @property
    def bytes(self) -> int:
        """Size of its files on this machine."""
        return sum(file.stat().st_size for file in self.generation.folder.rglob("*") if file.is_file())

    @property
    def hidden(self) -> int:
        """How many passages are for groups that the reader is not in."""
        return 0 if self._readable is None else int((~self._readable).sum())

    @loaded_once
    def embedder(self) -> Embedder:
        """The embedding model that made the vectors; CheckFailed when what is there by its name is another one."""
        recorded = self.manifest.inputs.embedder
        embedder = self._given_embedder or Embedder.of(recorded)
        if different := recorded.differences(embedder.id):
            found = embedder.id.to_json()
            said = ", ".join(f"{key} {found[key]!r} instead of {recorded.to_json()[key]!r}" for key in different)
            raise CheckFailed(f"index {self.name!r} was made by another embedding model: {said}", self._rebuild())
        return embedder

    @loaded_once
    def bm25(self) -> lexical.Lexical:
        """The BM25 leg."""
        return lexical.load(self.generation.folder / "bm25")

    @loaded_once
    def documents_legs(self) -> documents.Documents:
        """The legs of whole documents."""
        return documents.Documents(self.generation.folder / "documents", self.table.document_numbers())

    @loaded_once
    def dense(self) -> Dense:
        """The FAISS leg."""
        return Dense(self.generation.folder, settings.threads())

    def search(
        self,
        query: str,
        k: int = settings.K,
        *,
        retriever: str = settings.RETRIEVER,
        fusion: str = settings.FUSION,
        filters: Filters | None = None,
        rerank: Reranker | None = None,
        rerank_depth: int = settings.RERANK_DEPTH,
    ) -> list[Hit]:
        """The best `k` chunks for `query`, best first; fewer when fewer match.

        `filters` leave rows out before anything is ranked. `hybrid` fuses the first `DEPTH` of both legs with the places of their
        documents (`index.documents`), by "sum" or "rrf" (see `fuse`). `rerank` puts the first `rerank_depth` in a new order;
        `score` stays what the search gave, and what follows stays where it was.

        Raises UserError for an empty query, k or rerank_depth out of range or an unknown retriever.
        """
        query, _ = checked_query(query)
        count, depth = max(checked_k(k), checked_rerank_depth(rerank_depth) if rerank else 0), depth_for(k)
        hits = self._run(lambda: self._hits(self._legs(query, depth, retriever, fusion, filters), count, retriever, fusion))
        return reranked(query, hits, rerank, rerank_depth)[:k] if rerank else hits

    def _run(self, search: Callable[[], list[Hit]]) -> list[Hit]:
        """What takes cores, and not what reranks or waits for a server."""
        return take_turn(search)

    def _hits(self, legs: Sequence[Leg], count: int, retriever: str, fusion: str) -> list[Hit]:
        """The first `count` hits of what the legs found."""
        ranked = fuse(legs, fusion) if retriever == "hybrid" else max((leg.found for leg in legs), key=len)
        first, none = ranked.first(count), (None, None)
        places = [leg.found.places(first.rows) for leg in legs]
        rows, scores, hits = first.rows.tolist(), first.scores.tolist(), []
        for rank, (row, score, chunk) in enumerate(zip(rows, scores, self._chunks(rows), strict=True), start=1):
            bm25, dense, *documents = (place.get(row, none) for place in places)
            hits.append(Hit(rank, chunk, score, *bm25, *dense, *(document_rank for document_rank, _ in documents)))
        return hits

    def document_ids(self, filters: Filters | None = None) -> set[str]:
        """Ids of the documents that a search with these filters looks at."""
        rows = self.rows(filters)
        return set(self.table.documents()) if rows is None else self.table.documents_of(rows)

    def chunks_of(self, documents: Iterable[str]) -> Iterator[Chunk]:
        """Every passage of these documents that the reader may read."""
        return (chunk for chunk, _ in self.table.rows_of(documents) if may_read(chunk.groups, self.reader))

    def random_chunks(self, draw: Random, count: int) -> Iterator[Chunk]:
        """Up to `count` different passages that the reader may read, drawn by `draw`."""
        readable = self.rows()
        rows = range(len(self)) if readable is None else readable.tolist()
        return map(self.table.chunk, draw.sample(rows, min(len(rows), count)))

    def services(self) -> list[str]:
        """The services of the passages that the reader may read."""
        import pyarrow as pa

        rows, column = self.rows(), self.table.arrow.column("service")
        found = column if rows is None else column.take(pa.array(rows))
        return sorted(service for service in found.unique().to_pylist() if service)

    def rows(self, filters: Filters | None = None) -> NDArray[np.int64] | None:
        """The rows of the table that a search looks at: those that its reader may read and the filters leave; None: all."""
        import numpy as np

        if not filters:
            return None if self._readable is None else np.flatnonzero(self._readable)
        rows = self.table.matching(service=filters.service, path=filters.path, since=filters.since)
        return rows if self._readable is None else rows[self._readable[rows]]

    def _legs(self, query: str, depth: int, retriever: str, fusion: str, filters: Filters | None) -> list[Leg]:
        """BM25 and vectors of passages (the one that `retriever` does not use is empty); for hybrid also those of documents."""
        import numpy as np

        check_way(retriever, fusion)
        rows = self.rows(filters)
        bm25 = self._bm25_leg(query, depth, rows) if retriever != "dense" else Ranking.of([])
        dense = self._dense_leg(query, depth, rows) if retriever != "bm25" else Ranking.of([])
        weights = WEIGHTS[fusion]
        legs = [passage_leg(weights.bm25, bm25, depth), passage_leg(weights.dense, dense, depth)]
        if retriever == "hybrid":
            candidates = np.union1d(bm25.rows, dense.rows)
            words = self.documents_legs.bm25(query, rows).of(candidates) if weights.document_bm25 else Ranking.of([])
            vectors = self.documents_legs.dense(self.embedder.encode_query(query), rows).of(candidates)
            legs += [Leg(weights.document_bm25, words), Leg(weights.document_dense, vectors)]
        return legs

    def _chunks(self, rows: Sequence[int]) -> list[Chunk]:
        """The passages of these rows, in their order."""
        return self.table.some(rows)

    def _row(self, chunk: Chunk) -> int:
        """The row of a passage."""
        return self.table.row(chunk.id)

    def _bm25_leg(self, query: str, depth: int, rows: NDArray[np.int64] | None) -> Ranking:
        import numpy as np

        scores = self.bm25.scores(query)
        if rows is not None:
            masked = np.zeros_like(scores)
            masked[rows] = scores[rows]
            scores = masked
        return top_rows(scores, depth)

    def _dense_leg(self, query: str, depth: int, rows: NDArray[np.int64] | None) -> Ranking:
        import numpy as np

        found, scores = self.dense.search(self.embedder.encode_query(query), depth, rows)
        order = np.lexsort((found, -scores))
        return Ranking.in_order(found[order], scores[order])

    def matched_terms(self, query: str, hit: Hit) -> list[str]:
        """The query's terms that a passage has; no search is made for it."""
        return self._matched(self.bm25.terms(checked_query(query)[0]), hit)

    def _matched(self, terms: Sequence[str], hit: Hit) -> list[str]:
        held = set(self.bm25.terms_of(lexical.searchable_text(hit.chunk), hit.chunk.language))
        return [term for term in dict.fromkeys(terms) if term in held]

    def explain(
        self,
        query: str,
        hit: Hit,
        *,
        retriever: str = settings.RETRIEVER,
        fusion: str = settings.FUSION,
        filters: Filters | None = None,
        k: int = settings.K,
    ) -> dict[str, Any]:
        """Why a hit of this very search (the same `k` too) stands where it does: the query's terms, those it holds, and how its
        score came about."""
        query, _ = checked_query(query)
        terms = self.bm25.terms(query)
        explained: dict[str, Any] = {"query_terms": terms, "matched_terms": self._matched(terms, hit)}
        if retriever != "hybrid":
            return explained | {"score": f"{'BM25' if retriever == 'bm25' else 'cosine'} = {hit.score:.6f}"}
        row = self._row(hit.chunk)
        legs = self._legs(query, depth_for(k), retriever, fusion, filters)
        return explained | {"score": f"{fusion}: {' + '.join(parts_of(legs, row, fusion))} = {hit.score:.6f}"}


def check_way(retriever: str, fusion: str) -> None:
    """Raise UserError for a way to search that is not known."""
    if retriever not in RETRIEVERS or fusion not in FUSIONS:
        raise UserError(
            f"retriever {retriever!r} with fusion {fusion!r} is not known",
            f"retrievers: {', '.join(RETRIEVERS)}; fusions: {', '.join(FUSIONS)}",
        )


def reranked(query: str, hits: Sequence[Hit], rerank: Reranker, depth: int) -> list[Hit]:
    """`hits` with the first `depth` in the order of their reranking scores (ties as they were), ranks counted anew."""
    first = hits[: checked_rerank_depth(depth)]
    scores = rerank(query, [hit.chunk for hit in first])
    scored = [replace(hit, rerank_score=float(score), found_rank=hit.rank) for hit, score in zip(first, scores, strict=True)]
    ordered = [*sorted(scored, key=lambda hit: (-(hit.rerank_score or 0.0), hit.rank)), *hits[depth:]]
    return [replace(hit, rank=rank) for rank, hit in enumerate(ordered, start=1)]


def top_rows(scores: NDArray[np.float32], depth: int) -> Ranking:
    """The `depth` best rows with a score over 0, best first, ties by row."""
    import numpy as np

    # No row is among the best of all that is worse than the last of the best of a sample: of millions, one comparison leaves few.
    some = scores[::_SAMPLED]
    bound = np.partition(some, len(some) - depth)[len(some) - depth] if len(some) > depth else 0.0
    rows = np.flatnonzero(scores >= bound) if bound > 0 else np.flatnonzero(scores > 0)
    if len(rows) > depth:
        # Every row that ties with the last one stays in, so that which of them are cut is decided by row and not by chance.
        least = np.partition(scores[rows], len(rows) - depth)[len(rows) - depth]
        rows = rows[scores[rows] >= least]
    best = rows[np.lexsort((rows, -scores[rows]))[:depth]]
    return Ranking.in_order(best, scores[best])


@dataclass(frozen=True, slots=True)
class Leg:
    """One ranking that is fused: its weight, what it found, and the score that a row it did not find may have at most."""

    weight: float
    found: Ranking
    least: float = 0.0


def passage_leg(weight: float, found: Ranking, depth: int) -> Leg:
    """The leg of passages that found these, best first, when it looks for `depth`."""
    return Leg(weight, found, float(found.scores[-1]) if len(found) >= depth else 0.0)


def fuse(legs: Sequence[Leg], fusion: str = settings.FUSION) -> Ranking:
    """Fuse legs into one ranking, best first, ties by row.

    "sum" is the weighted mean of scores, each divided by the best of its leg: 0 is the least that BM25 and a useful cosine can
    be (a convex combination with the theoretical minimum: Bruch, Gai and Ingber, ACM TOIS 2023). "rrf" adds up reciprocal ranks
    (Cormack, Clarke and Buettcher, SIGIR 2009).
    """
    import numpy as np

    found = [leg.found.rows for leg in legs if len(leg.found)]
    if not found:
        return Ranking.of([])
    rows = np.unique(np.concatenate(found))
    total = np.zeros(len(rows))
    for leg in _scaled(legs, fusion):
        parts = np.full(len(rows), leg.missing)
        parts[np.searchsorted(rows, leg.rows)] = leg.parts
        total += leg.weight * parts
    order = np.argsort(-total, kind="stable")
    return Ranking.in_order(rows[order], total[order])


def parts_of(legs: Sequence[Leg], row: int, fusion: str) -> list[str]:
    """What each leg adds to the score of `row`, as arithmetic; a leg that adds nothing is left out."""
    written = []
    for leg, scaled in zip(legs, _scaled(legs, fusion), strict=True):
        parts = dict(zip(scaled.rows.tolist(), scaled.parts.tolist(), strict=True))
        rank = dict(zip(scaled.rows.tolist(), leg.found.ranks.tolist(), strict=True))
        if part := parts.get(row, scaled.missing):
            written.append(
                f"{scaled.weight:g}/({settings.RRF_K}+{rank[row]})" if fusion == "rrf" else f"{scaled.weight:.4f}*{part:.4f}"
            )
    return written


@dataclass(frozen=True, slots=True)
class _Scaled:
    """What a leg adds to a fusion: its weight, its part of each row that it found, and of any other row."""

    weight: float
    rows: NDArray[np.uint64]
    parts: NDArray[np.float64]
    missing: float


def _scaled(legs: Sequence[Leg], fusion: str) -> list[_Scaled]:
    import numpy as np

    weights = sum(leg.weight for leg in legs if len(leg.found)) or 1.0
    scaled = []
    for leg in legs:
        rows = leg.found.rows
        if fusion == "rrf":
            scaled.append(_Scaled(leg.weight, rows, 1 / (settings.RRF_K + leg.found.ranks), 0.0))
            continue
        scores = np.maximum(leg.found.scores, 0.0)
        best = float(scores.max(initial=0.0)) or 1.0
        scaled.append(_Scaled(leg.weight / weights, rows, scores / best, max(leg.least, 0.0) / best))
    return scaled
