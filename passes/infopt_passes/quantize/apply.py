"""The quantize pass at work: which way a model is quantized."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from infopt.errors import InputError, unknown
from infopt.model import Model, Note
from infopt.passes import Context
from infopt.precisions import table_for
from infopt.target import Table
from infopt_passes.quantize.auto import chosen
from infopt_passes.quantize.compress import compress
from infopt_passes.quantize.compress_fit import fitted_integers
from infopt_passes.quantize.dynamic import quantize_at_run_time
from infopt_passes.quantize.numbers import Array
from infopt_passes.quantize.opset import check_same, raised
from infopt_passes.quantize.plan import make_plan
from infopt_passes.quantize.prepare import prepared
from infopt_passes.quantize.settings import plain_settings
from infopt_passes.quantize.static import Static, finished, kept_in_float
from infopt_passes.quantize.uses import check_used, in_integers

if TYPE_CHECKING:
    from infopt_passes.quantize import Quantize


def quantized(model: Model, options: Quantize, context: Context) -> Model:
    """Quantize a model for the context's target; see :class:`infopt_passes.quantize.Quantize`."""
    table = table_for(context.need_target("quantize"), options.precision)
    check_used(options, table)
    if options.calibrated:
        context.need_calibration("quantize")
    done = model.quantized_nodes()
    if done and not context.force:
        raise InputError(
            f"{model.path} is quantized already (node {done[0]!r})",
            "start from the float model, or give --force to quantize what is still float",
        )
    graph = prepared(model.graph, table.opset)
    _check_names(options.keep_float, graph)
    told = raised(model.opset, graph)
    if told:
        check_same(model.graph, graph, context)
    told += [Note("warning", options.precision, f"needs {table.needs}")] if table.needs else []
    work = model.edited(graph, *told)
    if table.data != "calibrated":
        return _in_weights_or_at_run_time(work, table, options, context)
    static = Static(work, table, context)
    return (
        static.build(plain_settings(options))
        if options.method == "fast" or not in_integers(table)
        else chosen(static, options)
    )


def _in_weights_or_at_run_time(work: Model, table: Table, options: Quantize, context: Context) -> Model:
    """Weights alone, or activations with ranges of each run; the graph of ``work`` is changed in place."""
    graph = work.graph.graph
    plan = make_plan(graph, work.opset, table, options.keep_float)
    fitted: dict[ir.Node, Array] = {}
    notes: list[Note] = []
    if table.data == "float":
        if options.calibrated:
            fitted, notes = fitted_integers(work.graph, plan, table, options.block, context)
        compress(graph, plan, table, options.block, fitted)
    else:
        quantize_at_run_time(graph, plan, table)
    return replace(work.edited(finished(work.graph), *notes, *kept_in_float(plan)), ranges=())


def _check_names(names: tuple[str, ...], graph: ir.Model) -> None:
    known = {node.name or "" for node in graph.graph.all_nodes()}
    for name in names:
        if name not in known:
            raise unknown("node", name, known)
