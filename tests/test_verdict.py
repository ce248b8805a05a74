from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from infopt.accuracy import Accuracy, Flips
from infopt.bench import CandidateLatency, FloatLatency, Latency, Times
from infopt.budget import Budget, check_budget, load_budget
from infopt.errors import InputError, OptionError
from infopt.findings import findings
from infopt.options import plain
from infopt.report import CalibData, Data, EvalData, KernelCount, Report, Size, Verdict, read_report
from infopt.stats.limits import Limit
from infopt.stats.proportions import EDWARDS, score_limits, tango_interval
from infopt.verdict import exit_code, headline, judge, judged

EXAMPLE = read_report(Path(__file__).parent / "goldens" / "report.json")
ZERO_WIDTH = (-0.005, -0.005)


def accuracy(delta: float, ci95: tuple[float, float] | None, higher: bool = True, **more: Any) -> Accuracy:
    fields = {
        "metric": "top1" if higher else "loss",
        "higher_is_better": higher,
        "baseline": 0.9,
        "candidate": 0.9 + delta,
        "delta": delta,
        "drop": -delta if higher else delta,
        "ci95": ci95,
        "ci95_reason": None if ci95 else "the metric is too slow",
        "n": 1000,
        "flips": None,
        "where": "deployed",
    }
    return Accuracy(**{**fields, **more})


def latency(speedup: float | None, interval: tuple[float, float] | None) -> Latency:
    base = FloatLatency("bf16", 0.9, Times(2.0, 2.2, 2.5))
    if speedup is None:
        return Latency(1, 1, None, None, None, None, None, "there is no GPU here")
    return Latency(1, 1, base, CandidateLatency("default", Times(2.0 / speedup, 3.0, 4.0)), speedup, interval, 50, None)


def report(**changes: Any) -> Report:
    """A clean report: nothing lost, faster, all layers in integers."""
    clean = {
        "accuracy": accuracy(0.0, (-0.001, 0.001)),
        "latency": latency(2.0, (1.9, 2.1)),
        "kernels": KernelCount(4, 4),
        "warnings": (),
    }
    return replace(EXAMPLE, **{**clean, **changes})


def only(verdict: Verdict) -> str:
    assert len(verdict.budgets) == 1
    assert verdict.status == verdict.budgets[0].status
    return verdict.status


@pytest.mark.parametrize(
    ("interval", "status"),
    [
        ((-0.004, 0.002), "pass"),
        ((-0.005, 0.002), "pass"),
        (ZERO_WIDTH, "pass"),
        ((-0.0051, 0.002), "undecided"),
        ((-0.02, -0.005), "undecided"),
        ((-0.02, -0.0051), "fail"),
        ((0.001, 0.004), "pass"),
    ],
)
@pytest.mark.parametrize("higher", [True, False])
def test_interval_decides_the_drop(interval: tuple[float, float], status: str, higher: bool) -> None:
    ci95 = interval if higher else (-interval[1], -interval[0])
    # Each limit of a 95 % interval holds with 97.5 %.
    budget = Budget(max_drop=0.005, confidence=0.975)
    verdict = judge(report(accuracy=accuracy(sum(ci95) / 2, ci95, higher)), budget)
    assert only(verdict) == status
    assert verdict.budgets[0].interval == pytest.approx((-interval[1], -interval[0]))


@pytest.mark.parametrize(
    ("drop", "status"), [(0.0, "undecided"), (0.005, "undecided"), (0.0051, "fail"), (-0.1, "undecided")]
)
def test_without_an_interval_a_measured_value_never_passes_and_the_reason_says_so(drop: float, status: str) -> None:
    verdict = judge(report(accuracy=accuracy(-drop, None)), Budget(max_drop=0.005))
    assert only(verdict) == status
    assert "measured value alone (no interval: the metric is too slow)" in verdict.reasons[0]


def test_drop_equal_to_the_limit_keeps_it_whatever_the_rounding() -> None:
    before, after = 0.9176, 0.9126
    assert before - after > 0.005
    delta = after - before
    measured = accuracy(delta, (delta, delta), baseline=before, candidate=after)
    assert only(judge(report(accuracy=measured), Budget(max_drop=0.005))) == "pass"


def test_tiny_metrics_get_no_slack() -> None:
    measured = accuracy(1e-10, None, False, baseline=1e-9, candidate=1.1e-9)
    assert only(judge(report(accuracy=measured), Budget(max_drop=1e-11))) == "fail"


@pytest.mark.parametrize(
    ("interval", "status"),
    [
        ((1.2, 1.4), "pass"),
        ((1.19, 1.4), "undecided"),
        ((1.0, 1.2), "undecided"),
        ((1.0, 1.19), "fail"),
        (None, "undecided"),
    ],
)
def test_interval_decides_the_speedup(interval: tuple[float, float] | None, status: str) -> None:
    budget = Budget(min_speedup=1.2, confidence=0.975)
    value = 1.25 if interval is None or interval[1] > 1.25 else interval[1]
    assert only(judge(report(latency=latency(value, interval)), budget)) == status


def test_a_slow_artifact_fails_without_an_interval() -> None:
    assert only(judge(report(latency=latency(1.1, None)), Budget(min_speedup=1.2))) == "fail"


@pytest.mark.parametrize(
    ("budget", "status"),
    [
        (Budget(max_bytes=1000), "pass"),
        (Budget(max_bytes=999), "fail"),
        (Budget(max_p99_ms=4.0), "pass"),
        (Budget(max_p99_ms=3.9), "fail"),
        (Budget(min_integer_share=0.75), "pass"),
        (Budget(min_integer_share=0.76), "fail"),
        (Budget(max_drop=0.0), "undecided"),
    ],
)
def test_limits_are_inclusive(budget: Budget, status: str) -> None:
    made = report(size=Size(4000, 1000), kernels=KernelCount(3, 4))
    verdict = judge(made, budget)
    assert only(verdict) == status
    assert (status == "pass") == (not verdict.reasons)


@pytest.mark.parametrize(
    ("changes", "budget", "why"),
    [
        ({"accuracy": None, "accuracy_reason": "--no-eval"}, Budget(max_drop=0.1), "--no-eval"),
        ({"accuracy": accuracy(math.nan, None)}, Budget(max_drop=0.1), "max_drop"),
        ({"latency": latency(None, None)}, Budget(min_speedup=1.0), "no GPU here"),
        ({"latency": latency(None, None)}, Budget(max_p99_ms=9.0), "no GPU here"),
        (
            {"size": Size(10, None, "TensorRT is not installed")},
            Budget(max_bytes=10),
            "TensorRT is not installed",
        ),
        ({"kernels": KernelCount(None, None, (), "not told")}, Budget(min_integer_share=0.0), "not told"),
        ({"kernels": KernelCount(0, 0)}, Budget(min_integer_share=0.0), "no compute layer"),
    ],
)
def test_what_was_not_measured_never_passes(changes: dict[str, Any], budget: Budget, why: str) -> None:
    verdict = judge(report(**changes), budget)
    assert only(verdict) == "unmeasured"
    assert why in verdict.reasons[0]
    assert exit_code(verdict, budget_given=True) == 3


@pytest.mark.parametrize(
    ("budget", "status"),
    [
        (Budget(max_drop=0.01, min_speedup=1.5), "pass"),
        (Budget(max_drop=0.0005, min_speedup=1.5), "undecided"),
        (Budget(max_drop=0.0005, min_integer_share=0.5), "unmeasured"),
        (Budget(max_drop=0.0005, min_integer_share=0.5, max_bytes=1), "fail"),
    ],
)
def test_worst_limit_is_the_status(budget: Budget, status: str) -> None:
    assert judge(report(kernels=KernelCount(None, None, (), "not told")), budget).status == status


def test_higher_confidence_widens_the_interval() -> None:
    measured = report(accuracy=accuracy(0.0, (-0.0055, 0.0055)), latency=latency(1.5, (1.23, 1.8)))
    assert judge(measured, Budget(max_drop=0.005)).status == "pass"
    assert judge(measured, Budget(max_drop=0.005, confidence=0.99)).status == "undecided"
    assert judge(measured, Budget(min_speedup=1.2)).status == "pass"
    strict = judge(measured, Budget(min_speedup=1.2, confidence=0.99))
    assert strict.status == "undecided"
    assert strict.budgets[0].interval == pytest.approx((1.5 * (1.23 / 1.5) ** 1.1869, 1.5 * 1.2**1.1869), rel=1e-4)


@given(st.floats(0.5, 0.9999), st.floats(-0.1, 0.1), st.floats(1e-6, 0.1), st.floats(0, 0.1))
def test_stricter_limits_never_look_better(confidence: float, delta: float, width: float, limit: float) -> None:
    order = ["pass", "undecided", "fail"]
    measured = report(accuracy=accuracy(delta, (delta - width, delta + width)))
    loose = judge(measured, Budget(max_drop=limit * 2, confidence=confidence)).status
    assert order.index(loose) <= order.index(judge(measured, Budget(max_drop=limit, confidence=confidence)).status)


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({}, "pass", None),
        (
            {"accuracy": None, "accuracy_reason": "no labels"},
            "unmeasured",
            "accuracy was NOT measured: no labels",
        ),
        ({"accuracy": accuracy(-0.02, (-0.03, -0.01))}, "pass", "loses accuracy: top1 0.9000 -> 0.8800"),
        ({"accuracy": accuracy(0.02, (0.01, 0.03), False)}, "pass", "lower is better"),
        ({"accuracy": accuracy(-0.001, (-0.003, 0.001))}, "pass", "not significant"),
        ({"accuracy": accuracy(-0.001, None)}, "pass", "no interval: the metric is too slow"),
        ({"accuracy": accuracy(0.0, (0.0, 0.0), where="emulated")}, "pass", "emulated in ONNX Runtime"),
        (
            {"latency": latency(0.5, (0.4, 0.6))},
            "pass",
            "(default) 4.00 ms, float (bf16) 2.00 ms (0.50x, 95 %",
        ),
        ({"latency": latency(1.01, (0.9, 1.1))}, "pass", "not measurably faster than the best float"),
        ({"latency": latency(None, None)}, "pass", "speed was not measured: there is no GPU here"),
        ({"size": Size(10, None, "not installed")}, "pass", "no artifact was built: not installed"),
        ({"kernels": KernelCount(0, 7)}, "pass", "none of the 7 compute layers runs in integers"),
        ({"data": Data(CalibData(None, 8, None, synthetic=True), None)}, "pass", "synthetic data"),
    ],
)
def test_without_a_budget_reasons_hide_nothing(changes: dict[str, Any], status: str, reason: str | None) -> None:
    verdict = judge(report(**changes))
    assert verdict.status == status
    assert exit_code(verdict, budget_given=False) == 0
    assert len(verdict.reasons) == (reason is not None)
    assert reason is None or reason in verdict.reasons[0]


def test_agreement_without_labels_is_not_accuracy() -> None:
    data = Data(None, EvalData("x", 100, 0, None, labelled=False))
    made = judged(report(accuracy=accuracy(-0.02, (-0.03, -0.01), metric="agreement"), data=data))
    assert made.verdict.status == "unmeasured"
    assert "NO labels, so only agreement 0.9000 -> 0.8800" in headline(made)
    assert "accuracy was NOT measured" in made.verdict.reasons[0]


def test_bad_news_comes_first() -> None:
    data = Data(CalibData(None, 8, None, synthetic=True), None)
    found = findings(report(latency=latency(0.5, (0.4, 0.6)), accuracy=None, accuracy_reason="synthetic", data=data))
    assert [finding.kind for finding in found] == ["slower", "no accuracy", "synthetic"]


def test_judging_twice_warns_once() -> None:
    once = judged(report(latency=latency(0.5, (0.4, 0.6)), warnings=("mine",)))
    assert once.warnings[0] == "mine"
    assert len(once.warnings) == 2
    assert judged(once) == once


def test_insignificant_change_is_a_reason_but_no_warning() -> None:
    made = judged(report(accuracy=accuracy(-0.001, (-0.003, 0.001))))
    assert made.verdict.reasons
    assert not made.warnings


@pytest.mark.parametrize(
    ("status", "given_budget", "code"),
    [
        ("pass", True, 0),
        ("undecided", True, 0),
        ("fail", True, 3),
        ("unmeasured", True, 3),
        ("unmeasured", False, 0),
    ],
)
def test_exit_code(status: Any, given_budget: bool, code: int) -> None:
    assert exit_code(Verdict(status), given_budget) == code


@pytest.mark.parametrize(
    ("changes", "budget", "line"),
    [
        ({}, Budget(), "PASS  INT8 for openvino: top1 0.9000 -> 0.9000 (+0.0000, 95 % -0.0010..0.0010), "
                       "2.00x faster than the best float (bf16), 3.6x smaller"),
        ({"latency": latency(0.5, (0.4, 0.6))}, Budget(), "SLOWER  INT8 for openvino: top1 0.9000 -> 0.9000 "
         "(+0.0000, 95 % -0.0010..0.0010), 2.00x SLOWER than the best float (bf16), 3.6x smaller"),
        ({"accuracy": accuracy(-0.02, (-0.03, -0.01)), "latency": latency(0.5, (0.4, 0.6))}, Budget(),
         "SLOWER AND LESS ACCURATE  INT8 for openvino: top1 0.9000 -> 0.8800 (-0.0200, "
         "95 % -0.0300..-0.0100), 2.00x SLOWER than the best float (bf16), 3.6x smaller"),
        ({"accuracy": None, "accuracy_reason": "made-up samples", "size": Size(100, 99),
          "data": Data(CalibData(None, 8, None, synthetic=True), None)}, Budget(),
         "UNMEASURED  INT8 for openvino: accuracy was NOT measured (made-up samples), "
         "2.00x faster than the best float (bf16), same size, calibrated on synthetic data"),
        ({"accuracy": accuracy(0.0, None, where="emulated"), "latency": latency(None, None),
          "size": Size(100, None, "TensorRT is not installed"), "kernels": KernelCount(None, None)}, Budget(),
         "PASS  INT8 for openvino: top1 0.9000 -> 0.9000 (+0.0000) emulated, not on the target, "
         "speed was not measured (there is no GPU here), no artifact was built (TensorRT is not installed)"),
        ({"latency": latency(1.0, (0.9, 1.1)), "size": Size(100, 150), "kernels": KernelCount(0, 5)},
         Budget(),
         "NOT QUANTIZED  INT8 for openvino: top1 0.9000 -> 0.9000 (+0.0000, 95 % -0.0010..0.0010), no faster than the "
         "best float (bf16) (1.00x, 95 % 0.90x..1.10x), 1.5x larger, NOTHING runs in integers"),
        ({"target": None, "command": "compare", "steps": (), "accuracy": accuracy(0.5, (0.4, 0.6), False)},
         Budget(max_drop=0.1),
         "FAIL  candidate: loss 0.9000 -> 1.4000 (+0.5000, lower is better, 95 % 0.4000..0.6000), "
         "2.00x faster than the base (bf16), 3.6x smaller"),
    ],
)  # fmt: skip
def test_first_line_says_it_all(changes: dict[str, Any], budget: Budget, line: str) -> None:
    assert headline(judged(report(**changes), budget)) == line


@pytest.mark.parametrize(
    ("budget", "label"),
    [
        (Budget(max_drop=0.1, min_speedup=0.3), "PASS"),
        (Budget(max_drop=0.1), "SLOWER"),
        (Budget(min_speedup=0.3), "LESS ACCURATE"),
        (Budget(max_bytes=10**9), "SLOWER AND LESS ACCURATE"),
        (Budget(min_speedup=1.0), "FAIL"),
    ],
)
def test_only_a_budget_that_was_met_excuses_bad_news(budget: Budget, label: str) -> None:
    made = report(accuracy=accuracy(-0.02, (-0.03, -0.01)), latency=latency(0.5, (0.4, 0.6)))
    assert headline(judged(made, budget)).partition("  ")[0] == label


def test_headline_stays_one_line_whatever_names_hold() -> None:
    hostile = replace(latency(2.0, None), baseline_float=FloatLatency("bf\n16\x1b[2J\udcff", None, None))
    line = headline(judged(report(latency=hostile, accuracy=None, accuracy_reason="a\r\nb" * 500)))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert "3.6x smaller" in line


def flipped(gained: int, lost: int, n: int, **more: Any) -> Accuracy:
    delta = (gained - lost) / n
    interval = tango_interval(gained, lost, n)
    return accuracy(delta, interval, n=n, flips=Flips(gained, lost), **more)


@pytest.mark.parametrize("interval", ["tango", None], ids=["said", "of an older report"])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_flips_decide_by_one_sided_limits_of_tango(interval: str | None, confidence: float) -> None:
    verdict = judge(
        report(accuracy=flipped(10, 25, 2000, interval=interval)), Budget(max_drop=0.02, confidence=confidence)
    )
    limits = score_limits(25, 10, 2000, norm.ppf(confidence), EDWARDS)
    assert verdict.budgets[0].interval == pytest.approx(limits, abs=1e-12)
    assert only(verdict) == "pass"


def test_flips_that_did_not_make_the_interval_do_not_decide() -> None:
    percent = accuracy(-1.5, (-3.0, 0.0), n=200, flips=Flips(3, 6))
    found = judge(report(accuracy=percent), Budget(max_drop=2.0)).budgets[0].interval
    assert found == pytest.approx((1.5 - 1.5 * 1.64485 / 1.95996, 1.5 + 1.5 * 1.64485 / 1.95996), rel=1e-4)
    grouped = flipped(3, 6, 200, interval="cluster-tango", limits=(Limit(0.95, -0.2, 0.2),))
    assert judge(report(accuracy=grouped), Budget(max_drop=0.02)).budgets[0].interval == (-0.2, 0.2)


def test_one_side_of_the_interval_decides() -> None:
    # With 97.5 % the drop of 13 in 2000 may be above the limit, with 95 % it is not.
    high = score_limits(24, 11, 2000, norm.ppf(0.95), EDWARDS)[1]
    measured = report(accuracy=flipped(11, 24, 2000))
    assert only(judge(measured, Budget(max_drop=high + 1e-9))) == "pass"
    assert only(judge(measured, Budget(max_drop=high - 1e-9))) == "undecided"
    assert tango_interval(24, 11, 2000)[1] > high + 5e-4


def test_undecided_names_how_many_samples_would_decide() -> None:
    verdict = judge(report(accuracy=flipped(0, 0, 200)), Budget(max_drop=0.005))
    assert only(verdict) == "undecided"
    assert verdict.budgets[0].more_samples == 1500
    assert "about 1500 more samples would probably decide" in verdict.reasons[0]
    level = judge(report(accuracy=flipped(5, 6, 200)), Budget(max_drop=0.005))
    assert level.budgets[0].more_samples is None
    assert "too close to the limit" in level.reasons[0]


def test_a_decided_limit_asks_for_no_samples() -> None:
    found = judge(report(accuracy=flipped(0, 0, 20_000)), Budget(max_drop=0.005)).budgets[0]
    assert (found.status, found.more_samples) == ("pass", None)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "budget.toml"
    path.write_text(text)
    return path


def test_budget_file_is_read_whole(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'max_drop = "0.5%"\nconfidence = 0.9\nmin_speedup = 1.2\nmax_p99_ms = 50\n'
        "max_bytes = 20_000_000\nmin_integer_share = 0.9\n",
    )
    budget = load_budget(path)
    assert budget == Budget(
        max_drop=0.005, min_speedup=1.2, max_p99_ms=50.0, max_bytes=20_000_000, min_integer_share=0.9, confidence=0.9
    )
    assert plain(budget)["max_drop"] == 0.005


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_dorp = 0.1", "did you mean 'max_drop'"),
        ("max_drop = -0.1", "outside 0 to inf"),
        ("max_drop = nan", "outside 0 to inf"),
        ("max_drop = true", "0.5%"),
        ("confidence = 0.4\nmax_drop = 0.1", "outside 0.5 to 0.9999"),
        ("min_integer_share = 1.5", "outside 0 to 1"),
        ("max_bytes = 1.5", "int is wanted"),
        ("confidence = 0.9", "sets no limit"),
        ("", "sets no limit"),
    ],
)
def test_bad_budgets_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load_budget(write(tmp_path, text))


def test_unreadable_budgets_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read budget"):
        load_budget(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="is not TOML"):
        load_budget(write(tmp_path, "max_drop 5"))
    (tmp_path / "budget.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not TOML"):
        load_budget(tmp_path / "budget.toml")


@pytest.mark.parametrize(
    ("drop", "refused"), [(5.0, True), (1.0001, True), (1.0, False), (0.005, False), (None, False)]
)
def test_bare_percentages_are_refused_for_fractions(drop: float | None, refused: bool) -> None:
    check_budget(Budget(max_drop=drop), fraction=False)
    if not refused:
        check_budget(Budget(max_drop=drop), fraction=True)
        return
    with pytest.raises(OptionError, match=r"write 0\.5% or 0\.005"):
        check_budget(Budget(max_drop=drop), fraction=True)


def test_a_budget_without_limits_is_not_given() -> None:
    assert not Budget(confidence=0.9).given
    assert Budget(max_drop=0.0).given


def test_an_interval_that_does_not_hold_what_was_measured_does_not_decide_alone() -> None:
    high = report(accuracy=accuracy(-0.05, (-0.001, 0.001)))
    assert only(judge(high, Budget(max_drop=0.01))) == "undecided"
    slow = report(latency=latency(1.0, (2.0, 3.0)))
    assert only(judge(slow, Budget(min_speedup=1.5))) == "undecided"


@pytest.mark.parametrize("kind", ["no labels", "reference"])
def test_without_labels_no_drop_keeps_a_budget(kind: str) -> None:
    found = report()
    assert found.data.eval is not None
    assert found.accuracy is not None
    if kind == "reference":
        found = replace(found, accuracy=replace(found.accuracy, metric="agreement", reference=True))
    else:
        found = replace(found, data=replace(found.data, eval=replace(found.data.eval, labelled=False)))
    verdict = judge(found, Budget(max_drop=0.5))
    assert only(verdict) == "unmeasured"
    assert "label" in verdict.reasons[0]
