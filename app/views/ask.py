"""A conversation with the documents: each answer with its passages, its prompt and its cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import streamlit as st
from background import shared
from conversation import Turn, as_markdown
from first_start import index_names
from passages import show_passages
from resources import home, load_model, model_names, open_index, plain, show_error, shown_errors

from rag_vs_ft import settings
from rag_vs_ft.ask import AskRequest, ask
from rag_vs_ft.demo import NAME, QUESTIONS
from rag_vs_ft.feedback import store_feedback
from rag_vs_ft.index.search import RETRIEVERS, checked_query
from rag_vs_ft.models.generation import Sampling
from rag_vs_ft.records import Answer, Hit


def sidebar(indexes: list[str], models: list[str]) -> dict[str, Any]:
    """The settings; their values are in the URL, so that it can be kept or shared."""
    bound: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}
    with st.sidebar:
        passages = st.toggle("Answer from passages", value=True, key="passages", help="Off: the bare model.", **bound)
        first = indexes.index("sample") if "sample" in indexes else 0
        return {
            "model": st.selectbox("Model", models, key="model", **bound),
            "passages": passages,
            "index": st.selectbox("Index", indexes, index=first, key="index", disabled=not passages, **bound),
            "retriever": st.selectbox("Retriever", RETRIEVERS, key="retriever", disabled=not passages, **bound),
            "k": st.slider("Passages", 1, 10, settings.ASK_K, key="k", disabled=not passages, **bound),
            "temperature": st.slider(
                "Temperature", 0.0, 1.5, 0.0, 0.1, key="temperature", help="0 gives the same answer each time.", **bound
            ),
            "max_new_tokens": st.slider(
                "Longest answer (tokens)", 16, 512, settings.MAX_NEW_TOKENS, 16, key="max_new_tokens", **bound
            ),
            "show_prompt": st.toggle("Show the prompt", key="show_prompt", **bound),
        }


def answer_turn(turn: Turn) -> None:
    """Find passages, then stream the answer; what is there so far is in the turn, wherever the visitor stops it."""
    chosen = turn.chosen
    steps = st.status("Opening the index and the model", type="compact")
    box = st.empty()
    below = st.container()
    try:
        query, turn.notices = checked_query(turn.question)
        index = open_index(chosen["index"]) if chosen["passages"] else None
        shared = load_model(chosen["model"])
        turn.window = shared.lm.window
        started = time.perf_counter()
        with ExitStack() as held:

            def waiting() -> None:
                steps.update(label="Waiting: the model answers somebody else")

            def take_model() -> None:
                held.enter_context(shared.taken(waiting))
                steps.update(label="Reading")

            def found(hits: Sequence[Hit]) -> None:
                nonlocal started
                turn.hits = hits
                if index is not None:
                    turn.matched = {hit.chunk.id: index.explain(query, hit)["matched_terms"] for hit in hits}
                with below:
                    show_passages(hits, matched=turn.matched)
                # The model is taken only now: passages are shown at once, whoever else is being answered.
                take_model()
                started = time.perf_counter()

            def written(piece: str) -> None:
                if not turn.pieces:
                    turn.first_token_seconds = time.perf_counter() - started
                    steps.update(label="Answering")
                turn.pieces.append(piece)
                box.text("".join(turn.pieces))

            if index is None:
                take_model()
            else:
                steps.update(label=f"Searching {len(index):,} passages")
            answer = ask(
                shared.lm,
                AskRequest(
                    query,
                    k=chosen["k"],
                    retriever=chosen["retriever"],
                    max_new_tokens=chosen["max_new_tokens"],
                    sampling=Sampling(chosen["temperature"]),
                ),
                index,
                on_text=written,
                on_hits=found,
            )
            writing = time.perf_counter() - started - turn.first_token_seconds
            turn.tokens_per_second = (answer.completion_tokens - 1) / writing
            turn.answer = answer
        steps.update(label="Done", state="complete")
    except Exception as error:  # shown with the turn, and the conversation goes on
        turn.error = error


def show_turn(turn: Turn) -> None:
    """A finished turn."""
    with st.chat_message("user"):
        st.text(turn.question)
    with st.chat_message("assistant"):
        if turn.error is not None:
            show_error(turn.error, "Answering")
        text = turn.answer.answer if turn.answer else "".join(turn.pieces)
        if text:
            st.text(text)
        if turn.answer is None and turn.error is None:
            st.caption("Stopped.")
        for notice in (*turn.notices, *(turn.answer.notices if turn.answer else ())):
            st.caption(plain(notice))
        if turn.answer is not None:
            show_figures(turn, turn.answer)
        if turn.hits:
            if turn.answer is not None and turn.answer.finish == "not relevant":
                st.caption("The closest passages, none of them close enough:")
            show_passages(turn.hits, turn.answer.citations if turn.answer else (), turn.matched)
        if turn.answer is not None:
            if turn.chosen["show_prompt"] or st.session_state.get("show_prompt"):
                show_prompt(turn, turn.answer)
            ask_for_feedback(turn, turn.answer)


def show_figures(turn: Turn, answer: Answer) -> None:
    """Cost of an answer, in one line."""
    parts = [answer.model]
    if answer.completion_tokens:
        parts += [
            f"{answer.prompt_tokens:,} + {answer.completion_tokens:,} tokens",
            f"first word after {turn.first_token_seconds:.1f} s, then {turn.tokens_per_second:.0f} tokens/s",
        ]
    parts.append(f"{answer.seconds:.1f} s in all")
    if answer.index_generation:
        parts.append(f"{turn.chosen['index']} {answer.index_generation}")
    st.caption(plain(" · ".join(parts)))


def show_prompt(turn: Turn, answer: Answer) -> None:
    """Exactly what the model saw, and what did not fit."""
    if not answer.prompt:
        st.caption("The model was not asked, so there is no prompt.")
        return
    with st.expander(f"Prompt: {answer.prompt_tokens:,} of {turn.window:,} tokens", icon=":material/input:"):
        if answer.dropped_hits:
            st.caption(f"{answer.dropped_hits} passages did not fit.")
        st.code(answer.prompt, language=None, wrap_lines=True)


def ask_for_feedback(turn: Turn, answer: Answer) -> None:
    """Thumbs and a note."""
    thumb_key, note_key = f"thumb-{turn.id}", f"note-{turn.id}"

    def store() -> None:
        try:
            store_feedback(
                home(),
                turn.id,
                turn.question,
                answer,
                thumb=st.session_state.get(thumb_key),
                note=st.session_state.get(note_key) or "",
                index_name=turn.chosen["index"] if turn.chosen["passages"] else "",
                settings=turn.chosen,
            )
            st.toast("Kept.", icon=":material/check:")
        except Exception as error:  # an answer does not depend on whether an opinion of it can be kept
            show_error(error, "Keeping the feedback")

    with st.container(horizontal=True, vertical_alignment="center"):
        st.feedback("thumbs", key=thumb_key, on_change=store, persist_state="session")
        with st.popover("Note", icon=":material/edit_note:", type="tertiary"):
            st.text_area(
                "What is right or wrong with it?", key=note_key, on_change=store, max_chars=2_000, persist_state="session"
            )


def main() -> None:
    indexes = index_names()
    models = model_names()
    if not models:
        st.warning("There is no language model on this machine yet. In a terminal:")
        st.code(f"rag-vs-ft models pull {settings.LANGUAGE_MODEL}", language=None, wrap_lines=True)
        return
    actions = st.sidebar.container(horizontal=True)
    chosen = sidebar(indexes, models)
    turns: list[Turn] = st.session_state.setdefault("turns", [])
    asked = st.chat_input("Ask the documents", max_chars=settings.MAX_QUESTION_CHARACTERS, submit_mode="stop")
    start = st.empty()
    if not turns and not asked:
        with start.container():
            asked = offer_examples(chosen)
    if asked:
        start.empty()
    for turn in turns:
        show_turn(turn)
    if asked and asked.strip():
        turn = Turn(asked.strip(), chosen)
        turns.append(turn)
        with st.chat_message("user"):
            st.text(turn.question)
        with st.chat_message("assistant"):
            answer_turn(turn)
        st.rerun()
    if turns:
        actions.download_button(
            "Export", as_markdown(turns), "conversation.md", "text/markdown", icon=":material/download:", on_click="ignore"
        )
        if actions.button("New", icon=":material/add:", help="Start a new conversation"):
            turns.clear()
            st.rerun()
    else:
        # While the first question is being typed. What fails here fails again when it is asked, and is told then.
        shared(f"load {chosen['model']} {chosen['index']}", "Loading", lambda _: load(chosen))


def load(chosen: dict[str, Any]) -> None:
    """Load what the first question needs: its passages then come at once."""
    open_index(chosen["index"]).search("warm up", 1, retriever=chosen["retriever"])
    load_model(chosen["model"])


def offer_examples(chosen: dict[str, Any]) -> str | None:
    """What stands on the page before the first question; gives the example that was clicked."""
    st.header("Ask the documents")
    with shown_errors("Opening the index"):
        counts = open_index(chosen["index"]).manifest.counts
        st.caption(plain(f"{chosen['index']}: {counts.documents:,} documents, {counts.chunks:,} passages"))
    clicked = None
    for example in QUESTIONS if chosen["index"] == NAME else ():
        if st.button(example, icon=":material/arrow_forward:", type="tertiary"):
            clicked = example
    return clicked


main()
