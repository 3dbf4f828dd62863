"""What all pages share: the home, open indexes and loaded models, and errors shown as messages."""

from __future__ import annotations

import gc
import logging
import re
import secrets
import string
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from rag_vs_ft import catalogue, files, settings
from rag_vs_ft.catalogue import GGUF
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import opening
from rag_vs_ft.index.search import Index
from rag_vs_ft.models import naming, served
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.loading import load
from rag_vs_ft.settings import Home

_LOG = logging.getLogger("rag_vs_ft.app")
_PUNCTUATION = str.maketrans({mark: "\\" + mark for mark in string.punctuation})
_LINKS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)


def plain(text: str) -> str:
    """`text` as Markdown that shows it character by character: for labels and messages, which are always Markdown.

    Streamlit makes links of addresses after it has read the escapes: an invisible word joiner inside keeps them text.
    """
    return _LINKS.sub("\u2060", " ".join(text.split())).translate(_PUNCTUATION)


def show_error(error: Exception, what: str) -> None:
    """Show what went wrong and the next step; details of what nobody expected go to the log under an id that is shown."""
    show_failure(*told(error, what))


def show_failure(message: str, hint: str = "") -> None:
    """Show what went wrong and the next step."""
    st.error(f"{plain(message)}  \n{plain(hint)}" if hint else plain(message), icon=":material/error:")


def told(error: Exception, what: str) -> tuple[str, str]:
    """What a visitor sees of an error, and the next step. An unexpected error is logged, once, under the id that is shown."""
    if isinstance(error, OSError) and not isinstance(error, UserError):
        error = files.unusable(error)
    if isinstance(error, UserError):
        return error.message, error.hint
    log_id = getattr(error, "log_id", "")
    if not log_id:  # it is shown each time the page is drawn, and logged once
        log_id = secrets.token_hex(4)
        error.__dict__["log_id"] = log_id
        _LOG.error("[%s] %s", log_id, what, exc_info=error)
    return f"{what} failed ({type(error).__name__}).", f"The terminal that runs the app has the details under {log_id}."


@contextmanager
def shown_errors(what: str) -> Iterator[None]:
    """Show an error of the block as a message instead of raising it."""
    try:
        yield
    except NotThere:
        raise
    except Exception as error:  # the one place between a page and its visitor
        show_error(error, what)


def home() -> Home:
    """The home folder that the app was started with."""
    return settings.home()


def open_index(name: str) -> Index:
    """The generation of index `name` that answers now; one reader for all visitors, replaced when another is published."""
    return _index(str(home().root), name)


def _answers_now(index: Index) -> bool:
    return not index.notices and index.answers_now()


@st.cache_resource(max_entries=4, validate=_answers_now, show_spinner=False)
def _index(root: str, name: str) -> Index:
    return opening.open_index(name, settings.home(root))


@dataclass(frozen=True, slots=True)
class SharedModel:
    """A loaded model, which one visitor at a time uses."""

    lm: LanguageModel
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def taken(self, waiting: Callable[[], None] = lambda: None) -> Iterator[LanguageModel]:
        """The model for this caller alone. `waiting` is called again and again until it is free, and may raise."""
        while not self._lock.acquire(timeout=0.2):
            waiting()
        try:
            yield self.lm
        finally:
            self._lock.release()


def model_names() -> list[str]:
    """Models that can be loaded now: those pulled, then our runs; the default first."""
    changed = (*_changed(settings.cache_folder() / "models"), *_changed(home().runs))
    return list(_model_names(str(home().root), changed, tuple(catalogue.converted_files())))


@st.cache_resource(max_entries=4, show_spinner=False)
def _model_names(root: str, changed: tuple[tuple[str, int], ...], converted: tuple[str, ...]) -> list[str]:
    """What `model_names` says until a folder of a model or a run changes, or a GGUF file comes or goes.

    Each page asks, each time that it is drawn.
    """
    return sorted(naming.available(settings.home(root)), key=lambda name: name != settings.LANGUAGE_MODEL)


def _changed(folder: Path) -> list[tuple[str, int]]:
    """When something was last added to or taken from a folder and those in it: (path, nanoseconds)."""
    places = [folder, *(path for path in sorted(folder.glob("*")) if path.is_dir())]
    return [(str(path), path.stat().st_mtime_ns) for path in places if path.is_dir()]


def with_typed_model(names: list[str], key: str) -> list[str]:
    """`names` and what the visitor typed or the address names under `key`, where that is a server or a GGUF file."""
    typed = st.query_params.get(key) or st.session_state.get(key) or ""
    named = isinstance(typed, str) and (served.is_address(typed) or typed.lower().endswith(GGUF))
    return [*names, typed] if named and typed not in names else names


def load_model(name: str) -> SharedModel:
    """The model `name`, loaded once for all visitors; a run that has a newer checkpoint is loaded again."""
    return _model(str(home().root), name, _places(name))


def _places(name: str) -> str:
    """Where the weights are that a name means now; another checkpoint is another place."""
    if served.is_address(name):
        return name
    found = naming.resolve(name, home())
    return str([place.resolve() for place in (found.base, *found.adapters)])


@st.cache_resource(max_entries=4, show_spinner=False)
def _model(root: str, name: str, places: str) -> SharedModel:
    shared = SharedModel(load(name, settings.home(root), engine=settings.engine()))
    gc.collect()
    gc.freeze()  # the million objects of torch and transformers that stay are not looked at by every later collection
    _loaded().add((name, places))
    return shared


@st.cache_resource(show_spinner=False)
def _loaded() -> set[tuple[str, str]]:
    return set()


def is_loaded(name: str) -> bool:
    """Whether the model was loaded before; it may have made room for others since."""
    return (name, _places(name)) in _loaded()


def moment(when: str | float) -> str:
    """A time (ISO 8601, or seconds since 1970) as a reader says it, on this machine's clock."""
    found = datetime.fromtimestamp(when) if isinstance(when, float) else datetime.fromisoformat(when).astimezone()
    return f"{found:%d %B %Y, %H:%M}".lstrip("0")


def said_generation(name: str) -> str:
    """The name of a generation as a reader says it: gen-000002 is generation 2."""
    number = name.rpartition("-")[2]
    return f"generation {int(number)}" if number.isdecimal() else name


def page_title(text: str) -> None:
    """The page's one first heading."""
    st.title(plain(text), anchor=False)


class NotThere(Exception):
    """The address or an earlier choice names something that is not there or cannot be.

    `why` says what is wrong with the values `given` under `key`; `instead` is what the visitor is offered, None for nothing.
    """

    def __init__(self, label: str, given: Sequence[str], why: str, key: str, instead: Any) -> None:
        super().__init__(label)
        self.label, self.given, self.why, self.key, self.instead = label, given, why, key, instead

    def show(self) -> None:
        """Say it, and offer what is there."""
        st.error(plain(f"{self.label} {', '.join(self.given) or 'without a value'}: {self.why}."), icon=":material/error:")
        if self.instead is not None:
            st.button(f"Use {plain(_said(self.instead))}", key=f"instead-{self.key}", on_click=self._use)

    def _use(self) -> None:
        with suppress(StreamlitAPIException):  # a widget that was drawn takes its value out of the address itself
            st.query_params.pop(self.key, None)
        st.session_state[self.key] = self.instead


def _said(value: Any) -> str:
    """A value as a button offers it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(value)
    return "all" if value == "" else str(value)


def shortened(text: str, limit: int, what: str) -> str:
    """The first `limit` characters of a text that was typed or pasted; that it is not all is said."""
    if len(text) > limit:
        st.warning(plain(f"{what} has {len(text):,} characters; the first {limit:,} are used."))
    return text[:limit]
