"""Latency of a query, embedding included, and BM25 against rank_bm25 over the same terms, in one run.

    python benchmarks/query.py --home HOME --index NAME --questions FILE [--rerank lm]

Each question is asked once per retriever after a warm-up of other words, so that no cached query vector helps. rank_bm25 scores
the same terms of the same chunks with the same k1 and b; its ranking is compared with ours on each question.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.index import lexical
from rag_vs_ft.index.search import RETRIEVERS, Index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--index", required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--peer-queries", type=int, default=20, help="rank_bm25 is slow: this many queries of it are timed")
    parser.add_argument("--rerank", default="", help="also time a reranker on five questions, for 10 and 20 hits")
    arguments = parser.parse_args()
    questions = [question.question for question in load_questions(arguments.questions)]
    opened = time.perf_counter()
    index = Index.open(arguments.index, settings.home(arguments.home))
    index.search("warm up")
    opened = time.perf_counter() - opened
    print(describe())
    print(f"{len(index):,} chunks, {len(questions)} questions; opened, models loaded and first query in {opened:.2f} s")
    for retriever in RETRIEVERS:
        index.embedder._queries.clear()
        for warm in ("node pool", "key vault", "resource group"):
            index.search(warm, retriever=retriever)
        times = []
        for question in questions:
            start = time.perf_counter()
            index.search(question, 10, retriever=retriever)
            times.append((time.perf_counter() - start) * 1000)
        print(f"{retriever:7} p50 {np.percentile(times, 50):6.2f} ms, p99 {np.percentile(times, 99):6.2f} ms")
    start = time.perf_counter()
    for question in questions:
        index.search(question, 10)
    print(f"hybrid, asked again (query vectors cached): {(time.perf_counter() - start) / len(questions) * 1000:.2f} ms")

    if arguments.rerank:
        from rag_vs_ft.models import reranking

        rerank = reranking.load(arguments.rerank, settings.home(arguments.home))
        index.search("warm up", rerank=rerank, rerank_depth=2)
        for depth in (10, 20):
            times = []
            for question in questions[:5]:
                start = time.perf_counter()
                rerank("", [])  # forgets the last question, whose scores it keeps
                index.search(question, 10, rerank=rerank, rerank_depth=depth)
                times.append(time.perf_counter() - start)
            print(f"reranked by {arguments.rerank}, {depth} hits: median {np.median(times):.2f} s, longest {max(times):.2f} s")

    from rank_bm25 import BM25Okapi

    terms_of = index.bm25.terms_of
    terms = [terms_of(lexical.searchable_text(chunk), chunk.language) for chunk in index.table.chunks()]
    bm25 = index.bm25.settings
    peer = BM25Okapi(terms, k1=bm25.k1, b=bm25.b)
    asked = [index.bm25.terms(question) for question in questions[: arguments.peer_queries]]
    start = time.perf_counter()
    theirs = [peer.get_scores(query) for query in asked]
    peer_seconds = (time.perf_counter() - start) / len(asked)
    start = time.perf_counter()
    for _ in range(10):
        ours = [index.bm25._scorer.scores(query) for query in asked]
    our_seconds = (time.perf_counter() - start) / len(asked) / 10
    same = np.mean([np.argmax(left) == np.argmax(right) for left, right in zip(ours, theirs, strict=True)])
    ratio = peer_seconds / our_seconds
    print(f"BM25 scoring: rank_bm25 {1 / peer_seconds:.1f} queries/s, ours {1 / our_seconds:.0f}; ratio {ratio:.0f}")
    print(f"same first chunk on {same:.0%} of {len(asked)} queries (the formulas differ in IDF)")


if __name__ == "__main__":
    main()
