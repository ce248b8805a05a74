"""Samples that come in groups."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.stats.clusters import Clusters, clustered, clustered_proportions, design_effect
from infopt.stats.proportions import tango_interval

quick = settings(max_examples=40, deadline=None)


def brute_force(differences: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Bell and McCaffrey's variance of a mean and its degrees of freedom, by their matrices."""
    n, names = len(differences), np.unique(groups)
    away = np.eye(n) - 1 / n
    vectors = []
    for name in names:
        own = np.flatnonzero(groups == name)
        values, basis = np.linalg.eigh(np.eye(len(own)) - 1 / n)
        root = basis @ np.diag(values**-0.5) @ basis.T
        vectors.append(away[:, own] @ root @ np.ones(len(own)) / n)
    found = np.array(vectors)
    eigenvalues = np.linalg.eigvalsh(found @ found.T)
    return float(((found @ differences) ** 2).sum()), float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


@quick
@given(st.lists(st.integers(1, 6), min_size=2, max_size=8), st.integers(0, 99))
def test_variance_and_degrees_are_those_of_bell_and_mccaffrey(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    differences = np.random.default_rng(seed).normal(0.3, 1, len(groups))
    found = clustered(differences, groups)
    assert (found.variance, found.degrees) == pytest.approx(brute_force(differences, groups), rel=1e-9)


def test_equal_groups_have_one_degree_less_than_their_number() -> None:
    assert clustered(np.arange(30.0), np.arange(30) // 5).degrees == pytest.approx(5)
    alone = np.random.default_rng(0).normal(0, 1, 40)
    assert clustered(alone, None).variance == pytest.approx(alone.var(ddof=1) / 40)


def test_groups_may_be_names_in_any_order() -> None:
    found = clustered(np.array([1.0, 2.0, 4.0]), np.array(["b", "a", "b"]))
    assert (found.sums.tolist(), found.sizes.tolist()) == ([2, 5], [1, 2])


def changes(groups: int, size: int, lost: int, together: bool) -> tuple[np.ndarray, np.ndarray]:
    """Groups of one size with ``lost`` samples lost: whole groups, or one in each."""
    which = np.repeat(np.arange(groups), size)
    values = np.zeros(len(which))
    values[np.arange(lost) if together else np.arange(lost) * size % len(which)] = -1
    return values, which


def width(case: tuple[np.ndarray, np.ndarray]) -> float:
    found = clustered_proportions(*case)
    assert found.ci95 is not None
    return found.ci95[1] - found.ci95[0]


def test_groups_that_flip_whole_widen_the_interval() -> None:
    apart, together = changes(300, 5, 60, together=False), changes(300, 5, 60, together=True)
    plain = np.ptp(tango_interval(0, 60, 1500))
    assert plain < width(apart) < 1.2 * plain
    assert width(together) == pytest.approx(np.ptp(tango_interval(0, 12, 300)), rel=0.03)


def test_without_flips_groups_count_not_samples() -> None:
    assert width(changes(100, 7, 0, together=False)) == pytest.approx(np.ptp(tango_interval(0, 0, 100)), rel=0.03)


def test_two_groups_tell_next_to_nothing() -> None:
    assert width(changes(2, 500, 3, together=True)) > 1


@quick
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([-1.0, 0.0, 0.0, 1.0])), min_size=4, max_size=60).filter(
        lambda rows: len({group for group, _ in rows}) > 1
    )
)
def test_grouped_intervals_contain_the_estimate_are_mirrored_and_widen(rows: list[tuple[int, float]]) -> None:
    which, values = np.array([g for g, _ in rows]), np.array([v for _, v in rows])
    found, mirrored = clustered_proportions(values, which), clustered_proportions(-values, which)
    assert found.ci95 is not None
    assert mirrored.ci95 is not None
    assert -1 <= found.ci95[0] <= values.mean() <= found.ci95[1] <= 1
    assert mirrored.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]), abs=1e-9)
    levels = sorted(found.limits, key=lambda limit: limit.confidence)
    assert all(a.low >= b.low and a.high <= b.high for a, b in pairwise(levels))


@quick
@given(st.lists(st.integers(1, 9), min_size=2, max_size=30), st.integers(0, 99))
def test_a_design_effect_is_between_none_and_whole_groups(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).choice([-1.0, 0.0, 0.0, 1.0], sum(sizes))
    which = np.repeat(np.arange(len(sizes)), sizes)
    effect = design_effect(clustered(values, which), clustered(np.abs(values), which))
    assert 1 <= effect <= np.sum(np.square(sizes)) / np.sum(sizes) + 1e-12


def test_a_group_is_its_sum_and_its_size() -> None:
    found = Clusters(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    assert (len(found), found.samples, found.mean, found.residuals.tolist()) == (2, 4, 1, [-1, 1])
