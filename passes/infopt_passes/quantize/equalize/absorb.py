"""High-bias absorption: what every value of a channel has in common moves from an activation into the next bias.

Equalized weights can leave channels whose bias is so high that they never come near zero, which wastes range (Nagel et
al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.3). The amount is taken
from calibration, where the paper takes it from the statistics of a BatchNorm: a constant below all that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.facts import WEIGHT_INPUT, channel_axis
from infopt_passes.fitting.places import Place, bias_place, shifted
from infopt_passes.quantize.equalize.channels import groups
from infopt_passes.quantize.equalize.factors import Floats
from infopt_passes.quantize.lazy import lent


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer before a ReLU, and the layers behind it.

    Attributes:
        maker: The layer whose bias can be lowered.
        value: Its output, which a ReLU alone reads.
        axis: The axis of the value's channels.
        readers: The layers whose biases make up for it; each reads every channel everywhere, without padding.
    """

    maker: ir.Node
    value: ir.Value
    axis: int
    readers: tuple[ir.Node, ...]


def pairs(graph: ir.Graph) -> list[Pair]:
    """Where biases can be absorbed, in the graph's order.

    Args:
        graph: The main graph; shapes are inferred.
    """
    found = []
    for group in groups(graph):
        for maker in group.makers:
            value = maker.outputs[0]
            relus = [use.node for use in value.uses()]
            if len(relus) != 1 or relus[0].op_type != "Relu" or bias_place(maker) is None:
                continue
            readers = tuple(dict.fromkeys(use.node for use in relus[0].outputs[0].uses()))
            if value in group.values and readers and all(node in group.readers and _takes(node) for node in readers):
                found.append(Pair(maker, value, group.values[value], readers))
    return found


def absorb(graph: ir.Graph, found: list[Pair], smallest: Mapping[str, Floats]) -> int:
    """Lower biases by what their channels never fall below, in place.

    Args:
        graph: The main graph.
        found: Its pairs.
        smallest: Smallest value seen of each channel, by tensor.

    Returns:
        Number of channels that were lowered.
    """
    count = 0
    for pair in found:
        amounts = np.maximum(smallest[pair.value.name or ""], 0.0)
        if not amounts.any() or not np.isfinite(amounts).all():
            continue
        count += int((amounts > 0).sum())
        _shift(graph, pair.maker, -amounts)
        for reader in pair.readers:
            _shift(graph, reader, _read(reader, amounts))
    return count


def _takes(node: ir.Node) -> bool:
    """Whether a constant that is taken from all that a layer reads is a constant of its output."""
    if bias_place(node) is None:
        return False
    if node.op_type in ("Gemm", "MatMul"):
        return True
    padded = any(node.attributes.get_ints("pads", [])) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    return node.op_type == "Conv" and not padded


def _read(node: ir.Node, amounts: Floats) -> Any:
    """What a layer makes of a constant in each channel, float64 of shape (output channels,)."""
    value = node.inputs[WEIGHT_INPUT]
    assert value is not None
    assert value.const_value is not None
    return lent(value.const_value, lambda weight: _product(node, np.asarray(weight, np.float64), amounts))


def _product(node: ir.Node, weight: Any, amounts: Floats) -> Any:
    if node.op_type != "Conv":
        factor = node.attributes.get_float("alpha", 1.0) if node.op_type == "Gemm" else 1.0
        return factor * (weight @ amounts if channel_axis(node) % 2 == 0 else amounts @ weight)
    sums = weight.reshape(*weight.shape[:2], -1).sum(axis=2)
    parts = int(node.attributes.get_int("group", 1))
    # Each output channel reads the channels of its group.
    read = np.repeat(amounts.reshape(parts, -1), len(weight) // parts, axis=0)
    return (sums * read).sum(axis=1)


def _shift(graph: ir.Graph, node: ir.Node, amounts: Any) -> None:
    """Add to a layer's bias; a constant of its own, since others may read it too."""
    place: Place | None = bias_place(node)
    assert place is not None
    holder, index = place
    array = shifted(node, place, amounts)
    own = ir.Value(name=f"{node.name}:bias:absorbed", const_value=ir.tensor(array))
    own.type, own.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(array.shape)
    taken = graph.initializers
    while own.name in taken:
        own.name = f"{own.name}+"
    graph.register_initializer(own)
    if len(holder.inputs) <= index:
        holder.resize_inputs(index + 1)
    old = holder.inputs[index]
    holder.replace_input_with(index, own)
    if old is not None and not old.uses() and not old.is_graph_output() and isinstance(old.graph, ir.Graph):
        old.graph.initializers.pop(old.name or "", None)
