"""Q/DQ nodes that contradict themselves or the operator set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.checks.rule import LintRule, Spot
from infopt.checks.subject import Quant, Subject, constant_tensor, label

SMALLEST = float(np.finfo(np.float32).tiny) * 2**10
"""Scales below this are subnormal or close to it: their inverse overflows."""

SINCE = {
    ir.DataType.INT16: 21, ir.DataType.UINT16: 21, ir.DataType.INT4: 21, ir.DataType.UINT4: 21,
    ir.DataType.FLOAT8E4M3FN: 19, ir.DataType.FLOAT8E5M2: 19,
}  # fmt: skip
"""Operator set that brought an integer type to Q/DQ."""


def zero_types(subject: Subject) -> Iterator[Spot]:
    """DQ nodes that read another type than their zero point's."""
    for quant in subject.all_quants(quantizes=False):
        zero = quant.node.inputs[2] if len(quant.node.inputs) > 2 else None
        tensor = constant_tensor(zero)
        wanted = tensor.dtype if tensor is not None else None
        source = subject.maker(quant.stored)
        found = source.integer if source is not None and source.quantizes else quant.integer
        if wanted is not None and found is not None and wanted != found:
            yield Spot(f"it reads {found.name.lower()}, its zero point is {wanted.name.lower()}", quant.node)


def axes(subject: Subject) -> Iterator[Spot]:
    """Axes outside of their tensor."""
    for quant in subject.quants.values():
        rank = _rank(quant)
        if quant.per_channel and rank is not None and not -rank <= quant.axis < rank:
            yield Spot(f"axis {quant.axis} of a tensor with {rank} axes", quant.node)


def lengths(subject: Subject) -> Iterator[Spot]:
    """Scales that are not one per channel, and zero points that are not one per scale."""
    for quant in subject.quants.values():
        if quant.scale is None or quant.zero is None or quant.block:
            continue
        if quant.zero.size not in (quant.scale.size, 1) or (quant.zero.size == 1 and quant.scale.size > 1):
            yield Spot(f"{quant.scale.size} scales, {quant.zero.size} zero points", quant.node)
        size = _channels(quant)
        if quant.per_channel and size is not None and size != quant.scale.size:
            yield Spot(f"{quant.scale.size} scales for {size} channels on axis {quant.axis}", quant.node)


def bad_scales(subject: Subject) -> Iterator[Spot]:
    """Scales that nothing can be divided by."""
    for quant, scale in _scales(subject):
        bad = scale[~(np.isfinite(scale) & (scale > 0))]
        if bad.size:
            yield Spot(f"{bad.size} of {scale.size} scales {'are' if bad.size > 1 else 'is'} {bad[0]:g}", quant.node)


def tiny_scales(subject: Subject) -> Iterator[Spot]:
    """Scales whose inverse is not a float32."""
    for quant, scale in _scales(subject):
        small = scale[(scale > 0) & (scale < SMALLEST)]
        if small.size:
            yield Spot(f"a scale of {small.min():.3g} is (nearly) subnormal", quant.node)


def too_new(subject: Subject) -> Iterator[Spot]:
    """Q/DQ nodes that use what their operator set does not have."""
    for quant in subject.quants.values():
        since, why = _since(quant)
        if quant.node.domain != "com.microsoft" and 0 < subject.opset < since:
            yield Spot(f"{why} needs opset {since}, the model has {subject.opset}", quant.node)


def computed(subject: Subject) -> Iterator[Spot]:
    """Scales that are not constants."""
    for quant in subject.quants.values():
        if quant.scale is None or quant.zero is None:
            what = "scale" if quant.scale is None else "zero point"
            yield Spot(f"its {what} is computed at run time", quant.node)


def _scales(subject: Subject) -> Iterator[tuple[Quant, np.ndarray]]:
    for quant in subject.quants.values():
        if quant.scale is not None:
            yield quant, quant.scale.astype(np.float64).reshape(-1)


def _since(quant: Quant) -> tuple[int, str]:
    if quant.block:
        return 21, "block-wise quantization"
    if quant.integer in SINCE:
        return SINCE[quant.integer], quant.integer.name.lower()
    if quant.scale is not None and quant.scale.dtype != np.float32:
        return 19, f"a scale of {quant.scale.dtype.name}"
    return (13, "quantization per channel") if quant.per_channel else (10, label(quant.node))


def _rank(quant: Quant) -> int | None:
    tensor = constant_tensor(quant.node.inputs[0])
    shape = tensor.shape if tensor is not None else quant.real.shape
    return None if shape is None else len(shape)


def _channels(quant: Quant) -> int | None:
    tensor = constant_tensor(quant.node.inputs[0])
    shape = tensor.shape if tensor is not None else quant.real.shape
    if shape is None or not -len(shape) <= quant.axis < len(shape):
        return None
    size = shape[quant.axis]
    return size if isinstance(size, int) else None


ROWS = (
    LintRule(
        "zero-point-dtype", "error", "A DequantizeLinear reads integers of one type with a zero point of another.",
        "give the zero point the type of the data", zero_types,
    ),
    LintRule(
        "quant-axis", "error", "The axis of a per-channel scale lies outside of the tensor.",
        "set axis to the output channels (Conv 0, ConvTranspose 1, MatMul the last)", axes,
    ),
    LintRule(
        "scale-length", "error", "The number of scales, zero points and channels differ.",
        "give one scale and one zero point per channel", lengths,
    ),
    LintRule(
        "bad-scale", "error", "A scale is zero, negative, infinite or NaN.",
        "calibrate again; a tensor that is always zero gets the scale 1", bad_scales,
    ),
    LintRule(
        "tiny-scale", "warning", "A scale is so small that its inverse overflows float32.",
        "give a tensor that is always (nearly) zero the scale 1", tiny_scales,
    ),
    LintRule(
        "qdq-opset", "error", "Q/DQ use a feature that the model's operator set does not have.",
        "convert the model to the operator set that is named", too_new,
    ),
    LintRule(
        "computed-scale", "warning", "A scale or zero point is computed at run time: no runtime fuses such a Q/DQ.",
        "quantize statically, with constant scales", computed,
    ),
)  # fmt: skip
