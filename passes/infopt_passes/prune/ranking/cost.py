"""What units cost: operations and parameters of a graph in which some of them are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from infopt.facts import is_constant
from infopt.flops import COUNTED, node_flops, static_sizes
from infopt_passes.prune.wiring.axes import Axis
from infopt_passes.prune.wiring.groups import Group

USUAL = 64
"""Size that stands for one that is only known at run time; shares of a whole hardly depend on it."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Counts what is left of a graph.

    Attributes:
        nodes: Nodes with operations to count.
        weights: Weights, by name.
        sizes: Shape of each tensor for a usual input, by name.
    """

    nodes: tuple[ir.Node, ...]
    weights: Mapping[str, ir.Value]
    sizes: Mapping[str, tuple[int, ...]]

    @staticmethod
    def of(graph: ir.Model, shapes: Mapping[str, Sequence[int]]) -> Costs:
        """Costs of a graph for inputs of some shapes."""
        nodes = tuple(node for node in graph.graph if node.op_type in COUNTED)
        weights = {name: value for name, value in graph.graph.initializers.items() if value.const_value is not None}
        return Costs(nodes, weights, static_sizes(graph, shapes))

    def flops(self, node: ir.Node, left: Mapping[Axis, float]) -> float:
        """Operations of a node.

        Args:
            node: The node.
            left: The share of each axis that is left; all of it where it is absent.
        """

        def size(value: ir.Value, axis: int) -> float:
            known = self.sizes.get(value.name or "")
            own = value.shape[axis] if value.shape is not None else None
            count = known[axis] if known is not None else own if isinstance(own, int) else USUAL
            return count * left.get((value, axis), 1.0)

        try:
            return float(node_flops(node, size))  # type: ignore[arg-type]
        except KeyError:
            return 0.0  # nothing is known of its output: it counts for nothing, before and after

    def total(self, kind: str, left: Mapping[Axis, float]) -> float:
        """All operations (``"flops"``) or parameters (``"params"``) that are left."""
        if kind == "flops":
            return sum(self.flops(node, left) for node in self.nodes)
        return sum(self.parameters(value, left) for value in self.weights.values())

    def parameters(self, value: ir.Value, left: Mapping[Axis, float]) -> float:
        """Elements of a weight that are left."""
        return prod(float(size) * left.get((value, a), 1.0) for a, size in enumerate(_sizes(value)))

    def touched(self, group: Group, kind: str) -> Sequence[ir.Node | ir.Value]:
        """The nodes, or the weights, whose cost depends on a group."""
        values = {value for value, _ in group.places}
        if kind == "params":
            return [value for value in values if is_constant(value)]
        return [node for node in self.nodes if values & {*node.inputs, *node.outputs}]

    def cost(self, kind: str, parts: Sequence[ir.Node | ir.Value], left: Mapping[Axis, float]) -> float:
        """Cost of some nodes or weights, from :meth:`touched`."""
        return sum(self.flops(p, left) if isinstance(p, ir.Node) else self.parameters(p, left) for p in parts)


def _sizes(value: ir.Value) -> list[int]:
    return [int(size) for size in value.shape or () if isinstance(size, int)]
