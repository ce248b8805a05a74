"""Whether to ship, in words that a newcomer can act on: the answer, why, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from infopt.findings import findings, measured, pace
from infopt.stats.margin import drop_interval
from infopt.wording import UNKNOWN, megabytes, metric, times

if TYPE_CHECKING:
    from infopt.accuracy import Accuracy
    from infopt.findings import Kind
    from infopt.report import Criterion, Report

Answer = Literal["Ship", "Do not ship", "Undecided", "Not measured"]
Tone = Literal["good", "bad", "open"]

LIMITS = {
    "max_drop": "the drop of accuracy",
    "max_class_drop": "the drop of the worst class",
    "min_speedup": "the speedup",
    "max_p99_ms": "the 99th percentile of the latency",
    "max_bytes": "the size",
    "max_peak_bytes": "the peak memory",
    "min_integer_share": "the share of integer layers",
}
"""Limits of a budget in words."""

_TONES: dict[Answer, Tone] = {"Ship": "good", "Do not ship": "bad", "Undecided": "open", "Not measured": "open"}


@dataclass(frozen=True, slots=True)
class Advice:
    """Something to do: a sentence, and the command that does it, if there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer.

    Attributes:
        answer: In at most three words.
        because: The sentence behind it.
        grounds: What speaks for shipping, where that is the answer.
        advice: What to do next, the most important first.
    """

    answer: Answer
    because: str
    grounds: tuple[str, ...]
    advice: tuple[Advice, ...]

    @property
    def tone(self) -> Tone:
        """Whether it is good news."""
        return _TONES[self.answer]


def decide(report: Report) -> Decision:
    """Say whether to ship.

    Without a budget nothing was demanded, so an artifact that is slower than the float model is not worth shipping, and
    one that loses accuracy is for its owner to judge.

    Args:
        report: The report, judged.
    """
    kinds = {finding.kind for finding in findings(report)}
    answer, because = _answer(report, kinds)
    grounds = tuple(_grounds(report)) if answer == "Ship" else ()
    return Decision(answer, because, grounds, tuple(_advice(report, kinds, answer)))


def _answer(report: Report, kinds: set[Kind]) -> tuple[Answer, str]:
    verdict = report.verdict
    by_status = {status: [c for c in verdict.budgets if c.status == status] for status in ("fail", "undecided")}
    if verdict.status == "fail":
        missed = _named(by_status["fail"])
        return "Do not ship", f"It misses what was demanded: {missed}." if missed else "It misses what was demanded."
    if "no integers" in kinds and "min_integer_share" not in _met(report):
        return "Do not ship", "Nothing was gained by quantizing: no layer runs in integers."
    if verdict.status == "unmeasured":
        return "Not measured", _unmeasured(report, kinds)
    if verdict.status == "undecided":
        unclear = _named(by_status["undecided"]) or "a limit"
        return "Undecided", f"Too little was measured to tell whether {unclear} keeps what was demanded."
    return _passed(report, kinds)


def _passed(report: Report, kinds: set[Kind]) -> tuple[Answer, str]:
    met, other = _met(report), "the base" if report.command == "compare" else "the best float setting"
    slower = "slower" in kinds and not met & {"min_speedup", "max_p99_ms"}
    loses = "loss" in kinds and "max_drop" not in met
    caveats = [f"it is slower than {other}"] * slower + ["it loses accuracy"] * loses
    if met:
        told = "It keeps every limit that was set"
        return "Ship", f"{told}, but {' and '.join(caveats)}; no limit was set for that." if caveats else f"{told}."
    if slower:
        return "Do not ship", f"It is slower than {other}{', and it loses accuracy' if loses else ''}."
    if loses:
        return "Undecided", "It loses accuracy, and no limit says how much would be acceptable."
    gain = f", though it is not measurably faster than {other}" if "no faster" in kinds else ""
    return "Ship", f"No limit was set, and nothing that was measured speaks against it{gain}."


def _grounds(report: Report) -> Iterator[str]:
    accuracy, latency, size = measured(report), report.latency, report.size
    if accuracy is not None:
        before, after = metric(accuracy.baseline), metric(accuracy.candidate)
        yield f"{accuracy.metric} went from {before} to {after}{_at_worst(accuracy)}."
    if latency.speedup is not None and pace(latency) == "faster":
        within = (
            f" (95 %: {times(latency.speedup_ci95[0])} to {times(latency.speedup_ci95[1])})"
            if latency.speedup_ci95
            else ""
        )
        other = latency.baseline_float.setting if latency.baseline_float else "float"
        yield f"It is {times(latency.speedup)} as fast as {other}{within}."
    if size.candidate_bytes is not None and size.candidate_bytes < size.baseline_bytes:
        yield f"It takes {megabytes(size.candidate_bytes)} instead of {megabytes(size.baseline_bytes)}."


def _at_worst(accuracy: Accuracy) -> str:
    """The bad end of the interval in words."""
    interval = drop_interval(accuracy)
    if interval is None:
        return f", measured on {accuracy.n:,} samples without an interval"
    worst = f"a drop of {metric(interval[1])}" if interval[1] > 0 else f"a gain of {metric(-interval[1])}"
    return f"; on {accuracy.n:,} samples, the worst end of its 95 % interval is {worst}"


def _unmeasured(report: Report, kinds: set[Kind]) -> str:
    if kinds & {"no accuracy", "no labels"}:
        why = "there is no score on labelled samples"
    else:
        why = f"{_named([c for c in report.verdict.budgets if c.status == 'unmeasured']) or 'a limit'} is not known"
    return f"Nobody can tell: {why}."


def _met(report: Report) -> set[str]:
    return {criterion.name for criterion in report.verdict.budgets if criterion.status == "pass"}


def _named(criteria: list[Criterion]) -> str:
    return " and ".join(LIMITS.get(each.name, each.name) for each in criteria)


def _advice(report: Report, kinds: set[Kind], answer: Answer) -> Iterator[Advice]:
    yield from _about_build(report, kinds)
    yield from _about_accuracy(report, kinds)
    yield from _about_speed(report, kinds)
    yield from _about_other_limits(report)
    if answer == "Ship":
        yield from _about_shipping(report)


def _about_build(report: Report, kinds: set[Kind]) -> Iterator[Advice]:
    runtime = report.target.runtime if report.target else "the runtime"
    if "no artifact" in kinds:
        yield Advice(f"Build the artifact on a machine that has {runtime}: {report.size.reason or UNKNOWN}.")
    if "emulated" in kinds:
        yield Advice("Confirm the accuracy in the real runtime before shipping: it was emulated here.")
    if "synthetic" in kinds:
        yield Advice(
            "Calibrate on real samples: the ranges come from made-up data.", "infopt quantize MODEL --calib DATA"
        )
    if "no integers" in kinds:
        yield Advice("See why no layer runs in integers.", "infopt check MODEL --target TARGET")


def _about_accuracy(report: Report, kinds: set[Kind]) -> Iterator[Advice]:
    if kinds & {"no accuracy", "no labels"}:
        yield Advice("Give labelled samples, so that accuracy can be measured.", "infopt quantize MODEL --eval DATA")
    for criterion in report.verdict.budgets:
        if criterion.status == "undecided":
            about = LIMITS.get(criterion.name, criterion.name)
            more = f"about {criterion.more_samples:,} more samples" if criterion.more_samples else "more samples"
            if criterion.name in ("min_speedup", "max_p99_ms"):
                yield Advice(f"Measure longer, on a quiet machine: that decides {about}.", "--bench-seconds 60")
            else:
                yield Advice(f"Evaluate on {more}: that would probably decide {about}.")
    failed = {criterion.name for criterion in report.verdict.budgets if criterion.status == "fail"}
    if "loss" in kinds or failed & {"max_drop", "max_class_drop"}:
        yield Advice("Find the layers that cost the accuracy, and the cheapest remedy.", "infopt blame DIR")
        if not report.verdict.budgets:
            yield Advice("State how much loss is acceptable, and the report decides.", "--max-drop 0.5%")


def _about_speed(report: Report, kinds: set[Kind]) -> Iterator[Advice]:
    if "slower" in kinds and report.command != "compare":
        yield Advice("Ship the fastest float artifact instead, or try a larger batch.", "infopt compile MODEL")
    if "no speed" in kinds and "no artifact" not in kinds:
        yield Advice(f"Measure the speed where it matters; here it was not: {report.latency.reason or UNKNOWN}.")


def _about_other_limits(report: Report) -> Iterator[Advice]:
    failed = {criterion.name for criterion in report.verdict.budgets if criterion.status == "fail"}
    if failed & {"min_speedup", "max_p99_ms", "min_integer_share"}:
        told = "See which layers stay in float, and why; a larger batch or another target may be faster"
        yield Advice(f"{told}.", "infopt check MODEL --target TARGET")
    if failed & {"max_bytes", "max_peak_bytes"}:
        yield Advice("See which precisions the target runs with smaller weights.", "infopt targets TARGET")


def _about_shipping(report: Report) -> Iterator[Advice]:
    if not report.verdict.budgets:
        yield Advice("State what you demand, so that a later build cannot fall below it unseen.", "--max-drop 0.5%")
    yield Advice("Hold it in continuous integration.", "infopt gate report.json --budget budget.toml")
    if report.command != "compare":
        yield Advice("Ask later whether the data still look as they did.", "infopt drift profile.json DATA")
