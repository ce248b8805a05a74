"""Makes the layers of a model sparse, in order: each on what it reads in the model that is sparse so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.errors import InputError, OptionError
from infopt.facts import WEIGHT_INPUT
from infopt.model import Model, Note
from infopt.passes import Context
from infopt.sparsity import DENSE
from infopt_passes.fitting.gather import Reading
from infopt_passes.fitting.hessian import damping_for, loss
from infopt_passes.fitting.masked import TINY
from infopt_passes.prune.cutting.prepare import prepared
from infopt_passes.prune.readings.seen import in_order, observed
from infopt_passes.prune.readings.sums import Seen, joined
from infopt_passes.prune.recovery.accept import Yardstick
from infopt_passes.prune.recovery.recover import free_bias, rows_of, write_shift
from infopt_passes.prune.sparse.allocate import Costs, allocated
from infopt_passes.prune.sparse.check import checked
from infopt_passes.prune.sparse.fit import Sparse, fitted
from infopt_passes.prune.sparse.layers import Pair, chosen, neighbours
from infopt_passes.prune.sparse.solve import saliency

Array = npt.NDArray[Any]

SHOWN = 3
"""Reasons that a message names, at most."""


def applied(model: Model, context: Context, pattern: str, share: float) -> Model:
    """See :func:`infopt_passes.prune.sparse.sparsified`."""
    if pattern != "2:4" and not 0 < share < 1:
        raise OptionError(f"--sparsity {share} is not between 0 and 1", "give the part that becomes zero, such as 0.7")
    if quantized := model.quantized_nodes():
        raise InputError(f"{model.path} is quantized ({quantized[0]})", "prune the float model, then quantize")
    context.need_calibration("prune")
    graph = prepared(model.graph)
    work = Pair(graph.clone(), graph)
    layers, notes = chosen(work, context, pattern)
    if not layers:
        reasons = list(dict.fromkeys(note.why.removeprefix(DENSE) for note in notes))
        told = "; ".join(reasons[:SHOWN]) or "it has no layer with a constant weight"
        raise InputError(f"no layer of {model.path} can be made sparse: {told}", "prune channels instead")
    yardstick = Yardstick.of(work, context)
    some = yardstick.rest if yardstick else context
    counts = None if pattern == "2:4" else _counts(work, layers, some, share)
    for wave in in_order(work, rows_of(graph.graph, layers), some):
        for node, reading, seen in wave:
            notes += _sparsify(work, node, reading, seen, None if counts is None else counts[_name(reading.node)])
    if yardstick:
        notes = checked(work, layers, yardstick, notes)
    return model.edited(graph, *notes, _total(work, layers))


def _counts(work: Pair, layers: Sequence[tuple[ir.Node, Reading]], context: Context, share: float) -> dict[str, int]:
    """Weights to zero in each layer, by what they cost in the float model."""
    costs = {}
    for _, reading, seen in observed(work, layers, context):
        weight = reading.layout.matrix(_array(reading.node)).astype(np.float64)
        free = free_bias(reading.node) is not None
        second = seen.spread if free else seen.second
        if not np.isfinite(second).all():
            second = np.broadcast_to(np.eye(second.shape[1]), second.shape)
        power = max(float(loss(weight, second).sum()), TINY)
        cost = saliency(weight, second, damping_for(reading.layout.columns, seen.rows))
        costs[_name(reading.node)] = Costs.of(cost / power)
    return allocated(costs, share)


def _sparsify(work: Pair, node: ir.Node, reading: Reading, seen: Seen, count: int | None) -> list[Note]:
    layout, order = reading.layout, neighbours(reading.layout)
    exact = layout.matrix(_array(reading.node))
    place = free_bias(node)
    found = fitted(exact[:, :, order], _ordered(seen, order), count, place is not None)
    matrix = np.empty_like(found.weight)
    matrix[:, :, order] = found.weight
    new = layout.weight(matrix).astype(np.float32)
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    weight.const_value = ir.tensor(new, name=weight.name)
    if place is not None and found.finite:
        shift = joined(seen, seen.held).shift(exact, matrix)
        write_shift(work.graph, reading.node, node, place, (shift.reshape(-1) * layout.factor).astype(np.float32))
    return _told(_name(node), new, found, seen, layout.columns)


def _ordered(seen: Seen, order: Array) -> Seen:
    square = np.ix_(order, order)
    cross = None if seen.cross is None else seen.cross[:, square[0], square[1]]
    held = None if seen.held is None else _ordered(seen.held, order)
    drift, made = (None if each is None else each[:, :, order] for each in (seen.drift, seen.made))
    second = seen.second[:, square[0], square[1]]
    return replace(
        seen,
        mean=seen.mean[:, order],
        read=seen.read[:, order],
        second=second,
        cross=cross,
        drift=drift,
        made=made,
        held=held,
    )


def _told(name: str, new: Array, found: Sparse, seen: Seen, columns: int) -> list[Note]:
    zero = float(np.mean(new == 0))
    if not found.finite:
        why = "its solve was not finite, so only the smallest weights went and nothing makes up for them"
        return [Note("layer", name, f"{zero:.1%} zero"), Note("warning", name, why)]
    decibels = f"output error {_decibels(found.error)}, {_decibels(found.plain)} with the smallest weights gone"
    notes = [Note("layer", name, f"{zero:.1%} zero, {decibels}")]
    if found.damped is not None:
        notes.append(Note("warning", name, f"its inputs depend on each other: damped by {found.damped:.2g}"))
    still = int(np.sum(np.einsum("gkk->gk", seen.second) == 0))
    if still:
        notes.append(Note("warning", name, f"{still} of its inputs were 0 on all samples: their weights are damped"))
    if seen.rows < columns:
        notes.append(Note("warning", name, f"{seen.rows} rows for {columns} columns: damped; give more samples"))
    return notes


def _total(work: Pair, layers: Sequence[tuple[ir.Node, Reading]]) -> Note:
    arrays = [_array(node) for node, _ in layers]
    zeros, size = sum(int(np.sum(each == 0)) for each in arrays), sum(each.size for each in arrays)
    held = sum(value.const_value.size for value in work.graph.graph.initializers.values() if value.const_value)
    why = f"{zeros / size:.1%} of the weights of {len(layers)} layers are zero, {zeros / held:.1%} of all parameters"
    return Note("choice", "model", why)


def _array(node: ir.Node) -> Array:
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.const_value is not None
    return weight.const_value.numpy()


def _name(node: ir.Node) -> str:
    return node.name or node.op_type


def _decibels(error: float) -> str:
    return f"{10 * np.log10(max(error, 1e-12)):.1f} dB"
