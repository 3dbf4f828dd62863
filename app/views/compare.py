"""One question to several arms, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st
from addressed import KEPT, choose, choose_several, slide, write
from arms import LIMIT, ArmAnswer, choose_arms_of, usual_arms
from comparing import QuestionToArms, SideBySide, begin, comparisons
from first_start import index_names
from passages import show_passages
from progress_panel import offer_model
from readable import CUT_OFF, EMPTY, cut_off, is_degenerate, show_readable
from resources import page_title, plain, shortened, show_error

from rag_vs_ft import settings

MAX_REFERENCE = 1_000


def show_answer(found: ArmAnswer, asked: QuestionToArms, name: str) -> None:
    """Under the answer: its cost, the passages, and the likelihood of the reference."""
    answer = found.answer
    if is_degenerate(answer.answer):
        st.warning("The model wrote list markers instead of an answer.")
        st.text(answer.answer)
    else:
        show_readable(cut_off(answer.answer) if answer.answer and answer.finish in CUT_OFF else answer.answer or EMPTY)
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
    show_passages(answer.hits, answer.citations, answer=answer.answer, index=asked.index, key=f"{name} {asked.question}")


def show_result(compared: SideBySide, name: str) -> None:
    """The answer, how it failed, or what there was of it when it was stopped."""
    found = compared.results.get(name)
    if isinstance(found, Exception):
        show_error(found, f"Asking {name}")
    elif found is not None:
        show_answer(found, compared.asked, name)
    elif text := compared.texts.get(name):
        show_readable(text)
        st.caption("Stopped.")
    else:
        st.caption("Stopped before it was asked.")


def show_live(compared: SideBySide, places: Mapping[str, Any]) -> None:
    """The answers as they come; the page is drawn again at the end."""
    shown: dict[str, Any] = {}
    while compared.work.running:
        for name, place in places.items():
            done = name in compared.results
            state = done or compared.texts.get(name) or compared.stages[name]
            if shown.get(name) == state:
                continue
            shown[name] = state
            with place.container():
                if done:
                    show_result(compared, name)
                elif text := compared.texts.get(name):
                    show_readable(text)
                else:
                    st.caption(plain(compared.stages[name]))
        compared.work.wait(0.1)
    st.rerun()


def main() -> None:
    indexes = index_names()
    page_title("Compare")
    with st.sidebar:
        arms = choose_arms_of()
    if not arms:
        offer_model(settings.LANGUAGE_MODEL, "There is no language model on this machine yet.")
        return
    with st.sidebar:
        index = choose("Index", indexes, "index", settings.SAMPLE, **KEPT)
        k = slide("Passages", 1, 10, settings.ASK_K, 1, "k", **KEPT)
        room = slide("Longest answer (tokens)", 16, 512, settings.MAX_NEW_TOKENS, 16, "max_new_tokens", **KEPT)
    chosen = choose_several("Arms", arms, "arms", usual_arms(arms), LIMIT, **KEPT)
    limit = settings.MAX_QUESTION_CHARACTERS
    question = shortened(write("Question", "q", **KEPT), limit, "The question")
    reference = write("Reference answer (optional)", "reference", help="Each arm says how likely it finds it.", **KEPT)
    reference = shortened(reference, MAX_REFERENCE, "The reference answer")
    asked = QuestionToArms(tuple(chosen), question.strip(), reference.strip(), index, k, room)
    with st.container(horizontal=True):
        if st.button("Compare", type="primary", disabled=not (chosen and asked.question)):
            begin(asked)
        compared = comparisons().get(asked)
        if compared is not None and compared.work.running:
            st.button("Stop", icon=":material/stop_circle:", key="stop", on_click=compared.work.cancel)
    if compared is None:
        if len(arms) <= 2:
            st.caption("Train a model, and its arms stand here too: see the page Training.")
        return
    places = {}
    for column, name in zip(st.columns(len(chosen), border=True), chosen, strict=True):
        with column:
            st.markdown(f"**{plain(name)}**")
            places[name] = st.empty()
    if compared.work.running:
        show_live(compared, places)
    for name, place in places.items():
        with place.container():
            show_result(compared, name)


main()
