"""What the float model computes: the outputs that are learned, and tensors inside, as far as the pruned model has them.

It runs in ONNX Runtime, batch by batch: what is mixed from samples has never been seen before, and nothing is kept.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.data import Feed
from infopt.passes import Context
from infopt.probe import opened, with_outputs
from infopt.target import Session

Array = npt.NDArray[Any]

Kept = Mapping[str, Mapping[int, Array]]
"""What is left of the axes of tensors, by name: booleans by axis."""

TINY = 1e-12

PATIENT = {"session.intra_op.allow_spinning": "0"}
"""Threads that wait busily for the next batch would take the processor from the training."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """The float model.

    Attributes:
        session: It, in ONNX Runtime.
        names: Tensors that it gives.
        kept: What the pruned model has of them.
    """

    session: Session
    names: tuple[str, ...]
    kept: Kept

    @staticmethod
    def of(graph: ir.Model, names: Sequence[str], kept: Kept, context: Context) -> Teacher:
        """Open the float model.

        Args:
            graph: The model, with the names of the pruned one.
            names: Tensors to compute.
            kept: What the pruned model has of them.
            context: Brings a folder.
        """
        folder = Path(tempfile.mkdtemp(prefix="teacher-", dir=context.workdir))
        session = opened(with_outputs(graph, names), folder, PATIENT)
        shutil.rmtree(folder)  # the runtime has mapped or copied the weights
        return Teacher(session, tuple(names), kept)

    def run(self, feed: Feed) -> list[Array]:
        """The tensors as the pruned model should compute them.

        Raises:
            RuntimeRefused: The runtime failed.
        """
        found = []
        for name, array in zip(self.names, self.session.run(feed), strict=True):
            for axis, mask in self.kept.get(name, {}).items():
                array = np.compress(mask, array, axis=axis)
            found.append(array)
        return found


def powers(answers: Iterable[Sequence[Array]], count: int) -> list[float]:
    """Variance of each of several tensors over many runs; 0 for one that does not vary or has no finite value."""
    rows, sums, squares = np.zeros(count), np.zeros(count), np.zeros(count)
    for arrays in answers:
        for number, array in enumerate(arrays):
            finite = array[np.isfinite(array)].astype(np.float64)
            rows[number] += finite.size
            sums[number] += finite.sum()
            squares[number] += np.square(finite).sum()
    rows = np.maximum(rows, 1)
    spread = squares / rows - np.square(sums / rows)
    return [
        float(one) if one > TINY * max(1.0, square) else 0.0 for one, square in zip(spread, squares / rows, strict=True)
    ]
