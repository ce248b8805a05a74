"""Writes a Scan as a Loop that computes the same: a Loop may carry sequences, and a Scan may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

INDEX = ir.TensorType(ir.DataType.INT64)

CONDITION = ir.TensorType(ir.DataType.BOOL)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a Scan walks along a tensor.

    Attributes:
        axis: The axis.
        back: Whether it begins at the end.
    """

    axis: int
    back: bool

    @property
    def plain(self) -> bool:
        """Whether a Loop stacks what it gives alike."""
        return not (self.axis or self.back)


def as_loop(scan: ir.Node) -> None:
    """Put a Loop in the place of a Scan; the node, the tensors and the nodes of the body keep their names.

    The Loop's body takes its slices out of the whole tensors by itself. What the Scan stacks along another axis than
    the first, or from the end on, the Loop carries as a sequence.

    Args:
        scan: A node of operator set 9 or newer, whose body's outputs have types, in a graph of 13 or newer.
    """
    body = scan.attributes["body"].as_graph()
    states = len(scan.inputs) - scan.attributes["num_scan_inputs"].as_int()
    count = _take_slices(scan, body, states)
    ways = dict(enumerate(_ways(scan, "output", len(scan.outputs) - states), states))
    odd = {i: way for i, way in ways.items() if not way.plain}
    order = [*range(states), *odd, *(i for i in ways if i not in odd)]
    starts = [_gathered(scan, body, i, way.back) for i, way in odd.items()]
    going = _value(ir.node("Identity", [body.inputs[1]]), f"{scan.name}:on", CONDITION, body)
    results = list(body.outputs)
    body.outputs.clear()
    body.outputs.extend([going, *(results[i] for i in order)])
    inputs = [count, None, *scan.inputs[:states], *starts]
    loop = ir.node("Loop", inputs, {"body": body}, num_outputs=len(order), name=scan.name)
    _graph(scan).insert_before(scan, loop)
    for i, output in zip(order, loop.outputs, strict=True):
        new = _joined(scan, i, odd[i].axis, output, results[i].type) if i in odd else output
        _replace(scan.outputs[i], new)
    _graph(scan).remove(scan, safe=True)


def _ways(scan: ir.Node, side: str, count: int) -> list[_Way]:
    axes, back = (
        scan.attributes[name].as_ints() if name in scan.attributes else [0] * count
        for name in (f"scan_{side}_axes", f"scan_{side}_directions")
    )
    return [_Way(axis, bool(reverse)) for axis, reverse in zip(axes, back, strict=True)]


def _take_slices(scan: ir.Node, body: ir.Graph, states: int) -> ir.Value:
    """Let a body take iteration and condition instead of slices, and make those itself; returns their number."""
    name, whole = scan.name, [value for value in scan.inputs[states:] if value is not None]
    ways, slices = _ways(scan, "input", len(whole)), list(body.inputs)[states:]
    shape = _value(ir.node("Shape", [whole[0]]), f"{name}:shape", INDEX, before=scan)
    axis = _number(ways[0].axis, f"{name}:axis", before=scan)
    count = _value(ir.node("Gather", [shape, axis]), f"{name}:count", INDEX, before=scan)
    one = _number(1, f"{name}:one", before=scan)
    last = _value(ir.node("Sub", [count, one]), f"{name}:last", INDEX, before=scan)
    forth = ir.Value(name=f"{name}:index", type=INDEX, shape=ir.Shape([]))
    condition = ir.Value(name=f"{name}:condition", type=CONDITION, shape=ir.Shape([]))
    del body.inputs[states:]
    body.inputs.insert(0, forth)
    body.inputs.insert(1, condition)
    first = next(iter(body), None)
    back = _value(ir.node("Sub", [last, forth]), f"{name}:back", INDEX, body, first)
    for old, value, way in zip(slices, whole, ways, strict=True):
        node = ir.node("Gather", [value, back if way.back else forth], {"axis": way.axis})
        new = _value(node, f"{old.name}:slice", old.type, body, first)
        _replace(old, new)
    return count


def _gathered(scan: ir.Node, body: ir.Graph, index: int, back: bool) -> ir.Value:
    """Let a body put one of its outputs into a sequence, in its place; returns the empty sequence to start with."""
    name, result = f"{scan.name}:{index}", body.outputs[index]
    dtype = result.dtype
    assert dtype is not None, f"the type of {result.name} is not known"
    kind: Any = ir.SequenceType(ir.TensorType(dtype))
    so_far = ir.Value(name=f"{name}:before", type=kind)
    body.inputs.append(so_far)
    inputs = [so_far, result]
    if back:
        inputs.append(_number(0, f"{name}:front", body))
    body.outputs[index] = _value(ir.node("SequenceInsert", inputs), f"{name}:more", kind, body)
    return _value(ir.node("SequenceEmpty", [], {"dtype": dtype.value}), f"{name}:none", kind, before=scan)


def _joined(scan: ir.Node, index: int, axis: int, parts: ir.Value, kind: Any) -> ir.Value:
    """The tensor that a Scan stacks, of a sequence."""
    parts.name, parts.type = f"{scan.name}:{index}:all", kind
    node = ir.node("ConcatFromSequence", [parts], {"axis": axis, "new_axis": 1})
    return _value(node, f"{scan.name}:{index}:stacked", None, before=scan)


def _replace(old: ir.Value, new: ir.Value) -> None:
    """Let a value take the place and the name of another."""
    name, new.type, new.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name, new.name = None, name


def _number(number: int, name: str, graph: ir.Graph | None = None, before: ir.Node | None = None) -> ir.Value:
    tensor = ir.tensor(np.array(number, np.int64))
    return _value(ir.node("Constant", [], {"value": tensor}), name, INDEX, graph, before)


def _value(
    node: ir.Node, name: str, kind: Any, graph: ir.Graph | None = None, before: ir.Node | None = None
) -> ir.Value:
    """The output of a node that is put in front of another, or at the end of a graph."""
    node.name, output = name, node.outputs[0]
    output.name, output.type = f"{name}:value", kind
    if before is not None:
        _graph(before).insert_before(before, node)
    else:
        assert graph is not None
        graph.append(node)
    return output


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)  # functions are inlined before
    return node.graph
