"""One line about the machine, for the top of every benchmark's output."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from rag_vs_ft import __version__, settings
from rag_vs_ft.index.processor import instructions


def describe() -> str:
    """Processor, its instruction sets, cores in use, memory in GiB, Python and package version."""
    name, memory = platform.processor() or platform.machine(), 0.0
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        name = next((line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")), name)
        kilobytes = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
        memory = int(kilobytes) / 2**20
    except OSError:
        pass
    hidden = os.environ.get("ISA_MASK", "")
    sets = ", ".join(instructions()) or "instruction sets not told by the system"
    masked = f", shown to libraries as {hidden} only (isa_mask.c)" if hidden else ""
    versions = f"Python {platform.python_version()}, rag_vs_ft {__version__}"
    return f"{name} ({sets}{masked}), {settings.threads()} cores, {memory:.0f} GiB, {versions}"
