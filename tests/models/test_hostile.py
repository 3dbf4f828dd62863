"""Model folders that are broken or mean harm: a clear error, soon, and before anything large is allocated."""

import json
import shutil
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from tiny import save_adapter

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import chat, weights
from rag_vs_ft.models.chat import answer_so_far, without_thinking
from rag_vs_ft.models.generation import answer_question
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.loading import load
from rag_vs_ft.models.prompting import build_prompt


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_head": 0}, "num_attention_heads is 0"),
        ({"n_head": -1}, "num_attention_heads is -1"),
        ({"n_head": "two"}, "config.json|cannot be loaded"),
        ({"n_head": 5}, "cannot be loaded"),
        ({"n_layer": -1}, "num_hidden_layers is -1|cannot be loaded"),
        ({"n_layer": 1_000_000_000}, "num_hidden_layers is 1000000000"),
        ({"n_layer": 12}, "it describes .* numbers, .* are stored"),
        ({"n_embd": 1_000_000_000}, "hidden_size is 1000000000"),
        ({"vocab_size": 1_000_000_000}, "vocab_size is 1000000000"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"n_positions": 1_000_000}, "it describes|do not fit"),
        ({"n_positions": 0}, "max_position_embeddings is 0"),
        ({"eos_token_id": "end"}, "cannot be loaded|eos_token_id is 'end'"),
        ({"eos_token_id": {"a": 1}}, "cannot be loaded|eos_token_id"),
        ({"model_type": ["gpt2"]}, "cannot be loaded|cannot be read"),
        ({"model_type": "bert"}, "cannot be loaded|do not fit|config.json says"),
        ({"torch_dtype": "float1"}, ""),
    ],
)
def test_a_configuration_that_cannot_be(fields: dict, message: str, gpt2_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gpt2_folder, tmp_path / "model")
    change(folder / "config.json", **fields)
    try:
        load(str(folder), settings.home(), device="cpu")
    except UserError as error:
        import re

        assert re.search(message, error.message), error.message
        assert error.hint and "\n" not in error.message
    else:
        assert not message


def with_header(path: Path, text: str) -> None:
    data = text.encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + bytes(16))


@pytest.mark.parametrize(
    "header",
    [
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": {"dtype": "F32", "shape": "4", "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "F32", "shape": ["4"], "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "F32", "shape": [1e308], "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "F32", "shape": [4000000000000], "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0]}}',
        '{"a": {"dtype": "F32", "shape": [4], "data_offsets": "01"}}',
        '{"a": 7}',
        "[]",
        "null",
        "{",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_a_header_of_weights_that_cannot_be(header: str, gpt2_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gpt2_folder, tmp_path / "model")
    with_header(folder / "model.safetensors", header)
    with pytest.raises(UserError, match=r"model.safetensors is damaged"):
        load(str(folder), settings.home(), device="cpu")


@pytest.mark.parametrize(
    "index", ["[]", "null", '{"weight_map": []}', '{"weight_map": {"a": 7}}', '{"weight_map": {"a": "../x"}}']
)
def test_a_weight_index_that_cannot_be(index: str, gpt2_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gpt2_folder, tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=r"index.json"):
        load(str(folder), settings.home(), device="cpu")


def test_an_empty_vocabulary(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gpt2_folder, tmp_path / "model")
    record = json.loads((folder / "tokenizer.json").read_text())
    record["model"] |= {"vocab": {}, "merges": []}
    record["added_tokens"] = []
    (folder / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"an empty vocabulary|cannot be read"):
        load(str(folder), settings.home(), device="cpu")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init_lora_weights": "eva"}, "begins by 'eva'"),
        ({"init_lora_weights": "unheard-of"}, "begins by 'unheard-of'"),
        ({"init_lora_weights": {}}, "begins by"),
        ({"r": 1_000_000_000}, "says its rank is"),
        ({"r": 0}, "says its rank is"),
        ({"rank_pattern": {"c_attn": 10**9}}, "says its rank is"),
        ({"peft_type": "PREFIX_TUNING"}, "only LORA is read"),
        ({"target_modules": 7}, "does not fit the model"),
        ({"target_modules": "(a+)+$"}, "does not fit the model"),
    ],
)
def test_an_adapter_that_cannot_be(fields: dict, message: str, gpt2_folder: Path, tmp_path: Path) -> None:
    place = save_adapter(tmp_path / "adapter", gpt2_folder, str(gpt2_folder))
    change(place / "adapter_config.json", **fields)
    with pytest.raises(UserError, match=message):
        load(str(place), settings.home(), device="cpu")


def test_a_model_larger_than_the_memory_is_refused_by_its_header(gpt2_folder: Path) -> None:
    files = [gpt2_folder / "model.safetensors"]
    with pytest.raises(UserError, match=r"needs 0.0 GB of memory"):
        weights.check_config(gpt2_folder, files, 4, limit=1_000)
    weights.check_config(gpt2_folder, files, 4, limit=None)


@pytest.fixture
def templated(llama: LanguageModel):
    """The tiny Llama with another chat template."""
    import copy
    from dataclasses import replace

    def make(template: object) -> LanguageModel:
        tokenizer = copy.deepcopy(llama.tokenizer)
        tokenizer.chat_template = template
        return replace(llama, tokenizer=tokenizer, chat=True)

    return make


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no user allowed') }}", "no user allowed"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError|does not show"),
        ("{{ messages[5].content.x }}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "too much time or memory"),
        ("{{ 'a' * 10 ** 11 }}", "memory"),
        ("{{ 'a' * 2500000000 }}", "it needs too much memory"),  # which a machine of today has
        ("{% set ns = namespace(s='aa') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}", "memory"),
        ("{{ 'a' * 2000000 }}{{ messages[0].content }}", "a prompt of 2,000,009 characters"),
        ("nothing of it", "does not show the user's message once"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "does not show the user's message once"),
        ({"default": 7}, "is not text|cannot be used"),
    ],
)
def test_a_chat_template_that_harms(template: object, message: str, templated) -> None:
    with pytest.raises(UserError, match=message) as error:
        build_prompt(templated(template), "Why?", None)
    assert "--template plain" in error.value.hint
    assert build_prompt(templated(template), "Why?", None, template="plain").text == "Question: Why?\nAnswer:"


def test_the_frame_is_what_transformers_renders(llama: LanguageModel) -> None:
    before, after = chat.frame(llama)
    whole = llama.tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True)
    assert whole == f"{before}Why?{after}"


def test_a_template_that_can_switch_reasoning_off_is_told_to(templated) -> None:
    lm = templated(
        "{{ messages[0].content }}|{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    )
    assert chat.frame(lm) == ("", "|<think></think>")


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        ("<think>Hm, 5?</think>\n\nFive.", False, "Five."),
        ("\n<think>\nHm.\n</think>Five <b>.", False, "Five <b>."),
        ("Hm, 5?</think>\nFive.", True, "Five."),
        ("<think>Hm, and so on", False, ""),
        ("Hm, and so on", True, ""),
        ("Write </think> to end it.", False, "Write </think> to end it."),
        ("Use <think> tags.", False, "Use <think> tags."),
        ("<thin client>", False, "<thin client>"),
    ],
)
def test_reasoning_is_no_part_of_an_answer(text: str, opened: bool, answer: str) -> None:
    assert without_thinking(text, opened=opened) == answer
    parts = [answer_so_far(text[:end], opened=opened) for end in range(len(text) + 1)]
    assert parts[-1] == answer
    assert all(later.startswith(earlier.rstrip()) for earlier, later in pairwise(parts))


def test_streamed_pieces_are_the_answer_without_its_reasoning(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_vs_ft.models import generation

    class Written:
        completion = generation.Completion("<think>Hm.</think>\nFive.", "end", 9, 1.0)

        def __iter__(self):
            return iter(["<th", "ink>Hm", ".</think>", "\nFi", "ve."])

    monkeypatch.setattr(generation, "generate", lambda *_, **__: Written())
    pieces: list[str] = []
    answer = answer_question(llama, "Why?", None, on_text=pieces.append)
    assert answer.answer == "Five." == "".join(pieces)
