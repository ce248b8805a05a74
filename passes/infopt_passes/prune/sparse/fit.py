"""The best sparse weight of one layer by the runs that were held back, among those that several solves give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from infopt.sparsity import OF, ZEROS
from infopt_passes.fitting.hessian import damping_for
from infopt_passes.fitting.masked import STEPS, TINY, stepped
from infopt_passes.prune.readings.sums import Seen, divided, joined
from infopt_passes.prune.sparse.solve import Eliminated, semi, smallest, solved, unstructured

Array = npt.NDArray[Any]

Distance = Callable[[Array], float]
"""Of a weight's outputs to the float layer's, up to a constant."""

RIDGES = (1e-3, 1e-2, 1e-1)
"""Pulls towards a layer's own weight that are tried, as parts of the mean square of its columns."""

MOST_WORK = 1e8
"""Multiplications that solving exactly may take for a layer; steps towards the solution must do beyond."""

Solve = Callable[[Array, Array], Array]
"""A weight of second moments and aim."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """A layer's sparse weight.

    Attributes:
        weight: float64 of shape (groups, outputs, columns).
        error: Mean square error of its outputs on the runs held back, beyond what a dense weight in the same place
            leaves, as a part of what that explains.
        plain: The same of zeroing the weights of least magnitude, and nothing else.
        damped: Damping, where more than usual was needed.
        finite: Whether any solve was; else the weight is that of ``plain``.
    """

    weight: Array
    error: float
    plain: float
    damped: float | None
    finite: bool


def fitted(weight: Array, seen: Seen, count: int | None, free: bool) -> Sparse:
    """Make a layer sparse.

    Args:
        weight: Of shape (groups, outputs, columns), for 2:4 with neighbours side by side.
        seen: Moments of its input, with cross moments, columns in the same order.
        count: Weights to zero; ``None`` for 2:4.
        free: Whether a bias takes care of the means.
    """
    exact = weight.astype(np.float64)
    apart = seen.held if seen.held is not None and seen.held.rows else seen
    plain = magnitude(exact, count)
    if not seen.sound() or not apart.sound():
        return Sparse(plain, float("nan"), float("nan"), None, False)
    held, aim = apart.square(free), apart.aim(exact, free)

    def distance(tried: Array) -> float:
        return float(np.einsum("gnk,gnk->", tried @ held - 2 * aim, tried))

    usual = damping_for(exact.shape[2], seen.rows)
    second, wanted = seen.square(free), seen.aim(exact, free)
    dense = exact
    for ridge in RIDGES:
        dense = min(dense, _dense(exact, wanted, second, ridge), key=distance)
    found = _eliminated(exact, dense, second, count, usual)
    sound = [each.weight for each in found if np.isfinite(each.weight).all()]
    start = min([*sound, plain], key=distance)
    best, final = _solved(start, exact, (second, wanted), distance)
    reached = distance(dense)
    power = max(-reached, TINY)

    def error(tried: Array) -> float:
        return max(0.0, distance(tried) - reached) / power

    damped = max((each.damping for each in found), default=usual)
    result = best
    if final is not None and seen.held is not None and seen.held.rows:
        every = joined(seen, seen.held)  # what was held back has chosen; now it counts like the rest
        result = final(every.square(free), every.aim(exact, free))
        result = result if np.isfinite(result).all() else best
    return Sparse(result, error(best), error(plain), damped if damped > usual else None, bool(sound))


def magnitude(weight: Array, count: int | None) -> Array:
    """The weight without its smallest: so many of all, or two of every four neighbours."""
    if count is not None:
        return np.where(smallest(np.abs(weight), count), 0.0, weight)
    fours = weight.reshape(*weight.shape[:2], -1, OF)
    ranks = np.argsort(np.argsort(np.abs(fours), axis=3, kind="stable"), axis=3)
    return np.where(ranks < ZEROS, 0.0, fours).reshape(weight.shape)


def _eliminated(exact: Array, dense: Array, second: Array, count: int | None, damping: float) -> list[Eliminated]:
    """Sparse weights of the own and of the dense one that makes up for layers before."""

    def eliminate(dense: Array) -> Eliminated:
        return semi(dense, second, damping) if count is None else unstructured(dense, second, count, damping)

    return [eliminate(start) for start in ([exact] if dense is exact else [exact, dense])]


def _solved(start: Array, exact: Array, moments: tuple[Array, Array], distance: Distance) -> tuple[Array, Solve | None]:
    """The best weight with the zeros of a start, and what found it; nothing where that is the start itself."""
    kept = start != 0
    ways: list[Solve]
    if float(np.sum(kept.sum(axis=2, dtype=np.float64) ** 3)) / 3 <= MOST_WORK:
        ways = [partial(_exactly, kept=kept, own=exact, ridge=ridge) for ridge in RIDGES]
    else:
        ways = [partial(stepped, start=start, steps=steps) for steps in STEPS]
    best, found = start, None
    for way in ways:
        tried = way(*moments)
        if np.isfinite(tried).all() and distance(tried) < distance(best):
            best, found = tried, way
    return best, found


def _exactly(second: Array, wanted: Array, kept: Array, own: Array, ridge: float) -> Array:
    return solved(wanted, kept, second, ridge, own)


def _dense(exact: Array, wanted: Array, second: Array, ridge: float) -> Array:
    """The dense weight whose outputs on the rows as read are nearest to the float ones."""
    found = np.full(exact.shape, np.nan)
    for group, square in enumerate(second):
        damped = square.astype(np.float64)
        pull = ridge * max(float(np.trace(damped)) / len(damped), TINY)
        damped[np.diag_indices(len(damped))] += pull
        found[group] = divided(damped, wanted[group] + pull * exact[group])
    return found
