"""One rule for every limit on an estimate: pass, fail or undecided."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infopt.report import Status

Bounds = tuple[float, float]

_SLACK = 1e-12
"""0.9176 - 0.9126 is not quite 0.005 in binary: a value equal to the limit keeps it."""


def decide(value: float, interval: Bounds | None, limit: float, scale: float = 1.0) -> Status:
    """Decide a limit that a value must not exceed; for one that it must reach, negate everything.

    The value itself is always possible: an interval that does not hold it, from a report that contradicts itself,
    counts as if it reached there. Without an interval a value that misses the limit fails, and one that keeps it is
    undecided: nothing says how much of it is chance.

    Args:
        value: What was measured.
        interval: Its one-sided limits, each at the wanted confidence.
        limit: The largest value that is accepted.
        scale: Size of the numbers whose difference the value is, for their rounding.
    """
    low, high = around(value, interval) or (value, math.inf)
    slack = _SLACK * max(scale, abs(limit))
    return "fail" if low > limit + slack else "pass" if high <= limit + slack else "undecided"


def around(value: float, interval: Bounds | None) -> Bounds | None:
    """The interval, extended so far that it holds the value."""
    return None if interval is None else (min(interval[0], value), max(interval[1], value))
