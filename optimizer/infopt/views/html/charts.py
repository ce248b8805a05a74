"""What each chart shows, as Vega-Lite; :mod:`infopt.views.html.draw` draws it, :mod:`.looks` dresses it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infopt.bench import QUANTILES
from infopt.findings import measured
from infopt.views.html.looks import BAD, BASE, BEST, INK, LINE, MUTED, bar, rule, words
from infopt.wording import digits, megabytes, metric, signed, span, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infopt.accuracy import Accuracy
    from infopt.bench import Times
    from infopt.report import ClassChange, Layer, Report

CLASSES, NAMED = 12, 3
"""Classes in the chart; layers of it that are named."""

_SHORT, _TAIL = 28, 3.0
_SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~g')"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart without a width.

    Attributes:
        name: Its place on the page.
        says: What it shows in a sentence, for those who do not see it.
        height: In pixels.
        layers: Vega-Lite's layers, the lowest first.
        longest: Characters of the longest row's name.
    """

    name: str
    says: str
    height: int
    layers: list[dict[str, Any]]
    longest: int = 0


def charts(report: Report) -> list[Chart]:
    """The charts of a report; what was not measured has none."""
    made = (
        *(_accuracy(report), _latency(report), _size(report), _kernels(report)),
        *(_layers(report.layers), _classes(report)),
    )
    return [chart for chart in made if chart is not None]


def _accuracy(report: Report) -> Chart | None:
    """The change with its interval, beside what the budget allows."""
    found = measured(report)
    if found is None:
        return None
    limit = next((c.limit for c in report.verdict.budgets if c.name == "max_drop"), None)
    worst = None if limit is None else -limit if found.higher_is_better else limit
    shown = [each for each in (found, *found.others) if _alike(each, found)]
    ends = [0.0, *(x for each in shown for x in (each.delta, *(each.ci95 or ())))]
    low, high = _padded([*ends, *([] if worst is None else [worst])])
    rows = [_change(each) for each in shown]
    scale = {"domain": [low, high], "nice": False}
    title = f"change of the metric ({'worse ← → better' if found.higher_is_better else 'better ← → worse'})"
    x = {"field": "x", "type": "quantitative", "scale": scale, "title": title, "axis": {"labelExpr": _SIGNED}}
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    layers, height = [], 62 * len(rows) + 14
    if worst is not None:
        edge = low if worst <= 0 and found.higher_is_better else high
        layers += _forbidden(worst, edge, scale, height)
    layers += [
        rule([{"x": 0}], {"x": x | {"axis": x["axis"], "title": title}}, MUTED),
        bar(rows, {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y}, BEST, 10, 0.35),
        {
            "data": {"values": rows},
            "mark": {"type": "tick", "thickness": 3, "size": 26, "color": BEST},
            "encoding": {"x": x, "y": y},
        },
        words(rows, {"x": x, "y": y}, "label", dy=-22),
    ]
    budget = f" The budget allows a drop of {metric(limit)}." if limit is not None else ""
    within = f", 95 % interval {span(found.ci95)}" if found.ci95 else ", without an interval"
    says = f"{found.metric} changed by {signed(found.delta)}{within}.{budget}"
    return Chart("accuracy", says, height, layers, _longest(rows))


def _longest(rows: list[dict[str, Any]]) -> int:
    return max(len(row["name"]) for row in rows)


def _alike(one: Accuracy, other: Accuracy) -> bool:
    """Whether two metrics can share an axis."""
    scores = [abs(s) for each in (one, other) for s in (each.baseline, each.candidate)]
    same = one.higher_is_better == other.higher_is_better and math.isfinite(one.delta)
    return one is other or (same and max(scores) <= 1)


def _change(found: Accuracy) -> dict[str, Any]:
    low, high = found.ci95 or (found.delta, found.delta)
    within = f"  ({span(found.ci95)})" if found.ci95 else ""
    label = f"{signed(found.delta)}{within}"
    return {"name": visible(found.metric, _SHORT), "x": found.delta, "low": low, "high": high, "label": label}


def _forbidden(worst: float, edge: float, scale: dict[str, Any], height: int) -> list[dict[str, Any]]:
    x = {"field": "x", "type": "quantitative", "scale": scale}
    area = {"x": x, "x2": {"field": "x2"}}
    label = [{"x": worst, "label": f"budget {signed(worst)}"}]
    low, high = scale["domain"]
    away = "left" if high - worst > worst - low else "right"  # where there is more room
    place: dict[str, Any] = {"x": x, "y": {"value": height - 10}}
    return [
        {
            "data": {"values": [{"x": worst, "x2": edge}]},
            "mark": {"type": "rect", "color": BAD, "opacity": 0.14},
            "encoding": area,
        },
        rule(label, {"x": x}, BAD, [4, 3]),
        words(label, place, "label", dx=6 if away == "left" else -6, align=away, color=BAD),
    ]


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.25 * (high - low) or 0.25 * abs(high) or 0.001
    return low - room, high + room


def _latency(report: Report) -> Chart | None:
    """How the calls spread: every tick is one call in fifty."""
    found = report.latency
    base = found.baseline_float
    own = found.candidate
    names = ("base", "candidate") if report.command == "compare" else ("float", "artifact")
    sides = [(name, side.setting, side.ms) for name, side in zip(names, (base, own), strict=True) if side and side.ms]
    if not sides:
        return None
    end = 1.15 * max(_reach(ms) for _, _, ms in sides)
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    scale = {"domain": [0, end], "nice": False}
    x = {"field": "x", "type": "quantitative", "scale": scale, "title": "milliseconds a call"}
    rows, ticks = [], []
    for name, setting, ms in sides:
        shown = f"{name} ({visible(setting, 18)})"
        points = _points(ms)
        bounds = {"low": points.get(10, ms.p50), "high": min(ms.p90, end)}
        rows.append({"name": shown, "x": ms.p50, **bounds, "label": f"{digits(ms.p50)} ms", "side": name})
        ticks += [{"name": shown, "x": ms_, "side": name} for ms_ in points.values() if ms_ <= end]
    color = {
        "field": "side",
        "type": "nominal",
        "scale": {"domain": list(names), "range": [BASE, BEST]},
        "legend": None,
    }
    layers = [
        _dressed(bar(rows, {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y}, BASE, 16, 0.3), color),
        _tick(ticks, {"x": x, "y": y, "color": color}, 1, 16, 0.8),
        _tick(rows, {"x": x, "y": y, "color": color}, 3, 28, 1),
        words(rows, {"x": x, "y": y}, "label", dy=-23),
    ]
    medians = ", ".join(f"{row['name']} {row['label']}" for row in rows)
    return Chart("latency", f"Median latency: {medians}.", 62 * len(rows) + 10, layers, _longest(rows))


def _tick(
    rows: list[dict[str, Any]], encoding: dict[str, Any], thickness: int, size: int, opacity: float
) -> dict[str, Any]:
    mark = {"type": "tick", "thickness": thickness, "size": size, "opacity": opacity}
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


def _dressed(layer: dict[str, Any], color: dict[str, Any]) -> dict[str, Any]:
    mark = {key: value for key, value in layer["mark"].items() if key != "color"}
    return layer | {"mark": mark, "encoding": layer["encoding"] | {"color": color}}


def _points(ms: Times) -> dict[int, float]:
    """Quantile in percent to milliseconds; an old report knows three."""
    if len(ms.distribution) != QUANTILES:
        return {50: ms.p50, 90: ms.p90, 99: ms.p99}
    return {2 * index: value for index, value in enumerate(ms.distribution)}


def _reach(ms: Times) -> float:
    """How far an axis must reach to show the calls but not every straggler."""
    return max(ms.p50, min(ms.p99, ms.p90 * 1.3, _TAIL * ms.p50))


def beyond(report: Report) -> str:
    """Which calls lie beyond the axis of the chart, in words; empty where none do."""
    sides = [side.ms for side in (report.latency.baseline_float, report.latency.candidate) if side and side.ms]
    if not sides:
        return ""
    end = 1.15 * max(map(_reach, sides))
    out = sum(value > end for ms in sides for value in _points(ms).values())
    slowest = max(value for ms in sides for value in _points(ms).values())
    return f"Slower calls, up to {digits(slowest)} ms, lie beyond the axis." if out else ""


def _size(report: Report) -> Chart | None:
    size = report.size
    if size.candidate_bytes is None:
        return None
    rows = [
        {"name": name, "x": value, "label": megabytes(value), "side": name}
        for name, value in (("original", size.baseline_bytes), ("artifact", size.candidate_bytes))
    ]
    end = 1.3 * max(size.baseline_bytes, size.candidate_bytes, 1)
    x = {"field": "x", "type": "quantitative", "scale": {"domain": [0, end], "nice": False}, "title": None, "axis": None}
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    color = {
        "field": "side",
        "type": "nominal",
        "scale": {"domain": ["original", "artifact"], "range": [BASE, BEST]},
        "legend": None,
    }
    layers = [
        _dressed(bar(rows, {"x": x, "y": y}, BASE, 18, 1), color),
        words(rows, {"x": x, "y": y}, "label", dx=8, align="left"),
    ]
    return Chart("size", f"Size: {rows[0]['label']} before, {rows[1]['label']} after.", 64, layers, _longest(rows))


def _kernels(report: Report) -> Chart | None:
    """Integer, compressed and float layers as parts of one bar."""
    found = report.kernels
    if found.integer is None or not found.total:
        return None
    left = found.total - found.integer - found.compressed
    parts, start = [], 0
    for name, count, color in (
        ("integer", found.integer, BEST),
        ("compressed weights", found.compressed, BASE),
        ("float", left, LINE),
    ):
        if count > 0:
            parts.append({"x": start, "x2": start + count, "mid": start + count / 2, "color": color, "label": f"{count}"})
            parts[-1]["told"] = f"{count} {name}"
            start += count
    x = {"field": "x", "type": "quantitative", "scale": {"domain": [0, found.total], "nice": False}, "axis": None}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": [part]},
            "mark": {"type": "bar", "height": 22, "color": part["color"]},
            "encoding": {"x": x, "x2": {"field": "x2"}},
        }
        for part in parts
    ]
    told = ", ".join(part["told"] for part in parts)
    return Chart("kernels", f"Compute layers: {told}, of {found.total}.", 26, layers)


def _layers(layers: Sequence[Layer]) -> Chart | None:
    """The error along the graph; low is bad."""
    known = [(index, each) for index, each in enumerate(layers) if each.sqnr_db is not None]
    known = [(index, each) for index, each in known if math.isfinite(each.sqnr_db or 0.0)]
    if len(known) < 2:
        return None
    ordered = sorted(known, key=lambda pair: pair[1].sqnr_db or 0.0)
    worst = {index for index, _ in ordered[:NAMED]}
    rows = [
        {"x": index + 1, "y": each.sqnr_db, "color": BAD if index in worst else BEST, "name": visible(each.name, _SHORT)}
        for index, each in known
    ]
    x = {"field": "x", "type": "quantitative", "title": "layer, from input to output", "axis": {"tickMinStep": 1}}
    x["scale"] = {"domain": [0, len(layers) + 1], "nice": False}
    y = {"field": "y", "type": "quantitative", "title": "SQNR in dB", "scale": {"zero": True}}
    fill = {"field": "color", "type": "nominal", "scale": None, "legend": None}
    named = "; ".join(f"{visible(each.name, 60)} {digits(each.sqnr_db)} dB" for _, each in ordered[:NAMED])
    layer = {
        "data": {"values": rows},
        "mark": {"type": "bar", "width": max(2, min(14, 600 // len(layers)))},
        "encoding": {"x": x, "y": y, "color": fill},
    }
    return Chart("layers", f"{len(known)} layers; the lowest are {named}.", 190, [layer])


def _classes(report: Report) -> Chart | None:
    """The classes that lost most, with the interval of each."""
    known = [each for each in report.classes if math.isfinite(each.drop)]
    if not known:
        return None
    higher = report.accuracy.higher_is_better if report.accuracy else True
    shown = sorted(known, key=lambda each: -each.drop)[:CLASSES]
    rows = [_class(each, higher) for each in shown]
    low, high = _padded([0.0, *(x for row in rows for x in (row["x"], row["low"], row["high"]))])
    x = {"field": "x", "type": "quantitative", "scale": {"domain": [low, high], "nice": False}}
    x |= {"title": "drop (right of 0 is worse)", "axis": {"format": "~g"}}
    y = {"field": "name", "type": "nominal", "sort": None, "title": None}
    fill = {"field": "color", "type": "nominal", "scale": None, "legend": None}
    layers = [
        _dressed(bar(rows, {"x": x, "y": y}, BEST, 12, 0.9), fill),
        bar(rows, {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y}, INK, 2, 0.8),
        rule([{"x": 0}], {"x": x}, MUTED),
    ]
    worst = rows[0]
    says = f"The {len(rows)} classes that lost most of {len(known)}; the worst is {worst['name']}, {metric(worst['x'])}."
    return Chart("classes", says, 24 * len(rows) + 4, layers, _longest(rows))


def _class(each: ClassChange, higher_is_better: bool) -> dict[str, Any]:
    low, high = each.ci95 or (-each.drop, -each.drop)
    within = (-high, -low) if higher_is_better or each.ci95 is None else (low, high)
    color = BAD if within[0] > 0 else BEST if each.drop <= 0 else BASE
    return {"name": visible(each.label, _SHORT), "x": each.drop, "low": within[0], "high": within[1], "color": color}


