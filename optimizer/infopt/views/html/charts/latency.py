"""How the calls spread, the best float setting above the artifact: every thin line is one call in fifty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.bench import QUANTILES
from infopt.views.html.charts import marks
from infopt.views.html.charts.marks import BASE, BEST, COLORED, ROWS, Chart
from infopt.wording import digits, visible

if TYPE_CHECKING:
    from infopt.bench import Latency, Times
    from infopt.report import Report

_BAND, _AXIS, _SETTING = 62, 10, 18
_ROOM, _TAIL, _STRAGGLERS = 1.15, 3.0, 1.3


def latency_chart(report: Report) -> Chart | None:
    """Both sides, or the one that was measured."""
    names = ("base", "candidate") if report.command == "compare" else ("float", "artifact")
    found = report.latency
    both = zip(names, (found.baseline_float, found.candidate), (BASE, BEST), strict=True)
    sides = [(f"{name} ({visible(side.setting, _SETTING)})", side.ms, color) for name, side, color in both if side]
    known = [(name, ms, color) for name, ms, color in sides if ms]
    if not known:
        return None
    end = _end([ms for _, ms, _ in known])
    x = marks.horizontal(0, end, "milliseconds a call")
    rows = [
        {"name": name, "x": ms.p50, "low": _points(ms).get(10, ms.p50), "high": min(ms.p90, end), "color": color}
        | {"label": f"{digits(ms.p50)} ms"}
        for name, ms, color in known
    ]
    calls = [
        {"name": name, "x": value, "color": color}
        for name, ms, color in known
        for value in _points(ms).values()
        if value <= end
    ]
    place = {"x": x, "y": ROWS, "color": COLORED}
    layers = [
        marks.layer(
            rows, "bar", marks.span_of(x, "low", "high") | {"y": ROWS, "color": COLORED}, height=16, opacity=0.3
        ),
        marks.layer(calls, "tick", place, thickness=1, size=16, opacity=0.8),
        marks.layer(rows, "tick", place, thickness=3, size=28, opacity=1),
        marks.words(rows, {"x": x, "y": ROWS}, dy=-23),
    ]
    medians = ", ".join(f"{row['name']} {row['label']}" for row in rows)
    return Chart("latency", f"Median latency: {medians}.", _BAND * len(rows) + _AXIS, layers, marks.longest(rows))


def latency_notes(latency: Latency) -> list[str]:
    """How to read the chart, and what it leaves out."""
    known = [side.ms for side in (latency.baseline_float, latency.candidate) if side and side.ms]
    if not known:
        return []
    notes = []
    if any(ms.distribution for ms in known):
        notes.append(
            "Each thin line is one call in fifty, the thick one the median; the band holds four calls of five."
        )
    values = [value for ms in known for value in _points(ms).values()]
    if max(values) > _end(known):
        notes.append(f"Slower calls, up to {digits(max(values))} ms, lie beyond the axis.")
    return notes


def _points(ms: Times) -> dict[int, float]:
    """Quantile in percent to milliseconds; an old report knows three."""
    if len(ms.distribution) != QUANTILES:
        return {50: ms.p50, 90: ms.p90, 99: ms.p99}
    return {2 * index: value for index, value in enumerate(ms.distribution)}


def _end(sides: list[Times]) -> float:
    """Where the axis ends: it shows the calls, but not every straggler."""
    reach = [max(ms.p50, min(ms.p99, _STRAGGLERS * ms.p90, _TAIL * ms.p50)) for ms in sides]
    return _ROOM * max(reach)
