"""Query -> hits: BM25, vectors, or both fused.

Ties are broken by chunk id (rows are in that order), so the same query on the same index gives the same list always.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rag_vs_ft import settings
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index import chunking, generations, lexical
from rag_vs_ft.index.dense import Dense
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.generations import Generation
from rag_vs_ft.index.table import ChunkTable
from rag_vs_ft.records import Hit
from rag_vs_ft.settings import Home

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RETRIEVERS = ("hybrid", "bm25", "dense")
FUSIONS = ("rrf", "sum")
DEPTH = 300
"""Hits of each leg that are fused: some twenty chunks a document, so that each leg still speaks for dozens of documents."""


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
    query = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if not query:
        raise UserError("the question is empty", 'ask something: rag-vs-ft ask "How do I upgrade a node pool?"')
    limit = settings.MAX_QUESTION_CHARACTERS
    if len(query) > limit:
        return query[:limit], (f"the question has {len(query)} characters; the first {limit} were used",)
    return query, ()


def checked_k(k: int) -> int:
    """`k` if it is a usable number of hits, else UserError."""
    if not 1 <= k <= 1000:
        raise UserError(f"k={k} is out of range", "ask for 1 to 1000 hits")
    return k


class Index:
    """One generation, open for searching. Safe to use from several threads; everything is loaded at its first use."""

    def __init__(self, generation: Generation, embedder: Embedder | None = None) -> None:
        self.generation = generation
        self.manifest = generation.manifest
        self.table = ChunkTable.open(generation.folder)
        self._given_embedder = embedder
        self._lock = threading.Lock()
        self._refuse_foreign()

    @staticmethod
    def open(name: str, home: Home, *, embedder: Embedder | None = None) -> Index:
        """Open the generation of index `name` that answers now.

        Raises UserError when there is no such index, CheckFailed when none of its generations is whole or when it was made by
        another chunker or analyzer than this version has.
        """
        return Index(generations.current(generations.index_folder(name, home)), embedder)

    def __len__(self) -> int:
        return self.manifest["counts"]["chunks"]

    @property
    def name(self) -> str:
        """The name of the index."""
        return self.generation.folder.parent.name

    def _refuse_foreign(self) -> None:
        for part, version in (("chunker", chunking.VERSION), ("analyzer", lexical.VERSION)):
            if self.manifest[part]["version"] != version:
                raise CheckFailed(
                    f"index {self.name!r} was made by {part} version {self.manifest[part]['version']}, this is version {version}",
                    f"rag-vs-ft index build {self.name} --corpus {self.manifest['corpus']['name']}",
                )

    @cached_property
    def embedder(self) -> Embedder:
        """The embedding model that made the vectors; CheckFailed when what is there by its name is another one."""
        recorded = self.manifest["embedder"]
        embedder = self._given_embedder or Embedder(recorded["name"], precision=recorded["precision"])
        found = embedder.id.to_json()
        if found != recorded:
            different = ", ".join(
                f"{key} {found[key]!r} instead of {recorded[key]!r}" for key in found if found[key] != recorded[key]
            )
            raise CheckFailed(
                f"index {self.name!r} was made by another embedding model: {different}",
                f"rag-vs-ft index build {self.name} --corpus {self.manifest['corpus']['name']} --embedder {embedder.name}",
            )
        return embedder

    @cached_property
    def bm25(self) -> lexical.Lexical:
        """The BM25 leg."""
        return lexical.load(self.generation.folder / "bm25")

    @cached_property
    def dense(self) -> Dense:
        """The FAISS leg."""
        return Dense(self.generation.folder, settings.threads())

    def search(
        self,
        query: str,
        k: int = settings.K,
        *,
        retriever: str = settings.RETRIEVER,
        fusion: str = "rrf",
        filters: Filters | None = None,
    ) -> list[Hit]:
        """The best `k` chunks for `query`, best first; fewer when fewer match.

        `hybrid` fuses the first `DEPTH` of each leg: "rrf" by reciprocal rank (Cormack et al., 2009), "sum" by the mean of both
        legs' scores after min-max scaling. Raises UserError for an empty query, k out of range or an unknown retriever.
        """
        query, _ = checked_query(query)
        checked_k(k)
        if retriever not in RETRIEVERS or fusion not in FUSIONS:
            raise UserError(
                f"retriever {retriever!r} with fusion {fusion!r} is not known",
                f"retrievers: {', '.join(RETRIEVERS)}; fusions: {', '.join(FUSIONS)}",
            )
        rows = self.table.matching(service=filters.service, path=filters.path, since=filters.since) if filters else None
        depth = max(DEPTH, k)
        with self._lock:
            bm25 = self._bm25_leg(query, depth, rows) if retriever != "dense" else []
            dense = self._dense_leg(query, depth, rows) if retriever != "bm25" else []
        if retriever == "hybrid":
            ranked = fuse([bm25, dense], fusion)
        else:
            ranked = bm25 or dense
        bm25_of = {row: (rank, score) for rank, (row, score) in enumerate(bm25, start=1)}
        dense_of = {row: (rank, score) for rank, (row, score) in enumerate(dense, start=1)}
        none = (None, None)
        return [
            Hit(rank, self.table.chunk(row), score, *bm25_of.get(row, none), *dense_of.get(row, none))
            for rank, (row, score) in enumerate(ranked[:k], start=1)
        ]

    def _bm25_leg(self, query: str, depth: int, rows: NDArray[np.int64] | None) -> list[tuple[int, float]]:
        import numpy as np

        scores = self.bm25.scores(query)
        if rows is not None:
            masked = np.zeros_like(scores)
            masked[rows] = scores[rows]
            scores = masked
        return top_rows(scores, depth)

    def _dense_leg(self, query: str, depth: int, rows: NDArray[np.int64] | None) -> list[tuple[int, float]]:
        found, scores = self.dense.search(self.embedder.encode_query(query), depth, rows)
        return sorted(
            ((int(row), float(score)) for row, score in zip(found, scores, strict=True)), key=lambda hit: (-hit[1], hit[0])
        )

    def explain(self, query: str, hit: Hit) -> dict[str, Any]:
        """Why a hit stands where it stands: the query's terms, those it holds, and the arithmetic of the fusion."""
        terms = self.bm25.terms(query)
        held = set(self.bm25.terms(lexical.searchable_text(hit.chunk)))
        parts = [f"1/({settings.RRF_K}+{rank})" for rank in (hit.bm25_rank, hit.dense_rank) if rank is not None]
        return {
            "query_terms": terms,
            "matched_terms": [term for term in dict.fromkeys(terms) if term in held],
            "rrf": f"{' + '.join(parts)} = {sum(1 / (settings.RRF_K + r) for r in (hit.bm25_rank, hit.dense_rank) if r):.6f}",
        }


def top_rows(scores: NDArray[np.float32], depth: int) -> list[tuple[int, float]]:
    """The `depth` best rows with a score over 0, best first, ties by row."""
    import numpy as np

    rows = np.flatnonzero(scores > 0)
    if len(rows) > depth:
        # Every row that ties with the last one stays in, so that which of them are cut is decided by row and not by chance.
        least = np.partition(scores[rows], len(rows) - depth)[len(rows) - depth]
        rows = rows[scores[rows] >= least]
    order = np.lexsort((rows, -scores[rows]))[:depth]
    return [(int(row), float(scores[row])) for row in rows[order]]


def fuse(legs: Sequence[Sequence[tuple[int, float]]], fusion: str = "rrf") -> list[tuple[int, float]]:
    """Fuse ranked lists of (row, score) into one, best first, ties by row."""
    total: dict[int, float] = {}
    for leg in legs:
        if not leg:
            continue
        scores = [score for _, score in leg]
        low, high = min(scores), max(scores)
        for rank, (row, score) in enumerate(leg, start=1):
            if fusion == "rrf":
                part = 1.0 / (settings.RRF_K + rank)
            else:
                part = ((score - low) / (high - low) if high > low else 1.0) / len(legs)
            total[row] = total.get(row, 0.0) + part
    return sorted(total.items(), key=lambda item: (-item[1], item[0]))
