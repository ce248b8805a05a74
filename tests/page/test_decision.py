"""Whether to ship, in words: every combination that matters, and what to do next."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page.samples import EXAMPLE

from infopt.bench import CandidateLatency, FloatLatency, Latency, Times
from infopt.budget import Budget
from infopt.findings import headline
from infopt.report import CalibData, ClassChange, Data, KernelCount, Memory, Report, Size
from infopt.verdict import judged
from infopt.views.decision import Decision, decide
from infopt.views.html.page import sections
from infopt.views.summary import limit_in_words


def with_speedup(speedup: float, low: float, high: float) -> Report:
    base = FloatLatency("bf16", 0.9, Times(2.0, 2.2, 2.5))
    own = CandidateLatency("int8", Times(2.0 / speedup, 3.0, 4.0))
    return replace(EXAMPLE, latency=Latency(1, 1, base, own, speedup, (low, high), 50))


def losing(report: Report = EXAMPLE) -> Report:
    assert report.accuracy is not None
    worse = replace(report.accuracy, candidate=0.90, delta=-0.0176, drop=0.0176, ci95=(-0.022, -0.013))
    return replace(report, accuracy=worse)


def told(decision: Decision) -> str:
    return " ".join([decision.because, *(f"{each.text} {each.command}" for each in decision.advice)])


SLOW = with_speedup(0.8, 0.7, 0.9)
NOTHING = replace(EXAMPLE, accuracy=None, accuracy_reason="there are no labels")


@pytest.mark.parametrize(
    ("report", "budget", "answer", "tone"),
    [
        (EXAMPLE, Budget(), "Ship", "good"),
        (EXAMPLE, Budget(max_drop=0.01), "Ship", "good"),
        (EXAMPLE, Budget(max_drop=0.001), "Undecided", "open"),
        (EXAMPLE, Budget(min_speedup=3.0), "Do not ship", "bad"),
        (losing(), Budget(max_drop=0.001), "Do not ship", "bad"),
        (losing(), Budget(), "Undecided", "open"),
        (losing(), Budget(max_drop=0.05), "Ship", "good"),
        (SLOW, Budget(), "Do not ship", "bad"),
        (SLOW, Budget(max_drop=0.01), "Ship", "good"),
        (losing(SLOW), Budget(), "Do not ship", "bad"),
        (replace(EXAMPLE, kernels=KernelCount(0, 9)), Budget(), "Do not ship", "bad"),
        (NOTHING, Budget(), "Not measured", "open"),
        (NOTHING, Budget(max_drop=0.01), "Not measured", "open"),
    ],
)
def test_the_answer_follows_from_limits_and_measurements(
    report: Report, budget: Budget, answer: str, tone: str
) -> None:
    decision = decide(judged(report, budget))
    assert (decision.answer, decision.tone) == (answer, tone)


def test_grounds_for_shipping_name_the_worst_that_the_interval_allows() -> None:
    grounds = decide(judged(EXAMPLE, Budget(max_drop=0.01))).grounds
    assert grounds == (
        "top1 went from 0.9176 to 0.9171; on 10,000 samples, the worst end of its 95 % interval is a drop of 0.0021.",
        "It is 1.62x as fast as bf16 (95 %: 1.58x to 1.67x).",
        "It takes 1.38 MB instead of 4.97 MB.",
    )
    assert decide(judged(losing(), Budget(max_drop=0.001))).grounds == ()


def test_a_missed_limit_is_named() -> None:
    because = decide(judged(losing(SLOW), Budget(max_drop=0.001, min_speedup=1.2))).because
    assert because == "It misses what was demanded: the drop of accuracy and the speedup."


def test_shipping_within_the_limits_hides_no_slowdown() -> None:
    assert "but it is slower than the best float setting" in decide(judged(SLOW, Budget(max_drop=0.01))).because


def test_a_loss_leads_to_the_layers() -> None:
    assert "infopt blame DIR" in told(decide(judged(losing(), Budget(max_drop=0.001))))


def test_an_undecided_limit_says_how_many_samples_would_decide() -> None:
    report = judged(EXAMPLE, Budget(max_drop=0.001))
    counted = replace(report.verdict.budgets[0], more_samples=12_345)
    decision = decide(replace(report, verdict=replace(report.verdict, budgets=(counted,))))
    assert "Evaluate on about 12,345 more samples" in told(decision)


def test_an_unmeasured_accuracy_asks_for_labels() -> None:
    decision = decide(judged(NOTHING))
    assert "no score on labelled samples" in decision.because
    assert "--eval DATA" in decision.advice[0].command


def test_synthetic_calibration_and_a_missing_artifact_are_mended_first() -> None:
    report = replace(
        EXAMPLE,
        data=Data(CalibData(None, 8, None, synthetic=True), EXAMPLE.data.eval),
        size=Size(10, None, "TensorRT is not installed"),
    )
    texts = [each.text for each in decide(judged(report)).advice]
    assert "TensorRT is not installed" in texts[0]
    assert texts[1].startswith("Calibrate on real samples")


def test_every_failed_limit_has_something_to_do() -> None:
    strict = Budget(max_drop=0.0001, min_speedup=9, max_p99_ms=0.001, max_bytes=1, min_integer_share=1.0)
    for name in ("max_drop", "min_speedup", "max_p99_ms", "max_bytes", "min_integer_share"):
        report = judged(losing(), replace(Budget(), **{name: getattr(strict, name)}))
        assert report.verdict.status == "fail"
        assert decide(report).advice, name


DEAD = replace(EXAMPLE, classes=(ClassChange("Coat", 1000, 0.93, 0.3, 0.63, (-0.66, -0.6)),))


@pytest.mark.parametrize(
    ("budget", "answer", "label", "told"),
    [
        (Budget(), "Undecided", "A CLASS LOSES", "Class Coat goes from 0.9300 to 0.3000, and no limit says"),
        (Budget(max_drop=0.01), "Ship", "A CLASS LOSES", "but class Coat goes from 0.9300 to 0.3000; no limit was set"),
        (Budget(max_class_drop=0.9), "Ship", "PASS", "It keeps every limit that was set."),
    ],
)
def test_a_class_that_died_is_no_reason_to_ship(budget: Budget, answer: str, label: str, told: str) -> None:
    report = judged(DEAD, budget)
    decision = decide(report)
    assert (decision.answer, headline(report).partition("  ")[0]) == (answer, label)
    assert told in decision.because
    assert "infopt blame DIR" in [each.command for each in decision.advice]


@pytest.mark.parametrize(
    ("budget", "label", "advice"),
    [
        (Budget(max_p99_ms=50), "PASS", None),
        (Budget(min_speedup=0.5), "PASS", None),
        (Budget(max_drop=0.01), "SLOWER", "--min-speedup 0.8"),
        (Budget(), "SLOWER", "infopt compile MODEL"),
    ],
)
def test_headline_and_advice_agree_with_the_answer_on_a_slower_artifact(
    budget: Budget, label: str, advice: str | None
) -> None:
    report = judged(SLOW, budget)
    commands = {each.command for each in decide(report).advice}
    assert headline(report).partition("  ")[0] == label
    assert commands & {"--min-speedup 0.8", "infopt compile MODEL"} == ({advice} if advice else set())


def without_quantizing(report: Report, command: str) -> Report:
    return replace(report, command=command, steps=(), data=replace(report.data, calib=None))


@pytest.mark.parametrize("command", ["compile", "compare"])
def test_what_was_not_quantized_here_is_neither_blamed_nor_watched(command: str) -> None:
    for report in (losing(), DEAD, EXAMPLE):
        report = judged(without_quantizing(report, command))
        page = told(decide(report)) + " ".join(section.missing for section in sections(replace(report, layers=())))
        assert "blame" not in page
        assert "infopt drift" not in page


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("compare", "infopt compare BASE CANDIDATE --eval DATA"),
        ("compile", "infopt compile MODEL --eval DATA"),
        ("run", "infopt run RECIPE --eval DATA"),
        ("quantize", "infopt quantize MODEL --eval DATA"),
    ],
)
def test_labels_are_asked_for_in_the_command_that_ran(command: str, wanted: str) -> None:
    assert wanted in [each.command for each in decide(judged(replace(NOTHING, command=command))).advice]


def test_a_size_that_is_the_same_is_no_ground() -> None:
    grounds = decide(judged(replace(EXAMPLE, size=Size(1_104_000, 1_103_000)))).grounds
    assert not any("instead of" in each for each in grounds)


def test_a_limit_on_memory_says_that_nothing_fills_it() -> None:
    report = judged(replace(EXAMPLE, memory=Memory(None, "nothing measures it")), Budget(max_peak_bytes=500_000_000))
    assert limit_in_words(report.verdict.budgets[0]) == "peak memory at most 500 MB"
    assert "Take max_peak_bytes out of the budget" in told(decide(report))
