"""Made-up samples, for when there are none: good enough to compile and to time, never to judge accuracy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from infopt.data import Batch, Feed, InputSpec
from infopt.readers.batching import batch_size, chunks

UNKNOWN_SIZE = 64
"""Size of a dimension that the model leaves open."""

PICTURE_SIZE = 224
"""The same for height and width of a 4-dimensional input."""


@dataclass(frozen=True, slots=True)
class SyntheticSamples:
    """Normally distributed floats, and zeros and ones for integers (see :class:`infopt.data.Samples`).

    Attributes:
        inputs: What the model wants.
        total: Number of samples.
        seed: Seed of the values.
    """

    inputs: tuple[InputSpec, ...]
    total: int
    seed: int

    path = Path("synthetic")
    labels = None
    groups = None
    ids = None
    classes: ClassVar[tuple[str, ...]] = ()
    notes = ("samples are made up: accuracy cannot be measured on them",)

    def __len__(self) -> int:
        return self.total

    def batches(self, size: int, indices: np.ndarray | None = None) -> Iterator[Batch]:
        """Make batches; see :meth:`infopt.data.Samples.batches`."""
        for rows in chunks(indices, self.total, batch_size(self.inputs, size)):
            yield Batch(self._feed(int(rows[0]), len(rows)), len(rows))

    def digests(self) -> list[str]:
        """A hash of each sample's number: no two are the same, and none is a real sample."""
        return [
            hashlib.blake2b(f"synthetic {self.seed} {i}".encode(), digest_size=16).hexdigest()
            for i in range(self.total)
        ]

    def sha256(self) -> str:
        """A hash of how the samples are made."""
        return hashlib.sha256(f"synthetic {self.seed} {self.total} {self.inputs}".encode()).hexdigest()

    def describe(self) -> str:
        """One line that says what the samples are."""
        return f"{self.total} made-up samples"

    def _feed(self, first: int, count: int) -> Feed:
        rng = np.random.default_rng((self.seed, first))
        return {spec.name: _array(rng, spec, count) for spec in self.inputs}


def _array(rng: np.random.Generator, spec: InputSpec, count: int) -> np.ndarray:
    shape = tuple(_size(spec, axis, count) for axis in range(len(spec.shape)))
    if spec.dtype.kind == "f":
        return rng.standard_normal(shape).astype(spec.dtype)
    return rng.integers(0, 2, shape).astype(spec.dtype)


def _size(spec: InputSpec, axis: int, count: int) -> int:
    dim = spec.shape[axis]
    if isinstance(dim, int):
        return dim
    if axis == spec.batch_axis:
        return count
    return PICTURE_SIZE if len(spec.shape) == 4 else UNKNOWN_SIZE
