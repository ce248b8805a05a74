"""The verb ``simplify``: a smaller graph, with the proof that it computes the same."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infopt.data import infer_batch_axes
from infopt.errors import InfoptError, OptionError, RuntimeRefused
from infopt.model import Model, blamed_on, input_specs, load, save
from infopt.options import build
from infopt.output import staged_file
from infopt.passes import Context, run
from infopt.readers.synthetic import SyntheticSamples
from infopt.registry import pass_class
from infopt.targets.onnxruntime import open_onnx

PLAIN = {"graph_optimization_level": "0"}
"""Runs a graph as it is written: the proof is about the graph, not about what the runtime makes of it."""

PROOFS = 4
"""Made-up samples on which the outputs are compared."""


@dataclass(frozen=True, slots=True)
class Simplified:
    """What a simplification did.

    Attributes:
        path: The file that was written.
        nodes: Nodes before and after.
        bytes: Bytes of the weights before and after.
        difference: Largest difference of an output, relative to the output's largest value, over the proof's
            samples; ``None`` when nothing was run.
        unproven: Why nothing was run.
    """

    path: Path
    nodes: tuple[int, int]
    bytes: tuple[int, int]
    difference: float | None
    unproven: str | None


def simplify_file(
    model: Path, output: Path, verify: bool = True, force: bool = False, seed: int = 0, **options: Any
) -> Simplified:
    """Simplify an ONNX file.

    Args:
        model: The file to read.
        output: The file to write; its name ends in ``.onnx``.
        verify: Run both models on made-up samples and compare.
        force: Replace an existing file.
        seed: Seed of the samples.
        **options: Options of the ``simplify`` pass.

    Returns:
        What changed.

    Raises:
        InputError: A path or option that cannot be used.
        InfoptError: The proof failed; nothing is written.
    """
    if output.suffix != ".onnx":
        raise OptionError(f"{output} is not the name of an ONNX file", "give -o FILE.onnx")
    given = {name: value for name, value in options.items() if value is not None}
    step = build(pass_class("simplify"), given, "infopt simplify")
    before = load(model)
    with (
        staged_file(output, overwrite=force, protect=before.files) as staged,
        tempfile.TemporaryDirectory(prefix="infopt-") as work,
        blamed_on(model),
    ):
        after = run(before, [step], Context(Path(work), seed=seed))
        written = staged / output.name
        save(after.graph, written)
        difference, unproven = _prove(before, written, seed) if verify else (None, "not asked for")
        if difference is not None and not difference <= float(step.tolerance):  # NaN is no proof
            raise InfoptError(
                f"the simplified model differs by {difference:.2g} (relative), more than {step.tolerance}",
                "please report the model; nothing was written",
            )
    return Simplified(output, (before.nodes, after.nodes), (before.bytes, after.bytes), difference, unproven)


def _prove(before: Model, after: Path, seed: int) -> tuple[float | None, str | None]:
    """Largest relative difference of the outputs on made-up samples, or why it is unknown."""
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
