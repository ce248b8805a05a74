"""What operators tie together that repeat data, or a triangle of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from infopt_passes.prune.wiring.axes import rank, size_of
from infopt_passes.prune.wiring.ties import Ties, given, numbers


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


def _triangle(node: ir.Node, tie: Ties) -> None:
    total = rank(node.inputs[0]) or 0
    tie.all_but(node.inputs[0], node.outputs[0], total - 2, total - 1)


COPIES: dict[str, Callable[[ir.Node, Ties], None]] = {
    "Tile": _tile,
    "Trilu": _triangle,
}
"""Rule by operator."""
