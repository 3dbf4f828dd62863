"""The gate before the app: who gets in, under which names, and that nothing is asked outside. No browser is needed."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import subprocess
import sys
import time

import pytest
from serving import serving, status, websocket_status
from streamlit.web.server.starlette import starlette_server

from rag_vs_ft.serving import FIRST_ELEMENTS, send_at_once

PASSWORD = "correct horse"
HOOK = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["CONNECTIONS"], "a") as out:
            print(event, arguments[1:] if event == "socket.connect" else arguments, file=out)
sys.addaudithook(hook)
"""


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


def script_path(page: bytes) -> str:
    found = re.search(rb'src="\./(static/js/index[^"]+\.js)"', page)
    assert found, page
    return "/" + found.group(1).decode()


def test_foreign_names_and_origins_get_nothing_and_nothing_is_asked_outside(place, tiny_cache, tmp_path) -> None:
    """DNS rebinding: a foreign page whose name leads to 127.0.0.1 must not get a session."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    log = tmp_path / "connections"
    environment = {"CONNECTIONS": str(log), "PYTHONPATH": f"{tmp_path / 'hooks'}:{':'.join(sys.path)}"}
    with serving(place, tiny_cache, **environment) as port:
        assert websocket_status(port, Origin=f"http://localhost:{port}") == 101
        assert websocket_status(port) == 101, "programs name no origin"
        started = time.monotonic()
        assert websocket_status(port, Origin="http://evil.example") == 403
        assert websocket_status(port, Host="evil.example", Origin="http://evil.example") == 403
        assert time.monotonic() - started < 5
        for path in ("/", "/_stcore/health", "/media/x", "/static/js/x.js"):
            assert status(port, path, {"Host": "evil.example"})[0] == 403, path
        page, headers = status(port, "/")[1:]
        assert b"<title>rag-vs-ft</title>" in page and "default-src 'self'" in headers["content-security-policy"]
        script = status(port, script_path(page))[1]
        assert b"yourscript" not in script and b"rag-vs-ft app" in script and b"Is Streamlit still running" not in script
        assert status(port, script_path(page))[1] == script, "kept by the gate as it was sent first"
        assert b'rel="modulepreload" crossorigin href' not in script
        listed = re.findall(rb'modulepreload" crossorigin href="\./(static/js/[^"]+)"', page)
        assert len(listed) == len(set(listed))
        for element in FIRST_ELEMENTS:
            assert any(name.startswith(f"static/js/{element}.".encode()) for name in listed), f"{element} is fetched late"
        for name in listed:
            assert status(port, f"/{name.decode()}")[2]["content-type"].endswith("javascript"), name
        assert not outside(log), outside(log)
        words = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.1', 1))"
        subprocess.run([sys.executable, "-c", words], env=environment, check=True)
        assert outside(log), "what is asserted can fail"


def test_what_the_server_sends_does_not_wait_for_the_answer_to_what_it_sent_before(monkeypatch) -> None:
    """Each answer of a connection in use came 40 ms late: Nagle's algorithm, and the client's delayed acknowledgement."""
    monkeypatch.setattr(starlette_server, "_bind_socket", starlette_server._bind_socket)
    send_at_once()

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        bound = starlette_server._bind_socket("127.0.0.1", 0, 1)
        async with await asyncio.start_server(connected, sock=bound):
            with socket.create_connection(bound.getsockname()):
                return await found

    assert asyncio.run(accepted())


def outside(log) -> list[str]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return [line for line in lines if not any(own in line for own in ("127.0.0.1", "'localhost'", "::1", "'0.0.0.0'"))]


@pytest.mark.parametrize(
    "headers", [{}, basic("wrong"), basic(""), {"Authorization": "Basic ???"}, {"Cookie": "rag_vs_ft_pass=x"}]
)
def test_without_the_password_there_is_nothing(place, guarded, headers) -> None:
    for path in (
        "/",
        "/docs",
        "/docs/",
        "/docs/index",
        "/docs/_stcore/health",
        "/docs/static/js/index.js",
        "/docs/media/x.md",
        "/docs/_stcore/upload_file/a/b",
    ):
        code, body, _ = status(guarded, path, headers)
        assert code == 401 and b"rag-vs-ft" not in body, path
    for path in ("/docs/_stcore/stream", "/_stcore/stream"):
        assert websocket_status(guarded, path, **headers) == 403


def test_the_password_opens_pages_and_its_cookie_the_websocket(guarded) -> None:
    code, page, headers = status(guarded, "/docs/", basic(PASSWORD))
    assert code == 200 and b"<title>rag-vs-ft</title>" in page
    if sys.platform == "linux":  # where all of 127.0.0.0/8 is this machine
        socket.create_connection(("127.0.0.2", guarded), timeout=20).close()
    given = headers["set-cookie"]
    assert "HttpOnly" in given and "SameSite=Strict" in given and "Path=/docs" in given and PASSWORD not in given
    cookie = {"Cookie": given.split(";")[0]}
    assert status(guarded, "/docs/_stcore/health", cookie)[0] == 200
    assert status(guarded, "/docs" + script_path(page), cookie)[0] == 200
    assert websocket_status(guarded, "/docs/_stcore/stream", **cookie) == 101
    assert websocket_status(guarded, "/docs/_stcore/stream", **basic(PASSWORD)) == 101
    foreign = {**cookie, "Origin": "http://evil.example"}
    assert websocket_status(guarded, "/docs/_stcore/stream", **foreign) == 403, "a foreign page gets in with no cookie"
    named = {**cookie, "Host": "docs.example.org", "Origin": "https://docs.example.org"}
    assert websocket_status(guarded, "/docs/_stcore/stream", **named) == 101, "behind a proxy with TLS"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The port of an app that listens on every network, below a path, with a password."""
    from rag_vs_ft import settings

    root = tmp_path_factory.mktemp("guarded")
    words = ("--address", "0.0.0.0", "--host", "docs.example.org", "--base-path", "/docs/")
    with serving(settings.home(root), root / "cache", *words, RAG_VS_FT_PASSWORD=PASSWORD) as port:
        yield port
