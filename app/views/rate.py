"""Which answer is better? Two arms at a time, in shuffled order and without their names."""

from __future__ import annotations

import streamlit as st
from addressed import KEPT, choose, choose_several
from arms import LIMIT, choose_arms_of
from background import Background
from first_start import index_names
from progress_panel import offer_model
from readable import EMPTY, show_readable
from resources import home, page_title, plain, shortened, shown_errors
from rounds import Round, Wanted, prepare, question_files

from rag_vs_ft import settings
from rag_vs_ft.feedback import Verdict, agreements, preferences, store_rating

MAX_NAME = 40
VERDICTS: tuple[tuple[str, Verdict, str], ...] = (
    ("First is better", "first", "1"),
    ("Second is better", "second", "2"),
    ("Equally good", "tie", "3"),
    ("Both are bad", "both bad", "0"),
)


def prepared(wanted: Wanted) -> Background:
    """The work that prepares a round, begun unless it is already; one for other settings is stopped."""
    wish, job = st.session_state.get("next round", (None, None))
    if wish != wanted:
        if job is not None:
            job.cancel()
        place = home()
        job = Background("Asking two arms", lambda progress: prepare(wanted, place, progress))
        st.session_state["next round"] = (wanted, job)
    assert job is not None
    return job


def next_round(wanted: Wanted) -> None:
    """Show the round that was prepared, or prepare one."""
    job, line = prepared(wanted), st.empty()
    while job.running:
        line.caption(f"Two arms are answering ({job.seconds:.0f} s)")
        job.wait(0.2)
    line.empty()
    del st.session_state["next round"]
    if job.error is not None:
        raise job.error
    st.session_state["round"] = job.result


def show_round(current: Round) -> None:
    """The question, both answers, and the verdict's buttons."""
    st.subheader("Question")
    st.text(current.question)
    if current.expected:
        with st.expander("The answer that the question's author gave"):
            st.text(current.expected)
    if current.verdict is None:
        with st.container(horizontal=True):
            for label, verdict, shortcut in VERDICTS:
                st.button(label, key=f"verdict-{verdict}", shortcut=shortcut, on_click=keep, args=(current, verdict))
    for number, (column, answer) in enumerate(zip(st.columns(2, border=True), current.answers, strict=True)):
        with column:
            st.caption(f"Answer {number + 1}" + (f": {plain(current.arms[number])}" if current.verdict else ""))
            show_readable(answer or EMPTY)


def keep(current: Round, verdict: Verdict) -> None:
    """Store the verdict; only then are the names shown."""
    with shown_errors("Keeping the rating"):
        store_rating(
            home(), current.question, current.arms, current.answers, verdict, rater_of(st.session_state.get("rater", ""))
        )
        current.verdict = verdict


def rater_of(typed: str) -> str:
    """The name that ratings are kept under."""
    return " ".join(typed[:MAX_NAME].split())


def show_preferences() -> None:
    """Win, tie and loss of each pair of arms."""
    found = preferences(home())
    if not found:
        return
    st.subheader("So far")
    st.dataframe(
        [
            {
                "arm": one.arm,
                "against": one.other,
                "wins": one.wins,
                "ties": one.ties,
                "losses": one.losses,
                "of these both bad": one.both_bad,
                "preferred": "" if one.share is None else f"{one.share:.0%}",
                "95% interval": "" if one.interval is None else f"{one.interval[0]:.0%} to {one.interval[1]:.0%}",
            }
            for one in found
        ],
        hide_index=True,
    )
    st.caption(
        "Preferred: share of the ratings that were decided, of each rater the last one of a question; the interval is Wilson's."
    )
    agreed = agreements(home())
    if not agreed:
        return
    st.subheader("Agreement between raters")
    st.dataframe(
        [
            {
                "rater": one.rater or "no name",
                "other": one.other or "no name",
                "rated by both": one.rated,
                "same verdict": f"{one.share:.0%}",
                "Cohen's kappa": "" if one.kappa is None else f"{one.kappa:.2f}",
            }
            for one in agreed
        ],
        hide_index=True,
    )
    st.caption("Kappa: agreement beyond chance; 1 is perfect, 0 what chance gives.")


def main() -> None:
    indexes = index_names()
    page_title("Rate")
    with st.sidebar:
        names = choose_arms_of()
    if not names:
        offer_model(settings.LANGUAGE_MODEL, "There is no language model on this machine yet.")
        return
    with st.sidebar:
        index = choose("Index", indexes, "index", settings.SAMPLE, **KEPT)
        typed = st.text_input("Your name", key="rater", placeholder="for ratings of your own", persist_state="session")
        rater = rater_of(shortened(typed, MAX_NAME, "The name"))
    st.caption("Two answers to one question, from two of the arms, without their names. Keys 1, 2, 3 and 0 rate; N goes on.")
    chosen = choose_several("Arms", names, "rated", names[:2], LIMIT, **KEPT)
    left, right = st.columns([1, 2])
    with left:
        questions = choose("Questions", list(question_files()), "questions", **KEPT)
    right.text_input("Or a question of your own", key="own", placeholder="leave empty for the set")

    def wanted(own: str = "") -> Wanted:
        shown: Round | None = st.session_state.get("round")
        return Wanted(tuple(chosen), index, questions, own, shown.question if shown else "", rater)

    # The typed question is taken once, and the set goes on after it.
    st.button(
        "Next question",
        shortcut="N",
        type="primary",
        icon=":material/skip_next:",
        disabled=len(chosen) < 2,
        on_click=lambda: st.session_state.update(go=st.session_state.get("own", "").strip(), own=""),
    )
    if len(chosen) < 2:
        st.caption("Choose at least two arms.")
    own = st.session_state.pop("go", None)
    if own is not None:
        own = shortened(own, settings.MAX_QUESTION_CHARACTERS, "The question")
    with shown_errors("Asking the arms"):
        if own is not None and len(chosen) >= 2:
            next_round(wanted(own))
        if (current := st.session_state.get("round")) is not None:
            show_round(current)
            if len(chosen) >= 2:
                prepared(wanted())  # while this one is read
    with shown_errors("Reading the ratings"):
        show_preferences()


main()
