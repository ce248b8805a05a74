"""A drift report for people: on a terminal, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from infopt.views.console import print_table
from infopt.views.markdown import code, text
from infopt.views.tables import Column, Table
from infopt.wording import MISSING, digits, percent, visible

if TYPE_CHECKING:
    from rich.console import Console

    from infopt.drifting.report import Clipping, DriftReport, Statistic

ROWS = 15
"""Rows of a table, unless every one is wanted."""

_STYLES = {"drift": "bold red", "no drift": "bold green", "undecided": "bold yellow"}
_SMALL = 1e-3


def headline(report: DriftReport) -> str:
    """The first line: ``DRIFT  new.npz: 500 samples against 300 of calibration, 4 of 57 statistics drifted``."""
    count = sum(each.drifted for each in report.statistics)
    told = f"{report.data.samples} samples against {report.reference.samples} of calibration"
    return (
        f"{report.verdict.upper()}  {visible(report.data.path)}: {told}, {count} of {report.tests} statistics drifted"
    )


def render(report: DriftReport, console: Console, details: bool = False) -> None:
    """Print a report.

    Args:
        report: The report.
        console: Where to print.
        details: Print every statistic and tensor.
    """
    label, _, rest = headline(report).partition("  ")
    line = Text.assemble((label, _STYLES[report.verdict]), "  ", rest)
    console.print(line, soft_wrap=not console.is_terminal)
    for item in (*report.reasons, *report.warnings):
        console.print(Padding(Text(f"! {visible(item, 400)}", style="yellow"), (0, 0, 0, 2)))
    for table in drift_tables(report, details):
        print_table(table, console)


def drift_markdown(report: DriftReport) -> str:
    """A report as Markdown that fits a comment."""
    parts = [f"**{text(headline(report), 700)}**"]
    if report.reasons or report.warnings:
        parts.append("\n".join(f"- {text(item)}" for item in (*report.reasons, *report.warnings)))
    for table in drift_tables(report):
        heads = [column.title for column in table.columns]
        rules = ["--:" if column.kind == "number" else "---" for column in table.columns]
        rows = [[_cell(*pair) for pair in zip(table.columns, row, strict=True)] for row in table.rows]
        lines = [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]
        parts += [f"### {table.title}", *(text(note) for note in table.notes), "\n".join(lines)]
        parts += [f"and {table.more} more"] if table.more else []
    return "\n\n".join(parts) + "\n"


def drift_tables(report: DriftReport, details: bool = False) -> tuple[Table, ...]:
    """What was compared, as tables; without details the rows that matter most."""
    kinds = {"input": "Inputs", "output": "Outputs"}
    made = [
        _statistics(title, [each for each in report.statistics if each.of == of], report, details)
        for of, title in kinds.items()
    ]
    made.append(_tensors(report.clipping, report, details))
    return tuple(table for table in made if table.rows)


def _statistics(title: str, found: list[Statistic], report: DriftReport, details: bool) -> Table:
    limit = report.limits
    wanted = ("calibration", "data", "PSI", "KS", *(("JS",) if details else ()), "q")
    columns = (Column("statistic", "name"), *map(Column, wanted), Column("drift", "text"))
    shown = found if details else found[:ROWS]
    rows = []
    for each in shown:
        numbers = [_number(each.reference), _number(each.data), digits(each.psi, 2), digits(each.ks, 2)]
        numbers += [digits(each.js, 2)] if details else []
        what = f"{each.what} of {each.name}{', ' if each.part else ''}{each.part}"
        rows.append((what, *numbers, _chance(each.q), each.size if each.drifted else ""))
    note = f"drift: q at most {limit.false_alarms:g} and PSI at least {limit.psi:g}, major from {limit.psi_major:g} on"
    return Table(title, columns, tuple(rows), (note,), len(found) - len(shown))


def _tensors(found: tuple[Clipping, ...], report: DriftReport, details: bool) -> Table:
    columns = (
        *(Column("tensor", "name"), Column("clipped in calibration"), Column("clipped now"), Column("q")),
        Column("drift", "text"),
    )
    some = found if details else [each for each in found if each.data > 0 or each.drifted][:ROWS]
    rows = tuple(
        (each.name, percent(each.calibrated), percent(each.data), _chance(each.q), "yes" if each.drifted else "")
        for each in some
    )
    note = f"drift: q at most {report.limits.false_alarms:g} and a rise of at least {percent(report.limits.clipping)}"
    return Table("Clipping of quantized tensors", columns, rows, (note,), len(found) - len(some))


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}"


def _chance(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.3f}" if value >= _SMALL else f"{value:.0e}"


def _cell(column: Column, raw: str) -> str:
    return code(raw) if column.kind == "name" and raw else text(raw)
