"""Why a quantized tensor loses: read off what its quantizer gets to see, on the quantizer's own grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.blaming.graph import Pair, QuantizedLayer, float_name, pair_of
from infopt.blaming.report import Cause
from infopt.blaming.restore import Restorer, stored_values
from infopt.blaming.sweep import SHARE, Moments, decibels, fetching, measured_bytes
from infopt.probe import values_by_name
from infopt.sizes import grouped
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    from infopt.passes import CalibrationSet

BULK = 0.999
"""Share of a tensor's values that make up its bulk."""

WIDE = 4.0
"""A range is far too wide from this multiple of what holds the bulk."""

CLIPPED_POWER = 0.5
"""Clipping is to blame from this part of the rounding error's power."""

LEVELS = 48
"""A tensor that uses fewer integers has lost more than two of its eight bits."""

MAGNITUDES = 8.0
"""Parts of a Concat are of mixed magnitude from this ratio of their peaks."""

TINY_STEPS = 4.0
"""A channel that never gets further than so many steps from zero is tiny."""

TINY_SHARE = 0.1
"""Share of the channels that are tiny from which on they are named."""

SHIFT = 0.3
"""Part of a layer's error that is a constant shift of its channels, from which on that is named."""

COARSE = 30.0
"""SQNR in dB of a rounded weight below which rounding it is named."""


@dataclass(slots=True)
class Grid:
    """What a quantizer got to see, on its own integers.

    Attributes:
        counts: How often each integer came out.
        values: Numbers seen.
        clipped: How many lay beyond the last integer.
        clip_power: Power of the error of these.
        power: Power of the whole rounding error.
        signal: Power of the tensor.
        peaks: Largest magnitude of each channel.
    """

    counts: npt.NDArray[np.int64]
    values: int = 0
    clipped: int = 0
    clip_power: float = 0.0
    power: float = 0.0
    signal: float = 0.0
    peaks: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(1))

    def add(self, array: npt.NDArray[Any], pair: Pair, axis: int) -> None:
        """Take in one run."""
        array = array[np.isfinite(array)] if not np.isfinite(array).all() else array
        bottom, top = pair.limits or (0, 0)
        steps = np.rint(array / np.float32(pair.scale)) + pair.zero_point
        whole = np.clip(steps, bottom, top)
        beyond = whole != steps
        error = (whole - pair.zero_point) * np.float32(pair.scale) - array
        self.counts += np.bincount((whole - bottom).astype(np.int64).reshape(-1), minlength=top - bottom + 1)
        self.values += array.size
        self.clipped += int(beyond.sum())
        self.clip_power += float(np.square(error[beyond], dtype=np.float64).sum())
        self.power += float(np.square(error, dtype=np.float64).sum())
        self.signal += float(np.square(array, dtype=np.float64).sum())
        if array.ndim > 1 and array.size:
            others = tuple(i for i in range(array.ndim) if i != axis % array.ndim)
            peaks = np.abs(array).max(axis=others)
            self.peaks = np.maximum(self.peaks, peaks) if self.peaks.shape == peaks.shape else peaks


@dataclass(frozen=True, slots=True)
class Seen:
    """What quantizers of a graph saw.

    Attributes:
        grids: By name of the tensor in front of the pair.
        parts: Peak of each input of a Concat that makes such a tensor, by name of that tensor.
    """

    grids: Mapping[str, Grid]
    parts: Mapping[str, Mapping[str, float]]


def look(
    graph: ir.Model, layers: Sequence[QuantizedLayer], samples: CalibrationSet, memory: int, workdir: Path
) -> Seen:
    """Run a quantized graph and look at what its quantizers get, in as many passes as memory asks for.

    Args:
        graph: The quantized model.
        layers: The layers whose tensors are looked at.
        samples: What it is run on.
        memory: Bytes that fetched tensors may take.
        workdir: Folder for files that only live during the run.
    """
    axes: dict[str, int] = {}
    pairs: dict[str, Pair] = {}
    for layer in layers:
        for pair in (*layer.inputs, *([layer.closing] if layer.closing else [])):
            if pair.limits and pair.tensor in values_by_name(graph.graph):
                pairs[pair.tensor], axes[pair.tensor] = pair, layer.axis
    joined = _joined(graph.graph, pairs)
    peaks = dict.fromkeys((name for parts in joined.values() for name in parts), 0.0)
    grids = {name: Grid(np.zeros(_levels(pair), np.int64)) for name, pair in pairs.items()}
    names = list(dict.fromkeys((*pairs, *peaks)))
    sizes = measured_bytes(graph, names, samples, workdir) if names else {}
    for group in grouped(names, sizes, memory // SHARE):
        session = fetching(graph, group, workdir, EMULATE)
        for feed in samples.feeds():
            for name, array in zip(group, session.run(feed), strict=True):
                if name in peaks and array.size:
                    peaks[name] = max(peaks[name], float(np.abs(array).max()))
                if name in grids:
                    grids[name].add(array, pairs[name], axes[name])
    return Seen(grids, {name: {part: peaks[part] for part in parts} for name, parts in joined.items()})


def causes(layer: QuantizedLayer, seen: Seen, moments: Moments | None, restorer: Restorer) -> tuple[Cause, ...]:
    """The reasons for a layer's error, those about what it reads first."""
    found: list[Cause] = []
    for pair in dict.fromkeys((*layer.inputs, *([layer.closing] if layer.closing else []))):
        if pair.tensor in seen.grids:
            found += _of_tensor(pair, seen.grids[pair.tensor])
            found += _of_concat(pair, seen.parts.get(pair.tensor, {}))
    if moments is not None and moments.shifted() >= SHIFT:
        part = moments.shifted()
        told = f"bias shift: {part:.0%} of the error of {layer.output} is a constant shift of its channels"
        found.append(Cause("bias shift", layer.output, told, {"share": part}))
    found += _of_weights(layer, restorer)
    return tuple(found) or tuple(_plain(layer, seen))


def _of_tensor(pair: Pair, grid: Grid) -> Iterator[Cause]:
    name, total = pair.name, max(grid.values, 1)
    if not grid.values or not grid.power:
        return
    if grid.clip_power >= CLIPPED_POWER * grid.power:
        share, part = grid.clipped / total, grid.clip_power / grid.power
        told = f"clipping: {share:.2%} of {name} lie outside its range, which makes {part:.0%} of its rounding error"
        yield Cause("clipping", name, told, {"clipped": share, "power": part, "sqnr_db": _sqnr(grid)})
    used = np.flatnonzero(grid.counts)
    span, bulk = int(used[-1] - used[0]) + 1, _bulk(grid.counts)
    wide = span / bulk
    if wide >= WIDE:
        told = f"outlier range: {BULK:.1%} of {name} lie within {bulk} of the {span} levels that its range has"
        yield Cause("outlier range", name, told, {"levels": bulk, "range": span, "sqnr_db": _sqnr(grid)})
    elif len(used) < LEVELS and len(used) < grid.values:
        told = f"few levels: {name} uses {len(used)} of {len(grid.counts)} integers"
        yield Cause("few levels", name, told, {"levels": len(used), "of": len(grid.counts), "sqnr_db": _sqnr(grid)})
    dead = int((grid.peaks == 0).sum())
    tiny = int(((grid.peaks > 0) & (grid.peaks <= TINY_STEPS * pair.scale)).sum())
    if len(grid.peaks) > 1 and tiny >= TINY_SHARE * len(grid.peaks):
        also = f", {dead} are always zero" if dead else ""
        told = f"tiny channels: {tiny} of {len(grid.peaks)} of {name} never reach {TINY_STEPS:g} steps{also}"
        yield Cause("tiny channels", name, told, {"tiny": tiny, "dead": dead, "channels": len(grid.peaks)})


def _of_concat(pair: Pair, parts: Mapping[str, float]) -> Iterator[Cause]:
    joined = next(iter(parts), "")
    sound = {name: peak for name, peak in parts.items() if peak > 0 and name != joined}
    if len(sound) < 2:
        return
    small, large = min(sound, key=lambda n: sound[n]), max(sound, key=lambda n: sound[n])
    ratio = sound[large] / sound[small]
    if ratio < MAGNITUDES:
        return
    steps = sound[small] / pair.scale
    names = [float_name(name) for name in (large, small)]
    told = (
        f"mixed-magnitude Concat: {names[0]} in {float_name(joined)} reaches {sound[large]:.3g}, "
        f"{names[1]} {sound[small]:.3g}: "
        f"one scale leaves it {steps:.1f} steps"
    )
    yield Cause("mixed-magnitude Concat", pair.name, told, {"ratio": ratio, "steps": steps})


def _plain(layer: QuantizedLayer, seen: Seen) -> Iterator[Cause]:
    """What is left to say where nothing stands out: how well the worst of a layer's inputs survives rounding."""
    known = {pair: _sqnr(seen.grids[pair.tensor]) for pair in layer.inputs if pair.tensor in seen.grids}
    known = {pair: sqnr for pair, sqnr in known.items() if math.isfinite(sqnr)}
    if known:
        pair = min(known, key=lambda each: known[each])
        told = f"rounding: {pair.name} keeps {known[pair]:.1f} dB; its range fits it, and nothing else stands out"
        yield Cause("rounding", pair.name, told, {"sqnr_db": known[pair]})


def _of_weights(layer: QuantizedLayer, restorer: Restorer) -> Iterator[Cause]:
    node = next((node for node in restorer.graph.graph if node.name == layer.name), None)
    for index in layer.weights if node is not None else ():
        assert node is not None
        value = node.inputs[index]
        assert value is not None
        array = restorer.weight(node, index, value)
        if array is None or array.ndim < 2:
            continue
        noise = float(np.square(stored_values(value) - array, dtype=np.float64).sum())
        signal = float(np.square(array, dtype=np.float64).sum())
        sqnr = decibels(noise / signal) if signal else None
        if sqnr is not None and sqnr < COARSE:
            name = (value.name or "").removesuffix(":dequantized")
            yield Cause("weight rounding", name, f"weight rounding: {name} keeps {sqnr:.1f} dB", {"sqnr_db": sqnr})


def _joined(graph: ir.Graph, pairs: Mapping[str, Pair]) -> dict[str, list[str]]:
    """The computed inputs of the Concat whose scale a tensor's is, by name of the tensor; its own name first.

    The pair is behind the Concat, or where the runtime wants none there, the parts share one in front of it.
    """
    found, values = dict[str, list[str]](), values_by_name(graph)
    for node in graph:
        if node.op_type != "Concat":
            continue
        parts = [_float_side(value) for value in node.inputs if value is not None]
        output, shared = node.outputs[0].name or "", [pair for v in node.inputs if (pair := pair_of(v))]
        names = [output] if output in pairs else []
        if len({pair.scale for pair in shared}) == 1 and len(shared) > 1:
            names += [pair.tensor for pair in shared[:1] if pair.tensor in pairs]
        found.update({name: [output, *(part for part in parts if part in values)] for name in names})
    return found


def _float_side(value: ir.Value) -> str:
    pair = pair_of(value)
    return pair.tensor if pair else value.name or ""


def _bulk(counts: npt.NDArray[np.int64]) -> int:
    """Levels of the narrowest run of integers around the middle that holds the bulk of the values."""
    passed = np.cumsum(counts)
    outside = (1 - BULK) / 2 * passed[-1]
    low = int(np.searchsorted(passed, outside, side="right"))
    high = int(np.searchsorted(passed, passed[-1] - outside, side="left"))
    return max(high - low + 1, 1)


def _sqnr(grid: Grid) -> float:
    if grid.signal <= 0:
        return -math.inf
    return 10 * math.log10(grid.signal / grid.power) if grid.power > 0 else math.inf


def _levels(pair: Pair) -> int:
    bottom, top = pair.limits or (0, 0)
    return top - bottom + 1
