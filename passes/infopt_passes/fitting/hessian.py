"""Second moments of a layer's columns as the Hessian of its output error: damped, inverted, and what follows from it.

Frantar et al. 2022, "Optimal Brain Compression", and "GPTQ" and "SparseGPT" of the same authors: what changing a
column costs is made up for by the columns that are still to be changed, in blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, get_lapack_funcs

Array = npt.NDArray[Any]

BLOCK = 64
"""Columns that are changed before the others learn of it."""

DAMPING = 0.01
"""What is added to the diagonal, as a part of its mean: the papers' choice."""

SCARCE = 25
"""How often the damping is added again where there are as many columns as rows: few rows show what is not there."""

MOST_DAMPING = 100.0


def damping_for(columns: int, rows: int) -> float:
    """Damping for moments of so many columns that were seen in so many rows."""
    return DAMPING * (1 + SCARCE * columns / max(rows, 1))


def loss(error: Array, second: Array) -> Array:
    """Mean square error of each output, of shape (groups, outputs), that an error of the weight makes."""
    exact = error.astype(np.float64)
    square: Array = np.einsum("gnk,gnk->gn", exact @ second, exact)
    return square


def propagated(weight: Array, upper: Array, changed: Callable[[Array, int], Array]) -> Array:
    """Change column by column, and let those that follow make up for the error.

    Args:
        weight: Of shape (groups, columns, outputs).
        upper: See :func:`decomposed`, of the weight's type.
        changed: Is given the weight so far and a column, and returns what this column becomes.

    Returns:
        The weight so far at the end: each column as it was when its turn came.
    """
    rest = weight.copy()
    count = rest.shape[1]
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        errors = np.empty_like(rest[:, start:end])
        for column in range(start, end):
            error = rest[:, column] - changed(rest, column)
            error /= upper[:, column, column, None]
            errors[:, column - start] = error
            rest[:, column + 1 : end] -= upper[:, column, column + 1 : end, None] * error[:, None, :]
        rest[:, end:] -= upper[:, start:end, end:].transpose(0, 2, 1) @ errors
    return rest


def permuted(second: Array, order: Array) -> Array:
    """Moments with columns in another order, of shape (groups, columns)."""
    return np.take_along_axis(np.take_along_axis(second, order[:, :, None], 1), order[:, None, :], 2)


def decomposed(second: Array, diagonal: Array, damping: float) -> tuple[Array, float, Array]:
    """Damped moments, the damping, and the upper triangle ``U`` with ``inverse = U^T U``.

    With ``H = R R^T`` for an upper triangle ``R``, that is the inverse of ``R``.

    Args:
        second: Of shape (groups, columns, columns).
        diagonal: Its diagonal, in any order.
        damping: Part of the diagonal's mean that is added to it; ten times as much while that leaves it singular. Where
            nothing helps, as with the covariance of rows that are all alike, which is what rounding left of it, no
            column is taken to tell of another.

    Raises:
        numpy.linalg.LinAlgError: Moments of several groups are not finite.
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
            if not np.isfinite(second).all():
                raise
            if damping >= MOST_DAMPING:
                second = np.zeros_like(second)
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
    invert = get_lapack_funcs("trtri", (upper,))
    inverse, failed = invert(upper[0])
    if failed:
        raise np.linalg.LinAlgError(f"the triangle is singular in row {failed - 1}")
    found: Array = inverse[None]
    return found
