"""Layers as matrix products: the weight as (groups, outputs, columns), and rows of the input to go with it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import WEIGHT_INPUT, channel_axis, is_constant
from infopt_passes.fitting.patches import Window, chosen, patches

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """How one node is a product ``y[g] = rows[g] @ weight[g].T``.

    Attributes:
        window: The kernel's geometry of a convolution; ``None`` for a product.
        groups: Groups of a convolution, else 1.
        shape: Shape of the weight in the graph.
        columns_first: Whether the weight in the graph is (columns, outputs).
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
        return self.shape[0] if self.columns_first else prod(self.shape[1:])

    @property
    def key(self) -> tuple[Any, ...]:
        """Layers of one key and one input read the same rows."""
        return (self.window, self.groups, self.columns, self.transposed)

    def matrix(self, weight: Array) -> Array:
        """The weight as (groups, outputs of a group, columns)."""
        if self.columns_first:
            return weight.T[None]
        return weight.reshape(self.groups, -1, self.columns)

    def weight(self, matrix: Array) -> Array:
        """The opposite of :meth:`matrix`, contiguous."""
        if self.columns_first:
            return np.ascontiguousarray(matrix[0].T)
        return np.ascontiguousarray(matrix.reshape(self.shape))

    def per_row(self, scales: Array) -> Array:
        """Scales per channel, or one for all, so that they broadcast against :meth:`matrix`."""
        return scales.reshape(self.groups, -1, 1) if scales.ndim else scales.reshape(1, 1, 1)

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
        flat = data.T if self.transposed else data.reshape(-1, self.columns)
        return flat[chosen(len(flat), limit, rng)][None]


def layout(node: ir.Node) -> Layout | None:
    """How a compute node is a product; ``None`` for those that are none of a matrix known ahead.

    These are transposed convolutions, whose sums depend on the place, and products of more than two axes of weight.
    """
    weight = node.inputs[WEIGHT_INPUT] if len(node.inputs) > WEIGHT_INPUT else None
    if weight is None or not is_constant(weight) or weight.shape is None or node.domain != "":
        return None
    shape = tuple(int(size) for size in weight.shape.numpy())
    if 0 in shape:
        return None
    if node.op_type == "Conv" and len(shape) > 2:
        return Layout(Window.of(node, shape[2:]), int(node.attributes.get_int("group", 1)), shape)
    if node.op_type == "MatMul" and len(shape) == 2:
        return Layout(None, 1, shape, columns_first=True)
    if node.op_type == "Gemm":
        transposed, factor = node.attributes.get_int("transA", 0), node.attributes.get_float("alpha", 1.0)
        return Layout(None, 1, shape, channel_axis(node) == 1, bool(transposed), float(factor))
    return None
