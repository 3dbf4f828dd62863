"""What a model makes of a text: the tokens it would go on with, and how likely it finds an answer that is given to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations
from rag_vs_ft.models.prompting import build_prompt, continue_text
from rag_vs_ft.records import Hit


@dataclass(frozen=True, slots=True)
class NextToken:
    """A token that may come next; part of a character is shown as the vocabulary spells it."""

    text: str
    id: int
    probability: float


@dataclass(frozen=True, slots=True)
class Reference:
    """How likely a model finds a given answer: summed natural log-probability, its tokens, and bits per byte of UTF-8."""

    logprob: float
    tokens: int
    bits_per_byte: float


def next_tokens(lm: LanguageModel, text: str, count: int = 10) -> list[NextToken]:
    """The `count` most likely tokens after `text`, best first; after an empty one, those a text starts with.

    Raises UserError when the text does not fit into the window.
    """
    import torch

    ids = continue_text(lm, text).token_ids
    if len(ids) > lm.window:
        raise UserError(f"{len(ids):,} tokens do not fit: {lm.name} reads {lm.window:,} at once", "use a shorter text")
    with torch.inference_mode():
        logits = lm.model(torch.tensor([ids], device=lm.device), logits_to_keep=1).logits[0, -1, : len(lm.tokenizer)]
        best = logits.float().softmax(-1).topk(min(count, len(lm.tokenizer)))
    return [
        NextToken(_spelled(lm, int(token)), int(token), float(chance))
        for token, chance in zip(best.indices, best.values, strict=True)
    ]


def _spelled(lm: LanguageModel, token: int) -> str:
    text = str(lm.tokenizer.decode([token], clean_up_tokenization_spaces=False))
    return str(lm.tokenizer.convert_ids_to_tokens(token)) if "\ufffd" in text or not text else text


def score_reference(lm: LanguageModel, question: str, hits: Sequence[Hit] | None, reference: str) -> Reference:
    """Score `reference` as the answer to `question` after the prompt that `ask` would give (`hits` None: without passages).

    Raises UserError when the answer is empty or does not fit beside the question.
    """
    answer = reference.strip()
    room = len(lm.tokenizer(answer, add_special_tokens=False).input_ids) + 8  # tokens at the border count with the answer
    prompt = build_prompt(lm, question, hits, max_new_tokens=room)
    space = "" if prompt.text[-1:].isspace() else " "
    prefix, texts = split_continuations(lm, prompt, [space + answer] if answer else [""])
    (score,) = continuation_logprobs(lm, prefix, texts)
    return Reference(score.logprob, score.tokens, -score.logprob / math.log(2) / max(score.bytes, 1))
