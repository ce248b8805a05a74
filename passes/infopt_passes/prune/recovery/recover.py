"""Least-squares recovery: layers are refitted, in order, so that they compute from what is left what they did before.

Each layer's target is its output in the float model, on calibration samples; what it reads is what the pruned layers
before it really make. No labels are needed. He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural
Networks", section 3.1, with a ridge towards the layer's own weight and in closed form from streamed moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import BIAS_INPUT, WEIGHT_INPUT, is_constant
from infopt.passes import Context
from infopt_passes.fitting.gather import Reading
from infopt_passes.fitting.places import Place, bias_place, output_channels, shifted
from infopt_passes.prune.cutting.surgery import masks_of
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.readings.seen import in_order, readings
from infopt_passes.prune.readings.sums import Seen, divided, joined
from infopt_passes.prune.recovery.regates import Layer
from infopt_passes.prune.wiring.axes import Axis
from infopt_passes.prune.wiring.recurrent import is_recurrent

Array = npt.NDArray[Any]

WAVES = 100
"""Rows of layers that are refitted one after the other, at most."""

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Pulls towards a layer's own weight that are tried, as parts of the mean square of its columns."""

FEWEST = 16
"""Samples without which nothing is refitted."""


@dataclass(slots=True)
class Recovered:
    """What became of the layers.

    Attributes:
        fitted: Names of layers that got new weights.
        left: Names of layers whose new weights were not finite.
        scarce: Names of layers with more columns than rows were seen.
    """

    fitted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    scarce: list[str] = field(default_factory=list)


def recover(work: Work, context: Context) -> Recovered:
    """Refit the layers of a model under way, in place."""
    told = Recovered()
    gone = work.removed()
    touched = _behind(work, gone)
    some = [(n, r) for n, r in readings(work, context) if n in touched and len(list(_weight(n).uses())) == 1]
    for layers, recurrent in phases(work.graph.graph, some, [n for n in touched if is_recurrent(n)]):
        for wave in in_order(work, _waves(work.graph.graph, layers), context):
            for node, reading, seen in wave:
                _refit(work, node, reading, seen, gone, told)
        for exact, node in work.pairs():
            if node in recurrent and Layer(work, exact, node, gone, context).refit():
                told.fitted.append(node.name or node.op_type)
    return told


def phases(
    graph: ir.Graph, some: Sequence[tuple[ir.Node, Reading]], recurrent: Sequence[ir.Node]
) -> list[tuple[list[tuple[ir.Node, Reading]], set[ir.Node]]]:
    """Layers that no recurrent one feeds, the first recurrent ones, the layers between these and the next, and so on.

    Args:
        graph: Holds them.
        some: Layers that are products.
        recurrent: Recurrent layers that are to be refitted.
    """
    depths: dict[ir.Value, int] = {}
    own: dict[ir.Node, int] = {}
    for node in graph:
        depth = max((depths.get(value, 0) for value in node.inputs if value is not None), default=0)
        own[node] = depth
        depths.update(dict.fromkeys(node.outputs, depth + (node in recurrent)))
    last = max((own[node] for node in (*(n for n, _ in some), *recurrent)), default=-1)
    found = []
    for depth in range(last + 1):
        layers = [(node, reading) for node, reading in some if own[node] == depth]
        found.append((layers, {node for node in recurrent if own[node] == depth}))
    return found


def _refit(
    work: Work, node: ir.Node, reading: Reading, seen: Seen, gone: Mapping[Axis, Array], told: Recovered
) -> None:
    weight, name = _weight(node), node.name or node.op_type
    place = free_bias(node)
    exact = reading.node.inputs[WEIGHT_INPUT]
    assert exact is not None
    assert exact.const_value is not None
    assert weight.const_value is not None
    layout = reading.layout
    target = layout.matrix(exact.const_value.numpy()).astype(np.float64)
    own = layout.matrix(weight.const_value.numpy()).astype(np.float64)
    masks = masks_of(weight, gone)
    left = np.ones(layout.shape, bool)
    for axis, mask in masks.items():
        left[(slice(None),) * axis + (~mask,)] = False
    best = _best(target, own, layout.matrix(left), seen, place is not None)
    if seen.rows < layout.columns:
        told.scarce.append(name)
    if best is None:
        told.left.append(name)
        return
    weight.const_value = ir.tensor(layout.weight(best).astype(np.float32), name=weight.name)
    if place is not None:
        shift = joined(seen, seen.held).shift(target, best)
        _shift(work, reading.node, node, place, (shift.reshape(-1) * layout.factor).astype(np.float32))
    told.fitted.append(name)


def _best(target: Array, own: Array, left: Array, seen: Seen, free: bool) -> Array | None:
    """The weight that is nearest to the target's outputs in the runs held back; ``None`` where none is finite.

    Args:
        target: The float layer's weight, of shape (groups, outputs, columns).
        own: The layer's weight as it is.
        left: Which of its elements are left.
        seen: Seen of what both read.
        free: Whether a bias takes care of the means.
    """
    apart = seen.held if seen.held is not None and seen.held.rows else seen
    if not seen.rows or not seen.sound() or not apart.sound():
        return None
    ridge = _ridge(target, own, left, seen, free)
    if ridge is None:
        return own
    every = joined(seen, seen.held)  # what was held back has chosen the ridge; now it counts like the rest
    return _solved(every.square(free), every.aim(target, free), own, left, ridge)


def _ridge(target: Array, own: Array, left: Array, seen: Seen, free: bool) -> float | None:
    """The ridge whose weight is nearest to the wanted outputs in the runs held back; ``None`` where the own is."""
    apart = seen.held if seen.held is not None and seen.held.rows else seen
    moments = seen.square(free), seen.aim(target, free)
    held = apart.square(free), apart.aim(target, free)
    chosen, least = None, _distance(own, *held)
    for ridge in RIDGES:
        found = _solved(*moments, own, left, ridge)
        if np.isfinite(found).all() and (distance := _distance(found, *held)) < least:
            chosen, least = ridge, distance
    return chosen


def _solved(second: Array, aim: Array, own: Array, left: Array, ridge: float) -> Array:
    result = np.zeros_like(own)
    for group in range(len(own)):
        columns = np.flatnonzero(left[group].any(axis=0))
        rows = np.flatnonzero(left[group].any(axis=1))
        if not len(columns) or not len(rows):
            continue
        square = second[group][np.ix_(columns, columns)].astype(np.float64)
        pull = ridge * max(float(np.trace(square)) / len(columns), 1e-12)
        square[np.diag_indices(len(columns))] += pull
        wanted = aim[group][np.ix_(rows, columns)] + pull * own[group][np.ix_(rows, columns)]
        result[group][np.ix_(rows, columns)] = divided(square, wanted)
    return result


def _distance(weight: Array, second: Array, aim: Array) -> float:
    """Mean square distance to the wanted outputs, less what no weight changes; of the rows that are left."""
    alive = weight.any(axis=2, keepdims=True)
    return float(np.einsum("gnk,gnk->", (weight @ second - 2 * aim) * alive, weight))


def _behind(work: Work, gone: Mapping[Axis, Array]) -> set[ir.Node]:
    """Nodes that read, directly or not, something that lost a unit."""
    reached = {value for value, _ in gone}
    found = set()
    for node in work.graph.graph:
        if any(value in reached for value in node.inputs if value is not None):
            found.add(node)
            reached |= set(node.outputs)
    return found


def _waves(graph: ir.Graph, some: Sequence[tuple[ir.Node, Reading]]) -> list[list[tuple[ir.Node, Reading]]]:
    """At most so many of the rows, evenly chosen."""
    rows = rows_of(graph, some)
    taken = sorted(len(rows) - 1 - i * len(rows) // WAVES for i in range(WAVES)) if len(rows) > WAVES else ()
    return [rows[at] for at in taken] if taken else rows


def rows_of(graph: ir.Graph, some: Sequence[tuple[ir.Node, Reading]]) -> list[list[tuple[ir.Node, Reading]]]:
    """Rows of layers that do not feed each other, in the graph's order."""
    wanted = dict(some)
    depths: dict[ir.Value, int] = {}
    rows: dict[int, list[tuple[ir.Node, Reading]]] = {}
    for node in graph:
        depth = max((depths.get(value, 0) for value in node.inputs if value is not None), default=0)
        if node in wanted:
            rows.setdefault(depth, []).append((node, wanted[node]))
            depth += 1
        depths.update(dict.fromkeys(node.outputs, depth))
    return [rows[depth] for depth in sorted(rows)]


def _weight(node: ir.Node) -> ir.Value:
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    return weight


def free_bias(node: ir.Node) -> Place | None:
    """Where the bias of a layer is or would be, if it is the layer's own."""
    place = bias_place(node)
    if place is None:
        return None
    holder, index = place
    value = holder.inputs[index] if len(holder.inputs) > index else None
    if value is None:
        return place
    shape = list(value.shape) if value.shape is not None else []
    whole = is_constant(value) and shape[-1:] == [output_channels(node)]
    return place if whole and len(list(value.uses())) == 1 and not value.is_graph_output() else None


def _shift(work: Work, exact: ir.Node, node: ir.Node, place: Place, shift: Array) -> None:
    value = write_shift(work.graph, exact, node, place, shift)
    if value is not None:
        work.added[value, 0] = (node.outputs[0], 1)


def write_shift(graph: ir.Model, exact: ir.Node, node: ir.Node, place: Place, shift: Array) -> ir.Value | None:
    """Write the bias that the float layer had, shifted.

    Args:
        graph: The model under way.
        exact: The layer in the float model.
        node: The layer under way.
        place: Where its bias is or would be.
        shift: float32 of shape (output channels,).

    Returns:
        The bias, where there was none before.
    """
    holder, index = place
    before = bias_place(exact)
    assert before is not None
    array = shifted(exact, before, shift)
    value = holder.inputs[index] if len(holder.inputs) > index else None
    if value is not None and value.const_value is not None:
        value.const_value = ir.tensor(array.reshape(value.const_value.numpy().shape), name=value.name)
        return None
    name = f"{node.name}:bias"
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(array.shape)
    graph.graph.register_initializer(value)
    if len(holder.inputs) <= BIAS_INPUT:
        holder.resize_inputs(BIAS_INPUT + 1)
    holder.replace_input_with(BIAS_INPUT, value)
    return value
