"""Bias correction: rounding shifts the mean of each output channel, and the bias can take that back.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, with the means
of calibration samples instead of those that batch normalization implies (NNCF calls that fast bias correction).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from infopt_passes.quantize.fitting.moments import Moments

Array = npt.NDArray[Any]

ABSURD = 1.0
"""A shift larger than this part of an output's root mean square is an artifact, not the effect of rounding."""


def bias_shift(weight: Array, rounded: Array, seen: Moments) -> Array:
    """What to add to the bias, so that the quantized layer's outputs have the mean of the float layer's.

    Args:
        weight: Float weight of shape (groups, outputs, columns).
        rounded: The weight that takes its place, dequantized.
        seen: Moments of the input.

    Returns:
        float32 of shape (groups * outputs,); 0 for channels whose shift would be absurd or is not finite.
    """
    wanted = np.einsum("gnk,gk->gn", weight, seen.mean, dtype=np.float64)
    found = np.einsum("gnk,gk->gn", rounded, seen.read, dtype=np.float64)
    exact = weight.astype(np.float64)
    square = np.einsum("gnk,gnk->gn", exact @ seen.second, exact)
    shift = wanted - found
    sound = np.abs(shift) <= ABSURD * np.sqrt(np.maximum(square, 0))  # false for NaN as well
    return np.where(sound, shift, 0).reshape(-1).astype(np.float32)
