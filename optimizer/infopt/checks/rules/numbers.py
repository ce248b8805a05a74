"""Weights and constants: NaN, infinity, what float16 cannot hold, channels that are dead."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx_ir as ir

from infopt.checks.rule import LintRule, Spot
from infopt.checks.subject import PRODUCTS, Subject, chunks, constant, constant_tensor, is_op
from infopt.facts import channel_axis

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
LARGEST = 65504.0
"""The largest float16."""

COARSE = 31
"""Per tensor, a channel whose integers stay within this uses less than a quarter of the range."""

TINY = 1e-6
"""A channel that is smaller than the largest one by this factor has no influence to speak of."""


def nan(subject: Subject) -> Iterator[Spot]:
    """Constants that hold NaN."""
    for value, node in _floats(subject):
        count = _count(value, np.isnan)
        if count:
            yield Spot(f"{count} elements of {value.name!r} are NaN", node, place=value.name)


def infinite(subject: Subject) -> Iterator[Spot]:
    """Weights of compute nodes that hold infinity; a mask may."""
    for value, node in _floats(subject):
        if is_op(node, PRODUCTS) and (count := _count(value, np.isinf)):
            yield Spot(f"{count} elements of {value.name!r} are infinite", node, place=value.name)


def beyond_half(subject: Subject) -> Iterator[Spot]:
    """Finite float32 constants beyond float16."""
    for value, node in _floats(subject):
        if value.dtype is ir.DataType.FLOAT and (largest := _largest(value)) > LARGEST:
            yield Spot(f"{value.name!r} holds {largest:.4g}; float16 ends at {LARGEST:g}", node, place=value.name)


def dead(subject: Subject) -> Iterator[Spot]:
    """Output channels whose weights are all zero, or as good as that."""
    for node in subject.products():
        peaks = _peaks(subject, node)
        if peaks is None or not peaks.size or peaks.max() == 0:
            continue
        gone, faint = int((peaks == 0).sum()), int(((peaks > 0) & (peaks < TINY * peaks.max())).sum())
        if gone or faint:
            told = [f"{gone} of {peaks.size} output channels are zero"] if gone else []
            told += [f"{faint} of {peaks.size} output channels are below {TINY:g} of the largest"] if faint else []
            yield Spot(" and ".join(told), node)


def coarse(subject: Subject) -> Iterator[Spot]:
    """Weights with one scale whose channels differ in magnitude."""
    for node in subject.products():
        quant = subject.dequantized(node.inputs[1])
        stored = subject.real_weight(quant) if quant is not None else None
        if quant is None or stored is None or quant.per_channel or quant.block or stored.ndim < 2:
            continue
        zero = int(next(iter(quant.zeros), 0))
        peaks = _by_channel(np.abs(stored.astype(np.int32) - zero), channel_axis(node))
        used = peaks[peaks > 0]
        if used.size > 1 and used.min() <= COARSE:
            count = int((used <= COARSE).sum())
            yield Spot(
                f"one scale for {peaks.size} output channels: {count} use a quarter of the range or less, the "
                f"smallest {int(used.min())} of 127 steps",
                node,
            )


def double(subject: Subject) -> Iterator[Spot]:
    """Compute in float64."""
    for node in subject.nodes:
        outputs = [value for value in node.outputs if value.dtype is ir.DataType.DOUBLE]
        if outputs and node.op_type not in ("Cast", "Constant"):
            yield Spot(f"{node.op_type} computes in float64", node)


def _floats(subject: Subject) -> Iterator[tuple[ir.Value, ir.Node]]:
    """The float constants that are read, each with its first reader; scales are another topic."""
    seen: set[ir.Value] = set()
    for node in subject.nodes:
        for index, value in enumerate(node.inputs):
            if value is None or value in seen or (node in subject.quants and index > 0):
                continue
            tensor = constant_tensor(value)
            if tensor is not None and tensor.dtype in FLOATS:
                seen.add(value)
                yield value, node


def _count(value: ir.Value, test: np.ufunc) -> int:
    array = constant(value)
    return 0 if array is None else sum(int(test(part).sum()) for part in chunks(array))


def _largest(value: ir.Value) -> float:
    array = constant(value)
    parts = () if array is None else chunks(array)
    finite = partial(np.max, initial=0.0)
    return max((float(finite(np.abs(part[np.isfinite(part)]))) for part in parts), default=0.0)


def _peaks(subject: Subject, node: ir.Node) -> np.ndarray | None:
    """Largest magnitude of each output channel's float weights."""
    value = node.inputs[1]
    tensor = constant_tensor(value)
    if tensor is None or tensor.dtype not in FLOATS or len(tensor.shape) < 2:
        return None
    array = constant(value)
    return None if array is None else _by_channel(np.abs(array), channel_axis(node))


def _by_channel(array: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(i for i in range(array.ndim) if i != axis % array.ndim)
    peaks: np.ndarray = array.max(axis=others) if array.size else np.zeros(0)
    return peaks


ROWS = (
    LintRule(
        "nan-weight", "error", "A constant holds NaN: so does what is computed from it.",
        "export a checkpoint that has not diverged", nan,
    ),
    LintRule(
        "infinite-weight", "warning", "A weight holds infinity: times zero that is NaN, and no scale fits it.",
        "export a checkpoint that has not diverged; write masks as large finite numbers", infinite,
    ),
    LintRule(
        "weight-per-tensor", "warning", "One scale for all output channels of a weight; small channels lose most of "
        "their bits.", "quantize weights per output channel", coarse,
    ),
    LintRule(
        "double-compute", "warning", "Computing in float64 is slow everywhere, and TensorRT and GPUs reduce it to "
        "float32.", "export in float32", double,
    ),
    LintRule(
        "float16-overflow", "note", "A constant does not fit float16: baked half precision makes infinity of it.",
        "keep the node in float32 when you compile to float16", beyond_half,
    ),
    LintRule(
        "dead-channel", "note", "Output channels have no weights to speak of: they cost time and carry nothing.",
        "remove them (structured pruning)", dead,
    ),
)  # fmt: skip
