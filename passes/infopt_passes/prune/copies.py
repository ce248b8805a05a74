"""What operators tie together that repeat data, make it from a shape, or name its axes by letters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from infopt_passes.prune.axes import rank, size_of
from infopt_passes.prune.shapes import can_rewrite, entries
from infopt_passes.prune.ties import Ties, given, numbers


def _expand(node: ir.Node, tie: Ties) -> None:
    """Axes that are there stay tied; one that is made of a single position can be made of any size."""
    data, output = node.inputs[0], node.outputs[0]
    total, own, written = rank(output), rank(data), entries(given(node, 1))
    if data is None or total is None or own is None or written is None or len(written) != total:
        return
    for axis in range(total):
        at = axis - total + own
        size = size_of(data, at) if at >= 0 else 1
        if not can_rewrite(node, axis):
            continue
        if size == 1:
            tie.spoken.add((output, axis))
        elif size == size_of(output, axis):
            tie(data, at, output, axis)


def _tile(node: ir.Node, tie: Ties) -> None:
    """Position by position what it is a copy of; one that is made of a single position can be made of any size."""
    data, output, repeats = node.inputs[0], node.outputs[0], numbers(given(node, 1))
    if data is None or repeats is None or rank(data) != rank(output) or len(repeats) != rank(data):
        return
    for axis, times in enumerate(repeats):
        size = size_of(data, axis)
        if size == 1:
            tie.spoken.add((output, axis))
        elif size is not None and size * times == size_of(output, axis):
            places = tie.axes.ids(data, axis)
            tie.positions((output, axis), tie.axes.ids(output, axis), (data, axis), np.tile(places, times))


def _made(node: ir.Node, tie: Ties) -> None:
    """ConstantOfShape: all positions are alike, and any number of them can be written down."""
    output = node.outputs[0]
    for axis in range(rank(output) or 0):
        if can_rewrite(node, axis):
            tie.spoken.add((output, axis))


def _triangle(node: ir.Node, tie: Ties) -> None:
    total = rank(node.inputs[0]) or 0
    tie.all_but(node.inputs[0], node.outputs[0], total - 2, total - 1)


def _einsum(node: ir.Node, tie: Ties) -> None:
    """Axes of one letter belong together; those that are summed over are left out of the sum."""
    equation = node.attributes.get_string("equation", "") or ""
    sides = equation.replace(" ", "").split("->")
    terms = [*sides[0].split(","), *sides[1:]]
    values = [*node.inputs, node.outputs[0]]
    plain = all(len(set(term)) == len(term) and term.isalpha() for term in terms)
    if len(sides) != 2 or len(terms) != len(values) or not plain:
        return
    if any(rank(value) != len(term) for value, term in zip(values, terms, strict=True)):
        return
    for letter in set("".join(terms)):
        places = [(value, t.index(letter)) for value, t in zip(values, terms, strict=True) if letter in t]
        if len({size_of(value, axis) for value, axis in places if value is not None}) == 1:
            for value, axis in places[1:]:
                tie(*places[0], value, axis)


COPIES: dict[str, Callable[[ir.Node, Ties], None]] = {
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _made,
    "Trilu": _triangle,
    "Einsum": _einsum,
}
"""Rule by operator."""
