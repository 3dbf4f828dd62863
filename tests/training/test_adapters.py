"""LoRA on both architectures, finetuning, instructions, and sharded training: each run loads like any other model."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import train

from rag_vs_ft import settings
from rag_vs_ft.environment import git_commit
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.models.loading import load
from rag_vs_ft.models.prompting import alpaca
from rag_vs_ft.training import runs
from rag_vs_ft.training.presets import FOLDER
from rag_vs_ft.training.record import RunInput, read_record
from rag_vs_ft.training.train import RunResult

Script = Callable[..., "subprocess.CompletedProcess[str]"]
TEXT = "The vault rotates the key after 30 days."


@pytest.fixture(scope="module")
def llama(base_home: Path, plain: RunResult) -> str:
    """An untrained Llama of two layers with the tokenizer of the run `plain`."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, max_position_embeddings=128, bos_token_id=0, eos_token_id=0, tie_word_embeddings=False)
    place = base_home / "llama"
    LlamaForCausalLM(config).save_pretrained(place)
    AutoTokenizer.from_pretrained(plain.folder / "last").save_pretrained(place)
    return str(place)


def logits(name: str, where: Path) -> torch.Tensor:
    lm = load(name, settings.home(where), device="cpu")
    with torch.no_grad():
        return lm.model(**lm.tokenizer(TEXT, return_tensors="pt")).logits


def test_the_record_names_the_weights_it_began_with_and_others_are_not_resumed_on(
    base_home: Path, base_preset_file: str, llama: str
) -> None:
    copied = base_home / "copied"
    shutil.copytree(llama, copied)
    over = {"base": str(copied), "steps": "2", "eval_every": "2"}
    result = train("lora", "docs", base_preset_file, "copied-lora", overrides=over, home=base_home)
    record = read_record(result.folder)
    assert record.base == RunInput(load(str(copied), settings.home(base_home)).weights_sha256, str(copied))
    assert record.base.sha256 != load("copied-lora", settings.home(base_home)).weights_sha256
    assert record.versions["commit"] == git_commit()
    changed = load_file(copied / "model.safetensors")
    changed["lm_head.weight"] = changed["lm_head.weight"] + 1
    save_file(changed, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="base: its contents have changed"):
        train("lora", "docs", base_preset_file, "copied-lora", overrides=over, home=base_home, resume=True)


@pytest.mark.parametrize("arm", ["lora", "finetune"])
def test_a_base_that_an_earlier_version_converted_from_a_gguf_is_trained(
    arm: str, base_home: Path, base_preset_file: str, llama: str, tmp_path: Path
) -> None:
    """Its float32 weights are called quantised in config.json, and transformers refuses to train such."""
    copied = Path(shutil.copytree(llama, tmp_path / "converted"))
    config = json.loads((copied / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "gguf", "gguf_file": "model.Q4_1.gguf", "dequantize": False}
    (copied / "config.json").write_text(json.dumps(config), "utf-8")
    result = train(
        arm, "docs", base_preset_file, f"{arm}-converted", overrides={"base": str(copied), "steps": "1"}, home=base_home
    )
    assert result.outcome.steps == 1
    assert arm == "lora" or "quantization_config" not in json.loads((result.folder / "best/config.json").read_text("utf-8"))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_lora_trains_an_adapter_and_nothing_else(
    base_home: Path, base_preset_file: str, plain: RunResult, llama: str, architecture: str
) -> None:
    base = "plain" if architecture == "gpt2" else llama
    place = plain.folder / "best" if architecture == "gpt2" else Path(llama)
    before = (place / "model.safetensors").read_bytes()
    # In bfloat16 too, which accelerate puts around the model's forward: merging is judged without its rounding.
    over = {"base": base, "learning_rate": "2e-2", "bf16": "true" if architecture == "llama" else "false"}
    result = train("lora", "docs", base_preset_file, f"lora-{architecture}", overrides=over, home=base_home)
    folder = result.folder / "best"
    assert not (folder / "model.safetensors").exists()
    assert (place / "model.safetensors").read_bytes() == before
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == base
    linear = {
        "gpt2": {"c_attn", "c_proj", "c_fc"},
        "llama": {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")},
    }
    assert set(config["target_modules"]) == linear[architecture]
    assert config["fan_in_fan_out"] == (architecture == "gpt2")
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * (4 if architecture == "gpt2" else 7)
    assert all("lora_" in name and "wte" not in name and "lm_head" not in name for name in tensors)
    assert all(float(tensor.abs().max()) > 0 for name, tensor in tensors.items() if "lora_B" in name)
    # The weights must have moved, and by loading they are merged: what it does is what was measured.
    assert float((logits(base, base_home) - logits(result.name, base_home)).abs().max()) > 0.01
    losses = [row["validation_loss"] for row in runs.read_metrics(result.folder) if "validation_loss" in row]
    assert min(losses) == result.outcome.best_loss < losses[0] - 0.01
    assert result.plan is not None and 0 < result.plan.trainable_parameters < result.plan.parameters / 4


def test_lora_resumes_bit_for_bit(base_home: Path, base_preset_file: str) -> None:
    """The run is stopped by an exception, which leaves what a kill leaves."""
    over = {"steps": "10", "lora_dropout": "0.1"}
    whole = train("lora", "docs", base_preset_file, "lora-whole", overrides=over, home=base_home)

    class Stop(Exception):
        pass

    def progress(line: str) -> None:
        if line.startswith("step 7/"):
            raise Stop

    with pytest.raises(Stop):
        train("lora", "docs", base_preset_file, "lora-stopped", overrides=over, home=base_home, progress=progress)
    resumed = train("lora", "docs", base_preset_file, "lora-stopped", overrides=over, home=base_home, resume=True)
    files = [load_file(run.folder / "last/adapter_model.safetensors") for run in (whole, resumed)]
    assert all(torch.equal(files[0][key], files[1][key]) for key in files[0])


def test_adapter_that_does_not_merge_is_refused(base_home: Path, base_preset_file: str, plain: RunResult) -> None:
    from rag_vs_ft.training import engine
    from rag_vs_ft.training.data import Row
    from rag_vs_ft.training.prepare import with_adapter
    from rag_vs_ft.training.presets import load_preset

    lm = load("plain", settings.home(base_home), device="cpu")
    adapted = with_adapter(lm.model, load_preset(base_preset_file, "lora", {}))
    ids = torch.tensor(lm.tokenizer(TEXT).input_ids).numpy()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    kept = {name: parameter.clone() for name, parameter in adapted.named_parameters()}
    engine.assert_mergeable(adapted, Row(ids, ids, ()))
    assert all(torch.equal(kept[name], parameter) for name, parameter in adapted.named_parameters())
    # GPT-2 keeps its weights transposed; a square one takes the wrong sum without complaint.
    adapted.get_submodule("base_model.model.transformer.h.0.attn.c_proj").fan_in_fan_out = False
    with pytest.raises(CheckFailed, match="merged adapter does not give"):
        engine.assert_mergeable(adapted, Row(ids, ids, ()))


def test_adapter_on_another_base_is_refused(base_home: Path, base_preset_file: str, llama: str, tmp_path: Path) -> None:
    over = {"steps": "5"}
    train("lora", "docs", base_preset_file, "for-plain", overrides=over, home=base_home)
    with pytest.raises(UserError, match="does not fit the model"):
        load(llama, settings.home(base_home), adapter=str(base_home / "runs/for-plain/best"), device="cpu")


def test_finetune_trains_all_weights(base_home: Path, base_preset_file: str, plain: RunResult) -> None:
    over = {"steps": "10", "gradient_checkpointing": "true"}
    result = train("finetune", "docs", base_preset_file, "finetuned", overrides=over, home=base_home)
    old, new = (load_file(run.folder / "last/model.safetensors") for run in (plain, result))
    assert old.keys() == new.keys() and "lm_head.weight" not in new  # tied weights are stored once
    assert all(not torch.equal(old[key], new[key]) for key in old)
    assert result.outcome.best_loss < plain.outcome.best_loss
    again = load("finetuned", settings.home(base_home), device="cpu")
    assert again.model.lm_head.weight is again.model.transformer.wte.weight


def test_instruct_learns_to_answer_and_to_stop(base_home: Path, base_preset_file: str, tmp_path: Path) -> None:
    """A model that has seen one answer to every question gives it, and ends after it."""
    rng = random.Random(3)
    records = [{"instruction": f"Say {rng.random():.3f}", "input": "", "output": "the vault"} for _ in range(80)]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    over = {"steps": "60", "learning_rate": "1e-2", "eval_every": "30"}
    said: list[str] = []
    result = train("instruct", None, base_preset_file, "taught", overrides=over, home=base_home, data=path, progress=said.append)
    assert any("80 records" in line for line in "\n".join(said).splitlines())
    assert read_record(result.folder).template == "alpaca"
    lm = load("taught", settings.home(base_home), device="cpu")
    prompt = lm.tokenizer(alpaca("Say 0.123"), return_tensors="pt")
    written = lm.model.generate(**prompt, max_new_tokens=20, do_sample=False, pad_token_id=0)[0, prompt.input_ids.shape[1] :]
    assert lm.tokenizer.decode(written) == "the vault" + lm.tokenizer.eos_token
    assert result.outcome.best_loss < 0.1


def test_decay_is_on_matrices_only(base_home: Path, preset_file: str) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_layer=1, n_head=1, n_embd=8, n_positions=8, bos_token_id=0, eos_token_id=0)
    )
    trainer = Trainer(model, TrainingArguments(output_dir=str(base_home / "unused"), use_cpu=True, report_to="none"))
    names = dict(model.named_parameters())
    decayed = set(trainer.get_decay_parameter_names(model))
    assert decayed & names.keys() == {name for name, parameter in names.items() if parameter.ndim >= 2}


def test_lora_under_fsdp_is_refused(base_home: Path, base_preset_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="not trained with FSDP"):
        train("lora", "docs", base_preset_file, "sharded-lora", home=base_home)
    with pytest.raises(UserError, match="FSDP version 2"):
        train("finetune", "docs", base_preset_file, "sharded-old", home=base_home)


SHARDED = """
import os, signal, sys
from pathlib import Path
from accelerate import PartialState
from accelerate.utils import DistributedType
from rag_vs_ft.training import engine
from tiny import train

# accelerate shards on GPUs only; the sharding itself works on CPUs, which is what is tried here.
began = engine.RunTrainer.__init__
def begin(self, *args, **kwargs):
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    began(self, *args, **kwargs)
engine.RunTrainer.__init__ = begin
gathered = set()
whole = engine._whole
engine._whole = lambda tensor: (gathered.add(type(tensor).__name__), whole(tensor))[1]

def progress(line):
    print(line)
    if {die} and line.startswith("step 4/"):
        os.kill(os.getpid(), signal.SIGKILL)

train("finetune", "docs", "open-llama-3b", "sharded", overrides={over!r}, home=Path({home!r}), resume={resume}, progress=progress)
print("gathered", gathered)
"""


@pytest.mark.slow
def test_sharded_training_equals_one_process_and_resumes(base_home: Path, llama: str, run_script: Script) -> None:
    """The shipped preset and the shipped FSDP configuration on a tiny Llama, two processes, with a kill in between."""
    import yaml

    over = {"base": llama, "window": "96", "rows_per_step": "4", "steps": "6", "eval_every": "3", "log_every": "1"}
    over |= {"bf16": "false"}  # compared to 1e-5
    over |= {"learning_rate": "1e-3", "warmup_steps": "0", "validation_fraction": "0.15"}
    one = train("finetune", "docs", "open-llama-3b", "unsharded", overrides=over, home=base_home)
    config = yaml.safe_load((FOLDER / "open-llama-3b-fsdp.yaml").read_text("utf-8"))["fsdp_config"]
    names = {"fsdp_transformer_layer_cls_to_wrap": "FSDP_TRANSFORMER_CLS_TO_WRAP"}
    variables = {names.get(key, key.upper()): str(value) for key, value in config.items()} | {"ACCELERATE_USE_FSDP": "true"}
    variables = {key: value.lower() if value in ("True", "False") else value for key, value in variables.items()}
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node=2")
    code = SHARDED.format(die=True, over=over, home=str(base_home), resume=False)
    died = run_script(code, *launcher, **variables)
    assert died.returncode != 0 and "step 3/6: validation loss" in died.stdout, died.stderr[-3000:]
    done = run_script(SHARDED.format(die=False, over=over, home=str(base_home), resume=True), *launcher, **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resuming from step 3" in done.stdout and "'DTensor'" in done.stdout
    folder = base_home / "runs/sharded"
    checks = [
        [row["validation_loss"] for row in runs.read_metrics(place) if "validation_loss" in row] for place in (one.folder, folder)
    ]
    assert checks[0] == pytest.approx(checks[1], abs=1e-5)
    left, right = (load_file(place / "last/model.safetensors") for place in (one.folder, folder))
    assert left.keys() == right.keys() and all(torch.allclose(left[key], right[key], atol=1e-5) for key in left)
