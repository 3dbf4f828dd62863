"""How sure a comparison is: intervals and tests for questions that every arm answered.

Questions on one document are not independent, so they are resampled, and their signs are flipped, together. All functions are
pure and, given the same numbers, give the same result.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rag_vs_ft.settings import SEED

Interval = tuple[float, float] | None
FLIPS = 10_000
RESAMPLES = 10_000
EXACT_CLUSTERS = 12
"""Up to this many clusters that differ, all 2^n sign patterns are gone through instead of a sample of them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """b - a on the same questions: the mean, its 95% interval, and how surprising it is if the two are equal.

    `p_value` flips the signs of whole clusters at random. `mcnemar_p` is the exact test that takes questions for independent;
    it is None where two questions share a cluster, as it then rejects too many true nulls, and where a value is neither 0 nor 1.
    `better`, `worse` and `same` count questions by which of the two b does.
    """

    difference: float
    interval: Interval
    p_value: float
    mcnemar_p: float | None
    better: int
    worse: int
    same: int


def clustered_interval(values: Sequence[float], clusters: Sequence[str], *, seed: int = SEED) -> Interval:
    """95% BCa bootstrap interval of the mean, whole clusters resampled (Efron, 1987; Field and Welsh, 2007).

    None where there is nothing to resample (fewer than two clusters, or every cluster with the same mean), and where BCa is not
    defined, as with two clusters of which one is huge: no resample has a lower mean.
    """
    import numpy as np
    from scipy.stats import bootstrap

    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(members, weights=values), np.bincount(members)
    if len(names) < 2 or np.ptp(sums / counts) < 1e-12:
        return None
    found = bootstrap(
        (sums, counts),
        lambda total, count, axis: total.sum(axis=axis) / count.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def paired_difference(a: Sequence[float], b: Sequence[float], clusters: Sequence[str]) -> Difference:
    """Compare two arms question by question; `a[i]`, `b[i]` and `clusters[i]` belong to the same question."""
    values = [after - before for before, after in zip(a, b, strict=True)]
    better, worse = sum(value > 0 for value in values), sum(value < 0 for value in values)
    independent = len(set(clusters)) == len(values)
    binary = all(value in (0.0, 1.0) for value in (*a, *b))
    return Difference(
        difference=math.fsum(values) / len(values),
        interval=clustered_interval(values, clusters),
        p_value=sign_flip_p(values, clusters),
        mcnemar_p=mcnemar_p(better, worse) if binary and independent else None,
        better=better,
        worse=worse,
        same=len(values) - better - worse,
    )


def share_of_gain(
    none: Sequence[float], some: Sequence[float], most: Sequence[float], clusters: Sequence[str], *, seed: int = SEED
) -> tuple[float, Interval] | None:
    """How much of the way from `none` to `most` the means of `some` go, and its 95% interval (percentiles of a bootstrap of whole
    clusters). None where `most` is not shown to differ from `none`: the share of nothing is no figure.
    """
    import numpy as np

    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    way = np.asarray(some, dtype=float) - np.asarray(none, dtype=float)
    whole = np.asarray(most, dtype=float) - np.asarray(none, dtype=float)
    ways, wholes = (np.bincount(members, weights=values) for values in (way, whole))
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    totals = wholes[drawn].sum(axis=1)
    low, high = np.percentile(totals, (2.5, 97.5))
    if len(names) < 2 or low <= 0.0 <= high:
        return None
    shares = ways[drawn].sum(axis=1) / totals
    lower, upper = np.percentile(shares, (2.5, 97.5))
    return float(ways.sum() / wholes.sum()), (float(lower), float(upper))


def sign_flip_p(values: Sequence[float], clusters: Sequence[str], *, seed: int = SEED) -> float:
    """Two-sided p-value of a mean difference of 0, by flipping the signs of whole clusters (Fisher's randomisation test).

    With few clusters every pattern is tried and the value is exact; else it is (b + 1) / (n + 1) of a sample of n patterns,
    never 0 (Phipson and Smyth, 2010).
    """
    import numpy as np

    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(members, weights=values, minlength=len(names))
    sums = sums[np.abs(sums) > 1e-12]
    if not len(sums):
        return 1.0
    # Rounding must not make a sum look smaller than the equal one that was observed.
    observed = abs(sums.sum()) - 1e-9
    if len(sums) <= EXACT_CLUSTERS:
        patterns = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        return float((np.abs((2.0 * patterns - 1.0) @ sums) >= observed).mean())
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, len(sums)))
    return (int((np.abs(signs @ sums) >= observed).sum()) + 1) / (FLIPS + 1)


def mcnemar_p(better: int, worse: int) -> float:
    """Two-sided exact McNemar test (McNemar, 1947): the chance of so uneven a split of the questions that differ."""
    from scipy.stats import binomtest

    return float(binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm, 1979) for a table of tests: adjusted p-values in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, row in enumerate(sorted(range(len(p_values)), key=lambda row: p_values[row])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[row]))
        adjusted[row] = largest
    return adjusted


def detectable_difference(
    a: Sequence[float], b: Sequence[float], clusters: Sequence[str], *, comparisons: int = 1, power: float = 0.8
) -> float | None:
    """The smallest true mean difference that `sign_flip_p` finds with this power, at level 5% over all `comparisons`.

    Taken from how much the observed differences vary between clusters. With V the variance of the mean (robust to clusters), w
    the sum of squared shares of the clusters, and normal quantiles z of 1 - level / 2 and p of the power, it solves
    d = z sqrt(V + w d^2) + p sqrt(V): flipped signs spread with the mean too, and the larger for unequal clusters. A test checks
    the power by simulation. None where differences do not vary, or clusters are too few for any difference to be found.
    """
    import numpy as np
    from scipy.stats import norm

    values = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    names, members = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return None
    sums, counts = np.bincount(members, weights=values), np.bincount(members)
    spread = sums - counts * values.mean()
    variance = len(names) / (len(names) - 1) * float(spread @ spread) / len(values) ** 2
    z, p = float(norm.ppf(1 - 0.025 / comparisons)), float(norm.ppf(power))
    room = 1 - z * z / effective_clusters(clusters)
    if variance < 1e-24 or room <= 0:
        return None
    return math.sqrt(variance) * (p + math.sqrt(p * p + room * (z * z - p * p))) / room


def effective_clusters(clusters: Sequence[str]) -> float:
    """How many equally large clusters would say as much about a mean: n^2 over the sum of squared sizes (Kish, 1965).

    This is the least that the questions are worth: it holds where the questions of a cluster are all answered alike.
    """
    sizes = Counter(clusters).values()
    return sum(sizes) ** 2 / sum(size * size for size in sizes) if sizes else 0.0


def risk_coverage_area(correct: Sequence[float], confidence: Sequence[float]) -> float:
    """Area under the risk-coverage curve (El-Yaniv and Wiener, 2010): the mean share of errors among the i most confident.

    0 is perfect; a confidence that says nothing gives the error rate. Questions of equal confidence count as in random order.
    """
    import numpy as np

    if not len(correct):
        raise ValueError("no question")
    _, group = np.unique(-np.asarray(confidence, dtype=float), return_inverse=True)
    errors = 1.0 - np.asarray(correct, dtype=float)
    means = np.bincount(group, weights=errors) / np.bincount(group)
    in_order = means[np.sort(group)]
    return float((np.cumsum(in_order) / np.arange(1, len(in_order) + 1)).mean())


@dataclass(frozen=True, slots=True)
class Bin:
    """Questions of like confidence: how many, their mean confidence, and the share that is right."""

    questions: int
    confidence: float
    accuracy: float


def calibration(correct: Sequence[float], confidence: Sequence[float], *, bins: int = 10) -> tuple[list[Bin], float]:
    """Equal-width bins of confidence that are not empty, and the expected calibration error (Guo et al., 2017)."""
    import numpy as np

    right, sure = np.asarray(correct, dtype=float), np.asarray(confidence, dtype=float)
    place = np.minimum((sure * bins).astype(int), bins - 1)
    found = [
        Bin(int(inside.sum()), float(sure[inside].mean()), float(right[inside].mean()))
        for inside in (place == number for number in range(bins))
        if inside.any()
    ]
    error = sum(one.questions * abs(one.confidence - one.accuracy) for one in found) / max(len(right), 1)
    return found, float(error)
