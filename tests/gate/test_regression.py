"""A report against that of an earlier commit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.accuracy import Accuracy, Flips
from infopt.budget import Budget
from infopt.errors import InputError, OptionError
from infopt.gating.intervals import accuracy_interval
from infopt.gating.regression import Regression, regressions
from infopt.gating.run import decided
from infopt.report import ClassChange, Criterion, KernelCount, Memory, Report, Size, read_report
from infopt.stats.proportions import tango_interval

OLD = read_report(Path(__file__).parents[1] / "goldens" / "old" / "report.json")
NONE = Budget()


def accuracy(gained: int, lost: int, n: int = 2000, baseline: float = 0.933) -> Accuracy:
    """A right-or-wrong metric of which some samples changed sides."""
    delta = (gained - lost) / n
    assert OLD.accuracy is not None
    changes: dict[str, Any] = {"ci95": tango_interval(gained, lost, n), "flips": Flips(gained, lost), "n": n}
    return replace(OLD.accuracy, baseline=baseline, candidate=baseline + delta, delta=delta, drop=-delta, **changes)


def with_accuracy(gained: int, lost: int, **changes: Any) -> Report:
    return replace(OLD, accuracy=replace(accuracy(gained, lost), **changes))


def found(new: Report, old: Report = OLD, budget: Budget = NONE) -> dict[str, Criterion]:
    return {criterion.name: criterion for criterion, _ in regressions(Regression(new, old, budget))}


def why(new: Report, old: Report = OLD, budget: Budget = NONE) -> str:
    return "\n".join(reason for _, reason in regressions(Regression(new, old, budget)) if reason)


def test_the_same_report_has_no_regression() -> None:
    statuses = {name: each.status for name, each in found(OLD).items()}
    assert statuses == dict.fromkeys(
        ("regression_drop", "regression_latency", "regression_bytes", "regression_integer_share"), "pass"
    )
    assert why(OLD) == ""


@pytest.mark.parametrize(
    ("lost", "margin", "status"),
    [(0, None, "pass"), (4, None, "undecided"), (60, None, "fail"), (4, 0.01, "pass"), (14, 0.01, "undecided"),
     (90, 0.01, "fail")],
)  # fmt: skip
def test_accuracy_is_decided_by_the_interval_of_the_pairs(lost: int, margin: float | None, status: str) -> None:
    criterion = found(with_accuracy(2, 2 + lost), budget=Budget(max_drop=margin))["regression_drop"]
    assert criterion.status == status
    assert criterion.value == pytest.approx(lost / 2000)
    assert criterion.interval is not None
    assert criterion.interval[0] < lost / 2000 < criterion.interval[1] < lost / 2000 + 0.012


def test_a_loss_against_a_better_commit_is_seen_though_the_model_is_met() -> None:
    better = with_accuracy(80, 2)
    assert found(with_accuracy(2, 2), better)["regression_drop"].status == "fail"
    assert found(better, with_accuracy(2, 2))["regression_drop"].status == "pass"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 400))
def test_bounds_from_counts_hold_those_from_the_outputs(seed: int, n: int) -> None:
    from infopt.stats.proportions import paired_bounds

    rng = np.random.default_rng(seed)
    base = rng.random(n) < 0.8
    old, new = (base ^ (rng.random(n) < share) for share in (0.1, 0.05))
    sides = [
        replace(accuracy(int((~base & side).sum()), int((base & ~side).sum()), n), baseline=float(base.mean()))
        for side in (new, old)
    ]
    wide = accuracy_interval(sides[0], sides[1], same_model=True, alpha=0.05)
    exact = paired_bounds(int((old & ~new).sum()), int((~old & new).sum()), n, 0.05)
    assert wide is not None
    assert wide[0] <= exact[0] + 1e-9
    assert exact[1] <= wide[1] + 1e-9


def test_another_original_model_leaves_two_proportions() -> None:
    other = replace(OLD, model=replace(OLD.model, sha256="0" * 64), accuracy=accuracy(2, 2, baseline=0.95))
    paired, apart = (found(with_accuracy(2, 62), old)["regression_drop"] for old in (OLD, other))
    assert (paired.status, apart.status) == ("fail", "fail")
    assert paired.interval is not None
    assert apart.interval is not None
    assert np.ptp(apart.interval) > 1.3 * np.ptp(paired.interval)
    assert found(with_accuracy(2, 20), other)["regression_drop"].status != "pass"


def test_another_score_of_the_same_original_model_leaves_two_proportions() -> None:
    """Another machine may round otherwise: then the samples that changed sides are not the same ones."""
    other = replace(OLD, accuracy=accuracy(2, 2, baseline=0.9325))
    paired, apart = (found(with_accuracy(2, 2), old)["regression_drop"].interval for old in (OLD, other))
    assert paired is not None
    assert apart is not None
    assert np.ptp(apart) > 2 * np.ptp(paired)


def test_metrics_without_counts_are_bounded_by_both_intervals() -> None:
    assert OLD.accuracy is not None
    loss = replace(OLD.accuracy, metric="loss", higher_is_better=False, flips=None, baseline=1.0, candidate=1.0)
    old = replace(OLD, accuracy=replace(loss, delta=0.0, drop=0.0, ci95=(-0.01, 0.01)))
    new = replace(OLD, accuracy=replace(loss, candidate=1.1, delta=0.1, drop=0.1, ci95=(0.09, 0.11)))
    criterion = found(new, old)["regression_drop"]
    assert criterion.status == "fail"
    assert criterion.interval == pytest.approx((0.0832, 0.1168), abs=1e-4)
    silent = replace(new, accuracy=replace(loss, candidate=1.1, delta=0.1, drop=0.1, ci95=None))
    assert found(silent, old)["regression_drop"].status == "fail"
    assert "by the measured values alone" in why(silent, old)


def test_flips_that_do_not_make_up_the_metric_bound_nothing() -> None:
    """A balanced accuracy loses 0.025 by one sample of a class of 20, whatever the other 3,980 do."""
    old = with_accuracy(0, 0, n=4000, interval="bootstrap", ci95=(-0.001, 0.001), baseline=1.0, candidate=1.0)
    assert old.accuracy is not None
    worse: dict[str, Any] = {"candidate": 0.975, "delta": -0.025, "drop": 0.025, "ci95": (-0.08, 0.0)}
    new = replace(old, accuracy=replace(old.accuracy, flips=Flips(0, 1), **worse))
    for silent in (False, True):  # reports of earlier versions do not say what gave the interval
        sides = [replace(r, accuracy=replace(r.accuracy, interval=None)) if silent else r for r in (new, old)]
        criterion = found(sides[0], sides[1], Budget(max_drop=0.03))["regression_drop"]
        assert criterion.status == "undecided"
        assert criterion.interval is not None
        assert criterion.interval[1] > 0.06


def test_without_labels_no_regression_is_denied() -> None:
    assert OLD.data.eval is not None
    silent = replace(OLD, data=replace(OLD.data, eval=replace(OLD.data.eval, labelled=False)))
    assert found(silent, silent)["regression_drop"].status == "unmeasured"
    assert "there are no labels" in why(silent, silent)


def test_samples_of_groups_are_not_counted_one_by_one() -> None:
    new, old = (with_accuracy(2, lost, groups=50, interval="cluster-bca", ci95=(-0.02, 0.02)) for lost in (30, 2))
    alone = found(with_accuracy(2, 30), with_accuracy(2, 2))["regression_drop"]
    together = found(new, old)["regression_drop"]
    assert (alone.status, together.status) == ("fail", "undecided")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: replace(r, data=replace(r.data, eval=replace(r.data.eval, sha256="0" * 64))), "same evaluation"),
        (lambda r: replace(r, data=replace(r.data, eval=replace(r.data.eval, sha256=None))), "same evaluation"),
        (lambda r: replace(r, data=replace(r.data, eval=None)), "same evaluation"),
        (lambda r: replace(r, data=replace(r.data, eval=replace(r.data.eval, search=500))), "different parts"),
        (lambda r: replace(r, accuracy=replace(r.accuracy, n=1000)), "different parts"),
        (lambda r: replace(r, accuracy=replace(r.accuracy, metric="top5")), "metrics are top1 and top5"),
        (lambda r: replace(r, accuracy=replace(r.accuracy, where="emulated")), "deployed, the other emulated"),
        (lambda r: replace(r, accuracy=None, accuracy_reason="--no-eval"), "--no-eval"),
    ],
)
def test_accuracies_that_do_not_mean_the_same_are_unmeasured(change: Any, says: str) -> None:
    assert found(change(OLD))["regression_drop"].status == "unmeasured"
    assert says in why(change(OLD))


def test_what_the_baseline_did_not_measure_is_not_asked_for() -> None:
    bare = replace(OLD, accuracy=None, latency=replace(OLD.latency, speedup=None), kernels=KernelCount(None, None))
    assert list(found(OLD, bare)) == ["regression_bytes"]
    with pytest.raises(OptionError, match="nothing that was measured"):
        decided(OLD, Budget(), replace(bare, size=Size(1, None)), 0.05)


@pytest.mark.parametrize(
    ("speedup", "interval", "status"),
    [(1.27, (1.25, 1.29), "pass"), (1.21, (1.19, 1.23), "undecided"), (1.0, (0.99, 1.01), "fail"),
     (2.0, (1.9, 2.1), "pass"), (1.25, None, "undecided"), (1.1, None, "fail")],
)  # fmt: skip
def test_latency_is_compared_relative_to_the_float_setting(
    speedup: float, interval: tuple[float, float] | None, status: str
) -> None:
    old = replace(OLD, latency=replace(OLD.latency, speedup=1.27, speedup_ci95=(1.25, 1.29)))
    new = replace(OLD, latency=replace(OLD.latency, speedup=speedup, speedup_ci95=interval))
    criterion = found(new, old)["regression_latency"]
    assert criterion.status == status
    assert criterion.value == pytest.approx(1.27 / speedup)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: replace(r, environment={**r.environment, "cpu": "another"}), "different processors"),
        (lambda r: replace(r, environment={}), "different processors"),
        (lambda r: replace(r, latency=replace(r.latency, threads=64)), "number of threads"),
        (lambda r: replace(r, target=replace(r.target, device="GPU")), "different devices"),
    ],
)
def test_latency_of_another_machine_is_left_open(change: Any, says: str) -> None:
    assert found(change(OLD))["regression_latency"].status == "undecided"
    assert says in why(change(OLD))


def test_latency_of_machines_that_nothing_is_known_of_is_left_open() -> None:
    nameless = replace(OLD, environment={})
    assert found(nameless, nameless)["regression_latency"].status == "undecided"


def test_latency_that_is_no_longer_measured_is_unmeasured() -> None:
    new = replace(OLD, latency=replace(OLD.latency, speedup=None, speedup_ci95=None, reason="--no-bench"))
    assert found(new)["regression_latency"].status == "unmeasured"
    assert "--no-bench" in why(new)


def test_growth_beyond_the_tolerance_fails() -> None:
    before = OLD.size.candidate_bytes
    assert before is not None
    for size, status in ((before, "pass"), (int(before * 1.049), "pass"), (int(before * 1.06), "fail")):
        new = replace(OLD, size=replace(OLD.size, candidate_bytes=size))
        assert found(new)["regression_bytes"].status == status
    new = replace(OLD, size=replace(OLD.size, candidate_bytes=None, reason="no engine"))
    assert found(new)["regression_bytes"].status == "unmeasured"
    old = replace(OLD, memory=Memory(1000))
    assert found(replace(OLD, memory=Memory(1051)), old)["regression_peak_bytes"].status == "fail"
    assert found(OLD, old)["regression_peak_bytes"].status == "unmeasured"


def test_a_layer_that_fell_back_to_float_fails() -> None:
    total = OLD.kernels.total
    assert total is not None
    assert found(replace(OLD, kernels=KernelCount(total - 1, total)))["regression_integer_share"].status == "fail"
    assert found(replace(OLD, kernels=KernelCount(None, None)))["regression_integer_share"].status == "unmeasured"
    assert found(replace(OLD, kernels=KernelCount(0, 0)))["regression_integer_share"].status == "unmeasured"


def of_class(label: str, lost: int, n: int = 400) -> ClassChange:
    return ClassChange(label, n, 0.9, 0.9 - lost / n, lost / n, tango_interval(0, lost, n))


def test_a_class_that_died_since_the_baseline_fails_with_and_without_a_margin() -> None:
    old = replace(OLD, classes=tuple(of_class(str(k), 2) for k in range(5)))
    new = replace(OLD, classes=(*old.classes[:4], of_class("4", 200)))
    for budget in (Budget(), Budget(max_class_drop=0.1)):
        assert found(new, old, budget)["regression_class_drop"].status == "fail"
        assert "class 4 drops most" in why(new, old, budget)
    assert "regression_class_drop" not in found(old, old)  # some class always lost something by chance
    assert found(old, old, Budget(max_class_drop=0.1))["regression_class_drop"].status == "pass"


def test_a_class_that_is_gone_is_unmeasured() -> None:
    old = replace(OLD, classes=(of_class("0", 0), of_class("boot", 0)))
    new = replace(OLD, classes=old.classes[:1])
    assert found(new, old)["regression_class_drop"].status == "unmeasured"
    assert "class boot is not in the new report" in why(new, old)


def test_another_target_is_refused() -> None:
    assert OLD.target is not None
    other = replace(OLD, target=replace(OLD.target, name="onnxruntime"))
    with pytest.raises(InputError, match=r"baseline is for onnxruntime, the report for openvino"):
        found(OLD, other)


def test_the_answer_holds_budget_and_regressions() -> None:
    new = with_accuracy(2, 62)
    gated = decided(new, Budget(max_bytes=10**9), OLD, 0.05)
    assert [each.name for each in gated.verdict.budgets][:2] == ["max_bytes", "regression_drop"]
    assert gated.verdict.status == "fail"
    assert gated.verdict.reasons[0].startswith("regression_drop: top1 0.9330 -> 0.9030 since the baseline")
    assert decided(OLD, Budget(max_drop=0.5), OLD, 0.05).verdict.status == "pass"
