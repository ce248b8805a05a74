"""Least squares for recurrent layers: R and W are refitted so that gates add up to what they did in the float model.

Both are products of what is known at each step, the states of the step before and the features, and each has a part of
the bias of its own. R is fitted to the float model's own states, where those that are left stand in for those that are
gone: fitted to the states that the layer makes without them, it would make up for errors with larger ones. W is fitted
to what the layer really reads. As other weights make other states, the models run once more after each, and what did
not bring the states nearer to the float model's is taken back by halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import is_constant
from infopt.passes import Context
from infopt_passes.fitting.gather import Reading, moments
from infopt_passes.fitting.moments import Moments
from infopt_passes.prune.cutting.surgery import masks_of, zeroed
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.readings.seen import ROWS
from infopt_passes.prune.wiring.axes import Axis
from infopt_passes.prune.wiring.recurrent import products

Array = npt.NDArray[Any]

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""Pulls towards the weight as it is, as parts of the mean square of its columns."""

TRIES = 2
"""Times that a weight is changed, by half as much after one that went too far."""

BIAS = 3


@dataclass(frozen=True, slots=True)
class Layer:
    """A recurrent layer under way.

    Attributes:
        work: The models.
        exact: The layer as it was.
        node: The layer as it is.
        gone: What is kept of each axis that loses something.
        context: Brings samples, memory and seed.
    """

    work: Work
    exact: ir.Node
    node: ir.Node
    gone: Mapping[Axis, Array]
    context: Context

    def refit(self) -> bool:
        """Refit R and W, in place; false where that brought nothing."""
        readings = {slot: reading for slot, reading in products(self.exact) if self._is_own(slot)}
        if 2 not in readings:
            return False
        states = readings[2]
        start = self._distance(self._seen(states))
        ((_, alone),) = moments(self.work.exact, [replace(states, other=None)], self.context, rows=ROWS)
        away = self._tried(2, states, alone, states, start)
        if 1 in readings:
            away = self._tried(1, readings[1], self._seen(readings[1]), states, away)
        return away < start

    def _tried(self, slot: int, reading: Reading, seen: Moments, states: Reading, away: float) -> float:
        """Change a weight if that brings the states nearer than they were; how far away they are then."""
        step = 1.0
        for _ in range(TRIES):
            before = [self._array(index) for index in (slot, BIAS)]
            if not self._fit(slot, reading, seen, step):
                return away
            now = self._distance(self._seen(states))
            if now < away:  # never where it is not a number
                return now
            self._write(slot, before[0])
            self._write(BIAS, before[1])
            step /= 2
        return away

    def _seen(self, reading: Reading) -> Moments:
        ((_, found),) = moments(self.work.exact, [reading], self.context, self.work.graph, ROWS)
        return found

    def _is_own(self, slot: int) -> bool:
        value = self.node.inputs[slot]
        return value is not None and value.dtype == ir.DataType.FLOAT and len(list(value.uses())) == 1

    def _has_bias(self) -> bool:
        value = self.node.inputs[BIAS] if len(self.node.inputs) > BIAS else None
        return value is not None and is_constant(value) and self._is_own(BIAS)

    def _array(self, slot: int) -> Array | None:
        value = self.node.inputs[slot] if len(self.node.inputs) > slot else None
        return value.const_value.numpy() if value is not None and value.const_value is not None else None

    def _write(self, slot: int, array: Array | None) -> None:
        value = self.node.inputs[slot] if len(self.node.inputs) > slot else None
        if value is not None and array is not None:
            value.const_value = ir.tensor(np.ascontiguousarray(array, np.float32), name=value.name)

    def _distance(self, seen: Moments) -> float:
        """Mean square distance of the states that are left to the float model's, less what nothing changes."""
        back = self.node.inputs[2]
        assert back is not None
        assert seen.cross is not None
        kept = masks_of(back, self.gone).get(2, np.ones(seen.second.shape[-1], bool))
        apart = (seen.second - 2 * seen.cross)[:, kept][:, :, kept]
        return float(np.trace(apart, axis1=1, axis2=2).sum())

    def _fit(self, slot: int, reading: Reading, seen: Moments, step: float) -> bool:
        """Go some part of the way to the best weight, in place; false where it is the best."""
        weight, exact, own = self.node.inputs[slot], self.exact.inputs[slot], self._array(slot)
        assert weight is not None
        assert exact is not None
        assert exact.const_value is not None
        assert own is not None
        layout, free = reading.layout, self._has_bias()
        left = layout.matrix(zeroed(np.ones(own.shape, bool), masks_of(weight, self.gone)))
        target = layout.matrix(exact.const_value.numpy()).astype(np.float64)
        known = layout.matrix(own).astype(np.float64)
        best = fitted(target, known, left, seen, free)
        if best is None or np.array_equal(best, known):
            return False
        best = known + step * (best - known)
        self._write(slot, best.reshape(own.shape))
        if free:
            shift = np.einsum("gnk,gk->gn", target, seen.mean) - np.einsum("gnk,gk->gn", best, seen.read)
            self._shift(slot, shift.reshape(own.shape[0], -1))
        return True

    def _shift(self, slot: int, shift: Array) -> None:
        """Write one half of the bias: the float layer's, shifted."""
        bias, exact, array = self.node.inputs[BIAS], self.exact.inputs[BIAS], self._array(BIAS)
        assert bias is not None
        assert exact is not None
        assert exact.const_value is not None
        assert array is not None
        half = slice((slot - 1) * shift.shape[1], slot * shift.shape[1])
        written = array.copy()
        written[:, half] = exact.const_value.numpy()[:, half] + shift
        self._write(BIAS, zeroed(written, masks_of(bias, self.gone)))


def fitted(target: Array, own: Array, left: Array, seen: Moments, free: bool) -> Array | None:
    """The weight, of those with some pull towards the one as it is, that is best on the runs held back.

    Args:
        target: The float layer's weight, of shape (groups, outputs, columns).
        own: The weight as it is.
        left: Which of its elements are left: whole rows and columns.
        seen: Moments of what both read.
        free: Whether a bias takes care of the means.

    Returns:
        ``None`` where none is finite.
    """
    apart = seen.held if seen.held is not None and seen.held.rows else seen
    if not seen.rows:
        return None
    second, cross = _centred(seen, free)
    check = _centred(apart, free)
    if not all(np.isfinite(part).all() for part in (second, cross, *check)):
        return None
    tried = [own]
    mean = np.trace(second, axis1=1, axis2=2)[:, None, None] / second.shape[-1]
    for ridge in RIDGES:
        pull = ridge * np.maximum(mean, 1e-12)
        tried.append(np.stack([_solved(*parts) for parts in zip(target, own, left, second, cross, pull, strict=True)]))
    rows = left.any(axis=2, keepdims=True)
    aim = target @ check[1]
    return min(tried, key=lambda each: float(np.sum((each @ check[0] - 2 * aim) * each * rows)))


def _solved(target: Array, own: Array, left: Array, second: Array, cross: Array, pull: Array) -> Array:
    columns = np.flatnonzero(left.any(axis=0))
    square = second[np.ix_(columns, columns)] + pull * np.eye(len(columns))
    result = np.zeros_like(own)
    result[:, columns] = np.linalg.solve(square, (target @ cross[:, columns] + pull * own[:, columns]).T).T
    return result * left


def _centred(seen: Moments, free: bool) -> tuple[Array, Array]:
    """Second and cross moments, about the means where a bias takes care of these; of one model alone both are one."""
    cross = seen.second if seen.cross is None else seen.cross
    if not free:
        return seen.second, cross
    return seen.spread, cross - seen.mean[:, :, None] * seen.read[:, None, :]
