"""One-sided limits, the drop against a budget, and the samples that would decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from infopt.accuracy import Accuracy, Flips
from infopt.stats.limits import CI95, Limit, one_sided
from infopt.stats.margin import drop_interval, drop_limits, more_samples
from infopt.stats.proportions import EDWARDS, score_limits, tango_interval


def paired(delta: float, ci95: tuple[float, float] | None, **more: Any) -> Accuracy:
    higher = more.pop("higher_is_better", True)
    reason = None if ci95 else "too slow"
    fields = {"n": 1000, "flips": None, "where": "deployed", "ci95_reason": reason, **more}
    return Accuracy("top1", higher, 0.9, 0.9 + delta, delta, -delta if higher else delta, ci95, **fields)


def counted(gained: int, lost: int, n: int, **more: Any) -> Accuracy:
    delta = (gained - lost) / n
    return paired(delta, tango_interval(gained, lost, n), n=n, flips=Flips(gained, lost), interval="tango", **more)


def test_a_normal_interval_is_scaled_as_a_normal() -> None:
    low, high = one_sided((-1.959964, 1.959964 * 2), 0.0, 0.95)
    assert (low, high) == pytest.approx((-1.644854, 1.644854 * 2), abs=1e-5)
    assert one_sided((-1.0, 2.0), 0.3, CI95) == (-1.0, 2.0)


def test_known_limits_are_used_as_they_are_and_bend_what_is_between() -> None:
    known = (Limit(0.95, -1.0, 1.0), Limit(0.99, -4.0, 3.0))
    assert one_sided((-2.0, 2.0), 0.0, 0.95, known) == (-1, 1)
    between = one_sided((-2.0, 2.0), 0.0, 0.985, known)
    assert -4 < between[0] < -2
    assert 2 < between[1] < 3
    beyond = one_sided((-2.0, 2.0), 0.0, 0.999, known)
    scale = norm.ppf(0.999) / norm.ppf(0.99)
    assert beyond == pytest.approx((-4 * scale, 3 * scale))


@given(st.floats(0.5, 0.9998), st.floats(0.0001, 0.4), st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_limits_widen_with_confidence(confidence: float, more: float, steps: list[float]) -> None:
    ends = np.cumsum(steps)
    known = (Limit(0.9, -ends[0], ends[0]), Limit(0.999, -ends[2], ends[2]))
    narrow = one_sided((-ends[1], ends[1]), 0.0, confidence, known)
    wide = one_sided((-ends[1], ends[1]), 0.0, min(confidence + more, 0.9999), known)
    assert wide[0] <= narrow[0] <= 1e-12
    assert -1e-12 <= narrow[1] <= wide[1]


@pytest.mark.parametrize("higher", [True, False])
def test_flips_are_counted_again_whatever_the_metrics_direction(higher: bool) -> None:
    sign = 1 if higher else -1
    accuracy = paired(
        sign * -0.02,
        tango_interval(5, 15, 500) if higher else tango_interval(15, 5, 500),
        n=500,
        flips=Flips(5, 15),
        higher_is_better=higher,
    )
    wanted = score_limits(15, 5, 500, norm.ppf(0.95), EDWARDS)
    assert drop_limits(accuracy, 0.95) == pytest.approx(wanted, abs=1e-12)
    assert drop_interval(accuracy) == pytest.approx(tango_interval(15, 5, 500), abs=1e-12)


@pytest.mark.parametrize("flips", [Flips(700, 700), Flips(-1, 2)])
def test_counts_of_a_damaged_report_are_left_alone(flips: Flips) -> None:
    found = drop_limits(paired(-0.1, (-0.2, 0.0), flips=flips, interval="tango"), 0.95)
    assert found == pytest.approx((0.1 - 0.1 * 0.83923, 0.1 + 0.1 * 0.83923), abs=1e-5)


def test_no_interval_no_limits() -> None:
    accuracy = paired(-0.1, None)
    assert drop_interval(accuracy) is drop_limits(accuracy, 0.95) is None
    assert more_samples(accuracy, 0.2, 0.95) is None
    assert drop_limits(paired(-0.1, (float("nan"), 0.1)), 0.95) is None


@pytest.mark.parametrize(
    ("gained", "lost", "n", "limit"), [(2, 3, 300, 0.01), (10, 40, 1000, 0.02), (0, 0, 200, 0.005)]
)
def test_so_many_more_samples_decide_four_times_of_five(gained: int, lost: int, n: int, limit: float) -> None:
    more = more_samples(counted(gained, lost, n), limit, 0.95)
    assert more is not None
    total = n + more
    rng, decided = np.random.default_rng(0), 0
    shares = [gained / n, lost / n]
    for up, down, _ in rng.multinomial(total, [*shares, 1 - sum(shares)], 300):
        low, high = score_limits(down, up, total, norm.ppf(0.95), EDWARDS)
        decided += high <= limit or low > limit
    assert decided / 300 >= 0.73
    # Without flips there is no chance: all of it is needed for the samples that might have flipped.
    assert gained + lost == 0 or decided / 300 <= 0.92


def test_a_wide_interval_asks_for_the_square_of_its_width() -> None:
    narrow, wide = (paired(0.0, (-width, width), interval="bca") for width in (0.01, 0.02))
    few, many = (more_samples(accuracy, 0.005, 0.95) for accuracy in (narrow, wide))
    assert few is not None
    assert many is not None
    assert (many + 1000) / (few + 1000) == pytest.approx(4, rel=0.06)
    # 0.01 / 1.96 * (1.645 + 0.842) = 0.0127 shrinks to 0.005 with 6.44 times the samples.
    assert few == 5500


def test_a_drop_at_the_limit_is_never_decided() -> None:
    assert more_samples(paired(-0.25, (-0.5, 0.0)), 0.25, 0.95) is None
    assert more_samples(paired(-0.25, (-0.5, 0.0)), 0.2500001, 0.95) is None
