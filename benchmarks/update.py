"""What an update costs against a full build, and whether it gives the same index.

    python benchmarks/update.py OLD_FOLDER NEW_FOLDER

Builds an index of OLD, updates it to NEW, builds NEW from nothing, and compares seconds, chunks and the hits of 500 queries (the
first words of random chunks). Memory is the peak of the whole run.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.index import build
from rag_vs_ft.index.search import Index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--home", type=Path, help="Keep corpus and indexes here (docs, scratch) instead of deleting them.")
    arguments = parser.parse_args()
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = settings.home(arguments.home or folder)
        store.add("docs", str(arguments.old), home=home)
        first = build.build("docs", "docs", build.Recipe(), home)
        print(f"build of OLD:     {first.seconds['total']:7.1f} s, {first.counts.chunks:,} chunks", flush=True)
        changes = store.update("docs", str(arguments.new), home=home).changes
        update = build.update("docs", home)
        full = build.build("scratch", "docs", build.Recipe(), home)
        print(f"documents: {changes}")
        for name, result in (("update", update), ("build of NEW", full)):
            print(f"{name + ':':17} {result.seconds['total']:7.1f} s, {result.counts}, {result.seconds}", flush=True)
        share = update.counts.embedded / full.counts.embedded
        print(f"new texts {share:.1%} of all, time {update.seconds['total'] / full.seconds['total']:.1%} of a full build")
        start = time.perf_counter()
        again = build.update("docs", home)
        print(f"update without a change: {time.perf_counter() - start:.2f} s, published: {again.published}")
        updated, scratch = Index.open("docs", home), Index.open("scratch", home)
        rows = np.random.default_rng(0).choice(len(updated), min(500, len(updated)), replace=False)
        queries = [" ".join(updated.table.chunk(int(row)).text.split()[:12]) or "empty" for row in rows]
        same = sum(
            [(hit.chunk.id, hit.score) for hit in updated.search(query, 10)]
            == [(hit.chunk.id, hit.score) for hit in scratch.search(query, 10)]
            for query in queries
        )
        print(f"identical hits and scores on {same} of {len(queries)} queries")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
