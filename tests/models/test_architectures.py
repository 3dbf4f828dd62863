"""Other architectures by the same door: tiny random checkpoints with the chat templates of their families."""

from pathlib import Path

import pytest
from tiny import make_hits, save_tokenizer

from rag_vs_ft import settings
from rag_vs_ft.models import fast
from rag_vs_ft.models.generation import answer_question, generate_batch
from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations
from rag_vs_ft.models.loading import load
from rag_vs_ft.models.prompting import build_prompt

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
QWEN3 = (
    TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
GEMMA = NO_SYSTEM + TURNS + "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
PLAIN = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "qwen2": ({"use_sliding_window": False}, PLAIN),
    "qwen3": ({"head_dim": 8}, QWEN3),
    "gemma2": ({"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}, GEMMA),
    "gemma3_text": ({"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}, GEMMA),
    "phi3": ({"original_max_position_embeddings": 512}, PLAIN),
    "mistral": ({"sliding_window": 16}, GEMMA),
    "olmo2": ({}, PLAIN),
    "lfm2": ({"layer_types": ["conv", "full_attention"], "conv_L_cache": 3, "block_multiple_of": 16}, PLAIN),
}


def save(folder: Path, family: str) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    extra, template = FAMILIES[family]
    size = save_tokenizer(folder, chat=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(6)
    config = AutoConfig.for_model(family, vocab_size=size, **{**SMALL, **extra})
    AutoModelForCausalLM.from_config(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, save(tmp_path_factory.mktemp(request.param), request.param)


def test_it_answers_alone_and_in_a_batch_and_scores_as_torch_does(family: tuple[str, Path]) -> None:
    import torch

    name, folder = family
    lm = load(str(folder), settings.home(), device="cpu", threads=1)
    answer = answer_question(lm, "When does it stop?", make_hits("The pump stops at night. " * 3), max_new_tokens=12)
    assert answer.prompt.startswith("<|im_start|>user\n") and answer.completion_tokens
    assert answer.prompt.endswith("</think>\n\n" if name == "qwen3" else "\n")
    prompts = [build_prompt(lm, question, None, max_new_tokens=12) for question in ("Why?", "When does the pump stop?")]
    together = [one.text for one in generate_batch(lm, prompts, max_new_tokens=12)]
    assert together == [generate_batch(lm, [prompt], max_new_tokens=12)[0].text for prompt in prompts]
    # Longer than the sliding windows, so that a mask that forgets them would be seen.
    prefix, texts = split_continuations(
        lm, "The pump stops when the tank is full. Open the valve", [" now.", " before you start."]
    )
    scores = continuation_logprobs(lm, prefix, texts)
    for score, ids in zip(scores, texts, strict=True):
        with torch.inference_mode():
            logprobs = lm.model(torch.tensor([[*prefix, *ids]])).logits[0].log_softmax(-1)
        expected = sum(float(logprobs[len(prefix) - 1 + at, token]) for at, token in enumerate(ids))
        assert score.logprob == pytest.approx(expected, abs=1e-3), name


def test_the_cpu_engine_takes_it_or_says_so_by_name(family: tuple[str, Path], cache: Path) -> None:
    pytest.importorskip("openvino")
    name, folder = family
    lm = load(str(folder), settings.home(), device="cpu", threads=1)
    engine, notices = fast.attach(lm, "openvino")
    if engine is None:
        assert f"models of type {name} cannot be converted" in notices[0] or "is not the same" in notices[0]
    else:
        with engine.context([5, 6, 7, 8]) as context:
            assert context.read([5, 6, 7, 8]).shape[-1] >= len(lm.tokenizer)


def test_a_lora_is_put_on_it_and_merged(family: tuple[str, Path], tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    _, folder = family
    base = load(str(folder), settings.home(), device="cpu", threads=1)
    model = load(str(folder), settings.home(), device="cpu", threads=1).model
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "qkv_proj"], task_type="CAUSAL_LM"))
    torch.manual_seed(3)
    with torch.no_grad():
        for key, weight in adapted.named_parameters():
            if "lora_B" in key:
                weight.normal_(0, 0.5)
    adapted.peft_config["default"].base_model_name_or_path = str(folder)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    merged = load(str(tmp_path), settings.home(), device="cpu", threads=1)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        assert torch.allclose(merged.model(ids).logits, adapted.eval()(ids).logits, atol=1e-3)
        assert (merged.model(ids).logits - base.model(ids).logits).abs().max() > 0.01
