"""What OpenVINO's CPU plugin refuses or leaves in float."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.checks import repair
from infopt.checks.rule import OPENVINO, LintRule, Spot
from infopt.checks.subject import Subject


def asymmetric(subject: Subject) -> Iterator[Spot]:
    """Activations in int8 whose zero point is not 0."""
    for quant in subject.all_quants(quantizes=True):
        if quant.integer is ir.DataType.INT8 and quant.zeros - {0} and not subject.is_weight(quant):
            yield Spot(
                f"int8 activation with zero point {max(quant.zeros, key=abs)}",
                quant.node,
                fixable=repair.shiftable(subject, quant, np.uint8),
            )


def weight_zeros(subject: Subject) -> Iterator[Spot]:
    """Weights of compute nodes whose zero point is not 0."""
    for node in subject.products():
        quant = subject.dequantized(node.inputs[1])
        if quant is not None and subject.real_weight(quant) is not None and quant.zeros - {0}:
            shown = max(quant.zeros, key=abs)
            name = quant.integer.name.lower() if quant.integer else "integer"
            yield Spot(
                f"the weight of {node.op_type} is {name} with zero point {shown}",
                quant.node,
                fixable=repair.shiftable(subject, quant, np.int8),
            )


def dynamic(subject: Subject) -> Iterator[Spot]:
    """Dynamically quantized layers."""
    for node in subject.nodes:
        if node.op_type in ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"):
            yield Spot(f"{node.op_type} is dequantized and computed in float", node)


ROWS = (
    LintRule(
        "s8-asymmetric", "error", "Asymmetric int8 activations do not compile on processors with AMX at the default "
        "precision.", "use uint8: the same integers and zero point, shifted by 128", asymmetric, OPENVINO,
        repair.to_uint8, refused=True,
    ),
    LintRule(
        "weight-zero-point", "warning", "OpenVINO runs layers whose weights have a zero point in float.",
        "quantize weights symmetrically to int8", weight_zeros, OPENVINO, repair.to_int8,
    ),
    LintRule(
        "dynamic-quantized", "warning", "OpenVINO runs dynamically quantized layers in float: smaller, not faster.",
        "quantize statically, or give OpenVINO the float model", dynamic, OPENVINO,
    ),
)  # fmt: skip
