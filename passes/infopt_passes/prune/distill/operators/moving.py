"""Operators that move data, and those that compute shapes."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from infopt_passes.prune.distill.operators.call import Call, Function, Limit, without


def _reshape(call: Call, x: Tensor, shape: Tensor | None = None) -> Tensor:
    wanted = call.numbers("shape", shape) or []
    if not call.get("allowzero", 0):
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    first = prod(x.shape[: axis % x.dim() if axis < 0 else axis])
    return x.reshape(first, -1) if x.numel() else x.reshape(first, prod(x.shape[axis:]))


def _transpose(call: Call, x: Tensor) -> Tensor:
    return x.permute(call.get("perm") or list(reversed(range(x.dim()))))


def _squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    wanted = call.numbers("axes", axes)
    return x.squeeze() if wanted is None else x.squeeze(tuple(wanted))


def _unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    wanted = call.numbers("axes", axes) or []
    rank = x.dim() + len(wanted)
    for axis in sorted(each % rank for each in wanted):
        x = x.unsqueeze(axis)
    return x


def _concat(call: Call, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, call.get("axis"))


def _split(call: Call, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis, wanted = call.get("axis", 0), call.numbers("split", sizes)
    if wanted is None:
        each = -(-x.shape[axis] // call.outputs)
        wanted = [each] * (call.outputs - 1)
        wanted.append(x.shape[axis] - sum(wanted))
    return torch.split(x, wanted, axis)


def _slice(
    call: Call,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = call.numbers("starts", starts) or [], call.numbers("ends", ends) or []
    along = call.numbers("axes", axes) or list(range(len(first)))
    every = call.numbers("steps", steps) or [1] * len(first)
    for start, end, axis, step in zip(first, last, along, every, strict=True):
        taken = range(*slice(start, end, step).indices(x.shape[axis]))
        if step == 1:
            x = x.narrow(axis, taken.start, len(taken))
        else:
            x = x.index_select(axis, torch.tensor(list(taken), dtype=torch.int64))
    return x


def _gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.dim()
    flat = x.index_select(axis, _inside(indices, x.shape[axis]).reshape(-1))
    return flat.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _inside(indices: Tensor, size: int) -> Tensor:
    whole = indices.to(torch.int64)
    return torch.where(whole < 0, whole + size, whole)


def _gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0)
    return torch.gather(x, axis, _inside(indices, x.shape[axis]))


def _gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    return x[tuple(_inside(part, x.shape[axis]) for axis, part in enumerate(indices.unbind(-1)))]


def _scatter_nd(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    places = tuple(_inside(part, x.shape[axis]) for axis, part in enumerate(indices.unbind(-1)))
    return x.index_put(places, updates)


def _scatter_elements(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = call.get("axis", 0)
    return x.scatter(axis, _inside(indices, x.shape[axis]), updates)


def _expand(call: Call, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(shape.tolist())))


def _pad(
    call: Call, x: Tensor, sizes: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    given = call.numbers("pads", sizes) or []
    along = [axis % x.dim() for axis in call.numbers("axes", axes) or range(x.dim())]
    begin, end = dict(zip(along, given, strict=False)), dict(zip(along, given[len(along) :], strict=True))
    mode = call.get("mode", "constant")
    if mode == "constant":
        flat = [each for axis in reversed(range(x.dim())) for each in (begin.get(axis, 0), end.get(axis, 0))]
        return F.pad(x, flat, value=call.get("value", 0.0) if value is None else value.item())
    for axis in along:
        places = np.arange(x.shape[axis])[max(-begin[axis], 0) : x.shape[axis] + min(end[axis], 0)]
        places = np.pad(places, (max(begin[axis], 0), max(end[axis], 0)), mode=mode)
        x = x.index_select(axis, torch.from_numpy(places))
    return x


def _shape(call: Call, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[call.get("start", 0) : call.get("end")], dtype=torch.int64)


def _filled(call: Call, shape: Tensor) -> Tensor:
    value: Tensor = call.get("value", torch.zeros(1))
    return value.reshape(()).expand(shape.tolist())


def _range(call: Call, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _constant(call: Call) -> Tensor:
    for name, dtype in (("value_float", None), ("value_floats", None), ("value_int", None), ("value_ints", None)):
        if call.get(name) is not None:
            return torch.tensor(call.get(name), dtype=dtype)
    value: Tensor = call.get("value")
    return value


def _depth_to_space(call: Call, x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    size = call.get("blocksize")
    if call.get("mode", "DCR") == "DCR":
        parts = x.reshape(count, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(count, channels // size**2, size, size, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(count, channels // size**2, height * size, width * size)


def _space_to_depth(call: Call, x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    size = call.get("blocksize")
    parts = x.reshape(count, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(count, channels * size**2, height // size, width // size)


def _triangle(call: Call, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    offset = 0 if diagonal is None else int(diagonal)
    return torch.triu(x, offset) if call.get("upper", 1) else torch.tril(x, offset)


MOVING: dict[str, Function] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "Expand": _expand,
    "Tile": lambda call, x, times: x.repeat(times.tolist()),
    "Pad": _pad,
    "Shape": _shape,
    "Size": lambda call, x: torch.tensor(x.numel(), dtype=torch.int64),
    "ConstantOfShape": _filled,
    "Range": _range,
    "Constant": _constant,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Trilu": _triangle,
    "NonZero": lambda call, x: torch.nonzero(x).t().contiguous(),
}

LIMITS: dict[str, Limit] = {
    "GatherND": without(batch_dims=0),
    "ScatterND": without(reduction="none"),
    "ScatterElements": without(reduction="none"),
    "Pad": without(mode=("constant", "reflect", "edge", "wrap")),
    "Constant": without(value_string=None, value_strings=None, sparse_value=None),
}
