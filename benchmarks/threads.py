"""Searches per second by one thread and by several on one open index, in one run, with the 99th percentile of each.

    python benchmarks/threads.py --home HOME --index NAME --questions FILE [--threads 8] [--rounds 3]

Every query is asked once a round, with nothing remembered of it; both ways alternate and the best round of each counts. Without
--index the packaged sample is asked its own questions, and indexed first where it is not yet.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.index import build
from rag_vs_ft.index.search import RETRIEVERS, Index

SAMPLE = Path(__file__).parents[1] / "rag_vs_ft" / "sample" / "questions.jsonl"


def measure(index: Index, questions: list[str], retriever: str, threads: int) -> tuple[float, float]:
    """(searches per second, 99th percentile in milliseconds)."""

    def ask(question: str) -> float:
        start = time.perf_counter()
        index.search(question, 10, retriever=retriever)
        return (time.perf_counter() - start) * 1000

    index.embedder._queries.clear()
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        taken = list(pool.map(ask, questions))
    return len(questions) / (time.perf_counter() - start), float(np.percentile(taken, 99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--index")
    parser.add_argument("--questions", type=Path, default=SAMPLE)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        home = settings.home(arguments.home or folder)
        if arguments.index is None and not (home.indexes / "sample").exists():
            store.add("sample", "sample", home=home)
            build.build("sample", "sample", build.Recipe(), home)
        index = Index.open(arguments.index or "sample", home)
        questions = [question.question for question in load_questions(arguments.questions)]
        print(f"{len(index):,} chunks, {len(questions)} questions, embedded in {index.embedder.precision}")
        for retriever in RETRIEVERS:
            best = dict.fromkeys((1, arguments.threads), (0.0, 0.0))
            for _ in range(arguments.rounds):
                for threads in best:
                    best[threads] = max(best[threads], measure(index, questions, retriever, threads))
            (one, one_p99), (many, many_p99) = best.values()
            print(f"{retriever:7} 1 thread {one:7.1f}/s, p99 {one_p99:6.1f} ms; ", end="")
            print(f"{arguments.threads} threads {many:7.1f}/s, p99 {many_p99:6.1f} ms; ratio {many / one:.2f}", flush=True)


if __name__ == "__main__":
    main()
