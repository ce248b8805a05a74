"""How many weights of each layer go: those that cost least over all layers, each layer's cost being relative.

A layer's cost is the error of its output as a part of the output's own variance, so that layers of different magnitude
compare; sensitive layers keep more. Costs are kept as histograms: memory does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BINS = 4096
DECADES = (-24.0, 8.0)
"""Powers of ten that a relative cost lies within; what is outside counts as the nearest."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What the weights of a layer cost.

    Attributes:
        histogram: Number of weights by the logarithm of their cost, int64 of shape (BINS,).
    """

    histogram: Array

    @staticmethod
    def of(costs: Array) -> Costs:
        """Costs of all weights of a layer, relative to its output's variance."""
        low, high = DECADES
        powers = np.clip(np.log10(np.maximum(costs, 10**low)), low, high)
        return Costs(np.histogram(powers, BINS, DECADES)[0])


def allocated(layers: Mapping[str, Costs], share: float) -> dict[str, int]:
    """Weights to zero in each layer.

    No layer loses more than half of what it would keep at the common share: one that loses everything ends the model.

    Args:
        layers: Costs by name.
        share: Part of all weights that is to be zero.
    """
    sums = np.array([np.cumsum(each.histogram) for each in layers.values()])
    sizes = sums[:, -1]
    bounded = np.minimum(sums, np.floor(sizes * (1 + share) / 2).astype(np.int64)[:, None])
    total = min(round(share * float(sizes.sum())), int(bounded[:, -1].sum()))
    at = int(np.searchsorted(bounded.sum(axis=0), total))
    upper = bounded[:, at]
    lower = bounded[:, at - 1] if at else np.zeros_like(upper)
    part = (total - lower.sum()) / max(int((upper - lower).sum()), 1)
    counts = lower + np.floor((upper - lower) * part).astype(np.int64)
    return dict(zip(layers, map(int, counts), strict=True))
