"""Readers while the index is updated under them: no error, and no answer of two generations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.index import build, generations
from rag_vs_ft.index.search import Index

SWITCHES = 30
PAGES = 6
READER = """
import json, sys
from pathlib import Path
from rag_vs_ft import settings
from rag_vs_ft.index.search import Index
home, stop = settings.home(Path(sys.argv[1])), Path(sys.argv[2])
print("ready", flush=True)
seen, asked, mixed = set(), 0, 0
while not stop.exists():
    hits = Index.open("docs", home).search("edition limit", 6, retriever="bm25")
    editions = {hit.chunk.text.split("edition ")[1].split()[0] for hit in hits}
    mixed += len(editions) != 1 or len(hits) != 6
    seen |= editions
    asked += 1
print(json.dumps([asked, mixed, len(seen)]))
"""


def write(root: Path, edition: int) -> None:
    root.mkdir(exist_ok=True)
    for number in range(PAGES):
        (root / f"{number}.md").write_text(f"# Page {number}\n\nThe limit of edition {edition} is {edition} days.\n")


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_threads_and_processes_read_while_generations_change(tmp_path: Path, home: settings.Home, tiny_embedder: str) -> None:
    write(tmp_path / "docs", 0)
    store.add("docs", str(tmp_path / "docs"), home=home)
    build.build("docs", "docs", build.Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    stop, done = tmp_path / "stop", threading.Event()
    failures: list[str] = []
    asked = [0] * 8
    seen: set[str] = set()

    def ask(thread: int) -> None:
        while not done.is_set():
            try:
                hits = Index.open("docs", home).search("edition limit", PAGES, retriever="bm25" if thread % 2 else "hybrid")
                editions = {hit.chunk.text.split("edition ")[1].split()[0] for hit in hits}
                if len(editions) != 1 or len(hits) != PAGES:
                    failures.append(f"mixed: {editions}")
                seen.update(editions)
                asked[thread] += 1
            except Exception as error:
                failures.append(repr(error))

    command = [sys.executable, "-c", READER, str(home.root), str(stop)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    for reader in readers:
        assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for edition in range(1, SWITCHES + 1):
        write(tmp_path / "docs", edition)
        store.update("docs", home=home)
        assert build.update("docs", home).published
        # The generation before is kept: a reader has until the second switch to finish, and a busy machine is slow.
        time.sleep(0.3)
    done.set()
    stop.touch()
    for thread in threads:
        thread.join()
    others = [json.loads(reader.communicate()[0]) for reader in readers]
    assert not failures and all(count > 0 for count in asked) and len(seen) > 5
    assert all(count > 0 and mixed == 0 and editions > 1 for count, mixed, editions in others)
    assert generations.current(home.indexes / "docs").name == f"gen-{SWITCHES + 1:06d}"
    assert len(list((home.indexes / "docs").glob("gen-*"))) == generations.KEEP
    print(f"{sum(asked)} questions of 8 threads, {sum(count for count, *_ in others)} of 2 processes, {SWITCHES} switches")
