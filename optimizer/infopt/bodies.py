"""The bodies of If, Loop and Scan: what is in them; see :mod:`infopt.carry` for how it is brought out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

LOOP_INPUTS = 2
"""Inputs of a Loop in front of what it carries: the number of iterations and the condition."""


@dataclass(frozen=True, slots=True)
class Body:
    """A graph inside of a node.

    Attributes:
        graph: The graph.
        owner: The node, of the graph around it.
        name: Name of the node's attribute, ``"then_branch"``.
    """

    graph: ir.Graph
    owner: ir.Node
    name: str


def bodies(graph: ir.Graph) -> Iterator[Body]:
    """Every body in a graph, outer ones before those inside of them."""
    for node in graph:
        for name, inner in _named(node):
            yield Body(inner, node, name)
            yield from bodies(inner)


def passages(graph: ir.Graph) -> dict[ir.Value, list[ir.Value]]:
    """What is handed into bodies and out of them: for each copy, what it is one of.

    Keys are the inputs of bodies, but iterations and conditions, and the outputs of the nodes around bodies.
    """
    found: dict[ir.Value, list[ir.Value]] = {}
    for body in bodies(graph):
        loop = body.owner.op_type == "Loop"
        sources = body.owner.inputs[LOOP_INPUTS if loop else 0 :]
        taken = list(body.graph.inputs)[LOOP_INPUTS if loop else 0 :]
        given = list(body.graph.outputs)[1 if loop else 0 :]
        for source, copy in (*zip(sources, taken, strict=False), *zip(given, body.owner.outputs, strict=False)):
            if source is not None:
                found.setdefault(copy, []).append(source)
    return found


def states(graph: ir.Graph) -> list[ir.Value]:
    """What an iteration of a Loop or a Scan hands to the next, of all bodies."""
    found: list[ir.Value] = []
    for body in bodies(graph):
        owner, given = body.owner, list(body.graph.outputs)
        if owner.op_type == "Loop":
            found += given[1 : 1 + len(owner.inputs) - LOOP_INPUTS]
        elif owner.op_type == "Scan":
            found += given[: len(owner.inputs) - owner.attributes["num_scan_inputs"].as_int()]
    return found


def inner_graphs(node: ir.Node) -> list[ir.Graph]:
    """The bodies of one node."""
    return [inner for _, inner in _named(node)]


def _named(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    for name, attribute in node.attributes.items():
        if attribute.is_ref() or attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            continue
        for inner in [attribute.value] if attribute.type is ir.AttributeType.GRAPH else attribute.value:
            yield name, inner


def body_values(graph: ir.Graph) -> dict[str, ir.Value]:
    """Every value that bodies take or make, by name."""
    inner = [body.graph for body in bodies(graph)]
    values = (value for body in inner for value in (*body.inputs, *(v for node in body for v in node.outputs)))
    return {value.name: value for value in values if value.name}


def name_apart(graph: ir.Graph) -> None:
    """Give, in place, every node and value a name that nothing else in the model has, bodies side by side included."""
    taken: set[str] = set()
    nodes: set[str] = set()
    for holder in (graph, *(body.graph for body in bodies(graph))):
        for value in (*holder.inputs, *holder.initializers.values(), *(v for node in holder for v in node.outputs)):
            if value.name and not (value.is_graph_input() and value.is_initializer() and value.name in taken):
                value.name = _free(value.name, taken)
        for node in holder:
            node.name = _free(node.name or node.op_type, nodes)


def homes(graph: ir.Graph) -> dict[ir.Graph, str]:
    """The name of a node in each body; one without nodes is left out."""
    return {body.graph: name for body in bodies(graph) if (name := label_of(body.graph))}


def label_of(graph: ir.Graph) -> str:
    """The name of a graph's first node; empty where it has none."""
    return next((node.name or "" for node in graph), "")


def home_of(value: ir.Value) -> ir.Graph:
    """The graph that makes or takes a value."""
    producer = value.producer()
    return _graph(producer.graph if producer is not None else value.graph)


def _graph(holder: ir.Graph | ir.Function | None) -> ir.Graph:
    assert isinstance(holder, ir.Graph)  # functions are inlined before
    return holder


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of it with a number behind that is not taken; it is taken from now on."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}:{number}"
    taken.add(found)
    return found
