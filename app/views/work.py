"""Long work: what runs and what ran, whoever started it."""

from __future__ import annotations

import time

import streamlit as st
from progress_panel import show_progress, show_record
from resources import home, moment, page_title, plain, shown_errors

from rag_vs_ft import jobs, schedules


def main() -> None:
    page_title("Work")
    found = jobs.list_jobs(home())
    running = [job for job in found if job.running]
    for job in running:
        show_progress(job.id)
    if not running:
        st.caption("Nothing is running. Indexing, evaluation, training and downloads appear here while they run, and after.")
    with shown_errors("Reading the schedules"):
        for name, schedule in sorted(schedules.read(home()).items()):
            st.caption(
                plain(f"{name} is updated {schedules.interval_of(schedule)}, next {moment(max(schedule.next, time.time()))}.")
            )
    ended = [job for job in found if not job.running]
    if ended:
        st.subheader("What ran")
        for job in ended:
            show_record(job)


main()
