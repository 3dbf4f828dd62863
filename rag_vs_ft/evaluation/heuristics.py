"""Arms without a language model: the baselines that every reader must beat.

An experiment names one in the place of a model. A new one is one function and one entry of `HEURISTICS`. They see the question,
its choices and the passages of their arm, never the right answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rag_vs_ft.evaluation.contexts import WAYS, Context
from rag_vs_ft.evaluation.metrics import holds
from rag_vs_ft.language import content_words, language, words
from rag_vs_ft.mining.updates import numbers_of
from rag_vs_ft.models.extractive import extract
from rag_vs_ft.records import Hit, Question

VERSION = 2
"""Raised when the same question and passages would get another answer."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a heuristic is given: a question's text and choices, the passages, and how often each place was right on dev
    questions."""

    question: str
    choices: tuple[str, ...]
    hits: tuple[Hit, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Heuristic:
    """A rule that answers. `choose` gives each choice a value; the highest is chosen, and equal ones share the credit.

    One that `reads` passages needs a context that shows some; for another they have no meaning. `writes`: it also gives free
    answers.
    """

    name: str
    says: str
    reads: bool
    choose: Callable[[Given], Sequence[float]]
    writes: bool = False

    def fault(self, context: Context) -> str | None:
        """Why it cannot be asked with a context; None when it can."""
        if self.reads and not context.shows_passages:
            return f"{self.name} reads passages, and context {context.name!r} shows none"
        if not self.reads and context.shows_passages:
            return f"passages have no meaning for {self.name}: use context 'none'"
        return None


# --- rules ------------------------------------------------------------------------------------------------------------


def _string_match(given: Given) -> list[float]:
    def value(choice: str) -> float:
        at = next((at for at, hit in enumerate(given.hits, start=1) if holds(hit.chunk.text, choice)), None)
        return 1 / at if at else 0.0

    return [value(choice) for choice in given.choices]


def _word_overlap(given: Given) -> list[float]:
    return _shares(given.choices, "\n".join(f"{hit.chunk.breadcrumb}\n{hit.chunk.text}" for hit in given.hits))


def _shares(choices: Sequence[str], text: str) -> list[float]:
    """Of the content words of each choice, the share that the text holds."""
    spoken = language()
    there = content_words(text, spoken)
    wanted = [content_words(choice, spoken) or set(words(choice)) for choice in choices]
    return [len(own & there) / len(own) if own else 0.0 for own in wanted]


def _larger_number(given: Given) -> list[float]:
    sizes = [numbers_of(choice) for choice in given.choices]
    if len(set(sizes)) < 2:
        return [0.0] * len(sizes)
    return [float(size == max(sizes)) for size in sizes]


def _longest_choice(given: Given) -> list[float]:
    return [float(len(choice)) for choice in given.choices]


def _majority(given: Given) -> list[float]:
    return [float(count) for count in (*given.places, *[0] * len(given.choices))[: len(given.choices)]]


def _extractive(given: Given) -> list[float]:
    return _shares(given.choices, extract(given.question, given.hits).answer)


HEURISTICS = {
    heuristic.name: heuristic
    for heuristic in (
        Heuristic("string-match", "the choice that stands in the highest passage", reads=True, choose=_string_match),
        Heuristic("word-overlap", "the choice most of whose words stand in the passages", reads=True, choose=_word_overlap),
        Heuristic("extractive", "the sentences most like the question", reads=True, choose=_extractive, writes=True),
        Heuristic("larger-number", "the choice with the largest number", reads=False, choose=_larger_number),
        Heuristic("longest-choice", "the longest choice", reads=False, choose=_longest_choice),
        Heuristic("majority", "the place that is right most often on dev questions", reads=False, choose=_majority),
    )
}
"""Every heuristic by the name that is given instead of a model's."""


def places_of(questions: Sequence[Question]) -> tuple[int, ...]:
    """How many of some questions have their right choice at each place."""
    counts = Counter(question.answer_index for question in questions if question.answer_index is not None)
    return tuple(counts[place] for place in range(max(counts, default=-1) + 1))


def is_way(model: str, context: str) -> bool:
    """Whether an arm is a way to answer that a user could be given: its context is no probe, and it does not just choose among
    given answers by a rule."""
    return model not in HEURISTICS and context in WAYS
