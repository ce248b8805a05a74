"""LSTM, GRU and RNN: what their hidden units tie together, and what they read.

A hidden unit is one row of each gate in W, R, B and P, a column of R, through which the others read it, and an index of
each state and output. Where its column of R and whatever else reads it are zero, no other unit knows of it, whatever
the activations, the initial states, ``linear_before_reset``, ``clip`` or ``input_forget`` are: the others compute the
same without it. A unit is the same one in both directions of a layer, since they have one ``hidden_size``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import is_constant
from infopt_passes.fitting.gather import Reading
from infopt_passes.fitting.layout import Layout
from infopt_passes.fitting.patches import chosen
from infopt_passes.prune.wiring.axes import rank, size_of
from infopt_passes.prune.wiring.ties import Ties, called, given

Array = npt.NDArray[Any]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Rows of a unit in each weight, by operator."""

STACKED = (1, 2, 3, 7)
"""Inputs in which gates lie one after the other, on axis 1: W, R, B, P."""

STATES = (5, 6)
"""Inputs that hold a number per unit: the initial states."""


def is_recurrent(node: ir.Node) -> bool:
    """Whether a node is an LSTM, a GRU or an RNN."""
    return node.domain == "" and node.op_type in GATES


def weights(node: ir.Node) -> list[ir.Value]:
    """The constants of a recurrent layer that are silent where a unit is gone: W, R and B."""
    return [value for value in node.inputs[1:4] if value is not None and is_constant(value)]


def name_states(graph: ir.Graph) -> None:
    """Name, in place, what recurrent layers can hand out and nobody reads, so that it can be looked at."""
    for node in graph:
        for index, value in enumerate(node.outputs if is_recurrent(node) else ()):
            value.name = value.name or f"{node.name or node.op_type}:{index}"


def unname_states(node: ir.Node) -> None:
    """Take the names back that nobody reads, in place."""
    for value in node.outputs:
        if not value.uses() and not value.is_graph_output():
            value.name = ""


def drop_zeros(graph: ir.Graph) -> None:
    """Leave out, in place, initial states that are zero, as they are without: layers that share them are not alike."""
    for node in graph:
        for index in STATES if is_recurrent(node) else ():
            if is_zero(given(node, index)):
                node.replace_input_with(index, None)


def is_zero(value: ir.Value | None) -> bool:
    """Whether all elements of a tensor are known to be zero, whatever its shape is."""
    if value is None:
        return False
    if is_constant(value):
        return value.const_value is not None and not value.const_value.numpy().any()
    node = value.producer()
    if node is None or node.domain != "" or value.is_graph_input():
        return False
    if node.op_type == "ConstantOfShape":
        written = node.attributes.get_tensor("value", None)
        return written is None or not written.numpy().any()
    moved = ("Expand", "Slice", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Gather", "Split", "Identity", "Cast")
    if node.op_type == "Concat":
        return all(is_zero(part) for part in node.inputs)
    return node.op_type in moved and is_zero(node.inputs[0])


def recurrent(node: ir.Node, tie: Ties) -> None:
    """Tie features that are read to W, and the hidden units of weights, states and outputs to each other."""
    tie(node.inputs[0], 2, node.inputs[1], 2)
    back = node.inputs[2]
    units = size_of(back, 2) if back is not None else None
    wide = [(given(node, index), 1) for index in STACKED]
    narrow = [(given(node, index), 2) for index in STATES]
    narrow += [(value, (rank(value) or 1) - 1) for value in node.outputs if value.name]
    if back is None or units is None or not _is_sound(wide, narrow, units):
        for value, axis in (*wide, *narrow, (back, 2)):
            tie.freeze(value, f"{called(node)} has weights or states that are not known ahead", axis)
        return
    ids = tie.axes.ids(back, 2)
    for value, axis in (*wide, *narrow):
        if value is not None:
            places = tie.axes.ids(value, axis)
            tie.positions((value, axis), places, (back, 2), np.tile(ids, len(places) // units))


def _is_sound(wide: list[tuple[Any, int]], narrow: list[tuple[Any, int]], units: int) -> bool:
    """Whether weights are constant and everything has the size that the units say."""
    for value, axis in wide:
        size = size_of(value, axis) if value is not None else 0
        if size is None or size % units or (value is not None and not is_constant(value)):
            return False
    return all(value is None or size_of(value, axis) == units for value, axis in narrow)


@dataclass(frozen=True, slots=True)
class States(Layout):
    """What hidden units read of each other: as many products as there are directions.

    Attributes:
        along: Axis of the directions in the states, counted from the back.
    """

    along: int = -3

    def rows(self, data: Array, limit: int, rng: np.random.Generator) -> Array:
        """Rows of the states; see :meth:`infopt_passes.fitting.layout.Layout.rows`."""
        flat = np.moveaxis(data, self.along, 0).reshape(self.groups, -1, self.columns)
        return flat[:, chosen(flat.shape[1], limit, rng)]


def products(node: ir.Node) -> Iterator[tuple[int, Reading]]:
    """The two products of a recurrent layer: with what it reads, and with its own states.

    The states that a step reads are the outputs of the step before, so the outputs stand for them.

    Returns:
        Positions of W and of R, each with a reading of what it is multiplied with.
    """
    data, weight, back = node.inputs[:3]
    if weight is None or back is None or not (is_constant(weight) and is_constant(back)):
        return
    sizes, own = [int(size) for size in weight.shape.numpy()], [int(size) for size in back.shape.numpy()]  # type: ignore[union-attr]
    if data is not None and not is_constant(data):
        yield 1, Reading(node, Layout(None, 1, (sizes[0] * sizes[1], sizes[2])), other=data.name)
    states = next((value for value in node.outputs[:2] if value.name), None)
    if states is not None:
        along = -2 if node.attributes.get_int("layout", 0) else -3
        layout = States(None, own[0], (own[0] * own[1], own[2]), along=along)
        yield 2, Reading(node, layout, other=states.name, source=states.name)
