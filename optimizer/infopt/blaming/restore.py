"""Restores layers of a Q/DQ graph to float: their pairs and stored weights are taken away, all else stays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from infopt.blaming.graph import float_name, is_stored, pair_of, rescaled
from infopt.facts import COMPUTE_OPS, CONVOLUTIONS, WEIGHT_INPUT, channel_axis

Array = npt.NDArray[Any]

ROUNDS = 12
"""Rounds in which the factors of rows and of columns settle."""

REFITTED = 0.1
"""Power of what factors leave of the difference between weights, from which on a weight was refitted, not rescaled."""


@dataclass(frozen=True, slots=True)
class Restorer:
    """Makes graphs in which some layers compute in float again.

    Attributes:
        graph: The quantized model.
        constants: Constant operands of the float model by name of the node's output and position.
        rescaled: Whether channels were rescaled, so that the float model's weights need factors.
    """

    graph: ir.Model
    constants: Mapping[tuple[str, int], ir.TensorProtocol]
    rescaled: bool

    def without(self, names: Collection[str]) -> ir.Model:
        """The quantized model with the named layers in float.

        Where a weight cannot be had in float again (it was refitted in a rescaled model), its integers stay.
        """
        result = self.graph.clone()
        for node in list(result.graph):
            if node.name in names:
                self._restore(result.graph, node)
        RemoveUnusedNodesPass()(result)
        return result

    def _restore(self, graph: ir.Graph, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            pair = pair_of(value)
            if pair is not None and value is not None:
                node.replace_input_with(index, _in_front(value))
            elif value is not None and is_stored(value):
                self._constant(graph, node, index, value)
            source = node.inputs[index]
            maker = source.producer() if source is not None else None
            if maker is not None and maker.op_type != "DequantizeLinear" and _follows(maker):
                self._restore(graph, maker)

    def _constant(self, graph: ir.Graph, node: ir.Node, index: int, value: ir.Value) -> None:
        array = self.weight(node, index, value)
        if array is None:
            return
        name = f"{node.name}:{index}:restored"
        made = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        made.type, made.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(array.shape)
        graph.register_initializer(made)
        node.replace_input_with(index, made)

    def weight(self, node: ir.Node, index: int, value: ir.Value) -> Array | None:
        """A stored constant as it was in float, in the scale of the quantized model; ``None`` if that is not known."""
        output = float_name(node.outputs[0].name)
        tensor = self.constants.get((output, index))
        if tensor is None:
            return None
        array, rounded = tensor.numpy(), stored_values(value)
        if array.size != rounded.size:
            return None
        array = array.reshape(rounded.shape)
        if not self.rescaled:
            return np.array(array, np.float32)
        if index != WEIGHT_INPUT or array.ndim < 2:
            return None
        return _refactored(array, rounded, node)


def restorer(graph: ir.Model, reference: ir.Model) -> Restorer:
    """A restorer for a quantized model.

    Args:
        graph: The quantized model.
        reference: The float model as it went into quantization.
    """
    constants = {}
    for node in reference.graph:
        for index, value in enumerate(node.inputs):
            tensor = ir.convenience.get_const_tensor(value) if value is not None else None
            if tensor is not None and node.outputs[0].name:
                constants[node.outputs[0].name, index] = tensor
    return Restorer(graph, constants, rescaled(graph.graph))


def stored_values(value: ir.Value) -> Array:
    """What a DQ makes of a stored constant, float32."""
    node = value.producer()
    assert node is not None
    stored, scale, *rest = (None if given is None else given.const_value for given in node.inputs)
    assert stored is not None
    assert scale is not None
    integers, scales = stored.numpy().astype(np.float32), scale.numpy().astype(np.float32)
    zero = rest[0].numpy().astype(np.float32) if rest and rest[0] is not None else np.zeros_like(scales)
    if scales.size == 1:
        return np.asarray((integers - zero.reshape(())) * scales.reshape(()), np.float32)
    axis = int(node.attributes.get_int("axis", 1)) % integers.ndim
    if scales.ndim > 1:
        block = integers.shape[axis] // scales.shape[axis]
        scales, zero = (np.repeat(part, block, axis=axis) for part in (scales, zero))
    else:
        shape = [1] * integers.ndim
        shape[axis] = -1
        scales, zero = scales.reshape(shape), zero.reshape(shape)
    return np.asarray((integers - zero) * scales, np.float32)


def _in_front(dequantized: ir.Value) -> ir.Value:
    """The float tensor in front of a pair."""
    dq = dequantized.producer()
    q = dq.inputs[0].producer() if dq is not None and dq.inputs[0] is not None else None
    assert q is not None
    assert q.inputs[0] is not None
    return q.inputs[0]


def _follows(node: ir.Node) -> bool:
    """Whether a node runs as integers only for readers that do, and none is left: a Concat, a MaxPool, a sum."""
    if node.op_type in COMPUTE_OPS or not any(pair_of(value) for value in node.inputs):
        return False
    readers = [use.node for value in node.outputs for use in value.uses()]
    wanted = [each for each in readers if each.op_type == "QuantizeLinear" and _read(each)]
    return not wanted


def _read(quantize: ir.Node) -> bool:
    """Whether anything still reads what a pair gives."""
    behind = [use.node for use in quantize.outputs[0].uses()]
    return any(value.uses() or value.is_graph_output() for each in behind for value in each.outputs)


def _refactored(array: Array, rounded: Array, node: ir.Node) -> Array | None:
    """The float weight times the factors of its channels that come closest to the rounded one.

    Equalization multiplied what a channel is made with and what it is read with: a factor a row and a factor a
    column, by alternating least squares.
    """
    axis = channel_axis(node) % array.ndim
    read = 1 - axis if node.op_type in CONVOLUTIONS or array.ndim == 2 else (axis - 1) % array.ndim
    weight, wanted = array.astype(np.float64), rounded.astype(np.float64)
    scaled = weight
    for _ in range(ROUNDS):
        for kept in (axis, read):
            others = tuple(i for i in range(array.ndim) if i != kept)
            power = np.square(scaled).sum(axis=others, keepdims=True)
            product = (scaled * wanted).sum(axis=others, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                scaled = scaled * np.where((power > 0) & (product > 0), product / power, 1.0)
    left = float(np.square(scaled - wanted).sum()), float(np.square(wanted).sum())
    return scaled.astype(np.float32) if left[0] <= REFITTED * left[1] else None
