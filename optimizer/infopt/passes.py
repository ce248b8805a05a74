"""What a pass is, what it is given, and how passes run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from infopt.errors import InfoptError, InputError
from infopt.options import plain

if TYPE_CHECKING:
    from infopt.data import Feed, InputSpec, Samples
    from infopt.model import Model, Step
    from infopt.selection import Selection
    from infopt.target import Target

Tolerance = Literal["exact", "measured"] | float


@runtime_checkable
class Pass(Protocol):
    """One transformation of a model: a frozen dataclass whose fields are its options.

    Attributes:
        name: Its name in recipes.
        interface: ``"same"``: names, types and ranks of inputs and outputs stay; ``"declared"``: the pass says
            what changes.
        repeat: What a second run does: ``"unchanged"``, ``"refused"`` (an :class:`InputError`) or ``"again"``.
        tolerance: How far outputs may move: ``"exact"``, a relative float tolerance, or ``"measured"`` where
            only the accuracy report can tell.
        calibrated: Whether it looks at calibration samples; its options may decide.
    """

    name: ClassVar[str]
    interface: ClassVar[Literal["same", "declared"]]
    repeat: ClassVar[Literal["unchanged", "refused", "again"]]
    tolerance: ClassVar[Tolerance]

    @property
    def calibrated(self) -> bool:
        """See above; a plain ``ClassVar`` will do."""
        ...

    def __call__(self, model: Model, context: Context) -> Model:
        """Return the transformed model; ``model`` is left as it was.

        A pass that found an option by a search or a measurement says so in ``Model.settled``: the recipe that the run
        leaves then holds what was found.
        """
        ...


@runtime_checkable
class ForTarget(Protocol):
    """What a pass has besides, if not every target can do what its options ask for."""

    def check_target(self, target: Target) -> None:
        """Called before any work.

        Raises:
            OptionError: The target cannot; the message says what it can.
        """
        ...


@runtime_checkable
class Selecting(Protocol):
    """What a pass has besides, if it may look for the most that a budget allows; see :mod:`infopt.selection`."""

    @property
    def selects(self) -> bool:
        """Whether its options leave that to the budget."""
        ...


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """The samples that passes may look at, without labels.

    Attributes:
        samples: Where they come from.
        indices: Which of them are used.
        inputs: The model's inputs with their batch axes.
    """

    samples: Samples
    indices: Sequence[int]
    inputs: tuple[InputSpec, ...]

    @property
    def runs(self) -> int:
        """Runs of the model that all samples take: one each, or one per batch for a model with a fixed batch."""
        return -(-len(self.indices) // self._batch)

    def feeds(self, skip: int = 0) -> Iterator[Feed]:
        """The feed of each run, read as they are needed.

        Args:
            skip: Runs to leave out at the start.
        """
        import numpy as np

        for batch in self.samples.batches(self._batch, np.asarray(self.indices[skip * self._batch :])):
            yield batch.feed

    @property
    def _batch(self) -> int:
        return next((spec.fixed_batch for spec in self.inputs if spec.fixed_batch), None) or 1

    def thinned(self, most: int) -> CalibrationSet:
        """At most so many of the samples, spread evenly over all of them."""
        count = len(self.indices)
        return (
            replace(self, indices=tuple(self.indices[i * count // most] for i in range(most))) if count > most else self
        )

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, slots=True)
class Context:
    """What a pass may use besides the model.

    Attributes:
        workdir: Folder for files that only live during the run.
        target: The runtime that the model is optimized for, if one was named.
        calibration: Samples to look at, if any were given.
        seed: Seed of everything random.
        force: Do what would be refused because it was done before.
        progress: Called with (what, done, total) while a pass works.
        memory: Bytes that calibration may take for weights and activations.
        inputs: The model's inputs, with the sizes that the user fixed; empty where none were.
        selection: Scores candidates, where a budget says how much a pass may do.
    """

    workdir: Path
    target: Target | None = None
    calibration: CalibrationSet | None = None
    seed: int = 0
    force: bool = False
    progress: Callable[[str, int, int], None] = field(default=lambda what, done, total: None)
    memory: int = 2_000_000_000
    inputs: tuple[InputSpec, ...] = ()
    selection: Selection | None = None

    def on_disk(self, model: Model) -> Path:
        """Write the model for a runtime that needs a file.

        Returns:
            Path of an ONNX file of its own folder under ``workdir``; it is gone after the run.
        """
        from infopt.model import save

        path = Path(tempfile.mkdtemp(dir=self.workdir)) / "model.onnx"
        save(model.graph, path)
        return path

    def need_target(self, who: str) -> Target:
        """The target, for a pass that cannot work without one.

        Raises:
            InputError: No target was named.
        """
        if self.target is None:
            raise InputError(f"pass {who!r} needs a target", "give --target NAME")
        return self.target

    def need_calibration(self, who: str) -> CalibrationSet:
        """The calibration samples, for a pass that cannot work without them.

        Raises:
            InputError: No samples were given.
        """
        if self.calibration is None or not len(self.calibration):
            raise InputError(f"pass {who!r} needs calibration samples", "give --calib PATH")
        return self.calibration


def run(model: Model, passes: Sequence[Pass], context: Context) -> Model:
    """Apply passes in order and record each as a step.

    Args:
        model: What to start from; it is left as it was.
        passes: What to apply.
        context: What the passes may use.

    Returns:
        The final model, with a step for each pass.

    Raises:
        InfoptError: A pass changed an interface that it declares to keep; that is a defect of the pass.
    """
    for step in passes:
        start = time.perf_counter()
        result = step(model, context)
        if step.interface == "same" and not _same(interface(model), interface(result)):
            raise InfoptError(
                f"pass {step.name!r} changed inputs or outputs: {interface(model)} -> {interface(result)}"
            )
        seconds = time.perf_counter() - start
        told = [f"{note.node}: {note.why}" for note in result.notes[len(model.notes) :] if note.kind == "choice"]
        done = replace(_step(step, result, seconds), choices=tuple(told))
        model = replace(result, steps=(*model.steps, done), settled=None)
    return model


Interface = tuple[tuple[str | None, str, int | None], ...]


def interface(model: Model) -> Interface:
    """Name, type and rank of every input and output of a model."""
    graph = model.graph.graph
    values = [v for v in graph.inputs if v.name not in graph.initializers] + list(graph.outputs)
    return tuple((v.name, str(v.type), None if v.shape is None else len(v.shape)) for v in values)


def _same(before: Interface, after: Interface) -> bool:
    """Whether an interface is what it was, but for ranks that have become known."""
    known = [(*old[:2], new[2] if old[2] is None else old[2]) for old, new in zip(before, after, strict=False)]
    return len(before) == len(after) and tuple(known) == after


def _step(step: Pass, model: Model, seconds: float) -> Step:
    from infopt.model import Step

    given, found = plain(step), None if model.settled is None else dict(model.settled)
    asked = given if found not in (None, given) else None
    return Step(step.name, found or given, seconds, model.nodes, model.bytes, asked=asked)
