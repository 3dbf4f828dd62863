"""What a visitor sees when nothing has been built: one click to the sample."""

from __future__ import annotations

import streamlit as st
from add_documents import add_documents_form
from progress_panel import show_job, start_job
from resources import home, page_title

from rag_vs_ft import catalogue, settings
from rag_vs_ft.index import opening

_JOB = "Building the sample"


def index_names() -> list[str]:
    """The indexes of this home. When there is none, offer the sample and end the page here."""
    names = opening.all_indexes(home())
    if not names:
        _offer_sample()
        st.stop()
    return names


def offer_documents() -> None:
    """What a page says that works on documents when there are none."""
    st.info("There are no documents yet.")
    st.page_link("views/index.py", label="Add documents, or build the sample", icon=":material/arrow_forward:")


def _offer_sample() -> None:
    models = [catalogue.info(name) for name in (settings.EMBEDDER, settings.LANGUAGE_MODEL)]
    missing = [f"{model['name']} ({(model['bytes'] or 0) / 1e6:.0f} MB)" for model in models if model["state"] != "ready"]
    page_title("Nothing has been indexed yet")
    st.write(
        "Here a small language model on this machine answers questions from your own documents, and you see which way of giving "
        "it that knowledge answers best."
    )
    st.write(
        "Start with the sample: a small handbook of Azure, in 74 articles, that comes with this program. "
        "It is read, cut into passages, and indexed for search by words (BM25) and by meaning (FAISS)."
    )
    st.write(
        f"First these models are downloaded, once: {', '.join(missing)}."
        if missing
        else "The models it needs are on this machine; nothing is downloaded, and it takes well under a minute."
    )
    if show_job("sample") is None:
        if st.button("Build the sample", type="primary", icon=":material/play_arrow:"):
            start_job("sample", _JOB)
            st.rerun()
        st.subheader("Or begin with documents of your own")
        add_documents_form()
