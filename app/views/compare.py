"""One question to several arms, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from arms import LIMIT, ArmAnswer, ShownArm, answer_with, arms_by_name, usual_arms
from first_start import index_names
from passages import show_passages
from progress_panel import offer_model
from readable import is_degenerate, show_readable
from resources import check_there, choose, page_title, plain, shortened, show_error

from rag_vs_ft import settings

MAX_REFERENCE = 1_000


@dataclass
class SideBySide:
    """What was asked of which arms, and what has come of it so far; an arm without a result was stopped."""

    asked: tuple[tuple[str, ...], str, str, str, int, int]
    results: dict[str, ArmAnswer | Exception] = field(default_factory=dict)
    pieces: dict[str, list[str]] = field(default_factory=dict)


def show_answer(found: ArmAnswer, index: str) -> None:
    """Under the answer: its cost, the passages, and the likelihood of the reference."""
    answer = found.answer
    if is_degenerate(answer.answer):
        st.warning("Marks of lists and no answer.")
        st.text(answer.answer)
    else:
        show_readable(answer.answer or "The answer is empty.")
    tokens = f"{answer.prompt_tokens:,} + {answer.completion_tokens:,} tokens" if answer.completion_tokens else "model not asked"
    st.caption(plain(f"{answer.seconds:.1f} s · {tokens}"))
    if found.reference is not None:
        st.markdown(
            f"Reference answer: **{found.reference.bits_per_byte:.2f}** bits/byte",
            help="How surprised the model is by the reference answer after this arm's prompt; less is better. "
            f"Log-likelihood {found.reference.logprob:.1f} over {found.reference.tokens} tokens.",
        )
    # Of an answer that is empty because it began to repeat itself, one notice says all.
    for notice in answer.notices[:1] if not answer.answer else answer.notices:
        st.caption(plain(notice))
    show_passages(answer.hits, answer.citations, answer=answer.answer, index=index)


def ask_arm(compared: SideBySide, arm: ShownArm, place: Any) -> None:
    """Ask one arm; its words are shown as they come."""
    _, question, reference, index, k, room = compared.asked
    pieces: list[str] = []
    compared.pieces[arm.name] = pieces

    def written(piece: str) -> None:
        pieces.append(piece)
        with place.container():
            show_readable("".join(pieces))

    def waiting() -> None:
        place.caption("Waiting: the model answers somebody else")

    place.caption("Reading")
    try:
        compared.results[arm.name] = answer_with(
            arm, question, index, k=k, max_new_tokens=room, reference=reference, on_text=written, waiting=waiting
        )
    except Exception as error:  # the other arms go on
        compared.results[arm.name] = error


def show_result(compared: SideBySide, name: str) -> None:
    """The answer, how it failed, or what there was of it when it was stopped."""
    found = compared.results.get(name)
    if isinstance(found, Exception):
        show_error(found, f"Asking {name}")
    elif found is not None:
        show_answer(found, compared.asked[3])
    else:
        if pieces := compared.pieces.get(name):
            show_readable("".join(pieces))
        st.caption("Stopped." if pieces else "Stopped before it was asked.")


def main() -> None:
    indexes, arms = index_names(), arms_by_name()
    page_title("Compare")
    if not arms:
        offer_model(settings.LANGUAGE_MODEL, "There is no language model on this machine yet.")
        return
    bound: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}
    with st.sidebar:
        index = choose("Index", indexes, "index", "sample", persist_state="session")
        k = st.slider("Passages", 1, 10, settings.ASK_K, key="k", **bound)
        room = st.slider("Longest answer (tokens)", 16, 512, settings.MAX_NEW_TOKENS, 16, key="max_new_tokens", **bound)
    check_there("Arm", list(arms), "arms", usual_arms(list(arms)))
    chosen = st.multiselect("Arms", list(arms), default=usual_arms(list(arms)), max_selections=LIMIT, key="arms", **bound)
    limit = settings.MAX_QUESTION_CHARACTERS
    question = shortened(st.text_input("Question", key="q", **bound), limit, "The question")
    reference = st.text_input(
        "Reference answer (optional)", key="reference", help="Each arm says how likely it finds it.", **bound
    )
    reference = shortened(reference, MAX_REFERENCE, "The reference answer")
    asked = (tuple(chosen), question.strip(), reference.strip(), index, k, room)
    with st.container(horizontal=True):
        begun = st.button("Compare", type="primary", disabled=not (chosen and question.strip()))
        stop = st.empty()
    if begun:
        st.session_state["compared"] = SideBySide(asked)
    compared: SideBySide | None = st.session_state.get("compared")
    if compared is None or compared.asked != asked:
        if len(arms) <= 2:
            st.caption("Train a model, and its arms stand here too: see the page Training.")
        return
    if begun:
        # Whatever the visitor does now ends this run of the page at the next word; what is there so far stays.
        stop.button("Stop", icon=":material/stop:", key="stop")
    places = []
    for column, name in zip(st.columns(len(chosen), border=True), chosen, strict=True):
        with column:
            st.markdown(f"**{plain(name)}**")
            places.append(st.empty())
            if begun:
                places[-1].caption("Waiting for its turn")
    for name, place in zip(chosen, places, strict=True):
        if begun:
            ask_arm(compared, arms[name], place)
        with place.container():
            show_result(compared, name)
    if begun:
        st.rerun()


main()
