"""Measures candidates against a base on the same samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from infopt.bench import CandidateLatency, FloatLatency, Latency, Seconds, alternate, speedup, times
from infopt.budget import Budget, check_budget
from infopt.comparing.reporting import Measured, report_on
from infopt.comparing.result import Comparison
from infopt.comparing.sides import Recording, Side, Sides, open_sides, source_of
from infopt.data import Batch, Feed
from infopt.errors import DataError
from infopt.evaluate import Evaluator, evaluator
from infopt.illustrate import check_illustrations, illustrated
from infopt.metrics import Metric, load_metric
from infopt.opened import Subject
from infopt.recipe import Evaluation, Inputs
from infopt.report import Report
from infopt.ui import Listener, Silent
from infopt.verdict import judged


@dataclass(frozen=True, slots=True)
class Request:
    """What to compare, and how.

    Attributes:
        base: What came before.
        candidates: What came after, one or several.
        evaluation: Samples and metric; samples are required unless everything is predictions.
        inputs: How samples become feeds.
        budget: What the user demands of each candidate.
    """

    base: Path
    candidates: tuple[Path, ...]
    evaluation: Evaluation
    inputs: Inputs = Inputs()
    budget: Budget = Budget()


def compare_files(request: Request, listener: Listener | None = None) -> Report | Comparison:
    """Measure models, artifacts or predictions on the same samples.

    The base is the baseline of every report for accuracy and latency alike, in whatever runtime and precision it is.

    Args:
        request: What to compare.
        listener: Hears of the progress.

    Returns:
        The report of the candidate, or all reports where there are several.

    Raises:
        InputError: A path, the samples or the metric cannot be used.
        RuntimeRefused: A runtime cannot open its side.
    """
    listener = listener or Silent()
    check_illustrations(request.evaluation)
    spec = request.evaluation.metric
    metric = load_metric(spec) if spec else None
    sides = open_sides(request.base, request.candidates, request.evaluation, request.inputs, metric)
    listener.stage("Measuring accuracy")
    found = _compared(request, sides, metric, listener)
    listener.stage("Measuring latency")
    latencies = _latencies(request, sides, found[0].accuracy.baseline)
    reports = tuple(
        judged(report_on(sides, side, measured, latency), request.budget)
        for side, measured, latency in zip(sides.candidates, found, latencies, strict=True)
    )
    return reports[0] if len(reports) == 1 else Comparison(base=request.base.as_posix(), reports=reports)


def _compared(request: Request, sides: Sides, metric: Metric | None, listener: Listener) -> list[Measured]:
    with (
        source_of(sides.base) as base,
        evaluator(
            base, sides.samples, sides.inputs, metric, names=sides.names, seed=0, progress=listener.progress
        ) as judge,
    ):
        check_budget(request.budget, judge.fraction)
        return [_measured(request, sides, side, judge) for side in sides.candidates]


def _measured(request: Request, sides: Sides, side: Side, judge: Evaluator) -> Measured:
    with source_of(side) as source:
        outputs = judge.outputs(source, side.path.name)
    if isinstance(side, Recording) or isinstance(sides.base, Recording):
        _check_fit(sides, side, judge, outputs)
    accuracy = judge.accuracy(outputs, side.where if isinstance(side, Subject) else "deployed")
    changes = illustrated(judge.changes(outputs, accuracy), sides.samples, request.evaluation)
    return Measured(accuracy, judge.fidelity(outputs), changes)


def _check_fit(sides: Sides, side: Side, judge: Evaluator, outputs: Sequence[np.ndarray]) -> None:
    """See to it that outputs of which some were made elsewhere are those of the same model.

    Raises:
        DataError: An output has another rank, number of rows, kind of numbers or width.
    """
    for name, before, after in zip(sides.names, judge.baseline, outputs, strict=True):
        if before.size and after.size and not _fits(before, after):
            shown = [f"{array.dtype} {list(array.shape)}" for array in (before, after)]
            raise DataError(
                f"output {name!r} is {shown[0]} in {sides.base.path} and {shown[1]} in {side.path}",
                "compare predictions of the same outputs",
            )


def _fits(before: np.ndarray, after: np.ndarray) -> bool:
    kinds = ["f" if array.dtype.kind == "f" else "i" if array.dtype.kind in "biu" else "O" for array in (before, after)]
    if before.ndim != after.ndim or len(before) != len(after) or kinds[0] != kinds[1]:
        return False
    ragged = kinds[0] == "f" and any(np.isnan(array).any() for array in (before, after))
    return before.ndim != 2 or ragged or before.shape == after.shape


def _latencies(request: Request, sides: Sides, score: float) -> list[Latency]:
    """Latency of each candidate; all that run are measured in turns with the base."""
    reasons = [_unmeasured(request, sides.base, side) for side in sides.candidates]
    running = {f"candidate {n}": side for n, side in enumerate(sides.candidates) if reasons[n] is None}
    if not running:
        return [Latency(reason=reason) for reason in reasons]
    batch = next(sides.samples.batches(request.inputs.batch))
    everyone = {"base": sides.base, **running}
    openers = {name: partial(_runner, side, batch.feed) for name, side in everyone.items() if isinstance(side, Subject)}
    seen = alternate(openers, seconds=request.evaluation.seconds * len(openers) / 2)
    return [
        Latency(reason=reasons[n]) if reasons[n] else _latency(seen, f"candidate {n}", sides.base, side, (batch, score))
        for n, side in enumerate(sides.candidates)
    ]


def _unmeasured(request: Request, base: Side, candidate: Side) -> str | None:
    """Why the latency of a candidate cannot be compared."""
    for side in (base, candidate):
        if isinstance(side, Recording):
            return f"{side.path.name} holds predictions, which have no latency"
        if side.emulated:
            return side.emulated
    return "not asked for" if request.evaluation.skip_bench else None


def _latency(seen: dict[str, Seconds], name: str, base: Side, side: Side, under: tuple[Batch, float]) -> Latency:
    batch, score = under
    ratio, interval = speedup(seen["base"], seen[name])
    return Latency(
        batch=batch.count,
        threads=len(os.sched_getaffinity(0)),
        baseline_float=FloatLatency(base.path.name, score, times(seen["base"])),
        candidate=CandidateLatency(side.path.name, times(seen[name])),
        speedup=ratio,
        speedup_ci95=interval,
        runs=len(seen["base"]),
    )


@contextmanager
def _runner(side: Subject, feed: Feed) -> Iterator[Callable[[], object]]:
    with side.open() as session:
        yield lambda: session.run(feed)
