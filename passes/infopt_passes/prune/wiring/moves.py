"""What operators that only move data tie together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from infopt.listed import picked
from infopt_passes.prune.wiring.axes import Axis, rank, size_of
from infopt_passes.prune.wiring.reshapes import Split, blocks, is_shuffle
from infopt_passes.prune.wiring.shapes import can_rewrite
from infopt_passes.prune.wiring.ties import Ties, given, listed, numbers


def _transpose(node: ir.Node, tie: Ties) -> None:
    total = rank(node.inputs[0]) or 0
    for place, axis in enumerate(node.attributes.get_ints("perm", list(range(total))[::-1])):
        tie(node.inputs[0], axis, node.outputs[0], place)


def _reshape(node: ir.Node, tie: Ties) -> None:
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return
    for front, back in blocks(_sizes(before), _sizes(after)):
        one, other = [(before, axis) for axis in front], [(after, axis) for axis in back]
        if min(len(one), len(other)) > 1 or any(size_of(*axis) is None for axis in (*one, *other)):
            _leading(node, tie, one[0], other[0])
            continue
        if not all(can_rewrite(node, axis) for axis in back):
            continue
        if len(one) == len(other) == 1:
            tie(*one[0], *other[0])
        elif len(one) == 1:
            tie.splits.append(Split(one[0], tuple(other), is_shuffle(node), node.name or node.op_type))
        else:
            tie.splits.append(Split(other[0], tuple(one), False, node.name or node.op_type))
        tie.spoken |= {*one, *other}


def _leading(node: ir.Node, tie: Ties, one: Axis, other: Axis) -> None:
    """The slowest of several axes on both sides, as groups of channels: each of the fewer is some of the more."""
    before, after = size_of(*one), size_of(*other)
    if before is None or after is None or max(before, after) % min(before, after) or not can_rewrite(node, other[1]):
        return
    many, few = (one, other) if before >= after else (other, one)
    ids, each = tie.axes.ids(*few), max(before, after) // min(before, after)
    tie.positions(many, tie.axes.ids(*many), few, np.repeat(ids, each))


def _sizes(value: ir.Value) -> list[int | str | None]:
    return [size if isinstance(size, int) else size.value for size in value.shape or ()]


def _concat(node: ir.Node, tie: Ties) -> None:
    output, total = node.outputs[0], rank(node.outputs[0])
    if total is None:
        return
    along = node.attributes.get_int("axis", 0) % total
    for value in node.inputs:
        tie.all_but(value, output, along)
    sizes = [size_of(value, along) if value is not None else None for value in node.inputs]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or size_of(output, along) != sum(known):
        return
    start, ids = 0, tie.axes.ids(output, along)
    for value, size in zip(node.inputs, known, strict=True):
        assert value is not None
        tie.positions((value, along), tie.axes.ids(value, along), (output, along), ids[start : start + size])
        start += size


def _split(node: ir.Node, tie: Ties) -> None:
    data, total = node.inputs[0], rank(node.inputs[0])
    computed = given(node, 1) is not None and numbers(given(node, 1)) is None
    if data is None or total is None or computed:
        return
    along = node.attributes.get_int("axis", 0) % total
    for value in node.outputs:
        tie.all_but(value, data, along)
    sizes = [size_of(value, along) for value in node.outputs]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or size_of(data, along) != sum(known) or min(known) < 2:
        return
    start, ids = 0, tie.axes.ids(data, along)
    for value, size in zip(node.outputs, known, strict=True):
        tie.positions((value, along), tie.axes.ids(value, along), (data, along), ids[start : start + size])
        start += size


def _slice(node: ir.Node, tie: Ties) -> None:
    data, output = node.inputs[0], node.outputs[0]
    starts, ends, axes = (listed(node, name, index) for name, index in (("starts", 1), ("ends", 2), ("axes", 3)))
    steps = numbers(given(node, 4)) if given(node, 4) is not None else [1] * len(starts or ())
    total = rank(data)
    if data is None or total is None or starts is None or ends is None or steps is None:
        return
    if axes is None:
        if given(node, 3) is not None:
            return
        axes = list(range(len(starts)))
    cut = [axis % total for axis in axes]
    tie.all_but(data, output, *cut)
    for axis, start, end, step in zip(cut, starts, ends, steps, strict=True):
        size = size_of(data, axis)
        if size is None or step != 1 or len(cut) > 1 or node.attributes.get("starts") is not None:
            continue
        kept = tie.axes.ids(data, axis)[slice(start, end)]
        # What is cut out alone, as the queries of queries, keys and values, is not one of many alike.
        if len(kept) == size_of(output, axis) and len(kept) > 1:
            tie.positions((data, axis), kept, (output, axis), tie.axes.ids(output, axis))


def _gather(node: ir.Node, tie: Ties) -> None:
    data, indices, output = node.inputs[0], node.inputs[1], node.outputs[0]
    total, extra = rank(data), rank(indices)
    if total is None or extra is None or rank(output) != total - 1 + extra:
        return
    along = node.attributes.get_int("axis", 0) % total
    for axis in range(total):
        if axis != along:
            tie(data, axis, output, axis if axis < along else axis - 1 + extra)
    if extra == 1 and _chosen(node, tie, along):
        return
    for axis in range(extra):
        tie(indices, axis, output, along + axis)


def _chosen(node: ir.Node, tie: Ties, along: int) -> bool:
    """Positions that are picked by known indices; one alone is not one of many alike."""
    data, output, wanted = node.inputs[0], node.outputs[0], numbers(node.inputs[1])
    size = size_of(data, along) if data is not None else None
    if data is None or size is None or wanted is None or len(wanted) < 2 or size_of(output, along) != len(wanted):
        return False
    places = tie.axes.ids(data, along)[np.array(wanted)]
    tie.positions((data, along), places, (output, along), tie.axes.ids(output, along))
    return True


def _kept_axes(node: ir.Node, tie: Ties) -> None:
    """Pad and Resize: batch and channels, and any axis after them whose size stays."""
    data, output = node.inputs[0], node.outputs[0]
    if node.op_type == "Pad":
        pads = listed(node, "pads", 1)
        if pads is None or given(node, 3) is not None or len(pads) != 2 * (rank(data) or 0):
            return
        half = len(pads) // 2
        moved = [axis for axis in range(half) if pads[axis] or pads[axis + half]]
        tie.all_but(data, output, *moved)
        return
    sizes = given(node, 3)
    if (sizes is not None and not can_rewrite(node, 1)) or node.attributes.get("axes") is not None:
        return
    tie(data, 0, output, 0)
    tie(data, 1, output, 1)


def _shape(node: ir.Node, tie: Ties) -> None:
    """Sizes that are read: those that are looked up elsewhere leave the others free."""
    data, total = node.inputs[0], rank(node.inputs[0]) or 0
    own = picked(node)
    everything = set(range(total)) if own is None else set(own[1].tolist())
    read: set[int] = everything if node.outputs[0].is_graph_output() else set()
    for use in node.outputs[0].uses():
        found = picked(use.node) if use.idx == 0 else None
        read |= everything if found is None else set(found[1].ravel().tolist())
    for axis in range(total):
        if axis in read:
            tie.freeze(data, f"Shape {node.name!r} reads their number", axis)
        elif data is not None:
            tie.spoken.add((data, axis))


def _expand(node: ir.Node, tie: Ties) -> None:
    """An axis is that of the input, or copies of one position, however many."""
    data, output = node.inputs[0], node.outputs[0]
    missing = (rank(output) or 0) - (rank(data) or 0)
    for axis in range(rank(output) or 0):
        size = 1 if axis < missing else size_of(data, axis - missing) if data is not None else None
        if not can_rewrite(node, axis) or size is None:
            continue
        if size == 1:
            tie.spoken.add((output, axis))
        else:
            tie(data, axis - missing, output, axis)


def _filled(node: ir.Node, tie: Ties) -> None:
    """ConstantOfShape: one number everywhere, however many times."""
    tie.spoken |= {(node.outputs[0], axis) for axis in range(rank(node.outputs[0]) or 0) if can_rewrite(node, axis)}


def _pixels(node: ir.Node, tie: Ties) -> None:
    """DepthToSpace and SpaceToDepth: the channels whose pixels become one channel's, or the other way round."""
    data, output = node.inputs[0], node.outputs[0]
    deep, flat = (data, output) if node.op_type == "DepthToSpace" else (output, data)
    block = node.attributes.get_int("blocksize", 1) ** 2
    many, few = (size_of(value, 1) if value is not None else None for value in (deep, flat))
    if data is None or deep is None or flat is None or many is None or few is None or many != few * block:
        return
    tie(data, 0, output, 0)
    turned = node.op_type == "DepthToSpace" and node.attributes.get_string("mode", "DCR") == "CRD"
    places = np.arange(many) // block if turned else np.arange(many) % few
    tie.positions((deep, 1), tie.axes.ids(deep, 1), (flat, 1), tie.axes.ids(flat, 1)[places])


MOVES: dict[str, Callable[[ir.Node, Ties], None]] = {
    "Transpose": _transpose,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    **dict.fromkeys(("Pad", "Resize"), _kept_axes),
    "Shape": _shape,
    "Expand": _expand,
    "ConstantOfShape": _filled,
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _pixels),
}
"""Rule by operator."""
