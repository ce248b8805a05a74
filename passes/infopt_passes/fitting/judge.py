"""Judges models without labels: how far their outputs are from the float model's."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.passes import CalibrationSet, Context
from infopt.probe import opened
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    from infopt.data import Feed


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares with the float model on samples that it was given.

    Attributes:
        feeds: The samples.
        reference: The float model's outputs, by sample.
        folder: For files that only live during a run.
    """

    feeds: tuple[Feed, ...]
    reference: tuple[list[Any], ...]
    folder: Path

    def noise(self, graph: ir.Model) -> float:
        """Power of the error of the float outputs over their own power, the mean of the outputs; infinite if NaN.

        Of a model without float outputs, it is the part of the numbers that are not the same.

        The graph runs in ONNX Runtime with Q/DQ as written, which is what every target computes but for rounding.

        Args:
            graph: The quantized or pruned model, with the float model's outputs.
        """
        outputs, first = self._outputs(graph), self.reference[0]
        kinds = [output.dtype.kind if isinstance(output, np.ndarray) else "" for output in first]
        measure = _ratio if "f" in kinds else _mismatch
        told = [i for i, kind in enumerate(kinds) if kind == "f" or (measure is _mismatch and kind in "iub" and kind)]
        ratios = [measure([r[i] for r in self.reference], [o[i] for o in outputs]) for i in told]
        return float(np.mean(ratios)) if ratios else 0.0

    def thinned(self, most: int) -> Judge:
        """A judge with at most so many of the samples, spread over all of them."""
        count = len(self.feeds)
        chosen = [i * count // most for i in range(most)] if count > most else range(count)
        feeds, reference = tuple(self.feeds[i] for i in chosen), tuple(self.reference[i] for i in chosen)
        return Judge(feeds, reference, self.folder)

    def _outputs(self, graph: ir.Model) -> list[list[Any]]:
        folder = Path(tempfile.mkdtemp(prefix="judge-", dir=self.folder))
        try:
            session = opened(graph, folder, EMULATE)
            return [session.run(feed) for feed in self.feeds]
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def judge(graph: ir.Model, samples: CalibrationSet, context: Context) -> Judge:
    """A judge that knows what a float model gives on samples."""
    feeds = tuple(samples.feeds())
    bare = Judge(feeds, (), context.workdir)
    return Judge(feeds, tuple(bare._outputs(graph)), context.workdir)


def decibels(noise: float) -> float:
    """Signal-to-quantization-noise ratio in dB of a ratio of powers."""
    if noise <= 0:
        return math.inf
    return -10 * math.log10(noise) if math.isfinite(noise) else -math.inf


def _mismatch(reference: Sequence[Any], found: Sequence[Any]) -> float:
    """Part of the numbers that differ."""
    total = sum(expected.size for expected in reference)
    pairs = zip(reference, found, strict=True)
    wrong = sum(e.size if e.shape != g.shape else int((e != g).sum()) for e, g in pairs)
    return wrong / total if total else 0.0


def _ratio(reference: Sequence[Any], found: Sequence[Any]) -> float:
    """Power of the error over the signal's, where the signal is finite: a mask of infinities has no error."""
    signal = noise = 0.0
    for expected, given in zip(reference, found, strict=True):
        finite = np.isfinite(expected)
        wanted = expected[finite].astype(np.float64)
        # Sizes may depend on values: then nothing is right.
        error = given[finite] - wanted if expected.shape == given.shape else wanted
        noise += float(np.square(error).sum())
        signal += float(np.square(wanted).sum())
    if not math.isfinite(noise):
        return math.inf
    return noise / signal if signal else noise
