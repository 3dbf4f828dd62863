"""A model folder -> the torch model and its tokenizer, from safetensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.devices import Device
from rag_vs_ft.models.folders import first_line


def load_tokenizer(place: Path) -> Any:
    """The tokenizer of a model folder. Raises UserError when it is not there or cannot be read."""
    from transformers import AutoTokenizer

    if not any((place / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")):
        raise UserError(f"{place} has no tokenizer", "save the tokenizer beside the weights (tokenizer.json)")
    try:
        return AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # parsers of several formats, each with its own exceptions
        raise UserError(f"the tokenizer in {place} cannot be read: {first_line(error)}", "fetch it again") from error


def load_model(place: Path, where: Device, four_bit: bool) -> Any:
    """The model of a folder on its device. Raises UserError when it cannot be loaded or when a tensor is missing."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {}
    if four_bit:
        options = {"quantization_config": _four_bit(), "device_map": {"": where.device}}
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=getattr(torch, where.dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
        if not four_bit:
            model = model.to(where.device)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{place} does not fit into the memory of {where.device}", "use --dtype bfloat16, 4-bit weights, or the CPU"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(f"the model in {place} cannot be loaded: {first_line(error)}", "fetch or save it again") from error
    # transformers fills what a file lacks with random numbers and only warns.
    broken = [*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])]
    if broken:
        raise UserError(
            f"the weights in {place} do not fit its config.json: {len(broken)} tensors are missing or of another shape, "
            f"such as {sorted(broken)[0]}",
            "take weights and config.json from the same checkpoint",
        )
    return model


def _four_bit() -> Any:
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("4-bit weights need the package bitsandbytes", "install it: pip install 'rag-vs-ft[gpu]'")
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
