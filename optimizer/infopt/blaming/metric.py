"""What restoring a layer does to the metric, where there are labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infopt.blaming.report import BlamedLayer, Flips
from infopt.evaluate import evaluator
from infopt.probe import opened as open_graph
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    import onnx_ir as ir

    from infopt.blaming.opened import Opened
    from infopt.blaming.restore import Restorer
    from infopt.targets.onnxruntime import OnnxSession

LAYERS = 3
"""Layers that are looked at, at most."""

SAMPLES = 256
"""Evaluation samples that are run, at most; fewer where there is no time for so many."""

FEWEST = 32
"""With fewer, the metric tells nothing."""


def measured_flips(
    rows: Sequence[BlamedLayer], restore: Restorer, opened: Opened, workdir: Path, affordable: int
) -> list[BlamedLayer]:
    """The layers that gain most, with what each does to the metric against the quantized model, as time allows.

    For reading, not for choosing: ``--apply`` looks at no labels.

    Args:
        rows: The layers with their gains.
        restore: Puts them in float.
        opened: Brings the labelled samples.
        workdir: Folder for files that only live during the run.
        affordable: Runs of single samples that there is time for.
    """
    samples = opened.resolved.evaluation
    named = [row.name for row in rows if (row.gain_db or 0.0) > 0][:LAYERS]
    if samples is None or samples.labels is None or not named:
        return list(rows)
    most = min(SAMPLES, len(samples), affordable // (len(named) + 1))
    if most < min(FEWEST, len(samples)):
        return list(rows)
    from infopt.confirm import Part

    spread = np.unique(np.linspace(0, len(samples) - 1, most).astype(np.int64))
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
            outputs = judge.outputs(_session(restore.without({name}), workdir), name)
            told = judge.accuracy(outputs, "emulated")
            gained, lost = (told.flips.gained, told.flips.lost) if told.flips else (None, None)
            found[name] = Flips(len(spread), told.delta, gained, lost, told.metric)
    return [replace(row, flips=found.get(row.name)) for row in rows]


def _session(graph: ir.Model, workdir: Path) -> OnnxSession:
    import tempfile

    return open_graph(graph, Path(tempfile.mkdtemp(prefix="flips-", dir=workdir)), EMULATE)
