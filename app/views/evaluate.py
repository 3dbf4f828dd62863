"""Experiments: run one, look at the figures, and read the questions on which two arms disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import streamlit as st
from addressed import choose, say_nothing_is_there
from progress_panel import show_job, start_job
from resources import home, open_index, page_title, plain, shown_errors

from rag_vs_ft.corpus import store
from rag_vs_ft.evaluation import plots, ratings
from rag_vs_ft.evaluation.compare import compare_runs
from rag_vs_ft.evaluation.experiments import ChoiceScore, Experiment, load_experiment
from rag_vs_ft.evaluation.figures import SUMMARY, UPDATES, ArmFigures, Summary, read_answers, read_summary
from rag_vs_ft.evaluation.harness import DEMO
from rag_vs_ft.evaluation.manifest import FinishedManifest, read_finished
from rag_vs_ft.evaluation.measures import ACCURACY, chosen
from rag_vs_ft.evaluation.predictions import Passage, Prediction
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.evaluation.render import NONE, Section, p_value, percent, points, span
from rag_vs_ft.evaluation.report import sections
from rag_vs_ft.evaluation.verdict import can_be_given, why_wrong
from rag_vs_ft.index import opening
from rag_vs_ft.index.qdrant import is_published
from rag_vs_ft.records import Question


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
            run_name = st.text_input("Name of the run", f"{name}-{limit}" if limit else name)
            st.caption(
                "Arms whose model is missing are left out and named. A run that was cancelled goes on where it stopped "
                "when it is run again under its name."
            )
            missing = experiment.index not in opening.all_indexes(home())
            if missing:
                st.caption(plain(f"There is no index {experiment.index} yet."))
                st.page_link("views/index.py", label="Add documents, or build the sample", icon=":material/arrow_forward:")
            behind = not missing and is_behind(experiment)
            if behind:
                st.caption(plain(f"The index {experiment.index} is not of its documents as they are now: update it first."))
                where = {"index": experiment.index, "view": "Generations"}
                st.page_link("views/index.py", label="Update the index", icon=":material/sync:", query_params=where)
            if st.button("Run", type="primary", disabled=running or missing or behind or not run_name):
                start_job("evaluate", f"Running {run_name}", experiment=str(files[name]), run=run_name, limit=limit or None)
                st.rerun()


def is_behind(experiment: Experiment) -> bool:
    """Whether the index is of other documents than the corpus has now, as after a roll back: evaluation refuses that."""
    if is_published(experiment.index) or not store.has_corpus(experiment.corpus, home()):
        return False
    made_of = open_index(experiment.index).manifest.inputs.corpus.sha256
    return made_of != store.open_corpus(experiment.corpus, home()).sha256


def finished_runs() -> list[str]:
    """Runs that have a summary, newest first."""
    found = [path for path in home().results.glob(f"*/{SUMMARY}") if path.is_file()]
    return [path.parent.name for path in sorted(found, key=lambda path: -path.stat().st_mtime)]


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(folder: Path, written: int) -> tuple[Summary, FinishedManifest, list[Section]]:
    """Figures and manifest of a run, and what a report says of them; `written` changes when the run is written anew."""
    summary, manifest = read_summary(folder), read_finished(folder)
    return summary, manifest, sections(summary, manifest, None)


def read_run(folder: Path) -> tuple[Summary, FinishedManifest, list[Section]]:
    """What `_read` says, of the files as they are now."""
    return _read(folder, (folder / SUMMARY).stat().st_mtime_ns)


def show_run(folder: Path) -> None:
    """One run: its result, its questions, and how it differs from another one."""
    summary, manifest, said = read_run(folder)
    scored = summary.scored
    views = ["Result", "Report"]
    views += ["Questions"] if len(scored) > 1 else []
    views += ["Freshness"] if summary.freshness or any(UPDATES in arm.by_tag for arm in scored) else []
    views += ["Against another run"] if scored and len(finished_runs()) > 1 else []
    if st.session_state.get("shown") not in views:  # another run was chosen, which has no such view
        st.session_state.pop("shown", None)
    view = st.segmented_control("View", views, default="Result", required=True, key="shown", label_visibility="collapsed")
    if view == "Questions":
        show_disagreements(folder, summary, manifest)
    elif view == "Freshness":
        show_freshness(folder, manifest, summary)
    elif view == "Against another run":
        show_other_run(folder)
    elif view == "Report":
        for section in said[1:]:
            with st.expander(plain(section.title)):
                show_section(section)
    else:
        show_result(folder, summary, said[0])


def show_result(folder: Path, summary: Summary, result: Section) -> None:
    """The verdict, the picture, the table and what they rest on."""
    decision, *_ = result.paragraphs
    st.info(plain(decision), icon=":material/gavel:")
    show_section(replace(result, paragraphs=()))
    if (report := folder / "report.html").is_file():
        ratings.update(folder, summary)
        st.download_button(
            "The report as a file",
            report.read_bytes(),
            f"{folder.name}.html",
            "text/html",
            icon=":material/download:",
            on_click="ignore",
        )


def show_section(section: Section) -> None:
    """A section of a report: paragraphs, figure, table and notes."""
    for text in section.paragraphs:
        st.markdown(plain(text))
    if section.svg:
        ink = "#fafafa" if st.context.theme.type == "dark" else "#31333f"
        st.image(plots.as_image(section.svg, ink), width="stretch", alt=section.figure_says)
        st.caption(plain(section.figure_says))
    if section.table:
        heads, *rows = _on_a_phone(section.table)
        # An arm may be called like another column.
        names = [head + "\u200b" * heads[:at].count(head) for at, head in enumerate(heads)]
        st.dataframe([dict(zip(names, row, strict=True)) for row in rows], hide_index=True)
    for text in section.notes:
        st.caption(plain(text))


def _on_a_phone(table: Sequence[Sequence[str]]) -> list[list[str]]:
    """A table whose columns that say what an arm is stand last: a phone shows the first ones, and they should decide."""
    last = [at for at, head in enumerate(table[0]) if head in ("model", "context")]
    order = [at for at in range(len(table[0])) if at not in last] + last
    return [[row[at] for at in order] for row in table]


def show_freshness(folder: Path, manifest: FinishedManifest, summary: Summary) -> None:
    """Do the arms know what the documents say since they were changed?"""
    st.caption("Questions about facts that an update of the documents has changed: does an arm find the new fact likelier?")
    rows = [
        {
            "arm": arm.name,
            "questions": found.n,
            "new fact preferred": percent(found.choice_accuracy),
            "95% interval": span(found.choice_accuracy_ci),
        }
        for arm in summary.scored
        if (found := arm.by_tag.get(UPDATES))
    ]
    if guess := summary.freshness:
        larger = {"questions": guess.n, "new fact preferred": percent(guess.larger_number), "95% interval": NONE}
        rows.append({"arm": "no model: the larger number", **larger})
    st.dataframe(rows, hide_index=True)
    st.caption(plain(f"Index {manifest.index.name}, {manifest.index.generation}."))
    if len(finished_runs()) < 2:
        st.caption("Run the experiment on the index before the update too, and both runs are compared here.")
        return
    show_other_run(folder, only={key for key, question in run_questions(manifest).items() if UPDATES in question.tags})


def show_other_run(folder: Path, only: Collection[str] | None = None) -> None:
    """Each arm in this run against the same arm in another one."""
    others = [name for name in finished_runs() if name != folder.name]
    other = st.selectbox("What was it before? Another run of these arms", others, key="other")
    with shown_errors("Comparing the runs"):
        found = compare_runs(folder.parent / other, folder, only=only)
        ran = {run: read_finished(folder.parent / run).index for run in (other, folder.name)}
        st.dataframe(
            [
                {
                    "arm": arm.arm,
                    "questions": arm.questions,
                    other: percent(arm.before),
                    folder.name: percent(arm.after),
                    "difference": points(arm.difference),
                    "95% interval": span(arm.interval),
                    "p (Holm)": p_value(arm.holm_p),
                    "smallest difference": NONE if arm.detectable is None else f"{arm.detectable * 100:.1f}",
                    "better / worse": f"{arm.better} / {arm.worse}",
                }
                for arm in found.arms
            ],
            hide_index=True,
        )
        told = ", ".join(f"{run}: index {index.name}, {index.generation}" for run, index in ran.items())
        st.caption(plain(f"On the questions that both runs asked. {told}."))
        if found.only_in_one:
            st.caption(plain(f"In one run only: {', '.join(found.only_in_one)}."))


def show_disagreements(folder: Path, summary: Summary, manifest: FinishedManifest) -> None:
    """Questions that one of two arms answers rightly and the other does not, one after the other."""
    st.caption("Where two arms disagree: right by one, wrong by the other.")
    ranked = sorted(summary.scored, key=lambda arm: -arm.right)
    names = [arm.name for arm in ranked]
    questions = run_questions(manifest)
    predictions: dict[str, dict[str, Prediction]] = {}
    values: dict[tuple[str, str], float] = {}
    for prediction, score in read_answers(folder):
        if prediction.question_id in questions:
            predictions.setdefault(prediction.question_id, {})[prediction.arm] = prediction
            values[prediction.arm, prediction.question_id] = score.of(ACCURACY) or 0.0

    def differ(right: str, wrong: str) -> list[str]:
        return [key for key in predictions if values.get((right, key), 0.0) > values.get((wrong, key), 0.0)]

    first = usual_pair(summary, ranked, differ)
    with st.container(horizontal=True):
        right = st.selectbox("Right", names, index=names.index(first[0]), key=f"right-{folder.name}")
        wrong = st.selectbox("Wrong", names, index=names.index(first[1]), key=f"wrong-{folder.name}")
    found = differ(right, wrong)
    st.caption(f"{len(found)} of {len(predictions)} questions are answered rightly by the first and not by the second.")
    if not found:
        some = [plain(f"{one} right, {other} wrong") for one in names for other in names if differ(one, other)]
        st.caption(
            f"Choose another pair: {'; '.join(some[:3])}." if some else "No two arms disagree on any question of this run."
        )
        return
    models = {arm.name: arm.model for arm in ranked}
    # "the search missed: ..." and its like: the text before the colon is the kind.
    reasons = {key: why_wrong(predictions[key][wrong], models[wrong]) for key in found}
    kinds = Counter(reason.partition(":")[0] for reason in reasons.values())
    st.caption(plain(f"Why {wrong} was wrong: {', '.join(f'{kind} ({count})' for kind, count in kinds.most_common())}."))
    chosen_key = f"question {folder.name} {right} {wrong}"
    if st.session_state.get(chosen_key) not in found:
        st.session_state[chosen_key] = found[0]
    at = found.index(st.session_state[chosen_key])

    def go(step: int) -> None:
        st.session_state[chosen_key] = found[at + step]

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Previous", on_click=go, args=(-1,), disabled=at == 0)
        st.button("Next", on_click=go, args=(1,), disabled=at == len(found) - 1)
        label = f"Question {at + 1} of {len(found)}"
        key = st.selectbox(label, found, format_func=lambda key: questions[key].question, key=chosen_key)
    st.warning(plain(f"{wrong} was wrong: {reasons[key]}."))
    show_question(questions[key], predictions[key], summary.primary_score)


def usual_pair(summary: Summary, ranked: Sequence[ArmFigures], differ: Callable[[str, str], Sequence[str]]) -> tuple[str, str]:
    """Of arms in the order of their scores, the best that a user can be given and the baseline, if they disagree anywhere; else
    the first two that do."""
    names = [arm.name for arm in ranked]
    best = next((arm.name for arm in ranked if can_be_given(arm)), names[0])
    before = [summary.baseline] if summary.baseline in names else []
    pairs = [(best, other) for other in [*before, *reversed(names)]] + [
        (one, other) for one in names for other in reversed(names)
    ]
    return next((pair for pair in pairs if differ(*pair)), (best, next(name for name in reversed(names) if name != best)))


def run_questions(manifest: FinishedManifest) -> dict[str, Question]:
    """The questions that this run has opened, by id."""
    ids = set(manifest.question_ids)
    return {
        question.id: question
        for file in manifest.identity.questions
        for question in load_questions(Path(file.path), split=None, opened_by="the run that is shown")
        if question.id in ids
    }


def show_question(question: Question, by_arm: Mapping[str, Prediction], score: ChoiceScore) -> None:
    """One question: what each arm saw and said."""
    st.text(question.question)
    if question.choices is not None:
        # Streamlit strips spaces at the start of a text.
        st.text("\n".join(f"{'*' if at == question.answer_index else '-'} {text}" for at, text in enumerate(question.choices)))
        st.caption("\\* the right choice")
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
                st.caption("Passages (\\* holds the answer, - does not):")
                st.text("\n".join(map(_passage, prediction.passages)))
            with st.popover(f"Prompt ({prediction.prompt_tokens:,} tokens)"):
                st.code(prediction.prompt, language=None, wrap_lines=True)


def _passage(passage: Passage) -> str:
    mark, room = "*" if passage.holds_answer else "-", "" if passage.in_prompt else " (did not fit)"
    return f"{mark} [{passage.rank}] {passage.document_id}{room}"


def main() -> None:
    page_title("Evaluate")
    run_form()
    runs = finished_runs()
    if not runs:
        st.caption("No run is finished yet. The experiment demo takes a few minutes.")
        say_nothing_is_there("Run", "run")
        return
    name = choose("Run", runs, "run")
    with shown_errors(f"Reading the run {name}"):
        show_run(home().results / name)


main()
