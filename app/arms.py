"""The ways of answering that are compared: a model, with or without passages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import streamlit as st
from addressed import KEPT, write
from resources import home, load_model, model_names, open_index, plain

from rag_vs_ft.ask import AskRequest, ask, distinct
from rag_vs_ft.catalogue import GGUF
from rag_vs_ft.feedback import WITH_PASSAGES, arm_name
from rag_vs_ft.models import naming, served
from rag_vs_ft.models.probe import Reference, score_reference
from rag_vs_ft.records import Answer, Hit

LIMIT = 4  # arms side by side


@dataclass(frozen=True, slots=True)
class ShownArm:
    """An arm on the page: a model, with passages or alone."""

    model: str
    passages: bool

    @property
    def name(self) -> str:
        """As it is shown and stored."""
        return arm_name(self.model, self.passages)


@dataclass(frozen=True, slots=True)
class ArmAnswer:
    """What an arm answered, and how likely its model finds the reference answer, if one was given."""

    answer: Answer
    reference: Reference | None


def arm_of(name: str) -> ShownArm:
    """The arm of a name, the inverse of `ShownArm.name`: no model's name ends like that of an arm with passages."""
    model, ending, rest = name.partition(WITH_PASSAGES)
    return ShownArm(name, passages=False) if rest or not ending else ShownArm(model, passages=True)


def choose_arms_of() -> list[str]:
    """The arms that can be asked now: of the models of this machine, and of one that the visitor names."""
    named = write(
        "Another model",
        "other-model",
        placeholder="http://127.0.0.1:8080/v1#NAME",
        help="The address of a server, or the path of a GGUF file: its two arms can be chosen then.",
        **KEPT,
    ).strip()
    models = model_names()
    if named and not (served.is_address(named) or named.lower().endswith(GGUF)):
        st.warning(plain(f"{named} is neither the address of a server nor a GGUF file."))
    elif named and named not in models:
        models.append(named)
    return [ShownArm(model, passages).name for model in models for passages in (False, True)]


def usual_arms(names: list[str]) -> list[str]:
    """What is compared at first: the first model alone and with passages, then up to two models that were trained here, alone."""
    return names[:2] + [name for name in names[2::2] if naming.run_of(name, home())][: LIMIT - 2]


def answer_with(
    arm: ShownArm,
    question: str,
    index_name: str,
    *,
    k: int,
    max_new_tokens: int,
    reference: str = "",
    on_text: Callable[[str], None] | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> ArmAnswer:
    """Ask one arm, greedily; `waiting` is called again and again while somebody else has its model.

    Raises what loading, searching and answering raise.
    """
    index = open_index(index_name) if arm.passages else None
    shared = load_model(arm.model)
    with ExitStack() as held:

        def take_model(_: Sequence[Hit] = ()) -> None:
            held.enter_context(shared.taken(waiting))

        if index is None:
            take_model()
        request = AskRequest(question, k=k, max_new_tokens=max_new_tokens)
        answer = ask(shared.lm, request, index, on_text=on_text, on_hits=take_model)
        hits = distinct(answer.hits) if arm.passages else None
        scored = score_reference(shared.lm, question, hits, reference) if reference.strip() else None
    return ArmAnswer(answer, scored)
