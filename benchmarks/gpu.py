"""Everything to be known about a GPU, in one call of under ten minutes on a borrowed one.

    python benchmarks/gpu.py --out FOLDER             # GPT-2 124M in bfloat16, LoRA, 36,000 chunks, an index to take home
    python benchmarks/gpu.py --out FOLDER --smallest  # the same steps at their smallest, on any machine

One step after another runs as a user would start it. Each step's output, seconds and exit code are printed, and `results.json` in
FOLDER is written anew after each, so that a call that is cut off loses one step. `index.tar` there holds a home with an index of
the sample, to be searched, updated and verified on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from machine import describe

HERE = Path(__file__).parent
CHUNKS = 36_000


def steps(home: Path, smallest: bool) -> list[tuple[str, list[str]]]:
    """(name, arguments of Python) of each step."""
    ours = ["-m", "rag_vs_ft"]
    at = ["--home", str(home)]
    preset = "nano" if smallest else "gpt2-124m"
    tiny = ["--set", "rows_per_step=2", "--set", "batch_size=2", "--set", "window=64"] if smallest else []
    count = ["--set", f"steps={2 if smallest else 300}", "--set", f"eval_every={1 if smallest else 50}"]
    speed = ["--steps", "1", "--rounds", "1", *tiny] if smallest else ["--steps", "20", "--rounds", "3", "--at-least", "400000"]
    lora = ["--preset", "smollm2-135m-instruct", "--set", f"steps={1 if smallest else 100}", *tiny]
    embed = ["--gpu-chunks", str(8 if smallest else CHUNKS)]
    return [
        ("corpus", [*ours, "corpus", "add", "sample", "sample", *at]),
        ("speed of a training step", [str(HERE / "training.py"), "--preset", preset, *speed]),
        ("loss curve", [*ours, "train", "scratch", "--corpus", "sample", "--preset", preset, "--run", "a", *count, *tiny, *at]),
        ("lora", [*ours, "train", "lora", "--corpus", "sample", "--run", "b", *lora, *at]),
        ("embedding", [str(Path(__file__)), *embed]),
        ("index", [*ours, "index", "build", "sample", "--json", *at]),
        ("search", [*ours, "search", "How do I upgrade a node pool?", "--index", "sample", "--json", *at]),
    ]


def embed(count: int) -> None:
    """Print the chunks embedded per second as `auto` does it here: those of the sample, repeated with a number each."""
    from embedding import texts_of

    from rag_vs_ft.index.embedding import Embedder

    embedder = Embedder()
    base = texts_of(None, None, embedder, count)
    texts = [f"{number}. {base[number % len(base)]}" for number in range(count)]
    embedder.encode(texts[:256])
    start = time.perf_counter()
    embedder.encode(texts)
    speed = count / (time.perf_counter() - start)
    print(json.dumps({"chunks": count, "precision": embedder.precision, "chunks_per_second": round(speed, 1)}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--gpu-chunks", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.gpu_chunks:
        embed(given.gpu_chunks)
        return 0
    if given.out is None:
        parser.error("name the folder for the results: --out FOLDER")
    import torch

    given.out.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{describe()}; {device}", flush=True)
    home = given.out / "home"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    results: dict[str, Any] = {"machine": describe(), "device": device, "steps": {}}
    for name, arguments in steps(home, given.smallest):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
        seconds = round(time.perf_counter() - start, 1)
        results["steps"][name] = {"seconds": seconds, "exit_code": done.returncode, "output": done.stdout[-4000:]}
        print(f"\n{name}: {seconds} s, exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-1000:]}", flush=True)
        (given.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    with tarfile.open(given.out / "index.tar", "w") as tar:
        for name in ("corpora", "indexes"):
            if (home / name).is_dir():
                tar.add(home / name, name)
    return max(step["exit_code"] for step in results["steps"].values())


if __name__ == "__main__":
    raise SystemExit(main())
