"""Cuts a graph into consecutive parts, so that the weights of one part at a time are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Segment:
    """Some nodes that run together, mostly consecutive ones.

    Attributes:
        nodes: Positions of the nodes in the graph's order, ascending.
        takes: Computed tensors of earlier segments that it reads.
        gives: Tensors that it computes for later segments.
        watched: Tensors to observe that it computes; the first segment also has the graph's inputs among them.
    """

    nodes: Sequence[int]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    watched: tuple[str, ...]


def cut(graph: ir.Graph, names: Sequence[str], limit: int) -> list[Segment]:
    """Split a graph so that each part has at most so many bytes of weights, where single nodes allow it.

    Args:
        graph: The main graph, in topological order.
        names: Tensors to observe.
        limit: Bytes of weights.

    Returns:
        The parts in order; one where all weights fit.
    """
    ranges = list(_runs(list(graph), limit))
    home = {value.name: i for i, nodes in enumerate(ranges) for value in _made(_slice(graph, nodes))}
    last: dict[str, int] = {}
    for i, nodes in enumerate(ranges):
        last.update(dict.fromkeys(read_names(_slice(graph, nodes)), i))
    wanted = [name for name in names if last.get(name) is not None or name in home]
    segments = []
    for i, nodes in enumerate(ranges):
        read = read_names(_slice(graph, nodes))
        takes = tuple(dict.fromkeys(name for name in read if name in home and home[name] < i))
        gives = tuple(name for name, at in home.items() if name and at == i and last.get(name, i) > i)
        watched = tuple(name for name in wanted if home.get(name, 0) == i)
        segments.append(Segment(nodes, takes, gives, watched))
    return segments


def extracted(graph: ir.Model, segment: Segment) -> ir.Model:
    """A segment as a model of its own: it takes the graph's inputs that it reads and ``takes``, and gives ``gives``.

    Args:
        graph: The whole model; it is left as it was.
        segment: A part of its main graph.
    """
    result = graph.clone()
    main = result.graph
    nodes = list(main)
    values = {value.name: value for node in nodes for value in node.outputs}
    own = [nodes[i] for i in segment.nodes]
    kept, read = set(own), set(read_names(own))
    watched = set(segment.watched)
    main.outputs.clear()
    for name in segment.takes:
        _replace(values[name], main)
    main.outputs.extend(values[name] for name in segment.gives)
    main.remove([node for node in reversed(nodes) if node not in kept], safe=False)
    for value in list(main.inputs):
        if value.name not in read and value.name not in watched:
            main.inputs.remove(value)
    for name in [name for name in main.initializers if name not in read]:
        del main.initializers[name]
    return result


def _replace(value: ir.Value, graph: ir.Graph) -> None:
    """Let nodes read an input of the tensor's name instead of the tensor."""
    stand_in = ir.Value(name=value.name, type=value.type, shape=value.shape)
    for use in list(value.uses()):
        use.node.replace_input_with(use.idx, stand_in)
    value.name = f"{value.name}:made elsewhere"
    graph.inputs.append(stand_in)


def _runs(nodes: Sequence[ir.Node], limit: int) -> Iterator[range]:
    start, size, seen = 0, 0, set[ir.Value]()
    for position, node in enumerate(nodes):
        fresh = {value for value in _values([node]) if value.is_initializer() and value not in seen}
        more = sum(value.const_value.nbytes for value in fresh if value.const_value is not None)
        if more and size and size + more > limit:
            yield range(start, position)
            start, size, seen = position, 0, set()
        size, seen = size + more, seen | fresh
    yield range(start, len(nodes))


def _slice(graph: ir.Graph, nodes: range) -> list[ir.Node]:
    return list(graph)[nodes.start : nodes.stop]


def read_names(nodes: Iterable[ir.Node]) -> list[str]:
    """Names of everything that nodes read, in their bodies as well."""
    return [value.name for value in _values(nodes) if value.name]


def _made(nodes: Iterable[ir.Node]) -> Iterator[ir.Value]:
    """Everything that nodes make, and that their bodies take or make."""
    for node in nodes:
        yield from node.outputs
        for graph in _bodies(node):
            yield from graph.inputs
            yield from _made(graph)


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.value
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.value


def _values(nodes: Iterable[ir.Node]) -> Iterator[ir.Value]:
    """Everything that nodes read, in their subgraphs as well."""
    for node in nodes:
        yield from (value for value in node.inputs if value is not None)
        for graph in _bodies(node):
            yield from _values(graph)
            yield from graph.outputs
