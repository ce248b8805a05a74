"""How many layers stand in front of each, within bodies too."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from infopt.bodies import inner_graphs


def depths(graph: ir.Graph, wanted: Collection[ir.Node]) -> dict[ir.Node, int]:
    """Most of the wanted nodes that one has in front of it on any way, by node, in the graph's order.

    A body's own inputs come from all inputs of its node; what an iteration leaves for the next one is not followed.

    Args:
        graph: The main graph, in topological order.
        wanted: The nodes, of it or of bodies.
    """
    return _Walk(wanted).through(graph)


class _Walk:
    """The depths found so far, of values and of the wanted nodes."""

    def __init__(self, wanted: Collection[ir.Node]) -> None:
        self.wanted = wanted
        self.values: dict[ir.Value, int] = {}
        self.found: dict[ir.Node, int] = {}

    def through(self, graph: ir.Graph) -> dict[ir.Node, int]:
        for node in graph:
            depth = self._deepest(node.inputs)
            for inner in inner_graphs(node):
                self.values.update(dict.fromkeys(inner.inputs, depth))
                self.through(inner)
                depth = max(depth, self._deepest(inner.outputs))
            if node in self.wanted:
                self.found[node] = depth
                depth += 1
            self.values.update(dict.fromkeys(node.outputs, depth))
        return self.found

    def _deepest(self, values: Collection[ir.Value | None]) -> int:
        return max((self.values.get(value, 0) for value in values if value is not None), default=0)
