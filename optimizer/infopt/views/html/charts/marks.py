"""What the charts share: their marks, colors and Vega-Lite's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

INK, MUTED, LINE = "var(--ink)", "var(--muted)", "var(--line)"
BASE, BEST, BAD = "var(--base)", "var(--best)", "var(--bad)"
"""Colors of the style sheet, which follow the reader's light or dark scheme: the baseline, the artifact, bad news."""

WIDE, NARROW = 880, 356
"""Widths in pixels: the page shows the drawing that fits the window."""

NAME = 28
"""Characters of a name in a chart."""

Fields = dict[str, Any]
Rows = list[Fields]

ROWS: Fields = {"field": "name", "type": "nominal", "sort": None, "title": None}
"""One row a name, in the data's order."""

COLORED: Fields = {"field": "color", "type": "nominal", "scale": None, "legend": None}
"""Each mark brings its color."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart without a width.

    Attributes:
        name: The section of the page that it belongs to.
        says: What it shows in a sentence, for those who do not see it.
        height: In pixels.
        layers: Vega-Lite's layers, the lowest first.
        longest: Characters of the longest row's name.
    """

    name: str
    says: str
    height: int
    layers: Rows
    longest: int = 0


def horizontal(low: float, high: float, title: str | None = None, **more: Any) -> Fields:
    """A horizontal axis over exactly this range; its values are the rows' ``x``."""
    scale = {"domain": [low, high], "nice": False}
    return {"field": "x", "type": "quantitative", "scale": scale, "title": title} | more


def layer(rows: Rows, mark: str, encoding: Fields, **looks: Any) -> Fields:
    """Marks of one kind, one a row of data."""
    return {"data": {"values": rows}, "mark": {"type": mark, **looks}, "encoding": encoding}


def span_of(x: Fields, low: str, high: str) -> Fields:
    """Marks from one field to another along an axis."""
    return {"x": x | {"field": low}, "x2": {"field": high}}


def words(rows: Rows, encoding: Fields, color: str = INK, **place: Any) -> Fields:
    """The rows' ``label`` at points, with a halo that the style sheet paints behind the letters."""
    looks: Fields = {"align": "center", "baseline": "middle", "fontSize": 13, "color": color} | place
    halo = {"stroke": "var(--paper)", "strokeWidth": 4}
    return layer(rows, "text", encoding | {"text": {"field": "label"}}, **looks, **halo)


def distinct(rows: Rows) -> Rows:
    """Rows with a name of their own each: Vega-Lite would draw rows of one name on top of each other."""
    seen: dict[str, int] = {}
    named = []
    for row in rows:
        count = seen[row["name"]] = seen.get(row["name"], 0) + 1
        named.append(row | {"name": f"{row['name']} ({count})"} if count > 1 else row)
    return named


def longest(rows: Rows) -> int:
    """Characters of the longest name."""
    return max(len(row["name"]) for row in rows)


def padded(values: Sequence[float]) -> tuple[float, float]:
    """A range with some room around values."""
    low, high = min(values), max(values)
    room = 0.25 * (high - low) or 0.25 * abs(high) or 0.001
    return low - room, high + room


def spec(chart: Chart, width: int) -> Fields:
    """A whole specification: transparent, and without identifiers that two drawings of a page would share.

    Names of rows start at the left edge, in room enough for any font: the reader's is not known here.
    """
    wide = width > NARROW
    limit, size = (230, 13) if wide else (104, 12)
    room = min(limit, round(0.62 * size * chart.longest) + 10)
    names: Fields = {
        "labelAlign": "left",
        "labelPadding": room,
        "minExtent": room,
        "maxExtent": room,
        "labelLimit": room - 8,
    }
    names |= {"labelColor": INK, "labelFontSize": size, "ticks": False, "domain": False, "grid": False}
    axis: Fields = {"labelColor": MUTED, "titleColor": MUTED, "gridColor": LINE, "domainColor": LINE, "tickColor": LINE}
    axis |= {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridOpacity": 0.6,
        "labelSeparation": 8,
    }
    config = {
        "aria": False,
        "font": "Arial, Liberation Sans, sans-serif",
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"tickCount": 6 if wide else 4, "labelFlush": False},
        "axisYQuantitative": {"tickCount": 4},
        "axisYDiscrete": names,
    }
    return {
        "width": width,
        "height": chart.height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 2,
        "background": None,
        "config": config,
        "layer": chart.layers,
    }
