"""What a sweep gathers of a group of tensors, run by run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.probe import with_extremes, with_outputs
from infopt_passes.calibrate.histogram import Histogram
from infopt_passes.calibrate.observers import Extremes, ExtremesObserver, HistogramObserver, Observer
from infopt_passes.calibrate.store import States

Array = npt.NDArray[Any]

ROWS = ("lows", "highs", "low_sums", "high_sums")


class Gathering(Protocol):
    """The states of a group of tensors."""

    def probe(self, graph: ir.Model) -> ir.Model:
        """The model whose outputs are gathered."""
        ...

    def add(self, outputs: Sequence[Array]) -> list[str]:
        """Take in a run's outputs; returns the tensors that do not seem finite."""
        ...

    def states(self) -> States:
        """State by tensor."""
        ...


@dataclass(slots=True)
class GatheredExtremes:
    """Extremes of all tensors of a group as one vector, which folds in a few operations.

    Attributes:
        observer: How to fold.
        group: The tensors.
        axes: Axis of the channels, of tensors that are observed per channel.
        state: Of all tensors, one behind another.
        ends: Where each tensor's entries end.
    """

    observer: ExtremesObserver
    group: Sequence[str]
    axes: Mapping[str, int]
    state: Extremes | None = None
    ends: tuple[int, ...] = ()

    def probe(self, graph: ir.Model) -> ir.Model:
        """See :class:`Gathering`."""
        return with_extremes(graph, self.group, self.axes)

    def add(self, outputs: Sequence[Array]) -> list[str]:
        """See :class:`Gathering`."""
        size = len(self.group)
        lows, highs = (_joined(outputs[start : start + size]) for start in (0, size))
        if self.state is None:
            self.state = self.observer.init(len(lows))
            self.ends = tuple(np.cumsum([array.size for array in outputs[:size]]).tolist())
        self.state = self.observer.update(self.state, lows, highs)
        idle = (lows == np.inf) & (highs == -np.inf)  # in a body that did not run
        finite = idle | (np.isfinite(lows) & np.isfinite(highs))
        sums = _joined(outputs[2 * size :])
        if finite.all() and not np.isnan(sums).any():
            return []
        parts = zip(self.group, np.split(finite, self.ends[:-1]), sums, strict=True)
        return [name for name, fine, total in parts if not fine.all() or math.isnan(total)]

    def states(self) -> States:
        """See :class:`Gathering`."""
        if self.state is None:
            return {}
        rows = [np.split(getattr(self.state, row), self.ends[:-1]) for row in ROWS]
        return {name: Extremes(self.state.samples, *parts) for name, *parts in zip(self.group, *rows, strict=True)}


@dataclass(slots=True)
class GatheredHistograms:
    """A histogram of each tensor of a group.

    Attributes:
        observer: How to fold.
        group: The tensors.
        histograms: State by tensor.
    """

    observer: HistogramObserver
    group: Sequence[str]
    histograms: dict[str, Histogram]

    def probe(self, graph: ir.Model) -> ir.Model:
        """See :class:`Gathering`."""
        return with_outputs(graph, self.group)

    def add(self, outputs: Sequence[Array]) -> list[str]:
        """See :class:`Gathering`."""
        for name, output in zip(self.group, outputs, strict=True):
            state = self.histograms.get(name) or self.observer.init()
            for array in output if isinstance(output, list) else [output]:  # a body runs any number of times
                state = self.observer.update(state, array)
            self.histograms[name] = state
        return [name for name, histogram in self.histograms.items() if not histogram.sound]

    def states(self) -> States:
        """See :class:`Gathering`."""
        return dict(self.histograms)


def gathering(observer: Observer, group: Sequence[str], axes: Mapping[str, int], resumed: States) -> Gathering:
    """What gathers a group of tensors, from the states on that an earlier run left, if any."""
    if isinstance(observer, HistogramObserver):
        return GatheredHistograms(observer, group, cast("dict[str, Histogram]", dict(resumed)))
    states = cast("dict[str, Extremes]", resumed)
    if not states:
        return GatheredExtremes(observer, group, axes)
    parts = [states[name] for name in group]
    rows = {row: np.concatenate([getattr(part, row) for part in parts]) for row in ROWS}
    ends = tuple(np.cumsum([part.lows.size for part in parts]).tolist())
    return GatheredExtremes(observer, group, axes, Extremes(samples=parts[0].samples, **rows), ends)


def _joined(arrays: Sequence[Array]) -> npt.NDArray[np.float64]:
    if all(array.ndim == 0 for array in arrays):
        return np.array(arrays, np.float64)
    return np.concatenate([np.atleast_1d(array) for array in arrays]).astype(np.float64)
