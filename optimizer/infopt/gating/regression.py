"""A report against that of an earlier commit: what became worse.

Both reports were made in other processes, perhaps on other machines. So only numbers are compared that mean the same
on both sides, each by the interval that the two reports allow (:mod:`infopt.gating.intervals`): accuracy on the same
samples alone; latency relative to the float setting that was measured in turns with it, which the load of a machine
cannot move; size, memory and the share of integer layers as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infopt.budget import Budget
from infopt.classes import decide_classes, stretch
from infopt.deciding import around, decide
from infopt.gating.comparable import check_target, other_accuracy, other_latency
from infopt.gating.intervals import accuracy_interval, class_bound, latency_interval
from infopt.labelling import unlabelled, why_unlabelled
from infopt.report import Criterion, Status
from infopt.wording import UNKNOWN, digits, metric, percent, span, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.report import Report

Interval = tuple[float, float]
Decided = tuple[Criterion, str | None]


@dataclass(frozen=True, slots=True)
class Regression:
    """Two reports and what is accepted.

    Attributes:
        new: The report that is judged.
        old: That of the earlier commit.
        budget: Its ``max_drop`` and ``max_class_drop`` are margins; ``confidence`` is one-sided here.
        tolerance: Share by which latency, size and memory may be worse.
    """

    new: Report
    old: Report
    budget: Budget = Budget()
    tolerance: float = 0.05

    @property
    def alpha(self) -> float:
        """Error of one answer."""
        return 1 - self.budget.confidence


def regressions(pair: Regression) -> Iterator[Decided]:
    """Decide everything that both reports tell of, and what the new one no longer does.

    Args:
        pair: The reports, sound (see :func:`infopt.gating.sound.sound`).

    Yields:
        A criterion named ``regression_*`` with its reason, if it is not a clear pass. What the old report did not
        measure is not asked for.

    Raises:
        InputError: The reports are for different targets.
    """
    check_target(pair.new, pair.old)
    if pair.old.accuracy is not None:
        yield _accuracy(pair)
    if any(each.n > 0 for each in pair.old.classes):
        yield from _classes(pair)
    if pair.old.latency.speedup is not None:
        yield _latency(pair)
    yield from _sizes(pair)
    if pair.old.kernels.integer is not None and pair.old.kernels.total:
        yield _integer_share(pair)


def _accuracy(pair: Regression) -> Decided:
    name, limit = "regression_drop", pair.budget.max_drop or 0.0
    reason = other_accuracy(pair.new, pair.old) or _no_labels(pair)
    new, old = pair.new.accuracy, pair.old.accuracy
    if reason or new is None or old is None:
        return _unmeasured(name, limit, reason)
    worse = (old.candidate - new.candidate) if new.higher_is_better else (new.candidate - old.candidate)
    same = pair.new.model.sha256 == pair.old.model.sha256
    criterion = _against(name, limit, worse, accuracy_interval(new, old, same, pair.alpha))
    told = f"{visible(new.metric, 60)} {metric(old.candidate)} -> {metric(new.candidate)} since the baseline"
    return criterion, _reason(criterion, told)


def _no_labels(pair: Regression) -> str | None:
    return next((why_unlabelled(side) for side in (pair.new, pair.old) if unlabelled(side)), None)


def _classes(pair: Regression) -> Iterator[Decided]:
    """The worst class; without a margin only one that is worse beyond noise, as by chance some class always is."""
    name, limit = "regression_class_drop", pair.budget.max_class_drop or 0.0
    new, old = {each.label: each for each in pair.new.classes}, [each for each in pair.old.classes if each.n > 0]
    gone = next((each.label for each in old if each.label not in new or new[each.label].n < 1), None)
    reason = other_accuracy(pair.new, pair.old) or _no_labels(pair)
    if gone is not None:
        reason = reason or f"class {visible(gone, 60)} is not in the new report"
    if reason or pair.new.accuracy is None:
        yield _unmeasured(name, limit, reason)
        return
    alphas = pair.alpha / len(old), pair.alpha
    higher = pair.new.accuracy.higher_is_better
    factor = max(stretch(pair.new.accuracy), stretch(pair.old.accuracy))
    bounds = [class_bound(new[each.label], each, higher, alphas).stretched(factor) for each in old]
    if pair.budget.max_class_drop is None:  # by chance alone some class is always measured to be worse
        bounds = [bound.unless_blind() for bound in bounds]
    decided = decide_classes(name, bounds, limit)
    if pair.budget.max_class_drop is not None or decided[0].status == "fail":
        yield decided


def _latency(pair: Regression) -> Decided:
    name, limit = "regression_latency", 1 + pair.tolerance
    new, old = pair.new.latency, pair.old.latency
    if new.speedup is None or old.speedup is None:
        return _unmeasured(name, limit, new.reason)
    reason = other_latency(pair.new, pair.old)
    ratio = old.speedup / new.speedup
    if reason:
        criterion = Criterion(name, limit, ratio, None, "undecided")
        return criterion, f"{name}: the latencies cannot be compared: {reason}"
    criterion = _against(name, limit, ratio, latency_interval(new, old, pair.alpha))
    told = f"{digits(ratio)} times the latency of the baseline, each relative to its float setting"
    return criterion, _reason(criterion, told)


def _sizes(pair: Regression) -> Iterator[Decided]:
    new, old = pair.new, pair.old
    for name, now, before, why in (
        ("regression_bytes", new.size.candidate_bytes, old.size.candidate_bytes, new.size.reason),
        ("regression_peak_bytes", new.memory.peak_bytes, old.memory.peak_bytes, new.memory.reason),
    ):
        if before is not None:
            yield _exact(name, float(math.floor(before * (1 + pair.tolerance))), now, why)


def _exact(name: str, limit: float, now: int | None, why: str | None) -> Decided:
    if now is None:
        return _unmeasured(name, limit, why)
    status: Status = "fail" if now > limit else "pass"
    reason = f"{name}: {now:,} bytes, at most {limit:,.0f} are accepted after the baseline" if now > limit else None
    return Criterion(name, limit, now, None, status), reason


def _integer_share(pair: Regression) -> Decided:
    new, old, name = pair.new.kernels, pair.old.kernels, "regression_integer_share"
    before = (old.integer or 0) / (old.total or 1)
    reason = None if new.integer is not None and new.total else new.reason or "not known"
    if reason or new.integer is None or not new.total:
        return _unmeasured(name, before, reason)
    share = new.integer / new.total
    if share >= before:
        return Criterion(name, before, share, None, "pass"), None
    told = f"{new.integer} of {new.total} compute layers run as integers ({percent(share)})"
    return Criterion(name, before, share, None, "fail"), f"{name}: {told}, the baseline has {percent(before)}"


def _against(name: str, limit: float, value: float, interval: Interval | None) -> Criterion:
    """Whether something is worse than the baseline by more than a margin.

    Without a margin nothing can be shown to be no worse at all: what was not measured to be worse passes, and what was
    fails if its interval says so too.
    """
    interval, status = around(value, interval), decide(value, interval, limit)
    if limit == 0 and status == "undecided" and decide(value, (value, value), limit) == "pass":
        status = "pass"
    return Criterion(name, limit, value, interval, status)


def _reason(criterion: Criterion, told: str) -> str | None:
    name, limit, within = criterion.name, metric(criterion.limit), span(criterion.interval)
    if criterion.interval is None:
        verb = "does not keep" if criterion.status == "fail" else "keeps"
        return f"{name}: {told}, which {verb} the limit {limit}, by the measured values alone"
    if criterion.status == "fail":
        return f"{name}: {told} ({within}), the limit is {limit}"
    if criterion.status == "undecided":
        return f"{name}: {told}, but the limit {limit} lies within {within}"
    return None


def _unmeasured(name: str, limit: float, why: str | None) -> Decided:
    return Criterion(name, limit, None, None, "unmeasured"), f"{name} was not measured: {why or UNKNOWN}"
