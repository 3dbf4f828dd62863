"""What engines embed in a second: this process, processes, and actors of a Ray cluster, on the same chunks in one run.

    python benchmarks/engines.py --home HOME --index sample [--chunks 480] [--shard 32] [--workers 1 2]

The first time is until a worker is ready with its model; the rates count from the first shard that came back to the last, by the
clock and by the processor time of all processes, Ray's own among them: where other work takes cores, the second still holds.
Workers have one thread each, and so has "this process, 1 thread".
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import psutil
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.engines import HERE, Finished, Shard, WorkEngine
from rag_vs_ft.index.build import EmbedWork, embed_shard
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.search import Index


def measure(name: str, engine: WorkEngine, work: EmbedWork, shards: list[Shard], threads: int) -> None:
    """Print the chunks per second."""
    here = None
    if engine.is_here:
        embedder = Embedder.of(work.embedder, threads=threads)
        embedder.encode([])
        here = partial(embed_shard, embedder, work.chunker)
    start = time.perf_counter()
    came: list[tuple[float, float, int]] = []
    for outcome in engine.run(work, shards, here=here):
        assert isinstance(outcome, Finished), outcome
        came.append((time.perf_counter() - start, processor_seconds(), len(outcome.shard.data)))
    first, last = came[0], came[-1]
    count = sum(one[2] for one in came[1:])
    rate, cpu = count / (last[0] - first[0]), count / (last[1] - first[1])
    print(f"{name:28} first shard after {first[0]:5.1f} s, then {rate:6.1f} chunks a second, {cpu:6.1f} a CPU second", flush=True)


def processor_seconds() -> float:
    """Processor time of this process and of those below it that run."""
    me = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in [me, *me.children(recursive=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--index", default="sample")
    parser.add_argument("--chunks", type=int, default=480)
    parser.add_argument("--shard", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    index = Index.open(arguments.index, settings.home(arguments.home))
    was = index.manifest.inputs
    work = EmbedWork(was.embedder, was.chunker)
    chunks = list(index.table.chunks())[: arguments.chunks]
    shards = [
        Shard(f"chunks from {start}", chunks[start : start + arguments.shard], number)
        for number, start in enumerate(range(0, len(chunks), arguments.shard))
    ]
    print(describe())
    print(f"{len(chunks)} chunks of index {index.name}, {was.embedder.precision}, shards of {arguments.shard}")
    for threads in dict.fromkeys((1, settings.threads())):
        measure(f"this process, {threads} threads", HERE, work, shards, threads)
    for workers in arguments.workers:
        if workers > 1:
            measure(f"{workers} processes", WorkEngine(workers=workers), work, shards, 1)
        measure(f"Ray, {workers} workers", WorkEngine("ray", workers=workers), work, shards, 1)


if __name__ == "__main__":
    main()
