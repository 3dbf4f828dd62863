"""What every miner gives back: questions, a funnel that accounts for each candidate, and how balanced the choices are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.records import Question

GAP = "____"


@dataclass(frozen=True, slots=True)
class Mined:
    """Questions that were mined. `funnel` counts, in order: candidates, those dropped by each rule, those kept.

    `balance` says how often a guesser is right that looks only at the choices (ties are guessed at), beside `chance`; it is
    empty when there are no choices.
    """

    questions: tuple[Question, ...]
    funnel: Mapping[str, int]
    balance: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The object that `questions mine --json` prints: everything but the questions."""
        return {"questions": len(self.questions), "funnel": dict(self.funnel), "balance": dict(self.balance)}


def question_id(kind: str, *parts: str) -> str:
    """An id that depends on what the question is made of and nothing else: the same text mined again has the same id."""
    return f"{kind}-{files.sha256_text(chr(0).join(parts))[:16]}"


def guess_rate(questions: Sequence[Question], name: str, mark: Callable[[str, str], float]) -> dict[str, float]:
    """How often the choice of the highest `mark` (given choice and question) is right, ties being guessed among."""
    credit = 0.0
    asked = [question for question in questions if question.choices is not None and question.answer_index is not None]
    for question in asked:
        marks = [mark(choice, question.question) for choice in question.choices or ()]
        credit += (marks[question.answer_index or 0] == max(marks)) / marks.count(max(marks))
    return {name: round(credit / len(asked), 4)} if asked else {}


def guess_rates(questions: Sequence[Question]) -> dict[str, float]:
    """Chance, and how often the longest choice, the shortest, and each place is right."""
    asked = [question for question in questions if question.choices is not None]
    if not asked:
        return {}
    places = Counter(question.answer_index or 0 for question in asked)
    return {
        "chance": round(sum(1 / len(question.choices or ()) for question in asked) / len(asked), 4),
        **guess_rate(asked, "longest", lambda choice, _: len(choice)),
        **guess_rate(asked, "shortest", lambda choice, _: -len(choice)),
        **{f"choice {place + 1}": round(count / len(asked), 4) for place, count in sorted(places.items())},
    }
