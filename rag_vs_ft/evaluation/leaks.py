"""What questions share with the text that models are trained on and searched in, found before anything is scored.

That an answer stands in the documents is the point; that the question does is a leak: a model that has seen it word for word,
or a search that finds it, is scored on something else than it will be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_vs_ft.corpus.splits import SHINGLE_WORDS, clusters_of, shingle_hashes
from rag_vs_ft.evaluation.metrics import holds
from rag_vs_ft.evaluation.questions import gold_answer
from rag_vs_ft.language import words
from rag_vs_ft.records import Document, Question

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What manifest.json says of leaks. `flagged` maps a question's id to why; scores are also given without these questions.

    `duplicated_gold_documents` have near duplicates, which a search may find in their place. `answers_in_documents` counts
    answers that stand word for word in a gold document, `answers` all that could. A run of `run_of_words` words is a match.
    """

    flagged: Mapping[str, tuple[str, ...]]
    duplicated_gold_documents: Mapping[str, tuple[str, ...]]
    answers: int
    answers_in_documents: int
    run_of_words: int = SHINGLE_WORDS


@dataclass(frozen=True, slots=True)
class Leaks:
    """What was found, and `clusters`: for each gold document the first id of its near duplicates (itself, mostly).

    Questions in one cluster are not independent.
    """

    report: LeakReport
    clusters: dict[str, str]


def find_leaks(questions: Sequence[Question], documents: Iterable[Document], training_text: Mapping[str, str]) -> Leaks:
    """Look for each question in the documents and in other text (by name) that models were trained on.

    A question is flagged when a run of `SHINGLE_WORDS` words of it, or all of it if it is shorter, stands in a document or in
    training text; and when such a run of its answer stands in training text.
    """
    import numpy as np

    shingles = {question.id: shingle_hashes(question.question) for question in questions}
    all_wanted = np.unique(np.concatenate(list(shingles.values()))) if shingles else np.empty(0, dtype=np.uint64)
    short = {question.id: _joined(question.question) for question in questions}
    short = {name: text for name, text in short.items() if len(text.split()) < SHINGLE_WORDS}
    gold = {name for question in questions for name in question.gold_documents}
    reasons: dict[str, list[str]] = {}
    ids: list[str] = []
    sketches: list[np.ndarray] = []
    gold_text: dict[str, str] = {}

    def look(place: str, text: str, sketch: np.ndarray) -> None:
        joined = ""
        common = np.intersect1d(sketch, all_wanted, assume_unique=True)
        for name, wanted in shingles.items():
            if name in short:
                joined = joined or f" {_joined(text)} "
                found = f" {short[name]} " in joined
            else:
                found = bool(len(common)) and bool(np.isin(wanted, common).any())
            if found:
                reasons.setdefault(name, []).append(f"the question stands in {place}")

    for document in documents:
        sketch = shingle_hashes(document.text)
        ids.append(document.id)
        sketches.append(sketch)
        look(document.id, document.text, sketch)
        if document.id in gold:
            gold_text[document.id] = document.text
    for name, text in training_text.items():
        sketch = shingle_hashes(text)
        look(f"training text {name}", text, sketch)
        for question in questions:
            answer = gold_answer(question) or ""
            if len(_joined(answer).split()) >= SHINGLE_WORDS and np.isin(shingle_hashes(answer), sketch).any():
                reasons.setdefault(question.id, []).append(f"the answer stands in training text {name}")

    members: dict[int, list[str]] = {}
    labels = clusters_of(sketches).tolist() if sketches else []
    for document_id, label in zip(ids, labels, strict=True):
        members.setdefault(label, []).append(document_id)
    group = {document_id: sorted(members[label]) for document_id, label in zip(ids, labels, strict=True)}
    answers = [(question, gold_answer(question)) for question in questions if question.gold_documents]
    given = [(question, answer) for question, answer in answers if answer]
    report = LeakReport(
        flagged={name: tuple(found) for name, found in reasons.items()},
        duplicated_gold_documents={
            name: tuple(other for other in group[name] if other != name) for name in sorted(gold) if len(group.get(name, ())) > 1
        },
        answers=len(given),
        answers_in_documents=sum(
            any(holds(gold_text.get(name, ""), answer) for name in question.gold_documents) for question, answer in given
        ),
    )
    return Leaks(report, {name: group[name][0] for name in sorted(gold) if name in group})


def _joined(text: str) -> str:
    return " ".join(words(text))
