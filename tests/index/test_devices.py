"""An index belongs to no device: what a GPU built is searched, updated and verified on a CPU, and the other way round.

The GPU is a pretended one: torch's half precision in batches, computed on the CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from rag_vs_ft.corpus import store
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import build, embedding, generations, lexical
from rag_vs_ft.index.build import Recipe
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.search import Index

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RAG_VS_FT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    root.mkdir()
    for name in NUMBERS:
        sections = "\n\n".join(f"## {other}\n\nThe {name} {other} limit." for other in NUMBERS)
        (root / f"{name}.md").write_text(f"# {name}\n\n{sections}\n", encoding="utf-8")
    return root


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that torch has a GPU, or that it has none."""

    def pretend(there: bool) -> None:
        monkeypatch.setattr(embedding, "accelerator", lambda: "cpu" if there else "")

    return pretend


def test_auto_is_half_precision_on_a_gpu(tiny_embedder, gpu) -> None:
    gpu(True)
    identity = Embedder(tiny_embedder).id
    assert (identity.precision, identity.engine) == ("fp16", "torch")


@pytest.mark.parametrize("built_on_gpu", [True, False])
@pytest.mark.parametrize("precision", ["fp16", "fp32", "int8"])
def test_an_index_is_searched_updated_and_verified_on_another_device(
    home, folder, tiny_embedder, gpu, built_on_gpu, precision
) -> None:
    store.add("docs", str(folder), home=home)
    gpu(built_on_gpu)
    first = build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision=precision, chunk_size=32), home)
    before, first_hit = (Index.open("docs", home).search("two five limit", 10, retriever=way) for way in ("dense", "hybrid"))

    gpu(not built_on_gpu)
    opened = Index.open("docs", home)
    again = opened.search("two five limit", 10, retriever="dense")
    assert [hit.score for hit in again] == pytest.approx([hit.score for hit in before], abs=2e-3)
    assert opened.search("two five limit", 1)[0].chunk == first_hit[0].chunk
    (folder / "two.md").write_text("# two\n\nThe storage scale zone limit.\n", encoding="utf-8")
    store.update("docs", home=home)
    result = build.update("docs", home)
    assert result.published and result.counts.embedded == 1 and result.counts.reused == result.counts.unique_texts - 1
    assert result.generation.manifest.inputs.embedder == first.generation.manifest.inputs.embedder
    assert [generations.verify(one) for one in generations.all_generations(home.indexes / "docs")] == [[], []]
    assert Index.open("docs", home).search("storage scale zone", 1, retriever="bm25")[0].chunk.document_id == "two.md"
    # What was embedded here is what is embedded there, up to the digits that half precision keeps.
    build.build("fresh", "docs", Recipe(embedder=tiny_embedder, precision=precision, chunk_size=32), home)
    updated, fresh = (Index.open(name, home).dense.vectors.astype(np.float32) for name in ("docs", "fresh"))
    np.testing.assert_allclose(updated, fresh, atol=2e-3)
    assert not build.update("docs", home).published


def test_every_score_is_explained_at_any_depth(home, folder, tiny_embedder, monkeypatch) -> None:
    monkeypatch.setattr("rag_vs_ft.index.search.DEPTH", 20)
    store.add("docs", str(folder), home=home)
    build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    index = Index.open("docs", home)
    for fusion in ("sum", "rrf"):
        hits = index.search("two five limit", 60, fusion=fusion)
        assert len(hits) == 60
        for hit in hits:
            said = index.explain("two five limit", hit, fusion=fusion, k=60)["score"]
            parts, _, total = said.removeprefix(f"{fusion}: ").partition(" = ")
            values = [
                float(part.split("*")[0]) * float(part.split("*")[1])
                if "*" in part
                else float(part.split("/")[0]) / sum(map(int, part.split("/")[1].strip("()").split("+")))
                for part in parts.split(" + ")
            ]
            assert sum(values) == pytest.approx(hit.score, abs=1e-3) and float(total) == pytest.approx(hit.score, abs=1e-6)


def test_eight_threads_get_what_one_gets_and_everything_is_loaded_once(home, folder, tiny_embedder, monkeypatch) -> None:
    store.add("docs", str(folder), home=home)
    build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    queries = [f"{one} {other} limit" for one in NUMBERS for other in NUMBERS[:4]]
    alone = Index.open("docs", home)
    expected = {query: [(hit.chunk.id, hit.score) for hit in alone.search(query, 5)] for query in queries}
    loaded: list[str] = []
    for owner, name in ((embedding, "OnnxSession"), (lexical, "_Bm25s")):
        made = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, made=made, name=name: loaded.append(name) or made(*args))
    index = Index.open("docs", home)
    failures: list[str] = []
    start = threading.Barrier(8)

    def ask(shift: int) -> None:
        start.wait()
        for query in queries[shift:] + queries[:shift]:
            if [(hit.chunk.id, hit.score) for hit in index.search(query, 5)] != expected[query]:
                failures.append(query)

    threads = [threading.Thread(target=ask, args=(5 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(loaded) == ["OnnxSession", "_Bm25s"]


READ_ONLY = textwrap.dedent(
    """
    import ctypes, sys
    # Root without the right to write what belongs to others (CAP_DAC_OVERRIDE), and with the right to read it.
    keep = ~(1 << 1) & 0xFFFFFFFF
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(keep, keep, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.capget(header, data)
    data[0] &= keep
    data[1] &= keep
    assert libc.capset(header, data) == 0, ctypes.get_errno()
    from rag_vs_ft.cli import main
    main()
    """
)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to another user")
def test_a_home_of_another_user_is_listed_searched_and_verified_and_says_why_it_is_not_written(
    home, folder, tiny_embedder
) -> None:
    store.add("docs", str(folder), home=home)
    build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    (folder / "two.md").write_text("# two\n\nThe storage limit.\n", encoding="utf-8")
    store.update("docs", home=home)
    build.update("docs", home)
    (folder / "two.md").write_text("# two\n\nThe backup limit.\n", encoding="utf-8")
    store.update("docs", home=home)
    for path in (home.root, *home.root.rglob("*")):
        os.chown(path, 65534, 65534)
        path.chmod(0o755 if path.is_dir() else 0o644)

    def run(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", READ_ONLY, *words, "--home", str(home.root)]
        environment = os.environ | {"RAG_VS_FT_CACHE": str(home.root.parent / "cache"), "HOME": "/nonexistent"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("index", "list")
    assert code == 0 and "gen-000002" in out, err
    assert run("index", "verify", "docs")[0] == 0
    code, out, err = run("search", "storage limit", "--index", "docs", "--retriever", "bm25")
    assert code == 0 and "storage" in out, err
    for verb in (
        ("index", "update", "docs"),
        ("index", "rollback", "docs"),
        ("index", "build", "docs", "--embedder", tiny_embedder),
    ):
        code, out, err = run(*verb)
        assert code == 2 and "ermission" in err and str(home.indexes / "docs") in err, (verb, err)
    assert generations.current(home.indexes / "docs").name == "gen-000002"


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_full_disk_at_a_rollback_leaves_the_old_state(home, folder, tiny_embedder, monkeypatch, step) -> None:
    store.add("docs", str(folder), home=home)
    build.build("docs", "docs", Recipe(embedder=tiny_embedder, precision="fp32", chunk_size=32), home)
    (folder / "two.md").write_text("# two\n\nThe storage limit.\n", encoding="utf-8")
    store.update("docs", home=home)
    build.update("docs", home)
    place = home.indexes / "docs"
    calls = 0
    fsync = os.fsync

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch, generations.building(place):
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            generations.rollback(place)
    assert generations.current(place).name == "gen-000002"
    with generations.building(place):
        assert generations.rollback(place).name == "gen-000001"
    assert generations.current(place).name == "gen-000001"
    with generations.building(place), pytest.raises(UserError, match="no whole generation before"):
        generations.rollback(place)
