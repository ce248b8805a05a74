"""Latency: several callables measured against each other in one process, and what the numbers allow to say.

A shared machine drifts: clocks change, neighbours come and go. Therefore the callables take turns within
rounds, so that the drift hits all of them alike, and the interval of a speedup resamples whole stretches of
rounds.
"""

from __future__ import annotations

import gc
import math
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from infopt.errors import InfoptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Seconds = npt.NDArray[np.float64]
"""Latencies in seconds: ``(rounds,)``, or ``(rounds, repeats)`` where a round calls several times."""

BLOCK_SECONDS = 1e-3
"""A turn lasts about this long, so that changing turns (caches, sleeping threads) weighs little."""

MAX_REPEATS = 32
WARMUP_SHARE = 0.15
"""Part of the time that goes to warming up, all callables together."""

MIN_ROUNDS_FOR_INTERVAL = 8
RESAMPLES = 1000


QUANTILES = 51
"""Points of :attr:`Times.distribution`: 0 % to 100 % in steps of 2 %."""


@dataclass(frozen=True, slots=True)
class Times:
    """Percentiles of the latency of single calls, in milliseconds.

    Attributes:
        p50: Median.
        p90: What nine calls of ten keep.
        p99: What 99 calls of a hundred keep.
        distribution: Quantiles from the fastest call to the slowest in steps of 2 %, 51 in all; none in old files.
    """

    p50: float
    p90: float
    p99: float
    distribution: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class FloatLatency:
    """The runtime's fastest float setting on this machine.

    Attributes:
        setting: Its name.
        accuracy: Its own value of the report's metric, if it was measured.
        ms: Its latency, if it was measured.
    """

    setting: str
    accuracy: float | None
    ms: Times | None


@dataclass(frozen=True, slots=True)
class CandidateLatency:
    """The artifact that ships.

    Attributes:
        setting: Name of the runtime setting that it ships with.
        ms: Its latency, if it was measured.
    """

    setting: str
    ms: Times | None


@dataclass(frozen=True, slots=True)
class Latency:
    """The report's ``latency``; whatever was not measured is ``None``, and ``reason`` says why.

    Attributes:
        batch: Samples per call.
        threads: Threads that the runtime used.
        baseline_float: The best float setting.
        candidate: The artifact.
        speedup: Median latency of the best float setting over that of the artifact; above 1 is faster.
        speedup_ci95: 95 % interval of the speedup.
        runs: Rounds that were measured.
        reason: Why something is missing.
    """

    batch: int | None = None
    threads: int | None = None
    baseline_float: FloatLatency | None = None
    candidate: CandidateLatency | None = None
    speedup: float | None = None
    speedup_ci95: tuple[float, float] | None = None
    runs: int | None = None
    reason: str | None = None


def interleave(
    runs: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 5.0,
    min_rounds: int = 10,
    max_rounds: int = 1000,
    seed: int = 0,
) -> dict[str, Seconds]:
    """Measure callables in turns.

    After a warm-up every round gives each callable one turn, in an order shuffled per round. A turn is one
    call, or up to 32 for calls well below a millisecond; each call is timed by itself, so percentiles stay
    those of single calls.

    Args:
        runs: What to call, by name.
        seconds: Time to spend, warm-up included; ``min_rounds`` are made even if it is too short for them.
        min_rounds: Fewest rounds.
        max_rounds: Most rounds.
        seed: Seed of the order.

    Returns:
        Per name the seconds of every call, shape ``(rounds, repeats)``; row ``i`` is round ``i``.
    """
    rows: dict[str, list[list[float]]] = {name: [] for name in runs}
    names, order = list(runs), np.random.default_rng(seed)
    with _no_gc():  # its collection before may take a second in a large process, which is no measuring
        deadline = time.perf_counter() + seconds
        share = seconds * WARMUP_SHARE / max(len(runs), 1)
        repeats = {name: _repeats(_warm_up(run, share)) for name, run in runs.items()}
        for done in range(max_rounds):
            if done >= min_rounds and time.perf_counter() > deadline:
                break
            for index in order.permutation(len(names)):
                name = names[index]
                rows[name].append([_timed(runs[name]) for _ in range(repeats[name])])
    return {name: np.asarray(times) for name, times in rows.items()}


def alternate(
    openers: Mapping[str, Callable[[], AbstractContextManager[Callable[[], object]]]],
    *,
    seconds: float = 5.0,
    rounds: int = 10,
    seed: int = 0,
) -> dict[str, Seconds]:
    """Measure callables of different runtimes in turns, of which only one is open at a time.

    Threads of one runtime that wait for its next call keep a core busy (ONNX Runtime's spin), and would slow the
    other if both were open. Therefore a turn opens, warms up, measures for its share of the time, and closes.

    Args:
        openers: By name, a context manager that gives what to call.
        seconds: Time to spend in calls, warm-up included, opening not.
        rounds: Turns of each.
        seed: Seed of the order.

    Returns:
        As :func:`interleave`; a row holds as many calls as the shortest turn of that name had.
    """
    share = seconds / (rounds * max(len(openers), 1))
    rows: dict[str, list[list[float]]] = {name: [] for name in openers}
    names, order = list(openers), np.random.default_rng(seed)
    for _ in range(rounds):
        for index in order.permutation(len(names)):
            with openers[names[index]]() as run, _no_gc():
                _warm_up(run, share * WARMUP_SHARE)
                rows[names[index]].append(_turn(run, share * (1 - WARMUP_SHARE)))
    shortest = {name: min(map(len, turns)) for name, turns in rows.items()}
    return {name: np.asarray([turn[: shortest[name]] for turn in turns]) for name, turns in rows.items()}


def times(samples: Seconds) -> Times:
    """Percentiles of measured calls.

    Args:
        samples: Seconds, any shape, at least one.
    """
    p50, p90, p99 = np.percentile(samples, (50, 90, 99)) * 1e3
    spread = np.percentile(samples, np.linspace(0, 100, QUANTILES)) * 1e3
    # The clock counts nanoseconds: further digits are noise of the interpolation.
    return Times(float(p50), float(p90), float(p99), tuple(round(float(each), 6) for each in spread))


def speedup(base: Seconds, cand: Seconds, seed: int = 0) -> tuple[float, tuple[float, float] | None]:
    """How many times faster ``cand`` is at the median, with its 95 % interval.

    The interval is a paired bootstrap over rounds in circular blocks (Politis and Romano, 1992), which keeps
    what neighbouring rounds have in common; the block length is that of Politis and White (2004), as
    corrected by Patton, Politis and White (2009).

    Args:
        base: Seconds of the baseline; the first axis is the rounds.
        cand: Seconds of the candidate in the same rounds.
        seed: Seed of the resampling.

    Returns:
        Median of ``base`` over median of ``cand``, and its interval; no interval below 8 rounds.

    Raises:
        InfoptError: The two were not measured in the same rounds.
    """
    if len(base) != len(cand) or not len(base):
        raise InfoptError(f"latencies are not paired: {len(base)} and {len(cand)} rounds")
    rounds = len(base)
    ratio = _ratio(base, cand)
    if rounds < MIN_ROUNDS_FOR_INTERVAL:
        return ratio, None
    # To first order the ratio of medians moves with (base above its median) - (cand above its median).
    influence = _above_median(base) - _above_median(cand)
    picks = _block_indices(rounds, block_length(influence), seed)
    low, high = np.percentile([_ratio(base[pick], cand[pick]) for pick in picks], (2.5, 97.5))
    return ratio, (float(low), float(high))


def block_length(series: npt.NDArray[np.float64]) -> int:
    """Block length for a circular block bootstrap of a stationary series.

    Section 3.2 of Politis and White, "Automatic block-length selection for the dependent bootstrap" (2004),
    with the constants of the 2009 correction: autocovariances under a flat-top window that ends where they
    vanish in noise.

    Args:
        series: Shape ``(n,)``, n >= 2.

    Returns:
        Rounds per block, 1 to about ``min(3 * sqrt(n), n / 3)``.
    """
    n = len(series)
    centered = series - series.mean()
    lags = min(n - 1, math.ceil(math.sqrt(n)) + 5)
    covariance = np.array([centered[: n - lag] @ centered[lag:] for lag in range(lags + 1)]) / n
    if covariance[0] <= 0:
        return 1
    window = 2 * max(1, _last_lag(covariance / covariance[0], n))
    weight = np.clip(2 * (1 - np.arange(lags + 1) / window), 0, 1)
    bias = 2 * float(np.arange(lags + 1) * weight @ covariance)
    spectrum = float(covariance[0] + 2 * weight[1:] @ covariance[1:])
    longest = math.ceil(min(3 * math.sqrt(n), n / 3))
    if spectrum <= 0:
        return longest
    return int(np.clip(round((1.5 * (bias / spectrum) ** 2 * n) ** (1 / 3)), 1, longest))


def _last_lag(correlation: npt.NDArray[np.float64], n: int) -> int:
    """Last lag before the correlations stay within noise for a while."""
    quiet = max(5, math.ceil(math.sqrt(math.log10(n))))
    small = np.abs(correlation[1:]) < 2 * math.sqrt(math.log10(n) / n)
    for lag in range(len(small)):
        if small[lag : lag + quiet].all():
            return lag
    return len(small)


def _block_indices(rounds: int, length: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    rng, offsets = np.random.default_rng(seed), np.arange(length)
    for _ in range(RESAMPLES):
        starts = rng.integers(0, rounds, size=math.ceil(rounds / length))
        yield ((starts[:, None] + offsets) % rounds).ravel()[:rounds]


def _above_median(samples: Seconds) -> npt.NDArray[np.float64]:
    above = (samples > np.median(samples)).astype(np.float64).reshape(len(samples), -1)
    return np.asarray(above.mean(axis=1))


def _ratio(base: Seconds, cand: Seconds) -> float:
    shortest = 1e-9  # the clock counts nanoseconds and may read zero
    return float(max(np.median(base), shortest) / max(np.median(cand), shortest))


def _warm_up(run: Callable[[], object], seconds: float) -> float:
    """Call until the time is up, at least twice; returns the fastest call after the first half."""
    seen: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(seen) < 2 or time.perf_counter() < deadline:
        seen.append(_timed(run))
    return min(seen[len(seen) // 2 :])


def _turn(run: Callable[[], object], seconds: float) -> list[float]:
    deadline = time.perf_counter() + seconds
    seen = [_timed(run)]
    while time.perf_counter() < deadline:
        seen.append(_timed(run))
    return seen


def _repeats(seconds: float) -> int:
    return min(MAX_REPEATS, max(1, math.ceil(BLOCK_SECONDS / max(seconds, 1e-9))))


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    result = run()  # kept until the clock has been read: freeing it is not part of the call
    seconds = (time.perf_counter_ns() - start) * 1e-9
    del result
    return seconds


@contextmanager
def _no_gc() -> Iterator[None]:
    """Keep the garbage collector out of the measurement."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
