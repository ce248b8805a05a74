"""Shapes that are written into a graph: the target of a Reshape, the sizes of a Resize, the repeats of a Tile."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir

from infopt.facts import is_constant
from infopt.listed import picked
from infopt_passes.prune.wiring.ties import given, numbers

MADE_UP = "unk__"
"""How names begin that shape inference gives to sizes that it knows nothing of."""

SHAPE_INPUT = {"Reshape": 1, "Resize": 3, "Expand": 1, "ConstantOfShape": 0, "Tile": 1}
"""Position of the input that holds sizes, of operators that have one."""

LISTED = ("Reshape", "Expand", "ConstantOfShape")
"""Those whose output has just these sizes, as far as they are told."""


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
    """Note, in place, sizes of outputs that inference does not see in a Concat of numbers and sizes.

    Returns:
        Whether anything new was noted.
    """
    news = False
    for node in graph:
        index = SHAPE_INPUT[node.op_type] if node.op_type in LISTED and not node.domain else None
        if index is None or entries(given(node, index)) is None:
            continue
        output, listed = node.outputs[0], _told(node, index)
        old = list(output.shape) if output.shape is not None else [ir.SymbolicDim(None)] * len(listed)
        if len(old) != len(listed):
            continue
        new = [told if _better(told, size) else size for size, told in zip(old, listed, strict=True)]
        if output.shape is None or new != old:
            output.shape, news = ir.Shape(new), True
    return news


def _better(told: int | str | None, size: int | ir.SymbolicDim) -> bool:
    if isinstance(size, int) or told is None or told == -1:
        return False
    return isinstance(told, int) or size.value is None or str(size.value).startswith(MADE_UP)


def _told(node: ir.Node, index: int) -> list[int | str | None]:
    """The sizes that a node is told, by number or by the name of an unknown one; ``None`` where it is not known."""
    value, data = given(node, index), node.inputs[0]
    concat = value.producer() if value is not None and not is_constant(value) else None
    sizes = list(data.shape) if data is not None and data.shape is not None and index else []
    found: list[int | str | None] = []
    for axis, (number, part) in enumerate(_entries_of(node, index) or ()):
        dim: int | str | None = number
        if number is None and concat is not None and part is not None:
            dim = _name(concat.inputs[part])
        if number == 0 and node.op_type == "Reshape":
            size = sizes[axis] if axis < len(sizes) and not node.attributes.get_int("allowzero", 0) else None
            dim = size.value if isinstance(size, ir.SymbolicDim) else size
        if node.op_type == "Expand" and number in (1, None):
            dim = None
        found.append(dim)
    if node.op_type == "Reshape" and found.count(-1) == 1 and None not in found:
        found[found.index(-1)] = _rest([s.value if isinstance(s, ir.SymbolicDim) else s for s in sizes], found)
    return [dim if dim != -1 else None for dim in found]


def _rest(before: list[int | str | None], after: list[int | str | None]) -> int | None:
    """What -1 stands for, where the unknown sizes before and after are the same."""
    names = [sorted(size for size in sizes if isinstance(size, str)) for sizes in (before, after)]
    numbers = [prod(size for size in sizes if isinstance(size, int) and size != -1) for sizes in (before, after)]
    if not before or None in before or names[0] != names[1] or not numbers[1] or numbers[0] % numbers[1]:
        return None
    return numbers[0] // numbers[1]


def _name(value: ir.Value | None) -> str | None:
    """The name of the unknown size that a number is, if it is one that a shape lists."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in ("Unsqueeze", "Squeeze", "Cast", "Identity"):
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    found = picked(node) if node is not None else None
    if found is None or found[1].size != 1:
        return None
    size = found[0].shape[int(found[1].ravel()[0])] if found[0].shape is not None else None
    return size.value if isinstance(size, ir.SymbolicDim) else None
