"""How a Reshape regroups axes, and which part of a split axis can be pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from infopt_passes.prune.wiring.axes import Axes, Axis, Kin

Sizes = Sequence[int | str | None]
Block = tuple[tuple[int, ...], tuple[int, ...]]
"""Axes before and axes after that hold the same elements in the same order."""


@dataclass(frozen=True, slots=True)
class Split:
    """An axis that is several axes of another tensor, the first of them the slowest.

    Attributes:
        whole: The one axis.
        parts: The several axes.
        swapped: Whether two parts change places and become one again (a channel shuffle): then the last one is free.
        node: The operator, for reasons.
    """

    whole: Axis
    parts: tuple[Axis, ...]
    swapped: bool
    node: str


def blocks(before: Sizes, after: Sizes) -> list[Block]:
    """Pair up the axes of a Reshape, from the right and then from the left.

    Args:
        before: Sizes of the input: an integer, the name of an unknown one, or ``None``.
        after: Sizes of the output.

    Returns:
        What is certain to hold the same elements, and last what lies in between; axes of size 1 are left out.
    """
    one = [(i, size) for i, size in enumerate(before) if size != 1]
    other = [(i, size) for i, size in enumerate(after) if size != 1]
    right = _paired(one[::-1], other[::-1])
    one, other = (side[: len(side) - sum(len(pair[i]) for pair in right)] for i, side in enumerate((one, other)))
    left = _paired(one, other)
    one, other = (side[sum(len(pair[i]) for pair in left) :] for i, side in enumerate((one, other)))
    between = [(tuple(axis for axis, _ in one), tuple(axis for axis, _ in other))] if one and other else []
    return [(pair[0][::-1], pair[1][::-1]) for pair in right] + left + between


def _paired(before: list[tuple[int, int | str | None]], after: list[tuple[int, int | str | None]]) -> list[Block]:
    found: list[Block] = []
    i = j = 0
    while i < len(before) and j < len(after):
        if not isinstance(before[i][1], int) or not isinstance(after[j][1], int):
            alike = isinstance(before[i][1], str) and before[i][1] == after[j][1]
            if not (alike or len(before) - i == len(after) - j == 1):
                break
            found.append(((before[i][0],), (after[j][0],)))
            i, j = i + 1, j + 1
            continue
        taken = _run(before, after, i, j)
        if taken is None:
            break
        found.append((tuple(a for a, _ in before[i : taken[0]]), tuple(a for a, _ in after[j : taken[1]])))
        i, j = taken
    return found


def _run(
    before: list[tuple[int, int | str | None]], after: list[tuple[int, int | str | None]], i: int, j: int
) -> tuple[int, int] | None:
    """Ends of the shortest runs with as many elements; ``None`` where an unknown size comes first."""
    ends, sides = [i + 1, j + 1], (before, after)
    starts = (i, j)
    while True:
        sizes = [[size for _, size in side[s:e]] for side, s, e in zip(sides, starts, ends, strict=True)]
        if not all(isinstance(size, int) and size > 0 for part in sizes for size in part):
            return None
        products = [prod(size for size in part if isinstance(size, int)) for part in sizes]
        if products[0] == products[1]:
            return ends[0], ends[1]
        short = 0 if products[0] < products[1] else 1
        if ends[short] >= len(sides[short]):
            return None
        ends[short] += 1


def settle(splits: Sequence[Split], axes: Axes, kin: Kin) -> None:
    """Link each split axis to the one of its parts that is free, as far as is known, and freeze the other parts.

    The slowest free part is chosen: heads before what is in a head, channels before the places of a map.
    """
    for split in splits:
        order = split.parts[::-1] if split.swapped else split.parts
        free = next((part for part in order if not axes.is_frozen(part, kin)), order[0])
        sizes = [len(axes.ids(*part)) for part in split.parts]
        at = split.parts.index(free)
        inner = prod(sizes[at + 1 :])
        places = np.arange(prod(sizes)) // inner % sizes[at]
        axes.link(axes.ids(*split.whole), axes.ids(*free)[places])
        for part in split.parts:
            if part != free:
                why = f"{split.node} splits or joins axes, and another part of them is pruned"
                axes.freeze(axes.ids(*part), why, vague=True)


def is_shuffle(node: ir.Node) -> bool:
    """Whether a Reshape is the first or the last of Reshape, Transpose, Reshape that swap two parts of an axis."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    uses = list(node.outputs[0].uses())
    first = len(uses) == 1 and uses[0].node.op_type == "Transpose" and _swaps(node, uses[0].node, _next(uses[0].node))
    if first or before is None or before.op_type != "Transpose" or before.inputs[0] is None:
        return first
    start = before.inputs[0].producer()
    return start is not None and start.op_type == "Reshape" and _swaps(start, before, node)


def _next(node: ir.Node) -> ir.Node | None:
    uses = list(node.outputs[0].uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == "Reshape" else None


def _swaps(start: ir.Node, turn: ir.Node, end: ir.Node | None) -> bool:
    """Whether the shape behind is that in front and only two neighbours were swapped in between."""
    perm = list(turn.attributes.get_ints("perm", []))
    moved = [axis for axis, source in enumerate(perm) if axis != source]
    front = start.inputs[0].shape if start.inputs[0] is not None else None
    back = end.outputs[0].shape if end is not None else None
    neighbours = len(moved) == 2 and moved[1] == moved[0] + 1
    return neighbours and front is not None and back is not None and len(front) == len(back) == len(perm) - 1
