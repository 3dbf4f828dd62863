"""Choose: the whole comparison on one corpus, within a budget of hours."""

from __future__ import annotations

import streamlit as st
from progress_panel import show_job, start_job
from resources import home, page_title, plain, shown_errors

from rag_vs_ft import files
from rag_vs_ft.choose import CHOSEN
from rag_vs_ft.corpus import store


def main() -> None:
    page_title("Choose")
    st.caption(
        "Which way of giving a small model these documents answers best? Questions are mined from them, models are trained as "
        "far as the hours allow, and all are compared. What was stopped goes on when it is started again with the same hours."
    )
    names = store.names(home())
    if not names:
        st.info("There is no corpus yet. Add one on the page Index.")
        return
    running = show_job("choose") is not None
    corpus = st.selectbox("Corpus", names)
    hours = st.number_input("Hours", 0.1, 100.0, 2.0, step=0.5)
    if st.button("Start", type="primary", disabled=running):
        with shown_errors("Starting the comparison"):
            start_job("choose", f"Choosing for {corpus}", corpus=corpus, hours=hours)
            st.rerun()
    path = home().results / f"choose-{corpus}" / CHOSEN
    if path.is_file():
        with shown_errors("Reading the results"):
            found = files.read_json(path, "run it again")
            st.subheader("What came of it")
            for line in str(found.get("verdict", "")).splitlines():
                st.markdown(plain(line))
            for line in found.get("more_hours", ()):
                st.caption(plain(f"More hours: {line}"))


main()
