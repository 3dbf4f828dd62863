"""An index on a Qdrant server, open for searching: `qdrant:URL/NAME`. `index.publishing` puts it there.

Every passage is a point of one collection and every document a point of another, each with its vector and, as a sparse vector,
the BM25 weights of its terms (`lexical.weights`). The server multiplies them by the IDF of the query's terms, by the formula that
BM25 has here, and what it finds is fused by the same code as the legs of a local index. Who may read a passage is part of each
query. A generation is a pair of collections, to which an alias points; what it is stands in the collection's metadata.

Whatever a server does, a search ends: each call has a time and a number of tries, and what is not an answer is an error.
"""

from __future__ import annotations

import copy
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from random import Random
from time import sleep
from typing import TYPE_CHECKING, Any, NoReturn

from rag_vs_ft import files, remote, settings
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.groups import may_read
from rag_vs_ft.index import lexical
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.generations import Generation
from rag_vs_ft.index.lazy import loaded_once
from rag_vs_ft.index.manifest import IndexManifest
from rag_vs_ft.index.ranking import Ranking
from rag_vs_ft.index.search import WEIGHTS, Filters, Index, Leg, check_way, passage_leg
from rag_vs_ft.records import Chunk, Hit, Reranker
from rag_vs_ft.remote import ServerUrl
from rag_vs_ft.settings import check_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREFIX = "qdrant:"
KEY = "RAG_VS_FT_QDRANT_KEY"
"""The environment variable that holds the server's key, if it wants one."""
DENSE, WORDS = "dense", "bm25"
"""The vectors of a point: the embedding, and the weights of its terms."""
DOCUMENT_DEPTH = 1_000
"""Documents that each leg of whole documents ranks; those beyond count as the last of them, or by rank not at all."""
EF_SEARCH = 128
"""Vectors held while the server's graph is searched, at least."""
TRIES = 3
LARGEST = 256 << 20
"""Bytes of one response."""
METADATA = "rag_vs_ft"


class Unreachable(UserError):
    """The server cannot be used now; what was asked may be right."""


class NotPublished(UserError):
    """The server has no index of this name."""


def is_published(name: str) -> bool:
    """Whether the name of an index is the address of one on a server."""
    return name.lower().startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class Published:
    """Where an index is: a server, and its name there."""

    place: ServerUrl
    name: str

    @staticmethod
    def of(text: str) -> Published:
        """The address `qdrant:URL/NAME`. Raises UserError for one that cannot be used."""
        url, _, name = text[len(PREFIX) :].rstrip("/").rpartition("/")
        return Published(qdrant_url(url), check_name("index", name))

    def __str__(self) -> str:
        return f"{PREFIX}{self.place.url}/{self.name}"


def qdrant_url(url: str) -> ServerUrl:
    """The server at `url`. Raises UserError for one that cannot be used, or that is not this machine unless that is allowed."""
    form = "write it as http://127.0.0.1:6333, and an index on it as qdrant:http://127.0.0.1:6333/NAME"
    return remote.server_url(url, form=form, key=KEY, sent="your documents and the questions about them")


def term_number(term: str) -> int:
    """The dimension of a term in sparse vectors, 32 bits: of a million terms, one in 4,000 shares its dimension with another."""
    return int(files.sha256_text(term)[:8], 16)


def point_number(text_id: str) -> int:
    """The number of a passage's point: its id, so that both are in one order."""
    return int(text_id, 16)


def document_number(document_id: str) -> int:
    """The number of a document's point."""
    return int(files.sha256_text(document_id)[:16], 16)


def sparse(weights: Iterable[tuple[str, float]]) -> Any:
    """Terms and weights as a sparse vector; those that share a dimension are added up."""
    from qdrant_client import models

    total: dict[int, float] = {}
    for term, weight in weights:
        number = term_number(term)
        total[number] = total.get(number, 0.0) + weight
    return models.SparseVector(indices=list(total), values=list(total.values()))


def labels(record: dict[str, Any]) -> dict[str, Any]:
    """The payload that filters look at, of a passage or document: its service in small letters, its date as a number."""
    day = str(record["date"])[:10].replace("-", "")
    dated = {"day": int(day)} if len(day) == 8 and day.isascii() and day.isdigit() else {}
    return {"service_key": str(record["service"]).lower(), **dated}


# --- the server -------------------------------------------------------------------------------------------------------


class QdrantServer:
    """A Qdrant server. `client` replaces the one that speaks HTTP; threads may share it."""

    def __init__(self, place: ServerUrl, *, patience: float = 1.0, client: Any = None) -> None:
        self.place = place
        self._seconds = patience * settings.qdrant_seconds()
        self._client = client or self._connected()

    def _connected(self) -> Any:
        try:
            import httpx
            from qdrant_client import QdrantClient
        except ImportError as error:
            raise UserError(f"{error.name or error} is not installed", "pip install 'rag-vs-ft[qdrant]'") from error
        key = remote.key_of(KEY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a key goes over plain HTTP: to this machine, or where it was allowed
            return QdrantClient(
                url=self.place.url,
                api_key=key or None,
                check_compatibility=False,
                transport=_bounded(self._seconds),
                limits=httpx.Limits(max_connections=64),
                # A proxy of the environment would carry what is meant for this machine elsewhere.
                trust_env=self.place.remote,
                follow_redirects=False,
            )

    def call(self, method: str, *given: Any, **named: Any) -> Any:
        """What a method of the client gives, after as many tries as may help.

        Raises Unreachable when the server does not answer, NotPublished for a collection that is not there, UserError for
        anything else that it refuses.
        """
        for number in range(1, TRIES + 1):
            try:
                return getattr(self._client, method)(*given, **named)
            except Exception as error:
                wait = 0.5 * 2 ** (number - 1)
                message, hint, again = self._read(error)
                if not again or number == TRIES:
                    raise Unreachable(f"the Qdrant server at {self.place.host} cannot be used: {message}", hint) from error
                sleep(wait)
        raise AssertionError("not reached")

    def _read(self, error: Exception) -> tuple[str, str, bool]:
        """What went wrong, what to do, and whether another try may help. Raises what is not a fault of the server."""
        import httpx
        from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        log = "see the server's log, then run the same command again"
        if isinstance(error, ResourceExhaustedResponse):
            return "it has too much to do", "wait and run the same command again", True
        if isinstance(error, ResponseHandlingException):
            source = error.source
            if isinstance(source, httpx.TimeoutException):
                return f"it did not answer within {self._seconds:g} s", "see its load, or raise RAG_VS_FT_QDRANT_SECONDS", True
            if isinstance(source, httpx.ConnectError):
                return "nothing answers there", "start the server, or check host and port", True
            if isinstance(source, (httpx.HTTPError, httpx.StreamError)):
                return remote.shown(str(source), KEY) or type(source).__name__, log, True
            return "it answers with what is not Qdrant's", "check that it is the address of a Qdrant server", False
        if isinstance(error, UnexpectedResponse):
            status = error.status_code or 0
            said = remote.shown(_said(error.content), KEY)
            if status in (401, 403):
                raise UserError(f"{self.place.host} refuses: {said or status}", f"set {KEY} to the server's key") from error
            if status == 404:
                raise NotPublished(f"{self.place.host} answers 404: {said}", "check the address and the name") from error
            if 300 <= status < 400:
                raise UserError(f"{self.place.host} sends requests on, which is not followed", "name that address itself")
            if status in remote.AGAIN:
                return f"it answered {status}: {said}", log, True
            raise UserError(f"{self.place.host} answered {status}: {said}", "see the server's log") from error
        if isinstance(error, ValueError) and "not found" in str(error):  # the client that has its data in memory
            raise NotPublished(str(error), "check the name") from error
        if isinstance(error, ValueError):  # JSON that is none
            return "it answers with what is not Qdrant's", "check that it is the address of a Qdrant server", False
        raise error


def _bounded(seconds: float) -> Any:
    """A transport for httpx that gives up a response that is too slow or too large as a whole."""
    import httpx

    class Stream(httpx.SyncByteStream):
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __iter__(self) -> Iterator[bytes]:
            size, end = 0, time.monotonic() + 4 * seconds
            for block in self.stream:
                size += len(block)
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the response did not end")
                if size > LARGEST:
                    raise httpx.StreamError(f"more than {LARGEST >> 20} MiB")
                yield block

        def close(self) -> None:
            self.stream.close()

    class Transport(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            request.extensions["timeout"] = httpx.Timeout(seconds, connect=min(5.0, seconds)).as_dict()
            response = super().handle_request(request)
            response.stream = Stream(response.stream)
            return response

    return Transport()


def _said(content: bytes) -> str:
    """The message in the body of a refusal."""
    text = content.decode("utf-8", "replace")
    try:
        status = json.loads(text)["status"]
        return str(status.get("error", status) if isinstance(status, dict) else status)
    except (ValueError, KeyError, TypeError):
        return text


# --- what is published ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """What a collection holds, as its metadata says: the index, the collection's own name, the hash of what decides its points
    (`shape`), the average lengths that its weights were made with, and the manifest of the generation ({} until it is whole)."""

    index: str
    collection: str
    shape: str
    mean_length: float
    document_mean_length: float
    documents: int = 0
    manifest: dict[str, Any] | None = None

    @property
    def identity(self) -> str:
        """The hash of the manifest."""
        return files.sha256_text(json.dumps(self.manifest, sort_keys=True))

    def metadata(self) -> dict[str, str]:
        """The metadata of a collection."""
        return {METADATA: json.dumps(asdict(self))}


def documents_of(collection: str) -> str:
    """The collection with the documents of a collection of passages."""
    return f"{collection}--documents"


def read_state(server: QdrantServer, collection: str) -> State | None:
    """What a collection, or the one that an alias points to, says of itself; None for one that is not ours.

    Raises NotPublished when it is not there.
    """
    from pydantic import TypeAdapter, ValidationError

    found = server.call("get_collection", collection)
    try:
        return TypeAdapter(State).validate_json((found.config.metadata or {})[METADATA])
    except (KeyError, ValidationError):
        return None


def count(server: QdrantServer, collection: str, where: Any = None) -> int:
    """The points of a collection that a filter leaves, counted one by one."""
    return int(server.call("count", collection, count_filter=where, exact=True).count)


class QdrantIndex(Index):
    """A published generation. Passages are numbered by their ids, which are in the order of a local index's rows."""

    def __init__(self, where: Published, server: QdrantServer, state: State, embedder: Embedder | None = None) -> None:
        self.where = where
        self.server = server
        self.state = state
        self.manifest = IndexManifest.parse(state.manifest or {}, str(where), self._again)
        # Its name is what results, caches and pages need; there is no such folder.
        self.generation = Generation(Path(where.name) / self.manifest.generation, self.manifest)
        self._given_embedder = embedder
        self.reader = settings.reader()
        self._refuse_foreign()

    @staticmethod
    def at(text: str, *, embedder: Embedder | None = None, server: QdrantServer | None = None) -> QdrantIndex:
        """The index at `qdrant:URL/NAME` that answers now.

        Raises NotPublished when there is none, Unreachable when the server does not answer, CheckFailed when it is not whole.
        """
        where = Published.of(text)
        server = server or QdrantServer(where.place)
        again = f"rag-vs-ft index publish {where.name} --to {where.place.url}"
        try:
            state = read_state(server, where.name)
        except NotPublished as error:
            raise NotPublished(f"{where.place.host} has no index {where.name!r}", again) from error
        if state is None or state.index != where.name:
            raise CheckFailed(f"the collection {where.name!r} of {where.place.host} was not published by rag-vs-ft", again)
        if state.manifest is None:
            raise CheckFailed(f"{where} is not whole: it is being published, or that was stopped", again)
        index = QdrantIndex(where, server, state, embedder)
        for collection, expected in ((state.collection, len(index)), (documents_of(state.collection), state.documents)):
            if (found := count(server, collection)) != expected:
                raise CheckFailed(f"{where} has {found:,} of {expected:,} points in {collection}", again)
        return index

    @property
    def name(self) -> str:
        """The address of the index."""
        return str(self.where)

    @property
    def _again(self) -> str:
        return f"rag-vs-ft index publish {self.where.name} --to {self.where.place.url}"

    def _rebuild(self) -> str:
        return f"build the index anew where it was published from, then {self._again}"

    def read_as(self, reader: frozenset[str]) -> Index:
        """The same index for someone else."""
        other = copy.copy(self)
        other.reader = reader
        other.__dict__.pop("_hidden", None)
        return other

    def answers_now(self) -> bool:
        """Whether this is the generation that the server's alias points to; False when that cannot be told."""
        try:
            state = read_state(self.server, self.where.name)
        except UserError:
            return False
        return state is not None and state == self.state

    @property
    def bytes(self) -> int:
        """Nothing of it is on this machine."""
        return 0

    # --- reading ---

    def search(
        self,
        query: str,
        k: int = settings.K,
        *,
        retriever: str = settings.RETRIEVER,
        fusion: str = settings.FUSION,
        filters: Filters | None = None,
        rerank: Reranker | None = None,
        rerank_depth: int = settings.RERANK_DEPTH,
    ) -> list[Hit]:
        """As `Index.search`. Raises Unreachable when the server does not answer, CheckFailed when it is published anew."""
        hits = super().search(
            query, k, retriever=retriever, fusion=fusion, filters=filters, rerank=rerank, rerank_depth=rerank_depth
        )
        self._require_unchanged()
        return hits

    def _run(self, search: Callable[[], list[Hit]]) -> list[Hit]:
        return search()  # it waits for a server, not for a core

    def _require_unchanged(self) -> None:
        # Publishing says so before it writes: what is still as it was has been so all the while.
        if read_state(self.server, self.state.collection) != self.state:
            raise CheckFailed(f"{self.where} was published anew while it was open", "ask again")

    @loaded_once
    def bm25(self) -> lexical.Lexical:
        """The analyzer of the BM25 leg; scores are the server's."""
        was = self.manifest.inputs
        spoken = tuple(sorted({code or "en" for code in self.manifest.languages})) or ("en",)
        return lexical.Lexical(Path(), was.analyzer, was.bm25, spoken, self.state.mean_length)

    @loaded_once
    def _document_bm25(self) -> lexical.Lexical:
        return replace(self.bm25, analyzer=replace(self.bm25.analyzer, pairs=False))

    def where_clause(self, filters: Filters | None = None) -> Any:
        """The filter of every query: what its reader may read, and what `filters` leave."""
        from qdrant_client import models

        readable: list[Any] = [models.IsEmptyCondition(is_empty=models.PayloadField(key="groups"))]
        if self.reader:
            readable.append(models.FieldCondition(key="groups", match=models.MatchAny(any=sorted(self.reader))))
        must: list[Any] = [models.Filter(should=readable)]
        if filters and filters.service:
            must.append(models.FieldCondition(key="service_key", match=models.MatchValue(value=filters.service.lower())))
        if filters and filters.path:
            must.append(models.FieldCondition(key="document_id", match=models.MatchPrefix(prefix=filters.path)))
        if filters and filters.since:
            day = int(filters.since[:10].replace("-", ""))
            must.append(models.FieldCondition(key="day", range=models.Range(gte=day)))
        return models.Filter(must=must)

    def _legs(self, query: str, depth: int, retriever: str, fusion: str, filters: Filters | None) -> list[Leg]:
        check_way(retriever, fusion)
        where, passages = self.where_clause(filters), self.state.collection
        vector = self.embedder.encode_query(query) if retriever != "bm25" else None
        terms = self.bm25.terms(query) if retriever != "dense" else []
        bm25, dense = self._asked(passages, terms, vector, depth, where)
        if vector is not None and not dense and count(self.server, passages, where):
            raise Unreachable(
                f"the Qdrant server at {self.where.place.host} found nothing among vectors that it has",
                "see the server's log, then run the same command again",
            )
        weights = WEIGHTS[fusion]
        legs = [
            passage_leg(weight, Ranking.of([(point, rank, score) for rank, (point, _, score) in enumerate(leg, start=1)]), depth)
            for weight, leg in ((weights.bm25, bm25), (weights.dense, dense))
        ]
        if retriever == "hybrid":
            of_passage = {point: document for point, document, _ in (*bm25, *dense)}
            collection = documents_of(passages)
            words = self._document_bm25.terms(query) if weights.document_bm25 else []
            found = self._asked(collection, words, vector, DOCUMENT_DEPTH, where)
            for weight, leg in zip((weights.document_bm25, weights.document_dense), found, strict=True):
                ordered = sorted(leg, key=lambda hit: (-hit[2], hit[1]))
                ranks = {document: (rank, score) for rank, (_, document, score) in enumerate(ordered, start=1)}
                places = [(point, *ranks[document]) for point, document in sorted(of_passage.items()) if document in ranks]
                legs.append(Leg(weight, Ranking.of(places), ordered[-1][2] if len(ordered) >= DOCUMENT_DEPTH else 0.0))
        return legs

    def _asked(
        self, collection: str, terms: Sequence[str], vector: NDArray[np.float32] | None, depth: int, where: Any
    ) -> tuple[list[tuple[int, str, float]], list[tuple[int, str, float]]]:
        """(point, its document, score) of the best by the words and by the vector of a query, each best first, ties by point."""
        from qdrant_client import models

        asked: list[tuple[str, Any]] = []
        if terms:
            asked.append((WORDS, sparse((term, float(number)) for term, number in Counter(terms).items())))
        if vector is not None:
            asked.append((DENSE, vector.tolist()))
        found: dict[str, list[tuple[int, str, float]]] = {}
        if asked:
            requests = [
                models.QueryRequest(
                    query=query,
                    using=using,
                    filter=where,
                    limit=depth,
                    params=models.SearchParams(hnsw_ef=max(EF_SEARCH, depth)) if using == DENSE else None,
                    with_payload=["document_id"],
                )
                for using, query in asked
            ]
            answers = self.server.call("query_batch_points", collection, requests=requests)
            for (using, _), answer in zip(asked, answers, strict=True):
                hits = [(int(point.id), str((point.payload or {})["document_id"]), float(point.score)) for point in answer.points]
                kept = [hit for hit in hits if using == DENSE or hit[2] > 0]
                found[using] = sorted(kept, key=lambda hit: (-hit[2], hit[0]))
        return found.get(WORDS, []), found.get(DENSE, [])

    def _chunks(self, rows: Sequence[int]) -> list[Chunk]:
        wanted = list(rows)
        if not wanted:
            return []
        points = self.server.call("retrieve", self.state.collection, ids=wanted, with_payload=True)
        found = {int(point.id): self._chunk(point.payload) for point in points}
        if missing := [row for row in wanted if row not in found]:
            raise CheckFailed(f"{self.where} lost {len(missing)} passages while it was read", "ask again, or publish it again")
        return [found[row] for row in wanted]

    def _chunk(self, payload: dict[str, Any] | None) -> Chunk:
        record = {field.name: (payload or {})[field.name] for field in fields(Chunk)}
        chunk = Chunk(**{**record, "groups": tuple(record["groups"])})
        if not may_read(chunk.groups, self.reader):  # whatever the server makes of a filter
            raise CheckFailed(f"{self.where} gave a passage that is for others", "do not use this server")
        return chunk

    def _row(self, chunk: Chunk) -> int:
        return point_number(chunk.id)

    def _scrolled(self, collection: str, where: Any, payload: Any) -> Iterator[Any]:
        """Every point that a filter leaves, in order of its number."""
        offset = None
        while True:
            at = offset
            points, offset = self.server.call(
                "scroll", collection, scroll_filter=where, limit=1_000, offset=at, with_payload=payload
            )
            yield from points
            if offset is None:
                return

    @loaded_once
    def _hidden(self) -> int:
        return len(self) - count(self.server, self.state.collection, self.where_clause())

    @property
    def hidden(self) -> int:
        """How many passages are for groups that the reader is not in."""
        return self._hidden

    def document_ids(self, filters: Filters | None = None) -> set[str]:
        """Ids of the documents that a search with these filters looks at."""
        points = self._scrolled(documents_of(self.state.collection), self.where_clause(filters), ["document_id"])
        return {point.payload["document_id"] for point in points}

    def chunks_of(self, documents: Iterable[str]) -> Iterator[Chunk]:
        """Every passage of these documents that the reader may read."""
        from qdrant_client import models

        where = self.where_clause()
        where.must.append(models.FieldCondition(key="document_id", match=models.MatchAny(any=list(documents))))
        return (self._chunk(point.payload) for point in self._scrolled(self.state.collection, where, True))

    def random_chunks(self, draw: Random, count: int) -> Iterator[Chunk]:
        """Up to `count` different passages that the reader may read: those whose numbers follow numbers drawn by `draw`."""
        seen: set[str] = set()
        for _ in range(count):
            start, where = draw.getrandbits(64), self.where_clause()
            points, _ = self.server.call(
                "scroll", self.state.collection, scroll_filter=where, limit=1, offset=start, with_payload=True
            )
            for chunk in (self._chunk(point.payload) for point in points):
                if chunk.id not in seen:
                    seen.add(chunk.id)
                    yield chunk

    def services(self) -> list[str]:
        """The services of the passages that the reader may read."""
        where = self.where_clause()
        found = self.server.call("facet", self.state.collection, key="service", facet_filter=where, limit=10_000, exact=True)
        return sorted(str(hit.value) for hit in found.hits if hit.value)

    # --- what only a local index has ---

    def rows(self, filters: Filters | None = None) -> NoReturn:
        """Not here: a published index has no rows."""
        raise UserError(
            f"{self.where} is on a server, and this needs the index's own files", f"name the index itself: {self.where.name}"
        )

    @property
    def table(self) -> Any:
        """Not here, as `rows`."""
        self.rows()

    @property
    def dense(self) -> Any:
        """Not here, as `rows`."""
        self.rows()

    @property
    def documents_legs(self) -> Any:
        """Not here, as `rows`."""
        self.rows()
