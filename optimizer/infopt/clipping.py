"""Whether evaluation samples are of the scale of the calibration samples: what is clipped, what is left unused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infopt.data import InputSpec, Samples, subset
from infopt.facts import FLOAT_SUFFIX
from infopt.model import Model, Range
from infopt.probe import opened, representable, values_by_name, with_clipping
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    from infopt.passes import CalibrationSet

SAMPLES = 32
"""Samples of each kind that are looked at, at most."""

MUCH_CLIPPED = 0.01
"""Share of a tensor's values that no way of choosing ranges leaves outside on purpose."""

LITTLE_USED = 0.04
"""Share of its range that a tensor uses, below which some five of its eight bits are lost."""

NAMED = 3
"""Tensors that a warning names."""


@dataclass(frozen=True, slots=True)
class Clipping:
    """What became of a quantized tensor on some samples.

    Attributes:
        clipped: Share of its values outside its range.
        used: Share of the range between its smallest and its largest value, zero included.
    """

    clipped: float
    used: float


def clipping(
    model: Model, samples: Samples, inputs: tuple[InputSpec, ...], seed: int, workdir: Path
) -> dict[str, Clipping]:
    """Measure how a quantized model's ranges fit samples, inside the runtime.

    Args:
        model: The quantized model.
        samples: What it is run on; at most :data:`SAMPLES` of them.
        inputs: The model's inputs.
        seed: Seed of the choice.
        workdir: Folder for files that only live during the run.

    Returns:
        What became of each quantized tensor that the graph still has, by name.
    """
    ranges = quantized_tensors(model)
    if not ranges:
        return {}
    session = opened(with_clipping(model.graph, ranges), workdir, EMULATE)
    batch = next((spec.fixed_batch for spec in inputs if spec.fixed_batch), None) or 1
    rows = [session.run(each.feed) for each in samples.batches(batch, subset(samples, SAMPLES, seed))]
    table = np.array(rows, np.float64).reshape(len(rows), len(ranges), 3)
    shares, lows, highs = table[..., 0].mean(axis=0), table[..., 1].min(axis=0), table[..., 2].max(axis=0)
    found = {}
    for (name, known), share, low, high in zip(ranges.items(), shares, lows, highs, strict=True):
        bottom, top = representable(known)
        found[name] = Clipping(float(share), float((max(high, 0) - min(low, 0)) / max(top - bottom, 1e-38)))
    return found


def quantized_tensors(model: Model) -> dict[str, Range]:
    """Range by name of the float tensor in the quantized graph; an output's got another name there."""
    values = values_by_name(model.graph.graph)
    named = {(split if (split := name + FLOAT_SUFFIX) in values else name): known for name, known in model.ranges}
    return {name: known for name, known in named.items() if name in values}


def doubts(evaluated: Mapping[str, Clipping], calibrated: Mapping[str, Clipping]) -> list[str]:
    """Warnings about tensors whose ranges do not fit the evaluation samples though they fit the calibration samples.

    Args:
        evaluated: What :func:`clipping` finds on evaluation samples.
        calibrated: The same on calibration samples.
    """
    said = []
    clipped = {n: c.clipped for n, c in evaluated.items() if c.clipped > max(MUCH_CLIPPED, 3 * calibrated[n].clipped)}
    if clipped:
        worst = sorted(clipped, key=lambda name: -clipped[name])
        listed = [f"{clipped[n]:.1%} of {n} ({calibrated[n].clipped:.1%} in calibration)" for n in worst[:NAMED]]
        said.append(f"evaluation samples leave the calibrated ranges: clipped are {_listed(listed, len(worst))}")
    unused = {n: c.used for n, c in evaluated.items() if c.used < min(LITTLE_USED, calibrated[n].used / 4)}
    if unused:
        worst = sorted(unused, key=lambda name: unused[name])
        listed = [f"{unused[n]:.2%} by {n} ({calibrated[n].used:.0%} in calibration)" for n in worst[:NAMED]]
        said.append(f"evaluation samples use little of the calibrated ranges: {_listed(listed, len(worst))}")
    return [f"{text}; are both prepared the same way?" for text in said]


def scale_warnings(
    model: Model, calibration: CalibrationSet, evaluation: Samples, seed: int, workdir: Path
) -> tuple[str, ...]:
    """What there is to say about the scales of calibration and evaluation samples; see :func:`doubts`."""
    evaluated = clipping(model, evaluation, calibration.inputs, seed, workdir)
    odd = [each for each in evaluated.values() if each.clipped > MUCH_CLIPPED or each.used < LITTLE_USED]
    if not odd:
        return ()
    return tuple(doubts(evaluated, clipping(model, calibration.samples, calibration.inputs, seed, workdir)))


def _listed(parts: list[str], count: int) -> str:
    more = f" and {count - len(parts)} more" if count > len(parts) else ""
    return ", ".join(parts) + more
