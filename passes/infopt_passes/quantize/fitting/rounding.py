"""Rounds a layer's weights for the least square error of its outputs, one column after the other.

Frantar et al. 2022, "GPTQ" (after "Optimal Brain Compression" of the same authors): what rounding a column costs is
made up for by the columns that are still to be rounded, in blocks. The columns with the largest inputs come first.
Afterwards each column is rounded again with all others in place, which never makes it worse (coordinate descent, as in
Behdin et al. 2023, "QuantEase").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infopt_passes.fitting.hessian import BLOCK, DAMPING, decomposed, loss, permuted, propagated

Array = npt.NDArray[Any]

SWEEPS = 2
"""Times that each column is rounded again."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What weights are rounded to: ``(integer - zero) * step``, each broadcast against (groups, outputs, columns).

    Attributes:
        steps: Scales.
        ends: Smallest and largest integer.
        zeros: Zero points.
    """

    steps: Array
    ends: tuple[int, int]
    zeros: Array | float = 0.0

    def nearest(self, weight: Array) -> Array:
        """The nearest integers, ties to even, as floats."""
        return _whole(weight / self.steps + self.zeros, self.ends)

    def value(self, integers: Array) -> Array:
        """What integers stand for."""
        return (integers - self.zeros) * self.steps


@dataclass(frozen=True, slots=True)
class Rounded:
    """Integers, and how they were found.

    Attributes:
        integers: float32 of whole numbers, of the weight's shape.
        damping: Part of the mean square that had to be added to the columns' own.
        better: Share of the outputs for which rounding to nearest was worse.
    """

    integers: Array
    damping: float
    better: float


def least_squares(weight: Array, second: Array, grid: Grid, damping: float = DAMPING) -> Rounded:
    """Round a weight so that ``(w - v) H (w - v)^T`` is small for each output.

    Args:
        weight: Float weight of shape (groups, outputs, columns).
        second: ``H``: second moments of the columns of the input, of shape (groups, columns, columns).
        grid: What it is rounded to.
        damping: What is added to the diagonal, as a part of its mean; more is where that leaves it singular.

    Returns:
        Integers that are never worse by that measure than the nearest ones; for outputs where no better ones were
        found, and for columns without any input, they are the nearest ones. Weights that are 0 stay 0: they are what
        pruning left, and what kernels and archives gain by.
    """
    weight = np.asarray(weight, np.float32)
    nearest = grid.nearest(weight).astype(np.float32)
    diagonal = np.einsum("gkk->gk", second)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    damped, damping, upper = decomposed(permuted(second, order), diagonal, damping)
    # One column is one contiguous row of what is worked on.
    columns = _Columns.of(weight, grid, order)
    found = _propagated(columns, upper.astype(np.float32))
    for _ in range(SWEEPS):
        found = _descended(columns, found, damped.astype(np.float32))
    integers = np.empty_like(weight)
    np.put_along_axis(integers, order[:, None, :], found.transpose(0, 2, 1), 2)
    better = loss(weight - grid.value(integers), second) < loss(weight - grid.value(nearest), second)
    return Rounded(np.where(better[:, :, None], integers, nearest), damping, float(better.mean()))


@dataclass(frozen=True, slots=True)
class _Columns:
    """A weight and its grid with columns in order of rounding, of shape (groups, columns, outputs)."""

    weight: Array
    steps: Array
    zeros: Array
    ends: tuple[int, int]
    gone: Array | None

    @staticmethod
    def of(weight: Array, grid: Grid, order: Array) -> _Columns:
        def turned(values: Array | float) -> Array:
            full = np.broadcast_to(np.asarray(values, np.float32), weight.shape)
            return np.ascontiguousarray(np.take_along_axis(full, order[:, None, :], 2).transpose(0, 2, 1))

        own = turned(weight)
        gone = own == 0
        return _Columns(own, turned(grid.steps), turned(grid.zeros), grid.ends, gone if gone.any() else None)

    def rounded(self, values: Array, column: int) -> Array:
        """The nearest integers of values for one column."""
        found = _whole(values / self.steps[:, column] + self.zeros[:, column], self.ends)
        return found if self.gone is None else np.where(self.gone[:, column], self.zeros[:, column], found)

    def value(self, integers: Array, column: int) -> Array:
        return (integers - self.zeros[:, column]) * self.steps[:, column]


def _propagated(columns: _Columns, upper: Array) -> Array:
    """Round column by column, and let those that follow make up for the error."""
    result = np.empty_like(columns.weight)

    def rounded(rest: Array, column: int) -> Array:
        result[:, column] = columns.rounded(rest[:, column], column)
        return columns.value(result[:, column], column)

    propagated(columns.weight, upper, rounded)
    return result


def _descended(columns: _Columns, integers: Array, second: Array) -> Array:
    """Round each column again to where it is best with the others as they are."""
    result = integers.copy()
    values = (integers - columns.zeros) * columns.steps
    slope = second @ (columns.weight - values)
    count = slope.shape[1]
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        moved = np.empty_like(slope[:, start:end])
        for column in range(start, end):
            best = values[:, column] + slope[:, column] / second[:, column, column, None]
            result[:, column] = columns.rounded(best, column)
            step = columns.value(result[:, column], column) - values[:, column]
            moved[:, column - start] = step
            slope[:, start:end] -= second[:, start:end, column, None] * step[:, None, :]
        outside = np.r_[0:start, end:count]
        slope[:, outside] -= second[:, outside, start:end] @ moved
    return result


def _whole(values: Array, ends: tuple[int, int]) -> Array:
    """The nearest integers within bounds."""
    return np.clip(np.rint(values), *ends)
