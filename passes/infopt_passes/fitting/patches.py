"""Patches of a convolution's input: what the kernel sees at some places of the output, transposed ones included."""

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
        transposed: Whether it is a ConvTranspose, whose pads take away from the output, and whose kernel sees the input
            with zeros between its elements.
        extra: What a ConvTranspose's output has more at the ends (``output_padding``).
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto: str = "NOTSET"
    transposed: bool = False
    extra: tuple[int, ...] = ()

    @staticmethod
    def of(node: ir.Node, kernel: Sequence[int]) -> Window:
        """The window of a Conv or ConvTranspose node.

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
            node.op_type == "ConvTranspose",
            tuple(get("output_padding", [0] * axes)) if node.op_type == "ConvTranspose" else (),
        )

    def places(self, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sizes of the output, and pads at the beginnings, for an input of these sizes (ONNX, Conv, ConvTranspose)."""
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        if self.transposed:
            return self._transposed_places(sizes, reach)
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

    def _transposed_places(self, sizes: Sequence[int], reach: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        each = zip(sizes, self.strides, reach, self.extra, strict=True)
        full = [step * (size - 1) + far + more for size, step, far, more in each]
        if self.auto.startswith("SAME"):
            # As ONNX Runtime has it: where the kernel leaves gaps at the ends, nothing is put there.
            out = [min(size * step, whole) for size, step, whole in zip(sizes, self.strides, full, strict=True)]
            missing = [whole - n for whole, n in zip(full, out, strict=True)]
            return tuple(out), tuple((m + (self.auto == "SAME_LOWER")) // 2 for m in missing)
        axes = len(full)
        pads = (0,) * 2 * axes if self.auto == "VALID" else self.pads
        return tuple(max(n - pads[i] - pads[i + axes], 0) for i, n in enumerate(full)), pads[:axes]

    def seen(self, axis: int, place: Array, before: int, size: int) -> tuple[Array, Array]:
        """Where the kernel reads along one axis, of shape (places, kernel), and whether there is something.

        Args:
            axis: The axis.
            place: Places of the output.
            before: Pads at the beginning.
            size: Size of the input.
        """
        within = np.arange(self.kernel[axis]) * self.dilations[axis]
        if not self.transposed:
            at = (place * self.strides[axis] - before)[:, None] + within
            return at, (at >= 0) & (at < size)
        at, between = np.divmod((place + before)[:, None] - within, self.strides[axis])
        return at, (between == 0) & (at >= 0) & (at < size)


def patches(data: Array, window: Window, groups: int, limit: int, rng: np.random.Generator) -> Array:
    """Patches of an input at places drawn at random, so that memory does not grow with the input.

    Args:
        data: Of shape (batch, channels, *sizes).
        window: The kernel's geometry.
        groups: Groups of channels.
        limit: Places at most, over the whole batch.
        rng: Draws the places.

    Returns:
        Of shape (groups, places, channels of a group * kernel), the order of a Conv weight's own axes.
    """
    batch, channels, *sizes = data.shape
    out, before = window.places(sizes)
    count = batch * prod(out)
    drawn = chosen(count, limit, rng)
    item, *place = np.unravel_index(drawn, (batch, *out))
    flat, inside = np.zeros((len(drawn), 1), np.int64), np.ones((len(drawn), 1), bool)
    for axis, size in enumerate(sizes):
        at, fits = window.seen(axis, place[axis], before[axis], size)
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
