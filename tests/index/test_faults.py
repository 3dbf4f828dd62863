"""What may befall a build or an update, and what is left then: the old generation or the new one, whole, and the work done."""

from __future__ import annotations

import errno
import gc
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import build, dense, generations
from rag_vs_ft.index.build import Recipe
from rag_vs_ft.index.search import Index
from rag_vs_ft.records import Chunk

PAGES = {f"{name}.md": f"# {name}\n\nThe {name} limit is 5 days.\n" for name in ("node", "pool", "vault", "disk")}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    root.mkdir()
    for name, text in PAGES.items():
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def recipe(tiny_embedder) -> Recipe:
    return Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32)


# One process imports everything once and forks for each step that is to be the last.
KILL = textwrap.dedent(
    """
    import json, os, pathlib, shutil, sys
    import faiss, sentence_transformers, torch
    from rag_vs_ft import settings
    from rag_vs_ft.index import build, generations
    from rag_vs_ft.index.search import Index

    root, model, existed = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "update"
    recipe = build.Recipe(embedder=model, precision="fp32", chunk_size=32)
    build.SHARD = 2
    stop = steps = 0

    def counted(owner, name):
        function = getattr(owner, name)
        def step(*args, **kwargs):
            global steps
            steps += 1
            if steps == stop:
                os._exit(9)
            return function(*args, **kwargs)
        setattr(owner, name, step)

    def run(home, log):
        encode = build.Embedder.encode
        def noted(self, texts, tell=None):
            with log.open("a") as file:
                file.writelines(json.dumps(text) + "\\n" for text in texts)
            return encode(self, texts, tell)
        build.Embedder.encode = noted
        for owner, name in (
            (os, "fsync"), (os, "truncate"), (os, "replace"), (pathlib.Path, "replace"), (pathlib.Path, "mkdir"),
            (pathlib.Path, "unlink"), (shutil, "rmtree"), (build.Embedder, "encode"), (build.lexical, "build"),
            (build.dense, "build"),
        ):
            counted(owner, name)
        home = settings.home(home)
        build.update("docs", home) if existed else build.build("docs", "docs", recipe, home)

    def forked(home, log, at):
        global stop
        child = os.fork()
        if child == 0:
            stop = at
            try:
                run(home, log)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def look(home):
        folder = settings.home(home).indexes / "docs"
        if not generations.list_indexes(settings.home(home)):
            return "none", []
        generation = generations.current(folder)
        index = Index(generation)
        hits = index.search("limit", 10, retriever="bm25")
        return generation.name, [*generations.verify(generation), *([] if hits else ["no hits"])]

    for at in range(1, 200):
        home, log = root.with_name(f"home-{at}"), root.with_name(f"log-{at}")
        shutil.copytree(root, home)
        code = forked(home, log, at)
        name, faults = look(home)
        again = forked(home, log, -1)
        last, more = look(home)
        embedded = [json.loads(line) for line in log.read_text().splitlines()]
        left = sorted(path.name for path in (home / "indexes" / "docs").iterdir())
        files = {name: file.sha256 for name, file in generations.current(home / "indexes" / "docs").manifest.files.items()}
        print(json.dumps([code, name, faults, again, last, more, embedded, left, files]), flush=True)
        shutil.rmtree(home)
        if code == 0:
            break
    """
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["build", "update"])
def test_killed_at_any_step_the_old_or_the_new_generation_answers_and_the_next_run_goes_on(
    home, folder, recipe, tiny_embedder, what
) -> None:
    store.add("docs", str(folder), home=home)
    new = set(PAGES)
    if what == "update":
        build.build("docs", "docs", recipe, home)
        new = {"pool.md", "disk.md", "key.md"}
        for name in new:
            (folder / name).write_text(f"# {name}\n\nAnother {name} limit.\n", encoding="utf-8")
        (folder / "node.md").unlink()
        store.update("docs", home=home)
    command = [sys.executable, "-c", KILL, str(home.root), tiny_embedder, what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    before, after = ("none", "gen-000001") if what == "build" else ("gen-000001", "gen-000002")
    assert len(runs) > 15 and runs[-1][0] == 0 and {run[0] for run in runs[:-1]} == {9}, done.stderr
    assert {run[1] for run in runs} == {before, after}
    for _, _, faults, again, last, more, embedded, left, files in runs:
        assert (faults, again, more) == ([], 0, []), done.stderr
        # Killed between the new generation and the pointer to it, an update writes the next one from the vectors that were kept.
        assert last == after or (what == "update" and last == "gen-000003")
        # Only what was being embedded when the process died is embedded again: one shard.
        assert len(set(embedded)) == len(new) and len(embedded) <= len(new) + 2
        assert files == runs[-1][-1]
        assert set(left) <= {"CURRENT", "lock", "lock.holder", "gen-000001", "gen-000002", "gen-000003"}, left
    assert sum(len(embedded := run[6]) > len(set(embedded)) for run in runs) < len(runs) / 2


@pytest.mark.parametrize("kind", dense.KINDS)
def test_a_flipped_byte_in_any_file_is_found_and_named(home, folder, recipe, monkeypatch, kind) -> None:
    monkeypatch.setattr(dense, "kind_for", lambda rows: kind)
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    parts = (f"## {a}\n\nThe {a} {b} {c} limit." for a in numbers for b in numbers for c in numbers[:3])
    (folder / "many.md").write_text("# Many\n\n" + "\n\n".join(parts), encoding="utf-8")
    store.add("docs", str(folder), home=home)
    generation = build.build("docs", "docs", recipe, home).generation
    names = set(generation.manifest.files)
    assert {"faiss.index", "chunks.arrow", "documents.arrow", "bm25/data.csc.index.npy"} <= names
    assert ("vectors.npy" in names) == (kind == "ivfpq")
    for name in names:
        path = generation.folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert generations.verify(generation) == [f"{path}: its content has changed since it was built"]
        path.write_bytes(whole[:-1])
        with pytest.raises(UserError, match="no generation of index 'docs' is whole"):
            Index.open("docs", home)
        path.write_bytes(whole)
    assert generations.verify(generation) == []


@pytest.mark.parametrize("step", ["vectors", "chunks", "faiss"])
def test_a_full_disk_is_said_and_leaves_the_old_generation(home, folder, recipe, monkeypatch, step) -> None:
    store.add("docs", str(folder), home=home)
    build.build("docs", "docs", recipe, home)
    (folder / "key.md").write_text("# Key\n\nThe key limit.\n", encoding="utf-8")
    store.update("docs", home=home)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_for_faiss(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Error in WriteMmap: No space left on device")

    with monkeypatch.context() as patch:
        if step == "vectors":
            patch.setattr("rag_vs_ft.files.os.fsync", full)
        elif step == "chunks":
            patch.setattr("pyarrow.RecordBatchFileWriter.write_batch", full)
        else:
            patch.setattr("faiss.write_index", full_for_faiss)
        with pytest.raises(UserError, match="No space left on device") as caught:
            build.update("docs", home)
    assert "is kept" in caught.value.hint
    assert generations.current(home.indexes / "docs").name == "gen-000001"
    assert not list((home.indexes / "docs").glob("*.tmp"))
    assert build.update("docs", home).generation.name == "gen-000002"


def shorten(vectors: Path, keys: Path) -> None:
    """A process that dies while it writes leaves part of a row; keys come last, so what they name is whole."""
    keys.write_bytes(keys.read_bytes()[:-5])
    vectors.write_bytes(vectors.read_bytes() + b"abc")


def flip(vectors: Path, keys: Path) -> None:
    """A disk that fails changes a number in the third vector of four."""
    whole = vectors.read_bytes()
    at = 2 * 32 * 2 + 7
    vectors.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


@pytest.mark.parametrize(("harm", "again"), [(shorten, 1), (flip, 2)])
def test_what_is_damaged_in_the_store_of_a_killed_build_is_embedded_again(
    home, folder, recipe, monkeypatch, caplog, harm, again
) -> None:
    store.add("docs", str(folder), home=home)

    def dies(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rag_vs_ft.index.lexical.build", dies)
        with pytest.raises(KeyboardInterrupt):
            build.build("docs", "docs", recipe, home)
    (vectors,) = (home.indexes / "docs" / "work").rglob("vectors")
    (keys,) = (home.indexes / "docs" / "work").rglob("keys")
    assert (vectors.stat().st_size, keys.stat().st_size) == (4 * 2 * 32, 4 * 32)
    harm(vectors, keys)
    embedded: list[str] = []
    encode = build.Embedder.encode
    monkeypatch.setattr(
        build.Embedder, "encode", lambda self, texts, tell=None: embedded.extend(texts) or encode(self, texts, tell)
    )
    build.build("docs", "docs", recipe, home)
    assert len(embedded) == again and ("row 2 and all after it" in caplog.text) == (harm is flip)
    build.build("fresh", "docs", recipe, home)
    first, second = (Index.open(name, home).manifest.files for name in ("docs", "fresh"))
    assert first == second


def test_a_build_streams_its_chunks(home, tmp_path, recipe, monkeypatch) -> None:
    """800 chunks go through the build, and never more than some batches of them are in memory."""
    monkeypatch.setattr("rag_vs_ft.index.table._BATCH", 16)
    monkeypatch.setattr(build, "SHARD", 16)
    root = tmp_path / "many"
    root.mkdir()
    for number in range(40):
        sections = "\n\n".join(f"## Part {part}\n\nThe {number} {part} limit." for part in range(20))
        (root / f"{number:02}.md").write_text(f"# Page\n\n{sections}\n", encoding="utf-8")
    store.add("docs", str(root), home=home)
    alive: dict[str, int] = {}

    def count(stage: str, done: int, total: int) -> None:
        if stage != "embed" or done % 80 == 0:
            chunks = sum(type(thing) is Chunk or (type(thing) is dict and "document_id" in thing) for thing in gc.get_objects())
            alive[stage] = max(alive.get(stage, 0), chunks)

    assert build.build("docs", "docs", recipe, home, count).counts.chunks == 800
    assert set(alive) == {"chunk", "embed", "bm25", "documents", "faiss"} and max(alive.values()) < 100
