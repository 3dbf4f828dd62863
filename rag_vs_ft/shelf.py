"""Open indexes and loaded models of a process that serves many: each opened once, a new generation picked up at the next request.

Searches run side by side. A model writes one answer at a time; those who wait for it are counted, and too many are sent away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rag_vs_ft.errors import Busy, UserError
from rag_vs_ft.index.opening import all_indexes, open_index
from rag_vs_ft.index.search import Index
from rag_vs_ft.models import extractive
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.loading import load
from rag_vs_ft.settings import Home

MAX_OPEN = 8
"""Indexes that are kept open; the one that was not asked for longest is closed first."""


class NotServed(UserError):
    """There is no index or model of this name here."""


class TooMany(Busy):
    """More requests wait for a model than are allowed to."""


@dataclass
class _Model:
    """A model's name, what is loaded of it (None: not yet, or no language model), and the lock of its user."""

    name: str
    lm: LanguageModel | None = None
    taken: threading.Lock = field(default_factory=threading.Lock)


class Shelf:
    """What a process serves: the indexes of a home and those on servers that it was told of; the language models that it was
    started with (the first by default)."""

    def __init__(self, home: Home, models: tuple[str, ...], *, engine: str, waiting: int) -> None:
        self.home = home
        self.models = models
        self._engine = engine
        self._loaded = {name: _Model(name) for name in models}
        self._open: dict[str, Index] = {}
        self._opening: dict[str, threading.Lock] = {}
        self._places = threading.Semaphore(waiting + 1)

    def load(self) -> None:
        """Load all models now, so that no question waits for it. Raises UserError for one that cannot be loaded."""
        for model in self._loaded.values():
            self._ready(model)

    def indexes(self) -> list[str]:
        """The names of the indexes that are there now."""
        return all_indexes(self.home)

    def index(self, name: str) -> Index:
        """The generation of index `name` that answers now.

        Raises NotServed when there is none of this name, CheckFailed when none of its generations is whole.
        """
        if name not in self.indexes():
            there = ", ".join(self.indexes()) or "none yet: rag-vs-ft index build NAME --corpus CORPUS"
            raise NotServed(f"there is no index {name!r} here", f"there: {there}")
        with self._opening.setdefault(name, threading.Lock()):  # a slow server of one index holds up no other
            index = self._open.pop(name, None)
            if index is None or not index.answers_now():
                index = open_index(name, self.home)
            if not index.notices:  # what stands in for a server does so once
                self._open[name] = index  # the last in order is the one asked for last
        for other in list(self._open)[:-MAX_OPEN]:
            self._open.pop(other, None)
        return index

    @contextmanager
    def model(self, name: str) -> Iterator[LanguageModel | None]:
        """The model for the caller alone; None for the one that is no language model.

        Raises NotServed for another model than those served, TooMany when the places to wait are taken.
        """
        model = self._loaded.get(name)
        if model is None:
            raise NotServed(f"the model {name!r} is not served here", f"use one of: {', '.join(self.models)}")
        if not self._places.acquire(blocking=False):
            raise TooMany("too many questions wait for an answer", "ask again in a few seconds")
        try:
            with model.taken:
                yield self._ready(model)
        finally:
            self._places.release()

    def _ready(self, model: _Model) -> LanguageModel | None:
        if model.lm is None and model.name != extractive.NAME:
            model.lm = load(model.name, self.home, engine=self._engine)
        return model.lm
