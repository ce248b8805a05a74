"""Paired statistics of before and after."""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from infopt.accuracy import Accuracy, Flips, fidelity, paired_accuracy
from infopt.data import InputSpec, open_samples
from infopt.errors import DataError
from infopt.evaluate import Evaluator
from infopt.metrics import BUILT_IN, Metric
from infopt.outputs import OutputStore
from infopt.stats.margin import drop_limits
from infopt.stats.proportions import tango_interval

# Of ten samples of class 0, the baseline has the first eight right, the candidate all but the first three.
BEFORE, AFTER = np.eye(2)[[0] * 8 + [1] * 2], np.eye(2)[[1] * 3 + [0] * 7]
LABELS = np.zeros(10, np.int64)


def compared(
    metric: Metric, before: np.ndarray, after: np.ndarray, labels: np.ndarray | None, **more: float
) -> Accuracy:
    return paired_accuracy(metric, [before], [after], labels, where="deployed", seed=0, **more)


def wrong(outputs: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    return np.asarray(outputs[0].argmax(1) != labels)


def mean_of(per_sample: object, **more: object) -> Metric:
    return Metric("mine", lambda o, y: float(per_sample(o, y).mean()), per_sample=per_sample, **more)


def score_only(per_sample: object) -> Metric:
    return dataclasses.replace(mean_of(per_sample), per_sample=None)


def values(outputs: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    return np.asarray(outputs[0].reshape(len(labels), -1).mean(axis=1) - labels)


def test_top1_counts_flips_and_uses_tango() -> None:
    found = compared(BUILT_IN["top1"], BEFORE, AFTER, LABELS)
    assert found == Accuracy(
        "top1", True, 0.8, 0.7, -0.1, 0.1, tango_interval(2, 3, 10), None, 10, Flips(2, 3), "deployed",
        interval="tango", mcnemar_p=1.0,
    )  # fmt: skip


def test_the_keys_are_those_of_the_report() -> None:
    keys = "metric higher_is_better baseline candidate delta drop ci95 ci95_reason n flips where others reference"
    keys += " interval limits groups mcnemar_p"
    assert [field.name for field in dataclasses.fields(Accuracy)] == keys.split()


def test_a_drop_of_exactly_the_budget_is_not_above_it() -> None:
    before, after = np.eye(2)[[0] * 860 + [1] * 140], np.eye(2)[[0] * 850 + [1] * 150]
    found = compared(BUILT_IN["top1"], before, after, np.zeros(1000, np.int64))
    assert found.candidate - found.baseline != -0.01
    assert (found.delta, found.drop) == (-0.01, 0.01)


def test_for_lower_is_better_a_smaller_score_is_no_drop() -> None:
    found = compared(mean_of(wrong, higher_is_better=False), AFTER, BEFORE, LABELS)
    assert (found.delta, found.drop) == (-0.1, -0.1)
    assert found.flips == Flips(gained=3, lost=2)
    assert found.ci95 == tango_interval(2, 3, 10)
    worse = compared(mean_of(values, higher_is_better=False), np.zeros((20, 1)), np.arange(20.0)[:, None], np.zeros(20))
    assert worse.drop == worse.delta == 9.5


def test_equal_models_have_no_drop_but_an_interval() -> None:
    found = compared(BUILT_IN["top1"], BEFORE, BEFORE, LABELS)
    assert (found.delta, math.copysign(1, found.drop), found.flips) == (0, 1, Flips(0, 0))
    assert found.ci95 == tango_interval(0, 0, 10)


def test_a_users_metric_of_zeros_and_ones_is_right_or_wrong() -> None:
    right = mean_of(lambda outputs, labels: outputs[0].argmax(1) == labels)
    found, built_in = (
        compared(right, BEFORE, AFTER, LABELS),
        compared(BUILT_IN["top1"], BEFORE, AFTER, LABELS),
    )
    assert (found.ci95, found.flips) == (built_in.ci95, built_in.flips)


def test_the_bootstrap_of_means_agrees_with_the_normal_interval() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(size=(2000, 1))
    difference = rng.normal(0.1, 0.3, size=(2000, 1))
    found = compared(mean_of(values), before, before + difference, np.zeros(2000))
    spread = norm.ppf(0.975) * difference.std() / math.sqrt(2000)
    assert found.ci95 == pytest.approx((difference.mean() - spread, difference.mean() + spread), abs=1e-3)
    assert found.flips is None


def test_the_bootstrap_of_the_score_agrees_with_that_of_the_means() -> None:
    rng = np.random.default_rng(2)
    before = rng.normal(size=(300, 4))
    after = before + rng.normal(0.1, 0.3, size=(300, 4))
    labels = rng.normal(size=300)
    opaque, paired = (compared(metric, before, after, labels) for metric in (score_only(values), mean_of(values)))
    assert opaque.ci95 is not None
    assert opaque.ci95 == pytest.approx(paired.ci95, abs=3e-3)
    assert opaque.ci95 == compared(score_only(values), before, after, labels).ci95


def test_several_rows_of_a_sample_are_resampled_together() -> None:
    rng = np.random.default_rng(3)
    before, shift = np.zeros((200, 5)), np.repeat(rng.normal(size=(200, 1)), 5, axis=1)
    rows = [array.reshape(1000, 1) for array in (before, shift)]
    found = compared(score_only(values), *rows, np.zeros(200))
    assert found.ci95 == pytest.approx(compared(mean_of(values), before, shift, np.zeros(200)).ci95, abs=0.02)
    assert found.n == 200


def test_per_sample_values_that_are_not_the_score_do_not_make_the_interval() -> None:
    percent = dataclasses.replace(mean_of(wrong), score=lambda o, y: 100 * float(wrong(o, y).mean()))
    found = compared(percent, BEFORE, AFTER, LABELS)
    assert found.ci95 is not None
    assert found.delta == pytest.approx(10)
    assert -60 < found.ci95[0] < -20 < 40 < found.ci95[1] < 80
    assert found.flips == Flips(3, 2)


GROUPS = np.repeat(np.arange(5), 2)


def in_groups(metric: Metric, before: np.ndarray, after: np.ndarray, labels: np.ndarray, groups: object) -> Accuracy:
    found = np.asarray(groups)
    return paired_accuracy(metric, [before], [after], labels, where="deployed", seed=0, groups=found)


def test_samples_of_a_group_count_less_than_samples_on_their_own() -> None:
    alone, together = (in_groups(BUILT_IN["top1"], BEFORE, AFTER, LABELS, g) for g in (np.arange(10), GROUPS))
    assert (alone.interval, alone.groups, alone.mcnemar_p) == ("tango", 10, 1.0)
    assert alone.ci95 == tango_interval(2, 3, 10)
    assert (together.interval, together.groups, together.mcnemar_p) == ("cluster-tango", 5, None)
    assert together.ci95 is not None
    assert together.ci95[0] < alone.ci95[0]
    assert alone.ci95[1] < together.ci95[1]
    assert together.flips == alone.flips


@pytest.mark.parametrize("metric", [mean_of(values), score_only(values)], ids=["bca", "bootstrap"])
def test_groups_are_resampled_whole(metric: Metric) -> None:
    rng = np.random.default_rng(9)
    shift = np.repeat(rng.normal(size=(60, 1)), 6, axis=0)
    before, labels, groups = np.zeros((360, 1)), np.zeros(360), np.repeat(np.arange(60), 6)
    alone = compared(metric, before, shift, labels)
    together = in_groups(metric, before, shift, labels, groups)
    assert together.interval == f"cluster-{alone.interval}"
    assert np.ptp(together.ci95) > 2 * np.ptp(alone.ci95)  # type: ignore[arg-type]
    assert together.groups == 60
    assert [limit.confidence for limit in together.limits][:3] == [0.9, 0.95, 0.975]


@pytest.mark.parametrize("metric", [BUILT_IN["top1"], mean_of(values), score_only(values)], ids=str)
def test_one_group_has_no_interval_but_a_reason(metric: Metric) -> None:
    found = in_groups(metric, BEFORE, AFTER, LABELS, ["only"] * 10)
    assert (found.ci95, found.interval, found.limits, found.groups) == (None, None, (), 1)
    assert "all samples are of one group" in str(found.ci95_reason)


def test_groups_of_the_data_reach_the_interval(tmp_path: Path) -> None:
    np.savez(tmp_path / "eval.npz", x=np.zeros((10, 1)), labels=LABELS, group=GROUPS)
    inputs = (InputSpec("x", np.dtype(np.float32), ("N", 1), 0),)
    samples = open_samples(tmp_path / "eval.npz", inputs, None)
    judge = Evaluator(samples, inputs, BUILT_IN["top1"], ("y",), [BEFORE], 0, lambda *_: None, ExitStack())
    found = judge.accuracy([AFTER], "deployed")
    assert found == in_groups(BUILT_IN["top1"], BEFORE, AFTER, LABELS, GROUPS)
    assert found.groups == 5


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"groups of shape \[9\] are given for 10 samples"):
        in_groups(BUILT_IN["top1"], BEFORE, AFTER, LABELS, np.arange(9))


@pytest.mark.parametrize("metric", [mean_of(values), score_only(values)], ids=["bca", "bootstrap"])
def test_one_sample_of_a_number_has_no_interval(metric: Metric) -> None:
    found = compared(metric, np.zeros((1, 1)), np.full((1, 1), 2.0), np.zeros(1))
    assert (found.ci95, found.n, found.delta) == (None, 1, 2)
    assert "spread is unknown" in str(found.ci95_reason)


def test_one_sample_that_is_right_or_wrong_has_a_wide_one() -> None:
    found = compared(BUILT_IN["top1"], BEFORE[:1], AFTER[:1], LABELS[:1])
    assert found.ci95 == tango_interval(0, 1, 1)
    assert found.mcnemar_p == 1


def test_values_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="returned nan"):
        compared(mean_of(lambda outputs, labels: np.full(len(labels), np.nan)), BEFORE, AFTER, LABELS)
    with pytest.raises(DataError, match="sample 4 has no label"):
        compared(BUILT_IN["top1"], BEFORE, AFTER, np.where(np.arange(10) == 4, -1, LABELS))


def test_swapped_models_change_signs_only() -> None:
    one, other = (compared(BUILT_IN["top1"], *pair, LABELS) for pair in ((BEFORE, AFTER), (AFTER, BEFORE)))
    assert other.ci95 == pytest.approx((-one.ci95[1], -one.ci95[0]))  # type: ignore[index]
    assert (other.delta, other.mcnemar_p) == (-one.delta, one.mcnemar_p)


def test_a_slow_score_has_no_interval_but_a_reason() -> None:
    found = compared(score_only(values), BEFORE, AFTER, LABELS, time_limit_s=0.0)
    assert found.ci95 is None
    assert "too slow for 200 resamples" in str(found.ci95_reason)
    assert found.delta == pytest.approx(0.0)


def test_a_hopelessly_slow_score_is_given_up_early() -> None:
    def slow(outputs: list[np.ndarray], labels: np.ndarray) -> float:
        time.sleep(0.02)
        return float(outputs[0].mean())

    start = time.monotonic()
    assert compared(Metric("slow", slow), BEFORE, AFTER, LABELS, time_limit_s=1.0).ci95 is None
    assert time.monotonic() - start < 0.8


def test_a_score_that_fails_on_resamples_has_no_interval() -> None:
    def picky(outputs: list[np.ndarray], labels: np.ndarray) -> float:
        if len(np.unique(labels)) < len(labels):
            raise ValueError("classes are missing")
        return float(outputs[0].mean())

    found = compared(Metric("picky", picky), BEFORE, AFTER, np.arange(10))
    assert (found.ci95, found.ci95_reason) == (None, "the metric fails on 100% of the resamples")


def test_a_difference_that_never_varies_tells_nothing_unless_the_outputs_are_equal() -> None:
    best = score_only(lambda outputs, labels: outputs[0].argmax(1) == labels)
    found = compared(best, BEFORE, BEFORE * 2, LABELS)
    assert found.ci95 is None
    assert "spread is unknown" in str(found.ci95_reason)
    equal = compared(best, BEFORE, BEFORE.copy(), LABELS).ci95
    assert equal is not None
    assert equal[0] < -0.2 < 0.2 < equal[1]  # ten samples do not show what one in ten does


@pytest.mark.parametrize(("lost", "least"), [(0, 0.022), (1, 0.027), (4, 0.04)])
def test_a_score_alone_is_not_within_a_budget_that_its_samples_cannot_show(lost: int, least: float) -> None:
    before, after = np.zeros((200, 1)), np.zeros((200, 1))
    after[:lost] = 1
    right = score_only(lambda outputs, labels: outputs[0][:, 0] == labels)
    limits = drop_limits(compared(right, before, after, np.arange(200) % 1), 0.95)
    assert limits is not None
    assert limits[1] > least


def test_one_sided_limits_of_a_score_alone_hold_where_few_samples_change() -> None:
    """Of 500 samples 2 % are lost: seeing 5 of them is not a drop below 2 %; a percentile bootstrap says so."""
    before, after = np.zeros((500, 1)), np.zeros((500, 1))
    after[:5] = 1
    right = score_only(lambda outputs, labels: outputs[0][:, 0] == labels)
    limits = drop_limits(compared(right, before, after, np.arange(500) % 1), 0.95)
    assert limits is not None
    assert limits[1] > 0.02


def test_a_perfect_balanced_score_is_not_taken_for_the_mean_of_its_samples() -> None:
    def right(outputs: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
        return np.asarray(outputs[0].argmax(1) == labels)

    def balanced(outputs: list[np.ndarray], labels: np.ndarray) -> float:
        return float(np.mean([right(outputs, labels)[labels == label].mean() for label in np.unique(labels)]))

    labels = np.repeat([0, 1], [390, 10])
    found = compared(Metric("balanced", balanced, per_sample=right), np.eye(2)[labels], np.eye(2)[labels], labels)
    assert (found.delta, found.interval) == (0, "bootstrap")
    mean = compared(mean_of(right), np.eye(2)[labels], np.eye(2)[labels], labels)
    assert mean.interval == "tango"


def test_outputs_without_rows_for_the_samples_are_not_resampled() -> None:
    metric = score_only(values)
    before, after = ([rows, np.zeros(3)] for rows in (BEFORE, AFTER))
    found = paired_accuracy(metric, before, after, LABELS, where="emulated", seed=0)
    assert found.ci95 is None
    assert "OUTPUTS" in str(found.ci95_reason)


def test_outputs_that_were_not_kept_do_not_disturb() -> None:
    before, after = ([np.empty(0, np.float32), rows] for rows in (BEFORE, AFTER))
    metric = Metric("mine", lambda outputs, labels: float(outputs[1][:, 0].mean()))
    found = paired_accuracy(metric, before, after, LABELS, where="emulated", seed=0)
    assert found.ci95 is not None
    assert found.where == "emulated"


@pytest.mark.parametrize("labels", [None, LABELS], ids=["unlabelled", "labelled"])
def test_agreement_needs_no_labels(labels: np.ndarray | None) -> None:
    found = compared(BUILT_IN["agreement"], BEFORE, AFTER, labels)
    assert (found.baseline, found.candidate, found.drop) == (1, 0.5, 0.5)
    assert found.flips == Flips(0, 5)


def test_cosine_is_never_right_or_wrong() -> None:
    found = compared(BUILT_IN["cosine"], BEFORE, BEFORE, None)
    assert (found.baseline, found.delta, found.flips, found.ci95) == (1, 0, None, None)
    assert compared(BUILT_IN["cosine"], BEFORE, AFTER, None).flips is None


def test_missing_labels_and_samples_are_refused() -> None:
    with pytest.raises(DataError, match="top1 needs labels"):
        compared(BUILT_IN["top1"], BEFORE, AFTER, None)
    with pytest.raises(DataError, match="no samples"):
        compared(BUILT_IN["top1"], BEFORE[:0], AFTER[:0], LABELS[:0])


def test_ten_thousand_samples_are_resampled_quickly() -> None:
    after = np.random.default_rng(4).normal(size=(10_000, 1))
    start = time.perf_counter()
    found = compared(mean_of(values), np.zeros((10_000, 1)), after, np.zeros(10_000))
    assert found.ci95 is not None
    assert time.perf_counter() - start < 5


def test_padding_samples_never_reach_a_score() -> None:
    results = []
    for rows in (BEFORE, AFTER):
        with OutputStore() as store:
            for start in range(0, 10, 4):
                count = min(4, 10 - start)
                batch = np.concatenate([rows[start : start + count], np.eye(2)[[1] * (4 - count)]])
                store.add([batch], count, 4)
            results.append(store.finish())
    found = paired_accuracy(BUILT_IN["top1"], *results, LABELS, where="deployed", seed=0)
    assert (found.n, found.baseline, found.candidate) == (10, 0.8, 0.7)


def test_fidelity_of_known_errors() -> None:
    reference = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)
    (row,) = fidelity(["out"], [reference], [reference + np.array([[0, 0.1], [0, 0]], np.float32)])
    assert row.output == "out"
    assert row.top1_agreement == 1
    assert row.sqnr_db == pytest.approx(10 * math.log10(26 / 0.01), abs=1e-4)
    assert row.max_abs == pytest.approx(0.1, abs=1e-6)
    assert row.cosine_mean == pytest.approx(
        (1 + 28.4 / 5 / math.hypot(3, 4.1) * 1) / 2 + (25.4 - 28.4) / 10 / math.hypot(3, 4.1)
    )


def test_fidelity_of_equal_and_of_silent_outputs_is_finite() -> None:
    ones, zeros = np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32)
    rows = fidelity(["same", "silent"], [ones, zeros], [ones, ones])
    assert [row.sqnr_db for row in rows] == [200, -200]
    assert rows[0].max_abs == 0


def test_fidelity_ignores_padding_and_counts_what_one_side_lacks() -> None:
    reference = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 2.0]])
    (padding,) = fidelity(["out"], [reference], [reference.copy()])
    assert (padding.cosine_mean, padding.sqnr_db, padding.max_abs) == (1, 200, 0)
    (shorter,) = fidelity(["out"], [reference], [reference[:, :2]])
    assert shorter.max_abs == 2
    assert shorter.sqnr_db == pytest.approx(10 * math.log10(14 / 4))


def test_fidelity_leaves_out_what_has_no_meaning() -> None:
    text, ids = np.array(["a", "b"], object), np.array([[1, 2], [3, 4]])
    rows = fidelity(
        ["text", "ids", "dropped", "count"],
        [text, ids, np.empty(0), np.zeros((2, 3))],
        [text, ids, np.empty(0), np.zeros((5, 3))],
    )
    assert [row.output for row in rows] == ["text", "ids", "count"]
    assert rows[0].cosine_mean is rows[2].sqnr_db is None
    assert (rows[1].top1_agreement, rows[1].cosine_mean) == (None, 1)


def test_fidelity_of_many_blocks_equals_that_of_the_whole() -> None:
    rng = np.random.default_rng(6)
    reference = rng.normal(size=(64, 1 << 16)).astype(np.float32)
    other = reference + rng.normal(0, 0.01, reference.shape).astype(np.float32)
    (row,) = fidelity(["out"], [reference], [other])
    error = other.astype(np.float64) - reference
    assert row.sqnr_db == pytest.approx(10 * math.log10((reference.astype(np.float64) ** 2).sum() / (error**2).sum()))
    assert row.max_abs == np.abs(error).max()
