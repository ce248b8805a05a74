"""Amounts as bars: the size before and after, and what the layers compute in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.views.html.charts import marks
from infopt.views.html.charts.marks import BASE, BEST, COLORED, LINE, ROWS, Chart, Fields, Rows
from infopt.wording import megabytes

if TYPE_CHECKING:
    from infopt.report import Report


def size_chart(report: Report) -> Chart | None:
    """Two bars with their sizes."""
    before, after = report.size.baseline_bytes, report.size.candidate_bytes
    if after is None or not before:
        return None
    sides = (("original", before, BASE), ("artifact", after, BEST))
    rows = [{"name": name, "x": value, "label": megabytes(value), "color": color} for name, value, color in sides]
    x = marks.horizontal(0, 1.3 * max(before, after, 1), axis=None)
    layers = [
        marks.layer(rows, "bar", {"x": x, "y": ROWS, "color": COLORED}, height=18),
        marks.words(rows, {"x": x, "y": ROWS}, align="left", dx=8),
    ]
    return Chart(
        "size", f"Size: {megabytes(before)} before, {megabytes(after)} after.", 64, layers, marks.longest(rows)
    )


def kernels_chart(report: Report) -> Chart | None:
    """Integer, compressed and float layers as parts of one bar."""
    found = report.kernels
    if found.integer is None or not found.total:
        return None
    left = found.total - found.integer - found.compressed
    kinds = (("integer", found.integer, BEST), ("compressed", found.compressed, BASE), ("float", left, LINE))
    parts: Rows = []
    start = 0
    for name, count, color in kinds:
        if count > 0:
            parts.append({"low": start, "high": start + count, "color": color, "label": f"{count} {name}"})
            start += count
    x = marks.horizontal(0, found.total, axis=None)
    bar = {"y": {"value": 20}, "y2": {"value": 42}, "color": COLORED}
    layers = [marks.layer(parts, "rect", marks.span_of(x, "low", "high") | bar), *_named(parts, x)]
    told = ", ".join(part["label"] for part in parts)
    return Chart("kernels", f"Compute layers: {told}, of {found.total}.", 44, layers)


def _named(parts: Rows, x: Fields) -> Rows:
    """Names above the parts: the first one's at its left edge, the last one's at its right edge."""
    over = {"y": {"value": 9}}
    first = marks.words(parts[:1], {"x": x | {"field": "low"}} | over, align="left")
    last = marks.words(parts[1:][-1:], {"x": x | {"field": "high"}} | over, align="right")
    middle = [{**part, "x": (part["low"] + part["high"]) / 2} for part in parts[1:-1]]
    return [first, last, marks.words(middle, {"x": x} | over)]
