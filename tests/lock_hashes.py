"""Write requirements-hashed.lock: requirements.lock with the SHA-256 of the wheel of each package for each platform.

    python tests/lock_hashes.py > requirements-hashed.lock

pip itself says which wheel it would take (`--dry-run --report`); nothing is installed. The platforms are those that README names,
each with CPython 3.11.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
LINUX = ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "linux_x86_64"]
LINUX += ["manylinux_2_12_x86_64", "manylinux2010_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64"]
MACOS = [f"macosx_{version}_arm64" for version in ("14_0", "13_0", "12_0", "11_0")]
MACOS += [f"macosx_{version}_universal2" for version in ("14_0", "11_0", "10_12", "10_9")]
PLATFORMS = {"linux": LINUX, "macos": MACOS, "windows": ["win_amd64"]}


def report(platforms: list[str], folder: Path) -> dict[str, str]:
    """The hash of the wheel that pip takes for each pin, by "name==version"."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp", "--target", str(folder)]
    command += [part for platform in platforms for part in ("--platform", platform)]
    command += [part for abi in ("cp311", "abi3", "none") for part in ("--abi", abi)]
    command += ["--report", str(folder / "report.json"), "--requirement", str(LOCK)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))["install"]
    return {
        f"{key(one['metadata']['name'])}=={one['metadata']['version'].partition('+')[0]}": one["download_info"]["archive_info"][
            "hashes"
        ]["sha256"]
        for one in found
    }


def key(name: str) -> str:
    """A name as an index spells it."""
    return name.lower().replace("_", "-").replace(".", "-")


def written(found: dict[str, dict[str, str]]) -> str:
    """The lock of these hashes by platform and pin."""
    hashes: dict[str, set[str]] = defaultdict(set)
    for pins in found.values():
        for pin, sha256 in pins.items():
            hashes[pin].add(sha256)
    lines = [
        "# requirements.lock with the SHA-256 of the wheels for CPython 3.11 on Linux x86-64, macOS arm64 and Windows x86-64.",
        "# Made by: python tests/lock_hashes.py > requirements-hashed.lock",
        "# Installed by: pip install --require-hashes --only-binary :all: --requirement requirements-hashed.lock",
    ]
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, version = line.partition("==")
        known = sorted(hashes[f"{key(name)}=={version}"])
        lines += [" \\\n    ".join([line, *(f"--hash=sha256:{sha256}" for sha256 in known)])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        reports = {}
        for platform, names in PLATFORMS.items():
            (Path(scratch) / platform).mkdir()
            reports[platform] = report(names, Path(scratch) / platform)
    print(written(reports), end="")
