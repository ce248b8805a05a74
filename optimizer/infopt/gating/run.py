"""The verb ``gate``: reads reports and limits, decides, and writes the answer where it is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from infopt.budget import Budget, check_budget, fractional, load_budget
from infopt.errors import OptionError
from infopt.files import STDOUT, write_text
from infopt.gating.regression import Regression, regressions
from infopt.gating.sound import check_sound, sound
from infopt.report import Report, Verdict, read_report
from infopt.verdict import judged, worst

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from infopt.gating.options import GateOptions


def gate_file(path: Path, options: GateOptions) -> Report:
    """Judge a report file, and write the answer to the files that the options name.

    Args:
        path: A ``report.json`` or the output directory that holds one.
        options: Limits, baseline, and where the answer goes.

    Returns:
        The report with the gate's verdict: the budget's limits, then the regressions.

    Raises:
        InputError: A file cannot be used, or there is nothing to hold the report against.
        OutputError: The answer cannot be written.
    """
    if options.budget is None and options.baseline is None:
        raise OptionError(f"there is nothing to hold {path} against", "give --budget BUDGET.toml or --baseline REPORT")
    budget = load_budget(options.budget) if options.budget else Budget()
    report = sound(read_report(path))
    if report.accuracy:
        scores = (report.accuracy.baseline, report.accuracy.candidate)
        check_budget(budget, fractional(scores, report.accuracy.higher_is_better))
    old = check_sound(read_report(options.baseline), options.baseline) if options.baseline else None
    gated = decided(report, budget, old, options.tolerance)
    _write(gated, options, (path, options.baseline, options.budget))
    return gated


def decided(report: Report, budget: Budget, old: Report | None, tolerance: float) -> Report:
    """Decide a sound report.

    Args:
        report: What is judged.
        budget: The limits; may have none.
        old: The report of an earlier commit, sound too.
        tolerance: Share by which latency, size and memory may be worse than there.

    Returns:
        The report with its verdict.
    """
    gated = judged(report, budget)
    if old is None:
        return gated
    found = list(regressions(Regression(report, old, budget, tolerance)))
    criteria = (*gated.verdict.budgets, *(criterion for criterion, _ in found))
    if not criteria:
        raise OptionError("the baseline report has nothing that was measured", "give another --baseline, or --budget")
    # The reasons of the budget come first, then those of the baseline, then what else speaks against the artifact.
    named = tuple(criterion.name for criterion in gated.verdict.budgets)
    first = [reason for reason in gated.verdict.reasons if reason.startswith(named)]
    rest = [reason for reason in gated.verdict.reasons if reason not in first]
    reasons = (*first, *(reason for _, reason in found if reason), *rest)
    return replace(gated, verdict=Verdict(worst(criteria), reasons, criteria))


def _write(report: Report, options: GateOptions, read: Sequence[Path | None]) -> None:
    from infopt.views.gate import gate_markdown
    from infopt.views.junit import junit

    if options.markdown is not None and str(options.markdown) != STDOUT:
        write_text(options.markdown, gate_markdown(report, options.undecided), "--markdown", read)
    if options.junit is not None:
        write_text(options.junit, junit(report, options.undecided), "--junit", read)
