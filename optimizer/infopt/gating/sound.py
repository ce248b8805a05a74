"""What of a report can be believed: numbers that no measurement gives count as not measured.

A report comes from a file that may have been cut, edited or merged by hand. The gate must not take the drop of a
damaged one for evidence, so whatever contradicts itself is left out here, with the reason, before anything is judged.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from infopt.errors import InputError
from infopt.report import ClassChange

if TYPE_CHECKING:
    from pathlib import Path

    from infopt.accuracy import Accuracy
    from infopt.bench import CandidateLatency, Latency
    from infopt.report import KernelCount, Report
    from infopt.stats.limits import Limit

_SAMPLES = 10**12
"""More samples than anybody evaluates; far beyond, distributions of counts are not computed rightly."""

_SCORES = 1e-3
"""How far a difference may be from that of the scores, relative to them."""


def sound(report: Report) -> Report:
    """A report in which everything that is left is a possible measurement.

    Args:
        report: As it was read.

    Returns:
        The same with ``None`` and a reason where numbers are not finite, contradict each other or are impossible.
    """
    reason = report.accuracy and _unsound_accuracy(report.accuracy)
    if reason:
        report = replace(report, accuracy=None, accuracy_reason=f"the report is damaged: {reason}")
    size, memory = report.size, report.memory
    if size.candidate_bytes is not None and size.candidate_bytes < 1:
        size = replace(size, candidate_bytes=None, reason=f"{size.candidate_bytes} bytes are no artifact")
    if memory.peak_bytes is not None and memory.peak_bytes < 1:
        memory = replace(memory, peak_bytes=None, reason=f"{memory.peak_bytes} bytes are no peak")
    higher = report.accuracy is None or report.accuracy.higher_is_better
    return replace(
        report,
        size=size,
        memory=memory,
        latency=_sound_latency(report.latency),
        kernels=_sound_kernels(report.kernels),
        classes=tuple(_sound_class(each, higher) for each in report.classes),
    )


def check_sound(report: Report, path: Path) -> Report:
    """See to it that a report to measure against says nothing impossible: what is left out there is not asked for.

    Args:
        report: As it was read.
        path: Where, for the message.

    Raises:
        InputError: Something contradicts itself.
    """
    kept = sound(report)
    names = [item.name for item in fields(report) if getattr(report, item.name) != getattr(kept, item.name)]
    if names:
        wrong = ", ".join(name for name in names if name != "accuracy_reason")
        raise InputError(
            f"the baseline {path} contradicts itself in {wrong}", "run the command that wrote it again, or give another"
        )
    return kept


def _unsound_accuracy(accuracy: Accuracy) -> str | None:
    """Why a comparison of scores is none."""
    numbers = (accuracy.baseline, accuracy.candidate, accuracy.delta, accuracy.drop, *(accuracy.ci95 or ()))
    if not all(map(math.isfinite, numbers)):
        return "not every number of accuracy is one"
    if not 1 <= accuracy.n <= _SAMPLES:
        return "no sample was evaluated" if accuracy.n < 1 else "nobody evaluates so many samples"
    if not _close(accuracy, accuracy.delta):
        return "delta is not the difference of the scores"
    if not _close(accuracy, -accuracy.drop if accuracy.higher_is_better else accuracy.drop):
        return "drop is not the worsening of the scores"
    if accuracy.ci95 is not None and accuracy.ci95[0] > accuracy.ci95[1]:
        return "ci95 ends before it begins"
    if not _within(accuracy.delta, accuracy.ci95):
        return "ci95 does not hold delta"
    if not all(_possible_limit(limit, accuracy.delta) for limit in accuracy.limits):
        return "limits are none"
    if accuracy.flips is not None and not _possible_flips(accuracy):
        return "so many samples cannot have changed sides"
    return None


def _close(scores: Accuracy | ClassChange, delta: float) -> bool:
    """Whether this can be the difference of two scores; it may come from another sum than they do."""
    size = max(1.0, abs(scores.baseline), abs(scores.candidate))
    return abs(scores.candidate - scores.baseline - delta) <= _SCORES * size


def _within(value: float, interval: tuple[float, float] | None) -> bool:
    """Whether an interval can be that of a value: a bootstrap's may lie beside it, by less than half its width."""
    if interval is None:
        return True
    low, high = interval
    reach = (high - low) / 2 + _SCORES * max(abs(low), abs(high), abs(value))
    return low - reach <= value <= high + reach


def _possible_limit(limit: Limit, delta: float) -> bool:
    finite = all(map(math.isfinite, (limit.confidence, limit.low, limit.high)))
    ordered = finite and 0.5 < limit.confidence < 1 and limit.low <= limit.high
    return ordered and _within(delta, (limit.low, limit.high))


def _sound_class(change: ClassChange, higher: bool) -> ClassChange:
    """A class, or one without samples in its place."""
    numbers = (change.baseline, change.candidate, change.drop, *(change.ci95 or ()))
    possible = 1 <= change.n <= _SAMPLES and all(map(math.isfinite, numbers))
    delta = change.candidate - change.baseline
    ordered = change.ci95 is None or (change.ci95[0] <= change.ci95[1] and _within(delta, change.ci95))
    if possible and ordered and _close(change, -change.drop if higher else change.drop):
        return change
    return ClassChange(change.label, 0, math.nan, math.nan, math.nan)


def _possible_flips(accuracy: Accuracy) -> bool:
    flips = accuracy.flips
    return flips is None or (min(flips.gained, flips.lost) >= 0 and flips.gained + flips.lost <= accuracy.n)


def _sound_latency(latency: Latency) -> Latency:
    speedup, interval = latency.speedup, latency.speedup_ci95 or ()
    if speedup is not None and not all(math.isfinite(value) and value > 0 for value in (speedup, *interval)):
        latency = replace(latency, speedup=None, speedup_ci95=None, reason="the report's speedup is none")
    elif interval and interval[0] > interval[1]:
        latency = replace(latency, speedup=None, speedup_ci95=None, reason="speedup_ci95 ends before it begins")
    elif speedup is not None and interval and not _within(speedup, (interval[0], interval[1])):
        latency = replace(latency, speedup=None, speedup_ci95=None, reason="speedup_ci95 does not hold the speedup")
    candidate = latency.candidate
    if candidate is not None and candidate.ms is not None and not _possible_times(candidate):
        reason = latency.reason or "the report's percentiles are none"
        latency = replace(latency, candidate=replace(candidate, ms=None), reason=reason)
    return latency


def _possible_times(candidate: CandidateLatency) -> bool:
    ms = candidate.ms
    return ms is None or (math.isfinite(ms.p50) and math.isfinite(ms.p99) and 0 < ms.p50 <= ms.p99)


def _sound_kernels(kernels: KernelCount) -> KernelCount:
    integer, total = kernels.integer, kernels.total
    if integer is None or total is None or 0 <= integer <= total:
        return kernels
    return replace(kernels, integer=None, total=None, reason=f"{integer} of {total} layers cannot run as integers")
