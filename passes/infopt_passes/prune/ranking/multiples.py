"""How many units a group may have: what the target's kernels compute without padding.

Blocked layouts hold 16 channels where vectors hold 16 floats, so 24 channels take as long as 32, and a group of 32 that
is left with 24 has lost accuracy for nothing. Steps of 16 would be coarse in groups that have few units, though.
"""

from __future__ import annotations

from dataclasses import dataclass

FINE = 6
"""Groups of so many multiples and more only have whole ones: their steps are fine enough."""


@dataclass(frozen=True, slots=True)
class Multiple:
    """What counts of units are brought to multiples of.

    Attributes:
        whole: What kernels compute without padding.
        half: What narrow groups may have multiples of; the same where the user asked for the number.
    """

    whole: int
    half: int

    @staticmethod
    def of(number: int, asked: bool = True) -> Multiple:
        """Multiples of a number that the user asked for, or of one that the target runs fast."""
        return Multiple(number, number if asked else max(1, number // 2))

    def below(self, count: int, units: int, width: int = 1) -> int:
        """The next smaller count of units.

        Args:
            count: How many there are.
            units: How many there were at first.
            width: Channels of each.
        """
        whole, half = _under(count, self.whole, width), _under(count, self.half, width)
        if count * width <= self.whole:
            return half
        saves = self._padded(half * width) < self._padded(units * width)
        return half if saves and units * width < FINE * self.whole else whole

    def _padded(self, channels: int) -> int:
        return -(-channels // self.whole) * self.whole


def _under(count: int, step: int, width: int) -> int:
    steps = max(1, step // width)
    return (count - 1) // steps * steps
