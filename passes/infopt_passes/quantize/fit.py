"""What an algorithm decided about the weight and the bias of one node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fit:
    """What is written instead of a plain scale and rounding to nearest; ``None`` leaves a part plain.

    Attributes:
        scales: Scales of the weight, float32 of shape (channels,), or () for one scale.
        integers: The rounded weight, of the weight's shape and the scheme's type; it goes with ``scales``.
        shift: What is added to the float bias, float32 of shape (output channels,).
    """

    scales: Array | None = None
    integers: Array | None = None
    shift: Array | None = None


PLAIN = Fit()
