"""Question and passages -> the exact tokens a model is given.

Four templates: `chat` is the tokenizer's own chat template; `plain` and `few-shot` are completions for base models; `alpaca`
uses the section marks of Stanford Alpaca (Taori et al., 2023). Whole passages go in by rank until the window, less the room for
the answer, is full; the question and the instructions are never cut. Text of documents and users is data: control tokens
written in it ("<|im_end|>") are encoded as the characters they are. Instructions and labels are in the language of the passages.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.language import Language, PromptWords, breaks, detect, language
from rag_vs_ft.models.chat import frame
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.records import Hit

TEMPLATES = ("auto", "plain", "few-shot", "alpaca", "chat")

_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given: `text` is exactly what `token_ids` spell; `hits` are in it, `dropped` did not fit.

    `language` is the ISO 639-1 code of its instructions and labels.
    """

    text: str
    token_ids: tuple[int, ...]
    hits: tuple[Hit, ...]
    dropped: tuple[Hit, ...]
    notices: tuple[str, ...]
    stop: tuple[str, ...]
    template: str
    language: str = "en"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of prompt text; in one that is not `trusted`, control tokens are plain characters."""

    text: str
    trusted: bool


def build_prompt(
    lm: LanguageModel,
    question: str,
    hits: Sequence[Hit] | None,
    *,
    template: str = "auto",
    max_new_tokens: int = settings.MAX_NEW_TOKENS,
    spoken: str | None = None,
    cite: bool = False,
) -> Prompt:
    """Put `question` and the passages of `hits` (None: ask the bare model) into at most `lm.window - max_new_tokens` tokens.

    Passages are numbered by the rank of their hit. Those that do not fit are dropped from the last rank up; a first passage
    that is too long by itself is cut after a sentence or line. `auto` is the template that a run was finetuned on, else the chat
    template where the tokenizer has one, else `plain`. `spoken` is the ISO 639-1 code of the language to ask in: by default that
    of most passages, without any the question's. `cite` asks for the numbers of passages in the answer.

    Raises UserError for an empty question, one that does not fit, or a template the model does not have.
    """
    asked = _clean(question)
    if not asked:
        raise UserError("the question is empty", 'ask something: rag-vs-ft ask "How do I ...?" --index NAME')
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}", "allow the answer at least one token")
    if template not in TEMPLATES:
        raise UserError(f"there is no prompt template {template!r}", f"use one of: {', '.join(TEMPLATES)}")
    if template == "chat" and not lm.chat:
        raise UserError(f"the tokenizer of {lm.name} has no chat template", "use --template plain, few-shot or alpaca")
    style = (lm.template or ("chat" if lm.chat else "plain")) if template == "auto" else template
    asked_in = language(spoken or language_of(hits or ()) or detect(asked))
    if cite:
        asked_in = replace(asked_in, prompt=replace(asked_in.prompt, task=f"{asked_in.prompt.task} {asked_in.prompt.cite}"))
    if lm.server:
        return _served_prompt(lm, style, asked, hits or (), asked_in, max_new_tokens)
    budget = lm.window - max_new_tokens

    def assemble(passages: Sequence[Hit]) -> tuple[list[_Piece], tuple[int, ...]]:
        pieces = _pieces(lm, style, asked, passages, asked_in.prompt)
        return pieces, _encode(lm, pieces)

    def size(passages: Sequence[Hit]) -> int:
        return len(assemble(passages)[1])

    bare = size(())
    if bare > budget:
        raise UserError(
            f"the question does not fit: {bare:,} tokens with instructions, {max_new_tokens:,} for the answer, and {lm.name} "
            f"reads {lm.window:,} at once",
            "ask a shorter question or allow fewer new tokens",
        )
    ranked = sorted(hits or (), key=lambda hit: hit.rank)
    fitting = bisect.bisect_right(range(1, len(ranked) + 1), budget, key=lambda count: size(ranked[:count]))
    used = ranked[:fitting]
    notices: list[str] = []
    if ranked and not used and (cut := _cut_to_fit(ranked[0], lambda hit: size([hit]) <= budget)):
        used = [cut]
        notices.append(f"passage {cut.rank} was cut to its first {len(cut.chunk.text):,} characters to fit the model's window")
    dropped = ranked[len(used) :]
    if dropped:
        notices.append(f"{len(dropped)} of {len(ranked)} passages did not fit into {budget:,} tokens and were left out")
    pieces, ids = assemble(used)
    return Prompt(
        text="".join(piece.text for piece in pieces),
        token_ids=ids,
        hits=tuple(used),
        dropped=tuple(dropped),
        notices=tuple(notices),
        stop=_stops(style, asked_in.prompt),
        template=style,
        language=asked_in.code,
    )


_BYTES_PER_TOKEN = 3.0
"""Of prompts for servers, which do not count tokens beforehand: low, so that what is thought to fit does (English has over 4)."""


def _served_prompt(
    lm: LanguageModel, style: str, question: str, hits: Sequence[Hit], asked_in: Language, max_new_tokens: int
) -> Prompt:
    """A prompt without token ids. In style "chat" the text is the user's message, to which the server puts its own template.

    Where the server says how much its model reads, passages beyond that are left out by an estimate.
    """

    words = asked_in.prompt

    def text(passages: Sequence[Hit]) -> str:
        return _message(question, passages, words) if style == "chat" else _plain(style, question, passages, words)

    ranked = sorted(hits, key=lambda hit: hit.rank)
    room = (lm.window - max_new_tokens) * _BYTES_PER_TOKEN if lm.window else float("inf")
    fitting = bisect.bisect_right(range(1, len(ranked) + 1), room, key=lambda count: len(text(ranked[:count]).encode()))
    used, dropped = ranked[:fitting], ranked[fitting:]
    notices = (f"{len(dropped)} of {len(ranked)} passages would not fit and were left out",) if dropped else ()
    return Prompt(text(used), (), tuple(used), tuple(dropped), notices, _stops(style, words), style, asked_in.code)


def language_of(hits: Sequence[Hit]) -> str:
    """The ISO 639-1 code of the language that most passages are in, of the best one among equals; "" where none is known."""
    known = [hit.chunk.language for hit in sorted(hits, key=lambda hit: hit.rank) if hit.chunk.language]
    return Counter(known).most_common(1)[0][0] if known else ""


def _stops(style: str, words: PromptWords) -> tuple[str, ...]:
    """Where an answer ends: small models go on with a question or a passage of their own."""
    if style == "alpaca":
        return ("\n###",)
    if style == "chat":
        return (f"\n{words.question}:", "\n\n[")
    return ("\n\n", *(f"\n{label}:" for label in (words.question, words.answer, words.passages)))


def continue_text(lm: LanguageModel, text: str) -> Prompt:
    """A prompt that is just `text`, to be continued; for an empty one, the token that starts a text. No stop strings."""
    first = lm.tokenizer.bos_token or lm.tokenizer.eos_token or ""
    readable = _NOT_TEXT.sub("", text)
    pieces = [_Piece(first, True)] if _adds_bos(lm) or not readable else []
    pieces.append(_Piece(readable, False))
    shown = "".join(piece.text for piece in pieces)
    return Prompt(shown, _encode(lm, pieces), (), (), (), (), "plain")


def alpaca(instruction: str, context: str = "") -> str:
    """A record's prompt with Alpaca's section marks, up to where the response begins."""
    middle = f"### Input:\n{context}\n\n" if context else ""
    return f"### Instruction:\n{instruction}\n\n{middle}### Response:\n"


def alpaca_fields(question: str, hits: Sequence[Hit]) -> tuple[str, str]:
    """The (instruction, input) of a record that asks `question` with the passages of `hits`; without any, input is empty."""
    return _alpaca_fields(question, hits, language(language_of(hits)).prompt)


def _alpaca_fields(question: str, hits: Sequence[Hit], words: PromptWords) -> tuple[str, str]:
    return (f"{words.task} {question}", _passages(hits)) if hits else (question, "")


def _clean(text: str) -> str:
    """Without control characters and lone surrogates, which tokenizers refuse, and without space around it."""
    return _NOT_TEXT.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _passages(hits: Sequence[Hit]) -> str:
    return "\n\n".join(f"[{hit.rank}] {_clean(hit.chunk.breadcrumb)}\n{_clean(hit.chunk.text)}" for hit in hits)


def _pieces(lm: LanguageModel, style: str, question: str, hits: Sequence[Hit], words: PromptWords) -> list[_Piece]:
    if style == "chat":
        before, after = frame(lm)
        return [_Piece(before, True), _Piece(_message(question, hits, words), False), _Piece(after, True)]
    text = _plain(style, question, hits, words)
    first = lm.tokenizer.bos_token if _adds_bos(lm) else None
    return [_Piece(first, True), _Piece(text, False)] if first else [_Piece(text, False)]


def _message(question: str, hits: Sequence[Hit], words: PromptWords) -> str:
    """What a user says to a model that chats."""
    return f"{_passages(hits)}\n\n{words.task}\n\n{words.question}: {question}" if hits else question


def _plain(style: str, question: str, hits: Sequence[Hit], words: PromptWords) -> str:
    """The whole text of a prompt that is no chat."""
    if style == "alpaca":
        return alpaca(*_alpaca_fields(question, hits, words))
    passages = _passages(hits)
    text = f"{words.passages}:\n{passages}\n\n" if passages else ""
    if style == "few-shot":
        text = "".join(_example(words, *example, with_passage=bool(passages)) for example in words.examples) + text
    return f"{text}{words.question}: {question}\n{words.answer}:"


def _example(words: PromptWords, passage: str, question: str, answer: str, *, with_passage: bool) -> str:
    shown = f"{words.passages}:\n[1] {passage}\n\n" if with_passage else ""
    return f"{shown}{words.question}: {question}\n{words.answer}: {answer}\n\n"


def _adds_bos(lm: LanguageModel) -> bool:
    bos = lm.tokenizer.bos_token_id
    return bos is not None and list(lm.tokenizer("a").input_ids)[:1] == [bos]


def encode(lm: LanguageModel, text: str, *, control: bool = False) -> list[int]:
    """Token ids of `text` without any token added around it; control tokens in it are characters unless `control`."""
    return list(lm.tokenizer(text, add_special_tokens=False, split_special_tokens=not control).input_ids)


def _encode(lm: LanguageModel, pieces: Sequence[_Piece]) -> tuple[int, ...]:
    """The pieces as one text, where that gives just the control tokens of the trusted ones; else piece by piece.

    The first is how the model was trained to see it (some tokenizers mark the start of every text they are given); the second is
    for text that spells control tokens.
    """
    control = set(lm.tokenizer.all_special_ids) | set(lm.tokenizer.added_tokens_decoder)
    ids = encode(lm, "".join(piece.text for piece in pieces), control=True)
    wanted = [token for piece in pieces if piece.trusted for token in encode(lm, piece.text, control=True) if token in control]
    if [token for token in ids if token in control] == wanted:
        return tuple(ids)
    return tuple(token for piece in pieces for token in encode(lm, piece.text, control=piece.trusted))


def _cut_to_fit(hit: Hit, fits: Callable[[Hit], bool]) -> Hit | None:
    """`hit` with the longest start of its text that `fits`, ending after a sentence or a line; None when not even one does."""
    text = _clean(hit.chunk.text)
    starts = [replace(hit, chunk=replace(hit.chunk, text=text[:end])) for end in breaks(text) if end]
    count = bisect.bisect_left(starts, True, key=lambda start: not fits(start))
    return starts[count - 1] if count else None
