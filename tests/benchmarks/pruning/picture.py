"""README's picture: accuracy against latency, of raw numbers alone."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infopt.views.html.charts.marks import INK, LINE, MUTED
from infopt.views.html.draw import draw

from .plans import MODELS, TARGETS
from .records import ALONE, THEIRS

if TYPE_CHECKING:
    from .records import Measured, Pruned

FILE = Path(__file__).with_name("accuracy-latency.svg")

FLOAT, QUANTIZED, OTHERS = "as it came", "INT8 by infopt", "pruned by Torch-Pruning"
OURS, OURS_INT8 = "pruned by infopt", "pruned and INT8 by infopt"
LOOKS = {
    FLOAT: ("var(--ink)", "cross"),
    QUANTIZED: ("var(--open)", "diamond"),
    OURS: ("var(--best)", "circle"),
    OURS_INT8: ("var(--good)", "square"),
    OTHERS: ("var(--bad)", "triangle-up"),
}
"""Color and shape of each kind; no two differ by color alone."""

STYLE = (files("infopt.views.html") / "templates" / "style.css").read_text(encoding="utf-8").partition("\n* {")[0]
"""The colors of the report, light and dark: what stands in front of its first rule."""

WIDTH, HEIGHT = 230, 220
LOST = 6.0
"""Points below the float model where a panel ends; models that lose more are in the tables."""

Fields = dict[str, Any]


def svg(measured: Measured) -> str:
    """The picture as an SVG file that follows the reader's light or dark scheme."""
    shown = [model for model in MODELS if len(marks(measured, model)) > 1]
    drawn = str(draw([_spec(measured, shown)])[0])
    says = f"Accuracy against latency of pruned models, {', '.join(shown)}; the numbers are in the table."
    head = '<svg xmlns="http://www.w3.org/2000/svg" role="img" font-family="Arial, Liberation Sans, sans-serif" '
    return drawn.replace("<svg ", head, 1).replace(">", f"><title>{says}</title><style>{STYLE}</style>", 1) + "\n"


def marks(measured: Measured, model: str) -> list[Fields]:
    """Points of a panel: latency and accuracy in per cent, and what kind it is."""
    rows = [row for row in measured.pruned if (row.model, row.target) == (model, TARGETS[0]) and row.score is not None]
    if not rows:
        return []
    points = [{"x": 100.0, "y": 100 * (rows[0].baseline or 0.0), "kind": FLOAT}]
    for row in rows:
        speed = measured.speed(row)
        structured = "flops" in row.options or row.variant == ALONE
        if structured and speed is not None and speed.ratio is not None and (row.drop or 0.0) * 100 <= LOST:
            points.append({"x": 100 * speed.ratio, "y": 100 * (row.score or 0.0), "kind": _kind(row)})
    return points


def _kind(row: Pruned) -> str:
    if row.tool == THEIRS:
        return OTHERS
    return QUANTIZED if row.variant == ALONE else OURS_INT8 if row.int8 else OURS


def _spec(measured: Measured, models: list[str]) -> Fields:
    axis: Fields = {"labelColor": MUTED, "titleColor": MUTED, "gridColor": LINE, "domainColor": LINE, "tickColor": LINE}
    config = {
        "aria": False,
        "font": "Arial, Liberation Sans, sans-serif",
        "view": {"stroke": None},
        "axis": {**axis, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridOpacity": 0.6},
        "legend": {"labelColor": INK, "labelFontSize": 13, "orient": "bottom", "title": None, "symbolSize": 90},
        "title": {"color": INK, "fontSize": 13, "anchor": "start"},
    }
    panels = [_panel(model, marks(measured, model), first=model == models[0]) for model in models]
    return {"background": None, "padding": 4, "config": config, "spacing": 24, "hconcat": panels}


def _panel(model: str, points: list[Fields], first: bool) -> Fields:
    names = list(LOOKS)
    color, shape = ({"domain": names, "range": [look[i] for look in LOOKS.values()]} for i in range(2))
    kind = {"field": "kind", "type": "nominal", "title": None}
    latency = {"field": "x", "type": "quantitative", "title": "latency, % of float", "axis": {"tickCount": 5}}
    accuracy = {"field": "y", "type": "quantitative", "title": "accuracy, %" if first else None}
    return {
        "title": model,
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"values": points},
        "mark": {"type": "point", "size": 70, "filled": True, "opacity": 0.9},
        "encoding": {
            "x": {**latency, "scale": {"zero": False, "nice": True}},
            "y": {**accuracy, "scale": {"zero": False, "nice": True}, "axis": {"tickCount": 5}},
            "color": {**kind, "scale": color},
            "shape": {**kind, "scale": shape},
        },
    }
