"""The bootstrap of a mean difference."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from infopt.stats.bca import RESAMPLES, bca
from infopt.stats.clusters import Clusters, clustered
from infopt.stats.limits import Interval
from infopt.stats.proportions import EDWARDS, score_limits

quick = settings(max_examples=25, deadline=None)


def of(differences: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> Interval:
    return bca(clustered(differences, groups), seed)


def bounds(interval: Interval) -> tuple[float, float]:
    assert interval.ci95 is not None
    return interval.ci95


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_it_is_scipys_bca_for_many_samples(kind: str) -> None:
    rng = np.random.default_rng(1)
    data = rng.normal(0.1, 0.3, 1500) if kind == "normal" else rng.exponential(1.0, 1500)
    oracle = scipy.stats.bootstrap((data,), np.mean, rng=np.random.default_rng(2)).confidence_interval
    assert of(data).method == "bca"
    width = oracle.high - oracle.low
    assert bounds(of(data)) == pytest.approx((oracle.low, oracle.high), abs=0.05 * width)


def test_acceleration_moves_the_interval_towards_the_long_tail() -> None:
    low, high = bounds(of(np.random.default_rng(3).exponential(1.0, 100) - 1.0))
    center = float((np.random.default_rng(3).exponential(1.0, 100) - 1.0).mean())
    assert high - center > 1.15 * (center - low)


def test_few_samples_get_the_width_of_students_t() -> None:
    rng, covered, widths = np.random.default_rng(4), [], []
    for _ in range(150):
        data = rng.normal(0, 1, 8)
        low, high = bounds(of(data))
        covered.append(low <= 0 <= high)
        widths.append((high - low) / (2 * data.std() / np.sqrt(8)))
    assert np.mean(covered) >= 0.93
    # Student's 2.36 with 7 degrees of freedom, sqrt(8 / 7) for the bootstrap, and the pair of samples farthest out.
    assert 3 < np.mean(widths) < 4


def test_one_sample_that_makes_up_the_difference_widens_it() -> None:
    data = np.zeros(500)
    data[7] = 1.0
    low, high = bounds(of(data))
    assert low < 0
    assert high > 4 / 500


def test_what_no_sample_shows_keeps_the_deciding_limits_apart() -> None:
    data = np.random.default_rng(12).normal(0, 1e-4, 300)
    blind, careful = bca(clustered(data, None), 0), bca(clustered(data, None), 0, reach=2.0)
    assert careful.ci95 == blind.ci95
    unseen = 2 * score_limits(0, 0, 300, norm.ppf(0.95), EDWARDS)[1]
    found = next(limit for limit in careful.limits if limit.confidence == 0.95)
    assert (found.low, found.high) == pytest.approx((data.mean() - unseen, data.mean() + unseen))
    assert unseen > 2 * 2.7 / 300


@quick
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40), st.integers(0, 1000))
def test_it_contains_the_estimate_and_widens_with_confidence(values: list[float], seed: int) -> None:
    found = of(np.array(values), seed=seed)
    levels = sorted(found.limits, key=lambda limit: limit.confidence)
    assert all(a.low >= b.low and a.high <= b.high for a, b in pairwise(levels))
    assert levels[-1].low - 1e-12 <= np.mean(values) <= levels[-1].high + 1e-12
    assert all(np.isfinite((limit.low, limit.high)).all() for limit in levels)


@quick
@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_units_do_not_matter(seed: int, scale: float, shift: float) -> None:
    data = np.random.default_rng(seed).normal(0, 1, 30)
    low, high = bounds(of(data))
    assert bounds(of(data * scale + shift)) == pytest.approx((low * scale + shift, high * scale + shift), abs=1e-9)


def test_swapped_models_give_about_the_mirror_image() -> None:
    data = np.random.default_rng(5).exponential(1.0, 300)
    low, high = bounds(of(data))
    assert bounds(of(-data)) == pytest.approx((-high, -low), abs=0.03 * (high - low))


def test_groups_of_one_change_nothing() -> None:
    data = np.random.default_rng(6).normal(0, 1, 50)
    assert bounds(of(data, np.arange(50))) == bounds(of(data))


def test_copies_in_a_group_tell_nothing_new() -> None:
    data = np.random.default_rng(7).normal(0, 1, 60)
    copied = of(np.repeat(data, 5), np.repeat(np.arange(60), 5))
    assert copied.method == "cluster-bca"
    assert bounds(copied) == pytest.approx(bounds(of(data)), abs=1e-12)
    assert np.ptp(bounds(of(np.repeat(data, 5)))) < 0.6 * np.ptp(bounds(copied))


def test_groups_of_different_sizes_are_resampled_whole() -> None:
    rng = np.random.default_rng(8)
    which = np.repeat(np.arange(200), rng.integers(1, 10, 200))
    shared = rng.normal(0, 1, 200)[which]
    found = clustered(shared, which)
    assert np.ptp(bounds(of(shared, which))) == pytest.approx(2 * 1.96 * np.sqrt(found.variance), rel=0.12)


def test_more_than_twenty_thousand_samples_are_summed_in_blocks() -> None:
    data = np.random.default_rng(9).normal(0.2, 1, 100_000)
    spread = 1.96 * data.std() / np.sqrt(len(data))
    assert bounds(of(data)) == pytest.approx((data.mean() - spread, data.mean() + spread), abs=0.05 * spread)


def test_the_same_seed_gives_the_same_interval() -> None:
    data = np.random.default_rng(10).normal(0, 1, 100)
    assert of(data) == of(data)
    assert of(data) != of(data, seed=1)


def test_all_equal_differences_have_no_width() -> None:
    assert bounds(bca(Clusters(np.full(9, 0.5), np.ones(9)), 0)) == (0.5, 0.5)


def test_ten_thousand_resamples_of_ten_thousand_samples_are_quick() -> None:
    data = np.random.default_rng(11).normal(0, 1, 10_000)
    start = time.process_time()
    of(data)
    assert RESAMPLES == 10_000
    assert time.process_time() - start < 2
