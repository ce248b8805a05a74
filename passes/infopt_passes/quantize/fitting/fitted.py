"""Applies the algorithms that the options ask for to every layer that runs in integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import BIAS_INPUT, WEIGHT_INPUT, channel_axis, is_constant
from infopt.model import Note, Range
from infopt.passes import Context
from infopt.target import Role, Scheme, Table
from infopt_passes.fitting.gather import Reading, moments, sights
from infopt_passes.fitting.hessian import damping_for
from infopt_passes.fitting.layout import Layout, layout
from infopt_passes.fitting.moments import Moments
from infopt_passes.fitting.places import bias_place, output_channels
from infopt_passes.quantize.fit import Fit
from infopt_passes.quantize.fitting.bias import bias_shift
from infopt_passes.quantize.fitting.rounding import Grid, least_squares
from infopt_passes.quantize.fitting.scales import least_error
from infopt_passes.quantize.flow import Flow
from infopt_passes.quantize.insert import graph_of
from infopt_passes.quantize.lazy import lent
from infopt_passes.quantize.numbers import guarded, limits, quantize_weight, weight_scales
from infopt_passes.quantize.plan import Plan

Array = npt.NDArray[Any]

COPIES = 5
"""Matrices of second moments that are held at once while one layer is fitted."""

FEWEST = 8
"""Samples below which nothing is fitted to them."""


ABUNDANT = 4
"""Rows per column from which on moments about the mean are trusted; they have less of what all rows have in common."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The algorithms to apply.

    Attributes:
        ranges: How the scales of weights are chosen.
        rounding: How weights are rounded.
        bias: Whether biases are corrected.
    """

    ranges: Literal["minmax", "mse"] = "minmax"
    rounding: Literal["nearest", "least-squares"] = "nearest"
    bias: bool = False

    @property
    def nothing(self) -> bool:
        """Whether all is plain."""
        return self == Wanted()

    @property
    def sampled(self) -> tuple[str, ...]:
        """Names of the options that need samples."""
        rounding = ("rounding",) if self.rounding != "nearest" else ()
        return rounding + (("bias_correction",) if self.bias else ())


@dataclass(slots=True)
class Fitter:
    """Fits the layers of one plan.

    Attributes:
        graph: The float model; its main graph is the plan's.
        plan: What is quantized.
        ranges: Scale and zero point by tensor name.
        table: The target's table.
        context: Brings the samples.
        homes: The main graph and its bodies; see :attr:`Reading.home`.
        notes: What the user should know.
        scarce: Layers that the samples tell too little about, with the reason.
    """

    graph: ir.Model
    plan: Plan
    ranges: Mapping[str, Range]
    table: Table
    context: Context
    homes: Mapping[ir.Graph, str] = field(init=False)
    notes: list[Note] = field(default_factory=list)
    scarce: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the bodies."""
        self.homes = sights(self.graph.graph)

    def layers(self) -> list[ir.Node]:
        """The nodes with an integer weight, in the graph's order."""
        return [
            node
            for node in self.graph.graph.all_nodes()
            if node in self.plan.integer
            and self.plan.integer[node].role is Role.COMPUTE
            and is_constant(node.inputs[WEIGHT_INPUT])
        ]

    def fits(self, wanted: Wanted) -> dict[ir.Node, Fit]:
        """What the algorithms make of each layer."""
        if wanted.nothing:
            return {}
        layers, few = self.layers(), len(self.context.need_calibration("fit")) < FEWEST
        if few and wanted.sampled:
            why = f"needs at least {FEWEST} samples, and is left out"
            self.notes += [Note("warning", option, why) for option in wanted.sampled]
        readings = [] if few else [reading for node in layers if (reading := self.reading(node))]
        found = {r.node: self.fit(r.node, wanted, r.layout, seen) for r, seen in self.moments(readings)}
        for node in layers:
            if node not in found:
                found[node] = self.fit(node, wanted)
        if self.scarce:
            first, why = next(iter(self.scarce.items()))
            others = len(self.scarce) - 1
            self.notes.append(Note("warning", first, f"{why}, and so for {others} other layers" if others else why))
        return found

    def moments(self, readings: list[Reading]) -> Any:
        """See :func:`infopt_passes.fitting.gather.moments`."""
        return moments(self.graph, readings, self.context)

    def reading(self, node: ir.Node) -> Reading | None:
        """What to look at for a layer, if it is a product of a matrix."""
        known, home = layout(node), self.homes[graph_of(node)]
        origin = Flow(self.table, self.plan.integer, self.plan.edges).origin(node.inputs[0])
        name = origin.name if origin is not None and origin in self.plan.edges else ""
        if known and COPIES * known.groups * known.columns**2 * 8 > self.context.memory:
            why = f"its {known.columns} inputs are too many for --memory: it is rounded to nearest"
            self.notes.append(Note("warning", node.name or "", why))
            return None
        return Reading(node, known, self.ranges.get(name or ""), home=home) if known else None

    def scheme(self, node: ir.Node) -> Scheme:
        """How the target wants a node's weight."""
        return self.plan.integer[node].weight or self.table.weight

    def guards(self, node: ir.Node) -> tuple[Array | None, float]:
        """What :func:`infopt_passes.quantize.numbers.guarded` has to know of a node."""
        bias = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else None
        if self.table.bias != "int32" or bias is None or bias.const_value is None:
            return None, 1.0
        groups = int(node.attributes.get_int("group", 1)) if node.op_type == "ConvTranspose" else 1
        addend = np.broadcast_to(bias.const_value.numpy().reshape(-1), (output_channels(node),))
        name = node.inputs[0].name if node.inputs[0] is not None else None
        return np.abs(addend.reshape(groups, -1)).max(axis=0), self.ranges[name or ""].scale

    def fit(self, node: ir.Node, wanted: Wanted, known: Layout | None = None, seen: Moments | None = None) -> Fit:
        """Choose scales, integers and shift of one layer.

        Args:
            node: The layer.
            wanted: The algorithms.
            known: How it is a product; without it and ``seen``, only its scales can be chosen.
            seen: Moments of its input.
        """
        value = node.inputs[WEIGHT_INPUT]
        assert value is not None
        assert value.const_value is not None
        return lent(value.const_value, lambda weight: self._fit(node, wanted, weight, (known, seen)))

    def _fit(self, node: ir.Node, wanted: Wanted, weight: Array, looked: tuple[Layout | None, Moments | None]) -> Fit:
        (known, seen), scheme, axis = looked, self.scheme(node), channel_axis(node)
        if seen is not None and not (seen.rows and np.isfinite(seen.second).all()):
            self.notes.append(Note("warning", node.name or "", "was not fitted: its input is empty or not finite"))
            seen = None
        scales = weight_scales(weight, axis, scheme, *self.guards(node))
        if wanted.ranges == "mse":
            scales = guarded(_searched(weight, scales, axis, scheme, looked), *self.guards(node))
        if known is None or seen is None:
            return Fit(scales=scales)
        integers = quantize_weight(weight, scales, axis % weight.ndim, scheme)
        matrix, steps = known.matrix(weight), known.per_row(scales)
        corrected = wanted.bias and known.single and bias_place(node) is not None
        if wanted.rounding == "least-squares":
            # A bias that is corrected afterwards takes the mean of the error with it.
            target = seen.spread if corrected and seen.rows >= ABUNDANT * known.columns else seen.second
            damping = damping_for(known.columns, seen.rows)
            rounded = least_squares(matrix, target, Grid(steps, limits(scheme)), damping)
            integers = known.weight(rounded.integers.astype(scheme.dtype))
            self._warn(node, known, seen, rounded.damping / damping)
        shift = None
        if corrected:
            shift = bias_shift(matrix, known.matrix(integers) * steps, seen) * np.float32(known.factor)
        return Fit(scales, integers, shift)

    def _warn(self, node: ir.Node, known: Layout, seen: Moments, more: float) -> None:
        if more > 1:
            why = f"the moments of its input are singular: damped {more:g} times as much as others"
        elif seen.rows < known.columns:
            why = f"its {known.columns} inputs were seen {seen.rows} times only: the moments are singular and damped"
            self.scarce.setdefault(node.name or "", why)
            return
        else:
            return
        self.notes.append(Note("warning", node.name or "", why))


def _searched(
    weight: Array, scales: Array, axis: int, scheme: Scheme, looked: tuple[Layout | None, Moments | None]
) -> Array:
    """Scales for the least square error, of the outputs where the input is known."""
    known, seen = looked
    if known is not None and seen is not None:
        matrix = known.matrix(weight)
        rows, importance = (known.by_scale(m) for m in (matrix, np.broadcast_to(seen.diagonal[:, None], matrix.shape)))
        if not scales.ndim:
            rows, importance = rows.reshape(1, -1), importance.reshape(1, -1)
        return least_error(rows, scales.reshape(-1), limits(scheme), importance).reshape(scales.shape)
    rows = np.moveaxis(weight, axis, 0).reshape(len(scales) if scales.ndim else 1, -1)
    return least_error(rows, scales.reshape(-1), limits(scheme)).reshape(scales.shape)
