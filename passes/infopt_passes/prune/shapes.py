"""Shapes that are written into a graph: the target of a Reshape, the sizes of a Resize, the repeats of a Tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from infopt.facts import is_constant
from infopt_passes.prune.ties import given, numbers

SHAPE_INPUT = {"Reshape": 1, "Resize": 3, "Expand": 1, "ConstantOfShape": 0, "Tile": 1}
"""Position of the input that holds sizes, of operators that have one."""


def entries(value: ir.Value | None) -> list[tuple[int | None, int | None]] | None:
    """The numbers of a shape, ``None`` for those that are computed, each with the input of the Concat that brings it.

    ``None`` as a whole where even their count is not known.
    """
    known = numbers(value)
    if known is not None:
        return [(number, None) for number in known]
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Concat":
        return None
    found: list[tuple[int | None, int | None]] = []
    for index, part in enumerate(node.inputs):
        fixed = numbers(part)
        if fixed is not None and len(fixed) == 1:
            found.append((fixed[0], index))
        elif fixed is not None:
            found += [(number, -1) for number in fixed]  # several at once are not taken apart
        elif part is not None and part.shape is not None and list(part.shape) == [1]:
            found.append((None, index))
        else:
            return None
    return found


def can_rewrite(node: ir.Node, axis: int) -> bool:
    """Whether another size of an axis of the output can be written into a node."""
    index = SHAPE_INPUT.get(node.op_type)
    if index is None:
        return True  # nothing is written down in Flatten, Squeeze, Unsqueeze
    listed = _entries_of(node, index)
    if listed is None or axis >= len(listed):
        return False
    number, part = listed[axis]
    return number is not None and part != -1


def _entries_of(node: ir.Node, index: int) -> list[tuple[int | None, int | None]] | None:
    """The numbers of the shape that a node is told, one for each axis of its output."""
    listed, shape = entries(given(node, index)), node.outputs[0].shape
    if listed is None or node.op_type != "Expand" or shape is None:
        return listed
    return [(1, None)] * (len(shape) - len(listed)) + listed


def rewrite(node: ir.Node, sizes: dict[int, int], constant: Callable[[np.ndarray], ir.Value]) -> None:
    """Write new sizes of axes into a node; -1 and 0 of a Reshape and 1 of an Expand stay what they are.

    Args:
        node: The node.
        sizes: New size by axis of the output.
        constant: Makes an initializer.
    """
    index = SHAPE_INPUT[node.op_type]
    value = given(node, index)
    listed = _entries_of(node, index)
    assert value is not None
    assert listed is not None
    least = 1 if node.op_type == "Expand" else 0
    changed = {axis: size for axis, size in sizes.items() if (listed[axis][0] or 0) > least}
    if not changed:
        return
    if is_constant(value):
        written = [changed.get(axis, number) for axis, (number, _) in enumerate(listed)]
        node.replace_input_with(index, constant(np.array(written, np.int64)))
        return
    concat = value.producer()
    assert concat is not None
    parts = list(concat.inputs)
    for axis, size in changed.items():
        place = listed[axis][1]
        assert place is not None
        parts[place] = constant(np.array([size], np.int64))
    own = ir.node("Concat", parts, {"axis": 0}, name=f"{node.name}:shape")
    own.outputs[0].name, own.outputs[0].type = f"{node.name}:shape", value.type
    own.outputs[0].shape = value.shape
    assert node.graph is not None
    node.graph.insert_before(node, own)
    node.replace_input_with(index, own.outputs[0])


def written_sizes(graph: ir.Graph) -> bool:
    """Note, in place, sizes of outputs that inference does not see in a Concat of numbers.

    Returns:
        Whether anything new was noted.
    """
    news = False
    for node in graph:
        if node.op_type not in ("Reshape", "Expand", "ConstantOfShape") or node.domain != "":
            continue
        listed, output = entries(given(node, SHAPE_INPUT[node.op_type])), node.outputs[0]
        if listed is None or (output.shape is not None and len(output.shape) != len(listed)):
            continue
        least = 1 if node.op_type == "Expand" else 0  # one that is expanded to 1 keeps its size
        old = list(output.shape) if output.shape is not None else [ir.SymbolicDim(None)] * len(listed)
        new = [
            number if number is not None and number > least and not isinstance(size, int) else size
            for size, (number, _) in zip(old, listed, strict=True)
        ]
        if output.shape is None or new != old:
            output.shape, news = ir.Shape(new), True
    return news
