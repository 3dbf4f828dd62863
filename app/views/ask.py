"""A conversation with the documents: each answer with its passages, its prompt and its cost, or a search without a model."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, NoReturn
from urllib.parse import urlencode

import streamlit as st
from addressed import KEPT, choose, choose_view, only, slide, switch, write
from answering import Answering, begin, live, stop
from background import shared
from first_start import index_names
from passages import show_found, show_passages
from progress_panel import offer_model
from readable import CUT_OFF, EMPTY, cut_off, is_degenerate, show_readable
from resources import (
    NotThere,
    home,
    load_model,
    model_names,
    open_index,
    page_title,
    plain,
    said_generation,
    shortened,
    show_failure,
    shown_errors,
    with_typed_model,
)

from rag_vs_ft import conversations, settings
from rag_vs_ft.conversations import Conversation, Turn
from rag_vs_ft.feedback import given, store_feedback
from rag_vs_ft.index.search import RETRIEVERS
from rag_vs_ft.models.citing import unknown_commands
from rag_vs_ft.records import Answer

SEARCH = "Search only"
MODES = ("Answer", SEARCH)
EARLIER_QUESTIONS = 6
"""That a question may refer to."""
SEARCH_PATIENCE = 2.0
"""Seconds that a page waits for a search: its results then need no second run of the page."""
PASSAGES_PATIENCE = 0.3
"""Seconds that a page waits for the passages of an answer: drawn with the question, they cost the browser no second drawing."""
FIRST_DRAWN = 0.15
"""Seconds that the passages of an answer are ahead of the rest of the page."""
LOAD_AFTER = 1.0
"""Seconds until a model is loaded ahead: importing torch would take the interpreter from the page while it is sent."""
SHOW_TURN = """<script>{
  const top = () => document.querySelector(".st-key-turn-ID")?.getBoundingClientRect().top;
  let ends = Date.now() + 2500, last;
  const stop = () => clearInterval(timer);
  const timer = setInterval(() => {
    if (top() !== last) ends = Date.now() + 2500;
    if (Date.now() > ends) stop();
    document.querySelector(".st-key-turn-ID")?.scrollIntoView();
    last = top();
  }, 150);
  for (const act of ["wheel", "keydown", "pointerdown"]) addEventListener(act, stop, {once: true});
}</script>"""
"""Brings a question and its answer into view when the answer has ended, where Streamlit shows the end of the last passage; it
scrolls again as long as the page grows, so this does too until the page rests, or the visitor acts."""
SHOWN_TURNS = 5
MAX_NOTE = 2_000
GONE = "The answer of this link is not there any more."

MODEL_HELP = "A model from the list. Or type the address of a server (http://127.0.0.1:8080/v1#NAME) or the path of a GGUF file."


def choose_settings(indexes: list[str], models: list[str]) -> dict[str, Any]:
    """The settings; their values are in the address, so that it can be kept or shared."""
    mode = choose_view("Mode", MODES, "mode")
    searching = mode == SEARCH or not models
    passages = searching or switch("Answer from passages", "passages", on=True, help="Off: the bare model.", **KEPT)
    chosen: dict[str, Any] = {"mode": "search" if searching else "answer", "passages": passages}
    if searching:
        chosen["model"] = ""
    else:
        # Others can be typed: the address of a server, as in http://127.0.0.1:8080/v1#NAME, or the path of a GGUF file.
        known = with_typed_model(models, "model")
        chosen["model"] = choose("Model", known, "model", help=MODEL_HELP, accept_new_options=True, **KEPT)
    off = not passages
    chosen["index"] = choose("Index", indexes, "index", settings.SAMPLE, disabled=off, **KEPT)
    with st.expander("Search", icon=":material/search:"):
        chosen["k"] = slide("Passages", 1, 10, settings.ASK_K, 1, "k", disabled=off, **KEPT)
        chosen["retriever"] = choose(
            "Retriever",
            RETRIEVERS,
            "retriever",
            disabled=off,
            help="bm25 finds words, dense finds meaning, hybrid joins both.",
            **KEPT,
        )
        chosen |= choose_filters(chosen["index"], off=off)
        chosen["rerank"] = write(
            "Reranker",
            "rerank",
            disabled=off,
            placeholder="none",
            help="Orders the passages again: lm (the language model itself; takes seconds), or the name of a cross-encoder.",
            **KEPT,
        ).strip()
    if searching:
        return chosen | {"temperature": 0.0, "max_new_tokens": 0, "show_prompt": False}
    with st.expander("Writing", icon=":material/edit:"):
        chosen["temperature"] = slide(
            "Temperature", 0.0, 1.5, 0.0, 0.1, "temperature", help="0 gives the same answer each time.", **KEPT
        )
        chosen["max_new_tokens"] = slide(
            "Longest answer (tokens)", 16, 512, settings.MAX_NEW_TOKENS, 16, "max_new_tokens", **KEPT
        )
        chosen["cite"] = switch(
            "Ask for citations",
            "cite",
            help="The model is asked to write [1] after what it takes from a passage. Small models rarely can.",
            **KEPT,
        )
        chosen["rewrite"] = switch(
            "Let the model rewrite follow-ups",
            "rewrite",
            help="Off: a question that refers to an earlier one is read together with it, which small models do better.",
            **KEPT,
        )
        chosen["show_prompt"] = switch("Show the prompt", "show_prompt", **KEPT)
    return chosen


def choose_filters(index: str, *, off: bool) -> dict[str, str]:
    """What is searched: one service, documents below a path, documents of a day or later."""
    services: list[str] = []
    with shown_errors("Opening the index"):
        services = open_index(index).services()
    service = ""
    wanted = st.query_params.get("service") or st.session_state.get("service")
    if services or wanted:  # one that is not there is said, also where an index has no services
        service = choose("Service", ["", *services], "service", format_func=lambda name: name or "all", disabled=off, **KEPT)
    path = write("Documents below", "path", disabled=off, placeholder="all, or a folder: aks/", **KEPT).strip()
    since = write("Documents since", "since", disabled=off, placeholder="YYYY-MM-DD", **KEPT).strip()
    if since:
        try:
            since = date.fromisoformat(since).isoformat()
        except ValueError:
            raise NotThere("Documents since", [since], "no date, which is written as YYYY-MM-DD", "since", "") from None
    return {"service": service, "path": path, "since": since}


# --- conversations ----------------------------------------------------------------------------------------------------


def open_conversation() -> Conversation | None:
    """The conversation of the address, else the one this visitor had open; None before the first question."""
    id = only("Conversation", "c") or st.session_state.get("conversation")
    if not id:
        return None
    try:
        found = conversations.load(home(), id)
    except Exception as error:
        if st.session_state.get("conversation") != id or st.query_params.get("c"):
            show_failure(getattr(error, "message", str(error)), getattr(error, "hint", ""))
        leave_conversation()
        return None
    enter_conversation(id)
    return found


def take_sources(current: Conversation | None) -> None:
    """A conversation that is opened goes on with its own index and model, unless the address names others.

    The defaults would answer where the conversation's own index is not there any more, and nothing would say so.
    """
    if current is None or st.session_state.get("sources of") == current.id:
        return
    st.session_state["sources of"] = current.id
    last = current.turns[-1].chosen if current.turns else {}
    wanted = {"model": last.get("model", ""), "index": last.get("index", "") if last.get("passages") else ""}
    for key, name in wanted.items():
        if name and key not in st.query_params:
            st.session_state[key] = name


def enter_conversation(id: str) -> None:
    """Make a conversation the open one; reload and Back find it by the address."""
    st.session_state["conversation"] = id
    if st.query_params.get("c") != id:
        st.query_params["c"] = id


def _open_listed(id: str) -> None:
    for key in ("index", "model"):  # of the conversation that is left
        st.query_params.pop(key, None)
    enter_conversation(id)


def leave_conversation() -> None:
    """Begin anew."""
    st.session_state.pop("conversation", None)
    for key in ("c", "answer"):
        st.query_params.pop(key, None)


def show_conversations(current: Conversation | None, actions: Any) -> None:
    """New, export, rename and delete, and the list of all conversations."""
    actions.button("New", icon=":material/add:", help="Begin a new conversation", on_click=leave_conversation)
    if current is not None and current.turns:
        actions.download_button(
            "Export",
            lambda: conversations.as_markdown(current.turns, current.name),
            "-".join(re.findall(r"\w+", current.name) or ["conversation"]) + ".md",
            "text/markdown",
            icon=":material/download:",
            on_click="ignore",
        )
    with st.expander("Conversations", icon=":material/forum:"):
        if current is not None:
            typed = st.text_input("Name", current.name, key=f"name-{current.id}")
            new = " ".join(shortened(typed, conversations.MAX_NAME, "The name").split())
            if new != current.name:
                with shown_errors("Renaming"):
                    conversations.rename(home(), current.id, new)
                    st.rerun()
            if st.button("Delete this conversation", icon=":material/delete:", type="tertiary"):
                st.session_state["deleting"] = current.id
            if st.session_state.get("deleting") == current.id:
                st.caption("Its questions and answers are removed for everybody.")
                if st.button("Delete it now", type="primary"):
                    with shown_errors("Deleting"):
                        conversations.delete(home(), current.id)
                        leave_conversation()
                        st.rerun()
        words = st.text_input("Find", key="find-conversation", placeholder="words of questions and answers")
        found = conversations.summaries(home(), words)
        for one in found[:15]:
            if current is None or one.id != current.id:
                label = f"{plain(one.name)} ({one.questions})"
                st.button(label, key=f"open-{one.id}", type="tertiary", on_click=_open_listed, args=(one.id,))
        if words and not found:
            st.caption("No conversation has all of these words.")
        if len(found) > 15:
            st.caption(f"The newest 15 of {len(found)}: search for older ones.")


# --- turns ------------------------------------------------------------------------------------------------------------


def show_turn(turn: Turn, conversation: str) -> None:
    """A turn that has ended."""
    with st.chat_message("user"):
        st.text(turn.question)
    with st.chat_message("assistant"):
        if turn.state == "failed":
            show_failure(turn.failure, turn.hint)
        if turn.answer is not None:
            show_answer(turn, turn.answer)
        elif turn.text:
            show_readable(cut_off(turn.text))
        if turn.state == "stopped":
            st.caption("Stopped.")
        elif turn.state == "answering":  # and no thread of this server answers it
            st.caption("The server was stopped before this answer was finished.")
        for notice in (*turn.notices, *(turn.answer.notices if turn.answer else ())):
            st.caption(plain(notice))
        if turn.state == "found":
            show_results(turn)
        elif turn.hits:
            if turn.answer is not None and turn.answer.finish == "not relevant":
                st.caption("The closest passages, none of them close enough:")
            show_passages(
                turn.hits,
                turn.answer.citations if turn.answer else (),
                turn.matched,
                answer=turn.answer.answer if turn.answer else "",
                index=turn.chosen["index"],
                key=turn.id,
            )
        if turn.answer is not None:
            show_figures(turn, turn.answer)
            if turn.chosen["show_prompt"] or st.session_state.get("show_prompt"):
                show_prompt(turn, turn.answer)
        show_actions(turn, conversation)


def show_answer(turn: Turn, answer: Answer) -> None:
    """The text of an answer, and whether the passages hold it."""
    if is_degenerate(answer.answer):
        st.warning("The model wrote list markers instead of an answer. Try another question, or another model.")
        with st.expander("What it wrote"):
            st.text(answer.answer)
        return
    show_readable(cut_off(answer.answer) if answer.answer and answer.finish in CUT_OFF else answer.answer or EMPTY)
    if not turn.chosen["passages"] or answer.finish == "not relevant" or not answer.answer:
        return
    if answer.citations:
        cited = plain(", ".join(f"[{rank}]" for rank in answer.citations))
        if unknown_commands(answer.answer, turn.hits):
            st.markdown(f":orange-badge[:material/warning: words of {cited}, but no passage has this command: check it]")
        else:
            st.markdown(f":green-badge[:material/check: rests on {cited}]")
    else:
        st.markdown(":orange-badge[:material/warning: no passage supports this answer: check it]")


def show_results(turn: Turn) -> None:
    """What a search without a model has found."""
    if not turn.hits:
        st.caption("Nothing matches. Try other words, wider filters, or search by meaning (retriever dense).")
        return
    found = "1 passage" if len(turn.hits) == 1 else f"{len(turn.hits)} passages"
    st.caption(plain(f"{found} in {turn.seconds:.2f} s"))
    show_found(turn.hits, turn.matched, index=turn.chosen["index"], key=turn.id)


def show_figures(turn: Turn, answer: Answer) -> None:
    """Cost of an answer, in one line."""
    parts = [answer.model]
    if answer.completion_tokens:
        parts += [
            f"{answer.prompt_tokens:,} + {answer.completion_tokens:,} tokens",
            f"first word after {turn.first_token_seconds:.1f} s, then {turn.tokens_per_second:.0f} tokens/s",
        ]
    loading = f", {turn.loading_seconds:.1f} s of them to load the model" if turn.loading_seconds > 0.5 else ""
    parts.append(f"{turn.seconds:.1f} s in all{loading}")
    if answer.index_generation:
        parts.append(f"{turn.chosen['index']}, {said_generation(answer.index_generation)}")
    st.caption(plain(" · ".join(parts)))


def show_prompt(turn: Turn, answer: Answer) -> None:
    """Exactly what the model saw, and what did not fit."""
    if not answer.prompt:
        st.caption("The model was not asked, so there is no prompt.")
        return
    of = f" of {turn.window:,}" if turn.window else ""
    with st.expander(f"Prompt: {answer.prompt_tokens:,}{of} tokens", icon=":material/input:"):
        if answer.dropped_hits:
            st.caption(f"{answer.dropped_hits} passages did not fit.")
        st.code(answer.prompt, language=None, wrap_lines=True)


def show_actions(turn: Turn, conversation: str) -> None:
    """Thumbs, a note, asking again, and a link to this answer."""
    thumb_key, note_key = f"thumb-{turn.id}", f"note-{turn.id}"

    def store() -> None:
        with shown_errors("Keeping the feedback"):  # an answer does not depend on whether an opinion of it can be kept
            assert turn.answer is not None
            store_feedback(
                home(),
                turn.id,
                turn.question,
                turn.answer,
                thumb=st.session_state.get(thumb_key),
                note=(st.session_state.get(note_key) or "")[:MAX_NOTE],
                index_name=turn.chosen["index"] if turn.chosen["passages"] else "",
                settings=turn.chosen,
            )
            st.toast("Kept.", icon=":material/check:")

    with st.container(horizontal=True, vertical_alignment="center"):
        if turn.answer is not None:
            st.feedback("thumbs", key=thumb_key, on_change=store, persist_state="session")
        st.button(
            "Ask again", key=f"again-{turn.id}", icon=":material/replay:", type="tertiary", on_click=_ask, args=(turn.question,)
        )
        with st.popover("Link", icon=":material/link:", type="tertiary"):
            st.caption("A link to this answer:")
            address = (st.context.url or "").partition("?")[0].rstrip("/")
            st.code(f"{address}/?{urlencode({'c': conversation, 'answer': turn.id})}", language=None, wrap_lines=True)
    if turn.answer is not None:
        with st.expander("Note", icon=":material/edit_note:"):
            note = st.text_area("What is right or wrong with it?", key=note_key, on_change=store, persist_state="session")
            shortened(note, MAX_NOTE, "The note")


def _ask(question: str) -> None:
    st.session_state["ask next"] = question


def show_live(answering: Answering, show_rest: Callable[[], None]) -> NoReturn:
    """A turn that is being answered: words as they come, and a button that stops them; the page is drawn again at the end.

    The rest of the page is drawn once the passages stand there: the browser shows it as it was meanwhile.
    """
    turn = answering.turn
    with st.chat_message("user"):
        st.text(turn.question)
    with st.chat_message("assistant"):
        status = st.empty()
        box = st.empty()
        st.button("Stop", icon=":material/stop_circle:", key=f"stop-{turn.id}", on_click=stop, args=(turn.id,))
        below = st.empty()
        written, shown, patience = -1, False, 1.0
        while answering.running:
            status.caption(plain(f"{answering.stage} ({answering.seconds:.0f} s)"))
            if len(turn.text) > written:
                written = len(turn.text)
                with box.container():
                    show_readable(turn.text)
            if turn.hits and not shown and turn.chosen["mode"] != "search":  # whose results follow at once
                shown = True
                with below.container():
                    show_passages(turn.hits, matched=turn.matched, index=turn.chosen["index"], key=f"live-{turn.id}")
            if patience and (shown or answering.seconds > patience):
                patience = 0.0
                answering.wait(FIRST_DRAWN)  # the browser draws the passages before it looks at anything else
                show_rest()
            answering.wait(0.03 if patience else 0.1)
    st.rerun()


def _show_all() -> None:
    st.query_params.pop("answer", None)


def show_turns(current: Conversation, turns: Sequence[Turn]) -> None:
    """The last turns, or the one that a link leads to."""
    if wanted := st.query_params.get("answer"):
        turns = [turn for turn in turns if turn.id == wanted]
        if not turns:
            st.warning(GONE)
        st.button("Show the whole conversation", on_click=_show_all)
    if current.unreadable:
        st.warning(f"{current.unreadable} questions of this conversation cannot be read and are left out.")
    if len(turns) > SHOWN_TURNS:
        turns = choose_page(current.id, turns)
    with shown_errors("Reading the feedback"):
        for id, (thumb, note) in given(home(), [turn.id for turn in turns]).items():  # of earlier visits
            st.session_state.setdefault(f"thumb-{id}", thumb)
            st.session_state.setdefault(f"note-{id}", note)
    places = [(turn, st.container(key=f"turn-{turn.id}")) for turn in turns]
    for turn, place in reversed(places):  # what was asked last is waited for
        with place:
            show_turn(turn, current.id)


def choose_page(conversation: str, turns: Sequence[Turn]) -> Sequence[Turn]:
    """Some of the turns of a long conversation, the newest at first: all of them would make each click slow."""
    key, last = f"page-{conversation}", -(-len(turns) // SHOWN_TURNS) - 1
    page = min(st.session_state.get(key, 0), last)
    end = len(turns) - page * SHOWN_TURNS
    first = max(0, end - SHOWN_TURNS)

    def go(step: int) -> None:
        st.session_state[key] = page + step

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Earlier", icon=":material/arrow_upward:", type="tertiary", on_click=go, args=(1,), disabled=page == last)
        st.button("Later", icon=":material/arrow_downward:", type="tertiary", on_click=go, args=(-1,), disabled=page == 0)
        st.caption(f"Questions {first + 1} to {end} of {len(turns)}")
    return turns[first:end]


def begin_turn(current: Conversation | None, question: str, chosen: dict[str, Any]) -> Conversation:
    """Begin to answer a question; gives the conversation that it stands in. Raises UserError when that cannot be kept."""
    id = current.id if current else conversations.new_id()
    before = current.turns[-EARLIER_QUESTIONS:] if current else ()
    answering = begin(home(), id, Turn(question, chosen, tuple(turn.question for turn in before)))
    enter_conversation(id)
    st.session_state["sources of"] = id
    st.query_params.pop("answer", None)
    st.session_state.pop(f"page-{id}", None)
    st.session_state["show turn"] = answering.turn.id
    if chosen["mode"] == "search":
        answering.wait(SEARCH_PATIENCE)
    else:
        answering.wait_for_passages(PASSAGES_PATIENCE)
    return conversations.load(home(), id)


def being_answered(current: Conversation | None) -> Answering | None:
    """The answering of the conversation that goes on now."""
    found = [live(turn.id) for turn in current.turns] if current else []
    return next((one for one in found if one and one.running), None)


def main() -> None:
    indexes, models = index_names(), model_names()
    sidebar = st.sidebar
    actions = sidebar.container(horizontal=True)
    current = None
    try:
        current = open_conversation()
        wanted = only("Answer", "answer")
        take_sources(current)
        with sidebar:
            chosen = choose_settings(indexes, models)
    except NotThere as missing:
        page_title(current.name if current else "Ask the documents")
        missing.show()
        if unasked := st.session_state.get("asked"):
            st.caption("This question was not asked:")
            st.text(unasked)
        if current is not None:  # nothing can be asked, and what was answered can be read
            show_turns(current, [turn for turn in current.turns if live(turn.id) is None])
        return
    list_place = sidebar.container()
    running = being_answered(current)
    title, notes = st.empty(), st.container()
    # With a field for questions below, Streamlit would show the end of the page before the answer that a link leads to.
    linked = "answer" in st.query_params and current is not None and running is None
    asked = None
    if not linked:
        held = "Search the documents" if chosen["mode"] == "search" else "Ask the documents"
        # With a key it stays the same field when its words change, so what is sent at that moment arrives.
        asked = st.chat_input("Wait for the answer, or stop it" if running else held, key="asked", disabled=running is not None)
        asked = (asked or st.session_state.pop("ask next", "")).strip()
    start = st.empty()  # its content is gone at once when a question is asked
    if asked and running is None:
        with notes, shown_errors("Asking"):
            current = begin_turn(current, asked, chosen)
            running = being_answered(current)
    with title:
        page_title(current.name if current else "Ask the documents")
    if not models:
        with notes:
            offer_model(
                settings.LANGUAGE_MODEL,
                "There is no language model on this machine yet: passages are found, no answer is written.",
            )
    turns = [] if current is None else [lost.turn if (lost := live(turn.id)) else turn for turn in current.turns]

    def show_list() -> None:
        with list_place, shown_errors("Reading the conversations"):
            show_conversations(current, actions)

    if wanted and current is None:
        with notes:
            st.warning(GONE)
    if linked and current is not None:
        show_list()
        show_turns(current, turns)
        return
    if not turns:
        with start.container():
            offer_examples(chosen)
    earlier = st.container()

    def show_rest() -> None:
        if current is not None:
            with earlier:
                show_turns(current, [turn for turn in turns if running is None or turn.id != running.turn.id])
        show_list()

    if running is not None:
        show_live(running, show_rest)
    show_rest()
    if asked_last := st.session_state.pop("show turn", ""):
        st.html(SHOW_TURN.replace("ID", asked_last), unsafe_allow_javascript=True)
    # While the question is being typed. What fails here fails again when it is asked, and is told then.
    shared(f"load {chosen['model']} {chosen['index']}", "Loading", lambda _: load(chosen))


def load(chosen: dict[str, Any]) -> None:
    """Load what the next question needs: its passages then come at once."""
    time.sleep(LOAD_AFTER)
    open_index(chosen["index"]).search("warm up", 1, retriever=chosen["retriever"])
    if chosen["model"]:
        load_model(chosen["model"])


def offer_examples(chosen: dict[str, Any]) -> None:
    """What stands on the page before the first question."""
    st.write(
        "Questions are answered on this machine by a small language model, from the passages that a search finds in your "
        "documents. Each answer names the passages it rests on."
    )
    with shown_errors("Opening the index"):
        counts = open_index(chosen["index"]).manifest.counts
        st.caption(plain(f"{chosen['index']}: {counts.documents:,} documents, {counts.chunks:,} passages"))
    for example in settings.SAMPLE_QUESTIONS if chosen["index"] == settings.SAMPLE else ():
        st.button(example, icon=":material/arrow_forward:", type="tertiary", on_click=_ask, args=(example,))


main()
