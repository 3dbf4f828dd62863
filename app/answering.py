"""Answers in threads of the server: changing a setting, the page or the tab does not end them, and a finished one is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

import streamlit as st
from readable import is_degenerate
from resources import SharedModel, is_loaded, load_model, open_index, told

from rag_vs_ft import conversations
from rag_vs_ft.ask import AskRequest, ask
from rag_vs_ft.conversations import Turn
from rag_vs_ft.index.search import Filters, Index, checked_query
from rag_vs_ft.models import follow_ups, reranking
from rag_vs_ft.models.generation import Sampling
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.records import Answer, Hit, Reranker
from rag_vs_ft.settings import Home

HOPELESS_CHARACTERS = 60
"""Of list marks alone, after which no answer is expected any more."""
SECONDS_BETWEEN_SAVES = 2.0


class _Stopped(Exception):
    """The visitor does not want the rest."""


class _Hopeless(Exception):
    """The model writes list marks and nothing else."""


class Answering:
    """A turn that is being answered: what comes of it is in the turn at once, and in the database at its end and meanwhile."""

    def __init__(self, home: Home, conversation: str, turn: Turn) -> None:
        self.turn = turn
        self.stage = "Starting"
        self.stopped = False
        self._home, self._conversation = home, conversation
        self._since = self._saved = time.perf_counter()
        self._passages = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="Answering")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the answer goes on."""
        return self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """Since the question was asked."""
        return time.perf_counter() - self._since

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most so long."""
        self._thread.join(seconds)

    def wait_for_passages(self, seconds: float) -> None:
        """Wait until the passages are there or none will come, at most so long."""
        self._passages.wait(seconds)

    def _run(self) -> None:
        turn = self.turn
        try:
            query, turn.notices = checked_query(turn.question)
            if turn.chosen["mode"] == "search":
                self._find(query)
            else:
                self._answer(query)
        except _Stopped:
            turn.state = "stopped"
        except Exception as error:  # shown with the turn, and the conversation goes on
            turn.state, (turn.failure, turn.hint) = "failed", told(error, "Answering")
        self._passages.set()
        turn.seconds = self.seconds
        try:
            conversations.save(self._home, self._conversation, turn)
            _running().pop(turn.id, None)
        except Exception as error:  # it stays in memory, and the page says so
            turn.notices = (*turn.notices, f"This answer is lost when the server stops: {told(error, 'Keeping the answer')[0]}")

    def _stage(self, stage: str) -> None:
        self.stage = stage
        if self.stopped:
            raise _Stopped

    def _open_index(self) -> Index:
        self._stage("Opening the index")
        index = open_index(self.turn.chosen["index"])
        self._stage(f"Searching {len(index):,} passages")
        return index

    def _filters(self) -> Filters | None:
        chosen = self.turn.chosen
        return Filters(chosen["service"], chosen["path"], chosen["since"]) or None

    def _reranker(self, lm: LanguageModel | None) -> Reranker | None:
        if not self.turn.chosen["rerank"]:
            return None
        self._stage(f"Loading the reranker {self.turn.chosen['rerank']}")
        return reranking.load(self.turn.chosen["rerank"], self._home, lm)

    def _found(self, index: Index, query: str, hits: Sequence[Hit]) -> None:
        self.turn.matched = {hit.chunk.id: index.matched_terms(query, hit) for hit in hits}
        self.turn.hits = tuple(hits)
        self._passages.set()

    def _find(self, query: str) -> None:
        """Passages alone: no model is asked."""
        chosen, index = self.turn.chosen, self._open_index()
        rerank = self._reranker(None)
        hits = index.search(query, chosen["k"], retriever=chosen["retriever"], filters=self._filters(), rerank=rerank)
        self._found(index, query, hits)
        self.turn.state = "found"

    def _answer(self, query: str) -> None:
        """Find passages, load the model where that was not done yet, then write the answer."""
        turn, chosen = self.turn, self.turn.chosen
        index = self._open_index() if chosen["passages"] else None
        if index is None:
            self._passages.set()
        if not is_loaded(chosen["model"]):
            if index is not None:  # the passages are there before the model is
                searched = follow_ups.joined(turn.earlier, query)
                hits = index.search(searched, chosen["k"], retriever=chosen["retriever"], filters=self._filters())
                self._found(index, query, hits)
            self._stage(f"Loading the model {chosen['model']}, once")
        loading = time.perf_counter()
        shared = load_model(chosen["model"])
        turn.loading_seconds = time.perf_counter() - loading
        turn.window = shared.lm.window
        with ExitStack() as held:
            self._ask(query, index, shared, held)
        turn.state = "answered"

    def _ask(self, query: str, index: Index | None, shared: SharedModel, held: ExitStack) -> None:
        turn, chosen = self.turn, self.turn.chosen
        started = time.perf_counter()

        def take_model() -> None:
            nonlocal started
            held.enter_context(shared.taken(lambda: self._stage("Waiting: the model answers somebody else")))
            self._stage("Reading the passages" if index is not None else "Reading the question")
            started = time.perf_counter()

        def found(hits: Sequence[Hit]) -> None:
            if index is not None:
                self._found(index, follow_ups.joined(turn.earlier, query), hits)
            if not before:  # taken only now: no visitor's search waits for another's answer
                take_model()

        def written(piece: str) -> None:
            if not turn.text:
                turn.first_token_seconds = time.perf_counter() - started
            turn.text += piece
            self._stage("Answering")
            if len(turn.text) > HOPELESS_CHARACTERS and is_degenerate(turn.text):
                raise _Hopeless
            if time.perf_counter() - self._saved > SECONDS_BETWEEN_SAVES:  # a stopped server loses no more than that
                self._saved = time.perf_counter()
                conversations.save(self._home, self._conversation, turn)

        rewrite = chosen.get("rewrite", False)  # a conversation of an earlier version does not say
        before = index is None or bool(chosen["rerank"]) or rewrite  # a reranker may be the model itself
        if before:
            take_model()
        try:
            turn.answer = ask(
                shared.lm,
                AskRequest(
                    query,
                    k=chosen["k"],
                    retriever=chosen["retriever"],
                    filters=self._filters(),
                    rerank=self._reranker(shared.lm) if index is not None else None,
                    max_new_tokens=chosen["max_new_tokens"],
                    sampling=Sampling(chosen["temperature"]),
                    earlier=turn.earlier,
                    cite=chosen.get("cite", False),
                    rewrite=rewrite,
                ),
                index,
                on_text=written,
                on_hits=found,
            )
        except _Hopeless:
            generation = index.generation.name if index is not None else None
            turn.answer = Answer(turn.text, (), tuple(turn.hits), 0, 0, 0.0, shared.lm.name, generation, finish="loop")
        writing = time.perf_counter() - started - turn.first_token_seconds
        turn.tokens_per_second = max(turn.answer.completion_tokens - 1, 0) / max(writing, 1e-9)


@st.cache_resource(show_spinner=False)
def _running() -> dict[str, Answering]:
    return {}


def begin(home: Home, conversation: str, turn: Turn) -> Answering:
    """Answer a turn in a thread. Raises UserError when the conversation cannot be kept."""
    conversations.save(home, conversation, turn)
    answering = _running()[turn.id] = Answering(home, conversation, turn)
    answering.start()
    return answering


def live(turn_id: str) -> Answering | None:
    """The answering of a turn that runs, or that could not be kept."""
    return _running().get(turn_id)


def stop(turn_id: str) -> None:
    """End an answer at its next word."""
    if (answering := live(turn_id)) is not None:
        answering.stopped = True
