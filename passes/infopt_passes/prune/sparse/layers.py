"""Which layers can be made sparse, and why others are left alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import COMPUTE_OPS, WEIGHT_INPUT
from infopt.model import Model, Note, Pruned
from infopt.passes import Context
from infopt.sparsity import DENSE, OF
from infopt_passes.fitting.gather import Reading
from infopt_passes.fitting.layout import Layout
from infopt_passes.prune.readings.seen import readings

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """A model as it was, and the same one under way; nodes correspond one to one."""

    exact: ir.Model
    graph: ir.Model

    def pairs(self) -> Iterator[tuple[ir.Node, ir.Node]]:
        """Each node as it was, and as it is."""
        yield from zip(self.exact.graph, self.graph.graph, strict=True)


def chosen(work: Pair, context: Context, pattern: str) -> tuple[list[tuple[ir.Node, Reading]], list[Note]]:
    """The layers that get sparse, and a note on each other layer with a weight."""
    readable = {id(node): reading for node, reading in readings(work, context)}
    found, notes = [], []
    for node in work.graph.graph.all_nodes():
        if node.op_type not in COMPUTE_OPS or node.domain != "" or not _weighted(node):
            continue
        reading = readable.get(id(node))
        why = _obstacle(node, reading.layout if reading else None, pattern)
        if reading is not None and why is None:
            found.append((node, reading))
        else:
            notes.append(Note("layer", node.name or node.op_type, f"{DENSE}{why}"))
    return found, notes


def neighbours(layout: Layout) -> Array:
    """The order of columns in which input channels are neighbours: of a kernel, place by place."""
    channels = layout.columns // (prod(layout.window.kernel) if layout.window else 1)
    return np.arange(layout.columns).reshape(channels, -1).T.reshape(-1)


def _obstacle(node: ir.Node, layout: Layout | None, pattern: str) -> str | None:
    weight = node.inputs[WEIGHT_INPUT]
    if weight is not None and weight.dtype not in (None, ir.DataType.FLOAT):
        return f"its weight is {weight.dtype.name.lower()}, only float32 is solved for"
    if layout is None:
        return "its input is not a float32 product with a constant matrix that can be looked at within the memory limit"
    if weight is None or len(list(weight.uses())) != 1 or weight.is_graph_output():
        return "its weight is shared"
    if pattern != "2:4":
        return None
    channels = layout.columns // (prod(layout.window.kernel) if layout.window else 1)
    if layout.groups > 1 and channels == 1:
        return "it is depthwise"
    return f"its {channels} input channels are not a multiple of {OF}" if channels % OF else None


def _weighted(node: ir.Node) -> bool:
    weight = node.inputs[WEIGHT_INPUT] if len(node.inputs) > WEIGHT_INPUT else None
    return weight is not None and weight.const_value is not None


def changes(model: Model, notes: Iterable[Note]) -> Iterator[Pruned]:
    """What is left of the weights of each layer that there is a note on."""
    told = {note.node: note.why for note in notes if note.kind == "layer"}
    for node in model.graph.graph.all_nodes():
        why = told.pop(node.name or node.op_type, None)
        weight = node.inputs[WEIGHT_INPUT] if why is not None and len(node.inputs) > WEIGHT_INPUT else None
        if why is None or weight is None or weight.const_value is None:
            continue
        array = weight.const_value.numpy()
        dense = why.startswith(DENSE)
        yield Pruned(node.name or node.op_type, "weights", array.size, array.size if dense else _nonzero(array), why)


def _nonzero(array: Array) -> int:
    return int(np.count_nonzero(array))
