"""What ONNX Runtime's x86 kernels want: uint8 activations, and no saturation in 16-bit sums."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.checks import repair
from infopt.checks.rule import ONNXRUNTIME, LintRule, Spot
from infopt.checks.subject import Quant, Subject, behind, constant, is_op

CONVS = frozenset({"Conv"})


def shared_signed(subject: Subject) -> Iterator[Spot]:
    """Signed activations whose Q has several readers."""
    for quant in _signed(subject):
        readers = _readers(subject, quant)
        if len(readers) > 1:
            names = ", ".join(sorted({node.op_type for node in readers}))
            fixable = repair.shiftable(subject, quant, np.uint8)
            yield Spot(f"int8, read by {len(readers)} nodes ({names})", quant.node, fixable=fixable)


def signed(subject: Subject) -> Iterator[Spot]:
    """Signed activations with one reader."""
    for quant in _signed(subject):
        if len(_readers(subject, quant)) <= 1:
            fixable = repair.shiftable(subject, quant, np.uint8)
            yield Spot("int8 activation", quant.node, fixable=fixable)


def saturating(subject: Subject) -> Iterator[Spot]:
    """8-bit weights where sums of two products are kept in 16 bits."""
    if subject.isa != "avx2":
        return
    for node in subject.products():
        data, weight = (subject.dequantized(value) for value in node.inputs[:2])
        stored = subject.real_weight(weight) if weight is not None else None
        if data is None or data.integer is not ir.DataType.UINT8 or stored is None or not stored.size:
            continue
        peak = int(np.abs(stored.astype(np.int16)).max())
        if weight is not None and weight.integer is ir.DataType.INT8 and peak > 64:
            yield Spot(f"uint8 data times int8 weights up to {peak} on a processor without VNNI", node)


def unquantized_output(subject: Subject) -> Iterator[Spot]:
    """Quantized convolutions whose output no Q reads."""
    for node in subject.nodes:
        if is_op(node, CONVS) and all(subject.dequantized(value) is not None for value in node.inputs[:2]):
            output = behind(node.outputs[0])
            if not subject.quantized(output):
                readers = sorted({each.op_type for each in subject.consumers(output)}) or ["the model's output"]
                yield Spot(f"its output goes to {', '.join(readers)} in float", node)


def _signed(subject: Subject) -> Iterator[Quant]:
    if subject.isa == "arm":  # there, signed activations have the faster kernels
        return
    for quant in subject.all_quants(quantizes=True):
        if quant.integer is ir.DataType.INT8 and constant(quant.node.inputs[0]) is None:
            yield quant


def _readers(subject: Subject, quant: Quant) -> list[ir.Node]:
    """The nodes that use what a Q makes, DQs passed over."""
    found: list[ir.Node] = []
    for node in subject.consumers(quant.node.outputs[0]):
        reads = subject.quants.get(node)
        found += subject.consumers(node.outputs[0]) if reads is not None else [node]
    return found


ROWS = (
    LintRule(
        "s8-shared", "warning", "On x86, ONNX Runtime turns int8 activations into its fast uint8 ones only where one "
        "node reads them; behind a branch, convolutions stay in float.",
        "use uint8 activations: the same integers and zero point, shifted by 128", shared_signed, ONNXRUNTIME,
        repair.to_uint8,
    ),
    LintRule(
        "s8-activation", "warning", "On x86, ONNX Runtime's int8 kernels are fast with uint8 activations; int8 ones "
        "take slower kernels or a rewrite.", "use uint8 activations: the same integers and zero point, shifted by 128",
        signed, ONNXRUNTIME, repair.to_uint8,
    ),
    LintRule(
        "u8s8-saturation", "warning", "Without VNNI, sums of uint8 times int8 products saturate in 16 bits.",
        "quantize weights to 7 bits (reduce range)", saturating, ONNXRUNTIME,
    ),
    LintRule(
        "missing-output-q", "warning", "ONNX Runtime has an integer convolution only with a quantized output.",
        "quantize the output too, behind the activation", unquantized_output, ONNXRUNTIME, fusion=True,
    ),
)  # fmt: skip
