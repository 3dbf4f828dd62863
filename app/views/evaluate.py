"""Experiments: run one, look at the figures, and read the questions on which two arms disagree."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from progress_panel import show_job, start_job
from resources import home, plain, shown_errors

from rag_vs_ft.evaluation import plots, ratings
from rag_vs_ft.evaluation.compare import compare_runs
from rag_vs_ft.evaluation.experiments import Score, load_experiment
from rag_vs_ft.evaluation.figures import UPDATES, ArmFigures, Summary, read_scores, read_summary
from rag_vs_ft.evaluation.harness import DEMO
from rag_vs_ft.evaluation.measures import ACCURACY, MEASURES, chosen
from rag_vs_ft.evaluation.predictions import PREDICTIONS, Prediction
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.records import Question, read_jsonl


def experiment_files() -> dict[str, Path]:
    """The experiment files of the home and of the working folder, and the one that comes with the package."""
    places = dict.fromkeys((home().root, Path.cwd()))
    files = [path for place in places for path in sorted((place / "eval" / "experiments").glob("*.toml"))]
    return {path.stem: path for path in reversed([*files, DEMO])}


def run_form() -> None:
    """Choose an experiment and run it in the background."""
    files = experiment_files()
    names = sorted(files, key=lambda name: (name != "demo", name))
    running = show_job("evaluate") is not None
    with st.expander("Run an experiment", icon=":material/play_arrow:", expanded=not finished_runs()):
        name = st.selectbox("Experiment", names)
        with shown_errors("Reading the experiment"):
            experiment, text = load_experiment(files[name])
            arms = ", ".join(arm.name for arm in experiment.arms)
            st.caption(plain(f"{len(experiment.arms)} arms on the index {experiment.index}: {arms}"))
            with st.popover("The file", type="tertiary"):
                st.code(text, language="toml")
            limit = st.number_input("Questions at most (0: as the experiment says)", 0, 10_000, 10)
            run_name = st.text_input("Name of the run", f"{name}-{limit}" if limit else name, max_chars=100)
            st.caption(
                "Arms whose model is missing are left out and named. A run that was cancelled goes on where it stopped "
                "when it is run again under its name."
            )
            if st.button("Run", type="primary", disabled=running or not run_name):
                start_job("evaluate", f"Running {run_name}", experiment=str(files[name]), run=run_name, limit=limit or None)
                st.rerun()


def finished_runs() -> list[str]:
    """Runs that have a summary, newest first."""
    found = list(home().results.glob("*/summary.json"))
    return [path.parent.name for path in sorted(found, key=lambda path: -path.stat().st_mtime)]


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def show_run(folder: Path) -> None:
    """One run: its result, its questions, and how it differs from another one."""
    summary, manifest = read_summary(folder), read_json(folder / "manifest.json")
    scored = summary.scored
    views = ["Result"]
    views += ["Questions"] if len(scored) > 1 else []
    views += ["Freshness"] if any(UPDATES in arm.by_tag for arm in scored) else []
    views += ["Against another run"] if scored and len(finished_runs()) > 1 else []
    if st.session_state.get("shown") not in views:  # another run was chosen, which has no such view
        st.session_state.pop("shown", None)
    view = st.segmented_control("View", views, default="Result", required=True, key="shown", label_visibility="collapsed")
    if view == "Questions":
        ranked = sorted(scored, key=lambda arm: -arm.right)
        show_disagreements(folder, summary, manifest, [arm.name for arm in ranked])
    elif view == "Freshness":
        show_freshness(folder, manifest, scored)
    elif view == "Against another run":
        show_other_run(folder)
    else:
        show_result(folder, summary)


def show_result(folder: Path, summary: Summary) -> None:
    """Verdict, table and figures."""
    scored = summary.scored
    st.info(plain(summary.verdict), icon=":material/gavel:")
    st.dataframe([_arm_row(arm) for arm in summary.arms], hide_index=True)
    for arm, reason in {**summary.skipped, **summary.failed}.items():
        st.caption(f"{plain(arm)} is not in it: {plain(reason)}")
    pairs = summary.pairs_by(ACCURACY)
    left, right = st.columns(2)
    if pairs:
        with left:
            says = "Differences of pairs of arms, 95% intervals; filled: p under 0.05 after Holm's correction"
            show_figure(says, plots.forest(pairs, "difference, percentage points"))
    if scored:
        with right:
            show_figure("Questions right against seconds per question", plots.quality_and_cost(scored))
    if scored and len(scored[0].by_tag) > 1:
        with st.expander("By kind of question", icon=":material/sell:"):
            show_figure("Questions right by tag", plots.by_tag(scored, summary.questions.chance))
    if (report := folder / "report.html").is_file():
        ratings.update(folder, summary)
        st.download_button(
            "The whole report",
            report.read_bytes(),
            f"{folder.name}.html",
            "text/html",
            icon=":material/download:",
            on_click="ignore",
        )


def show_figure(says: str, svg: str) -> None:
    """A figure under what it says, which stands for it where it cannot be seen."""
    st.caption(says)
    st.image(svg, width="stretch", alt=says)


def show_freshness(folder: Path, manifest: Mapping[str, Any], scored: Sequence[ArmFigures]) -> None:
    """Do the arms know what the documents say since they were changed?"""
    st.caption("Questions about facts that an update of the documents has changed: does an arm find the new fact likelier?")
    st.dataframe(
        [
            {
                "arm": arm.name,
                "questions": found.n,
                "new fact preferred": _percent(found.choice_accuracy),
                "95% interval": _interval(found.choice_accuracy_ci),
            }
            for arm in scored
            if (found := arm.by_tag.get(UPDATES))
        ],
        hide_index=True,
    )
    st.caption(plain(f"Index {manifest['index']['name']}, {manifest['index']['generation']}."))
    if len(finished_runs()) < 2:
        st.caption("Run the experiment on the index before the update too, and both runs are compared here.")
        return
    updates = {key for key, question in run_questions(manifest).items() if UPDATES in question.tags}
    show_other_run(folder, only=updates)


def show_other_run(folder: Path, only: Collection[str] | None = None) -> None:
    """Each arm in this run against the same arm in another one."""
    others = [name for name in finished_runs() if name != folder.name]
    other = st.selectbox("What was it before? Another run of these arms", others, key="other")
    with shown_errors("Comparing the runs"):
        found = compare_runs(folder.parent / other, folder, only=only)
        ran = {run: read_json(folder.parent / run / "manifest.json")["index"] for run in (other, folder.name)}
        st.dataframe(
            [
                {
                    "arm": arm.arm,
                    "questions": arm.questions,
                    other: _percent(arm.before),
                    folder.name: _percent(arm.after),
                    "difference": f"{arm.difference * 100:+.1f}",
                    "95% interval": _interval(arm.interval),
                    "p (Holm)": _rounded(arm.holm_p, 3),
                    "better / worse": f"{arm.better} / {arm.worse}",
                }
                for arm in found.arms
            ],
            hide_index=True,
        )
        told = ", ".join(f"{run}: index {index['name']}, {index['generation']}" for run, index in ran.items())
        st.caption(plain(f"On the questions that both runs asked. {told}."))
        if found.only_in_one:
            st.caption(plain(f"In one run only: {', '.join(found.only_in_one)}."))


def _arm_row(arm: ArmFigures) -> dict[str, Any]:
    return {
        "arm": arm.name,
        "model": arm.model,
        "context": arm.context,
        ACCURACY.title: _percent(arm.accuracy.value),
        "95% interval": _interval(arm.accuracy.interval),
        **{one.title: one.show(arm.of(one).value) for one in MEASURES if one is not ACCURACY},
        "s/question": _rounded(arm.seconds_per_question, 2),
        "tokens/question": _rounded(arm.tokens_per_question, 0),
    }


def _rounded(number: float | None, digits: int) -> str:
    return "" if number is None else f"{number:,.{digits}f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.1%} to {bounds[1]:.1%}"


def show_disagreements(folder: Path, summary: Summary, manifest: Mapping[str, Any], arms: Sequence[str]) -> None:
    """Questions that one of two arms answers rightly and the other does not."""
    st.caption("Where two arms disagree: right by one, wrong by the other.")
    with st.container(horizontal=True):
        right = st.selectbox("Right", arms, key=f"right-{folder.name}")
        wrong = st.selectbox("Wrong", arms, index=len(arms) - 1, key=f"wrong-{folder.name}")
    questions = run_questions(manifest)
    predictions: dict[str, dict[str, Prediction]] = {}
    for _, record in read_jsonl(folder / PREDICTIONS):
        if record["split"] == "test" and record["question_id"] in questions:
            predictions.setdefault(record["question_id"], {})[record["arm"]] = Prediction.of_json(record)
    values = {(row.arm, row.question_id): row.of(ACCURACY) for row in read_scores(folder)}
    found = [key for key in predictions if (values.get((right, key)) or 0) > (values.get((wrong, key)) or 0)]
    st.caption(f"{len(found)} of {len(predictions)} questions are answered rightly by the first and not by the second.")
    if not found:
        return
    key = st.selectbox("Question", found, format_func=lambda key: questions[key].question)
    show_question(questions[key], predictions[key], summary.primary_score)


def run_questions(manifest: Mapping[str, Any]) -> dict[str, Question]:
    """The questions that this run has opened, by id."""
    ids = set(manifest["question_ids"])
    files = [Path(entry["path"]) for entry in manifest["questions"]]
    return {
        question.id: question
        for file in files
        for question in load_questions(file, split=None, opened_by="the run that is shown")
        if question.id in ids
    }


def show_question(question: Question, by_arm: Mapping[str, Prediction], score: Score) -> None:
    """One question: what each arm saw and said."""
    st.text(question.question)
    if question.choices is not None:
        st.text("\n".join(f"{'*' if at == question.answer_index else ' '} {text}" for at, text in enumerate(question.choices)))
    for arm, prediction in by_arm.items():
        choice = chosen(prediction, question, score)
        right = question.choices is not None and choice == question.choices[question.answer_index or 0]
        with st.expander(plain(arm), icon=":material/check_circle:" if right else ":material/cancel:"):
            if prediction.error:
                st.warning(plain(prediction.error))
            if choice is not None:
                st.caption("It finds likeliest:")
                st.text(choice)
            if prediction.outcome.answer is not None:
                st.caption("Its free answer:")
                st.text(prediction.outcome.answer or "(empty)")
            if prediction.passages:
                st.caption("Passages (* holds the answer):")
                marks = [
                    f"[{one.rank}]{'*' if one.holds_answer else ' '} {one.document_id}{'' if one.in_prompt else ' (did not fit)'}"
                    for one in prediction.passages
                ]
                st.text("\n".join(marks))
            with st.popover(f"Prompt ({prediction.prompt_tokens:,} tokens)"):
                st.code(prediction.prompt, language=None, wrap_lines=True)


def main() -> None:
    st.header("Evaluate")
    run_form()
    runs = finished_runs()
    if not runs:
        st.info("No run is finished yet. The experiment demo takes a few minutes; in a terminal:")
        st.code("rag-vs-ft eval eval/experiments/quick.toml --skip-missing", language=None, wrap_lines=True)
        return
    name = st.selectbox("Run", runs, key="run", bind="query-params")
    with shown_errors(f"Reading the run {name}"):
        show_run(home().results / name)


main()
