"""Which sizes of which tensor a node reads: index arithmetic that can be told without running anything."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from infopt.facts import is_constant


def picked(node: ir.Node) -> tuple[ir.Value, np.ndarray] | None:
    """The tensor and those of its axes whose sizes a Shape lists, or a Gather or a Slice behind one picks.

    Returns:
        ``None`` for any other node, and where the axes are not known. The axes are of the shape of the node's output.
    """
    if node.op_type == "Shape" and not node.domain:
        return _listed(node)
    if node.op_type not in ("Gather", "Slice") or node.domain:
        return None
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    listed = _listed(before) if before is not None and before.op_type == "Shape" and not before.domain else None
    if listed is None or any(not is_constant(value) for value in node.inputs[1:] if value is not None):
        return None
    rest = [None if value is None or not value.const_value else value.const_value.numpy() for value in node.inputs[1:]]
    axes = _gathered(listed[1], rest) if node.op_type == "Gather" else _sliced(listed[1], rest)
    return None if axes is None else (listed[0], axes)


def _listed(node: ir.Node) -> tuple[ir.Value, np.ndarray] | None:
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(value.shape))
    return value, np.arange(len(value.shape))[start:end]


def _gathered(listed: np.ndarray, rest: list[np.ndarray | None]) -> np.ndarray | None:
    indices = rest[0] if rest else None
    return None if indices is None else np.asarray(listed[indices])


def _sliced(listed: np.ndarray, rest: list[np.ndarray | None]) -> np.ndarray | None:
    """What a Slice takes of a vector; its axes may be left out, and its bounds were attributes once."""
    start, end, _, step = (None if array is None else int(array.reshape(-1)[0]) for array in [*rest, *[None] * 4][:4])
    return None if start is None or end is None else listed[start : end : step or 1]
