from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from infopt.drifting.sketch import K, Sketch, Tally
from infopt.drifting.statistics import (
    Difference,
    adjusted,
    distance_of,
    divergence,
    needed,
    of_classes,
    of_numbers,
    of_presence,
    stability,
    visible_distance,
)


def sketch(numbers: object) -> Sketch:
    made = Sketch()
    made.add(np.asarray(numbers, np.float64))
    return made


def compared(one: object, two: object) -> Difference:
    first, second = sketch(one), sketch(two)
    return of_numbers(first, second, (len(first), len(second)))


def normal(count: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32) + np.float32(shift)


@pytest.mark.filterwarnings("ignore:ks_2samp. Exact calculation unsuccessful:RuntimeWarning")
@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20), st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_the_distance_is_that_of_scipy_and_the_p_value_no_smaller_than_the_exact_one(
    one: list[int], two: list[int]
) -> None:
    found, expected = compared(one, two), ks_2samp(one, two, method="exact")
    assert found.ks == pytest.approx(expected.statistic)
    assert found.p >= min(expected.pvalue, 0.2) - 0.01


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=80))
def test_equal_samples_do_not_differ(numbers: list[float]) -> None:
    found = compared(numbers, numbers)
    assert found == Difference(pytest.approx(0), 0, pytest.approx(0, abs=1e-9), 1)


def test_the_p_value_is_that_of_scipy() -> None:
    one, two = normal(300), normal(500, 0.3, seed=1)
    assert compared(one, two).p == pytest.approx(ks_2samp(one, two, method="asymp").pvalue, rel=0.25)


def test_the_index_of_shifted_normal_values_is_the_square_of_the_shift() -> None:
    found = np.mean([compared(normal(500, 0, s), normal(500, 0.5, s + 999)).psi for s in range(40)])
    assert found == pytest.approx(0.25, rel=0.25)


def test_the_distance_of_an_index_is_that_of_shifted_normal_values() -> None:
    assert distance_of(0.25) == pytest.approx(ks_2samp(normal(200000), normal(200000, 0.5, 1)).statistic, abs=0.01)


def test_few_samples_do_not_make_a_large_index() -> None:
    found = [compared(normal(40, 0, s), normal(40, 0, s + 999)).psi for s in range(100)]
    assert np.mean(found) < 0.06


def test_values_that_pile_up_have_a_bin_of_their_own() -> None:
    zeros = np.zeros(300)
    assert compared(zeros, np.where(np.arange(300) < 90, 0.01, 0)).psi > 0.25
    assert compared(zeros, np.where(np.arange(300) < 90, -0.01, 0)).psi > 0.25
    assert compared(zeros, zeros).psi == 0


def test_false_alarms_of_a_single_statistic_are_as_rare_as_said() -> None:
    small = [compared(normal(300, 0, s), normal(500, 0, s + 5000)).p <= 0.05 for s in range(400)]
    assert np.mean(small) <= 0.08


def test_what_a_sketch_may_be_off_is_no_evidence() -> None:
    many = sketch(normal(20 * K))
    assert many.error > 0
    assert of_numbers(many, sketch(normal(20 * K, seed=1)), (1e4, 1e4)).p > 0.5


def test_samples_that_depend_on_each_other_prove_less() -> None:
    one, two = sketch(normal(300)), sketch(normal(300, 0.4, 1))
    assert of_numbers(one, two, (30, 30)).p > 50 * of_numbers(one, two, (300, 300)).p


def tally(counts: dict[str, int], samples: int | None = None) -> Tally:
    return Tally(Counter(counts), sum(counts.values()) if samples is None else samples)


def classes(one: dict[str, int], two: dict[str, int]) -> Difference:
    first, second = tally(one), tally(two)
    return of_classes(first, second, (first.samples, second.samples), 0)


def test_a_class_that_was_never_seen_is_found() -> None:
    found = classes({"0": 150, "1": 150}, {"0": 175, "1": 175, "2": 150})
    assert found.p < 1e-6
    assert found.psi > 0.25
    assert found.ks == pytest.approx(0.3)


def test_false_alarms_of_counts_are_as_rare_as_said_with_many_rare_classes() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(80):
        draws = [Counter(map(str, rng.integers(0, 150, size))) for size in (200, 300)]
        found.append(classes(*(dict(each) for each in draws)).p)
    assert np.mean(np.array(found) <= 0.05) <= 0.1
    assert np.mean(np.array(found) <= 0.5) >= 0.35


def test_the_tail_of_counts_follows_the_drawn_divisions() -> None:
    half = classes({"a": 60, "b": 40}, {"a": 40, "b": 60}).p
    assert 0.001 < half < 0.02


def test_counts_of_nothing_tell_nothing() -> None:
    assert classes({}, {"a": 3}).p == 1


def test_an_id_that_most_samples_have_and_none_had_is_found() -> None:
    found = of_presence(tally({"1": 100}, 100), tally({"1": 100, "2": 60}, 100), (100, 100))
    assert found.p < 1e-9
    assert found.ks == pytest.approx(0.6)
    assert of_presence(tally({"1": 50}, 100), tally({"1": 55}, 100), (100, 100)).p > 0.3


def test_the_divergence_is_one_bit_for_disjoint_shares() -> None:
    assert divergence(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    assert stability(np.array([1.0, 0]), np.array([0, 1.0]), (100, 100)) > 5


def test_p_values_are_adjusted_for_their_number() -> None:
    assert adjusted({3: 0.01, 5: 0.02, 9: 1.0}) == {3: pytest.approx(0.03), 5: pytest.approx(0.03), 9: 1}
    assert adjusted({}) == {}


def test_needed_samples_make_a_distance_visible() -> None:
    count = needed(40, 0.01, 0.2, 300)
    assert count is not None
    assert visible_distance(40, 0.01, (300, count)) <= 0.2 < visible_distance(40, 0.01, (300, count - 1))
    assert needed(40, 0.01, 0.2, 50) is None


def test_sketches_hold_every_number_up_to_their_size_and_are_then_the_same_in_each_run() -> None:
    numbers = normal(K)
    one, two = sketch(numbers), sketch(numbers)
    assert one.to_json() == two.to_json()
    values, weights = Sketch.from_json(one.to_json()).points()
    assert values.tolist() == sorted(numbers.tolist())
    assert set(weights) == {1}


def test_merged_sketches_are_of_both() -> None:
    merged = sketch([1.0, 2]).merged(sketch([3.0, np.nan]))
    assert (len(merged), merged.mean, merged.points()[0].tolist()) == (3, 2, [1, 2, 3])
