"""Retrieval on its own: how well a search finds the documents that answer, how fast, and which of two does better."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.metrics import Judgements, distinct, mean_over_queries, ndcg_at, recall_at, reciprocal_rank_at
from rag_vs_ft.evaluation.statistics import clustered_interval
from rag_vs_ft.records import Document, Hit, Question, read_jsonl
from rag_vs_ft.settings import MAX_HITS

METRICS: dict[str, tuple[Callable[[Sequence[str], Judgements, int], float], int]] = {
    "ndcg_at_10": (ndcg_at, 10),
    "recall_at_5": (recall_at, 5),
    "recall_at_10": (recall_at, 10),
    "mrr_at_10": (reciprocal_rank_at, 10),
}
DEPTH = 10


@dataclass(frozen=True, slots=True)
class RetrievalRow:
    """One question: the first documents found, in the order their first chunk appears, and the score of each metric.

    `milliseconds` is the time of the first search, which asks for `RetrievalReport.chunks` chunks.
    """

    question_id: str
    gold_documents: tuple[str, ...]
    ranking: tuple[str, ...]
    scores: dict[str, float]
    milliseconds: float

    @property
    def cluster(self) -> str:
        """Questions on the same document are not independent: they are resampled together (by the first gold document)."""
        return self.gold_documents[0]


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Means over the scored questions, their 95% intervals (None: too few documents to say), latency, and every row."""

    questions: int
    left_out: int
    splits: dict[str, int]
    ndcg_at_10: float
    recall_at_5: float
    recall_at_10: float
    mrr_at_10: float
    intervals: dict[str, tuple[float, float] | None]
    chunks: int
    latency_ms_p50: float
    latency_ms_p99: float
    rows: tuple[RetrievalRow, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that `eval-retrieval --json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BeirSet:
    """One split of a BEIR data set. `judged` maps question id -> document id -> grade.

    `missing_documents` counts judged documents that the corpus lacks: nothing can find them, and they count as not found.
    """

    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
    judged: dict[str, dict[str, int]]
    missing_documents: int


def evaluate_retrieval(
    search: Callable[[str, int], Sequence[Hit]],
    questions: Sequence[Question],
    *,
    judged: Mapping[str, Judgements] | None = None,
    chunks: int = 3 * DEPTH,
) -> RetrievalReport:
    """Score `search(text, k)` (the best k chunks) on the questions that have gold documents; the others are counted.

    Documents are ranked in the order their first chunk appears. When `chunks` chunks come from fewer than 10 documents the
    search is repeated twice as deep, until there are 10, the list ends or `MAX_HITS` are reached; only the first search is
    timed, after one that warms up. `judged` gives grades by question id (BEIR); without it every gold document has grade 1.

    Raises UserError when no question has gold documents, or two have the same id.
    """
    scored = [question for question in questions if question.gold_documents]
    if not scored:
        raise UserError(f"none of the {len(questions)} questions has gold_documents", "choose a set that has")
    judgements = {question.id: dict.fromkeys(question.gold_documents, 1) for question in scored}
    if len(judgements) < len(scored):
        twice = Counter(question.id for question in scored).most_common(1)[0][0]
        raise UserError(f"two questions have the id {twice!r}", "score question files with common ids one at a time")
    if judged is not None:
        judgements = {name: dict(judged[name]) for name in judgements}
    import numpy as np

    search("warm-up", chunks)
    rows = []
    for question in scored:
        start = time.perf_counter()
        hits = search(question.question, chunks)
        milliseconds = (time.perf_counter() - start) * 1000
        depth = chunks
        while len(ranking := distinct(hit.chunk.document_id for hit in hits)) < DEPTH and depth <= len(hits) < MAX_HITS:
            depth = min(2 * depth, MAX_HITS)
            hits = search(question.question, depth)
        ranking = ranking[:DEPTH]
        scores = {name: metric(ranking, judgements[question.id], k) for name, (metric, k) in METRICS.items()}
        rows.append(RetrievalRow(question.id, question.gold_documents, tuple(ranking), scores, milliseconds))

    run = {row.question_id: row.ranking for row in rows}
    clusters = [row.cluster for row in rows]
    latency = np.percentile([row.milliseconds for row in rows], [50, 99])
    return RetrievalReport(
        questions=len(rows),
        left_out=len(questions) - len(rows),
        splits=dict(Counter(question.split or "none" for question in scored)),
        **{name: mean_over_queries(metric, run, judgements, k) for name, (metric, k) in METRICS.items()},
        intervals={name: clustered_interval([row.scores[name] for row in rows], clusters) for name in METRICS},
        chunks=chunks,
        latency_ms_p50=float(latency[0]),
        latency_ms_p99=float(latency[1]),
        rows=tuple(rows),
    )


def load_beir(folder: Path, split: str = "test") -> BeirSet:
    """Read corpus.jsonl, queries.jsonl and qrels/<split>.tsv of a data set in BEIR's layout (Thakur et al., 2021).

    A judged query without a relevant document becomes a question without gold documents. Raises UserError naming file and
    line of what is wrong.
    """
    qrels = folder / "qrels" / f"{split}.tsv"
    judged: dict[str, dict[str, int]] = {}
    try:
        lines = qrels.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        there = ", ".join(sorted(path.stem for path in folder.glob("qrels/*.tsv"))) or "none"
        raise UserError(f"cannot read {qrels}: {error}", f"splits of {folder}: {there}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and line.startswith("query-id")):
            continue
        parts = line.split("\t")
        try:
            query, document, grade = parts[0], parts[1], int(parts[2])
        except (IndexError, ValueError) as error:
            raise UserError(f"{qrels}:{number}: {line!r}", "expected query-id, corpus-id and score, tabs between") from error
        judged.setdefault(query, {})[document] = grade
    texts = {identifier: record["text"] for identifier, record in _beir_records(folder / "queries.jsonl")}
    if unknown := sorted(judged.keys() - texts.keys()):
        raise UserError(f"{qrels}: query {unknown[0]!r} ({len(unknown)} in all) is not in queries.jsonl", "complete the set")
    documents = tuple(
        Document(identifier, str(record.get("title") or ""), record["text"])
        for identifier, record in _beir_records(folder / "corpus.jsonl")
    )
    present = {document.id for document in documents}
    questions = tuple(
        Question(
            id=query,
            question=texts[query],
            gold_documents=tuple(name for name, grade in grades.items() if grade > 0),
            source=folder.name,
        )
        for query, grades in judged.items()
    )
    missing = {name for question in questions for name in question.gold_documents} - present
    return BeirSet(documents, questions, judged, len(missing))


def _beir_records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    records = []
    for number, record in read_jsonl(path):
        if not isinstance(record.get("_id"), str) or not isinstance(record.get("text"), str):
            raise UserError(f"{path}:{number}: _id and text must be texts", "see BEIR's description of its layout")
        records.append((record["_id"], record))
    return records
