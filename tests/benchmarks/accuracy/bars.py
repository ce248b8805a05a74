"""What is demanded of quantized models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bars import Bar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .records import Measured, Peer, Run

MAX_DROP = 0.005
"""Half a point; where one sample is worth more than that, one sample."""

PEER_MARGIN = 0.002
STREAM_DROP = 0.01
INT4_DROP = 0.01
INT4_BYTES = 0.45


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
