from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopt.drifting.describe import BUCKETS, CLASSES, IDS, MOST_POSITIONS, NOT_FINITE, Facts, describe
from infopt.drifting.kinds import View, input_view, output_view


def told(sample: Any, view: View, values: int = 0) -> Facts:
    return describe(np.asarray(sample), view, np.random.default_rng(0), values)


@pytest.mark.parametrize(
    ("dtype", "shape", "view"),
    [
        (np.float32, (16,), View("columns")),
        (np.float32, (), View("columns")),
        (np.float32, (257,), View("channels")),
        (np.float32, ("T",), View("channels")),
        (np.int64, (32,), View("columns")),
        (np.int64, (33,), View("tokens")),
        (np.int32, ("sequence",), View("tokens")),
        (np.uint8, (200,), View("columns")),
        (object, (), View("tokens")),
        (np.float32, (3, 224, 224), View("channels", 0)),
        (np.uint8, (224, 224, 3), View("channels", 2)),
        (np.float32, (3, "H", "W"), View("channels", 0)),
        (np.float32, ("T", 80), View("channels", 1)),
        (ml_dtypes.bfloat16, (4,), View("columns")),
    ],
)
def test_dtype_and_rank_decide_how_an_input_is_looked_at(dtype: Any, shape: tuple[Any, ...], view: View) -> None:
    assert input_view(np.dtype(dtype), shape) == view


@pytest.mark.parametrize(
    ("shape", "view"), [((10,), View("classes")), ((1,), View("columns")), ((1, 8, 8), View("channels", 0))]
)
def test_a_row_of_scores_is_one_of_classes(shape: tuple[int, ...], view: View) -> None:
    assert output_view(shape) == view


def test_each_column_is_a_statistic() -> None:
    assert told([1.5, -2.0], View("columns")).numbers == {("column 0", "value"): 1.5, ("column 1", "value"): -2.0}


def test_a_channel_is_told_by_its_moments_ends_and_neighbours() -> None:
    sample = np.array([[[0, 1], [2, 3]], [[0, -1], [-2, -3]]], np.float32)
    numbers = told(sample, View("channels", 0)).numbers
    assert numbers["channel 0", "mean"] == 1.5
    assert numbers["channel 0", "spread"] == pytest.approx(np.std([0, 1, 2, 3]))
    assert (numbers["channel 0", "lowest"], numbers["channel 0", "highest"]) == (0, 3)
    assert numbers["channel 0", "texture"] == 1.5  # 1 along rows, 2 along columns
    assert numbers["channels 0 and 1", "difference"] == 3
    assert numbers["channels 0 and 1", "correlation"] == pytest.approx(-1)


def test_an_order_of_channels_shows_in_what_is_between_them() -> None:
    sample = np.random.default_rng(0).random((3, 4, 4))
    one, other = (told(each, View("channels", 0)).numbers for each in (sample, sample[::-1]))
    for what in ("difference", "correlation"):
        assert one["channels 0 and 1", what] != pytest.approx(other["channels 0 and 1", what])
    assert one["channels 0 and 2", "difference"] == pytest.approx(-other["channels 0 and 2", "difference"])


def test_channels_that_come_last_are_found() -> None:
    sample = np.random.default_rng(0).random((3, 6, 5))
    last = told(np.moveaxis(sample, 0, 2), View("channels", 2)).numbers
    assert last == pytest.approx(told(sample, View("channels", 0)).numbers)


def test_a_huge_channel_is_thinned_by_lines() -> None:
    side = 4 * int(MOST_POSITIONS**0.5)
    lines = np.broadcast_to(np.arange(side, dtype=np.float32), (1, side, side))
    numbers = told(lines, View("channels", 0)).numbers
    assert numbers["channel 0", "mean"] == pytest.approx((side - 1) / 2)
    assert numbers["channel 0", "highest"] == side - 1


def test_many_channels_are_thinned() -> None:
    assert len({part for part, what in told(np.ones((100, 2)), View("channels", 0)).numbers if what == "mean"}) <= 32


def test_an_empty_sample_tells_nothing() -> None:
    assert told(np.zeros((3, 0, 0)), View("channels", 0)) == Facts({}, {}, {})


def test_constant_channels_have_no_correlation() -> None:
    assert told(np.ones((2, 3, 3)), View("channels", 0)).numbers["channels 0 and 1", "correlation"] == 0


def test_ids_are_counted_without_padding() -> None:
    facts = told(np.array([5, 7, 7, 0, 0]), View("tokens"))
    assert facts.numbers == {("", "length"): 3, ("", "distinct"): 2}
    assert len(facts.items[IDS]) == 2
    assert all(0 <= int(bucket) < BUCKETS for bucket in facts.items[IDS])


def test_strings_are_ids_too() -> None:
    assert told(np.array(["a", "b", ""], object), View("tokens")).numbers["", "length"] == 2


def test_probabilities_are_taken_as_they_are_and_logits_normalized() -> None:
    shares = np.array([0.7, 0.2, 0.1])
    one, other = told(shares, View("classes")), told(np.log(shares) + 5, View("classes"))
    assert one.items == other.items == {CLASSES: ["0"]}
    for facts in (one, other):
        assert facts.numbers["", "confidence"] == pytest.approx(0.7)
        assert facts.numbers["", "margin"] == pytest.approx(0.5)
    assert other.numbers["", "energy"] == pytest.approx(5)
    assert ("", "energy") not in one.numbers


@given(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=9))
def test_confidence_is_a_probability_whatever_the_scores(scores: list[float]) -> None:
    numbers = told(scores, View("classes")).numbers
    assert 0 <= numbers["", "margin"] <= numbers["", "confidence"] <= 1 + 1e-2


def test_scores_that_are_not_finite_are_a_class_of_their_own() -> None:
    assert told([np.nan, 1.0], View("classes")) == Facts({}, {CLASSES: [NOT_FINITE]}, {})


def test_values_are_the_channels_own() -> None:
    facts = told(np.array([[1.0, 1.0], [2.0, 2.0]]), View("channels", 0), values=5)
    assert {part: set(values.tolist()) for part, values in facts.values.items()} == {"channel 0": {1}, "channel 1": {2}}
