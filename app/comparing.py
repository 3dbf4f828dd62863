"""One question to several arms in a thread of the server: another page or a closed tab does not end it."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
from arms import ArmAnswer, ShownArm, answer_with, arm_of
from background import Background
from resources import is_loaded

from rag_vs_ft.progress import Progress

KEPT = 20


@dataclass(frozen=True, slots=True)
class QuestionToArms:
    """What is asked of which arms; all of it is in the address."""

    arms: tuple[str, ...]
    question: str
    reference: str
    index: str
    k: int
    max_new_tokens: int


class SideBySide:
    """The arms answer one after the other in a thread of the server; an arm without a result was stopped."""

    def __init__(self, asked: QuestionToArms) -> None:
        self.asked = asked
        self.results: dict[str, ArmAnswer | Exception] = {}
        self.texts: dict[str, str] = {}
        self.stages = dict.fromkeys(asked.arms, "Waiting for its turn")
        self.work = Background("Comparing", self._ask_all)

    def _ask_all(self, progress: Progress) -> None:
        for name in self.asked.arms:
            self._ask(name, arm_of(name), progress)

    def _ask(self, name: str, arm: ShownArm, progress: Progress) -> None:
        asked = self.asked

        def stage(says: str) -> None:
            progress("comparing")  # which ends the work when it was stopped
            self.stages[name] = says

        def written(piece: str) -> None:
            stage("Answering")
            self.texts[name] = self.texts.get(name, "") + piece

        stage("Reading" if is_loaded(arm.model) else "Loading the model, once")
        try:
            self.results[name] = answer_with(
                arm,
                asked.question,
                asked.index,
                k=asked.k,
                max_new_tokens=asked.max_new_tokens,
                reference=asked.reference,
                on_text=written,
                waiting=lambda: stage("Waiting: the model answers somebody else"),
            )
        except Exception as error:  # the other arms go on
            self.results[name] = error


@st.cache_resource(show_spinner=False)
def comparisons() -> dict[QuestionToArms, SideBySide]:
    """The last comparisons of this server: a reload, Back, and whoever is sent the address find them."""
    return {}


def begin(asked: QuestionToArms) -> None:
    """Ask the arms, again if they were asked before."""
    kept = comparisons()
    if (before := kept.pop(asked, None)) is not None:
        before.work.cancel()
    for old in [key for key, one in kept.items() if not one.work.running][: max(0, len(kept) - KEPT + 1)]:
        kept.pop(old, None)
    kept[asked] = SideBySide(asked)
