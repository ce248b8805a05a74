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
from infopt.stats.proportions import score_limits

if TYPE_CHECKING:
    from infopt.accuracy import Accuracy
    from infopt.stats.limits import Bounds

POWER = 0.8
"""How probably the samples that are asked for decide, if the drop is what it seems to be."""

_MOST = 1000.0
"""With more than so many times the samples, no number is named."""


def drop_interval(accuracy: Accuracy, confidence: float = CI95) -> Bounds | None:
    """Limits of the worsening.

    Args:
        accuracy: Before and after.
        confidence: That of each limit on its own; the default gives the two-sided 95 % interval.

    Returns:
        Lower and upper limit, or ``None`` where there is no interval.
    """
    return _drop_limits(accuracy, confidence, 1.0)


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
        found = _drop_limits(accuracy, strict, scale)
        return found is not None and (found[1] <= limit if accuracy.drop < limit else found[0] > limit)

    if accuracy.drop == limit or not decides(_MOST):
        return None
    low, high = 0.0, math.log(_MOST)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if decides(math.exp(middle)) else (middle, high)
    return _rounded_up(accuracy.n * math.expm1(high))


def _drop_limits(accuracy: Accuracy, confidence: float, scale: float) -> Bounds | None:
    """Limits of the worsening, as ``scale`` times as many samples of the same kind would give them."""
    if accuracy.ci95 is None or not all(map(math.isfinite, (*accuracy.ci95, accuracy.delta))):
        return None
    if confidence == CI95 and scale == 1:
        return _worsening(accuracy, accuracy.ci95)
    if _counted(accuracy):
        assert accuracy.flips is not None
        gained, lost = accuracy.flips.gained, accuracy.flips.lost
        return score_limits(lost * scale, gained * scale, accuracy.n * scale, z_value(confidence))
    low, high = one_sided(accuracy.ci95, accuracy.delta, confidence, accuracy.limits)
    shrink = 1 / math.sqrt(scale)
    center = accuracy.delta
    return _worsening(accuracy, (center - shrink * (center - low), center + shrink * (high - center)))


def _worsening(accuracy: Accuracy, bounds: Bounds) -> Bounds:
    return (-bounds[1], -bounds[0]) if accuracy.higher_is_better else bounds


def _counted(accuracy: Accuracy) -> bool:
    """Whether the flips give the interval; reports that do not say so are tried."""
    if accuracy.flips is None or accuracy.ci95 is None or accuracy.interval not in (None, "tango"):
        return False
    if accuracy.interval == "tango":
        return True
    found = score_limits(accuracy.flips.lost, accuracy.flips.gained, accuracy.n, z_value(CI95))
    return all(
        math.isclose(a, b, abs_tol=1e-9) for a, b in zip(found, _worsening(accuracy, accuracy.ci95), strict=True)
    )


def _rounded_up(value: float) -> int:
    step = int(10 ** max(math.floor(math.log10(max(value, 1))) - 1, 0))
    return max(math.ceil(value / step), 1) * step
