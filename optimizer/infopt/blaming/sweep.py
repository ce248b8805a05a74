"""Compares the tensors of two graphs on the same samples, reduced as they come; nothing is collected."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.blaming.graph import QuantizedLayer, quantized_layers, rescaled
from infopt.probe import opened, values_by_name, with_outputs
from infopt.report import Layer
from infopt.sizes import grouped, tensor_bytes
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.passes import CalibrationSet
    from infopt.targets.onnxruntime import OnnxSession

Floats = npt.NDArray[np.float64]

SHARE = 8
"""Tensors that are fetched at once take this part of the memory budget, of each graph: they are copied once."""

MOST_SAMPLES = 16
"""Samples that tell a layer's error well enough: each brings thousands of numbers of each tensor."""

MOST_DB = 100.0
"""Decibels beyond which, either way, nobody asks for more."""

MOST_BYTES = 256_000_000
"""Bytes of tensors of one graph that the evidence of a run compares, so that it stays a small part of evaluation."""


@dataclass(slots=True)
class Moments:
    """What is known of the error of one tensor, per channel.

    Attributes:
        error: Sum of the squares of candidate minus reference.
        signal: Sum of the squares of the reference.
        product: Sum of error times reference.
        shift: Sum of the error.
        count: Numbers of each channel.
    """

    error: Floats = field(default_factory=lambda: np.zeros(1))
    signal: Floats = field(default_factory=lambda: np.zeros(1))
    product: Floats = field(default_factory=lambda: np.zeros(1))
    shift: Floats = field(default_factory=lambda: np.zeros(1))
    count: float = 0.0

    def add(self, reference: npt.NDArray[Any], given: npt.NDArray[Any], axis: int) -> None:
        """Take in one run; what is infinite in the reference, such as a mask, has no error.

        Args:
            reference: The float model's tensor.
            given: The candidate's, of the same shape; of another, all of it is wrong.
            axis: That of the channels.
        """
        if reference.shape != given.shape:
            given = np.zeros_like(reference)
        wide = _channels(reference, axis), _channels(given, axis)
        sums = _sums(*wide)
        if not np.isfinite(sums).all():
            kept = np.isfinite(wide[0])
            exact = (np.where(kept, array, 0.0).astype(np.float64) for array in wide)
            sums = _sums(*exact)
        # Channels may come and go with a dynamic axis: then they are one.
        if self.count and sums.shape[1] != len(self.error):
            sums = sums.sum(axis=1, keepdims=True)
            for name in ("error", "signal", "product", "shift"):
                setattr(self, name, getattr(self, name).sum(keepdims=True))
        self.error, self.signal = self.error + sums[0], self.signal + sums[1]
        self.product, self.shift = self.product + sums[2], self.shift + sums[3]
        self.count += reference.size / max(sums.shape[1], 1)

    def noise(self, factors: bool = False) -> float:
        """Power of the error over the signal's; infinite if it is not a number.

        Args:
            factors: Let each channel differ by a factor: equalization gave channels other scales, which is no error.
        """
        error, signal = self.error, float(self.signal.sum())
        if factors:
            with np.errstate(divide="ignore", invalid="ignore"):
                error = error - np.where(self.signal > 0, np.square(self.product) / self.signal, 0.0)
                # The error that is left is in the candidate's scale.
                gain = np.where(self.signal > 0, 1 + self.product / self.signal, 1.0)
                error = np.maximum(error, 0.0) / np.where(gain > 0, np.square(gain), 1.0)
        total = float(error.sum())
        if not math.isfinite(total):
            return math.inf
        return total / signal if signal else total

    def shifted(self) -> float:
        """Part of the error's power that is a constant shift of each channel, 0 to 1."""
        total = float(self.error.sum())
        constant = float((np.square(self.shift) / max(self.count, 1)).sum())
        return constant / total if total > 0 and math.isfinite(total) else 0.0


def compare(
    reference: ir.Model,
    candidate: ir.Model,
    layers: Sequence[QuantizedLayer],
    samples: CalibrationSet,
    memory: int,
    workdir: Path,
) -> dict[str, Moments]:
    """Run both graphs over the samples, and reduce what layers give.

    Args:
        reference: The float model.
        candidate: The quantized model.
        layers: Which tensors; those that the float model does not have are left out.
        samples: What both are run on.
        memory: Bytes that tensors may take that are fetched at once; where they do not fit, there are more passes.
        workdir: Folder for files that only live during the run.

    Returns:
        What became of each layer's output, by the layer's name.
    """
    known, made = values_by_name(reference.graph), values_by_name(candidate.graph)
    compared = [layer for layer in layers if layer.output in known and layer.measured in made]
    if not compared:
        return {}
    sizes = measured_bytes(candidate, [layer.measured for layer in compared], samples, workdir)
    by_name = {layer.name: sizes[layer.measured] for layer in compared}
    found = {layer.name: Moments() for layer in compared}
    for group in grouped(list(by_name), by_name, memory // SHARE):
        some = [layer for layer in compared if layer.name in set(group)]
        first = fetching(reference, [layer.output for layer in some], workdir, {})
        second = fetching(candidate, [layer.measured for layer in some], workdir, EMULATE)
        for feed in samples.feeds():
            for layer, wanted, given in zip(some, first.run(feed), second.run(feed), strict=True):
                found[layer.name].add(wanted, given, layer.axis)
    return found


def layer_errors(
    reference: ir.Model, candidate: ir.Model, samples: CalibrationSet, memory: int, workdir: Path
) -> tuple[Layer, ...]:
    """The report's ``layers``: how far each layer's output moved, in the graph's order, at little cost.

    Looks at no more than :data:`MOST_SAMPLES` samples, and fewer of a model with large tensors.

    Args:
        reference: The float model.
        candidate: The quantized model.
        samples: Calibration samples, labels are not needed.
        memory: Bytes for tensors and for both models' weights.
        workdir: Folder for files that only live during the run.
    """
    layers = quantized_layers(candidate.graph)
    if not layers:
        return ()
    some = samples.thinned(MOST_SAMPLES)
    sizes = measured_bytes(candidate, [layer.measured for layer in layers], some, workdir)
    some = some.thinned(max(1, min(MOST_SAMPLES, MOST_BYTES // max(sum(sizes.values()), 1))))
    moments = compare(reference, candidate, layers, some, memory, workdir)
    factors = rescaled(candidate.graph)
    noises = {layer: moments[layer.name].noise(factors) for layer in layers if layer.name in moments}
    return tuple(_told(layer, noise) for layer, noise in noises.items())


def _told(layer: QuantizedLayer, noise: float) -> Layer:
    why = None if math.isfinite(noise) else "its output is not finite"
    return Layer(layer.name, layer.op, decibels(noise), why=why)


def decibels(noise: float) -> float | None:
    """Signal-to-quantization-noise ratio in dB of a ratio of powers, at most 100 either way; ``None`` without noise.

    What is not finite is at the bottom: in JSON an infinity would be null, as where nothing moved.
    """
    if noise <= 0:
        return None
    return max(min(-10 * math.log10(noise), MOST_DB), -MOST_DB) if math.isfinite(noise) else -MOST_DB


def measured_bytes(graph: ir.Model, names: Iterable[str], samples: CalibrationSet, workdir: Path) -> Mapping[str, int]:
    """Bytes of a graph's tensors when it runs on a sample."""
    folder = Path(tempfile.mkdtemp(prefix="sizes-", dir=workdir))
    try:
        known = values_by_name(graph.graph)
        listed = [name for name in dict.fromkeys(names) if name in known]
        return dict.fromkeys(names, 0) | tensor_bytes(graph, listed, _first(samples), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetching(graph: ir.Model, names: Sequence[str], workdir: Path, settings: Mapping[str, str]) -> OnnxSession:
    """A session that gives whole tensors of a graph."""
    clone = graph.clone()
    values = values_by_name(clone.graph)
    for name in names:
        if values[name].type is None:  # what is quantized is float; a file need not say so
            values[name].type = ir.TensorType(ir.DataType.FLOAT)
    folder = Path(tempfile.mkdtemp(prefix="tensors-", dir=workdir))
    try:
        return opened(with_outputs(clone, names), folder, settings)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the runtime has mapped or copied the weights


def _first(samples: CalibrationSet) -> Feed:
    return next(iter(samples.feeds()))


def _channels(array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """A tensor as (rows, channels, rest)."""
    if array.ndim < 2:
        return array.reshape(-1, 1, 1)
    if axis == 1:
        return array.reshape(array.shape[0], array.shape[1], -1)
    return array.reshape(-1, array.shape[-1], 1)


def _sums(reference: npt.NDArray[Any], given: npt.NDArray[Any]) -> Floats:
    """The four sums of each channel; sums of a row are float32, those over rows float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = given - reference
        kinds = (error, error), (reference, reference), (error, reference)
        if reference.shape[2] > 1:
            rows = [np.einsum("ncr,ncr->nc", *pair) for pair in kinds]
            rows.append(error.sum(axis=2))
        else:
            rows = [(left * right)[..., 0] for left, right in kinds]
            rows.append(error[..., 0])
        return np.stack([row.sum(axis=0, dtype=np.float64) for row in rows])
