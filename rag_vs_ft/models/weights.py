"""A model folder -> the torch model and its tokenizer, from safetensors alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.devices import Device
from rag_vs_ft.models.folders import AGAIN, first_line, shapes
from rag_vs_ft.sentencepieces import as_sentencepiece


def load_tokenizer(place: Path) -> Any:
    """The tokenizer of a model folder. Raises UserError when it is not there or cannot be read."""
    from transformers import AutoTokenizer

    if not any((place / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")):
        raise UserError(f"{place} has no tokenizer", "save the tokenizer beside the weights (tokenizer.json)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        if (place / "tokenizer.model").is_file() and not (place / "tokenizer.json").is_file():
            tokenizer = as_sentencepiece(tokenizer)
        vocabulary = set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder)
    except Exception as error:  # parsers of several formats, each with its own exceptions
        raise UserError(f"the tokenizer in {place} cannot be read: {first_line(error)}", "fetch it again") from error
    if not vocabulary:
        raise UserError(f"the tokenizer in {place} has an empty vocabulary", AGAIN)
    return tokenizer


def check_config(place: Path, weights: Sequence[Path], bytes_each: float, limit: int | None) -> None:
    """Compare config.json with the shapes in the weights before anything large is allocated.

    `bytes_each` is what a number takes when loaded, `limit` the memory there is (None: not known). Raises UserError when the
    configuration is of no model that transformers knows, when it describes a model that the weights are not, and when the
    model cannot fit.
    """
    import torch
    from transformers import AutoModelForCausalLM

    stored = {name: shape for path in weights for name, shape in shapes(path).items()}
    total = sum(math.prod(shape) for shape in stored.values())
    if limit is not None and total * bytes_each > limit:
        raise UserError(
            f"{place} needs {total * bytes_each / 1e9:.1f} GB of memory, and {limit / 1e9:.1f} GB are there",
            "use a smaller model",
        )
    try:
        config = _config(place)
        text = config.get_text_config()
        _check_sizes(text, stored, total)
        with torch.device("meta"):
            described = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"the model in {place} cannot be loaded: config.json is nested too deep", AGAIN) from error
    except Exception as error:  # each architecture checks its own fields in its own way
        raise UserError(f"the model in {place} cannot be loaded: {first_line(error)}", AGAIN) from error
    numbers = sum(parameter.numel() for parameter in described.parameters())
    if numbers > total * 1.05:
        missing = sorted({name for name, _ in described.named_parameters()} - set(stored))
        raise UserError(
            f"the weights in {place} do not fit its config.json: it describes {numbers:,} numbers, {total:,} are stored"
            + (f"; {missing[0]} is missing" if missing else ""),
            "take weights and config.json from the same checkpoint",
        )


def _config(place: Path) -> Any:
    """What config.json of a folder says. Float32 weights that an earlier version made from a GGUF are called quantised there."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    noted = getattr(config, "quantization_config", None)
    if isinstance(noted, dict) and noted.get("quant_method") == "gguf":
        del config.quantization_config
    return config


def _check_sizes(config: Any, stored: Mapping[str, tuple[int, ...]], total: int) -> None:
    """Refuse numbers of config.json that no model with these tensors can have: building it would take the memory they ask."""
    largest = max((max(shape, default=1) for shape in stored.values()), default=1)
    for field, most in (
        ("num_hidden_layers", len(stored)),
        ("num_attention_heads", largest),
        ("hidden_size", largest),
        ("vocab_size", largest),
        ("intermediate_size", total),
        ("num_key_value_heads", largest),
        ("head_dim", largest),
        ("max_position_embeddings", 1 << 30),
    ):
        value = getattr(config, field, None)
        if value is None and field not in ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size"):
            continue
        if isinstance(value, list) and field == "intermediate_size":
            continue
        if type(value) is not int or not 1 <= value <= most:
            raise UserError(f"config.json says {field} is {value!r}, and the weights have no room for that", AGAIN)
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(config, field, None)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if any(type(token) is not int for token in ids):
            raise UserError(f"config.json says {field} is {value!r}, which is no token id", AGAIN)


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
            config=_config(place),
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
            f"{place} does not fit into the memory of {where.device}", "use a smaller model, or one with 4-bit weights"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(f"the model in {place} cannot be loaded: {first_line(error)}", AGAIN) from error
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
