"""What became of the parts: the error of each layer along the graph, and the drop of each class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from infopt.views.html.charts import marks
from infopt.views.html.charts.marks import BAD, BASE, BEST, COLORED, INK, MUTED, NAME, ROWS, Chart, Fields
from infopt.wording import digits, metric, visible

if TYPE_CHECKING:
    from infopt.report import ClassChange, Report

CLASSES, NAMED = 12, 3
"""Classes in the chart, and layers that its caption names."""

BARS = 300
"""Most bars of layers; of a larger model each bar is the lowest of several neighbours."""


FLOOR = -20.0
"""SQNR in dB at which a bar ends that goes lower: such a layer is destroyed, and the others are to be seen."""


def layers_chart(report: Report) -> Chart | None:
    """One bar a layer in the graph's order; low is bad."""
    known = [(index, each.name, each.sqnr_db) for index, each in enumerate(report.layers) if each.sqnr_db is not None]
    known = [each for each in known if not math.isnan(each[2]) and each[2] != math.inf]
    if len(known) < 2:
        return None
    lowest = sorted(known, key=lambda each: each[2])[:NAMED]
    marked = {index for index, _, _ in lowest}
    count = len(report.layers)
    wide = -(-count // BARS)
    rows = [
        {"low": start + 0.6, "high": start + wide + 0.4, "y": max(db, FLOOR), "zero": 0, "color": BAD if bad else BEST}
        for start, db, bad in _lowest(known, wide, marked)
    ]
    x = marks.horizontal(0, count + 1, "layer, from input to output", axis={"tickMinStep": 1, "format": "d"})
    y = {"field": "y", "type": "quantitative", "title": "SQNR in dB", "scale": {"zero": True}}
    place = marks.span_of(x, "low", "high") | {"y": y, "y2": {"field": "zero"}, "color": COLORED}
    named = "; ".join(f"{visible(name, 60)} {digits(db)} dB" for _, name, db in lowest)
    says = f"{len(known)} layers; the lowest are {named}."
    return Chart("layers", says, 190, [marks.layer(rows, "rect", place)])


def _lowest(known: list[tuple[int, str, float]], wide: int, marked: set[int]) -> Iterator[tuple[int, float, bool]]:
    """First layer, lowest value and whether it is marked, of each group of neighbours."""
    groups: dict[int, tuple[float, bool]] = {}
    for index, _, db in known:
        start = index - index % wide
        lowest, bad = groups.get(start, (db, False))
        groups[start] = min(lowest, db), bad or index in marked
    for start, (db, bad) in groups.items():
        yield start, db, bad


def classes_chart(report: Report) -> Chart | None:
    """The classes that lost most, with the interval of each."""
    known = [each for each in report.classes if math.isfinite(each.drop)]
    if not known:
        return None
    higher = report.accuracy is None or report.accuracy.higher_is_better
    worst = sorted(known, key=lambda each: -each.drop)[:CLASSES]
    rows = marks.distinct([_class(each, higher) for each in worst])
    x = marks.horizontal(*marks.padded([0.0, *(row[end] for row in rows for end in ("x", "low", "high"))]))
    x |= {"title": "drop (right of 0 is worse)", "axis": {"format": "~g"}}
    layers = [
        marks.layer(rows, "bar", {"x": x, "y": ROWS, "color": COLORED}, height=12, opacity=0.9),
        marks.layer(rows, "bar", marks.span_of(x, "low", "high") | {"y": ROWS}, height=2, color=INK, opacity=0.8),
        marks.layer([{"x": 0}], "rule", {"x": x}, color=MUTED, strokeWidth=1.5),
    ]
    shown = f"the {len(rows)} of {len(known)} that lost most" if len(rows) < len(known) else f"all {len(known)}"
    says = f"Classes, {shown}; the worst is {rows[0]['name']}, a drop of {metric(rows[0]['x'])}."
    return Chart("classes", says, 24 * len(rows) + 4, layers, marks.longest(rows))


def _class(each: ClassChange, higher_is_better: bool) -> Fields:
    """A class that surely lost is marked, one that may have is grey."""
    known = each.ci95 if each.ci95 and all(map(math.isfinite, each.ci95)) else None
    change = known or (-each.drop, -each.drop)
    low, high = (-change[1], -change[0]) if higher_is_better or known is None else change
    color = BAD if low > 0 else BEST if each.drop <= 0 else BASE
    return {"name": visible(each.label, NAME), "x": each.drop, "low": low, "high": high, "color": color}
