"""Patches of a convolution's input: what the kernel sees at some places of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution, one entry per spatial axis.

    Attributes:
        kernel: Sizes of the kernel.
        strides: Steps between places.
        dilations: Steps within the kernel.
        pads: Zeros at the beginnings, then at the ends; ignored unless ``auto`` is ``NOTSET``.
        auto: The operator's ``auto_pad``.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto: str = "NOTSET"

    @staticmethod
    def of(node: ir.Node, kernel: Sequence[int]) -> Window:
        """The window of a Conv node.

        Args:
            node: The node.
            kernel: Spatial sizes of its weight.
        """
        axes, get = len(kernel), node.attributes.get_ints
        return Window(
            tuple(kernel),
            tuple(get("strides", [1] * axes)),
            tuple(get("dilations", [1] * axes)),
            tuple(get("pads", [0] * 2 * axes)),
            node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET",
        )

    def places(self, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sizes of the output, and zeros at the beginnings, for an input of these sizes (ONNX, Conv)."""
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        axes = len(reach)
        if self.auto.startswith("SAME"):
            out = [-(-size // step) for size, step in zip(sizes, self.strides, strict=True)]
            steps = zip(out, self.strides, reach, sizes, strict=True)
            missing = [max(0, (n - 1) * step + far - size) for n, step, far, size in steps]
            return tuple(out), tuple((m + (self.auto == "SAME_LOWER")) // 2 for m in missing)
        pads = (0,) * 2 * axes if self.auto == "VALID" else self.pads
        padded = [size + pads[i] + pads[i + axes] for i, size in enumerate(sizes)]
        out = [(size - far) // step + 1 for size, far, step in zip(padded, reach, self.strides, strict=True)]
        return tuple(max(n, 0) for n in out), pads[:axes]


def patches(data: Array, window: Window, groups: int, limit: int, rng: np.random.Generator) -> Array:
    """Patches of an input at places drawn at random, so that memory does not grow with the input.

    Args:
        data: Of shape (batch, channels, *sizes).
        window: The kernel's geometry.
        groups: Groups of channels.
        limit: Places at most, over the whole batch.
        rng: Draws the places.

    Returns:
        Of shape (groups, places, channels of a group * kernel), the order of a weight's own axes.
    """
    batch, channels, *sizes = data.shape
    out, before = window.places(sizes)
    count = batch * prod(out)
    drawn = chosen(count, limit, rng)
    item, *place = np.unravel_index(drawn, (batch, *out))
    flat, inside = np.zeros((len(drawn), 1), np.int64), np.ones((len(drawn), 1), bool)
    for axis, size in enumerate(sizes):
        start = place[axis] * window.strides[axis] - before[axis]
        at = start[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        fits = (at >= 0) & (at < size)
        flat = (flat[:, :, None] * size + np.where(fits, at, 0)[:, None]).reshape(len(drawn), -1)
        inside = (inside[:, :, None] & fits[:, None]).reshape(len(drawn), -1)
    found = data.reshape(batch, channels, -1)[item[:, None], :, flat]  # (places, kernel, channels)
    if not inside.all():
        found *= inside[:, :, None]
    rows = found.transpose(2, 0, 1).reshape(groups, channels // groups, len(drawn), -1)
    return np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).reshape(groups, len(drawn), -1)


def chosen(count: int, limit: int, rng: np.random.Generator) -> Array:
    """At most ``limit`` of ``count`` places, ascending."""
    return np.arange(count) if count <= limit else np.sort(rng.choice(count, limit, replace=False))
