"""What a model folder holds, by its JSON files and the headers of its weights; no tensor is read."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from rag_vs_ft import files
from rag_vs_ft.errors import CheckFailed, UserError

AGAIN = "fetch or save the model again"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder. Raises UserError when it cannot be read, is too deep or is no object."""
    try:
        return files.read_json(path, AGAIN)
    except CheckFailed as error:
        raise UserError(error.message, AGAIN) from error
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}", AGAIN) from error


def is_adapter(place: Path) -> bool:
    """Whether a folder holds a LoRA adapter and no whole model. Raises UserError for one without safetensors."""
    if not (place / "adapter_config.json").is_file() or (place / "model.safetensors").is_file():
        return False
    if not (place / "adapter_model.safetensors").is_file():
        raise UserError(
            f"{place} has no adapter_model.safetensors", "save the adapter again; pickled adapters (.bin) are not read"
        )
    return True


def weight_files(place: Path) -> list[Path]:
    """The safetensors files of a model folder, after checking that the folder is one."""
    if (place / "modules.json").is_file():
        raise UserError(f"{place} holds an embedding model, not a language model", "see: rag-vs-ft models list")
    if not (place / "config.json").is_file():
        raise UserError(f"{place} is not a model folder: there is no config.json", "give the folder of a saved checkpoint")
    read_json(place / "config.json")
    index = place / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
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
        for name, tensor in header(path).items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                total += size
    return total


def header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of little-endian length, then the text (format specification)."""
    try:
        with path.open("rb") as data:
            (length,) = struct.unpack("<Q", data.read(8))
            if length > min(100_000_000, path.stat().st_size):
                raise ValueError("its header is longer than the file")
            found = json.loads(data.read(length))
        end = max((tensor["data_offsets"][1] for name, tensor in found.items() if name != "__metadata__"), default=0)
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"it has {path.stat().st_size} bytes and should have {8 + length + end}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{path} is damaged: {error}", "fetch or save the model again") from error
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, else its kind: what of a library's message a user is shown."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
