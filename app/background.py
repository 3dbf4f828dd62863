"""Short work in a thread of the server, for what must be loaded here and not in another process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from rag_vs_ft.jobs import Cancelled
from rag_vs_ft.progress import Progress


class Background:
    """Work in a thread: its stage, and how it ended."""

    def __init__(self, title: str, work: Callable[[Progress], Any]) -> None:
        self.title = title
        self.stage = ""
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

    def cancel(self) -> None:
        """End the work at its next step."""
        self.cancelled = True

    def wait(self, seconds: float) -> None:
        """Wait until the work has ended, at most so long."""
        self._thread.join(seconds)

    def _run(self, work: Callable[[Progress], Any]) -> None:
        try:
            self.result = work(self._report)
        except Cancelled:
            pass
        except Exception as error:  # shown where the result is waited for
            self.error = error

    def _report(self, stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if self.cancelled:
            raise Cancelled
        self.stage = stage


@st.cache_resource(show_spinner=False)
def _shared() -> dict[str, Background]:
    return {}


def shared(key: str, title: str, work: Callable[[Progress], Any]) -> Background:
    """The work of this key, which all visitors share; begun now unless it was before. Work that failed is begun again."""
    known = _shared().get(key)
    if known is None or (not known.running and known.error is not None):
        known = _shared()[key] = Background(title, work)
    return known
