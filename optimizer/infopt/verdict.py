"""Whether the artifact is what was asked for.

With a budget every limit is decided by an interval where there is one: ``pass`` when the whole interval keeps
the limit, ``fail`` when none of it does, ``undecided`` when the limit lies within. Each end of that interval holds
with the budget's confidence on its own, so that a pass, and likewise a fail, is wrong with at most one minus it.
Without an interval a measured value that misses its limit fails, and one that keeps it is undecided: nothing says
how much of it is chance (:mod:`infopt.deciding`). What was not measured is ``unmeasured``, never a pass, and without
labels no accuracy was. The worst limit is the status: fail,
unmeasured, undecided, pass.

Without a budget nothing was demanded: the status is ``pass`` when accuracy was measured on labels and
``unmeasured`` when it was not. Either way the reasons name everything that speaks against the artifact:
slower than the runtime's best float setting, less accurate, not measured, measured elsewhere, calibrated on
made-up samples.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from infopt.budget import Budget
from infopt.classes import class_drop
from infopt.deciding import around, decide
from infopt.findings import findings, headline, measured
from infopt.labelling import unlabelled, why_unlabelled
from infopt.report import Criterion, KernelCount, Report, Status, Verdict
from infopt.stats.limits import one_sided
from infopt.stats.margin import drop_limits, more_samples
from infopt.wording import UNKNOWN, metric, span, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from infopt.bench import Latency

__all__ = ["exit_code", "headline", "judge", "judged", "worst"]

NO_BUDGET = Budget()
_WORST_FIRST: tuple[Status, ...] = ("fail", "unmeasured", "undecided", "pass")


def judge(report: Report, budget: Budget = NO_BUDGET) -> Verdict:
    """Decide a report.

    Args:
        report: What was measured; a verdict that it already has is not looked at.
        budget: What the user demands.

    Returns:
        The status, every reason in words (the budget's first), and the limits one by one.
    """
    decided = tuple(_limits(report, budget))
    reasons = [reason for _, reason in decided if reason] + [finding.text for finding in findings(report)]
    criteria = tuple(criterion for criterion, _ in decided)
    unasked: Status = "unmeasured" if measured(report) is None or unlabelled(report) else "pass"
    status = worst(criteria) if criteria else unasked
    return Verdict(status, tuple(reasons), criteria)


def worst(criteria: Iterable[Criterion]) -> Status:
    """The status of several limits: that of the worst one."""
    return min((criterion.status for criterion in criteria), key=_WORST_FIRST.index)


def judged(report: Report, budget: Budget = NO_BUDGET) -> Report:
    """The report with its verdict; what speaks against the artifact is among the warnings too."""
    found = [item.text for item in findings(report) if item.kind != "within noise"]
    found = [text for text in found if text not in report.warnings]
    return replace(report, verdict=judge(report, budget), warnings=(*report.warnings, *found))


def exit_code(verdict: Verdict, budget_given: bool) -> int:
    """Exit code of a command: 3 when the user's budget was missed or could not be checked, else 0.

    Args:
        verdict: The answer.
        budget_given: Whether the user demanded anything. Undecided is 0: the caller warns.
    """
    return 3 if budget_given and verdict.status in ("fail", "unmeasured") else 0


def _limits(report: Report, budget: Budget) -> Iterator[tuple[Criterion, str | None]]:
    """Every limit that was asked for, with the reason to report, if any."""
    if budget.max_drop is not None:
        yield _max_drop(report, budget.max_drop, budget.confidence)
    if budget.max_class_drop is not None:
        yield class_drop("max_class_drop", report, budget.max_class_drop, budget.confidence)
    if budget.min_speedup is not None:
        yield _min_speedup(report.latency, budget.min_speedup, budget.confidence)
    if budget.max_p99_ms is not None:
        ms = report.latency.candidate.ms if report.latency.candidate else None
        yield _exact("max_p99_ms", budget.max_p99_ms, ms.p99 if ms else None, report.latency.reason)
    if budget.max_bytes is not None:
        yield _exact("max_bytes", budget.max_bytes, report.size.candidate_bytes, report.size.reason)
    if budget.max_peak_bytes is not None:
        yield _exact("max_peak_bytes", budget.max_peak_bytes, report.memory.peak_bytes, report.memory.reason)
    if budget.min_integer_share is not None:
        yield _min_integer_share(report.kernels, budget.min_integer_share)


def _max_drop(report: Report, limit: float, confidence: float) -> tuple[Criterion, str | None]:
    accuracy = measured(report)
    if accuracy is None or unlabelled(report):
        return _unmeasured("max_drop", limit, why_unlabelled(report) if accuracy else report.accuracy_reason)
    value, interval = accuracy.drop, around(accuracy.drop, drop_limits(accuracy, confidence))
    status = decide(value, interval, limit, max(abs(accuracy.baseline), abs(accuracy.candidate)))
    more = more_samples(accuracy, limit, confidence) if status == "undecided" else None
    criterion = Criterion("max_drop", limit, value, interval, status, more)
    return criterion, _reason(criterion, f"the drop of {accuracy.metric} is {metric(value)}", accuracy.ci95_reason)


def _min_speedup(latency: Latency, limit: float, confidence: float) -> tuple[Criterion, str | None]:
    value = latency.speedup
    if value is None or not math.isfinite(value):
        return _unmeasured("min_speedup", limit, latency.reason)
    interval = latency.speedup_ci95
    if interval is not None and value > 0 and min(interval) > 0:  # a ratio's errors are symmetric in its logarithm
        logs = one_sided((math.log(interval[0]), math.log(interval[1])), math.log(value), confidence)
        interval = math.exp(logs[0]), math.exp(logs[1])
    interval = around(value, interval)
    status = decide(-value, interval and (-interval[1], -interval[0]), -limit)
    criterion = Criterion("min_speedup", limit, value, interval, status)
    return criterion, _reason(criterion, f"the speedup is {times(value)}", "it was not measured often enough")


def _min_integer_share(kernels: KernelCount, limit: float) -> tuple[Criterion, str | None]:
    if kernels.integer is None or not kernels.total:
        why = "the runtime reports no compute layer" if kernels.total == 0 else None
        return _unmeasured("min_integer_share", limit, kernels.reason or why)
    return _exact("min_integer_share", limit, kernels.integer / kernels.total, None, at_most=False)


def _exact(
    name: str, limit: float, value: float | None, why: str | None, at_most: bool = True
) -> tuple[Criterion, str | None]:
    """A limit on a number that needs no interval."""
    if value is None or not math.isfinite(value):
        return _unmeasured(name, limit, why)
    kept = value <= limit if at_most else value >= limit
    reason = None if kept else f"{name}: {value:.10g} does not keep the limit {limit:.10g}"
    return Criterion(name, limit, value, None, "pass" if kept else "fail"), reason


def _unmeasured(name: str, limit: float, why: str | None) -> tuple[Criterion, str]:
    return Criterion(name, limit, None, None, "unmeasured"), f"{name} was not measured: {why or UNKNOWN}"


def _reason(criterion: Criterion, what: str, no_interval: str | None) -> str | None:
    """Why a limit on an estimate was decided as it was; nothing for a clear pass."""
    name, limit, within = criterion.name, metric(criterion.limit), span(criterion.interval)
    if criterion.interval is None:
        verb = "keeps" if criterion.status == "undecided" else "does not keep"
        why = no_interval or UNKNOWN
        return f"{name}: {what} and {verb} the limit {limit}, by the measured value alone (no interval: {why})"
    if criterion.status == "fail":
        return f"{name}: {what} ({within}), the limit is {limit}"
    if criterion.status == "undecided":
        return f"{name}: {what}, but the limit {limit} lies within {within}; {_remedy(criterion)}"
    return None


def _remedy(criterion: Criterion) -> str:
    if criterion.more_samples is not None:
        return f"about {criterion.more_samples} more samples would probably decide"
    if criterion.name == "max_drop":
        return "it is too close to the limit for any practicable number of samples to decide"
    return "measure on more samples"
