"""Layers as matrix products: the weight as (groups, outputs, columns), and rows of the input to go with it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import CONVOLUTIONS, WEIGHT_INPUT, channel_axis, is_constant
from infopt_passes.fitting.patches import Window, chosen, patches

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """How one node is a product ``y[g] = rows[g] @ weight[g].T``.

    Attributes:
        window: The kernel's geometry of a convolution; ``None`` for a product.
        groups: Groups of a convolution, or matrices of a batch.
        shape: Shape of the weight in the graph.
        columns_first: Whether the weight in the graph is (columns, outputs), or a batch of such matrices.
        transposed: Whether the input is transposed first (Gemm's ``transA``).
        factor: What the product is multiplied by (Gemm's ``alpha``).
    """

    window: Window | None
    groups: int
    shape: tuple[int, ...]
    columns_first: bool = False
    transposed: bool = False
    factor: float = 1.0

    @property
    def columns(self) -> int:
        """Length of a row: inputs that one output is a sum over."""
        if self.columns_first:
            return self.shape[-2]
        if self.turned:
            return self.shape[0] // self.groups * prod(self.shape[2:])
        return prod(self.shape[1:])

    @property
    def key(self) -> tuple[Any, ...]:
        """Layers of one key and one input read the same rows."""
        return (self.window, self.groups, self.columns, self.transposed, self._batch)

    @property
    def turned(self) -> bool:
        """Whether it is a transposed convolution, whose weight has the input's channels in front."""
        return self.window is not None and self.window.transposed

    @property
    def shared(self) -> bool:
        """Whether the groups have one scale for each output together: the weight in the graph has it once."""
        return self.turned or bool(self._batch)

    @property
    def single(self) -> bool:
        """Whether each output of each group has a bias of its own: matrices of a batch have one together."""
        return not self._batch

    @property
    def ordinary(self) -> bool:
        """Whether its weight is a matrix, or that of a Conv."""
        return not self.shared

    @property
    def _batch(self) -> tuple[int, ...]:
        return self.shape[:-2] if self.columns_first else ()

    def matrix(self, weight: Array) -> Array:
        """The weight as (groups, outputs of a group, columns)."""
        if self.columns_first:
            return weight.reshape(self.groups, *self.shape[-2:]).transpose(0, 2, 1)
        if self.turned:
            split = weight.reshape(self.groups, -1, self.shape[1], prod(self.shape[2:]))
            return split.transpose(0, 2, 1, 3).reshape(self.groups, self.shape[1], self.columns)
        return weight.reshape(self.groups, -1, self.columns)

    def weight(self, matrix: Array) -> Array:
        """The opposite of :meth:`matrix`, contiguous."""
        if self.columns_first:
            return np.ascontiguousarray(matrix.transpose(0, 2, 1).reshape(self.shape))
        if self.turned:
            split = matrix.reshape(self.groups, self.shape[1], -1, prod(self.shape[2:]))
            return np.ascontiguousarray(split.transpose(0, 2, 1, 3).reshape(self.shape))
        return np.ascontiguousarray(matrix.reshape(self.shape))

    def per_row(self, scales: Array) -> Array:
        """Scales per channel, or one for all, so that they broadcast against :meth:`matrix`."""
        if not scales.ndim:
            return scales.reshape(1, 1, 1)
        return scales.reshape(1 if self.shared else self.groups, -1, 1)

    def by_scale(self, matrix: Array) -> Array:
        """A matrix of the shape of :meth:`matrix` with one row for each scale."""
        return (
            matrix.transpose(1, 0, 2).reshape(matrix.shape[1], -1) if self.shared else matrix.reshape(-1, self.columns)
        )

    def rows(self, data: Array, limit: int, rng: np.random.Generator) -> Array:
        """Rows of an input, at most so many, drawn at random but in order.

        Args:
            data: The input.
            limit: Rows at most.
            rng: Draws the places; one in the same state draws the same of an input of the same shape.

        Returns:
            Of shape (groups, rows, columns).
        """
        if self.window is not None:
            return patches(data, self.window, self.groups, limit, rng)
        if self._batch:
            return self._batched(data, limit, rng)
        flat = data.T if self.transposed else data.reshape(-1, self.columns)
        return flat[chosen(len(flat), limit, rng)][None]

    def _batched(self, data: Array, limit: int, rng: np.random.Generator) -> Array:
        """Rows that each matrix of a batch is multiplied with; axes of batches are aligned at the end."""
        axes = max(data.ndim - 2, len(self._batch))
        wanted = (1,) * (axes - len(self._batch)) + self._batch
        data = data.reshape((1,) * (axes - data.ndim + 2) + data.shape)
        each = [axis for axis, size in enumerate(wanted) if size > 1]
        rest = [axis for axis in range(axes + 1) if axis not in each]
        whole = np.broadcast_to(data, (*map(max, wanted, data.shape[:axes]), *data.shape[axes:]))
        moved = whole.transpose(*each, *rest, axes + 1)
        places = moved.shape[len(each) : -1]
        drawn = np.unravel_index(chosen(prod(places), limit, rng), places)
        picked = moved[(slice(None),) * len(each) + drawn]
        return np.ascontiguousarray(picked).reshape(self.groups, -1, self.columns)


def layout(node: ir.Node) -> Layout | None:
    """How a compute node is a product; ``None`` for those that are none of a matrix known ahead.

    A transposed convolution is a convolution of the input with zeros between its elements; one that names the size of
    its output is left out.
    """
    weight = node.inputs[WEIGHT_INPUT] if len(node.inputs) > WEIGHT_INPUT else None
    if weight is None or not is_constant(weight) or weight.shape is None or node.domain != "":
        return None
    shape = tuple(int(size) for size in weight.shape.numpy())
    if 0 in shape:
        return None
    if node.op_type in CONVOLUTIONS and len(shape) > 2 and "output_shape" not in node.attributes:
        return Layout(Window.of(node, shape[2:]), int(node.attributes.get_int("group", 1)), shape)
    if node.op_type == "MatMul" and len(shape) > 1:
        return Layout(None, prod(shape[:-2]), shape, columns_first=True)
    if node.op_type == "Gemm":
        transposed, factor = node.attributes.get_int("transA", 0), node.attributes.get_float("alpha", 1.0)
        return Layout(None, 1, shape, channel_axis(node) == 1, bool(transposed), float(factor))
    return None
