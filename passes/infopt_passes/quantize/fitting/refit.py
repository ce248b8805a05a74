"""Refits a layer to what it really reads in the quantized model, so that it makes up for the layers before it.

Layer-wise reconstruction as in Hubara et al. 2021, "Accurate Post Training Quantization With Small Calibration Sets"
(AdaQuant), solved in closed form by ridge regression towards the layer's own weight, and rounded by
:mod:`infopt_passes.quantize.fitting.rounding`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from infopt_passes.fitting.hessian import damping_for
from infopt_passes.fitting.layout import Layout
from infopt_passes.fitting.masked import STEPS, stepped
from infopt_passes.fitting.moments import Moments
from infopt_passes.quantize.fit import Fit
from infopt_passes.quantize.fitting.bias import bias_shift
from infopt_passes.quantize.fitting.rounding import Grid, least_squares

Array = npt.NDArray[Any]

RIDGES = (1.0, 10.0, 100.0, 1000.0)
"""How much stronger than the damping of moments the pull towards the layer's own weight is tried to be."""


def refit(
    weight: Array, current: Fit, layout: Layout, seen: Moments, grid: Callable[[Array], tuple[Array, Grid]], free: bool
) -> Fit:
    """Fit a layer to its input in the quantized model.

    Args:
        weight: The float weight, as it is in the graph.
        current: What the layer has now, with scales and integers.
        layout: How it is a product.
        seen: Moments of its input, with cross moments.
        grid: Makes scales of a weight in the graph's shape, and what it is rounded to.
        free: Whether its bias can take a shift of its outputs.

    Returns:
        A fit with scales and integers, at least as near to the float layer's outputs in the runs that were held back
        (in all, where none were); channel by channel where each has a scale. Weights that are 0 stay 0.
    """
    assert current.scales is not None
    assert current.integers is not None
    matrix = layout.matrix(weight).astype(np.float64)
    second, cross = _targets(seen, free)
    apart = seen.held if seen.held is not None and seen.held.rows else seen

    def distance(rounded: Array) -> Array:
        return _distance(rounded, matrix, *_targets(apart, free))

    tried = _candidates(matrix, second, cross, damping_for(layout.columns, seen.rows))
    wanted = min([matrix, *tried], key=lambda each: float(distance(each).sum()))
    scales, steps = grid(layout.weight(wanted).astype(np.float32))
    integers = least_squares(wanted, second, steps, damping_for(layout.columns, seen.rows)).integers
    old = layout.matrix(current.integers) * layout.per_row(current.scales)
    new = integers * layout.per_row(scales)
    better = _nearer(distance(new), distance(old), layout)
    if not (scales.ndim and current.scales.ndim):
        better[:] = distance(new).sum() < distance(old).sum()
        scales = scales if better.all() else current.scales
    else:
        scales = np.where(better[0] if layout.shared else better.reshape(-1), scales, current.scales)
    taken = better[:, :, None]
    kept = layout.weight(np.where(taken, integers, layout.matrix(current.integers)).astype(current.integers.dtype))
    shift = current.shift
    if free:
        # Layers in front may have shifted the input by any amount.
        shift = bias_shift(matrix, np.where(taken, new, old), seen, absurd=None) * np.float32(layout.factor)
    return Fit(scales, kept, shift)


def _nearer(new: Array, old: Array, layout: Layout) -> Array:
    """Which outputs are nearer to the float layer's: those of all groups that share a scale together."""
    if layout.shared:
        return np.broadcast_to(new.sum(axis=0) < old.sum(axis=0), new.shape).copy()
    return new < old


def _targets(seen: Moments, free: bool) -> tuple[Array, Array]:
    """Second and cross moments, about the means where a bias takes care of these."""
    assert seen.cross is not None
    if not free:
        return seen.second, seen.cross
    return seen.spread, seen.cross - seen.mean[:, :, None] * seen.read[:, None, :]


def _candidates(weight: Array, second: Array, cross: Array, damping: float) -> list[Array]:
    """Weights for the rows as read, by strength of the pull towards the own one; zeros of that are theirs, too."""
    if weight.all():
        return [_solved(weight, second, cross, ridge * damping) for ridge in RIDGES]
    return [stepped(second, weight @ cross, weight, steps) for steps in STEPS]


def _solved(weight: Array, second: Array, cross: Array, damping: float) -> Array:
    """The weight whose product with the rows as read is nearest to that of the weight with the float rows."""
    size = second.shape[1]
    mean = np.einsum("gkk->g", second) / size
    ridge = damping * np.where(mean > 0, mean, 1.0)[:, None, None] * np.eye(size)
    solved: Array = np.linalg.solve(second + ridge, (weight @ (cross + ridge)).transpose(0, 2, 1))
    return solved.transpose(0, 2, 1)


def _distance(rounded: Array, weight: Array, second: Array, cross: Array) -> Array:
    """Mean square distance of each output to the float layer's, less what does not depend on the rounded weight."""
    exact = rounded.astype(np.float64)
    own: Array = np.einsum("gnk,gnk->gn", exact @ second - 2 * (weight @ cross), exact)
    return own
