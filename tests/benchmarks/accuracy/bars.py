"""What is demanded, and whether it is kept: the point estimate decides, the interval says whether that means much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .records import Measured, Peer, Run

MAX_DROP = 0.005
"""Half a point; where one sample is worth more than that, one sample."""

PEER_MARGIN = 0.002
STREAM_DROP = 0.01
INT4_DROP = 0.01
INT4_BYTES = 0.45

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


def own_bar(run: Run) -> Bar | None:
    """Half a point, or one sample."""
    if run.drop is None:
        return None
    return Bar(max(MAX_DROP, run.unit or 0.0), run.drop, run.interval)


def peer_bar(run: Run, best: Peer | None) -> Bar | None:
    """No worse than the best peer by more than a fifth of a point; its own spread is not in the interval."""
    if run.drop is None or best is None or best.drop is None:
        return None
    return Bar(best.drop + PEER_MARGIN, run.drop, run.interval)


def best_peer(measured: Measured, model: str, target: str) -> Peer | None:
    """The peer's artifact that loses least in a runtime, in whichever setting."""
    there = [peer for peer in peers_of(measured, model, target) if peer.drop is not None]
    return min(there, key=lambda peer: peer.drop if peer.drop is not None else 1.0, default=None)


def peers_of(measured: Measured, model: str, target: str) -> Iterable[Peer]:
    """All rows of peers for a model and a target."""
    return (peer for peer in measured.peers if (peer.model, peer.target) == (model, target))
