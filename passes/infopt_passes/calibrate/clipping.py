"""Where to clip a tensor, read off its histogram: percentile, relative entropy, mean square error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infopt_passes.calibrate.histogram import BINS, Floats, Histogram

STRIDE = 8
"""Thresholds are searched every so many bins first, then bin by bin around the best."""

SHARES = 64
"""Thresholds that the search for the least square error tries on each side."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What a tensor is rounded to.

    Attributes:
        levels: Number of integers.
        symmetric: Whether zero lies in the middle.
    """

    levels: int
    symmetric: bool


def percentile(histogram: Histogram, share: float) -> tuple[float, float]:
    """The values that leave a share of all values outside on each side, interpolated within their bins.

    Args:
        histogram: Of all values.
        share: In percent, from 50 to 100; 99.99 leaves out one value in ten thousand at each end.
    """
    bins = histogram.used()
    counts = histogram.counts[bins]
    passed = np.concatenate([[0], np.cumsum(counts)])
    edges = histogram.edges(bins)
    rank = passed[-1] * share / 100
    low, high = (float(np.interp(at, passed, edges)) for at in (passed[-1] - rank, rank))
    return max(low, histogram.low), min(high, histogram.high)


def entropy(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range whose rounding loses the least information about the values inside it and the ones clipped to it.

    The relative entropy of the values, clipped, to what ``grid.levels`` levels keep of them. S. Migacz, "8-bit
    inference with TensorRT", GTC 2017. The bins at zero are taken to be as full as the ones beside them: zeros are
    exact in any range.

    Args:
        histogram: Of all values.
        grid: What they are rounded to.
    """
    counts = _without_zeros(histogram)
    first, last = _ends(histogram)
    half = grid.levels // 2
    # With two signs, or a symmetric grid, half of the levels lie on each side of the threshold.
    fewest = half if grid.symmetric or first < 0 < last else grid.levels
    reach = max(-first, last)
    if reach <= fewest:
        return histogram.low, histogram.high

    def loss(threshold: int) -> float:
        bottom, top = max(first, -threshold), min(last, threshold)
        levels = grid.levels
        if grid.symmetric:
            levels = max(1, round(half * (top - bottom) / threshold))
        return divergence(counts, bottom + BINS, top + BINS, levels)

    best = _least(loss, range(fewest, reach + 1), STRIDE)
    return _clipped(histogram, -best * histogram.width, best * histogram.width)


def square_error(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range with the smallest mean square error of rounding and clipping together.

    Args:
        histogram: Of all values; a bin's values are taken to lie in its middle.
        grid: What they are rounded to.
    """
    bins = histogram.used()
    middles, counts = histogram.edges(bins)[:-1] + histogram.width / 2, histogram.counts[bins]
    middles, weights = middles[counts > 0], counts[counts > 0].astype(np.float64)
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    shares = np.arange(1, SHARES + 1) / SHARES

    def error(bottom: float, top: float) -> float:
        return _rounding_error(middles, weights, bottom, top, grid)

    if grid.symmetric:
        peak = max(-low, high)
        best = min(shares, key=lambda share: (error(-share * peak, share * peak), -share))
        return _clipped(histogram, -best * peak, best * peak)
    one = min(shares, key=lambda share: (error(share * low, share * high), -share))
    top = min(shares, key=lambda share: (error(one * low, share * high), -share))
    bottom = min(shares, key=lambda share: (error(share * low, top * high), -share))
    return _clipped(histogram, bottom * low, top * high)


def _clipped(histogram: Histogram, low: float, high: float) -> tuple[float, float]:
    return max(float(low), histogram.low), min(float(high), histogram.high)


def _ends(histogram: Histogram) -> tuple[int, int]:
    """The first used bin, and the one behind the last, counted from zero; zero is always inside."""
    used = histogram.used()
    return min(used.start - BINS, 0), max(used.stop - BINS, 0)


def _without_zeros(histogram: Histogram) -> Floats:
    counts = histogram.counts.astype(np.float64)
    counts[BINS], counts[BINS - 1] = counts[BINS + 1], counts[BINS - 2]
    return counts


def _least(loss: Callable[[int], float], candidates: range, stride: int) -> int:
    """The candidate of least loss: every ``stride``-th is tried, then all around the best. Of equals, the largest."""
    coarse = [*candidates[::stride], candidates[-1]]
    best = min(coarse, key=lambda candidate: (loss(candidate), -candidate))
    near = [each for each in range(best - stride + 1, best + stride) if each in candidates]
    return min(near, key=lambda candidate: (loss(candidate), -candidate))


def divergence(counts: Floats, bottom: int, top: int, levels: int) -> float:
    """Relative entropy of clipped values to their rounded ones; the bins from bottom to top are kept."""
    inside = counts[bottom:top]
    clipped = inside.copy()
    clipped[0] += counts[:bottom].sum()
    clipped[-1] += counts[top:].sum()
    full = clipped > 0
    level = np.arange(len(inside)) * levels // len(inside)
    kept = np.bincount(level, weights=inside, minlength=levels)
    shared = np.bincount(level, weights=full, minlength=levels)
    rounded = np.where(full, (kept / np.maximum(shared, 1))[level], 0.0)
    total = rounded.sum()
    if not total:
        return float("inf")
    p, q = clipped[full] / clipped.sum(), rounded[full] / total
    # A bin that holds nothing but clipped values has no counterpart: it costs as if one value in a billion were there.
    return float((p * np.log(p / np.maximum(q, 1e-9))).sum())


def _rounding_error(middles: Floats, counts: Floats, low: float, high: float, grid: Grid) -> float:
    steps = grid.levels - 2 if grid.symmetric else grid.levels - 1
    scale = (high - low) / steps if grid.symmetric else (max(high, 0.0) - min(low, 0.0)) / steps
    if scale <= 0:
        return float("inf")
    bottom = -(steps // 2) if grid.symmetric else round(low / scale)
    rounded = np.clip(np.rint(middles / scale), bottom, bottom + steps) * scale
    return float(counts @ (middles - rounded) ** 2)
