"""Rescales the channels of a graph: constants are divided where a channel is made, multiplied where it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.facts import BIAS_INPUT, CONVOLUTIONS, WEIGHT_INPUT, channel_axis
from infopt_passes.quantize.equalize.channels import Group
from infopt_passes.quantize.equalize.factors import Floats, Reader
from infopt_passes.quantize.lazy import LARGE, lent


def rescale(graph: ir.Graph, group: Group, divisors: Floats, tag: str) -> None:
    """Divide the channels of a group by factors, in place.

    Args:
        graph: The main graph.
        group: The group.
        divisors: Positive, of shape (channels,).
        tag: Told apart from other rescalings; new constants carry it in their names.
    """
    for node in group.makers:
        rank = _rank(node, WEIGHT_INPUT)
        _scale(graph, node, WEIGHT_INPUT, along(1 / divisors, rank, channel_axis(node)), tag)
        if len(node.inputs) > BIAS_INPUT and node.inputs[BIAS_INPUT] is not None:
            _scale(graph, node, BIAS_INPUT, 1 / divisors, tag)
    for node, index in group.factors:
        constant = node.inputs[index]
        assert constant is not None
        assert constant.shape is not None
        axis = constant.shape.numpy().index(group.channels)
        _scale(graph, node, index, along(1 / divisors, len(constant.shape), axis), tag)
    for node in group.readers:
        _scale(graph, node, WEIGHT_INPUT, read_factors(node, divisors), tag)


def reader(node: ir.Node, channels: int) -> Reader:
    """The magnitudes of the weights with which a node reads channels."""
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.const_value is not None
    return lent(weight.const_value, lambda array: _magnitudes(node, np.asarray(array), channels))


def made(group: Group) -> Floats:
    """Largest magnitude of the weights that make each channel of a group; zeros where none does."""
    result = np.zeros(group.channels)
    for node in group.makers:
        weight = _array(node, WEIGHT_INPUT)
        axis = channel_axis(node) % weight.ndim
        others = tuple(i for i in range(weight.ndim) if i != axis)
        result = np.maximum(result, np.abs(weight).max(axis=others))
    return result


def read_factors(node: ir.Node, divisors: Floats) -> Any:
    """Factors of a reader's weight, in a shape that broadcasts."""
    rank = _rank(node, WEIGHT_INPUT)
    groups = int(node.attributes.get_int("group", 1)) if node.op_type == "Conv" else 1
    if groups == 1:
        return along(divisors, rank, _read_axis(node, rank))
    # The weight of a grouped convolution is (outputs, channels / groups, ...), each output reads those of its group.
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.shape is not None
    rows = np.repeat(divisors.reshape(groups, -1), int(weight.shape.numpy()[0]) // groups, axis=0)
    return rows.reshape(*rows.shape, *[1] * (rank - 2))


def along(vector: Any, rank: int, axis: int) -> Any:
    """A vector in the shape that broadcasts along an axis of a tensor."""
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


def _read_axis(node: ir.Node, rank: int) -> int:
    if node.op_type in CONVOLUTIONS:
        return 0 if node.op_type == "ConvTranspose" else 1
    # A product reads what its outputs do not run over.
    return 1 - channel_axis(node) % rank


def _magnitudes(node: ir.Node, weight: Any, channels: int) -> Reader:
    groups = int(node.attributes.get_int("group", 1)) if node.op_type == "Conv" else 1
    if groups == channels:
        return Reader(np.ones(channels))
    axis = _read_axis(node, weight.ndim)
    moved = np.moveaxis(np.abs(weight), channel_axis(node) % weight.ndim, 0)
    if groups == 1:
        axis = axis if axis > channel_axis(node) % weight.ndim else axis + 1
        others = tuple(i for i in range(1, weight.ndim) if i != axis)
        return Reader(moved.max(axis=others).astype(np.float64) if others else moved.astype(np.float64))
    flat = moved.reshape(moved.shape[0], moved.shape[1], -1).max(axis=2)
    result = np.zeros((weight.shape[0], channels))
    each = channels // groups
    for row in range(weight.shape[0]):
        first = row // (weight.shape[0] // groups) * each
        result[row, first : first + each] = flat[row]
    return Reader(result)


def _array(node: ir.Node, index: int) -> Any:
    value = node.inputs[index]
    assert value is not None
    assert value.const_value is not None
    return lent(value.const_value, lambda array: np.array(array, np.float64))


def _rank(node: ir.Node, index: int) -> int:
    value = node.inputs[index]
    assert value is not None
    assert value.shape is not None
    return len(value.shape)


def _scale(graph: ir.Graph, node: ir.Node, index: int, factors: Any, tag: str) -> None:
    """Give a node a constant of its own, multiplied; others may read the old one."""
    old = node.inputs[index]
    assert old is not None
    assert old.const_value is not None
    tensor = _product(old.const_value, factors)
    name = f"{old.name}:{tag}" if len(old.uses()) == 1 else f"{old.name}:{node.name}:{index}:{tag}"
    value = ir.Value(name=name, const_value=tensor)
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(tensor.shape.numpy())
    graph.register_initializer(value)
    node.replace_input_with(index, value)
    if not old.uses() and not old.is_graph_output() and isinstance(old.graph, ir.Graph):
        old.graph.initializers.pop(old.name or "", None)


def _product(tensor: ir.TensorProtocol, factors: Any) -> ir.TensorProtocol:
    """A tensor times factors, float32; of a large one, made whenever it is asked, so that no two are in memory."""

    def made() -> ir.TensorProtocol:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is taken back
            return ir.tensor(lent(tensor, lambda array: (array.astype(np.float64) * factors).astype(np.float32)))

    if tensor.nbytes < LARGE:
        return made()
    return ir.LazyTensor(made, ir.DataType.FLOAT, ir.Shape(tensor.shape.numpy()))
