"""Intervals of the difference of two reports, as narrow as what they hold allows.

Reports hold no outputs, but where both candidates were paired with the same original model on the same samples, a
sample on which they differ has changed sides in at least one of the pairs. These counts bound what the two can differ
by: an interval of them is wider than that of the outputs, never narrower. Where counts do not make up the metric, and
where samples belong to groups, the ends of both intervals bound the difference. With different original models,
Newcombe's interval of two independent proportions does (R. G. Newcombe, "Interval estimation for the difference
between independent proportions: comparison of eleven methods", Statistics in Medicine 17 (1998) 873-890, method 10):
paired samples only make it wider than it need be.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from infopt.classes import ClassBound, class_flips
from infopt.stats.limits import one_sided
from infopt.stats.margin import drop_interval, flip_counts, worsening
from infopt.stats.proportions import paired_bounds

if TYPE_CHECKING:
    from infopt.accuracy import Accuracy
    from infopt.bench import Latency
    from infopt.report import ClassChange

Interval = tuple[float, float]


def accuracy_interval(new: Accuracy, old: Accuracy, same_model: bool, alpha: float) -> Interval | None:
    """One-sided bounds of the drop from an old candidate to a new one on the same samples.

    Args:
        new: The new candidate against its original model.
        old: The old candidate against its own.
        same_model: Whether these are the same file.
        alpha: Error of each bound alone.

    Returns:
        The bounds of the worsening, or ``None`` where the reports do not hold enough.
    """
    paired = same_model and math.isclose(new.baseline, old.baseline, rel_tol=1e-9)
    counts = flip_counts(new), flip_counts(old)
    if counts[0] and counts[1]:
        return _bounds_by_flips(counts[0][:2], counts[1][:2], new.n, alpha) if paired else _newcombe(new, old, alpha)
    ends = drop_interval(new), drop_interval(old)
    if not paired or ends[0] is None or ends[1] is None:
        return None
    return one_sided(_difference(ends[0], ends[1]), new.drop - old.drop, 1 - alpha)


def class_bound(new: ClassChange, old: ClassChange, higher: bool, alphas: tuple[float, float]) -> ClassBound:
    """Bounds of a class's drop from an old candidate to a new one.

    Args:
        new: The class in the new report.
        old: The class in the old one.
        higher: Whether higher is better.
        alphas: Error of the bound from below, and of that from above.
    """
    drop = (old.candidate - new.candidate) if higher else (new.candidate - old.candidate)
    ends = worsening(new.ci95, higher), worsening(old.ci95, higher)
    if ends[0] is None or ends[1] is None or new.n != old.n or not math.isclose(new.baseline, old.baseline):
        return ClassBound.blind(new.label, drop)
    flips = class_flips(new, ends[0]), class_flips(old, ends[1])
    if flips[0] is not None and flips[1] is not None:
        (low, _), (_, high) = (_bounds_by_flips(flips[0], flips[1], new.n, alpha) for alpha in alphas)
    else:
        wide = _difference(ends[0], ends[1])
        (low, _), (_, high) = (one_sided(wide, drop, 1 - alpha) for alpha in alphas)
    return ClassBound(new.label, drop, min(low, drop), max(high, drop))


def latency_interval(new: Latency, old: Latency, alpha: float) -> Interval | None:
    """Bounds of ``old.speedup / new.speedup``: two independent runs, whose errors in the logarithm add as squares."""
    if new.speedup is None or old.speedup is None or new.speedup_ci95 is None or old.speedup_ci95 is None:
        return None
    (a, b), (c, d), x, y = new.speedup_ci95, old.speedup_ci95, new.speedup, old.speedup
    down, up = math.hypot(math.log(b / x), math.log(y / c)), math.hypot(math.log(x / a), math.log(d / y))
    center = math.log(y / x)
    low, high = one_sided((center - down, center + up), center, 1 - alpha)
    return math.exp(low), math.exp(high)


def _bounds_by_flips(new: tuple[int, int], old: tuple[int, int], n: int, alpha: float) -> Interval:
    """Bounds of the drop between two candidates from the samples that each (lost, gained) against the same base."""
    worse, better = new[0] + old[1], new[1] + old[0]
    surplus = max(0, math.ceil((worse + better - n) / 2))  # no more than all samples differ
    return paired_bounds(max(worse - surplus, 0), max(better - surplus, 0), n, alpha)


def _newcombe(new: Accuracy, old: Accuracy, alpha: float) -> Interval:
    """Interval of the drop between two proportions, as if of independent samples."""
    from scipy.stats import binomtest

    p1, p2 = (min(max(side.candidate, 0.0), 1.0) for side in (new, old))
    a, b = (
        binomtest(round(rate * side.n), side.n).proportion_ci(max(1 - 2 * alpha, 1e-6), method="wilson")
        for rate, side in ((p1, new), (p2, old))
    )
    low = p1 - p2 - math.hypot(p1 - a.low, b.high - p2)
    high = p1 - p2 + math.hypot(a.high - p1, p2 - b.low)
    return (-high, -low) if new.higher_is_better else (low, high)


def _difference(new: Interval, old: Interval) -> Interval:
    """All differences of two numbers of which nothing is known but their intervals."""
    return new[0] - old[1], new[1] - old[0]
