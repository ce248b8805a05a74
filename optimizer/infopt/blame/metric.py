"""What restoring a layer does to the metric, where there are labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infopt.blame.report import BlamedLayer, Flips
from infopt.evaluate import evaluator
from infopt.probe import opened as open_graph
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    import onnx_ir as ir

    from infopt.blame.opened import Opened
    from infopt.blame.restore import Restorer
    from infopt.targets.onnxruntime import OnnxSession

LAYERS = 3
"""Layers that are looked at, at most."""

SAMPLES = 256
"""Evaluation samples that are run, at most."""


def measured_flips(
    rows: Sequence[BlamedLayer], restore: Restorer, opened: Opened, workdir: Path, deadline: float
) -> list[BlamedLayer]:
    """The layers that gain most, with what each does to the metric against the quantized model, as time allows.

    For reading, not for choosing: ``--apply`` looks at no labels.
    """
    samples = opened.resolved.evaluation
    named = [row.name for row in rows if (row.gain_db or 0.0) > 0][:LAYERS]
    if samples is None or samples.labels is None or not named or time.monotonic() > deadline:
        return list(rows)
    from infopt.confirm import Part

    count = len(samples)
    spread = np.unique(np.linspace(0, count - 1, min(SAMPLES, count)).astype(np.int64))
    part = Part(samples, spread)
    found: dict[str, Flips] = {}
    resolved = opened.resolved
    with evaluator(
        _session(opened.graph.graph, workdir),
        part,
        resolved.inputs,
        resolved.metric,
        names=resolved.model.output_names,
        seed=resolved.recipe.job.seed,
        progress=lambda *_: None,
    ) as judge:
        for name in named:
            if time.monotonic() > deadline:
                break
            outputs = judge.outputs(_session(restore.without({name}), workdir), name)
            told = judge.accuracy(outputs, "emulated")
            gained, lost = (told.flips.gained, told.flips.lost) if told.flips else (None, None)
            found[name] = Flips(len(spread), told.delta, gained, lost)
    return [replace(row, flips=found.get(row.name)) for row in rows]


def _session(graph: ir.Model, workdir: Path) -> OnnxSession:
    import tempfile

    return open_graph(graph, Path(tempfile.mkdtemp(prefix="flips-", dir=workdir)), EMULATE)
