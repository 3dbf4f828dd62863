"""What a large corpus costs: vector indexes of up to 10 million vectors, BM25 of millions of chunks, 180,000 documents.

    python benchmarks/scale.py vectors --home HOME --index NAME --questions FILE... --work FOLDER [--rows 1500000]
    python benchmarks/scale.py build   --work FOLDER --rows 330000 --kind hnsw
    python benchmarks/scale.py nearest --work FOLDER --rows 10000000
    python benchmarks/scale.py query   --work FOLDER --rows 330000 [--no-read-ahead]
    python benchmarks/scale.py report  --work FOLDER [--plot docs/scale.png]
    python benchmarks/scale.py tables  --home HOME --index NAME --work FOLDER --rows 330000
    python benchmarks/scale.py terms   --work FOLDER --rows 360000
    python benchmarks/scale.py corpus  --work FOLDER --documents 180000 [--embedder ./fast]

`vectors` takes the chunk vectors of an index and adds made ones: the vector of a random chunk plus the difference between another
random chunk and one of its ten nearest neighbours, at length 1. Neighbours of a made vector are then about as near as real ones,
and lie in the directions in which real ones differ. It prints both distributions. Queries are the questions' own vectors.

`build` and `query` write what they measure to FOLDER; `report` prints the table and draws the plot. Each kind is opened from
the disk in a process of its own. A search is what the hybrid asks for: 300 hits. recall@10 is the share of the ten nearest that
come first. `--no-read-ahead` leaves the reading of a cold file to FAISS, and only prints.

`nearest` compares every vector with every query, a block at a time, for `query` to measure by where no flat index was built.

`tables` measures the other two parts of a build, the table of chunks and BM25, on the index's chunks repeated under other ids.

`terms` builds BM25 and the legs of whole documents over made chunks and asks both. `corpus` writes made Markdown documents, then
runs the commands that add them, index them, change one in a hundred, and update both; with its seconds, and the most memory
that all processes of a command had of their own at once. Made text has words of Zipf's law that follow one another in habits, so
that words and word pairs become more with the text about as fast as in the Kubernetes documentation. A static embedding model
is distilled from 2,000 of the documents unless `--embedder` names a model.
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
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from machine import describe
from numpy.typing import NDArray

from rag_vs_ft import settings
from rag_vs_ft.evaluation.questions import load_questions
from rag_vs_ft.files import sha256_text
from rag_vs_ft.index import dense, documents, lexical
from rag_vs_ft.index.search import DEPTH, Index, top_rows
from rag_vs_ft.index.table import ChunkWriter
from rag_vs_ft.language import language
from rag_vs_ft.records import Chunk

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
    for rows in sorted({min(size, arguments.rows) for size in (33_000, 330_000, 1_500_000)}):
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


def filtered_rows(total: int) -> dict[str, NDArray[np.int64]]:
    """The rows that each filter leaves, by its share."""
    rng = np.random.default_rng(0)
    return {str(share): np.flatnonzero(rng.random(total) < share) for share in (0.3, 0.02)}


FILTERED_QUERIES = 60


def nearest(arguments: argparse.Namespace) -> None:
    """Write the ten nearest of each query among all rows, and among those that each filter leaves."""
    queries = np.load(arguments.work / "queries.npy")
    vectors = np.load(arguments.work / "vectors.npy", mmap_mode="r")[: arguments.rows]
    filtered = filtered_rows(len(vectors))
    masks = {"": np.ones(len(vectors), dtype=bool)}
    for share, rows in filtered.items():
        masks[share] = np.zeros(len(vectors), dtype=bool)
        masks[share][rows] = True
    asked = {share: queries if not share else queries[:FILTERED_QUERIES] for share in masks}
    best = {share: (np.full((len(of), 10), -2, np.float32), np.zeros((len(of), 10), np.int64)) for share, of in asked.items()}
    for start in range(0, len(vectors), BLOCK):
        cosines = queries @ np.asarray(vectors[start : start + BLOCK], dtype=np.float32).T
        for share, mask in masks.items():
            rows = np.flatnonzero(mask[start : start + BLOCK])
            some = cosines[: len(asked[share])][:, rows]
            first = np.argpartition(-some, min(10, len(rows) - 1))[:, :10]
            scores = np.concatenate([best[share][0], np.take_along_axis(some, first, 1)], axis=1)
            found = np.concatenate([best[share][1], start + rows[first]], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
            best[share] = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
    record = {
        "found": best[""][1].tolist(),
        "filtered": {share: {"found": best[share][1].tolist()} for share in filtered},
    }
    (arguments.work / f"nearest-{arguments.rows}.json").write_text(json.dumps(record), encoding="utf-8")


def place(work: Path, rows: int, kind: str) -> Path:
    return work / f"{kind}-{rows}"


def build(arguments: argparse.Namespace) -> None:
    folder = place(arguments.work, arguments.rows, arguments.kind)
    folder.mkdir(exist_ok=True)
    vectors = np.load(arguments.work / "vectors.npy", mmap_mode="r")[: arguments.rows]
    before = resource.getrusage(resource.RUSAGE_SELF)
    peak, start = Peak(), time.perf_counter()
    dense.build(folder, vectors, settings.threads(), arguments.kind)
    seconds = time.perf_counter() - start
    own = peak.end()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    record = {
        "threads": settings.threads(),
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu, 1),
        "build_own_gb": round(own / 1e3, 2),
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
    filtered = {}
    for share, rows in filtered_rows(total).items():
        some = [index.search(query, DEPTH, rows)[0] for query in queries[:FILTERED_QUERIES]]
        start = time.perf_counter()
        some = [index.search(query, DEPTH, rows)[0] for query in queries[:FILTERED_QUERIES]]
        filtered[share] = {
            "ms": round((time.perf_counter() - start) / FILTERED_QUERIES * 1000, 2),
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
    known = arguments.work / f"nearest-{arguments.rows}.json"
    truth: dict[str, Any] = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
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
        self.thread = threading.Thread(target=self._watch, daemon=True)
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


# --- made text --------------------------------------------------------------------------------------------------------

_SYLLABLES = [
    first + vowel
    for first in ["b", "c", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "st", "tr", "cl", "gr"]
    for vowel in ["a", "e", "i", "o", "u"]
]


class MadeText:
    """Sentences of made words, which have the frequencies of Zipf's law in Mandelbrot's form. Seven in ten are one of eight
    successors of the word before; function words of English stand between them."""

    def __init__(self, seed: int, words: int = 500_000, length: int = 9) -> None:
        self.rng = np.random.default_rng(seed)
        self.length = length
        # The language is one for all seeds: the vocabulary, and which word follows which.
        fixed = np.random.default_rng(0)
        self.shares = np.cumsum(1 / (np.arange(words) + 30.0) ** 1.45)
        self.words = [self._spelt(number) for number in fixed.permutation(words).tolist()]
        self.follows = self._drawn(fixed, (words, 8))
        self.small = sorted(word for word in language().stop_words if word.isalpha())

    @staticmethod
    def _spelt(number: int) -> str:
        parts = [_SYLLABLES[number % 100], _SYLLABLES[number // 100 % 100]]
        return "".join(parts + [_SYLLABLES[number // 10_000]] * (number >= 10_000))

    def _drawn(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
        return np.searchsorted(self.shares, rng.random(shape) * self.shares[-1])

    def numbers(self, count: int) -> NDArray[np.int64]:
        """The words of so many sentences, shape (count, length), by rank."""
        rows = np.empty((count, self.length), dtype=np.int64)
        rows[:, 0] = self._drawn(self.rng, (count,))
        for at in range(1, self.length):
            habit = self.follows[rows[:, at - 1], self.rng.geometric(0.5, count) % 8]
            rows[:, at] = np.where(self.rng.random(count) < 0.7, habit, self._drawn(self.rng, (count,)))
        return rows

    def sentences(self, count: int) -> list[str]:
        """So many sentences, each with `length` made words and half as many function words."""
        rows = self.numbers(count)
        between = self.rng.integers(len(self.small), size=(count, self.length // 2))
        made = []
        for row, little in zip(rows.tolist(), between.tolist(), strict=True):
            words = [self.words[number] for number in row]
            for at, number in enumerate(little):
                words.insert(3 * at, self.small[number])
            made.append(" ".join(words).capitalize() + ".")
        return made

    def document(self) -> str:
        """A page of Markdown of 1 to 3 KB: a title, sections of prose, and now and then a list or a command."""
        lines = iter(self.sentences(40))
        name = next(lines).rstrip(".")
        parts = [
            "---",
            f"title: {name}",
            f"date: 2026-0{self.rng.integers(1, 9)}-1{self.rng.integers(9)}",
            "---",
            "",
            f"# {name}",
            "",
        ]
        for _ in range(int(self.rng.integers(2, 5))):
            parts += [f"## {' '.join(next(lines).split()[:4])}", ""]
            parts += [" ".join(next(lines) for _ in range(int(self.rng.integers(2, 6)))), ""]
            kind = self.rng.random()
            if kind < 0.3:
                parts += [*(f"- {next(lines)}" for _ in range(3)), ""]
            elif kind < 0.5:
                one, two, *_ = next(lines).lower().split()
                parts += ["```bash", f"{one} {two} --{two}-{one} value", "```", ""]
        return "\n".join(parts)


def made_documents(folder: Path, numbers: range, seed: int) -> None:
    """Write the documents of these numbers, 1,000 to a folder."""
    made = MadeText(seed)
    for number in numbers:
        file = folder / f"part-{number // 1_000:04}" / f"page-{number:07}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made.document(), encoding="utf-8")


def change(folder: Path, total: int) -> None:
    """Write one document in a hundred anew, remove one in a thousand and add as many."""
    made = MadeText(2)
    for number in range(0, total, 100):
        file = folder / f"part-{number // 1_000:04}" / f"page-{number:07}.md"
        if number % 1_000:
            file.write_text(made.document(), encoding="utf-8")
        else:
            file.unlink()
    made_documents(folder, range(total, total + total // 1_000), 3)


def own_memory(process: psutil.Process) -> float:
    """Memory in GB that a process and those below it have of their own."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            status = Path(f"/proc/{one.pid}/status").read_text(encoding="utf-8")
        except OSError:  # it ended
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) / 2**20
    return total


def corpus(arguments: argparse.Namespace) -> None:
    print(describe(), flush=True)
    folder = arguments.work / f"documents-{arguments.documents}"
    home = arguments.work / f"home-{arguments.documents}"
    for made in (folder, home):
        shutil.rmtree(made, ignore_errors=True)
    start = time.perf_counter()
    made_documents(folder, range(arguments.documents), 1)
    size = sum(file.stat().st_size for file in folder.rglob("*.md")) / arguments.documents
    print(f"{arguments.documents:,} documents of {size:,.0f} bytes made in {time.perf_counter() - start:.0f} s", flush=True)
    embedder = arguments.embedder
    if not embedder:
        embedder = str((arguments.work / "fast").resolve())
        some = arguments.work / "some"
        if not Path(embedder).exists():
            shutil.rmtree(some, ignore_errors=True)
            made_documents(some, range(2_000), 1)
            verb(home, "corpus", "add", "some", str(some))
            verb(home, "models", "distill", embedder, "--corpus", "some")
    verb(home, "corpus", "add", "made", str(folder))
    verb(home, "index", "build", "made", "--corpus", "made", "--embedder", embedder)
    verb(home, "search", MadeText(4).sentences(1)[0], "--index", "made")
    change(folder, arguments.documents)
    verb(home, "corpus", "update", "made")
    verb(home, "index", "update", "made")
    for part in sorted((home / "indexes" / "made").glob("gen-*")):
        sizes = {path.name: path for path in part.iterdir()}
        shown = ", ".join(
            f"{name} {sum(file.stat().st_size for file in [path, *path.rglob('*')] if file.is_file()) / 1e6:,.0f}"
            for name, path in sorted(sizes.items())
        )
        print(f"{part.name}, MB: {shown}", flush=True)


def verb(home: Path, *words: str) -> None:
    """Run a command of rag-vs-ft, and print its seconds, its processes' memory and what it said last."""
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (home.parent / "last.txt").open("w+", encoding="utf-8") as said:
        process = psutil.Popen(
            [sys.executable, "-m", "rag_vs_ft", *words, "--home", str(home), "--json"], stdout=said, stderr=subprocess.STDOUT
        )
        most = 0.0
        while process.poll() is None:
            most = max(most, own_memory(process))
            time.sleep(0.5)
        said.seek(0)
        text = said.read()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{' '.join(words[:2])}: {time.perf_counter() - start:,.1f} s, CPU {cpu:,.1f} s, {most:.2f} GB of its own", flush=True)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}:\n{text[-3_000:]}")
    record = json.JSONDecoder().raw_decode(text[text.index("{") :])[0] if "{" in text else {}
    told = {key: record[key] for key in ("counts", "changes", "seconds") if isinstance(record, dict) and record.get(key)}
    print(f"  {json.dumps(told)}", flush=True)


PER_DOCUMENT = 20
SENTENCES = 4
"""Of a made chunk: about 88 different terms, where a chunk of the Azure documentation has 81."""


class ReadyTerms:
    """In the place of the analyzer: words and pairs of words of text that holds nothing else, a sentence a line."""

    def __init__(self, analyzer: lexical.Analyzer, spoken: object) -> None:
        self.pairs = analyzer.pairs

    def __call__(self, text: str) -> list[str]:
        words = text.split()
        if self.pairs:
            lines = [line.split() for line in text.split("\n")]
            words += [f"{one} {two}" for line in lines for one, two in pairwise(line)]
        return words


def terms(arguments: argparse.Namespace) -> None:
    """BM25 of chunks, then the legs of whole documents, over made chunks."""
    print(describe(), flush=True)
    folder = arguments.work / f"terms-{arguments.rows}"
    shutil.rmtree(folder, ignore_errors=True)
    vectors = np.load(arguments.work / "vectors.npy", mmap_mode="r")[: arguments.rows]
    total = len(vectors) // PER_DOCUMENT * PER_DOCUMENT
    vectors = vectors[:total]

    def texts() -> Iterator[str]:
        made = MadeText(1, length=12)
        for start in range(0, total, 10_000):
            count = SENTENCES * min(10_000, total - start)
            if arguments.terms:
                lines = [" ".join(made.words[number] for number in row) for row in made.numbers(count).tolist()]
            else:
                lines = made.sentences(count)
            for at in range(0, len(lines), SENTENCES):
                yield "\n".join(lines[at : at + SENTENCES])

    def chunks() -> Iterator[Chunk]:
        for number, text in enumerate(texts()):
            page = f"page-{number // PER_DOCUMENT:09}"
            yield Chunk(f"{number:016x}", page, "", "", text, 0, len(text), 0)

    analyzer, settings_ = lexical.Analyzer(stem=not arguments.terms), lexical.Bm25Settings()
    for what in ("chunks", "documents"):
        peak, start, cpu = Peak(), time.perf_counter(), time.process_time()
        with patch.object(lexical, "_Terms", ReadyTerms if arguments.terms else lexical._Terms):
            if what == "chunks":
                lexical.build(folder / "bm25", texts(), analyzer, settings_)
            else:
                documents.build(folder / "documents", chunks(), np.arange(total) // PER_DOCUMENT, vectors, analyzer, settings_)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        files = [path for path in (folder / ("bm25" if what == "chunks" else "documents")).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        print(
            f"{what}: {total:,} chunks, built in {seconds:,.0f} s, CPU {cpu:,.0f} s, {peak.end():,.0f} MB, files {size:,.0f} MB",
            flush=True,
        )
    queries = np.load(arguments.work / "queries.npy")[:200]
    asked = MadeText(5, length=8).sentences(len(queries))
    numbers = np.arange(total) // PER_DOCUMENT
    peak, start = Peak(), time.perf_counter()
    bm25 = lexical.load(folder / "bm25")
    whole = documents.Documents(folder / "documents", numbers)
    top_rows(bm25.scores("node pool"), DEPTH)
    print(f"opened in {time.perf_counter() - start:.1f} s", flush=True)
    ways: dict[str, Callable[[str, NDArray[np.float32]], object]] = {
        "BM25 of chunks": lambda line, _: top_rows(bm25.scores(line), DEPTH),
        "documents by words": lambda line, _: whole.bm25(line, None),
        "documents by vectors": lambda _, query: whole.dense(query, None),
    }
    timed: dict[str, list[float]] = {name: [] for name in ways}
    for line, query in zip(asked, queries, strict=True):
        for name, ask in ways.items():
            start = time.perf_counter()
            ask(line, query)
            timed[name].append((time.perf_counter() - start) * 1000)
    for name, times in timed.items():
        print(f"{name}: p50 {np.percentile(times[5:], 50):.1f} ms, p99 {np.percentile(times[5:], 99):.1f} ms", flush=True)
    print(f"open and asked: {peak.end():,.0f} MB of its own", flush=True)
    for part in ("bm25", "documents/bm25"):
        known = json.loads((folder / part / "vocab.index.json").read_text(encoding="utf-8"))
        print(f"{part}: {len(known):,} different terms", flush=True)
    if not arguments.keep:
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
    parser.add_argument("step", choices=["corpus", "terms", "vectors", "build", "nearest", "query", "report", "tables", "one"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--index")
    parser.add_argument("--questions", type=Path, nargs="+", default=[])
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--kind", choices=dense.KINDS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--documents", type=int, default=180_000)
    parser.add_argument("--embedder", help="of `corpus`; without it one is distilled")
    parser.add_argument("--terms", action="store_true", help="`terms` makes terms, so that no time is spent on reading text")
    parser.add_argument("--keep", action="store_true", help="keep what `terms` builds")
    parser.add_argument("--no-read-ahead", action="store_true")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.step in ("vectors", "tables"):
        print(describe())
    steps = {
        "corpus": corpus,
        "terms": terms,
        "vectors": make_vectors,
        "nearest": nearest,
        "build": build,
        "query": query,
        "report": report,
        "tables": tables,
        "one": one,
    }
    steps[arguments.step](arguments)


if __name__ == "__main__":
    main()
