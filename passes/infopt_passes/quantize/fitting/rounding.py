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
from scipy.linalg import cholesky, solve_triangular

Array = npt.NDArray[Any]

BLOCK = 64
"""Columns that are rounded before the others learn of it."""

DAMPING = 0.01
"""What is added to the diagonal, as a part of its mean: the paper's choice."""

SCARCE = 25
"""How often the damping is added again where there are as many columns as rows: few rows show what is not there."""

MOST_DAMPING = 100.0

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


def damping_for(columns: int, rows: int) -> float:
    """Damping for moments of so many columns that were seen in so many rows."""
    return DAMPING * (1 + SCARCE * columns / max(rows, 1))


def least_squares(weight: Array, second: Array, grid: Grid, damping: float = DAMPING) -> Rounded:
    """Round a weight so that ``(w - v) H (w - v)^T`` is small for each output.

    Args:
        weight: Float weight of shape (groups, outputs, columns).
        second: ``H``: second moments of the columns of the input, of shape (groups, columns, columns).
        grid: What it is rounded to.
        damping: What is added to the diagonal, as a part of its mean; more is where that leaves it singular.

    Returns:
        Integers that are never worse by that measure than the nearest ones; for outputs where no better ones were
        found, and for columns without any input, they are the nearest ones.
    """
    weight = np.asarray(weight, np.float32)
    nearest = grid.nearest(weight).astype(np.float32)
    diagonal = np.einsum("gkk->gk", second)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    damped, damping, upper = _decomposed(_permuted(second, order), diagonal, damping)
    # One column is one contiguous row of what is worked on.
    columns = _Columns.of(weight, grid, order)
    found = _propagated(columns, upper.astype(np.float32))
    for _ in range(SWEEPS):
        found = _descended(columns, found, damped.astype(np.float32))
    integers = np.empty_like(weight)
    np.put_along_axis(integers, order[:, None, :], found.transpose(0, 2, 1), 2)
    better = loss(weight - grid.value(integers), second) < loss(weight - grid.value(nearest), second)
    return Rounded(np.where(better[:, :, None], integers, nearest), damping, float(better.mean()))


def loss(error: Array, second: Array) -> Array:
    """Mean square error of each output, of shape (groups, outputs), that an error of the weight makes."""
    exact = error.astype(np.float64)
    square: Array = np.einsum("gnk,gnk->gn", exact @ second, exact)
    return square


@dataclass(frozen=True, slots=True)
class _Columns:
    """A weight and its grid with columns in order of rounding, of shape (groups, columns, outputs)."""

    weight: Array
    steps: Array
    zeros: Array
    ends: tuple[int, int]

    @staticmethod
    def of(weight: Array, grid: Grid, order: Array) -> _Columns:
        def turned(values: Array | float) -> Array:
            full = np.broadcast_to(np.asarray(values, np.float32), weight.shape)
            return np.ascontiguousarray(np.take_along_axis(full, order[:, None, :], 2).transpose(0, 2, 1))

        return _Columns(turned(weight), turned(grid.steps), turned(grid.zeros), grid.ends)

    def rounded(self, values: Array, column: int) -> Array:
        """The nearest integers of values for one column."""
        return _whole(values / self.steps[:, column] + self.zeros[:, column], self.ends)

    def value(self, integers: Array, column: int) -> Array:
        return (integers - self.zeros[:, column]) * self.steps[:, column]


def _propagated(columns: _Columns, upper: Array) -> Array:
    """Round column by column, and let those that follow make up for the error."""
    rest, result = columns.weight.copy(), np.empty_like(columns.weight)
    count = rest.shape[1]
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.empty_like(rest[:, start:end])
        for column in range(start, end):
            result[:, column] = columns.rounded(rest[:, column], column)
            error = rest[:, column] - columns.value(result[:, column], column)
            error /= upper[:, column, column, None]
            errors[:, column - start] = error
            rest[:, column + 1 : end] -= upper[:, column, column + 1 : end, None] * error[:, None, :]
        rest[:, end:] -= upper[:, start:end, end:].transpose(0, 2, 1) @ errors
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


def _permuted(second: Array, order: Array) -> Array:
    return np.take_along_axis(np.take_along_axis(second, order[:, :, None], 1), order[:, None, :], 2)


def _decomposed(second: Array, diagonal: Array, damping: float) -> tuple[Array, float, Array]:
    """Damped moments, the damping, and the upper triangle ``U`` with ``inverse = U^T U``.

    With ``H = R R^T`` for an upper triangle ``R``, that is the inverse of ``R``.
    """
    mean = diagonal.mean(axis=1, keepdims=True)
    mean = np.where(mean > 0, mean, 1.0)
    while True:
        damped = second.copy()
        # A column without input is alone: it takes part in nothing, but must not make the matrix singular.
        np.einsum("gkk->gk", damped)[:] += damping * mean
        try:
            lower = _cholesky(damped[:, ::-1, ::-1])
        except np.linalg.LinAlgError:
            if damping >= MOST_DAMPING:
                raise
            damping *= 10
            continue
        return damped, damping, _inverted(lower[:, ::-1, ::-1])


def _cholesky(second: Array) -> Array:
    """The lower triangles; scipy's is several times as fast for a large matrix."""
    if len(second) > 1:
        return np.linalg.cholesky(second)
    lower: Array = cholesky(second[0], lower=True, check_finite=False)
    return lower[None]


def _inverted(upper: Array) -> Array:
    """The inverses of upper triangles."""
    if len(upper) > 1:
        return np.linalg.inv(upper)
    inverse: Array = solve_triangular(upper[0], np.eye(upper.shape[1]), lower=False)
    return inverse[None]
