"""Jobs as a visitor sees them: progress with the time left, Cancel, and how each ended."""

from __future__ import annotations

import time
from textwrap import shorten
from typing import Any

import streamlit as st
from resources import home, plain, shown_errors

from rag_vs_ft import jobs
from rag_vs_ft.jobs import Job

POLL_SECONDS = 2.0
STAGES = {
    "starting": "Starting",
    "read": "Reading the documents",
    "read documents": "Reading the documents",
    "chunk": "Cutting the documents into passages",
    "embed": "Computing a vector of each passage's meaning",
    "bm25": "Indexing the words",
    "faiss": "Indexing the vectors",
    "documents": "Indexing whole documents",
    "encode": "Turning the texts into tokens",
    "plan": "Training, the first steps",
    "step": "Training, steps",
    "pull": "Downloading",
    "verify": "Comparing every file with its checksum",
    "index": "Looking at the index",
    "questions": "Making questions from the documents",
    "time a question": "Finding out how long a question takes",
    "time a step of lora": "Finding out how long a step of LoRA takes",
    "time a step of scratch": "Finding out how long a step of training from scratch takes",
}
"""What a stage is called on the page; others are shown by their own names."""
_STATES = {
    "running": ("hourglass_top", "is running"),
    "stopping": ("hourglass_bottom", "is stopping"),
    "finished": ("check_circle", "finished"),
    "failed": ("error", "failed"),
    "cancelled": ("cancel", "was stopped"),
    "died": ("error", "ended without a result"),
}


def start_job(work: str, title: str, **arguments: Any) -> Job:
    """Start a job, or join the running one of this title; the page that shows it tells this visitor how it ended."""
    job = jobs.start(home(), work, title, arguments)
    _watched().add(job.id)
    return job


def show_job(*work: str, title: str = "", failures: bool = False) -> Job | None:
    """Show the newest job of this kind: its progress, or how it ended to a visitor who saw it run; with `failures`, a failure to
    everyone. Gives it while it runs."""
    job = jobs.latest(home(), *work, title=title)
    if job is None:
        return None
    if job.running:
        _watched().add(job.id)
        show_progress(job.id)
        return job
    if job.id in _watched() or (failures and job.state in ("failed", "died")):
        show_end(job)
    return None


def just_finished(*work: str) -> Job | None:
    """The newest job of this kind, when it has finished and this visitor saw it run."""
    job = jobs.latest(home(), *work)
    return job if job is not None and job.state == "finished" and job.id in _watched() else None


def offer_model(name: str, says: str) -> None:
    """Say that a model is missing, and download it on a click."""
    if show_job("pull", title=f"Downloading {name}") is None:
        st.info(says)
        if st.button(f"Download {name}", icon=":material/download:", type="primary"):
            start_job("pull", f"Downloading {name}", name=name)
            st.rerun()


def forget_ended() -> None:
    """A visitor who goes to another page has read how the jobs of this one ended."""
    running = {job.id for job in jobs.list_jobs(home()) if job.running}
    st.session_state["watched jobs"] = _watched() & running


def _watched() -> set[str]:
    watched: set[str] = st.session_state.setdefault("watched jobs", set())
    return watched


@st.fragment(run_every=POLL_SECONDS)
def show_progress(id: str) -> None:
    """The progress of a running job and its Cancel; the page is drawn again when it ends."""
    job = jobs.find(home(), id)
    if not job.running:
        st.rerun()
    with st.container(border=True):
        st.markdown(f"**{plain(job.title)}** · {duration(job.seconds)}")
        share = job.done / job.total if job.total else 0.0
        st.progress(min(share, 1.0), plain(progress_line(job)))
        if job.detail:
            st.caption(plain(shorten(job.detail, 300, placeholder=" …")))
        if job.state == "stopping":
            st.caption("It stops as soon as it can.")
        label = "End it now" if job.state == "stopping" else "Cancel"
        st.button(label, key=f"cancel-{id}", icon=":material/stop_circle:", on_click=_cancel, args=(id,))


def _cancel(id: str) -> None:
    with shown_errors("Cancelling"):
        jobs.cancel(home(), id)


def progress_line(job: Job) -> str:
    """The stage of a running job in words, how much of it is done and the time it still takes."""
    parts = [STAGES.get(job.stage, job.stage)]
    if job.total:
        done = f"{job.done / 1e6:,.0f} of {job.total / 1e6:,.0f} MB" if job.total > 5e6 else f"{job.done:,} of {job.total:,}"
        parts.append(done)
    elif job.done:
        parts.append(f"{job.done:,}")
    if job.left is not None:
        parts.append(f"about {duration(job.left)} left")
    return ", ".join(parts)


def show_end(job: Job) -> None:
    """How a job ended: what it made or what went wrong, and the next step."""
    icon, word = _STATES[job.state]
    first, others = (job.notes[0] if job.notes else ""), job.notes[1:]
    if job.state == "finished":
        st.success(plain(first or f"{job.title} {word}."), icon=f":material/{icon}:")
        for note in others[:5]:
            st.warning(plain(note))
        if len(others) > 5:
            with st.expander(f"{len(others) - 5} more notes"):
                st.text("\n".join(others[5:]))
    elif job.state == "cancelled":
        said = " ".join(job.notes) or f"{job.title} {word}."
        st.info(plain(said[:1].upper() + said[1:]), icon=f":material/{icon}:")
    else:
        hint = f"  \n{plain(job.hint)}" if job.hint else ""
        st.error(f"{plain(f'{job.title} {word}: {first}')}{hint}", icon=f":material/{icon}:")


def show_record(job: Job) -> None:
    """One line on a job that has ended, with what is known of it inside."""
    icon, word = _STATES[job.state]
    started = time.strftime("%d %B, %H:%M", time.localtime(job.started))
    with st.expander(f"{plain(job.title)} {word}", icon=f":material/{icon}:"):
        st.caption(plain(f"Started {started}; took {duration(job.seconds)}"))
        for note in job.notes:
            st.text(note)
        if job.hint:
            st.caption(plain(job.hint))
        log = jobs.folder(home()) / f"{job.id}.log"
        if job.state in ("failed", "died") and log.is_file() and (said := log.read_text("utf-8", "replace").strip()):
            st.code("\n".join(said.splitlines()[-40:]), language=None, wrap_lines=True)


def duration(seconds: float) -> str:
    """Seconds as a reader says them: 40 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
