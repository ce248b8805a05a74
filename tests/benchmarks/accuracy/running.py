"""Runs infopt on a model and takes down the numbers."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import infopt
from infopt.deliver import versions
from infopt.errors import InfoptError
from infopt.opened import subject
from infopt_passes.quantize import Quantize

from ..judging import drop_interval
from ..raw import sources_sha256
from ..sheets import short
from ..subjects import for_target, model_sha256, unit
from ..variants import Options, absent, label
from ..zoo import SAMPLES
from .matrices import matrix_bytes, quantized_count
from .records import Run

if TYPE_CHECKING:
    from infopt.report import Report

    from ..zoo import ZooModel

SEED = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of; see :class:`.records.Run`."""

    model: ZooModel
    target: str
    options: Options

    def row(self) -> Run:
        """The row without its numbers."""
        name, target = self.model.name, self.target
        return Run(name, target, label(self.options), self.key(), absent(Quantize, self.options), dict(self.options))

    def key(self) -> str:
        """A hash of all that the numbers depend on."""
        model = model_sha256(for_target(self.model, self.target))
        facts = [model, self.target, dict(self.options), SAMPLES, SEED, versions(), sources_sha256()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def measure(self, row: Run) -> Run:
        """The row with its numbers, or with the reason why there are none."""
        if row.reason:
            return row
        model = for_target(self.model, self.target)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            try:
                report = quantize(model, self.target, self.options, out)
            except InfoptError as error:
                return replace(row, reason=short(error))
            graph = subject(out).artifact.graph
            done = replace(_numbers(row, report), unit=unit(self.model))
            return replace(done, matrix_bytes=matrix_bytes(graph), quantized=quantized_count(graph))


def quantize(model: ZooModel, target: str, options: Options, out: Path) -> Report:
    """Quantize with the options of the pass given, without measuring latency."""
    given = {**model.options, **options, "samples": SAMPLES, "seed": SEED, "no_bench": True, "output": out}
    return infopt.quantize(model.path, target=target, **given)


def _numbers(row: Run, report: Report) -> Run:
    accuracy = report.accuracy
    assert accuracy is not None
    ratios = [each.sqnr_db for each in report.fidelity if each.sqnr_db is not None]
    return replace(
        row,
        score=accuracy.candidate,
        baseline=accuracy.baseline,
        drop=accuracy.drop,
        interval=drop_interval(accuracy),
        n=accuracy.n,
        where=accuracy.where,
        sqnr_db=min(ratios, default=None),
        seconds=sum(step.seconds for step in report.steps if step.name == "quantize"),
    )
