"""What a visitor sees when nothing has been built: one click to the sample."""

from __future__ import annotations

import streamlit as st
from jobs import find_job, show_job, start_job
from resources import home

from rag_vs_ft import catalogue, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.demo import NAME
from rag_vs_ft.index import build, generations
from rag_vs_ft.records import Progress
from rag_vs_ft.settings import Home

_JOB = "first-start"


def index_names() -> list[str]:
    """The indexes of this home. When there is none, offer the sample and end the page here."""
    names = generations.list_indexes(home())
    if not names:
        _offer_sample()
        st.stop()
    return names


def _offer_sample() -> None:
    models = [catalogue.info(name) for name in (settings.EMBEDDER, settings.LANGUAGE_MODEL)]
    missing = [f"{model['name']} ({(model['bytes'] or 0) / 1e6:.0f} MB)" for model in models if model["state"] != "ready"]
    st.header("Nothing has been indexed yet")
    st.write(
        "Start with the sample: a small handbook of Azure, in some sixty articles, that comes with this program. "
        "It is read, cut into passages, and indexed for search by words (BM25) and by meaning (FAISS)."
    )
    st.write(
        f"First these models are downloaded, once: {', '.join(missing)}."
        if missing
        else "The models it needs are on this machine; nothing is downloaded, and it takes well under a minute."
    )
    if not show_job(_JOB):
        if st.button("Build the sample", type="primary", icon=":material/play_arrow:"):
            place = home()
            start_job(_JOB, "Building the sample", lambda progress: build_sample(place, progress))
            st.rerun()
        st.caption("With documents of your own, in a terminal:")
        st.code("rag-vs-ft corpus add docs YOUR_FOLDER\nrag-vs-ft index build docs", language=None, wrap_lines=True)
    elif (job := find_job(_JOB)) is not None and job.stage == "embed":
        st.caption("Each passage becomes a vector of its meaning; this is the longest step.")


def build_sample(place: Home, progress: Progress) -> build.BuildResult:
    """Pull the default models, add the packaged sample and index it."""
    for name in (settings.EMBEDDER, settings.LANGUAGE_MODEL):
        catalogue.pull(name, progress=lambda message: progress(message, 0, 0))
    progress("reading the articles", 0, 0)
    if NAME in [info.name for info in store.list_corpora(place)]:
        store.update(NAME, home=place)
    else:
        store.add(NAME, NAME, home=place)
    return build.build(NAME, NAME, build.Recipe(), place, progress)
