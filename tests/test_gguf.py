"""Tiny models of several architectures, written as llama.cpp would, come back as the same models; damaged files do not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import save_adapter

from rag_vs_ft import catalogue, doctor, gguf, pulling, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import naming
from rag_vs_ft.models.generation import answer_question
from rag_vs_ft.models.loading import load, weights_sha256

WINDOW = 128


def vocabulary() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ĠĠ", "ab"]


MERGES = ["Ġ Ġ", "a b"]
CHAT = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"


def tiny_model(architecture: str, size: int) -> Any:
    """A random model of an architecture, by llama.cpp's name of it."""
    import torch
    import transformers as t

    common = {
        "vocab_size": size,
        "max_position_embeddings": WINDOW,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "tie_word_embeddings": architecture == "llama",
    }
    configs = {
        "llama": t.LlamaConfig,
        "qwen2": t.Qwen2Config,
        "qwen3": t.Qwen3Config,
        "gemma2": t.Gemma2Config,
        "phi3": t.Phi3Config,
        "starcoder2": t.Starcoder2Config,
    }
    torch.manual_seed(4)
    if architecture == "gpt2":
        config = t.GPT2Config(vocab_size=size, n_positions=WINDOW, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2)
    else:
        more = {"head_dim": 8} if architecture in ("qwen3", "gemma2") else {}
        more |= {"pad_token_id": 0} if architecture == "phi3" else {}
        more |= {"tie_word_embeddings": True, "sliding_window": 4} if architecture == "gemma2" else {}
        common["rope_parameters"] = {"rope_type": "default", "rope_theta": 500.0}
        config = configs[architecture](**common | more)
    model = t.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():  # else what adds 1 to a norm, or leaves out a bias, goes unseen
            if "norm" in name or name.endswith("bias"):
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def as_llama_cpp_keeps_it(architecture: str, name: str, data: np.ndarray, config: Any) -> np.ndarray:
    if architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
        # The two halves of each rotary pair stand side by side.
        heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
        half = data.shape[0] // heads // 2
        return data.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(data.shape)
    if architecture == "gemma2" and "norm" in name:
        return data + 1
    if architecture == "gpt2" and name.endswith(".weight") and any(part in name for part in ("attn_qkv", "attn_output", "ffn_")):
        return data.T if "norm" not in name else data
    return data


def write_gguf(
    path: Path,
    model: Any,
    *,
    architecture: str = "llama",
    quantise: str | None = None,
    edit: Callable[[dict[str, Any]], None] = lambda fields: None,
    tensors: Callable[[dict[str, Any]], None] = lambda tensors: None,
) -> Path:
    """Write `model`; `edit` may change the fields of the header, `tensors` the tensors by their names."""
    from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, get_tensor_name_map
    from gguf.quants import quantize

    config = model.config
    of = architecture
    fields: dict[str, Any] = {
        f"{of}.block_count": config.num_hidden_layers,
        f"{of}.context_length": WINDOW,
        f"{of}.embedding_length": 32,
        f"{of}.feed_forward_length": getattr(config, "intermediate_size", 128),
        f"{of}.attention.head_count": config.num_attention_heads,
        f"{of}.attention.head_count_kv": getattr(config, "num_key_value_heads", config.num_attention_heads),
        f"{of}.rope.freq_base": config.rope_parameters["rope_theta"] if hasattr(config, "rope_parameters") else 10_000.0,
        f"{of}.attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", 1e-6),
        f"{of}.attention.layer_norm_epsilon": getattr(config, "norm_epsilon", getattr(config, "layer_norm_epsilon", 1e-5)),
        f"{of}.rope.dimension_count": 8,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": {"llama": "smollm", "gpt2": "gpt-2"}.get(of, "qwen2"),
        "tokenizer.ggml.tokens": vocabulary(),
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(vocabulary()) - 3),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT,
    }
    if of in ("qwen3", "gemma2"):
        fields |= {f"{of}.attention.key_length": 8, f"{of}.attention.value_length": 8}
    if of == "gemma2":
        fields |= {
            f"{of}.attn_logit_softcapping": 50.0,
            f"{of}.final_logit_softcapping": 30.0,
            f"{of}.attention.sliding_window": config.sliding_window,
        }
    edit(fields)
    writer = GGUFWriter(path, architecture)
    for key, value in fields.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    number = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(number, config.num_hidden_layers)
    found: dict[str, Any] = {}
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        found[name] = as_llama_cpp_keeps_it(architecture, name, tensor.float().numpy(), config)
    tensors(found)
    for name, data in found.items():
        data = np.ascontiguousarray(data, dtype=np.float32)
        if quantise and data.ndim == 2:
            kind = GGMLQuantizationType[quantise]
            writer.add_tensor(name, quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.tensor([[3, 50, 70, 9, 200, 12, 33]])).logits.float()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "phi3", "starcoder2", "gpt2"])
def test_the_converted_model_is_the_same(architecture: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.trainer_utils import validate_quantization_for_training

    model = tiny_model(architecture, len(vocabulary()))
    gguf.convert(write_gguf(tmp_path / "tiny.gguf", model, architecture=architecture), tmp_path / "out")
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "out", use_safetensors=True).eval()
    assert torch.allclose(logits(model), logits(converted), atol=1e-4)
    assert converted.dtype == torch.float32
    validate_quantization_for_training(converted)
    assert (converted.generation_config.bos_token_id, converted.generation_config.eos_token_id) == (1, [2])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_ids_to_tokens(range(len(vocabulary()))) == vocabulary()
    assert tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False) == "<|im_start|>ab<|im_end|>"
    if architecture == "llama":
        assert tokenizer.tokenize("ab  12") == ["ab", "ĠĠ", "1", "2"], "digits are split off before spaces are"


def test_a_start_token_that_the_file_wants_is_put_before_texts(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = tiny_model("qwen2", len(vocabulary()))
    edit = changed("tokenizer.ggml.add_bos_token", True)
    gguf.convert(write_gguf(tmp_path / "tiny.gguf", model, architecture="qwen2", edit=edit), tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a").input_ids[0] == 1


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_0", "Q4_1", "BF16"])
def test_quantised_values_are_those_of_the_file(kind: str, tmp_path: Path) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize
    from safetensors.numpy import load_file

    model = tiny_model("qwen2", len(vocabulary()))
    gguf.convert(write_gguf(tmp_path / "tiny.gguf", model, architecture="qwen2", quantise=kind), tmp_path / "out")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    number = GGMLQuantizationType[kind]
    for name, weight in model.state_dict().items():
        data = weight.numpy()
        expected = dequantize(quantize(data, number), number) if data.ndim == 2 else data
        assert np.array_equal(stored[name], expected), name


def test_the_rule_of_llama_3_for_long_texts_is_found_again(tmp_path: Path) -> None:
    """llama.cpp stores what the rule comes to, divisors of frequencies; transformers does not read them."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(4)
    rule = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=WINDOW,
        rope_parameters=rule | {"original_max_position_embeddings": 8_192},
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    plain = 1.0 / (10_000.0 ** (np.arange(0, 64, 2) / 64))
    divisors = plain / model.model.rotary_emb.inv_freq.numpy()
    assert divisors.max() == pytest.approx(32)

    def sizes(fields: dict[str, Any]) -> None:
        fields |= {"llama.embedding_length": 64, "llama.attention.head_count_kv": 1, "llama.rope.dimension_count": 64}

    def add(tensors: dict[str, Any]) -> None:
        tensors["rope_freqs.weight"] = divisors.astype(np.float32)

    gguf.convert(write_gguf(tmp_path / "tiny.gguf", model, edit=sizes, tensors=add), tmp_path / "out")
    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.allclose(converted.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq, rtol=1e-4)
    assert torch.allclose(logits(model), logits(converted.eval()), atol=1e-4)
    divisors *= 1.5
    with pytest.raises(UserError, match=r"changes its positions by rope_freqs\.weight in a way that is not known"):
        gguf.convert(write_gguf(tmp_path / "odd.gguf", model, edit=sizes, tensors=add), tmp_path / "out2")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A SentencePiece model, as its own library reads it."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("pieces")
    text = folder / "text"
    text.write_text(
        "The pump stops when the tank is full. Press  the red key twice.\nnaïve café, 30 days\n" * 30, encoding="utf-8"
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "sp"),
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "sp.model"))


def pieces_of(library: Any) -> Callable[[dict[str, Any]], None]:
    size = library.vocab_size()
    kinds = [2 if library.is_unknown(n) else 3 if library.is_control(n) else 6 if library.is_byte(n) else 1 for n in range(size)]

    def edit(fields: dict[str, Any]) -> None:
        for key in ("pre", "merges", "padding_token_id"):
            del fields[f"tokenizer.ggml.{key}"]
        fields |= {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": [library.id_to_piece(number) for number in range(size)],
            "tokenizer.ggml.scores": [library.get_score(number) for number in range(size)],
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.add_bos_token": True,
        }

    return edit


def test_pieces_are_split_as_sentencepiece_does(library: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama", library.vocab_size()), edit=pieces_of(library))
    gguf.convert(source, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in (" a", "  The  pump", "naïve\n\n", "鍵", "", "30 days ", "\tkey"):
        assert tokenizer(text, add_special_tokens=False).input_ids == library.encode(text), text
    assert tokenizer("a").input_ids[0] == 1


def test_gemma_with_its_pieces_is_the_same(library: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    def edit(fields: dict[str, Any]) -> None:
        pieces_of(library)(fields)
        control = ["<pad>", "<eos>", "<bos>", "<mask>"]  # which transformers adds where they are missing
        fields["tokenizer.ggml.tokens"][-4:] = control
        fields["tokenizer.ggml.token_type"][-4:] = [3] * 4

    model = tiny_model("gemma2", library.vocab_size())
    source = write_gguf(tmp_path / "tiny.gguf", model, architecture="gemma2", edit=edit)
    gguf.convert(source, tmp_path / "out")
    assert torch.allclose(logits(model), logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()), atol=1e-4)


def test_a_file_is_a_model_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    home = settings.home(tmp_path / "home")
    source = write_gguf(tmp_path / "tiny.gguf", tiny_model("qwen2", len(vocabulary())), architecture="qwen2")
    told: list[str] = []
    lm = load("tiny.gguf", home, device="cpu", threads=1, progress=lambda stage, done=0, total=0, detail="": told.append(detail))
    assert [line for line in told if "converting tiny.gguf" in line]
    answer = answer_question(lm, "ab?", None, max_new_tokens=4)
    assert answer.completion_tokens and answer.model == "tiny.gguf" and lm.chat
    monkeypatch.setattr(gguf, "convert", lambda *_, **__: pytest.fail("it is converted once"))
    assert load(str(source), home, device="cpu", threads=1).weights_sha256 == lm.weights_sha256
    assert weights_sha256("./tiny.gguf", home) == lm.weights_sha256
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(source.read_bytes())
    assert naming.resolve("copy.gguf", home).base == naming.resolve("tiny.gguf", home).base, "by content, not by name"
    assert naming.available(home) == [str(source)]
    (row,) = [row for row in catalogue.list_models() if row["name"] == str(source)]
    assert row["state"] == "ready" and row["kind"] == "language" and row == catalogue.info("./tiny.gguf")
    with pytest.raises(UserError, match="has not been converted yet"):
        (tmp_path / "other.gguf").write_bytes(b"GGUF")
        catalogue.info("other.gguf")
    adapter = save_adapter(tmp_path / "adapter", naming.resolve("tiny.gguf", home).base, str(source))
    assert load(str(adapter), home, device="cpu", threads=1).adapter == str(adapter), "an adapter may name a file as its base"
    source.unlink()
    assert naming.available(home) == []
    for name in ("tiny.gguf", "./tiny.gguf", str(source)):
        with pytest.raises(UserError, match="there is no file"):
            naming.resolve(name, home)
    with pytest.raises(UserError, match="as a language model only"):
        catalogue.locate("copy.gguf")


def test_a_converted_folder_that_was_damaged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))
    source = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama", len(vocabulary())))
    place = pulling.from_gguf(source)
    assert catalogue.verify(str(source)) == []
    (place / "model.safetensors").write_bytes(b"cut")
    assert len(catalogue.verify(str(source))) == 1
    (found,) = [finding for finding in doctor.examine(settings.home(tmp_path / "home")) if finding.faults]
    assert found.name == str(source) and found.todo == f"remove {place}, then: it is made again from its file"
    assert (pulling.from_gguf(source) / "model.safetensors").stat().st_size > 1_000
    assert not any(finding.faults for finding in doctor.examine(settings.home(tmp_path / "home")))
    monkeypatch.setattr(pulling, "memory_limit", lambda: 1_000)
    (place / "config.json").unlink()
    with pytest.raises(UserError, match="GB of memory to convert"):
        pulling.from_gguf(source)


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(fields: dict[str, Any]) -> None:
        fields[key] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (changed("llama.block_count", 1_000_000_000), "block_count is 1000000000, and its tensors have no room"),
        (changed("llama.block_count", 0), "block_count is 0"),
        (changed("llama.embedding_length", 1 << 30), "embedding_length is 1073741824"),
        (changed("llama.feed_forward_length", 1 << 31), "feed_forward_length"),
        (changed("llama.context_length", 4_000_000_000), "context_length"),
        (changed("llama.vocab_size", 10_000_000), "vocab_size"),
        (changed("llama.attention.head_count", "many"), "head_count is 'many'"),
        (changed("llama.rope.scaling.type", "yarn"), "stretches its positions by 'yarn'"),
        (changed("llama.rope.dimension_count", 4), "turns 4 of 8 dimensions|lacks|cannot be read"),
        (changed("split.count", 3), "one of 3 parts"),
        (changed("tokenizer.ggml.pre", "made-up"), "splits text by 'made-up', which is not known"),
        (changed("tokenizer.ggml.model", "made-up"), "its tokenizer cannot be read"),
        (lambda fields: fields.pop("tokenizer.ggml.pre"), "in a way that it does not state"),
        (changed("tokenizer.ggml.tokens", vocabulary()[:-2]), "tiny.gguf .*architecture 'llama'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_header_says_wrongly_is_refused_by_name(edit: Any, message: str, tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama", len(vocabulary())), edit=edit)
    with pytest.raises(UserError, match=message):
        gguf.convert(source, tmp_path / "out")


def test_tensors_too_many_and_too_few_are_refused(tmp_path: Path) -> None:
    model = tiny_model("llama", len(vocabulary()))

    def extra(tensors: dict[str, Any]) -> None:
        tensors["blk.0.attn_q.bias"] = np.ones(32)
        tensors["mystery.weight"] = np.ones(32)

    with pytest.raises(UserError, match=r"transformers takes .* of them; perhaps not mystery.weight"):
        gguf.convert(write_gguf(tmp_path / "more.gguf", model, tensors=extra), tmp_path / "out")
    with pytest.raises(UserError, match=r"lacks 1 tensors of its model, such as model\.norm\.weight"):
        gguf.convert(
            write_gguf(tmp_path / "less.gguf", model, tensors=lambda found: found.pop("output_norm.weight")), tmp_path / "o"
        )


def test_unknown_kinds_are_refused_by_name(tmp_path: Path) -> None:
    model = tiny_model("llama", len(vocabulary()))
    whole = write_gguf(tmp_path / "tiny.gguf", model).read_bytes()
    at = whole.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
    assert struct.unpack_from("<I", whole, at) == (0,)
    for number, message in ((999, r"unknown quantisation \(999\)"), (24, "quantisation I8, which is not read|cut short")):
        (tmp_path / "odd.gguf").write_bytes(whole[:at] + struct.pack("<I", number) + whole[at + 4 :])
        with pytest.raises(UserError, match=message):
            gguf.convert(tmp_path / "odd.gguf", tmp_path / "out")
    bert = whole.replace(b"llama", b"berta")
    (tmp_path / "bert.gguf").write_bytes(bert)
    with pytest.raises(UserError, match=r"architecture 'berta', F32\) cannot be read by transformers: .*berta is not supported"):
        gguf.convert(tmp_path / "bert.gguf", tmp_path / "out")


def test_files_that_are_cut_or_lie_are_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama", len(vocabulary()))).read_bytes()
    start = whole.index(b"token_embd.weight")
    tokens = whole.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens")
    huge = struct.pack("<Q", 1 << 60)
    files = {
        f"cut at {size}": whole[:size] for size in (0, 3, 4, 23, 24, 100, tokens + 40, start, start + 30, len(whole) - 1_000)
    }
    files |= {
        "another kind of file": b"PK\x03\x04" + whole[4:],
        "an old version": whole[:4] + struct.pack("<I", 1) + whole[8:],
        "tensors without number": whole[:8] + huge + whole[16:],
        "fields without number": whole[:16] + huge + whole[24:],
        "tokens without number": whole[: tokens + 8] + huge + whole[tokens + 16 :],
        "a wide tensor": whole[: start + 21] + huge + whole[start + 29 :],
        "a tensor elsewhere": whole[: start + 41] + huge + whole[start + 49 :],
    }
    for what, data in files.items():
        (tmp_path / "odd.gguf").write_bytes(data)
        with pytest.raises(UserError, match=r"not a GGUF file|cut short|ends within|header"):
            gguf.convert(tmp_path / "odd.gguf", tmp_path / "out")
            pytest.fail(what)
