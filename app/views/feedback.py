"""What people said of answers: thumbs and notes, to be read and taken away."""

from __future__ import annotations

import streamlit as st
from resources import home, page_title, shown_errors

from rag_vs_ft.feedback import as_json_lines, read_feedback

THUMBS = {1: "up", 0: "down"}


def main() -> None:
    page_title("Feedback")
    with shown_errors("Reading the feedback"):
        found = read_feedback(home())
        if not found:
            st.info("No feedback yet. Under each answer are two thumbs and a note.")
            st.page_link("views/ask.py", label="Ask something", icon=":material/arrow_forward:")
            return
        thumbs = [row["thumb"] for row in found]
        st.caption(f"Of {len(found)} answers: {thumbs.count(1)} thumbs up, {thumbs.count(0)} down. The newest first.")
        st.download_button(
            "Export all",
            lambda: as_json_lines(found),
            "feedback.jsonl",
            "application/jsonl",
            icon=":material/download:",
            on_click="ignore",
        )
        st.dataframe(
            [
                {
                    "thumb": THUMBS.get(row["thumb"], ""),
                    "question": row["question"],
                    "answer": row["answer"],
                    "note": row["note"],
                    "model": row["model"],
                    "index": row["index_name"],
                    "when": row["time"][:16].replace("T", " "),
                }
                for row in reversed(found)
            ],
            hide_index=True,
        )


main()
