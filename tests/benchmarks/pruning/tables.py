"""The tables, of raw numbers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..sheets import Cells, Sheet, brief, points
from .bars import at_latency, judgements
from .records import INT8, OURS, THEIRS

if TYPE_CHECKING:
    from .bars import Judgement
    from .records import Measured, Pruned

Interval = tuple[float, float] | None


def sheets(measured: Measured) -> list[Sheet]:
    """All tables that there are numbers for."""
    every = [pruned(measured), rivals(measured), bars(measured)]
    return [sheet for sheet in every if sheet.rows]


def dropped(value: float | None, interval: Interval) -> str:
    """A drop in points with its interval."""
    inside = f" [{points(interval[0])}, {points(interval[1])}]" if interval else ""
    return points(value) + inside


def part(value: float | None) -> str:
    """A part of a whole."""
    return "-" if value is None else f"{value:.1%}"


def ratio(measured: Measured, row: Pruned) -> str:
    """Latency as a part of the float model's, with its interval."""
    speed = measured.speed(row)
    if speed is None or speed.ratio is None:
        return "-"
    inside = f" [{speed.interval[0]:.2f}, {speed.interval[1]:.2f}]" if speed.interval else ""
    return f"{speed.ratio:.2f}{inside}"


def whole(value: float | None) -> str:
    """A number without a fraction."""
    return "-" if value is None else f"{value:,.0f}"


def pruned(measured: Measured) -> Sheet:
    """infopt's pruned models, in float and in INT8."""
    rows = []
    for row in (row for row in measured.pruned if row.tool == OURS):
        name = (row.model, row.target, row.variant)
        if row.reason is not None:
            rows.append((*name, brief(row.reason), *[""] * 9))
            continue
        units = ", ".join(f"{kind} {part(left)}" for kind, left in row.units.items())
        counts = (part(row.flops), part(row.parameters), units or "-")
        losses = (f"{row.score:.4f}", dropped(row.drop, row.interval), dropped(row.below, row.below_interval))
        costs = (part(row.compressed), whole(row.seconds), whole(row.wall), whole(row.megabytes))
        rows.append((*name, *counts, *losses, ratio(measured, row), *costs))
    head = ("model", "target", "variant", "FLOPs", "params", "units left", "score", "drop, points [95 %]")
    more = ("below float pruning", "latency [95 %]", "packed", "s", "s, process", "MiB")
    title = "Pruned by infopt: parts of the float model's; seconds of pruning alone and of the whole process"
    return Sheet(title, (*head, *more), tuple(rows))


def rivals(measured: Measured) -> Sheet:
    """Torch-Pruning, and what infopt has at its latency."""
    return Sheet(
        "Torch-Pruning: the same samples, and as long to recover as infopt's slowest variant of the share took",
        ("model", "variant", "FLOPs", "score", "drop, points [95 %]", "latency [95 %]", "s", "steps", *_AGAINST),
        tuple(_rival(measured, row) for row in measured.pruned if row.tool == THEIRS),
    )


_AGAINST = ("infopt at equal FLOPs, points", "infopt at equal latency, points")


def _rival(measured: Measured, row: Pruned) -> Cells:
    if row.reason is not None:
        return (row.model, row.variant, brief(row.reason), *[""] * 7)
    same = (row.model, row.target, row.variant)
    duel = next((each for each in measured.duels if (each.model, each.target, each.variant) == same), None)
    ours = at_latency(measured, row)
    ahead = None if ours is None or row.score is None else ours - row.score
    swapped = (-duel.interval[1], -duel.interval[0]) if duel and duel.interval else None
    equal = dropped(None if duel is None or duel.behind is None else -duel.behind, swapped)
    scores = (part(row.flops), f"{row.score:.4f}", dropped(row.drop, row.interval), ratio(measured, row))
    return (row.model, row.variant, *scores, whole(row.seconds), str(row.turns), equal, points(ahead))


def bars(measured: Measured) -> Sheet:
    """What is demanded, and what came of it."""
    rows = [(j.row.model, j.row.target, j.row.variant, j.what, *_amounts(j), str(j.bar)) for j in judgements(measured)]
    return Sheet("Bars", ("model", "target", "variant", "demand", "measured", "limit", "answer"), tuple(rows))


def _amounts(judgement: Judgement) -> tuple[str, str]:
    bar = judgement.bar
    if judgement.unit == "points":
        return points(bar.value), points(bar.limit)
    digits = 2 if judgement.unit == "of float" else 0
    return f"{bar.value:,.{digits}f} {judgement.unit}", f"{bar.limit:,.{digits}f}"


def unquantized(variant: str) -> str:
    """The variant that was quantized."""
    return variant.removesuffix(INT8)
