"""What the weight of word pairs does to BM25 alone: a row of the table in docs/notebook.md.

    python benchmarks/pair_weight.py INDEX QUESTIONS [--passages] [--limit 250] [--home HOME]

`--passages` makes short texts: each passage is a document of its own, and the right one is the passage of a gold page that holds
most of the answer's words. The gain of the first right document among ten (nDCG@10 where there is one), and the paired
differences to no pairs with their 95% intervals (bootstrap over questions, by seed). Test questions are left out.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.evaluation.metrics import distinct
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.index.lexical import Analyzer
from rag_vs_ft.index.search import Index, top_rows
from rag_vs_ft.records import Chunk, Question

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0)
ROWS = 100
RESAMPLES = 2_000


def right_passages(chunks: list[Chunk], questions: list[Question]) -> dict[str, set[str]]:
    """Question id -> its passage; questions whose answer shares no word with the gold pages are left out."""
    terms = Analyzer(pairs=False).terms
    pages: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        pages.setdefault(chunk.document_id, []).append(chunk)
    found = {}
    for question in questions:
        answer = set(terms(question.answer or ""))
        held = [
            (len(answer & set(terms(chunk.text))), chunk.id) for page in question.gold_documents for chunk in pages.get(page, ())
        ]
        if held and max(held)[0]:
            found[question.id] = {max(held)[1]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("questions", type=Path)
    parser.add_argument("--passages", action="store_true")
    parser.add_argument("--limit", type=int, default=250)
    parser.add_argument("--home", type=Path)
    arguments = parser.parse_args()
    print(describe())
    index = Index.open(arguments.index, settings.home(arguments.home))
    chunks = [index.table.chunk(row) for row in range(len(index))]
    names = [chunk.id if arguments.passages else chunk.document_id for chunk in chunks]
    questions = [one for one in load_questions(arguments.questions) if one.split != "test" and one.gold_documents]
    if len(questions) > arguments.limit:
        questions = random.Random(settings.SEED).sample(questions, arguments.limit)
    gold = right_passages(chunks, questions) if arguments.passages else {one.id: set(one.gold_documents) for one in questions}
    questions = [one for one in questions if one.id in gold]
    gains: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
    for question in questions:
        words, pairs = index.bm25.scores_of(question.question)
        for weight in WEIGHTS:
            first = distinct(names[row] for row in top_rows(words + weight * pairs, ROWS).rows.tolist())[:10]
            places = (place for place, name in enumerate(first, start=1) if name in gold[question.id])
            gains[weight].append(next((1 / np.log2(place + 1) for place in places), 0.0))
    drawn = np.random.default_rng(settings.SEED).integers(0, len(questions), (RESAMPLES, len(questions)))
    print(f"{len(questions)} questions, without pairs {np.mean(gains[0.0]):.3f}")
    for weight in WEIGHTS[1:]:
        change = np.array(gains[weight]) - np.array(gains[0.0])
        low, high = np.quantile(change[drawn].mean(axis=1), [0.025, 0.975])
        print(f"{weight:g}: {change.mean():+.3f} [{low:+.3f}, {high:+.3f}]")


if __name__ == "__main__":
    main()
