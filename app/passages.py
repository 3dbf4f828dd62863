"""Retrieved passages on a page: safe to show whatever they hold, with the sentence that an answer rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

import streamlit as st
from readable import held_words, show_readable, snippet, supporting_sentence
from resources import plain

from rag_vs_ft.records import Chunk, Hit

OpenChunk = Callable[[Chunk], None]


def show_passages(
    hits: Sequence[Hit],
    cited: Sequence[int] = (),
    matched: Mapping[str, list[str]] | None = None,
    *,
    key: str,
    answer: str = "",
    index: str = "",
) -> None:
    """One card a passage; `cited` ranks are marked, the first of them is open, and its supporting sentence is highlighted.

    Where none is cited, the first passage is open. What a closed card holds is drawn when it is opened: ten answers
    with all their passages made every click slow.
    `matched` has the query's terms found in each chunk. "Show in the document" opens the page Index in another tab, beside the
    conversation; `key` tells the cards of one answer from those of another.
    """
    opened = cited[0] if cited else 1
    for hit in hits:
        rests = hit.rank in cited
        label = f"[{hit.rank}] {plain(hit.chunk.cited)}{' :green-badge[cited]' if rests else ''}"
        card = st.expander(
            label, icon=":material/article:", expanded=hit.rank == opened, key=f"passage-{key}-{hit.rank}", on_change="rerun"
        )
        if not card.open:
            continue
        with card:
            marked = supporting_sentence(answer, hit.chunk.text) if rests else None
            show_readable(hit.chunk.text, marked)
            show_origin(hit, (matched or {}).get(hit.chunk.id), index=index, key=key)


def show_found(
    hits: Sequence[Hit],
    matched: Mapping[str, list[str]],
    *,
    opener: OpenChunk | None = None,
    index: str = "",
    key: str = "",
) -> None:
    """The results of a search: each with the lines that match best, and the whole passage to be opened."""
    for hit in hits:
        with st.container(border=True):
            st.markdown(f"**[{hit.rank}] {plain(hit.chunk.cited)}**")
            st.html(snippet(hit.chunk.text, matched.get(hit.chunk.id, ())))
            with st.expander("The whole passage"):
                show_readable(hit.chunk.text)
            show_origin(hit, matched.get(hit.chunk.id), opener=opener, index=index, key=key)


def show_origin(
    hit: Hit, matched: Sequence[str] | None, *, opener: OpenChunk | None = None, index: str = "", key: str = ""
) -> None:
    """Where a passage is from, why it was found, and the ways to its document."""
    chunk = hit.chunk
    about = [chunk.document_id, *([chunk.date] if chunk.date else [])]
    about += [f"found by its words: {_place(hit.bm25_rank)}", f"by its meaning: {_place(hit.dense_rank)}"]
    if hit.found_rank is not None:
        about.append(f"{_ordinal(hit.found_rank)} before reranking")
    if words := held_words(chunk.text, tuple(matched or ())):
        about.append(f"words of the question in it: {', '.join(words[:8])}")
    st.caption(plain(" · ".join(about)))
    with st.container(horizontal=True):
        label, icon = "Show in the document", ":material/description:"
        if opener is not None:
            st.button(label, icon=icon, type="tertiary", key=f"open-{key}-{chunk.id}", on_click=opener, args=(chunk,))
        else:
            query = urlencode({"document": chunk.document_id, "chunk": chunk.id, **({"index": index} if index else {})})
            st.link_button(label, f"index?{query}", icon=icon, type="tertiary")
        if chunk.url.startswith("https://"):
            st.link_button("Open the article", chunk.url, icon=":material/open_in_new:", type="tertiary")


def _place(rank: int | None) -> str:
    return "not found" if rank is None else _ordinal(rank)


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
