"""Weights and constants: NaN, infinity, what float16 cannot hold, channels that are dead."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.checks.rule import LintRule, Spot
from infopt.checks.subject import PRODUCTS, Subject, by_channel, is_op
from infopt.facts import channel_axis

LARGEST = 65504.0
"""The largest float16."""

COARSE = 31
"""Per tensor, a channel whose integers stay within this uses less than a quarter of the range."""

TINY = 1e-6
"""A channel that is smaller than the largest one by this factor has no influence to speak of."""


def nan(subject: Subject) -> Iterator[Spot]:
    """Constants that hold NaN."""
    for each in subject.floats:
        if each.nan:
            yield Spot(f"{each.nan} elements of {each.value.name!r} are NaN", each.reader)


def infinite(subject: Subject) -> Iterator[Spot]:
    """Weights of compute nodes that hold infinity; a mask may."""
    for each in subject.floats:
        if each.infinite and is_op(each.reader, PRODUCTS):
            yield Spot(f"{each.infinite} elements of {each.value.name!r} are infinite", each.reader)


def beyond_half(subject: Subject) -> Iterator[Spot]:
    """Finite float32 constants beyond float16."""
    for each in subject.floats:
        if each.dtype is ir.DataType.FLOAT and each.largest > LARGEST:
            told = f"{each.value.name!r} holds {each.largest:.4g}; float16 ends at {LARGEST:g}"
            yield Spot(told, each.reader)


def dead(subject: Subject) -> Iterator[Spot]:
    """Output channels whose weights are all zero, or as good as that."""
    for each in subject.floats:
        peaks = each.peaks
        if peaks is None or not peaks.size or not peaks.max() > 0:
            continue
        gone, faint = int((peaks == 0).sum()), int(((peaks > 0) & (peaks < TINY * peaks.max())).sum())
        told = [f"{gone} of {peaks.size} output channels are zero"] if gone else []
        told += [f"{faint} of {peaks.size} output channels are below {TINY:g} of the largest"] if faint else []
        if told:
            yield Spot(" and ".join(told), each.reader)


def coarse(subject: Subject) -> Iterator[Spot]:
    """Weights with one scale whose channels differ in magnitude."""
    for node in subject.products():
        quant = subject.dequantized(node.inputs[1])
        stored = subject.real_weight(quant) if quant is not None else None
        if quant is None or stored is None or quant.per_channel or quant.block or stored.ndim < 2:
            continue
        zero = int(next(iter(quant.zeros), 0))
        peaks = by_channel(np.abs(stored.astype(np.int16) - zero), channel_axis(node))
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
