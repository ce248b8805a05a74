"""The verb ``compare``: two models or artifacts on the same samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from infopt import __version__
from infopt.accuracy import Accuracy, Fidelity
from infopt.bench import CandidateLatency, FloatLatency, Latency, alternate, speedup, times
from infopt.budget import Budget, check_budget
from infopt.data import Feed, InputSpec, Samples, infer_batch_axes, open_samples, parse_batch_axis
from infopt.deliver import environment, target_facts
from infopt.errors import DataError, InputError, Unmeasured
from infopt.evaluate import evaluator
from infopt.locate import preprocess_beside
from infopt.manifest import sha256_files
from infopt.metrics import load_metric
from infopt.model import Model, input_specs, load
from infopt.opened import Subject, subject
from infopt.options import parsed
from infopt.preprocess import load_preprocess
from infopt.recipe import Evaluation, Inputs
from infopt.report import (
    UNJUDGED,
    Data,
    EvalData,
    FloatLayer,
    KernelCount,
    Memory,
    ModelFacts,
    Report,
    Size,
)
from infopt.target import Session
from infopt.targets.openvino import ir_interface
from infopt.ui import Listener, Silent
from infopt.verdict import judged


@dataclass(frozen=True, slots=True)
class Comparison:
    """What to compare, and how.

    Attributes:
        base: What came before.
        candidate: What came after.
        evaluation: Samples and metric; samples are required.
        inputs: How samples become feeds.
        budget: What the user demands.
    """

    base: Path
    candidate: Path
    evaluation: Evaluation
    inputs: Inputs = Inputs()
    budget: Budget = Budget()


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both sides opened, with the samples."""

    base: Subject
    candidate: Subject
    inputs: tuple[InputSpec, ...]
    names: tuple[str, ...]
    samples: Samples


def compare_files(comparison: Comparison, listener: Listener | None = None) -> Report:
    """Measure two models or artifacts on the same samples.

    The base is the report's baseline for accuracy and latency alike, in whatever runtime and precision it is.

    Args:
        comparison: What to compare.
        listener: Hears of the progress.

    Returns:
        The report.

    Raises:
        InputError: A path, the samples or the metric cannot be used.
        RuntimeRefused: A runtime cannot open its side.
    """
    listener = listener or Silent()
    pair = _opened(comparison)
    listener.stage("Measuring accuracy")
    with pair.base.open() as base, pair.candidate.open() as candidate:
        accuracy, close = _accuracy(comparison, pair, (base, candidate), listener)
    listener.stage("Measuring latency")
    latency = _latency(comparison, pair, accuracy.baseline)
    return judged(_report(pair, accuracy, close, latency), comparison.budget)


def _opened(comparison: Comparison) -> _Pair:
    base, candidate = subject(comparison.base), subject(comparison.candidate)
    axes = dict(parsed(parse_batch_axis, text, "--batch-axis") for text in comparison.inputs.batch_axis)
    inputs, names = _interface(base, candidate)
    specs = infer_batch_axes(inputs, axes)
    if comparison.evaluation.data is None:
        raise DataError("there are no samples to compare on", "give --eval PATH")
    name = comparison.inputs.preprocess or preprocess_beside(comparison.evaluation.data)
    samples = open_samples(comparison.evaluation.data, specs, load_preprocess(name) if name else None)
    return _Pair(base, candidate, specs, names, samples)


def _interface(base: Subject, candidate: Subject) -> tuple[tuple[InputSpec, ...], tuple[str, ...]]:
    """Inputs and output names; an ONNX graph knows more of them than an OpenVINO IR.

    Raises:
        InputError: The two take different inputs.
    """
    sides = [_interface_of(side) for side in (base, candidate)]
    wants = [{spec.name: (spec.dtype, len(spec.shape)) for spec in specs} for specs, _ in sides]
    if wants[0] != wants[1]:
        shown = [", ".join(f"{spec.name} {spec}" for spec in specs) for specs, _ in sides]
        raise InputError(
            f"{base.path} and {candidate.path} take different inputs: {shown[0]} against {shown[1]}",
            "compare models with the same inputs",
        )
    specs, names = sides[0] if _graph(base) or not _graph(candidate) else sides[1]
    for side in (base, candidate):
        if side.artifact.main.suffix == ".xml":  # it may take fewer shapes than the graph that it was made from
            specs = _fixed_as(specs, ir_interface(side.artifact.main)[0])
    return specs, names


def _fixed_as(specs: tuple[InputSpec, ...], others: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """Inputs with the sizes fixed that are fixed in others of the same names."""
    sizes = {other.name: other.shape for other in others}
    return tuple(
        replace(
            spec,
            shape=tuple(
                dim if size is None else size
                for dim, size in zip(spec.shape, sizes.get(spec.name, spec.shape), strict=True)
            ),
        )
        for spec in specs
    )


def _interface_of(side: Subject) -> tuple[tuple[InputSpec, ...], tuple[str, ...]]:
    graph = _graph(side)
    return (input_specs(graph.graph), graph.output_names) if graph else ir_interface(side.artifact.main)


def _graph(side: Subject) -> Model | None:
    return load(side.artifact.graph) if side.artifact.graph.suffix == ".onnx" else None


def _accuracy(
    comparison: Comparison, pair: _Pair, sessions: tuple[Session, Session], listener: Listener
) -> tuple[Accuracy, tuple[Fidelity, ...]]:
    spec = comparison.evaluation.metric
    metric = load_metric(spec) if spec else None
    with evaluator(
        sessions[0], pair.samples, pair.inputs, metric, names=pair.names, seed=0, progress=listener.progress
    ) as judge:
        check_budget(comparison.budget, judge.fraction)
        outputs = judge.outputs(sessions[1], "candidate")
        return judge.accuracy(outputs, pair.candidate.where), judge.fidelity(outputs)


def _latency(comparison: Comparison, pair: _Pair, score: float) -> Latency:
    options = comparison.evaluation
    reason = "not asked for" if options.skip_bench else pair.base.emulated or pair.candidate.emulated
    if reason:
        return Latency(reason=reason)
    batch = next(pair.samples.batches(comparison.inputs.batch))
    sides = {"base": pair.base, "candidate": pair.candidate}
    seen = alternate(
        {name: partial(_runner, side, batch.feed) for name, side in sides.items()}, seconds=options.seconds
    )
    ratio, interval = speedup(seen["base"], seen["candidate"])
    return Latency(
        batch=batch.count,
        threads=len(os.sched_getaffinity(0)),
        baseline_float=FloatLatency(pair.base.path.name, score, times(seen["base"])),
        candidate=CandidateLatency(pair.candidate.path.name, times(seen["candidate"])),
        speedup=ratio,
        speedup_ci95=interval,
        runs=len(seen["base"]),
    )


@contextmanager
def _runner(side: Subject, feed: Feed) -> Iterator[Callable[[], object]]:
    with side.open() as session:
        yield lambda: session.run(feed)


def _report(pair: _Pair, accuracy: Accuracy, close: tuple[Fidelity, ...], latency: Latency) -> Report:
    base, candidate, samples = pair.base, pair.candidate, pair.samples
    model = _graph(base)
    counts = (model.nodes, model.parameters, model.bytes) if model else (0, 0, base.bytes)
    target = candidate.target
    device = target.device() if not candidate.emulated else "none"
    return Report(
        infopt=__version__,
        command="compare",
        verdict=UNJUDGED,
        model=ModelFacts(base.path.as_posix(), sha256_files(base.artifact.files), *counts, None),
        target=target_facts(target, target.version(), device),
        data=Data(
            None,
            EvalData(samples.path.as_posix(), len(samples), 0, samples.sha256(), samples.labels is not None),
        ),
        accuracy=accuracy,
        fidelity=close,
        latency=latency,
        size=Size(base.bytes, candidate.bytes),
        memory=Memory(None, "that takes a run of the artifact alone"),
        kernels=_kernels(candidate),
        layers=(),
        steps=(),
        environment=environment(),
        warnings=samples.notes,
    )


def _kernels(candidate: Subject) -> KernelCount:
    try:
        found = candidate.kernels()
    except Unmeasured as error:
        return KernelCount(None, None, (), str(error))
    return KernelCount(
        found.integer,
        found.total,
        tuple(FloatLayer(n.name, n.op, None, None) for n in found.float_nodes),
        compressed=found.compressed,
    )
