"""Reconstruction on calibration data: layers are refitted in order, each to what those before it leave of its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.bodies import body_values, name_apart
from infopt.facts import WEIGHT_INPUT, channel_axis
from infopt.model import Note
from infopt.probe import values_by_name
from infopt_passes.fitting.depths import depths
from infopt_passes.fitting.gather import Reading, moments
from infopt_passes.fitting.moments import Moments
from infopt_passes.fitting.places import bias_place
from infopt_passes.quantize.fit import Fit
from infopt_passes.quantize.fitting.fitted import FEWEST, Fitter, Wanted
from infopt_passes.quantize.fitting.refit import refit
from infopt_passes.quantize.fitting.rounding import Grid
from infopt_passes.quantize.insert import insert
from infopt_passes.quantize.lazy import lent
from infopt_passes.quantize.numbers import limits, quantize_weight, weight_scales
from infopt_passes.quantize.plan import Plan

WAVES = 6
"""Times that both models run over the samples, at most."""


def reconstructed(
    fitter: Fitter, fits: Mapping[ir.Node, Fit], nodes: Sequence[ir.Node] | None = None, waves: int = WAVES
) -> dict[ir.Node, Fit]:
    """Refit layers to their inputs in the quantized model.

    Layers of one wave must not feed each other: each would make up for the same error of those before them, and the
    later ones would make it anew. Where the layers stand in more rows than there are waves, rows at even distances are
    refitted, the last one among them; layers between keep their fit to what they read in the float model.

    Args:
        fitter: Knows model, plan and samples.
        fits: What was decided about the layers so far.
        nodes: The layers to choose from; all by default.
        waves: Sweeps over the samples, at most.

    Returns:
        ``fits`` with the refitted layers. A note of the fitter says so where there are too few samples.
    """
    result = dict(fits)
    if len(fitter.context.need_calibration("fit")) < FEWEST:
        fitter.notes.append(Note("warning", "reconstruct", f"needs at least {FEWEST} samples, and is left out"))
        return result
    chosen = set(fitter.layers() if nodes is None else nodes)
    readings = [reading for node in fitter.layers() if node in chosen and (reading := fitter.reading(node))]
    for wave in _waves(fitter.graph.graph, readings, waves):
        quantized, twins = _quantized(fitter, result)
        names = {node.name or "": twin.name or "" for node, twin in twins.items()}
        there = [_elsewhere(reading, twins[reading.node], names.get(reading.home, "")) for reading in wave]
        for reading, seen in moments(fitter.graph, there, fitter.context, quantized):
            result[reading.node] = _refitted(fitter, reading, seen, result.get(reading.node))
    return result


def _waves(graph: ir.Graph, readings: Sequence[Reading], most: int) -> list[list[Reading]]:
    """Rows of layers that do not feed each other, in the graph's order; at most so many, evenly chosen."""
    wanted = {reading.node: reading for reading in readings}
    rows: dict[int, list[Reading]] = {}
    for node, depth in depths(graph, wanted.keys()).items():
        rows.setdefault(depth, []).append(wanted[node])
    taken = sorted({len(rows) - 1 - i * len(rows) // most for i in range(most)}) if len(rows) > most else sorted(rows)
    return [rows[depth] for depth in taken]


def _refitted(fitter: Fitter, reading: Reading, seen: Moments, before: Fit | None) -> Fit:
    node, known, scheme = reading.node, reading.layout, fitter.scheme(reading.node)
    current = before if before and before.integers is not None else fitter.fit(node, Wanted(), known, seen)
    value = node.inputs[WEIGHT_INPUT]
    assert value is not None
    assert value.const_value is not None
    sound = seen.rows and seen.cross is not None and np.isfinite(seen.second).all() and np.isfinite(seen.cross).all()
    if not sound or current.integers is None:
        return before or Fit()
    axis = channel_axis(node) % len(known.shape)
    if before and before.scales is not None and before.integers is None:
        scales, tensor = before.scales, value.const_value
        integers = lent(tensor, lambda array: quantize_weight(array, scales, axis, scheme))
        current = replace(before, integers=integers)

    def grid(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], Grid]:
        scales = weight_scales(weight, axis, scheme, *fitter.guards(node))
        return scales, Grid(known.per_row(scales), limits(scheme))

    free = known.single and bias_place(node) is not None
    return lent(value.const_value, lambda weight: refit(weight, current, known, seen, grid, free))


def _elsewhere(reading: Reading, twin: ir.Node, home: str) -> Reading:
    """A reading of what a node's twin in the quantized model reads; there, a node of its body may be called another."""
    value = twin.inputs[0]
    name = (value.name if value is not None else None) or ""
    return replace(reading, known=None, other=(name, home) if home else name)


def _quantized(fitter: Fitter, fits: Mapping[ir.Node, Fit]) -> tuple[ir.Model, dict[ir.Node, ir.Node]]:
    """The quantized model as it would be now, and each node's twin in it."""
    clone = fitter.graph.clone()
    twins = dict(zip(fitter.graph.graph.all_nodes(), clone.graph.all_nodes(), strict=True))
    plan = _moved(fitter.plan, twins, values_by_name(clone.graph) | body_values(clone.graph))
    moved = {twins[node]: fit for node, fit in fits.items()}
    insert(clone.graph, plan, fitter.ranges, fitter.table, moved)
    name_apart(clone.graph)  # bodies that read one tensor have pairs of the same names
    return clone, twins


def _moved(plan: Plan, twins: Mapping[ir.Node, ir.Node], values: Mapping[str, ir.Value]) -> Plan:
    """A plan for the clone of a graph."""

    def twin(value: ir.Value) -> ir.Value:
        return values[value.name or ""]

    return replace(
        plan,
        integer={twins[node]: rule for node, rule in plan.integer.items()},
        edges={twin(value): {(twins[node], i) for node, i in uses} for value, uses in plan.edges.items()},
        whole={twin(value) for value in plan.whole},
        shared=[(twin(one), twin(other)) for one, other in plan.shared],
        schemes={twin(value): scheme for value, scheme in plan.schemes.items()},
        kept={twins[node]: why for node, why in plan.kept.items()},
    )
