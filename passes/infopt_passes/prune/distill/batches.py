"""Calibration samples as batches of tensors: which are learned from, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from infopt.passes import CalibrationSet

if TYPE_CHECKING:
    from infopt.data import Feed

HELD = 5
"""Of so many samples, one is held back to choose by."""


@dataclass(frozen=True, slots=True)
class Part:
    """Samples that are run at once.

    Attributes:
        feed: The arrays.
        indices: The samples, by their number in the data; the last may repeat to fill a fixed batch.
    """

    feed: Feed
    indices: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batches:
    """The samples of a distillation.

    Attributes:
        samples: The calibration samples.
        seed: Seed of the split and of the order.
        size: Samples of one step.
        at_once: Samples that run at once, at most; one that differs in shape runs apart.
    """

    samples: CalibrationSet
    seed: int
    size: int
    at_once: int

    @property
    def held(self) -> npt.NDArray[np.int64]:
        """Samples that are never learned from."""
        return self._order[::HELD]

    @property
    def learned(self) -> npt.NDArray[np.int64]:
        """Samples that are learned from."""
        return np.delete(self._order, np.s_[::HELD])

    @property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.seed, 0]).permutation(np.asarray(self.samples.indices, np.int64))

    @property
    def steps(self) -> int:
        """Steps of one epoch."""
        return -(-len(self.learned) // self.size)

    def step(self, number: int) -> npt.NDArray[np.int64]:
        """The samples of a step, counted over all epochs."""
        epoch, at = divmod(number, self.steps)
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(self.learned)
        return order[at * self.size : (at + 1) * self.size]

    def parts(self, indices: npt.NDArray[np.int64]) -> Iterator[Part]:
        """Read samples, as many at once as are alike and allowed."""
        source, fixed = self.samples.samples, self.fixed
        if fixed:
            for start in range(0, len(indices), fixed):
                chosen = indices[start : start + fixed]
                filled = np.pad(chosen, (0, fixed - len(chosen)), mode="edge")
                yield from (Part(batch.feed, filled) for batch in source.batches(fixed, chosen))
            return
        for start in range(0, len(indices), self.at_once):
            chosen = indices[start : start + self.at_once]
            yield from self._alike(chosen, [batch.feed for batch in source.batches(1, chosen)])

    @property
    def fixed(self) -> int | None:
        """The only batch that the model accepts."""
        return next((spec.fixed_batch for spec in self.samples.inputs if spec.fixed_batch), None)

    def _alike(self, indices: Sequence[int] | npt.NDArray[np.int64], feeds: Sequence[Feed]) -> Iterator[Part]:
        """Feeds of the same shapes joined."""
        shared = [spec.name for spec in self.samples.inputs if spec.batch_axis is None]
        rows: dict[object, list[int]] = {}
        for at, feed in enumerate(feeds):
            whole = tuple(feed[name].tobytes() for name in shared)
            rows.setdefault((whole, *(array.shape for array in feed.values())), []).append(at)
        for places in rows.values():
            some = [feeds[at] for at in places]
            joined = {
                spec.name: some[0][spec.name]
                if spec.batch_axis is None
                else np.concatenate([feed[spec.name] for feed in some], axis=spec.batch_axis)
                for spec in self.samples.inputs
            }
            yield Part(joined, np.asarray(indices, np.int64)[places])
