"""Decides which branch of an If runs, where that does not depend on the data; folding then puts it in the If's place.

Exporters leave Ifs behind that ask for sizes and ranks. Runtimes that compile for other processors than the host's
refuse many of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count

import numpy as np
import onnx
import onnx_ir as ir

from infopt.data import InputSpec
from infopt.facts import is_constant
from infopt.listed import picked
from infopt.model import Note

INDEX_LIMIT = 1024
"""ConstantOfShape up to this many bytes is index arithmetic, as for the widths of a Pad; others are kept."""

BRANCHES = ("then_branch", "else_branch")
BODIES = frozenset({"If", "Loop", "Scan"})


def undecided(graph: ir.Model) -> int:
    """Number of If nodes, those in bodies included."""
    return sum(node.op_type == "If" and node.domain == "" for node in graph.graph.all_nodes())


def fixed(graph: ir.Model, inputs: Sequence[InputSpec]) -> bool:
    """Fix, in place, sizes that the user has fixed; wherever a symbolic name stands for one, it is replaced.

    A batch larger than 1 stays open: samples are calibrated with one by one.

    Args:
        graph: The model.
        inputs: Its inputs; sizes that are known here and not there are fixed.

    Returns:
        Whether any was.
    """
    given = {spec.name: spec for spec in inputs}
    named: dict[str, int] = {}
    changed = False
    for value in graph.graph.inputs:
        spec = given.get(value.name or "")
        if spec is None or value.shape is None:
            continue
        for axis, (dim, size) in enumerate(zip(value.shape, spec.shape, strict=True)):
            if isinstance(dim, int) or not isinstance(size, int) or (axis == spec.batch_axis and size != 1):
                continue
            if dim.value is not None:
                named[dim.value] = size
            value.shape = _with(value.shape, {axis: size})
            changed = True
    for value in _values(graph.graph) if named else ():
        known = {
            i: named[d.value] for i, d in enumerate(value.shape or ()) if not isinstance(d, int) and d.value in named
        }
        if known and value.shape is not None:
            value.shape = _with(value.shape, known)
    return changed


def specialized(before: ir.Model, after: ir.Model) -> list[Note]:
    """What the user is told where sizes were fixed to decide an If."""
    shapes = {value.name: value.shape for value in before.graph.inputs}
    changed = [value for value in after.graph.inputs if value.shape != shapes[value.name]]
    shown = ", ".join(f"{value.name} {value.shape}" for value in changed)
    return [Note("warning", "model", f"If nodes were decided by --shape: it takes {shown} only")] if changed else []


def fold_sizes(graph: ir.Graph) -> int:
    """Replace, in place, sizes that are known by constants, where others of the same tensor are not.

    Returns:
        Number of nodes whose output became a constant; they are left behind without readers.
    """
    found = 0
    for body in (graph, *graph.subgraphs()):
        for node in list(body):
            sizes = _sizes(node)
            if sizes is not None and node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                name = f"{node.outputs[0].name}:known"
                node.outputs[0].replace_all_uses_with(_constant(graph, name, sizes))
                found += 1
    return found


def decide_by_rank(graph: ir.Model) -> int:
    """Decide, in place, each If one of whose branches makes what the nodes behind cannot take: it never runs.

    Only what every run would fail over counts, by ONNX's own rules about the ranks and types that operators take.

    Returns:
        Number of Ifs whose condition became a constant.
    """
    found = 0
    for node in [node for node in graph.graph if node.op_type == "If" and node.domain == ""]:
        if is_constant(node.inputs[0]) or not _differ(node):
            continue
        sound = [name for name in BRANCHES if _sound(graph, node, name)]
        if len(sound) == 1:
            chosen = np.array(sound[0] == BRANCHES[0])
            node.replace_input_with(0, _constant(graph.graph, f"{node.outputs[0].name}:decided", chosen))
            found += 1
    return found


def _sound(graph: ir.Model, node: ir.Node, branch: str) -> bool:
    """Whether a graph type-checks with the outputs of one branch of an If in the place of the If's."""
    clone = graph.clone()
    main = clone.graph
    twin = next(each for each in main if each.outputs[0].name == node.outputs[0].name)
    body = twin.attributes[branch].as_graph()
    for output, made in zip(twin.outputs, body.outputs, strict=True):
        output.type = output.type or made.type
        if made.shape is not None:
            output.shape = ir.Shape([None] * len(made.shape))
    # What stands in bodies need not run, so that only what the bodies give counts.
    for other in [each for each in main if each.op_type in BODIES and each.domain == ""]:
        for output in other.outputs:
            stand_in = ir.Value(name=f"{output.name}:given", type=output.type)
            stand_in.shape = output.shape if other is twin else None
            output.replace_all_uses_with(stand_in, replace_graph_outputs=True)
            main.inputs.append(stand_in)
        main.remove(other, safe=True)
    # What the exporter wrote down about the shapes in between is no proof.
    for value in (*_values(main), *main.outputs):
        if not value.is_graph_input():
            value.shape = None
    try:
        onnx.shape_inference.infer_shapes(_weightless(clone), strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return False
    return True


def _weightless(graph: ir.Model) -> onnx.ModelProto:
    """A serialized model of which all but small constants are inputs; the graph is changed."""
    main = graph.graph
    for name, value in list(main.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= INDEX_LIMIT:
            continue
        del main.initializers[name]
        value.const_value, value.type, value.shape = None, ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        if not value.is_graph_input():
            main.inputs.append(value)
    return ir.to_proto(graph)


def _differ(node: ir.Node) -> bool:
    """Whether the branches of an If make outputs of known, different ranks."""
    bodies = [node.attributes[name].as_graph() for name in BRANCHES]
    ranks = [[None if value.shape is None else len(value.shape) for value in body.outputs] for body in bodies]
    return any(None not in pair and pair[0] != pair[1] for pair in zip(*ranks, strict=True))


def _sizes(node: ir.Node) -> np.ndarray | None:
    """The sizes that a node picks out of a shape, if they are known."""
    found = picked(node) if node.op_type != "Shape" else None
    if found is None:
        return None
    value, axes = found
    sizes = [value.shape[axis] for axis in axes.ravel()] if value.shape is not None else [None]
    return np.array(sizes, np.int64).reshape(axes.shape) if all(isinstance(size, int) for size in sizes) else None


def _with(shape: ir.Shape, sizes: Mapping[int, int]) -> ir.Shape:
    return ir.Shape([sizes.get(i, dim) for i, dim in enumerate(shape)])


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Every value that a graph or one of its bodies takes or makes."""
    for body in (graph, *graph.subgraphs()):
        yield from body.inputs
        yield from (value for node in body for value in node.outputs)


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    # Bodies beside each other may use the same names.
    names = chain([name], (f"{name}:{i}" for i in count(2)))
    name = next(found for found in names if found not in graph.initializers)
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(array.dtype)), ir.Shape(array.shape)
    graph.register_initializer(value)
    return value
