"""Compares two models on the same samples: by the task metric with a paired interval, and output by output.

Both models see the same samples, so the interval of their difference comes from the pairs; it is far narrower
than the difference of two separate intervals. What gives it depends on what the metric tells of a sample:

* right or wrong: the score interval of Tango;
* a number: a bootstrap of the mean difference with bias correction and acceleration;
* nothing: the same of the whole score, as far as time allows.

Samples that belong together are counted or resampled by group. :mod:`infopt.stats` holds the statistics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from infopt.errors import DataError
from infopt.metrics import BUILT_IN, Metric, agreement, cosine, finite, measure, measure_samples
from infopt.outputs import paired_blocks
from infopt.ranks import rank_correlation
from infopt.stats.bca import bca
from infopt.stats.clusters import clustered, clustered_proportions
from infopt.stats.limits import CI95, Interval, Limit, none
from infopt.stats.opaque import opaque_interval
from infopt.stats.proportions import mcnemar, tango_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESAMPLED_BYTES = 1 << 30
_MAX_DB = 200.0
_TRIALS = 3
_TRIED_SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class Flips:
    """Samples on which the models differ, for a right-or-wrong metric.

    Attributes:
        gained: Wrong before, right after.
        lost: Right before, wrong after.
    """

    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The task metric before and after; the fields are the keys of the report.

    Attributes:
        metric: Name of the metric.
        higher_is_better: Its direction.
        baseline: Score of the baseline.
        candidate: Score of the candidate.
        delta: ``candidate - baseline``, in the metric's own unit.
        drop: The worsening: ``delta`` or its negative, above 0 when the candidate is worse.
        ci95: 95% interval of ``delta``, or ``None``.
        ci95_reason: Why there is no interval.
        n: Samples.
        flips: Samples that changed sides; ``None`` for metrics that are not right or wrong.
        where: Measured on the artifact that ships (``deployed``) or on an emulation of it.
        others: The same for further metrics.
        reference: The metric compares with the original model's outputs and uses no labels.
        interval: What gave ``ci95``: ``tango`` (counts of flips), ``bca`` or ``bootstrap``, with ``cluster-`` before
            it where groups were counted or resampled.
        limits: One-sided limits of ``delta`` at further confidences; a ``tango`` interval needs none, as ``flips``
            and ``n`` give them.
        groups: Groups that the samples belong to, where the data says so.
        mcnemar_p: Exact McNemar test that the models are equally good, for independent samples that are right or
            wrong; a side note, no budget is decided by it.
    """

    metric: str
    higher_is_better: bool
    baseline: float
    candidate: float
    delta: float
    drop: float
    ci95: tuple[float, float] | None
    ci95_reason: str | None
    n: int
    flips: Flips | None
    where: Literal["deployed", "emulated"]
    others: tuple[Accuracy, ...] = ()
    reference: bool = False
    interval: str | None = None
    limits: tuple[Limit, ...] = ()
    groups: int | None = None
    mcnemar_p: float | None = None


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How close one output is to the baseline's.

    Values that are NaN in both are padding; a value that is not finite on one side only counts as 0 there.
    All but the name is ``None`` for outputs without a counterpart (text, another number of rows).

    Attributes:
        output: Name of the output.
        top1_agreement: Share of samples with the same highest class on the last axis; ``None`` where there
            are no floating-point scores of at least two classes.
        cosine_mean: Mean over the rows of the cosine similarity.
        sqnr_db: Power of the baseline's values over that of the error, in dB, clipped to -200 to 200: 200
            where there is no error.
        max_abs: Largest absolute error.
        rank_correlation: Spearman's, see :func:`infopt.ranks.rank_correlation`; ``None`` where nothing is ranked.
    """

    output: str
    top1_agreement: float | None
    cosine_mean: float | None
    sqnr_db: float | None
    max_abs: float | None
    rank_correlation: float | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both models' outputs over the same samples."""

    metric: Metric
    before: list[np.ndarray]
    after: list[np.ndarray]
    labels: np.ndarray
    count: int
    groups: np.ndarray | None

    @property
    def units(self) -> int:
        """What varies independently: groups, or samples."""
        return self.count if self.groups is None else len(np.unique(self.groups))


def paired_accuracy(  # noqa: PLR0913 - the whole comparison in one call
    metric: Metric,
    baseline_outputs: list[np.ndarray],
    candidate_outputs: list[np.ndarray],
    labels: np.ndarray | None,
    *,
    where: Literal["deployed", "emulated"],
    seed: int,
    groups: np.ndarray | None = None,
    time_limit_s: float = 10.0,
) -> Accuracy:
    """Measure a metric before and after, with a 95% interval of the difference from the paired samples.

    The per-sample values of a metric are used only if their mean is its score; otherwise the score itself is
    bootstrapped. Rows that are an integer multiple of the samples are resampled sample by sample.

    Args:
        metric: The metric.
        baseline_outputs: Joined outputs of the baseline, ``[N * k, ...]`` each.
        candidate_outputs: Those of the candidate on the same samples.
        labels: ``[N, ...]``; not needed for reference metrics, which take the baseline's output 0 for them.
        where: What the candidate's outputs were measured on.
        seed: Seed of the bootstrap.
        groups: What each sample belongs to, ``[N]``; ``None`` where each stands on its own.
        time_limit_s: Seconds that the bootstrap of an opaque metric may take.

    Returns:
        The comparison. ``ci95`` is ``None``, with the reason, when there is one group or one sample only, when the
        metric is too slow to be resampled 200 times, fails on resamples, or does not vary over them.

    Raises:
        DataError: There are no labels or no samples, groups do not fit them, or the metric failed.
    """
    pair = _paired(metric, baseline_outputs, candidate_outputs, labels, groups)
    before, after = (measure(metric, outputs, pair.labels) for outputs in (pair.before, pair.after))
    values = _per_sample(pair)
    changes = _changes(metric, values)
    values = _whose_mean_is(values, (before, after), pair, seed)
    interval = _interval(pair, values, changes is not None, seed, time_limit_s)
    # From the counts where there are any, so that a drop of exactly the budget is not above it by a rounding error.
    counts = None if values is None else changes
    delta = after - before if counts is None else (counts[0] - counts[1]) / pair.count
    return Accuracy(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        baseline=before,
        candidate=after,
        delta=delta,
        drop=0.0 - delta if metric.higher_is_better else delta,
        ci95=interval.ci95,
        ci95_reason=interval.reason,
        n=pair.count,
        flips=None if changes is None else Flips(*(changes if metric.higher_is_better else changes[::-1])),
        where=where,
        reference=metric.reference,
        interval=interval.method,
        limits=interval.limits,
        groups=None if groups is None else pair.units,
        mcnemar_p=mcnemar(*changes) if changes is not None and pair.units == pair.count else None,
    )


def _whose_mean_is(values: np.ndarray | None, scores: tuple[float, float], pair: _Pair, seed: int) -> np.ndarray | None:
    """The values of the samples, where the scores are their means and not by chance; else ``None``."""
    if values is None or not _same(values.mean(axis=1), scores):
        return None
    return values if mean_everywhere(pair.metric, pair.after, pair.labels, pair.count, seed) else None


def mean_everywhere(metric: Metric, after: list[np.ndarray], labels: np.ndarray, count: int, seed: int = 0) -> bool:
    """Whether a user's score is the mean of its samples where samples are wrong too, not only where all are right.

    So outputs of ``count`` samples are held against the labels of others. A metric that cannot is not tried.
    """
    if BUILT_IN.get(metric.name) is metric or any(len(array) % count for array in (*after, labels)):
        return True
    rng = np.random.default_rng(seed)
    for _ in range(_TRIALS):
        rows, others = rng.integers(0, count, (2, min(count, _TRIED_SAMPLES)))
        outputs, truth = [_picked(array, rows, count) for array in after], _picked(labels, others, count)
        try:
            score, values = measure(metric, outputs, truth), measure_samples(metric, outputs, truth, len(rows))
        except DataError:
            continue
        if not _same(values.mean(keepdims=True), (score,)):
            return False
    return True


def fidelity(
    names: Sequence[str], baseline_outputs: Sequence[np.ndarray], candidate_outputs: Sequence[np.ndarray]
) -> tuple[Fidelity, ...]:
    """Compare outputs value by value, in blocks of rows.

    Args:
        names: Names of all outputs.
        baseline_outputs: Joined outputs of the baseline.
        candidate_outputs: Those of the candidate on the same samples.

    Returns:
        One row for each output that was kept.
    """
    rows = zip(names, baseline_outputs, candidate_outputs, strict=True)
    return tuple(_fidelity(name, left, right) for name, left, right in rows if left.size or right.size)


def _paired(
    metric: Metric,
    before: list[np.ndarray],
    after: list[np.ndarray],
    labels: np.ndarray | None,
    groups: np.ndarray | None,
) -> _Pair:
    if labels is None and not metric.reference:
        raise DataError(f"metric {metric.name} needs labels, the data has none", "use agreement or cosine")
    count = len(before[0] if labels is None else labels)
    if count == 0:
        raise DataError("there are no samples to compare the models on")
    if groups is not None and groups.shape != (count,):
        raise DataError(f"groups of shape {list(groups.shape)} are given for {count} samples", "give one to each")
    truth = labels if labels is not None and not metric.reference else before[0]
    return _Pair(metric, before, after, truth, count, groups)


def _per_sample(pair: _Pair) -> np.ndarray | None:
    """The metric's values, float64 [2, N], or ``None``."""
    if pair.metric.per_sample is None:
        return None
    both = (pair.before, pair.after)
    return np.stack([measure_samples(pair.metric, outputs, pair.labels, pair.count) for outputs in both])


def _changes(metric: Metric, values: np.ndarray | None) -> tuple[int, int] | None:
    """Samples whose value went from 0 to 1, and from 1 to 0, if there are no other values."""
    if values is None or metric.right_wrong is False or not ((values == 0) | (values == 1)).all():
        return None
    return int((values[1] > values[0]).sum()), int((values[1] < values[0]).sum())


def _same(means: np.ndarray, scores: Sequence[float]) -> bool:
    return np.allclose(means, scores, rtol=1e-4, atol=1e-6)


def _reach(pair: _Pair, seed: int) -> float:
    """By how much a score may differ: by 1 between 0 and 1, else as outputs do that belong to other samples."""
    rng, both = np.random.default_rng(seed), (pair.before, pair.after)
    mixed = [rng.permutation(pair.count) for _ in range(_TRIALS)]
    right = [measure(pair.metric, outputs, pair.labels) for outputs in both]
    wrong = [_score(pair, pair.after, np.arange(pair.count), others) for others in mixed]
    scores = [score for score in (*right, *wrong) if not math.isnan(score)]
    bounded = pair.metric.higher_is_better and all(0 <= score <= 1 for score in scores)
    return max(float(np.ptp(scores)), float(bounded))


def _interval(pair: _Pair, values: np.ndarray | None, flips: bool, seed: int, seconds: float) -> Interval:
    if pair.groups is not None and pair.units == 1:
        return none("all samples are of one group, so the spread between groups is unknown")
    if values is None:
        interval = _of_score(pair, seed, seconds)
    elif flips:
        return _of_changes(pair, values[1] - values[0])
    else:
        interval = _of_differences(pair, values, seed)
    if interval.ci95 is None or interval.ci95[0] < interval.ci95[1]:
        return interval
    wide = next(((each.low, each.high) for each in interval.limits if each.confidence == CI95), interval.ci95)
    if wide[0] == wide[1] or not _equal_outputs(pair):
        return none("every resample gave the same difference, so the spread is unknown")
    return replace(interval, ci95=wide)  # of outputs that are equal: what as many samples do not show


def _of_changes(pair: _Pair, changes: np.ndarray) -> Interval:
    if pair.groups is not None and pair.units < pair.count:
        return clustered_proportions(changes, pair.groups)
    counts = int((changes > 0).sum()), int((changes < 0).sum())
    return Interval(tango_interval(*counts, pair.count), method="tango")


def _of_differences(pair: _Pair, values: np.ndarray, seed: int) -> Interval:
    if pair.units == 1:
        return none("there is one sample only, so the spread is unknown")
    return bca(clustered(values[1] - values[0], pair.groups), seed, reach=float(np.ptp(values)))


def _equal_outputs(pair: _Pair) -> bool:
    outputs = list(zip(pair.before, pair.after, strict=True))
    if any(left.shape != right.shape for left, right in outputs):
        return False
    blocks = (block for output in outputs for block in paired_blocks(*output))
    return all(np.array_equal(*block, equal_nan=block[0].dtype.kind in "fc") for block in blocks)


def _of_score(pair: _Pair, seed: int, seconds: float) -> Interval:
    kept = [array for array in (*pair.before, *pair.after) if array.size]
    if any(len(array) % pair.count for array in kept):
        return none("an output has no rows for each sample; limit the metric with OUTPUTS")
    size = sum(array.nbytes for array in kept)
    if size > _RESAMPLED_BYTES:
        return none(f"outputs of {size >> 20} MiB are too large to resample without per_sample")
    return opaque_interval(
        lambda rows: _score(pair, pair.after, rows, rows) - _score(pair, pair.before, rows, rows),
        pair.count,
        pair.groups,
        seed,
        seconds,
        _reach(pair, seed),
    )


def _score(pair: _Pair, outputs: list[np.ndarray], rows: np.ndarray, others: np.ndarray) -> float:
    """The score of some samples' outputs by the labels of others; NaN where the metric fails on them."""
    labels = _picked(pair.labels, others, pair.count)
    try:
        return measure(pair.metric, [_picked(array, rows, pair.count) for array in outputs], labels)
    except DataError:
        return math.nan


def _picked(array: np.ndarray, samples: np.ndarray, count: int) -> np.ndarray:
    """The rows of some of ``count`` samples: as many consecutive rows for each as there are."""
    if array.size == 0:
        return array
    rows: np.ndarray = array.reshape(count, -1, *array.shape[1:])[samples]
    return rows.reshape(-1, *array.shape[1:])


def _fidelity(name: str, reference: np.ndarray, other: np.ndarray) -> Fidelity:
    numbers = all(array.dtype.kind in "biuf" and array.ndim for array in (reference, other))
    if not numbers or reference.ndim != other.ndim or len(reference) != len(other):
        return Fidelity(name, None, None, None, None)
    signal = noise = largest = 0.0
    for left, right in paired_blocks(reference, other):
        value = finite(left)
        error = finite(right) - value
        signal += float(np.vdot(value, value))
        noise += float(np.vdot(error, error))
        largest = max(largest, float(np.abs(error).max(initial=0.0)))
    scores = reference.dtype.kind == "f" and reference.ndim > 1 and reference.shape[-1] > 1
    return Fidelity(
        output=name,
        top1_agreement=float(agreement(reference, other).mean()) if scores else None,
        cosine_mean=float(cosine(reference, other).mean()),
        sqnr_db=_decibels(signal, noise),
        max_abs=largest,
        rank_correlation=rank_correlation(reference, other),
    )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return _MAX_DB
    if signal == 0:
        return -_MAX_DB
    return min(max(10 * (math.log10(signal) - math.log10(noise)), -_MAX_DB), _MAX_DB)
