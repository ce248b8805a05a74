"""Bias correction: rounding shifts the mean of each output channel, and the bias can take that back.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, with the means
of calibration samples instead of those that batch normalization implies (NNCF calls that fast bias correction).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from infopt_passes.fitting.moments import Moments

Array = npt.NDArray[Any]

ABSURD = 1.0
"""A shift larger than this part of an output's root mean square is an artifact, not the effect of rounding."""


def bias_shift(weight: Array, rounded: Array, seen: Moments, absurd: float | None = ABSURD) -> Array:
    """What to add to the bias, so that the quantized layer's outputs have the mean of the float layer's.

    Args:
        weight: Float weight of shape (groups, outputs, columns).
        rounded: The weight that takes its place, dequantized.
        seen: Moments of the input.
        absurd: Part of an output's root mean square that a shift may have; ``None`` for any.

    Returns:
        float32 of shape (groups * outputs,); smaller where few rows leave it uncertain, and 0 for channels whose shift
        would be absurd or is not finite.
    """
    wanted = np.einsum("gnk,gk->gn", weight, seen.mean, dtype=np.float64)
    found = np.einsum("gnk,gk->gn", rounded, seen.read, dtype=np.float64)
    shift = _significant(wanted - found, weight - rounded, seen)
    sound = np.isfinite(shift)
    if absurd is not None:
        exact = weight.astype(np.float64)
        square = np.einsum("gnk,gnk->gn", exact @ seen.second, exact)
        sound &= np.abs(shift) <= absurd * np.sqrt(np.maximum(square, 0))
    return np.where(sound, shift, 0).reshape(-1).astype(np.float32)


def _significant(shift: Array, error: Array, seen: Moments) -> Array:
    """Shifts shrunk by how much of them may be chance (James and Stein 1961): what rounding does to this many rows."""
    exact = error.astype(np.float64)
    variance = np.einsum("gnk,gnk->gn", exact @ seen.spread, exact)
    chance = np.maximum(variance, 0) / max(seen.rows, 1)
    share = np.divide(
        chance, np.square(shift), out=np.ones_like(shift), where=np.abs(shift) > np.finfo(np.float32).tiny
    )
    shrunk: Array = shift * np.maximum(1 - share, 0)
    return shrunk
