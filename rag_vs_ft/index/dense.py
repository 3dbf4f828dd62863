"""The vectors of an index under FAISS: inner product, which for unit vectors is the cosine.

One row per chunk, in the order of the chunk table; vectors are kept in half precision. The kind follows from the number of rows:

    flat    every vector is compared: exact
    hnsw    a graph of near neighbours (Malkov and Yashunin, 2018) over the same vectors
    ivfpq   cells of compressed vectors (Jegou, Douze and Schmid, 2011); the best candidates are ranked again by the vectors
            themselves, beside the FAISS file in `vectors.npy`

The same vectors give the same files: cells and codes are learnt with fixed seeds, and the graph is built by one thread.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.index.damage import reading
from rag_vs_ft.index.lazy import loaded_once
from rag_vs_ft.index.processor import instructions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KINDS = ("flat", "hnsw", "ivfpq")
FLAT_UP_TO = 150_000
"""Rows up to which every vector is compared: 34 ms for a million, so 5 ms here."""
HNSW_UP_TO = 500_000
"""Rows up to which a graph is built: a kilobyte of memory for each, it finds less the more there are (0.91 in 1.5 million)."""

LINKS = 32
"""Links of a vector in the graph (M), twice as many on the lowest level."""
EF_BUILD, EF_SEARCH = 80, 128
"""Vectors held while a place in the graph is sought: when it is built, and (at least) when it is searched."""
PROBES = 128
"""Cells that are looked into."""
MOST_CELLS = 4_096
"""Cells at most. Every row is compared with every cell's centre when an index is built, so that with sqrt(rows) cells a build of
10 million would take ten times the time of one of 2 million and not five; a query looks into more codes instead."""
ROUNDS = 10
"""Rounds of k-means in which the cells are learnt."""
RERANKED = 4
"""Candidates from the compressed vectors for each hit that is asked for."""
EXACT_ROWS = 10_000
"""Rows up to which a filtered search of a graph or of cells compares each one: 10 ms, and none is missed."""

INDEX, VECTORS = "faiss.index", "vectors.npy"
_BLOCK = 65_536
_COMPARED = 8_192
"""Rows that are compared with all cells at once."""
_READ = 131_072


def kind_for(rows: int) -> str:
    """The kind of index for this many rows (docs/performance.md, "Size")."""
    return "flat" if rows <= FLAT_UP_TO else "hnsw" if rows <= HNSW_UP_TO else "ivfpq"


def build(folder: Path, vectors: NDArray[np.float16], threads: int, kind: str = "") -> str:
    """Write `vectors` (rows, dimension) and their index into `folder`; returns the kind. Memory: the index and a block of rows.

    `kind`: one of KINDS; empty lets the number of rows decide. "ivfpq" needs 256 rows to learn its codes from.
    """
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(threads)
    rows, dimension = vectors.shape
    kind = kind or kind_for(rows)
    half = faiss.ScalarQuantizer.QT_fp16
    if kind == "flat":
        index = faiss.IndexScalarQuantizer(dimension, half, faiss.METRIC_INNER_PRODUCT)
    elif kind == "hnsw":
        index = faiss.IndexHNSWSQ(dimension, half, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = EF_BUILD, EF_SEARCH
        # With several threads, which of two vectors is linked first would be chance.
        faiss.omp_set_num_threads(1)
    else:
        index = _empty_cells(vectors, threads)
        centres = index.quantizer.reconstruct_n(0, index.nlist)
        files.write_array(folder / VECTORS, vectors)
    for start in range(0, rows, _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK], dtype=np.float32)
        if kind == "ivfpq":
            cells = _cells_of(block, centres, threads)
            index.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(cells))
        else:
            index.add(block)
    try:
        faiss.write_index(index, str(folder / INDEX))
    except RuntimeError as error:  # what FAISS makes of a full disk
        raise OSError(f"{folder / INDEX}: {error}") from error
    faiss.omp_set_num_threads(threads)
    return kind


def _empty_cells(vectors: NDArray[np.float16], threads: int) -> Any:
    """An empty IVF-PQ index, its cells and codes learnt from a sample of `vectors`."""
    import faiss
    import numpy as np

    rows, dimension = vectors.shape
    # 2 to 4 * sqrt(rows) cells, as a power of two; a code byte for eight dimensions.
    cells = max(1, min(2 ** int(np.log2(4 * rows**0.5)), MOST_CELLS, rows // 8))
    codes = next(count for count in range(max(1, dimension // 8), 0, -1) if dimension % count == 0)
    coarse = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQ(coarse, dimension, cells, codes, 8, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.min_points_per_centroid = 1
    # Rows are in the order of hashes, so every n-th is a random sample, and the same one each time.
    sample = np.unique(np.linspace(0, rows - 1, min(rows, max(40 * cells, 65_536)), dtype=np.int64))
    some = np.ascontiguousarray(vectors[sample], dtype=np.float32)
    coarse.add(_centres(some, cells, threads))
    index.train(some)  # the codes alone, since the cells are there
    return index


def _centres(rows: NDArray[np.float32], cells: int, threads: int) -> NDArray[np.float32]:
    """The centres of `cells` cells by spherical k-means (Dhillon and Modha, 2001), from random rows; seeded."""
    import numpy as np

    draw = np.random.default_rng(0)
    centres = rows[np.sort(draw.choice(len(rows), cells, replace=False))]
    for _ in range(ROUNDS):
        cell = _cells_of(rows, centres, threads)
        order = np.argsort(cell, kind="stable")
        filled, starts = np.unique(cell[order], return_index=True)
        centres = rows[draw.choice(len(rows), cells, replace=False)]  # of a cell that nothing is near
        centres[filled] = np.add.reduceat(rows[order], starts, axis=0)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    return centres


def _cells_of(rows: NDArray[np.float32], centres: NDArray[np.float32], threads: int) -> NDArray[np.int64]:
    """The cell of each row: the one whose centre has the largest inner product with it.

    Most of a build, so torch does it, in bfloat16 where the processor has instructions for that. A row between two cells may
    then go to the other one; its code is of its distance to that centre.
    """
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    number = torch.bfloat16 if {"avx512_bf16", "amx_bf16"} & set(instructions()) else torch.float32
    compared = torch.from_numpy(centres).to(number).T.contiguous()
    parts = torch.from_numpy(rows).to(number).split(_COMPARED)
    return np.concatenate([(part @ compared).max(dim=1).indices.numpy() for part in parts])


def _read_ahead(path: Path) -> None:
    """Have the system read the whole file into its cache, in order, mostly while this goes on.

    FAISS announces reads at random, so each page would be a request of its own: 16 s and more instead of 0.5 from a cold disk to
    the first hits of 1.5 million vectors (docs/performance.md).
    """
    if hasattr(os, "posix_fadvise"):  # Linux
        with path.open("rb") as file:
            # Of a longer range Linux reads no more than the beginning.
            for start in range(0, path.stat().st_size, _READ):
                os.posix_fadvise(file.fileno(), start, _READ, os.POSIX_FADV_WILLNEED)


class _Codes:
    """The vectors inside a FAISS index, for numpy; an array made of it keeps the index, and with it the memory, alive."""

    def __init__(self, index: Any, storage: Any) -> None:
        self.index = index
        # Indexes of earlier versions hold single precision.
        number = "<f2" if storage.code_size == 2 * storage.d else "<f4"
        shape, data = (storage.ntotal, storage.d), (int(storage.codes.data()), True)
        self.__array_interface__ = {"version": 3, "typestr": number, "shape": shape, "data": data}


@dataclass(frozen=True)
class Dense:
    """The vectors of one generation, memory-mapped (on a Mac: read) at the first search."""

    folder: Path
    threads: int

    @loaded_once
    def _index(self) -> Any:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        _read_ahead(self.folder / INDEX)
        # The mapping survives the file's replacement; a published file is never written to. FAISS cannot map on a Mac: there the
        # file is read into memory.
        flags = faiss.IO_FLAG_MMAP_IFC if sys.platform in ("linux", "win32") else 0
        with reading(self.folder / INDEX):
            return faiss.read_index(str(self.folder / INDEX), flags)

    @loaded_once
    def vectors(self) -> NDArray[np.floating[Any]]:
        """All vectors as they were added, shape (rows, dimension), memory-mapped."""
        import faiss
        import numpy as np

        if (self.folder / VECTORS).exists():
            with reading(self.folder / VECTORS):
                return np.load(self.folder / VECTORS, mmap_mode="r", allow_pickle=False)
        index = faiss.downcast_index(self._index.storage) if isinstance(self._index, faiss.IndexHNSW) else self._index
        return np.asarray(_Codes(self._index, index)) if index.ntotal else np.zeros((0, index.d), dtype=np.float16)

    def search(
        self, query: NDArray[np.float32], depth: int, rows: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Nearest rows to `query` (dimension,) and their inner products, best first, at most `depth` of them.

        `rows`: only these rows are looked at.
        """
        import faiss
        import numpy as np

        total = self._index.ntotal
        # One query is searched by one thread anyway. With more, the idle ones spin on, and the embedding of the next query waits
        # for their cores: 23 ms a hybrid query instead of 8 (two cores, measured). The setting belongs to the calling thread.
        faiss.omp_set_num_threads(1)
        approximate = isinstance(self._index, (faiss.IndexHNSW, faiss.IndexIVF))
        if rows is not None and (len(rows) == 0 or (approximate and len(rows) <= EXACT_ROWS)):
            return self._exact(query, depth, rows)
        effort, selector = 1.0, None
        if rows is not None:
            mask = np.zeros(total, dtype=bool)
            mask[rows] = True
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            # Of what is visited only this share counts, so that many more are visited.
            effort = total / len(rows)
        again = 1
        if isinstance(self._index, faiss.IndexIVF):
            again = RERANKED
            probes = min(self._index.nlist, round(PROBES * effort))
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        elif isinstance(self._index, faiss.IndexHNSW):
            parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=round(max(EF_SEARCH, depth) * effort))
        else:
            parameters = faiss.SearchParameters(sel=selector)
        wanted = min(depth * again, total)
        if wanted == 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        scores, found = self._index.search(query[None, :].astype(np.float32), wanted, params=parameters)
        valid = found[0] >= 0
        if again > 1:
            return self._exact(query, depth, found[0][valid])
        return found[0][valid], scores[0][valid]

    def _exact(
        self, query: NDArray[np.float32], depth: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best of these rows by their own vectors, ties by row."""
        import numpy as np

        # Row by row, and not as one matrix product: equal vectors then have equal scores wherever they stand.
        scores = np.einsum("ij,j->i", self.vectors[rows].astype(np.float32), query.astype(np.float32))
        best = np.lexsort((rows, -scores))[:depth]
        return rows[best], scores[best]
