"""What speaks against an artifact, and the first line of every output, which hides none of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from infopt.classes import class_bounds
from infopt.labelling import unlabelled, why_unlabelled
from infopt.stats.margin import drop_interval
from infopt.wording import UNKNOWN, digits, megabytes, metric, signed, span, times, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.accuracy import Accuracy
    from infopt.bench import Latency
    from infopt.report import ClassChange, Report

SAME_SIZE = 0.02
"""Part of the size before by which another size is the same."""

Pace = Literal["faster", "no faster", "slower"]
Loss = Literal["loss", "within noise", "none"]
Kind = Literal[
    "slower", "no faster", "loss", "within noise", "no accuracy", "emulated", "no speed", "synthetic",
    "no artifact", "no integers", "no labels", "class loss", "no size",
]  # fmt: skip


_EXCUSES: dict[Kind, tuple[str, ...]] = {
    "no integers": ("min_integer_share",),
    "slower": ("min_speedup", "max_p99_ms"),
    "loss": ("max_drop",),
    "class loss": ("max_class_drop",),
}
"""The limits that speak about the same as a finding: what keeps one of them was accepted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that speaks against the artifact or that limits what the report can say."""

    kind: Kind
    text: str


def findings(report: Report) -> tuple[Finding, ...]:
    """Everything that speaks against an artifact, the gravest first."""
    found = (*_speed_findings(report), *_accuracy_findings(report), *_other_findings(report))
    order: tuple[Kind, ...] = (
        "no artifact",
        "slower",
        "loss",
        "class loss",
        "no accuracy",
        "no labels",
        "no integers",
        "no faster",
    )
    return tuple(sorted(found, key=lambda f: order.index(f.kind) if f.kind in order else len(order)))


def excused(kind: Kind, report: Report) -> bool:
    """Whether a limit that was kept says that a finding was accepted."""
    met = {criterion.name for criterion in report.verdict.budgets if criterion.status == "pass"}
    return not met.isdisjoint(_EXCUSES.get(kind, ()))


def headline(report: Report) -> str:
    """The first line of every output: one line that hides nothing.

    Returns:
        ``PASS  INT8 for openvino: top1 0.9176 -> 0.9171 (...), 1.62x faster than the best float (bf16), ...``
    """
    kinds = {finding.kind for finding in findings(report)}
    what = _precision(report) or ("pruned model" if report.pruned else "candidate")
    target = f" for {report.target.name}" if report.target else ""
    parts = [_accuracy_words(report), _speed_words(report), _size_words(report)]
    if "no integers" in kinds:
        parts.append("NOTHING runs in integers")
    if "synthetic" in kinds:
        parts.append("calibrated on synthetic data")
    return f"{_label(report, kinds)}  {what}{target}: " + visible(", ".join(filter(None, parts)), limit=600)


def quantizes(report: Report) -> bool:
    """Whether a quantize pass made the artifact."""
    return _precision(report) is not None


def _precision(report: Report) -> str | None:
    """What a report's pass quantized to, as headlines spell it."""
    names = [str(step.options.get("precision", "int8")) for step in report.steps if step.name == "quantize"]
    return (names[-1] if "-" in names[-1] else names[-1].upper()) if names else None


def _other(report: Report) -> str:
    """What the artifact's speed is held against."""
    return "the base" if report.command == "compare" else "the best float"


def measured(report: Report) -> Accuracy | None:
    """The accuracy, unless there is none or it is not a number."""
    accuracy = report.accuracy
    return accuracy if accuracy is not None and math.isfinite(accuracy.delta) else None


def pace(latency: Latency) -> Pace | None:
    """Whether the artifact is faster than the best float setting; ``None`` when it was not measured."""
    if latency.speedup is None or not math.isfinite(latency.speedup):
        return None
    low, high = latency.speedup_ci95 or (latency.speedup, latency.speedup)
    return "faster" if low > 1 else "slower" if high < 1 else "no faster"


def loss(accuracy: Accuracy) -> Loss:
    """Whether the artifact loses accuracy beyond what its interval allows for chance."""
    low, high = drop_interval(accuracy) or (accuracy.drop, accuracy.drop)
    if low > 0:
        return "loss"
    return "within noise" if accuracy.drop > 0 and high > 0 else "none"


def _label(report: Report, kinds: set[Kind]) -> str:
    """The status, or what is worse news than it: a budget that was met excuses a slowdown or a loss."""
    if report.verdict.status == "fail":
        return "FAIL"
    words: tuple[tuple[Kind, str], ...] = (
        ("no integers", "NOT QUANTIZED"),
        ("slower", "SLOWER"),
        ("loss", "LESS ACCURATE"),
        ("class loss", "A CLASS LOSES"),
    )
    bad = [word for kind, word in words if kind in kinds and not excused(kind, report)]
    return " AND ".join(bad) or report.verdict.status.upper()


def _speed_findings(report: Report) -> Iterator[Finding]:
    latency = report.latency
    how = pace(latency)
    if how is None:
        yield Finding("no speed", f"speed was not measured: {latency.reason or UNKNOWN}")
    elif how != "faster":
        verb = "slower than" if how == "slower" else "not measurably faster than"
        yield Finding(how, f"{verb} {_other(report)}: {_medians(report)}{_speed_interval(latency)}")


def _accuracy_findings(report: Report) -> Iterator[Finding]:
    accuracy = measured(report)
    if accuracy is None:
        yield Finding("no accuracy", f"accuracy was NOT measured: {_no_accuracy(report)}")
        return
    how = loss(accuracy)
    if unlabelled(report):
        yield Finding("no labels", f"accuracy was NOT measured, {why_unlabelled(report)}: {_change(accuracy)}")
    elif how == "loss":
        proof = "" if accuracy.ci95 else f"; no interval: {accuracy.ci95_reason or UNKNOWN}"
        yield Finding("loss", f"loses accuracy: {_change(accuracy)}{proof}")
    elif how == "within noise":
        yield Finding("within noise", f"accuracy moves within noise: {_change(accuracy)}, not significant")
    yield from _class_findings(report)
    if accuracy.where == "emulated":
        yield Finding("emulated", "accuracy was emulated in ONNX Runtime, not measured on the target")


def worst_class(report: Report) -> ClassChange | None:
    """The class with the largest drop, of those that have samples."""
    found = [change for change in report.classes if change.n and math.isfinite(change.drop)]
    return max(found, key=lambda change: change.drop, default=None)


def _class_findings(report: Report) -> Iterator[Finding]:
    losing = losing_classes(report)
    if losing:
        worst = losing[0]
        more = f"; {len(losing) - 1} others lose too" if len(losing) > 1 else ""
        scores = f"{metric(worst.baseline)} -> {metric(worst.candidate)} of {worst.n} samples"
        yield Finding("class loss", f"class {visible(worst.label, 40)} loses most: {scores}{more}")


def losing_classes(report: Report) -> list[ClassChange]:
    """The classes that lose beyond what chance does to the worst of so many, the largest drop first."""
    tested = [change for change in report.classes if change.n and change.ci95 and math.isfinite(change.drop)]
    if not tested:
        return []
    bounds = class_bounds(report, tested, 0.025)
    losing = [change for change, bound in zip(tested, bounds, strict=True) if bound.low > 0]
    return sorted(losing, key=lambda change: -change.drop)


def _other_findings(report: Report) -> Iterator[Finding]:
    if report.size.candidate_bytes is None and report.command == "compare":
        yield Finding("no size", f"size was not measured: {report.size.reason or UNKNOWN}")
    elif report.size.candidate_bytes is None:
        yield Finding("no artifact", f"no artifact was built: {report.size.reason or UNKNOWN}")
    if quantizes(report) and report.kernels.integer == 0 and not report.kernels.compressed:
        yield Finding("no integers", f"none of the {report.kernels.total} compute layers runs in integers")
    if report.data.calib is not None and report.data.calib.synthetic:
        yield Finding("synthetic", "calibrated on synthetic data: calibrate on real samples before shipping")


def _accuracy_words(report: Report) -> str:
    accuracy = measured(report)
    if accuracy is None:
        return f"accuracy was NOT measured ({visible(_no_accuracy(report))})"
    used = "labels NOT used" if why_unlabelled(report) != "there are no labels" else "NO labels"
    labels = f"{used}, so only " if unlabelled(report) else ""
    return labels + _change(accuracy) + (" emulated, not on the target" if accuracy.where == "emulated" else "")


def _speed_words(report: Report) -> str:
    latency = report.latency
    how = pace(latency)
    if how is None or latency.speedup is None:
        return f"speed was not measured ({visible(latency.reason or UNKNOWN)})"
    best = _other(report)
    if latency.baseline_float:
        best += f" ({visible(latency.baseline_float.setting, 40)})"
    if how == "faster":
        return f"{times(latency.speedup)} faster than {best}"
    if how == "slower":
        return f"{times(1 / latency.speedup)} SLOWER than {best}" if latency.speedup > 0 else f"SLOWER than {best}"
    return f"no faster than {best}{_speed_interval(latency)}"


def _size_words(report: Report) -> str:
    before, after = report.size.baseline_bytes, report.size.candidate_bytes
    if after is None and report.command == "compare":
        return f"size was not measured ({visible(report.size.reason or UNKNOWN)})"
    if after is None:
        return f"no artifact was built ({visible(report.size.reason or UNKNOWN)})"
    if not before or not after or same_size(before, after):
        return megabytes(after) if not before or not after else "same size"
    ratio = before / after
    return f"{digits(ratio, 2)}x smaller" if ratio > 1 else f"{digits(1 / ratio, 2)}x larger"


def same_size(before: int, after: int) -> bool:
    """Whether sizes differ by less than is worth a word."""
    return abs(before - after) < SAME_SIZE * before


def _change(accuracy: Accuracy) -> str:
    sense = "" if accuracy.higher_is_better else ", lower is better"
    within = f", 95 % {span(accuracy.ci95)}" if accuracy.ci95 else ""
    before, after = metric(accuracy.baseline), metric(accuracy.candidate)
    return f"{accuracy.metric} {before} -> {after} ({signed(accuracy.delta)}{sense}{within})"


def _medians(report: Report) -> str:
    latency = report.latency
    base = "base" if report.command == "compare" else "float"
    sides = (("artifact", latency.candidate), (base, latency.baseline_float))
    shown = [f"{name} ({side.setting}) {digits(side.ms.p50)} ms" for name, side in sides if side and side.ms]
    return ", ".join(shown) or "medians are not known"


def _speed_interval(latency: Latency) -> str:
    speedup = "" if latency.speedup is None else times(latency.speedup)
    within = latency.speedup_ci95
    return f" ({speedup}, 95 % {times(within[0])}..{times(within[1])})" if within else f" ({speedup})"


def _no_accuracy(report: Report) -> str:
    return report.accuracy_reason or ("the metric is not a number" if report.accuracy else "no evaluation data")
