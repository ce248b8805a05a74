"""The gate's answer as Markdown for a comment, and as annotations of GitHub Actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.gating.answer import effect, gate_exit_code, why
from infopt.verdict import headline
from infopt.views.markdown import code, text
from infopt.views.tables import budget
from infopt.wording import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.gating.answer import Effect
    from infopt.gating.options import Undecided
    from infopt.report import Criterion, Report

MAX_REASONS = 20
_TITLES = {"pass": "Gate: pass", "warn": "Gate: pass with warnings", "fail": "Gate: FAIL"}
_KINDS = {"pass": "notice", "warn": "warning", "fail": "error"}
_LEVELS: tuple[Effect, ...] = ("fail", "warn", "pass")
_SENTENCE = 600


def gate_markdown(report: Report, undecided: Undecided) -> str:
    """The answer as GitHub Flavored Markdown that fits a comment.

    Args:
        report: The report with the gate's verdict.
        undecided: What limits do that the interval leaves open.

    Returns:
        The answer, the limits as a table, the reasons, and the report's headline. Ends with a newline.
    """
    verdict = report.verdict
    title = _TITLES[effect(verdict.status, undecided)]
    parts = [
        f"**{title}** (exit code {gate_exit_code(verdict, undecided)})",
        text(headline(report), 700),
        _grid(report),
    ]
    if any(each.status == "undecided" for each in verdict.budgets):
        parts.append(f"Undecided: {_TOLD[undecided]}")
    reasons = [_item(reason) for reason in verdict.reasons[:MAX_REASONS]]
    if len(verdict.reasons) > MAX_REASONS:
        reasons.append(f"- and {len(verdict.reasons) - MAX_REASONS} more")
    return "\n\n".join([*parts, *(["\n".join(reasons)] if reasons else [])]) + "\n"


def _grid(report: Report) -> str:
    """The limits as a table that is seen at once."""
    table = budget(report)
    head = " | ".join(column.title for column in table.columns)
    rule = " | ".join("--:" if column.kind == "number" else "---" for column in table.columns)
    rows = (" | ".join([code(name), *map(text, cells)]) for name, *cells in table.rows)
    return "\n".join(f"| {line} |" for line in (head, rule, *rows))


def _item(reason: str) -> str:
    """An item of a list; what does not begin with a word could open a block in it."""
    return f"- {'' if reason[:1].isalpha() else '&#8203;'}{text(reason)}"


_TOLD = {
    "warn": "the interval does not settle it; it is let through with a warning.",
    "pass": "the interval does not settle it; it is let through.",
    "fail": "the interval does not settle it; that fails the job.",
}


def workflow_commands(report: Report, undecided: Undecided) -> str:
    """The answer as workflow commands, the gravest first: GitHub shows ten of each kind in a step.

    Args:
        report: The report with the gate's verdict.
        undecided: What limits do that the interval leaves open.

    Returns:
        A line for each limit, such as ``::error title=infopt max_drop::the drop of top1 is ...``.
    """
    ordered = sorted(report.verdict.budgets, key=lambda each: _LEVELS.index(effect(each.status, undecided)))
    return "".join(f"{command}\n" for command in _commands(report, ordered, undecided))


def _commands(report: Report, criteria: list[Criterion], undecided: Undecided) -> Iterator[str]:
    for each in criteria:
        kind = _KINDS[effect(each.status, undecided)]
        told = why(report.verdict, each) or f"{each.name}: {_numbers(each)}"
        title = f"infopt {each.name}: {each.status}"
        yield f"::{kind} title={_property(title)}::{_data(visible(told, _SENTENCE))}"


def _numbers(criterion: Criterion) -> str:
    """A limit that was kept, in words."""
    return f"{criterion.value:.6g} keeps the limit {criterion.limit:.6g}"


def _data(raw: str) -> str:
    """The message of a workflow command: what would end it or be read as an escape is escaped."""
    return raw.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(raw: str) -> str:
    """A property of a workflow command, which a colon or a comma would end too."""
    return _data(raw).replace(":", "%3A").replace(",", "%2C")
