"""The report on one candidate."""

from __future__ import annotations

from dataclasses import dataclass

from infopt import __version__
from infopt.accuracy import Accuracy, Fidelity
from infopt.bench import Latency
from infopt.changes import Changes
from infopt.comparing.sides import Recording, Side, Sides, graph_of
from infopt.data import Samples
from infopt.deliver import environment, target_facts
from infopt.errors import Unmeasured
from infopt.manifest import sha256_file, sha256_files
from infopt.opened import Subject
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
    TargetFacts,
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a candidate; keys as in the report.

    Attributes:
        accuracy: Before and after.
        fidelity: Closeness of the outputs.
        changes: By class and by sample.
    """

    accuracy: Accuracy
    fidelity: tuple[Fidelity, ...]
    changes: Changes


def report_on(sides: Sides, candidate: Side, measured: Measured, latency: Latency) -> Report:
    """Put the report on a candidate together; it is not judged yet."""
    samples, elsewhere = sides.samples, [side for side in (sides.base, candidate) if isinstance(side, Recording)]
    notes = [f"outputs come from {side.path}: the model was not run here" for side in elsewhere]
    notes += [note for side in elsewhere for note in side.notes]
    return Report(
        infopt=__version__,
        command="compare",
        candidate=candidate.path.as_posix(),
        verdict=UNJUDGED,
        model=_model(sides.base),
        target=_target(candidate),
        data=Data(None, _data(samples, (sides.base, candidate))),
        accuracy=measured.accuracy,
        fidelity=measured.fidelity,
        latency=latency,
        size=_size(sides.base, candidate),
        memory=Memory(None, "that takes a run of the artifact alone"),
        kernels=_kernels(candidate),
        layers=(),
        classes=measured.changes.classes,
        samples=measured.changes.samples,
        steps=(),
        environment=environment(),
        warnings=(*samples.notes, *notes, *measured.changes.warnings),
    )


def _data(samples: Samples, sides: tuple[Side, ...]) -> EvalData:
    """The samples; where predictions were compared without data there are only their names."""
    if samples.path in [side.path for side in sides if isinstance(side, Recording)]:
        return EvalData(None, len(samples), 0, None, labelled=False)
    return EvalData(samples.path.as_posix(), len(samples), 0, samples.sha256(), samples.labels is not None)


def _model(base: Side) -> ModelFacts:
    path = base.path.as_posix()
    if isinstance(base, Recording):
        return ModelFacts(path, sha256_file(base.path), 0, 0, 0, None)
    graph = graph_of(base)
    counts = (graph.nodes, graph.parameters, graph.bytes) if graph else (0, 0, base.bytes)
    return ModelFacts(path, sha256_files(base.artifact.files), *counts, None)


def _target(candidate: Side) -> TargetFacts | None:
    if isinstance(candidate, Recording):
        return None
    target = candidate.target
    return target_facts(target, target.version(), "none" if candidate.emulated else target.device())


def _size(base: Side, candidate: Side) -> Size:
    before = base.bytes if isinstance(base, Subject) else 0
    if isinstance(candidate, Recording):
        return Size(before, None, f"{candidate.path.name} holds predictions")
    return Size(before, candidate.bytes)


def _kernels(candidate: Side) -> KernelCount:
    if isinstance(candidate, Recording):
        return KernelCount(None, None, (), "predictions do not tell of kernels")
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
