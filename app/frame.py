"""What stands around every page: the product's name, and the work that is going on."""

from __future__ import annotations

import streamlit as st
from progress_panel import POLL_SECONDS
from resources import home, plain

from rag_vs_ft import jobs

_STYLE = """<style>
.stMainBlockContainer { padding-top: 3.5rem; padding-bottom: 4rem; }
@media print {
  .stSidebar, .stAppHeader, .stBottom, [data-testid=stChatInput] { display: none !important; }
  .stApp, .stMain, .stAppViewContainer { position: static !important; height: auto !important; overflow: visible !important; }
  .stMainBlockContainer { padding: 0 !important; }
}
</style>"""


def draw_frame() -> None:
    """Draw what every page has; costs one look at the jobs, and is drawn again only while one runs."""
    st.html(_STYLE)
    with st.sidebar:
        running = any(job.running for job in jobs.list_jobs(home()))
        st.fragment(_running_work, run_every=POLL_SECONDS if running else None)()


def _running_work() -> None:
    for job in jobs.list_jobs(home()):
        if job.running:
            share = f" {job.done / job.total:.0%}" if job.total else ""
            st.page_link("views/work.py", label=plain(f"{job.title}:{share} {job.stage}"), icon=":material/hourglass_top:")
