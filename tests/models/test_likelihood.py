import math

import pytest
from tiny import make_hits

from rag_vs_ft.errors import UserError
from rag_vs_ft.models import likelihood
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations
from rag_vs_ft.models.prompting import build_prompt, encode

CHOICES = [" When the tank is full.", " Never", " Press the red key twice; wait 30 seconds.", " 漢字", " N"]


def full_pass(lm: LanguageModel, prefix: tuple[int, ...], continuation: tuple[int, ...]) -> float:
    """The plain way: one whole forward pass for one choice."""
    import torch

    with torch.inference_mode():
        logprobs = lm.model(torch.tensor([[*prefix, *continuation]])).logits[0].double().log_softmax(-1)
    return sum(float(logprobs[len(prefix) - 1 + at, token]) for at, token in enumerate(continuation))


@pytest.fixture(params=["in one pass", "by a cache"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of scoring: architectures that are not known to take a mask go by the cache."""
    if request.param == "by a cache":
        monkeypatch.setattr(likelihood, "ONE_PASS", ())
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_scores_equal_one_full_pass_for_each_choice(lm: LanguageModel) -> None:
    prompt = build_prompt(lm, "When does the pump stop?", make_hits("The pump stops when the tank is full."), max_new_tokens=20)
    prefix, continuations = split_continuations(lm, prompt, CHOICES)
    scores = continuation_logprobs(lm, prefix, continuations)
    for score, ids, text in zip(scores, continuations, CHOICES, strict=True):
        assert score.logprob == pytest.approx(full_pass(lm, prefix, ids), abs=1e-4)
        assert score.tokens == len(ids)
        assert score.bytes == len(text.encode())
    assert len({round(score.logprob, 3) for score in scores}) == len(CHOICES)


def test_both_ways_give_the_same_scores(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, continuations = split_continuations(lm, "The pump stops", CHOICES)
    at_once = continuation_logprobs(lm, prefix, continuations)
    monkeypatch.setattr(likelihood, "_PACKED_TOKENS", 10)
    by_cache = continuation_logprobs(lm, prefix, continuations)
    assert [score.logprob for score in by_cache] == pytest.approx([score.logprob for score in at_once], abs=1e-5)
    assert by_cache != at_once, "the second was to take the other way"


@pytest.mark.usefixtures("way")
def test_scores_do_not_depend_on_the_batch(lm: LanguageModel) -> None:
    prefix, continuations = split_continuations(lm, "The pump stops", CHOICES)
    reference = continuation_logprobs(lm, prefix, continuations, batch_size=1)
    for batch_size in (2, 3, 50):
        scores = continuation_logprobs(lm, prefix, continuations, batch_size=batch_size)
        assert [score.logprob for score in scores] == pytest.approx([score.logprob for score in reference], abs=1e-5)
    backwards = continuation_logprobs(lm, prefix, continuations[::-1])[::-1]
    assert [score.logprob for score in backwards] == pytest.approx([score.logprob for score in reference], abs=1e-5)


def test_all_continuations_of_one_token_share_out_one(lm: LanguageModel) -> None:
    """Golden by definition: the probabilities of every possible next token sum to one."""
    rows = lm.model.get_input_embeddings().num_embeddings
    scores = continuation_logprobs(lm, encode(lm, "Open the"), [(token,) for token in range(rows)], batch_size=64)
    assert math.fsum(math.exp(score.logprob) for score in scores) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("prefix", ["Question: Why?\nAnswer:", "Answer: the pum", "", "ends with space ", "line\n", "<|im_end|>"])
def test_prefix_and_continuation_spell_the_text(lm: LanguageModel, prefix: str) -> None:
    continuations = [" pump", "p stops", "ps", "\nfull", "<|im_end|>"]
    head, tails = split_continuations(lm, prefix, continuations)
    for continuation, ids in zip(continuations, tails, strict=True):
        assert ids
        assert lm.tokenizer.decode([*head, *ids], clean_up_tokenization_spaces=False) == prefix + continuation
        assert [*head, *ids] == encode(lm, prefix + continuation), "not how the text is tokenised as a whole"


@pytest.mark.usefixtures("way")
def test_an_empty_prefix_stands_for_the_start_of_a_text(lm: LanguageModel) -> None:
    token = lm.tokenizer.eos_token_id
    ids = tuple(encode(lm, "Open the valve"))
    (score,) = continuation_logprobs(lm, (), [ids])
    assert score.logprob == pytest.approx(full_pass(lm, (token,), ids), abs=1e-4)


def test_what_cannot_be_scored_is_refused(gpt2: LanguageModel) -> None:
    with pytest.raises(UserError, match="continuation 1 is empty"):
        split_continuations(gpt2, "a", ["b", ""])
    with pytest.raises(UserError, match="no tokens"):
        continuation_logprobs(gpt2, [5], [[6], []])
    with pytest.raises(UserError, match=r"250 tokens and 10 more do not fit: .* reads 256 at once"):
        continuation_logprobs(gpt2, [5] * 250, [[6] * 10])
    assert continuation_logprobs(gpt2, [5], []) == []
