"""The report on a terminal. The only module that knows Rich's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from infopt.verdict import headline
from infopt.views.tables import Column, Table, tables, warnings
from infopt.wording import MISSING, visible

if TYPE_CHECKING:
    from rich.console import Console

    from infopt.report import Report

_GOOD, _BAD, _OPEN = "bold green", "bold red", "bold yellow"
_STYLES = {"PASS": _GOOD, "UNDECIDED": _OPEN, "UNMEASURED": _OPEN}
_CELLS = {
    "pass": "green",
    "fail": "red",
    "undecided": "yellow",
    "unmeasured": "yellow",
    "SYNTHETIC": "yellow",
}

NAME, SENTENCES = 160, 400
"""Characters of a name and of what is told in sentences that are shown."""


def render(report: Report, console: Console, details: bool = False) -> None:
    """Print a report; its first line is the headline in words.

    Args:
        report: The report, judged.
        console: Where to print. Off a terminal the headline is not wrapped: tools find it in one line.
        details: Also print steps, fidelity, model and environment.
    """
    line = headline(report)
    label, _, rest = line.partition("  ")
    text = Text.assemble((label, _STYLES.get(label, _BAD)), "  ", rest)
    console.print(text, soft_wrap=not console.is_terminal)
    for item in warnings(report):
        console.print(Padding(Text(f"! {visible(item, SENTENCES)}", style="yellow"), (0, 0, 0, 2)))
    for table in tables(report):
        if details or not table.detail:
            print_table(table, console)


def print_table(table: Table, console: Console) -> None:
    """Print a table with its title and notes.

    Args:
        table: The table; its texts are raw.
        console: Where to print.
    """
    console.print()
    console.print(Text(table.title, style="bold"))
    for note in table.notes:
        console.print(Padding(Text(visible(note, SENTENCES)), (0, 0, 0, 2)))
    if not table.rows:
        return
    grid = RichTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_header=any(column.title for column in table.columns),
        pad_edge=False,
    )
    told = [index for index, column in enumerate(table.columns) if not _empty(table, index)]
    for column in (table.columns[index] for index in told):
        number = column.kind == "number"
        grid.add_column(Text(column.title), justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in table.rows:
        grid.add_row(*(_cell(table.columns[index], row[index]) for index in told))
    console.print(grid)
    if table.more:
        console.print(Text(f"  and {table.more} more"))


def _empty(table: Table, index: int) -> bool:
    """Whether a column of numbers holds none, so that its width is better left to the others."""
    return table.columns[index].kind == "number" and all(row[index] == MISSING for row in table.rows)


def _cell(column: Column, raw: str) -> Text:
    """A cell as plain text: Rich reads no markup in it, and a terminal no control sequence."""
    told = column.kind == "text"
    return Text(visible(raw, SENTENCES if told else NAME), style=_CELLS.get(raw, "") if told else "")
