"""Every shipped preset is sound, and mistakes are named."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from rag_vs_ft.errors import UserError
from rag_vs_ft.training.presets import FOLDER, TRAINING_ARMS, list_presets, load_preset

SHIPPED = [
    (path.stem, arm)
    for path in sorted(FOLDER.glob("*.toml"))
    for arm in TRAINING_ARMS
    if arm in tomllib.loads(path.read_text("utf-8"))
]


@pytest.mark.parametrize(("name", "arm"), SHIPPED)
def test_shipped_preset_is_sound(name: str, arm: str) -> None:
    preset = load_preset(name, arm, {})  # type: ignore[arg-type]
    assert (preset.base == "") == (arm == "scratch")
    assert preset.epochs <= 4
    if arm == "lora":
        assert preset.lora_rank > 0


def test_what_is_shipped() -> None:
    assert list_presets() == ["gpt2", "gpt2-124m", "nano", "open-llama-3b", "smollm2-135m-instruct"]
    assert {arm for _, arm in SHIPPED} == set(TRAINING_ARMS)
    nano = load_preset("nano", "scratch", {})
    assert (nano.layers, nano.width, nano.window, nano.vocab_size) == (4, 256, 256, 8192)
    gpt2 = load_preset("gpt2-124m", "scratch", {})
    assert (gpt2.layers, gpt2.heads, gpt2.width, gpt2.window, gpt2.vocab_size) == (12, 12, 768, 1024, 50304)


def test_fsdp_configuration_wraps_the_layers_of_the_model() -> None:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    config = yaml.safe_load((FOLDER / "open-llama-3b-fsdp.yaml").read_text("utf-8"))
    assert config["distributed_type"] == "FSDP" and config["fsdp_config"]["fsdp_version"] == 2
    assert config["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"] in LlamaForCausalLM._no_split_modules


def test_overrides_are_typed_and_steps_replace_epochs() -> None:
    preset = load_preset("nano", "scratch", {"steps": "200", "learning_rate": "5e-4", "gradient_checkpointing": "true"})
    assert preset.steps == 200 and preset.epochs == 0 and preset.learning_rate == 5e-4 and preset.gradient_checkpointing
    assert load_preset("nano", "scratch", {"epochs": "2"}).epochs == 2


@pytest.mark.parametrize(
    ("name", "arm", "over", "message"),
    [
        ("micro", "scratch", {}, "no preset 'micro'"),
        ("../nano", "scratch", {}, "no preset"),
        ("nano", "scratchy", {}, "no arm 'scratchy'"),
        ("nano", "lora", {}, "preset 'nano' has no arm 'lora'"),
        ("nano", "scratch", {"learningrate": "1"}, "no setting 'learningrate'"),
        ("nano", "scratch", {"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ("nano", "scratch", {"learning_rate": "nan"}, "learning_rate is 'nan'"),
        ("nano", "scratch", {"learning_rate": "inf"}, "learning_rate is 'inf'"),
        ("nano", "scratch", {"learning_rate": "-1"}, "learning_rate is '-1'"),
        ("nano", "scratch", {"steps": "1.5"}, "steps is '1.5'"),
        ("nano", "scratch", {"batch_size": "3"}, "not a multiple of batch_size=3"),
        ("nano", "scratch", {"heads": "3"}, "not a multiple of heads=3"),
        ("nano", "scratch", {"epochs": "0"}, "set steps or epochs"),
        ("nano", "scratch", {"base": "gpt2"}, "base mean nothing for the arm 'scratch'"),
        ("gpt2", "finetune", {"base": ""}, "needs base"),
        ("gpt2", "finetune", {"lora_rank": "8"}, "lora_rank mean nothing"),
        ("gpt2", "lora", {"lora_rank": "0"}, "needs lora_rank"),
    ],
)
def test_mistakes_are_named(name: str, arm: str, over: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_preset(name, arm, over)  # type: ignore[arg-type]


def test_preset_file_of_a_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "nano.toml").read_text("utf-8").replace("layers = 4", "layers = 3"), encoding="utf-8")
    assert load_preset(str(path), "scratch", {}).layers == 3
    path.write_text("layers = ", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read"):
        load_preset(str(path), "scratch", {})
    path.write_text("[scratch]\nlayer = 3\n", encoding="utf-8")
    with pytest.raises(UserError, match="no setting 'layer'"):
        load_preset(str(path), "scratch", {"window": "8"})
