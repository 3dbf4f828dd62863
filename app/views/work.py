"""Long work: what runs and what ran, whoever started it."""

from __future__ import annotations

import streamlit as st
from progress_panel import show_progress, show_record
from resources import home, page_title

from rag_vs_ft import jobs


def main() -> None:
    page_title("Work")
    found = jobs.list_jobs(home())
    running = [job for job in found if job.running]
    for job in running:
        show_progress(job.id)
    if not running:
        st.caption("Nothing is running. Indexing, evaluation, training and downloads appear here while they run, and after.")
    ended = [job for job in found if not job.running]
    if ended:
        st.subheader("What ran")
        for job in ended:
            show_record(job)


main()
