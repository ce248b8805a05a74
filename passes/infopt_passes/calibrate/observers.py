"""Observers: folds over calibration samples that end in a range for each tensor.

An observer of extremes is fed with what the runtime reduced, for all tensors at once, one entry for each tensor or for
each channel of one. An observer of values is fed with the tensors themselves and keeps a histogram of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infopt_passes.calibrate import histogram
from infopt_passes.calibrate.clipping import Grid, entropy, percentile, square_error
from infopt_passes.calibrate.histogram import Floats, Histogram

Array = npt.NDArray[Any]

INT8 = Grid(256, symmetric=False)


@dataclass(frozen=True, slots=True)
class Extremes:
    """What was seen of tensors whose extremes are enough.

    Attributes:
        samples: Number of samples.
        lows: Smallest values, float64 of shape (entries,).
        highs: Largest values.
        low_sums: Sums over the samples of each sample's smallest values.
        high_sums: The same of the largest.
    """

    samples: int
    lows: Floats
    highs: Floats
    low_sums: Floats
    high_sums: Floats


@dataclass(frozen=True, slots=True)
class Spans:
    """What is known of tensors in the end; all float64 of shape (entries,).

    Attributes:
        lows: Smallest values to represent.
        highs: Largest values to represent.
        smallest: Smallest values seen; infinity where none was, because the tensor is in a body that never ran.
        largest: Largest values seen; negative infinity where none was.
    """

    lows: Floats
    highs: Floats
    smallest: Floats
    largest: Floats


@dataclass(frozen=True, slots=True)
class ExtremesObserver:
    """A fold over the extremes of each sample.

    Attributes:
        mean: Whether a range is the mean of the samples' ranges instead of their union.
    """

    mean: bool = False

    @property
    def state(self) -> str:
        """Name of the state; observers of one name can finish each other's states."""
        return "extremes"

    def init(self, entries: int) -> Extremes:
        """The state before the first sample."""
        nothing = np.zeros(entries)
        return Extremes(0, np.full(entries, np.inf), np.full(entries, -np.inf), nothing, nothing)

    def update(self, state: Extremes, lows: Floats, highs: Floats) -> Extremes:
        """The state after one more sample, whose extremes are float64 of shape (entries,)."""
        return Extremes(
            state.samples + 1,
            np.minimum(state.lows, lows),
            np.maximum(state.highs, highs),
            state.low_sums + lows,
            state.high_sums + highs,
        )

    def finish(self, state: Extremes) -> Spans:
        """The ranges."""
        if not self.mean:
            return Spans(state.lows, state.highs, state.lows, state.highs)
        count = max(state.samples, 1)
        lows, highs = state.low_sums / count, state.high_sums / count
        # A body that did not run on every sample has no mean over all of them: its range is the union.
        always = np.isfinite(lows) & np.isfinite(highs)
        return Spans(np.where(always, lows, state.lows), np.where(always, highs, state.highs), state.lows, state.highs)


@dataclass(frozen=True, slots=True)
class HistogramObserver:
    """A fold over the values of one tensor.

    Attributes:
        choose: Reads a range off a histogram.
        grid: What the tensor will be rounded to.
    """

    choose: Callable[[Histogram, Grid], tuple[float, float]]
    grid: Grid = INT8

    @property
    def state(self) -> str:
        """Name of the state; observers of one name can finish each other's states."""
        return "histogram"

    def init(self) -> Histogram:
        """The state before the first sample."""
        return histogram.empty()

    def update(self, state: Histogram, values: Array) -> Histogram:
        """The state after one more sample of the tensor."""
        return histogram.counted(state, values)

    def finish(self, state: Histogram) -> tuple[float, float]:
        """The range; a tensor that never changes keeps its value exactly."""
        if not state.low < state.high:
            return (state.low, state.high) if math.isfinite(state.low) else (0.0, 0.0)
        return self.choose(state, self.grid)


Observer = ExtremesObserver | HistogramObserver

MAKERS: Mapping[str, Callable[[float, Grid], Observer]] = {
    "minmax": lambda share, grid: ExtremesObserver(),
    "mean-minmax": lambda share, grid: ExtremesObserver(mean=True),
    "percentile": lambda share, grid: HistogramObserver(lambda histogram, _: percentile(histogram, share), grid),
    "entropy": lambda share, grid: HistogramObserver(entropy, grid),
    "mse": lambda share, grid: HistogramObserver(square_error, grid),
}
"""Observers by the name that ``--ranges`` takes.

``minmax`` spans all values. ``mean-minmax`` damps single outliers; it is NNCF's default. The others clip.
"""


def observer(name: str, share: float = 99.99, grid: Grid = INT8) -> Observer:
    """An observer by its name.

    Args:
        name: A key of :data:`MAKERS`.
        share: Percentile, for the observer of that name.
        grid: What tensors will be rounded to, for those that weigh clipping against rounding.
    """
    return MAKERS[name](share, grid)
