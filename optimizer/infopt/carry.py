"""Brings out of the bodies of If, Loop and Scan what is in them: reduced to some numbers, or whole, run by run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.bodies import LOOP_INPUTS, Body, bodies, home_of, label_of
from infopt.scans import as_loop

NOTHING = {"ReduceMin": np.inf, "ReduceMax": -np.inf, "ReduceSum": 0.0}
"""What a reduction gives for a body that did not run."""


NO_RUN = np.zeros(0, np.float32)
"""What is collected of a body that did not run."""

SEQUENCE = ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))


def reduced(
    graph: ir.Graph, value: ir.Value, kind: str, home: ir.Graph | None = None, axis: int | None = None
) -> ir.Value:
    """A scalar of the main graph that reduces a float tensor in a body, over all runs of the body.

    Args:
        graph: The main graph; changed in place.
        value: A value of one of its bodies, or one that a body reads from around it.
        kind: ``"ReduceMin"``, ``"ReduceMax"``, ``"ReduceSum"``, or ``"Size"`` for the number of elements; a body that
            does not run gives :data:`NOTHING`.
        home: The body in whose runs it is looked at; the one that makes or takes it by default.
        axis: Axis of known size that is kept, so that the result is a vector.
    """
    around = {body.graph: body for body in bodies(graph)}
    home = home or home_of(value)
    key = f"{kind}:{value.name}:{label_of(home)}"
    reduce = _Reduction(kind, kept_size(value, axis), graph.opset_imports.get("", 0))
    result = reduce.first(home, value, axis, key)
    while home is not graph:
        body = around[home]
        home = _around(body)
        result = _given(body, result, f"{key}:{body.owner.name}", reduce.shape)
        if body.owner.op_type == "If":
            _add_output(_other(body), reduce.nothing(_other(body), key), f"{key}:none")
        else:  # what each iteration gave stands in one row more, maybe in none
            result = reduce.rows(home, result, f"{key}:{body.owner.name}")
    return result


def kept_size(value: ir.Value, axis: int | None) -> tuple[int, ...]:
    """The shape of a tensor that is reduced to one of its axes, or to a scalar."""
    if axis is None:
        return ()
    size = value.shape[axis] if value.shape is not None else None
    assert isinstance(size, int), f"the size of axis {axis} of {value.name} is not known"
    return (size,)


@dataclass(frozen=True, slots=True)
class _Reduction:
    """One way to reduce tensors to a shape."""

    kind: str
    shape: tuple[int, ...]
    opset: int

    def first(self, home: ir.Graph, value: ir.Value, axis: int | None, key: str) -> ir.Value:
        """The reduction of one run."""
        if self.kind != "Size":
            rank = len(value.shape) if value.shape is not None else 0
            others = None if axis is None else [i for i in range(rank) if i != axis % rank]
            return self._reduce(home, value, others, key)
        size = ir.node("Size", [value], name=f"{key}:count")
        home.append(size)
        size.outputs[0].name, size.outputs[0].type = f"{key}:count:value", ir.TensorType(ir.DataType.INT64)
        return _append(home, ir.node("Cast", [size.outputs[0]], {"to": ir.DataType.FLOAT.value}), key)

    def nothing(self, graph: ir.Graph, key: str, rows: tuple[int, ...] = ()) -> ir.Value:
        """What stands for a body that did not run."""
        shape = (*rows, *self.shape)
        tensor = ir.tensor(np.full(shape, NOTHING["ReduceSum" if self.kind == "Size" else self.kind], np.float32))
        return _append(graph, ir.node("Constant", [], {"value": tensor}), key, shape)

    def rows(self, home: ir.Graph, value: ir.Value, key: str) -> ir.Value:
        """The reduction of what all iterations gave."""
        start = self.nothing(home, f"{key}:start", (1,))
        both = _append(home, ir.node("Concat", [value, start], {"axis": 0}), f"{key}:all")
        return self._reduce(home, both, [0] if self.shape else None, f"{key}:reduced")

    def _reduce(self, graph: ir.Graph, value: ir.Value, axes: list[int] | None, name: str) -> ir.Value:
        kind, inputs = "ReduceSum" if self.kind == "Size" else self.kind, [value]
        attributes: dict[str, Any] = {"keepdims": 0}
        # The axes became an input of ReduceSum with opset 13 and of the others with opset 18.
        if axes is not None and self.opset < (13 if kind == "ReduceSum" else 18):
            attributes["axes"] = axes
        elif axes is not None:
            constant = ir.node("Constant", [], {"value": ir.tensor(np.array(axes, np.int64))}, name=f"{name}:axes")
            graph.append(constant)
            constant.outputs[0].name = f"{name}:axes:value"
            inputs.append(constant.outputs[0])
        return _append(graph, ir.node(kind, inputs, attributes), name, self.shape)


def scans_opened(graph: ir.Graph, homes: Iterable[ir.Graph]) -> None:
    """Turn, in place, every Scan around some bodies into a Loop, for :func:`collected`; the bodies stay the same.

    Args:
        graph: The main graph, of operator set 13 or newer.
        homes: Bodies, or the main graph.
    """
    for home in dict.fromkeys(homes):
        for body in _way(graph, home):  # an outer one keeps the nodes of the inner ones
            if body.owner.op_type == "Scan":
                as_loop(body.owner)


def collected(graph: ir.Graph, value: ir.Value, home: ir.Graph) -> ir.Value:
    """A sequence of the main graph that holds a float tensor as it was in each run of a body, in their order.

    Where a body on the way does not run, the sequence holds an empty vector. An output is added to every node around
    the body, in front of what a Loop gives of each iteration.

    Args:
        graph: The main graph; changed in place, of operator set 13 or newer.
        value: A tensor that the body makes, takes, or reads from around it.
        home: The body; what is around it was brought into form by :func:`scans_opened`.
    """
    key, way = f"seen:{value.name}:{label_of(home)}", _way(graph, home)
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
        home = _around(around[home])
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


def _given(body: Body, value: ir.Value, name: str, shape: tuple[int, ...] | None) -> ir.Value:
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
    if shape is not None:
        output.shape = ir.Shape(shape if owner.op_type == "If" else [None, *shape])
    return output


def _around(body: Body) -> ir.Graph:
    """The graph that a body's node is in."""
    graph = body.owner.graph
    assert isinstance(graph, ir.Graph)  # functions are inlined before
    return graph


def _other(body: Body) -> ir.Graph:
    other = "else_branch" if body.name == "then_branch" else "then_branch"
    return body.owner.attributes[other].as_graph()


def _add_output(graph: ir.Graph, value: ir.Value, name: str) -> None:
    value.name = name
    graph.outputs.append(value)


def _append(graph: ir.Graph, node: ir.Node, name: str, shape: tuple[int, ...] | None = ()) -> ir.Value:
    node.name, output = name, node.outputs[0]
    output.name, output.type = f"{name}:value", ir.TensorType(ir.DataType.FLOAT)
    output.shape = None if node.op_type == "Concat" or shape is None else ir.Shape(shape)
    graph.append(node)
    return output
