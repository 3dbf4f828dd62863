"""OpenLlama as it is published: pickled weights in one file or in shards, old buffers, a SentencePiece tokenizer."""

import json
import os
import pickle
import random
import shutil
from pathlib import Path

import pytest
from tiny import TEXT, Hub, train

from rag_vs_ft import catalogue, pulling, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.generation import answer_question
from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations
from rag_vs_ft.models.loading import load

WINDOW = 256


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in the layout of openlm-research/open_llama_3b: no safetensors, no tokenizer.json."""
    import sentencepiece
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("published")
    text = folder / "text"
    text.write_text(TEXT + "Ein Schlüssel für 30 Tage; naïve café.\n" * 20, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=384,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    text.unlink()
    (folder / "tokenizer.vocab").unlink()
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word"), False) | {"normalized": True, "__type": "AddedToken"}
    record = {"add_bos_token": True, "add_eos_token": False, "model_max_length": 2048, "pad_token": None, "sp_model_kwargs": {}}
    record |= {"tokenizer_class": "LlamaTokenizer", "clean_up_tokenization_spaces": False}
    for name, text in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")):
        record[name] = flags | {"content": text}
    (folder / "tokenizer_config.json").write_text(json.dumps(record))
    (folder / "special_tokens_map.json").write_text("{}")
    size = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).vocab_size()
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval()
    written = json.loads(config.to_json_string(use_diff=False)) | {
        "architectures": ["LlamaForCausalLM"],
        "torch_dtype": "float16",
    }
    written.pop("rope_parameters", None)
    written.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(written))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}))
    tensors = {name: tensor.half() for name, tensor in model.state_dict().items()}
    for layer in range(2):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def sharded(folder: Path, to: Path) -> Path:
    """The same in two files with an index."""
    import torch

    shutil.copytree(folder, to)
    tensors = torch.load(to / "pytorch_model.bin", weights_only=True)
    (to / "pytorch_model.bin").unlink()
    names, weight_map = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: tensors[name].clone() for name in part}, to / file)
        weight_map |= dict.fromkeys(part, file)
    (to / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return to


@pytest.fixture(params=["one file", "two shards"])
def layout(request: pytest.FixtureRequest, published: Path, tmp_path: Path) -> Path:
    return published if request.param == "one file" else sharded(published, tmp_path / "shards")


@pytest.mark.parametrize("by", ["hub", "folder"])
def test_a_published_llama_is_converted_and_answers(by: str, layout: Path, published: Path, cache: Path, hub: Hub) -> None:
    import torch

    told: list[str] = []

    def tell(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        told.append(detail)

    if by == "hub":
        hub.repositories["someone/llama"] = layout
        place = pulling.pull("someone/llama", progress=tell)
    else:
        place = pulling.pull("someone/llama", source=layout, progress=tell)
    assert not list(place.glob("*.bin*")), "the pickles are deleted"
    assert any("2 buffers" in line and "model.layers.0.self_attn.rotary_emb.inv_freq" in line for line in told)
    assert "rotary_emb.inv_freq" in json.loads((place / "source.json").read_text())["left_out"]
    lm = load("someone/llama", settings.home(), device="cpu", threads=1)
    original = torch.load(published / "pytorch_model.bin", weights_only=True)
    for name, tensor in lm.model.state_dict().items():
        assert torch.equal(tensor, original[name].float()), name
    assert lm.window == WINDOW and not lm.chat and 2 in lm.eos_ids
    answer = answer_question(lm, "When does the pump stop?", None, max_new_tokens=8)
    assert answer.prompt.startswith("<s>Question:") and answer.completion_tokens
    prefix, texts = split_continuations(lm, "The tank", [" is full.", " is not."])
    assert all(score.logprob < 0 for score in continuation_logprobs(lm, prefix, texts))


def test_ids_are_those_of_the_sentencepiece_library(published: Path, cache: Path, tmp_path: Path) -> None:
    import sentencepiece
    from transformers import AutoTokenizer

    pulling.pull("someone/llama", source=published)
    tokenizer = load("someone/llama", settings.home(), device="cpu", threads=1).tokenizer
    library = sentencepiece.SentencePieceProcessor(model_file=str(published / "tokenizer.model"))
    draw = random.Random(3)
    parts = [
        *"aeT .,:;-_/\\'\"()[]{}<>#$%&*+=@^`|~0123456789",
        "  ",
        "   ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        "é",
        "ü",
        "ß",
        "鍵",
        "🔑",
        "\u0301",
    ]
    parts += ["pump", " tank", "valve", " When", "Question:", "\x01", "\x7f", "\u00a0", "\u200b", "ﬁ", "Ａ", "½"]
    texts = ["", " ", "  two", "end ", "\n", "a\nb", "30 days", " x"] + [
        "".join(draw.choices(parts, k=draw.randint(1, 30))) for _ in range(200)
    ]
    assert len(texts) > 200
    for text in texts:
        assert tokenizer(text, add_special_tokens=False).input_ids == library.encode(text), repr(text)
        assert tokenizer(text).input_ids == [1, *library.encode(text)], repr(text)
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert all(again(text).input_ids == tokenizer(text).input_ids for text in texts), "a run's tokenizer is its base's"


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def poisoned(folder: Path, mark: Path) -> None:
    """Tensors, and beside them an object that runs a command when it is unpickled."""
    import torch

    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(tensors | {"extra": Malicious(mark)}, folder / "pytorch_model.bin")


def plain_pickle(folder: Path, mark: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(mark)))


def a_number(folder: Path, mark: Path) -> None:
    import torch

    torch.save({"model.norm.weight": torch.ones(2), "epoch": 7}, folder / "pytorch_model.bin")


def a_list(folder: Path, mark: Path) -> None:
    import torch

    torch.save([torch.ones(2)], folder / "pytorch_model.bin")


def cut(folder: Path, mark: Path) -> None:
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-500])


def bad_index(folder: Path, mark: Path) -> None:
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "../pytorch_model.bin"}}')


@pytest.mark.parametrize("harm", [poisoned, plain_pickle, a_number, a_list, cut, bad_index])
def test_a_pickle_that_holds_anything_but_tensors_is_refused(harm, published: Path, cache: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(published, tmp_path / "copy")
    mark = tmp_path / "was-run"
    harm(folder, mark)
    with pytest.raises(UserError, match="the pickled weights of someone/llama are refused") as error:
        pulling.pull("someone/llama", source=folder)
    assert harm is not poisoned or "refers to posix.system" in error.value.message
    assert not mark.exists(), "code in a pickle was run"
    assert catalogue.info("someone/llama")["state"] == "not pulled"
    assert [path.name for path in (cache / "models").iterdir()] == [".lock"]


def test_tied_and_turned_tensors_come_back_as_they_were(published: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from rag_vs_ft import pickles

    weight = torch.randn(6, 4)
    torch.save({"a": weight, "b": weight, "c": weight.T, "d": torch.tensor([float("nan"), -0.0]), "h.0.attn.bias": weight},
               tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)  # fmt: skip
    assert pickles.convert(tmp_path, "x") == ("h.0.attn.bias",)
    found = load_file(tmp_path / "model.safetensors")
    assert set(found) == set("abcd") and torch.equal(found["c"], weight.T) and torch.equal(found["a"], found["b"])


@pytest.mark.slow
def test_a_lora_is_trained_on_it_and_asked(published: Path, cache: Path, tmp_path: Path) -> None:
    """By the catalogue's name of the real one: what is pulled under it here is the tiny one in the same layout."""
    import torch

    from rag_vs_ft.corpus import store

    pulling.pull("open-llama-3b", source=published)
    documents = tmp_path / "documents"
    documents.mkdir()
    for number in range(12):
        text = (
            f"# Pump {number}\n\nPump {number} stops when tank {number} is full. Press the red key for {30 + number} seconds.\n"
        )
        (documents / f"{number}.md").write_text(text, encoding="utf-8")
    home = settings.home(tmp_path / "home")
    store.add("pumps", str(documents), home=home)
    settled = {"base": "open-llama-3b", "window": "64", "steps": "4", "eval_every": "2", "warmup_steps": "1", "lora_rank": "4"}
    settled |= {"learning_rate": "0.05", "rows_per_step": "4", "batch_size": "4"}
    result = train("lora", "pumps", "open-llama-3b", "pumps-lora", home=home.root, overrides=settled)
    lm = load("pumps-lora", home, device="cpu", threads=1)
    base = load("open-llama-3b", home, device="cpu", threads=1)
    assert lm.adapter and lm.weights_sha256 != base.weights_sha256 and Path(lm.adapter).is_relative_to(result.folder)
    changed = [name for name, weight in lm.model.state_dict().items() if not torch.equal(weight, base.model.state_dict()[name])]
    assert changed and all("_proj.weight" in name for name in changed)
    answer = answer_question(lm, "When does pump 3 stop?", None, max_new_tokens=8)
    assert answer.prompt.startswith("<s>Question:") and answer.completion_tokens and answer.model == "pumps-lora"
