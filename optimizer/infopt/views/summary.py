"""The report in a handful of lines: accuracy, latency, size and integer share, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infopt.findings import measured
from infopt.labelling import unlabelled, why_unlabelled
from infopt.views.pruning import compressed, fewer
from infopt.views.tables import Column, Table
from infopt.wording import (
    MISSING,
    UNKNOWN,
    digits,
    limit_short,
    megabytes,
    metric,
    percent,
    short,
    signed,
    span,
    times,
)

if TYPE_CHECKING:
    from infopt.report import Criterion, Report, Status

_ROW_OF = {
    "max_drop": "accuracy",
    "min_speedup": "latency",
    "max_p99_ms": "latency",
    "max_bytes": "size",
    "min_integer_share": "integers",
    "max_peak_bytes": "memory",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One measured quantity; texts are raw, a view escapes them.

    Attributes:
        key: ``"accuracy"``, ``"latency"``, ``"size"``, ``"operations"``, ``"parameters"``, ``"integers"``,
            ``"memory"``, or a limit's own name.
        what: Its name.
        before: Of the original, with its unit.
        after: Of the artifact.
        change: The difference in short, empty where it was not measured.
        interval: Its 95 % interval, empty where there is none.
        reason: Why something is missing, or what limits the number.
        limits: What was demanded, and the answers.
    """

    key: str
    what: str
    before: str
    after: str
    change: str
    interval: str = ""
    reason: str = ""
    limits: tuple[tuple[str, Status], ...] = ()


def summary(report: Report) -> tuple[Line, ...]:
    """The lines in reading order; a limit on something else has a line of its own."""
    lines = [_accuracy(report), _latency(report), _size(report), *_pruned(report), _integers(report)]
    if _limits(report, "memory"):
        peak = megabytes(report.memory.peak_bytes)
        lines.append(
            Line("memory", "peak memory", "", peak, "", "", report.memory.reason or "", _limits(report, "memory"))
        )
    return (*lines, *_further(report))


def summary_table(report: Report) -> Table:
    """The lines as a table."""
    columns = (
        *(Column("", "text"), Column("before"), Column("after"), Column("change"), Column("95 % interval")),
        Column("limit, note", "text"),
    )
    return Table("Summary", columns, tuple(map(_row, summary(report))))


def _row(line: Line) -> tuple[str, ...]:
    told = [f"{status}: {limit}" for limit, status in line.limits] + ([line.reason] if line.reason else [])
    return (
        line.what,
        *(each or MISSING for each in (line.before, line.after, line.change, line.interval)),
        "; ".join(told),
    )


def limit_in_words(item: Criterion) -> str:
    """What is demanded: ``"drop at most 0.0050"``."""
    side = "least" if item.name.startswith("min_") else "most"
    return f"{limit_short(item.name)} at {side} {value_in_words(item.name, item.limit)}"


def value_in_words(name: str, value: float | None) -> str:
    """A limit or a measured value of a limit, with its unit."""
    if value is None:
        return MISSING
    if name.endswith("_bytes"):
        return megabytes(int(value))
    if name.endswith("_ms"):
        return f"{digits(value)} ms"
    if name == "min_speedup":
        return times(value)
    return percent(value) if name == "min_integer_share" else metric(value)


def _limits(report: Report, key: str) -> tuple[tuple[str, Status], ...]:
    return tuple((limit_in_words(c), c.status) for c in report.verdict.budgets if _ROW_OF.get(c.name) == key)


def _further(report: Report) -> Iterator[Line]:
    for item in report.verdict.budgets:
        if item.name not in _ROW_OF:
            within = "..".join(value_in_words(item.name, end) for end in item.interval) if item.interval else ""
            shown = value_in_words(item.name, item.value)
            limits = ((limit_in_words(item), item.status),)
            yield Line(item.name, limit_short(item.name), "", shown, "", within, "", limits)


def _accuracy(report: Report) -> Line:
    found, limits = measured(report), _limits(report, "accuracy")
    if found is None:
        why = report.accuracy_reason or ("the metric is not a number" if report.accuracy else UNKNOWN)
        return Line("accuracy", "accuracy", MISSING, MISSING, "", "", f"not measured: {why}", limits)
    notes = []
    if unlabelled(report):
        notes.append(f"not measured: {why_unlabelled(report)}; this compares with the original model")
    if found.where == "emulated":
        notes.append("emulated, not on the target")
    if not found.higher_is_better:
        notes.append("lower is better")
    if found.ci95 is None:
        notes.append(f"no interval: {found.ci95_reason or UNKNOWN}")
    before, after = metric(found.baseline), metric(found.candidate)
    within = span(found.ci95) if found.ci95 else ""
    return Line("accuracy", found.metric, before, after, signed(found.delta), within, "; ".join(notes), limits)


def _latency(report: Report) -> Line:
    found, limits = report.latency, _limits(report, "latency")
    base = found.baseline_float.ms if found.baseline_float else None
    own = found.candidate.ms if found.candidate else None
    shown = [f"{digits(ms.p50)} ms" if ms else MISSING for ms in (base, own)]
    within = f"{times(found.speedup_ci95[0])}..{times(found.speedup_ci95[1])}" if found.speedup_ci95 else ""
    why = f"not measured: {found.reason or UNKNOWN}" if found.speedup is None else ""
    change = "" if found.speedup is None else _pace(found.speedup)
    return Line("latency", "latency, median", shown[0], shown[1], change, within, why, limits)


def _pace(speedup: float) -> str:
    return f"{times(speedup)} faster" if speedup >= 1 or speedup <= 0 else f"{times(1 / speedup)} slower"


def _size(report: Report) -> Line:
    size, limits = report.size, _limits(report, "size")
    before, after = size.baseline_bytes or None, size.candidate_bytes
    if after is None:
        missing = "not measured" if report.command == "compare" else "no artifact"
        why = f"{missing}: {size.reason or UNKNOWN}"
        return Line("size", "size", megabytes(before), MISSING, "", "", why, limits)
    change = ""
    if before and after:
        change = f"{times(before / after)} smaller" if before >= after else f"{times(after / before)} larger"
    peak = report.memory.peak_bytes
    memory = f"peak memory {megabytes(peak)}" if peak is not None and not _limits(report, "memory") else ""
    told = "; ".join(filter(None, (compressed(report), memory)))
    return Line("size", "size", megabytes(before), megabytes(after), change, "", told, limits)


def _pruned(report: Report) -> Iterator[Line]:
    """Operations and parameters, of a model that was pruned."""
    found = report.result
    if not report.pruned or found is None:
        return
    for key, before, after in (
        ("operations", report.model.flops, found.flops),
        ("parameters", report.model.parameters, found.parameters),
    ):
        if before != after:
            shown = [short(number) for number in (before, after)]
            yield Line(key, key, shown[0], shown[1], fewer(before, after))


def _integers(report: Report) -> Line:
    found, limits = report.kernels, _limits(report, "integers")
    if found.integer is None or not found.total:
        why = f"not measured: {found.reason or UNKNOWN}"
        return Line("integers", "integer layers", "", MISSING, "", "", why, limits)
    notes = f"{found.compressed} others read compressed weights" if found.compressed else ""
    share = percent(found.integer / found.total)
    return Line("integers", "integer layers", "", f"{found.integer} of {found.total}", share, "", notes, limits)
