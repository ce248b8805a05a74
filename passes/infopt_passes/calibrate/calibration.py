"""Plans and runs the sweeps over the samples that observers need."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.model import Model
from infopt.passes import CalibrationSet, Context
from infopt.probe import opened, values_by_name
from infopt_passes.calibrate.clipping import Grid
from infopt_passes.calibrate.faults import fault
from infopt_passes.calibrate.gathering import Gathering, gathering
from infopt_passes.calibrate.identity import identity
from infopt_passes.calibrate.observers import ExtremesObserver, HistogramObserver, Observer, Spans
from infopt_passes.calibrate.segments import Segment, cut, extracted
from infopt_passes.calibrate.sizes import grouped, tensor_bytes
from infopt_passes.calibrate.spool import Spool, dropped, stored
from infopt_passes.calibrate.store import Progress, Store, cache_folder
from infopt_passes.calibrate.sweep import Streams, streams, sweep

if TYPE_CHECKING:
    from infopt.data import Feed

WEIGHTS_SHARE = 4
"""Weights may take this part of the memory budget: the runtime packs a copy, and activations need room too."""

ACTIVATIONS_SHARE = 4
"""The same of the activations that are fetched, of all samples under way."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment that runs by itself, and what it is fed with.

    Attributes:
        graph: The segment as a model; the whole model where there is but one.
        segment: Which part it is.
        samples: The calibration samples.
        runs: Runs of the model that they take.
        spools: The spool of each tensor that earlier segments gave.
    """

    graph: ir.Model
    segment: Segment
    samples: CalibrationSet
    runs: int
    spools: Mapping[str, Spool]

    def feeds(self, skip: int = 0) -> Iterator[Feed]:
        """What the segment takes, run by run, from run ``skip`` on; samples that it does not need are not read."""
        wanted = {value.name for value in self.graph.graph.inputs if value.name not in self.segment.takes}
        if not wanted & {spec.name for spec in self.samples.inputs}:
            yield from (stored(self.segment.takes, self.spools, i) for i in range(skip, self.runs))
            return
        for i, feed in enumerate(self.samples.feeds(skip), skip):
            own = {name: array for name, array in feed.items() if name in wanted}
            yield own | stored(self.segment.takes, self.spools, i)


@dataclass(slots=True)
class Sweeper:
    """One calibration under way.

    Attributes:
        model: The float model.
        names: Tensors to observe.
        observer: How.
        context: Brings samples, memory and the folder to work in.
        axes: Axis of the channels, of tensors that are observed per channel.
        store: Where checkpoints go.
        progress: What is known so far.
        runs: Runs of the model that one sweep takes.
        sweeps: Sweeps that are behind, and how many there will be as far as is known.
    """

    model: Model
    names: Sequence[str]
    observer: Observer
    context: Context
    axes: Mapping[str, int]
    store: Store
    progress: Progress
    runs: int
    sweeps: list[int] = field(default_factory=lambda: [0, 1])

    @property
    def samples(self) -> CalibrationSet:
        """The calibration samples."""
        return self.context.need_calibration("calibrate")

    def run(self) -> None:
        """Observe every tensor that is not known yet."""
        graph = self.model.graph
        segments = cut(graph.graph, self.names, self.context.memory // WEIGHTS_SHARE)
        needed = [i for i, segment in enumerate(segments) if self._unknown(segment)]
        segments = segments[: max(needed, default=-1) + 1]
        self.sweeps[1] = len(segments)
        spools: dict[str, Spool] = {}
        for i, segment in enumerate(segments):
            last = i + 1 == len(segments)
            part = Part(
                graph if last and not i else extracted(graph, segment), segment, self.samples, self.runs, spools
            )
            spool = None if last or not segment.gives else Spool(self._folder() / "activations.bin", segment.gives)
            self._segment(part, spool)
            spools |= dict.fromkeys(segment.gives, spool) if spool else {}
            dropped(spools, {name for later in segments[i + 1 :] for name in later.takes})
        dropped(spools, set())

    def _unknown(self, segment: Segment) -> list[str]:
        return [name for name in segment.watched if name not in self.progress.done]

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="calibration-", dir=self.context.workdir))

    def _segment(self, part: Part, spool: Spool | None) -> None:
        """Observe the tensors of a segment, in as many sweeps as memory asks for."""
        names, budget = self._unknown(part.segment), self.context.memory // ACTIVATIONS_SHARE
        sizes = tensor_bytes(part.graph, names, next(part.feeds()), self.context.workdir)
        # Outputs are copied out of the runtime, and one more sample than there are streams waits for its turn.
        share = streams(2 * sum(sizes.values()), budget)
        groups = [names]
        if isinstance(self.observer, HistogramObserver):
            groups = grouped(names, sizes, budget // (2 * (share.count + 1)))
        groups = groups or [[]]
        self.sweeps[1] += len(groups) - 1
        for k, group in enumerate(groups):
            self._sweep(part, group, spool if k == 0 else None, share)
            self.sweeps[0] += 1

    def _sweep(self, part: Part, group: Sequence[str], spool: Spool | None, share: Streams) -> None:
        """Run all samples once for a group of tensors, and spool what later segments take."""
        resumed = self.progress.runs if self.progress.partial.keys() == set(group) else 0
        gathered = gathering(self.observer, group, self.axes, self.progress.partial if resumed else {})
        probe, kept = gathered.probe(part.graph), spool.names if spool else ()
        values = values_by_name(probe.graph)
        probe.graph.outputs.extend(values[name] for name in kept)
        folder = self._folder()
        session = opened(probe, folder, share.settings)
        shutil.rmtree(folder)  # the runtime has mapped or copied the weights
        skip = 0 if spool else resumed
        with spool or nullcontext():
            for i, outputs in enumerate(sweep(session, part.feeds(skip), share.count), skip):
                own = len(outputs) - len(kept)
                if spool:
                    spool.add(outputs[own:])
                    self._blame(part, _nan(kept, outputs[own:]), i)
                if i >= resumed and group:
                    self._blame(part, gathered.add(outputs[:own]), i)
                self._report(gathered, i, resumed)
        self.progress = Progress({**self.progress.done, **gathered.states()})

    def _report(self, gathered: Gathering, run: int, resumed: int) -> None:
        """Tell of the progress, and write it down from time to time."""
        self.context.progress("calibrating", self.sweeps[0] * self.runs + run + 1, self.sweeps[1] * self.runs)
        if self.store.due() and run >= resumed:
            self.store.checkpoint(replace(self.progress, partial=gathered.states(), runs=run + 1))

    def _blame(self, part: Part, unsound: list[str], run: int) -> None:
        """Raise the error that names the first node to blame, if tensors are not finite when looked at closely."""
        if unsound:
            error = fault(part.graph, unsound, next(part.feeds(run)), run, self._folder())
            if error is not None:
                raise error


def _nan(names: Sequence[str], arrays: Sequence[Any]) -> list[str]:
    """The tensors that hold NaN; infinities may be on their way to be masked.

    Only the part of the model in which a NaN arises can tell where it comes from.
    """
    pairs = zip(names, arrays, strict=True)
    return [name for name, array in pairs if array.dtype.kind == "f" and np.isnan(array).any()]


def calibrate(
    model: Model,
    names: Sequence[str],
    observer: Observer,
    context: Context,
    *,
    axes: Mapping[str, int] | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> dict[str, Spans]:
    """Run the calibration samples and fold what the named tensors hold.

    Extremes are reduced inside the runtime; other observers fetch tensors in groups that fit into the context's
    memory. Where the weights alone do not fit, the model runs in consecutive parts. Statistics of an equal
    calibration are reused.

    Args:
        model: The float model; its graph is in topological order.
        names: Float tensors of the main graph or of bodies.
        observer: How to fold.
        context: Brings the samples.
        axes: Axis of the channels, for tensors to observe per channel; only observers of extremes can.
        grids: What tensors will be rounded to, where that is not what the observer takes for granted.

    Returns:
        What is known of each tensor, arrays of shape (1,), or (channels,) for those with an axis.

    Raises:
        DataError: A tensor became NaN or infinite; the first node that makes it so is named.
    """
    wanted = dict(axes or {})
    if wanted and isinstance(observer, HistogramObserver):
        raise ValueError("histograms are kept per tensor only")
    samples = context.need_calibration("calibrate")
    folder = cache_folder()
    store = Store(folder, identity(model, observer, samples, wanted) if folder else "")
    sweeper = Sweeper(model, list(dict.fromkeys(names)), observer, context, wanted, store, store.load(), samples.runs)
    if any(name not in sweeper.progress.done for name in names):
        sweeper.run()
        store.finish(sweeper.progress)
    return {name: finished(_on(observer, (grids or {}).get(name)), sweeper.progress.done[name]) for name in names}


def _on(observer: Observer, grid: Grid | None) -> Observer:
    return replace(observer, grid=grid) if grid and isinstance(observer, HistogramObserver) else observer


def finished(observer: Observer, state: Any) -> Spans:
    """The range that an observer makes of a tensor's state."""
    if isinstance(observer, ExtremesObserver):
        return observer.finish(state)
    low, high = observer.finish(state)
    if state.low > state.high:  # in a body that never ran
        return Spans(*(np.array([end]) for end in (math.inf, -math.inf) * 2))
    ends = (low, high, state.low, state.high)
    return Spans(*(np.array([end if math.isfinite(end) else 0.0]) for end in ends))
