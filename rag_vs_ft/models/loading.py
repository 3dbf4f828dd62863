"""Weights + tokenizer + adapter -> one `LanguageModel`, by catalogue name, hub id, folder or run.

GPT-2, Llama (OpenLlama, SmolLM2) and what was trained here from them take the same path: a Hugging Face folder with
safetensors weights. A LoRA adapter (Hu et al., 2021, https://arxiv.org/abs/2106.09685) is merged into its base on loading, so
nothing after this module has to know of it.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rag_vs_ft import catalogue, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import fast
from rag_vs_ft.models.fast import Engine

LARGE = 1_000_000_000
"""Parameters from which `dtype="auto"` takes 16-bit weights. Below, float32: memory is no concern, and scores do not depend on
which questions share a batch."""
MAX_PADDED_ROWS = 1_024
"""Embedding rows a model may have beyond its tokenizer's vocabulary (rows are padded to round numbers)."""
_FINGERPRINTS = ".fingerprints.json"
_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Device:
    """Where and how a model computes: `device` as torch names it, `dtype` as torch names it, CPU threads, and why."""

    device: str
    dtype: str
    threads: int
    reason: str


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A loaded causal language model.

    `window` is the number of tokens it reads at once, prompt and answer together. `weights_sha256` identifies weights and
    adapter. `chat` says whether the tokenizer has a chat template. `eos_ids` are the token ids that end an answer. `template` is
    the prompt template the model was finetuned on, if it is a run of ours that was ("alpaca"), else empty. `engine` is a copy for
    OpenVINO, which `generate` then writes with; `notices` say why there is none where one was to be.
    """

    name: str
    model: Any
    tokenizer: Any
    window: int
    device: str
    dtype: str
    threads: int
    weights_sha256: str
    adapter: str | None
    chat: bool
    eos_ids: tuple[int, ...]
    template: str = ""
    engine: Engine | None = None
    notices: tuple[str, ...] = ()


def choose_device(device: str = "auto", dtype: str = "auto", threads: int | None = None, *, parameters: int = 0) -> Device:
    """Settle device, dtype and threads; the one place where this is decided.

    auto: CUDA, else Apple's MPS, else the CPU; float32, but bfloat16 for models of `LARGE` parameters where the hardware has
    it (float16 on GPUs without). Raises UserError for a device or dtype that this machine does not have.
    """
    import torch

    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(kind for kind, there in kinds.items() if there) if device == "auto" else device
    kind = chosen.partition(":")[0]
    if not kinds.get(kind) or (kind == "cuda" and (torch.device(chosen).index or 0) >= torch.cuda.device_count()):
        have = ", ".join(kind for kind, there in kinds.items() if there)
        raise UserError(f"there is no device {device!r} here", f"use auto or one of: {have}")
    if dtype not in _DTYPES:
        raise UserError(f"there is no dtype {dtype!r}", f"use one of: {', '.join(_DTYPES)}")
    bfloat16 = has_bfloat16(kind)
    if dtype == "auto":
        large = parameters >= LARGE
        dtype = "float32" if not large else "bfloat16" if bfloat16 else "float16" if kind == "cuda" else "float32"
        reason = f"{'a' if large else 'under a'} billion parameters{' or more' if large else ''}"
        reason += "" if not large or bfloat16 else f", and no bfloat16 instructions on this {kind}"
    else:
        reason = "as asked"
    if kind == "cpu" and (dtype == "float16" or (dtype == "bfloat16" and not bfloat16)):
        raise UserError(
            f"this CPU has no {dtype} instructions and would be several times slower than with float32",
            "use float32, or auto",
        )
    count = settings.threads() if threads is None else threads
    if count < 1:
        raise UserError(f"{count} is not a number of threads", "use 1 or more")
    return Device(chosen, dtype, count, f"{chosen} ({'found' if device == 'auto' else 'as asked'}), {dtype} ({reason})")


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 by instructions of its own: newer CUDA devices, and CPUs with AVX512_BF16 or AMX."""
    import torch

    kind = device.partition(":")[0]

    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "cpu":
        flags: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    return False


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapter: str | None = None,
    four_bit: bool = False,
    threads: int | None = None,
    engine: str = "transformers",
    home: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> LanguageModel:
    """Load a causal language model for decoding and scoring (evaluation mode).

    `name` is a catalogue name, a hub id that was pulled, a folder, or a run of ours ("NAME", "NAME/best", "NAME/last" below
    the runs of `home`). A folder that holds a LoRA adapter loads the base that its configuration names. `adapter` puts one
    more on top. `four_bit` loads NF4 weights by bitsandbytes (CUDA only). `engine` writes answers:
    "transformers", "openvino", or "auto", which is OpenVINO where it is installed and the model is on a CPU (see `fast.attach`,
    also for `progress`); scores are always torch's.

    Raises UserError when the model is not there, is not whole, has no safetensors, or when weights, tokenizer and adapter do
    not belong together.
    """
    settings.check_engine(engine)
    base, adapters = _resolve(name, home)
    if adapter is not None:
        place = _folder(adapter, home)
        if not _is_adapter(place):
            raise UserError(f"{place} holds no LoRA adapter", "it needs adapter_config.json and adapter_model.safetensors")
        _require_base(place, name)
        adapters = (*adapters, place)
    weights = _weights(base)
    parameters = count_parameters(weights)
    where = choose_device(device, dtype, threads, parameters=parameters)
    if four_bit and not where.device.startswith("cuda"):
        raise UserError(
            f"4-bit weights need CUDA, and this model goes to {where.device}",
            "leave four_bit out; on a CPU a smaller model is the way to save memory",
        )

    import torch

    torch.set_num_threads(where.threads)
    with settings.MODEL_LOADING:
        tokenizer = _load_tokenizer(base)
        model = _load_model(base, where, four_bit)
        rows = model.get_input_embeddings().num_embeddings
        if not len(tokenizer) <= rows <= len(tokenizer) + MAX_PADDED_ROWS:
            raise UserError(
                f"tokenizer and model of {base} do not belong together: {len(tokenizer)} tokens, {rows} embeddings",
                "take both from the same checkpoint",
            )
        for place in adapters:
            model = _apply_adapter(model, place, name, merge=not four_bit)
    lm = LanguageModel(
        name=name,
        model=model.eval(),
        tokenizer=tokenizer,
        window=_window(model.config),
        device=where.device,
        dtype="nf4" if four_bit else where.dtype,
        threads=where.threads,
        weights_sha256=_fingerprint(weights, adapters),
        adapter=str(adapters[-1]) if adapters else None,
        chat=tokenizer.chat_template is not None,
        eos_ids=_eos_ids(model, tokenizer),
        template=_trained_template((base, *adapters)),
    )
    copy, notices = fast.attach(lm, engine, progress)
    return replace(lm, engine=copy, notices=notices)


def weights_sha256(name: str, home: Path | None = None) -> str:
    """`LanguageModel.weights_sha256` of what `name` stands for, without loading it. Raises UserError when it is not there."""
    base, adapters = _resolve(name, home)
    return _fingerprint(_weights(base), adapters)


def _resolve(name: str, home: Path | None) -> tuple[Path, tuple[Path, ...]]:
    """The folder of the base model and those of the adapters that `name` stands for, in the order they are put on."""
    place = _folder(name, home)
    adapters: list[Path] = []
    while _is_adapter(place):
        if len(adapters) == 8:
            raise UserError(f"the adapters below {name} name each other as base", "mend base_model_name_or_path")
        adapters.insert(0, place)
        base = str(_read_json(place / "adapter_config.json").get("base_model_name_or_path") or "")
        if not base:
            raise UserError(f"{place / 'adapter_config.json'} names no base model", "set base_model_name_or_path")
        place = _folder(_catalogue_name(base), home)
    return place, tuple(adapters)


def _folder(name: str, home: Path | None) -> Path:
    if not name:
        raise UserError("no model was named", f"use a folder, a hub id, a run, or one of: {', '.join(catalogue.CATALOGUE)}")
    runs = settings.home(home).runs
    own = Path(name).expanduser()
    if name in catalogue.CATALOGUE:
        place = catalogue.locate(name)
    elif own.is_dir():
        place = own.resolve()
    elif ".." not in own.parts and not own.is_absolute() and (runs / name).is_dir():
        place = runs / name
    else:
        place = catalogue.locate(name)
    for checkpoint in ("best", "last"):
        if not (place / "config.json").exists() and not _is_adapter(place) and (place / checkpoint).is_dir():
            return place / checkpoint
    return place


def _trained_template(places: Sequence[Path]) -> str:
    """The prompt template that the record of the last run among `places` names; a checkpoint is some folders below it."""
    for place in reversed(places):
        for folder in (place, *list(place.parents)[:2]):
            if (folder / "run.json").is_file():
                return str(_read_json(folder / "run.json").get("template") or "")
    return ""


def _is_adapter(place: Path) -> bool:
    if not (place / "adapter_config.json").is_file() or (place / "model.safetensors").is_file():
        return False
    if not (place / "adapter_model.safetensors").is_file():
        raise UserError(
            f"{place} has no adapter_model.safetensors", "save the adapter again; pickled adapters (.bin) are not read"
        )
    return True


def _catalogue_name(base: str) -> str:
    """The catalogue's name of a hub id, so that a pulled model is found under either; anything else unchanged."""
    aliases = {entry.hub.lower(): entry.name for entry in catalogue.CATALOGUE.values() if entry.kind == "language"}
    return aliases.get(base.lower(), base)


def _require_base(adapter: Path, name: str) -> None:
    """Refuse an adapter whose configuration names another known model than the one it is put on."""
    recorded = _catalogue_name(str(_read_json(adapter / "adapter_config.json").get("base_model_name_or_path") or ""))
    given = _catalogue_name(name)
    if recorded != given and recorded in catalogue.CATALOGUE and given in catalogue.CATALOGUE:
        raise UserError(f"the adapter {adapter} was trained on {recorded}, not on {given}", f"load it on {recorded}")


def _weights(place: Path) -> list[Path]:
    """The safetensors files of a model folder, after checking that the folder is one."""
    if (place / "modules.json").is_file():
        raise UserError(f"{place} holds an embedding model, not a language model", "see: rag-vs-ft models list")
    if not (place / "config.json").is_file():
        raise UserError(f"{place} is not a model folder: there is no config.json", "give the folder of a saved checkpoint")
    _read_json(place / "config.json")
    index = place / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        if not names or any(Path(str(name)).name != name for name in names):
            raise UserError(f"{index} does not list the weight files", "fetch the model again")
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if not (place / name).is_file()]
    if missing and list(place.glob("*.bin")) + list(place.glob("*.pt")):
        raise UserError(
            f"{place} has pickled weights only; they can run code and are not read",
            "convert them to safetensors where they come from (transformers: save_pretrained)",
        )
    if missing and list(place.glob("*.gguf")):
        raise UserError(f"{place} has a GGUF file only; safetensors are needed", "convert it with save_pretrained")
    if missing:
        raise UserError(f"{place} is not whole: {', '.join(missing)} is missing", "fetch or save the model again")
    return [place / name for name in names]


def count_parameters(weights: list[Path]) -> int:
    """Numbers stored in safetensors files, from their headers alone."""
    total = 0
    for path in weights:
        for name, tensor in _header(path).items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                total += size
    return total


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of little-endian length, then the text (format specification)."""
    try:
        with path.open("rb") as data:
            (length,) = struct.unpack("<Q", data.read(8))
            if length > min(100_000_000, path.stat().st_size):
                raise ValueError("its header is longer than the file")
            header = json.loads(data.read(length))
        end = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"it has {path.stat().st_size} bytes and should have {8 + length + end}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{path} is damaged: {error}", "fetch or save the model again") from error
    return header


def _load_tokenizer(place: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((place / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")):
        raise UserError(f"{place} has no tokenizer", "save the tokenizer beside the weights (tokenizer.json)")
    try:
        return AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # parsers of several formats, each with its own exceptions
        raise UserError(f"the tokenizer in {place} cannot be read: {_first_line(error)}", "fetch it again") from error


def _load_model(place: Path, where: Device, four_bit: bool) -> Any:
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
            f"{place} does not fit into the memory of {where.device}", "use a smaller model, or one with 4-bit weights"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(f"the model in {place} cannot be loaded: {_first_line(error)}", "fetch or save it again") from error
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


def _apply_adapter(model: Any, place: Path, name: str, *, merge: bool) -> Any:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError

    stored = set(_header(place / "adapter_model.safetensors")) - {"__metadata__"}
    try:
        adapted = PeftModel.from_pretrained(model, place, is_trainable=False)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise UserError(
            f"the adapter {place} does not fit the model {name}: {_first_line(error)}", "load it on the base it was trained on"
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


def _window(config: Any) -> int:
    window = getattr(config, "max_position_embeddings", None)
    if not isinstance(window, int) or window < 1:
        raise UserError(f"the configuration of this {config.model_type} model names no window", "set max_position_embeddings")
    return window


def _eos_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The model's end tokens, and every other control token: none is part of an answer."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [] if configured is None else [configured]
    return tuple(sorted({*ends, *tokenizer.all_special_ids}))


def _fingerprint(weights: Sequence[Path], adapters: Sequence[Path]) -> str:
    """One hash of all weight files, each one's taken from the pull's manifest, else computed and remembered beside the file."""
    hashes: dict[str, str] = {}
    for path in (*weights, *(place / "adapter_model.safetensors" for place in adapters)):
        pulled = (catalogue.manifest(path.parent) or {}).get("files", {}).get(path.name)
        key = path.name if path.name not in hashes else f"{path.name} {len(hashes)}"
        hashes[key] = pulled["sha256"] if pulled else _remembered_hash(path)
    return catalogue.fingerprint(hashes)


def _remembered_hash(path: Path) -> str:
    status = path.stat()
    state = [status.st_size, status.st_mtime_ns]
    notes = path.parent / _FINGERPRINTS
    known = _read_json(notes) if notes.is_file() else {}
    if isinstance(entry := known.get(path.name), dict) and entry.get("state") == state:
        return str(entry["sha256"])
    known[path.name] = {"state": state, "sha256": catalogue.sha256_file(path)}
    temporary = notes.with_name(f"{notes.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(known), encoding="utf-8")
        temporary.replace(notes)
    except OSError:  # a read-only folder: computed anew each time
        temporary.unlink(missing_ok=True)
    return str(known[path.name]["sha256"])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {_first_line(error)}", "fetch or save the model again") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} is not a JSON object", "fetch or save the model again")
    return record


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
