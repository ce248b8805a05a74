"""What the layers of a model under way read on calibration samples: one sweep for all, or wave by wave in order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from threadpoolctl import threadpool_limits

from infopt.facts import WEIGHT_INPUT, is_constant
from infopt.passes import Context
from infopt_passes.calibrate.sizes import tensor_bytes
from infopt_passes.calibrate.sweep import Streams, streams
from infopt_passes.fitting.gather import LEAST_ROWS, MOST_ROWS, Reading
from infopt_passes.fitting.layout import layout
from infopt_passes.prune.readings.drift import Drift, drift_of
from infopt_passes.prune.readings.padding import counted, padding_mask
from infopt_passes.prune.readings.stages import March, Twins, stages_of
from infopt_passes.prune.readings.sums import Seen, Sums

Array = npt.NDArray[Any]

Layers = Sequence[tuple[ir.Node, Reading]]
"""Layers as they are, each with a reading of it as it was."""

ROWS = 32768
"""Rows of a layer that all runs together give, about: least squares of new weights wants more than rounding does."""

PER_SQUARE, PER_WEIGHT = 32, 120
"""Bytes that a layer takes at most while it is fitted: for each pair of its columns (moments of fitted and held rows,
and a solve), and for each of its weights (targets, candidates and steps in float64)."""

HELD = 4
"""Of so many runs, one is held back to check fits with."""

SHARE = 4
"""Activations under way, and sums, may each take this part of the memory budget."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A model that is looked at as it is."""

    graph: ir.Model

    @property
    def exact(self) -> ir.Model:
        """The same."""
        return self.graph


def readings(work: Twins, context: Context) -> list[tuple[ir.Node, Reading]]:
    """Layers that can be looked at: each as it is, with a reading of it as it was."""
    found = []
    for exact, node in zip(work.exact.graph, work.graph.graph, strict=True):
        known = layout(exact)
        known = known if known and known.ordinary else None
        weight = node.inputs[WEIGHT_INPUT] if known else None
        data = exact.inputs[0] if known else None
        if (
            known is None
            or not known.ordinary
            or weight is None
            or weight.dtype != ir.DataType.FLOAT
            or is_constant(data)
        ):
            continue
        if PER_SQUARE * known.groups * known.columns**2 + PER_WEIGHT * prod(known.shape) <= context.memory:
            found.append((node, Reading(exact, known, other=data.name if data is not None else None)))
    return found


def observed(work: Twins, some: Layers, context: Context) -> Iterator[tuple[ir.Node, Reading, Seen]]:
    """Moments of what layers read in the model as it is, without cross moments, in as few sweeps as memory allows."""
    if not some:
        return
    order = [0] * len(list(work.graph.graph))
    march = March(Alone(work.graph), order, context, _share(work, [some], context))
    yield from Gatherer(march, padding_mask(work.exact, context)).wave(0, some, None)


def in_order(
    work: Twins, waves: Sequence[Layers], context: Context
) -> Iterator[Iterator[tuple[ir.Node, Reading, Seen]]]:
    """Moments of layers wave by wave, in both models: use all of each wave, and refit its layers, before the next.

    Args:
        work: The models.
        waves: None of their layers reads, directly or not, what one of its own or of a later wave makes.
        context: Brings samples, memory and seed.
    """
    nodes = list(work.graph.graph)
    order = stages_of(work.graph.graph, {node for wave in waves for node, _ in wave})
    number = dict(zip(nodes, order, strict=True))
    made = {value.name: number[node] for node in nodes for value in node.outputs}
    march = March(work, order, context, _share(work, waves, context))
    gatherer = Gatherer(march, padding_mask(work.exact, context))
    try:
        for done, wave in enumerate(waves):
            stage = max(number[node] for node, _ in wave) - 1
            drifts = {r.node: d for _, r in wave if (d := drift_of(r)) and made.get(d.name, 0) <= stage}
            yield gatherer.wave(stage, wave, drifts)
            context.progress("refitting layers", done + 1, len(waves))
    finally:
        march.close()


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Adds up what layers read.

    Attributes:
        march: Runs the models.
        mask: Name of the input that says which places are padding, if there is one.
    """

    march: March
    mask: str | None

    def wave(
        self, stage: int, some: Layers, drifts: Mapping[ir.Node, Drift] | None
    ) -> Iterator[tuple[ir.Node, Reading, Seen]]:
        """Moments of layers, in groups that fit into memory together: use each before asking for the next.

        Args:
            stage: What they read is made up to there.
            some: The layers.
            drifts: What makes up for the drift of sums, by layer as it was; ``None`` for moments of one model alone.
        """
        loads = _loads(some, self.march.context.memory // SHARE, drifts)
        for at, load in enumerate(loads):
            last = drifts is not None and at + 1 == len(loads)
            sums, held = self._added(stage, [reading for _, reading in load], drifts, last)
            done: dict[Any, Seen] = {}
            for node, reading in load:
                key = _key(reading, drifts)
                if key not in done:
                    apart = held.pop(key).seen() if key in held else None
                    done[key] = sums.pop(key).seen(apart)
                yield node, reading, done[key]

    def _added(
        self, stage: int, some: Sequence[Reading], drifts: Mapping[ir.Node, Drift] | None, final: bool
    ) -> tuple[dict[Any, Sums], dict[Any, Sums]]:
        context, crossed = self.march.context, drifts is not None
        samples = context.need_calibration("fit")
        limit = int(np.clip(-(-ROWS // samples.runs), LEAST_ROWS, MOST_ROWS))
        first = {_key(reading, drifts): reading for reading in reversed(some)}
        sums, held = ({key: _sums(r, crossed) for key, r in first.items()} for _ in "ab")
        asked = [reading.name for reading in some] + [drifts[r.node].name for r in some if drifts and r.node in drifts]
        pairs = self.march.sweep(stage, list(dict.fromkeys(asked)), final)
        # The runtime has all processors: threads of small products would only take them from it.
        with threadpool_limits(1, user_api="blas"):
            for run, (feed, (was, now)) in enumerate(zip(samples.feeds(), pairs, strict=True)):
                mask = feed[self.mask] if self.mask else None
                for key, reading in first.items():
                    draw = _Draw(reading, mask, limit, (context.seed, run))
                    rows, read = draw.rows(was[reading.name]), draw.rows(now[reading.name]) if crossed else None
                    drift = drifts.get(reading.node) if drifts else None
                    apart = draw.drift(drift, was[drift.name], now[drift.name], was[reading.name]) if drift else None
                    (held if crossed and run % HELD == HELD - 1 else sums)[key].add(rows, read, apart)
        return sums, held if crossed else {}


@dataclass(frozen=True, slots=True)
class _Draw:
    """Draws rows of one run; the same ones of each tensor."""

    reading: Reading
    mask: Array | None
    limit: int
    seed: tuple[int, int]

    def rows(self, data: Array) -> Array:
        own = self.reading.layout
        if own.window is None and not own.transposed:
            data = counted(data, self.mask)
        return own.rows(data, self.limit, np.random.default_rng(self.seed))

    def drift(self, drift: Drift, was: Array, now: Array, data: Array) -> Array:
        """By how much a sum that the layer's output goes into is short of what it was: (groups, rows, outputs)."""
        missing = was - now if was.shape == now.shape else np.zeros(1, np.float32)
        if drift.fits(missing, data, self.reading):
            if self.reading.layout.window is None:
                missing = counted(
                    missing, None if self.mask is None or data.shape[:-1] != self.mask.shape else self.mask
                )
            return drift.rows(missing, self.limit, np.random.default_rng(self.seed))
        rows = self.rows(data)
        return np.zeros((*rows.shape[:2], drift.layout.columns // drift.groups), np.float32)


def _key(reading: Reading, drifts: Mapping[ir.Node, Drift] | None) -> Any:
    """Readings of one key have the same moments."""
    own = drifts is not None and (reading.node in drifts or _by_outputs(reading))
    return (reading.key, reading.node if own else None)


def _by_outputs(reading: Reading) -> bool:
    """Whether a layer has so few outputs that they are looked at rather than what it reads."""
    outputs = prod(reading.layout.shape) // (reading.layout.columns * reading.layout.groups)
    return 2 * outputs <= reading.layout.columns


def _sums(reading: Reading, crossed: bool) -> Sums:
    own = reading.layout
    if not crossed or not _by_outputs(reading):
        return Sums(own.groups, own.columns, crossed)
    weight = reading.node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.const_value is not None
    return Sums(own.groups, own.columns, crossed, own.matrix(weight.const_value.numpy()))


def _loads(some: Layers, budget: int, drifts: Mapping[ir.Node, Drift] | None) -> list[list[tuple[ir.Node, Reading]]]:
    """Split layers so that the sums of each part fit into memory, where single ones allow it."""
    loads: list[list[tuple[ir.Node, Reading]]] = []
    keys: dict[Any, int] = {}
    for node, reading in some:
        own, key = reading.layout, _key(reading, drifts)
        drift = drifts.get(reading.node) if drifts else None
        more = prod(own.shape) // (own.columns * own.groups) if drift or _by_outputs(reading) else 0
        crossed = drifts is not None
        columns = own.columns * (1 + (crossed and not _by_outputs(reading))) + more * crossed
        size = own.groups * own.columns * columns * 4 * (2 if drifts is not None else 1)
        if not loads or sum({**keys, key: size}.values()) > budget:
            loads.append([])
            keys = {}
        loads[-1].append((node, reading))
        keys[key] = size
    return loads


def _share(work: Twins, waves: Sequence[Layers], context: Context) -> Streams:
    """How many samples run at once, with memory for what is fetched of each: outputs are copied out of the runtime."""
    names = list(dict.fromkeys(reading.name for wave in waves for _, reading in wave))
    folder = Path(tempfile.mkdtemp(prefix="sizes-", dir=context.workdir))
    sizes = tensor_bytes(work.exact, names, next(context.need_calibration("fit").feeds()), folder) if names else {}
    shutil.rmtree(folder)
    most = max((sum(sizes[name] for name in {r.name for _, r in wave}) for wave in waves), default=0)
    return streams(4 * most, context.memory // SHARE)
