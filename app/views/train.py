"""Training runs: start one, watch its curves, and see what the model writes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import streamlit as st
from addressed import choose, say_nothing_is_there
from first_start import offer_documents
from progress_panel import show_job, start_job
from resources import home, load_model, page_title, plain, shortened, shown_errors

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.jobs import Job
from rag_vs_ft.models import naming
from rag_vs_ft.models.generation import Sampling, generate
from rag_vs_ft.models.prompting import continue_text
from rag_vs_ft.training import runs
from rag_vs_ft.training.presets import TrainingArm
from rag_vs_ft.training.record import RECORD, read_record

WAYS: dict[str, tuple[TrainingArm, str, str]] = {
    "From scratch": (
        "scratch",
        "nano",
        "Some five million parameters that learn from the documents alone: minutes on a CPU, and it shows how little that is.",
    ),
    "LoRA": (
        "lora",
        settings.LANGUAGE_MODEL,
        f"A few parameters are added to {settings.LANGUAGE_MODEL} and trained: hours on a CPU, or fewer steps.",
    ),
    "All weights": (
        "finetune",
        settings.LANGUAGE_MODEL,
        f"All parameters of {settings.LANGUAGE_MODEL} are trained further: for a GPU, or for few steps.",
    ),
}
"""Arm and preset of each way to train, and what a reader should know of it."""
POLL_SECONDS = 5.0
SHOWN_SAMPLES = 5
CURVES = (
    ("Loss (nats per token)", ("loss", "validation_loss"), "~g"),
    ("Bits per byte", ("bits_per_byte",), "~g"),
    ("Learning rate", ("learning_rate",), "~g"),
    ("Tokens per second", ("tokens_per_second",), ",.0f"),
)
"""Title, keys of the metrics, and how d3 writes the numbers of the axis."""


def train_command(arm: str, preset: str, corpus: str, run: str, steps: int) -> list[str]:
    """The words of the command that trains the preset on a corpus."""
    words = ["train", arm, "--corpus", corpus, "--preset", preset, "--run", run, "--home", str(home().root)]
    return [*words, *(["--set", f"steps={steps}"] if steps else [])]


def shown(command: list[str]) -> str:
    """A command as it is typed."""
    return shlex.join(["rag-vs-ft", *command])


def start_training(work: str, run: str, **arguments: Any) -> None:
    """Train in a process of its own; the page then shows this run."""
    start_job(work, f"Training {run}", run=run, **arguments)
    st.session_state["follow"] = run
    st.rerun()


def run_names() -> list[str]:
    """The runs of this home, the newest first."""
    records = [path for path in home().runs.glob(f"*/{RECORD}") if path.is_file()]
    return [path.parent.name for path in sorted(records, key=lambda path: -path.stat().st_mtime)]


def follow(running: Job | None, names: list[str]) -> bool:
    """Show the run of a job that has begun instead of an older one; False while there is nothing of it yet."""
    state = st.session_state
    if running is not None and state.get("followed") != running.id:
        state["followed"] = running.id
        if "run" not in st.query_params:  # or else the visitor was sent the address of another run
            state["follow"] = running.arguments["run"]
    run = state.get("follow")
    if run is None:
        return True
    if run not in names and running is not None:
        st.fragment(_wait_for, run_every=POLL_SECONDS / 2)(run)
        return False
    del state["follow"]
    if run in names:
        st.query_params.pop("run", None)
        state["run"] = run
    return True


def _wait_for(run: str) -> None:
    if run in run_names():
        st.rerun()
    st.caption(f"{plain(run)} is being prepared; its curves begin here.")


def start_form(names: list[str], *, running: bool) -> None:
    """Start a preset from here; settings of one's own are for the command line."""
    corpora = usable_corpora()
    if not corpora:
        offer_documents()
        return
    with st.expander("Train a model", icon=":material/play_arrow:", expanded=not names):
        way = st.segmented_control("Way", WAYS, default=next(iter(WAYS)), required=True)
        arm, preset, about = WAYS[way]
        st.caption(about)
        corpus = st.selectbox("Corpus", corpora)
        name = st.text_input("Name of the run", f"{preset if arm == 'scratch' else arm}-{corpus}")
        steps = st.number_input("Steps (0: as the preset says)", 0, 100_000, 0)
        st.code(shown(train_command(arm, preset, corpus, name, steps)), language=None, wrap_lines=True)
        if name in names:
            st.caption(f"There is a run {plain(name)}: choose it below to look at it or to go on with it, or use another name.")
        if st.button("Train", type="primary", disabled=running or not name or name in names):
            with shown_errors("Starting the training"):
                runs.run_folder(home(), name)  # a name that no folder can have is reported here
                overrides = {"steps": str(steps)} if steps else {}
                start_training("train", name, arm=arm, corpus=corpus, preset=preset, overrides=overrides)


def usable_corpora() -> list[str]:
    """The corpora that can be read; the others are named with what is wrong with them."""
    found = []
    for folder in sorted(path.parent for path in home().corpora.glob("*/manifest.json")):
        with shown_errors(f"Opening the corpus {folder.name}"):
            store.open_corpus(folder.name, home())
            found.append(folder.name)
    return found


def kept_so_far(folder: Path) -> str:
    """What is there of a run that was stopped."""
    steps = sorted(runs.read_step(place) for place in (folder / "checkpoints").glob("step-*"))
    return f"Its last checkpoint is step {steps[-1]:,}." if steps else "No checkpoint was written yet, so it begins again."


def show_run(folder: Path, *, has_job: bool) -> None:
    """What the run is, how it goes, and what it writes. `has_job`: one runs for it, which holds the run soon."""
    record = read_record(folder)
    going = record.state != "finished" and (has_job or runs.being_trained(folder))
    st.fragment(_show_state, run_every=POLL_SECONDS if going else None)(folder, going=going, has_job=has_job)
    if record.state != "finished" and not going:
        offer_resume(folder)
    with st.expander("Settings", icon=":material/tune:"):
        st.json(record.settings)
    if (folder / "last").exists():
        show_sample(folder.name)


def _show_state(folder: Path, *, going: bool, has_job: bool) -> None:
    """State, figures and curves; drawn again every few seconds while the run is being trained."""
    record = read_record(folder)
    if going and not has_job and (record.state == "finished" or not runs.being_trained(folder)):
        st.rerun()  # of a job, the page is drawn again by the progress above
    plan, result = record.plan, record.result
    with st.container(horizontal=True):
        st.metric("State", record.state if going or record.state == "finished" else "stopped")
        if plan:
            st.metric("Parameters", _short(plan.parameters))
            st.metric("Trained tokens", _short(plan.train_tokens))
        if result:
            st.metric("Best bits per byte", f"{result.best_bits_per_byte:.3f}", help=f"At step {result.best_step:,}.")
    about = [record.arm, f"preset {record.preset}", record.corpus.name if record.corpus else "records"]
    st.caption(plain(", ".join([*about, *([plan.device] if plan else [])])))
    for warning in plan.warnings if plan else ():
        st.warning(plain(warning))
    if going and plan:
        offer_stop(folder)
    show_curves(folder)


def _short(number: int) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return str(number)


def offer_stop(folder: Path) -> None:
    """Let the process that trains end after its step, with a checkpoint, whoever started it."""

    def ask() -> None:
        with shown_errors("Stopping"):
            runs.ask_to_stop(folder)

    asked = runs.asked_to_stop(folder)
    says = "It writes a checkpoint after the step that is running, and can be resumed."
    st.button("Stop and keep", icon=":material/save:", disabled=asked, help=says, on_click=ask)
    if asked:
        st.caption("It stops after the step that is running.")


def offer_resume(folder: Path) -> None:
    """Go on with a run that was stopped; it remembers what it was started with."""
    st.caption(kept_so_far(folder))
    st.code(shown(["train", "--run", folder.name, "--resume", "--home", str(home().root)]), language=None, wrap_lines=True)
    if st.button("Resume", type="primary", icon=":material/resume:"):
        start_training("resume", folder.name)


def show_curves(folder: Path) -> None:
    """The metrics so far, and what the model wrote meanwhile."""
    by_step: dict[int, dict[str, Any]] = {}
    for row in runs.read_metrics(folder):
        by_step.setdefault(row["step"], {}).update(row)
    if not by_step:
        st.caption("Nothing is logged yet.")
        return
    for first in range(0, len(CURVES), 2):
        for column, (title, keys, numbers) in zip(st.columns(2), CURVES[first : first + 2], strict=True):
            points = [
                {"step": step, "value": values[key], "curve": key.replace("_", " ")}
                for step, values in sorted(by_step.items())
                for key in keys
                if key in values
            ]
            with column:
                st.caption(title)
                if len({point["step"] for point in points}) == 1:
                    st.text(", ".join(f"{point['curve']} {point['value']:.4g} at step {point['step']:,}" for point in points))
                elif points:
                    st.altair_chart(_lines(points, numbers, several=len(keys) > 1))
                else:
                    st.text("After the first evaluation.")
    show_samples(folder)


def show_samples(folder: Path) -> None:
    """What the model wrote at its evaluations, the newest first."""
    samples = runs.read_metrics(folder, runs.SAMPLES)
    if not samples:
        return
    st.caption("What it wrote when it was evaluated, after the beginning of a held-out text")
    st.text(f"{samples[-1]['prompt'].strip()} …")
    for sample in reversed(samples[-SHOWN_SAMPLES:]):
        with st.container(border=True):
            st.caption(f"Step {sample['step']:,}")
            st.text("\n".join(line for line in f"… {sample['text']}".splitlines() if line.strip()))


def _lines(points: list[dict[str, Any]], numbers: str, *, several: bool) -> Any:
    """A line chart whose axis begins near the lowest value: what matters is how a curve bends."""
    import altair as alt

    encoded: dict[str, Any] = {
        "x": alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickMinStep=1)),
        "y": alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format=numbers, tickCount=5)),
        "tooltip": ["step:Q", "value:Q", "curve:N"],
    }
    if several:
        encoded["color"] = alt.Color("curve:N", legend=alt.Legend(orient="top", title=None))
    return alt.Chart(alt.Data(values=points)).mark_line(point=True).encode(**encoded).properties(height=220)


def show_sample(name: str) -> None:
    """The model goes on with a text."""
    st.subheader("What it writes")
    text = shortened(st.text_input("Begin with", "An AKS cluster"), 1_000, "The text")
    if st.button("Go on", icon=":material/edit:"):
        shared = load_model(naming.run_name(name, home()))
        box, pieces = st.empty(), [text]
        with shared.taken():
            for piece in generate(shared.lm, continue_text(shared.lm, text), max_new_tokens=80, sampling=Sampling(0.8, 0.95)):
                pieces.append(piece)
                box.text("".join(pieces))


def main() -> None:
    page_title("Training")
    names = run_names()
    running = show_job("train", "resume")
    start_form(names, running=running is not None)
    if not follow(running, names):
        return
    if not names:
        say_nothing_is_there("Run", "run")
        return
    name = choose("Run", names, "run")
    with shown_errors(f"Reading the run {name}"):
        show_run(home().runs / name, has_job=running is not None and running.arguments["run"] == name)


main()
