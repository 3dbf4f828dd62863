"""Whole documents as legs of the hybrid search: by the mean of their passages' vectors, and for `rrf` by BM25 as well.

A passage rarely holds all the words of a question: its document does. Each passage that the other legs found gets the rank of its
document as well. Documents are in order of id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.index import lexical
from rag_vs_ft.index.damage import reading
from rag_vs_ft.index.lazy import loaded_once
from rag_vs_ft.records import Chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 65_536


def build(
    folder: Path,
    chunks: Iterable[Chunk],
    numbers: NDArray[np.int64],
    vectors: NDArray[np.floating[Any]],
    analyzer: lexical.Analyzer,
    bm25: lexical.Bm25Settings,
) -> None:
    """Index documents, given all chunks in order of document and place; `numbers` is the document of each row of `vectors`.

    In memory at once: one document, a block of vectors and the means.
    """
    import numpy as np

    # Two readers of one list of chunks, a document apart at most.
    whole, again = tee(list(of_document) for _, of_document in groupby(chunks, lambda chunk: chunk.document_id))
    languages = (of_document[0].language for of_document in again)
    lexical.build(folder / "bm25", map(lexical.document_text, whole), replace(analyzer, pairs=False), bm25, languages)
    sums = np.zeros((int(numbers.max()) + 1, vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        np.add.at(sums, numbers[start : start + _BLOCK], vectors[start : start + _BLOCK].astype(np.float32))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    files.write_array(folder / "vectors.npy", sums / np.maximum(lengths, 1e-12))


@dataclass(frozen=True)
class Documents:
    """What `build` wrote, and the document's number for each row of the chunk table."""

    folder: Path
    number: NDArray[np.int64]

    @loaded_once
    def _bm25(self) -> lexical.Lexical:
        return lexical.load(self.folder / "bm25")

    @loaded_once
    def _vectors(self) -> NDArray[np.float32]:
        import numpy as np

        with reading(self.folder / "vectors.npy"):
            return np.load(self.folder / "vectors.npy", allow_pickle=False, mmap_mode="r")

    def bm25(self, query: str, rows: NDArray[np.int64] | None) -> DocumentLeg:
        """Documents by the words of `query`, ranked among those of `rows` (None: all)."""
        return self._leg(self._bm25.scores(query), rows, least=0.0)

    def dense(self, query: NDArray[np.float32], rows: NDArray[np.int64] | None) -> DocumentLeg:
        """Documents by the cosine of their mean vector and `query`, ranked among those of `rows` (None: all)."""
        import numpy as np

        # Not `@`: its thread pool would wait for cores that FAISS's own still spins on (20 ms a query, measured).
        return self._leg(np.einsum("ij,j->i", self._vectors, query), rows, least=-2.0)

    def _leg(self, scores: NDArray[np.float32], rows: NDArray[np.int64] | None, least: float) -> DocumentLeg:
        import numpy as np

        found = np.flatnonzero(scores > least)
        if rows is not None:
            found = np.intersect1d(found, self.number[rows])
        ranks = np.zeros(len(scores), dtype=np.int64)
        ranks[found[np.lexsort((found, -scores[found]))]] = np.arange(1, len(found) + 1)
        return DocumentLeg(self.number, ranks, scores)


@dataclass(frozen=True, slots=True)
class DocumentLeg:
    """Rank (0: not found) and score of every document."""

    number: NDArray[np.int64]
    ranks: NDArray[np.int64]
    scores: NDArray[np.float32]

    def of(self, rows: Sequence[int]) -> list[tuple[int, int, float]]:
        """(row, rank, score) of the documents of passages, without those whose document was not found."""
        numbers = self.number[list(rows)]
        found = zip(rows, self.ranks[numbers].tolist(), self.scores[numbers].tolist(), strict=True)
        return [(row, rank, score) for row, rank, score in found if rank]
