"""What stands around every page: the product's name, and the work that is going on."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from progress_panel import POLL_SECONDS
from resources import home, plain

from rag_vs_ft import jobs

_STYLE = """<style>
.stMainBlockContainer { padding-top: 3.5rem; padding-bottom: 4rem; }
#linked, [class*=st-key-turn-] { scroll-margin-top: 5rem; }
[data-testid=stStatusWidget] button { display: none; }
.readable { overflow-wrap: anywhere; }
.readable mark { background: rgba(255, 196, 0, 0.35); color: inherit; border-radius: 3px; padding: 0 1px; }
.readable table { border-collapse: collapse; margin: 0.5rem 0 1rem; display: block; overflow-x: auto; }
.readable th, .readable td { border: 1px solid rgba(128, 128, 128, 0.35); padding: 0.25rem 0.6rem; }
.readable th, .readable td { text-align: left; overflow-wrap: normal; }
.readable > :last-child { margin-bottom: 0; }
@media (max-width: 640px) { [data-testid=stImage] { overflow-x: auto; } [data-testid=stImage] img { min-width: 38rem; }
  [data-testid=stElementToolbar] { display: none; } }
@media print {
  .stSidebar, .stAppHeader, .stBottom, [data-testid=stChatInput] { display: none !important; }
  .stApp, .stMain, .stAppViewContainer { position: static !important; height: auto !important; overflow: visible !important; }
  .stMainBlockContainer { padding: 0 !important; }
  html, body, .stApp, .stApp * { color: #111 !important; background-color: transparent !important; }
  .stApp svg text { fill: #111 !important; }
  .readable mark { text-decoration: underline; }
}
</style>"""
"""Streamlit's own Stop is hidden: it ends the drawing of a page, which then looks as if the work went on for ever."""
_DARK = """<style>
@media print { .stApp canvas, [data-testid=stImage] img { filter: invert(1) hue-rotate(180deg); } }
</style>"""
"""Tables and figures are drawn in light colours then, which paper does not show."""


def draw_frame() -> None:
    """Draw what every page has; costs one look at the jobs, and is drawn again only while one runs."""
    st.html(_STYLE + (_DARK if st.context.theme.type == "dark" else ""))
    st.logo(str(Path(__file__).with_name("logo.svg")), size="large", link=None)
    with st.sidebar:
        running = any(job.running for job in jobs.list_jobs(home()))
        st.fragment(_running_work, run_every=POLL_SECONDS if running else None)()


def _running_work() -> None:
    for job in jobs.list_jobs(home()):
        if job.running:
            st.page_link("views/work.py", label=plain(job.title), icon=":material/hourglass_top:")
