"""Writes a plan into a graph: Q/DQ pairs on activations, integer weights and biases behind a DQ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.facts import BIAS_INPUT, CONVOLUTIONS, FLOAT_SUFFIX, WEIGHT_INPUT, channel_axis, is_constant
from infopt.model import Range
from infopt.target import Role, Scheme, Table
from infopt_passes.fitting.places import bias_place, shifted
from infopt_passes.quantize.fit import PLAIN, Fit
from infopt_passes.quantize.flow import Use, home_of
from infopt_passes.quantize.lazy import lent, quantized_tensor
from infopt_passes.quantize.numbers import (
    Array,
    guarded,
    quantize_bias,
    quantize_weight,
    stored_type,
    weight_scales,
)
from infopt_passes.quantize.plan import Plan

NO_BIAS = 2.0**-100
"""A bias that a runtime does not take for zero, and that is lost in every sum that matters."""


@dataclass(slots=True)
class Writer:
    """Adds constants and Q/DQ nodes to one graph; equal constants are written once."""

    graph: ir.Graph
    constants: dict[str, ir.Value] = field(default_factory=dict)

    def constant(self, key: str, content: Any) -> ir.Value:
        """The initializer of a key, made on the first call; the key is its name, unless the model has that already.

        Args:
            key: What the constant is.
            content: An array, or a tensor that makes its own when it is written.
        """
        if key not in self.constants:
            name = next(n for n in _numbered(key) if n not in self.graph.initializers)
            tensor = content if isinstance(content, ir.LazyTensor) else ir.tensor(content, name=name)
            tensor.name = name
            value = ir.Value(name=name, const_value=tensor)
            value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(content.shape)
            self.graph.register_initializer(value)
            self.constants[key] = value
        return self.constants[key]

    def pair(self, value: ir.Value, known: Range, output: str | None = None) -> ir.Value:
        """A Q/DQ pair behind a value, and the dequantized value."""
        name = value.name
        scale = self.constant(f"{name}:scale", np.array(known.scale, np.float32))
        zero = self.constant(f"{name}:zero_point", np.array(known.zero_point, stored_type(known.dtype)))
        quantize = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}:Q")
        quantize.outputs[0].name = f"{name}:quantized"
        quantize.outputs[0].type, quantize.outputs[0].shape = ir.TensorType(zero.dtype), value.shape  # type: ignore[arg-type]
        return self._dequantize(quantize, [quantize.outputs[0], scale, zero], value, output or f"{name}:dequantized")

    def weight(
        self, weight: ir.Value, integers: Any, scales: Any, axis: int, key: str, implicit: bool = False
    ) -> ir.Value:
        """An integer constant behind a DQ that gives the float value back; ``axis`` is that of channels or blocks."""
        inputs = [self.constant(f"{key}:quantized", integers), self.constant(f"{key}:scale", scales)]
        if not implicit:
            kind = inputs[0].dtype.numpy()  # type: ignore[union-attr]
            inputs.append(self.constant(f"{key}:zero_point", np.zeros(scales.shape, kind)))
        attributes = {"axis": axis} if scales.ndim else {}
        if scales.ndim > 1:
            attributes["block_size"] = integers.shape[axis] // scales.shape[axis]
        node = ir.node("DequantizeLinear", inputs, attributes=attributes, name=f"{key}:DQ")
        node.outputs[0].name = f"{key}:dequantized"
        node.outputs[0].type, node.outputs[0].shape = weight.type, weight.shape
        self.graph.append(node)
        return node.outputs[0]

    def _dequantize(self, quantize: ir.Node, inputs: list[ir.Value], like: ir.Value, name: str) -> ir.Value:
        node = ir.node("DequantizeLinear", inputs, name=f"{like.name}:DQ")
        node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = name, like.type, like.shape
        self.graph.extend([quantize, node])
        return node.outputs[0]


def insert(
    graph: ir.Graph,
    plan: Plan,
    ranges: Mapping[str, Range],
    table: Table,
    fits: Mapping[ir.Node, Fit] | None = None,
) -> None:
    """Change a graph so that it is quantized as planned.

    Args:
        graph: The main graph; changed in place.
        plan: What to quantize; its nodes and values are this graph's.
        ranges: Scale and zero point by tensor name.
        table: The target's table.
        fits: What was decided about weights and biases of compute nodes; those of the others are rounded to nearest.
    """
    fits = fits or {}
    writers: dict[ir.Graph, Writer] = {}

    def writer_in(holder: ir.Graph) -> Writer:
        """What is read in a body is written there: runtimes look for it beside its reader."""
        return writers.setdefault(holder, Writer(holder))

    for node in plan.integer:
        _shift(writer_in(graph_of(node)), node, fits.get(node, PLAIN))
    for node, rule in plan.integer.items():
        writer = writer_in(graph_of(node))
        if rule.role is Role.COMPUTE and is_constant(node.inputs[WEIGHT_INPUT]):
            bias = _bias_value(node) if table.bias == "int32" else None
            step = 1.0 if bias is None else ranges[node.inputs[0].name or ""].scale  # type: ignore[union-attr]
            _weights(writer, node, rule.weight or table.weight, (bias, step), fits.get(node, PLAIN))
            if table.biased and node.op_type in CONVOLUTIONS:
                _bias(writer, node)
        elif rule.role in (Role.FOLLOW, Role.JOIN):
            _constant_operands(writer, node, rule.activation or table.activation)
    for value, uses in plan.edges.items():
        _activations(writer_in, value, uses, value in plan.whole, ranges[value.name or ""])
    graph.sort()


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph or body that a node is in."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def _activations(
    writer_in: Callable[[ir.Graph], Writer], value: ir.Value, uses: set[Use], whole: bool, known: Range
) -> None:
    """Put a pair behind a tensor, and one more into each body that reads it in integers."""
    home = home_of(value)
    assert isinstance(home, ir.Graph)
    apart = {graph_of(node) for node, _ in uses} - {home}
    for holder in sorted(apart, key=lambda graph: next(iter(graph)).name or ""):
        _activation(writer_in(holder), value, {use for use in uses if use[0].graph is holder}, False, known)
    local = {use for use in uses if use[0].graph is home}
    if local or whole:
        _activation(writer_in(home), value, local, whole, known)


def _activation(writer: Writer, value: ir.Value, uses: set[Use], whole: bool, known: Range) -> None:
    all_uses = [(use.node, use.idx) for use in value.uses() if not _quantizes_apart(use.node, writer.graph)]
    readers = all_uses if whole else sorted(uses, key=lambda use: use[0].name or "")
    leaves = whole and value.is_graph_output()
    name = value.name
    if leaves:
        value.name = f"{name}{FLOAT_SUFFIX}"
    dequantized = writer.pair(value, known, name if leaves else None)
    for node, index in readers:
        node.replace_input_with(index, dequantized)
    if leaves:
        position = [output is value for output in writer.graph.outputs].index(True)
        writer.graph.outputs[position] = dequantized


def _quantizes_apart(node: ir.Node, home: ir.Graph) -> bool:
    """Whether a node is the Q of a body, in front of which the tensor may stay as it is."""
    return node.op_type == "QuantizeLinear" and node.graph is not home


def _shift(writer: Writer, node: ir.Node, fit: Fit) -> None:
    """Add a shift to a node's bias; a constant of its own, since others may read the bias too."""
    place = bias_place(node) if fit.shift is not None else None
    if place is None or fit.shift is None:
        return
    holder, index = place
    array = shifted(node, place, fit.shift)
    if len(holder.inputs) <= index:
        holder.resize_inputs(index + 1)
    holder.replace_input_with(index, writer.constant(f"{node.name}:bias:shifted", array))


def _bias_value(node: ir.Node) -> ir.Value | None:
    return node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else None


def _weights(
    writer: Writer, node: ir.Node, scheme: Scheme, integer_bias: tuple[ir.Value | None, float], fit: Fit
) -> None:
    """Make a weight integers, and the bias too, if there is one that is to be; it comes with the input's scale."""
    weight, (bias, step) = node.inputs[WEIGHT_INPUT], integer_bias
    assert weight is not None
    tensor = weight.const_value
    assert tensor is not None
    axis = channel_axis(node) % len(tensor.shape)
    # A ConvTranspose has the channels of one group in its weight; the groups share their scales.
    groups = int(node.attributes.get_int("group", 1)) if node.op_type == "ConvTranspose" else 1
    channels = int(tensor.shape.numpy()[axis]) * groups
    addend = None if bias is None else np.broadcast_to(_array(bias).reshape(-1), (channels,))
    largest = None if addend is None else np.abs(addend.reshape(groups, -1)).max(axis=0)
    if fit.scales is None:
        scales = lent(tensor, lambda array: weight_scales(array, axis, scheme, largest, step))
    else:
        scales = guarded(fit.scales, largest, step)
    # A weight that several nodes share is quantized for each: scales may depend on the node's bias and axis.
    key = weight.name if len(weight.uses()) == 1 else f"{weight.name}:{node.name}"
    integers = _fitted(tensor, scales, axis, scheme, fit)
    node.replace_input_with(WEIGHT_INPUT, writer.weight(weight, integers, scales, axis, str(key), scheme.implicit))
    if bias is not None and addend is not None:
        accumulated = np.broadcast_to(np.tile(scales, groups if scales.ndim else 1) * np.float32(step), addend.shape)
        stored = quantize_bias(addend, accumulated)
        dequantized = writer.weight(bias, stored, np.ascontiguousarray(accumulated), 0, f"{node.name}:bias")
        dequantized.shape = ir.Shape(stored.shape)
        node.replace_input_with(BIAS_INPUT, dequantized)


def _fitted(tensor: ir.TensorProtocol, scales: Array, axis: int, scheme: Scheme, fit: Fit) -> Any:
    """The integers of a weight: those that were fitted, except in channels whose scale had to grow for the bias."""
    if fit.integers is None or fit.scales is None:
        return quantized_tensor(tensor, scales, axis, scheme)
    grown = scales != fit.scales
    if not grown.any():
        return fit.integers
    plain = lent(tensor, lambda array: quantize_weight(array, scales, axis, scheme))
    shape = [1] * plain.ndim
    if scales.ndim:
        shape[axis] = -1
    return np.where(grown.reshape(shape), plain, fit.integers)


def _bias(writer: Writer, node: ir.Node) -> None:
    """Give a convolution a bias of its own, and where it has none or only zeros, one that changes nothing."""
    bias = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else None
    if bias is None:
        weight = node.inputs[WEIGHT_INPUT]
        assert weight is not None
        assert weight.shape is not None
        channels = weight.shape.numpy()[channel_axis(node)]
        if node.op_type == "ConvTranspose":
            channels *= int(node.attributes.get_int("group", 1))
        array = np.zeros(channels, np.float32)
    elif is_constant(bias):
        array = _array(bias)
    else:
        return
    if bias is not None and array.any() and len(bias.uses()) == 1:
        return
    if len(node.inputs) <= BIAS_INPUT:
        node.resize_inputs(BIAS_INPUT + 1)
    own = array if array.any() else np.full_like(array, NO_BIAS)
    node.replace_input_with(BIAS_INPUT, writer.constant(f"{node.name}:bias", own))


def _constant_operands(writer: Writer, node: ir.Node, scheme: Scheme) -> None:
    """Quantize the constant operands of a follower per tensor, with the activations' scheme."""
    from infopt_passes.quantize.numbers import activation_range

    for index, value in enumerate(node.inputs):
        if not is_constant(value) or value is None or value.dtype != ir.DataType.FLOAT:
            continue
        array = _array(value)
        known = activation_range(float(array.min()), float(array.max()), scheme)
        bottom, top = np.iinfo(known.dtype).min, np.iinfo(known.dtype).max
        integers = np.clip(np.rint(array / known.scale) + known.zero_point, bottom, top).astype(known.dtype)
        scale = writer.constant(f"{value.name}:{node.name}:scale", np.array(known.scale, np.float32))
        zero = writer.constant(f"{value.name}:{node.name}:zero_point", np.array(known.zero_point, known.dtype))
        stored = writer.constant(f"{value.name}:{node.name}:quantized", integers)
        dq = ir.node("DequantizeLinear", [stored, scale, zero], name=f"{value.name}:{node.name}:DQ")
        dq.outputs[0].name = f"{value.name}:{node.name}:dequantized"
        dq.outputs[0].type, dq.outputs[0].shape = value.type, value.shape
        writer.graph.append(dq)
        node.replace_input_with(index, dq.outputs[0])


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}:{number}" for number in count(2))


def _array(value: ir.Value) -> Any:
    assert value.const_value is not None
    return value.const_value.numpy()
