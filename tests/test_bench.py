from __future__ import annotations

import gc
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.bench import QUANTILES, block_length, interleave, speedup, times
from infopt.errors import InfoptError


def autocorrelated(rng: np.random.Generator, rounds: int, rho: float) -> np.ndarray:
    noise = rng.normal(size=rounds)
    series = np.empty(rounds)
    series[0] = noise[0]
    for i in range(1, rounds):
        series[i] = rho * series[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    return series


def test_percentiles_are_milliseconds_of_single_calls() -> None:
    samples = np.arange(1, 101).reshape(20, 5) / 1000
    assert times(samples).p50 == pytest.approx(50.5)
    assert times(samples).p90 == pytest.approx(90.1)
    assert times(samples).p99 == pytest.approx(99.01)


def test_the_distribution_goes_from_the_fastest_call_to_the_slowest_in_steps_of_two_percent() -> None:
    found = times(np.arange(101) / 1000).distribution
    assert found == tuple(float(2 * step) for step in range(51))


def test_the_distribution_agrees_with_the_percentiles_and_never_falls() -> None:
    found = times(np.random.default_rng(0).gamma(4, 1e-4, (50, 3)))
    assert len(found.distribution) == QUANTILES
    assert found.distribution[25] == pytest.approx(found.p50, abs=1e-6)
    assert found.distribution[45] == pytest.approx(found.p90, abs=1e-6)
    assert list(found.distribution) == sorted(found.distribution)


def test_speedup_is_the_ratio_of_the_medians() -> None:
    base, cand = np.full(20, 3e-3), np.full(20, 2e-3)
    assert speedup(base, cand) == (pytest.approx(1.5), (pytest.approx(1.5), pytest.approx(1.5)))


def test_speedup_agrees_with_the_percentiles_when_a_round_calls_several_times() -> None:
    rng = np.random.default_rng(0)
    base, cand = rng.gamma(4, 1e-4, (50, 3)), rng.gamma(4, 5e-5, (50, 7))
    assert speedup(base, cand)[0] == pytest.approx(times(base).p50 / times(cand).p50)


def test_interval_covers_the_truth_under_drift_and_autocorrelated_noise() -> None:
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drift = 0.3 * autocorrelated(rng, 200, 0.98)
        base = 3.0 * np.exp(drift + 0.1 * autocorrelated(rng, 200, 0.8))
        cand = 2.0 * np.exp(drift + 0.1 * autocorrelated(rng, 200, 0.8))
        _, interval = speedup(base, cand, seed)
        assert interval is not None
        covered += interval[0] <= 1.5 <= interval[1]
    assert covered >= 51  # 95 % of 60 is 57; below 51 the noise has been taken for independent


def test_interval_is_narrow_when_noise_hits_both_alike() -> None:
    drift = np.exp(0.5 * autocorrelated(np.random.default_rng(1), 200, 0.98))
    _, interval = speedup(3 * drift, 2 * drift)
    assert interval == (pytest.approx(1.5), pytest.approx(1.5))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 10))
def test_interval_is_ordered_and_scales_with_the_ratio(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    base, cand = rng.gamma(9, 1e-3, 31), rng.gamma(9, 1e-3, 31)
    ratio, interval = speedup(base, cand)
    scaled, wider = speedup(base * factor, cand)
    assert interval is not None
    assert wider is not None
    assert interval[0] <= interval[1]
    assert np.allclose([scaled, *wider], np.array([ratio, *interval]) * factor)


def test_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(2)
    base, cand = rng.gamma(9, 1e-3, 40), rng.gamma(9, 1e-3, 40)
    assert speedup(base, cand, 5) == speedup(base, cand, 5) != speedup(base, cand, 6)


def test_few_rounds_give_no_interval() -> None:
    assert speedup(np.full(7, 2.0), np.full(7, 1.0)) == (2.0, None)


def test_unpaired_rounds_are_refused() -> None:
    with pytest.raises(InfoptError, match="7 and 8 rounds"):
        speedup(np.ones(7), np.ones(8))
    with pytest.raises(InfoptError):
        speedup(np.ones(0), np.ones(0))


def test_unresolved_times_do_not_divide_by_zero() -> None:
    assert speedup(np.zeros(10), np.zeros(10))[0] == 1.0


def test_blocks_are_longer_the_longer_noise_lasts() -> None:
    rng = np.random.default_rng(3)
    white, slow = rng.normal(size=400), autocorrelated(rng, 400, 0.95)
    assert block_length(white) <= 4 < 10 < block_length(slow) <= 60
    assert block_length(np.zeros(50)) == 1


def test_rounds_pair_all_callables() -> None:
    matrix = np.ones((64, 64), np.float32)
    measured = interleave({"one": lambda: matrix @ matrix, "two": lambda: matrix + matrix}, seconds=0.2)
    assert len(measured["one"]) == len(measured["two"]) >= 10
    assert all((samples > 0).all() for samples in measured.values())


def test_more_work_takes_longer() -> None:
    matrix = np.ones((96, 96))
    measured = interleave(
        {"light": lambda: matrix @ matrix, "heavy": lambda: [matrix @ matrix for _ in range(8)]}, seconds=0.4
    )
    ratio, interval = speedup(measured["heavy"], measured["light"])
    assert ratio > 2
    assert interval is not None
    assert interval[0] > 1


def test_short_calls_repeat_within_a_round_and_stay_single_calls() -> None:
    row = np.zeros(8)
    measured = interleave({"short": lambda: row + row}, seconds=0.05, max_rounds=20)["short"]
    assert measured.shape[1] == 32
    assert np.median(measured) < 1e-3  # one call, not a block


def test_every_round_calls_each_once_in_changing_order() -> None:
    calls: list[str] = []
    work = np.ones(1_000_000)

    def call(name: str) -> None:
        np.sqrt(work)
        np.sqrt(work)
        calls.append(name)

    runs = {name: (lambda name=name: call(name)) for name in "abc"}
    measured = interleave(runs, seconds=0, min_rounds=12, max_rounds=12)
    repeats = {name: samples.shape[1] for name, samples in measured.items()}
    turns, at = [], len(calls) - 12 * sum(repeats.values())
    for _ in range(12):
        turn = calls[at : at + sum(repeats.values())]
        at += len(turn)
        assert {name: turn.count(name) for name in "abc"} == repeats
        turns.append("".join(dict.fromkeys(turn)))
    assert len(set(turns)) > 1


def test_time_bounds_the_rounds_and_the_least_rounds_are_always_made() -> None:
    work = np.ones(300_000)
    assert len(interleave({"a": lambda: np.sqrt(work)}, seconds=0, min_rounds=3)["a"]) == 3
    assert len(interleave({"a": lambda: np.sqrt(work)}, seconds=0.5, min_rounds=1, max_rounds=4)["a"]) == 4


def test_a_slow_collection_of_garbage_takes_nothing_from_the_time_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: time.sleep(0.3))
    assert len(interleave({"a": lambda: time.sleep(0.001)}, seconds=0.2, min_rounds=1, max_rounds=4)["a"]) == 4


def test_garbage_collector_rests_while_measuring_and_returns() -> None:
    seen: list[bool] = []
    interleave({"a": lambda: seen.append(gc.isenabled())}, seconds=0, min_rounds=2, max_rounds=2)
    assert not seen[-1]
    assert gc.isenabled()


def test_failure_of_a_callable_reaches_the_caller_and_the_collector_returns() -> None:
    calls: list[int] = []

    def fails_later() -> None:
        calls.append(1)
        if len(calls) > 10:
            raise InfoptError("the runtime went away")

    with pytest.raises(InfoptError, match="went away"):
        interleave({"a": fails_later}, seconds=0)
    assert gc.isenabled()
