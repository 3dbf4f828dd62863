"""The routes, and what they share: indexes and models, counters, and answers that stop when nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool

from rag_vs_ft import __version__
from rag_vs_ft.api import failures
from rag_vs_ft.api.bodies import AskBody, ChatBody, SearchBody
from rag_vs_ft.api.chat import Chat
from rag_vs_ft.api.door import Door
from rag_vs_ft.api.page import page
from rag_vs_ft.ask import AskRequest, SearchRequest, ask, search
from rag_vs_ft.errors import UserError
from rag_vs_ft.index.search import Filters, checked_k, checked_query
from rag_vs_ft.models import extractive
from rag_vs_ft.models.generation import Sampling
from rag_vs_ft.records import Answer
from rag_vs_ft.serving import ServerAddress
from rag_vs_ft.shelf import NotServed, Shelf


class _Gone(Exception):
    """The client does not want the rest."""


class Metrics:
    """What Prometheus is told."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("rag_vs_ft_requests", "Requests", ["route", "status"], registry=self.registry)
        self.search = Histogram("rag_vs_ft_search_seconds", "Seconds of a search", registry=self.registry)
        self.answer = Histogram(
            "rag_vs_ft_answer_seconds", "Seconds of an answer", registry=self.registry, buckets=(0.5, 1, 2, 5, 10, 20, 60, 300)
        )
        self.tokens = Counter("rag_vs_ft_tokens", "Tokens", ["kind"], registry=self.registry)
        self.running = Gauge("rag_vs_ft_answers_running", "Answers that are waited for or written", registry=self.registry)
        self.stopped = Counter("rag_vs_ft_answers_stopped", "Answers whose client went away", registry=self.registry)


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes share."""

    shelf: Shelf
    metrics: Metrics

    def search(self, body: SearchBody) -> dict[str, Any]:
        """What `search --json` prints."""
        checked_query(body.question)
        checked_k(body.k)
        request = SearchRequest(
            body.question,
            body.k,
            body.retriever,
            body.fusion,
            _filters(body.service, body.path, body.since),
            explain=body.explain,
        )
        with self.metrics.search.time():
            return search(request, self.shelf.index(body.index)).to_json()

    def ask(self, request: AskRequest, index: str | None, model: str, on_text: Callable[[str], None] | None = None) -> Answer:
        """An answer; `on_text` gets it piece by piece, and may raise to end it."""
        checked_query(request.question)
        checked_k(request.k)
        opened = self.shelf.index(index) if index is not None else None
        with self._counted(), self.shelf.model(model) as lm:
            answer = ask(lm, request, opened, on_text=on_text)
        self.metrics.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.metrics.tokens.labels("completion").inc(answer.completion_tokens)
        return answer

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self.metrics.answer.time(), self.metrics.running.track_inprogress():
            yield

    def served(self) -> list[str]:
        """The names that the chat completions know: indexes, indexes with another model, bare models."""
        first, *others = self.shelf.models
        indexes = self.shelf.indexes()
        with_others = (f"{index}@{model}" for model in others for index in indexes)
        return [*indexes, *with_others, *(model for model in (first, *others) if model != extractive.NAME)]

    def meant(self, name: str) -> tuple[str | None, str]:
        """The (index, language model) that a name of the chat completions means. Raises NotServed."""
        index, at, model = name.partition("@")
        if index in self.shelf.indexes() and (not at or model in self.shelf.models):
            return index, model or self.shelf.models[0]
        if name in self.shelf.models:
            return None, name
        raise NotServed(f"the model {name!r} is not served here", f"use one of: {', '.join(self.served())}")


def _filters(service: str, path: str, since: str) -> Filters | None:
    if since:
        try:
            since = date.fromisoformat(since).isoformat()
        except ValueError:
            raise UserError(f"since {since!r} is not a date", "write it as YYYY-MM-DD") from None
    return Filters(service, path, since) or None


def create(shelf: Shelf, place: ServerAddress) -> FastAPI:
    """The service over what `shelf` has, for a server at `place`."""
    service = Service(shelf, Metrics())
    app = FastAPI(title="rag-vs-ft", version=__version__, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(Door, place=place, requests=service.metrics.requests)
    failures.add_to(app)
    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    def health() -> dict[str, str]:
        """Whether the service runs, and its version."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Counters and times in Prometheus' text format."""
        return Response(generate_latest(service.metrics.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", response_class=HTMLResponse)
    def documentation() -> str:
        """This page: every route with the fields of its request."""
        return page(app.openapi())

    @app.get("/indexes")
    def indexes() -> dict[str, Any]:
        """The indexes, each with the generation that answers; a damaged one with what is wrong with it."""
        found, damaged = [], {}
        for name in service.shelf.indexes():
            try:
                manifest = (index := service.shelf.index(name)).manifest
            except UserError as error:
                damaged[name] = error.message
                continue
            counts = manifest.counts
            found.append(
                {
                    "name": name,
                    "generation": index.generation.name,
                    "corpus": manifest.inputs.corpus.name,
                    "documents": counts.documents,
                    "chunks": counts.chunks,
                    "created": manifest.inputs.corpus.created,
                }
            )
        return {"indexes": found, "damaged": damaged}

    @app.post("/search")
    def find(body: SearchBody) -> dict[str, Any]:
        """Passages for a question."""
        return service.search(body)

    @app.post("/ask")
    def answer(body: AskBody) -> dict[str, Any]:
        """An answer with its passages, whole."""
        request = AskRequest(
            body.question,
            k=body.k,
            retriever=body.retriever,
            filters=_filters(body.service, body.path, body.since),
            max_new_tokens=body.max_new_tokens,
            sampling=Sampling(body.temperature, body.top_p, seed=body.seed),
            cite=body.cite,
        )
        return service.ask(request, body.index, body.model or service.shelf.models[0]).to_json()

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        """What the chat completions can be asked as `model`."""
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "rag-vs-ft"} for name in service.served()]
        return {"object": "list", "data": listed}

    @app.get("/v1/models/{name:path}")
    def model(name: str) -> dict[str, Any]:
        """One of them."""
        service.meant(name)
        return {"id": name, "object": "model", "created": 0, "owned_by": "rag-vs-ft"}

    @app.post("/v1/chat/completions")
    async def complete(body: ChatBody) -> Response:
        """A chat completion, whole or streamed, with the passages it rests on."""
        index, model_name = service.meant(body.model)
        chat = Chat(body)
        checked_query(body.question)
        if body.stream:
            stream = _streamed(service, chat, index, model_name)
            first = await anext(stream)  # what cannot be answered is said with its status, before the stream begins
            return StreamingResponse(_then(first, stream), media_type="text/event-stream", headers={"cache-control": "no-store"})
        answer = await run_in_threadpool(service.ask, chat.request, index, model_name)
        return JSONResponse(chat.whole(answer))


async def _streamed(service: Service, chat: Chat, index: str | None, model: str) -> AsyncIterator[str]:
    """Events of an answer that a thread writes. When the client goes away, the thread ends at its next word."""
    pieces: asyncio.Queue[str | Answer | Exception] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    gone = threading.Event()

    def put(piece: str | Answer | Exception) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    def written(piece: str) -> None:
        if gone.is_set():
            raise _Gone
        put(piece)

    def work() -> None:
        try:
            put(service.ask(chat.request, index, model, written))
        except _Gone:
            service.metrics.stopped.inc()
        except Exception as error:  # told to the client by the handler of its kind, or in the stream
            put(error)

    worker = threading.Thread(target=work, name="answer", daemon=True)
    worker.start()
    started = False
    try:
        while True:
            piece = await pieces.get()
            if isinstance(piece, Exception):
                if not started:
                    raise piece
                yield _event({"error": failures.told(piece)[1]})
                return
            if not started:
                started = True
                yield _event(chat.piece({"role": "assistant", "content": ""}))
            if isinstance(piece, Answer):
                if rest := chat.sources(piece):
                    yield _event(chat.piece({"content": rest}))
                yield _event(chat.piece({}, chat.finish(piece), rag_vs_ft=chat.about(piece)))
                if chat.body.stream_options and chat.body.stream_options.include_usage:
                    yield _event(chat.last(piece))
                yield "data: [DONE]\n\n"
                return
            yield _event(chat.piece({"content": piece}))
    finally:
        gone.set()


async def _then(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for event in rest:
        yield event


def _event(record: dict[str, Any]) -> str:
    return f"data: {json.dumps(record, ensure_ascii=False)}\n\n"
