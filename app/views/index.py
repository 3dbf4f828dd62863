"""An index from the inside: how documents were cut, what a search finds and why, and which generation answers."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from pathlib import Path
from typing import Any

import streamlit as st
from add_documents import add_documents_form
from addressed import KEPT, choose, choose_view, only, write
from first_start import index_names
from passages import show_found
from progress_panel import forget_ended, show_job, start_job
from readable import show_readable
from resources import home, moment, open_index, page_title, plain, said_generation, shortened, shown_errors

from rag_vs_ft import schedules, settings
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import Busy, CheckFailed, UserError
from rag_vs_ft.index import generations
from rag_vs_ft.index.generations import Generation
from rag_vs_ft.index.qdrant import is_published
from rag_vs_ft.index.search import RETRIEVERS, Index
from rag_vs_ft.index.table import ChunkTable
from rag_vs_ft.records import Chunk
from rag_vs_ft.settings import Home

HERE = """<span id="linked"></span><script>document.getElementById("linked").scrollIntoView()</script>"""
"""Stands before the passage that a link leads to, and shows it."""
VIEWS = ("Documents", "Search", "Generations", "Add documents")


@st.cache_data(max_entries=4, show_spinner=False)
def document_rows(folder: str, reader: frozenset[str]) -> list[dict[str, Any]]:
    """One row for each document of the generation in `folder` that someone of these groups may read."""
    table = ChunkTable.open(Path(folder))
    ids = table.column("document_id")
    counts, tokens = Counter(ids), Counter[str]()
    for document_id, size in zip(ids, table.column("tokens"), strict=True):
        tokens[document_id] += size
    about = {
        document_id: {"title": title, "service": service, "date": date}
        for document_id, title, service, date in zip(
            ids, table.column("title"), table.column("service"), table.column("date"), strict=True
        )
    }
    return [
        {"document": key, **about[key], "passages": counts[key], "tokens": tokens[key]} if key in about else {"document": key}
        for key in sorted(table.documents().keys() - table.hidden_documents(reader))
    ]


def show_documents(index: Index) -> None:
    """All documents, and how the one that is chosen was cut."""
    rows = document_rows(str(index.generation.folder), index.reader)
    linked, passage = only("Document", "document"), only("Passage", "chunk")
    first = st.container()  # a document that a link leads to stands above the list, one that is chosen from it below
    words = st.text_input("Find a document", placeholder="part of its path or title", key="find").lower().split()
    found = [row for row in rows if all(word in f"{row['document']} {row.get('title', '')}".lower() for word in words)]
    st.caption(f"{len(found):,} of {len(rows):,} documents. Choose one to see how it was cut into passages.")
    show_left_out(index)
    event = st.dataframe(
        found,
        hide_index=True,
        height=min(300, 38 + 35 * max(len(found), 1)),
        on_select="rerun",
        selection_mode="single-row",
        key="chosen-document",
    )
    chosen = event.selection.rows
    if chosen and chosen[0] < len(found):
        show_document(index, found[chosen[0]]["document"], "")
    elif linked:
        with first:
            show_document(index, linked, passage)


def show_left_out(index: Index) -> None:
    """What was left out when the documents were read, and why."""
    with shown_errors("Opening the corpus"):
        manifest = store.open_corpus(index.manifest.inputs.corpus.name, home()).manifest
        if not manifest.skipped:
            return
        with st.expander(f"Left out: {sum(manifest.skipped.values()):,}", icon=":material/block:"):
            for reason, count in sorted(manifest.skipped.items(), key=lambda entry: -entry[1]):
                # Names tell of documents that not every visitor may read.
                examples = manifest.skipped_examples.get(reason, ()) if not manifest.restricted else ()
                st.text(f"{count:,} {reason}{': ' if examples else ''}{', '.join(examples)}")


def show_document(index: Index, document_id: str, chunk_id: str) -> None:
    """The passages of one document in reading order; the one that was linked is open."""
    chunks = sorted(index.chunks_of([document_id]), key=lambda chunk: (chunk.start, chunk.id))
    if not chunks:
        st.warning(f"There is no passage of {plain(document_id)} in this generation.")
        return
    st.subheader(plain(chunks[0].title))
    if chunk_id and all(chunk.id != chunk_id for chunk in chunks):
        st.warning("The passage of this link is not in this generation any more. These are the passages of its document now.")
    for chunk in chunks:
        if chunk.id == chunk_id and chunk.place:
            st.html(HERE, unsafe_allow_javascript=True)
            show_pages(index, chunk)
    st.caption(plain(f"{document_id}, cut into {len(chunks)} passages, in reading order"))
    for number, chunk in enumerate(chunks, start=1):
        linked = chunk.id == chunk_id
        if linked and not chunk.place:
            st.html(HERE, unsafe_allow_javascript=True)
        label = f"{number}. {plain(chunk.heading or chunk.title)}{' :green-badge[this passage]' if linked else ''}"
        with st.expander(label, expanded=linked or len(chunks) <= 3):
            show_readable(chunk.text)
            st.caption(plain(f"{chunk.tokens} tokens · characters {chunk.start:,} to {chunk.end:,} · {chunk.id}"))


def show_pages(index: Index, chunk: Chunk) -> None:
    """The whole text of the pages, sheets or slides that a passage stands on, with the passage marked."""
    state = index.manifest.inputs.corpus
    try:
        corpus = store.open_corpus(state.name, home())
        if corpus.sha256 != state.sha256:
            raise UserError("the documents were updated after this index was built")
        document = corpus.get(chunk.document_id)
    except (UserError, CheckFailed, Busy) as error:
        st.caption(plain(f"The text of {chunk.place} is not at hand: {error}"))
        return
    for name, start, end in document.places_of(chunk.start, chunk.end):
        marked = max(chunk.start, start) - start, min(chunk.end, end) - start
        with st.expander(f"{plain(name)} :green-badge[this passage]", expanded=True, icon=":material/description:"):
            show_readable(document.text[start:end], marked)


def show_search(index: Index) -> None:
    """What a search finds, without a model."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    query = write("Search", "search", left, placeholder="words or a question")
    query = shortened(query, settings.MAX_QUESTION_CHARACTERS, "The question")
    with right:
        retriever = choose("Retriever", RETRIEVERS, "retriever", **KEPT)
    if query.strip():
        with shown_errors("Searching"):
            hits = index.search(query, 10, retriever=retriever)
            st.caption(
                f"{len(hits)} passages" if hits else "Nothing matches. Try other words, or search by meaning (retriever dense)."
            )
            matched = {hit.chunk.id: index.matched_terms(query, hit) for hit in hits}
            show_found(hits, matched, opener=open_document)


def open_document(chunk: Chunk) -> None:
    """Go to the view Documents, at this passage."""
    st.session_state["view"] = VIEWS[0]
    st.query_params["document"], st.query_params["chunk"] = chunk.document_id, chunk.id


def show_generations(index: Index) -> None:
    """The generations that are kept: counts, size and date; update, verify and roll back."""
    name, folder = index.name, index.generation.folder.parent
    kept = generations.all_generations(folder)
    st.dataframe([_row(one, one.name == index.generation.name) for one in kept], hide_index=True)
    for fault in generations.unreadable(folder):
        st.error(plain(fault))
    title, verifying = schedules.update_title(name), f"Verifying {name}"
    running = show_job("update", title=title) is not None
    checking = show_job("verify", title=verifying) is not None
    with st.container(horizontal=True):
        place, corpus = home(), index.manifest.inputs.corpus.name
        if st.button("Update", icon=":material/sync:", disabled=running, help="Read the documents again and index what is new"):
            start_job("update", title, name=name, corpus=corpus)
            st.rerun()
        if read_from(place, corpus) == settings.SAMPLE and st.button(
            "Try an update",
            icon=":material/science:",
            disabled=running,
            help="The sample comes with a later version: 12 of its articles have changed, one is gone",
        ):
            start_job("update", title, name=name, corpus=corpus, source=f"{settings.SAMPLE}:update")
            st.rerun()
        if st.button("Verify", icon=":material/verified:", disabled=checking, help="Compare every file with its checksum"):
            start_job("verify", verifying, name=name)
            st.rerun()
        earlier = [one for one in kept if one.name < index.generation.name]
        if st.button("Roll back", icon=":material/undo:", disabled=running or not earlier, help="Answer from the one before"):
            with shown_errors("Rolling back"), generations.building(folder):
                generations.rollback(folder)
                forget_ended()  # an update that has just been told is not what answers now
                st.rerun()
    show_schedule(index)
    if any(one.name > index.generation.name for one in kept):
        st.info(
            "An earlier generation answers. Evaluation wants the index and its corpus to agree: Update brings the index up to "
            "the documents again."
        )
    if earlier:
        show_changes(earlier[-1], index.generation, index.reader)


def show_schedule(index: Index) -> None:
    """When documents and index were brought up to date last, and when that happens next."""
    name, place = index.name, home()
    corpus = index.manifest.inputs.corpus.name
    said = [f"{said_generation(index.generation.name)} was built {moment(index.manifest.created)}"]
    with shown_errors(f"Opening the corpus {corpus}"):
        manifest = store.open_corpus(corpus, place).manifest
        said.insert(0, f"The documents were read {moment(manifest.created)} from {manifest.source}")
    st.caption(plain(", ".join(said)))
    with shown_errors("Reading the schedules"):
        now = schedules.read(place).get(name)

        def keep() -> None:
            with shown_errors("Keeping the schedule"):
                schedules.choose(place, name, schedules.INTERVALS[st.session_state[f"every-{name}"]])

        at = list(schedules.INTERVALS).index(schedules.interval_of(now))
        st.selectbox("Update by itself", schedules.INTERVALS, index=at, key=f"every-{name}", on_change=keep, width=240)
        if now:
            due = max(now.next, time.time())
            st.caption(plain(f"Next {moment(due)}, or when the app is started after that. The page Work says how it went."))
        steps = (["corpus", "update", corpus], ["index", "update", name])
        words = " && ".join(shlex.join(["rag-vs-ft", *step, "--home", str(place.root)]) for step in steps)
        with st.popover("Without the app", type="tertiary", icon=":material/schedule:"):
            st.caption("A line for cron, every day at three:")
            st.code(f"0 3 * * * {words}", language=None, wrap_lines=True)


def read_from(place: Home, corpus: str) -> str:
    """The source of a corpus; "" when it is gone or damaged, which an update then tells."""
    try:
        return str(store.open_corpus(corpus, place).manifest.source)
    except UserError:
        return ""


def _row(generation: Generation, answers: bool) -> dict[str, Any]:
    manifest = generation.manifest
    return {
        "generation": generation.name,
        "answers": "now" if answers else "",
        "built": moment(manifest.created),
        "documents": manifest.counts.documents,
        "passages": manifest.counts.chunks,
        "MB": round(manifest.bytes / 1e6, 2),
        "embedder": f"{manifest.inputs.embedder.name} ({manifest.inputs.embedder.precision})",
        "vectors": manifest.dense.kind,
    }


def show_changes(old: Generation, new: Generation, reader: frozenset[str]) -> None:
    """Which documents that someone of these groups may read differ between two generations, and in how many passages."""
    tables = [ChunkTable.open(one.folder) for one in (old, new)]
    hidden = {key for table in tables for key in table.hidden_documents(reader)}
    before, after = ({key: value for key, value in table.documents().items() if key not in hidden} for table in tables)
    gone, come = _only_in_one(*tables)
    changes = {
        "added": sorted(after.keys() - before.keys()),
        "changed": sorted(key for key in before.keys() & after.keys() if before[key] != after[key]),
        "removed": sorted(before.keys() - after.keys()),
    }
    counts = ", ".join(f"{len(names):,} {kind}" for kind, names in changes.items())
    passages = f"{come.total():,} {'passage' if come.total() == 1 else 'passages'} added, {gone.total():,} removed"
    with st.expander(f"Since {plain(old.name)}: documents {counts}; {passages}", icon=":material/difference:"):
        st.dataframe(
            [
                {"change": kind, "document": key, "passages added": come[key], "passages removed": gone[key]}
                for kind, keys in changes.items()
                for key in keys
            ],
            hide_index=True,
        )


def _only_in_one(old: ChunkTable, new: ChunkTable) -> tuple[Counter[str], Counter[str]]:
    """By document, how many passages the old table alone has, and the new one alone."""
    before, after = (dict(zip(table.column("id"), table.column("document_id"), strict=True)) for table in (old, new))
    return (
        Counter(document for key, document in before.items() if key not in after),
        Counter(document for key, document in after.items() if key not in before),
    )


def main() -> None:
    names = index_names()
    title = st.empty()
    with title:
        page_title("Index")  # stays where there is none of the name
    with st.sidebar:
        name = choose("Index", names, "index", settings.SAMPLE, **KEPT)
    index = open_index(name)
    counts, corpus = index.manifest.counts, index.manifest.inputs.corpus
    with title:
        page_title(name)
    st.caption(
        plain(
            f"{counts.documents:,} documents of the corpus {corpus.name}, {counts.chunks:,} passages of "
            f"{counts.tokens / counts.chunks:.0f} tokens on average, {said_generation(index.generation.name)}"
        )
    )
    if is_published(name):
        st.info("This index is on a server: it can be searched here. Documents and generations are where it was built.")
        show_search(index)
        return
    view = choose_view("View", VIEWS, "view", label_visibility="collapsed")
    shown = dict(zip(VIEWS, (show_documents, show_search, show_generations, lambda _: add_documents_form()), strict=True))
    shown[view](index)


main()
