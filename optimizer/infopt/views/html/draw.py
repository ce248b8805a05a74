"""Draws charts with Vega-Lite in a process of its own, and lets only shapes and text of what comes back into the page.

vl-convert brings Vega-Lite and a JavaScript engine in one wheel and needs no browser. Colors are CSS variables, which
it passes through, so that one drawing follows the reader's light or dark scheme.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup, escape

from infopt.errors import Unmeasured

SECONDS = 60.0
"""Drawing takes about a second; a machine that needs this long has other trouble."""

SWITCH = "INFOPT_CHARTS"
"""Environment variable; ``off`` saves the time and the memory that drawing takes."""

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_SHAPES = frozenset("svg g path line rect text tspan".split())
_ATTRIBUTES = frozenset(
    "viewBox d x y x1 x2 y1 y2 dx dy width height transform fill fill-opacity stroke stroke-width stroke-opacity "
    "stroke-dasharray stroke-linecap stroke-miterlimit opacity text-anchor font-size font-weight font-style".split()
)
_VALUE = re.compile(r"(?:[\w\s.,+#%-]|(?:translate|rotate|scale)\([-\d.,\s]+\)|var\(--[a-z-]+\))*", re.ASCII)


def draw(specs: Sequence[dict[str, Any]]) -> list[Markup]:
    """Draw charts.

    Args:
        specs: Vega-Lite specifications without references to files or addresses.

    Returns:
        One inline ``<svg>`` each, without name or role: the caller says what it shows.

    Raises:
        Unmeasured: They cannot be drawn here; the page does without, its tables hold the same numbers.
    """
    if os.environ.get(SWITCH) == "off":
        raise Unmeasured(f"charts were not drawn: {SWITCH}=off")
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "infopt.views.html.child"],
            input=json.dumps(specs),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unmeasured(f"charts were not drawn: {error}") from error
    if child.returncode:
        raise Unmeasured(f"charts were not drawn: {_why(child.stderr)}")
    try:
        drawn = json.loads(child.stdout)
    except ValueError as error:
        raise Unmeasured(f"charts were not drawn: the drawing process said what is no JSON ({error})") from error
    return [inline(text) for text in drawn]


def inline(text: str) -> Markup:
    """An SVG document as an element of a page: shapes, text and looks; no script, link, style or identifier.

    Args:
        text: The document.

    Raises:
        Unmeasured: It is no SVG document.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise Unmeasured(f"charts were not drawn: the drawing is damaged ({error})") from error
    return Markup(_element(root))


def _element(node: ElementTree.Element) -> str:
    name = node.tag.removeprefix(_NAMESPACE)
    if name not in _SHAPES or node.get("display") == "none":
        return ""
    looks = "".join(
        f' {key}="{escape(value)}"' for key, value in node.items() if key in _ATTRIBUTES and _VALUE.fullmatch(value)
    )
    inside = str(escape(node.text or "")) if name in ("text", "tspan") else ""
    inside += "".join(_element(child) for child in node)
    if name == "g" and not inside:
        return ""
    return f"<{name}{looks}>{inside}</{name}>"


def _why(stderr: str) -> str:
    lines = [line.strip("# ") for line in stderr.splitlines() if line.strip("# ")]
    if any("No module named 'vl_convert'" in line for line in lines):
        return "vl-convert-python is not installed"
    fatal = [line for line in lines if line.startswith("Fatal")]
    return (fatal or lines[-1:] or ["the drawing process ended without a word"])[0]
