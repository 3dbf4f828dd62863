"""`rag-vs-ft serve` under load: fifty clients of all manners while the index changes, and what is left of them after."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import tiny
from test_service import free_port

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.index import build

PAGES = 6
SWITCHES = 12
SEARCHERS, ASKERS, SLOW, DROPPING, HALF = 20, 8, 10, 8, 4


def write(root: Path, edition: int) -> None:
    root.mkdir(exist_ok=True)
    for number in range(PAGES):
        (root / f"{number}.md").write_text(f"# Page {number}\n\nThe limit of edition {edition} is {edition} days.\n")


def editions(hits: list[dict[str, str]]) -> set[str]:
    return {hit["text"].split("edition ")[1].split()[0] for hit in hits}


@contextlib.contextmanager
def serving(home: settings.Home, log: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The verb itself, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "rag_vs_ft", "serve", "--port", str(port), "--home", str(home.root)]
    command += ["--model", "extractive", "--model", str(home.root / "llama"), "--engine", "transformers"]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, env=os.environ) as process:
        try:
            while True:
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
                    break
                time.sleep(0.1)
            yield port, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


class Clients:
    """Fifty of them. Each loops until `done`; what the server said is counted, what it must not say is noted."""

    def __init__(self, port: int, model: str) -> None:
        self.port, self.model = port, model
        self.done = threading.Event()
        self.counts: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.wrong: list[str] = []
        kinds = ((SEARCHERS, self.search), (ASKERS, self.ask), (SLOW, self.read_slowly), (DROPPING, self.drop), (HALF, self.half))
        self.threads = [threading.Thread(target=self.loop, args=(kind,)) for count, kind in kinds for _ in range(count)]

    def loop(self, kind: Callable[[httpx.Client], None]) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=120) as http:
            while not self.done.is_set():
                try:
                    kind(http)
                except Exception as error:
                    self.wrong.append(f"{kind.__name__}: {error!r}")

    def search(self, http: httpx.Client) -> None:
        answer = http.post("/search", json={"question": "edition limit", "index": "docs", "k": PAGES, "retriever": "bm25"})
        found = editions(answer.json()["hits"])
        self.seen |= found
        self.counts["searches"] += 1
        if len(found) != 1 or len(answer.json()["hits"]) != PAGES:
            self.wrong.append(f"mixed: {found}")

    def ask(self, http: httpx.Client) -> None:
        answer = http.post("/ask", json={"question": "What is the limit?", "index": "docs", "k": PAGES, "model": "extractive"})
        if answer.status_code == 429:
            assert answer.headers["retry-after"]
            self.counts["asked to come again"] += 1
            time.sleep(0.2)
            return
        self.counts["answers"] += 1
        if len(editions(answer.json()["hits"])) != 1:
            self.wrong.append(f"mixed: {answer.json()}")

    def stream(self, model: str, receive: int = 0) -> socket.socket:
        body = {"model": model, "stream": True, "max_tokens": 60, "messages": [{"role": "user", "content": "The limit?"}]}
        raw = json.dumps(body).encode()
        connection = socket.socket()
        if receive:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        connection.settimeout(120)
        connection.connect(("127.0.0.1", self.port))
        head = ("POST /v1/chat/completions HTTP/1.1", "host: localhost", f"content-length: {len(raw)}")
        connection.sendall("\r\n".join((*head, "content-type: application/json", "", "")).encode() + raw)
        return connection

    def read_slowly(self, http: httpx.Client) -> None:
        """A byte a second, until the others have ended."""
        with self.stream(self.model, receive=1024) as connection:
            while not self.done.is_set() and connection.recv(1):
                self.counts["bytes read slowly"] += 1
                self.done.wait(1)

    def drop(self, http: httpx.Client) -> None:
        """Gone in the middle of an answer, without a farewell (RST)."""
        with self.stream(self.model) as connection:
            start = connection.recv(400)
            assert start.startswith((b"HTTP/1.1 200", b"HTTP/1.1 429")), start
            self.counts["connections dropped"] += start.startswith(b"HTTP/1.1 200")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.2)

    def half(self, http: httpx.Client) -> None:
        """A request that is never finished."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{")
            self.counts["half requests"] += 1
            self.done.wait(2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="counts open files as Unix does")
def test_fifty_clients_while_the_index_changes_leave_nothing_behind(
    tmp_path: Path, home: settings.Home, tiny_embedder: str
) -> None:
    write(tmp_path / "docs", 0)
    store.add("docs", str(tmp_path / "docs"), home=home)
    build.build("docs", "docs", build.Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    tiny.save_llama(home.root / "llama")
    log = tmp_path / "log"
    with serving(home, log) as (port, process):
        http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120)
        for _ in range(3):  # what is loaded once is loaded
            asked = {"question": "What is the limit?", "index": "docs"}
            assert http.post("/ask", json=asked).status_code == 200
            assert http.post("/ask", json={**asked, "model": str(home.root / "llama")}).status_code == 200
        before = (process.num_fds(), process.memory_info().rss)
        clients = Clients(port, str(home.root / "llama"))
        assert len(clients.threads) == 50
        for thread in clients.threads:
            thread.start()
        for edition in range(1, SWITCHES + 1):
            write(tmp_path / "docs", edition)
            store.update("docs", home=home)
            assert build.update("docs", home).published
            time.sleep(0.5)
        clients.done.set()
        for thread in clients.threads:
            thread.join(120)
        assert not clients.wrong
        wanted = ("searches", "answers", "bytes read slowly", "connections dropped", "half requests")
        assert all(clients.counts[name] for name in wanted), clients.counts
        assert len(clients.seen) > SWITCHES // 2
        until = time.monotonic() + 60
        while time.monotonic() < until:  # answers that nobody waits for end at their next word
            said = http.get("/metrics").text
            running = re.search(r"^rag_vs_ft_answers_running (\S+)$", said, re.M)
            after = (process.num_fds(), process.memory_info().rss)
            if running and float(running[1]) == 0 and after[0] <= before[0] + 3:
                break
            time.sleep(0.2)
        print(dict(clients.counts), len(clients.seen), "editions;", before, after)
        assert running and float(running[1]) == 0
        assert after[0] <= before[0] + 3 and after[1] < before[1] + (100 << 20)
        statuses = set(re.findall(r'rag_vs_ft_requests_total\{[^}]*status="(\d+)"', said))
        assert {"200", "499"} <= statuses <= {"200", "408", "429", "499"}
        answer = http.post("/search", json={"question": "edition limit", "index": "docs", "k": PAGES}).json()
        assert editions(answer["hits"]) == {str(SWITCHES)}
    assert len(log.read_text().splitlines()) == 2, log.read_text()  # nothing was said after the greeting
