"""Documents of one's own: a folder of this machine, a git address, or files that are dropped on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from progress_panel import just_finished, show_job, start_job
from resources import home, plain, shown_errors

from rag_vs_ft import files
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import generations
from rag_vs_ft.settings import Home, check_name

WAYS = ("A folder of this machine", "A git address", "Dropped files")
_HINTS = {WAYS[0]: "/home/me/documents", WAYS[1]: "https://github.com/owner/repository"}


def add_documents_form() -> None:
    """Add documents and index them under a name; what was left out, and why, is told at the end and on the page Work."""
    running = show_job("index") is not None
    if done := just_finished("index"):
        made = str(done.arguments["name"])
        with st.container(horizontal=True):
            where = {"index": made}
            st.page_link("views/ask.py", label=f"Ask {plain(made)}", icon=":material/chat:", query_params=where)
            st.page_link("views/index.py", label=f"Look at {plain(made)}", icon=":material/description:", query_params=where)
    way = st.segmented_control("Where are they?", WAYS, default=WAYS[0], required=True, key="way")
    source, dropped = "", []
    if way == WAYS[2]:
        dropped = st.file_uploader("Files", accept_multiple_files=True, key="dropped")
    else:
        source = st.text_input("Address" if way == WAYS[1] else "Folder", placeholder=_HINTS[way], key="source").strip()
    name = st.text_input("Name", "docs", key="corpus-name", help="What to call them; letters, digits, '.', '_' and '-'.").strip()
    if st.button("Read and index them", type="primary", disabled=running or not name or not (source or dropped)):
        with shown_errors("Adding the documents"):
            check_name("corpus", name)
            if name in generations.list_indexes(home()) or (home().corpora / name).exists():
                raise UserError(f"there are documents called {name!r} already", "use another name, or Update on the page Index")
            start_job("index", f"Indexing {name}", name=name, source=keep_files(home(), name, dropped) if dropped else source)
            st.rerun()


def keep_files(place: Home, name: str, dropped: Sequence[Any]) -> str:
    """Write dropped files below the home, where Update finds them again; gives the folder. Raises UserError when it cannot."""
    folder = place.root / "dropped" / name
    try:
        for file in dropped:
            plain_name = file.name.replace("\\", "/").rpartition("/")[2].lstrip(".") or "unnamed"
            files.write_bytes(folder / plain_name, file.getvalue())
    except OSError as error:
        raise files.unusable(error) from error
    return str(folder)
