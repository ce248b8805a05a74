"""The change of the metric with its interval, beside what the budget allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from infopt.findings import measured
from infopt.views.html.charts import marks
from infopt.views.html.charts.marks import BAD, BEST, MUTED, NAME, ROWS, Chart, Fields, Rows
from infopt.wording import metric, signed, span, visible

if TYPE_CHECKING:
    from infopt.accuracy import Accuracy
    from infopt.report import Report

_BAND, _AXIS = 62, 14
_SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~g')"


def accuracy_chart(report: Report) -> Chart | None:
    """One row a metric; metrics of other units than the first are left to the table."""
    found = measured(report)
    if found is None:
        return None
    limit = next((c.limit for c in report.verdict.budgets if c.name == "max_drop"), None)
    worst = None if limit is None else -limit if found.higher_is_better else limit
    rows = marks.distinct([_row(each) for each in (found, *found.others) if _alike(each, found)])
    ends = [x for row in rows for x in (row["x"], row["low"], row["high"])]
    low, high = marks.padded([0.0, *ends, *([] if worst is None else [worst])])
    better = "worse ← → better" if found.higher_is_better else "better ← → worse"
    title = f"change of the metric ({better})"
    x = marks.horizontal(low, high, title, axis={"labelExpr": _SIGNED})
    height = _BAND * len(rows) + _AXIS
    forbidden = [] if worst is None else _forbidden(worst, low if found.higher_is_better else high, x, height)
    layers = [
        *forbidden,
        marks.layer([{"x": 0}], "rule", {"x": x}, color=MUTED, strokeWidth=1.5),
        marks.layer(rows, "bar", marks.span_of(x, "low", "high") | {"y": ROWS}, height=10, color=BEST, opacity=0.35),
        marks.layer(rows, "tick", {"x": x, "y": ROWS}, thickness=3, size=26, color=BEST),
        marks.words(rows, {"x": x, "y": ROWS}, dy=-22),
    ]
    within = f", 95 % interval {span(found.ci95)}" if found.ci95 else ", without an interval"
    budget = f" The budget allows a drop of {metric(limit)}." if limit is not None else ""
    says = f"{found.metric} changed by {signed(found.delta)}{within}.{budget}"
    return Chart("accuracy", says, height, layers, marks.longest(rows))


def _alike(one: Accuracy, first: Accuracy) -> bool:
    """Whether a metric can share the axis of the first."""
    scores = [abs(score) for each in (one, first) for score in (each.baseline, each.candidate)]
    fits = one.higher_is_better == first.higher_is_better and math.isfinite(one.delta)
    return one is first or (fits and max(scores) <= 1)


def _row(found: Accuracy) -> Fields:
    known = found.ci95 if found.ci95 and all(map(math.isfinite, found.ci95)) else None
    low, high = known or (found.delta, found.delta)
    label = signed(found.delta) + (f"  ({span(known)})" if known else "")
    return {"name": visible(found.metric, NAME), "x": found.delta, "low": low, "high": high, "label": label}


def _forbidden(worst: float, edge: float, x: Fields, height: int) -> Rows:
    """The side of the limit on which the budget is missed."""
    low, high = x["scale"]["domain"]
    right = high - worst > worst - low  # of the line, there is more room for its name
    place = {"x": x, "y": {"value": height - 10}}
    line = [{"x": worst, "label": f"budget {signed(worst)}"}]
    looks = {"align": "left", "dx": 6} if right else {"align": "right", "dx": -6}
    return [
        marks.layer([{"low": worst, "high": edge}], "rect", marks.span_of(x, "low", "high"), color=BAD, opacity=0.14),
        marks.layer(line, "rule", {"x": x}, color=BAD, strokeWidth=1.5, strokeDash=[4, 3]),
        marks.words(line, place, BAD, **looks),
    ]
