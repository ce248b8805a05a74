"""How the charts look: marks that they share, and Vega-Lite's configuration in the page's own colors."""

from __future__ import annotations

from typing import Any

INK, MUTED, LINE = "var(--ink)", "var(--muted)", "var(--line)"
BASE, BEST, BAD = "var(--base)", "var(--best)", "var(--bad)"
"""Colors of the style sheet: the baseline, the artifact, and bad news."""

WIDE, NARROW = 860, 350
"""Widths in pixels: the page shows the drawing that fits the window."""

Encoding = dict[str, Any]
Rows = list[dict[str, Any]]


def bar(rows: Rows, encoding: Encoding, color: str, height: int, opacity: float) -> dict[str, Any]:
    """Horizontal bars."""
    mark = {"type": "bar", "height": height, "color": color, "opacity": opacity}
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


def rule(rows: Rows, encoding: Encoding, color: str, dash: list[int] | None = None) -> dict[str, Any]:
    """Lines across the chart."""
    mark = {"type": "rule", "color": color, "strokeWidth": 1.5} | ({"strokeDash": dash} if dash else {})
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


def words(  # noqa: PLR0913 - where a text stands takes that many words
    rows: Rows, encoding: Encoding, field: str, *, dx: int = 0, dy: int = 0, align: str = "center", color: str = INK
) -> dict[str, Any]:
    """Text at points."""
    mark = {"type": "text", "dx": dx, "dy": dy, "align": align, "baseline": "middle", "color": color, "fontSize": 13}
    mark |= {"stroke": "var(--paper)", "strokeWidth": 4}  # a halo; the style sheet paints it behind the letters
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding | {"text": {"field": field}}}


def spec(layers: Rows, width: int, height: int, longest: int) -> dict[str, Any]:
    """A whole specification: transparent, without identifiers that two drawings of a page would share.

    Args:
        layers: What is drawn.
        width: In pixels, labels included.
        height: Of the rows, in pixels.
        longest: Characters of the longest row's name. Names start at the left edge in room enough for any font: the
            reader's is not known here.
    """
    wide = width > NARROW
    limit, size = (230, 13) if wide else (104, 12)
    room = min(limit, round(0.62 * size * longest) + 10)
    names = {"labelAlign": "left", "labelPadding": room, "minExtent": room, "maxExtent": room, "labelLimit": room - 8}
    names |= {"labelColor": INK, "labelFontSize": size, "ticks": False, "domain": False, "grid": False}
    axis = {
        **{"labelColor": MUTED, "titleColor": MUTED, "gridColor": LINE, "domainColor": LINE, "tickColor": LINE},
        **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridOpacity": 0.6},
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
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 2,
        "background": None,
        "config": config,
        "layer": layers,
    }
