"""Sizes that a graph computes from its own shapes become numbers where they are known, so that they can be rewritten.

Exporters write much of a Reshape's target as arithmetic on the shape of what is reshaped, also where only the batch is
free. A number that is read from a shape ties an operator to a tensor that may be far away; written down, it is the
operator's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript.optimizer import fold_constants

from infopt.listed import picked
from infopt_passes.prune.wiring.shapes import SHAPE_INPUT
from infopt_passes.prune.wiring.ties import numbers

MOST = 64
"""Elements of a tensor that is still index arithmetic."""

Number = int | None


def spelled(model: ir.Model) -> bool:
    """Write down, in place, sizes that are known, and fold what is computed from them.

    Returns:
        Whether anything was written down.
    """
    graph, news = model.graph, False
    for node in list(graph):
        found = picked(node)
        if found is None or node.outputs[0].is_graph_output():
            continue
        value, axes = found
        sizes = [size if isinstance(size, int) else None for size in (value.shape or ())]
        known = [sizes[axis] for axis in axes.ravel()]
        if None not in known:
            array = np.array(known, np.int64).reshape(axes.shape)
            news |= bool(node.outputs[0].uses())
            node.outputs[0].replace_all_uses_with(_constant(graph, array, f"{node.outputs[0].name}:known"))
        elif axes.ndim == 1 and any(size is not None for size in known):
            news |= _spelled_out(graph, node, axes, known)
    news |= _flattened(graph)
    if news:
        fold_constants(model, input_size_limit=MOST, output_size_limit=MOST)
    return news


def _spelled_out(graph: ir.Graph, node: ir.Node, axes: npt.NDArray[Any], known: Sequence[Number]) -> bool:
    """Put a Concat of numbers, and of the sizes that stay open, in the place of a list of sizes that is a target."""
    output = node.outputs[0]
    uses = [use for use in output.uses() if use.node.op_type == "Concat" or _is_target(use.node, use.idx)]
    if not uses:
        return False
    shape = node if node.op_type == "Shape" else node.inputs[0].producer()  # type: ignore[union-attr]
    assert shape is not None
    whole = picked(shape)
    assert whole is not None
    parts, last = [], node
    for place, size in enumerate(known):
        if size is not None:
            parts.append(_constant(graph, np.array([size], np.int64), f"{output.name}:{place}"))
            continue
        at = _constant(graph, axes[place : place + 1] - whole[1][0], f"{output.name}:{place}:at")
        last = _behind(graph, last, "Gather", [shape.outputs[0], at], 1)
        parts.append(last.outputs[0])
    listed = _behind(graph, last, "Concat", parts, len(known)).outputs[0]
    for use in uses:
        use.node.replace_input_with(use.idx, listed)
    return True


def _is_target(node: ir.Node, index: int) -> bool:
    return node.domain == "" and SHAPE_INPUT.get(node.op_type) == index


def _flattened(graph: ir.Graph) -> bool:
    """Write the parts of a Concat of sizes into the Concat that reads it, and each of its numbers by itself."""
    news = False
    for node in graph:
        if node.op_type != "Concat" or node.domain or len(node.outputs[0].shape or "..") != 1:
            continue
        told = any(_is_target(use.node, use.idx) for use in node.outputs[0].uses())
        parts = [part for value in node.inputs for part in _parts(graph, value, told)]
        if len(parts) != len(node.inputs):
            node.resize_inputs(len(parts))
            for index, value in enumerate(parts):
                node.replace_input_with(index, value)
            news = True
    return news


def _parts(graph: ir.Graph, value: ir.Value | None, told: bool) -> Sequence[ir.Value | None]:
    before = value.producer() if value is not None else None
    if before is not None and before.op_type == "Concat" and not before.domain:
        return before.inputs
    listed = numbers(value) if told else None
    if value is None or listed is None or len(listed) < 2:
        return [value]
    each = (np.array([number], np.int64) for number in listed)
    return [_constant(graph, array, f"{value.name}:{place}") for place, array in enumerate(each)]


def _behind(graph: ir.Graph, last: ir.Node, kind: str, inputs: Sequence[ir.Value], size: int) -> ir.Node:
    node = ir.node(kind, inputs, {"axis": 0}, name=_free(graph, f"{inputs[0].name}:{kind}"))
    output = node.outputs[0]
    output.name, output.type, output.shape = node.name, ir.TensorType(ir.DataType.INT64), ir.Shape([size])
    graph.insert_after(last, node)
    return node


def _constant(graph: ir.Graph, array: npt.NDArray[np.int64], wanted: str) -> ir.Value:
    name = _free(graph, wanted)
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.type, value.shape = ir.TensorType(ir.DataType.INT64), ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def _free(graph: ir.Graph, wanted: str) -> str:
    taken = set(graph.initializers) | {value.name for node in graph for value in node.outputs}
    return next(name for name in chain([wanted], (f"{wanted}:{i}" for i in count(2))) if name not in taken)
