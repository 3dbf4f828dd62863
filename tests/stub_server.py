"""A server of OpenAI's protocol that does what a test says: for faults, and for answers that a test can count."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """A response: JSON, or text as it is. `cut` closes the connection after so many bytes of the body; `wait` comes before it."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    wait: float = 0.0


@dataclass
class Stub:
    """`answer` gets path and body of each POST; `requests` keeps them with their headers. `models` are listed."""

    url: str
    answer: Callable[[str, dict[str, Any]], Reply]
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "tiny"}])
    requests: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    @property
    def asked(self) -> int:
        return len(self.requests)


def says(text: str, *, finish: str = "stop") -> Callable[[str, dict[str, Any]], Reply]:
    """Answers every request with `text`, streamed where that is asked for."""

    def answer(path: str, body: dict[str, Any]) -> Reply:
        return streamed(text, finish=finish) if body.get("stream") else whole(text, finish=finish)

    return answer


def whole(text: str, *, finish: str = "stop") -> Reply:
    choice = {"message": {"role": "assistant", "content": text}, "text": text, "finish_reason": finish}
    return Reply({"choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 3}})


def streamed(text: str, *, finish: str = "stop", done: bool = True) -> Reply:
    pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
    events = [{"choices": [{"delta": {"content": piece}, "text": piece}]} for piece in pieces]
    if finish:
        events.append({"choices": [{"delta": {}, "text": "", "finish_reason": finish}]})
        events.append({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3}})
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return Reply(lines + ("data: [DONE]\n\n" if done else ""))


@contextmanager
def serving(answer: Callable[[str, dict[str, Any]], Reply]) -> Iterator[Stub]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(Reply({"object": "list", "data": stub.models}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                stub.requests.append((self.path, body, dict(self.headers)))
                stub.at_once += 1
                stub.most_at_once = max(stub.most_at_once, stub.at_once)
            try:
                self._send(stub.answer(self.path, body))
            finally:
                with lock:
                    stub.at_once -= 1

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.wait)
            data = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
            try:
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data[: reply.cut])
            except (BrokenPipeError, ConnectionResetError):  # the client went away
                self.close_connection = True
            if reply.cut is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_port}/v1", answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
