"""Outputs that are several quantities in one tensor: boxes and scores of a detector, say, behind a Concat.

Their magnitudes may be far apart, so that an error which ruins the small ones does not show in the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

MOST = 64
"""Pieces that an output is cut into, at most; one of more is left whole."""

Cut = Mapping[int, tuple[int, int]]
"""First index and the one behind the last, by axis; other axes are whole."""


def pieces(output: ir.Value) -> list[Cut]:
    """What an output was put together from, as far as shapes tell.

    Args:
        output: A value of a graph with inferred shapes.

    Returns:
        Where each piece lies; one that is everything where nothing was concatenated.
    """
    found = list(_pieces(output))
    return found if len(found) <= MOST else [{}]


def _pieces(value: ir.Value) -> Iterator[Cut]:
    node = value.producer()
    if node is None or node.domain:
        yield {}
    elif node.op_type == "Concat":
        yield from _joined(node)
    elif node.op_type in ("Identity", "Cast") and node.inputs[0] is not None:
        yield from _pieces(node.inputs[0])
    elif node.op_type == "Transpose" and node.inputs[0] is not None and node.attributes.get("perm") is not None:
        order = list(node.attributes["perm"].as_ints())
        for cut in _pieces(node.inputs[0]):
            yield {order.index(axis): part for axis, part in cut.items()}
    elif node.op_type == "Reshape" and node.inputs[0] is not None and _same_end(node.inputs[0], value):
        ends = len(node.inputs[0].shape or ()) - 1, len(value.shape or ()) - 1
        inner = list(_pieces(node.inputs[0]))
        # What is cut along another axis lies scattered behind the reshape.
        yield from ({ends[1]: cut[ends[0]]} for cut in inner) if all(set(c) == {ends[0]} for c in inner) else ({},)
    else:
        yield {}


def _joined(node: ir.Node) -> Iterator[Cut]:
    first = node.inputs[0]
    rank = len(first.shape or ()) if first is not None else 0
    axis = node.attributes.get_int("axis", 0)
    sizes = [_size(each, axis) for each in node.inputs]
    if not rank or None in sizes:
        yield {}
        return
    start = 0
    for each, size in zip(node.inputs, sizes, strict=True):
        assert each is not None
        assert size is not None
        for cut in _pieces(each):
            low, high = cut.get(axis % rank, (0, size))
            yield {**cut, axis % rank: (start + low, start + high)}
        start += size


def _size(value: ir.Value | None, axis: int) -> int | None:
    size = value.shape[axis] if value is not None and value.shape is not None else None
    return size if isinstance(size, int) else None


def _same_end(before: ir.Value, after: ir.Value) -> bool:
    """Whether both have the same last axis, of a known size."""
    if not before.shape or not after.shape:
        return False
    return isinstance(before.shape[-1], int) and before.shape[-1] == after.shape[-1]
