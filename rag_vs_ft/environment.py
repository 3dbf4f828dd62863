"""What a run was made on and with: versions, commit, machine, and the memory it took."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rag_vs_ft import __version__, settings

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy", "scipy", "faiss-cpu", "bm25s", "PyStemmer", "onnxruntime")


def versions() -> dict[str, str]:
    """Python, this package, and the packages that decide about figures."""
    found = {"python": platform.python_version(), "rag-vs-ft": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the source tree that this package runs from, with "+" when it has changes; None outside of one."""
    place = Path(__file__).resolve().parent
    try:
        commit = _git(place, "rev-parse", "HEAD")
        return commit + ("+" if _git(place, "status", "--porcelain", "--", str(place.parent)) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(place: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, cores that may be used, threads set, memory in bytes, system, and accelerators by name."""

    processor: str
    cores: int | None
    threads: int
    memory_bytes: int | None
    system: str
    accelerators: tuple[str, ...]


def machine() -> Machine:
    """The machine that this process runs on."""
    import torch

    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        threads=settings.threads(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        system=f"{platform.system()} {platform.machine()}",
        accelerators=tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def reset_peak_memory(device: str) -> None:
    """Start measuring `peak_memory` anew."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM; see proc(5)
    except OSError:
        return


def peak_memory(device: str) -> int | None:
    """Most bytes in use since `reset_peak_memory`: of the accelerator, else of this process.

    A Mac tells only the most since the process began, and Windows nothing (None).
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        try:
            import resource
        except ImportError:
            return None
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def memory_limit() -> int | None:
    """Bytes of memory that this process can have at most: the machine's, or its control group's; None when nothing tells."""
    found = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = Path(place).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdigit():
            found.append(int(limit))
    return min(found, default=None)
