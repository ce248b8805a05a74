"""Collects the moments of many layers' inputs in one sweep over the samples, or in as many as memory asks for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from infopt.bodies import homes
from infopt.model import Range
from infopt.passes import Context
from infopt.probe import Spot, opened, with_outputs
from infopt_passes.calibrate.sizes import tensor_bytes
from infopt_passes.calibrate.sweep import Streams, streams, sweep
from infopt_passes.fitting.layout import Layout
from infopt_passes.fitting.moments import Adder, Moments
from infopt_passes.fitting.patches import chosen

Array = npt.NDArray[Any]

SHARE = 4
"""Activations under way, and sums, may each take this part of the memory budget."""

ROWS = 8192
"""Rows of a layer that all runs together give, about: some more than there are columns in most layers."""

LEAST_ROWS, MOST_ROWS = 16, 512
"""Rows of one run, at least and at most, where it has so many."""

HELD = 4
"""Of so many runs, one is held back to check fits with, where both models run."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A layer whose input is looked at.

    Attributes:
        node: The layer, in the float graph.
        layout: How it is a product.
        known: Range that its input is quantized with; ``None`` for one that stays float.
        other: The tensor that it reads in another graph, instead of a quantized copy of the float one.
        home: Name of a node of the body that it is in; empty in the main graph.
        source: Name of the tensor that it reads in the float graph, where that is not the node's first input.
    """

    node: ir.Node
    layout: Layout
    known: Range | None = None
    other: str | Spot | None = None
    home: str = ""
    source: str | None = None

    @property
    def name(self) -> str:
        """Name of the tensor that it reads in the float graph."""
        if self.source is not None:
            return self.source
        value = self.node.inputs[0]
        return (value.name if value is not None else None) or ""

    @property
    def key(self) -> tuple[Any, ...]:
        """Readings of one key have the same moments."""
        return (self.spot, self.known, self.other, *self.layout.key)

    @property
    def spot(self) -> str | Spot:
        """What it reads in the float graph: the tensor, or the tensor as the layer's body sees it."""
        return (self.name, self.home) if self.home else self.name


def sights(graph: ir.Graph) -> dict[ir.Graph, str]:
    """The main graph and the bodies with nodes in them, with what :attr:`Reading.home` is there."""
    return {graph: "", **homes(graph)}


def moments(
    graph: ir.Model,
    readings: Sequence[Reading],
    context: Context,
    other: ir.Model | None = None,
    rows: int = ROWS,
) -> Iterator[tuple[Reading, Moments]]:
    """Run the calibration samples and hand out each layer's moments.

    Whole tensors are fetched, some rows of each are drawn with the context's seed, the same ones in both graphs, and
    added up; layers that read the same rows share the sums. Of a layer in a body, that is what it reads in all runs of
    the body.

    Args:
        graph: The float model.
        readings: The layers. They come back in this order, in groups that fit into memory together: use each before
            asking for the next.
        context: Brings samples, memory and seed.
        other: The quantized model, where readings name a tensor of it; it runs as it is written, without integer
            kernels. Products of float rows and rows as read are collected then, and some runs are held back.
        rows: Rows of a layer that all runs together give, about.
    """
    if not readings:
        return
    samples = context.need_calibration("fit")
    folder = Path(tempfile.mkdtemp(prefix="moments-", dir=context.workdir))
    sizes = tensor_bytes(graph, list(dict.fromkeys(r.spot for r in readings)), next(samples.feeds()), folder)
    copies = 2 if other is None else 4  # an output is copied out of the runtime
    budget = context.memory // SHARE
    share = streams(copies * sum(sizes.values()), budget)
    for group in _groups(readings, sizes, budget // (copies * (share.count + 1)), budget, other is not None):
        adders = {reading.key: _adder(reading, other is not None) for reading in group}
        held = {reading.key: _adder(reading, True) for reading in group} if other is not None else {}
        first = {reading.key: reading for reading in reversed(group)}
        # The runtime has all processors: threads of small products would only take them from it.
        with threadpool_limits(1, user_api="blas"):
            ran = dict.fromkeys(first, 0)
            for run, pairs in enumerate(_pairs(graph, other, list(first.values()), context, share, rows)):
                for key, pair in pairs.items():
                    (held if held and ran[key] % HELD == HELD - 1 else adders)[key].add(*pair)
                    ran[key] += bool(pair[0].shape[1])  # a body does not run every time
                context.progress("looking at layers", run + 1, samples.runs)
        done: dict[tuple[Any, ...], Moments] = {}
        for reading in group:
            if reading.key not in done:
                apart = held.pop(reading.key).moments() if held else None
                done[reading.key] = replace(adders.pop(reading.key).moments(), held=apart)
            yield reading, done[reading.key]
    shutil.rmtree(folder, ignore_errors=True)


def fake_quantized(data: Array, known: Range) -> Array:
    """Data as they come out of a Q/DQ pair, float32; unchanged for a type that is not an integer."""
    if "int" not in known.dtype:
        return data
    info = np.iinfo(known.dtype)
    steps = np.rint(data / np.float32(known.scale))
    low, high = info.min - known.zero_point, info.max - known.zero_point
    return np.clip(steps, low, high, out=steps) * np.float32(known.scale)


def _adder(reading: Reading, crossed: bool) -> Adder:
    return Adder(reading.layout.groups, reading.layout.columns, crossed)


def _groups(
    readings: Sequence[Reading], sizes: Mapping[str | Spot, int], activations: int, sums: int, crossed: bool
) -> list[list[Reading]]:
    """Split readings into runs whose tensors and sums fit into memory, where single ones allow it."""
    groups: list[list[Reading]] = []
    tensors: set[str | Spot] = set()
    keys: dict[tuple[Any, ...], int] = {}
    for reading in readings:
        more, size = {*tensors, reading.spot}, _adder(reading, crossed).bytes * (2 if crossed else 1)
        full = sum(sizes[name] for name in more) > activations or sum({**keys, reading.key: size}.values()) > sums
        if not groups or full:
            groups.append([])
            tensors, keys, more = set(), {}, {reading.spot}
        groups[-1].append(reading)
        tensors, keys[reading.key] = more, size
    return groups


def _pairs(
    graph: ir.Model, other: ir.Model | None, readings: Sequence[Reading], context: Context, share: Streams, rows: int
) -> Iterator[dict[tuple[Any, ...], tuple[Array, Array]]]:
    """Float rows and rows as read, of each reading, run by run."""
    samples = context.need_calibration("fit")
    limit = int(np.clip(-(-rows // samples.runs), LEAST_ROWS, MOST_ROWS))
    spots = list(dict.fromkeys(reading.spot for reading in readings))
    floats = _outputs(graph, spots, context, share)
    others = [] if other is None else list(dict.fromkeys(reading.other or "" for reading in readings))
    quantizeds = _outputs(other or graph, others, context, share)
    with closing(floats), closing(quantizeds):
        for run, found in enumerate(floats):
            quantized = next(quantizeds) if others else {}
            pairs = {}
            for reading in readings:
                given, rng = found[reading.spot], partial(_rng, context, run)
                if reading.other is None:
                    exact = _rows(reading.layout, _filled(given), limit, rng())
                    read = exact if reading.known is None else fake_quantized(exact, reading.known)
                else:
                    both = _alike(given, quantized[reading.other])
                    exact, read = (_rows(reading.layout, side, limit, rng()) for side in both)
                pairs[reading.key] = exact, read
            yield pairs


def _filled(given: Array | list[Array]) -> list[Array]:
    """What a tensor was in each run of its body, or in the only run of the main graph; empty ones are left out."""
    return [array for array in (given if isinstance(given, list) else [given]) if array.size]


def _alike(given: Array | list[Array], other: Array | list[Array]) -> tuple[list[Array], list[Array]]:
    """The same of two graphs, as far as both ran alike: what a Loop or an If asks for may depend on the data."""
    first, second = (each if isinstance(each, list) else [each] for each in (given, other))
    pairs = [(a, b) for a, b in zip(first, second, strict=False) if a.size and a.shape == b.shape]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _rows(layout: Layout, given: Sequence[Array], limit: int, rng: np.random.Generator) -> Array:
    """Rows of a layer's input, about as many from each run of its body."""
    if not given:
        return np.zeros((layout.groups, 0, layout.columns), np.float32)
    some = [given[i] for i in chosen(len(given), limit, rng)]
    parts = [layout.rows(array, -(-limit // len(some)), rng) for array in some]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _outputs(
    graph: ir.Model, names: Sequence[str | Spot], context: Context, share: Streams
) -> Generator[dict[str | Spot, Array | list[Array]], None, None]:
    """Tensors of a graph by name, run by run."""
    from infopt.targets.onnxruntime import EMULATE

    samples = context.need_calibration("fit")
    folder = Path(tempfile.mkdtemp(prefix="moments-", dir=context.workdir))
    session = opened(with_outputs(graph, names), folder, {**share.settings, **EMULATE})
    shutil.rmtree(folder)  # the runtime has mapped or copied the weights
    for arrays in sweep(session, samples.feeds(), share.count):
        yield dict(zip(names, arrays, strict=True))


def _rng(context: Context, run: int) -> np.random.Generator:
    """The generator of one run: all layers and both graphs draw alike."""
    return np.random.default_rng([context.seed, run])
