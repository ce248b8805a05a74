"""The whole grid of error rates, printed; a small part of it is in the quick suite (tests/stats)."""

from __future__ import annotations

import time

import numpy as np
import pytest
from benchmarks.error_rates import CONTINUOUS, KINDS, rare, rows

from infopt.stats.bca import bca
from infopt.stats.clusters import clustered

RARE = f", {rare.__name__}"


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_and_the_gate_errs_as_seldom_as_it_says(kind: str) -> None:
    for name, found in rows(kind):
        print(kind, name, found)
        # No bootstrap covers what small sets do not show; the limits that decide do.
        assert found.coverage >= 0.93 - found.error(0.93) or name.endswith(RARE)
        assert found.wrong_fail <= 0.05 + found.error(0.05)
        assert found.wrong_pass <= 0.05 + found.error(0.05)


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_ten_thousand_resamples_of_ten_thousand_samples_take_two_seconds(kind: object) -> None:
    data = kind(np.random.default_rng(0), 10_000)  # type: ignore[operator]
    start = time.process_time()
    bca(clustered(data, None), 0)
    took = time.process_time() - start
    print(f"{took:.2f} s")
    assert took < 2
