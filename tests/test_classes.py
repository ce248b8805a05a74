"""The worst of many classes against a limit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.budget import Budget
from infopt.classes import class_drop, class_flips
from infopt.report import ClassChange, Report, read_report
from infopt.stats.margin import worsening
from infopt.stats.proportions import tango_interval
from infopt.verdict import judge

EXAMPLE = read_report(Path(__file__).parent / "goldens" / "report.json")


def change(label: str, lost: int, gained: int, n: int, interval: bool = True) -> ClassChange:
    """A class of which some samples changed sides; half of it was right before."""
    delta = (gained - lost) / n
    ci95 = tango_interval(gained, lost, n) if interval else None
    return ClassChange(label, n, 0.5, 0.5 + delta, -delta, ci95)


def with_classes(*classes: ClassChange) -> Report:
    return replace(EXAMPLE, classes=classes)


def status(*classes: ClassChange, limit: float = 0.05, confidence: float = 0.95) -> str:
    return class_drop("max_class_drop", with_classes(*classes), limit, confidence)[0].status


def test_classes_that_keep_the_limit_pass_and_one_that_died_fails() -> None:
    fine = [change(str(k), 3, 3, 1000) for k in range(9)]
    assert status(*fine) == "pass"
    criterion, reason = class_drop("max_class_drop", with_classes(*fine, change("boot", 900, 0, 1000)), 0.05, 0.95)
    assert (criterion.status, criterion.value) == ("fail", 0.9)
    assert reason is not None
    assert "class boot drops most, by 0.9" in reason
    assert "over 10 classes" in reason


def test_what_only_chance_may_have_done_to_one_of_many_classes_is_undecided() -> None:
    suspect = change("suspect", 20, 4, 200)  # 0.08, above 0.03 beyond its own interval
    assert tango_interval(20, 4, 200)[0] > 0.03
    assert status(suspect, limit=0.03) == "fail"
    assert status(suspect, *[change(str(k), 1, 1, 200) for k in range(60)], limit=0.03) == "undecided"


def test_many_classes_pass_without_a_correction() -> None:
    one = change("0", 4, 4, 400)
    assert status(one) == "pass"
    assert status(*[replace(one, label=str(k)) for k in range(200)]) == "pass"


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ((), "the report tells of no class"),
        ((change("a", 0, 0, 1000), ClassChange("gone", 0, math.nan, math.nan, math.nan)), "no sample of class gone"),
        ((change("a", 0, 0, 1000), ClassChange("nan", 5, math.nan, math.nan, math.nan)), "no sample of class nan"),
        (tuple(ClassChange(f"c{k}", 0, 0.0, 0.0, 0.0) for k in range(9)), "class c0, c1, c2 and 6 more"),
    ],
)
def test_classes_without_samples_are_unmeasured(classes: tuple[ClassChange, ...], says: str) -> None:
    criterion, reason = class_drop("max_class_drop", with_classes(*classes), 1.0, 0.95)
    assert (criterion.status, criterion.value) == ("unmeasured", None)
    assert reason is not None
    assert says in reason


def test_a_class_without_an_interval_never_passes() -> None:
    blind = change("blind", 0, 0, 1000, interval=False)
    criterion, reason = class_drop("max_class_drop", with_classes(change("a", 0, 0, 1000), blind), 1.0, 0.95)
    assert (criterion.status, criterion.interval) == ("undecided", None)
    assert reason is not None
    assert "class blind has no interval" in reason
    assert status(blind, change("dead", 900, 0, 1000)) == "fail"


@pytest.mark.parametrize("ci95", [(math.nan, 0.1), (0.1, -0.1)])
def test_an_interval_that_is_none_does_not_count_as_one(ci95: tuple[float, float]) -> None:
    assert worsening(ci95, True) is None


def test_lower_is_better_turns_the_interval() -> None:
    report = with_classes(ClassChange("a", 100, 1.0, 1.3, 0.3, (0.2, 0.4)))
    assert report.accuracy is not None
    report = replace(report, accuracy=replace(report.accuracy, higher_is_better=False))
    criterion, _ = class_drop("max_class_drop", report, 0.1, 0.95)
    assert criterion.status == "fail"
    assert criterion.interval is not None
    assert 0.2 < criterion.interval[0] < 0.3 < criterion.interval[1] < 0.4  # one-sided 95 % is narrower


def test_groups_widen_the_bounds_of_classes() -> None:
    report = with_classes(change("0", 20, 0, 200))
    assert report.accuracy is not None
    assert report.accuracy.ci95 is not None
    low, high = report.accuracy.ci95  # of samples that stand on their own
    grouped = replace(report.accuracy, groups=500, interval="cluster-tango", ci95=(3 * low, 3 * high))
    limit = 0.05
    alone = class_drop("max_class_drop", report, limit, 0.95)[0]
    together = class_drop("max_class_drop", replace(report, accuracy=grouped), limit, 0.95)[0]
    assert (alone.status, together.status) == ("fail", "undecided")
    silent = replace(grouped, ci95=None)
    unknown = class_drop("max_class_drop", replace(report, accuracy=silent), limit, 0.95)[0]
    assert (unknown.status, unknown.interval) == ("fail", None)  # by the measured value


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.data())
def test_the_counts_behind_an_interval_are_found(n: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, n))
    gained = data.draw(st.integers(0, n - lost))
    each = change("a", lost, gained, n)
    within = worsening(each.ci95, True)
    assert within is not None
    found = class_flips(each, within)
    assert found is not None
    assert tango_interval(*found, n) == pytest.approx(within, abs=1e-6)
    assert found[0] - found[1] == lost - gained


def test_intervals_of_other_metrics_are_not_taken_for_counts() -> None:
    each = ClassChange("a", 100, 0.5, 0.4, 0.1, (-0.3, 0.02))
    within = worsening(each.ci95, True)
    assert within is not None
    assert class_flips(each, within) is None


def test_wrong_answers_are_as_rare_as_stated() -> None:
    """Ten classes of 150 samples that drop by exactly the limit: neither pass nor fail may exceed 5 %."""
    rng, answers = np.random.default_rng(0), []
    rates = (0.10, 0.02, 0.88)  # lost, gained, unchanged: a true drop of 0.08
    for _ in range(300):
        counts = rng.multinomial(150, rates, size=10)
        answers.append(status(*[change(str(k), *row[:2], 150) for k, row in enumerate(counts.tolist())], limit=0.08))
    assert answers.count("fail") / len(answers) <= 0.05
    assert answers.count("pass") / len(answers) <= 0.05


def test_the_budget_asks_for_it() -> None:
    report = with_classes(change("0", 3, 3, 1000), change("1", 900, 0, 1000))
    verdict = judge(report, Budget(max_drop=1.0, max_class_drop=0.05))
    assert [(each.name, each.status) for each in verdict.budgets] == [("max_drop", "pass"), ("max_class_drop", "fail")]
    assert judge(report, Budget(max_drop=1.0)).status == "pass"


def test_a_class_without_an_interval_fails_by_its_value_and_never_passes() -> None:
    fine = change("a", 0, 0, 1000)
    dead, alive = (change("blind", lost, 0, 1000, interval=False) for lost in (400, 0))
    assert (status(fine, dead), status(fine, alive)) == ("fail", "undecided")
    reason = class_drop("max_class_drop", with_classes(fine, dead), 0.05, 0.95)[1]
    assert reason is not None
    assert "by the measured value alone" in reason


def test_classes_by_a_metric_without_labels_are_unmeasured() -> None:
    report = with_classes(change("a", 0, 0, 1000))
    assert report.accuracy is not None
    silent = replace(report, accuracy=replace(report.accuracy, reference=True))
    criterion, reason = class_drop("max_class_drop", silent, 0.05, 0.95)
    assert criterion.status == "unmeasured"
    assert reason is not None
    assert "does not use the labels" in reason
