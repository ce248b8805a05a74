"""Static quantization by given settings: plan, calibrate, fit weights, write.

What several settings have in common is computed once: the equalized float model, what calibration saw of a tensor, and
what was fitted to a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from infopt.bodies import bodies, name_apart
from infopt.model import Model, Note, Range
from infopt.passes import Context
from infopt.target import Scheme, Table
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.clipping import Grid
from infopt_passes.calibrate.observers import Spans, observer
from infopt_passes.quantize.equalize.equalizing import equalized
from infopt_passes.quantize.fit import Fit
from infopt_passes.quantize.fitting.fitted import Fitter, Wanted
from infopt_passes.quantize.fitting.reconstruct import reconstructed
from infopt_passes.quantize.flow import clipped
from infopt_passes.quantize.insert import insert
from infopt_passes.quantize.numbers import activation_range, limits
from infopt_passes.quantize.plan import Plan, make_plan

MOST_FITTED_TO = 100
"""Samples that weights are fitted to, at most: their moments are well known by then."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is quantized, with everything decided.

    Attributes:
        equalize: How channels are rescaled before.
        ranges: How the range of an activation is chosen.
        percentile: Upper end of a range by percentile.
        weights: How weights are rounded and biases corrected.
        reconstruct: Refit layers to what they read in the quantized model.
        keep_float: Names of nodes that stay in float.
    """

    equalize: Literal["off", "weights", "activations"] = "off"
    ranges: str = "minmax"
    percentile: float = 99.99
    weights: Wanted = Wanted()
    reconstruct: bool = False
    keep_float: frozenset[str] = frozenset()


@dataclass(slots=True)
class Static:
    """Quantizes one model in different ways.

    Attributes:
        model: The prepared float model.
        table: The target's table.
        context: Brings the samples.
        rough: Whether weights that were fitted with some ranges of the activations are taken for others, too: a
            candidate is told apart by them, and need not be the best that it can be.
    """

    model: Model
    table: Table
    context: Context
    rough: bool = False
    _floats: dict[str, tuple[ir.Model, list[Note]]] = field(default_factory=dict)
    _seen: dict[tuple[object, ...], Spans] = field(default_factory=dict)
    _fits: dict[tuple[object, ...], tuple[dict[str, Fit], list[Note]]] = field(default_factory=dict)

    def build(self, settings: Settings) -> Model:
        """The model, quantized; its notes say what stays in float and what the user should know."""
        base, notes = self.float_model(settings)
        graph = base.clone()
        work = self.model.edited(graph)
        plan, seen, idle = self._observed(work, settings)
        ranges = ranges_of(plan, seen, self.table)
        notes = [*notes, *idle, *_doubts(seen)]
        fits, doubts = self._fitted(graph, plan, ranges, settings)
        insert(graph.graph, plan, ranges, self.table, fits)
        notes += [*doubts, *kept_in_float(plan)]
        return replace(self.model.edited(finished(graph), *notes), ranges=tuple(ranges.items()))

    def float_model(self, settings: Settings) -> tuple[ir.Model, list[Note]]:
        """The float model with rescaled channels, and remarks on it."""
        if settings.equalize == "off":
            return self.model.graph, []
        if settings.equalize not in self._floats:
            self._floats[settings.equalize] = equalized(self.model, settings.equalize, self.context)
        return self._floats[settings.equalize]

    def _observed(self, work: Model, settings: Settings) -> tuple[Plan, dict[str, Spans], list[Note]]:
        """A plan with what calibration saw of its tensors; bodies that calibration never ran are left out and named."""
        graph = work.graph.graph

        def planned(idle: Collection[ir.Graph]) -> tuple[Plan, dict[ir.Graph, str]]:
            plan = make_plan(graph, work.opset, self.table, settings.keep_float, idle)
            witnesses: dict[ir.Graph, str] = {}
            for node in plan.integer:
                if node.graph is not graph and isinstance(node.graph, ir.Graph):
                    witnesses.setdefault(node.graph, node.outputs[0].name or "")
            return plan, witnesses

        plan, witnesses = planned(())
        seen = self._calibrated(work, plan, witnesses.values(), settings)
        idle = {body for body, name in witnesses.items() if seen[name].smallest.min() > seen[name].largest.max()}
        if not idle:
            return plan, seen, []
        why = "never ran on the calibration samples: it stays in float"
        never = [body for body in bodies(graph) if body.graph in idle]
        notes = [Note("warning", body.owner.name or "", f"its {body.name} {why}") for body in never]
        plan, witnesses = planned(idle)
        return plan, self._calibrated(work, plan, witnesses.values(), settings), notes

    def _calibrated(self, work: Model, plan: Plan, witnesses: Collection[str], settings: Settings) -> dict[str, Spans]:
        grids = {value.name or "": _grid(scheme) for value, scheme in plan.schemes.items()}
        planned = [value.name or "" for group in plan.groups() for value in group]
        names = list(dict.fromkeys((*planned, *witnesses)))
        keys = {n: (n, settings.equalize, settings.ranges, settings.percentile, grids.get(n)) for n in names}
        missing = [name for name in names if keys[name] not in self._seen]
        if missing:
            chosen = observer(settings.ranges, settings.percentile, _grid(self.table.activation))
            found = calibrate(work, missing, chosen, self.context, grids=grids)
            self._seen.update({keys[name]: found[name] for name in missing})
        return {name: self._seen[keys[name]] for name in names}

    def _fitted(
        self, graph: ir.Model, plan: Plan, ranges: dict[str, Range], settings: Settings
    ) -> tuple[dict[ir.Node, Fit], list[Note]]:
        """What was fitted to each layer; layers that are left out do not change what was fitted to the others."""
        spans = () if self.rough else (settings.ranges, settings.percentile)
        key = (settings.equalize, spans, settings.weights)
        found = self._known(key, graph, plan, ranges, lambda fitter: fitter.fits(settings.weights))
        if settings.reconstruct:
            # What is refitted makes up for the others' errors, so it matters which layers have any.
            def refitted(fitter: Fitter) -> dict[ir.Node, Fit]:
                before, _ = found
                return reconstructed(fitter, {node: before[node.name] for node in plan.integer if node.name in before})

            again = self._known((*key, settings.keep_float), graph, plan, ranges, refitted)
            found = again[0], [*found[1], *again[1]]
        kept, notes = found
        return {node: kept[node.name] for node in plan.integer if node.name in kept}, notes

    def _known(
        self,
        key: tuple[object, ...],
        graph: ir.Model,
        plan: Plan,
        ranges: dict[str, Range],
        fit: Callable[[Fitter], dict[ir.Node, Fit]],
    ) -> tuple[dict[str, Fit], list[Note]]:
        if key not in self._fits:
            some = self.context.need_calibration("fit").thinned(MOST_FITTED_TO)
            fitter = Fitter(graph, plan, ranges, self.table, replace(self.context, calibration=some))
            found = {node.name or "": each for node, each in fit(fitter).items()}
            self._fits[key] = found, fitter.notes
        return self._fits[key]


def kept_in_float(plan: Plan) -> list[Note]:
    """A note for each compute node that a plan leaves in float."""
    return [Note("float", node.name or node.op_type, why) for node, why in plan.kept.items()]


def finished(graph: ir.Model) -> ir.Model:
    """A graph into which nodes were written, with unique names and without what nobody reads; changed in place."""
    NameFixPass()(graph)
    name_apart(graph.graph)
    RemoveUnusedNodesPass()(graph)
    return graph


def ranges_of(plan: Plan, seen: Mapping[str, Spans], table: Table) -> dict[str, Range]:
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


def _grid(scheme: Scheme) -> Grid:
    bottom, top = limits(scheme)
    return Grid(top - bottom + 1, scheme.symmetric)


def _doubts(seen: Mapping[str, Spans]) -> list[Note]:
    """The tensors that the samples do not tell enough about."""
    notes = []
    for name, span in seen.items():
        low, high = span.smallest.min(), span.largest.max()
        if low == high == 0:
            notes.append(Note("warning", name, "always zero on the calibration samples"))
        elif low == high:
            notes.append(Note("warning", name, f"always {low:.6g} on the calibration samples"))
    return notes
