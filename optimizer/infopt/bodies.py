"""The bodies of If, Loop and Scan: what is in them, and how numbers about it are brought out of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

NOTHING = {"ReduceMin": np.inf, "ReduceMax": -np.inf, "ReduceSum": 0.0}
"""What a reduction gives for a body that did not run."""


NO_RUN = np.zeros(0, np.float32)
"""What is collected of a body that did not run."""

SEQUENCE = ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))

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


def can_collect(graph: ir.Graph, home: ir.Graph) -> bool:
    """Whether :func:`collected` can bring out what is in a body: a Scan around another body hands on no sequence."""
    way = _way(graph, home)
    return len(way) == 1 or all(body.owner.op_type in ("If", "Loop") for body in way)


def collected(graph: ir.Graph, value: ir.Value, home: ir.Graph) -> ir.Value:
    """A sequence of the main graph that holds a float tensor as it was in each run of a body, in their order.

    Where a body on the way does not run, the sequence holds an empty vector. An output is added to every node around
    the body, in front of what a Loop gives of each iteration.

    Args:
        graph: The main graph; changed in place, of operator set 13 or newer.
        value: A tensor that the body makes, takes, or reads from around it.
        home: The body, which :func:`can_collect` holds of.
    """
    key, way = f"seen:{value.name}:{_label(home)}", _way(graph, home)
    if way[-1].owner.op_type == "Scan":
        return _cut_up(way[-1], value, key)
    start = _made(graph, ir.node("SequenceEmpty", []), key, before=way[0].owner)
    so_far = [start]
    for body in way:
        so_far.append(_carried(body, so_far[-1], key) if body.owner.op_type == "Loop" else so_far[-1])
    result = _made(home, ir.node("SequenceInsert", [so_far[-1], value]), f"{key}:more")
    for body, before in zip(reversed(way), reversed(so_far[:-1]), strict=True):
        result = _handed_out(body, result, before, key)
    return result


def _way(graph: ir.Graph, home: ir.Graph) -> list[Body]:
    """The bodies from the outermost one to a body."""
    around = {body.graph: body for body in bodies(graph)}
    way: list[Body] = []
    while home is not graph:
        way.append(around[home])
        home = _graph(around[home].owner.graph)
    return way[::-1]


def _made(graph: ir.Graph, node: ir.Node, name: str, before: ir.Node | None = None) -> ir.Value:
    """Append a node that makes a sequence, or put it in front of another."""
    node.name = name
    output = node.outputs[0]
    output.name, output.type = f"{name}:value", SEQUENCE
    if before is None:
        graph.append(node)
    else:
        graph.insert_before(before, node)
    return output


def _carried(body: Body, start: ir.Value, key: str) -> ir.Value:
    """One more input of a Loop that its body takes and is to give again."""
    owner = body.owner
    owner.resize_inputs(max(len(owner.inputs), LOOP_INPUTS) + 1)
    owner.replace_input_with(len(owner.inputs) - 1, start)
    taken = ir.Value(name=f"{key}:{owner.name}:before", type=SEQUENCE)
    body.graph.inputs.append(taken)
    return taken


def _handed_out(body: Body, value: ir.Value, before: ir.Value, key: str) -> ir.Value:
    """One more output of a node: the sequence that its body gives, or what it was before with an empty vector."""
    owner, name = body.owner, f"{key}:{body.owner.name}"
    if owner.op_type == "If":
        other = _other(body)
        nothing = _append(other, ir.node("Constant", [], {"value": ir.tensor(NO_RUN)}), f"{name}:nothing", (0,))
        skipped = _made(other, ir.node("SequenceInsert", [before, nothing]), f"{name}:skipped")
        body.graph.outputs.append(value)
        other.outputs.append(skipped)
        at = len(owner.outputs)
    else:
        at = len(owner.inputs) - 1 - LOOP_INPUTS
        body.graph.outputs.insert(at + 1, value)  # behind the condition
    owner.resize_outputs(len(owner.outputs) + 1)
    for i in range(len(owner.outputs) - 1, at, -1):
        _swap(owner.outputs[i - 1], owner.outputs[i])
    output = owner.outputs[at]
    output.name, output.type = f"{name}:value", SEQUENCE
    return output


def _swap(old: ir.Value, new: ir.Value) -> None:
    """Let another output of the same node take the place of one."""
    name, new.type, new.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name, old.type, old.shape = None, None, None
    new.name = name


def _cut_up(body: Body, value: ir.Value, key: str) -> ir.Value:
    """A sequence of what each iteration of a Scan of the main graph gives."""
    own = _append(body.graph, ir.node("Identity", [value]), f"{key}:own", None)
    stacked = _given(body, own, f"{key}:stacked")
    stacked.shape = None
    node = ir.node("SplitToSequence", [stacked], {"axis": 0, "keepdims": 0})
    return _made(_graph(body.owner.graph), node, f"{key}:cut")


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


def reduced(graph: ir.Graph, value: ir.Value, kind: str, home: ir.Graph | None = None) -> ir.Value:
    """A scalar of the main graph that reduces a float tensor in a body, over all runs of the body.

    Args:
        graph: The main graph; changed in place.
        value: A value of one of its bodies, or one that a body reads from around it.
        kind: ``"ReduceMin"``, ``"ReduceMax"``, ``"ReduceSum"``, or ``"Size"`` for the number of elements; a body that
            does not run gives :data:`NOTHING`.
        home: The body in whose runs it is looked at; the one that makes or takes it by default.
    """
    around = {body.graph: body for body in bodies(graph)}
    home = home or home_of(value)
    key = f"{kind}:{value.name}:{_label(home)}"
    scalar = _first(home, value, kind, key)
    kind = "ReduceSum" if kind == "Size" else kind
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


def homes(graph: ir.Graph) -> dict[ir.Graph, str]:
    """The name of a node in each body; one without nodes is left out."""
    return {body.graph: name for body in bodies(graph) if (name := _label(body.graph))}


def _label(graph: ir.Graph) -> str:
    """The name of a graph's first node; empty where it has none."""
    return next((node.name or "" for node in graph), "")


def home_of(value: ir.Value) -> ir.Graph:
    """The graph that makes or takes a value."""
    producer = value.producer()
    return _graph(producer.graph if producer is not None else value.graph)


def _first(home: ir.Graph, value: ir.Value, kind: str, key: str) -> ir.Value:
    """The reduction of one run."""
    if kind != "Size":
        return _reduce(home, value, kind, key)
    size = ir.node("Size", [value], name=f"{key}:count")
    home.append(size)
    size.outputs[0].name, size.outputs[0].type = f"{key}:count:value", ir.TensorType(ir.DataType.INT64)
    return _append(home, ir.node("Cast", [size.outputs[0]], {"to": ir.DataType.FLOAT.value}), key)


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
