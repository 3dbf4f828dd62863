"""Chunks embedded per second, against sentence-transformers' own `encode`, in one run.

    python benchmarks/embedding.py [--home HOME --index NAME] [--chunks 1000] [--precision fp32]

The texts are a random sample of an index's chunks as they are embedded (default: the packaged sample, indexed on the spot). Both
ways alternate, three times each; the best of each is compared. Prints the ratio, and the cosine between the two ways' vectors.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.index.chunking import Chunker, chunk_document, embedded_text
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.search import Index


def texts_of(home: Path | None, index: str | None, embedder: Embedder, count: int) -> list[str]:
    chunker = Chunker(limit=embedder.id.max_tokens)
    if index:
        table = Index.open(index, settings.home(home)).table
        rows = np.random.default_rng(0).choice(len(table), min(count, len(table)), replace=False)
        chunks = [table.chunk(int(row)) for row in rows]
    else:
        with tempfile.TemporaryDirectory() as folder:
            place = settings.home(folder)
            store.add("sample", "sample", home=place)
            documents = list(store.open_corpus("sample", place).documents())
        chunks = [chunk for document in documents for chunk in chunk_document(document, chunker, embedder.offsets)][:count]
    return [embedded_text(chunk, chunker, embedder.offsets) for chunk in chunks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--index")
    parser.add_argument("--chunks", type=int, default=1000)
    parser.add_argument("--precision", choices=["auto", "int8", "fp32"], default="auto")
    arguments = parser.parse_args()

    from sentence_transformers import SentenceTransformer

    ours = Embedder(precision=arguments.precision)
    texts = texts_of(arguments.home, arguments.index, ours, arguments.chunks)
    peer = SentenceTransformer(str(ours.folder), device="cpu", local_files_only=True)
    ours.encode(texts[:8])
    peer.encode(texts[:8])
    best = {"ours": 0.0, "peer": 0.0}
    for _ in range(3):
        start = time.perf_counter()
        vectors = ours.encode(texts)
        best["ours"] = max(best["ours"], len(texts) / (time.perf_counter() - start))
        start = time.perf_counter()
        reference = peer.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        best["peer"] = max(best["peer"], len(texts) / (time.perf_counter() - start))
    cosine = (vectors * reference).sum(axis=1)
    print(describe())
    print(f"{len(texts)} chunks, {ours.threads} threads")
    print(f"sentence-transformers fp32, batch 32: {best['peer']:.1f} chunks/s")
    print(f"ours, {ours.precision}: {best['ours']:.1f} chunks/s; ratio {best['ours'] / best['peer']:.2f}")
    print(f"cosine between them: mean {cosine.mean():.4f}, least {cosine.min():.4f}")


if __name__ == "__main__":
    main()
