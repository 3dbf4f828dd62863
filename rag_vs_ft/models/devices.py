"""Where a model computes: device, number format and threads, settled in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError

LARGE = 1_000_000_000
"""Parameters from which `dtype="auto"` takes 16-bit weights. Below, float32: memory is no concern, and scores do not depend on
which questions share a batch."""
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Device:
    """Where and how a model computes: `device` and `dtype` as torch names them, CPU threads, and the reason for the choice."""

    device: str
    dtype: str
    threads: int
    reason: str


def choose_device(device: str = "auto", dtype: str = "auto", threads: int | None = None, *, parameters: int = 0) -> Device:
    """Settle device, dtype and threads.

    auto: CUDA, else Apple's MPS, else the CPU; float32, but bfloat16 for models of `LARGE` parameters where the hardware has
    it (float16 on GPUs without). Raises UserError for a device or dtype that this machine does not have.
    """
    import torch

    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(kind for kind, there in kinds.items() if there) if device == "auto" else device
    kind, colon, number = chosen.partition(":")
    numbered = not colon or (number.isascii() and number.isdigit() and len(number) <= 4)
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not kinds.get(kind) or not numbered or int(number or 0) >= count:
        have = ", ".join(kind for kind, there in kinds.items() if there)
        raise UserError(f"there is no device {device!r} here", f"use auto or one of: {have}")
    if dtype not in DTYPES:
        raise UserError(f"there is no dtype {dtype!r}", f"use one of: {', '.join(DTYPES)}")
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
    cores = settings.threads() if threads is None else threads
    if cores < 1:
        raise UserError(f"{cores} is not a number of threads", "use 1 or more")
    return Device(chosen, dtype, cores, f"{chosen} ({'found' if device == 'auto' else 'as asked'}), {dtype} ({reason})")


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
