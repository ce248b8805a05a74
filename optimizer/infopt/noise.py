"""Judges changed models without labels: how far their outputs are from the float model's."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.concatenated import Cut
from infopt.concatenated import pieces as cuts_of
from infopt.probe import opened
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.passes import CalibrationSet


SPREAD_OVER = 8
"""Samples whose spread tells what an output says of each of them."""

LEAST_SPREAD = 1e-4
"""A piece of an output counts as spread by this part of its power at least: some say the same of every sample."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a float output, judged by itself.

    Attributes:
        output: Position of the output.
        cut: Where in it the piece lies.
        signal: Power of what it says, summed over the samples.
    """

    output: int
    cut: Cut
    signal: float


@dataclass(frozen=True, slots=True)
class OutputJudge:
    """Compares with the float model on samples that it was given.

    Attributes:
        feeds: The samples.
        reference: The float model's outputs, by sample.
        pieces: What of the outputs is judged by itself; none where there are no float outputs.
        folder: For files that only live during a run.
        seconds: What one sample took, opening included.
    """

    feeds: tuple[Feed, ...]
    reference: tuple[list[Any], ...]
    pieces: tuple[Piece, ...]
    folder: Path
    seconds: float = 0.0

    @property
    def judges(self) -> bool:
        """Whether there is a float output to judge by."""
        return bool(self.pieces)

    def noise(self, graph: ir.Model) -> float:
        """Power of the error of the float outputs over that of what they say, the mean of their pieces.

        What an output says is how it differs from sample to sample: what is the same for all, such as the anchors of a
        detector, is no signal. Pieces are what was concatenated to the output. It is infinite if anything is NaN. Of a
        model without float outputs, it is the part of the numbers that are not the same.

        The graph runs in ONNX Runtime with Q/DQ as written, which is what every target computes but for rounding.

        Args:
            graph: The quantized model, with the float model's outputs.
        """
        return self.distance(_outputs(graph, self.feeds, self.folder))

    def distance(self, outputs: Sequence[list[Any]]) -> float:
        """The same of outputs that something gave for the samples; see :meth:`noise`."""
        if self.judges:
            return float(np.mean([_ratio(piece, self.reference, outputs) for piece in self.pieces]))
        told = [i for i, kind in enumerate(_kinds(self.reference[0])) if kind and kind in "iub"]
        shares = [_mismatch([r[i] for r in self.reference], [o[i] for o in outputs]) for i in told]
        return float(np.mean(shares)) if shares else 0.0

    def thinned(self, most: int) -> OutputJudge:
        """A judge with at most so many of the samples, spread over all of them."""
        count = len(self.feeds)
        chosen = [i * count // most for i in range(most)] if count > most else range(count)
        feeds, reference = tuple(self.feeds[i] for i in chosen), tuple(self.reference[i] for i in chosen)
        pieces = tuple(_measured(reference, [(piece.output, piece.cut) for piece in self.pieces]))
        return OutputJudge(feeds, reference, pieces, self.folder, self.seconds)


def output_judge(graph: ir.Model, samples: CalibrationSet, folder: Path) -> OutputJudge:
    """A judge that knows what a float model gives on samples.

    Args:
        graph: The float model; where its shapes are inferred, outputs that were concatenated are judged in pieces.
        samples: What both are run on.
        folder: For files that only live during a run.
    """
    feeds, begun = tuple(samples.feeds()), time.monotonic()
    outputs = tuple(_outputs(graph, feeds, folder))
    kinds = _kinds(outputs[0]) if outputs else []
    cuts = [(i, cut) for i, kind in enumerate(kinds) if kind == "f" for cut in cuts_of(graph.graph.outputs[i])]
    measured = tuple(_measured(outputs, cuts))
    return OutputJudge(feeds, outputs, measured, folder, (time.monotonic() - begun) / max(len(feeds), 1))


def decibels(noise: float) -> float:
    """Signal-to-quantization-noise ratio in dB of a ratio of powers."""
    if noise <= 0:
        return math.inf
    return -10 * math.log10(noise) if math.isfinite(noise) else -math.inf


def _outputs(graph: ir.Model, feeds: Sequence[Feed], folder: Path) -> list[list[Any]]:
    own = Path(tempfile.mkdtemp(prefix="judge-", dir=folder))
    try:
        session = opened(graph, own, EMULATE)
        return [session.run(feed) for feed in feeds]
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _mismatch(reference: Sequence[Any], found: Sequence[Any]) -> float:
    """Part of the numbers that differ."""
    total = sum(expected.size for expected in reference)
    pairs = zip(reference, found, strict=True)
    wrong = sum(e.size if e.shape != g.shape else int((e != g).sum()) for e, g in pairs)
    return wrong / total if total else 0.0


def _kinds(outputs: Sequence[Any]) -> list[str]:
    return [output.dtype.kind if isinstance(output, np.ndarray) else "" for output in outputs]


def _measured(reference: Sequence[list[Any]], cuts: Iterable[tuple[int, Cut]]) -> Iterator[Piece]:
    """The pieces that are not empty."""
    for i, cut in cuts:
        if any(_cut(outputs[i], cut).size for outputs in reference):
            yield Piece(i, cut, _signal([_cut(outputs[i], cut) for outputs in reference]))


def _signal(arrays: Sequence[Any]) -> float:
    """Power of what differs between samples, summed over them; all of it where these are few or of many shapes."""
    power, count = sum(float(np.square(_finite(array)).sum()) for array in arrays), len(arrays)
    if count < SPREAD_OVER or len({array.shape for array in arrays}) > 1:
        return power
    total = np.zeros(arrays[0].shape)
    for array in arrays:
        total += _finite(array)
    spread = (power - float(np.square(total).sum()) / count) * count / (count - 1)
    return max(spread, LEAST_SPREAD * power)


def _ratio(piece: Piece, reference: Sequence[list[Any]], found: Sequence[list[Any]]) -> float:
    """Power of a piece's error over its signal's."""
    noise = 0.0
    for before, after in zip(reference, found, strict=True):
        expected, given = before[piece.output], after[piece.output]
        wanted = error = _finite(_cut(expected, piece.cut))
        if expected.shape == given.shape:  # where sizes depend on values, nothing is right
            there = np.isfinite(_cut(expected, piece.cut))
            error = np.where(there, _cut(given, piece.cut), 0) - wanted
        noise += float(np.square(error).sum())
    if not math.isfinite(noise):
        return math.inf
    return noise / piece.signal if piece.signal else noise


def _cut(array: Any, cut: Cut) -> Any:
    return array[tuple(slice(*cut[axis]) if axis in cut else slice(None) for axis in range(array.ndim))]


def _finite(array: Any) -> Any:
    """In float64, with 0 for what is not finite: a mask of infinities has no error."""
    return np.where(np.isfinite(array), array, 0).astype(np.float64)
