"""A user's data never leaves: the verbs run without any network, and a tracer counts every address that they try to reach.

The tracer and the namespace are Linux's (`strace`, `unshare`); where they are not allowed, the test is skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import faults
import pytest
import test_choose
import tiny

ROOT = Path(__file__).parent.parent
QUIET = {"HF_HUB_OFFLINE", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "TF_BUILD"}
QUIET |= {"GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID"}
"""Variables that a test's process may have and a user's has not, and with which libraries ask less."""
CONNECTED = re.compile(r"(connect|sendto|sendmsg)\(.*sa_family=AF_INET6?.*")
LOOPBACK = re.compile(r'inet_addr\("127\.|"::1"|"::ffff:127\.|sin_port=htons\(0\)')


def refused() -> str:
    """Why a namespace with a tracer cannot be made here; "" where it can."""
    if not all(map(shutil.which, ("unshare", "strace", "ip"))):
        return "unshare, strace or ip is not installed"
    done = subprocess.run([*ALONE, "true"], capture_output=True, text=True, check=False)
    return done.stderr


ALONE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
TRACED = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o"]


def elsewhere(log: Path) -> list[str]:
    """What was tried that does not lead to this machine."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [line for line in lines if CONNECTED.search(line) and not LOOPBACK.search(line)]


def test_the_tracer_sees_an_attempt(tmp_path: Path) -> None:
    if reason := refused():
        pytest.skip(reason)
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect_ex(('192.0.2.1', 80))"
    subprocess.run([*ALONE, *TRACED, str(tmp_path / "log"), sys.executable, "-c", code], check=True)
    assert len(elsewhere(tmp_path / "log")) == 1


def test_no_library_reports_that_it_was_imported(tmp_path: Path) -> None:
    # What keeps such reports back where tests run is taken out: onnxruntime is silent by itself there.
    environment = {key: value for key, value in os.environ.items() if key not in QUIET}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    code = "import rag_vs_ft, onnxruntime; onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
@pytest.mark.timeout(560)
def test_no_verb_tries_to_reach_another_machine(tmp_path: Path, tiny_embedder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := refused():
        pytest.skip(reason)
    monkeypatch.setattr(faults, "MODELS", tmp_path / "models")
    tiny.save_gpt2(tmp_path / "models" / "language")
    faults.write_docs(tmp_path)
    (tmp_path / "tiny.toml").write_text(faults.PRESET, encoding="utf-8")
    model, home = str(tmp_path / "models" / "language"), str(tmp_path / "home")
    environment = {key: value for key, value in os.environ.items() if key not in QUIET}  # as a user has it
    environment |= {"RAG_VS_FT_CACHE": str(tmp_path / "cache"), "RAG_VS_FT_HOME": home}

    def verb(*arguments: str) -> list[str]:
        return [*ALONE, *TRACED, str(tmp_path / "log"), sys.executable, "-m", "rag_vs_ft", *arguments]

    def run(*arguments: str, said: str = "") -> str:
        done = subprocess.run(
            verb(*arguments), input=said, capture_output=True, text=True, check=False, env=environment, timeout=200
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-800:]}"
        assert elsewhere(tmp_path / "log") == [], arguments
        return done.stdout

    run("corpus", "add", "docs", str(tmp_path / "docs"))
    run("index", "build", "docs", "--embedder", tiny_embedder, "--precision", "fp32", "--chunk-size", "32")
    run("ask", "What is the pool limit?", "--index", "docs", "--model", model)
    faults_experiment = faults.EXPERIMENT.replace("MODEL", model)
    (tmp_path / "experiment.toml").write_text(faults_experiment, encoding="utf-8")
    monkeypatch.setattr(faults, "prepare_build", lambda folder: None)
    monkeypatch.setattr(faults, "build", lambda folder: None)
    faults.prepare_evaluate(tmp_path)
    run("eval", str(tmp_path / "experiment.toml"))
    run("train", "scratch", "--preset", str(tmp_path / "tiny.toml"), "--corpus", "docs", "--run", "run")
    run("eval-retrieval", "--index", "docs", "--questions", str(tmp_path / "questions.jsonl"))
    assert '"protocolVersion"' in run("mcp", "--index", "docs", "--model", "extractive", said=json.dumps(GREETING) + "\n")
    faults.change_docs(tmp_path)
    run("corpus", "update", "docs")
    run("index", "update", "docs")
    run("search", "pool limit", "--index", "docs")
    run("index", "rollback", "docs")
    run("models", "list")
    run("models", "info", "gpt2")
    run("doctor")
    (tmp_path / "many").mkdir()
    for number, name in enumerate(test_choose.NAMES):
        (tmp_path / "many" / f"{name}.md").write_text(test_choose.text(number, name), encoding="utf-8")
    tiny.save_gpt2(tmp_path / "reader", window=1024)
    run("corpus", "add", "many", str(tmp_path / "many"))
    run("index", "build", "many", "--embedder", tiny_embedder, "--precision", "fp32", "--chunk-size", "32")
    training = f"scratch={tmp_path / 'tiny.toml'}"
    run("choose", "many", "--plan", "--hours", "0.4", "--reader", str(tmp_path / "reader"), "--train", training)
    for arguments in (("serve", "--model", model), ("app",)):
        # Only from inside the namespace can its loopback be reached: a second process in it asks.
        asking = "import sys, time, urllib.request\n" + ASK
        script = f"{sys.executable} -m rag_vs_ft {' '.join(arguments)} --port 8599 & {sys.executable} -c '{asking}'; kill $!"
        command = [*ALONE, *TRACED, str(tmp_path / "log"), "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)
        assert "answered 200" in done.stdout, done.stderr[-800:]
        assert elsewhere(tmp_path / "log") == [], arguments


GREETING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
ASK = """
for _ in range(300):
    try:
        print("answered", urllib.request.urlopen("http://127.0.0.1:8599/").status)
        break
    except urllib.error.HTTPError as error:
        print("answered 200" if error.code in (401, 404) else error)
        break
    except OSError:
        time.sleep(0.3)
"""
