"""Mergeable summaries: a quantile sketch of numbers, and counts of items."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infopt.errors import InputError

K = 512
"""Size of a sketch. Up to so many numbers it holds them all; above, ranks are off by about half a percent."""


LARGEST = 65535
"""Largest size of a sketch: new data are looked at once, so memory alone bounds what is held of them."""


class Sketch:
    """A KLL sketch (Z. Karnin, K. Lang, E. Liberty, "Optimal quantile approximation in streams", 2016), with the sum.

    Above its size it drops some numbers by chance, and no seed can be set: what must be the same in each run takes
    no more.

    Attributes:
        total: Sum of the numbers.
        lost: Numbers that were left out because they are not finite.
    """

    __slots__ = ("_kll", "lost", "total")

    def __init__(self, kll: Any = None, total: float = 0.0, lost: int = 0, size: int = K) -> None:
        if kll is None:
            from datasketches import kll_floats_sketch

            kll = kll_floats_sketch(size)
        self._kll, self.total, self.lost = kll, total, lost

    def add(self, numbers: np.ndarray | float) -> None:
        """Take in numbers; what is not finite is counted and left out."""
        with np.errstate(over="ignore"):  # too large for float32 is infinite
            array = np.atleast_1d(np.asarray(numbers, np.float32))
        finite = np.isfinite(array)
        self.lost += int(array.size - finite.sum())
        array = array[finite]
        if array.size:
            self._kll.update(array)
            self.total += float(array.sum(dtype=np.float64))

    def merged(self, other: Sketch) -> Sketch:
        """A sketch of both together."""
        size = max(self._kll.k, other._kll.k)
        result = Sketch(total=self.total + other.total, lost=self.lost + other.lost, size=size)
        for each in (self, other):
            result._kll.merge(each._kll)
        return result

    def __len__(self) -> int:
        return int(self._kll.n)

    @property
    def mean(self) -> float:
        """Mean of all numbers."""
        return self.total / max(len(self), 1)

    @property
    def error(self) -> float:
        """How far a rank may be off, as a share; 0 while all numbers are held."""
        return float(self._kll.normalized_rank_error(False)) if self._kll.is_estimation_mode() else 0.0

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """What is held, ascending, and how many numbers each stands for; float64."""
        held = np.array(list(self._kll), np.float64).reshape(-1, 2)
        held = held[np.argsort(held[:, 0], kind="stable")]
        return held[:, 0], held[:, 1]

    def to_json(self) -> dict[str, Any]:
        """As a profile holds it."""
        lost = {"lost": self.lost} if self.lost else {}
        return {"sum": self.total, **lost, "kll": base64.b64encode(self._kll.serialize()).decode("ascii")}

    @classmethod
    def from_json(cls, held: Any) -> Sketch:
        """Read what :meth:`to_json` gives.

        Raises:
            InputError: It is damaged.
        """
        from datasketches import kll_floats_sketch

        try:
            kll = kll_floats_sketch.deserialize(base64.b64decode(held["kll"], validate=True))
            total, lost = float(held["sum"]), int(held.get("lost", 0))
            if not math.isfinite(total) or lost < 0:
                raise ValueError(f"its sum is {total}, {lost} numbers were left out")
            return cls(kll, total, lost)
        except (KeyError, TypeError, ValueError, OverflowError, IndexError, RuntimeError, MemoryError) as error:
            raise InputError(f"a sketch is damaged ({error})") from error


@dataclass(slots=True)
class Tally:
    """Counts of items.

    Attributes:
        counts: Samples by item.
        samples: Samples that were looked at.
    """

    counts: Counter[str] = field(default_factory=Counter)
    samples: int = 0

    def add(self, items: Iterable[str]) -> None:
        """Take in the items of one sample."""
        self.counts.update(items)
        self.samples += 1

    def merged(self, other: Tally) -> Tally:
        """Counts of both together."""
        return Tally(self.counts + other.counts, self.samples + other.samples)

    def to_json(self) -> dict[str, Any]:
        """As a profile holds it."""
        return {"samples": self.samples, "counts": dict(sorted(self.counts.items()))}

    @classmethod
    def from_json(cls, held: Any) -> Tally:
        """Read what :meth:`to_json` gives.

        Raises:
            InputError: It is damaged.
        """
        try:
            made = cls(Counter({str(item): int(n) for item, n in held["counts"].items()}), int(held["samples"]))
            if min((made.samples, *made.counts.values())) < 0 or max(made.counts.values(), default=0) > made.samples:
                raise ValueError("they do not fit the number of samples")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"counts are damaged ({error!r})") from error
        return made
