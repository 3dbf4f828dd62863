"""How likely a model finds each of several continuations of one text: the log-likelihood scoring of multiple choice.

The shared text goes through the model once for all continuations (Brown et al., 2020, section 2.4, score choices so; computing
the prefix once is our addition and changes only the time). Where the architecture allows, everything is one pass: the
continuations follow the prefix in a row, and a mask lets each see the prefix and itself. Elsewhere the prefix's keys and
values are kept and the continuations follow as a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.prompting import Prompt, encode

ONE_PASS = ("gpt2", "llama")
"""Architectures that attend by the mask they are given and take positions by number; others may slide a window or skew by
distance, and are not known to."""
_PACKED_TOKENS = 512
"""More continuation tokens than this are no longer cheaper in one pass."""
_CONTEXT_TOKENS = 8
"""Tokens before a continuation that are decoded with it, so that its spaces and split characters come out as they stand."""


@dataclass(frozen=True, slots=True)
class Score:
    """Sum of the natural log-probabilities of a continuation's tokens, how many there are, and their bytes in UTF-8."""

    logprob: float
    tokens: int
    bytes: int


def split_continuations(
    lm: LanguageModel, prefix: Prompt | str, continuations: Sequence[str]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Token ids of a prefix and of each text that may follow it, such that together they spell prefix + continuation.

    A tokenizer may join the end of the prefix with the start of what follows, differently for each continuation. The boundary is
    therefore put before the first token that is not the same for all, and those tokens count as part of every continuation.
    Raises UserError for an empty continuation.
    """
    if empty := [index for index, text in enumerate(continuations) if not text]:
        raise UserError(f"continuation {empty[0]} is empty", "give every choice a text")
    ids = list(prefix.token_ids) if isinstance(prefix, Prompt) else encode(lm, prefix)
    text = prefix.text if isinstance(prefix, Prompt) else prefix
    # Only the last line can be joined with what follows: no tokenizer joins across a line's end and the text after it.
    tail = text.rpartition("\n")[2]
    alone = encode(lm, tail)
    joint = [encode(lm, tail + continuation) for continuation in continuations]
    shared = min((_common(alone, one) for one in joint), default=0)
    shared = min(shared, *(len(one) - 1 for one in joint)) if joint else 0
    undone = len(alone) - shared
    if undone and ids[len(ids) - undone :] != alone[shared:]:
        raise UserError(
            f"the tokenizer of {lm.name} does not split {tail[-40:]!r} the same way twice", "end the prompt with a line break"
        )
    return tuple(ids[: len(ids) - undone]), [tuple(one[shared:]) for one in joint]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def continuation_logprobs(
    lm: LanguageModel,
    prefix_ids: Sequence[int],
    continuations_ids: Sequence[Sequence[int]],
    *,
    batch_size: int = 8,
) -> list[Score]:
    """Score each continuation after the same prefix, in the order given; the model sees `prefix_ids + continuation`.

    `batch_size` continuations go through the model at once where they are not all in one pass; the scores do not depend on it.
    An empty prefix means the start of a text: the model's beginning-of-text token, or else its end-of-text token. Raises
    UserError when a continuation is empty or does not fit into the window after the prefix.
    """
    import torch

    prefix = list(prefix_ids) or [_start_token(lm)]
    longest = max((len(ids) for ids in continuations_ids), default=0)
    if any(not ids for ids in continuations_ids):
        raise UserError("a continuation has no tokens", "give every choice a text")
    if len(prefix) + longest > lm.window:
        raise UserError(
            f"{len(prefix):,} tokens and {longest:,} more do not fit: {lm.name} reads {lm.window:,} at once",
            "use fewer or shorter passages",
        )
    together = lm.model.config.model_type in ONE_PASS and sum(map(len, continuations_ids)) <= _PACKED_TOKENS
    with torch.inference_mode():
        if together:
            logprobs = _one_pass(lm, prefix, continuations_ids)
        elif lm.shares_contexts:
            logprobs = _prefix_then_batches(lm, prefix, continuations_ids, batch_size)
        else:
            logprobs = [_alone(lm, prefix, ids) for ids in continuations_ids]
    return [Score(logprob, len(ids), _bytes(lm, prefix, ids)) for ids, logprob in zip(continuations_ids, logprobs, strict=True)]


def _one_pass(lm: LanguageModel, prefix: list[int], continuations: Sequence[Sequence[int]]) -> list[float]:
    """Log-probabilities of the continuations, which follow the prefix in a row and do not see each other."""
    import torch

    ids, positions, owner = list(prefix), list(range(len(prefix))), [-1] * len(prefix)
    predicting = []  # for each continuation, where the logits of its tokens stand among those that are kept
    keep = [len(prefix) - 1]
    for number, continuation in enumerate(continuations):
        body = continuation[:-1]  # the last token is predicted and not read
        predicting.append([0, *range(len(keep), len(keep) + len(body))])
        keep += range(len(ids), len(ids) + len(body))
        positions += range(len(prefix), len(prefix) + len(body))
        owner += [number] * len(body)
        ids += body
    of = torch.tensor(owner, device=lm.device)
    seen = torch.ones(len(ids), len(ids), dtype=torch.bool, device=lm.device).tril() & ((of == -1) | (of == of[:, None]))
    mask = torch.zeros(seen.shape, dtype=lm.model.dtype, device=lm.device).masked_fill(~seen, torch.finfo(lm.model.dtype).min)
    logits = lm.model(
        torch.tensor([ids], device=lm.device),
        attention_mask=mask[None, None],
        position_ids=torch.tensor([positions], device=lm.device),
        logits_to_keep=torch.tensor(keep, device=lm.device),
        use_cache=False,
    ).logits[0]
    logprobs = _log_softmax(logits)
    targets = [torch.tensor(continuation, device=lm.device) for continuation in continuations]
    return [float(logprobs[rows, target].sum()) for rows, target in zip(predicting, targets, strict=True)]


def _alone(lm: LanguageModel, prefix: list[int], continuation: Sequence[int]) -> float:
    """The same for one continuation, with the prefix read again."""
    import torch

    ids = torch.tensor([[*prefix, *continuation[:-1]]], device=lm.device)
    logits = lm.model(ids, logits_to_keep=len(continuation), use_cache=False).logits[0]
    targets = torch.tensor(continuation, device=lm.device)[:, None]
    return float(_log_softmax(logits).gather(-1, targets).sum())


def _prefix_then_batches(
    lm: LanguageModel, prefix: list[int], continuations: Sequence[Sequence[int]], batch_size: int
) -> list[float]:
    """The same by a cache of the prefix's keys and values, which every batch of continuations goes on from."""
    import torch
    from transformers import DynamicCache

    found: dict[int, float] = {}
    cache = DynamicCache(config=lm.model.config)
    read = lm.model(torch.tensor([prefix], device=lm.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    first = _log_softmax(read.logits[0, -1])
    by_length = sorted(range(len(continuations)), key=lambda number: len(continuations[number]))
    for start in range(0, len(by_length), batch_size):
        batch = by_length[start : start + batch_size]
        rest = _rest_logprobs(lm, cache, len(prefix), [continuations[number] for number in batch])
        for number, logprob in zip(batch, rest, strict=True):
            found[number] = float(first[continuations[number][0]]) + logprob
    return [found[number] for number in range(len(continuations))]


def _rest_logprobs(lm: LanguageModel, cache: object, past: int, batch: Sequence[Sequence[int]]) -> list[float]:
    """For each continuation, the summed log-probability of its second to last token. Leaves `cache` as it was."""
    import copy

    import torch

    width = max(len(ids) for ids in batch) - 1
    if not width:
        return [0.0] * len(batch)
    inputs = torch.tensor([[*ids[:-1], *[0] * (width + 1 - len(ids))] for ids in batch], device=lm.device)
    expanded = copy.deepcopy(cache)
    expanded.batch_repeat_interleave(len(batch))  # type: ignore[attr-defined]
    # Padding stands on the right, where causal attention cannot see it, so no mask is needed.
    positions = torch.arange(past, past + width, device=lm.device)[None].expand(len(batch), -1)
    logits = lm.model(inputs, past_key_values=expanded, position_ids=positions, use_cache=True).logits
    sums = []
    for row, ids in enumerate(batch):
        targets = torch.tensor(ids[1:], device=lm.device)[:, None]
        sums.append(float(_log_softmax(logits[row, : len(ids) - 1]).gather(-1, targets).sum()))
    return sums


def _log_softmax(logits: Any) -> Any:
    """In double precision: over 50,000 logits, single precision is off by 1e-4 a token (measured)."""
    import torch

    return logits.to(torch.float32 if logits.device.type == "mps" else torch.float64).log_softmax(-1)


def _start_token(lm: LanguageModel) -> int:
    for token in (lm.tokenizer.bos_token_id, lm.tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise UserError(f"the tokenizer of {lm.name} has no token for the start of a text", "give a prefix")


def _bytes(lm: LanguageModel, prefix: Sequence[int], ids: Sequence[int]) -> int:
    """Bytes that `ids` add to the text: decoded after some of the prefix, since a decoder drops a text's first space."""

    def length(tokens: Sequence[int]) -> int:
        return len(lm.tokenizer.decode(tokens, clean_up_tokenization_spaces=False).encode())

    context = list(prefix[-_CONTEXT_TOKENS:])
    return length([*context, *ids]) - length(context)
