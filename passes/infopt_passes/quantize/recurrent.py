"""LSTMs with integer weights, which quantize their data at each step of a sequence."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from infopt.target import Scheme
from infopt_passes.quantize.insert import Writer
from infopt_passes.quantize.lazy import lent
from infopt_passes.quantize.numbers import Array, quantize_weight, stored_type, weight_scales

DOMAIN = "com.microsoft"
INPUTS = 8
"""Inputs of an LSTM; scales and zero points stand behind them."""


def quantize_lstm(writer: Writer, node: ir.Node, scheme: Scheme) -> None:
    """Put a DynamicQuantizeLSTM (ONNX Runtime's contributed operators) in the place of an LSTM.

    Args:
        writer: Writes to the graph; it has to hold the node.
        node: An LSTM whose two weights are constant float32.
        scheme: How weights are stored; per output channel.
    """
    weights, scales = {}, []
    for index, letter in ((1, "W"), (2, "R")):
        value = node.inputs[index]
        assert value is not None
        assert value.const_value is not None
        stored, steps = lent(value.const_value, lambda array: _stored(array, scheme))
        key = f"{node.name}:{letter}"
        weights[index] = writer.constant(f"{key}:quantized", stored)
        zeros = np.zeros(steps.shape, stored_type(scheme.dtype))
        scales += [writer.constant(f"{key}:scale", steps), writer.constant(f"{key}:zero_point", zeros)]
    given = [weights.get(index, value) for index, value in enumerate(node.inputs)]
    inputs = [*given, *[None] * (INPUTS - len(given)), *scales]
    attributes = [attribute for name, attribute in node.attributes.items() if name != "layout"]
    lstm = ir.Node(DOMAIN, "DynamicQuantizeLSTM", inputs, attributes, num_outputs=len(node.outputs), name=node.name)
    for old, new in zip(node.outputs, lstm.outputs, strict=True):
        name, new.shape, new.type = old.name, old.shape, old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name, new.name = None, name
    writer.graph.append(lstm)
    writer.graph.remove(node, safe=True)
    writer.graph.opset_imports.setdefault(DOMAIN, 1)


def _stored(weight: Array, scheme: Scheme) -> tuple[Array, Array]:
    """A weight of shape (directions, gates, inputs) as (directions, inputs, gates), and a scale for each gate."""
    rows = weight.reshape(-1, weight.shape[-1])
    scales = weight_scales(rows, 0, scheme, None, 1.0)
    integers = quantize_weight(rows, scales, 0, scheme).reshape(weight.shape)
    return np.ascontiguousarray(integers.transpose(0, 2, 1)), scales.reshape(weight.shape[:2])
