"""Fixtures around the tiny models, and a hub on this machine that serves their folders."""

import json
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny import COMMIT, Hub, save_gpt2, save_llama

from rag_vs_ft import settings
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.loading import load


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def gpt2(gpt2_folder: Path) -> LanguageModel:
    return load(str(gpt2_folder), settings.home(), device="cpu", threads=1)


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> LanguageModel:
    return load(str(llama_folder), settings.home(), device="cpu", threads=1)


@pytest.fixture(params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """Each architecture in turn."""
    found: LanguageModel = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of models, and no hub unless a test names one."""
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            state.requests.append(path)
            for name, root in state.repositories.items():
                if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main", f"/api/models/{name}/revision/{COMMIT}"):
                    record = {"_id": "1", "id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": []}
                    return self._send(json.dumps(record | {"siblings": state.files(name)}).encode(), body=body)
                resolve = f"/{name}/resolve/{COMMIT}/"
                if path.startswith(resolve) and (root / path.removeprefix(resolve)).is_file():
                    return self._send((root / path.removeprefix(resolve)).read_bytes(), body=body)
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, data: bytes, *, body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                broken = state.cut_off and self.path.endswith(state.cut_off)
                self.wfile.write(data[: len(data) // 2] if broken else data)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", state.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield state
    server.shutdown()
    server.server_close()
