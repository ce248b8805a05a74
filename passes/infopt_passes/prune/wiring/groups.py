"""The parts of a graph that can be pruned: units that come and go as a whole, in groups of those that are alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.bodies import bodies
from infopt.facts import is_constant
from infopt_passes.prune.wiring.axes import Axes, Axis, Kin
from infopt_passes.prune.wiring.operators import apply
from infopt_passes.prune.wiring.reshapes import settle
from infopt_passes.prune.wiring.ties import Ties
from infopt_passes.prune.wiring.weights import is_weight, weights_of

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Units that are alike: the channels of some tensors, the heads of an attention, the neurons of a layer.

    Attributes:
        name: Name of the first tensor that is made with them.
        places: For each axis, the indices of each unit on it: of shape (units, indices of a unit).
    """

    name: str
    places: Mapping[Axis, Array]

    @property
    def units(self) -> int:
        """Number of units."""
        return len(next(iter(self.places.values())))

    @property
    def width(self) -> int:
        """The fewest rows of a weight that a unit takes: 1 for channels, more for heads and groups of channels."""
        widths = (p.shape[1] for (v, _), p in self.places.items() if is_weight(v) and len(v.shape or ()) > 1)
        return min(widths, default=1)


@dataclass(frozen=True, slots=True)
class Structure:
    """What can be pruned of a graph, and what not.

    Attributes:
        groups: In the order of the graph.
        kept: Reason by name of each layer whose outputs stay.
    """

    groups: tuple[Group, ...]
    kept: Mapping[str, str]


def structure(graph: ir.Graph) -> Structure:
    """Find what can be pruned of a main graph; shapes are inferred and constants are initializers."""
    axes = Axes()
    splits = []
    for node in graph:
        tie = Ties(node, axes)
        apply(node, tie)
        splits += tie.splits
    _freeze_ends(graph, axes)
    settle(splits, axes, axes.kin())
    kin = axes.kin()
    return Structure(tuple(_groups(axes, kin)), dict(_kept(graph, axes, kin)))


def _freeze_ends(graph: ir.Graph, axes: Axes) -> None:
    """Freeze what the outside knows: inputs, outputs, and all that bodies of If and Loop see."""
    seen = [(value, "an input of the model") for value in graph.inputs]
    seen += [(value, "an output of the model") for value in graph.outputs]
    for body in bodies(graph):
        inner = (value for node in body.graph for value in node.inputs if value is not None)
        seen += [(value, f"read in a body of {body.owner.op_type}") for value in inner]
    for value, why in seen:
        for axis, size in enumerate(value.shape or ()):
            if size != 1:
                axes.freeze(axes.ids(value, axis), f"{value.name!r} is {why}")


def _groups(axes: Axes, kin: Kin) -> Iterator[Group]:
    owners, starts = axes.owners(), np.cumsum([0, *axes.sizes])
    free = np.flatnonzero(kin.why[kin.labels] < 0)
    order = free[np.argsort(kin.labels[free], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(kin.labels[order])) + 1) if len(order) else []
    alike: dict[tuple[Any, ...], list[Array]] = defaultdict(list)
    for part in parts:
        numbers, counts = np.unique(owners[part], return_counts=True)
        alike[tuple(numbers), tuple(counts)].append(part)
    for (numbers, counts), units in sorted(alike.items(), key=lambda item: item[0][0]):
        # A unit's positions ascend, so those of one axis are neighbours, in the order of the axes.
        table, places, at = np.stack(units), {}, 0
        for number, count in zip(numbers, counts, strict=True):
            places[axes.axes[number]] = table[:, at : at + count] - starts[number]
            at += count
        computed = [value.name for value, _ in places if not is_constant(value)]
        weights = any(is_constant(value) and len(value.shape or ()) > 1 for value, _ in places)
        if len(units) > 1 and computed and weights:
            yield Group(computed[0] or "", places)


def _kept(graph: ir.Graph, axes: Axes, kin: Kin) -> Iterator[tuple[str, str]]:
    for node in graph:
        if not weights_of(node):
            continue
        output = next((value for value in node.outputs if value.shape is not None), node.outputs[0])
        axis = 1 if node.op_type.startswith("Conv") else len(output.shape or ()) - 1
        start = axes.starts.get((output, axis))
        whole = axes.ids(output, axis) if start is not None else np.zeros(0, np.int64)
        why = kin.why[kin.labels[whole]]
        if len(why) and (why >= 0).all():
            yield node.name or node.op_type, axes.reasons[why[0]]
