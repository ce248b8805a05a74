"""The quantize pass at work: plan, calibrate, write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from infopt.errors import InputError, unknown
from infopt.model import Model, Note, Range
from infopt.passes import Context
from infopt.target import Table
from infopt_passes.quantize.insert import insert
from infopt_passes.quantize.numbers import activation_range
from infopt_passes.quantize.observe import OBSERVERS, calibrate
from infopt_passes.quantize.plan import Plan, clipped, make_plan
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
    seen = calibrate(model.edited(graph), names, OBSERVERS[options.ranges], context) if names else {}
    ranges, notes = _ranges(plan, seen, target.table)
    notes += [Note("float", node.name or node.op_type, why) for node, why in plan.kept.items()]
    insert(graph.graph, plan, ranges, target.table)
    NameFixPass()(graph)
    RemoveUnusedNodesPass()(graph)
    return replace(model.edited(graph, *notes), ranges=tuple(ranges.items()))


def _check_names(names: tuple[str, ...], graph: ir.Model) -> None:
    known = {node.name or "" for node in graph.graph}
    for name in names:
        if name not in known:
            raise unknown("node", name, known)


def _ranges(plan: Plan, seen: dict[str, tuple[float, float]], table: Table) -> tuple[dict[str, Range], list[Note]]:
    """Scale and zero point of every quantized tensor; tensors of a group get those of their union."""
    ranges: dict[str, Range] = {}
    notes: list[Note] = []
    for group in plan.groups():
        spans = [seen[value.name or ""] for value in group]
        scheme = next((plan.schemes[value] for value in group if value in plan.schemes), table.activation)
        bounds = [clipped(value, table) for value in group]
        # Bounds that not all of a group keep would cut off what the others need.
        within = min(low for low, _ in bounds), max(high for _, high in bounds)
        known = activation_range(min(low for low, _ in spans), max(high for _, high in spans), scheme, within)
        if known.low == known.high == 0:
            notes.append(Note("warning", group[0].name or "", "always zero on the calibration samples"))
        ranges.update({value.name or "": known for value in group})
    return ranges, notes
