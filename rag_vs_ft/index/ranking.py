"""What one leg of a search, or all of them fused, found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows with their ranks (the best is 1) and scores, as arrays: hundreds of tuples a leg were half of a search's Python.

    A row is the place of a passage in its index or a point of a server, which may take all 64 bits without a sign.
    """

    rows: NDArray[np.uint64]
    ranks: NDArray[np.int64]
    scores: NDArray[np.float64]

    @staticmethod
    def of(found: Sequence[tuple[int, int, float]]) -> Ranking:
        """These rows, ranks and scores."""
        import numpy as np

        rows, ranks, scores = zip(*found, strict=True) if found else ((), (), ())
        return Ranking(np.array(rows, np.uint64), np.array(ranks, np.int64), np.array(scores, np.float64))

    @staticmethod
    def in_order(rows: NDArray[Any], scores: NDArray[np.floating[Any]]) -> Ranking:
        """Rows that stand in the order of their ranks."""
        import numpy as np

        return Ranking(rows.astype(np.uint64), np.arange(1, len(rows) + 1), scores.astype(np.float64))

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, count: int) -> Ranking:
        """The first `count` of them."""
        return Ranking(self.rows[:count], self.ranks[:count], self.scores[:count])

    def pairs(self) -> list[tuple[int, float]]:
        """(row, score) of each."""
        return list(zip(self.rows.tolist(), self.scores.tolist(), strict=True))

    def places(self, rows: NDArray[np.uint64]) -> dict[int, tuple[int, float]]:
        """Rank and score of each of these rows that was found."""
        import numpy as np

        at = np.flatnonzero((self.rows[:, None] == rows).any(axis=1))
        return dict(zip(self.rows[at].tolist(), zip(self.ranks[at].tolist(), self.scores[at].tolist(), strict=True), strict=True))
