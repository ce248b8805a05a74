"""The report as Markdown that fits a pull-request comment.

The text is GitHub Flavored Markdown. Names come from files that others wrote, so a name can neither end its
table cell, nor become markup, nor mention a person, an issue or a link.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infopt.verdict import headline
from infopt.views.tables import Column, Table, tables, warnings
from infopt.wording import visible

if TYPE_CHECKING:
    from infopt.report import Report

MAX_WARNINGS = 20
MAX_CHARACTERS = 60_000
"""GitHub refuses comments of more than 65,536 characters."""

_CELL, _SENTENCE, _HEADLINE = 120, 400, 700
_BREAK = "&#8203;"  # a zero-width space
_ACTIVE = re.compile(
    r"(?P<link>@|#(?=\d)|:(?=//)|www(?=\.)|GH(?=-\d))"
    r"|[&<|\\`*\[\]~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_INERT_IN_CODE = re.compile(r"[^`|\\<>&]+")
_OPENS_BLOCK = re.compile(r"[-+#=>]|\d+[.)]")
_NOT_PLAIN = re.compile(r"[^\w /,-]|_")


def markdown(report: Report) -> str:
    """A report as Markdown.

    Args:
        report: The report, judged.

    Returns:
        The headline, what speaks against the artifact, then tables; details are folded. Ends with a newline,
        and is short enough for a comment: what does not fit is left out, and the end says so.
    """
    every = tables(report)
    parts = [f"**{text(headline(report), _HEADLINE)}**", *_warnings(report)]
    parts += [section(table) for table in every if not table.detail]
    parts += [section(table) for table in every if table.detail]
    fitting, length = [], 0
    for part in parts:
        length += len(part) + 2
        fitting.append(part if length <= MAX_CHARACTERS else "")
    if length > MAX_CHARACTERS:
        fitting.append("Shortened; the whole report is in `report.json`.")
    return "\n\n".join(filter(None, fitting)) + "\n"


def text(raw: str, limit: int = _SENTENCE) -> str:
    """A sentence as inline Markdown that shows its characters and does nothing else."""
    return _ACTIVE.sub(lambda hit: hit[0] + _BREAK if hit["link"] else f"&#{ord(hit[0])};", visible(raw, limit))


def code(raw: str, limit: int = _CELL) -> str:
    """A name as code: a code span, or ``<code>`` and character references where a span breaks tables."""
    shown = visible(raw, limit)
    if not shown:
        return "(unnamed)"
    if _INERT_IN_CODE.fullmatch(shown):
        return f"`{shown}`"
    shown = _NOT_PLAIN.sub(lambda hit: f"&#{ord(hit[0])};" + (_BREAK if hit[0] == "@" else ""), shown)
    return f"<code>{shown}</code>"


def _line(raw: str) -> str:
    """A sentence at the start of a block, where a digit, a dash or a hash would open a list or a heading."""
    shown = text(raw)
    return _BREAK + shown if _OPENS_BLOCK.match(shown) else shown


def _warnings(report: Report) -> list[str]:
    found = warnings(report)
    lines = [f"- {_line(item)}" for item in found[:MAX_WARNINGS]]
    if len(found) > MAX_WARNINGS:
        lines.append(f"- and {len(found) - MAX_WARNINGS} more")
    return ["\n".join(lines)] if lines else []


def section(table: Table) -> str:
    """A table with its title; a detail is folded."""
    parts = [f"<details><summary>{table.title}</summary>" if table.detail else f"### {table.title}"]
    parts += [" ".join(_line(note) for note in table.notes)] if table.notes else []
    if table.rows:
        lines = [_row([column.title for column in table.columns])]
        lines.append(_row(["--:" if column.kind == "number" else "---" for column in table.columns]))
        lines += [_row([_cell(*pair) for pair in zip(table.columns, row, strict=True)]) for row in table.rows]
        parts.append("\n".join(lines))
    parts += [f"and {table.more} more"] if table.more else []
    parts += ["</details>"] if table.detail else []
    return "\n\n".join(parts)


def _cell(column: Column, raw: str) -> str:
    if not raw:
        return ""
    return code(raw) if column.kind == "name" else text(raw, _CELL)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
