"""What this processor can do with 8-bit integers, and what it calls itself."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

_KNOWN = ("avx2", "fma", "avx512f", "avx512_bf16", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16")
_MAC = {"asimddp": "hw.optional.arm.FEAT_DotProd", "i8mm": "hw.optional.arm.FEAT_I8MM", "avx2": "hw.optional.avx2_0"}

INT8 = frozenset({"avx2", "avx_vnni", "avx512_vnni", "asimddp", "i8mm"})
"""Instruction sets with which 8-bit integers are faster than floats (docs/performance.md; those of ARM are not measured)."""


@cache
def instructions() -> tuple[str, ...]:
    """The instruction sets of this processor that matter for speed, by their names on Linux; empty when the system hides them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        found = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()}
    except OSError:
        found = {name for name, key in _MAC.items() if _sysctl(key) == "1"} if platform.system() == "Darwin" else set()
    return tuple(name for name in _KNOWN if name in found)


def has_int8() -> bool:
    """Whether 8-bit integers are faster than floats here. A system that hides its instructions is taken to have them:
    every x86 processor since 2013 and every ARM processor since 2018 does."""
    found = instructions()
    return not found or not INT8.isdisjoint(found)


def _sysctl(key: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
