"""A check on a terminal: a headline, a line per target, and one row per rule with its nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from infopt.checks.report import SEVERITIES
from infopt.wording import visible

if TYPE_CHECKING:
    from rich.console import Console

    from infopt.checks.report import CheckReport, Finding, Fixed, TargetState
    from infopt.checks.rule import LintRule

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
NODES = 3
"""Nodes that a row names unless every one is wanted."""

MARK = "fix"
"""Stands with findings that ``--fix`` mends."""


def headline(report: CheckReport) -> str:
    """The first line: ``FAIL  model.onnx: 3 errors, 1 warning, 2 notes``."""
    counts = [_counted(report.count(each), each) for each in SEVERITIES if report.count(each)]
    path = report.fixed.path if report.fixed else report.model.path
    told = ", ".join(counts) or "nothing found"
    mended = f"; {_counted(len(report.fixed.repairs), 'place')} repaired" if report.fixed else ""
    return f"{'FAIL' if report.errors else 'PASS'}  {visible(path)}: {told}{mended}"


def render(report: CheckReport, console: Console, details: bool = False) -> None:
    """Print a report.

    Args:
        report: The report.
        console: Where to print.
        details: Name every node, and show notes in full.
    """
    label, _, rest = headline(report).partition("  ")
    style = "bold red" if report.errors else "bold green"
    console.print(Text.assemble((label, style), "  ", rest), soft_wrap=not console.is_terminal)
    for state in report.targets:
        console.print(Padding(_state(state, report), (0, 0, 0, 2)))
    if report.fixed:
        _print_fixed(report, report.fixed, console, details)
    if report.findings:
        console.print()
        console.print(_grid(report.findings, len(report.targets), details))
    fixable = sum(each.fixable for each in report.findings)
    if fixable and not report.fixed:
        line = f"{_counted(fixable, 'finding')} marked {MARK}: --fix -o OUT.onnx mends without changing a result"
        console.print(Padding(Text(line), (1, 0, 0, 0)))


def render_rules(rules: Iterable[LintRule], console: Console) -> None:
    """Print the registry: id, severity, targets, what and remedy."""
    grid = _table()
    for title in ("rule", "targets", "what, and the remedy"):
        grid.add_column(title, overflow="fold")
    for rule in rules:
        first = Text.assemble(rule.id, "\n", (rule.severity, STYLES[rule.severity]), f" {MARK}" if rule.repair else "")
        targets = "all" if rule.targets is None else "\n".join(sorted(rule.targets))
        grid.add_row(first, targets, Text.assemble(rule.what, ("\n-> " + rule.remedy, "dim")))
    console.print(grid)


def _state(state: TargetState, report: CheckReport) -> Text:
    found = ", ".join(_counted(count, each) for each in SEVERITIES if (count := report.count(each, state.name)))
    version = f" {state.version}" if state.version else ""
    told = {
        "built": f"parsed and built by {state.runtime}{version}",
        "parsed": f"parsed by {state.runtime}{version}, not built for the shapes that were guessed",
        "refused": f"refused by {state.runtime}{version}",
        "crashed": f"{state.runtime}{version} crashed on it",
        "not asked": f"rules only, the runtime was not asked: {visible(state.reason or '')}",
    }[state.state]
    if state.integer is not None and state.total:
        told += f"; {state.integer} of {state.total} compute layers run in integers"
    if state.compute:
        told += f"; its table quantizes {state.rows} of {state.compute} compute nodes"
    return Text(f"{state.name}: {found or 'nothing found'}; {told}")


def _print_fixed(report: CheckReport, fixed: Fixed, console: Console, details: bool) -> None:
    lines: list[tuple[int, str, str]] = []
    if fixed.repairs:
        proof = f"not compared: {fixed.unproven}" if fixed.unproven else f"largest difference {fixed.difference:.1e}"
        lines.append((2, f"repaired, written to {visible(fixed.path)}; outputs: {visible(proof, 300)}", ""))
    else:
        lines.append((2, f"nothing could be repaired; {visible(fixed.path)} is a copy", ""))
    grouped: dict[tuple[str, str], list[str]] = {}
    for each in fixed.repairs:
        grouped.setdefault((each.rule, each.what), []).append(each.node or "")
    for (rule, what), nodes in grouped.items():
        lines.append((4, f"{rule}: {visible(what)} ({_names(nodes, details)})", "green"))
    left = sorted({each.rule for each in report.findings if each.severity != "note"})
    if left:
        lines.append((2, f"no repair without another result: {', '.join(left)}", "yellow"))
    for indent, line, style in lines:
        console.print(Padding(Text(line, style=style), (0, 0, 0, indent)))


def _grid(findings: Iterable[Finding], several: int, details: bool) -> Table:
    grid = _table()
    grid.add_column("finding", overflow="fold")
    grid.add_column("where", overflow="fold", ratio=2)
    grid.add_column("why, and what to do", overflow="fold", ratio=4)
    for group in _groups(findings):
        nodes = [each.node for each in group if each.node is not None]
        grid.add_row(
            _head(group, several), Text(_names(nodes, details) if nodes else "the model"), _why(group, several)
        )
    return grid


def _head(group: list[Finding], several: int) -> Text:
    first, fixable = group[0], sum(each.fixable for each in group)
    mark = f" {MARK}" if fixable == len(group) else f" {MARK} {fixable}/{len(group)}" if fixable else ""
    head = Text.assemble((first.severity, STYLES[first.severity]), mark, "\n", first.rule)
    if several > 1:
        told = "all targets" if len(first.targets) == several else "\n".join(first.targets)
        head.append(f"\n{told}", style="dim")
    return head


def _why(group: list[Finding], several: int) -> Text:
    reasons = list(dict.fromkeys(each.reason for each in group))
    text = Text(visible(reasons[0], 400))
    text.append(f" (and {len(reasons) - 1} alike)" if len(reasons) > 1 else "")
    asked = sorted({name for each in group for name in each.confirmed})
    if asked:
        text.append(f" [{', '.join(asked)} says so]" if several > 1 else " [the runtime says so]")
    for remedy in list(dict.fromkeys(each.remedy for each in group))[:NODES]:
        text.append(f"\n-> {visible(remedy, 400)}", style="dim")
    return text


def _groups(findings: Iterable[Finding]) -> list[list[Finding]]:
    """The findings of each rule for the same targets."""
    grouped: dict[tuple[str, tuple[str, ...]], list[Finding]] = {}
    for each in findings:
        grouped.setdefault((each.rule, each.targets), []).append(each)
    return list(grouped.values())


def _names(nodes: list[str], details: bool, between: str = ", ") -> str:
    shown = nodes if details or len(nodes) <= NODES + 1 else nodes[:NODES]
    told = between.join(visible(name, 60) for name in shown)
    more = len(nodes) - len(shown)
    return f"{told}{between if between != ', ' else ' '}and {more} more" if more else told


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_lines=False)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
