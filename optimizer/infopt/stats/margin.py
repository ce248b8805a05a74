"""The drop against a budget: is it surely within, surely beyond, and how many more samples would tell?

Non-inferiority: the drop keeps a limit when its upper one-sided limit does, and misses it when its lower one does.
Either answer is wrong with at most 1 - confidence, and both come from what a report holds, so that a report always
gets the same answer.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from infopt.stats.limits import CI95, one_sided, z_value
from infopt.stats.proportions import EDWARDS, score_limits

if TYPE_CHECKING:
    from infopt.accuracy import Accuracy
    from infopt.stats.limits import Bounds

POWER = 0.8
"""How probably the samples that are asked for decide, if the drop is what it seems to be."""

_MOST = 1000.0
"""With more than so many times the samples, no number is named."""


def drop_interval(accuracy: Accuracy) -> Bounds | None:
    """The 95 % interval of the worsening, or ``None`` where there is none."""
    return worsening(accuracy.ci95, accuracy.higher_is_better) if math.isfinite(accuracy.delta) else None


def worsening(ci95: Bounds | None, higher: bool) -> Bounds | None:
    """An interval of a difference as one of the worsening.

    Args:
        ci95: Of ``candidate - baseline``.
        higher: Whether higher is better.

    Returns:
        The interval; ``None`` for one that is none.
    """
    if ci95 is None or not all(map(math.isfinite, ci95)) or ci95[0] > ci95[1]:
        return None
    return _worsening(ci95, higher)


def flip_counts(accuracy: Accuracy) -> tuple[int, int, int] | None:
    """Lost, gained and all samples, where independent samples that changed sides make up the whole difference.

    Counts alone do not tell: a balanced accuracy has flips too, but weighs them by class.

    Returns:
        The counts if the 95 % interval is Tango's of them; ``None`` for other metrics and for groups.
    """
    interval = drop_interval(accuracy)
    return None if interval is None or accuracy.groups is not None else _counts(accuracy, interval)


def drop_limits(accuracy: Accuracy, confidence: float, scale: float = 1.0) -> Bounds | None:
    """One-sided limits of the worsening, by which a budget is decided.

    Args:
        accuracy: Before and after.
        confidence: That of each limit on its own.
        scale: Limits that so many times as many samples of the same kind would give.

    Returns:
        Lower and upper limit, or ``None`` where there is no interval.
    """
    interval = drop_interval(accuracy)
    if interval is None:
        return None
    counts = _counts(accuracy, interval)
    if counts is not None:
        lost, gained, n = (scale * count for count in counts)
        return score_limits(lost, gained, n, z_value(confidence), EDWARDS)
    assert accuracy.ci95 is not None
    low, high = one_sided(accuracy.ci95, accuracy.delta, confidence, accuracy.limits)
    shrink, center = 1 / math.sqrt(scale), accuracy.delta
    return _worsening((center - shrink * (center - low), center + shrink * (high - center)), accuracy.higher_is_better)


def more_samples(accuracy: Accuracy, limit: float, confidence: float) -> int | None:
    """How many more samples would probably decide whether the drop keeps a limit.

    Args:
        accuracy: Before and after; what it seems to be is taken for true.
        limit: The largest drop that is allowed.
        confidence: That of the one-sided limits.

    Returns:
        A number with two digits that decides with a probability of about 80 %, or ``None``: the drop is too close to
        the limit, or its interval is unknown.
    """
    # A one-sided limit at this confidence keeps the budget when 80 % of the limits at the wanted one do.
    strict = NormalDist().cdf(z_value(confidence) + z_value(POWER))

    def decides(scale: float) -> bool:
        found = drop_limits(accuracy, strict, scale)
        return found is not None and (found[1] <= limit if accuracy.drop < limit else found[0] > limit)

    if accuracy.drop == limit or not decides(_MOST):
        return None
    low, high = 0.0, math.log(_MOST)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if decides(math.exp(middle)) else (middle, high)
    return _rounded_up(accuracy.n * math.expm1(high))


def _worsening(bounds: Bounds, higher: bool) -> Bounds:
    return (-bounds[1], -bounds[0]) if higher else bounds


def _counts(accuracy: Accuracy, interval: Bounds) -> tuple[int, int, int] | None:
    """Lost, gained and all samples, if they gave the interval; of a report that does not say so it is tried."""
    if accuracy.flips is None or accuracy.interval not in (None, "tango"):
        return None
    lost, gained, n = accuracy.flips.lost, accuracy.flips.gained, accuracy.n
    if min(lost, gained, n - lost - gained) < 0 or n < 1:
        return None
    found = score_limits(lost, gained, n, z_value(CI95))
    same = all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(found, interval, strict=True))
    return (lost, gained, n) if same else None


def _rounded_up(value: float) -> int:
    step = int(10 ** max(math.floor(math.log10(max(value, 1))) - 1, 0))
    return max(math.ceil(value / step), 1) * step
