"""Which documents are trained on and which are held out, so that no text stands on both sides.

Documentation repeats itself: a page per product version, pages that include the same file. Documents that share most of the
smaller one's text go into one cluster, and a cluster goes to one side as a whole. What is still shared between the sides (a
short include in pages that are otherwise different) is measured and reported.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_vs_ft.errors import UserError
from rag_vs_ft.language import words
from rag_vs_ft.records import Document
from rag_vs_ft.settings import SEED, VALIDATION_FRACTION

if TYPE_CHECKING:
    import numpy as np

SHINGLE_WORDS = 8
"""Words in a row that count as shared text when two documents have them."""
NEAR_DUPLICATE = 0.5
"""Share of the smaller document's shingles that the larger one must have for the two to be near duplicates."""
MAX_SHINGLES = 8_000_000
"""Above this many shingles a fixed fraction of them, chosen by hash, stands for all (FracMinHash: Irber et al., 2022)."""


@dataclass(frozen=True, slots=True)
class Split:
    """Ids of the documents on each side, in order of id.

    `clusters` counts groups of near duplicates (a document alone is one), `largest_cluster` the documents of the largest.
    `shared` is the share of the validation documents' runs of `SHINGLE_WORDS` words that training documents also have.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    clusters: int
    largest_cluster: int
    shared: float


def split_documents(documents: Iterable[Document], *, fraction: float, seed: int) -> Split:
    """Hold out about `fraction` of the text (by characters), whole clusters of near duplicates at a time.

    The order in which clusters are taken depends on `seed` and on the documents' ids alone. Clusters so large that they would
    take more than twice what is still wanted stay in training. Raises UserError when the documents are all near duplicates of
    one another or `fraction` is not between 0 and 1.
    """

    if not 0 < fraction < 1:
        raise UserError(f"validation_fraction is {fraction}", "it must be between 0 and 1, such as 0.05")
    ids: list[str] = []
    sizes: list[int] = []
    sketches: list[np.ndarray] = []
    for document in documents:
        ids.append(document.id)
        sizes.append(len(document.text))
        sketches.append(shingle_hashes(document.text))
    if not ids:
        raise UserError("the corpus is empty: there is nothing to train on", "add documents: rag-vs-ft corpus add NAME SOURCE")
    labels = clusters_of(sketches)
    members: dict[int, list[int]] = {}
    for row, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(row)
    if len(members) < 2:
        why = "there is only one" if len(ids) == 1 else f"the {len(ids)} documents are all near duplicates of one another"
        raise UserError(
            f"cannot hold out validation documents: {why}",
            "add more documents (a single book: use the source book:FILE, which splits it into chapters)",
        )
    order = sorted(members.values(), key=lambda rows: zlib.crc32(f"{seed} {min(ids[row] for row in rows)}".encode()))
    wanted = fraction * sum(sizes)
    held: set[int] = set()
    for rows in order:
        size = sum(sizes[row] for row in rows)
        if wanted > 0 and size <= 2 * wanted:
            held.update(rows)
            wanted -= size
    if not held:  # every cluster is larger than what was wanted: the smallest is the closest to it
        held.update(min(order, key=lambda rows: sum(sizes[row] for row in rows)))
    train = [row for row in range(len(ids)) if row not in held]
    if not train:
        raise UserError(
            f"validation_fraction={fraction} holds out all {len(ids)} documents and leaves none to train on",
            "use a smaller one, such as 0.05",
        )
    validation = sorted(held)
    return Split(
        train=tuple(sorted(ids[row] for row in train)),
        validation=tuple(sorted(ids[row] for row in validation)),
        clusters=len(members),
        largest_cluster=max(len(rows) for rows in members.values()),
        shared=_shared([sketches[row] for row in validation], [sketches[row] for row in train]),
    )


def default_split(documents: Iterable[Document]) -> Split:
    """The split that training makes by its default settings: what a question or a score must keep to that has to do with it."""
    return split_documents(documents, fraction=VALIDATION_FRACTION, seed=SEED)


def shingle_hashes(text: str) -> np.ndarray:
    """The distinct runs of `SHINGLE_WORDS` words of `text` as sorted uint64 hashes; a shorter text is one run."""
    import numpy as np

    found = words(text)
    return np.unique(run_hashes(found, min(SHINGLE_WORDS, len(found))))


def run_hashes(words: Sequence[str], width: int) -> np.ndarray:
    """A uint64 hash of each run of `width` words, in their order; none where there are fewer words."""
    import numpy as np

    hashed = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)
    if not 0 < width <= len(hashed):
        return np.empty(0, dtype=np.uint64)
    hashes = np.zeros(len(hashed) - width + 1, dtype=np.uint64)
    for position in range(width):  # a polynomial in the word hashes, modulo 2^64
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + hashed[position : position + len(hashes)] + np.uint64(1)
    hashes ^= hashes >> np.uint64(29)
    return hashes * np.uint64(0xBF58476D1CE4E5B9)


def clusters_of(sketches: list[np.ndarray]) -> np.ndarray:
    """A cluster number for each document, given its shingle hashes: near duplicates, and theirs, have the same number."""
    import numpy as np
    from scipy.sparse import coo_matrix, csr_matrix
    from scipy.sparse.csgraph import connected_components

    total = sum(map(len, sketches))
    every = max(1, -(-total // MAX_SHINGLES))
    if every > 1:
        sketches = [sketch[sketch % np.uint64(every) == 0] for sketch in sketches]
    counts = np.array([len(sketch) for sketch in sketches])
    if not counts.sum():
        return np.arange(len(sketches))
    rows = np.repeat(np.arange(len(sketches)), counts)
    _, columns = np.unique(np.concatenate(sketches), return_inverse=True)
    table = csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(len(sketches), int(columns.max()) + 1))
    left: list[np.ndarray] = []
    right: list[np.ndarray] = []
    for start in range(0, len(sketches), 512):  # in blocks: the table of all pairs need not fit into memory
        common = (table[start : start + 512] @ table.T).tocoo()
        pair = common.row + start, common.col
        near = common.data >= NEAR_DUPLICATE * np.minimum(counts[pair[0]], counts[pair[1]])
        left.append(pair[0][near])
        right.append(pair[1][near])
    a, b = np.concatenate(left), np.concatenate(right)
    graph = coo_matrix((np.ones(len(a), dtype=np.int8), (a, b)), shape=(len(sketches), len(sketches)))
    return connected_components(graph, directed=False)[1]


def _shared(these: list[np.ndarray], those: list[np.ndarray]) -> float:
    import numpy as np

    runs = np.unique(np.concatenate(these)) if these else np.empty(0, dtype=np.uint64)
    if not len(runs) or not those:
        return 0.0
    return float(np.isin(runs, np.unique(np.concatenate(those))).mean())
