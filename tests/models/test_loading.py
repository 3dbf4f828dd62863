import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import save_adapter, save_gpt2, save_tokenizer

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import devices, naming
from rag_vs_ft.models.devices import choose_device
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.loading import load


def logits(lm: LanguageModel):
    import torch

    with torch.inference_mode():
        return lm.model(torch.tensor([[5, 6, 7, 8]])).logits


def test_what_is_known_of_a_loaded_model(gpt2: LanguageModel, llama: LanguageModel) -> None:
    assert (gpt2.window, gpt2.chat, gpt2.dtype, gpt2.device, gpt2.adapter) == (256, False, "float32", "cpu", None)
    assert (llama.window, llama.chat) == (512, True)
    assert 0 in gpt2.eos_ids
    assert set(llama.eos_ids) >= {1, 2}, "control tokens are no part of an answer"
    assert gpt2.weights_sha256 != llama.weights_sha256
    assert not gpt2.model.training


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_adapter_changes_what_the_model_says_and_is_the_same_merged(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import torch
    from peft import PeftModel

    folder: Path = request.getfixturevalue(f"{kind}_folder")
    place = save_adapter(tmp_path / "adapter", folder, str(folder))
    base = load(str(folder), settings.home(), device="cpu", threads=1)
    on_top = load(str(folder), settings.home(), device="cpu", threads=1, adapter=str(place))
    by_itself = load(str(place), settings.home(), device="cpu", threads=1)
    assert (logits(base) - logits(on_top)).abs().max() > 0.1
    assert torch.equal(logits(on_top), logits(by_itself))
    assert on_top.weights_sha256 == by_itself.weights_sha256 != base.weights_sha256
    with torch.inference_mode():
        separate = PeftModel.from_pretrained(load(str(folder), settings.home(), device="cpu").model, place)(
            torch.tensor([[5, 6, 7, 8]])
        ).logits
    assert torch.allclose(separate, logits(on_top), atol=1e-4)


def test_an_adapter_on_the_wrong_base(gpt2_folder: Path, llama_folder: Path, tmp_path: Path) -> None:
    place = save_adapter(tmp_path / "adapter", gpt2_folder, str(gpt2_folder))
    with pytest.raises(UserError, match="does not fit the model"):
        load(str(llama_folder), settings.home(), device="cpu", adapter=str(place))
    wider = save_gpt2(tmp_path / "wider", width=64)
    with pytest.raises(UserError, match="does not fit the model"):
        load(str(wider), settings.home(), device="cpu", adapter=str(place))
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "openai-community/gpt2-medium"}))
    with pytest.raises(UserError, match="was trained on gpt2-medium, not on gpt2"):
        naming._require_base(place, "gpt2")


def test_an_adapter_with_tensors_for_other_layers_is_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = save_adapter(tmp_path / "adapter", gpt2_folder, str(gpt2_folder))
    tensors = load_file(place / "adapter_model.safetensors")
    save_file({name.replace("h.1.", "h.7."): tensor for name, tensor in tensors.items()}, place / "adapter_model.safetensors")
    with pytest.raises(UserError, match="4 tensors have no counterpart"):
        load(str(place), settings.home(), device="cpu")


def test_a_run_of_ours_is_found_by_name(gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "home" / "runs" / "first"
    shutil.copytree(gpt2_folder, run / "last")
    assert load("first", settings.home(tmp_path / "home"), device="cpu").name == "first"
    save_gpt2(run / "best", seed=9)
    best, last = (load(name, settings.home(tmp_path / "home"), device="cpu") for name in ("first", "first/last"))
    assert best.weights_sha256 != last.weights_sha256 == load(str(gpt2_folder), settings.home(), device="cpu").weights_sha256
    assert load(str(run), settings.home(), device="cpu").weights_sha256 == best.weights_sha256
    with pytest.raises(UserError, match="no model 'second'"):
        load("second", settings.home(tmp_path / "home"), device="cpu")


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(".fingerprints.json"))
    return to


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def drop_a_tensor(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


def shrink_config(path: Path) -> None:
    config = path.with_name("config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"n_layer": 1, "n_embd": 16, "n_head": 2}))


def pickle_only(path: Path) -> None:
    path.rename(path.with_name("pytorch_model.bin"))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "model.safetensors is damaged"),
        (lambda path: path.write_bytes(b""), "model.safetensors is damaged"),
        (lambda path: path.write_bytes(b"\xff" * 64), "model.safetensors is damaged"),
        (lambda path: path.unlink(), "model.safetensors is missing"),
        (pickle_only, "pickled weights only"),
        (drop_a_tensor, "do not fit its config.json: .* transformer.h.0.mlp.c_fc.weight is missing"),
        (shrink_config, "config.json|cannot be loaded"),
        (lambda path: path.with_name("config.json").unlink(), "there is no config.json"),
        (lambda path: path.with_name("config.json").write_text("{nonsense"), "cannot read .*config.json"),
        (lambda path: path.with_name("config.json").write_text('{"model_type": "unheard-of"}'), "cannot be loaded"),
        (lambda path: path.with_name("tokenizer.json").unlink(), "has no tokenizer"),
        (lambda path: path.with_name("tokenizer.json").write_text("{"), "tokenizer in .* cannot be read"),
        (lambda path: path.with_name("modules.json").write_text("[]"), "embedding model, not a language model"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(harm, message: str, gpt2_folder: Path, tmp_path: Path) -> None:
    folder = copy(gpt2_folder, tmp_path / "model")
    harm(folder / "model.safetensors")
    with pytest.raises(UserError, match=message) as error:
        load(str(folder), settings.home(), device="cpu")
    assert error.value.hint and "\n" not in error.value.message


def test_code_in_a_model_folder_is_not_run(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = copy(gpt2_folder, tmp_path / "model")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"cannot be loaded|cannot be read"):
        load(str(folder), settings.home(), device="cpu")
    assert not (tmp_path / "ran").exists()


def test_the_tokenizer_of_another_model_is_refused(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = copy(gpt2_folder, tmp_path / "model")
    record = json.loads((folder / "tokenizer.json").read_text())
    size = len(record["model"]["vocab"])
    record["model"]["vocab"] |= {f"extra{n}": size + n for n in range(10)}
    (folder / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"do not belong together: {size + 10} tokens, {size} embeddings"):
        load(str(folder), settings.home(), device="cpu")


def test_sharded_weights(gpt2_folder: Path, tmp_path: Path) -> None:
    import torch

    whole = load(str(gpt2_folder), settings.home(), device="cpu")
    folder = tmp_path / "sharded"
    save_tokenizer(folder, chat=False)
    whole.model.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    sharded = load(str(folder), settings.home(), device="cpu")
    assert torch.equal(logits(whole), logits(sharded))
    min(folder.glob("model-*.safetensors")).unlink()
    with pytest.raises(UserError, match=r"not whole: model-00001-of-.* is missing"):
        load(str(folder), settings.home(), device="cpu")


def test_a_llama_with_a_sentencepiece_tokenizer(llama_folder: Path, tmp_path: Path) -> None:
    """OpenLlama's layout: tokenizer.model and no tokenizer.json, a mark at the start, a space before the first word."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from transformers import LlamaConfig, LlamaForCausalLM

    from rag_vs_ft.models.likelihood import continuation_logprobs, split_continuations
    from rag_vs_ft.models.prompting import build_prompt

    (tmp_path / "text").write_text("Question: When does the pump stop?\nAnswer: The pump stops when the tank is full.\n" * 9)
    options = {"vocab_size": 330, "model_type": "bpe", "byte_fallback": True, "minloglevel": 2, "hard_vocab_limit": False}
    sentencepiece.SentencePieceTrainer.train(input=str(tmp_path / "text"), model_prefix=str(tmp_path / "tokenizer"), **options)
    config = LlamaConfig.from_pretrained(llama_folder, vocab_size=330, tie_word_embeddings=False)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    named = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named | {"add_bos_token": True}))
    lm = load(str(tmp_path), settings.home(), device="cpu", threads=1)
    prompt = build_prompt(lm, "When </s> does it stop?", None, max_new_tokens=10)
    assert prompt.text == "<s>Question: When </s> does it stop?\nAnswer:"
    assert [token for token in prompt.token_ids if token in lm.eos_ids] == [1]
    head, tails = split_continuations(lm, prompt, [" The tank", " Never"])
    assert head == prompt.token_ids
    assert [score.bytes for score in continuation_logprobs(lm, head, tails)] == [9, 6]


def test_the_fingerprint_is_remembered_and_follows_the_file(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = copy(gpt2_folder, tmp_path / "model")
    first = load(str(folder), settings.home(), device="cpu").weights_sha256
    notes = json.loads((folder / ".fingerprints.json").read_text())
    assert notes["model.safetensors"]["sha256"] == first
    save_gpt2(folder, seed=11)
    assert load(str(folder), settings.home(), device="cpu").weights_sha256 != first


def test_four_bit_weights_need_cuda(gpt2_folder: Path) -> None:
    with pytest.raises(UserError, match="4-bit weights need CUDA, and this model goes to cpu"):
        load(str(gpt2_folder), settings.home(), device="cpu", four_bit=True)


def test_device_dtype_and_threads() -> None:
    small = choose_device("cpu", threads=3)
    assert (small.device, small.dtype, small.threads) == ("cpu", "float32", 3)
    assert "under a billion parameters" in small.reason
    large = choose_device("cpu", parameters=3_400_000_000)
    assert large.dtype == ("bfloat16" if devices.has_bfloat16("cpu") else "float32")
    for options, message in (
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
        ({"dtype": "int3"}, "no dtype 'int3'"),
        ({"device": "cpu", "dtype": "float16"}, "no float16 instructions"),
        ({"threads": 0}, "0 is not a number of threads"),
    ):
        with pytest.raises(UserError, match=message):
            choose_device(**options)


def test_bfloat16_is_refused_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True}, raising=False)
    assert choose_device("cpu", parameters=3_400_000_000).dtype == "float32"
    with pytest.raises(UserError, match="no bfloat16 instructions"):
        choose_device("cpu", "bfloat16")


def test_importing_the_module_does_not_import_torch() -> None:
    code = (
        "import sys; from rag_vs_ft.models import generation, likelihood, loading, prompting; "
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())})


def test_models_loaded_by_several_threads_at_once_leave_no_replaced_functions(gpt2_folder, llama_folder, tiny_embedder) -> None:
    import threading

    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

    from rag_vs_ft.index.embedding import Embedder

    def functions() -> dict[str, object]:
        found = {f"init.{name}": getattr(torch.nn.init, name) for name in dir(torch.nn.init) if name.endswith("_")}
        return found | {"tie": PreTrainedModel.tie_weights, "to": torch.Tensor.to, "linear": torch.nn.Linear.reset_parameters}

    before = functions()
    jobs = [lambda: load(str(gpt2_folder), settings.home()), lambda: load(str(llama_folder), settings.home())]
    jobs.append(lambda: Embedder(tiny_embedder, precision="fp32").encode(["pool"]))
    threads = [threading.Thread(target=job) for job in jobs * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert functions() == before
    fresh = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))
    assert fresh.lm_head.weight is fresh.transformer.wte.weight
