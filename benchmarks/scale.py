"""What each kind of vector index costs and finds at 33,000, 330,000 and 1,500,000 vectors.

    python benchmarks/scale.py vectors --home HOME --index NAME --questions FILE... --work FOLDER [--rows 1500000]
    python benchmarks/scale.py build   --work FOLDER --rows 330000 --kind hnsw
    python benchmarks/scale.py query   --work FOLDER --rows 330000 [--no-read-ahead]
    python benchmarks/scale.py report  --work FOLDER [--plot docs/scale.png]
    python benchmarks/scale.py tables  --home HOME --index NAME --work FOLDER --rows 330000

`vectors` takes the chunk vectors of an index and adds made ones: the vector of a random chunk plus the difference between another
random chunk and one of its ten nearest neighbours, at length 1. Neighbours of a made vector are then about as near as real ones,
and lie in the directions in which real ones differ. It prints both distributions. Queries are the questions' own vectors.

`build` and `query` write what they measure to FOLDER; `report` prints the table and draws the plot. Each kind is opened from
the disk in a process of its own. A search is what the hybrid asks for: 300 hits. recall@10 is the share of the ten nearest that
come first. `--no-read-ahead` leaves the reading of a cold file to FAISS, and only prints.

`tables` measures the other two parts of a build, the table of chunks and BM25, on the index's chunks repeated under other ids.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.files import sha256_text
from rag_vs_ft.index import dense, lexical
from rag_vs_ft.index.search import DEPTH, Index, top_rows
from rag_vs_ft.index.table import ChunkWriter

BLOCK = 20_000


def make_vectors(arguments: argparse.Namespace) -> None:
    """Write vectors.npy (rows, dimension; half precision) and queries.npy."""
    index = Index.open(arguments.index, settings.home(arguments.home))
    questions = [question.question for file in arguments.questions for question in load_questions(file)]
    queries = np.stack([index.embedder.encode_query(question) for question in questions])
    np.save(arguments.work / "queries.npy", queries)
    real = np.asarray(index.dense.vectors, dtype=np.float32)
    rng = np.random.default_rng(0)
    real = real[rng.permutation(len(real))]
    near = np.empty((len(real), 10), dtype=np.int64)
    for start in range(0, len(real), 2_000):
        cosines = real[start : start + 2_000] @ real.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1
        near[start : start + 2_000] = np.argpartition(-cosines, 10)[:, :10]
    made = np.lib.format.open_memmap(arguments.work / "vectors.npy", "w+", np.float16, (arguments.rows, real.shape[1]))
    made[: len(real)] = real[: arguments.rows]
    for start in range(len(real), arguments.rows, BLOCK):
        count = min(BLOCK, arguments.rows - start)
        parent, other = rng.integers(len(real), size=(2, count))
        rows = real[parent] + real[near[other, rng.integers(10, size=count)]] - real[other]
        made[start : start + count] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    print(f"{len(real):,} real vectors, {len(queries)} questions")
    for rows in sorted(size for size in {33_000, 330_000, arguments.rows} if size <= arguments.rows):
        probes = rng.choice(rows, 300, replace=False)
        best = np.full((300 + len(queries), 11), -1, dtype=np.float32)
        for start in range(0, rows, BLOCK):
            part = np.asarray(made[start : min(start + BLOCK, rows)], dtype=np.float32)
            cosines = np.concatenate([np.asarray(made[np.sort(probes)], dtype=np.float32), queries]) @ part.T
            best = -np.sort(np.partition(-np.concatenate([best, cosines], axis=1), 10)[:, :11])
        for name, first, tenth in (
            ("vectors", best[:300, 1], best[:300, 10]),  # each is its own nearest
            ("questions", best[300:, 0], best[300:, 9]),
        ):
            shown = [" / ".join(f"{value:.2f}" for value in np.quantile(of, [0.1, 0.5, 0.9])) for of in (first, tenth)]
            print(
                f"{rows:9,} rows, {name:9}: cosine of the nearest {shown[0]}, of the tenth {shown[1]} (10, 50, 90%)", flush=True
            )


def place(work: Path, rows: int, kind: str) -> Path:
    return work / f"{kind}-{rows}"


def build(arguments: argparse.Namespace) -> None:
    folder = place(arguments.work, arguments.rows, arguments.kind)
    folder.mkdir(exist_ok=True)
    vectors = np.load(arguments.work / "vectors.npy", mmap_mode="r")[: arguments.rows]
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    dense.build(folder, vectors, settings.threads(), arguments.kind)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    record = {
        "threads": settings.threads(),
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu, 1),
        "build_peak_gb": round(after.ru_maxrss / 2**20, 2),
        "file_mb": round(sum(path.stat().st_size for path in folder.glob("*.[in]*")) / 1e6, 1),
    }
    (folder / "build.json").write_text(json.dumps(record), encoding="utf-8")
    print(describe())
    print(f"{arguments.kind}, {arguments.rows:,} rows: {record}")


def resident() -> dict[str, float]:
    """Memory of this process in MB: its own, and of files that it has mapped."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1e3 for line in lines if line.startswith(("RssAnon", "RssFile"))}


def evict(folder: Path) -> None:
    """Have the system forget what it holds of these files, so that they are opened from the disk."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def one(arguments: argparse.Namespace) -> None:
    """Open one index and search it; prints one JSON object."""
    import faiss

    del faiss  # imported before the clock starts
    folder = place(arguments.work, arguments.rows, arguments.kind)
    queries = np.load(arguments.work / "queries.npy")
    if arguments.no_read_ahead:
        dense._read_ahead = lambda path: None
    evict(folder)
    before = resident()
    start = time.perf_counter()
    index = dense.Dense(folder, settings.threads())
    total = len(index.vectors)
    opened = time.perf_counter() - start
    at_open = resident()
    start = time.perf_counter()
    index.search(queries[0], DEPTH)
    first = time.perf_counter() - start
    start = time.perf_counter()
    for query in queries[1:51]:
        index.search(query, DEPTH)
    following = time.perf_counter() - start
    times: list[float] = []
    cpu: list[float] = []
    found: list[list[int]] = []
    for _ in range(arguments.rounds):
        found = []
        for query in queries:
            start, cpu_start = time.perf_counter(), time.process_time()
            rows, _ = index.search(query, DEPTH)
            times.append((time.perf_counter() - start) * 1000)
            cpu.append((time.process_time() - cpu_start) * 1000)
            found.append(rows[:10].tolist())
    after = resident()
    rng = np.random.default_rng(0)
    filtered = {}
    for share in (0.3, 0.02):
        rows = np.flatnonzero(rng.random(total) < share)
        some = [index.search(query, DEPTH, rows)[0] for query in queries[:60]]
        start = time.perf_counter()
        some = [index.search(query, DEPTH, rows)[0] for query in queries[:60]]
        filtered[str(share)] = {
            "ms": round((time.perf_counter() - start) / 60 * 1000, 2),
            "found": [hits[:10].tolist() for hits in some],
        }
    print(
        json.dumps(
            {
                "open_s": round(opened, 3),
                "first_s": round(first, 3),
                "next_50_s": round(following, 3),
                "open_mb": [round(at_open[key] - before[key], 1) for key in ("RssAnon", "RssFile")],
                "used_mb": [round(after[key] - before[key], 1) for key in ("RssAnon", "RssFile")],
                "p50_ms": round(float(np.percentile(times, 50)), 2),
                "p99_ms": round(float(np.percentile(times, 99)), 2),
                "cpu_ms": round(float(np.percentile(cpu, 50)), 2),
                "found": found,
                "filtered": filtered,
            }
        )
    )


def query(arguments: argparse.Namespace) -> None:
    print(describe())
    truth: dict[str, Any] = {}
    for kind in dense.KINDS:
        folder = place(arguments.work, arguments.rows, kind)
        if not (folder / "build.json").exists():
            continue
        command = [sys.executable, __file__, "one", "--work", str(arguments.work), "--rows", str(arguments.rows)]
        command += ["--kind", kind, "--rounds", str(arguments.rounds), *(["--no-read-ahead"] if arguments.no_read_ahead else [])]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        record = json.loads(done.stdout)
        truth = truth or record
        record["recall"] = recall(record.pop("found"), truth["found"]) if record is not truth else 1.0
        for share, part in record["filtered"].items():
            part["recall"] = recall(part["found"], truth["filtered"][share]["found"])
        shown = {key: value for key, value in record.items() if key != "found"}
        shown["filtered"] = {share: {"ms": p["ms"], "recall": p["recall"]} for share, p in record["filtered"].items()}
        if not arguments.no_read_ahead:
            (folder / "query.json").write_text(json.dumps(shown), encoding="utf-8")
        print(f"{kind}, {arguments.rows:,} rows: {shown}", flush=True)


def recall(found: list[list[int]], truth: list[list[int]]) -> float:
    return round(float(np.mean([len(set(left) & set(right)) / len(right) for left, right in zip(found, truth, strict=True)])), 4)


class Peak:
    """The most memory of its own that this process has had since, in MB above what it had then."""

    def __init__(self) -> None:
        self.before = self.most = resident()["RssAnon"]
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.most = max(self.most, resident()["RssAnon"])

    def end(self) -> float:
        self.stop.set()
        self.thread.join()
        return self.most - self.before


def tables(arguments: argparse.Namespace) -> None:
    import pyarrow as pa

    source = Index.open(arguments.index, settings.home(arguments.home)).table
    folder = arguments.work / "tables"
    folder.mkdir(exist_ok=True)
    print(describe())
    peak, start, written, copy = Peak(), time.perf_counter(), 0, 0
    writer = ChunkWriter(folder)
    while written < arguments.rows:
        for batch in source.arrow.to_batches(max_chunksize=8_192):
            part = batch.slice(0, max(0, arguments.rows - written))
            names = part.schema.names
            ids = [sha256_text(f"{copy} {name}")[:16] for name in part.column("id").to_pylist()]
            keys = [hashlib.sha256(name.encode()).digest() for name in ids]
            part = part.set_column(names.index("id"), "id", pa.array(ids, pa.string()))
            writer.add_batch(part.set_column(names.index("key"), "key", pa.array(keys, pa.binary())))
            written += len(ids)
        copy += 1
    table = writer.finish({})
    size = sum(path.stat().st_size for path in folder.glob("*.arrow")) / 1e6
    print(f"chunk table, {len(table):,} rows: {time.perf_counter() - start:.0f} s, {peak.end():,.0f} MB, file {size:,.0f} MB")
    peak, start = Peak(), time.perf_counter()
    lexical.build(folder / "bm25", map(lexical.searchable_text, table.chunks()), lexical.Analyzer(), lexical.Bm25Settings())
    size = sum(path.stat().st_size for path in (folder / "bm25").iterdir()) / 1e6
    print(f"BM25, {len(table):,} rows: {time.perf_counter() - start:.0f} s, {peak.end():,.0f} MB, files {size:,.0f} MB")
    start = time.perf_counter()
    bm25 = lexical.load(folder / "bm25")
    bm25.scores("node pool")
    opened, start = time.perf_counter() - start, time.perf_counter()
    for question in ("delete a key vault", "az aks nodepool add", "storage account replication", "how long are backups kept"):
        top_rows(bm25.scores(question), DEPTH)
    print(f"BM25 opened in {opened:.2f} s, {(time.perf_counter() - start) / 4 * 1000:.1f} ms a query")
    shutil.rmtree(folder)


def report(arguments: argparse.Namespace) -> None:
    records = {}
    for path in arguments.work.glob("*/query.json"):
        kind, _, rows = path.parent.name.partition("-")
        parts = [json.loads((path.parent / name).read_text(encoding="utf-8")) for name in ("build.json", "query.json")]
        records[int(rows), kind] = parts[0] | parts[1]
    order = sorted(records, key=lambda key: (key[0], dense.KINDS.index(key[1])))
    columns = ["vectors", "kind", "build, CPU s", "files, MB", "open, s", "first query, s", "mapped, MB", "p50, ms", "p99, ms"]
    columns += ["CPU, ms", "recall@10"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for rows, kind in order:
        record = records[rows, kind]
        print(
            f"| {rows:,} | {kind} | {record['build_cpu_s']:,.0f} | {record['file_mb']:,.0f} | {record['open_s']:.2f} "
            f"| {record['first_s']:.2f} | {sum(record['used_mb']):,.0f} | {record['p50_ms']:.1f} | {record['p99_ms']:.1f} "
            f"| {record['cpu_ms']:.1f} | {record['recall']:.3f} |"
        )
    if arguments.plot:
        plot(records, arguments.plot)


def plot(records: dict[tuple[int, str], dict[str, Any]], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = {
        "build, seconds of CPU time": lambda record: record["build_cpu_s"],
        "memory after the queries, MB": lambda record: sum(record["used_mb"]),
        "query, median ms": lambda record: record["p50_ms"],
    }
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.2))
    for axis, (title, value) in zip(axes, shown.items(), strict=True):
        for kind in dense.KINDS:
            rows = sorted(rows for rows, known in records if known == kind)
            axis.plot(rows, [value(records[row, kind]) for row in rows], marker="o", label=kind)
        axis.set(xscale="log", yscale="log", title=title, xlabel="vectors")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(target, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["vectors", "build", "query", "report", "tables", "one"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--index")
    parser.add_argument("--questions", type=Path, nargs="+", default=[])
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--kind", choices=dense.KINDS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-read-ahead", action="store_true")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.step in ("vectors", "tables"):
        print(describe())
    steps = {"vectors": make_vectors, "build": build, "query": query, "report": report, "tables": tables, "one": one}
    steps[arguments.step](arguments)


if __name__ == "__main__":
    main()
