"""What can be pruned of each network, from its wiring."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """What is to be found in a network.

    Attributes:
        groups: Sets of units that come and go on their own.
        share: Per cent of the outputs of all layers with weights that may go.
        stays: Words of the reasons why the other layers keep theirs.
    """

    groups: int
    share: int
    stays: tuple[str, ...] = ("output of the model",)


EXPECTED: dict[str, Expected] = {}
