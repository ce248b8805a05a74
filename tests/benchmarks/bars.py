"""A limit and whether it is kept: the point estimate decides, the interval says whether that means much."""

from __future__ import annotations

from dataclasses import dataclass

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit, what was measured, and its interval if there is one."""

    limit: float
    value: float
    interval: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        """Whether the point estimate keeps the limit."""
        return self.value <= self.limit + ROUNDING

    @property
    def undecided(self) -> bool:
        """Whether the limit lies in the interval, so that more samples could turn the answer."""
        return self.interval is not None and self.interval[0] <= self.limit < self.interval[1]

    def __str__(self) -> str:
        return ("met" if self.met else "NOT MET") + (", undecided" if self.undecided else "")
