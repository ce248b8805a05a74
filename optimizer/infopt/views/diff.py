"""The differences of two output directories as tables, on a terminal and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infopt.views.tables import MAX_ROWS, Column, Table
from infopt.wording import MISSING, digits, metric, span, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from infopt.diffing.records import Diff, Measured, ScaleChange, ValueChange

_NAME, _BOTH = Column("", "name"), (Column("A", "name"), Column("B", "name"))
_VALUE = 100
_SHORT = 12


def headline(diff: Diff) -> str:
    """The first line: whether they are the same, and where not."""
    if diff.same:
        return f"SAME  {visible(diff.a)} and {visible(diff.b)}: graph, scales, inputs, options and versions"
    graph, scales = diff.graph, diff.scales
    counts = {
        "nodes": len(graph.nodes),
        "weights": len(graph.weights),
        "scales": len(scales.changes),
        "inputs": len(diff.inputs),
        "options": len(diff.options),
        "versions": len(diff.versions),
        "places of the interface": len(graph.interface),
    }
    where = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"DIFFERENT  {visible(diff.a)} and {visible(diff.b)}: {where}"


def tables(diff: Diff, most: int = MAX_ROWS) -> tuple[Table, ...]:
    """What differs, in reading order; what does not is left out.

    Args:
        diff: The differences.
        most: Most rows of a table.
    """
    made = (
        _measured(diff),
        _kernels(diff, most),
        _values("Inputs", diff.inputs, most),
        _values("Options", diff.options, most),
        _values("Versions", diff.versions, most),
        _operators(diff, most),
        _nodes(diff, most),
        _scales(diff, most),
        _weights(diff, most),
        _values("Environment", diff.environment, most, detail=True),
    )
    return tuple(table for table in made if table.rows or table.notes)


def render(diff: Diff, console: Console, details: bool = False) -> None:
    """Print the differences.

    Args:
        diff: The differences.
        console: Where to print.
        details: Print every row, and the machine.
    """
    from rich.text import Text

    from infopt.views.console import print_table

    console.print(
        Text(headline(diff), style="green" if diff.same else "bold yellow"), soft_wrap=not console.is_terminal
    )
    for table in tables(diff, 10**9 if details else MAX_ROWS):
        if details or not table.detail:
            print_table(table, console)


def diff_markdown(diff: Diff) -> str:
    """The differences as GitHub Flavored Markdown that fits a comment."""
    from infopt.views.markdown import section, text

    return "\n\n".join([f"**{text(headline(diff))}**", *map(section, tables(diff))]) + "\n"


def _measured(diff: Diff) -> Table:
    columns = (_NAME, Column("A"), Column("B"), Column("B - A"), Column("95 % interval"))
    notes = tuple(f"{row.what} is not comparable: {row.reason}." for row in diff.measured if row.reason)
    return Table("Measured", columns, tuple(_number(row) for row in diff.measured), notes)


def _number(row: Measured) -> tuple[str, ...]:
    words = (lambda value: f"{value:,.0f}") if row.what.endswith("bytes") else _digits
    if row.what.startswith("accuracy"):
        words = metric
    sides = [MISSING if value is None else words(value) for value in (row.a, row.b)]
    change = (
        MISSING if row.a is None or row.b is None else f"{'+' if row.b >= row.a else '-'}{words(abs(row.b - row.a))}"
    )
    return row.what, *sides, change, span(row.interval)


def _digits(value: float) -> str:
    return digits(value, 4)


def _kernels(diff: Diff, most: int) -> Table:
    kernels = diff.kernels
    moved = [(name, "integers", "float") for name in kernels.now_float]
    moved += [(name, "float", "integers") for name in kernels.now_integer]
    notes = []
    if kernels.a != kernels.b:
        told = ["not known" if side is None else f"{side[0]} of {side[1]}" for side in (kernels.a, kernels.b)]
        notes.append(f"Compute layers that run as integers: {told[0]} -> {told[1]}.")
    columns = (Column("layer", "name"), Column("A", "text"), Column("B", "text"))
    return Table("Integer coverage", columns, tuple(moved[:most]), tuple(notes), _more(moved, most))


def _values(title: str, changes: Sequence[ValueChange], most: int, detail: bool = False) -> Table:
    rows = tuple((each.key, _value(each.a), _value(each.b)) for each in changes[:most])
    return Table(title, (_NAME, *_BOTH), rows, more=_more(changes, most), detail=detail)


def _value(value: Any) -> str:
    if value is None:
        return MISSING
    text = str(value)
    hashed = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:_SHORT] if hashed else visible(text, _VALUE) or '""'


def _operators(diff: Diff, most: int) -> Table:
    graph = diff.graph
    rows = tuple((each.op, str(each.a), str(each.b)) for each in graph.operators[:most])
    notes = [f"{graph.a} -> {graph.b} nodes."] if graph.a != graph.b else []
    columns = (Column("operator", "name"), Column("A"), Column("B"))
    return Table("Graph", columns, rows, (*notes, *graph.interface), _more(graph.operators, most))


def _nodes(diff: Diff, most: int) -> Table:
    nodes = diff.graph.nodes
    rows = tuple((each.name, each.op, each.change, "; ".join(each.details)) for each in nodes[:most])
    columns = (Column("node", "name"), Column("operator", "name"), Column("", "text"), Column("what", "text"))
    return Table("Nodes", columns, rows, more=_more(nodes, most))


def _scales(diff: Diff, most: int) -> Table:
    scales = diff.scales
    columns = (Column("tensor", "name"), Column("A", "text"), Column("B", "text"), Column("scale B / A"))
    rows = tuple(_scale(each) for each in scales.changes[:most])
    notes = [f"{scales.a} -> {scales.b} quantized tensors."] if scales.a != scales.b else []
    return Table("Scales", (*columns, Column("zero points changed")), rows, tuple(notes), _more(scales.changes, most))


def _scale(change: ScaleChange) -> tuple[str, ...]:
    low, middle, high = change.ratio or (None, None, None)
    ratio = digits(middle, 4) if low == high else f"{digits(low, 4)}..{digits(high, 4)}, median {digits(middle, 4)}"
    zeros = MISSING if change.zero_points is None else str(change.zero_points)
    return change.tensor, change.a or "float", change.b or "float", ratio, zeros


def _weights(diff: Diff, most: int) -> Table:
    weights = diff.graph.weights
    rows = tuple((each.name, each.change, each.a or MISSING, each.b or MISSING) for each in weights[:most])
    columns = (Column("weight", "name"), Column("", "text"), Column("A", "text"), Column("B", "text"))
    return Table("Weights", columns, rows, more=_more(weights, most))


def _more(items: Sequence[object], most: int) -> int:
    return max(0, len(items) - most)
