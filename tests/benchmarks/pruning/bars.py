"""What is demanded of pruning, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..bars import Bar
from ..variants import Options
from .records import OURS, THEIRS

if TYPE_CHECKING:
    from .records import Measured, Pruned

BELOW = 0.005
"""INT8 behind pruning loses no more than this on top."""

SECONDS = 300.0
MEGABYTES = 1.5e9 / 2**20
FOLLOWS = 0.5
"""Latency falls by at least this part of what the operations fall by, in models that take long enough to tell."""

LONG_MS = 3.0


@dataclass(frozen=True, slots=True)
class Demand:
    """A largest drop.

    Attributes:
        models: Names of the models.
        options: Rows of which the options hold these.
        drop: The largest drop.
        seconds: The longest time.
    """

    models: tuple[str, ...]
    options: Options
    drop: float
    seconds: float | None = None


DEMANDS = (
    Demand(("resnet20_fashion",), {"flops": 0.5}, 0.01, SECONDS),
    Demand(("resnet20_fashion",), {"kind": "2:4"}, 0.005),
    Demand(("resnet20_fashion",), {"kind": "unstructured", "sparsity": 0.7}, 0.005),
    Demand(("vit_fashion", "minilm_sentiment"), {"flops": 0.7}, 0.015),
)
HEAVY = ("minilm_sentiment",)
"""Models of which the memory has a bar."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A demand on a row, and what came of it.

    Attributes:
        row: The row.
        what: What is demanded, in words.
        bar: Limit and value.
        unit: What the numbers count.
    """

    row: Pruned
    what: str
    bar: Bar
    unit: str = "points"


def judgements(measured: Measured) -> list[Judgement]:
    """All demands on all rows that have numbers."""
    return [each for row in measured.pruned if row.reason is None for each in _of(measured, row)]


def _of(measured: Measured, row: Pruned) -> Iterator[Judgement]:
    if row.tool == THEIRS:
        yield from _against(measured, row)
        return
    if row.int8 and row.below is not None:
        limit = max(BELOW, row.unit or 0.0)
        yield Judgement(row, "INT8 below pruning alone", Bar(limit, row.below, row.below_interval))
        return
    for demand in DEMANDS:
        if row.model in demand.models and demand.options.items() <= row.options.items() and row.drop is not None:
            yield Judgement(row, "drop", Bar(max(demand.drop, row.unit or 0.0), row.drop, row.interval))
            if demand.seconds and row.seconds is not None:
                yield Judgement(row, "time", Bar(demand.seconds, row.seconds), "s")
    if row.model in HEAVY and row.options and row.megabytes is not None:
        yield Judgement(row, "peak memory", Bar(MEGABYTES, row.megabytes), "MB")
    yield from _followed(measured, row)


def _followed(measured: Measured, row: Pruned) -> Iterator[Judgement]:
    speed = measured.speed(row)
    if speed is None or speed.ratio is None or row.flops is None or row.flops >= 0.95:
        return
    if speed.base_ms is not None and speed.base_ms > LONG_MS:
        limit = 1 - FOLLOWS * (1 - row.flops)
        yield Judgement(row, "latency follows operations", Bar(limit, speed.ratio, speed.interval), "of float")


def _against(measured: Measured, row: Pruned) -> Iterator[Judgement]:
    """infopt's accuracy at the latency of theirs; the interval has the width of that at equal operations."""
    ours = at_latency(measured, row)
    if ours is None or row.score is None:
        return
    behind = row.score - ours
    duel = next(
        (d for d in measured.duels if (d.model, d.target, d.variant) == (row.model, row.target, row.variant)), None
    )
    interval = None
    if duel is not None and duel.interval is not None and duel.behind is not None:
        interval = behind + duel.interval[0] - duel.behind, behind + duel.interval[1] - duel.behind
    yield Judgement(row, "infopt behind it at equal latency", Bar(0.0, behind, interval))


def at_latency(measured: Measured, row: Pruned) -> float | None:
    """infopt's score at the latency of a row, between the neighbours on its curve of pruned shares.

    The float model ends the curve on one side. Beyond its fastest model there is no number, unless that is as fast.
    """
    speed = measured.speed(row)
    if speed is None or speed.ratio is None:
        return None
    curve = frontier(measured, row.model, row.target)
    if not curve or row.baseline is None:
        return None
    curve = [*(point for point in curve if point[0] < 1), (1.0, row.baseline)]
    slower = [point for point in curve if point[0] >= speed.ratio]
    faster = [point for point in curve if point[0] < speed.ratio]
    if not slower:
        return row.baseline
    if not faster:
        return slower[0][1] if slower[0][0] <= speed.ratio * 1.02 else None
    (x0, y0), (x1, y1) = faster[-1], slower[0]
    return y0 + (y1 - y0) * (speed.ratio - x0) / (x1 - x0)


def frontier(measured: Measured, model: str, target: str) -> list[tuple[float, float]]:
    """infopt's models in float that none other beats in both, as (latency, score) from the fastest on."""
    rows = [row for row in measured.pruned if (row.model, row.target, row.tool) == (model, target, OURS)]
    found = [(row, measured.speed(row)) for row in rows if not row.int8 and "flops" in row.options]
    points = sorted((s.ratio, row.score) for row, s in found if s and s.ratio is not None and row.score is not None)
    best: list[tuple[float, float]] = []
    for ratio, score in points:
        if not best or score > best[-1][1]:
            best.append((ratio, score))
    return best
