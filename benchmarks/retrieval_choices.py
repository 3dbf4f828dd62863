"""What each choice of the retrieval is worth on dev questions: Markdown tables for docs/notebook.md.

    python benchmarks/retrieval_choices.py --home HOME --set NAME=INDEX=QUESTIONS [--set ...] [--rows NAMES]

Each variant changes one thing of the defaults. BM25 is indexed again from the chunks of the index; vectors are its own. For each
set: recall@10 and MRR@10, and the paired difference of each to the defaults with its 95% interval. Of mined cloze questions only
the sentence is asked, without the title and section that it names, and no more than `--limit` of them.

Then: which variant cross-validation would choose over all sets at once, and what its choices score on the questions left out; and
what each way of filling a prompt holds of the evidence.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from cuts import CUTS, make
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.corpus.store import open_corpus
from rag_vs_ft.evaluation.contexts import holds_answer
from rag_vs_ft.evaluation.metrics import distinct, ndcg_at, recall_at, reciprocal_rank_at
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.evaluation.statistics import clustered_interval
from rag_vs_ft.index import documents, lexical
from rag_vs_ft.index.lexical import Analyzer, Bm25Settings
from rag_vs_ft.index.ranking import Ranking
from rag_vs_ft.index.search import DEPTH, WEIGHTS, Index, Leg, Weights, fuse, passage_leg, top_rows
from rag_vs_ft.records import Chunk, Question

CANDIDATES = 1_000
"""Rows of a ranking that are looked at: ten documents are found long before."""
FOLDS = 5
_SAYS_WHERE = re.compile(r'^According to .*?(?:what belongs in the gap\?|": )')
_WORD = re.compile(r"\w+(?:[-_.]\w+)*|[^\w\s]")


# --- what BM25 reads --------------------------------------------------------------------------------------------------


def path_words(chunk: Chunk) -> str:
    folder_and_file = " ".join(chunk.document_id.rsplit(".", 1)[0].split("/")[-2:])
    return f"{folder_and_file.replace('-', ' ')}\n{chunk.title}\n{chunk.heading}\n{chunk.text}"


def title_twice(chunk: Chunk) -> str:
    return f"{lexical.searchable_text(chunk)}\n{chunk.title}"


def text_alone(chunk: Chunk) -> str:
    return chunk.text


# --- data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Passages:
    """One index opened for many variants."""

    index: Index
    chunks: list[Chunk]
    vectors: np.ndarray
    words: Callable[[Chunk], str] = lexical.searchable_text

    @cached_property
    def numbers(self) -> np.ndarray:
        """The number of each row's document."""
        return np.unique([chunk.document_id for chunk in self.chunks], return_inverse=True)[1]

    @cached_property
    def following(self) -> dict[int, int]:
        """Row -> the row of the next passage of the same document."""
        order = sorted(range(len(self.chunks)), key=lambda row: (self.chunks[row].document_id, self.chunks[row].start))
        same = lambda a, b: self.chunks[a].document_id == self.chunks[b].document_id  # noqa: E731
        return {a: b for a, b in itertools.pairwise(order) if same(a, b)}

    @cache  # noqa: B019  a handful, for as long as the program runs
    def bm25(self, fields: Callable[[Chunk], str], analyzer: Analyzer, bm25: Bm25Settings) -> lexical.Lexical:
        folder = Path(tempfile.mkdtemp(prefix="choices-"))
        return lexical.build(folder, (fields(chunk) for chunk in self.chunks), analyzer, bm25)

    @cached_property
    def whole(self) -> documents.Documents:
        """The legs of whole documents, built from these passages as an index builds them."""
        folder = Path(tempfile.mkdtemp(prefix="choices-"))
        in_order = sorted(self.chunks, key=lambda chunk: (chunk.document_id, chunk.start))
        documents.build(folder, in_order, self.numbers, self.vectors, Analyzer(), Bm25Settings())
        return documents.Documents(folder, self.numbers)

    __hash__ = object.__hash__


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    fields: Callable[[Chunk], str] | None = None
    analyzer: Analyzer = field(default_factory=Analyzer)
    bm25: Bm25Settings = field(default_factory=Bm25Settings)
    depth: int = DEPTH
    fusion: str = settings.FUSION
    weights: Weights | None = None
    """Of the legs; None: those of the fusion."""
    legs: str = "both"
    feedback: int = 0
    """Dense pseudo-relevance feedback (Rocchio): the query vector moves to the mean of this many first passages."""
    expand: int = 0
    """BM25 pseudo-relevance feedback (RM3: Abdul-Jaleel et al., 2004): ten terms of this many first passages, at half weight."""
    second: float = 0.0
    """A passage gets this share of the score of its document's best other passage."""
    mmr: float = 0.0
    """Maximal marginal relevance (Carbonell and Goldstein, 1998) of the first 50: the weight of being unlike those above."""
    likelihood: float | None = None
    """Reranking of the first hits by the likelihood of the question: 1 orders by it alone, 0.5 by RRF of both ranks."""


DEFAULT = Variant("defaults")
PLAIN = "RRF of passages, no word pairs"
VARIANTS = [
    DEFAULT,
    Variant("BM25 alone", legs="bm25"),
    Variant("vectors alone", legs="dense"),
    *(
        Variant(
            f"legs {1 - share:g}, {share:g}, {words:g}, {vectors:g}",
            weights=Weights(1 - share, share, words, vectors),
        )
        for share in (0.3, 0.4, 0.5, 0.6)
        for words in (0.0, 0.25)
        for vectors in (0.0, 0.25, 0.35, 0.5)
    ),
    Variant("RRF with documents", fusion="rrf"),
    Variant("RRF of passages", fusion="rrf", weights=Weights(1, 1, 0, 0)),
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
    Variant("no word pairs", analyzer=Analyzer(pairs=False)),
    Variant(PLAIN, analyzer=Analyzer(pairs=False), fusion="rrf", weights=Weights(1, 1, 0, 0)),
    Variant("document's next passage counts 0.1", second=0.1),
    Variant("document's next passage counts 0.3", second=0.3),
    Variant("vector feedback of 3", feedback=3),
    Variant("BM25 feedback of 3 (RM3)", expand=3),
    Variant("BM25 feedback of 10 (RM3)", expand=10),
    Variant("MMR, weight 0.3", mmr=0.3),
]
RERANKED = [
    Variant("reranked by question likelihood", likelihood=1.0),
    Variant("likelihood and search, RRF of both ranks", likelihood=0.5),
]


NEWCOMERS = (
    Variant("newcomer, vectors", legs="dense"),
    Variant("newcomer, hybrid", analyzer=Analyzer(names=False, pairs=False), fusion="rrf", weights=Weights(1, 1, 0, 0)),
)
"""The newcomer's ways: the best vectors as FAISS gives them, and both legs by RRF."""


class Bench:
    """One set of dev questions over an index; scores of all passages are kept, so that a variant costs milliseconds."""

    def __init__(self, name: str, passages: Passages, questions: Sequence[Question], likelihoods: dict[str, dict[str, float]]):
        self.name = name
        self.passages = passages
        self.questions = [question for question in questions if question.gold_documents]
        self.likelihoods = likelihoods
        self.queries = np.array([passages.index.embedder.encode_query(question.question) for question in self.questions])
        self.rows_of = cache(self._rows_of)
        self.words = cache(self._words)

    def over(self, passages: Passages) -> Bench:
        """The same questions over other passages of the same documents."""
        return Bench(self.name, passages, self.questions, self.likelihoods)

    def scored(self) -> Bench:
        """The questions whose first hits the language model has scored."""
        known = [question for question in self.questions if question.id in self.likelihoods]
        return self if known == self.questions else Bench(self.name, self.passages, known, self.likelihoods)

    @cached_property
    def dense(self) -> np.ndarray:
        return self.queries @ self.passages.vectors.T

    def _words(self, fields: Callable[[Chunk], str] | None, analyzer: Analyzer, bm25: Bm25Settings) -> np.ndarray:
        scorer = self.passages.bm25(fields or self.passages.words, analyzer, bm25)
        return np.stack([scorer.scores(question.question) for question in self.questions])

    @cached_property
    def whole(self) -> list[tuple[documents.DocumentLeg, documents.DocumentLeg]]:
        """The legs of whole documents for each question, by words and by vectors."""
        whole, asked = self.passages.whole, zip(self.questions, self.queries, strict=True)
        return [(whole.bm25(question.question, None), whole.dense(query, None)) for question, query in asked]

    def _rows_of(self, variant: Variant, at: int) -> list[int]:
        """Rows for question `at`, best first."""
        words = self.words(variant.fields, variant.analyzer, variant.bm25)[at]
        dense = self.dense[at]
        if variant.expand:
            words = self._expanded(at, top_rows(words, variant.expand).pairs())
        if variant.feedback:
            first = top_rows(dense + 1, variant.feedback).rows
            moved = self.queries[at] + self.passages.vectors[first].mean(axis=0)
            dense = self.passages.vectors @ (moved / np.linalg.norm(moved))
        near = top_rows(dense + 1, variant.depth)
        found = [top_rows(words, variant.depth), Ranking.in_order(near.rows, near.scores - 1)]
        if variant.legs != "both":
            return [row for row, _ in found[variant.legs == "dense"].pairs()]
        weights = variant.weights or WEIGHTS[variant.fusion]
        legs = [passage_leg(weight, leg, variant.depth) for leg, weight in zip(found, (weights.bm25, weights.dense), strict=True)]
        candidates = np.union1d(*(leg.rows for leg in found))
        for whole, weight in zip(self.whole[at], (weights.document_bm25, weights.document_dense), strict=True):
            if weight:
                legs.append(Leg(weight, whole.of(candidates)))
        total = dict(fuse(legs, variant.fusion).pairs())
        numbers = self.passages.numbers
        if variant.second:
            two: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
            for row, score in total.items():
                two[numbers[row]] = sorted((*two[numbers[row]], score), reverse=True)[:2]
            best = {row: two[numbers[row]][int(score == two[numbers[row]][0])] for row, score in total.items()}
            total = {row: score + variant.second * best[row] for row, score in total.items()}
        ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))[:CANDIDATES]
        rows = [row for row, _ in ranked]
        if variant.mmr:
            rows = self._diverse(ranked[:50], variant.mmr) + rows[50:]
        if variant.likelihood is not None:
            rows = self._likely(at, rows, variant.likelihood)
        return rows

    def _expanded(self, at: int, first: Sequence[tuple[int, float]]) -> np.ndarray:
        scorer = self.passages.bm25(self.passages.words, Analyzer(), Bm25Settings())
        asked = scorer.terms(self.questions[at].question)
        weights: dict[str, float] = defaultdict(float)
        for row, score in first:
            terms = scorer.terms(self.passages.words(self.passages.chunks[row]))
            for term in terms:
                weights[term] += score / len(terms)
        best = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:10]
        mass = sum(weight for _, weight in best) or 1.0
        mixed: dict[str, float] = defaultdict(float)
        for term in asked:
            mixed[term] += 0.5 / len(asked)
        for term, weight in best:
            mixed[term] += 0.5 * weight / mass
        return sum(
            (weight * scorer._scorer.scores([term]) for term, weight in mixed.items()),
            start=np.zeros(len(self.passages.chunks), dtype=np.float32),
        )

    def _diverse(self, ranked: Sequence[tuple[int, float]], weight: float) -> list[int]:
        rows = [row for row, _ in ranked]
        scores = np.array([score for _, score in ranked])
        scores = (scores - scores.min()) / (np.ptp(scores) or 1.0)
        alike = self.passages.vectors[rows] @ self.passages.vectors[rows].T
        chosen: list[int] = []
        while len(chosen) < len(rows):
            nearest = alike[:, chosen].max(axis=1) if chosen else np.zeros(len(rows))
            value = (1 - weight) * scores - weight * nearest
            value[chosen] = -np.inf
            chosen.append(int(value.argmax()))
        return [rows[place] for place in chosen]

    def _likely(self, at: int, rows: list[int], weight: float) -> list[int]:
        known = self.likelihoods.get(self.questions[at].id, {})
        first = [row for row in rows if self.passages.chunks[row].id in known]
        order = sorted(first, key=lambda row: -known[self.passages.chunks[row].id])
        if weight < 1:
            place = {row: 1 / (settings.RRF_K + rank) for rank, row in enumerate(first, start=1)}
            place = {row: place[row] + 1 / (settings.RRF_K + rank) for rank, row in enumerate(order, start=1)}
            order = sorted(first, key=lambda row: -place[row])
        there = set(first)
        return order + [row for row in rows if row not in there]

    def scores(self, variant: Variant) -> np.ndarray:
        """Recall@10, reciprocal rank and nDCG@10 over documents, shape (questions, 3)."""
        found = []
        for at, question in enumerate(self.questions):
            ranking = distinct(self.passages.chunks[row].document_id for row in self.rows_of(variant, at))
            gold = dict.fromkeys(question.gold_documents, 1)
            found.append([measure(ranking, gold, 10) for measure in (recall_at, reciprocal_rank_at, ndcg_at)])
        return np.array(found)

    @property
    def clusters(self) -> list[str]:
        return [question.gold_documents[0] for question in self.questions]


# --- tables -----------------------------------------------------------------------------------------------------------


METRICS = ("R@10", "MRR@10", "nDCG@10")


def row(name: str, benches: Sequence[Bench], bases: Sequence[np.ndarray], scores: Sequence[np.ndarray], metrics: int = 2) -> str:
    """A line of a table with the first `metrics` of `METRICS`; a difference whose interval leaves out 0 is bold."""
    cells = []
    for bench, base, of_set in zip(benches, bases, scores, strict=True):
        cells.append(", ".join(f"{of_set[:, metric].mean():.3f}" for metric in range(metrics)))
        cells += [difference(bench, of_set[:, at] - base[:, at]) if of_set is not base else "" for at in range(metrics)]
    return f"| {name} | " + " | ".join(cells) + " |"


def difference(bench: Bench, values: np.ndarray) -> str:
    interval = clustered_interval(values.tolist(), bench.clusters)
    if interval is None:
        return f"{values.mean():+.3f}"
    mark = "**" if interval[0] > 0 or interval[1] < 0 else ""
    return f"{mark}{values.mean():+.3f}{mark} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def heading(benches: Sequence[Bench], first: str = "variant", metrics: int = 2) -> str:
    names = METRICS[:metrics]
    columns = [" | ".join([f"{bench.name}: {', '.join(names)}", *names]) for bench in benches]
    return f"| {first} | " + " | ".join(columns) + " |\n|---|" + "---|" * (1 + metrics) * len(benches)


def cross_validated(benches: Sequence[Bench], scores: dict[str, list[np.ndarray]]) -> None:
    """Print what would be chosen without a fifth of the documents, or without a set, and what that gains there over `PLAIN`.

    Chosen by the mean of recall@10 and MRR@10, and of all sets alike.
    """
    values = {name: [of_set[:, :2].mean(axis=1) for of_set in found] for name, found in scores.items()}
    folds = []
    for bench in benches:
        names = sorted(set(bench.clusters))
        random.Random(settings.SEED).shuffle(names)
        fold_of = {name: number % FOLDS for number, name in enumerate(names)}
        folds.append(np.array([fold_of[name] for name in bench.clusters]))
    gains = [np.zeros(len(bench.questions)) for bench in benches]
    chosen = []
    for number in range(FOLDS):
        best = max(values, key=lambda name: np.mean([v[f != number].mean() for v, f in zip(values[name], folds, strict=True)]))
        chosen.append(best)
        for gain, fold, ours, plain in zip(gains, folds, values[best], values[PLAIN], strict=True):
            gain[fold == number] = (ours - plain)[fold == number]
    print(
        f"\nChosen without a fifth of the documents: {'; '.join(chosen)}. Mean of R@10 and MRR@10 over {PLAIN!r}, on that fifth:"
    )
    for bench, gain in zip(benches, gains, strict=True):
        print(f"- {bench.name}: {difference(bench, gain)}")
    for at, bench in enumerate(benches if len(benches) > 1 else ()):
        best = max(values, key=lambda name: np.mean([v.mean() for other, v in enumerate(values[name]) if other != at]))
        print(f"- chosen without {bench.name}: {best}; on {bench.name} {difference(bench, values[best][at] - values[PLAIN][at])}")


def prompts(benches: Sequence[Bench]) -> None:
    """Print what each way of filling a prompt holds: the share of questions whose evidence stands in it, and its tokens."""
    with_evidence = [(bench, [at for at, question in enumerate(bench.questions) if question.evidence]) for bench in benches]
    with_evidence = [(bench, places) for bench, places in with_evidence if places]
    print("\n| passages of a prompt | " + " | ".join(f"{b.name}: holds the evidence | tokens" for b, _ in with_evidence) + " |")
    print("|---|" + "---|---|" * len(with_evidence))
    for name, choose in PROMPTS.items():
        cells = []
        for bench, places in with_evidence:
            held, tokens = [], []
            for at in places:
                groups = choose(bench, at)
                # A passage of several chunks is one text with one breadcrumb.
                text = "\n\n".join("\n".join(bench.passages.chunks[row].text for row in group) for group in groups)
                shown = replace(bench.passages.chunks[groups[0][0]], text=text)
                held.append(
                    any(holds_answer(replace(bench.questions[at], evidence=(e,)), shown) for e in bench.questions[at].evidence)
                )
                crumbs = sum(len(bench.passages.chunks[group[0]].breadcrumb) for group in groups)
                tokens.append((len(text) + crumbs) / 4)
            cells.append(f"{np.mean(held):.3f} | {np.mean(tokens):.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _first(k: int, variant: Variant = DEFAULT) -> Callable[[Bench, int], list[list[int]]]:
    return lambda bench, at: [[row] for row in bench.rows_of(variant, at)[:k]]


def _one_a_document(k: int) -> Callable[[Bench, int], list[list[int]]]:
    def choose(bench: Bench, at: int) -> list[list[int]]:
        first: dict[int, int] = {}
        for row in bench.rows_of(DEFAULT, at):
            first.setdefault(int(bench.passages.numbers[row]), row)
        return [[row] for row in list(first.values())[:k]]

    return choose


def _with_neighbours(k: int) -> Callable[[Bench, int], list[list[int]]]:
    def choose(bench: Bench, at: int) -> list[list[int]]:
        following = bench.passages.following
        before = {b: a for a, b in following.items()}
        taken: set[int] = set()
        groups = []
        for row in bench.rows_of(DEFAULT, at):
            if row in taken:
                continue
            group = [r for r in (before.get(row), row, following.get(row)) if r is not None and r not in taken]
            taken.update(group)
            groups.append(group)
            if len(groups) == k:
                break
        return groups

    return choose


PROMPTS: dict[str, Callable[[Bench, int], list[list[int]]]] = {
    "first 1": _first(1),
    "first 3 (default)": _first(3),
    "first 3, no document legs": _first(3, Variant("", weights=Weights(0.6, 0.4, 0, 0))),
    "first 5": _first(5),
    "first 9": _first(9),
    "3, one a document": _one_a_document(3),
    "5, one a document": _one_a_document(5),
    "3, by MMR (weight 0.3)": _first(3, Variant("", mmr=0.3)),
    "1 with its neighbours, merged": _with_neighbours(1),
    "3 with their neighbours, merged": _with_neighbours(3),
}


# --- likelihoods ------------------------------------------------------------------------------------------------------


def score_likelihoods(benches: Sequence[Bench], depth: int, limit: int, path: Path) -> None:
    """Have the default language model score the first hits of each question; kept in a file, since it takes long."""
    from rag_vs_ft.models import loading, reranking

    rerank = reranking.by_likelihood(loading.load(settings.LANGUAGE_MODEL, settings.home()))
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    seconds = []
    for bench in benches:
        for at, question in enumerate(bench.questions[:limit]):
            if question.id in known:
                continue
            chunks = [bench.passages.chunks[row] for row in bench.rows_of(DEFAULT, at)[:depth]]
            start = time.perf_counter()
            scores = rerank(question.question, chunks)
            seconds.append(time.perf_counter() - start)
            known[question.id] = {chunk.id: score for chunk, score in zip(chunks, scores, strict=True)}
            path.write_text(json.dumps(known), encoding="utf-8")
    if seconds:
        print(f"{len(seconds)} questions, {depth} passages each: {np.median(seconds):.2f} s a question (median)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=INDEX=QUESTIONS")
    parser.add_argument("--limit", type=int, default=300, help="cloze questions, drawn by seed")
    parser.add_argument("--likelihoods", type=Path, help="a file of question likelihoods, made by --score")
    parser.add_argument("--score", type=int, default=0, help="score the first so many hits of --score-questions questions a set")
    parser.add_argument("--score-questions", type=int, default=1000)
    parser.add_argument("--rows", default="", help="only the variants whose name this regular expression finds")
    parser.add_argument("--prompts", action="store_true", help="only what a prompt holds")
    parser.add_argument("--cuts", nargs="*", choices=CUTS, default=[], help="compare other ways to cut the documents")
    parser.add_argument("--cache", type=Path, default=Path("vectors"), help="where vectors of other cuts are kept")
    parser.add_argument("--part", type=Path, help="document ids, one a line: the cuts see these documents only")
    arguments = parser.parse_args()
    print(describe())
    home = settings.home(arguments.home)
    opened: dict[str, Passages] = {}
    likelihoods = {}
    if arguments.likelihoods and arguments.likelihoods.is_file():
        likelihoods = json.loads(arguments.likelihoods.read_text(encoding="utf-8"))
    benches = []
    for given in arguments.set:
        name, index_name, path = given.split("=", 2)
        if index_name not in opened:
            index = Index.open(index_name, home)
            opened[index_name] = Passages(
                index, [index.table.chunk(row) for row in range(len(index))], np.asarray(index.dense.vectors, dtype=np.float32)
            )
        benches.append(Bench(name, opened[index_name], _dev_questions(Path(path), arguments.limit), likelihoods))
    print(
        "; ".join(f"{bench.name}: {len(bench.questions)} questions, {len(bench.passages.chunks):,} passages" for bench in benches)
    )
    if arguments.score:
        score_likelihoods(benches, arguments.score, arguments.score_questions, arguments.likelihoods)
    elif arguments.cuts:
        compare_cuts(benches, arguments.cuts, home, arguments.cache, arguments.part)
    else:
        if not arguments.prompts:
            compare_variants(benches, [variant for variant in VARIANTS if re.search(arguments.rows, variant.name)])
        prompts(benches)


def compare_variants(benches: Sequence[Bench], variants: Sequence[Variant]) -> None:
    bases = [bench.scores(DEFAULT) for bench in benches]
    scores = {"defaults": bases}
    print("\n" + heading(benches))
    for variant in variants:
        if variant is not DEFAULT:
            scores[variant.name] = [bench.scores(variant) for bench in benches]
        print(row(variant.name, benches, bases, scores[variant.name]), flush=True)
    if PLAIN in scores:
        cross_validated(benches, scores)
    scored = [bench.scored() for bench in benches if bench.scored().questions]
    if scored:
        sizes = ", ".join(f"{bench.name}: {len(bench.questions)} questions" for bench in scored)
        print(f"\nReranked ({sizes}):\n\n{heading(scored)}")
        bases = [bench.scores(DEFAULT) for bench in scored]
        print(row("defaults", scored, bases, bases))
        for variant in RERANKED:
            print(row(variant.name, scored, bases, [bench.scores(variant) for bench in scored]), flush=True)


def compare_cuts(benches: Sequence[Bench], names: Sequence[str], home: settings.Home, cache: Path, part: Path | None) -> None:
    """The defaults over other cuts of the same documents; the newcomer has BM25 fields, an analyzer and a fusion of its own."""
    wanted = set(part.read_text(encoding="utf-8").split("\n")) if part else set()
    bases = [bench.over(_only(bench.passages, wanted)) if wanted else bench for bench in benches]
    base_scores = [bench.scores(DEFAULT) for bench in bases]
    print("\n" + heading(benches, "cut", 3))
    sizes = ", ".join(f"{len(bench.passages.chunks):,}" for bench in bases)
    print(row(f"defaults ({sizes} passages)", benches, base_scores, base_scores, 3))
    for name in names:
        others = []
        for bench in benches:
            index = bench.passages.index
            cut = make(name, open_corpus(index.manifest.inputs.corpus.name, home), index.embedder, cache, wanted)
            words = text_with_title_and_file if name == "newcomer" else cut.words
            others.append(bench.over(Passages(index, cut.chunks, cut.vectors, words)))
        sizes = ", ".join(f"{len(bench.passages.chunks):,}" for bench in others)
        for variant in NEWCOMERS if name == "newcomer" else [replace(DEFAULT, name=name)]:
            scores = [other.scores(variant) for other in others]
            print(row(f"{variant.name} ({sizes} passages)", benches, base_scores, scores, 3), flush=True)


def text_with_title_and_file(chunk: Chunk) -> str:
    return f"{chunk.title}\n{chunk.document_id.rsplit('/', 1)[-1].removesuffix('.md').replace('-', ' ')}\n{chunk.text}"


def _only(passages: Passages, documents: set[str]) -> Passages:
    rows = [row for row, chunk in enumerate(passages.chunks) if chunk.document_id in documents] or list(
        range(len(passages.chunks))
    )
    return Passages(passages.index, [passages.chunks[row] for row in rows], passages.vectors[rows])


def _dev_questions(path: Path, limit: int) -> list[Question]:
    questions = load_questions(path)
    cloze = [question for question in questions if "cloze" in question.tags]
    if cloze:
        random.Random(settings.SEED).shuffle(cloze)
        questions = [
            replace(question, question=_SAYS_WHERE.sub("", question.question).replace("____", "").strip())
            for question in cloze[:limit]
        ]
    return questions


if __name__ == "__main__":
    main()
