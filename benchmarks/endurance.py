"""Many questions and updates in a row: does memory, the number of open files, disk or latency grow?

    python benchmarks/endurance.py --embedder FOLDER --questions 10000 --updates 200 --out endurance.svg

Builds a small index of made documents in a temporary home, changes a document before each update, and asks the same questions
between updates. Prints each tenth of the way; draws the four curves where --out is given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.index import build
from rag_vs_ft.index.search import Index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default=settings.EMBEDDER)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        home = settings.home(root / "home")
        (root / "docs").mkdir()
        for number in range(given.documents):
            write(root / "docs", number, 0)
        store.add("docs", str(root / "docs"), home=home)
        build.build("docs", "docs", build.Recipe(embedder=given.embedder), home)
        rows: list[dict[str, float]] = []
        process = psutil.Process()
        a_round = max(1, given.questions // max(1, given.updates))
        for update in range(given.updates):
            write(root / "docs", update % given.documents, update + 1)
            store.update("docs", home=home)
            build.update("docs", home)
            index = Index.open("docs", home)
            latencies = []
            for question in range(a_round):
                began = time.perf_counter()
                index.search(f"Which limit has page {question % given.documents}?", 5)
                latencies.append(time.perf_counter() - began)
            rows.append(
                {
                    "questions": (update + 1) * a_round,
                    "updates": update + 1,
                    "memory_mb": process.memory_info().rss / 1e6,
                    "open_files": process.num_fds() if hasattr(process, "num_fds") else process.num_handles(),
                    "disk_mb": sum(path.stat().st_size for path in home.root.rglob("*") if path.is_file()) / 1e6,
                    "latency_ms": statistics.median(latencies) * 1000,
                }
            )
            if (update + 1) % max(1, given.updates // 10) == 0:
                print(json.dumps({name: round(value, 3) for name, value in rows[-1].items()}), flush=True)
        if given.out:
            draw(rows, given.out)


def write(folder: Path, number: int, edition: int) -> None:
    text = f"# Page {number}\n\nThe limit of page {number} is {edition} days in edition {edition}.\n"
    (folder / f"{number:04}.md").write_text(text, encoding="utf-8")


def draw(rows: list[dict[str, float]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 4, figsize=(14, 3), layout="constrained")
    titles = {"memory_mb": "memory (MB)", "open_files": "open files", "disk_mb": "disk (MB)", "latency_ms": "median latency (ms)"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        axes.plot([row["questions"] for row in rows], [row[name] for row in rows], linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("questions asked", fontsize=9)
        axes.set_ylim(0, 1.2 * max(row[name] for row in rows))
    figure.savefig(out, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
