"""Where a shift of a layer's output can go: its bias, or what stands for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import BIAS_INPUT, WEIGHT_INPUT, channel_axis, is_constant

Array = npt.NDArray[Any]

Place = tuple[ir.Node, int]
"""A node and the position of one of its inputs."""


def bias_place(node: ir.Node) -> Place | None:
    """Where the bias of a compute node is, or would be; ``None`` where its output cannot be shifted for free.

    A MatMul has none of its own: the constant of an Add that reads it alone serves, since every runtime computes that
    along with the product.
    """
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        given = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else None
        return (node, BIAS_INPUT) if given is None or is_constant(given) else None
    output = node.outputs[0]
    uses = tuple(output.uses())
    if node.op_type != "MatMul" or len(uses) != 1 or output.is_graph_output():
        return None
    reader, index = uses[0].node, uses[0].idx
    if reader.op_type != "Add" or reader.domain != "" or reader.graph is not node.graph:
        return None
    return (reader, 1 - index) if _fits(reader.inputs[1 - index], node) else None


def output_channels(node: ir.Node) -> int:
    """Number of output channels of a compute node with a constant weight."""
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.shape is not None
    # A ConvTranspose has the channels of one group in its weight.
    groups = int(node.attributes.get_int("group", 1)) if node.op_type == "ConvTranspose" else 1
    return int(weight.shape.numpy()[channel_axis(node)]) * groups


def shifted(node: ir.Node, place: Place, shift: Array) -> Array:
    """The bias of a node with its output shifted; a node's ``beta`` does not scale the shift.

    Args:
        node: The compute node.
        place: See :func:`bias_place`.
        shift: float of shape (output channels,).
    """
    holder, index = place
    value = holder.inputs[index] if len(holder.inputs) > index else None
    factor = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
    if value is None:
        return (shift / factor).astype(np.float32)
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy() + shift / factor, dtype=np.float32)


def _fits(value: ir.Value | None, node: ir.Node) -> bool:
    """Whether a constant is a bias of float32: adding a number per channel to it leaves the output's shape alone."""
    if value is None or not is_constant(value) or value.dtype != ir.DataType.FLOAT or value.shape is None:
        return False
    sizes = value.shape.numpy()
    # Of several axes, only those of size 1 are certain not to make the output larger than the product is.
    return all(size == 1 for size in sizes[:-1]) and (not sizes or sizes[-1] in (1, output_channels(node)))
