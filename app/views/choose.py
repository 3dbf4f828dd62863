"""Choose: which way of giving a model these documents answers best, how sure that is, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from addressed import choose, say_nothing_is_there
from first_start import offer_documents
from progress_panel import duration, show_job, start_job
from resources import home, page_title, plain, shown_errors

from rag_vs_ft import files, jobs
from rag_vs_ft.choose import CHOSEN, PLAN, BudgetPlan, read_plan
from rag_vs_ft.corpus import store
from rag_vs_ft.evaluation.figures import ArmFigures, Summary, read_summary
from rag_vs_ft.evaluation.heuristics import HEURISTICS
from rag_vs_ft.evaluation.measures import ACCURACY
from rag_vs_ft.evaluation.render import NONE, percent
from rag_vs_ft.evaluation.verdict import LEVEL, can_be_given

HOURS = 2.0
WAYS = {
    "alone": "the model alone",
    "retrieval": "retrieval",
    "lora": "LoRA finetuning",
    "lora+retrieval": "LoRA finetuning with retrieval",
    "scratch": "training from scratch",
}
"""What a reader calls the arms of a comparison; others are shown by their own names."""


def called(arm: str) -> str:
    """The arm as a reader calls it, inside a sentence."""
    return WAYS.get(arm, arm)


def titled(arm: str) -> str:
    """The arm as a reader calls it, at the beginning of a line."""
    return called(arm)[:1].upper() + called(arm)[1:]


# --- comparing --------------------------------------------------------------------------------------------------------


def comparisons(corpus: str) -> list[str]:
    """Results folders of comparisons on this corpus, finished or begun, the newest first."""
    found = []
    for path in home().results.glob(f"*/{PLAN}"):
        with shown_errors(f"Reading {path.parent.name}"):
            if read_plan(path.parent).corpus == corpus:
                found.append(path)
    return [path.parent.name for path in sorted(found, key=lambda path: -path.stat().st_mtime)]


def free_name(corpus: str, taken: Sequence[str]) -> str:
    """A name that no comparison has."""
    names = (f"choose-{corpus}" + (f"-{number}" if number > 1 else "") for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def start(corpus: str, hours: float, run: str) -> None:
    """Compare in a process of its own, or go on with what was stopped."""
    with shown_errors("Starting the comparison"):
        start_job("choose", f"Comparing the ways for {corpus}", corpus=corpus, hours=hours, run=run)
        st.rerun()


def start_form(corpus: str, known: Sequence[str], *, running: bool) -> None:
    """How long the comparison may take."""
    with st.expander("Compare again" if known else "Compare", icon=":material/play_arrow:", expanded=not known):
        st.write(
            "Questions are made from the documents. A small model answers them alone and from passages; others are trained on "
            "the documents as far as the time allows, and answer the same questions."
        )
        hours = st.number_input(
            "Hours", 0.1, 100.0, HOURS, step=0.5, help="Half of them at most for questions, the rest to train."
        )
        if st.button("Start", type="primary", disabled=running):
            start(corpus, hours, free_name(corpus, known))


def show_plan(plan: BudgetPlan) -> None:
    """What a comparison does and how long that takes."""
    parts = [f"{plan.dev_questions + plan.test_questions:,} questions are asked"]
    parts += [f"{called(one.arm)} is trained for {one.steps:,} of {one.wanted:,} steps" for one in plan.training]
    st.caption(plain(f"{'; '.join(parts)}: about {duration(plan.seconds)} in all."))


# --- the decision -----------------------------------------------------------------------------------------------------


def show_decision(folder: Path, corpus: str) -> None:
    """Which way, how sure, what it costs, one picture, and what more time would buy."""
    found = files.read_json(folder / CHOSEN, "compare again under another name")
    plan, summary = read_plan(folder), read_summary(folder)
    ways = sorted((arm for arm in summary.scored if can_be_given(arm)), key=lambda arm: -arm.right)
    if store.open_corpus(corpus, home()).sha256 != plan.corpus_sha256:
        st.warning("The documents have changed since. Compare again to see whether this still holds.")
    if not ways:
        st.warning(plain(summary.verdict))
        return
    best, guess = ways[0], ways[0].is_a_guess(summary.questions.chance)
    st.subheader("No way answers better than a guess" if guess else plain(f"{titled(best.name)} answers best"), anchor=False)
    st.markdown(plain(how_sure(ways, summary)))
    if beaten := beaten_by(best, summary):
        st.warning(plain(beaten), icon=":material/warning:")
    show_figures(best, summary)
    st.altair_chart(picture(ways, summary.questions.chance), alt="Questions right by each way, with 95% intervals")
    st.caption("Questions right. Line: 95% interval; dashed: a guess.")
    st.table(costs(ways), hide_index=True, border="horizontal")
    for even in summary.break_even:
        after = even.questions_by_seconds
        when = "never pays" if after is None else f"pays after {after:,} questions"
        st.caption(plain(f"By time, training {called(even.finetuning)} {when}, compared with {called(even.retrieval)}."))
    if found.get("more_hours"):
        st.subheader("What more time would buy", anchor=False)
        st.markdown("\n".join(f"- {plain(line)}" for line in found["more_hours"]))
    with st.container(horizontal=True):
        settings = {"model": best.model, "passages": str(best.k is not None).lower(), "index": corpus}
        st.page_link("views/ask.py", label="Ask in this way", icon=":material/chat:", query_params=settings)
        st.page_link("views/evaluate.py", label="Every figure", icon=":material/bar_chart:", query_params={"run": folder.name})
    with st.expander("Details"):
        for line in summary.verdict.splitlines():
            st.markdown(plain(line))
        st.text(str(plan))
        st.caption(f"It took {duration(float(found.get('seconds', 0)))}.")


def how_sure(ways: Sequence[ArmFigures], summary: Summary) -> str:
    """Whether the questions tell the best way from a guess and from the others; no more than the corrected tests say."""
    best, asked = ways[0], summary.questions.with_choices
    share = f"{percent(best.accuracy.value)} of {asked} questions right, a guess {percent(summary.questions.chance)}"
    if best.is_a_guess(summary.questions.chance):
        return f"The best, {called(best.name)}, has {share}: that can be luck. Nothing is decided."
    pairs = {frozenset((pair.a, pair.b)): pair.holm_p for pair in summary.pairs_by(ACCURACY)}
    unclear = [one.name for one in ways[1:] if (pairs.get(frozenset((best.name, one.name))) or 0.0) > LEVEL]
    sure = [one.name for one in ways[1:] if one.name not in unclear]
    said = [f"It has {share}."]
    if sure:
        said.append(f"The lead over {_listed(sure)} is larger than chance explains.")
    if unclear:
        said.append(f"The lead over {_listed(unclear)} can be chance: these questions cannot tell.")
        cheapest = min((one for one in ways if one.name in (best.name, *unclear)), key=_effort)
        if cheapest is not best:
            said.append(f"Of those, {called(cheapest.name)} costs least.")
    return " ".join(said)


def _listed(names: Sequence[str]) -> str:
    *most, last = map(called, names)
    return f"{', '.join(most)} and {last}" if most else last


def _effort(arm: ArmFigures) -> tuple[float, float]:
    return arm.cost.training_seconds, arm.seconds_per_question or 0.0


def beaten_by(best: ArmFigures, summary: Summary) -> str:
    """What takes the weight from a decision: a rule that reads nothing does as well."""
    rules = [arm for arm in summary.scored if arm.model in HEURISTICS and arm.right >= best.right]
    if not rules:
        return ""
    rule = max(rules, key=lambda arm: arm.right)
    return (
        f"The rule {rule.name} needs no language model and has {percent(rule.accuracy.value)}: as many of these questions can be "
        "answered without one."
    )


def show_figures(best: ArmFigures, summary: Summary) -> None:
    """The best way in three figures."""
    low, high = best.accuracy.interval or (None, None)
    sure = f"95% interval {percent(low)} to {percent(high)}" if best.accuracy.interval else "no interval can be given"
    index = best.cost.index_seconds
    before = [f"{duration(index)} to index"] if index and index >= 1 else []
    before += [f"{duration(best.cost.training_seconds)} to train"] if best.cost.training_seconds else []
    figures = (
        ("Questions right", percent(best.accuracy.value), f"{sure}, {summary.questions.with_choices} questions"),
        ("Seconds a question", _seconds(best.seconds_per_question), "on this machine, when it was compared"),
        (
            "Before the first question",
            duration((index or 0.0) + best.cost.training_seconds) if before else "nothing",
            " and ".join(before) or "neither index nor training",
        ),
    )
    for column, (title, value, about) in zip(st.columns(3), figures, strict=True):
        with column.container(border=True, height="stretch", gap=None):
            st.metric(title, value)
            st.caption(plain(about))


def picture(ways: Sequence[ArmFigures], chance: float | None) -> Any:
    """Questions right by each way with its interval, and what a guess has."""
    import altair as alt

    rows = [
        {"way": titled(arm.name), "right": arm.right, "low": low, "high": high, "interval": f"{low:.0%} to {high:.0%}"}
        for arm in ways
        for low, high in [arm.accuracy.interval or (arm.right, arm.right)]
    ]
    percents = alt.Axis(format="%", tickCount=5)
    place: dict[str, Any] = {"y": alt.Y("way:N", sort=None, title=None, axis=alt.Axis(labelLimit=150, ticks=False, domain=False))}
    scale = alt.Scale(domain=[0, 1])
    base = alt.Chart(alt.Data(values=rows))
    layers = [
        base.mark_rule(strokeWidth=2, opacity=0.6, color="#2b77cf").encode(
            x=alt.X("low:Q", scale=scale, axis=percents, title=None),
            x2="high:Q",
            **place,
        ),
        base.mark_point(filled=True, size=110, opacity=1, color="#2b77cf").encode(
            x=alt.X("right:Q", scale=scale),
            tooltip=[alt.Tooltip("way:N"), alt.Tooltip("right:Q", format=".1%"), alt.Tooltip("interval:N", title="95% interval")],
            **place,
        ),
    ]
    if chance is not None:
        line = alt.Chart(alt.Data(values=[{"guess": chance}])).mark_rule(strokeDash=[5, 4], color="#8c8c8c")
        layers.append(line.encode(x=alt.X("guess:Q", scale=scale)))
    return alt.layer(*layers).properties(height=60 + 34 * len(rows))


def costs(ways: Sequence[ArmFigures]) -> list[dict[str, str]]:
    """What each way costs: by question, by right answer, and to train."""
    return [
        {
            "way": plain(titled(arm.name)),
            "right": percent(arm.accuracy.value),
            "s a question": _seconds(arm.seconds_per_question),
            "s a right answer": _seconds(arm.seconds_per_right_answer),
            "training": duration(arm.cost.training_seconds) if arm.cost.training_seconds else "none",
        }
        for arm in ways
    ]


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def main() -> None:
    page_title("Choose")
    st.caption(
        "Which way of giving a small model your documents answers best on this machine, how sure is that, and what does it cost?"
    )
    names = store.names(home())
    if not names:
        offer_documents()
        return
    running = show_job("choose", failures=True)
    if running is not None and (folder := home().results / str(running.arguments.get("run"))) and (folder / PLAN).is_file():
        with shown_errors("Reading the plan"):
            show_plan(read_plan(folder))
    corpus = choose("Documents", names, "corpus")
    known = comparisons(corpus)
    mine = running is not None and running.arguments.get("corpus") == corpus
    if known:
        named = len(known) > 1 or "comparison" in st.query_params
        run = choose("Comparison", known, "comparison") if named else known[0]
        with shown_errors(f"Reading {run}"):
            if (home().results / run / CHOSEN).is_file():
                show_decision(home().results / run, corpus)
            elif not mine:
                plan = read_plan(home().results / run)
                st.info(plain(f"The comparison {run}, of {plan.hours:g} hours, is not finished."))
                show_plan(plan)
                if st.button("Go on", type="primary", icon=":material/resume:", disabled=running is not None):
                    start(corpus, plan.hours, run)
    last = jobs.latest(home(), "choose")
    if last is not None and last.state == "cancelled" and last.arguments.get("corpus") == corpus and not known:
        st.caption("It was stopped before it had asked anything, so Start begins from the beginning.")
    start_form(corpus, known, running=running is not None)
    if not known:
        say_nothing_is_there("Comparison", "comparison")


main()
