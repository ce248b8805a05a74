"""Equalizes a graph with what calibration sees of its channels, and takes back what does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from infopt.model import Model, Note
from infopt.noise import OutputJudge, decibels, output_judge
from infopt.passes import Context
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.observers import ExtremesObserver, Spans
from infopt_passes.quantize.equalize.absorb import absorb, pairs
from infopt_passes.quantize.equalize.channels import Group, groups
from infopt_passes.quantize.equalize.factors import Floats, from_activations, from_weights
from infopt_passes.quantize.equalize.rescale import made, reader, rescale

Kind = Literal["weights", "activations"]

CHECKED = 4
"""Samples on which the rescaled model is compared with the original."""

SAME = 40.0
"""SQNR in dB of the outputs from which on a rescaled model computes the same: rounding in float32 leaves over 100."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Rescalings of a model, to be compared with it.

    Attributes:
        graph: The float model.
        divisors: Those of each of its groups, in order; ``None`` for groups that stay.
        judge: Knows the float model's outputs.
    """

    graph: ir.Model
    divisors: Sequence[Floats | None]
    judge: OutputJudge

    def rescaled(self, count: int | None = None) -> ir.Model:
        """A copy of the model with its first groups, or all of them, rescaled."""
        result = self.graph.clone()
        for i, group in enumerate(groups(result.graph)[:count]):
            divisors = self.divisors[i]
            if divisors is not None:
                rescale(result.graph, group, divisors, f"equalized{i}")
        return result

    def sqnr(self, count: int | None = None) -> float:
        """How close it is to the float model, in dB."""
        return decibels(self.judge.noise(self.rescaled(count)))

    def culprit(self) -> int:
        """The group without which those before it compute the same; that all together do not is known."""
        low, high = 0, len(self.divisors)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.sqnr(middle) < SAME else (middle, high)
        return low


def equalized(model: Model, kind: Kind, context: Context) -> tuple[ir.Model, list[Note]]:
    """A copy of a graph whose channels are rescaled, and remarks on what could not be.

    Args:
        model: The prepared float model; it is left as it was.
        kind: Even out weights with weights, or activations with weights.
        context: Brings the samples.
    """
    graph = model.graph
    found = groups(graph.graph)
    if not found:
        return graph, [Note("warning", graph.graph.name or "graph", "equalize: no channels can be rescaled")]
    axes = {value.name or "": axis for group in found for value, axis in group.values.items()}
    seen = calibrate(model, list(axes), ExtremesObserver(), context, axes=axes)
    divisors = [_divisors(group, seen, kind) for group in found]
    if all(each is None for each in divisors):
        return graph, []
    samples = context.need_calibration("quantize")
    some = replace(samples, indices=tuple(samples.indices)[:CHECKED])
    after, notes = _checked(Trial(graph, divisors, output_judge(graph, some, context.workdir)), found)
    return after if kind == "activations" else _absorbed(model.edited(after), context), notes


def _checked(trial: Trial, found: Sequence[Group]) -> tuple[ir.Model, list[Note]]:
    """The model with those groups rescaled that leave the outputs as they were, and a remark on each other one."""
    notes: list[Note] = []
    for _ in found:  # no longer, should the model not even compute the same twice
        sqnr = trial.sqnr()
        if sqnr >= SAME:
            break
        i = trial.culprit()
        node = (*found[i].readers, *found[i].makers)[0]
        far = f"to {sqnr:.0f} dB" if np.isfinite(sqnr) else "beyond float32"
        why = f"equalization of the channels that it reads would take the outputs {far}: they stay as they were"
        notes.append(Note("warning", node.name or node.op_type, why))
        trial = replace(trial, divisors=[None if k == i else each for k, each in enumerate(trial.divisors)])
    return trial.rescaled(), notes


def _absorbed(model: Model, context: Context) -> ir.Model:
    """The equalized model without the biases that no value of their channel falls below."""
    graph = model.graph
    axes = {pair.value.name or "": pair.axis for pair in pairs(graph.graph)}
    if not axes:
        return graph
    seen = calibrate(model, list(axes), ExtremesObserver(), context, axes=axes)
    result = graph.clone()
    absorb(result.graph, pairs(result.graph), {name: span.smallest for name, span in seen.items()})
    return result


def _divisors(group: Group, seen: dict[str, Spans], kind: Kind) -> Floats | None:
    """The divisors of a group; ``None`` where it is best as it is."""
    readers = [reader(node, group.channels) for node in group.readers]
    peak = np.max([_peak(seen[value.name or ""]) for value in group.rounded()], axis=0)
    if not np.isfinite(peak).all():
        return None  # in a body that never ran
    if kind == "weights":
        divisors = from_weights(made(group), readers, peak, group.ceiling)
    else:
        divisors = from_activations(peak, readers, group.ceiling)
    return None if np.all(divisors == 1) else divisors


def _peak(span: Spans) -> Floats:
    return np.maximum(np.abs(span.smallest), np.abs(span.largest))
