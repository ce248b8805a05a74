"""All charts of a report; :mod:`infopt.views.html.draw` draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.views.html.charts.accuracy import accuracy_chart
from infopt.views.html.charts.amounts import kernels_chart, size_chart
from infopt.views.html.charts.latency import latency_chart
from infopt.views.html.charts.parts import classes_chart, layers_chart

if TYPE_CHECKING:
    from infopt.report import Report
    from infopt.views.html.charts.marks import Chart

_CHARTS = (accuracy_chart, latency_chart, size_chart, kernels_chart, layers_chart, classes_chart)


def charts(report: Report) -> list[Chart]:
    """The charts of a report; what was not measured has none."""
    return [chart for make in _CHARTS if (chart := make(report)) is not None]
