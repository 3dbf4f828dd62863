"""Chunks embedded per second in each precision, against sentence-transformers' own `encode`, in one run.

    python benchmarks/embedding.py [--home HOME --index NAME] [--chunks 1000] [--precision int8 fp32] [--processor-time]

The texts are a random sample of an index's chunks as they are embedded (default: the packaged sample, indexed on the spot). All
ways alternate, three times each; the best of each is compared. Prints the ratio, the cosine between the vectors, and the time of
a query.
`--processor-time` counts seconds of the processor instead of the clock's: for a machine that has other work.

A lesser processor can be played (Linux on x86): `gcc -O2 -shared -fPIC -o isa_mask.so benchmarks/isa_mask.c`, then
`ISA_MASK=avx2 LD_PRELOAD=./isa_mask.so python benchmarks/embedding.py`.
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
    parser.add_argument("--precision", choices=["int8", "fp32"], nargs="+", default=["int8", "fp32"])
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()

    from sentence_transformers import SentenceTransformer

    clock = time.process_time if arguments.processor_time else time.perf_counter
    embedders = {precision: Embedder(precision=precision) for precision in arguments.precision}
    first = next(iter(embedders.values()))
    texts = texts_of(arguments.home, arguments.index, first, arguments.chunks)
    peer = SentenceTransformer(str(first.folder), device="cpu", local_files_only=True)

    def by_peer(part: list[str]) -> np.ndarray:
        return peer.encode(part, normalize_embeddings=True, show_progress_bar=False)

    ways = {"peer": by_peer} | {precision: embedder.encode for precision, embedder in embedders.items()}
    best, vectors = dict.fromkeys(ways, 0.0), {}
    for encode in ways.values():
        encode(texts[:8])
    for _ in range(3):
        for way, encode in ways.items():
            start = clock()
            vectors[way] = encode(texts)
            best[way] = max(best[way], len(texts) / (clock() - start))
    print(describe())
    unit = "per second of the processor" if arguments.processor_time else "per second"
    print(f"{len(texts)} chunks, {first.threads} threads; chunks {unit}")
    print(f"sentence-transformers fp32, batch 32: {best['peer']:.1f}")
    for precision, embedder in embedders.items():
        cosine = (vectors[precision] * vectors["peer"]).sum(axis=1)
        queries = []
        for number in range(50):
            start = clock()
            embedder.encode_query(f"How do I upgrade node pool {number} of a cluster?")
            queries.append((clock() - start) * 1000)
        print(f"{precision} by {embedder.id.engine}: {best[precision]:.1f}, ratio {best[precision] / best['peer']:.2f}; ", end="")
        print(f"cosine mean {cosine.mean():.4f}, least {cosine.min():.4f}; ", end="")
        print(f"a query {np.median(queries):.1f} ms, p99 {np.percentile(queries, 99):.1f}")


if __name__ == "__main__":
    main()
