"""Repairs that change no result: the same integers written differently, constants computed ahead, names.

Each takes the graph that is being mended and one place, and says in words what it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.checks.subject import MOVERS, Quant, Subject, constant, is_op, label

if TYPE_CHECKING:
    from infopt.checks.rule import Spot

SHIFT = 128
"""Between an int8 and the uint8 that stands for the same number."""

DTYPES = {ir.DataType.INT8: np.int8, ir.DataType.UINT8: np.uint8}


def shiftable(subject: Subject, quant: Quant, dtype: type[np.generic]) -> bool:
    """Whether a Q with everything behind it, or a DQ of a constant, can be written in another 8-bit type, exactly.

    To int8 that has to end with zero point 0, which TensorRT wants.
    """
    if quant.integer not in DTYPES or quant.zero is None:
        return False
    if not quant.quantizes:
        return _constant_shift(quant, dtype) is not None
    moved = {zero + _offset(quant, dtype) for zero in quant.zeros}
    wanted = dtype is not np.int8 or moved == {0}
    return wanted and DTYPES[quant.integer] is not dtype and _chain(subject, quant) is not None


def origin(subject: Subject, quant: Quant) -> Quant | None:
    """The Q that makes the integers which a DQ reads, movers passed over."""
    value: ir.Value | None = quant.stored if not quant.quantizes else None
    while value is not None:
        node = value.producer()
        if node is not None and node in subject.quants:
            found = subject.quants[node]
            return found if found.quantizes else None
        value = node.inputs[0] if is_op(node, MOVERS) and node is not None else None
    return None


def to_int8(subject: Subject, spot: Spot) -> str:
    """Write uint8 as int8."""
    return _shift(subject, spot, np.int8)


def to_uint8(subject: Subject, spot: Spot) -> str:
    """Write int8 as uint8."""
    return _shift(subject, spot, np.uint8)


def fold(subject: Subject, spot: Spot) -> str:
    """Compute the DequantizeLinear of a constant ahead (ONNX specification of the operator)."""
    quant = subject.quants[_node(spot)]
    stored, scale, zero = constant(quant.stored), quant.scale, quant.zero
    assert stored is not None
    assert scale is not None
    assert zero is not None
    shape = [1] * stored.ndim
    if scale.size > 1:
        shape[quant.axis] = -1
    points = np.broadcast_to(zero.reshape(-1), (scale.size,)) if scale.size > 1 else zero.reshape(-1)[:1]
    steps = scale.reshape(shape if scale.size > 1 else ()).astype(np.float32)
    integers = stored.astype(np.int64) - points.reshape(shape if scale.size > 1 else ())
    real = (integers.astype(np.float32) * steps).astype(scale.dtype)
    output = quant.node.outputs[0]
    replacement = _constant(quant.node, f"{output.name}:float", real)
    ir.convenience.replace_all_uses_with(output, replacement)
    _remove(quant.node)
    return f"{stored.dtype.name} constant of shape {list(stored.shape)} kept as {real.dtype.name}"


def drop_again(subject: Subject, spot: Spot) -> str:
    """Read the integers before a DQ instead of those of the Q behind it."""
    quant = subject.quants[_node(spot)]
    before = subject.dequantized(quant.real)
    assert before is not None
    ir.convenience.replace_all_uses_with(quant.node.outputs[0], before.stored)
    _remove(quant.node)
    if before.node.outputs[0].uses() or before.node.outputs[0].is_graph_output():
        return "removed"
    _remove(before.node)
    return f"removed, with {label(before.node)} before it"


def rename_twins(subject: Subject, spot: Spot) -> str:
    """Give the second and later nodes of a name names of their own."""
    name = _node(spot).name
    taken = {node.name for node in subject.nodes}
    graph = _node(spot).graph
    renamed = [node for node in subject.nodes if node.name == name and node.graph is graph][1:]
    for node in renamed:
        node.name = next(each for each in _numbered(str(name)) if each not in taken)
        taken.add(node.name)
    return f"renamed to {', '.join(str(node.name) for node in renamed)}"


def name_all(subject: Subject, spot: Spot) -> str:
    """Name nodes after their first outputs."""
    taken = {node.name for node in subject.nodes}
    nameless = [node for node in subject.nodes if not node.name]
    for node in nameless:
        wanted = next((value.name for value in node.outputs if value.name), None) or node.op_type
        node.name = next(each for each in _numbered(wanted) if each not in taken)
        taken.add(node.name)
    return f"{len(nameless)} nodes named after their outputs"


def _shift(subject: Subject, spot: Spot, dtype: type[np.generic]) -> str:
    quant = subject.quants[_node(spot)]
    before = quant.integer
    if not quant.quantizes:
        _shift_constant(quant, dtype)
    else:
        chain = _chain(subject, quant)
        assert chain is not None
        offset = _offset(quant, dtype)
        for each in chain:
            if isinstance(each, Quant):
                _shift_zero(each, offset, dtype)
            else:
                _retype(each.outputs[0], dtype)
    return f"{before.name.lower() if before else 'integers'} written as {np.dtype(dtype).name}, same values"


def _offset(quant: Quant, dtype: type[np.generic]) -> int:
    if quant.integer is None or DTYPES[quant.integer] is dtype:
        return 0
    return SHIFT if dtype is np.uint8 else -SHIFT


def _chain(subject: Subject, quant: Quant) -> list[Quant | ir.Node] | None:
    """A Q, and the movers and DQs that read it; ``None`` when anything else does."""
    chain: list[Quant | ir.Node] = [quant]
    todo = [quant.node.outputs[0]]
    while todo:
        value = todo.pop()
        if value.is_graph_output():
            return None
        for use in value.uses():
            reader = subject.quants.get(use.node)
            if reader is not None and not reader.quantizes and use.idx == 0 and reader.zeros == quant.zeros:
                chain.append(reader)
            elif is_op(use.node, MOVERS) and use.idx == 0:
                chain.append(use.node)
                todo.append(use.node.outputs[0])
            else:
                return None
    return chain


def _shift_zero(quant: Quant, offset: int, dtype: type[np.generic]) -> None:
    assert quant.zero is not None
    points = (quant.zero.astype(np.int16) + offset).astype(dtype)
    if quant.scale is not None:
        points = np.broadcast_to(points, quant.scale.shape).copy() if points.ndim == 0 else points
    _set_zero(quant.node, points)
    if quant.quantizes:
        _retype(quant.node.outputs[0], dtype)


def _constant_shift(quant: Quant, dtype: type[np.generic]) -> np.ndarray[Any, Any] | None:
    """The integers of a constant relative to their zero point, as int8; ``None`` where they do not fit."""
    stored = constant(quant.stored)
    if stored is None or quant.zero is None or quant.block or dtype is not np.int8 or not stored.size:
        return None
    shape = [1] * stored.ndim
    if quant.zero.size > 1:
        if not -stored.ndim <= quant.axis < stored.ndim or stored.shape[quant.axis] != quant.zero.size:
            return None
        shape[quant.axis] = -1
    relative = stored.astype(np.int16) - quant.zero.astype(np.int16).reshape(shape if quant.zero.size > 1 else ())
    fits = relative.min() >= -SHIFT and relative.max() < SHIFT
    return relative.astype(np.int8) if fits else None


def _shift_constant(quant: Quant, dtype: type[np.generic]) -> None:
    integers = _constant_shift(quant, dtype)
    assert integers is not None
    assert quant.zero is not None
    quant.node.replace_input_with(0, _constant(quant.node, f"{quant.stored.name}:int8", integers))
    _set_zero(quant.node, np.zeros(quant.zero.shape, dtype))


def _set_zero(node: ir.Node, points: np.ndarray[Any, Any]) -> None:
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, _constant(node, f"{label(node)}:zero_point", points))
    node.attributes.pop("output_dtype", None)


def _constant(node: ir.Node, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """A new initializer in a node's graph."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    free = next(each for each in _numbered(name) if each not in graph.initializers)
    tensor = ir.tensor(array, name=free)
    value = ir.Value(name=free, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


def _remove(node: ir.Node) -> None:
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def _node(spot: Spot) -> ir.Node:
    assert spot.node is not None
    return spot.node


def _retype(value: ir.Value, dtype: type[np.generic]) -> None:
    """Give a value a type of its own: clones share the type objects of the original."""
    value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}:{number}" for number in count(2))
