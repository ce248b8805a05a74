"""What Torch-Pruning made against what infopt made, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..judging import drop_interval
from .artifacts import settled, sha256
from .records import Duel, Pruned

if TYPE_CHECKING:
    from .bench import Bench


@dataclass(frozen=True)
class Fight:
    """A model of theirs against one of infopt's."""

    bench: Bench
    theirs: Pruned
    ours: Pruned

    def row(self) -> Duel:
        """The row without its numbers."""
        sides = [settled(self.bench.kept.path(row.variant), self.bench.feed, row.setting)[0] for row in self._rows()]
        key = self.bench.key(*map(sha256, sides))
        return Duel(self.theirs.model, self.theirs.target, self.theirs.variant, key, self.ours.variant)

    def measure(self, row: Duel) -> Duel:
        """The row with its numbers."""
        seen = []
        for each in self._rows():
            path = self.bench.kept.path(each.variant)
            seen.append(self.bench.outputs(path, settled(path, self.bench.feed, each.setting)[0]))
        accuracy = self.bench.compared(*seen)
        return replace(row, behind=accuracy.drop, interval=drop_interval(accuracy))

    def _rows(self) -> tuple[Pruned, Pruned]:
        return self.theirs, self.ours
