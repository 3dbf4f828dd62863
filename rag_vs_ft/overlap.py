"""How much of one text another contains, and questions that must not be in training data."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rag_vs_ft.errors import UserError
from rag_vs_ft.language import words
from rag_vs_ft.records import read_jsonl

SIMILAR = 0.7
"""ROUGE-L from which two instructions are the same one in other words (Self-Instruct: Wang et al., 2022)."""
RUN_WORDS = 8
"""Words in a row of a held-out question or answer that make a text a copy of it; a shorter question has to be there whole."""


def rouge_l(prediction: str, reference: str) -> float:
    """F1 of the longest common subsequence of `words` (ROUGE-L of one sentence, beta 1; Lin, 2004); 0 when either has none."""
    return _rouge_l(words(prediction), words(reference))


def _rouge_l(predicted: Sequence[str], expected: Sequence[str]) -> float:
    if not predicted or not expected:
        return 0.0
    # longest[j]: length for the words of the prediction so far and the first j of the reference.
    longest = [0] * (len(expected) + 1)
    for word in predicted:
        diagonal = 0
        for place, other in enumerate(expected, start=1):
            diagonal, longest[place] = (
                longest[place],
                diagonal + 1 if word == other else max(longest[place], longest[place - 1]),
            )
    return 2 * longest[-1] / (len(predicted) + len(expected))


class Novelty:
    """A growing set of short texts that tells whether a new one is like one of them, by ROUGE-L of at least `SIMILAR`."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: list[list[str]] = []
        self._holding: dict[str, dict[int, int]] = defaultdict(dict)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Take a text into the set."""
        found = words(text)
        for word, count in Counter(found).items():
            self._holding[word][len(self._texts)] = count
        self._texts.append(found)

    def has_like(self, text: str) -> bool:
        """Whether the set has a text that is at least `SIMILAR` to this one."""
        asked = words(text)
        # A common subsequence is no longer than the number of common words, which an inverted index gives at once.
        common: Counter[int] = Counter()
        for word, count in Counter(asked).items():
            for number, times in self._holding.get(word, {}).items():
                common[number] += min(count, times)
        return any(
            2 * shared >= SIMILAR * (len(asked) + len(self._texts[number])) and _rouge_l(asked, self._texts[number]) >= SIMILAR
            for number, shared in common.items()
        )


class HeldOut:
    """The questions of evaluation files, by id, wording and answer: what no training record may hold."""

    def __init__(self, questions: Iterable[tuple[str, str, str | None]]) -> None:
        """`questions` are triples of id, question and answer."""
        self.ids: set[str] = set()
        self._runs: dict[int, set[tuple[str, ...]]] = defaultdict(set)
        self._answers: set[tuple[str, ...]] = set()
        self._novelty = Novelty()
        for key, question, answer in questions:
            self.ids.add(key)
            self._novelty.add(question)
            # What a question quotes (the title of a page) is not its wording: a record on the same page may name it too.
            parts = [words(part) for part in re.split(r'"[^"]*"', question)]
            parts = [part for part in parts if len(part) >= RUN_WORDS]
            for part in parts:
                self._runs[RUN_WORDS].update(_runs(part, RUN_WORDS))
            if not parts and (whole := words(question)):
                self._runs[len(whole)].add(tuple(whole))
            self._answers.update(_runs(words(answer or ""), RUN_WORDS))

    @classmethod
    def read(cls, paths: Iterable[Path]) -> HeldOut:
        """The questions of JSON Lines files, every split of them; raises UserError for a line without an id or a question."""
        found: list[tuple[str, str, str | None]] = []
        for path in paths:
            before = len(found)
            for line, record in read_jsonl(path):
                key, question, answer = (record.get(name) for name in ("id", "question", "answer"))
                if not (isinstance(key, str) and isinstance(question, str) and question.strip()):
                    raise UserError(f"{path}:{line}: no id and question", "see: rag-vs-ft questions check FILE")
                found.append((key, question, answer if isinstance(answer, str) else None))
            if len(found) == before:
                raise UserError(f"{path} holds no questions", "name the file of questions that the models will be asked")
        return cls(found)

    def __len__(self) -> int:
        return len(self.ids)

    def copied(self, text: str) -> bool:
        """Whether the text holds `RUN_WORDS` words in a row of a question, or a shorter question whole."""
        found = words(text)
        return any(run in runs for width, runs in self._runs.items() for run in _runs(found, width))

    def answered(self, text: str) -> bool:
        """Whether the text holds `RUN_WORDS` words in a row of the answer to a question."""
        return any(run in self._answers for run in _runs(words(text), RUN_WORDS))

    def reworded(self, text: str) -> bool:
        """Whether a question is at least `SIMILAR` to the text."""
        return self._novelty.has_like(text)


def _runs(found: Sequence[str], width: int) -> Iterator[tuple[str, ...]]:
    return (tuple(found[start : start + width]) for start in range(len(found) - width + 1))
