"""Bootstrap of a score that tells nothing of single samples, as far as time allows."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from infopt.stats.bca import corrected, with_unseen
from infopt.stats.limits import CI95, LEVELS, Interval, at_levels, none

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infopt.stats.limits import Bounds

MIN_RESAMPLES = 200
"""Fewer resamples give no interval."""

_RESAMPLES = 2_000
_FAILED_SHARE = 0.05
_IN_A_TAIL = 5


def opaque_interval(
    delta: Callable[[np.ndarray], float],
    count: int,
    groups: np.ndarray | None,
    seed: int,
    seconds: float,
    reach: float = 0.0,
) -> Interval:
    """Interval of a difference of scores: :func:`infopt.stats.bca.bca` with the shape that the resamples have.

    As there, the one-sided limits, which decide, are at least as far from the estimate as those of proportions without
    flips are from 0, times the reach. That is what a score which is a mean of its samples needs; of one that gives few
    samples a large weight nobody can say how far it may go.

    Args:
        delta: Difference of the scores on some samples (their numbers, with repetitions); NaN where there is none.
        count: Samples.
        groups: What each belongs to, [count]; groups are resampled as a whole.
        seed: Of the resamples.
        seconds: Time that it may take.
        reach: By how much the score differs when every sample is as wrong as can be.

    Returns:
        The interval; none when time allows fewer than 200 resamples or more than 5 % of them fail.
    """
    from scipy.special import stdtrit

    found = _in_time((delta(rows) for rows in _draws(count, groups, seed)), seconds)
    if len(found) < MIN_RESAMPLES:
        return none(f"the metric is too slow for {MIN_RESAMPLES} resamples in {seconds:g} s")
    failed = np.isnan(found)
    if failed.mean() > _FAILED_SHARE:
        return none(f"the metric fails on {failed.mean():.0%} of the resamples")
    deltas, center = np.sort(found[~failed]), delta(np.arange(count))
    units = count if groups is None else len(np.unique(groups))
    stretch = math.sqrt(units / max(units - 1, 1))
    acceleration, widening = _shape(deltas, reach / units)
    plain, wide = (corrected(deltas, center, acceleration, factor) for factor in (1.0, widening))

    def bounds(confidence: float, limit: Callable[[float], float] = wide) -> Bounds:
        z = float(stretch * stdtrit(max(units - 1, 1), confidence))
        return limit(-z), limit(z)

    def careful(confidence: float) -> Bounds:
        return with_unseen(bounds(confidence), center, reach, units, confidence)

    # Beyond these there are too few resamples in a tail.
    levels = [level for level in LEVELS if level <= CI95 or (1 - level) * len(deltas) >= _IN_A_TAIL]
    method = "bootstrap" if groups is None else "cluster-bootstrap"
    # The interval tells what was seen; the limits that decide allow for what was not.
    return replace(at_levels(method, careful, levels), ci95=bounds(CI95, plain))


def _shape(deltas: np.ndarray, farthest: float) -> tuple[float, float]:
    """Acceleration, a sixth of the skewness of the resamples; and what a pair of samples this far out widens."""
    # Scores can be anything: their squares are taken of numbers near 1.
    size = float(np.abs(deltas).max())
    if not 0 < size < math.inf:
        return 0.0, 1.0
    deltas, farthest = deltas / size, farthest / size
    residuals = deltas - deltas.mean()
    variance = float((residuals**2).mean())
    if variance == 0:
        return 0.0, 1.0
    return float((residuals**3).mean()) / (6 * variance**1.5), math.sqrt(1 + 2 * farthest**2 / variance)


def _draws(count: int, groups: np.ndarray | None, seed: int) -> Iterator[np.ndarray]:
    """Numbers of the samples of each resample, int64."""
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(_RESAMPLES):
            yield rng.integers(0, count, count)
        return
    which = np.unique(groups, return_inverse=True)[1]
    members = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    for _ in range(_RESAMPLES):
        yield np.concatenate([members[group] for group in rng.integers(0, len(members), len(members))])


def _in_time(values: Iterator[float], seconds: float) -> np.ndarray:
    start, found = time.monotonic(), []
    for value in values:
        found.append(value)
        elapsed = time.monotonic() - start
        hopeless = elapsed > seconds / 4 and elapsed * MIN_RESAMPLES > seconds * len(found)
        if elapsed > seconds or hopeless:
            break
    return np.array(found)
