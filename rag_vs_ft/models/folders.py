"""What a model folder holds, by its JSON files and the headers of its weights; no tensor is read."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
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
        listed = read_json(index).get("weight_map")
        names: list[str] = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
        if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
            raise UserError(f"{index} does not list the weight files", "fetch the model again")
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if not (place / name).is_file()]
    if missing and (any(place.glob("*.bin")) or any(place.glob("*.pt"))):
        raise UserError(
            f"{place} has pickled weights only; they can run code and are not read here",
            f"have them converted: rag-vs-ft models pull OWNER/NAME --from {place}",
        )
    if missing and (ggufs := sorted(place.glob("*.gguf"))):
        raise UserError(f"{place} has a GGUF file only", f"name the file itself: --model {ggufs[0]}")
    if missing:
        raise UserError(f"{place} is not whole: {', '.join(missing)} is missing", AGAIN)
    return [place / name for name in names]


def count_parameters(weights: Sequence[Path]) -> int:
    """Numbers stored in safetensors files, from their headers alone."""
    return sum(math.prod(shape) for path in weights for shape in shapes(path).values())


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor in a safetensors file, by the header: 8 bytes of little-endian length, then JSON.

    Raises UserError unless the header is what the format's specification says, and the file as long as the header says.
    """
    try:
        with path.open("rb") as data:
            (length,) = struct.unpack("<Q", data.read(8))
            if length > min(100_000_000, path.stat().st_size):
                raise ValueError("its header is longer than the file")
            header = json.loads(data.read(length))
        found, end = {}, 0
        for name, facts in header.items():
            if name == "__metadata__":
                continue
            shape, (start, stop) = facts["shape"], facts["data_offsets"]
            if not isinstance(shape, list) or any(type(number) is not int or number < 0 for number in (*shape, start, stop)):
                raise ValueError(f"tensor {name!r} has no shape")
            if stop - start != math.prod(shape) * _BYTES[facts["dtype"]]:
                raise ValueError(f"tensor {name!r} has {stop - start} bytes, its shape needs another number")
            found[name], end = tuple(shape), max(end, stop)
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"it has {path.stat().st_size} bytes and should have {8 + length + end}")
    except RecursionError as error:
        raise UserError(f"{path} is damaged: its header is nested too deep", AGAIN) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise UserError(f"{path} is damaged: {error}", AGAIN) from error
    return found


_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, else its kind: what of a library's message a user is shown."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
