"""Stands for a Qdrant server: its REST routes over the client's own engine in memory, and faults as a test wants them."""

from __future__ import annotations

import json
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient, models

warnings.filterwarnings("ignore", message=".*[Ll]ocal (mode|Qdrant).*")
Fault = Callable[[str, str], "tuple[int, Any] | float | str | None"]
"""(method, path) -> a status with its body, seconds to be silent, "cut" (half an answer), "drip", or None for the true answer."""


@dataclass
class Stub:
    """What the server holds, what it was asked, and how it fails."""

    engine: QdrantClient = field(default_factory=lambda: QdrantClient(":memory:"))
    fault: Fault = lambda method, path: None
    key: str = ""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    url: str = ""
    split: dict[str, dict[str, int]] = field(default_factory=dict)
    """Shards and replicas of each collection, which the engine in memory does not have."""

    def count(self, path: str) -> int:
        """Requests so far whose path ends so."""
        return sum(found.endswith(path) for _, found, _ in self.requests)

    def sent(self, path: str = "/points") -> int:
        """Points that were sent so far."""
        return sum(len(body["points"]) for method, found, body in self.requests if method == "PUT" and found.endswith(path))


def answer(engine: QdrantClient, method: str, path: str, body: Any) -> Any:
    """The result of a request; raises KeyError for a route that is not here."""
    if (method, path) == ("GET", "/aliases"):
        return engine.get_aliases()
    if (method, path) == ("POST", "/collections/aliases"):
        return engine.update_collection_aliases(models.ChangeAliasesOperation.model_validate(body).actions)
    found = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
    if not found:
        raise KeyError(path)
    name, rest = found[1], found[2] or ""
    match (method, rest):
        case ("GET", ""):
            return engine.get_collection(name)
        case ("PUT", ""):
            wanted = models.CreateCollection.model_validate(body)
            return engine.create_collection(
                name, vectors_config=wanted.vectors, sparse_vectors_config=wanted.sparse_vectors, metadata=wanted.metadata
            )
        case ("PATCH", ""):
            return engine.update_collection(name, metadata=body["metadata"])
        case ("DELETE", ""):
            return engine.delete_collection(name)
        case ("PUT", "/index"):
            return engine.create_payload_index(name, body["field_name"], body["field_schema"])
        case ("PUT", "/points"):
            return engine.upsert(name, models.PointsList.model_validate(body).points)
        case ("POST", "/points"):
            return engine.retrieve(name, body["ids"], with_payload=True)
        case ("POST", "/points/delete"):
            return engine.delete(name, body["points"])
        case ("POST", "/points/count"):
            where = models.CountRequest.model_validate(body)
            return engine.count(name, where.filter, exact=True)
        case ("POST", "/points/scroll"):
            asked = models.ScrollRequest.model_validate(body)
            points, offset = engine.scroll(
                name, asked.filter, limit=asked.limit or 10, offset=asked.offset, with_payload=asked.with_payload
            )
            return {"points": [point.model_dump(mode="json") for point in points], "next_page_offset": offset}
        case ("POST", "/points/query/batch"):
            return engine.query_batch_points(name, models.QueryRequestBatch.model_validate(body).searches)
        case ("POST", "/facet"):
            facet = models.FacetRequest.model_validate(body)
            return engine.facet(name, facet.key, facet.filter, limit=facet.limit or 10)
    raise KeyError(path)


def dumped(result: Any) -> Any:
    if isinstance(result, list):
        return [dumped(one) for one in result]
    return result.model_dump(mode="json") if hasattr(result, "model_dump") else result


@contextmanager
def serving(stub: Stub | None = None, port: int = 0) -> Iterator[Stub]:
    """The stub behind a port of this machine."""
    stub = stub or Stub()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # no connection outlives the server
        disable_nagle_algorithm = True

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            path = self.path.partition("?")[0]
            with lock:
                stub.requests.append((self.command, path, body))
            if stub.key and self.headers.get("api-key") != stub.key:
                self._send(403, {"status": {"error": f"Invalid API key {self.headers.get('api-key')}"}})
                return
            fault = stub.fault(self.command, path)
            if isinstance(fault, float):
                time.sleep(fault)
            elif isinstance(fault, tuple):
                self._send(*fault)
                return
            try:
                with lock:
                    result = dumped(answer(stub.engine, self.command, path, body))
                collection = path.removeprefix("/collections/")
                if self.command == "PUT" and path == f"/collections/{collection.partition('/')[0]}":
                    stub.split[collection] = {key: body.get(key) or 1 for key in ("shard_number", "replication_factor")}
                elif self.command == "GET" and collection in stub.split:
                    result["config"]["params"] |= stub.split[collection]
                status, shown = 200, {"result": result, "status": "ok", "time": 0.001}
            except ValueError as error:
                status, shown = (404 if "not found" in str(error) else 400), {"status": {"error": str(error)}}
            self._send(status, shown, fault if isinstance(fault, str) else "")

        def _send(self, status: int, body: Any, how: str = "") -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            if how == "cut":
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif how == "drip":
                try:
                    for byte in data:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        time.sleep(0.05)
                except OSError:
                    self.close_connection = True
            else:
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _any

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client gave up
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
