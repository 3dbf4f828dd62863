"""A model behind a server that speaks OpenAI's protocol: llama.cpp's server, Ollama, vLLM, LM Studio, `transformers serve`.

    http://127.0.0.1:8080/v1#NAME       the model NAME of that server; without #NAME, the only one that it has

Documents must not leave the machine, so only its own addresses are asked unless `settings.remote_allowed()`. A key comes from the
environment, goes into one header, and is taken out of whatever the server says. Requests are bounded in time, size and number.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import sleep
from typing import Any, NoReturn
from urllib.parse import urlsplit

from rag_vs_ft import remote, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.echoes import WAYS, Echo, number, placed
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.progress import Progress, silent

KEY = "RAG_VS_FT_API_KEY"
"""The environment variable that holds the key of the server, if it wants one."""
TRIES = 4
LONGEST_WAIT = 60.0
"""Seconds that a server may ask to be left alone before the next try; longer ones are told to the user."""
CONNECT_SECONDS = 5.0
LONGEST_ANSWER = 1_800.0
"""Seconds after which an answer that still comes is given up."""
LARGEST = 64 << 20
"""Bytes of one response."""
_TOO_LONG = (
    *("context length", "context_length", "context size", "context window", "exceed_context", "exceed context"),
    *("exceeds the context", "maximum context", "too many tokens", "prompt is too long"),
)
"""What servers say of a prompt that is too long; no status or code is common to them."""
_CHECK_TEXTS = ("The sky is blue. The grass is", "One, two, three, four,", "Question: What is water?\nAnswer: Water is")
_TOLERANCE = 0.1
"""Between two readings of the same text by one server, in natural log-probability: batches of other sizes round differently."""
_NOBODY = "rag-vs-ft-asks-for-no-such-model"


class ContextTooLong(UserError):
    """The server does not take so long a prompt."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: the address below which its paths are, and the model's name there ("" for the only one)."""

    base: str
    model: str
    remote: bool

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.base).netloc


def is_address(name: str) -> bool:
    """Whether a model's name is the address of a server."""
    return remote.is_address(name)


def address(name: str) -> Address:
    """The address in a model's name. Raises UserError for one that cannot be used, or that is not of this machine unless
    that is allowed."""
    url, _, model = name.partition("#")
    place = remote.server_url(
        url, form="write it as http://127.0.0.1:8080/v1#NAME", key=KEY, sent="questions and passages of your documents"
    )
    return Address(place.url, model.strip(), place.remote)


def model_at(name: str, progress: Progress = silent) -> LanguageModel:
    """The model of a server as a `LanguageModel`. Raises UserError when the server or the model is not there."""
    where = address(name)
    leaves = f"questions, and passages of documents found for them, are sent to {where.host}, which is not this machine"
    if where.remote:
        progress("server", detail=leaves)
    server = Server(where)
    listed = server.list_models()
    model = where.model
    if not model and len(listed) != 1:
        shown = f"it has: {', '.join(sorted(listed)[:12])}" if listed else "it does not say which it has"
        raise UserError(f"the server at {where.host} was not told which model to use", f"add #NAME to the address; {shown}")
    model = model or next(iter(listed))
    server.model = model
    progress("server", detail=f"asking {where.host} for {model}")
    server.require(listed)
    told = listed.get(model) or {}
    window = _window(told)
    lacks = f"{name} is behind a server"
    return LanguageModel(
        name=f"{where.base}#{model}",
        model=_Lacking(lacks, "weights"),
        tokenizer=_Lacking(lacks, "tokens"),
        window=window,
        device="server",
        dtype="",
        threads=0,
        weights_sha256="",
        adapter=None,
        chat=True,
        eos_ids=(),
        notices=(leaves,) if where.remote else (),
        server=server,
    )


def _window(told: Mapping[str, Any]) -> int:
    """The tokens that a model reads at once, where the server's list says so (vLLM, llama.cpp), else 0."""
    meta = told.get("meta")
    for value in (told.get("max_model_len"), *((meta.get("n_ctx"),) if isinstance(meta, dict) else ())):
        if type(value) is int and value > 0:
            return value
    return 0


class _Lacking:
    """Stands for what a server does not give; using it is an error that says so."""

    def __init__(self, who: str, what: str) -> None:
        self._who, self._what = who, what

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __call__(self, *_: object, **__: object) -> NoReturn:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(f"{self._who}, which does not give its {self._what}", "name a model of this machine for this")


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of an answer; the last has `finish` ("end" or "length") and the tokens that the server counted, where it did."""

    text: str
    finish: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass
class Server:
    """The connection to one model of a server. Threads may share it."""

    where: Address
    model: str = ""
    _client: Any = None
    _echoes: bool | None = None
    _headers: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        import httpx

        key = remote.key_of(KEY)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        seconds = settings.server_seconds()
        self._client = httpx.Client(
            # A proxy of the environment would carry what is meant for this machine elsewhere.
            trust_env=self.where.remote,
            follow_redirects=False,
            timeout=httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)),
        )

    @property
    def identity(self) -> list[str]:
        """What tells this model from others in results: a server does not give the hash of its weights."""
        return [self.where.base, self.model]

    # --- what is asked ---

    def list_models(self) -> dict[str, dict[str, Any]]:
        """What the server says of its models, by name; empty where it has no list. Raises UserError when it does not answer."""

        def once() -> dict[str, Any]:
            try:
                return self._once("GET", "/models", None)
            except _Passing as error:
                if error.kind in ("refused", "timeout"):
                    raise
                return {}  # `transformers serve` fails so where nothing was ever downloaded, and answers all the same
            except _NotThere:
                return {}

        found = self._tried(once)
        listed = found.get("data")
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        return {str(entry["id"]): entry for entry in entries if entry.get("id")}

    def require(self, listed: Mapping[str, Any]) -> None:
        """Raise UserError unless the server has the model. One that it does not list is asked for a word: some servers answer
        with the model they have, whatever name they are given."""
        if self.model in listed or f"{self.model}:latest" in listed:
            return
        shown = f"it has: {', '.join(sorted(listed)[:12])}" if listed else "ask it for its models"
        self.chat("Hello", max_tokens=1)
        if not listed:
            return
        mine, self.model = self.model, _NOBODY
        try:
            self.chat("Hello", max_tokens=1)
        except UserError:
            return  # it minds names, and took this one
        finally:
            self.model = mine
        raise UserError(f"the server at {self.where.host} has no model {mine!r}", shown)

    def chat(self, content: str, **options: Any) -> Written:
        """A whole answer to one message of a user."""
        return self.complete(_chat(content), **options)

    def complete(self, prompt: Mapping[str, Any], **options: Any) -> Written:
        """A whole answer to `prompt` (see `body`)."""
        found = self._json("POST", _path(prompt), self._body(prompt, options, stream=False))
        choice = _choice(found, self._strange)
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else choice.get("text")
        return Written(str(text or ""), _finish(choice), *_usage(found))

    def stream(self, prompt: Mapping[str, Any], **options: Any) -> Generator[Written, None, None]:
        """An answer piece by piece, the last with its finish. Raises UserError when it ends before it is whole."""
        finish, pieces = "", 0
        usage: tuple[int | None, int | None] = (None, None)
        for event in self._events(_path(prompt), self._body(prompt, options, stream=True)):
            usage = _usage(event) if isinstance(event.get("usage"), dict) else usage
            for choice in event.get("choices") or ():
                delta = choice.get("delta") if isinstance(choice.get("delta"), dict) else choice
                if text := delta.get("content") or (choice.get("text") if delta is choice else ""):
                    pieces += 1
                    yield Written(str(text))
                finish = _finish(choice) or finish
        prompt_tokens, completion_tokens = usage
        yield Written("", finish or "end", prompt_tokens, pieces if completion_tokens is None else completion_tokens)

    def echo(self, text: str) -> Echo | None:
        """The log-probabilities of a text's own tokens, or None from a server that does not give them."""
        body = self._body({"prompt": text}, {"max_tokens": 1, "temperature": 0.0}, stream=False)
        for way, (asked, read) in enumerate(WAYS):
            try:
                choice = _choice(self._json("POST", "/completions", {**body, **asked}), self._strange)
            except ContextTooLong:
                raise
            except _NotThere:
                return None
            except UserError:
                if way == 0:
                    raise
                continue  # a server that does not know the field may refuse it
            if (tokens := read(choice)) and (echo := placed(text, tokens)):
                return echo
        return None

    @property
    def scores(self) -> bool:
        """Whether the server tells how likely it finds texts that are given to it, and tells it right; asked once."""
        if self._echoes is None:
            checks = [self._echoes_truly(text) for text in _CHECK_TEXTS]
            self._echoes = True in checks and False not in checks
        return self._echoes

    def _echoes_truly(self, text: str) -> bool | None:
        """Whether a token that the model writes after a text is as likely when it is given with it; None when that is not seen.

        llama-cpp-python 0.3.36 gives each token the value of the one after it where the model has no start token.
        """
        body = self._body({"prompt": text}, {"max_tokens": 1, "temperature": 0.0, "logprobs": 1}, stream=False)
        try:
            logprobs = _choice(self._json("POST", "/completions", body), self._strange).get("logprobs")
        except _NotThere:
            return False
        if not isinstance(logprobs, dict) or not logprobs.get("tokens") or not logprobs.get("token_logprobs"):
            return False
        written, expected = str(logprobs["tokens"][0]), number(logprobs["token_logprobs"][0])
        found = self.echo(text + written)
        if found is None or expected is None or None in found.logprobs[1:]:
            return False
        if not written or "\ufffd" in written or found.offsets[-1] != len(text):
            return None  # it is joined with the text before it, or no text
        return abs((found.logprobs[-1] or 0.0) - expected) < _TOLERANCE

    # --- requests ---

    def _body(self, prompt: Mapping[str, Any], options: Mapping[str, Any], *, stream: bool) -> dict[str, Any]:
        wanted = {key: value for key, value in options.items() if value not in (None, (), [])}
        streamed = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return {"model": self.model, **prompt, **wanted, **streamed}

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """One response as JSON, tried again where that may help."""
        found: dict[str, Any] = self._tried(lambda: self._once(method, path, body))
        return found

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        with self._response(method, path, body) as response:
            data = b"".join(self._read(response))
        try:
            found = json.loads(data)
        except ValueError as error:
            raise self._strange("what is not JSON") from error
        if not isinstance(found, dict):
            raise self._strange("no JSON object")
        return found

    def _events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Server-sent events of a response. It is tried again only as long as none has come."""
        begun = False

        def start() -> Iterator[dict[str, Any]]:
            events = self._stream_once(path, body)
            first = next(events, None)

            def all_of_them() -> Iterator[dict[str, Any]]:
                if first is not None:
                    yield first
                    yield from events

            return all_of_them()

        found = self._tried(start)
        try:
            for event in found:
                begun = True
                yield event
        except _Passing as error:
            raise UserError(
                f"the answer of {self.where.host} was cut off{'' if begun else ' before it began'}: {error.message}",
                "ask again; see the server's log",
            ) from error

    def _stream_once(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        with self._response("POST", path, body) as response:
            rest, finished = b"", False
            for block in self._read(response):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    kind, _, data = line.strip().partition(b":")
                    data = data.strip()
                    if kind != b"data" or not data:
                        continue
                    if data == b"[DONE]":
                        return
                    try:
                        event = json.loads(data)
                    except ValueError as error:
                        raise self._strange("a stream that is not JSON") from error
                    if not isinstance(event, dict):
                        raise self._strange("a stream of no JSON objects")
                    if event.get("error"):
                        self._refuse(500, json.dumps(event))
                    finished = finished or any(
                        isinstance(choice, dict) and choice.get("finish_reason") for choice in event.get("choices") or ()
                    )
                    yield event
            if not finished:
                raise _Passing("it stopped in the middle", "", None)

    @contextmanager
    def _response(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[Any]:
        """An open response that is no refusal."""
        import httpx

        try:
            with self._client.stream(method, self.where.base + path, json=body, headers=self._headers) as response:
                if response.is_redirect:
                    to = response.headers.get("location", "")[:200]
                    raise UserError(
                        f"{self.where.host} sends requests on to {to!r}, which is not followed", "name that address itself"
                    )
                if response.status_code >= 300:
                    text = b"".join(self._read(response)).decode("utf-8", "replace")
                    self._refuse(response.status_code, text, response.headers.get("retry-after"))
                yield response
        except httpx.TimeoutException as error:
            raise _Passing(f"it did not answer within {settings.server_seconds():g} s", "timeout", None) from error
        except httpx.ConnectError as error:
            raise _Passing("nothing answers there", "refused", None) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _Passing(self._clean(str(error)) or type(error).__name__, "", None) from error

    def _read(self, response: Any) -> Iterator[bytes]:
        """The body, as long as it is not too large or too slow."""
        size, since = 0, time.monotonic()
        for block in response.iter_bytes():
            size += len(block)
            if size > LARGEST:
                raise self._strange(f"more than {LARGEST >> 20} MiB")
            if time.monotonic() - since > LONGEST_ANSWER:
                raise self._strange(f"an answer that did not end in {LONGEST_ANSWER:g} s")
            yield block

    def _refuse(self, status: int, text: str, retry_after: str | None = None) -> NoReturn:
        """The error for a response with a status of 300 or more."""
        said = self._clean(_said(text))
        if any(mark in text.lower() for mark in _TOO_LONG):
            raise ContextTooLong(
                f"{self.model} at {self.where.host} does not take so long a prompt: {said}", "use fewer or shorter passages"
            )
        if status in (401, 403):
            raise UserError(f"{self.where.host} refuses: {said or status}", f"set {KEY} to the server's key")
        if status in remote.AGAIN:
            raise _Passing(f"it answered {status}: {said}".rstrip(": "), "busy" if status == 429 else "", _seconds(retry_after))
        if status in (400, 404, 405, 422, 501):
            raise _NotThere(
                f"{self.where.host} answered {status} for the model {self.model!r}: {said}".rstrip(": "),
                "check the model's name and the address, which usually ends in /v1",
            )
        raise UserError(f"{self.where.host} answered {status}: {said}".rstrip(": "), "see the server's log")

    def _tried(self, once: Callable[[], Any]) -> Any:
        """What `once` gives, after as many tries as may help. Raises UserError naming the address and what to do."""
        for attempt in range(1, TRIES + 1):
            try:
                return once()
            except _Passing as error:
                wait = error.wait if error.wait is not None else 0.5 * 2 ** (attempt - 1)
                # A server that is not there, or takes minutes, is not there a second later either.
                last = attempt == TRIES or (error.kind in ("refused", "timeout") and attempt == 2)
                if last or wait > LONGEST_WAIT:
                    later = f"; it asks to be left alone for {wait:g} s" if wait > LONGEST_WAIT else ""
                    raise UserError(
                        f"the server at {self.where.base} cannot be used: {error.message}{later}", _NEXT[error.kind]
                    ) from error
                sleep(wait)
        raise AssertionError("not reached")

    def _strange(self, what: str) -> UserError:
        return UserError(
            f"{self.where.base} answers with {what}", "check that it is the address of a server of OpenAI's protocol"
        )

    def _clean(self, text: str) -> str:
        return remote.shown(text, KEY)


_NEXT = {
    "refused": "start the server, or check host and port",
    "timeout": "see whether it is still loading its model, or raise RAG_VS_FT_SERVER_SECONDS",
    "busy": "wait and run the same command again; an evaluation goes on from where it stopped",
    "": "see the server's log, then run the same command again",
}


class _Passing(Exception):
    """A fault that may be gone at the next try: why, what kind, and the seconds that the server wants to be left alone."""

    def __init__(self, message: str, kind: str, wait: float | None) -> None:
        super().__init__(message)
        self.message, self.kind, self.wait = message, kind, wait


class _NotThere(UserError):
    """The server does not know the path, the model or a field of the request."""


def _chat(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def request(text: str, template: str) -> dict[str, Any]:
    """The part of a request that holds a prompt: a user's message, to which the server puts its template, or the whole text."""
    return _chat(text) if template == "chat" else {"prompt": text}


def _path(prompt: Mapping[str, Any]) -> str:
    return "/chat/completions" if "messages" in prompt else "/completions"


def _choice(found: Mapping[str, Any], strange: Callable[[str], UserError]) -> dict[str, Any]:
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise strange("no answer")
    return choices[0]


def _finish(choice: Mapping[str, Any]) -> str:
    reason = choice.get("finish_reason")
    return "length" if reason == "length" else "end" if reason else ""


def _usage(found: Mapping[str, Any]) -> tuple[int | None, int | None]:
    usage = found.get("usage")
    values = [usage.get(f"{kind}_tokens") if isinstance(usage, dict) else None for kind in ("prompt", "completion")]
    prompt, completion = (value if type(value) is int and value >= 0 else None for value in values)
    return prompt, completion


def _said(text: str) -> str:
    """The message in the body of a refusal."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return found if isinstance(found, str) else json.dumps(found)


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds: a number, or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


# --- log-likelihoods --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """Sum of the natural log-probabilities of a text's tokens after a prompt, and how many there are."""

    logprob: float
    tokens: int


def score(server: Server, prompt: str, continuations: Sequence[str]) -> list[ContinuationScore]:
    """How likely the model finds each continuation of one prompt. As in `likelihood.split_continuations`, the boundary stands
    before the first token that is not the same for all. Raises UserError when the server gives no log-probabilities."""
    echoes = [server.echo(prompt + text) for text in continuations]
    if not all(echoes):
        raise UserError(
            f"{server.where.host} gave no log-probabilities for a text", "use a server that does, or choose by letter"
        )
    begins = [
        next((number for number, end in enumerate((*echo.offsets[1:], len(prompt) + 1)) if end > len(prompt)), 0)
        for echo in echoes
        if echo is not None
    ]
    first = min(begins, default=0)
    found = []
    for echo in echoes:
        values = [value for value in (echo.logprobs[first:] if echo else ()) if value is not None]
        found.append(ContinuationScore(sum(values), len(values)))
    return found
