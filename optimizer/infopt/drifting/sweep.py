"""Looks at samples one by one: their inputs and, with a model, its outputs and what its scales clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infopt.clipping import quantized_tensors
from infopt.data import Batch, InputSpec, Samples
from infopt.drifting.describe import CLASSES, CLIPPED, Facts, describe
from infopt.drifting.kinds import View, input_view, output_view
from infopt.drifting.profile import Recorder
from infopt.drifting.sketch import LARGEST, K
from infopt.model import Model
from infopt.probe import opened, with_clipping
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    from infopt.target import Session

MOST = K
"""Samples of a profile: with no more, its sketches hold every number, and equal runs write equal files."""

RUNS = 128
"""Runs of a profile: inputs are looked at without one, which is cheap."""

INSIDE = 16
"""Runs of a profile in which tensors are looked into, which takes several times as long as to run alone."""

LOOKED_AT = 4096
"""Values of a quantized tensor that are looked at in a sample, about: more would cost more than the model."""

Seen = list[tuple[str, str, Facts]]
"""What is known of one sample: of which tensor ("input", its name), and what."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A model that tells its outputs and clipping rates.

    Attributes:
        session: Runs it and looks into its tensors.
        plain: Runs it alone.
        outputs: Names of its outputs.
        tensors: Names of its quantized tensors.
        most: Runs that look into tensors; ``None`` for all.
    """

    session: Session
    plain: Session
    outputs: tuple[str, ...]
    tensors: tuple[str, ...]
    most: int | None = None

    def run(self, batch: Batch, size: int, inside: bool) -> list[Seen]:
        """Run a batch.

        Args:
            batch: The samples.
            size: Samples in it with those that only fill it.
            inside: Whether to look into tensors.

        Returns:
            What is known of each sample; what is known of the batch alone stands with its first.
        """
        results = (self.session if inside else self.plain).run(batch.feed)
        seen: list[Seen] = [[] for _ in range(batch.count)]
        for name, array in zip(self.outputs, results, strict=False):
            for index, row in enumerate(_rows(array, size)[: batch.count]):
                seen[index].append(("output", name, _output(row)))
        shares = results[len(self.outputs) :: 3]
        for name, share in zip(self.tensors if inside else (), shares, strict=True):
            seen[0].append(("tensor", name, Facts({("", CLIPPED): float(share)}, {}, {})))
        return seen


def probe(model: Model, workdir: Path, most: int | None = None) -> Probe:
    """Open a model to be looked into.

    Q/DQ runs as written, so that the result is the same on every processor; of a quantized tensor the float side is
    looked at, every so many-th value.

    Args:
        model: The quantized model, with its ranges; one without is asked for its outputs alone.
        workdir: Folder for files that only live during the run.
        most: Runs that look into tensors, spread evenly over the samples; ``None`` for all.

    Raises:
        RuntimeRefused: ONNX Runtime cannot create a session.
    """
    ranges = quantized_tensors(model)
    graph = with_clipping(model.graph, ranges, LOOKED_AT, outputs=True)
    session = opened(graph, _folder(workdir, "inside"), EMULATE)
    plain = session if most is None else opened(model.graph, _folder(workdir, "plain"), EMULATE)
    return Probe(session, plain, model.output_names, tuple(ranges), most)


def sweep(
    samples: Samples,
    inputs: tuple[InputSpec, ...],
    model: Probe | None,
    chosen: np.ndarray,
    seed: int,
    progress: Callable[[int, int], None],
) -> Recorder:
    """Look at samples.

    Args:
        samples: The samples.
        inputs: The model's inputs.
        model: The model; ``None`` looks at inputs alone.
        chosen: Indices of the samples.
        seed: Seed of the choice of values.
        progress: Called with (done, total).
    """
    recorder, groups = Recorder(max(K, min(len(chosen), LARGEST))), samples.groups
    for index, seen in zip(chosen, observed(samples, inputs, model, chosen, seed), strict=True):
        for of, name, facts in seen:
            recorder.add(of, name, facts)
        recorder.count(None if groups is None else np.asarray(groups)[index].tolist())
        progress(recorder.samples, len(chosen))
    return recorder


def observed(
    samples: Samples, inputs: tuple[InputSpec, ...], model: Probe | None, chosen: np.ndarray, seed: int
) -> Iterator[Seen]:
    """What is known of each of the chosen samples, in their order."""
    rng = np.random.default_rng(seed)
    views = [(spec, input_view(spec.dtype, _without_batch(spec))) for spec in inputs if spec.batch_axis is not None]
    values = max(1, K // max(len(chosen), 1))
    size = next((spec.fixed_batch for spec in inputs if spec.fixed_batch), None) or 1
    runs = -(-len(chosen) // size)
    bounded = model is not None and model.most is not None
    outside = _spread(runs, RUNS if bounded else runs)
    inside = _spread(runs, model.most) if model and model.most else outside
    for number, batch in enumerate(samples.batches(1, chosen)):
        told: list[Seen] = [[] for _ in range(batch.count)]
        if model and (number in outside or number in inside):
            told = model.run(batch, size, number in inside)
        for index in range(batch.count):
            yield [*_inputs(batch, views, index, rng, values), *told[index]]


def _spread(runs: int, most: int) -> set[int]:
    """Evenly over all: samples are often sorted by what is in them."""
    return set(np.linspace(0, runs - 1, min(runs, most)).astype(int).tolist())


def _folder(workdir: Path, name: str) -> Path:
    (workdir / name).mkdir()
    return workdir / name


def _inputs(
    batch: Batch, views: Sequence[tuple[InputSpec, View]], index: int, rng: np.random.Generator, values: int
) -> Iterator[tuple[str, str, Facts]]:
    for spec, view in views:
        sample = batch.feed[spec.name].take(index, axis=spec.batch_axis)
        yield "input", spec.name, describe(np.asarray(sample), view, rng, values)


def _without_batch(spec: InputSpec) -> tuple[int | str | None, ...]:
    return tuple(size for axis, size in enumerate(spec.shape) if axis != spec.batch_axis)


def _rows(array: object, size: int) -> list[np.ndarray]:
    """An output by samples; none where it cannot be told apart by them, or is no tensor of numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.hasobject or not array.size:
        return []
    if array.ndim and array.shape[0] == size:
        return [array[index, ...] for index in range(size)]
    return [array] if size == 1 else []


def _output(row: np.ndarray) -> Facts:
    if row.dtype.kind in "biu":
        return Facts({}, {CLASSES: [str(row.item())]} if row.size == 1 else {}, {})
    return describe(row, output_view(row.shape), np.random.default_rng(0))
