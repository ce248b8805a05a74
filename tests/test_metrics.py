"""Task metrics, built in and from the user's files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from infopt.errors import DataError, OptionError
from infopt.metrics import (
    BUILT_IN,
    Metric,
    cosine,
    default_metric,
    load_metric,
    measure,
    measure_samples,
    top_k_right,
)

if TYPE_CHECKING:
    from pathlib import Path

SCORE = "def score(outputs, labels):\n    return float((outputs[0].argmax(1) == labels).mean())\n"


def written(folder: Path, source: str) -> Path:
    path = folder / "task.py"
    path.write_text(source)
    return path


def returning(value: object) -> Metric:
    return Metric("mine", lambda outputs, labels: value, per_sample=lambda outputs, labels: value)


@given(st.integers(0, 1000), st.integers(5, 12), st.sampled_from([np.float32, np.float64]))
def test_top_k_equals_scikit_learn(seed: int, classes: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.permuted(np.tile(np.arange(classes), (30, 1)), axis=1).astype(dtype)
    labels = rng.integers(0, classes, 30)
    everything = np.arange(classes)
    assert measure(BUILT_IN["top1"], [logits], labels) == accuracy_score(labels, logits.argmax(1))
    if classes > 5:
        wanted = top_k_accuracy_score(labels, logits, k=5, labels=everything)
        assert measure(BUILT_IN["top5"], [logits], labels) == wanted


def test_top5_of_fewer_classes_accepts_them_all() -> None:
    assert measure(BUILT_IN["top5"], [np.eye(3)], np.array([1, 2, 0])) == 1


@given(st.integers(0, 1000))
def test_ties_go_to_the_lower_class_as_in_argmax(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.integers(0, 3, (40, 6)), rng.integers(0, 6, 40)
    assert np.array_equal(top_k_right(logits, labels, 1), logits.argmax(1) == labels)
    # All scores equal: exactly the first k classes are in.
    assert top_k_right(np.zeros((6, 6)), np.arange(6), 2).tolist() == [1, 1, 0, 0, 0, 0]


def test_any_of_several_accepted_classes_is_right() -> None:
    logits = np.eye(4)[[0, 1, 2]]
    labels = np.array([[3, 0], [2, -1], [2, -1]])
    assert top_k_right(logits, labels, 1).tolist() == [1, 0, 1]


def test_a_score_that_is_not_a_number_is_never_right() -> None:
    logits = np.array([[np.nan, np.nan], [np.nan, 1.0], [np.nan, 1.0]])
    assert top_k_right(logits, np.array([0, 1, 0]), 1).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((2, 3, 4), [0, 1], r"\[N, C\]"),
        ((2, 1), [0, 0], r"\[N, C\]"),
        ((4, 3), [0, 1], r"labels \[4\]"),
        ((2, 3), [0, 3], "label 3 is not a class"),
        ((2, 3), [0, -2], "label -2 is not a class"),
        ((2, 3), [0.5, 1.0], "whole numbers"),
        ((2, 3), [0, -1], "sample 1 has no label"),
        ((2, 3), [[0, 0, 1], [1, 0, 0]], "a column of zeros and ones"),
    ],
)
def test_labels_that_do_not_fit_are_refused(shape: tuple[int, ...], labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        measure(BUILT_IN["top1"], [np.zeros(shape)], np.array(labels))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64", "bool"])
def test_labels_may_be_whole_numbers_of_any_type(dtype: str) -> None:
    assert measure(BUILT_IN["top1"], [np.eye(3)[:2]], np.array([0, 1], dtype)) == 1


def test_agreement_averages_over_the_places_of_a_sample() -> None:
    baseline = np.eye(2)[[[0, 0, 1, 1], [0, 1, 0, 1]]]
    candidate = np.eye(2)[[[0, 0, 1, 0], [0, 1, 0, 1]]]
    metric = BUILT_IN["agreement"]
    assert measure_samples(metric, [candidate], baseline, 2).tolist() == [0.75, 1]
    assert measure(metric, [candidate], baseline) == 0.875
    assert measure(metric, [baseline], baseline) == 1


def test_agreement_leaves_padding_out() -> None:
    baseline = np.array([[[1, 0], [0, 1], [np.nan, np.nan]]])
    candidate = np.array([[[1, 0], [1, 0], [np.nan, np.nan]]])
    assert measure(BUILT_IN["agreement"], [candidate], baseline) == 0.5
    lost = np.full_like(baseline, np.nan)
    assert measure(BUILT_IN["agreement"], [lost], baseline) == 0


def test_agreement_without_classes_is_refused() -> None:
    for shape in ((4,), (4, 1)):
        with pytest.raises(DataError, match="use the metric cosine"):
            measure(BUILT_IN["agreement"], [np.zeros(shape)], np.zeros(shape))


def test_values_of_several_rows_are_averaged_by_sample() -> None:
    baseline, candidate = np.eye(2)[[0, 0, 1, 1]], np.eye(2)[[0, 1, 1, 1]]
    assert measure_samples(BUILT_IN["agreement"], [candidate], baseline, 2).tolist() == [0.5, 1]


def test_cosine_of_each_sample() -> None:
    baseline = np.array([[1, 0], [3, 4], [0, 0], [0, 0]], np.float32)
    candidate = np.array([[0, 2], [6, 8], [0, 0], [1, 0]], np.float32)
    assert cosine(baseline, candidate).tolist() == [0, 1, 1, 0]


@given(st.integers(0, 1000))
def test_cosine_with_itself_is_exactly_one(seed: int) -> None:
    array = np.random.default_rng(seed).normal(size=(5, 2, 7)).astype(np.float32)
    assert (cosine(array, array) == 1).all()


@pytest.mark.parametrize(
    ("labels", "shape", "name"),
    [
        (np.zeros(4, np.int64), (4, 10), "top1"),
        (np.zeros((4, 3), np.uint8), (None, 10), "top1"),
        (np.zeros(4, np.int64), (4, 1), "r2"),
        (np.zeros(4, np.float32), (4, 10), "agreement"),
        (np.zeros((4, 2, 2), np.int64), (4, 10), "agreement"),
        (None, (4, 10), "agreement"),
        (None, (4, 1), "r2"),
        (np.zeros(4, np.int64), (4, 10, 3), "cosine"),
        (None, (4,), "r2"),
        (None, (4, 3, 8, 8), "cosine"),
    ],
)
def test_the_default_fits_labels_and_output(labels: np.ndarray | None, shape: tuple[int, ...], name: str) -> None:
    assert default_metric(labels, shape) == name


@pytest.mark.parametrize("value", ["0.9", None, True, float("nan"), float("inf"), [0.9], np.array([0.9]), 1j])
def test_a_score_must_be_one_finite_number(value: object) -> None:
    with pytest.raises(DataError, match="metric mine failed"):
        measure(returning(value), [np.zeros(2)], np.zeros(2))


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.array(0.5), np.int64(3)])
def test_numbers_of_any_kind_are_scores(value: float) -> None:
    assert measure(returning(value), [np.zeros(2)], np.zeros(2)) == float(value)


@pytest.mark.parametrize("value", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], [1.0, np.nan], "ab", None, []])
def test_per_sample_must_give_a_finite_number_for_each_sample(value: object) -> None:
    with pytest.raises(DataError, match="metric mine failed: per_sample"):
        measure_samples(returning(value), [np.zeros(2)], np.zeros(2), 2)


def test_an_exception_in_a_metric_names_the_metric() -> None:
    metric = Metric("mine", lambda outputs, labels: outputs[3])
    with pytest.raises(DataError, match="metric mine failed: IndexError: list index") as caught:
        measure(metric, [np.zeros(2)], np.zeros(2))
    assert isinstance(caught.value.__cause__, IndexError)


def test_a_file_gives_a_metric_and_leaves_no_trace(tmp_path: Path) -> None:
    path = written(tmp_path, SCORE)
    before = set(sys.modules)
    metric = load_metric(f"{path}:score")
    assert (metric.name, metric.higher_is_better, metric.outputs, metric.per_sample) == (
        "score",
        True,
        None,
        None,
    )
    assert not metric.fraction
    assert measure(metric, [np.eye(2)], np.array([0, 0])) == 0.5
    assert set(sys.modules) == before
    assert [item.name for item in tmp_path.iterdir()] == ["task.py"]
    assert load_metric(str(path)).name == "score"


def test_the_constants_of_a_file_are_used(tmp_path: Path) -> None:
    source = (
        "NAME = 'error rate'\nHIGHER_IS_BETTER = False\nOUTPUTS = [0, 2]\n"
        "def wrong(outputs, labels): return 0.25\n"
        "def per_sample(outputs, labels): return outputs[0]\n"
    )
    metric = load_metric(f"{written(tmp_path, source)}:wrong")
    assert (metric.name, metric.higher_is_better, metric.outputs) == ("error rate", False, (0, 2))
    assert measure_samples(metric, [np.arange(2)], np.zeros(2), 2).tolist() == [0, 1]


def test_a_file_may_define_dataclasses(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(slots=True)\nclass Box:\n    side: float = 2.0\n"
        "def score(outputs, labels): return Box().side\n"
    )
    assert measure(load_metric(f"{written(tmp_path, source)}:score"), [], np.zeros(1)) == 2


@pytest.mark.parametrize(
    ("source", "function", "message"),
    [
        (SCORE, "scores", "did you mean 'score'"),
        ("score = 3\n", "score", "unknown function"),
        ("def score(:\n", "score", "SyntaxError"),
        ("import nothing_of_this_name\n", "score", "ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "score", "SystemExit"),
        (SCORE + "OUTPUTS = [-1]\n", "score", "OUTPUTS"),
        (SCORE + "OUTPUTS = 'all'\n", "score", "OUTPUTS"),
        (SCORE + "HIGHER_IS_BETTER = 'no'\n", "score", "HIGHER_IS_BETTER.*bool is wanted"),
        (SCORE + "NAME = 1\n", "score", "NAME"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, source: str, function: str, message: str) -> None:
    before = set(sys.modules)
    with pytest.raises(OptionError, match=message):
        load_metric(f"{written(tmp_path, source)}:{function}")
    assert set(sys.modules) == before


def test_names_and_files_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unknown metric 'agrement'; did you mean 'agreement'"):
        load_metric("agrement")
    with pytest.raises(OptionError, match="does not exist"):
        load_metric(f"{tmp_path / 'none.py'}:score")
