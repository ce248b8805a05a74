"""Two paired proportions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import xlogy
from scipy.stats import binomtest, norm

from infopt.errors import DataError
from infopt.stats.proportions import EDWARDS, mcnemar, score_limits, tango_interval

Counts = tuple[int, int, int]


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    n = draw(st.integers(1, 400))
    gained = draw(st.integers(0, n))
    return gained, draw(st.integers(0, n - gained)), n


def brute_force_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """All differences whose score statistic is within z, with the likeliest proportions found by search."""
    grid = np.linspace(-1, 1, 4001)[1:-1]
    inside = []
    for delta in grid:
        # p: share that only the first proportion counts; p + delta: that only the second counts.
        p = np.linspace(max(0.0, -delta), (1 - delta) / 2, 4001)
        rest = np.maximum(1 - 2 * p - delta, 0)
        likelihood = xlogy(gained, p + delta) + xlogy(lost, p) + xlogy(n - gained - lost, rest)
        best = p[np.argmax(likelihood)]
        variance = n * (2 * best + delta - delta**2)
        distance = abs(gained - lost - n * delta)
        if distance <= norm.ppf(0.975) * math.sqrt(max(variance, 0)) + 1e-12:
            inside.append(delta)
    return float(min(inside)), float(max(inside))


@pytest.mark.parametrize(
    "case",
    [
        (12, 2, 50),
        (1, 7, 21),
        (0, 1, 44),
        (0, 0, 50),
        (1, 0, 1),
        (0, 1, 1),
        (3, 3, 20),
        (20, 0, 20),
        (0, 20, 21),
    ],
)
def test_tango_inverts_the_score_test(case: Counts) -> None:
    found, wanted = tango_interval(*case), brute_force_interval(*case)
    assert found == pytest.approx(wanted, abs=2e-3)


def test_tango_has_the_known_limits_at_the_edges() -> None:
    z2 = norm.ppf(0.975) ** 2
    # With no flips the score equation is n d / (1 - d) = z^2; with flips only it is n (1 - d) = z^2 (1 + d).
    assert tango_interval(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))
    assert tango_interval(100, 0, 100) == pytest.approx(((100 - z2) / (100 + z2), 1.0))
    assert tango_interval(0, 100, 100) == pytest.approx((-1.0, (z2 - 100) / (100 + z2)))


@given(counts(), st.floats(0.5, 0.999))
def test_tango_contains_the_estimate_and_is_a_mirror_image_when_swapped(case: Counts, confidence: float) -> None:
    gained, lost, n = case
    low, high = tango_interval(gained, lost, n, confidence)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert low < high
    assert tango_interval(lost, gained, n, confidence) == pytest.approx((-high, -low), abs=1e-9)


@given(counts())
def test_tango_widens_with_confidence(case: Counts) -> None:
    narrow, wide = tango_interval(*case, 0.9), tango_interval(*case, 0.99)
    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


@given(counts(), st.floats(0.5, 0.999))
def test_tango_limits_solve_the_score_equation(case: Counts, confidence: float) -> None:
    gained, lost, n = case
    z = norm.ppf((1 + confidence) / 2)
    for limit in tango_interval(gained, lost, n, confidence):
        assume(abs(limit) < 1 - 1e-9)
        a, b, c = 2 * n, (2 * n - gained + lost) * limit - gained - lost, -lost * limit * (1 - limit)
        p = (math.sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)
        variance = n * (2 * p + limit * (1 - limit))
        assert (gained - lost - n * limit) ** 2 == pytest.approx(z * z * variance, rel=1e-5, abs=1e-6)


def test_tango_is_close_to_the_normal_interval_for_many_samples() -> None:
    gained, lost, n = 900, 1100, 100_000
    spread = norm.ppf(0.975) * math.sqrt(gained + lost) / n
    assert tango_interval(gained, lost, n) == pytest.approx((-0.002 - spread, -0.002 + spread), rel=0.01)


@pytest.mark.parametrize("shares", [(0.02, 0.02), (0.05, 0.01), (0.2, 0.3)])
def test_tango_covers_the_truth_as_often_as_it_says(shares: tuple[float, float]) -> None:
    n, runs = 60, 1500
    flips = np.random.default_rng(5).multinomial(n, (*shares, 1 - sum(shares)), runs)
    limits = {case: tango_interval(*case, n) for case in {(int(b), int(c)) for b, c, _ in flips}}
    truth = shares[0] - shares[1]
    covered = [limits[int(b), int(c)][0] <= truth <= limits[int(b), int(c)][1] for b, c, _ in flips]
    assert 0.93 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("case", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(case: Counts) -> None:
    with pytest.raises(DataError, match="impossible"):
        tango_interval(*case)
    with pytest.raises(DataError, match="confidence"):
        tango_interval(1, 1, 5, 1.0)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 9), (9, 3), (5, 5), (40, 71), (500, 600)])
def test_mcnemar_is_the_binomial_test_of_the_flips(gained: int, lost: int) -> None:
    wanted = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(wanted, rel=1e-9)


def test_mcnemar_of_a_textbook() -> None:
    # Of 14 flips 12 went one way: 2 * (1 + 14 + 91) / 2**14.
    assert mcnemar(2, 12) == pytest.approx(212 / 16384)


@given(counts(), st.floats(0.5, 3.5))
def test_a_correction_for_continuity_only_widens(case: Counts, z: float) -> None:
    plain, corrected = score_limits(*case, z), score_limits(*case, z, EDWARDS)
    assert -1 <= corrected[0] <= plain[0] + 1e-9
    assert plain[1] - 1e-9 <= corrected[1] <= 1
    mirrored = score_limits(case[1], case[0], case[2], z, EDWARDS)
    assert mirrored == pytest.approx((-corrected[1], -corrected[0]), abs=1e-9)


def test_counts_that_stand_for_fewer_samples_need_not_be_whole() -> None:
    whole, half = score_limits(4, 9, 300, 1.96), score_limits(2, 4.5, 150, 1.96)
    assert half[0] < whole[0] < whole[1] < half[1]


@pytest.mark.parametrize("n", [1, 7])
def test_all_flipped(n: int) -> None:
    assert tango_interval(n, 0, n)[1] == 1
    assert tango_interval(0, n, n)[0] == -1
    assert tango_interval(0, n, n)[1] < 1
