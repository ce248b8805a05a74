"""The proof that two models compute the same: both run as they are written, on made-up samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from infopt.data import infer_batch_axes
from infopt.errors import InfoptError, RuntimeRefused
from infopt.model import Model, input_specs
from infopt.readers.synthetic import SyntheticSamples
from infopt.targets.onnxruntime import open_onnx

PLAIN = {"graph_optimization_level": "0"}
"""Runs a graph as it is written: the proof is about the graph, not about what the runtime makes of it."""

PROOFS = 4
"""Made-up samples on which the outputs are compared."""


def largest_difference(before: Model, after: Path, seed: int) -> tuple[float | None, str | None]:
    """How far two models' outputs are apart.

    Args:
        before: The original.
        after: File of the other model.
        seed: Seed of the samples.

    Returns:
        The largest difference of an output, relative to its largest value, or ``None`` with the reason why it is
        unknown.

    Raises:
        RuntimeRefused: The original runs, the other model does not.
    """
    samples = SyntheticSamples(infer_batch_axes(input_specs(before.graph), {}), PROOFS, seed)
    one, other = open_onnx(before.path, PLAIN), open_onnx(after, PLAIN)
    worst = 0.0
    for batch in samples.batches(1):
        try:
            wanted = one.run(batch.feed)
        except RuntimeRefused as error:
            return None, f"the original does not run on made-up inputs ({error})"
        worst = max([worst, *(_difference(a, b) for a, b in zip(wanted, other.run(batch.feed), strict=True))])
    return worst, None


def largest_difference_where_it_runs(before: Model, after: Path, seed: int) -> tuple[float | None, str | None]:
    """As :func:`largest_difference`; an original that ONNX Runtime does not open is a reason, not an error.

    Raises:
        RuntimeRefused: The original runs, the other model does not.
    """
    try:
        open_onnx(before.path, PLAIN)
        input_specs(before.graph)
    except InfoptError as error:
        return None, f"ONNX Runtime does not open the original ({error})"
    return largest_difference(before, after, seed)


def _difference(wanted: np.ndarray, found: np.ndarray) -> float:
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return float("inf")
    if wanted.size == 0 or not np.issubdtype(wanted.dtype, np.number):
        return 0.0 if np.array_equal(wanted, found) else float("inf")
    one, other = wanted.astype(np.float64), found.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return 0.0
    scale = max(float(np.abs(one[np.isfinite(one)]).max(initial=0.0)), 1e-6)
    return float(np.abs(one - other)[~same].max() / scale)
