"""LoRA adapters (Hu et al., 2021, https://arxiv.org/abs/2106.09685), checked tensor by tensor and merged into their base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.folders import AGAIN, first_line, read_json, shapes


def apply_adapter(model: Any, place: Path, name: str, *, merge: bool) -> Any:
    """`model` with the adapter in the folder `place`. Raises UserError, with `name` as the model's, when they do not fit."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError

    found = shapes(place / "adapter_model.safetensors")
    _check_config(place, found)
    stored = set(found)
    try:
        adapted = PeftModel.from_pretrained(model, place, is_trainable=False)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise UserError(
            f"the adapter {place} does not fit the model {name}: {first_line(error)}", "load it on the base it was trained on"
        ) from error
    # Without saving embeddings: to decide on those, peft would look for the base's configuration on the hub.
    expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    strays = (expected - stored) | {key for key in stored - expected if "lora_" in key}
    if strays:  # peft only warns, and the adapter then does less than it should, or nothing
        raise UserError(
            f"the adapter {place} does not fit the model {name}: {len(strays)} tensors have no counterpart, such as "
            f"{sorted(strays)[0]}",
            "load it on the base it was trained on",
        )
    return adapted.merge_and_unload() if merge else adapted


def _check_config(place: Path, stored: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what peft would compute or allocate for before it reads a tensor: other methods, ranks, initialisations."""
    config = read_json(place / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise UserError(f"the adapter {place} is of type {config.get('peft_type')!r}; only LORA is read", AGAIN)
    start = config.get("init_lora_weights", True)
    if not isinstance(start, bool) and start != "gaussian":
        raise UserError(
            f"the adapter {place} begins by {start!r}, which computes from its base and may change it",
            "save it as a plain LoRA (peft: path_initial_model_for_weight_conversion)",
        )
    largest = max((min(shape) for name, shape in stored.items() if "lora_" in name and shape), default=0)
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    if any(type(rank) is not int or not 1 <= rank <= largest for rank in ranks):
        raise UserError(f"the adapter {place} says its rank is {ranks}, and its largest tensor has {largest}", AGAIN)
