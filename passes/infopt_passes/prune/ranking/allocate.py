"""How many units of each group go: the cheapest in importance per cost saved first, until the goal is met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from infopt_passes.prune.ranking.cost import Costs
from infopt_passes.prune.ranking.multiples import Multiple
from infopt_passes.prune.wiring.axes import Axis
from infopt_passes.prune.wiring.groups import Group

Array = npt.NDArray[Any]

FLOOR = 0.1
"""Part of a group that stays in any case."""

ROUNDING = 1e-9
"""A goal that is missed by so little is reached: sums of the same costs differ by their order."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Units of a group that could go next.

    Attributes:
        group: Number of the group.
        units: Which of its units.
        importance: What is lost without them.
        saved: What is saved without them.
    """

    group: int
    units: Array
    importance: float
    saved: float


def best(offers: Sequence[Offer], missing: float) -> Offer:
    """What goes next: the least important per cost; where that reaches the goal, what reaches it with the least loss.

    That is one offer, or several smaller ones, of which the first is given: one that goes far beyond the goal loses
    more than was asked for, however little for its size.

    Args:
        offers: At least one.
        missing: What is still to be saved.
    """
    order = sorted(offers, key=lambda offer: offer.importance / offer.saved)
    if order[0].saved < missing:
        return order[0]
    alone = min((offer for offer in order if offer.saved >= missing), key=lambda offer: offer.importance)
    several = [offer for offer in order if offer.saved < missing]
    saved = lost = 0.0
    for offer in several:
        saved, lost = saved + offer.saved, lost + offer.importance
        if saved >= missing:
            break
    return several[0] if saved >= missing and lost < alone.importance else alone


@dataclass(slots=True)
class Allocation:
    """What is kept of each group, on the way to a goal.

    Attributes:
        groups: The groups.
        scores: Importance of each unit of each group; comparable between groups.
        costs: Counts what is left.
        kind: What the goal is about: ``"flops"`` or ``"params"``.
        multiple: What counts are brought to multiples of.
        kept: Booleans by unit, of each group.
        left: What is left of each axis; it follows from ``kept``.
    """

    groups: Sequence[Group]
    scores: Sequence[Array]
    costs: Costs
    kind: str
    multiple: Multiple
    kept: list[Array]
    left: dict[Axis, float] = field(default_factory=dict)

    def reach(self, goal: float) -> bool:
        """Let units go until no more than ``goal`` is left of the whole; false where that cannot be reached."""
        self.left = {}
        for group, kept in zip(self.groups, self.kept, strict=True):
            self.left |= without(group, int((~kept).sum()), self.left)
        whole = self.costs.total(self.kind, {})
        parts = [self.costs.touched(group, self.kind) for group in self.groups]
        offers: dict[int, Offer | None] = {}
        rest, limit = self.costs.total(self.kind, self.left), goal * whole * (1 + ROUNDING)
        while rest > limit:
            for number in range(len(self.groups)):
                if number not in offers:
                    offers[number] = self._next(number, parts[number])
            possible = [offer for offer in offers.values() if offer is not None]
            if not possible:
                return False
            taken = best(possible, rest - limit)
            number = taken.group
            self.kept[number] = self.kept[number].copy()
            self.kept[number][taken.units] = False
            self.left |= without(self.groups[number], len(taken.units), self.left)
            rest -= taken.saved
            own = set(map(id, parts[number]))
            for other in [n for n in offers if own & set(map(id, parts[n]))]:
                del offers[other]
        return True

    def share(self) -> float:
        """What is left of the whole."""
        return self.costs.total(self.kind, self.left) / max(self.costs.total(self.kind, {}), 1.0)

    def _next(self, number: int, parts: Sequence[Any]) -> Offer | None:
        """The units that go next from a group; ``None`` where none may go, or none would save anything."""
        group, kept, scores = self.groups[number], self.kept[number], self.scores[number]
        count = int(kept.sum())
        fewer = lower(count, group, self.multiple)
        if fewer is None:
            return None
        alive = np.flatnonzero(kept)
        gone = alive[np.argsort(scores[alive], kind="stable")[: count - fewer]]
        left = self.left | without(group, len(gone), self.left)
        saved = self.costs.cost(self.kind, parts, self.left) - self.costs.cost(self.kind, parts, left)
        return Offer(number, gone, float(scores[gone].sum()), saved) if saved > 0 else None


def lower(count: int, group: Group, multiple: Multiple) -> int | None:
    """The next smaller number of units that a group may have; ``None`` where it has to stay."""
    least = max(1, int(np.ceil(FLOOR * group.units)))
    fewer = multiple.below(count, group.units, group.width)
    return fewer if fewer >= least else None


def without(group: Group, units: int, left: Mapping[Axis, float]) -> dict[Axis, float]:
    """What is left of the axes of a group when some more of its units go.

    Args:
        group: The group; it may have an axis in common with others, as a Concat makes it.
        units: How many go.
        left: What was left before; all of an axis that is absent.
    """
    found = {}
    for (value, axis), places in group.places.items():
        size = value.shape[axis] if value.shape is not None else None
        assert isinstance(size, int)
        found[value, axis] = left.get((value, axis), 1.0) - units * places.shape[1] / size
    return found
