"""Scales of a weight for the least square error, by search: a smaller step rounds all values better and clips a few.

Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 3.1; there without the inputs' importance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FACTORS = np.concatenate([np.linspace(1, 0.8, 11), np.linspace(0.77, 0.35, 15)])
"""What the scale of min-max is tried to be multiplied by; more densely where int8 has its optimum."""

PART = 1 << 20
"""Elements of a weight that are looked at at once."""


def least_error(
    rows: Array, scales: Array, ends: tuple[int, int], importance: Array | None = None, zeros: Array | float = 0
) -> Array:
    """Shrink each row's scale to where rounding and clipping lose least.

    Args:
        rows: Float weights, one row per scale, of shape (rows, columns).
        scales: Scales that clip nothing, of shape (rows,).
        ends: Smallest and largest integer.
        importance: Weight of each element's square error, broadcast against ``rows``: the mean square of the input
            that it is multiplied by. All count alike by default.
        zeros: Zero points, of shape (rows,), for unsigned blocks.

    Returns:
        Scales of the dtype of ``scales``; the given one where no other is better.
    """
    result = np.array(scales)
    step = max(1, PART // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        weight = None if importance is None else np.broadcast_to(importance, rows.shape)[part].astype(np.float32)
        zero = np.broadcast_to(np.asarray(zeros, np.float32), scales.shape)[part]
        result[part] = _search(rows[part], scales[part], ends, weight, zero)
    return result


def _search(rows: Array, scales: Array, ends: tuple[int, int], importance: Array | None, zeros: Array) -> Array:
    best, error = scales.copy(), np.full(len(rows), np.inf)
    for factor in FACTORS:
        tried = (scales * factor).astype(scales.dtype)
        lost = _error(rows, tried, ends, importance, zeros)
        better = lost < error
        best[better], error[better] = tried[better], lost[better]
    return best


def _error(rows: Array, scales: Array, ends: tuple[int, int], importance: Array | None, zeros: Array) -> Array:
    """Square error of each row, rounded to nearest; infinite for a scale that vanished."""
    low, high = ends[0] - zeros[:, None], ends[1] - zeros[:, None]
    with np.errstate(all="ignore"):
        steps = np.rint(rows / scales[:, None])
        np.clip(steps, low, high, out=steps)
        steps *= scales[:, None]
        steps -= rows
        steps *= steps
        if importance is not None:
            steps *= importance
        lost = steps.sum(axis=1, dtype=np.float64)
    return np.where(np.isfinite(lost), lost, np.inf)
