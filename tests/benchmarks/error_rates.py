"""How often the intervals cover the truth and how often the gate errs, over a grid of sizes and flip rates.

Right-or-wrong metrics are enumerated: the probabilities are exact, with the score test written once more and solved
for nothing. Continuous metrics and groups are simulated, with the standard error that follows from the number of runs.
The errors of the gate are taken at their worst, where the true drop is exactly the budget.

    PYTHONPATH=tests python -m benchmarks.error_rates [tango] [cluster-tango] [bca] [cluster-bca]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import binom, norm

from infopt.stats.bca import bca
from infopt.stats.clusters import clustered, clustered_proportions
from infopt.stats.limits import Interval, one_sided

SIZES = (200, 500, 1000, 2000, 5000, 10_000)
FLIP_RATES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
GAINED_SHARES = (0.0, 0.1, 0.25, 0.4, 0.5)
BUDGET = 0.005
KINDS = ("tango", "cluster-tango", "bca", "cluster-bca")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rates:
    """What was found in one place of the grid.

    Attributes:
        coverage: Of the 95 % interval.
        wrong_fail: P(fail) where the true drop is the budget.
        wrong_pass: P(pass) there.
        undecided: P(undecided) with a budget of 0.005 and this truth.
        runs: Simulated runs; 0 for exact probabilities.
    """

    coverage: float
    wrong_fail: float
    wrong_pass: float
    undecided: float
    runs: int = 0

    def error(self, probability: float) -> float:
        """Two standard errors of a simulated probability."""
        return 2 * math.sqrt(probability * (1 - probability) / self.runs) if self.runs else 0.0


def score(gained: np.ndarray, lost: np.ndarray, n: int, delta: float, correction: float) -> np.ndarray:
    """Score statistics of a true difference; the correction takes its size towards 0 and past it."""
    half = (2 * n - gained + lost) * delta - gained - lost
    only_lost = (np.sqrt(np.maximum(half**2 + 8 * n * lost * delta * (1 - delta), 0)) - half) / (4 * n)
    spread = np.sqrt(np.maximum(n * (2 * only_lost + delta * (1 - delta)), 1e-300))
    return (gained - lost - n * delta - correction) / spread


def passes(gained: np.ndarray, lost: np.ndarray, n: int, budget: float) -> np.ndarray:
    """Whether the gate passes: a drop of the budget is rejected in favour of a smaller one."""
    return score(gained, lost, n, -budget, 1.0) >= norm.ppf(CONFIDENCE)


def fails(gained: np.ndarray, lost: np.ndarray, n: int, budget: float) -> np.ndarray:
    """Whether the gate fails: a drop of the budget is rejected in favour of a larger one."""
    return score(gained, lost, n, -budget, -1.0) < -norm.ppf(CONFIDENCE)


def enumerated(n: int, gained: float, lost: float) -> Rates:
    """Exact rates for probabilities of a sample to be gained and lost."""
    flips = np.arange(n + 1)
    weights = binom.pmf(flips, n, gained + lost)
    total, drop = np.zeros(4), lost - gained
    for count in flips[weights > 1e-10]:
        up = np.arange(count + 1)
        weight = weights[count] * binom.pmf(up, count, gained / (gained + lost) if count else 0.0)
        down = count - up
        covered = np.abs(score(up, down, n, -drop, 0.0)) <= norm.ppf(0.975) + 1e-12
        decided = passes(up, down, n, BUDGET) | fails(up, down, n, BUDGET)
        found = (covered, fails(up, down, n, drop), passes(up, down, n, drop), ~decided)
        total += [float(weight[mask].sum()) for mask in found]
    return Rates(*total)


def simulated(draw: Callable[[np.random.Generator], Interval], truth: float, center: float, runs: int) -> Rates:
    """Rates over simulated data; ``center`` is not needed where limits are stored."""
    rng, counts = np.random.default_rng(20), np.zeros(4)
    for _ in range(runs):
        found = draw(rng)
        assert found.ci95 is not None
        low, high = one_sided(found.ci95, center, CONFIDENCE, found.limits)
        decided = -low <= BUDGET or -high > BUDGET
        counts += [found.ci95[0] <= truth <= found.ci95[1], high < truth, low > truth, not decided]
    return Rates(*(counts / runs), runs)


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Small differences everywhere, as of a regression's error."""
    return rng.normal(-0.004, 0.03, n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mostly small losses with a long tail."""
    return -rng.exponential(0.02, n)


def mixed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Noise, and one sample in ten that changes for good: half of them for the worse."""
    kind = rng.random(n)
    large = rng.random(n)
    return np.where(kind < 0.05, -large, np.where(kind < 0.1, large, rng.normal(0, 0.002, n)))


def rare(rng: np.random.Generator, n: int) -> np.ndarray:
    """Noise, and one sample in a hundred that is lost: what small sets may not show at all."""
    return np.where(rng.random(n) < 0.01, -rng.random(n), rng.normal(0, 0.002, n))


CONTINUOUS = {normal: (-0.004, 0.5), skewed: (-0.02, 0.5), mixed: (0.0, 1.0), rare: (-0.005, 1.0)}
"""Differences of samples; their true mean, and how far the metric's values reach."""


def continuous(kind: Callable[[np.random.Generator, int], np.ndarray], n: int, runs: int) -> Rates:
    """Rates of the bootstrap of a continuous metric."""
    truth, reach = CONTINUOUS[kind]
    return simulated(lambda rng: bca(clustered(kind(rng, n), None), 0, reach), truth, 0.0, runs)


@dataclass(frozen=True)
class Grouped:
    """Groups of samples.

    Attributes:
        groups: How many.
        sizes: Smallest and largest size.
        gained: Probability of a sample to be gained.
        lost: To be lost.
        alike: Share of the groups whose samples all do the same.
    """

    groups: int
    sizes: tuple[int, int]
    gained: float
    lost: float
    alike: float

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Changes and groups."""
        groups = np.repeat(np.arange(self.groups), rng.integers(*self.sizes, self.groups, endpoint=True))
        together = (rng.random(self.groups) < self.alike)[groups]
        where = np.where(together, rng.random(self.groups)[groups], rng.random(len(groups)))
        return np.where(where < self.lost, -1.0, np.where(where < self.lost + self.gained, 1.0, 0.0)), groups


GROUPED = tuple(
    Grouped(groups, sizes, gained, lost, alike)
    for groups, sizes in ((20, (10, 10)), (50, (1, 12)), (200, (5, 5)), (1000, (1, 10)))
    for gained, lost in ((0.0, 0.005), (0.01, 0.01), (0.02, 0.03), (0.02, 0.08))
    for alike in (0.0, 0.3, 1.0)
)


def grouped(case: Grouped, runs: int) -> Rates:
    """Rates of a right-or-wrong metric on groups."""
    return simulated(lambda rng: clustered_proportions(*case.draw(rng)), case.gained - case.lost, 0.0, runs)


def grouped_means(groups: int, runs: int) -> Rates:
    """Rates of the bootstrap of a continuous metric on groups of 1 to 9 that share half of their variance."""

    def draw(rng: np.random.Generator) -> Interval:
        which = np.repeat(np.arange(groups), rng.integers(1, 10, groups))
        return bca(clustered(rng.normal(0, 0.02, groups)[which] + rng.normal(0, 0.02, len(which)), which), 0, 0.5)

    return simulated(draw, 0.0, 0.0, runs)


def rows(kind: str) -> Iterator[tuple[str, Rates]]:
    """One part of the table, line by line."""
    if kind == "tango":
        for n, rate in product(SIZES, FLIP_RATES):
            for share in GAINED_SHARES if rate else (0.5,):
                found = enumerated(n, rate * share, rate * (1 - share))
                yield f"n {n:5}, flips {rate:5.1%}, of them gained {share:3.0%}", found
    if kind == "cluster-tango":
        for case in GROUPED:
            name = f"{case.groups:4} groups of {case.sizes[0]}-{case.sizes[1]}, {case.alike:4.0%} flip whole"
            yield f"{name}, gained {case.gained:4.1%}, lost {case.lost:4.1%}", grouped(case, 600)
    if kind == "bca":
        for (n, runs), each in product(((200, 400), (1000, 200), (10_000, 200)), CONTINUOUS):
            yield f"n {n:5}, {each.__name__}", continuous(each, n, runs)
    if kind == "cluster-bca":
        for groups, runs in ((10, 400), (20, 400), (50, 400), (200, 400), (1000, 400)):
            yield f"{groups:4} groups of 1-9 that share half of the variance", grouped_means(groups, runs)


def main(kinds: list[str]) -> None:
    """Print the table, or some parts of it, with the worst of each."""
    print(
        "The gate's errors at a confidence of 95 % where the true drop is the budget; undecided at a budget of 0.5 %."
    )
    for kind in kinds or KINDS:
        worst = [1.0, 0.0, 0.0]
        for name, found in rows(kind):
            noise = f"  (+-{found.error(found.coverage):.3f}, {found.runs} runs)" if found.runs else ""
            errors = f"fails wrongly {found.wrong_fail:.3f}  passes wrongly {found.wrong_pass:.3f}"
            print(f"{kind:14}{name:64} coverage {found.coverage:.3f}  {errors}  undecided {found.undecided:.3f}{noise}")
            sys.stdout.flush()
            worst[0] = min(worst[0], found.coverage)
            worst[1:] = max(worst[1], found.wrong_fail), max(worst[2], found.wrong_pass)
        print(f"worst of {kind}: coverage {worst[0]:.3f}, fails wrongly {worst[1]:.3f}, passes wrongly {worst[2]:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
