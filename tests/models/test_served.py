"""A model behind a server: its address, its answers and likelihoods, and every way in which a server fails."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from stub_server import Reply, Stub, says, serving, streamed, whole
from tiny import make_hits

from rag_vs_ft import remote, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import naming, served
from rag_vs_ft.models.generation import Sampling, answer_question, generate, generate_batch
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations
from rag_vs_ft.models.loading import load
from rag_vs_ft.models.probe import next_tokens
from rag_vs_ft.models.prompting import build_prompt
from rag_vs_ft.training.tokenizers import load_tokenizer

HOME = settings.home()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving(says("The pump stops when the tank is full.")) as found:
        yield found


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited between tries."""
    waited: list[float] = []
    monkeypatch.setattr(served, "sleep", waited.append)
    for name in ("RAG_VS_FT_ALLOW_REMOTE", served.KEY):
        monkeypatch.delenv(name, raising=False)
    return waited


def of(stub: Stub, name: str = "tiny") -> LanguageModel:
    return load(f"{stub.url}#{name}", HOME)


# --- what it does -----------------------------------------------------------------------------------------------------


def test_an_answer_is_streamed_and_counted(stub: Stub) -> None:
    lm = load(stub.url, HOME)
    assert lm.name == f"{stub.url}#tiny", "the only model of the server"
    pieces: list[str] = []
    answer = answer_question(
        lm, "When does the pump stop?", make_hits("The pump stops when the tank is full."), on_text=pieces.append
    )
    assert answer.answer == "".join(pieces) == "The pump stops when the tank is full." and len(pieces) > 2
    assert (answer.prompt_tokens, answer.completion_tokens, answer.finish, answer.citations) == (11, 3, "end", (1,))
    path, body, headers = stub.requests[-1]
    assert path == "/v1/chat/completions" and body["model"] == "tiny" and body["stream"] and body["temperature"] == 0
    assert body["messages"][0]["content"].endswith("Question: When does the pump stop?")
    assert "Authorization" not in headers and "seed" not in body


def test_sampling_and_the_whole_prompt_are_sent(stub: Stub) -> None:
    lm = of(stub)
    prompt = build_prompt(lm, "Why?", None, template="plain")
    list(generate(lm, prompt, max_new_tokens=5, sampling=Sampling(0.7, 0.9, 20, seed=3)))
    path, body, _ = stub.requests[-1]
    assert path == "/v1/completions" and body["prompt"] == "Question: Why?\nAnswer:" and "stop" not in body
    assert [body[key] for key in ("max_tokens", "temperature", "top_p", "top_k", "seed")] == [5, 0.7, 0.9, 20, 3]


def test_a_stop_string_is_cut_out_whoever_lets_it_through(stub: Stub) -> None:
    stub.answer = says("\n\n yes\n\n[1] more\nQuestion: and so on")
    lm = of(stub)
    assert answer_question(lm, "?", None, template="plain").answer == "yes"
    stream = generate(lm, build_prompt(lm, "?", None))
    assert "".join(stream) == "\n\n yes" and stream.completion.finish == "stop"
    assert stub.requests[-1][1]["stop"] == ["\nQuestion:", "\n\n["]
    stub.answer = says("<think>hm, A?</think> B", finish="length")
    answer = answer_question(lm, "?", None)
    assert answer.answer == "B" and answer.finish == "length"


def test_many_are_asked_at_once_and_come_back_in_order(stub: Stub) -> None:
    def answer(path: str, body: dict[str, Any]) -> Reply:
        return Reply(streamed(body["messages"][0]["content"]).body, wait=0.05)

    lm = of(stub)
    stub.answer = answer
    prompts = [build_prompt(lm, f"number {n}", None) for n in range(8)]
    assert [done.text for done in generate_batch(lm, prompts, batch_size=4)] == [f"number {n}" for n in range(8)]
    assert 2 <= stub.most_at_once <= 4


def test_what_a_server_lacks_is_said(stub: Stub) -> None:
    lm = of(stub)
    assert not lm.abilities.tokens and not lm.abilities.scores
    for use in (
        lambda: next_tokens(lm, "The"),
        lambda: naming.resolve(lm.name, HOME),
        lambda: load_tokenizer(lm.name, HOME),
        lambda: load(lm.name, HOME, adapter="nano"),
        lambda: load(lm.name, HOME, four_bit=True),
        lambda: served.score(lm.server, "a", [" b"]),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match=r"behind a server|gave no log-probabilities"):
            use()
    assert naming.run_of(lm.name, HOME) is None


@pytest.mark.parametrize("field", ["echo", "prompt_logprobs"])
def test_scores_are_those_of_the_same_model_here(gpt2: LanguageModel, field: str) -> None:
    """A server that gives real log-probabilities of a text, by OpenAI's field or by vLLM's; one that gives those of other tokens
    is not believed."""
    import torch

    shifted = False

    def answer(path: str, body: dict[str, Any]) -> Reply:
        ids = gpt2.tokenizer(body["prompt"], add_special_tokens=False).input_ids
        with torch.inference_mode():
            logprobs = gpt2.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        if field not in body:
            if "logprobs" not in body or "echo" in body:
                return Reply({"choices": [{"text": "!", "finish_reason": "length"}]})
            best = int(logprobs[-1].argmax())
            written = {"tokens": [gpt2.tokenizer.decode([best])], "token_logprobs": [float(logprobs[-1, best])]}
            return Reply({"choices": [{"text": written["tokens"][0], "logprobs": written, "finish_reason": "length"}]})
        at_fault = shifted and len(ids) > 1
        values = [None, *(float(logprobs[at + at_fault, token]) for at, token in enumerate(ids[1:]))]
        tokens = [gpt2.tokenizer.decode([token]) for token in ids]
        if field == "prompt_logprobs":
            inside = zip(ids[1:], values[1:], tokens[1:], strict=True)
            entries = [{str(id): {"logprob": value, "rank": 1, "decoded_token": token}} for id, value, token in inside]
            return Reply({"choices": [{"text": "!", "prompt_logprobs": [None, *entries], "finish_reason": "length"}]})
        choice = {"text": body["prompt"] + "!", "logprobs": {"tokens": [*tokens, "!"], "token_logprobs": [*values, -9.0]}}
        return Reply({"choices": [choice | {"finish_reason": "length"}]})

    with serving(answer) as stub:
        lm = of(stub)
        assert lm.server and lm.abilities.scores
        prompt = build_prompt(lm, "When does the pump stop?", make_hits("The tank is full."), template="plain")
        choices = [" When the tank is full.", " Never", " 30 seconds"]
        found = served.score(lm.server, prompt.text, choices)
        here = build_prompt(gpt2, "When does the pump stop?", make_hits("The tank is full."), template="plain")
        assert here.text == prompt.text
        prefix, texts = split_continuations(gpt2, here, choices)
        expected = continuation_logprobs(gpt2, prefix, texts)
        assert [one.tokens for one in found] == [one.tokens for one in expected]
        assert [one.logprob for one in found] == pytest.approx([one.logprob for one in expected], abs=1e-4)
        shifted = True
        assert not of(stub).abilities.scores


# --- whom it asks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "10.0.0.1",
        "192.168.1.2",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "2130706433",
        "[::2]",
        "0.0.0.0",
    ],
)
def test_no_other_machine_is_asked_unless_that_is_allowed(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx.Client, "stream", lambda *_, **__: pytest.fail("nothing may be sent"))
    with pytest.raises(UserError, match="is not this machine, and questions and passages") as error:
        load(f"http://{host}:8080/v1#x", HOME)
    assert "--allow-remote" in error.value.hint
    monkeypatch.setenv("RAG_VS_FT_ALLOW_REMOTE", "1")
    assert served.address(f"http://{host}:8080/v1#x").remote


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "LOCALHOST"])
def test_this_machine_is_asked(host: str) -> None:
    assert not served.address(f"http://{host}:8080/v1/#x").remote


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://", "is not the address of a server"),
        ("http://127.0.0.1:99999/v1", "is not an address"),
        ("http://127.0.0.1:0/v1", "is not the address"),
        ("http://user:secret@127.0.0.1/v1#x", "holds a name or password"),
        ("http://127.0.0.1/v1?key=1#x", "is not the address"),
        ("http://[::1/v1", "is not an address"),
        ("http://127.0.0.1/v1 x", "is not the address"),
    ],
)
def test_addresses_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(name, HOME)
    assert "secret" not in str(error.value)


def test_what_leaves_the_machine_is_said_before_it_does(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "is_here", lambda host: False)
    monkeypatch.setenv("RAG_VS_FT_ALLOW_REMOTE", "1")
    told: list[str] = []
    lm = load(f"{stub.url}#tiny", HOME, progress=lambda stage, done=0, total=0, detail="": told.append(detail))
    assert "questions, and passages of documents found for them, are sent to 127.0.0.1" in told[0]
    assert told[0] in answer_question(lm, "?", None).notices


def test_a_proxy_of_the_environment_is_not_used_and_a_redirect_not_followed(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert answer_question(of(stub), "?", None).answer
    with serving(lambda path, body: pytest.fail("nobody is sent on")) as other:
        stub.answer = lambda path, body: Reply(status=307, headers={"Location": f"{other.url}/chat/completions"})
        with pytest.raises(UserError, match="sends requests on to"):
            answer_question(of(stub), "?", None)
        assert not other.requests


def test_a_key_is_sent_and_never_shown(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(served.KEY, "sk-secret-1")
    lm = of(stub)
    answer = answer_question(lm, "?", None)
    assert stub.requests[-1][2]["Authorization"] == "Bearer sk-secret-1"
    assert "sk-secret-1" not in f"{answer!r}{lm!r}{lm.server!r}"
    stub.answer = lambda path, body: Reply({"error": {"message": "wrong key sk-secret-1"}}, status=401)
    with pytest.raises(UserError, match=r"refuses: wrong key \*\*\*") as error:
        answer_question(lm, "?", None)
    assert served.KEY in error.value.hint
    monkeypatch.setenv(served.KEY, "sk\nsecret")
    with pytest.raises(UserError, match="characters that no key has"):
        of(stub)


# --- how it fails -----------------------------------------------------------------------------------------------------


def test_nobody_is_there(no_waiting: list[float]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match=rf"the server at http://127\.0\.0\.1:{port}/v1 cannot be used: nothing answers") as error:
        load(f"http://127.0.0.1:{port}/v1#x", HOME)
    assert "start the server" in error.value.hint and len(no_waiting) == 1


def test_a_server_that_is_silent(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = of(stub)
    monkeypatch.setenv("RAG_VS_FT_SERVER_SECONDS", "0.1")
    slow = load(lm.name, HOME)
    waiting = threading.Event()
    stub.answer = lambda path, body: (waiting.wait(2), whole("late"))[1]
    with pytest.raises(UserError, match=r"did not answer within 0\.1 s") as error:
        answer_question(slow, "?", None)
    waiting.set()
    assert "RAG_VS_FT_SERVER_SECONDS" in error.value.hint
    monkeypatch.setenv("RAG_VS_FT_SERVER_SECONDS", "soon")
    with pytest.raises(UserError, match="RAG_VS_FT_SERVER_SECONDS='soon'"):
        load(lm.name, HOME)


@pytest.mark.parametrize(("header", "waits"), [("7", [7.0]), ("", [0.5]), ("soon", [0.5])])
def test_a_busy_server_is_left_alone_as_long_as_it_asks(
    header: str, waits: list[float], stub: Stub, no_waiting: list[float]
) -> None:
    lm = of(stub)
    replies = [Reply({"error": "slow down"}, status=429, headers={"Retry-After": header} if header else {}), streamed("yes")]
    stub.answer = lambda path, body: replies.pop(0)
    assert answer_question(lm, "?", None).answer == "yes"
    assert no_waiting == waits


def test_a_server_that_wants_hours(stub: Stub, no_waiting: list[float]) -> None:
    lm = of(stub)
    stub.answer = lambda path, body: Reply({}, status=429, headers={"Retry-After": "7200"})
    with pytest.raises(UserError, match="it asks to be left alone for 7200 s") as error:
        answer_question(lm, "?", None)
    assert "goes on from where it stopped" in error.value.hint and not no_waiting


@pytest.mark.parametrize(
    ("reply", "message", "tries"),
    [
        (Reply("oops", status=500), "it answered 500: oops", served.TRIES),
        (Reply({"detail": "overloaded"}, status=503), "it answered 503: overloaded", served.TRIES),
        (Reply("x" * 99, cut=10), "cannot be used", served.TRIES),
        (Reply({"error": {"message": "no model 'tiny'"}}, status=404), "answered 404 for the model 'tiny': no model", 1),
        (Reply({"error": "bad"}, status=418), "answered 418: bad", 1),
        (Reply("data: {not json\n\n"), "a stream that is not JSON", 1),
        (Reply("data: [1]\n\n"), "a stream of no JSON objects", 1),
        (Reply('data: {"error": {"message": "out of memory"}}\n\n'), "it answered 500", served.TRIES),
        (streamed("half an", finish="", done=False), "cut off: it stopped in the middle", 1),
        (Reply(streamed("x" * 300).body, cut=200), "was cut off", 1),
        (Reply("<html>welcome</html>"), "cannot be used: it stopped in the middle", served.TRIES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faults_end_in_an_error_after_some_tries(reply: Reply, message: str, tries: int, stub: Stub) -> None:
    lm = of(stub)
    stub.answer = lambda path, body: reply
    before = stub.asked
    with pytest.raises(UserError, match=message) as error:
        answer_question(lm, "?", None)
    assert stub.asked - before == tries and "127.0.0.1" in error.value.message and error.value.hint


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply("<html>"), "what is not JSON"),
        (Reply([1]), "no JSON object"),
        (Reply({"choices": []}), "no answer"),
        (Reply("{" + " " * 300 + "}"), r"more than 0 MiB"),
    ],
)
def test_answers_that_are_none(reply: Reply, message: str, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = of(stub)
    monkeypatch.setattr(served, "LARGEST", 200)
    stub.answer = lambda path, body: reply
    with pytest.raises(UserError, match=message):
        lm.server.chat("?")  # type: ignore[union-attr]


def test_passages_are_left_out_until_the_server_takes_the_prompt(stub: Stub) -> None:
    lm = of(stub)

    def answer(path: str, body: dict[str, Any]) -> Reply:
        if "[2]" in body["messages"][0]["content"]:
            return Reply({"error": {"message": "This model's maximum context length is 16 tokens", "code": 400}}, status=400)
        return streamed("yes")

    stub.answer = answer
    found = answer_question(lm, "?", make_hits("one", "two", "three"))
    assert found.answer == "yes" and found.dropped_hits == 2
    assert "2 of 3 passages were left out: the server does not take so long a prompt" in found.notices
    stub.answer = lambda path, body: Reply({"error": {"type": "exceed_context_size_error", "message": "too big"}}, status=400)
    with pytest.raises(UserError, match="does not take so long a prompt"):
        answer_question(lm, "?", make_hits("one"))


def test_a_window_that_the_server_tells_is_kept(stub: Stub) -> None:
    stub.models = [{"id": "tiny", "max_model_len": 400}]
    lm = of(stub)
    prompt = build_prompt(lm, "?", make_hits("word " * 50, "word " * 50, "word " * 100), max_new_tokens=100)
    assert lm.window == 400 and len(prompt.hits) == 2 and len(prompt.dropped) == 1 and "would not fit" in prompt.notices[0]
    stub.models = [{"id": "tiny", "meta": {"n_ctx": 128}}]
    assert of(stub).window == 128


def test_a_prompt_that_was_cut_in_silence_is_noticed(stub: Stub) -> None:
    found = answer_question(of(stub), "?", make_hits("word " * 200))
    assert any("it may have cut the prompt short" in notice for notice in found.notices)


def test_a_server_that_does_not_count_is_noticed(stub: Stub) -> None:
    stub.answer = lambda path, body: Reply(
        'data: {"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    )
    found = answer_question(of(stub), "?", None)
    assert (found.answer, found.prompt_tokens, found.completion_tokens) == ("yes", 0, 1)
    assert any("did not count tokens" in notice for notice in found.notices)


def test_a_model_that_is_not_there(stub: Stub) -> None:
    stub.models = [{"id": "a"}, {"id": "b"}]
    with pytest.raises(UserError, match="was not told which model to use") as error:
        load(stub.url, HOME)
    assert "a, b" in error.value.hint
    with pytest.raises(UserError, match="has no model 'c'") as error:  # it answers whatever it is called, as llama.cpp does
        of(stub, "c")
    assert "it has: a, b" in error.value.hint
    answer = stub.answer
    stub.answer = lambda path, body: answer(path, body) if body["model"] == "c" else Reply({"error": "no such model"}, status=404)
    assert of(stub, "c").name.endswith("#c"), "it minds names, lists not all, and has this one"
    stub.models = [{"id": "c:latest"}]
    assert of(stub, "c")


# --- a real one -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ending(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama, saying that each control token ends an answer: here each does so anyhow, at a server only those named."""
    folder = tmp_path_factory.mktemp("served") / "llama"
    shutil.copytree(llama_folder, folder)
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": [0, 1, 2]}))
    return folder


@pytest.fixture(scope="module")
def transformers_serve(ending: Path) -> Iterator[str]:
    pytest.importorskip("fastapi")
    pytest.importorskip("openai")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(ending)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, **quiet)
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1#{ending}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize("template", ["chat", "plain", "few-shot"])
def test_greedy_answers_of_a_real_server_are_those_of_the_model_here(
    template: str, transformers_serve: str, ending: Path
) -> None:
    """But for half a character at the end, which it keeps to itself."""
    lm, llama = load(transformers_serve, HOME), load(str(ending), HOME, device="cpu", threads=1)
    assert not lm.abilities.scores, "transformers serve gives no log-probabilities of a prompt"
    hits = make_hits("The pump stops when the tank is full.")
    for question in ("When does the pump stop?", "Why?", "Press the red key", "Open the valve", "What is full?"):
        there = answer_question(lm, question, hits, template=template, max_new_tokens=12)
        here = answer_question(llama, question, hits, template=template, max_new_tokens=12)
        assert there.answer == here.answer.rstrip("\ufffd"), (there.finish, here.finish)
        assert there.prompt_tokens == here.prompt_tokens and there.completion_tokens == here.completion_tokens
    with pytest.raises(UserError, match="for the model 'nobody'"):
        load(transformers_serve.partition("#")[0] + "#nobody", HOME)
