"""What TensorRT's and TensorRT-RTX's importers refuse, and the one thing that they silently get wrong.

Source: NVIDIA's developer guide, work with quantized types; each row was seen in the parser of TensorRT-RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.checks import repair
from infopt.checks.rule import OPENVINO, TENSORRT, LintRule, Spot
from infopt.checks.subject import DOMAINS, Quant, Subject, attribute, constant, is_op

ADD = frozenset({"Add"})
CONVS = frozenset({"Conv", "ConvTranspose"})
INT8 = (ir.DataType.INT8, ir.DataType.UINT8)
TAKEN = frozenset("INT8 UINT8 INT4 FLOAT8E4M3FN FLOAT4E2M1".split())
INTEGER_OPS = frozenset(
    "QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear QGemm QLinearAdd QLinearMul "
    "QLinearConcat QLinearAveragePool QLinearGlobalAveragePool QLinearLeakyRelu QLinearSigmoid QLinearSoftmax "
    "QLinearWhere QLinearReduceMean QAttention MatMulIntegerToFloat DynamicQuantizeMatMul DynamicQuantizeLSTM "
    "MatMulNBits QEmbedLayerNormalization".split()
)
"""Operators on integers, of ONNX and of ONNX Runtime; TensorRT knows Q/DQ around float operators only."""


def biases(subject: Subject) -> Iterator[Spot]:
    """DQ nodes on int32."""
    return _wide(subject, bias=True)


def wide_integers(subject: Subject) -> Iterator[Spot]:
    """DQ nodes on 16 bits and other types that the importer does not read."""
    return _wide(subject, bias=False)


def _wide(subject: Subject, bias: bool) -> Iterator[Spot]:
    """DQ nodes of types that the importer refuses; a constant can be computed ahead."""
    for quant in subject.all_quants(quantizes=False):
        integer = quant.integer
        if integer is None or integer.name in TAKEN or (integer is ir.DataType.INT32) is not bias:
            continue
        stored = subject.real_weight(quant)
        what = "a bias" if stored is not None and stored.ndim <= 1 else "a tensor"
        yield Spot(
            f"{what} of {integer.name.lower()} is dequantized",
            quant.node,
            fixable=stored is not None and quant.scale is not None and not quant.block,
        )


def zero_points(subject: Subject) -> Iterator[Spot]:
    """Q/DQ whose zero point is not 0; the Q speaks for the DQs behind it."""
    for quant in _heads(subject):
        if quant.integer in INT8 and quant.zeros - {0}:
            shown = ", ".join(map(str, sorted(quant.zeros)[:3]))
            yield Spot(
                f"zero point {shown} of {quant.integer.name.lower()}",
                quant.node,
                fixable=repair.shiftable(subject, quant, np.int8),
            )


def unsigned(subject: Subject) -> Iterator[Spot]:
    """Q/DQ of uint8 with zero point 0: read as int8."""
    for quant in _heads(subject):
        if quant.integer is ir.DataType.UINT8 and quant.zeros == {0}:
            top = _top(quant)
            yield Spot(
                f"uint8 with zero point 0 is read as int8{top}",
                quant.node,
                fixable=repair.shiftable(subject, quant, np.int8),
            )


def integer_operators(subject: Subject) -> Iterator[Spot]:
    """Operators that compute on integers by themselves."""
    for node in subject.nodes:
        if node.op_type in INTEGER_OPS and node.domain in (*DOMAINS, "com.microsoft"):
            yield Spot(f"{node.op_type} computes on integers by itself", node)


def residuals(subject: Subject) -> Iterator[Spot]:
    """Adds whose Conv side comes through Q/DQ although it feeds nothing else."""
    for node in subject.nodes:
        if not is_op(node, ADD):
            continue
        sides = [subject.dequantized(value) for value in node.inputs]
        if len(sides) == 2 and all(side is not None and not subject.is_weight(side) for side in sides):
            main = next((q for side in sides if (q := _conv_behind(subject, side)) is not None), None)
            if main is not None:
                yield Spot("both inputs are quantized, also the one that comes straight from a convolution", node)


def long_integers(subject: Subject) -> Iterator[Spot]:
    """Initializers of 64-bit integers beyond the range of 32 bits; the ends of slices may be."""
    limits = np.iinfo(np.int32)
    for node in subject.nodes:
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype is not ir.DataType.INT64 or (node.op_type == "Slice" and index in (1, 2)):
                continue
            array = constant(value)
            if array is not None and array.size and (array.min() < limits.min or array.max() > limits.max):
                worst = int(array.max() if array.max() > limits.max else array.min())
                yield Spot(f"{worst} does not fit 32 bits", node)


def _heads(subject: Subject) -> Iterator[Quant]:
    """Q nodes, and the DQ nodes that no Q of the graph feeds."""
    for quant in subject.quants.values():
        before = repair.origin(subject, quant)
        if quant.quantizes or before is None:
            yield quant


def _top(quant: Quant) -> str:
    if quant.quantizes:
        scale = "" if quant.scale is None else f" (values above {127 * float(quant.scale.max()):.4g})"
        return f": everything above 127{scale} would be clipped"
    stored = constant(quant.node.inputs[0])
    if stored is None or not stored.size or int(stored.max()) <= 127:
        return ""
    return f": weights up to {int(stored.max())} change their sign"


def _conv_behind(subject: Subject, side: Quant | None) -> Quant | None:
    """The Q between a convolution and this DQ, when it serves nobody else."""
    maker = subject.maker(side.node.inputs[0]) if side is not None else None
    if maker is None or not maker.quantizes:
        return None
    real = maker.node.inputs[0]
    producer = real.producer() if real is not None else None
    alone = real is not None and len(real.uses()) == 1 and len(maker.node.outputs[0].uses()) == 1
    if producer is None or not alone or not is_op(producer, CONVS):
        return None
    return maker if attribute(producer, "group", 1) == 1 else None


ROWS = (
    LintRule(
        "int32-bias", "error", "TensorRT dequantizes 8 bits and less; an int32 bias behind a DequantizeLinear does "
        "not parse.", "keep biases in float (infopt quantize --target tensorrt does)", biases, TENSORRT,
        repair.fold, refused=True,
    ),
    LintRule(
        "wide-integer", "error", "TensorRT dequantizes 8 bits and less; 16-bit tensors do not parse.",
        "quantize to int8 (infopt quantize --target tensorrt does)", wide_integers, TENSORRT, repair.fold,
        refused=True,
    ),
    LintRule(
        "nonzero-zero-point", "error", "TensorRT takes symmetric quantization only: every zero point has to be 0.",
        "quantize symmetrically to int8 (infopt quantize --target tensorrt does)", zero_points, TENSORRT,
        repair.to_int8, refused=True,
    ),
    LintRule(
        "uint8-clipped", "error", "TensorRT takes uint8 for int8 with only a warning, so that the upper half of the "
        "range is lost.", "quantize symmetrically to int8 (infopt quantize --target tensorrt does)", unsigned,
        TENSORRT, repair.to_int8,
    ),
    LintRule(
        "integer-operator", "error", "Operators of the QOperator and dynamic formats do not parse in TensorRT.",
        "quantize again into the QDQ format, statically and symmetrically", integer_operators, TENSORRT, refused=True,
    ),
    LintRule(
        "residual-main-quantized", "warning", "Q/DQ between a convolution and a residual Add keep TensorRT from "
        "fusing the two.", "quantize the skip input alone", residuals, TENSORRT,
    ),
    LintRule(
        "int64-range", "warning", "A 64-bit integer beyond 32 bits: OpenVINO's CPU plugin and older TensorRT compute "
        "indices in 32 bits and clamp it.", "use a smaller constant", long_integers, TENSORRT | OPENVINO,
    ),
)  # fmt: skip
