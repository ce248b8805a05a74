"""Turns the last two axes in one step where an exporter merges all others before it turns them, and splits them behind.

PyTorch's exporter writes the keys of every attention so. The merged axis hides the heads from all that looks for them,
and the sizes to split it into are computed at run time.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from infopt.facts import is_constant
from infopt.listed import picked

Size = int | tuple[ir.Value, int] | None
"""A number, the size of an axis of a tensor, or neither."""

MERGED = [0, 2, 1]


def turn_at_once(graph: ir.Graph) -> int:
    """Replace, in place, Reshape, Transpose and Reshape by a Transpose where they do what one does.

    Returns:
        Number of places.
    """
    found = 0
    for node in list(graph):
        merge = _merge(node)
        data = merge.inputs[0] if merge is not None else None
        if merge is None or data is None or data.shape is None or node.outputs[0].is_graph_output():
            continue
        axes = list(range(len(data.shape)))
        if len(axes) < 3 or _sizes(merge.inputs[1]) != [-1, *_of(data, axes[-2:])]:
            continue
        perm = [*axes[:-2], axes[-1], axes[-2]]
        if not _same(_sizes(node.inputs[1]), _of(data, perm)):
            continue
        turned = ir.node("Transpose", [data], {"perm": perm}, name=node.name)
        old, new = node.outputs[0], turned.outputs[0]
        new.name, new.type, new.shape = old.name, old.type, old.shape
        graph.insert_before(node, turned)
        old.replace_all_uses_with(new)
        graph.remove(node, safe=True)
        found += 1
    return found


def _same(told: list[Size], wanted: list[Size]) -> bool:
    """Whether a target makes a shape; one size may be left open, it follows from the others."""
    one = told.index(-1) if told.count(-1) == 1 else None
    return len(told) == len(wanted) and all(
        at == one or size == other for at, (size, other) in enumerate(zip(told, wanted, strict=True))
    )


def _merge(node: ir.Node) -> ir.Node | None:
    """The Reshape that begins what a Reshape ends."""
    turn = node.inputs[0].producer() if _is(node, "Reshape") and node.inputs[0] is not None else None
    if turn is None or not _is(turn, "Transpose") or list(turn.attributes.get_ints("perm", [])) != MERGED:
        return None
    merge = turn.inputs[0].producer() if turn.inputs[0] is not None else None
    return merge if merge is not None and _is(merge, "Reshape") else None


def _is(node: ir.Node, kind: str) -> bool:
    return node.op_type == kind and not node.domain


def _of(value: ir.Value, axes: Sequence[int]) -> list[Size]:
    """Sizes of axes: their numbers, where they are known."""
    assert value.shape is not None
    dims = [value.shape[axis] for axis in axes]
    return [dim if isinstance(dim, int) else (value, axis) for dim, axis in zip(dims, axes, strict=True)]


def _sizes(value: ir.Value | None) -> list[Size]:
    """What a target lists."""
    node = value.producer() if value is not None else None
    if value is not None and is_constant(value) and value.const_value is not None:
        return [int(number) for number in value.const_value.numpy().reshape(-1)]
    if node is None:
        return [None]
    if _is(node, "Concat"):
        return [size for part in node.inputs for size in _sizes(part)]
    found = picked(node)
    return _of(found[0], found[1].reshape(-1).tolist()) if found is not None else [None]
