"""LoRA adapters (Hu et al., 2021, https://arxiv.org/abs/2106.09685), checked tensor by tensor and merged into their base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.folders import first_line, header


def apply_adapter(model: Any, place: Path, name: str, *, merge: bool) -> Any:
    """`model` with the adapter in the folder `place`. Raises UserError, with `name` as the model's, when they do not fit."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError

    stored = set(header(place / "adapter_model.safetensors")) - {"__metadata__"}
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
