"""The quantize pass at work: plan, calibrate, write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from infopt.errors import InputError, unknown
from infopt.model import Model, Note, Range
from infopt.passes import Context
from infopt.target import Scheme, Table
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.clipping import Grid
from infopt_passes.calibrate.observers import Spans, observer
from infopt_passes.quantize.fit import Fit
from infopt_passes.quantize.fitting.fitted import Fitter, Wanted
from infopt_passes.quantize.fitting.reconstruct import reconstructed
from infopt_passes.quantize.flow import clipped
from infopt_passes.quantize.insert import insert
from infopt_passes.quantize.numbers import activation_range, limits
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
    plan = make_plan(graph.graph, graph.opset_imports.get("", 0), target.table, options.keep_float)
    names = [value.name or "" for group in plan.groups() for value in group]
    chosen = observer(options.ranges, options.percentile, _grid(target.table.activation))
    grids = {value.name or "": _grid(scheme) for value, scheme in plan.schemes.items()}
    seen = calibrate(model.edited(graph), names, chosen, context, grids=grids) if names else {}
    ranges = _ranges(plan, seen, target.table)
    notes = _doubts(seen)
    notes += [Note("float", node.name or node.op_type, why) for node, why in plan.kept.items()]
    fits, doubts = fitted(graph, plan, ranges, options, context)
    insert(graph.graph, plan, ranges, target.table, fits)
    NameFixPass()(graph)
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
    fits = fitter.fits(wanted)
    if options.reconstruct == "on":
        fits = reconstructed(fitter, fits)
    return fits, fitter.notes


def _grid(scheme: Scheme) -> Grid:
    bottom, top = limits(scheme)
    return Grid(top - bottom + 1, scheme.symmetric)


def _check_names(names: tuple[str, ...], graph: ir.Model) -> None:
    known = {node.name or "" for node in graph.graph}
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
