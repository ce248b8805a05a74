"""Where Q/DQ stand: what blocks a fusion, what is quantized by half, what is done twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.checks import repair
from infopt.checks.rule import ONNXRUNTIME, LintRule, Spot
from infopt.checks.subject import ACTIVATIONS, PRODUCTS, Quant, Subject, behind, constant_tensor, is_op

MIXED = 8.0
"""Ratio of the scales of a Concat's inputs from which the smaller one loses three bits of its eight."""

NORMS = frozenset({"BatchNormalization"})
CONCAT = frozenset({"Concat"})
PAIRWISE = frozenset({"Add", "Mul"})
CONVS = frozenset({"Conv", "ConvTranspose"})


def halves(subject: Subject) -> Iterator[Spot]:
    """Compute nodes of which one operand comes through Q/DQ and the other one does not."""
    for node in subject.products():
        sides = [subject.dequantized(value) for value in node.inputs[:2]]
        if len([side for side in sides if side is not None]) == 1 and not _compressed(sides[1]):
            index = 0 if sides[0] is None else 1
            yield Spot(f"its {('data', 'weight')[index]} is float, the other operand is quantized", node)


def _compressed(weight: Quant | None) -> bool:
    """Whether a weight is quantized to save memory: in blocks or in less than 8 bits, for float kernels."""
    return weight is not None and (weight.block > 0 or weight.integer in (ir.DataType.INT4, ir.DataType.UINT4))


def half_pairs(subject: Subject) -> Iterator[Spot]:
    """Add and Mul with a quantized output, and one operand in integers and one, computed, in float."""
    for node in subject.nodes:
        wanted = is_op(node, PAIRWISE) and subject.quantized(behind(node.outputs[0]))
        if wanted and (odd := _odd(subject, node)):
            yield Spot(f"{odd} is float, the other input is quantized", node)


def half_concat(subject: Subject) -> Iterator[Spot]:
    """Concat with quantized and float inputs."""
    for node in subject.nodes:
        if is_op(node, CONCAT) and (odd := _odd(subject, node)):
            yield Spot(f"{odd} is float, other inputs are quantized", node)


def _odd(subject: Subject, node: ir.Node) -> str | None:
    sides = [subject.dequantized(value) for value in node.inputs]
    computed = [
        value for value, side in zip(node.inputs, sides, strict=True) if side is None and constant_tensor(value) is None
    ]
    if not computed or all(side is None or subject.is_weight(side) for side in sides):
        return None
    return f"input {computed[0].name!r}" if computed[0] is not None else None


def mixed_concat(subject: Subject) -> Iterator[Spot]:
    """Concat that brings inputs of very different magnitude to one scale."""
    for node in subject.nodes:
        if not is_op(node, CONCAT):
            continue
        scales = [scale for value in node.inputs if (scale := _step(subject, value)) is not None]
        outputs = subject.quantized(node.outputs[0])
        if len(scales) > 1 and outputs and min(scales) > 0 and max(scales) / min(scales) > MIXED:
            ratio = max(scales) / min(scales)
            kept = max(int(255 / ratio), 1)
            yield Spot(f"its inputs' scales differ by {ratio:.3g}x: the smallest keeps about {kept} of 256 steps", node)


def _step(subject: Subject, value: ir.Value | None) -> float | None:
    """The scale of a dequantized activation; where it was brought to the shared one before, that of its maker."""
    quant = subject.dequantized(value)
    if quant is None or quant.scale is None or subject.is_weight(quant):
        return None
    return float(quant.scale.max())


def before_activation(subject: Subject) -> Iterator[Spot]:
    """Activations that read a convolution through Q/DQ."""
    for node in subject.nodes:
        if is_op(node, ACTIVATIONS):
            producer = _through(subject, node.inputs[0])
            if producer is not None and is_op(producer, PRODUCTS):
                yield Spot(f"Q/DQ stand between {producer.op_type} and this {node.op_type}", node)


def norm_behind(subject: Subject) -> Iterator[Spot]:
    """BatchNormalization behind a quantized convolution."""
    for node in subject.nodes:
        if not is_op(node, NORMS) or node.inputs[0] is None:
            continue
        producer = _through(subject, node.inputs[0]) or node.inputs[0].producer()
        if is_op(producer, CONVS) and producer is not None:
            weight = subject.dequantized(producer.inputs[1])
            if weight is not None:
                yield Spot(f"not folded into the quantized {producer.op_type} before it", node)


def _through(subject: Subject, value: ir.Value | None) -> ir.Node | None:
    """The node in front of the Q/DQ pair that makes a tensor."""
    dequantizer = subject.dequantized(value)
    quantizer = subject.maker(dequantizer.stored) if dequantizer is not None else None
    if quantizer is None or not quantizer.quantizes:
        return None
    return quantizer.real.producer()


def redundant(subject: Subject) -> Iterator[Spot]:
    """Q nodes that undo the DQ before them."""
    for quant, before in _again(subject):
        if _same(quant, before):
            fixable = not quant.node.outputs[0].is_graph_output()
            yield Spot("it quantizes again what was just dequantized, with the same scale", quant.node, fixable=fixable)


def changed(subject: Subject) -> Iterator[Spot]:
    """Q nodes that bring dequantized data to another scale at once."""
    for quant, before in _again(subject):
        if not _same(quant, before) and quant.scale is not None and before.scale is not None:
            one, other = float(before.scale.max()), float(quant.scale.max())
            yield Spot(f"from scale {one:.4g} to {other:.4g} with nothing in between", quant.node)


def _again(subject: Subject) -> Iterator[tuple[Quant, Quant]]:
    for quant in subject.all_quants(quantizes=True):
        before = subject.dequantized(quant.real)
        if before is not None and not subject.is_weight(before):
            yield quant, before


def _same(one: Quant, other: Quant) -> bool:
    known = all(each is not None for each in (one.scale, one.zero, other.scale, other.zero))
    return (
        known
        and one.integer == other.integer
        and (one.axis == other.axis or not one.per_channel)
        and one.block == other.block
        and np.array_equal(np.ravel(one.scale), np.ravel(other.scale))  # type: ignore[arg-type]
        and np.array_equal(np.ravel(one.zero), np.ravel(other.zero))  # type: ignore[arg-type]
    )


def channel_activations(subject: Subject) -> Iterator[Spot]:
    """Activations with a scale per channel."""
    for quant in subject.all_quants(quantizes=True):
        if quant.per_channel and not subject.is_weight(quant):
            yield Spot(f"an activation with {quant.scale.size if quant.scale is not None else 0} scales", quant.node)


def weight_axes(subject: Subject) -> Iterator[Spot]:
    """Weights whose scales do not lie along the output channels."""
    from infopt.facts import channel_axis

    for node in subject.products():
        quant = subject.dequantized(node.inputs[1])
        if quant is None or not quant.per_channel or quant.block or not subject.is_weight(quant):
            continue
        tensor = constant_tensor(quant.stored)
        rank = len(tensor.shape) if tensor is not None else len(quant.real.shape or ())
        wanted = channel_axis(node)
        if rank and -rank <= quant.axis < rank and quant.axis % rank != wanted % rank:
            yield Spot(
                f"its weight has a scale per slice of axis {quant.axis % rank}; the output channels are axis "
                f"{wanted % rank}",
                node,
            )


ROWS = (
    LintRule(
        "half-quantized", "warning", "Only one operand of a compute node is quantized: it runs in float, and the Q/DQ "
        "cost time and accuracy.", "quantize both operands, or neither", halves, None, fusion=True,
    ),
    LintRule(
        "half-quantized-add", "warning", "ONNX Runtime adds and multiplies in integers only when both inputs are "
        "quantized.", "quantize the other input too", half_pairs, ONNXRUNTIME,
    ),
    LintRule(
        "half-quantized-concat", "warning", "A Concat joins integers only when all its inputs are quantized.",
        "quantize every input", half_concat,
    ),
    LintRule(
        "mixed-concat", "warning", "A Concat brings inputs of very different magnitude to one scale: the small ones "
        "vanish. This is the usual reason why detectors see nothing after INT8.",
        "leave this Concat (often the head: boxes and scores) in float", mixed_concat,
    ),
    LintRule(
        "weight-axis", "warning", "Weight scales lie along another axis than the output channels; no integer kernel "
        "takes that.", "quantize along the output channels (Conv 0, ConvTranspose 1, MatMul the last)", weight_axes,
        None, fusion=True,
    ),
    LintRule(
        "activation-per-channel", "warning", "An activation has a scale per channel; runtimes fuse one per tensor.",
        "quantize activations per tensor", channel_activations,
    ),
    LintRule(
        "q-before-activation", "warning", "Q/DQ between a compute node and its activation keep the two from fusing.",
        "put the Q behind the activation", before_activation,
    ),
    LintRule(
        "batchnorm-unfolded", "warning", "A BatchNormalization stands behind a quantized convolution and runs as a "
        "node of its own.", "fold it before quantizing (infopt simplify)", norm_behind,
    ),
    LintRule(
        "redundant-pair", "warning", "A Q undoes the DQ before it, with the same scale and zero point.",
        "remove the pair", redundant, None, repair.drop_again,
    ),
    LintRule(
        "requantized", "warning", "Data are dequantized and at once quantized with another scale: a rounding more.",
        "give both sides one scale", changed,
    ),
)  # fmt: skip
