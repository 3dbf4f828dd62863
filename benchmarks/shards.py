"""What it costs in quality to count IDFs in each shard, as a server with several shards does, instead of over all passages.

    python benchmarks/shards.py --home HOME --index NAME --questions FILE... [--shards 2 6 32]

Passages go to shards by the hash of their id. Each shard gives its best by BM25 with its own IDFs, and the lists are merged by
score, as Qdrant does. Compared with the index's own BM25: recall@10 and MRR@10 of documents on the questions (dev questions
alone), and the share of the first ten passages that stay.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from machine import describe
from numpy.typing import NDArray

from rag_vs_ft import settings
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.files import sha256_text
from rag_vs_ft.index import lexical
from rag_vs_ft.index.search import DEPTH, Index, top_rows
from rag_vs_ft.records import Question


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--index", required=True)
    parser.add_argument("--questions", type=Path, nargs="+", required=True)
    parser.add_argument("--shards", type=int, nargs="+", default=[2, 6, 32])
    arguments = parser.parse_args()
    index = Index.open(arguments.index, settings.home(arguments.home))
    questions = [one for file in arguments.questions for one in load_questions(file) if one.gold_documents]
    terms = {question.id: index.bm25.terms(question.question) for question in questions}
    wanted = {term for of_question in terms.values() for term in of_question}
    # For the terms that are asked for: the rows that hold each, and what it adds to them divided by its IDF.
    found: dict[str, list[tuple[int, float]]] = {term: [] for term in wanted}
    bm25 = index.bm25
    lengths = bm25.mean_length
    if lengths is None:
        texts = ((lexical.searchable_text(chunk), chunk.language) for chunk in index.table.chunks())
        lengths = float(np.mean([len(bm25.terms_of(*text)) for text in texts]))
    for row, chunk in enumerate(index.table.chunks()):
        own = lexical.weights(bm25.terms_of(lexical.searchable_text(chunk), chunk.language), lengths, bm25.settings)
        for term in wanted & own.keys():
            found[term].append((row, own[term]))
    postings = {
        term: (np.array([row for row, _ in rows], dtype=np.int64), np.array([w for _, w in rows])) for term, rows in found.items()
    }
    documents = index.table.column("document_id")
    shard_of = np.array([int(sha256_text(id)[:8], 16) for id in index.table.column("id")])
    print(describe())
    print(f"{len(index):,} passages of index {index.name}, {len(questions)} dev questions")
    whole = {question.id: ranked(terms[question.id], postings, np.zeros(len(index), dtype=np.int64)) for question in questions}
    for shards in [1, *arguments.shards]:
        lists = {question.id: ranked(terms[question.id], postings, shard_of % shards) for question in questions}
        recall, mrr = quality(lists, questions, documents)
        same = np.mean([len(set(lists[id][:10]) & set(rows[:10])) / max(1, len(rows[:10])) for id, rows in whole.items()])
        print(f"{shards:3} shards: recall@10 {recall:.3f}, MRR@10 {mrr:.3f}, {same:.3f} of the first ten passages", flush=True)


def ranked(
    terms: list[str], postings: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]], shard: NDArray[np.int64]
) -> list[int]:
    """The best rows by BM25, with IDFs counted in the shard of each row."""
    sizes = np.bincount(shard)
    scores = np.zeros(len(shard))
    for term in terms:
        rows, weights = postings[term]
        held = np.bincount(shard[rows], minlength=len(sizes))
        idf = np.log(1 + (sizes - held + 0.5) / (held + 0.5))
        scores[rows] += weights * idf[shard[rows]]
    found: list[int] = top_rows(scores.astype(np.float32), DEPTH).rows.tolist()
    return found


def quality(lists: dict[str, list[int]], questions: list[Question], documents: list[str]) -> tuple[float, float]:
    recalls, ranks = [], []
    for question in questions:
        order = list(dict.fromkeys(documents[row] for row in lists[question.id]))[:10]
        gold = set(question.gold_documents)
        recalls.append(len(gold & set(order)) / len(gold))
        ranks.append(next((1 / rank for rank, name in enumerate(order, start=1) if name in gold), 0.0))
    return float(np.mean(recalls)), float(np.mean(ranks))


if __name__ == "__main__":
    main()
