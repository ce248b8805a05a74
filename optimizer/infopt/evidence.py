"""The evidence on a build: accuracy, fidelity, latency and kernels, each measured or null with its reason."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from infopt.accuracy import Accuracy, Fidelity
from infopt.bench import Latency
from infopt.budget import check_budget
from infopt.changes import Changes
from infopt.errors import RuntimeRefused, Unmeasured
from infopt.evaluate import Evaluator, Where, evaluator
from infopt.illustrate import illustrated
from infopt.measure import Contest, Result, contest, float_artifacts
from infopt.model import Model, load, save
from infopt.passes import Context, run
from infopt.report import FloatLayer, KernelCount, Layer
from infopt.resolve import Resolved
from infopt.target import Artifact, CompileOptions, Session, Target
from infopt.targets.onnxruntime import EMULATE, open_onnx
from infopt.ui import Listener


@dataclass(frozen=True, slots=True)
class Build:
    """What was built.

    Attributes:
        graph: The target-true ONNX file.
        model: The model in it, with its history.
        artifact: The compiled artifact; ``None`` when it could not be built here.
        candidates: The artifact by name of each runtime setting that is worth measuring.
        missing: Why there is no artifact.
    """

    graph: Path
    model: Model
    artifact: Artifact | None
    candidates: dict[str, Artifact]
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured on a build; keys as in the report."""

    accuracy: Accuracy | None
    accuracy_reason: str | None
    fidelity: tuple[Fidelity, ...]
    latency: Latency
    kernels: KernelCount
    artifact: Artifact | None
    warnings: tuple[str, ...] = ()
    changes: Changes = Changes()
    layers: tuple[Layer, ...] = ()


def gather(resolved: Resolved, build: Build, workdir: Path, listener: Listener) -> Evidence:
    """Measure a build.

    Args:
        resolved: What the user wants.
        build: What was built.
        workdir: Folder for the float baselines.
        listener: Hears of the progress.

    Returns:
        The evidence; its artifact carries the fastest settings.
    """
    raced = _race(resolved, build, workdir, listener)
    artifact = raced.candidate if isinstance(raced, Result) else build.artifact
    latency = raced.latency if isinstance(raced, Result) else raced
    kernels = _kernels(resolved, build, artifact)
    layers, remarks = _layers(resolved, build, workdir, listener)
    if resolved.evaluation is None:
        return Evidence(None, _no_accuracy(resolved), (), latency, kernels, artifact, remarks, layers=layers)
    listener.stage("Measuring accuracy")
    with _evaluator(resolved, listener) as judge:
        check_budget(resolved.recipe.budget, judge.fraction)
        with _candidate(resolved, build, artifact) as (session, where):
            outputs = judge.outputs(session, "candidate")
        if isinstance(raced, Result):
            latency = _with_float_accuracy(resolved, raced, judge)
        accuracy, close = judge.accuracy(outputs, where), judge.fidelity(outputs)
        changes = illustrated(judge.changes(outputs, accuracy), resolved.evaluation, resolved.recipe.evaluation)
    warnings = (*remarks, *_scales(resolved, build, workdir), *changes.warnings)
    return Evidence(accuracy, None, close, latency, kernels, artifact, warnings, changes, layers)


def _scales(resolved: Resolved, build: Build, workdir: Path) -> tuple[str, ...]:
    """Warnings where evaluation samples are of another scale than the ranges, which come from calibration samples."""
    if resolved.calibration is None or resolved.evaluation is None or not build.model.ranges:
        return ()
    from infopt.clipping import scale_warnings

    folder = Path(tempfile.mkdtemp(dir=workdir))
    return scale_warnings(build.model, resolved.calibration, resolved.evaluation, resolved.recipe.job.seed, folder)


def _layers(
    resolved: Resolved, build: Build, workdir: Path, listener: Listener
) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """How far each layer's output moved, where real samples can tell within the memory limit, and warnings."""
    samples, memory = resolved.calibration, resolved.recipe.calibration.memory
    skipped = resolved.recipe.evaluation.skip or resolved.synthetic or samples is None
    if skipped or 2 * resolved.model.bytes > memory or not build.model.quantized_nodes():
        return (), ()
    from infopt.blaming.sweep import layer_errors

    assert samples is not None
    listener.stage("Comparing layers")
    folder = Path(tempfile.mkdtemp(dir=workdir))
    try:
        return layer_errors(resolved.model.graph, load(build.graph).graph, samples, memory // 2, folder), ()
    except RuntimeRefused as error:
        return (), (f"layers were not compared with the float model's: {error.reason}",)


def _race(resolved: Resolved, build: Build, workdir: Path, listener: Listener) -> Result | Latency:
    """Latencies and winners, or a latency that says why there are none."""
    options = resolved.recipe.evaluation
    reason = "not asked for" if options.skip or options.skip_bench else build.missing or resolved.target.runnable()
    if reason:
        return Latency(reason=reason)
    listener.stage("Measuring latency")
    shapes = CompileOptions(shapes=resolved.shapes)
    floats = float_artifacts(resolved.target, resolved.model.path, workdir, shapes)
    if not floats:
        floats = _floats_of_passes(resolved, workdir, shapes)
    if not floats:
        return Latency(reason=f"{resolved.target.runtime} refuses the float model, so there is no baseline")
    batch = resolved.one_batch(resolved.recipe.inputs.batch)
    return contest(
        Contest(
            resolved.target,
            floats,
            build.candidates,
            batch.feed,
            batch.count,
            options.seconds,
            resolved.recipe.job.seed,
        )
    )


def _floats_of_passes(resolved: Resolved, workdir: Path, shapes: CompileOptions) -> dict[str, Artifact]:
    """What the passes that need no samples make of the float model, for a runtime that refuses it as it is."""
    passes = [step for step in resolved.recipe.passes if not step.calibrated]
    if not passes:
        return {}
    folder = Path(tempfile.mkdtemp(dir=workdir))
    inputs = resolved.inputs if resolved.shapes else ()
    model = run(resolved.model, passes, Context(folder, resolved.target, inputs=inputs))
    save(model.graph, folder / "model.onnx")
    built = float_artifacts(resolved.target, folder / "model.onnx", folder, shapes)
    return {f"{name}, simplified": artifact for name, artifact in built.items()}


@contextmanager
def _evaluator(resolved: Resolved, listener: Listener) -> Iterator[Evaluator]:
    """Accuracy's baseline: the original model in ONNX Runtime, float32."""
    assert resolved.evaluation is not None
    baseline = open_onnx(resolved.model.path, {})
    with evaluator(
        baseline,
        resolved.evaluation,
        resolved.inputs,
        resolved.metric,
        names=resolved.model.output_names,
        seed=resolved.recipe.job.seed,
        progress=listener.progress,
    ) as judge:
        yield judge


@contextmanager
def _candidate(resolved: Resolved, build: Build, artifact: Artifact | None) -> Iterator[tuple[Session, Where]]:
    """The artifact where it runs; elsewhere its graph with Q/DQ as written, in ONNX Runtime."""
    if artifact is not None and resolved.target.runnable() is None:
        with resolved.target.open(artifact) as session:
            yield session, "deployed"
    else:
        yield open_onnx(build.graph, EMULATE), "emulated"


def _with_float_accuracy(resolved: Resolved, raced: Result, judge: Evaluator) -> Latency:
    with resolved.target.open(raced.baseline) as session:
        score = judge.score(judge.outputs(session, "fastest float"))
    assert raced.latency.baseline_float is not None
    return replace(raced.latency, baseline_float=replace(raced.latency.baseline_float, accuracy=score))


def _no_accuracy(resolved: Resolved) -> str:
    if resolved.recipe.evaluation.skip:
        return "not asked for"
    return "calibration inputs are made up" if resolved.synthetic else "there is no evaluation data: give --eval PATH"


def _kernels(resolved: Resolved, build: Build, artifact: Artifact | None) -> KernelCount:
    """What the runtime says that it runs; where it cannot tell, what the passes left in float."""
    graph = {node.name or "": node.op_type for node in build.model.graph.graph.all_nodes()}
    whys = {note.node: note.why for note in build.model.notes if note.kind == "float"}
    planned = tuple(FloatLayer(name, graph.get(name, ""), why, None) for name, why in whys.items())
    if not build.model.quantized_nodes() and (planned or any(step.calibrated for step in resolved.recipe.passes)):
        return KernelCount(0, len(planned), planned, "no layer was quantized: the graph is the float model")
    if artifact is None:
        return KernelCount(None, None, planned, build.missing)
    try:
        found = resolved.target.kernels(artifact)
    except Unmeasured as error:
        return KernelCount(None, None, planned, str(error))
    if not build.model.quantized_nodes():
        return KernelCount(found.integer, found.total, (), "the model is float")
    layers = []
    for layer in found.float_nodes:
        name = layer.origin(graph)
        op = graph.get(name, layer.op)
        layers.append(FloatLayer(name, op, whys.get(name) or _unplanned(op, resolved.target), None))
    return KernelCount(found.integer, found.total, tuple(layers), compressed=found.compressed)


def _unplanned(op: str, target: Target) -> str:
    if target.table.rule(op) is None:
        return f"infopt's table of {target.name} has no integer {op}"
    return "the runtime did not turn it into an integer kernel"
