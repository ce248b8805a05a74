"""Removes units from a graph, and the same in the form that keeps every shape: their weights zeroed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import CONVOLUTIONS, is_constant
from infopt_passes.prune.cutting.counts import is_cut_alone, recount
from infopt_passes.prune.wiring.axes import Axis, size_of
from infopt_passes.prune.wiring.groups import Group
from infopt_passes.prune.wiring.shapes import SHAPE_INPUT, rewrite
from infopt_passes.prune.wiring.ties import given, listed, numbers

Array = npt.NDArray[Any]

Removal = Mapping[Axis, Array]
"""Which indices of each axis are kept, as booleans."""


def removal(choices: Iterable[tuple[Group, Array]]) -> dict[Axis, Array]:
    """What is kept of each axis.

    Args:
        choices: Groups, each with booleans that say which of its units are kept.
    """
    kept: dict[Axis, Array] = {}
    for group, units in choices:
        for axis, places in group.places.items():
            mask = kept.setdefault(axis, np.ones(size_of(*axis) or 0, bool))
            mask[places[~units].ravel()] = False
    return {axis: mask for axis, mask in kept.items() if not mask.all()}


def remove(graph: ir.Graph, kept: Removal) -> None:
    """Remove, in place, what is not kept of every axis: weights are cut, attributes and shapes rewritten."""
    old = {value: list(value.shape or ()) for node in graph for value in (*node.inputs, *node.outputs) if value}
    for node in list(graph):
        _rewritten(graph, node, kept)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():  # sizes that others have taken the place of
            del graph.initializers[name]
    for value in {value for value, _ in kept}:
        masks = {axis: mask for (other, axis), mask in kept.items() if other is value}
        if is_constant(value):
            _cut(value, masks)
        sizes = [int(masks[axis].sum()) if axis in masks else size for axis, size in enumerate(old[value])]
        value.shape = ir.Shape(sizes)


def zeroed(weight: Array, masks: Mapping[int, Array]) -> Array:
    """A weight with zeros where an index of any axis is not kept."""
    result = weight.copy()
    for axis, mask in masks.items():
        result[(slice(None),) * axis + (~mask,)] = 0
    return result


def masks_of(value: ir.Value, kept: Removal) -> dict[int, Array]:
    """What is kept of the axes of one tensor, of those that lose something."""
    return {axis: kept[value, axis] for axis in range(len(value.shape or ())) if (value, axis) in kept}


def _cut(value: ir.Value, masks: Mapping[int, Array]) -> None:
    assert value.const_value is not None
    array = value.const_value.numpy()
    for axis, mask in masks.items():
        array = np.compress(mask, array, axis=axis)
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)


def _rewritten(graph: ir.Graph, node: ir.Node, kept: Removal) -> None:
    def constant(array: np.ndarray) -> ir.Value:
        names = graph.initializers
        name = next(f"{node.name}:{i}" for i in range(len(names) + 1) if f"{node.name}:{i}" not in names)
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.type, value.shape = ir.TensorType(ir.DataType.INT64), ir.Shape(array.shape)
        graph.register_initializer(value)
        return value

    output = node.outputs[0]
    new = {axis: int(mask.sum()) for axis, mask in masks_of(output, kept).items() if not is_cut_alone(node, axis)}
    recount(node, kept)
    if node.op_type in SHAPE_INPUT and given(node, SHAPE_INPUT[node.op_type]) is not None and new:
        rewrite(node, new, constant)
    elif node.op_type == "GroupNormalization" and new:
        apart = kept[output, 1].reshape(node.attributes.get_int("num_groups", 1), -1)
        node.attributes["num_groups"] = ir.AttrInt64("num_groups", int(apart.any(axis=1).sum()))
    elif node.op_type in CONVOLUTIONS and (groups := node.attributes.get_int("group", 1)) != 1 and new:
        apart = kept[output, 1].reshape(groups, -1)
        # Where each group loses some of its channels, all groups stay.
        if (apart.any(axis=1) == apart.all(axis=1)).all():
            node.attributes["group"] = ir.AttrInt64("group", int(apart.any(axis=1).sum()))
    elif node.op_type == "Squeeze" and new:
        _squeeze(node, constant)
    elif node.op_type == "Split":
        _split(node, kept, constant)
    elif node.op_type == "Slice":
        _slice(node, kept, constant)
    elif node.op_type == "Gather":
        _gather(node, kept, constant)


def _squeeze(node: ir.Node, constant: Any) -> None:
    """Name the axes that go where all of one position do: another one may come down to one."""
    data, named = node.inputs[0], given(node, 1) is not None or "axes" in node.attributes
    if data is None or data.shape is None or named:
        return
    axes = [axis for axis, size in enumerate(data.shape) if size == 1]
    if _version(node) < 13:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
        return
    node.resize_inputs(2)
    node.replace_input_with(1, constant(np.array(axes, np.int64)))


def _version(node: ir.Node) -> int:
    return node.graph.opset_imports.get("", 0) if isinstance(node.graph, ir.Graph) else 0


def _split(node: ir.Node, kept: Removal, constant: Any) -> None:
    data = node.inputs[0]
    assert data is not None
    along = node.attributes.get_int("axis", 0) % len(data.shape or "..")
    if (data, along) not in kept:
        return
    sizes = [int(kept[v, along].sum()) if (v, along) in kept else int(size_of(v, along) or 0) for v in node.outputs]
    if _version(node) < 13:
        node.attributes["split"] = ir.AttrInt64s("split", sizes)
        return
    node.attributes.pop("num_outputs", None)
    if len(node.inputs) < 2:
        node.resize_inputs(2)
    node.replace_input_with(1, constant(np.array(sizes, np.int64)))


def _slice(node: ir.Node, kept: Removal, constant: Any) -> None:
    data = node.inputs[0]
    starts, ends, axes = (listed(node, name, index) for name, index in (("starts", 1), ("ends", 2), ("axes", 3)))
    if data is None or starts is None or ends is None or len(starts) != 1 or numbers(node.inputs[1]) is None:
        return
    axis = (axes or [0])[0] % len(data.shape or ".")
    mask = kept.get((data, axis))
    if mask is not None:
        first, last, _ = slice(starts[0], ends[0]).indices(len(mask))
        for index, place in ((1, first), (2, last)):
            node.replace_input_with(index, constant(np.array([mask[:place].sum()], np.int64)))


def _gather(node: ir.Node, kept: Removal, constant: Any) -> None:
    data, wanted = node.inputs[0], numbers(node.inputs[1])
    axis = node.attributes.get_int("axis", 0) % len(data.shape or ".") if data is not None else 0
    mask = kept.get((data, axis)) if data is not None else None
    if mask is not None and wanted is not None:
        left = [index for index in wanted if mask[index]]
        node.replace_input_with(1, constant((np.cumsum(mask) - 1)[left]))
