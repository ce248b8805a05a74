"""Scales, zero points and integer weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.model import Range
from infopt.target import Scheme

Array = npt.NDArray[Any]
Span = tuple[float, float]

SMALLEST_SCALE = float(np.finfo(np.float32).tiny) * 2**10
"""Scales below this are subnormal or close to it: their inverse overflows."""

PART = 1 << 20
"""Elements of a weight that are rounded at once."""

DUST = 1e-3
"""Part of a step that rounding to float32 may cost."""

BIAS_LIMIT = 2**30
"""A quantized bias stays below this, so that it cannot overflow the int32 accumulator that it is added to."""


FLOAT8 = "float8e4m3fn"

LARGEST_FLOAT8 = 448
"""Largest number of E4M3, which has no infinity (Micikevicius et al. 2022, table 1)."""


def stored_type(name: str) -> np.dtype[Any]:
    """The numpy type of an ONNX type by its name; numpy itself does not know those of 4 bits and of 8-bit floats."""
    return ir.DataType[name.upper()].numpy()


def limits(scheme: Scheme) -> tuple[int, int]:
    """Smallest and largest number of a scheme, an integer in each."""
    if scheme.dtype == FLOAT8:
        return -LARGEST_FLOAT8, LARGEST_FLOAT8
    if scheme.dtype == "int4":
        return (-7 if scheme.narrow else -8), 7
    info = np.iinfo(scheme.dtype)
    if scheme.reduced:
        return info.min // 2 + (1 if scheme.narrow else 0), info.max // 2
    return info.min + (1 if scheme.narrow else 0), info.max


def activation_range(low: float, high: float, scheme: Scheme, within: Span = (-np.inf, np.inf)) -> Range:
    """Scale and zero point of an activation (Jacob et al. 2018, section 2.1).

    Zero is always represented exactly, since padding and ReLU put it everywhere. A tensor that never leaves zero
    gets the scale 1.

    Args:
        low: Smallest value to represent.
        high: Largest value to represent.
        scheme: How the target wants it.
        within: Bounds of the Clip in front that is to vanish: no integer may stand for a value outside of them.

    Returns:
        The range with its float32 scale.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme.unsigned and low >= 0:
        scheme = Scheme("uint8", symmetric=False)
    bottom, top = limits(scheme)
    if scheme.symmetric:
        zero = 0 if bottom < 0 else (bottom + top + 1) // 2
        scale = np.float32(max(-low, high) / (top - zero))
        scale = scale if scale >= SMALLEST_SCALE else np.float32(1)
        return Range(low, high, float(scale), zero, scheme.dtype)
    scale = np.float32((high - low) / (top - bottom))
    if scale < SMALLEST_SCALE:
        return Range(low, high, 1.0, bottom, scheme.dtype)
    zero = int(np.clip(_zero_point(bottom - low / float(scale), float(scale), (bottom, top), within), bottom, top))
    return Range(low, high, _inside(float(scale), bottom - zero, top - zero, within), zero, scheme.dtype)


def _zero_point(ideal: float, scale: float, ends: tuple[int, int], within: Span) -> int:
    """The nearest integer to the zero point, on the side where the end that is close to zero keeps its bound.

    The other end then passes its bound by less than a step, for which the scale has to shrink by next to nothing.
    """
    (bottom, top), (low, high) = ends, within
    if -low <= high:
        return round(ideal) if np.isinf(low) else min(round(ideal), math.floor(bottom - low / scale + DUST))
    return round(ideal) if np.isinf(high) else max(round(ideal), math.ceil(top - high / scale - DUST))


def _inside(scale: float, bottom: int, top: int, within: Span) -> float:
    """The scale, or the largest one below it with which neither end passes its bound in float32."""
    ends = [(bound, end) for bound, end in zip(within, (bottom, top), strict=True) if end and np.isfinite(bound)]
    shrunk = np.float32(min([scale, *(bound / end for bound, end in ends)]))
    while any(abs(shrunk * np.float32(end)) > abs(bound) for bound, end in ends):
        shrunk = np.nextafter(shrunk, np.float32(0))
    return float(shrunk)


def weight_scales(weight: Array, axis: int, scheme: Scheme, bias: Array | None, input_scale: float) -> Array:
    """Symmetric per-channel scales of a weight.

    Args:
        weight: Float weight.
        axis: Axis of the output channels.
        scheme: How the target wants it; per tensor gives one scale for all channels.
        bias: Float bias of shape (channels,), where the target quantizes it to int32 with scale ``s_x * s_w``: a
            channel with tiny weights and a large bias gets a larger scale, so that its bias still fits.
        input_scale: Scale of the input.

    Returns:
        float32 of shape (channels,), or () for a scheme per tensor, and where one scale is as good.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    axes = others if scheme.per_channel else None
    peak = np.maximum(weight.max(axis=axes), -weight.min(axis=axes)).astype(np.float64)
    if scheme.uniform > 1 and peak.ndim and np.square(peak).max() <= scheme.uniform * np.square(peak).mean():
        peak = peak.max()  # rounding noise is proportional to the square of the step
    return guarded(peak / limits(scheme)[1], bias, input_scale)


def guarded(scales: Array, bias: Array | None, input_scale: float) -> Array:
    """Scales with which a bias fits into int32 and no inverse overflows.

    Args:
        scales: Scales of a weight, of shape (channels,) or ().
        bias: See :func:`weight_scales`.
        input_scale: Scale of the input.

    Returns:
        float32 of the same shape; 1 for a channel of zeros, which any scale keeps.
    """
    if bias is not None:
        fits = np.abs(bias.astype(np.float64)) / (input_scale * BIAS_LIMIT)
        scales = np.maximum(scales, fits if np.ndim(scales) else fits.max(initial=0.0))
    return np.where(scales < SMALLEST_SCALE, 1.0, scales).astype(np.float32)


def quantize_weight(weight: Array, scales: Array, axis: int, scheme: Scheme) -> Array:
    """Round a weight to its scheme's numbers, to nearest, ties to even.

    Args:
        weight: Float weight.
        scales: One scale, one per output channel, or of a matrix one per block of rows and column.
        axis: Axis of the output channels; of no meaning to blocks.
        scheme: How the target wants it.
    """
    if scales.ndim > 1:
        blocks = weight.reshape(len(scales), -1, *weight.shape[1:])
        return _rounded(blocks, scales[:, None], scheme).reshape(weight.shape)
    shape = [1] * weight.ndim
    if scales.ndim:
        shape[axis] = -1
    return _rounded(weight, scales.reshape(shape), scheme)


def _rounded(weight: Array, steps: Array, scheme: Scheme) -> Array:
    bottom, top = limits(scheme)
    result = np.empty(weight.shape, stored_type(scheme.dtype))
    # In parts, so that the floats in between take little room beside a large weight.
    rows = max(1, PART * len(weight) // max(weight.size, 1))
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        ratio = weight[part] / (steps[part] if len(steps) > 1 else steps)
        if scheme.dtype != FLOAT8:  # storing as a float rounds by itself
            np.rint(ratio, out=ratio)
        result[part] = np.clip(ratio, bottom, top, out=ratio)
    return result


def quantize_bias(bias: Array, scales: Array) -> Array:
    """Round a bias to int32 with the scale of its accumulator; 0 where that scale vanishes in float32."""
    ratio = np.divide(bias, scales, out=np.zeros(bias.shape), where=np.asarray(scales) > 0, dtype=np.float64)
    return np.clip(np.rint(ratio), -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32)
