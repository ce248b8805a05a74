"""Chooses among candidates by how much the metric drops, on samples that prove nothing later.

A pass that looks for the most that a budget allows (see :class:`infopt.passes.Selecting`) finds a :class:`Selection`
in its context. It scores models in ONNX Runtime on the search part of the evaluation samples, see
:mod:`infopt.confirm`; the report's accuracy then comes from the confirmation part alone. Without evaluation samples
some calibration samples are held back for it, from all passes, and the bound is on how far outputs leave the float
model's.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from infopt.confirm import Part, split
from infopt.deciding import around, decide
from infopt.errors import DataError, InputError
from infopt.evaluate import evaluator
from infopt.metrics import default_metric, load_metric
from infopt.passes import Context, Selecting
from infopt.stats.margin import drop_limits, more_samples
from infopt.targets.onnxruntime import open_onnx
from infopt.wording import metric as shown
from infopt.wording import span

if TYPE_CHECKING:
    from infopt.accuracy import Accuracy
    from infopt.evaluate import Evaluator
    from infopt.metrics import Metric
    from infopt.model import Model
    from infopt.passes import CalibrationSet
    from infopt.report import Status
    from infopt.resolve import Resolved
    from infopt.ui import Listener

HELD = 4
"""Of so many calibration samples one is held back to choose by, where there are no evaluation samples."""

FEWEST = 8
"""Samples without which nothing is chosen."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate's score.

    Attributes:
        baseline: The metric of the float model.
        candidate: That of the candidate.
        drop: The worsening, in the metric's own unit; infinite where the outputs cannot be scored.
        interval: One-sided limits of the drop, each at the budget's confidence; ``None`` where there are none.
        status: Whether the limit is kept, by the rule of every budget.
        kept: Whether the candidate may be chosen.
    """

    baseline: float
    candidate: float
    drop: float
    interval: tuple[float, float] | None
    status: Status
    kept: bool

    def __str__(self) -> str:
        within = f", {span(self.interval)}" if self.interval else ""
        answer = "kept" if self.kept else "not kept"
        if not math.isfinite(self.drop):
            return f"the outputs are no numbers that can be scored: {answer}"
        return f"{shown(self.baseline)} -> {shown(self.candidate)} (drop {shown(self.drop)}{within}): {answer}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Scores candidates on samples set apart for it.

    Attributes:
        judge: Knows the float model's outputs on them.
        limit: The largest drop that is allowed, in the metric's unit.
        confidence: How surely it must be kept.
        proves: Whether so many samples can show at all that a drop is within the limit. Where not, the measured drop
            alone decides, and whoever chooses says so.
        lacking: How many further samples it would take, where they do not and that is known.
        confirmed: Samples that are left to confirm the choice on; 0 where no accuracy is measured.
        later: Names of passes that come after and lose accuracy themselves.
    """

    judge: Evaluator
    limit: float
    confidence: float
    proves: bool
    lacking: int | None
    confirmed: int
    later: tuple[str, ...]

    @property
    def samples(self) -> int:
        """Samples that choose."""
        return len(self.judge.samples)

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self.judge.metric.name

    @property
    def labelled(self) -> bool:
        """Whether labels tell what is right; else drops are distances to the float model."""
        return not self.judge.metric.reference

    def trial(self, model: Model, context: Context) -> Trial:
        """Score a candidate.

        Args:
            model: The candidate, with the inputs and outputs of the float model.
            context: Has room for its file.

        Raises:
            RuntimeRefused: The runtime cannot run it.
        """
        file = context.on_disk(model)
        try:
            outputs = self.judge.outputs(open_onnx(file, {}), "scoring a candidate")
        finally:
            shutil.rmtree(file.parent, ignore_errors=True)
        try:
            accuracy = self.judge.accuracy(outputs, "emulated")
        except DataError:  # a user's metric fails on what is not finite
            baseline = self.judge.score(self.judge.baseline)
            return Trial(baseline, math.nan, math.inf, None, "fail", False)
        status, interval = _decided(accuracy, self.limit, self.confidence)
        kept = status == "pass" if self.proves else accuracy.drop <= self.limit
        return Trial(accuracy.baseline, accuracy.candidate, accuracy.drop, interval, status, kept)


def _decided(accuracy: Accuracy, limit: float, confidence: float) -> tuple[Status, tuple[float, float] | None]:
    """Whether a drop keeps the limit, and its one-sided limits; the rule of :mod:`infopt.verdict`."""
    interval = around(accuracy.drop, drop_limits(accuracy, confidence))
    scale = max(abs(accuracy.baseline), abs(accuracy.candidate))
    return decide(accuracy.drop, interval, limit, scale), interval


@dataclass(frozen=True, slots=True)
class Parts:
    """A resolved recipe whose evaluation confirms, and the samples that choose.

    Attributes:
        resolved: With what is left to calibrate and to evaluate with.
        search: The samples that choose; ``None`` where no pass does.
        metric: What they are scored by; ``None`` leaves the choice to the data.
    """

    resolved: Resolved
    search: Part | None = None
    metric: Metric | None = None


def parted(resolved: Resolved) -> Parts:
    """Set samples apart where a pass of a recipe chooses by a budget.

    Args:
        resolved: What the user wants.

    Raises:
        InputError: There are no samples to choose by, or too few.
    """
    if resolved.recipe.budget.max_drop is None or not _selecting(resolved):
        return Parts(apart(resolved))
    recipe, calibration = resolved.recipe, resolved.calibration
    if resolved.evaluation is not None:
        recipe = replace(recipe, evaluation=replace(recipe.evaluation, confirmation=True))
        part, metric = split(resolved.evaluation).search, resolved.metric
    elif calibration is not None and not resolved.synthetic:
        recipe = replace(recipe, calibration=replace(recipe.calibration, held_back=True))
        part, metric = _held(calibration), _on_outputs(resolved)
    else:
        raise InputError(
            "--max-drop says how much to prune, and there are no samples to choose by",
            "give --eval PATH, or say how much is kept: --flops 0.5",
        )
    _check_enough(part)
    return Parts(apart(replace(resolved, recipe=recipe)), part, metric)


def apart(resolved: Resolved) -> Resolved:
    """Leave out the samples by which options of a recipe were chosen, in this run or in the one that wrote it.

    Args:
        resolved: With all samples; its recipe tells which are left out.
    """
    recipe, calibration, evaluation = resolved.recipe, resolved.calibration, resolved.evaluation
    if recipe.calibration.held_back and calibration is not None and not resolved.synthetic:
        held = set(_held(calibration).rows.tolist())
        rest = tuple(index for index in calibration.indices if index not in held)
        resolved = replace(resolved, calibration=replace(calibration, indices=rest))
    if recipe.evaluation.confirmation and evaluation is not None:
        found = split(evaluation)
        resolved = replace(resolved, evaluation=found.confirmation, searched=len(found.search))
    return resolved


def _held(calibration: CalibrationSet) -> Part:
    held = calibration.indices[HELD - 1 :: HELD]
    return Part(calibration.samples, np.asarray(held, np.int64), "calibration samples held back")


def _on_outputs(resolved: Resolved) -> Metric:
    """What tells how far outputs leave the float model's."""
    shape = resolved.model.graph.graph.outputs[0].shape
    sizes = [size if isinstance(size, int) else None for size in shape] if shape is not None else [None]
    return load_metric(default_metric(None, sizes))


def _check_enough(part: Part) -> None:
    if len(part) < FEWEST:
        told = f"{len(part)} samples are too few to choose by how much --max-drop lets go"
        raise InputError(f"{part.path}: {told}", "give more samples, or say how much is kept: --flops 0.5")


def _selecting(resolved: Resolved) -> bool:
    return any(isinstance(step, Selecting) and step.selects for step in resolved.recipe.passes)


@contextmanager
def selection(parts: Parts, listener: Listener) -> Iterator[Selection | None]:
    """Run the float model over the samples that choose; ``None`` where nothing is chosen.

    Args:
        parts: See :func:`parted`.
        listener: Hears of the progress.
    """
    resolved, budget = parts.resolved, parts.resolved.recipe.budget
    if parts.search is None or budget.max_drop is None:
        yield None
        return
    with evaluator(
        open_onnx(resolved.model.path, {}),
        parts.search,
        resolved.inputs,
        parts.metric,
        names=resolved.model.output_names,
        seed=resolved.recipe.job.seed,
        progress=listener.progress,
    ) as judge:
        from infopt.budget import check_budget

        check_budget(budget, judge.fraction)
        same = judge.accuracy(judge.baseline, "emulated")
        proves = _decided(same, budget.max_drop, budget.confidence)[0] == "pass"
        lacking = None if proves else more_samples(same, budget.max_drop, budget.confidence)
        confirmed = len(resolved.evaluation) if resolved.evaluation is not None else 0
        yield Selection(judge, budget.max_drop, budget.confidence, proves, lacking, confirmed, _later(resolved))


def _later(resolved: Resolved) -> tuple[str, ...]:
    passes = resolved.recipe.passes
    last = max(i for i, step in enumerate(passes) if isinstance(step, Selecting) and step.selects)
    return tuple(step.name for step in passes[last + 1 :] if step.tolerance == "measured")
