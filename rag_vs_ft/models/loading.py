"""Weights, tokenizer and adapters -> one `LanguageModel`, by catalogue name, hub id, folder or run; or a server's address.

GPT-2, Llama (OpenLlama, SmolLM2) and what was trained here from them take the same path: a Hugging Face folder with
safetensors weights. Adapters are merged into their base on loading, so nothing after this module has to know of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rag_vs_ft import settings
from rag_vs_ft.environment import memory_limit
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import fast, served
from rag_vs_ft.models.adapters import apply_adapter
from rag_vs_ft.models.devices import choose_device
from rag_vs_ft.models.fingerprints import check, fingerprint
from rag_vs_ft.models.folders import AGAIN, count_parameters, read_json, weight_files
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.naming import resolve
from rag_vs_ft.models.weights import check_config, load_model, load_tokenizer
from rag_vs_ft.progress import Progress, silent
from rag_vs_ft.settings import Home

MAX_PADDED_ROWS = 1_024
"""Embedding rows a model may have beyond its tokenizer's vocabulary (rows are padded to round numbers)."""


def load(
    name: str,
    home: Home,
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapter: str | None = None,
    four_bit: bool = False,
    threads: int | None = None,
    engine: str = "transformers",
    progress: Progress = silent,
) -> LanguageModel:
    """Load a causal language model for decoding and scoring (evaluation mode).

    `name` is what `naming.resolve` understands, and so is `adapter`, which goes on top. `four_bit` loads NF4 weights by
    bitsandbytes (CUDA only). `engine` writes answers: "transformers", "openvino", or "auto", which is OpenVINO where it is
    installed and the model is on a CPU (see `fast.attach`); scores are always torch's.

    Raises UserError when the model is not there, is not whole, has no safetensors, or when weights, tokenizer and adapter do
    not belong together; CheckFailed when a checkpoint of a run has changed since it was written.
    """
    settings.check_engine(engine)
    if served.is_address(name):
        if adapter is not None or four_bit:
            raise UserError(f"{name} is behind a server: it has no weights here to change", "leave out --adapter and --4bit")
        return served.model_at(name, progress)
    found = resolve(name, home, adapter, progress)
    for place in (found.base, *found.adapters):
        check(place)
    weights = weight_files(found.base)
    parameters = count_parameters(weights)
    where = choose_device(device, dtype, threads, parameters=parameters)
    if four_bit and not where.device.startswith("cuda"):
        raise UserError(
            f"4-bit weights need CUDA, and this model goes to {where.device}",
            "leave --4bit out; on a CPU a smaller model is the way to save memory",
        )

    import torch

    torch.set_num_threads(where.threads)
    with settings.MODEL_LOADING:
        limit = memory_limit() if where.device == "cpu" else None
        check_config(found.base, weights, 0.6 if four_bit else 4 if where.dtype == "float32" else 2, limit)
        tokenizer = load_tokenizer(found.base)
        model = load_model(found.base, where, four_bit)
        rows = model.get_input_embeddings().num_embeddings
        if not 0 < len(tokenizer) <= rows <= len(tokenizer) + MAX_PADDED_ROWS:
            raise UserError(
                f"tokenizer and model of {found.base} do not belong together: {len(tokenizer)} tokens, {rows} embeddings",
                "take both from the same checkpoint",
            )
        for place in found.adapters:
            model = apply_adapter(model, place, name, merge=not four_bit)
    lm = LanguageModel(
        name=name,
        model=model.eval(),
        tokenizer=tokenizer,
        window=_window(model.config),
        device=where.device,
        dtype="nf4" if four_bit else where.dtype,
        threads=where.threads,
        weights_sha256=fingerprint(weights, found.adapters),
        adapter=str(found.adapters[-1]) if found.adapters else None,
        chat=tokenizer.chat_template is not None,
        eos_ids=_eos_ids(model, tokenizer),
        template=_trained_template((found.base, *found.adapters)),
    )
    copy, notices = fast.attach(lm, engine, progress)
    return replace(lm, engine=copy, notices=notices)


def weights_sha256(name: str, home: Home) -> str:
    """`LanguageModel.weights_sha256` of what `name` means, without loading it. Raises UserError when it is not there."""
    found = resolve(name, home)
    return fingerprint(weight_files(found.base), found.adapters)


def _trained_template(places: Sequence[Path]) -> str:
    """The prompt template that the record of the last run among `places` names; a checkpoint is some folders below it."""
    for place in reversed(places):
        for folder in (place, *list(place.parents)[:2]):
            if (folder / "run.json").is_file():
                return str(read_json(folder / "run.json").get("template") or "")
    return ""


def _window(config: Any) -> int:
    window = getattr(config, "max_position_embeddings", None)
    if not isinstance(window, int) or window < 1:
        raise UserError(f"the configuration of this {config.model_type} model names no window", "set max_position_embeddings")
    return window


def _eos_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The model's end tokens, and every other control token: none is part of an answer."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [] if configured is None else [configured]
    if any(type(token) is not int for token in ends):
        raise UserError(f"generation_config.json says eos_token_id is {configured!r}, which is no token id", AGAIN)
    return tuple(sorted({*ends, *tokenizer.all_special_ids}))
