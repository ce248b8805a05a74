"""Equalizes a graph with what calibration sees of its channels, and takes back what does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from infopt.model import Model, Note
from infopt.passes import Context
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.observers import ExtremesObserver, Spans
from infopt_passes.quantize.equalize.channels import Group, groups
from infopt_passes.quantize.equalize.factors import Floats, from_activations, from_weights
from infopt_passes.quantize.equalize.rescale import made, reader, rescale

Kind = Literal["weights", "activations"]

GROWTH = 1e6
"""Weights that grow by more than this are taken for exploded."""


def equalized(model: Model, kind: Kind, context: Context) -> tuple[ir.Model, list[Note]]:
    """A copy of a graph whose channels are rescaled, and remarks on what could not be.

    Args:
        model: The prepared float model; it is left as it was.
        kind: Even out weights with weights, or activations with weights.
        context: Brings the samples.
    """
    graph = model.graph
    result, notes = graph.clone(), list[Note]()
    found = groups(result.graph)
    if not found:
        return graph, [Note("warning", graph.graph.name or "graph", "equalize: no channels can be rescaled")]
    axes = {value.name or "": axis for group in found for value, axis in group.values.items()}
    seen = calibrate(model, list(axes), ExtremesObserver(), context, axes=axes)
    for i, group in enumerate(found):
        divisors = _divisors(group, seen, kind)
        if np.all(divisors == 1):
            continue
        broken = _exploding(group, divisors)
        if broken:
            notes.append(Note("warning", broken, "equalization would make its weights explode: its channels stay"))
            continue
        rescale(result.graph, group, divisors, f"equalized{i}")
    return result, notes


def _divisors(group: Group, seen: dict[str, Spans], kind: Kind) -> Floats:
    readers = [reader(node, group.channels) for node in group.readers]
    peaks = [_peak(seen[value.name or ""]) for value in group.values]
    peak = np.max(peaks, axis=0)
    if kind == "weights":
        return from_weights(made(group), readers, peak, group.ceiling)
    return from_activations(peak, readers, group.ceiling)


def _peak(span: Spans) -> Floats:
    return np.maximum(np.abs(span.smallest), np.abs(span.largest))


def _exploding(group: Group, divisors: Floats) -> str | None:
    """A node whose weights would not be finite or out of proportion."""
    nodes: Sequence[ir.Node] = (*group.makers, *group.readers)
    spread = float(divisors.max() / divisors.min())
    return (nodes[0].name or nodes[0].op_type) if not np.isfinite(spread) or spread > GROWTH else None
