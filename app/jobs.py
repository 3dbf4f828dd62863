"""Long work in threads of the server: it goes on while visitors change pages, and every visitor sees the same progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import streamlit as st
from resources import plain, show_error

from rag_vs_ft.records import Progress


class Cancelled(BaseException):
    """Raised in the work's next report of progress; not an Exception, so that no stage takes it for a failure of its own."""


class Job:
    """Work that was started: its progress, and how it ended."""

    def __init__(self, title: str, work: Callable[[Progress], Any]) -> None:
        self.title = title
        self.stage, self.done, self.total = "starting", 0, 0
        self.result: Any = None
        self.error: Exception | None = None
        self.cancelled = False
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True, name=title)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the work goes on."""
        return self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._started

    def wait(self, seconds: float) -> None:
        """Wait until the work has ended, at most so long."""
        self._thread.join(seconds)

    def _run(self, work: Callable[[Progress], Any]) -> None:
        try:
            self.result = work(self._report)
        except Cancelled:
            pass
        except Exception as error:  # shown to the visitor by `show_job`
            self.error = error

    def _report(self, stage: str, done: int, total: int) -> None:
        if self.cancelled:
            raise Cancelled
        self.stage, self.done, self.total = stage, done, total


@st.cache_resource(show_spinner=False)
def _jobs() -> dict[str, Job]:
    return {}


def find_job(key: str) -> Job | None:
    """The last job that was started under `key`, running or ended."""
    return _jobs().get(key)


def start_job(key: str, title: str, work: Callable[[Progress], Any]) -> None:
    """Start `work` in the background, unless a job of this key is running."""
    job = find_job(key)
    if job is None or not job.running:
        _jobs()[key] = Job(title, work)


def show_job(key: str) -> bool:
    """Show the progress, or once how the job failed, and say whether it is running; the page is drawn again when it ends."""
    job = find_job(key)
    if job is None:
        return False
    if job.running:
        _progress(key)
        return True
    if job.error is not None:
        show_error(job.error, job.title)
    if job.cancelled:
        st.info(f"{plain(job.title)} was cancelled; what is finished is kept for the next time.")
    return False


@st.fragment(run_every=0.5)
def _progress(key: str) -> None:
    job = find_job(key)
    if job is None or not job.running:
        st.rerun()
    of_total = f" {job.done:,} of {job.total:,}" if job.total else ""
    st.progress(
        min(job.done / job.total, 1.0) if job.total else 0.0,
        f"{plain(job.title)}: {plain(job.stage)}{of_total} ({job.seconds:.0f} s)",
    )
    if job.cancelled:
        st.caption("Stopping at the next step.")
    elif st.button("Cancel", key=f"cancel-{key}"):
        job.cancelled = True
        st.rerun(scope="fragment")
