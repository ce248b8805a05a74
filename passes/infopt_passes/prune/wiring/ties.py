"""What one node ties together: links between its axes, and a freeze of all that no rule speaks of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import is_constant
from infopt_passes.prune.wiring.axes import Axes, Axis, rank, size_of
from infopt_passes.prune.wiring.reshapes import Split

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Ties:
    """Collects what one node ties together.

    Attributes:
        node: The node.
        axes: Where it is written to.
        spoken: Axes that a rule has spoken of.
        splits: Axes that become several or are made of several, to be settled when all is known.
    """

    node: ir.Node
    axes: Axes
    spoken: set[Axis] = field(default_factory=set)
    splits: list[Split] = field(default_factory=list)

    def __call__(self, one: ir.Value | None, axis: int, other: ir.Value | None, other_axis: int) -> None:
        """Tie two axes of one size, position by position; axes of different or unknown size are left to freeze."""
        if one is None or other is None:
            return
        size = size_of(one, axis)
        if size is not None and size == size_of(other, other_axis):
            self.positions((one, axis), self.axes.ids(one, axis), (other, other_axis), self.axes.ids(other, other_axis))

    def positions(self, one: Axis, first: Array, other: Axis, second: Array) -> None:
        """Tie positions of two axes pair by pair."""
        self.axes.link(first, second)
        self.spoken |= {one, other}

    def all_but(self, one: ir.Value | None, other: ir.Value | None, *but: int) -> None:
        """Tie two tensors of one rank axis by axis, except for some axes."""
        if one is None or rank(one) is None or rank(one) != rank(other):
            return
        for axis in range(rank(one) or 0):
            if axis not in but:
                self(one, axis, other, axis)

    def finish(self, why: str) -> None:
        """Freeze every axis of more than one position that no rule has spoken of."""
        for value in (*self.node.inputs, *self.node.outputs):
            for axis in range(rank(value) or 0):
                if value is None or (value, axis) in self.spoken or size_of(value, axis) in (1, None):
                    continue
                self.axes.freeze(self.axes.ids(value, axis), why, vague=True)

    def freeze(self, value: ir.Value | None, why: str, *which: int) -> None:
        """Freeze axes of a tensor with a reason of their own; all of them where none are named."""
        for axis in which or range(rank(value) or 0):
            if value is not None and size_of(value, axis) not in (1, None):
                self.axes.freeze(self.axes.ids(value, axis), why)
                self.spoken.add((value, axis))


def called(node: ir.Node) -> str:
    """How reasons name a node."""
    return f"{node.op_type} {node.name or node.outputs[0].name!r}"


def given(node: ir.Node, index: int) -> ir.Value | None:
    """An input of a node, ``None`` where it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def numbers(value: ir.Value | None) -> list[int] | None:
    """A constant of integers as a flat list; ``None`` for anything else."""
    if value is None or not is_constant(value) or value.const_value is None:
        return None
    array = value.const_value.numpy()
    return [int(n) for n in np.ravel(array)] if array.dtype.kind in "iu" else None


def listed(node: ir.Node, name: str, index: int) -> list[int] | None:
    """Integers that are an attribute in old operator sets and a constant input in newer ones."""
    attribute = node.attributes.get(name)
    return list(attribute.as_ints()) if attribute is not None else numbers(given(node, index))
