"""Turns pickled weights into safetensors, in a process of its own without network.

It is run by path, so it imports nothing of this package. Standard output is a JSON object: `dropped` and `tensors`, or `error`.
Nothing is unpickled but tensors (`weights_only`).
"""

import ctypes
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

BUFFERS = re.compile(r"(?:rotary_emb\.inv_freq|\.attn\.(?:masked_)?bias|\.attention\.(?:masked_)?bias)$")
"""Constants that older versions of transformers saved with the weights and that every version computes."""


class Refused(Exception):
    """Why the files are not converted."""


def main(folder: Path) -> None:
    """Convert, and say what came of it."""
    _leave_network()
    try:
        print(json.dumps(convert(folder)))
    except Refused as error:
        print(json.dumps({"error": str(error)}))


def _leave_network() -> None:
    """Give up the network where Linux lets a process do so (a namespace of users and one of networks)."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).unshare(0x10000000 | 0x40000000)


def convert(folder: Path) -> dict[str, Any]:
    """Each `pytorch_model*.bin` of `folder` as a safetensors file beside it, compared tensor for tensor."""
    from safetensors.torch import save_file

    shards = _shards(folder)
    weight_map: dict[str, str] = {}
    dropped: list[str] = []
    size = 0
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        tensors = _read(shard)
        dropped += sorted(key for key in tensors if BUFFERS.search(key))
        kept = _separate({key: tensor for key, tensor in tensors.items() if not BUFFERS.search(key)})
        if twice := sorted(set(kept) & set(weight_map)):
            raise Refused(f"{twice[0]} is in two files")
        save_file(kept, folder / name, metadata={"format": "pt"})
        _compare(kept, folder / name)
        weight_map |= dict.fromkeys(kept, name)
        size += sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return {"dropped": dropped, "tensors": len(weight_map)}


def _shards(folder: Path) -> list[Path]:
    index = folder / "pytorch_model.bin.index.json"
    if not index.is_file():
        return [folder / "pytorch_model.bin"]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        right = bool(names) and all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"{index.name} cannot be read: {type(error).__name__}") from error
    if not right:
        raise Refused(f"{index.name} does not list the weight files")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise Refused(f"{missing[0]} is missing")
    return [folder / name for name in names]


def _read(path: Path) -> dict[str, Any]:
    import torch

    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            found = torch.load(path, map_location="cpu", weights_only=True)  # as torch wrote before 1.6
    except Exception as error:  # whatever a file that is no such file makes of the reader
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it refers to {code[1]}" if code else f"it cannot be read as tensors ({type(error).__name__})"
        raise Refused(f"{path.name} holds something else than tensors, or is damaged: {reason}") from error
    if not isinstance(found, dict) or not found:
        raise Refused(f"{path.name} holds {type(found).__name__}, not tensors by name")
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            raise Refused(f"{path.name} holds {type(value).__name__} under {key!r:.80}; only tensors are taken")
    return {key: value.detach() for key, value in found.items()}


def _separate(tensors: dict[str, Any]) -> dict[str, Any]:
    """Each tensor in memory of its own and in order, as safetensors wants them; shared ones are copied."""
    seen: set[int] = set()
    kept = {}
    for key, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        kept[key] = tensor.clone().contiguous() if place in seen else tensor.contiguous()
        seen.add(place)
    return kept


def _compare(kept: dict[str, Any], path: Path) -> None:
    import torch
    from safetensors import safe_open

    with safe_open(path, "pt") as written:
        if set(written.keys()) != set(kept):
            raise Refused(f"{path.name} has other tensors than it was given")
        for key, tensor in kept.items():
            again = written.get_tensor(key)
            same = again.dtype == tensor.dtype and again.shape == tensor.shape
            if not same or not torch.equal(again.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)):
                raise Refused(f"{key} did not come back from {path.name} as it was")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
