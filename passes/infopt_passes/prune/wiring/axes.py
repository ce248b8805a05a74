"""Which positions of which axes belong together: a union-find over every index of every axis of a graph.

Each tensor axis of known size is a row of positions. An operator links the positions of what it reads to those of what
it makes (and of its weights), or freezes them: a Concat links with an offset, a Reshape links one channel to a run of
columns. Positions that are linked, directly or not, can only be removed together; a single frozen one keeps all of its
kin. So residual sums, grouped convolutions, flattened maps and attention heads need no rules of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Array = npt.NDArray[Any]

Axis = tuple[ir.Value, int]
"""A tensor and one of its axes, counted from the front."""


@dataclass(slots=True)
class Axes:
    """Positions of all axes, what links them and what freezes them.

    Attributes:
        starts: First position of each axis that was looked at.
        axes: Those axes, in the order of their positions.
        sizes: Their sizes.
        reasons: Why positions are frozen, in words.
    """

    starts: dict[Axis, int] = field(default_factory=dict)
    axes: list[Axis] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    _links: list[tuple[Array, Array]] = field(default_factory=list)
    _frozen: list[tuple[Array, int, bool]] = field(default_factory=list)
    _count: int = 0

    def ids(self, value: ir.Value, axis: int) -> Array:
        """Positions of an axis; none where its size is not known."""
        size = size_of(value, axis)
        if size is None:
            return np.zeros(0, np.int64)
        if (value, axis) not in self.starts:
            self.starts[value, axis] = self._count
            self.axes.append((value, axis))
            self.sizes.append(size)
            self._count += size
        start = self.starts[value, axis]
        return np.arange(start, start + size)

    def link(self, one: Array, other: Array) -> None:
        """Say that positions belong together, pair by pair."""
        self._links.append((one, other))

    def freeze(self, positions: Array, why: str, vague: bool = False) -> None:
        """Say that positions cannot be removed; a vague reason is only told where there is no other."""
        self.reasons.append(why)
        self._frozen.append((positions, len(self.reasons) - 1, vague))

    def is_frozen(self, axis: Axis, kin: Kin) -> bool:
        """Whether any position of an axis is kept, as far as is known in ``kin``."""
        positions = self.ids(*axis)
        known = positions[positions < len(kin.labels)]
        return bool((kin.why[kin.labels[known]] >= 0).any())

    def kin(self) -> Kin:
        """Who belongs together, from all that was said so far."""
        none = np.zeros(0, np.int64)
        one = np.concatenate([none, *(pair[0] for pair in self._links)])
        other = np.concatenate([none, *(pair[1] for pair in self._links)])
        edges = coo_matrix((np.ones(len(one), np.int8), (one, other)), (self._count, self._count))
        count, labels = connected_components(edges, directed=False)
        why = np.full(count, -1, np.int64)
        for vague in (True, False):
            for positions, reason, _ in (each for each in reversed(self._frozen) if each[2] == vague):
                why[labels[positions]] = reason
        return Kin(labels, why)

    def owners(self) -> Array:
        """Number of the axis, in :attr:`axes`, that each position is of."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


@dataclass(frozen=True, slots=True)
class Kin:
    """The parts that positions fall into.

    Attributes:
        labels: Number of the part of each position.
        why: Number of the reason why a part is frozen; -1 where it is not.
    """

    labels: Array
    why: Array


def size_of(value: ir.Value, axis: int) -> int | None:
    """Size of an axis, if it is known."""
    shape = value.shape
    size = shape[axis] if shape is not None and axis < len(shape) else None
    return int(size) if isinstance(size, int) else None


def rank(value: ir.Value | None) -> int | None:
    """Number of axes, if it is known."""
    return None if value is None or value.shape is None else len(value.shape)
