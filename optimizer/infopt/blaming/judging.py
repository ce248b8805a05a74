"""How far a candidate's outputs are from the float model's; what was found before is remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.blaming.sweep import Moments
from infopt.cache import cache_folder
from infopt.probe import opened
from infopt.targets.onnxruntime import EMULATE

if TYPE_CHECKING:
    from infopt.data import Feed
    from infopt.passes import CalibrationSet


@dataclass(frozen=True, slots=True)
class OutputJudge:
    """Compares a model's outputs with the float model's on a few samples.

    Attributes:
        feeds: The samples.
        reference: The float model's outputs, by sample.
        folder: For files that only live during the run.
        seconds: What one of them took, opening included.
    """

    feeds: tuple[Feed, ...]
    reference: tuple[list[Any], ...]
    folder: Path
    seconds: float = 0.0

    def noise(self, graph: ir.Model) -> float:
        """Power of the error of the float outputs over their own power, the mean of the outputs.

        Runs in ONNX Runtime with Q/DQ as written. A model without float outputs has the noise of what differs.
        """
        moments: dict[int, Moments] = {}
        for given, wanted in zip(_outputs(graph, self.feeds, self.folder), self.reference, strict=True):
            for i, (found, expected) in enumerate(zip(given, wanted, strict=True)):
                if isinstance(expected, np.ndarray) and expected.dtype.kind == "f":
                    moments.setdefault(i, Moments()).add(expected.reshape(-1), found.reshape(-1), -1)
        return float(np.mean([each.noise() for each in moments.values()])) if moments else 0.0

    @property
    def judges(self) -> bool:
        """Whether there is a float output to judge by."""
        return any(isinstance(each, np.ndarray) and each.dtype.kind == "f" for each in self.reference[0])


def output_judge(reference: ir.Model, samples: CalibrationSet, folder: Path) -> OutputJudge:
    """A judge that knows what the float model gives on samples."""
    feeds, begun = tuple(samples.feeds()), time.monotonic()
    outputs = tuple(_outputs(reference, feeds, folder))
    return OutputJudge(feeds, outputs, folder, (time.monotonic() - begun) / max(len(feeds), 1))


def _outputs(graph: ir.Model, feeds: Sequence[Feed], folder: Path) -> list[list[Any]]:
    own = Path(tempfile.mkdtemp(prefix="judge-", dir=folder))
    try:
        session = opened(graph, own, EMULATE)
        return [session.run(feed) for feed in feeds]
    finally:
        shutil.rmtree(own, ignore_errors=True)


@dataclass(slots=True)
class Memo:
    """Noise by what was done to a model, kept from run to run; a cache that fails is as good as none.

    Attributes:
        path: The file; ``None`` keeps nothing.
        known: What it holds.
    """

    path: Path | None
    known: dict[str, float] = field(default_factory=dict)

    def get(self, what: str, measure: Callable[[], float]) -> float:
        """What is known, or measured now."""
        if what not in self.known:
            self.known[what] = measure()
            self._write()
        return self.known[what]

    def _write(self) -> None:
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".", suffix=".tmp")
            with os.fdopen(handle, "w") as file:
                json.dump(self.known, file)
            Path(name).replace(self.path)


def memo(parts: Sequence[object]) -> Memo:
    """The memory of everything that has these parts in common.

    Args:
        parts: What results depend on: hashes of models and of data, versions.
    """
    folder = cache_folder("blame")
    if folder is None:
        return Memo(None)
    key = hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:40]
    path = folder / f"{key}.json"
    try:
        content = json.loads(path.read_text())
        known = {str(name): float(value) for name, value in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        known = {}
    return Memo(path, known)
