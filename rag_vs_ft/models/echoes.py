"""The log-probabilities of a text's own tokens, as servers of the OpenAI protocol give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_Tokens = list[tuple[str, float | None]]
_Offsets = list[tuple[int, float | None]]
_LONGEST_TOKEN = 200
"""In characters: some vocabularies have a token for a whole line of spaces."""


@dataclass(frozen=True, slots=True)
class Echo:
    """A text as the server read it: where each token begins, in characters, and its natural log-probability after those before it
    (None for the first)."""

    offsets: tuple[int, ...]
    logprobs: tuple[float | None, ...]


def _echoed(choice: Mapping[str, Any]) -> _Tokens:
    """The tokens of `echo` with `logprobs`, as spelled, with their log-probabilities."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return []
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        return []
    return [(str(token), number(value)) for token, value in zip(tokens, values, strict=True)]


def _of_prompt(choice: Mapping[str, Any]) -> _Tokens:
    """The tokens of `prompt_logprobs`: an object by token number for each, and null for the first, which is not spelled."""
    found: _Tokens = []
    entries = choice.get("prompt_logprobs")
    for entry in entries[1:] if isinstance(entries, list) else ():
        value = next(iter(entry.values()), None) if isinstance(entry, dict) and len(entry) == 1 else None
        if not isinstance(value, dict):
            return []
        found.append((str(value.get("decoded_token")), number(value.get("logprob"))))
    return found


def placed(text: str, tokens: _Tokens) -> Echo | None:
    """Where the tokens of a text begin in it, or None when they do not spell it."""
    spelled = "".join(token for token, _ in tokens)
    # A start token may be spelled before the text, and half characters are spelled longer than they are; vLLM leaves out
    # the text's first token, which has no value.
    begin = spelled.find(text)
    missing = next((size for size in range(1, _LONGEST_TOKEN) if text[size:] and spelled.startswith(text[size:])), 0)
    if begin < 0 and not missing:
        return None
    at = missing if begin < 0 else -begin
    found: _Offsets = [(0, None)] if begin < 0 else []
    for token, value in tokens:
        found.append((at, value))
        at += len(token)
    own = [(offset, value) for offset, value in found if offset < len(text)]
    return Echo(tuple(offset for offset, _ in own), tuple(value for _, value in own))


def number(value: object) -> float | None:
    """`value` as a number, or None when it is not one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


WAYS: tuple[tuple[Mapping[str, Any], Callable[[Mapping[str, Any]], _Tokens]], ...] = (
    ({"echo": True, "logprobs": 1}, _echoed),
    ({"prompt_logprobs": 0}, _of_prompt),
)
"""What a completion is asked for, and how it is read: by OpenAI's fields, and by vLLM's (0: no other tokens)."""
