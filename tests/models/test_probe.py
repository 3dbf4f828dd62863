"""Next tokens and the likelihood of a reference answer, against the model asked directly."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.loading import load
from rag_vs_ft.models.probe import next_tokens, score_reference


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return load(str(tiny.save_llama(tmp_path_factory.mktemp("probe"))), settings.home())


def test_next_tokens_are_the_models_own_probabilities(lm) -> None:
    found = next_tokens(lm, "The pump stops when", 5)
    ids = lm.tokenizer("The pump stops when", add_special_tokens=False).input_ids
    with torch.inference_mode():
        chances = lm.model(torch.tensor([ids])).logits[0, -1, : len(lm.tokenizer)].softmax(-1)
    assert [one.id for one in found] == chances.topk(5).indices.tolist()
    assert [one.probability for one in found] == pytest.approx(chances.topk(5).values.tolist(), rel=1e-4)
    assert all(one.text for one in found)


def test_all_tokens_sum_to_one_and_none_is_asked_for_twice(lm) -> None:
    found = next_tokens(lm, "", 10_000)
    assert len(found) == len(lm.tokenizer) == len({one.id for one in found})
    assert sum(one.probability for one in found) == pytest.approx(1.0, abs=1e-4)


def test_text_that_does_not_fit(lm) -> None:
    with pytest.raises(UserError, match="do not fit"):
        next_tokens(lm, "pump " * 1000)


def test_reference_is_scored_after_the_prompt_of_ask(lm) -> None:
    from rag_vs_ft.models.prompting import build_prompt

    hits = tiny.make_hits("The pump stops when the tank is full.")
    found = score_reference(lm, "When does the pump stop?", hits, "  When the tank is full. ")
    prompt = build_prompt(lm, "When does the pump stop?", hits)
    answer = lm.tokenizer("When the tank is full.", add_special_tokens=False).input_ids
    ids = torch.tensor([[*prompt.token_ids, *answer]])
    with torch.inference_mode():
        logprobs = lm.model(ids).logits[0, :-1].double().log_softmax(-1)
    tail = slice(len(prompt.token_ids) - 1, None)
    expected = float(logprobs[tail].gather(-1, torch.tensor(answer)[:, None]).sum())
    assert found.logprob == pytest.approx(expected, rel=1e-4)
    assert found.bits_per_byte == pytest.approx(-expected / math.log(2) / len("When the tank is full."), rel=1e-4)
    assert found != score_reference(lm, "When does the pump stop?", None, "When the tank is full.")


def test_an_empty_reference_is_refused(lm) -> None:
    with pytest.raises(UserError, match="empty"):
        score_reference(lm, "Q?", None, "  ")
