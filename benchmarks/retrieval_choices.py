"""What each choice of the retrieval is worth on dev questions: a Markdown table for docs/results.md.

    python benchmarks/retrieval_choices.py --home HOME --set INDEX=QUESTIONS [--set INDEX=QUESTIONS ...]

Each variant changes one thing of the defaults. BM25 is indexed again from the chunks of the index; vectors are its own. For
each set: recall@10 and MRR@10 of the hybrid, and the paired difference in MRR@10 to the defaults with its 95% interval.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from rag_vs_ft import settings
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.evaluation.retrieval import RetrievalReport, evaluate_retrieval, paired_difference
from rag_vs_ft.index import lexical
from rag_vs_ft.index.lexical import Analyzer, Bm25Settings
from rag_vs_ft.index.search import DEPTH, Index, fuse, top_rows
from rag_vs_ft.records import Chunk, Hit


def path_words(chunk: Chunk) -> str:
    folder_and_file = " ".join(chunk.document_id.rsplit(".", 1)[0].split("/")[-2:])
    return f"{folder_and_file.replace('-', ' ')}\n{chunk.title}\n{chunk.heading}\n{chunk.text}"


def title_twice(chunk: Chunk) -> str:
    return f"{lexical.searchable_text(chunk)}\n{chunk.title}"


def text_alone(chunk: Chunk) -> str:
    return chunk.text


@dataclass(frozen=True)
class Variant:
    name: str
    fields: Callable[[Chunk], str] = lexical.searchable_text
    analyzer: Analyzer = field(default_factory=Analyzer)
    bm25: Bm25Settings = field(default_factory=Bm25Settings)
    depth: int = DEPTH
    fusion: str = "rrf"
    legs: str = "both"
    feedback: int = 0
    """Dense pseudo-relevance feedback (Rocchio): the query vector moves to the mean of this many first passages."""


DEFAULT = Variant("defaults")
VARIANTS = [
    DEFAULT,
    Variant("BM25 alone", legs="bm25"),
    Variant("vectors alone", legs="dense"),
    Variant("fusion by normalised sum", fusion="sum"),
    Variant("50 hits of each leg", depth=50),
    Variant("100 hits of each leg", depth=100),
    Variant("1,000 hits of each leg", depth=1000),
    Variant("no stemming", analyzer=Analyzer(stem=False)),
    Variant("stop words kept", analyzer=Analyzer(stop_words=False)),
    Variant("names not kept whole", analyzer=Analyzer(names=False)),
    Variant("BM25 on text alone", fields=text_alone),
    Variant("folder name added", fields=path_words),
    Variant("title twice", fields=title_twice),
    Variant("k1 0.9, b 0.4", bm25=Bm25Settings(k1=0.9, b=0.4)),
    Variant("k1 1.2, b 0.75", bm25=Bm25Settings(k1=1.2)),
    Variant("k1 2.0, b 0.75", bm25=Bm25Settings(k1=2.0)),
    Variant("k1 1.5, b 0.5", bm25=Bm25Settings(b=0.5)),
    Variant("vector feedback of 3", feedback=3),
]


class Bench:
    """One index and its dev questions."""

    def __init__(self, home: Path | None, name: str, questions: Path) -> None:
        self.name = name
        self.index = Index.open(name, settings.home(home))
        self.questions = load_questions(questions)
        self.chunks = [self.index.table.chunk(row) for row in range(len(self.index))]
        self.vectors = self.index.dense.vectors
        self.bm25 = cache(self._bm25)

    def _bm25(self, fields: Callable[[Chunk], str], analyzer: Analyzer, bm25: Bm25Settings) -> lexical.Lexical:
        folder = Path(tempfile.mkdtemp(prefix="choices-"))
        return lexical.build(folder, (fields(chunk) for chunk in self.chunks), analyzer, bm25)

    def search(self, variant: Variant, query: str, k: int) -> Sequence[Hit]:
        legs = []
        if variant.legs != "dense":
            words = self.bm25(variant.fields, variant.analyzer, variant.bm25)
            legs.append(top_rows(words.scores(query), variant.depth))
        if variant.legs != "bm25":
            vector = self.index.embedder.encode_query(query)
            found, scores = self.index.dense.search(vector, variant.depth)
            if variant.feedback:
                moved = vector + self.vectors[found[: variant.feedback]].mean(axis=0)
                found, scores = self.index.dense.search(moved / np.linalg.norm(moved), variant.depth)
            legs.append([(int(row), float(score)) for row, score in zip(found, scores, strict=True)])
        ranked = fuse(legs, variant.fusion) if len(legs) > 1 else legs[0]
        return [Hit(rank, self.chunks[row], score) for rank, (row, score) in enumerate(ranked[:k], start=1)]

    def report(self, variant: Variant) -> RetrievalReport:
        return evaluate_retrieval(lambda query, k: self.search(variant, query, k), self.questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--set", action="append", required=True, metavar="INDEX=QUESTIONS")
    arguments = parser.parse_args()
    benches = [Bench(arguments.home, *_pair(given)) for given in arguments.set]
    columns = [f"{bench.name} R@10 | MRR@10 | difference" for bench in benches]
    print("| variant | " + " | ".join(columns) + " |\n|---|" + "---|---|---|" * len(benches))
    base = [bench.report(DEFAULT) for bench in benches]
    for variant in VARIANTS:
        cells = []
        for bench, default in zip(benches, base, strict=True):
            report = default if variant is DEFAULT else bench.report(replace(variant))
            paired = paired_difference(default, report)["mrr_at_10"]
            low, high = paired.interval or (float("nan"), float("nan"))
            shown = "" if variant is DEFAULT else f"{paired.difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            cells.append(f"{report.recall_at_10:.3f} | {report.mrr_at_10:.3f} | {shown}")
        print(f"| {variant.name} | " + " | ".join(cells) + " |", flush=True)
    print(
        "; ".join(f"{bench.name}: {default.questions} questions" for bench, default in zip(benches, base, strict=True)),
        file=sys.stderr,
    )


def _pair(given: str) -> tuple[str, Path]:
    name, _, path = given.partition("=")
    return name, Path(path)


if __name__ == "__main__":
    main()
