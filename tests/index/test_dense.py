from __future__ import annotations

import gc
import hashlib
from pathlib import Path

import faiss
import numpy as np
import pytest

from rag_vs_ft.errors import CheckFailed
from rag_vs_ft.index import dense


@pytest.fixture(scope="module")
def vectors():
    """4,000 unit vectors in 200 groups of near neighbours, as documents have them."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 1, 64)) + 0.7 * rng.normal(size=(200, 20, 64))
    rows = rng.permutation(rows.reshape(-1, 64))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def queries(vectors):
    rows = vectors[::80].astype(np.float32) + 0.05 * np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module", params=dense.KINDS)
def built(request, vectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    assert dense.build(folder, vectors, 1, request.param) == request.param
    return folder, dense.Dense(folder, 1)


@pytest.mark.parametrize("count", [2**60, 2**40, -1])
@pytest.mark.parametrize("kind", ["flat", "hnsw"])  # ivfpq searches its lists, which have lengths of their own
def test_a_header_that_promises_other_rows_than_there_are_is_refused(kind, count, vectors, tmp_path) -> None:
    dense.build(tmp_path, vectors[:300], 1, kind)
    path = tmp_path / dense.INDEX
    whole = path.read_bytes()
    at = whole.index((300).to_bytes(8, "little"))
    path.write_bytes(whole[:at] + count.to_bytes(8, "little", signed=True) + whole[at + 8 :])
    with pytest.raises(CheckFailed, match=r"faiss\.index is damaged"):
        dense.Dense(tmp_path, 1).search(np.ones(64, dtype=np.float32), 5)


def test_no_object_is_made_of_an_array_of_objects(vectors, tmp_path) -> None:
    dense.build(tmp_path, vectors[:300], 1, "flat")
    np.save(tmp_path / dense.VECTORS, np.array([Path("made")], dtype=object), allow_pickle=True)
    with pytest.raises(CheckFailed, match=f"{dense.VECTORS} is damaged"):
        _ = dense.Dense(tmp_path, 1).vectors


def nearest(vectors, query, rows, k):
    return rows[np.argsort(-(vectors[rows].astype(np.float32) @ query), kind="stable")[:k]]


def test_the_kind_follows_from_the_number_of_rows() -> None:
    sizes = [1, dense.FLAT_UP_TO, dense.FLAT_UP_TO + 1, dense.HNSW_UP_TO, dense.HNSW_UP_TO + 1]
    assert [dense.kind_for(rows) for rows in sizes] == ["flat", "flat", "hnsw", "hnsw", "ivfpq"]


def test_every_kind_finds_what_comparing_all_finds(built, vectors, queries) -> None:
    _, index = built
    everything = np.arange(len(vectors))
    shared = 0
    for query in queries:
        found, scores = index.search(query, 300)
        assert len(found) == len(set(found.tolist())) == 300 and (np.diff(scores) <= 0).all()
        np.testing.assert_allclose(scores, vectors[found].astype(np.float32) @ query, atol=1e-5)
        shared += len(set(found[:10]) & set(nearest(vectors, query, everything, 10)))
    assert shared / 500 >= (1.0 if index.folder.name.startswith("flat") else 0.97)


@pytest.mark.parametrize("compared", [True, False])
@pytest.mark.parametrize("every", [3, 40])
def test_a_filter_keeps_to_its_rows_and_finds_the_best_of_them(built, vectors, queries, monkeypatch, every, compared) -> None:
    _, index = built
    rows = np.arange(1, len(vectors), every)
    if not compared:  # as with more rows than are compared one by one
        monkeypatch.setattr(dense, "EXACT_ROWS", 0)
    shared = 0
    for query in queries:
        found, _ = index.search(query, 50, rows)
        assert set(found) <= set(rows) and len(found) == 50
        shared += len(set(found[:10]) & set(nearest(vectors, query, rows, 10)))
    assert shared / 500 >= (1.0 if compared else 0.95)


def test_odd_depths_and_filters(built, vectors, queries) -> None:
    _, index = built
    assert len(index.search(queries[0], 10_000, np.array([5, 7]))[0]) == 2
    assert [len(part) for part in index.search(queries[0], 5, np.array([], dtype=np.int64))] == [0, 0]
    assert len(index.search(queries[0], 1)[0]) == 1


def test_vectors_come_back_as_they_went_in_and_are_mapped(built, vectors) -> None:
    folder, index = built
    np.testing.assert_array_equal(index.vectors, vectors)
    alone = dense.Dense(folder, 1).vectors  # nothing else holds the index
    gc.collect()
    np.testing.assert_array_equal(alone, vectors)
    assert alone.dtype == np.float16 and not alone.flags.writeable
    assert (folder / "vectors.npy").exists() == folder.name.startswith("ivfpq")


def test_the_same_vectors_give_the_same_files_with_more_threads(built, vectors, tmp_path) -> None:
    folder, _ = built
    kind = next(kind for kind in dense.KINDS if folder.name.startswith(kind))
    dense.build(tmp_path, vectors, 2, kind)
    for path in folder.iterdir():
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256((tmp_path / path.name).read_bytes()).digest()


def test_equal_vectors_rank_by_row_after_re_ranking(vectors, tmp_path) -> None:
    twins = np.concatenate([vectors, vectors[:100]])
    dense.build(tmp_path, twins, 1, "ivfpq")
    found, scores = dense.Dense(tmp_path, 1).search(vectors[3].astype(np.float32), 5)
    assert found[:2].tolist() == [3, 4003] and scores[0] == scores[1]


def test_a_width_that_eight_does_not_divide(tmp_path) -> None:
    rows = np.random.default_rng(2).normal(size=(300, 27)).astype(np.float16)
    dense.build(tmp_path, rows, 1, "ivfpq")
    assert len(dense.Dense(tmp_path, 1).search(rows[0].astype(np.float32), 5)[0]) == 5


def test_an_index_of_single_precision_is_still_read(vectors, queries, tmp_path) -> None:
    """Version 0.1.0 wrote these."""
    whole = vectors.astype(np.float32)
    old = faiss.IndexFlatIP(64)
    old.add(whole)
    faiss.write_index(old, str(tmp_path / "faiss.index"))
    index = dense.Dense(tmp_path, 1)
    np.testing.assert_array_equal(index.vectors, whole)
    rows = np.arange(0, 4000, 7)
    found, _ = index.search(queries[0], 10, rows)
    assert found.tolist() == nearest(whole, queries[0], rows, 10).tolist()
    assert found.tolist() == index._exact(queries[0], 10, rows)[0].tolist()


def test_where_faiss_cannot_map_a_file_it_is_read(built, queries, monkeypatch) -> None:
    folder, mapped = built
    read = faiss.read_index

    def read_on_a_mac(path: str, flags: int):
        if flags & faiss.IO_FLAG_MMAP_IFC:
            raise RuntimeError("Not implemented")
        return read(path, flags)

    monkeypatch.setattr(faiss, "read_index", read_on_a_mac)
    monkeypatch.setattr(dense.sys, "platform", "darwin")
    monkeypatch.delattr(dense.os, "posix_fadvise", raising=False)
    index = dense.Dense(folder, 1)
    for query in queries[:5]:
        for there, here in zip(index.search(query, 20), mapped.search(query, 20), strict=True):
            np.testing.assert_array_equal(there, here)
    np.testing.assert_array_equal(index.vectors, mapped.vectors)


def test_a_cold_file_is_asked_for_from_end_to_end_in_pieces(tmp_path, monkeypatch) -> None:
    """Linux reads only the beginning of a range that is longer than its read-ahead, 128 KiB at the least."""
    path = tmp_path / "index"
    path.write_bytes(bytes(300_000))
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(dense.os, "posix_fadvise", lambda _, start, size, advice: asked.append((start, size)), raising=False)
    monkeypatch.setattr(dense.os, "POSIX_FADV_WILLNEED", 3, raising=False)
    dense._read_ahead(path)
    assert asked == [(0, 131_072), (131_072, 131_072), (262_144, 131_072)]


def test_cells_lie_where_the_vectors_are(monkeypatch):
    draw = np.random.default_rng(1)
    true = np.eye(4, 16, dtype=np.float32)
    of = draw.integers(4, size=600)
    rows = true[of] + draw.normal(0, 0.05, (600, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for known in ((), ("amx_bf16",)):  # in single precision, and in bfloat16
        monkeypatch.setattr(dense, "instructions", lambda known=known: known)
        centres = dense._centres(rows, 16, 1)
        cells = dense._cells_of(rows, centres, 1)
        assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
        assert np.array_equal((centres[cells] @ true.T).argmax(axis=1), of)
        assert np.mean(np.sum(rows * centres[cells], axis=1)) > 0.97
        # No other cell is nearer, but for what bfloat16 cannot tell.
        assert np.all(np.sum(rows * centres[cells], axis=1) > (rows @ centres.T).max(axis=1) - 0.01)
        assert np.array_equal(dense._cells_of(rows, centres, 2), cells)
