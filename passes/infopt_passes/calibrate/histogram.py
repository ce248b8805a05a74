"""A histogram whose range grows with what it sees, so that one pass over the data is enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 4096
"""Bins on each side of zero. The range doubles, so at least half of them are in use on the larger side."""

BLOCK = 1 << 16
"""Values that are counted at once: their indices stay in a processor's cache."""

NARROWEST = -126
"""Smallest exponent of a bin's width: its inverse must be a float32."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values in bins of one width, which is a power of two, with an edge at zero.

    Bins of twice the width are pairs of these, and scaling by a power of two is exact; so the counts depend neither on
    the order of the values nor on where they were split into parts.

    Attributes:
        exponent: A bin is ``2 ** exponent`` wide.
        counts: int64 of shape (2 * BINS,); bin ``i`` counts values from ``(i - BINS)`` times the width up to the next.
        low: Smallest value seen, NaN when a value was.
        high: Largest value seen.
    """

    exponent: int
    counts: Counts
    low: float
    high: float

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def sound(self) -> bool:
        """Whether every value was finite."""
        return not (math.isnan(self.low) or self.low == -math.inf or self.high == math.inf)

    def used(self) -> slice:
        """The bins from the smallest value's to the largest value's."""
        first, last = (math.floor(value / self.width) + BINS for value in (self.low, self.high))
        return slice(max(first, 0), min(last, 2 * BINS - 1) + 1)

    def edges(self, bins: slice) -> Floats:
        """The edges of some bins, one more than there are bins."""
        return (np.arange(bins.start, bins.stop + 1) - BINS) * self.width


def empty() -> Histogram:
    """A histogram of nothing."""
    return Histogram(NARROWEST, np.zeros(2 * BINS, np.int64), math.inf, -math.inf)


def counted(histogram: Histogram, values: npt.NDArray[Any]) -> Histogram:
    """A histogram with more values in it.

    Args:
        histogram: What was counted so far; it is left as it was.
        values: Floats of any shape, empty ones included. NaN and infinities are not counted, but show in the extremes.
    """
    flat = values.reshape(-1)
    if not flat.size:
        return histogram
    low, high = float(flat.min()), float(flat.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return Histogram(histogram.exponent, histogram.counts, low, high)
    wider = widened(histogram, fitting(low, high))
    low, high = min(low, histogram.low), max(high, histogram.high)
    return Histogram(wider.exponent, wider.counts + _count(flat, wider.exponent), low, high)


def fitting(low: float, high: float) -> int:
    """Exponent of the narrowest bins that reach these values."""
    peak = max(-low, high)
    return max(math.frexp(peak)[1] - BINS.bit_length() + 1, NARROWEST) if peak > 0 else NARROWEST


def widened(histogram: Histogram, exponent: int) -> Histogram:
    """A histogram with bins at least so wide: pairs of bins are merged for every doubling."""
    steps = exponent - histogram.exponent
    if steps <= 0:
        return histogram
    merged = (np.arange(-BINS, BINS) >> min(steps, 62)) + BINS
    counts = np.zeros(2 * BINS, np.int64)
    np.add.at(counts, merged, histogram.counts)
    return Histogram(exponent, counts, histogram.low, histogram.high)


def _count(flat: npt.NDArray[Any], exponent: int) -> Counts:
    counts = np.zeros(2 * BINS, np.int64)
    kind = np.float64 if flat.dtype == np.float64 else np.float32
    factor = kind(math.ldexp(1.0, -exponent))
    for start in range(0, flat.size, BLOCK):
        scaled = np.multiply(flat[start : start + BLOCK], factor, dtype=kind)
        index = np.floor(scaled, out=scaled).astype(np.int64)
        index += BINS
        counts += np.bincount(index, minlength=2 * BINS)
    return counts
