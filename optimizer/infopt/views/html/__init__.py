"""The report as one self-contained page: it opens without a network and loads nothing.

Names come from files that others wrote: the template engine escapes every one of them, hidden characters are made
visible, and the page's own policy forbids the browser to load anything or to run any script but the one that sorts.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from infopt.errors import Unmeasured
from infopt.findings import headline
from infopt.views.decision import decide
from infopt.views.html.charts.every import charts
from infopt.views.html.charts.marks import NARROW, WIDE, spec
from infopt.views.html.draw import draw
from infopt.views.html.page import sections
from infopt.views.summary import summary
from infopt.views.tables import warnings
from infopt.wording import MISSING, unhidden, visible

if TYPE_CHECKING:
    from infopt.report import Report
    from infopt.views.html.charts.marks import Chart

FOLDER = Path(__file__).parent / "templates"
MAX_RECIPE = 100_000


def html(report: Report, recipe: str | None = None) -> str:
    """A report as a page.

    Args:
        report: The report, judged.
        recipe: The text of the run's ``recipe.toml``, if it has one.

    Returns:
        An HTML document. Where charts cannot be drawn it says so and has the tables, which hold the same numbers.
    """
    script = (FOLDER / "sort.js").read_text(encoding="utf-8")
    drawn, undrawn = _drawn(charts(report))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            headline=headline(report),
            decision=decide(report),
            summary=summary(report),
            reasons=report.verdict.reasons,
            warnings=warnings(report)[len(report.verdict.reasons) :],
            sections=sections(report),
            charts=drawn,
            undrawn=undrawn,
            recipe=unhidden(recipe)[:MAX_RECIPE] if recipe else None,
            style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            missing=MISSING,
        )
    )


def _drawn(wanted: list[Chart]) -> tuple[dict[str, tuple[Chart, Markup, Markup]], str]:
    """Each chart by name, drawn for a wide window and for a narrow one; or why there are none."""
    specs = [spec(each, width) for each in wanted for width in (WIDE, NARROW)]
    try:
        done = draw(specs) if specs else []
    except Unmeasured as error:
        return {}, str(error)
    return {each.name: (each, done[2 * i], done[2 * i + 1]) for i, each in enumerate(wanted)}, ""


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["shown"] = visible
    return made
