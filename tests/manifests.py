"""A manifest for tests of what surrounds an index, and what differs between repeated runs; imported as `manifests`."""

from __future__ import annotations

from rag_vs_ft.index.chunking import Chunker
from rag_vs_ft.index.embedding import EmbedderId
from rag_vs_ft.index.lexical import Analyzer, Bm25Settings
from rag_vs_ft.index.manifest import CorpusState, DenseKind, IndexCounts, IndexManifest, Inputs, Vectors

MEASURED = ("seconds_per_question", "seconds_per_right_answer", "peak_memory_bytes", "break_even", "cost")
"""Keys of summary.json that hold measured time or memory: all others are the same whenever a run is repeated on a machine."""


def a_manifest(mark: str) -> IndexManifest:
    """A manifest that is told from others by its `code_version`."""
    inputs = Inputs(
        corpus=CorpusState("docs", "0" * 64, "documents-0.parquet", "folder", {}, "2026-01-01T00:00:00+00:00"),
        chunker=Chunker(),
        analyzer=Analyzer(),
        bm25=Bm25Settings(),
        embedder=EmbedderId("tiny", "0" * 64, 32, 64, "fp32"),
        vectors=Vectors(2),
    )
    return IndexManifest(mark, inputs, DenseKind("flat"), IndexCounts(1, 1, 0, 1, 0, 5, 1, 0, 1), {"total": 0.1}, 1)
