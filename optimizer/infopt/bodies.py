"""The bodies of If, Loop and Scan: what is in them, and how numbers about it are brought out of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

NOTHING = {"ReduceMin": np.inf, "ReduceMax": -np.inf, "ReduceSum": 0.0}
"""What a reduction gives for a body that did not run."""


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
        for name, attribute in node.attributes.items():
            if attribute.is_ref() or attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                continue
            for inner in [attribute.value] if attribute.type is ir.AttributeType.GRAPH else attribute.value:
                yield Body(inner, node, name)
                yield from bodies(inner)


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


def reduced(graph: ir.Graph, value: ir.Value, kind: str) -> ir.Value:
    """A scalar of the main graph that reduces a float tensor in a body, over all runs of the body.

    Args:
        graph: The main graph; changed in place.
        value: A value of one of its bodies.
        kind: ``"ReduceMin"``, ``"ReduceMax"`` or ``"ReduceSum"``; a body that does not run gives :data:`NOTHING`.
    """
    around = {body.graph: body for body in bodies(graph)}
    producer = value.producer()
    home = _graph(producer.graph if producer is not None else value.graph)
    key = f"{kind}:{value.name}"
    scalar = _reduce(home, value, kind, key)
    while home is not graph:
        body = around[home]
        home = _graph(body.owner.graph)
        scalar = _given(body, scalar, f"{key}:{body.owner.name}")
        if body.owner.op_type == "If":
            _add_output(_other(body), _default(_other(body), kind, key), f"{key}:none")
        else:  # what each iteration gave becomes a vector, maybe an empty one
            start = _default(home, kind, f"{key}:{body.owner.name}:start", (1,))
            both = _append(home, ir.node("Concat", [scalar, start], {"axis": 0}), f"{key}:{body.owner.name}:all")
            scalar = _reduce(home, both, kind, f"{key}:{body.owner.name}:reduced")
    return scalar


def _graph(holder: ir.Graph | ir.Function | None) -> ir.Graph:
    assert isinstance(holder, ir.Graph)  # functions are inlined before
    return holder


def _given(body: Body, value: ir.Value, name: str) -> ir.Value:
    """Make a value of a body one more output of its node, the last."""
    owner = body.owner
    count = len(body.graph.outputs) - (owner.op_type == "Loop")  # a Loop's condition is not given
    body.graph.outputs.append(value)
    for key in ("scan_output_axes", "scan_output_directions"):
        if key in owner.attributes:
            owner.attributes[key] = ir.AttrInt64s(key, [*owner.attributes[key].as_ints(), 0])
    owner.resize_outputs(count + 1)
    output = owner.outputs[count]
    output.name, output.type = name, ir.TensorType(ir.DataType.FLOAT)
    output.shape = ir.Shape([]) if owner.op_type == "If" else ir.Shape([None])
    return output


def _other(body: Body) -> ir.Graph:
    other = "else_branch" if body.name == "then_branch" else "then_branch"
    return body.owner.attributes[other].as_graph()


def _add_output(graph: ir.Graph, value: ir.Value, name: str) -> None:
    value.name = name
    graph.outputs.append(value)


def _default(graph: ir.Graph, kind: str, name: str, shape: tuple[int, ...] = ()) -> ir.Value:
    tensor = ir.tensor(np.full(shape, NOTHING[kind], np.float32))
    return _append(graph, ir.node("Constant", [], {"value": tensor}), name, shape)


def _reduce(graph: ir.Graph, value: ir.Value, kind: str, name: str) -> ir.Value:
    return _append(graph, ir.node(kind, [value], {"keepdims": 0}), name)


def _append(graph: ir.Graph, node: ir.Node, name: str, shape: tuple[int, ...] | None = ()) -> ir.Value:
    node.name, output = name, node.outputs[0]
    output.name, output.type = f"{name}:value", ir.TensorType(ir.DataType.FLOAT)
    output.shape = None if node.op_type == "Concat" or shape is None else ir.Shape(shape)
    graph.append(node)
    return output


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of it with a number behind that is not taken; it is taken from now on."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}:{number}"
    taken.add(found)
    return found
