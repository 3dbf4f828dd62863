"""The scores that BM25 gives to each term in each row, computed by parts: the files that bm25s writes, in bounded memory.

bm25s holds the terms of all rows and three arrays of all their scores at once. Here blocks of rows are counted into a file, and
then each range of terms is read from all blocks, scored and written. In memory: a number for each row and for each term, a
block, and a part of the scores.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rag_vs_ft import files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DATA, INDICES, INDPTR = "data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy"
_ROWS = 8_192
"""Rows in a block."""
_PART = 4_000_000
"""Scores that are computed at once, about: never less than a term has."""


@contextmanager
def counted(folder: Path, rows: Iterable[array[int]]) -> Iterator[Postings]:
    """Count `rows`, each the numbers of its terms from 0, into a file in `folder` that goes when the block ends."""
    import numpy as np

    path, ends, lengths = folder / "postings.tmp", [0], array("i")
    try:
        with files.writing(path) as out:
            source = iter(rows)
            while block := list(islice(source, _ROWS)):
                found = _counted(block, len(lengths))
                lengths.extend(map(len, block))
                out.write(found.tobytes())
                ends.append(ends[-1] + len(found))
            if lengths and not ends[-1]:
                # bm25s cannot load a corpus without terms, so its first row gets one.
                out.write(np.array([(0, 0, 1)], dtype=_posting()).tobytes())
                lengths[0], ends[-1] = 1, 1
        yield Postings(path, tuple(ends), np.asarray(lengths, dtype=np.int64))
    finally:
        files.remove(path)


@dataclass(frozen=True, slots=True)
class Postings:
    """How often each row has each term, in a file: blocks of rows, each in order of terms; and the terms of each row."""

    path: Path
    ends: tuple[int, ...]
    lengths: NDArray[np.int64]

    def write_scores(self, folder: Path, k1: float, b: float) -> None:
        """Write the three arrays of bm25s into `folder`: Lucene's BM25 by bm25s' own arithmetic, equal to the last bit."""
        import numpy as np

        every = np.memmap(self.path, dtype=_posting(), mode="r")
        blocks = [every[start:end] for start, end in pairwise(self.ends)]
        held = np.zeros(1, dtype=np.int64)
        for block in blocks:
            more = np.bincount(block["term"])
            held = np.pad(held, (0, max(0, len(more) - len(held))))
            held[: len(more)] += more
        ends = np.concatenate([[0], np.cumsum(held)])
        # Each number of rows once, and by `math`: the last bit of numpy's logarithm may differ.
        frequencies, of_term = np.unique(held, return_inverse=True)
        total = len(self.lengths)
        idf = np.array([math.log(1 + (total - df + 0.5) / (df + 0.5)) for df in frequencies.tolist()], dtype=np.float32)[of_term]
        norms = k1 * ((1 - b) + b * self.lengths / self.lengths.mean())
        files.write_array(folder / INDPTR, ends)
        with files.writing(folder / DATA) as data, files.writing(folder / INDICES) as indices:
            _begin(data, "<f4", int(ends[-1]))
            _begin(indices, "<i4", int(ends[-1]))
            for start, end in _parts(ends):
                part = np.concatenate([block[slice(*np.searchsorted(block["term"], (start, end)))] for block in blocks])
                part = part[np.argsort(part["term"], kind="stable")]  # rows are in order already
                counts = part["count"].astype(np.float32)
                scores = idf[part["term"]] * (counts / (norms[part["row"]] + counts))
                data.write(scores.astype(np.float32).tobytes())
                indices.write(part["row"].tobytes())


def _posting() -> np.dtype[Any]:
    import numpy as np

    return np.dtype([("term", "<i4"), ("row", "<i4"), ("count", "<i4")])


def _counted(block: list[array[int]], first: int) -> NDArray[Any]:
    """The postings of a block of rows, by term and then by row."""
    import numpy as np

    terms = np.concatenate([np.asarray(row, dtype=np.int64) for row in block])
    row = np.repeat(np.arange(len(block)), [len(row) for row in block])
    keys, counts = np.unique(terms * _ROWS + row, return_counts=True)
    found = np.empty(len(keys), dtype=_posting())
    found["term"], found["row"], found["count"] = keys // _ROWS, keys % _ROWS + first, counts
    return found


def _parts(ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of terms with about `_PART` scores each."""
    import numpy as np

    wanted = np.arange(_PART, int(ends[-1]), _PART)
    bounds = np.unique([0, *np.searchsorted(ends, wanted), len(ends) - 1])
    return pairwise(bounds.tolist())


def _begin(file: BinaryIO, kind: str, length: int) -> None:
    """The head of a .npy file."""
    import numpy as np

    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": (length,)})
