"""The app: `rag-vs-ft app` runs this file. Pages are thin; what they do is in the library."""

import streamlit as st
from frame import draw_frame
from progress_panel import forget_ended
from resources import NotThere, shown_errors

page = st.navigation(
    {
        "Use": [
            st.Page("views/ask.py", title="Ask", default=True),
            st.Page("views/compare.py", title="Compare"),
            st.Page("views/rate.py", title="Rate"),
            st.Page("views/feedback.py", title="Feedback"),
        ],
        "Look inside": [
            st.Page("views/index.py", title="Index"),
            st.Page("views/tokens.py", title="Tokens"),
        ],
        "Experiment": [
            st.Page("views/evaluate.py", title="Evaluate"),
            st.Page("views/choose.py", title="Choose"),
            st.Page("views/train.py", title="Training", url_path="training"),
            st.Page("views/work.py", title="Work"),
        ],
    }
)
# No icons here or on the pages: for the browser's tab they are fetched from a server of Google's.
st.set_page_config(page_title=f"{page.title} - rag-vs-ft", layout="wide")
if st.session_state.get("page") != page.title:
    st.session_state["page"] = page.title
    forget_ended()
draw_frame()
try:
    with shown_errors(f"The page {page.title}"):
        page.run()
except NotThere as missing:  # the page ends here
    missing.show()
