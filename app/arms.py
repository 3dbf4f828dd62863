"""The ways of answering that are compared: a model, with or without passages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from resources import home, load_model, model_names, open_index

from rag_vs_ft.ask import AskRequest, ask, distinct
from rag_vs_ft.feedback import arm_name
from rag_vs_ft.models import naming
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


def arms_by_name() -> dict[str, ShownArm]:
    """Every arm that can be asked now."""
    arms = [ShownArm(model, passages) for model in model_names() for passages in (False, True)]
    return {arm.name: arm for arm in arms}


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
