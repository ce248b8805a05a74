"""Reads a Q/DQ graph: which layers read integers, through which pairs, and what their outputs are called in float."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from infopt.facts import COMPUTE_OPS, CONVOLUTIONS, FLOAT_SUFFIX, is_constant

PRODUCT_SUFFIX = ":product"
"""A product that is given a bias of its own, for a runtime that asks for one, hands its name to the sum."""

STEPS = 4
"""Nodes without quantization that a layer's output may pass on its way to a pair: a ReLU, a Reshape."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor behind Q and DQ.

    Attributes:
        tensor: Name of the float tensor in front of Q.
        dequantized: Name of the tensor behind DQ.
        scale: Quantization step.
        zero_point: Integer that stands for zero.
        dtype: Integer type by its ONNX name; an FP8 type has no integers to count.
    """

    tensor: str
    dequantized: str
    scale: float
    zero_point: int
    dtype: str

    @property
    def limits(self) -> tuple[int, int] | None:
        """Smallest and largest integer."""
        try:
            kind = np.iinfo(self.dtype)
        except (TypeError, ValueError):
            return None
        return int(kind.min), int(kind.max)

    @property
    def name(self) -> str:
        """The tensor as the float model calls it."""
        return float_name(self.tensor)


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A node that reads integers.

    Attributes:
        name: Its name.
        op: Its operator.
        output: Its output as the float model calls it; that of a ReLU behind it, where that is what is quantized.
        measured: The same tensor in the quantized graph, as its readers get it.
        inputs: The pairs that it reads through.
        closing: The pair behind its output.
        weights: Positions of constant operands that are stored in integers.
        axis: Axis of the channels of its output.
    """

    name: str
    op: str
    output: str
    measured: str
    inputs: tuple[Pair, ...]
    closing: Pair | None
    weights: tuple[int, ...]
    axis: int


def float_name(name: str | None) -> str:
    """What the float model calls a tensor of the quantized model."""
    return (name or "").removesuffix(FLOAT_SUFFIX).removesuffix(PRODUCT_SUFFIX)


def quantized_layers(graph: ir.Graph) -> list[QuantizedLayer]:
    """The nodes of a main graph that read what a DequantizeLinear gives, in the graph's order."""
    return [_layer(node) for node in graph if not _is_pair(node) and any(map(_dequantizes, node.inputs))]


def pair_of(value: ir.Value | None) -> Pair | None:
    """The pair that makes a value, if it is one on an activation with one scale."""
    if not _dequantizes(value):
        return None
    assert value is not None
    node = value.producer()
    assert node is not None
    stored = node.inputs[0]
    maker = stored.producer() if stored is not None else None
    if maker is None or maker.op_type != "QuantizeLinear":
        return None
    numbers = [given.const_value.numpy() for given in maker.inputs[1:3] if given is not None and given.const_value]
    if not numbers or numbers[0].size != 1 or maker.inputs[0] is None:
        return None
    zero = numbers[1] if len(numbers) > 1 else np.zeros((), np.uint8)
    scale = float(numbers[0].reshape(()))
    return Pair(maker.inputs[0].name or "", value.name or "", scale, int(zero.reshape(())), zero.dtype.name)


def is_stored(value: ir.Value | None) -> bool:
    """Whether a value is a constant that is kept in integers behind a DQ."""
    if not _dequantizes(value):
        return False
    assert value is not None
    node = value.producer()
    return node is not None and is_constant(node.inputs[0])


def rescaled(graph: ir.Graph) -> bool:
    """Whether equalization rescaled channels of a model: then its tensors are the float model's up to factors."""
    return any(":equalized" in name for name in graph.initializers)


def _layer(node: ir.Node) -> QuantizedLayer:
    output, closing = _seen_by_readers(node.outputs[0])
    pairs = tuple(pair for value in node.inputs for pair in _read_through(value, STEPS))
    weights = tuple(i for i, value in enumerate(node.inputs) if is_stored(value))
    measured = closing.dequantized if closing else output.name or ""
    name = float_name(output.name)
    return QuantizedLayer(
        node.name or node.op_type, node.op_type, name, measured, pairs, closing, weights, _axis(node, output)
    )


def _read_through(value: ir.Value | None, steps: int) -> list[Pair]:
    """The pairs that a reader gets, also those in front of what only moves data: some runtimes want none behind it."""
    pair = pair_of(value)
    if pair or value is None or not steps:
        return [pair] if pair else []
    maker = value.producer()
    if maker is None or maker.op_type in COMPUTE_OPS or not any(map(_dequantizes, maker.inputs)):
        return []
    return [each for source in maker.inputs for each in _read_through(source, steps - 1)]


def _seen_by_readers(value: ir.Value) -> tuple[ir.Value, Pair | None]:
    """A layer's output as it is quantized, with the pair behind it, or as it is."""
    uses = [use.node for use in value.uses()]
    if (value.name or "").endswith(PRODUCT_SUFFIX) and len(uses) == 1 and uses[0].op_type == "Add":
        value = uses[0].outputs[0]
    here = value
    for _ in range(STEPS):
        closing = next((pair for dequantized in _behind(here) if (pair := pair_of(dequantized))), None)
        if closing:
            return here, closing
        readers = [use.node for use in here.uses()]
        if len(readers) != 1 or len([v for v in readers[0].inputs if v is not None and not is_constant(v)]) != 1:
            break
        here = readers[0].outputs[0]
    return value, None


def _behind(value: ir.Value) -> Iterator[ir.Value]:
    """What Q and DQ behind a value give."""
    for use in value.uses():
        if use.node.op_type == "QuantizeLinear" and use.idx == 0:
            yield from (other.node.outputs[0] for other in use.node.outputs[0].uses())


def _axis(node: ir.Node, output: ir.Value) -> int:
    """Channels come second in pictures, and last in sequences and tables."""
    rank = len(output.shape) if output.shape is not None else 0
    return 1 if node.op_type in CONVOLUTIONS or rank > 3 else -1


def _dequantizes(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    return node is not None and node.op_type == "DequantizeLinear"


def _is_pair(node: ir.Node) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")
