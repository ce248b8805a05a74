"""What two reports measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infopt.diffing.records import KernelsDiff, Measured
from infopt.gating.comparable import other_accuracy, other_latency, other_machine
from infopt.gating.intervals import accuracy_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.report import KernelCount, Report


def compare_kernels(a: Report, b: Report) -> KernelsDiff:
    """What became of the integer coverage; layers are named only where both reports name all that run in float."""
    coverage = _coverage(a.kernels), _coverage(b.kernels)
    if not (_names_all(a.kernels) and _names_all(b.kernels)):
        return KernelsDiff(*coverage)
    in_float = [{node.name: None for node in side.kernels.float_nodes} for side in (a, b)]
    now_float = tuple(name for name in in_float[1] if name not in in_float[0])
    now_integer = tuple(name for name in in_float[0] if name not in in_float[1])
    return KernelsDiff(*coverage, now_float, now_integer)


def compare_measured(a: Report, b: Report) -> Iterator[Measured]:
    """What was measured on either side: accuracy, latency, size, memory.

    Args:
        a: The report of the first directory.
        b: That of the second one.
    """
    yield from _accuracy(a, b)
    numbers = [dict(_numbers(side)) for side in (a, b)]
    for what in dict.fromkeys((*numbers[0], *numbers[1])):
        before, after = numbers[0].get(what), numbers[1].get(what)
        both = before is not None and after is not None
        yield Measured(what, before, after, reason=_other(a, b, what) if both else None)


def _other(a: Report, b: Report, what: str) -> str | None:
    """Why a number of both reports does not mean the same."""
    if what == "latency.speedup":
        return other_latency(b, a)
    return other_machine(b, a) if what.startswith("latency") else None


def _accuracy(a: Report, b: Report) -> Iterator[Measured]:
    if a.accuracy is None and b.accuracy is None:
        return
    scores = [side.accuracy.candidate if side.accuracy else None for side in (a, b)]
    floats = [side.accuracy.baseline if side.accuracy else None for side in (a, b)]
    reason = other_accuracy(b, a) if a.accuracy and b.accuracy else None
    interval = None
    if a.accuracy and b.accuracy and reason is None:
        drop = accuracy_interval(b.accuracy, a.accuracy, a.model.sha256 == b.model.sha256, 0.025)
        interval = drop and ((-drop[1], -drop[0]) if b.accuracy.higher_is_better else drop)
    yield Measured("accuracy.candidate", scores[0], scores[1], interval, reason)
    if floats[0] != floats[1]:
        yield Measured("accuracy.baseline", floats[0], floats[1], None, reason)


def _numbers(report: Report) -> Iterator[tuple[str, float]]:
    latency, candidate = report.latency, report.latency.candidate
    ms = candidate.ms if candidate else None
    numbers = {
        "latency.candidate.ms.p50": ms.p50 if ms else None,
        "latency.candidate.ms.p99": ms.p99 if ms else None,
        "latency.speedup": latency.speedup,
        "size.candidate_bytes": report.size.candidate_bytes,
        "memory.peak_bytes": report.memory.peak_bytes,
    }
    yield from ((name, value) for name, value in numbers.items() if value is not None)


def _coverage(kernels: KernelCount) -> tuple[int, int] | None:
    return None if kernels.integer is None or kernels.total is None else (kernels.integer, kernels.total)


def _names_all(kernels: KernelCount) -> bool:
    known = _coverage(kernels)
    return known is not None and len(kernels.float_nodes) == known[1] - known[0] - kernels.compressed
