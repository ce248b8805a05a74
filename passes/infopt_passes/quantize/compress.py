"""Stores constant weights in few bits behind a DequantizeLinear; activations are left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from infopt.facts import WEIGHT_INPUT, channel_axis
from infopt.target import Scheme, Table
from infopt_passes.quantize.blocks import block_scales, fitting_block
from infopt_passes.quantize.insert import NO_BIAS, Writer, graph_of
from infopt_passes.quantize.lazy import LARGE, lent
from infopt_passes.quantize.numbers import Array, quantize_weight, weight_scales
from infopt_passes.quantize.plan import Plan

NOTHING: Mapping[ir.Node, Array] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight as it is stored: a matrix has its output channels in the last axis.

    Attributes:
        tensor: The float weight of the model.
        turned: Whether it is transposed for that.
        axis: Axis of the output channels, as stored.
    """

    tensor: ir.TensorProtocol
    turned: bool
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape as stored."""
        shape = tuple(int(size) for size in self.tensor.shape.numpy())
        return shape[::-1] if self.turned else shape

    def use(self, function: Callable[[Array], Array]) -> Array:
        """What a function makes of its values."""
        return lent(self.tensor, lambda array: function(array.T if self.turned else array))


def stored_weight(node: ir.Node) -> Weight:
    """The weight of a planned compute node. Runtimes fuse a transposed one with nothing, so it is turned."""
    value = node.inputs[WEIGHT_INPUT]
    assert value is not None
    assert value.const_value is not None
    axis = channel_axis(node) % len(value.const_value.shape)
    turned = node.op_type == "Gemm" and axis == 0
    return Weight(value.const_value, turned, 1 if turned else axis)


def chosen_integers(weight: Weight, scales: Array, scheme: Scheme) -> Array | ir.LazyTensor:
    """The numbers that a weight is stored as; those of a large one are made when they are written.

    The one place where they are rounded to nearest for precisions that quantize weights alone.
    """

    def make() -> Array:
        return weight.use(lambda array: quantize_weight(array, scales, weight.axis, scheme))

    if weight.tensor.nbytes < LARGE:
        return make()
    return ir.LazyTensor(lambda: ir.tensor(make()), ir.DataType[scheme.dtype.upper()], ir.Shape(weight.shape))


def compress(graph: ir.Graph, plan: Plan, table: Table, block: int, fitted: Mapping[ir.Node, Array] = NOTHING) -> None:
    """Change a graph so that the planned nodes read compressed weights.

    Args:
        graph: The main graph; changed in place.
        plan: Which nodes; those that have no block length move to its ``kept``.
        table: The table of the precision.
        block: Rows of a column that share a scale, where the scheme is in blocks.
        fitted: Integers that were chosen already, as they are stored.
    """
    for node, rule in list(plan.integer.items()):
        scheme = rule.weight or table.weight
        weight = stored_weight(node)
        fitting = fitting_block(weight.shape[0], block) if scheme.blocked else None
        if scheme.blocked and fitting is None:
            plan.kept[node] = f"its {weight.shape[0]} rows do not divide into blocks"
            del plan.integer[node]
            continue
        scales = stored_scales(weight, scheme, fitting)
        integers = fitted[node] if node in fitted else chosen_integers(weight, scales, scheme)
        writer = Writer(graph_of(node))
        _replace(writer, node, integers, scales, 0 if fitting else weight.axis)
        product = _split(graph_of(node), node) if node.op_type == "Gemm" else node
        if table.biased and product.op_type == "MatMul" and _clipped(product):
            bias = np.full(weight.shape[-1], NO_BIAS, np.float32)
            _add(graph_of(product), product, writer.constant(f"{product.name}:no_bias", bias))
    graph.sort()


def stored_scales(weight: Weight, scheme: Scheme, block: int | None) -> Array:
    """Scales of a weight: per block of its rows, or per channel."""
    if block:
        return weight.use(lambda array: block_scales(array, block, scheme))
    return weight.use(lambda array: weight_scales(array, weight.axis, scheme, None, 1.0))


def _replace(writer: Writer, node: ir.Node, integers: Array | ir.LazyTensor, scales: Array, axis: int) -> None:
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    # ONNX Runtime takes compressed weights that have one reader only: those that nodes share are stored for each.
    key = weight.name if len(weight.uses()) == 1 else f"{weight.name}:{node.name}"
    dequantized = writer.weight(weight, integers, scales, axis, str(key), implicit=True)
    dequantized.shape = ir.Shape(integers.shape)
    node.replace_input_with(WEIGHT_INPUT, dequantized)


def _split(graph: ir.Graph, gemm: ir.Node) -> ir.Node:
    """Make a Gemm a MatMul and an Add: ONNX Runtime would rather fuse it with the activation behind it, in float."""
    data, weight, *rest = gemm.inputs
    product = ir.node("MatMul", [data, weight], name=gemm.name)
    old, new = gemm.outputs[0], product.outputs[0]
    name, new.shape, new.type = old.name, old.shape, old.type
    graph.append(product)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(gemm, safe=True)
    new.name = name
    if rest and rest[0] is not None:
        _add(graph, product, rest[0])
    return product


def _add(graph: ir.Graph, product: ir.Node, bias: ir.Value) -> None:
    """Add a bias to a product; the sum takes the name of the product's output."""
    old = product.outputs[0]
    add = ir.node("Add", [old, bias], name=f"{product.name}:bias")
    new = add.outputs[0]
    name, new.shape, new.type = old.name, old.shape, old.type
    graph.append(add)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    add.replace_input_with(0, old)
    old.name, new.name = f"{name}:product", name


def _clipped(product: ir.Node) -> bool:
    """Whether the only reader of a product is a Relu or Clip: ONNX Runtime then takes the two for one, in float."""
    output = product.outputs[0]
    readers = [use.node for use in output.uses()]
    return len(readers) == 1 and not output.is_graph_output() and readers[0].op_type in ("Relu", "Clip")
