"""Rounds weights that are quantized alone for the least square error of their layers' outputs on samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from infopt.model import Note
from infopt.passes import Context
from infopt.target import Scheme, Table
from infopt_passes.fitting.gather import Reading, moments, sights
from infopt_passes.fitting.hessian import damping_for
from infopt_passes.fitting.layout import layout
from infopt_passes.fitting.moments import Moments
from infopt_passes.quantize.blocks import fitting_block
from infopt_passes.quantize.compress import Weight, stored_scales, stored_weight
from infopt_passes.quantize.fitting.fitted import FEWEST
from infopt_passes.quantize.fitting.rounding import Grid, least_squares
from infopt_passes.quantize.insert import graph_of
from infopt_passes.quantize.numbers import Array, limits, stored_type
from infopt_passes.quantize.plan import Plan
from infopt_passes.quantize.static import MOST_FITTED_TO


def fitted_integers(
    graph: ir.Model, plan: Plan, table: Table, block: int, context: Context
) -> tuple[dict[ir.Node, Array], list[Note]]:
    """Integers of the planned layers that are products of a matrix, as they are stored.

    Args:
        graph: The float model.
        plan: What is quantized.
        table: The table of the precision.
        block: See :func:`infopt_passes.quantize.compress.compress`.
        context: Brings the samples.

    Returns:
        The integers, and what the user should know; layers that are left out are rounded to nearest.
    """
    samples = context.need_calibration("fit")
    if len(samples) < FEWEST:
        return {}, [Note("warning", "rounding", f"needs at least {FEWEST} samples, and is left out")]
    context = replace(context, calibration=samples.thinned(MOST_FITTED_TO))
    readings, inner = [], sights(graph.graph)
    for node in graph.graph.all_nodes():
        known = layout(node) if node in plan.integer else None
        if known is not None:
            readings.append(Reading(node, known, home=inner[graph_of(node)]))
    found: dict[ir.Node, Array] = {}
    notes = []
    for reading, seen in moments(graph, readings, context):
        node, scheme = reading.node, plan.integer[reading.node].weight or table.weight
        weight = stored_weight(node)
        length = fitting_block(weight.shape[0], block) if scheme.blocked else None
        if scheme.blocked and length is None:
            continue
        if not (seen.rows and np.isfinite(seen.second).all()):
            notes.append(Note("warning", node.name or "", "was not fitted: its input is empty or not finite"))
            continue
        found[node] = _integers(reading, weight, scheme, length, seen)
    return found, notes


def _integers(reading: Reading, weight: Weight, scheme: Scheme, block: int | None, seen: Moments) -> Array:
    known, scales = reading.layout, stored_scales(weight, scheme, block)
    steps = np.repeat(scales, block, axis=0).T[None] if block else known.per_row(scales)
    product = known.window is None

    def rounded(array: Array) -> Array:
        # A product is stored with its outputs in the last axis, however the graph has it.
        matrix = array.T[None] if product else known.matrix(array)
        damping = damping_for(known.columns, seen.rows)
        integers = least_squares(matrix, seen.second, Grid(steps, limits(scheme)), damping).integers.astype(
            stored_type(scheme.dtype)
        )
        return np.ascontiguousarray(integers[0].T) if product else known.weight(integers)

    return weight.use(rounded)
