"""The app in a process of its own, as `rag-vs-ft app` starts it, and plain requests to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(home, cache: Path, *words: str, port: int = 0, **environment: str) -> Iterator[int]:
    """The app of a home; gives its port (0: any). `words` are more options, `environment` more variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = port or free.getsockname()[1]
    command = [sys.executable, "-m", "rag_vs_ft", "app", "--port", str(port), "--home", str(home.root), *words]
    process = subprocess.Popen(command, env={**os.environ, "RAG_VS_FT_CACHE": str(cache), **environment})
    try:
        deadline = time.monotonic() + 120
        while status(port, "/")[0] == 0:
            assert process.poll() is None and time.monotonic() < deadline, "the app does not start"
            time.sleep(0.2)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def status(port: int, path: str, headers: Mapping[str, str] = {}) -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body and headers of a request; status 0 when nothing answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers
    except OSError:
        return 0, b"", {}


def websocket_status(port: int, path: str = "/_stcore/stream", **headers: str) -> int:
    """The status that a websocket's handshake is answered with."""
    lines = {
        "Host": f"localhost:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        words = [f"GET {path} HTTP/1.1", *(f"{key}: {value}" for key, value in lines.items()), "\r\n"]
        connection.sendall("\r\n".join(words).encode())
        return int(connection.recv(64).split()[1])
