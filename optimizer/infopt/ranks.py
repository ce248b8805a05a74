"""Rank correlation: whether two models put things into the same order, whatever the scale of their numbers."""

from __future__ import annotations

import numpy as np

from infopt.metrics import finite

MAX_VALUES = 4_000_000
"""Scores that are sorted; of larger outputs evenly spread rows stand for the rest."""


def rank_correlation(reference: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's rank correlation of an output, over what a user would rank.

    * One number for each sample (``[N]``, ``[N, 1]``; a regression, a detector's score): over the samples.
    * Two scores for each sample: over the samples, of their difference.
    * More scores (``[N, C]``; classes, relevances): within each sample over its scores, then the mean.

    C. Spearman, "The proof and measurement of association between two things", American Journal of Psychology 15 (1904)
    72-101. Equal values share the mean of their ranks.

    Args:
        reference: Numbers [N], [N, 1] or [N, C].
        other: As ``reference``.

    Returns:
        From -1 to 1; 1 where both are constant, 0 where one of them is. ``None`` for other shapes, for a single sample
        with a single number, and for outputs that are not floats.
    """
    if reference.dtype.kind != "f" or reference.shape != other.shape or reference.ndim not in (1, 2):
        return None
    rows = [array[:, np.newaxis] if array.ndim == 1 else array for array in (reference, other)]
    count, width = rows[0].shape
    if count == 0 or width == 0 or (count == 1 and width < 3):
        return None
    if width > 2:
        chosen = np.linspace(0, count - 1, min(count, max(1, MAX_VALUES // width))).astype(np.int64)
        before, after = (finite(array[chosen]) for array in rows)
    else:
        numbers = [finite(array) for array in rows]
        before, after = ((array[:, :1] - array[:, 1:2] if width == 2 else array).T for array in numbers)
    return float(_correlations(ranks(before), ranks(after)).mean())


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value within its row, from 0; equal values share the mean of their ranks.

    Args:
        values: [R, C], finite.

    Returns:
        float64 [R, C].
    """
    rows, columns = values.shape
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    first = np.ones((rows, columns), bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    run = np.cumsum(first.reshape(-1)) - 1
    positions = np.tile(np.arange(columns, dtype=np.float64), rows)
    means = np.bincount(run, positions) / np.bincount(run)
    result = np.empty((rows, columns))
    np.put_along_axis(result, order, means[run].reshape(rows, columns), axis=1)
    return result


def _correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row."""
    left, right = (array - array.mean(axis=1, keepdims=True) for array in (left, right))
    dot = np.einsum("ij,ij->i", left, right)
    squares = [np.einsum("ij,ij->i", rows, rows) for rows in (left, right)]
    norm = np.sqrt(squares[0] * squares[1])
    constant = (squares[0] == 0) & (squares[1] == 0)
    return np.clip(np.where(constant, 1.0, dot / np.where(norm == 0, 1.0, norm)), -1.0, 1.0)
