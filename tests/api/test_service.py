"""The HTTP service as other programs meet it: a real server, OpenAI's own client."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
import tiny
import uvicorn

from rag_vs_ft import settings
from rag_vs_ft.api import door
from rag_vs_ft.api.service import create
from rag_vs_ft.cli import main
from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import build
from rag_vs_ft.index.build import Recipe
from rag_vs_ft.serving import ServerAddress
from rag_vs_ft.shelf import Shelf

DOCUMENTS = {
    "vault.md": "# Vault\n\nA deleted key vault is kept 90 days.\n\n## Port\n\nThe port is 443.\n",
    "pools.md": "# Node pools\n\nA cluster has one to two node pools.\n\n## Limit\n\nThe limit is 5 days.\n",
}
TOKEN = "a secret of ours"


def documents(home: settings.Home, **more: str) -> None:
    folder = home.root / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (DOCUMENTS | {f"{name}.md": text for name, text in more.items()}).items():
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_embedder) -> settings.Home:
    home = settings.home(tmp_path_factory.mktemp("service") / "home")
    documents(home)
    store.add("docs", str(home.root / "docs"), home=home)
    build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    tiny.save_llama(home.root / "llama")
    return home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A server in a thread."""

    def __init__(self, home: settings.Home, *, password: str = "", waiting: int = 8) -> None:
        self.port = free_port()
        self.shelf = Shelf(home, (str(home.root / "llama"), "extractive"), engine="transformers", waiting=waiting)
        self.app = create(self.shelf, ServerAddress(self.port, password=password))
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, port=self.port, log_level="error", h11_max_incomplete_event_size=65_536)
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=60)
        self.openai = openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            api_key=password or "none",
            max_retries=0,
            http_client=httpx.Client(trust_env=False),
        )

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} ([0-9.e+-]+)$", self.http.get("/metrics").text, re.M)
        return float(found[1]) if found else 0.0

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="module")
def served(place) -> Iterator[Served]:
    server = Served(place)
    yield server
    server.stop()


def question(text: str = "How many days is a deleted vault kept?") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def error_of(answer: httpx.Response) -> dict[str, str]:
    return answer.json()["error"]


def test_indexes_and_models_are_listed(served):
    assert served.http.get("/health").json()["status"] == "ok"
    (index,) = served.http.get("/indexes").json()["indexes"]
    assert (index["name"], index["documents"], index["generation"]) == ("docs", 2, "gen-000001")
    names = [model.id for model in served.openai.models.list()]
    assert names == ["docs", "docs@extractive", served.shelf.models[0]]
    assert served.openai.models.retrieve("docs@extractive").id == "docs@extractive"


def test_search_gives_the_fields_of_the_command_line(served, place, monkeypatch, capsys):
    asked = {"question": "deleted vault", "index": "docs", "k": 3, "explain": True}
    answer = served.http.post("/search", json=asked).json()
    monkeypatch.setattr(
        sys,
        "argv",
        ["rag-vs-ft", "search", "deleted vault", "--index", "docs", "-k", "3", "--explain", "--json", "--home", str(place.root)],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == answer
    assert answer["hits"][0]["document_id"] == "vault.md"


def test_ask_gives_the_fields_of_the_command_line(served):
    asked = {"question": "How long is a deleted vault kept?", "index": "docs", "model": "extractive"}
    answer = served.http.post("/ask", json=asked).json()
    assert "90 days" in answer["answer"]
    assert {"citations", "hits", "notices", "index_generation", "prompt_tokens", "engine"} <= answer.keys()
    bare = served.http.post("/ask", json={"question": "Hello?", "max_new_tokens": 3}).json()
    assert bare["hits"] == [] and bare["completion_tokens"] <= 3


def test_openais_client_gets_an_answer_with_its_sources(served):
    answer = served.openai.chat.completions.create(model="docs@extractive", messages=question())
    (choice,) = answer.choices
    assert "90 days" in choice.message.content
    assert "Sources:\n[1] Vault (vault.md)" in choice.message.content
    assert choice.finish_reason == "stop"
    about = answer.model_extra["rag_vs_ft"]
    assert 1 in about["citations"] and about["hits"][0]["document_id"] == "vault.md"
    without = served.openai.chat.completions.create(model="docs@extractive", messages=question(), extra_body={"sources": False})
    assert "Sources" not in without.choices[0].message.content


def test_a_stream_has_the_same_words(served):
    whole = served.openai.chat.completions.create(model="docs", messages=question(), max_tokens=12)
    with served.openai.chat.completions.create(
        model="docs", messages=question(), max_tokens=12, stream=True, stream_options={"include_usage": True}
    ) as stream:
        pieces = list(stream)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == whole.choices[0].message.content
    assert pieces[0].choices[0].delta.role == "assistant"
    assert [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1] == whole.choices[0].finish_reason
    assert pieces[-1].usage == whole.usage
    assert whole.usage.completion_tokens <= 12
    again = served.openai.chat.completions.create(model="docs", messages=question(), max_tokens=12, temperature=1.0, seed=7)
    same = served.openai.chat.completions.create(model="docs", messages=question(), max_tokens=12, temperature=1.0, seed=7)
    assert again.choices[0].message.content == same.choices[0].message.content


def test_an_answer_ends_before_a_stop_text(served):
    whole = served.openai.chat.completions.create(model=served.shelf.models[0], messages=question(), max_tokens=20)
    text = whole.choices[0].message.content
    mark = text[len(text) // 2 :][:3]
    cut = served.openai.chat.completions.create(model=served.shelf.models[0], messages=question(), max_tokens=20, stop=mark)
    assert cut.choices[0].message.content == text[: text.index(mark)]


def test_a_follow_up_is_read_with_the_question_before_it(served):
    messages = [{"role": "system", "content": "Be brief."}, *question("What is the port of the vault?")]
    messages += [{"role": "assistant", "content": "443"}, *question("And how long is it kept?")]
    about = served.openai.chat.completions.create(model="docs@extractive", messages=messages).model_extra["rag_vs_ft"]
    assert "read as: What is the port of the vault? And how long is it kept?" in about["notices"]
    assert any("1 system messages were not read" in notice for notice in about["notices"])
    ways = {"max_tokens": 3, "extra_body": {"rewrite": True, "cite": True}}
    about = served.openai.chat.completions.create(model="docs", messages=messages, **ways).model_extra["rag_vs_ft"]
    assert any(notice.startswith("read as: ") for notice in about["notices"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tools": []}, "tools"),
        ({"n": 2}, "n:"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "last message"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages.0.content"),
        ({"stream": "yes please"}, "stream"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(served, fields, said):
    answer = served.http.post("/v1/chat/completions", json={"model": "docs", "messages": question(), **fields})
    assert answer.status_code == 400
    assert said in error_of(answer)["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["nowhere", "docs@nowhere", "", "../docs", "docs@", "x" * 300])
def test_an_unknown_model_is_not_found(served, name, stream):
    if name == "docs@":  # names no other model, so the first
        return
    answer = served.http.post("/v1/chat/completions", json={"model": name, "messages": question(), "stream": stream})
    assert answer.status_code == 404
    assert "docs@extractive" in error_of(answer)["message"]
    with pytest.raises(openai.NotFoundError):
        served.openai.models.retrieve(name or "nothing")


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/search", {"question": "x", "index": "nowhere"}, 404, "there is no index 'nowhere' here"),
        ("/search", {"question": "", "index": "docs"}, 400, "empty"),
        ("/search", {"question": "x", "index": "docs", "k": 0}, 400, "k=0"),
        ("/search", {"question": "x", "index": "docs", "k": "3"}, 400, "k:"),
        ("/search", {"question": "x", "index": "docs", "since": "last week"}, 400, "is not a date"),
        ("/search", {"question": "x"}, 400, "index"),
        ("/search", {"question": "x", "index": "docs", "size": 3}, 400, "size"),
        ("/search", [], 400, "the body"),
        ("/ask", {"question": "x", "index": "docs", "model": "gpt-4"}, 404, "'gpt-4' is not served here"),
        ("/ask", {"question": "x", "model": "extractive"}, 400, "extractive"),
        ("/nowhere", {}, 404, "/docs lists"),
    ],
)
def test_wrong_input_is_told(served, path, body, status, said):
    answer = served.http.post(path, json=body)
    assert answer.status_code == status
    assert said in error_of(answer)["message"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"question": "\\ud800", "index": "docs"}'])
def test_a_broken_body_is_told(served, body):
    answer = served.http.post("/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["message"]


def test_a_large_request_is_refused(served):
    big = b'{"question": "' + b"x" * door.MAX_BODY_BYTES + b'"}'
    assert served.http.post("/search", content=big).status_code == 413
    pieces = (big[start : start + 65_536] for start in range(0, len(big), 65_536))
    assert served.http.post("/search", content=pieces).status_code == 413  # no length was announced


def test_a_slow_request_is_ended(served, monkeypatch):
    monkeypatch.setattr(door, "BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20\r\n\r\n{")
        assert b" 408 " in slow.recv(4096)


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"host": "127.0.0.1.evil.example:80"}]
)
def test_a_page_of_another_site_is_refused(served, headers):
    assert served.http.get("/indexes", headers=headers).status_code == 403
    assert served.http.post("/search", json={"question": "x", "index": "docs"}, headers=headers).status_code == 403


def test_the_list_of_routes_loads_nothing(served):
    page = served.http.get("/docs").text
    assert "/v1/chat/completions" in page and "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    assert served.http.get("/openapi.json").json()["openapi"].startswith("3.")


def test_a_token_opens_every_route(place):
    with pytest.raises(UserError, match=door.TOKEN_VARIABLE):
        ServerAddress(8765, "0.0.0.0", variable=door.TOKEN_VARIABLE)
    server = Served(place, password=TOKEN)
    try:
        routes = [(path, method) for path, methods in server.app.openapi()["paths"].items() for method in methods]
        assert len(routes) > 7
        for path, method in [*routes, ("/openapi.json", "get"), ("/nowhere", "get")]:
            for given in (
                {},
                {"authorization": f"Bearer {TOKEN}x"},
                {"authorization": f"Basic {TOKEN}"},
                {"authorization": "Bearer"},
            ):
                status = server.http.request(method, path, headers=given).status_code
                assert status == (200 if path in door.OPEN_TO_ALL else 401), path
        assert next(iter(server.openai.models.list())).id == "docs"
        with pytest.raises(openai.AuthenticationError):
            server.openai.with_options(api_key="wrong one").models.list()
    finally:
        server.stop()


def test_a_client_that_goes_away_stops_its_answer(served, monkeypatch):
    before = served.metric("rag_vs_ft_answers_stopped_total")
    from rag_vs_ft.api import service

    written = threading.Event()
    real = service.ask

    def slow(lm, request, index, *, on_text):
        """Answers for a minute, unless nobody listens."""
        for _ in range(6_000):
            on_text("word ")
            written.set()
            time.sleep(0.01)
        return real(lm, request, index)

    monkeypatch.setattr(service, "ask", slow)
    with served.openai.chat.completions.create(model="docs@extractive", messages=question(), stream=True) as stream:
        assert next(iter(stream)).choices
    assert written.wait(10)
    until = time.monotonic() + 20
    while served.metric("rag_vs_ft_answers_stopped_total") == before and time.monotonic() < until:
        time.sleep(0.05)
    assert served.metric("rag_vs_ft_answers_stopped_total") == before + 1
    assert served.metric("rag_vs_ft_answers_running") == 0


def test_a_search_does_not_wait_for_an_answer_and_too_many_questions_are_sent_away(place, monkeypatch):
    from rag_vs_ft.api import service

    server = Served(place, waiting=1)
    writing, go_on = threading.Event(), threading.Event()
    real = service.ask

    def held(lm, request, index, *, on_text=None):
        writing.set()
        assert go_on.wait(60)
        return real(lm, request, index, on_text=on_text)

    monkeypatch.setattr(service, "ask", held)
    asked = {"question": "How long is a vault kept?", "index": "docs", "model": "extractive"}
    try:
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(server.http.post, "/ask", json=asked) for _ in range(2)]
            assert writing.wait(10)
            while server.metric("rag_vs_ft_answers_running") < 2:
                time.sleep(0.01)
            assert server.http.post("/search", json={"question": "vault", "index": "docs"}).status_code == 200
            refused = server.http.post("/ask", json=asked)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            go_on.set()
            assert [done.result().status_code for done in waiting] == [200, 200]
    finally:
        go_on.set()
        server.stop()


def test_eight_clients_see_whole_generations_while_an_index_is_updated(tmp_path, tiny_embedder):
    home = settings.home(tmp_path / "home")
    documents(home, news="# News\n\nThe port of version 0 is 0.\n")
    store.add("docs", str(home.root / "docs"), home=home)
    build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    tiny.save_llama(home.root / "llama")
    server = Served(home)
    done = threading.Event()
    seen: set[tuple[str, str]] = set()
    failed: list[str] = []

    def client(number: int) -> None:
        while not done.is_set():
            if number % 2:
                chat = server.openai.chat.completions.create(
                    model="docs@extractive", messages=question("Which port has the version?")
                )
                about = chat.model_extra["rag_vs_ft"]
                seen.update((about["index_generation"], hit["text"]) for hit in about["hits"] if hit["document_id"] == "news.md")
                continue
            answer = server.http.post("/search", json={"question": "port version news", "index": "docs", "k": 10})
            if answer.status_code != 200:
                failed.append(answer.text)
                return
            found = answer.json()
            seen.update((found["index_generation"], hit["text"]) for hit in found["hits"] if hit["document_id"] == "news.md")

    try:
        with ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(client, number) for number in range(8)]
            for number in range(1, 5):
                documents(home, news=f"# News\n\nThe port of version {number} is {number}.\n")
                store.update("docs", home=home)
                build.update("docs", home)
                time.sleep(0.1)
            done.set()
            for one in clients:
                one.result()
    finally:
        done.set()
        server.stop()
    assert not failed
    assert all(f"version {int(generation[-6:]) - 1} " in text for generation, text in seen), "an answer mixed two generations"
    assert ("gen-000005", "The port of version 4 is 4.") in {(name, text.splitlines()[-1]) for name, text in seen}


@pytest.mark.slow
def test_the_verb_serves_until_it_is_ended(place, tmp_path):
    port = free_port()
    environment = os.environ | {"RAG_VS_FT_HOME": str(place.root), "RAG_VS_FT_TOKEN": TOKEN}
    call = [sys.executable, "-m", "rag_vs_ft", "serve", "--port", str(port), "--model", str(place.root / "llama")]
    with subprocess.Popen(call, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "/docs lists the routes" in line:
                    break
            client = openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key=TOKEN, http_client=httpx.Client(trust_env=False)
            )
            assert client.chat.completions.create(model="docs", messages=question(), max_tokens=4).usage.completion_tokens <= 4
            second = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=120)
            assert second.returncode == 2
            assert f"rag-vs-ft serve --port {port + 1}" in second.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
        finally:
            process.kill()


@pytest.mark.parametrize(("verb", "module"), [("serve", "uvicorn"), ("mcp", "mcp")])
def test_the_verbs_say_what_is_missing(monkeypatch, capsys, tmp_path, verb, module):
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("rag_vs_ft.assistant_tools")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", ["rag-vs-ft", verb, "--home", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"pip install 'rag-vs-ft[{verb}]'" in capsys.readouterr().err


def test_the_tools_of_an_assistant(place):
    import anyio
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "rag_vs_ft", "mcp", "--index", "docs", "--model", "extractive", "--home", str(place.root)],
        env=dict(os.environ),
        cwd=Path(__file__).parents[2],
    )

    async def use() -> None:
        async with Client(stdio_client(server)) as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert tools == {"list_indexes", "search", "ask"}
            found = await client.call_tool("search", {"question": "deleted vault", "k": 2})
            assert found.structured_content["hits"][0]["document_id"] == "vault.md"
            answer = await client.call_tool("ask", {"question": "How long is a deleted vault kept?"})
            assert "90 days" in answer.structured_content["answer"]
            wrong = await client.call_tool("search", {"question": "x", "index": "nowhere"})
            assert wrong.is_error and "there is no index 'nowhere'" in wrong.content[0].text
            wrong = await client.call_tool("search", {"question": " "})
            assert wrong.is_error and "empty" in wrong.content[0].text

    anyio.run(use)
