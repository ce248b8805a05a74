"""Resize: each axis is gathered from one, two or four neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from infopt_passes.prune.distill.operators.call import Call, Function, Limit, without

Array = npt.NDArray[Any]


def _resize(
    call: Call, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    if call.opset < 11:
        roi, scales = None, roi  # the second input was the scales
    along = [axis % x.dim() for axis in call.get("axes") or range(x.dim())]
    if sizes is not None:
        new = [int(size) for size in sizes.tolist()]
        factors = [size / x.shape[axis] for size, axis in zip(new, along, strict=True)]
    else:
        assert scales is not None
        factors = [float(scale) for scale in scales.tolist()]
        new = [int(np.floor(x.shape[axis] * factor)) for axis, factor in zip(along, factors, strict=True)]
    for axis, size, factor in zip(along, new, factors, strict=True):
        if size != x.shape[axis] or factor != 1:
            x = _along(call, x, axis, size, factor)
    return x


def _along(call: Call, x: Tensor, axis: int, size: int, factor: float) -> Tensor:
    """One axis resized."""
    places = _coordinates(call, x.shape[axis], size, factor)
    shape = [1] * x.dim()
    shape[axis] = size
    parts = []
    for index, weight in _neighbours(call, places):
        taken = x.index_select(axis, torch.from_numpy(np.clip(index, 0, x.shape[axis] - 1).astype(np.int64)))
        plain = weight is None
        parts.append(taken if plain else taken * torch.from_numpy(np.float32(weight)).to(x.dtype).view(shape))
    return sum(parts[1:], parts[0])


def _coordinates(call: Call, old: int, new: int, factor: float) -> Array:
    """Where each element of the result lies in the data."""
    at = np.arange(new, dtype=np.float64)
    default = "half_pixel" if call.opset >= 11 else "asymmetric"
    mode = call.get("coordinate_transformation_mode", default)
    if mode == "asymmetric":
        return at / factor
    if mode == "align_corners":
        return at * (old - 1) / max(new - 1, 1)
    if mode == "pytorch_half_pixel" and new == 1:
        return np.zeros(1)
    shift = 0.0
    if mode == "half_pixel_symmetric":
        shift = old / 2 * (1 - new / (factor * old))
    return shift + (at + 0.5) / factor - 0.5


def _neighbours(call: Call, places: Array) -> list[tuple[Array, Array | None]]:
    """Indices that are read, each with its weights; ``None`` for a weight of one."""
    mode = call.get("mode", "nearest")
    low = np.floor(places)
    part = places - low
    if mode == "nearest":
        return [(_nearest(call, places), None)]
    if mode == "linear":
        return [(low, 1 - part), (low + 1, part)]
    a = call.get("cubic_coeff_a", -0.75)
    return [(low + step, _cubic(np.abs(part - step), a)) for step in (-1, 0, 1, 2)]


def _nearest(call: Call, places: Array) -> Array:
    mode = call.get("nearest_mode", "round_prefer_floor" if call.opset >= 11 else "floor")
    if mode == "floor":
        return np.floor(places)
    if mode == "ceil":
        return np.ceil(places)
    return np.ceil(places - 0.5) if mode == "round_prefer_floor" else np.floor(places + 0.5)


def _cubic(distance: Array, a: float) -> Array:
    """Keys 1981, "Cubic convolution interpolation"."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def _limit(node: ir.Node) -> str | None:
    fine = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
    kept = {"antialias": 0, "exclude_outside": 0, "keep_aspect_ratio_policy": "stretch"}
    return without(coordinate_transformation_mode=fine, **kept)(node)


RESIZING: dict[str, Function] = {"Resize": _resize, "Upsample": _resize}

LIMITS: dict[str, Limit] = {"Resize": _limit}
