"""Retrieved passages on a page: always as plain text, links only from the table of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import streamlit as st
from resources import plain

from rag_vs_ft.records import Chunk, Hit

Opener = Callable[[Chunk], None]


def show_passages(
    hits: Sequence[Hit],
    cited: Sequence[int] = (),
    matched: dict[str, list[str]] | None = None,
    opener: Opener | None = None,
) -> None:
    """One card a passage, to be opened; `cited` ranks are marked, `matched` holds the query's terms found in each chunk.

    `opener` shows a chunk in its document; None opens the page Index in another tab, beside the conversation.
    """
    for hit in hits:
        rests = hit.rank in cited
        label = f"[{hit.rank}] {plain(hit.chunk.breadcrumb)}{' :green-badge[cited]' if rests else ''}"
        with st.expander(label, icon=":material/article:"):
            show_passage(hit, (matched or {}).get(hit.chunk.id), opener)


def show_passage(hit: Hit, matched: list[str] | None, opener: Opener | None) -> None:
    """The exact text of a passage, where it is from and why it was found."""
    chunk = hit.chunk
    st.text(chunk.text)
    legs = [
        f"words (BM25): {_leg(hit.bm25_rank, hit.bm25_score, 2)}",
        f"meaning: {_leg(hit.dense_rank, hit.dense_score, 3)}",
    ]
    about = [chunk.document_id, *([chunk.date] if chunk.date else []), *legs]
    if stems := [term for term in matched or () if " " not in term]:  # pairs of them tell a reader nothing more
        about.append(f"matched word stems: {', '.join(stems)}")
    st.caption(plain(" · ".join(about)))
    with st.container(horizontal=True):
        label, icon = "Show in the document", ":material/description:"
        if opener is not None:
            st.button(label, icon=icon, type="tertiary", key=f"open-{chunk.id}", on_click=opener, args=(chunk,))
        else:
            query = urlencode({"document": chunk.document_id, "chunk": chunk.id, **_index_parameter()})
            st.link_button(label, f"index?{query}", icon=icon, type="tertiary")
        if chunk.url.startswith("https://"):
            st.link_button("Open the article", chunk.url, icon=":material/open_in_new:", type="tertiary")


def _index_parameter() -> dict[str, str]:
    name = st.session_state.get("index")
    return {"index": name} if name else {}


def _leg(rank: int | None, score: float | None, digits: int) -> str:
    return "not found" if rank is None else f"{_ordinal(rank)} ({score:.{digits}f})"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
