from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.accuracy import paired_accuracy, tango_interval
from infopt.budget import Budget
from infopt.changes import MOST_CHANGED, Changes, find_changes
from infopt.confirm import Part
from infopt.findings import findings, worst_class
from infopt.metrics import BUILT_IN, Metric, load_metric
from infopt.readers.answers import Answers
from infopt.report import Report, read_report
from infopt.verdict import judged

EXAMPLE = read_report(Path(__file__).parent / "goldens" / "report.json")


def changes(
    metric: str | Metric, before: Any, after: Any, labels: Any = None, ids: Any = None, classes: tuple[str, ...] = ()
) -> Changes:
    """Compare output 0 alone."""
    chosen = BUILT_IN[metric] if isinstance(metric, str) else metric
    outputs = [np.asarray(array, np.float32 if np.ndim(array) != 1 else None) for array in (before, after)]
    known = None if labels is None else np.asarray(labels)
    samples = Answers(Path("eval"), len(outputs[0]) if known is None else len(known), known, None, ids, classes)
    accuracy = paired_accuracy(chosen, outputs[:1], outputs[1:], known, where="deployed", seed=0)
    return find_changes(chosen, outputs[:1], outputs[1:], samples, accuracy)


def one_hot(*answers: int, classes: int = 3) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[list(answers)] * 4


def test_flips_come_first_then_the_distance() -> None:
    before = one_hot(0, 0, 1, 2)
    after = before + np.array([[0, 0, 0], [0, -0.5, -1], [-2.1, -2.1, 2.0], [9, 9, 9]])
    found = changes("top1", before, after, [0, 0, 1, 2]).samples
    assert [change.index for change in found] == [2, 3, 1]
    assert [change.lost for change in found] == [True, False, False]
    assert not any(change.gained for change in found)
    assert (found[0].before, found[0].after, found[0].label) == ("1 (4.00)", "2 (2.00)", "1")
    assert found[1].change == pytest.approx(np.sqrt(3 * 81) / 4)


def test_a_gained_sample_is_changed_and_not_lost() -> None:
    (change,) = changes("top1", one_hot(1, 0), one_hot(0, 0), [0, 0], ids=("a.png", "b.png")).samples
    assert (change.id, change.lost, change.gained) == ("a.png", False, True)


def test_samples_that_did_not_change_are_not_told() -> None:
    assert changes("top1", one_hot(0, 1), one_hot(0, 1), [0, 0]).samples == ()


def test_at_most_twenty_are_told() -> None:
    before = one_hot(*[0] * 50)
    after = before + np.arange(1, 51, dtype=np.float32)[:, np.newaxis] / 100
    found = changes("top1", before, after, [0] * 50).samples
    assert [change.index for change in found] == list(range(49, 49 - MOST_CHANGED, -1))


def test_a_class_that_died_comes_first() -> None:
    labels = [0] * 10 + [1] * 90 + [2] * 10
    after = [2] * 10 + [1] * 90 + [2] * 9 + [0]
    found = changes("top1", one_hot(*labels), one_hot(*after), labels, classes=("boot", "coat", "shirt")).classes
    assert [(c.label, c.n, c.baseline, c.candidate) for c in found] == [
        ("boot", 10, 1.0, 0.0),
        ("shirt", 10, 1.0, 0.9),
        ("coat", 90, 1.0, 1.0),
    ]
    assert [change.drop for change in found] == [1.0, 0.1, 0.0]
    assert found[0].ci95 == tango_interval(0, 10, 10)


def test_a_sample_with_several_accepted_classes_counts_for_each() -> None:
    found = changes("top1", one_hot(0, 2, 1), one_hot(0, 0, 1), [[0, 2], [2, -1], [1, -1]])
    assert {change.label: (change.n, change.drop) for change in found.classes} == {
        "0": (1, 0.0),
        "1": (1, 0.0),
        "2": (2, 0.5),
    }
    assert found.samples[0].label == "2"


def test_classes_without_samples_are_told_and_warned_of() -> None:
    found = changes("top1", one_hot(0, 2, classes=4), one_hot(0, 2, classes=4), [0, 2])
    assert [(change.label, change.n) for change in found.classes] == [("0", 1), ("2", 1), ("1", 0), ("3", 0)]
    assert all(map(math.isnan, (found.classes[2].baseline, found.classes[2].candidate, found.classes[2].drop)))
    assert found.warnings == ("2 of 4 classes have no sample in the evaluation data: 1, 3",)


def test_a_metric_that_is_an_error_drops_when_it_rises() -> None:
    def errors(outputs: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
        return (outputs[0].argmax(axis=1) != labels).astype(np.float64)

    metric = Metric("error", lambda outputs, labels: float(errors(outputs, labels).mean()), False, errors)
    found = changes(metric, one_hot(0, 1, 2), one_hot(0, 1, 0), [0, 1, 2])
    assert (found.classes[0].label, found.classes[0].drop) == ("2", 1.0)
    assert found.classes[0].ci95 == tango_interval(1, 0, 1)
    assert found.samples[0].lost is True


def test_continuous_values_of_samples_give_classes_an_interval() -> None:
    def closeness(outputs: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
        return outputs[0][:, 0].astype(np.float64)

    metric = Metric("closeness", lambda outputs, labels: float(closeness(outputs, labels).mean()), True, closeness)
    found = changes(metric, [[0.5], [0.5], [0.75], [0.75]], [[0.5], [0.25], [0.75], [0.75]], [0, 0, 1, 1])
    assert [(c.label, c.baseline, c.drop) for c in found.classes] == [("0", 0.5, 0.125), ("1", 0.75, 0.0)]
    intervals = [change.ci95 for change in found.classes if change.ci95]
    assert len(intervals) == 2
    assert all(low < 0 < high for low, high in intervals)  # two samples do not show that nothing changed
    assert [(c.index, c.before, c.after, c.lost) for c in found.samples] == [(1, "0.5000", "0.2500", None)]


@pytest.mark.parametrize("labels", [[0.5, 1.5, 2.5], [[0, 1, 0], [1, 1, 0], [0, 0, 1]], None])
def test_labels_that_are_no_classes_give_no_classes(labels: Any) -> None:
    found = changes("cosine", one_hot(0, 1, 2), one_hot(0, 1, 0), labels)
    assert found.classes == ()
    assert [(change.index, change.lost) for change in found.samples] == [(2, None)]


def test_agreement_with_labels_tells_what_was_lost_but_not_by_class() -> None:
    found = changes("agreement", one_hot(0, 1, 2), one_hot(0, 1, 0), [0, 1, 2])
    assert found.classes == ()
    assert [(change.index, change.lost) for change in found.samples] == [(2, True)]


def test_whole_numbers_and_texts_that_differ_are_flips() -> None:
    metric = Metric("same", lambda outputs, labels: float((outputs[0] == labels).mean()))
    for kind in (np.int64, object):
        before, after = np.array([3, 4, 5]).astype(kind), np.array([3, 4, 6]).astype(kind)
        found = changes(metric, before, after, np.array([3, 4, 5]))
        assert [(c.index, c.before, c.after) for c in found.samples] == [(2, "5", "6")]


def test_outputs_that_are_no_numbers_are_warned_of() -> None:
    after = one_hot(0, 1, 2)
    after[1] = np.nan
    found = changes("top1", one_hot(0, 1, 2), after, [0, 1, 2])
    assert found.warnings == (
        "outputs of 1 of 3 samples hold NaN or Inf where the baseline's do not; the first is sample 1",
    )
    assert (found.samples[0].index, found.samples[0].after, found.samples[0].lost) == (1, "no number", True)
    (warning,) = changes("agreement", after, after, None).warnings
    assert "hold no number in the baseline" in warning


def test_several_rows_of_a_sample_are_one_sample() -> None:
    metric = Metric("rows", lambda outputs, labels: 0.5)
    before = np.tile(np.array([1, 0], np.float32), (6, 1))
    after = before.copy()
    after[5] = [0, 3]
    (change,) = changes(metric, before, after, [7.0, 8.0, 9.0]).samples
    assert (change.index, change.before, change.after) == (2, "1.000, 0, 1.000, 0", "1.000, 0, 0, 3.000")


def test_long_answers_are_summed_up() -> None:
    before = np.zeros((2, 3, 4, 4), np.float32)
    (change,) = changes("cosine", before, before + np.array([0, 2]).reshape(2, 1, 1, 1)).samples
    assert (change.index, change.before, change.after) == (
        1,
        "[3, 4, 4]: mean 0, largest 0",
        "[3, 4, 4]: mean 2.00, largest 2.00",
    )


def test_a_part_of_the_samples_tells_of_rows_of_all() -> None:
    whole = Answers(Path("eval"), 5, np.array([0, 1, 2, 0, 1]), None, ("a", "b", "c", "d", "e"), ("x", "y", "z"))
    part = Part(whole, np.array([1, 3, 4]))
    outputs = [one_hot(1, 0, 1)], [one_hot(1, 0, 2)]
    accuracy = paired_accuracy(BUILT_IN["top1"], *outputs, part.labels, where="deployed", seed=0)
    found = find_changes(BUILT_IN["top1"], *outputs, part, accuracy)
    assert [(c.index, c.id, c.before, c.label) for c in found.samples] == [(4, "e", "y (4.00)", "y")]
    assert [(c.label, c.n) for c in found.classes] == [("y", 2), ("x", 1), ("z", 0)]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_classes_add_up_to_the_metric(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    before, after = rng.standard_normal((2, count, 4)).astype(np.float32)
    found = changes("top1", before, after, labels).classes
    assert sum(change.n for change in found) == count
    seen = [change for change in found if change.n]
    for scores, key in ((before, "baseline"), (after, "candidate")):
        mean = sum(change.n * getattr(change, key) for change in seen) / count
        assert mean == pytest.approx((scores.argmax(axis=1) == labels).mean())
    drops = [change.drop for change in seen]
    assert drops == sorted(drops, reverse=True)


def reported(labels: list[int], after: list[int]) -> Report:
    found = changes("top1", one_hot(*labels, classes=10), one_hot(*after, classes=10), labels)
    return replace(EXAMPLE, classes=found.classes, warnings=())


def test_a_class_that_died_is_said_aloud() -> None:
    labels = [number for number in range(10) for _ in range(30)]
    report = reported(labels, [1 if label == 3 else label for label in labels])
    (finding,) = [each for each in findings(report) if each.kind == "class loss"]
    assert finding.text == "class 3 loses most: 1.0000 -> 0.0000 of 30 samples"
    assert finding.text in judged(report, Budget()).verdict.reasons


def test_the_worst_of_many_classes_is_not_news_when_chance_explains_it() -> None:
    labels = [number for number in range(10) for _ in range(30)]
    after = list(labels)
    after[:5] = [1] * 5  # 5 of 30: alone beyond its interval, as the worst of ten classes not
    report = reported(labels, after)
    assert tango_interval(0, 5, 30)[1] < 0
    assert worst_class(report).label == "0"  # type: ignore[union-attr]
    assert [each for each in findings(report) if each.kind == "class loss"] == []


def test_a_class_without_samples_is_not_the_worst() -> None:
    report = reported([0, 1], [0, 1])
    report = replace(report, classes=report.classes[::-1])
    assert report.classes[0].n == 0
    assert worst_class(report).n == 1  # type: ignore[union-attr]


def hit_metric(folder: Path) -> Metric:
    """Right where output 0 is positive and the label 1; a file of the user's."""
    (folder / "hit.py").write_text(
        "def per_sample(outputs, labels):\n"
        "    return ((outputs[0][:, 0] > 0) == labels.reshape(len(labels), -1)[:, 0]) * 1.0\n"
        "def score(outputs, labels):\n    return per_sample(outputs, labels).mean()\n"
    )
    return load_metric(f"{folder / 'hit.py'}:score")


def test_the_labels_of_a_file_metric_are_classes_where_its_values_are(tmp_path: Path) -> None:
    found = changes(hit_metric(tmp_path), [[1.0], [1.0], [-1.0], [-1.0]], [[1.0], [-1.0], [-1.0], [-1.0]], [1, 1, 0, 0])
    assert [(change.label, change.drop) for change in found.classes] == [("1", 0.5), ("0", 0.0)]


def test_what_a_file_metric_calls_wrong_now_flipped(tmp_path: Path) -> None:
    found = changes(hit_metric(tmp_path), [[1.0], [0.1], [-1.0], [-1.0]], [[9.0], [-0.1], [-1.0], [-1.0]], [1, 1, 0, 0])
    assert [(change.index, change.lost) for change in found.samples] == [(1, True), (0, False)]


def test_a_column_for_each_class_is_not_a_list_of_classes(tmp_path: Path) -> None:
    labels = [[0, 1], [1, 1], [1, 0], [0, 0]]
    found = changes(hit_metric(tmp_path), [[1.0, 0], [1, 0], [-1, 0], [-1, 0]], [[1.0, 0]] * 4, labels)
    assert found.classes == ()
    assert found.samples[0].label == "1, 0"


def test_a_class_that_died_by_a_continuous_metric_fails_the_budget() -> None:
    def closeness(outputs: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
        return outputs[0][:, 0].astype(np.float64)

    metric = Metric("closeness", lambda outputs, labels: float(closeness(outputs, labels).mean()), True, closeness)
    rng = np.random.default_rng(0)
    before, labels = rng.uniform(0.8, 1, (400, 1)), np.arange(400) % 4
    after = np.where(labels[:, None] == 0, 0.1, before)
    found = changes(metric, before, after, labels)
    report = replace(EXAMPLE, classes=found.classes)
    (criterion,) = judged(report, Budget(max_class_drop=0.05)).verdict.budgets
    assert (found.classes[0].label, criterion.status) == ("0", "fail")
    assert criterion.interval is not None
    (kept,) = judged(report, Budget(max_class_drop=0.95)).verdict.budgets
    assert kept.status == "pass"


def test_empty_classes_of_a_very_wide_model_are_not_forgotten() -> None:
    scores = np.zeros((6, 10_500), np.float32)
    found = changes("top1", scores, scores, [0] * 6)
    assert found.warnings[0].startswith("10499 of 10500 classes have no sample")
    assert len(found.classes) < 20
    report = replace(EXAMPLE, classes=found.classes)
    assert judged(report, Budget(max_class_drop=0.5)).verdict.status == "unmeasured"


def test_a_perfect_score_that_is_no_mean_tells_of_no_class_as_any_other_of_its_metric() -> None:
    def right(outputs: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
        return np.asarray(outputs[0].argmax(1) == labels)

    def balanced(outputs: list[np.ndarray], labels: np.ndarray) -> float:
        return float(np.mean([right(outputs, labels)[labels == label].mean() for label in np.unique(labels)]))

    labels = np.repeat([0, 1], [390, 10])
    scores = np.eye(2, dtype=np.float32)[labels]
    assert changes(Metric("balanced", balanced, per_sample=right), scores, scores, labels).classes == ()
