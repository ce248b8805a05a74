"""Torch-Pruning on the same model, the same samples and for the same time."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infopt.manifest import sha256_source

from ..processes import INFOPT, flags, run
from .bench import SEED, Bench
from .making import failure, scored
from .records import OURS, THEIRS, Pruned

if TYPE_CHECKING:
    from .records import Measured

VARIABLE = "INFOPT_TORCH_PRUNING_PYTHON"
SCRIPT = Path(__file__).with_name("rival")
SAMPLES = 300
"""Calibration samples that infopt takes without asking, and so theirs too."""

ENOUGH = 0.95
"""Rows are measured again where they were given less than this part of what infopt takes now."""

VERSIONS = """
import json
from importlib.metadata import version
print(json.dumps({name: version(name) for name in ("torch", "torch-pruning", "onnxscript")}))
"""


def rival_versions() -> dict[str, str] | str:
    """Versions of what the other interpreter has, or the reason why there is none."""
    python = os.environ.get(VARIABLE)
    if not python:
        return f"{VARIABLE} is not set: it names an interpreter with torch, torch-pruning, onnxscript and onnxruntime"
    done = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True)
    if done.returncode:
        return f"{VARIABLE}: {failure(done.stderr)}"
    found: dict[str, str] = json.loads(done.stdout)
    return found


@dataclass(frozen=True, slots=True)
class Budget:
    """Time that goes on until both are over, so that a busy machine takes nothing from anybody.

    Attributes:
        seconds: Of wall time.
        processor: Of all processors together.
    """

    seconds: float
    processor: float

    def kept(self, row: Pruned) -> bool:
        """Whether a row was given as much, or nearly."""
        return (row.seconds or 0.0) >= ENOUGH * self.seconds and (row.processor or 0.0) >= ENOUGH * self.processor


@dataclass(frozen=True)
class Theirs:
    """A recipe of Torch-Pruning on a model.

    Attributes:
        bench: The model for a target.
        recipe: Its name.
        share: Part of the operations to keep.
        labels: Classes of the calibration samples, or why there are none; ``None`` learns from the model's outputs.
        time: Time to recover in; what infopt took for all of it.
        versions: Of Torch-Pruning and what it needs, or why it is not there.
    """

    bench: Bench
    recipe: str
    share: float
    labels: np.ndarray | str | None
    time: Budget
    versions: dict[str, str] | str

    def row(self) -> Pruned:
        """The row without its numbers."""
        learnt = "no labels" if self.labels is None else "labels"
        variant = f"torch-pruning {self.recipe}, flops={self.share:g}, {learnt}"
        reasons = [each for each in (self.versions, self.labels) if isinstance(each, str)]
        sources = [sha256_source(file) for file in sorted(SCRIPT.glob("*.py"))]
        key = self.bench.key(self.recipe, self.share, learnt, self.versions, sources)
        options = {"recipe": self.recipe, "flops": self.share, "labels": self.labels is not None}
        reason = reasons[0] if reasons else None
        return Pruned(self.bench.model.name, self.bench.target, variant, key, reason, THEIRS, options)

    def measure(self, row: Pruned) -> Pruned:
        """The row with its numbers, or with the reason why there are none."""
        if row.reason:
            return row
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.onnx"
            done = run([os.environ[VARIABLE], str(SCRIPT)], given=self._job(Path(folder), model))
            if done.error is not None:
                return replace(row, reason=failure(done.error))
            out = self.bench.kept.path(row.variant)
            given = {"target": self.bench.target, "no_eval": True, "output": out, **self.bench.model.inputs}
            compiled = run([*INFOPT, "compile", str(model), *flags(given)])
        if compiled.error is not None:
            return replace(row, reason=failure(compiled.error))
        told = json.loads(done.out.splitlines()[-1])
        row = replace(row, turns=told["turns"], seconds=self.time.seconds, processor=self.time.processor)
        return scored(self.bench, replace(row, wall=done.cost.seconds, megabytes=done.cost.megabytes))

    def _job(self, folder: Path, out: Path) -> str:
        labels = folder / "labels.npy"
        if self.labels is not None:
            np.save(labels, np.asarray(self.labels)[:SAMPLES])
        job = {
            "folder": str(self.bench.model.folder),
            "recipe": self.recipe,
            "share": self.share,
            "samples": SAMPLES,
            "labels": None if self.labels is None else str(labels),
            "seconds": self.time.seconds,
            "processor": self.time.processor,
            "threads": int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))),
            "seed": SEED,
            "out": str(out),
        }
        return json.dumps(job)


def budget(measured: Measured, bench: Bench, share: float) -> Budget | None:
    """The time of infopt's slowest variant with a share of the operations."""
    rows = ours_at(measured, bench, share)
    if not rows:
        return None
    return Budget(max(row.seconds or 0.0 for row in rows), max(row.processor or 0.0 for row in rows))


def ours_at(measured: Measured, bench: Bench, share: float) -> list[Pruned]:
    """infopt's pruned models with a share of the operations, in float."""
    rows = [row for row in measured.pruned if (row.model, row.target) == (bench.model.name, bench.target)]
    wanted = [row for row in rows if row.tool == OURS and not row.int8 and row.options.get("flops") == share]
    return [row for row in wanted if row.reason is None]
