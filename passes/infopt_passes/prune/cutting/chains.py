"""Reshape, Transpose and Reshape that join axes and take them apart again become one Transpose.

Exporters join the batch with the heads where they turn keys around or where attention is a product of three axes. Where
the batch is free, so is the size of the joined axis, and nothing could be said of the heads in it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from infopt_passes.prune.wiring.reshapes import blocks

Size = int | str | None


def unchained(graph: ir.Graph) -> bool:
    """Rewrite such chains, in place; what nothing reads any more stays to be removed.

    Returns:
        Whether any was there.
    """
    news = False
    for last in list(graph):
        chain = _chain(last)
        found = _taken_apart(*chain) if chain is not None else None
        if chain is not None and found is not None and found[1] != list(range(len(found[1]))):
            _rewrite(graph, chain[0], last, *found)
            news = True
    return news


def _chain(last: ir.Node) -> tuple[ir.Node, ir.Node, ir.Node] | None:
    turn = _before(last) if last.op_type == "Reshape" else None
    first = _before(turn) if turn is not None and turn.op_type == "Transpose" else None
    if turn is None or first is None or first.op_type != "Reshape":
        return None
    return None if any(node.domain for node in (first, turn, last)) else (first, turn, last)


def _before(node: ir.Node) -> ir.Node | None:
    return node.inputs[0].producer() if node.inputs[0] is not None else None


def _taken_apart(first: ir.Node, turn: ir.Node, last: ir.Node) -> tuple[list[int], list[int]] | None:
    """The axes in front taken apart so far that a Transpose alone makes those behind.

    Returns:
        The target of a Reshape to them, empty where none is needed, and the axes' order behind; ``None`` where that is
        not certain.
    """
    front, back, turned = (_sizes(value) for value in (first.inputs[0], last.outputs[0], turn.outputs[0]))
    if front is None or back is None or turned is None or 1 in (*front, *back, *turned):
        return None
    runs = _runs(turned, back)
    perm = list(turn.attributes.get_ints("perm", []))
    if runs is None or sorted(perm) != list(range(len(turned))):
        return None
    inner = [runs[perm.index(axis)] for axis in range(len(perm))]
    order = [axis for run in inner for axis in run]  # axes behind, as they come in front
    fine = [back[axis] for axis in order]
    target = [] if front == fine else _target(front, fine)
    return None if target is None else (target, [order.index(axis) for axis in range(len(back))])


def _sizes(value: ir.Value | None) -> list[Size] | None:
    if value is None or value.shape is None:
        return None
    return [size if isinstance(size, int) else size.value for size in value.shape]


def _runs(coarse: list[Size], fine: list[Size]) -> list[tuple[int, ...]] | None:
    """The axes that each of fewer axes is made of; ``None`` where that is not certain."""
    found = {front[0]: back for front, back in blocks(coarse, fine) if len(front) == 1}
    whole = sum(len(back) for back in found.values())
    if len(found) != len(coarse) or whole != len(fine):
        return None
    runs = [tuple(sorted(found[axis])) for axis in range(len(coarse))]
    return runs if [axis for run in runs for axis in run] == list(range(len(fine))) else None


def _target(front: list[Size], fine: list[Size]) -> list[int] | None:
    """What to tell a Reshape: 0 where an axis is at its place already, and -1 once at most."""
    target = [size if isinstance(size, int) else 0 if front[i : i + 1] == [size] else -1 for i, size in enumerate(fine)]
    same = all(front[: i + 1] == fine[: i + 1] for i, size in enumerate(target) if size == 0)
    return target if same and target.count(-1) <= 1 else None


def _rewrite(graph: ir.Graph, first: ir.Node, last: ir.Node, target: list[int], perm: list[int]) -> None:
    data, output = first.inputs[0], last.outputs[0]
    assert data is not None
    if target:
        told = f"{last.name}:apart"
        value = ir.Value(name=told, const_value=ir.tensor(np.array(target, np.int64), name=told))
        value.type, value.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([len(target)])
        graph.register_initializer(value)
        apart = ir.node("Reshape", [data, value], name=f"{last.name}:reshape")
        apart.outputs[0].name, apart.outputs[0].type = f"{last.name}:parts", data.type
        graph.insert_before(last, apart)
        data = apart.outputs[0]
    turned = ir.node("Transpose", [data], {"perm": perm}, name=f"{last.name}:transpose")
    graph.insert_before(last, turned)
    made = turned.outputs[0]
    name, made.type, made.shape = output.name, output.type, output.shape
    output.replace_all_uses_with(made, replace_graph_outputs=True)
    output.name, made.name = f"{name}:chain", name
