"""How channels are rescaled: factors from what was seen of the activations, or from the weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LARGEST = 2.0**10
"""No channel is rescaled by more than this, up or down, against the others."""

HEADROOM = 1.5
"""A channel below a Clip may later grow by this factor over what calibration saw before it is cut off."""

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
"""How much of the differences between channels is moved into the weights; SmoothQuant's alpha."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What a reader's weight says about the channels that it sums over.

    Attributes:
        weight: Magnitudes, float64 of shape (outputs, channels); a channel of a depthwise convolution has its own
            outputs, zero elsewhere, so (channels,) of ones stands for that.
    """

    weight: Floats

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one channel, so that factors vanish in the scales of its weight."""
        return self.weight.ndim == 1


def from_activations(peak: Floats, readers: Sequence[Reader], ceiling: float) -> Floats:
    """Divisors that even out channels (SmoothQuant, Xiao et al. 2022, section 4), as far as it is predicted to pay.

    Rounding an activation adds noise of its step, times the weights that read it; rounding a row of weights adds noise
    of the row's step, times the activations. The strength with the least sum of both is taken, none included.

    Args:
        peak: Largest magnitude seen of each channel, shape (channels,).
        readers: What reads the channels.
        ceiling: Upper bound of a Clip on the way.

    Returns:
        float64 of shape (channels,); all ones where nothing is predicted to get better.
    """
    dense = [reader.weight for reader in readers if not reader.depthwise]
    ones = np.ones_like(peak)
    candidates = [ones, *(_bounded(_moved(peak, dense, alpha), peak, ceiling) for alpha in STRENGTHS)]
    noises = [_noise(peak, readers, divisors) for divisors in candidates]
    best = int(np.argmin(noises))
    return candidates[best] if noises[best] < 0.95 * noises[0] else ones


def from_weights(made: Floats, readers: Sequence[Reader], peak: Floats, ceiling: float) -> Floats:
    """Divisors that give a channel the same range in the weights before and behind it (Nagel et al. 2019, section 4.1).

    Args:
        made: Largest magnitude of the weights that make each channel.
        readers: What reads the channels.
        peak: Largest magnitude seen of each channel; only a Clip asks for it.
        ceiling: Upper bound of a Clip on the way.
    """
    read = np.max([_columns(reader.weight) for reader in readers], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        divisors = np.sqrt(made / read)
    return _bounded(divisors, peak, ceiling)


def _moved(peak: Floats, dense: Sequence[Floats], alpha: float) -> Floats:
    if not dense:
        return np.power(peak, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Rows have scales of their own, so a channel counts relative to the largest weight of each row.
        rows = [weight / weight.max(axis=1, keepdims=True) for weight in dense]
        column = np.max([np.nanmax(row, axis=0, initial=0.0) for row in rows], axis=0)
        return np.asarray(peak**alpha / column ** (1 - alpha), np.float64)


def _bounded(divisors: Floats, peak: Floats, ceiling: float) -> Floats:
    """Divisors around 1 that are finite, and with which no channel is cut off by a Clip that was not before."""
    sound = np.isfinite(divisors) & (divisors > 0) & (peak > 0)
    if not sound.any():
        return np.ones_like(peak)
    middle = float(np.exp(np.log(divisors[sound]).mean()))
    result = np.where(sound, np.clip(divisors / middle, 1 / LARGEST, LARGEST), 1.0)
    if np.isfinite(ceiling):
        result = result / result[sound].max()
        # min(x, c) / s is min(x / s, c) for x up to c * s.
        result = np.maximum(result, np.minimum(peak * HEADROOM / ceiling, 1.0))
    return np.where(sound, result, 1.0)


def _noise(peak: Floats, readers: Sequence[Reader], divisors: Floats) -> float:
    """Predicted power of the rounding noise in what the readers compute, in arbitrary units."""
    step, total = float((peak / divisors).max()), 0.0
    # A channel is thought to have its power in proportion to its range.
    power = np.square(peak / 3)
    for reader in readers:
        if reader.depthwise:
            total += float(np.square(step * divisors).sum() / max(len(peak), 1))
            continue
        scaled = reader.weight * divisors
        rows = np.square(scaled.max(axis=1))
        inputs = np.square(step) * np.square(scaled).sum(axis=1)
        outputs = float(np.square(reader.weight * np.sqrt(power)).sum()) or 1.0
        total += float((inputs + 4 * rows * (power / np.square(divisors)).sum()).sum()) / outputs
    return total


def _columns(weight: Floats) -> Any:
    return weight if weight.ndim == 1 else weight.max(axis=0)
