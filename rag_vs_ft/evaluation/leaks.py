"""What questions share with the text that models are trained on and searched in, found before anything is scored.

That the documents hold the answer is the point; that they hold the question is a leak: a model that has seen it word for word,
or a search that finds it, is scored on something else than it will be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rag_vs_ft.corpus.splits import SHINGLE_WORDS, clusters_of, run_hashes, shingle_hashes
from rag_vs_ft.evaluation.metrics import holds
from rag_vs_ft.evaluation.questions import gold_answer
from rag_vs_ft.language import words
from rag_vs_ft.records import Document, Question

if TYPE_CHECKING:
    import numpy as np

EDIT_EVERY = 16
"""A text holds a question nearly word for word when, for each so many words begun, at most one was changed, left out or added."""
_RUN = 3
"""Words in a row by which places are found that may hold a question nearly word for word: an edit spoils that many runs."""


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


def find_leaks(
    questions: Sequence[Question],
    documents: Iterable[Document],
    training_text: Mapping[str, str],
    training_corpora: Mapping[str, Iterable[Document]] | None = None,
) -> Leaks:
    """Look for each question in the documents, and in the other text and corpora (by name) that models were trained on.

    A question is flagged when a run of `SHINGLE_WORDS` words of it, or all of it if it is shorter, is in one of them, or
    when it is there nearly word for word; and when such a run of its answer is in training text. An answer in a corpus
    is what training on a corpus is for.
    """
    search = _Search(questions)
    reasons: dict[str, list[str]] = {}
    gold = {name for question in questions for name in question.gold_documents}
    gold_text: dict[str, str] = {}
    ids: list[str] = []
    sketches: list[np.ndarray] = []

    def look(place: str, text: _Text) -> None:
        for name in search.standing_in(text):
            reasons.setdefault(name, []).append(f"the question stands in {place}")

    for document in documents:
        text = _Text(document.text)
        ids.append(document.id)
        sketches.append(shingle_hashes(document.text))
        look(document.id, text)
        if document.id in gold:
            gold_text[document.id] = document.text
    for corpus, others in (training_corpora or {}).items():
        for document in others:
            look(f"{document.id} of the training corpus {corpus}", _Text(document.text))
    for name, written in training_text.items():
        look(f"training text {name}", _Text(written))
        sketch = shingle_hashes(written)
        for question in questions:
            answer = gold_answer(question) or ""
            if len(words(answer)) >= SHINGLE_WORDS and _common(shingle_hashes(answer), sketch):
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


class _Text:
    """A text as its words, made ready once for all questions."""

    def __init__(self, text: str) -> None:
        self.words = words(text)

    @cached_property
    def phrase(self) -> str:
        """The words with a space around each, to look up a phrase in."""
        return _phrase(self.words)

    @cached_property
    def places(self) -> dict[tuple[str, ...], list[int]]:
        """Where each run of `_RUN` words begins."""
        found: dict[tuple[str, ...], list[int]] = {}
        for at in range(len(self.words) - _RUN + 1):
            found.setdefault(tuple(self.words[at : at + _RUN]), []).append(at)
        return found


class _Search:
    """Finds which questions a text contains, by the hashes of their runs of words."""

    def __init__(self, questions: Sequence[Question]) -> None:
        import numpy as np

        asked = {question.id: words(question.question) for question in questions}
        self._short = {name: _phrase(found) for name, found in asked.items() if 0 < len(found) < SHINGLE_WORDS}
        self._long = {name: found for name, found in asked.items() if len(found) >= SHINGLE_WORDS}
        self._names = list(self._long)
        self._edits = [-(-len(found) // EDIT_EVERY) for found in self._long.values()]
        copied = [run_hashes(found, SHINGLE_WORDS) for found in self._long.values()]
        near = [run_hashes(found, _RUN) for found in self._long.values()]
        empty = [np.empty(0, dtype=np.uint64)]
        self._copied, self._copied_of = np.concatenate(copied or empty), _owners(copied)
        self._near, self._near_of = np.concatenate(near or empty), _owners(near)
        # What is left of a question's runs when every edit that is allowed spoils as many as it can.
        self._needed = np.array([len(runs) - _RUN * edits for runs, edits in zip(near, self._edits, strict=True)])

    def standing_in(self, text: _Text) -> list[str]:
        """Ids of the questions that a text contains, in their order."""
        import numpy as np

        found = {name for name, phrase in self._short.items() if phrase in text.phrase}
        if self._names and text.words:
            whole = np.isin(self._copied, run_hashes(text.words, SHINGLE_WORDS))
            copied = np.bincount(self._copied_of[whole], minlength=len(self._names)) > 0
            there = np.isin(self._near, run_hashes(text.words, _RUN))
            likely = np.bincount(self._near_of[there], minlength=len(self._names)) >= np.maximum(self._needed, 1)
            found.update(self._names[row] for row in np.flatnonzero(copied))
            for row in np.flatnonzero(likely & ~copied).tolist():
                if _nearly(self._long[self._names[row]], text, self._edits[row]):
                    found.add(self._names[row])
        return [name for name in (*self._short, *self._names) if name in found]


def _owners(runs: Sequence[np.ndarray]) -> np.ndarray:
    """For each of the runs, put one after another, the number of the question that it is of."""
    import numpy as np

    return np.repeat(np.arange(len(runs)), [len(one) for one in runs])


def _nearly(asked: Sequence[str], text: _Text, edits: int) -> bool:
    """Whether some part of a text is `asked` but for so many words changed, left out or added."""
    starts = {place - at for at in range(len(asked) - _RUN + 1) for place in text.places.get(tuple(asked[at : at + _RUN]), ())}
    return any(
        _distance(asked, text.words[max(0, start - edits) : max(0, start + len(asked) + edits)]) <= edits
        for start in sorted(starts)
    )


def _distance(asked: Sequence[str], text: Sequence[str]) -> int:
    """Fewest words to change, leave out or add that make `asked` a part of `text`."""
    row = [0] * (len(text) + 1)  # it may begin anywhere
    for number, word in enumerate(asked, start=1):
        diagonal, row[0] = row[0], number
        for at, other in enumerate(text, start=1):
            diagonal, row[at] = row[at], min(diagonal + (word != other), row[at] + 1, row[at - 1] + 1)
    return min(row)


def _common(one: np.ndarray, other: np.ndarray) -> bool:
    import numpy as np

    return bool(np.isin(one, other).any())


def _phrase(found: Sequence[str]) -> str:
    return f" {' '.join(found)} "
