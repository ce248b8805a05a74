"""Whether to ship, in words that a newcomer can act on: the answer, why, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from infopt.findings import excused, findings, losing_classes, measured, pace, quantizes, same_size
from infopt.stats.margin import drop_interval
from infopt.wording import UNKNOWN, limit_about, megabytes, metric, times, visible

if TYPE_CHECKING:
    from infopt.accuracy import Accuracy
    from infopt.findings import Kind
    from infopt.report import Criterion, Report

Answer = Literal["Ship", "Do not ship", "Undecided", "Not measured"]
Tone = Literal["good", "bad", "open"]

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
    if "no integers" in kinds and not excused("no integers", report):
        return "Do not ship", "Nothing was gained by quantizing: no layer runs in integers."
    if verdict.status == "unmeasured":
        return "Not measured", _unmeasured(report, kinds)
    if verdict.status == "undecided":
        unclear = _named(by_status["undecided"]) or "a limit"
        return "Undecided", f"Too little was measured to tell whether {unclear} keeps what was demanded."
    return _passed(report, kinds)


def _passed(report: Report, kinds: set[Kind]) -> tuple[Answer, str]:
    other = "the base" if report.command == "compare" else "the best float setting"
    slower, lost = "slower" in kinds and not excused("slower", report), list(_losses(report, kinds))
    caveats = [f"it is slower than {other}"] * slower + lost
    if report.verdict.budgets:
        told = "It keeps every limit that was set"
        return "Ship", f"{told}, but {' and '.join(caveats)}; no limit was set for that." if caveats else f"{told}."
    if slower:
        return "Do not ship", f"It is slower than {other}{', and ' if lost else ''}{' and '.join(lost)}."
    if lost:
        told = " and ".join(lost)
        return "Undecided", f"{told[0].upper()}{told[1:]}, and no limit says how much would be acceptable."
    gain = f", though it is not measurably faster than {other}" if "no faster" in kinds else ""
    return "Ship", f"No limit was set, and nothing that was measured speaks against it{gain}."


def _losses(report: Report, kinds: set[Kind]) -> Iterator[str]:
    """What is less accurate without a limit that allows it: a mean can hide a class that died."""
    if "loss" in kinds and not excused("loss", report):
        yield "it loses accuracy"
    if "class loss" in kinds and not excused("class loss", report):
        worst = losing_classes(report)[0]
        yield f"class {visible(worst.label, 40)} goes from {metric(worst.baseline)} to {metric(worst.candidate)}"


def _grounds(report: Report) -> Iterator[str]:
    accuracy, latency, size = measured(report), report.latency, report.size
    if accuracy is not None:
        scores = f"{metric(accuracy.baseline)} to {metric(accuracy.candidate)}"
        yield f"{accuracy.metric} went from {scores}{_at_worst(accuracy)}."
    if latency.speedup is not None and pace(latency) == "faster":
        within = (
            f" (95 %: {times(latency.speedup_ci95[0])} to {times(latency.speedup_ci95[1])})"
            if latency.speedup_ci95
            else ""
        )
        other = latency.baseline_float.setting if latency.baseline_float else "float"
        yield f"It is {times(latency.speedup)} as fast as {other}{within}."
    before, after = size.baseline_bytes, size.candidate_bytes
    if after is not None and after < before and not same_size(before, after):
        yield f"It takes {megabytes(after)} instead of {megabytes(before)}."


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


def _named(criteria: list[Criterion]) -> str:
    return " and ".join(limit_about(each.name) for each in criteria)


def _advice(report: Report, kinds: set[Kind], answer: Answer) -> Iterator[Advice]:
    yield from _about_build(report, kinds)
    yield from _about_accuracy(report, kinds)
    yield from _about_speed(report, kinds, answer)
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
        yield Advice("Give labelled samples, so that accuracy can be measured.", f"{_again(report)} --eval DATA")
    for criterion in report.verdict.budgets:
        if criterion.status == "undecided":
            about = limit_about(criterion.name)
            more = f"about {criterion.more_samples:,} more samples" if criterion.more_samples else "more samples"
            if criterion.name in ("min_speedup", "max_p99_ms"):
                yield Advice(f"Measure longer, on a quiet machine: that decides {about}.", "--bench-seconds 60")
            else:
                yield Advice(f"Evaluate on {more}: that would probably decide {about}.")
    yield from _about_losses(report, kinds)


def _about_losses(report: Report, kinds: set[Kind]) -> Iterator[Advice]:
    """Where accuracy was lost; only a directory that quantize wrote can be blamed."""
    failed = {criterion.name for criterion in report.verdict.budgets if criterion.status == "fail"}
    if not (kinds & {"loss", "class loss"} or failed & {"max_drop", "max_class_drop"}):
        return
    if quantizes(report) and report.command != "compare":
        yield Advice("Find the layers that cost the accuracy, and the cheapest remedy.", "infopt blame DIR")
    else:
        yield Advice("See below which classes and which samples changed.")
    if report.verdict.budgets:
        return
    if "loss" in kinds:
        yield Advice("State how much loss is acceptable, and the report decides.", "--max-drop 0.5%")
    if "class loss" in kinds:
        yield Advice(
            "State in budget.toml how much a class may lose (max_class_drop), and the report decides.",
            "infopt gate report.json --budget budget.toml",
        )


def _again(report: Report) -> str:
    """The command that measures once more."""
    if report.command == "compare":
        return "infopt compare BASE CANDIDATE"
    return "infopt run RECIPE" if report.command == "run" else f"infopt {report.command} MODEL"


def _about_speed(report: Report, kinds: set[Kind], answer: Answer) -> Iterator[Advice]:
    slower = "slower" in kinds and not excused("slower", report)
    if slower and answer == "Ship":
        yield Advice(
            "State the least speedup that is acceptable: it is slower, and no limit says that it may be.",
            "--min-speedup 0.8",
        )
    elif slower and quantizes(report) and report.command != "compare":
        yield Advice("Ship the fastest float artifact instead, or try a larger batch.", "infopt compile MODEL")
    if "no speed" in kinds and "no artifact" not in kinds:
        yield Advice(f"Measure the speed where it matters; here it was not: {report.latency.reason or UNKNOWN}.")


def _about_other_limits(report: Report) -> Iterator[Advice]:
    failed = {criterion.name for criterion in report.verdict.budgets if criterion.status == "fail"}
    if failed & {"min_speedup", "max_p99_ms", "min_integer_share"}:
        told = "See which layers stay in float, and why; a larger batch or another target may be faster"
        yield Advice(f"{told}.", "infopt check MODEL --target TARGET")
    unknown = [each for each in report.verdict.budgets if each.status == "unmeasured"]
    if any(each.name == "max_peak_bytes" for each in unknown):
        yield Advice(
            f"Take max_peak_bytes out of the budget: infopt does not measure it ({report.memory.reason or UNKNOWN})."
        )
    if failed & {"max_bytes", "max_peak_bytes"}:
        yield Advice("See which precisions the target runs with smaller weights.", "infopt targets TARGET")


def _about_shipping(report: Report) -> Iterator[Advice]:
    if not report.verdict.budgets:
        yield Advice("State what you demand, so that a later build cannot fall below it unseen.", "--max-drop 0.5%")
    yield Advice("Hold it in continuous integration.", "infopt gate report.json --budget budget.toml")
    if report.command != "compare" and report.data.calib is not None and not report.data.calib.synthetic:
        yield Advice("Ask later whether the data still look as they did.", "infopt drift profile.json DATA")
