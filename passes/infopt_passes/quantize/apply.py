"""The quantize pass at work: plan, calibrate, write."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from infopt.bodies import bodies, name_apart
from infopt.errors import InputError, unknown
from infopt.model import Model, Note, Range
from infopt.passes import Context
from infopt.probe import values_by_name
from infopt.target import Scheme, Table
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.clipping import Grid
from infopt_passes.calibrate.observers import Spans, observer
from infopt_passes.fitting.fitted import Fitter, Wanted
from infopt_passes.quantize.fit import Fit
from infopt_passes.quantize.flow import clipped
from infopt_passes.quantize.insert import insert
from infopt_passes.quantize.numbers import activation_range, limits
from infopt_passes.quantize.opset import raised
from infopt_passes.quantize.plan import Plan, make_plan
from infopt_passes.quantize.prepare import prepared

if TYPE_CHECKING:
    from infopt_passes.quantize import Quantize


def quantized(model: Model, options: Quantize, context: Context) -> Model:
    """Quantize a model for the context's target; see :class:`infopt_passes.quantize.Quantize`."""
    target = context.need_target("quantize")
    context.need_calibration("quantize")
    done = model.quantized_nodes()
    if done and not context.force:
        raise InputError(
            f"{model.path} is quantized already (node {done[0]!r})",
            "start from the float model, or give --force to quantize what is still float",
        )
    graph = prepared(model.graph, target.table.opset)
    _check_names(options.keep_float, graph)
    plan, seen, idle = _observed(model.edited(graph), options, context)
    ranges = _ranges(plan, seen, target.table)
    notes = [*raised(model.opset, graph), *idle, *_doubts(seen)]
    inner = [name for name in seen if name not in values_by_name(graph.graph)]
    if inner and options.ranges not in ("minmax", "mean-minmax"):
        notes.append(Note("warning", inner[0], f"its range spans all values: {options.ranges} is not known in bodies"))
    notes += [Note("float", node.name or node.op_type, why) for node, why in plan.kept.items()]
    fits, doubts = fitted(graph, plan, ranges, options, context)
    insert(graph.graph, plan, ranges, target.table, fits)
    NameFixPass()(graph)
    name_apart(graph.graph)
    RemoveUnusedNodesPass()(graph)
    return replace(model.edited(graph, *notes, *doubts), ranges=tuple(ranges.items()))


def fitted(
    graph: ir.Model, plan: Plan, ranges: dict[str, Range], options: Quantize, context: Context
) -> tuple[dict[ir.Node, Fit], list[Note]]:
    """What the algorithms that were asked for make of each layer's weight and bias, and what the user should know.

    Args:
        graph: The float model that is being quantized.
        plan: What is quantized in it.
        ranges: Scale and zero point by tensor name.
        options: Name the algorithms; ``auto`` is plain.
        context: Brings target and samples.
    """
    wanted = Wanted(
        "mse" if options.weight_ranges == "mse" else "minmax",
        "least-squares" if options.rounding == "least-squares" else "nearest",
        options.bias_correction == "on",
    )
    fitter = Fitter(graph, plan, ranges, context.need_target("quantize").table, context)
    return fitter.fits(wanted), fitter.notes


def _observed(model: Model, options: Quantize, context: Context) -> tuple[Plan, dict[str, Spans], list[Note]]:
    """A plan with what calibration saw of its tensors; bodies that calibration never ran are left out, and named."""
    table, graph = context.need_target("quantize").table, model.graph.graph
    chosen = observer(options.ranges, options.percentile, _grid(table.activation))

    def planned(idle: Collection[ir.Graph]) -> tuple[Plan, dict[ir.Graph, str]]:
        plan = make_plan(graph, model.opset, table, options.keep_float, idle)
        witnesses: dict[ir.Graph, str] = {}
        for node in plan.integer:
            if node.graph is not graph and isinstance(node.graph, ir.Graph):
                witnesses.setdefault(node.graph, node.outputs[0].name or "")
        return plan, witnesses

    def observed(plan: Plan, witnesses: dict[ir.Graph, str]) -> dict[str, Spans]:
        names = [value.name or "" for group in plan.groups() for value in group]
        grids = {value.name or "": _grid(scheme) for value, scheme in plan.schemes.items()}
        names = [*names, *(name for name in witnesses.values() if name not in names)]
        return calibrate(model, names, chosen, context, grids=grids) if names else {}

    plan, witnesses = planned(())
    seen = observed(plan, witnesses)
    idle = {body for body, name in witnesses.items() if seen[name].smallest.min() > seen[name].largest.max()}
    if not idle:
        return plan, seen, []
    notes = [
        Note(
            "warning", body.owner.name or "", f"its {body.name} never ran on the calibration samples: it stays in float"
        )
        for body in bodies(graph)
        if body.graph in idle
    ]
    plan, witnesses = planned(idle)
    return plan, observed(plan, witnesses), notes


def _grid(scheme: Scheme) -> Grid:
    bottom, top = limits(scheme)
    return Grid(top - bottom + 1, scheme.symmetric)


def _check_names(names: tuple[str, ...], graph: ir.Model) -> None:
    known = {node.name or "" for node in graph.graph.all_nodes()}
    for name in names:
        if name not in known:
            raise unknown("node", name, known)


def _ranges(plan: Plan, seen: dict[str, Spans], table: Table) -> dict[str, Range]:
    """Scale and zero point of every quantized tensor; tensors of a group get those of their union."""
    ranges: dict[str, Range] = {}
    for group in plan.groups():
        spans = [seen[value.name or ""] for value in group]
        low, high = min(span.lows.min() for span in spans), max(span.highs.max() for span in spans)
        scheme = next((plan.schemes[value] for value in group if value in plan.schemes), table.activation)
        bounds = [clipped(value, table) for value in group]
        # Bounds that not all of a group keep would cut off what the others need.
        within = min(low for low, _ in bounds), max(high for _, high in bounds)
        known = activation_range(float(low), float(high), scheme, within)
        ranges.update({value.name or "": known for value in group})
    return ranges


def _doubts(seen: dict[str, Spans]) -> list[Note]:
    """The tensors that the samples do not tell enough about."""
    notes = []
    for name, span in seen.items():
        low, high = span.smallest.min(), span.largest.max()
        if low == high == 0:
            notes.append(Note("warning", name, "always zero on the calibration samples"))
        elif low == high:
            notes.append(Note("warning", name, f"always {low:.6g} on the calibration samples"))
    return notes
