"""Least squares for weights whose zeros stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TINY = float(np.finfo(np.float32).tiny)
"""Less than any variance that matters, so that nothing is divided by zero."""

STEADY = 1e-3
"""Pull towards the start in steps of conjugate gradients, as a part of the mean square of the columns."""

STEPS = (4, 12, 36)
"""Steps that are tried; the fewest that do not do worse on runs held back are enough."""


def stepped(second: Array, wanted: Array, start: Array, steps: int) -> Array:
    """The weight after some steps of conjugate gradients from a sparse start, whose zeros stay.

    All outputs step together, each in its own system, so that the work is in products of large matrices. Few steps
    take what is certain first, as a ridge does.

    Args:
        second: Second moments of the columns as read.
        wanted: Products of the float outputs and the columns as read, of shape (groups, outputs, columns).
        start: The sparse weight, likewise.
        steps: Number of steps.
    """
    kept = (start != 0).astype(np.float32)
    square = second.astype(np.float32, copy=False)
    pull = np.float32(STEADY) * np.einsum("gkk->g", square)[:, None, None] / square.shape[1]
    scale = np.maximum(np.einsum("gkk->gk", square)[:, None, :] + pull, TINY)
    weight = start.astype(np.float32)
    rest = ((wanted - start @ second) * kept).astype(np.float32)
    turned = rest / scale
    along, length = turned, np.einsum("gnk,gnk->gn", rest, turned)
    for _ in range(steps):
        image = (along @ square + pull * along) * kept
        step = length / np.maximum(np.einsum("gnk,gnk->gn", along, image), TINY)
        weight += step[:, :, None] * along
        rest -= step[:, :, None] * image
        turned = rest / scale
        new = np.einsum("gnk,gnk->gn", rest, turned)
        along = turned + (new / np.maximum(length, TINY))[:, :, None] * along
        length = new
    return weight.astype(np.float64)
