"""Folds per-channel constants behind a convolution into its weight and bias.

Some exporters write a bias as a separate Add, or a folded normalization as Mul and Add. Runtimes fuse these in float,
but a quantized convolution with an Add behind it runs both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.facts import CONVOLUTIONS

FOLDED = frozenset({"Add", "Sub", "Mul", "Div"})


def fold_affine(graph: ir.Graph) -> int:
    """Fold what can be folded, in place.

    Args:
        graph: The graph; weights are initializers.

    Returns:
        Number of nodes removed.
    """
    removed = 0
    for node in list(graph):
        while node.op_type in CONVOLUTIONS and node.domain == "" and _fold_next(graph, node):
            removed += 1
    return removed


def _fold_next(graph: ir.Graph, conv: ir.Node) -> bool:
    """Fold the single consumer of a convolution into it; false when it is no such constant."""
    output = conv.outputs[0]
    uses = tuple(output.uses())
    if len(uses) != 1 or output.is_graph_output():
        return False
    node, index = uses[0].node, uses[0].idx
    if (
        node.graph is not graph
        or node.op_type not in FOLDED
        or node.domain
        or (index == 1 and node.op_type in ("Sub", "Div"))
    ):
        return False
    weight, bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
    if not _constant(weight) or (bias is not None and not _constant(bias)):
        return False
    assert weight is not None
    channels = _channels(conv, _array(weight))
    vector = _per_channel(node.inputs[1 - index], channels, output)
    if vector is None:
        return False
    if node.op_type in ("Mul", "Div"):
        with np.errstate(divide="ignore", over="ignore"):
            factor = vector if node.op_type == "Mul" else 1 / vector
        if not np.isfinite(factor).all():
            return False
        _replace(graph, conv, 1, _scaled(conv, _array(weight), factor), f"{weight.name}:{node.name}")
        if bias is not None:
            _replace(graph, conv, 2, _array(bias) * factor, f"{bias.name}:{node.name}")
    else:
        before = np.zeros(channels, vector.dtype) if bias is None else _array(bias)
        after = before + (vector if node.op_type == "Add" else -vector)
        _replace(graph, conv, 2, after, f"{conv.name}:bias:{node.name}")
    _take_over(graph, conv, node)
    return True


def _take_over(graph: ir.Graph, conv: ir.Node, node: ir.Node) -> None:
    """Give the convolution the output of the node that was folded into it."""
    old, new = conv.outputs[0], node.outputs[0]
    name, shape, kind = new.name, new.shape, new.type
    position = [value is new for value in graph.outputs].index(True) if new.is_graph_output() else None
    new.replace_all_uses_with(old, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    old.name, old.shape, old.type = name, shape, kind
    assert position is None or graph.outputs[position] is old


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: Any, name: str) -> None:
    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
    value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(array.dtype)), ir.Shape(array.shape)
    graph.register_initializer(value)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def _scaled(conv: ir.Node, weight: Any, factor: Any) -> Any:
    if conv.op_type == "Conv":
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    groups = factor.size // weight.shape[1]
    # Input channels of a ConvTranspose are sorted by group, so the factor of a group belongs to its rows.
    rows = np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return weight * rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))


def _channels(conv: ir.Node, weight: Any) -> int:
    group = conv.attributes.get("group")
    return int(weight.shape[0] if conv.op_type == "Conv" else weight.shape[1] * (group.value if group else 1))


def _per_channel(value: ir.Value | None, channels: int, like: ir.Value) -> Any:
    """A constant as a vector over the channels of an output, or ``None`` when it is not one."""
    if value is None or not _constant(value) or like.shape is None or value.dtype != like.dtype:
        return None
    array, rank = _array(value), len(like.shape)
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if shape[1] not in (1, channels) or any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)).copy()


def _constant(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer() and not value.is_graph_input()


def _array(value: ir.Value) -> Any:
    assert value.const_value is not None
    return value.const_value.numpy()
