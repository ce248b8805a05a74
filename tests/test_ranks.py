from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata, spearmanr

from infopt import ranks as module
from infopt.accuracy import fidelity
from infopt.ranks import rank_correlation, ranks

few_values = st.integers(-3, 3).map(float)  # so that many are equal


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=few_values))
def test_equal_values_share_the_mean_of_their_ranks(values: np.ndarray) -> None:
    assert np.array_equal(ranks(values), rankdata(values, axis=1) - 1)


@settings(deadline=None)
@given(arrays(np.float32, (2, 12), elements=few_values))
def test_numbers_of_samples_are_ranked_over_the_samples(pair: np.ndarray) -> None:
    left, right = pair
    if min(np.ptp(left), np.ptp(right)) > 0:
        wanted = spearmanr(left, right).statistic
        assert rank_correlation(left, right) == pytest.approx(wanted)
        assert rank_correlation(left[:, np.newaxis], right[:, np.newaxis]) == pytest.approx(wanted)


def test_scores_are_ranked_within_each_sample() -> None:
    rng = np.random.default_rng(0)
    left = rng.standard_normal((7, 5)).astype(np.float32)
    right = left + rng.standard_normal((7, 5)).astype(np.float32)
    wanted = np.mean([spearmanr(*rows).statistic for rows in zip(left, right, strict=True)])
    assert rank_correlation(left, right) == pytest.approx(wanted)


def test_of_two_scores_the_difference_is_ranked_over_the_samples() -> None:
    left = np.array([[0, 1], [0, 2], [0, 3]], np.float32)
    right = np.array([[5, 5], [1, 9], [2, 4]], np.float32)
    assert rank_correlation(left, right) == pytest.approx(spearmanr([1, 2, 3], [0, 8, 2]).statistic)


def test_it_does_not_look_at_the_scale() -> None:
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    assert rank_correlation(values, np.exp(values)) == 1
    assert rank_correlation(values, -values) == -1


def test_constant_outputs_have_the_same_order() -> None:
    flat, rising = np.zeros((1, 4), np.float32), np.arange(4, dtype=np.float32)[np.newaxis]
    assert rank_correlation(flat, flat + 1) == 1
    assert rank_correlation(flat, rising) == 0


@pytest.mark.parametrize(
    "pair",
    [
        (np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.float32)),
        (np.zeros((2, 3), np.int64), np.zeros((2, 3), np.int64)),
        (np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)),
        (np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)),
    ],
)
def test_what_has_no_order_has_no_rank_correlation(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert rank_correlation(*pair) is None


def test_large_outputs_are_ranked_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 20)
    left = np.tile(np.arange(5, dtype=np.float32), (9, 1))
    right = left.copy()
    right[[0, 2, 8]] *= -1  # of 0, 2, 5 and 8, evenly spread
    assert rank_correlation(left, right) == pytest.approx(-0.5)


def test_fidelity_tells_of_the_ranks() -> None:
    left = np.arange(4, dtype=np.float32)
    (row,) = fidelity(["y"], [left], [left[::-1].copy()])
    assert row.rank_correlation == -1
