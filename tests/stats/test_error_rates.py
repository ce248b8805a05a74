"""A small part of the grid of :mod:`benchmarks.error_rates`, and that it speaks of the gate that decides."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.error_rates import CONFIDENCE, GROUPED, continuous, enumerated, fails, grouped, mixed, normal, passes
from hypothesis import given
from hypothesis import strategies as st

from infopt.accuracy import Accuracy, Flips
from infopt.stats.margin import drop_limits
from infopt.stats.proportions import tango_interval


@pytest.mark.parametrize("n", [200, 500, 1500])
@pytest.mark.parametrize("rate", [0.0, 0.002, 0.01, 0.05, 0.1])
@pytest.mark.parametrize("gained", [0.0, 0.1, 0.4])
def test_no_budget_is_missed_or_met_wrongly_more_often_than_it_says(n: int, rate: float, gained: float) -> None:
    found = enumerated(n, rate * gained, rate * (1 - gained))
    assert found.coverage >= 0.93
    assert found.wrong_fail <= 0.05
    assert found.wrong_pass <= 0.05


@given(st.integers(1, 2000), st.data(), st.sampled_from([0.0, 0.003, 0.01, 0.05]))
def test_the_enumerated_gate_is_the_one_that_decides(n: int, data: st.DataObject, budget: float) -> None:
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    delta, interval = (gained - lost) / n, tango_interval(gained, lost, n)
    flips = Flips(gained, lost)
    accuracy = Accuracy("top1", True, 0.9, 0.9 + delta, delta, -delta, interval, None, n, flips, "deployed")
    limits = drop_limits(accuracy, CONFIDENCE)
    assert limits is not None
    counts = np.array([gained]), np.array([lost])
    if min(abs(limits[0] - budget), abs(limits[1] - budget)) > 1e-9:
        assert (limits[1] <= budget) == passes(*counts, n, budget)[0]
        assert (limits[0] > budget) == fails(*counts, n, budget)[0]


@pytest.mark.parametrize("kind", [normal, mixed])
def test_the_bootstrap_covers_what_varies(kind: object) -> None:
    found = continuous(kind, 200, 150)  # type: ignore[arg-type]
    assert found.coverage >= 0.93 - found.error(0.93)
    assert max(found.wrong_fail, found.wrong_pass) <= 0.05 + found.error(0.05)


@pytest.mark.parametrize("case", [GROUPED[1], GROUPED[23], GROUPED[34]], ids=str)
def test_groups_are_covered(case: object) -> None:
    found = grouped(case, 150)  # type: ignore[arg-type]
    assert found.coverage >= 0.93 - found.error(0.93)
    assert max(found.wrong_fail, found.wrong_pass) <= 0.05 + found.error(0.05)
