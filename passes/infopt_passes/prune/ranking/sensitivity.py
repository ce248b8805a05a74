"""What the whole model loses by each group: what makes losses of different layers comparable.

A layer's own loss says nothing of what becomes of it: a residual stream drowns some errors, later layers amplify
others. So each group is pruned alone, with its readers making up for it, and the model's outputs are looked at.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.passes import Context
from infopt.probe import opened
from infopt_passes.calibrate.sweep import streams, sweep
from infopt_passes.fitting.layout import Layout
from infopt_passes.fitting.places import bias_place, shifted

Array = npt.NDArray[Any]

TRIED = 0.3
"""Part of a group that goes in its trial."""

SAMPLES = 32
"""Samples that a trial runs on."""


@dataclass(frozen=True, slots=True)
class Change:
    """New weights of one layer.

    Attributes:
        node: The layer, in the model under way.
        layout: How it is a product.
        weight: Of shape (outputs, columns), float32.
        mean: Mean of its columns, of shape (columns,), which a bias makes up for.
        gone: How many units of its group are gone.
    """

    node: ir.Node
    layout: Layout
    weight: Array
    mean: Array
    gone: int = 0


def scaled(
    graph: ir.Model,
    scores: Sequence[Array],
    trials: Sequence[Sequence[Change]],
    kept: Sequence[Array],
    context: Context,
) -> list[Array]:
    """Importance in terms of the model's outputs: the error of each group's trial, shared out over its units.

    Args:
        graph: The model under way.
        scores: Importance of each unit of each group, comparable within a group.
        trials: What changes in each group's trial, in which the part :data:`TRIED` of its units is gone; none where
            no trial can be made.
        kept: Units that are there, as booleans.
        context: Brings samples.

    Returns:
        Scores whose sum over units that are gone is the relative error of the outputs, about. As they were where the
        model has no outputs of floats, or a group no trial: for these, the mean of the other groups' factors counts.
    """
    outputs = _Outputs(context)
    exact = outputs.of(graph)
    if not exact:
        return list(scores)
    factors: list[float] = []
    for number, (own, changes, alive) in enumerate(zip(scores, trials, kept, strict=True)):
        lost = float(np.sort(own[alive])[: changes[0].gone].sum()) if changes else 0.0
        usable = np.isfinite(lost) and lost > 0
        factors.append(_error(exact, outputs.of(_changed(graph, changes))) / lost if usable else np.nan)
        context.progress("looking at groups", number + 1, len(scores))
    known = [factor for factor in factors if np.isfinite(factor) and factor > 0]
    usual = float(np.exp(np.mean(np.log(known)))) if known else 1.0
    return [own * (factor if np.isfinite(factor) else usual) for own, factor in zip(scores, factors, strict=True)]


def trial_size(units: int) -> int:
    """How many of so many units go in a trial."""
    return max(1, round(TRIED * units))


def _changed(graph: ir.Model, changes: Sequence[Change]) -> ir.Model:
    places = {node: at for at, node in enumerate(graph.graph)}
    clone = graph.clone()
    nodes = list(clone.graph)
    for change in changes:
        node = nodes[places[change.node]]
        weight = node.inputs[1]
        assert weight is not None
        assert weight.const_value is not None
        own = change.layout.matrix(weight.const_value.numpy())[0]
        place = bias_place(node)
        if place is not None and (bias := _holder(place)) is not None:
            shift = (own.astype(np.float64) - change.weight) @ change.mean * change.layout.factor
            bias.const_value = ir.tensor(shifted(node, place, shift.astype(np.float32)), name=bias.name)
        weight.const_value = ir.tensor(change.layout.weight(change.weight[None]), name=weight.name)
    return clone


def _holder(place: tuple[ir.Node, int]) -> ir.Value | None:
    node, index = place
    value = node.inputs[index] if len(node.inputs) > index else None
    return value if value is not None and value.const_value is not None else None


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Runs models on some samples."""

    context: Context

    def of(self, graph: ir.Model) -> list[Array]:
        """The outputs of floats on all samples, one after the other."""
        samples = self.context.need_calibration("prune").thinned(SAMPLES)
        share = streams(1, self.context.memory)
        folder = Path(tempfile.mkdtemp(prefix="trial-", dir=self.context.workdir))
        session = opened(graph, folder, share.settings)
        shutil.rmtree(folder)
        runs = sweep(session, samples.feeds(), share.count)
        return [array for arrays in runs for array in arrays if array.dtype.kind == "f" and array.size]


def _error(exact: Sequence[Array], found: Sequence[Array]) -> float:
    """Square of the error as a part of that of the outputs, in the mean over them."""
    if len(exact) != len(found):
        return float("nan")
    parts = [
        float(np.square(a - b, dtype=np.float64).sum()) / max(float(np.square(a, dtype=np.float64).sum()), 1e-30)
        for a, b in zip(exact, found, strict=True)
        if a.shape == b.shape
    ]
    return float(np.mean(parts)) if parts else float("nan")
