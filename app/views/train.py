"""Training runs: start one, watch its curves, and see what the model writes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from jobs import find_job, show_job, start_job
from resources import home, load_model, plain, shown_errors

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import CheckFailed
from rag_vs_ft.models.generation import generate
from rag_vs_ft.models.prompting import continue_text
from rag_vs_ft.records import Progress
from rag_vs_ft.training import runs
from rag_vs_ft.training.record import RECORD, read_record

PRESET = "nano"
CURVES = (
    ("Loss (nats per token)", ("loss", "validation_loss")),
    ("Bits per byte", ("bits_per_byte",)),
    ("Learning rate", ("learning_rate",)),
    ("Tokens per second", ("tokens_per_second",)),
)


def train_command(corpus: str, run: str, steps: int, *, resume: bool) -> list[str]:
    """The words of the command that trains the preset on a corpus."""
    if resume:
        return ["train", "--run", run, "--resume", "--home", str(home().root)]
    words = ["train", "scratch", "--corpus", corpus, "--preset", PRESET, "--run", run, "--home", str(home().root)]
    return [*words, *(["--set", f"steps={steps}"] if steps else [])]


def training(command: list[str], folder: Path) -> Callable[[Progress], str]:
    """The work of training in a process of its own, which a failure or a cancel ends and the app survives."""

    def work(progress: Progress) -> str:
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            words = [sys.executable, "-m", "rag_vs_ft", *command]
            process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, text=True)
            try:
                while process.poll() is None:
                    progress("steps", *_steps(folder))
                    time.sleep(0.5)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(30)
            said.seek(0)
            lines = said.read().strip().splitlines() or ["it said nothing"]
        if process.returncode:
            raise CheckFailed(f"the training ended with exit code {process.returncode}: {' '.join(lines[-3:])}", shown(command))
        return lines[-1]

    return work


def _steps(folder: Path) -> tuple[int, int]:
    rows = runs.read_metrics(folder)
    plan = read_record(folder).plan if (folder / RECORD).is_file() else None
    return (rows[-1]["step"] if rows else 0), plan.steps if plan else 0


def shown(command: list[str]) -> str:
    """A command as it is typed."""
    return " ".join(["rag-vs-ft", *command])


def start_form(names: list[str]) -> None:
    """Start the smallest preset from here; larger ones are for the command line."""
    key = f"train {home().root}"
    running = show_job(key)
    job = find_job(key)
    if job is not None and job.result is not None:
        st.success(plain(job.result))
    with st.expander(f"Train a {PRESET} model from scratch", icon=":material/play_arrow:", expanded=not names):
        corpora = [info.name for info in store.list_corpora(home())]
        if not corpora:
            st.caption("There is no corpus yet. In a terminal:")
            st.code("rag-vs-ft corpus add sample sample", language=None, wrap_lines=True)
            return
        st.caption(
            "Some five million parameters that learn the documents alone: minutes on a CPU, and it shows how little that is."
        )
        corpus = st.selectbox("Corpus", corpora)
        name = st.text_input("Name of the run", f"{PRESET}-{corpus}", max_chars=100)
        steps = st.number_input("Steps (0: as the preset says)", 0, 100_000, 0)
        resume = name in names
        command = train_command(corpus, name, steps, resume=resume)
        st.code(shown(command), language=None, wrap_lines=True)
        if st.button("Resume" if resume else "Train", type="primary", disabled=running or not name):
            with shown_errors("Starting the training"):
                start_job(key, f"Training {name}", training(command, runs.run_folder(home(), name)))
                st.rerun()


def show_run(folder: Path) -> None:
    """What the run is, how it goes, and what it writes."""
    record = read_record(folder)
    plan, result = record.plan, record.result
    with st.container(horizontal=True):
        st.metric("State", record.state)
        st.metric("Parameters", _short(plan.parameters if plan else None))
        st.metric("Trained tokens", _short(plan.train_tokens if plan else None))
        if result:
            st.metric("Best bits per byte", f"{result.best_bits_per_byte:.3f}", help=f"At step {result.best_step:,}.")
    learned = record.corpus.name if record.corpus else "records"
    st.caption(plain(f"{record.arm}, preset {record.preset}, {learned}, {plan.device if plan else ''}"))
    for warning in plan.warnings if plan else ():
        st.warning(plain(warning))
    show_curves(folder)
    if record.state != "finished":
        words = ["train", "--run", folder.name, "--resume"]
        st.caption("Should it be stopped, it goes on with:")
        st.code(shown([*words, "--home", str(home().root)]), language=None, wrap_lines=True)
    with st.expander("Settings", icon=":material/tune:"):
        st.json(record.settings)
    if (folder / "last").exists():
        show_sample(folder.name)


def _short(number: int | None) -> str:
    if number is None:
        return "unknown"
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return str(number)


def show_curves(folder: Path) -> None:
    """The metrics so far, drawn again every few seconds while the run goes on."""
    going = read_record(folder).state != "finished"
    st.fragment(_curves, run_every=3 if going else None)(folder)


def _curves(folder: Path) -> None:
    by_step: dict[int, dict[str, Any]] = {}
    for row in runs.read_metrics(folder):
        by_step.setdefault(row["step"], {}).update(row)
    if not by_step:
        st.caption("Nothing is logged yet.")
        return
    for first in range(0, len(CURVES), 2):
        for column, (title, keys) in zip(st.columns(2), CURVES[first : first + 2], strict=True):
            points = [
                {"step": step, "value": values[key], "curve": key.replace("_", " ")}
                for step, values in sorted(by_step.items())
                for key in keys
                if key in values
            ]
            with column:
                st.caption(title)
                if points:
                    st.altair_chart(_lines(points, several=len(keys) > 1))


def _lines(points: list[dict[str, Any]], *, several: bool) -> Any:
    """A line chart whose axis begins near the lowest value: what matters is how a curve bends."""
    import altair as alt

    encoded: dict[str, Any] = {
        "x": alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickMinStep=1)),
        "y": alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
        "tooltip": ["step:Q", "value:Q", "curve:N"],
    }
    if several:
        encoded["color"] = alt.Color("curve:N", legend=alt.Legend(orient="top-right", title=None))
    return alt.Chart(alt.Data(values=points)).mark_line(point=True).encode(**encoded).properties(height=220)


def show_sample(name: str) -> None:
    """The model goes on with a text."""
    st.subheader("What it writes")
    text = st.text_input("Begin with", "An AKS cluster", max_chars=1_000)
    if st.button("Go on", icon=":material/edit:"):
        shared = load_model(name)
        box, pieces = st.empty(), [text]
        with shared.taken():
            for piece in generate(shared.lm, continue_text(shared.lm, text), max_new_tokens=80, temperature=0.8, top_p=0.95):
                pieces.append(piece)
                box.text("".join(pieces))


def main() -> None:
    st.header("Training")
    found = [path.parent for path in home().runs.glob(f"*/{RECORD}")]
    start_form([folder.name for folder in found])
    if not found:
        st.info("No run yet. Larger models are trained in a terminal, such as:")
        st.code(
            f"rag-vs-ft train lora --corpus sample --preset {settings.LANGUAGE_MODEL} --run first-lora",
            language=None,
            wrap_lines=True,
        )
        return
    newest = sorted(found, key=lambda folder: -(folder / RECORD).stat().st_mtime)
    name = st.selectbox("Run", [folder.name for folder in newest], key="run", bind="query-params")
    with shown_errors(f"Reading the run {name}"):
        show_run(home().runs / name)


main()
