"""Several candidates in one table, on a terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.findings import worst_class
from infopt.verdict import headline
from infopt.views.markdown import section, text
from infopt.views.tables import Column, Table
from infopt.wording import MISSING, digits, megabytes, metric, signed, span, times, visible

if TYPE_CHECKING:
    from rich.console import Console

    from infopt.comparing.result import Comparison
    from infopt.report import Report

_HEADLINE = 700
_WIDE = 150
"""Characters a line from which the table fits in one piece, and those that there are where no terminal sets them."""

_NAME = (Column("candidate", "name"),)
_SCORES = tuple(
    Column(title) for title in ("before", "after", "delta", "95 % interval", "gained", "lost", "worst class's drop")
)
_REST = (
    *(Column(title) for title in ("agreement", "SQNR dB", "p50 ms", "speedup", "size")),
    Column("answer", "text"),
)


def candidates(comparison: Comparison) -> Table:
    """One row for each candidate.

    Args:
        comparison: Its reports are judged.
    """
    measured = next((report.accuracy for report in comparison.reports if report.accuracy), None)
    notes = [f"Base: {comparison.base}."]
    if measured:
        direction = "" if measured.higher_is_better else ", lower is better"
        notes.append(f"Metric: {measured.metric} of {measured.n} samples{direction}.")
    rows = tuple((_name(report), *_scores(report), *_rest(report)) for report in comparison.reports)
    return Table("Candidates", (*_NAME, *_SCORES, *_REST), rows, tuple(notes))


def _halves(table: Table) -> tuple[Table, Table]:
    """The table as two, for narrow terminals; the candidate is in both."""
    cut = 1 + len(_SCORES)
    left = Table(table.title, table.columns[:cut], tuple(row[:cut] for row in table.rows), table.notes)
    rows = tuple((row[0], *row[cut:]) for row in table.rows)
    return left, Table("Closeness and cost", (*_NAME, *table.columns[cut:]), rows)


def comparison_markdown(comparison: Comparison) -> str:
    """The table and the headline of each candidate as Markdown that fits a comment."""
    table = candidates(comparison)
    told = [index for index, column in enumerate(table.columns) if any(row[index] != MISSING for row in table.rows)]
    shown = Table(
        table.title,
        tuple(table.columns[index] for index in told),
        tuple(tuple(row[index] for index in told) for row in table.rows),
        table.notes,
    )
    lines = [f"- {text(_name(report))}: {text(headline(report), _HEADLINE)}" for report in comparison.reports]
    return f"{section(shown)}\n\n" + "\n".join(lines) + "\n"


def render(comparison: Comparison, console: Console, details: bool = False, quiet: bool = False) -> None:
    """Print the headline of each candidate, then the table.

    Args:
        comparison: What to print.
        console: Where to.
        details: Also print each candidate's whole report.
        quiet: Print the headlines alone.
    """
    from infopt.views.console import print_table
    from infopt.views.console import render as render_report

    if not console.is_terminal:
        console.width = max(console.width, _WIDE)

    for report in comparison.reports:
        line = f"{visible(_name(report))}: {headline(report)}"
        console.print(line, soft_wrap=not console.is_terminal, markup=False, highlight=False)
    if quiet:
        return
    table = candidates(comparison)
    for part in (table,) if console.width >= _WIDE else _halves(table):
        print_table(part, console)
    for report in comparison.reports if details else ():
        console.rule(visible(_name(report)))
        render_report(report, console, details=True)


def _name(report: Report) -> str:
    return report.candidate or MISSING


def _scores(report: Report) -> tuple[str, ...]:
    accuracy, worst = report.accuracy, worst_class(report)
    if accuracy is None:
        return (MISSING,) * len(_SCORES)
    flips = (str(accuracy.flips.gained), str(accuracy.flips.lost)) if accuracy.flips else (MISSING, MISSING)
    numbers = (metric(accuracy.baseline), metric(accuracy.candidate), signed(accuracy.delta), span(accuracy.ci95))
    return (*numbers, *flips, MISSING if worst is None else f"{visible(worst.label, 40)}: {metric(worst.drop)}")


def _rest(report: Report) -> tuple[str, ...]:
    latency, close = report.latency, report.fidelity[0] if report.fidelity else None
    ms = latency.candidate.ms if latency.candidate else None
    return (
        metric(close.top1_agreement) if close else MISSING,
        ("equal" if close.max_abs == 0 else digits(close.sqnr_db)) if close else MISSING,
        digits(ms.p50) if ms else MISSING,
        MISSING if latency.speedup is None else times(latency.speedup),
        megabytes(report.size.candidate_bytes),
        report.verdict.status,
    )
