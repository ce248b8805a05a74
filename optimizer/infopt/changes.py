"""What became of single samples and classes: a mean can hide a class that died.

Everything here is about one pair of outputs, before and after, on the same samples. A sample *flipped* when its answer
is another one: another highest class, another whole number, or right where it was wrong. The most changed samples are
those that flipped, then the others by how far their outputs moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from infopt.accuracy import Accuracy, mean_everywhere
from infopt.answers import Truth, answer, label_text
from infopt.confirm import Part
from infopt.errors import DataError
from infopt.metrics import BUILT_IN, Metric, agreement, finite, measure_samples, top_k_right
from infopt.outputs import paired_blocks
from infopt.readers.labels import some
from infopt.report import ClassChange, SampleChange
from infopt.stats.bca import bca
from infopt.stats.clusters import clustered
from infopt.stats.limits import CI95, Interval, none
from infopt.stats.proportions import tango_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infopt.data import Samples

MOST_CHANGED = 20
"""Samples that a report tells of."""

CLASS_METRICS = ("top1", "top5", "agreement")
"""Built-in metrics that take the last axis for class scores."""

SMALL = 16
"""Whole numbers or texts a sample up to which any other number is another answer; more of them are a map."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed between two models; the first two are keys of the report."""

    classes: tuple[ClassChange, ...] = ()
    samples: tuple[SampleChange, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Moved:
    """How far each sample's outputs moved.

    Attributes:
        distance: float64 [N], see :class:`infopt.report.SampleChange`.
        broken: bool [N]: a value is not finite after that was before.
        blank: bool [N]: an output had no finite value before.
    """

    distance: np.ndarray
    broken: np.ndarray
    blank: np.ndarray


def find_changes(
    metric: Metric, before: list[np.ndarray], after: list[np.ndarray], samples: Samples, accuracy: Accuracy
) -> Changes:
    """Find the classes and samples that changed.

    Args:
        metric: The metric of the comparison.
        before: Joined outputs of the baseline, ``[N * k, ...]`` each; empty ones were not kept.
        after: Those of the candidate.
        samples: The N samples, with their labels and names.
        accuracy: The comparison by the metric.

    Returns:
        Changes by class, where the metric tells of single samples and the labels are classes; the most changed
        samples; and warnings of classes without samples and of outputs that are not numbers.
    """
    count, main = len(samples), metric.outputs[0] if metric.outputs else 0
    truth = Truth.of(samples, before[main], _classifies(metric))
    moved = _moved(before, after, count)
    values = _values(metric, before, after, samples, accuracy)
    right = _right(metric, values, truth, (before[main], after[main]))
    flipped = _flipped(metric, (before[main], after[main]), truth, count)
    if right is not None:
        flipped |= right[0] != right[1]
    classes = () if values is None or truth.members is None else _classes(metric, values, truth, samples.groups)
    order = np.lexsort((np.arange(count), -moved.distance, ~flipped))[:MOST_CHANGED]
    chosen = [int(index) for index in order if flipped[index] or moved.distance[index] > 0]
    told = tuple(_sample(index, (before[main], after[main]), truth, moved, right) for index in chosen)
    if isinstance(samples, Part):
        told = tuple(replace(change, index=int(samples.rows[change.index])) for change in told)
    return Changes(classes, told, (*_empty_warning(classes, truth), *_broken_warning(moved)))


def _classifies(metric: Metric) -> bool | None:
    """Whether a metric takes rows of numbers for class scores; ``None`` leaves it to the labels."""
    return metric.name in CLASS_METRICS if BUILT_IN.get(metric.name) is metric else None


def _moved(before: Sequence[np.ndarray], after: Sequence[np.ndarray], count: int) -> _Moved:
    distance, broken, blank = np.zeros(count), np.zeros(count, bool), np.zeros(count, bool)
    for left, right in zip(before, after, strict=True):
        if _numbers(left, right) and len(left) and len(left) % count == 0:
            error, size, bad, none = _squares(left, right, count)
            scale = np.sqrt(size.mean()) or 1.0
            distance = np.maximum(distance, np.sqrt(error) / scale)
            broken |= bad
            blank |= none
    return _Moved(distance, broken, blank)


def _numbers(left: np.ndarray, right: np.ndarray) -> bool:
    same = left.ndim == right.ndim and len(left) == len(right)
    return same and all(array.dtype.kind in "biuf" for array in (left, right))


def _squares(left: np.ndarray, right: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """Each sample's squared error, squared norm before, whether it broke, and whether there was no number before."""
    blocks: list[tuple[np.ndarray, ...]] = []
    for one, other in paired_blocks(left, right):
        rows = finite(one).reshape(len(one), -1)
        error = finite(other).reshape(len(one), -1) - rows
        bad, none = np.zeros((2, len(one)), bool)
        if not all(np.isfinite(array).all() for array in (one, other)):
            known, kept = (np.isfinite(array).reshape(len(one), -1) for array in (one, other))
            bad, none = (known & ~kept).any(axis=1), ~known.any(axis=1)
        blocks.append((np.einsum("ij,ij->i", error, error), np.einsum("ij,ij->i", rows, rows), bad, none))
    errors, sizes, broken, blank = (np.concatenate(parts).reshape(count, -1) for parts in zip(*blocks, strict=True))
    return errors.sum(axis=1), sizes.sum(axis=1), np.any(broken, axis=1), np.all(blank, axis=1)


def _values(
    metric: Metric, before: list[np.ndarray], after: list[np.ndarray], samples: Samples, accuracy: Accuracy
) -> np.ndarray | None:
    """The metric's value of each sample, float64 [2, N], if it has any that make up its score."""
    labels = samples.labels
    if metric.per_sample is None or metric.reference or labels is None:
        return None
    values = np.stack([measure_samples(metric, outputs, labels, len(samples)) for outputs in (before, after)])
    scores = (accuracy.baseline, accuracy.candidate)
    if not np.allclose(values.mean(axis=1), scores, rtol=1e-4, atol=1e-6):
        return None
    return values if mean_everywhere(metric, after, labels, len(samples)) else None


def _right(
    metric: Metric, values: np.ndarray | None, truth: Truth, outputs: tuple[np.ndarray, np.ndarray]
) -> np.ndarray | None:
    """Whether each sample was right before and after, bool [2, N], where labels tell."""
    if values is not None and metric.right_wrong is not False and ((values == 0) | (values == 1)).all():
        found: np.ndarray = values == (1 if metric.higher_is_better else 0)
        return found
    if not truth.scores or truth.accepted is None:
        return None
    try:
        return np.stack([top_k_right(array, truth.accepted, 1) == 1 for array in outputs])
    except DataError:  # labels that do not tell of every sample, or not of this many classes
        return None


def _flipped(metric: Metric, outputs: tuple[np.ndarray, np.ndarray], truth: Truth, count: int) -> np.ndarray:
    left, right = outputs
    if not left.size or len(left) != len(right) or len(left) % count or left.ndim != right.ndim:
        return np.zeros(count, bool)
    if truth.scores or _classifies(metric):
        same = agreement(left, right) == 1
    elif left.dtype.kind in "biuO" and left.size <= SMALL * count and left.shape == right.shape:
        same = (left == right).reshape(len(left), -1).all(axis=1)
    else:
        return np.zeros(count, bool)
    flips: np.ndarray = ~same.reshape(count, -1).all(axis=1)
    return flips


def _classes(metric: Metric, values: np.ndarray, truth: Truth, groups: np.ndarray | None) -> tuple[ClassChange, ...]:
    assert truth.members is not None
    exact = metric.right_wrong is not False and bool(((values == 0) | (values == 1)).all())
    reach = float(np.ptp(values))
    found = []
    for number, rows in truth.members.items():
        own, of = values[:, rows], None if groups is None else groups[rows]
        found.append(_class(metric, truth.name(number), own, None if exact else _resampled(own[1] - own[0], of, reach)))
    without = [ClassChange(truth.name(number), 0, math.nan, math.nan, math.nan) for number in truth.missing]
    return (*sorted(found, key=lambda change: -change.drop), *without)


def _resampled(differences: np.ndarray, groups: np.ndarray | None, reach: float) -> Interval:
    """Interval of the mean of differences, made of limits that know what a few samples do not show."""
    clusters = clustered(differences, groups)
    if len(clusters) < 2:
        return none("there is one unit only")
    limits = {limit.confidence: (limit.low, limit.high) for limit in bca(clusters, 0, reach).limits}
    low, high = limits[CI95]
    return Interval((low, high) if low < high else None)


def _class(metric: Metric, name: str, values: np.ndarray, resampled: Interval | None) -> ClassChange:
    """A class; ``resampled`` is ``None`` where samples are right or wrong, so that they are counted."""
    n = values.shape[1]
    before, after = values.mean(axis=1)
    delta = float(after - before)
    interval = resampled.ci95 if resampled else None
    if resampled is None:
        gained, lost = int((values[1] > values[0]).sum()), int((values[1] < values[0]).sum())
        delta, interval = (gained - lost) / n, _tango(gained, lost, n)
    drop = 0.0 - delta if metric.higher_is_better else delta
    return ClassChange(name, n, float(before), float(after), drop, interval)


@cache
def _tango(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Most of a thousand classes have the same few counts."""
    return tango_interval(gained, lost, n)


def _sample(
    index: int, outputs: tuple[np.ndarray, np.ndarray], truth: Truth, moved: _Moved, right: np.ndarray | None
) -> SampleChange:
    before, after = (answer(array, index, truth) for array in outputs)
    return SampleChange(
        index=index,
        id=None if truth.ids is None else truth.ids[index],
        change=float(moved.distance[index]),
        before=before,
        after=after,
        label=label_text(truth, index),
        lost=None if right is None else bool(right[0, index] and not right[1, index]),
        gained=None if right is None else bool(right[1, index] and not right[0, index]),
    )


def _empty_warning(classes: tuple[ClassChange, ...], truth: Truth) -> tuple[str, ...]:
    if not classes or not truth.missing:
        return ()
    names = [truth.name(number) for number in truth.missing]
    total = truth.empty + len(truth.members or ())
    return (f"{truth.empty} of {total} classes have no sample in the evaluation data: {some(names)}",)


def _broken_warning(moved: _Moved) -> tuple[str, ...]:
    told = (
        (moved.broken, "hold NaN or Inf where the baseline's do not"),
        (moved.blank, "hold no number in the baseline, so that nothing is compared there"),
    )
    return tuple(
        f"outputs of {int(rows.sum())} of {len(rows)} samples {what}; the first is sample {int(rows.argmax())}"
        for rows, what in told
        if rows.any()
    )
