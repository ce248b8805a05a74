"""Zeroes weights of one layer and lets the others make up for it: SparseGPT, and least squares on what is left.

Frantar and Alistarh 2023, "SparseGPT", after Frantar et al. 2022, "Optimal Brain Compression": the weights whose loss
costs least by the second moments of the input go, column by column. What is left is then solved exactly, output by
output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infopt.sparsity import OF, ZEROS
from infopt_passes.fitting.hessian import BLOCK, decomposed, propagated
from infopt_passes.fitting.masked import TINY

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Eliminated:
    """A sparse weight.

    Attributes:
        weight: Of the dense one's shape.
        damping: Part of the mean square that was added to the columns' own.
    """

    weight: Array
    damping: float


def saliency(weight: Array, second: Array, damping: float) -> Array:
    """What zeroing each weight costs when the others of its output make up for it: ``w^2 / inverse_kk``.

    Args:
        weight: Of shape (groups, outputs, columns).
        second: Second moments, of shape (groups, columns, columns).
        damping: See :func:`infopt_passes.fitting.hessian.decomposed`.

    Returns:
        float64 of the weight's shape.
    """
    _, _, upper = decomposed(second, np.einsum("gkk->gk", second), damping)
    inverse = np.einsum("gkj,gkj->gj", upper, upper)
    cost: Array = np.square(weight.astype(np.float64)) / inverse[:, None, :]
    return cost


def smallest(scores: Array, count: int) -> Array:
    """Where the ``count`` smallest of all scores are, as booleans; the first of equal ones."""
    flat = scores.reshape(-1)
    if not 0 < count < flat.size:
        return np.full(scores.shape, count > 0)
    last = np.partition(flat, count - 1)[count - 1]
    gone = flat < last
    gone[np.flatnonzero(flat == last)[: count - int(gone.sum())]] = True
    found: Array = gone.reshape(scores.shape)
    return found


def semi(weight: Array, second: Array, damping: float) -> Eliminated:
    """Zero two of every four neighbouring columns, for each output.

    Args:
        weight: Of shape (groups, outputs, columns); the columns are a multiple of four.
        second: Second moments of the columns.
        damping: What is added to their diagonal, as a part of its mean.
    """
    _, damping, upper = decomposed(second, np.einsum("gkk->gk", second), damping)
    gone = np.zeros(weight.transpose(0, 2, 1).shape, bool)
    own = np.square(np.einsum("gkk->gk", upper))[:, :, None]

    def changed(rest: Array, column: int) -> Array:
        if column % OF == 0:
            four = slice(column, column + OF)
            ranks = np.argsort(np.argsort(np.square(rest[:, four]) / own[:, four], axis=1, kind="stable"), axis=1)
            gone[:, four] = ranks < ZEROS
        return np.where(gone[:, column], 0, rest[:, column])

    return _eliminated(weight, gone, propagated(_turned(weight), upper, changed), damping)


def unstructured(weight: Array, second: Array, count: int, damping: float) -> Eliminated:
    """Zero so many weights, wherever they cost least.

    How many go of each block of columns is known from their costs ahead; which of them, when the block's turn comes.

    Args:
        weight: Of shape (groups, outputs, columns).
        second: Second moments of the columns.
        count: Weights to zero.
        damping: What is added to the diagonal, as a part of its mean.
    """
    _, damping, upper = decomposed(second, np.einsum("gkk->gk", second), damping)
    inverse = np.einsum("gkj,gkj->gj", upper, upper)[:, :, None]
    ahead = smallest(np.square(_turned(weight)) / inverse, count)
    gone = np.zeros_like(ahead)
    own = np.square(np.einsum("gkk->gk", upper))[:, :, None]

    def changed(rest: Array, column: int) -> Array:
        if column % BLOCK == 0:
            block = slice(column, column + BLOCK)
            gone[:, block] = smallest(np.square(rest[:, block]) / own[:, block], int(ahead[:, block].sum()))
        return np.where(gone[:, column], 0, rest[:, column])

    return _eliminated(weight, gone, propagated(_turned(weight), upper, changed), damping)


def solved(wanted: Array, kept: Array, second: Array, ridge: float, own: Array) -> Array:
    """The weight on what is kept whose outputs are nearest to the wanted ones.

    Args:
        wanted: Products of the float outputs and the columns as read, of shape (groups, outputs, columns).
        kept: Which weights may differ from zero, likewise.
        second: Second moments of the columns as read.
        ridge: Pull towards ``own``, as a part of the mean square of the columns.
        own: The weight that it is pulled to.
    """
    result = np.zeros(wanted.shape)
    for group, square in enumerate(second):
        pull = ridge * max(float(np.trace(square)) / len(square), TINY)
        for output in range(wanted.shape[1]):
            at = np.flatnonzero(kept[group, output])
            if len(at):
                matrix = square[np.ix_(at, at)]
                np.einsum("kk->k", matrix)[:] += pull
                aim = wanted[group, output, at] + pull * own[group, output, at]
                result[group, output, at] = np.linalg.solve(matrix, aim)
    return result


def _turned(weight: Array) -> Array:
    return np.ascontiguousarray(weight.transpose(0, 2, 1), dtype=np.float64)


def _eliminated(weight: Array, gone: Array, found: Array, damping: float) -> Eliminated:
    sparse = np.where(gone, 0.0, found).transpose(0, 2, 1)
    return Eliminated(np.ascontiguousarray(sparse).reshape(weight.shape), damping)
