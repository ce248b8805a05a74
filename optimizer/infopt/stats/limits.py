"""One-sided limits: what an interval is made of, and how one is had at another confidence.

Each limit of a 95 % interval holds with 97.5 % on its own. A budget asks for one limit at a time (is the drop
surely below? surely above?), so it is held against the limits that hold with its confidence one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Bounds = tuple[float, float]

CI95 = 0.975
"""Confidence of each limit of a two-sided 95 % interval."""

LEVELS = (0.9, 0.95, CI95, 0.99, 0.999)
"""Confidences at which limits are computed while the samples are at hand."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Limits of a difference at one confidence.

    Attributes:
        confidence: That of each limit on its own, 0.5 to 1.
        low: The difference is surely above.
        high: It is surely below.
    """

    confidence: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Interval:
    """What the samples say about a difference, or why they say nothing.

    Attributes:
        ci95: Two-sided 95 % interval.
        limits: One-sided limits, where the interval cannot be computed again from counts.
        method: What gave it.
        reason: Why there is none.
    """

    ci95: Bounds | None
    limits: tuple[Limit, ...] = ()
    method: str | None = None
    reason: str | None = None


def none(reason: str) -> Interval:
    """No interval."""
    return Interval(None, reason=reason)


def at_levels(method: str, bounds: Callable[[float], Bounds], levels: Sequence[float] = LEVELS) -> Interval:
    """A 95 % interval with the one-sided limits beside it.

    Args:
        method: What gives them.
        bounds: Low and high limit at a one-sided confidence.
        levels: Confidences.
    """
    return Interval(bounds(CI95), tuple(Limit(level, *bounds(level)) for level in levels), method)


def z_value(confidence: float) -> float:
    """The point that a standard normal variable stays below with this probability."""
    return NormalDist().inv_cdf(confidence)


def one_sided(interval: Bounds, center: float, confidence: float, known: Sequence[Limit] = ()) -> Bounds:
    """One-sided limits at a confidence, from a 95 % interval.

    Distances from the center are those of a normal distribution where only the interval is known; further known
    limits bend it: between two confidences the distance is interpolated in units of the normal.

    Args:
        interval: The two-sided 95 % interval.
        center: The estimate.
        confidence: Wanted for each limit on its own, 0.5 to 1.
        known: Limits at other confidences.
    """
    points = {CI95: interval} | {limit.confidence: (limit.low, limit.high) for limit in known}
    if confidence in points:
        return points[confidence]
    pairs = [(z_value(level), pair) for level, pair in sorted(points.items())]
    z = z_value(confidence)
    low = _distance(z, [(at, center - pair[0]) for at, pair in pairs])
    high = _distance(z, [(at, pair[1] - center) for at, pair in pairs])
    return center - low, center + high


def _distance(z: float, points: list[tuple[float, float]]) -> float:
    """Piecewise linear through the origin and the points, beyond the last in proportion to it."""
    start = (0.0, 0.0)
    for end in points:
        if z <= end[0]:
            share = (z - start[0]) / (end[0] - start[0])
            return start[1] + share * (end[1] - start[1])
        start = end
    return start[1] * z / start[0]
