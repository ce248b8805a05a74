"""How two sets of samples differ in one statistic: indices, distances, and how likely chance is the cause.

The unit of every test is the sample, and the independent ones count: see :mod:`infopt.drifting.describe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import kolmogorov
from scipy.stats import fisher_exact, gamma, norm

from infopt.drifting.sketch import Sketch, Tally

BINS = 10
"""Bins of the population stability index, as the field uses them: deciles of the reference."""

PER_BIN = 20
"""Samples that a bin needs on each side; with fewer there are fewer bins, or chance alone makes an index large."""

ATOM = 0.05
"""Share of the reference that a single value needs to get a bin of its own."""

MOST_CLASSES = 20
"""Classes that the index tells apart; the rest counts as one."""

DRAWS = 1000
"""Random divisions that a test of counts draws."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How new data differ from a reference in one statistic.

    Attributes:
        psi: Population stability index: 0 is equal; the field calls 0.1 moderate and 0.25 major.
        ks: Kolmogorov-Smirnov distance, largest difference of the distribution functions, 0 to 1; of counts half the
            sum of the differences (total variation).
        js: Jensen-Shannon divergence in bits, 0 to 1.
        p: Probability of a test statistic as large as this, or larger, without a drift.
    """

    psi: float
    ks: float
    js: float
    p: float


def of_numbers(reference: Sketch, data: Sketch, units: tuple[float, float]) -> Difference:
    """Compare two sketches.

    Args:
        reference: What the profile holds.
        data: The same of new data.
        units: Independent numbers behind each.
    """
    one, two = reference.points(), data.points()
    shares = _binned(one, two, min(units))
    ks = _distance(one, two)
    certain = max(0.0, ks - reference.error - data.error)
    effective = units[0] * units[1] / (units[0] + units[1])
    return Difference(
        stability(shares[0], shares[1], units),
        ks,
        divergence(shares[0], shares[1]),
        float(kolmogorov(certain * effective**0.5)),
    )


def of_classes(reference: Tally, data: Tally, units: tuple[float, float], seed: int) -> Difference:
    """Compare counts of items of which each sample has one.

    Chance is judged by dividing all samples again and again at random into two sets of these sizes (a permutation
    test of the chi-square statistic); where none of the divisions is as extreme, a gamma distribution of their mean
    and variance tells how far beyond it lies.
    """
    names = sorted(reference.counts.keys() | data.counts.keys())
    counts = np.array([[tally.counts[name] for name in names] for tally in (reference, data)], np.int64)
    sizes = counts.sum(axis=1)
    if not sizes.all():
        return Difference(0.0, 0.0, 0.0, 1.0)
    pooled = counts.sum(axis=0)
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_hypergeometric(pooled, int(sizes[0]), DRAWS, method="marginals")
    shrink = units[0] / sizes[0]  # samples that depend on each other show more than they prove
    chance, found = _chi_square(drawn, pooled, sizes), float(_chi_square(counts[:1], pooled, sizes)[0] * shrink)
    p = float((1 + (chance >= found).sum()) / (1 + DRAWS))
    if (chance < found).all() and chance.var() > 0:
        shape, scale = chance.mean() ** 2 / chance.var(), chance.var() / chance.mean()
        p = min(p, float(gamma.sf(found, shape, scale=scale)))
    shares = _few(counts[:, np.argsort(-pooled, kind="stable")])
    shares = shares / shares.sum(axis=1, keepdims=True)
    return Difference(
        stability(shares[0], shares[1], units),
        float(abs(shares[0] - shares[1]).sum() / 2),
        divergence(shares[0], shares[1]),
        p,
    )


def of_presence(reference: Tally, data: Tally, units: tuple[float, float]) -> Difference:
    """Compare counts of items of which each sample may have several: Fisher's exact test of each, corrected."""
    names = sorted(reference.counts.keys() | data.counts.keys())
    sizes = np.array([reference.samples, data.samples])
    if not names or not sizes.all():
        return Difference(0.0, 0.0, 0.0, 1.0)
    rates = np.array([[tally.counts[name] for name in names] for tally in (reference, data)]) / sizes[:, None]
    tables = np.rint(rates * np.array(units)[:, None]).astype(np.int64)
    totals = np.rint(units).astype(np.int64)
    worst = min(fisher_exact(np.stack([pair, totals - pair])).pvalue for pair in tables.T)
    shares = rates / np.maximum(rates.sum(axis=1, keepdims=True), 1e-12)
    ks = float(abs(rates[0] - rates[1]).max())
    return Difference(
        stability(shares[0], shares[1], units),
        ks,
        divergence(shares[0], shares[1]),
        min(1.0, float(worst) * len(names)),
    )


def stability(reference: np.ndarray, data: np.ndarray, units: tuple[float, float]) -> float:
    """The population stability index of two sets of shares; an empty bin counts as half a sample."""
    one, two = (
        (shares * size + 0.5) / (size + 0.5 * len(shares))
        for shares, size in zip((reference, data), units, strict=True)
    )
    return float(((two - one) * np.log(two / one)).sum())


def divergence(one: np.ndarray, two: np.ndarray) -> float:
    """The Jensen-Shannon divergence of two sets of shares, in bits."""
    middle = (one + two) / 2

    def entropy(shares: np.ndarray) -> float:
        there = shares[shares > 0]
        return float(-(there * np.log2(there)).sum())

    return max(0.0, entropy(middle) - (entropy(one) + entropy(two)) / 2)


def visible_distance(tests: int, false_alarms: float, units: tuple[float, float]) -> float:
    """The smallest Kolmogorov-Smirnov distance that would be noticed in a single one of so many tests."""
    return _critical(tests, false_alarms) * float(np.sqrt(1 / units[0] + 1 / units[1]))


def needed(tests: int, false_alarms: float, distance: float, reference: float) -> int | None:
    """Samples of new data with which a distance would be noticed; ``None`` if the reference is too small for any."""
    rest = (distance / _critical(tests, false_alarms)) ** 2 - 1 / reference
    return int(np.ceil(1 / rest)) if rest > 0 else None


def distance_of(psi: float) -> float:
    """The Kolmogorov-Smirnov distance of two normal distributions that are shifted so far that their index is this."""
    return float(2 * norm.cdf(np.sqrt(psi) / 2) - 1)


def adjusted(values: Mapping[int, float]) -> dict[int, float]:
    """P-values adjusted for their number: Y. Benjamini and Y. Hochberg, 1995."""
    from scipy.stats import false_discovery_control

    if not values:
        return {}
    return dict(zip(values, false_discovery_control(list(values.values())).tolist(), strict=True))


def _critical(tests: int, false_alarms: float) -> float:
    """Critical value of the Kolmogorov distribution, from the first term of its series."""
    return float(np.sqrt(-np.log(false_alarms / max(tests, 1) / 2) / 2))


def _chi_square(first: np.ndarray, pooled: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Of each way to divide: rows of ``first`` are the counts in the first set."""
    expected = pooled * sizes[0] / sizes.sum()
    result: np.ndarray = ((first - expected) ** 2 / np.maximum(pooled, 1)).sum(axis=1)
    return result


def _few(counts: np.ndarray) -> np.ndarray:
    """The first classes, and the rest as one."""
    if counts.shape[1] <= MOST_CLASSES:
        return counts
    return np.concatenate([counts[:, :MOST_CLASSES], counts[:, MOST_CLASSES:].sum(axis=1, keepdims=True)], axis=1)


def _distance(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> float:
    places = np.union1d(one[0], two[0])
    if not (len(one[0]) and len(two[0])):
        return 0.0
    passed = [
        np.concatenate([[0], np.cumsum(weights) / weights.sum()])[np.searchsorted(values, places, "right")]
        for values, weights in (one, two)
    ]
    return float(abs(passed[0] - passed[1]).max())


def _binned(
    one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray], fewest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of both in bins between quantiles of the first; a value that many have is a bin of its own."""
    values, weights = one
    if not (len(values) and len(two[0])):
        return np.ones(1), np.ones(1)
    count = int(np.clip(fewest // PER_BIN, 2, BINS))
    ranks = (np.cumsum(weights) - weights / 2) / weights.sum()
    edges = np.unique(values[np.searchsorted(ranks, np.arange(1, count) / count).clip(max=len(values) - 1)])
    first, second = (_shares(values, weights, edges) for values, weights in (one, two))
    small = first[1::2] < ATOM  # an edge that few have belongs to what is below it
    for shares in (first, second):
        shares[0:-1:2] += np.where(small, shares[1::2], 0)
        shares[1::2] = np.where(small, 0, shares[1::2])
    kept = np.ones(len(first), bool)
    kept[1::2] = ~small
    return first[kept], second[kept]


def _shares(values: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares below, at and between the edges."""
    places = np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")
    counted: np.ndarray = np.bincount(places, weights, 2 * len(edges) + 1) / weights.sum()
    return counted
