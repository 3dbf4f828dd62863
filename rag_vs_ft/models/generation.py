"""Decoding: streamed or batched, with stop strings and a guard against loops, and which passages an answer rests on.

One loop serves streaming and batches; a model that has an OpenVINO copy streams from that, all else being the same. Greedy unless
a temperature is given, and then drawn from a generator seeded for that answer alone, so the same call gives the same text,
whatever else is in the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import citing
from rag_vs_ft.models.chat import answer_so_far, opens_thinking, without_thinking
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.prompting import Prompt, build_prompt
from rag_vs_ft.models.served import ContextTooLong, Server, Written, request
from rag_vs_ft.records import Answer, Hit

Finish = Literal["", "end", "stop", "length", "loop"]
LOOP_TOKENS = 16
"""Tokens that must repeat those just before them, block for block, to count as a loop: a small model does not find out of one."""
LOOP_PERIOD = 64
"""The longest block, in tokens, whose repetition is looked for."""


COLDEST, HOTTEST = 0.001, 100.0
"""The range of temperatures over 0: below, logits divided by it are no longer finite; above, every token is as likely."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen: greedily at temperature 0, else drawn after top-k (0: off) and top-p (1: off) filters."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = settings.SEED

    def __post_init__(self) -> None:
        """Raise UserError for a value out of its range."""
        temperature = self.temperature == 0 or COLDEST <= self.temperature <= HOTTEST
        for name, fine, allowed in (
            ("temperature", temperature, f"0 (greedy) or from {COLDEST} to {HOTTEST}"),
            ("top_p", 0.0 < self.top_p <= 1.0, "above 0 and at most 1"),
            ("top_k", 0 <= self.top_k < 1 << 31, "0 (off) or a number of tokens"),
            ("seed", -(1 << 63) <= self.seed < 1 << 63, "a whole number of at most 64 bits"),
        ):
            if not fine:
                raise UserError(f"{name} is {getattr(self, name)!r}", f"it must be {allowed}")


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prompt.

    `finish` is "end" (the model ended it), "stop" (a stop string came), "length" (no room left), "loop" (it began to repeat
    itself) or "" (the reader went away). `completion_tokens` counts all that the model produced, its end token included;
    `seconds` is wall time, for a batch the batch's time shared out by tokens. A server counts the tokens of a prompt itself
    (`prompt_tokens`), and those it wrote (where it does not, its pieces are counted).
    """

    text: str
    finish: Finish
    completion_tokens: int
    seconds: float
    prompt_tokens: int | None = None


class _Writing(Protocol):
    """An answer in the making: its text, how much of it will not be taken back, its tokens where they are known."""

    ids: list[int]
    text: str
    safe: int

    def completion(self, seconds: float) -> Completion:
        """What there is now."""


class Stream:
    """One answer as it is written: iterate for pieces of text, then read `completion`."""

    def __init__(self, steps: Generator[None, None, None], writer: _Writing) -> None:
        self._steps, self._writer = steps, writer
        self._seconds = 0.0

    @property
    def completion(self) -> Completion:
        """The text so far, how it ended, its tokens and seconds."""
        return self._writer.completion(self._seconds)

    def __iter__(self) -> Iterator[str]:
        start = time.perf_counter()
        sent = 0
        try:
            for _ in self._steps:
                safe = self._writer.safe
                if safe > sent:
                    yield self._writer.text[sent:safe]
                    sent = safe
        finally:
            self._steps.close()  # a server is told at once that nobody reads on
            self._seconds = time.perf_counter() - start


def generate(
    lm: LanguageModel,
    prompt: Prompt,
    *,
    max_new_tokens: int = settings.MAX_NEW_TOKENS,
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
) -> Stream:
    """Stream the continuation of `prompt`: at most `max_new_tokens`, ended early by its stop strings or one of `stop`.

    No part of a stop string is ever given out. Raises UserError when the window has no room, and, as the text comes, when a
    server fails.
    """
    if lm.server:
        served_writer = _ServedWriter(_stops(prompt, stop))
        return Stream(_write_served(lm.server, prompt, served_writer, max_new_tokens, sampling), served_writer)
    writer = _writer(lm, prompt, max_new_tokens, stop)
    return Stream(_decode_one(lm, prompt.token_ids, writer, sampling), writer)


def generate_batch(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = settings.MAX_NEW_TOKENS,
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
    batch_size: int = 8,
) -> list[Completion]:
    """Complete many prompts, in their order; in float32 each text is the one that `generate` gives for its prompt alone.

    Prompts of like length share a batch, padded on the left. Always by transformers, or by a server, which is asked for
    `batch_size` answers at once.
    """
    if lm.server:

        def whole(prompt: Prompt) -> Completion:
            stream = generate(lm, prompt, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop)
            for _ in stream:
                pass
            return stream.completion

        return at_once(batch_size, whole, prompts)
    batch_size = batch_size if lm.shares_contexts else 1
    done: dict[int, Completion] = {}
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index].token_ids))
    for first in range(0, len(by_length), batch_size):
        batch = by_length[first : first + batch_size]
        writers = [_writer(lm, prompts[index], max_new_tokens, stop) for index in batch]
        start = time.perf_counter()
        for _ in _decode(lm, [prompts[index].token_ids for index in batch], writers, sampling):
            pass
        seconds = time.perf_counter() - start
        tokens = sum(len(writer.ids) for writer in writers) or 1
        for index, writer in zip(batch, writers, strict=True):
            done[index] = writer.completion(seconds * len(writer.ids) / tokens)
    return [done[index] for index in range(len(prompts))]


_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def at_once(count: int, function: Callable[[_Given], _Made], given: Sequence[_Given]) -> list[_Made]:
    """`function` of each, `count` at once in threads, in their order. After a fault nothing more is begun, and it is raised."""
    with ThreadPoolExecutor(max_workers=count) as pool:
        futures = [pool.submit(function, one) for one in given]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _stops(prompt: Prompt, stop: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*prompt.stop, *stop)))


def _writer(lm: LanguageModel, prompt: Prompt, max_new_tokens: int, stop: Sequence[str]) -> _Writer:
    room = min(max_new_tokens, lm.window - len(prompt.token_ids))
    if room < 1:
        raise UserError(
            f"no room for an answer: the prompt has {len(prompt.token_ids):,} tokens, {lm.name} reads {lm.window:,} at once",
            "ask a shorter question or allow at least one new token",
        )
    return _Writer(lm, _stops(prompt, stop), room)


class _Writer:
    """One answer in the making: tokens in, text out, and when it is over."""

    def __init__(self, lm: LanguageModel, stop: tuple[str, ...], room: int) -> None:
        self.ids: list[int] = []
        self.text = ""
        self.safe = 0
        self.finish: Finish = ""
        self._tokenizer, self._end, self._stop, self._room = lm.tokenizer, frozenset(lm.eos_ids), stop, room

    def push(self, token: int) -> None:
        self.ids.append(token)
        if token in self._end:
            self.finish, self.safe = "end", len(self.text)
            return
        self.text = self._decode(self.ids)
        cut = _cut(self.text, self._stop)
        repeated, period = _repetition(self.ids)
        if cut is not None:
            self.text = self.text[:cut]
            self.finish = "stop"
        elif repeated >= max(LOOP_TOKENS, period):
            self.text = self._decode(self.ids[:-repeated])
            self.finish = "loop"
        elif len(self.ids) == self._room:
            self.finish = "length"
        self.safe = len(self.text) if self.finish else self._safe(repeated)

    def _safe(self, repeated: int) -> int:
        """How much of `text` will not be taken back: not a repetition so far, the start of a stop string, or half a character."""
        text = self._decode(self.ids[:-repeated]) if repeated else self.text
        return max(len(text) - _held(text, self._stop), self.safe)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def completion(self, seconds: float) -> Completion:
        return Completion(self.text, self.finish, len(self.ids), seconds)


class _ServedWriter:
    """One answer as a server sends it: pieces of text in."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self.ids: list[int] = []
        self.text = ""
        self.safe = 0
        self.finish: Finish = ""
        self._stop = stop
        self._pieces = 0
        self._last = Written("")

    def push(self, written: Written) -> None:
        self._last = written
        self._pieces += bool(written.text)
        self.text += written.text
        cut = _cut(self.text, self._stop)
        if cut is not None:
            self.text = self.text[:cut]
            self.finish = "stop"
        elif written.finish:
            self.finish = "length" if written.finish == "length" else "end"
        self.safe = len(self.text) if self.finish else max(len(self.text) - _held(self.text, self._stop), self.safe)

    def completion(self, seconds: float) -> Completion:
        counted = self._last.completion_tokens
        return Completion(self.text, self.finish, self._pieces if counted is None else counted, seconds, self._last.prompt_tokens)


def _write_served(
    server: Server, prompt: Prompt, writer: _ServedWriter, max_new_tokens: int, sampling: Sampling
) -> Generator[None, None, None]:
    """Push what a server sends into `writer`, and yield, until it is finished."""
    options: dict[str, Any] = {"max_tokens": max_new_tokens, "temperature": sampling.temperature}
    if sampling.temperature:
        options |= {
            "seed": sampling.seed,
            "top_p": sampling.top_p if sampling.top_p < 1 else None,
            "top_k": sampling.top_k or None,
        }
    if prompt.template == "chat":
        # Elsewhere an answer often begins with line breaks, which a server would take for the stop string that begins so.
        options["stop"] = list(prompt.stop)
    with closing(server.stream(request(prompt.text, prompt.template), **options)) as pieces:
        for written in pieces:
            writer.push(written)
            yield
            if writer.finish:
                return


def _cut(text: str, stop: Sequence[str]) -> int | None:
    """Where the first stop string begins; one before the first word does not count, since it would make an empty answer."""
    begin = len(text) - len(text.lstrip())
    return min((at for mark in stop if (at := text.find(mark, begin)) >= 0), default=None)


def _held(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end may be the start of a stop string, or half a character."""
    held = len(text) - len(text.rstrip("\ufffd"))
    for mark in stop:
        for length in range(min(len(mark) - 1, len(text)), held, -1):
            if text.endswith(mark[:length]):
                held = length
                break
    return held


def _repetition(ids: Sequence[int]) -> tuple[int, int]:
    """(length of the longest end of `ids` that repeats what stands one period before it, that period); (0, 0) for none."""
    best = (0, 0)
    for period in range(1, min(LOOP_PERIOD, len(ids) - 1) + 1):
        length = 0
        while length < len(ids) - period and ids[-1 - length] == ids[-1 - length - period]:
            length += 1
        best = max(best, (length, -period))
    return best[0], -best[1]


def _decode(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], writers: Sequence[_Writer], sampling: Sampling
) -> Iterator[None]:
    """Push one token into every unfinished writer, yield, and so on until all are finished."""
    import torch
    from transformers import DynamicCache

    longest = max(len(ids) for ids in prompts)
    padding = [longest - len(ids) for ids in prompts]
    inputs = torch.tensor([[0] * pad + list(ids) for pad, ids in zip(padding, prompts, strict=True)], device=lm.device)
    mask = torch.tensor([[0] * pad + [1] * len(ids) for pad, ids in zip(padding, prompts, strict=True)], device=lm.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=lm.model.config)
    choose = _chooser(lm, sampling, len(prompts))
    rows = list(range(len(prompts)))
    while rows:
        with torch.inference_mode():
            logits = lm.model(
                input_ids=inputs,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1, : len(lm.tokenizer)]
            tokens = choose(logits.float(), rows)
        for row, token in zip(rows, tokens, strict=True):
            writers[row].push(token)
        yield
        going = [at for at, row in enumerate(rows) if not writers[row].finish]
        with torch.inference_mode():
            if len(going) < len(rows):
                keep = torch.tensor(going, dtype=torch.long, device=lm.device)
                mask, positions = mask[keep], positions[keep]
                tokens = [tokens[at] for at in going]
                rows = [rows[at] for at in going]
                if rows:
                    cache.batch_select_indices(keep)
            inputs = torch.tensor([[token] for token in tokens], device=lm.device)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1


def _decode_one(lm: LanguageModel, prompt: Sequence[int], writer: _Writer, sampling: Sampling) -> Generator[None, None, None]:
    """`_decode` for one prompt, by the engine where there is one."""
    if lm.engine is None:
        yield from _decode(lm, [prompt], [writer], sampling)
        return
    choose = _chooser(lm, sampling, 1)
    with lm.engine.context(prompt) as context:
        unread = prompt[len(context.ids) :]
        while not writer.finish:
            (token,) = choose(context.read(unread)[:, : len(lm.tokenizer)], [0])
            writer.push(token)
            yield
            unread = [token]


def _chooser(lm: LanguageModel, sampling: Sampling, count: int) -> Callable[[Any, Sequence[int]], list[int]]:
    """A function of (logits of shape [rows, vocabulary], row numbers) that gives each row's next token."""
    import torch
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    if not sampling.temperature:
        return lambda logits, rows: logits.argmax(-1).tolist()
    filters: list[Any] = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        filters.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        filters.append(TopPLogitsWarper(sampling.top_p))
    generators = [torch.Generator(lm.device).manual_seed(sampling.seed) for _ in range(count)]

    def draw(logits: Any, rows: Sequence[int]) -> list[int]:
        for filter_ in filters:
            logits = filter_(None, logits)
        chances = logits.softmax(-1)
        return [int(torch.multinomial(chances[at], 1, generator=generators[row])) for at, row in enumerate(rows)]

    return draw


def answer_question(
    lm: LanguageModel,
    question: str,
    hits: Sequence[Hit] | None,
    *,
    template: str = "auto",
    max_new_tokens: int = settings.MAX_NEW_TOKENS,
    sampling: Sampling = GREEDY,
    stop: Sequence[str] = (),
    cite: bool = False,
    on_text: Callable[[str], None] | None = None,
    index_generation: str | None = None,
) -> Answer:
    """Ask `lm` with the passages of `hits` (None: without any); `on_text` gets the answer piece by piece.

    `cite` asks for the numbers of the passages as [n]. Those that the answer has are checked, asked for or not: one that names no
    passage, or one that does not hold its sentence, is told in `notices`, as is an answer that was cut off or began to loop.
    Raises UserError as `build_prompt` and `generate` do.
    """
    shown_hits, refused = hits, 0
    while True:
        prompt = build_prompt(lm, question, shown_hits, template=template, max_new_tokens=max_new_tokens, cite=cite)
        opened = opens_thinking(prompt.text)
        try:
            stream = generate(lm, prompt, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop)
            done = _written(stream, opened, on_text)
            break
        except ContextTooLong:  # from a server, before it has written anything
            if not prompt.hits:
                raise
            shown_hits, refused = prompt.hits[:-1], refused + 1
    text = without_thinking(done.text, opened=opened)
    notices = [*lm.notices, *prompt.notices]
    if refused:
        notices.append(f"{refused} of {len(hits or ())} passages were left out: the server does not take so long a prompt")
    read = len(prompt.token_ids) if done.prompt_tokens is None else done.prompt_tokens
    if lm.server and done.prompt_tokens is None and done.finish != "stop":
        notices.append("the server did not count tokens: pieces of the answer were counted instead, and the prompt not at all")
    if done.prompt_tokens is not None and len(prompt.text) > _MOST_CHARACTERS * (read + 16):
        notices.append(f"the server counts {read:,} tokens for {len(prompt.text):,} characters: it may have cut the prompt short")
    if hits is not None and not hits:
        notices.append("no passages were found: the model answered by itself")
    if done.finish == "length":
        notices.append(f"the answer was cut off at {done.completion_tokens} tokens")
    if done.finish == "loop":
        notices.append("the model began to repeat itself and was stopped")
    if not text:
        reasoned = done.text and done.finish == "length"
        notices.append("the model reasoned and came to no answer" if reasoned else "the model gave an empty answer")
    notices += citing.faults(text, prompt.hits)
    return Answer(
        answer=text,
        citations=citing.citations(text, prompt.hits, question),
        hits=tuple(hits or ()),
        prompt_tokens=read,
        completion_tokens=done.completion_tokens,
        seconds=done.seconds,
        model=lm.name,
        index_generation=index_generation,
        prompt=prompt.text,
        dropped_hits=len(hits or ()) - len(prompt.hits),
        finish=done.finish,
        notices=tuple(notices),
        engine=lm.server.where.host if lm.server else lm.engine.name if lm.engine else "transformers",
    )


def _written(stream: Stream, opened: bool, on_text: Callable[[str], None] | None) -> Completion:
    """The whole of an answer; `on_text` gets it as it comes, without reasoning before it."""
    pieces, sent = "", ""
    for piece in stream:
        pieces += piece
        shown = answer_so_far(pieces, opened=opened)
        if on_text and len(shown) > len(sent):
            on_text(shown[len(sent) :])
            sent = shown
    return stream.completion


_MOST_CHARACTERS = 12
"""Characters of a token, at most, in a text of any length: with more, tokens must be missing."""
