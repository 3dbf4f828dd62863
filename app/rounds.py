"""What is rated blindly: a question and the answers of two arms, in random order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import SystemRandom

from arms import answer_with, arm_of
from resources import home

from rag_vs_ft import settings
from rag_vs_ft.evaluation.experiments import SAMPLE
from rag_vs_ft.evaluation.questions import load_questions, sample_questions_path
from rag_vs_ft.feedback import Verdict, rated_questions
from rag_vs_ft.progress import Progress
from rag_vs_ft.records import Question
from rag_vs_ft.settings import Home


@dataclass
class Round:
    """A question and two answers, in the order they are shown."""

    question: str
    expected: str
    arms: tuple[str, str]
    answers: tuple[str, str]
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Wanted:
    """What a round is prepared from: a set of questions, or a question that the visitor typed; `after` was asked last."""

    arms: tuple[str, ...]
    index: str
    questions: str
    own: str = ""
    after: str = ""
    rater: str = ""


def question_files() -> dict[str, Path]:
    """The packaged questions, and the question files of the home and of the working folder."""
    places = dict.fromkeys((home().root, Path.cwd()))
    files = [path for place in places for path in sorted((place / "eval" / "questions").glob("*.jsonl"))]
    return {SAMPLE: sample_questions_path()} | {path.stem: path for path in reversed(files) if path.stem != SAMPLE}


@lru_cache(4)
def rateable(path: str, changed: float) -> list[Question]:
    """The questions of a file that are not held out for testing."""
    return load_questions(Path(path), split="dev")


def prepare(wanted: Wanted, place: Home, progress: Progress) -> Round:
    """Two of the arms at random, in random order, asked a question that this rater has not rated for them yet.

    One that somebody else has rated comes first: only so can it be told how far they agree.
    """
    random = SystemRandom()
    first, second = random.sample(wanted.arms, 2)
    question, expected = wanted.own, ""
    if not question:
        path = question_files()[wanted.questions]
        rated = rated_questions(place, (first, second), wanted.rater) | {wanted.after}
        others = rated_questions(place, (first, second)) - rated
        known = rateable(str(path), path.stat().st_mtime)
        new = [one for one in known if one.question not in rated]
        chosen = random.choice([one for one in new if one.question in others] or new or known)
        question, expected = chosen.question, chosen.answer or ""

    def going_on(_: str = "") -> None:
        progress("answering")  # which ends the work when it was cancelled

    found = [
        answer_with(
            arm_of(name),
            question,
            wanted.index,
            k=settings.ASK_K,
            max_new_tokens=settings.MAX_NEW_TOKENS,
            on_text=going_on,
            waiting=going_on,
        ).answer.answer
        for name in (first, second)
    ]
    return Round(question, expected, (first, second), (found[0], found[1]))
