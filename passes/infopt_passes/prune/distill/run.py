"""A distillation from the pruned graph to the recovered one, and what is told of it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch

from infopt import __version__
from infopt.cache import cache_folder
from infopt.errors import RuntimeRefused
from infopt.facts import COMPUTE_OPS
from infopt.flops import flops
from infopt.model import Note
from infopt.options import plain
from infopt.passes import Context
from infopt.probe import values_by_name
from infopt.sizes import tensor_bytes
from infopt_passes.calibrate.identity import graph_digest, of_samples
from infopt_passes.calibrate.store import key_of
from infopt_passes.prune.distill.batches import Batches
from infopt_passes.prune.distill.check import check_classes
from infopt_passes.prune.distill.checkpoint import Checkpoint
from infopt_passes.prune.distill.executor import Executor, as_tensor
from infopt_passes.prune.distill.loss import LABELLED, Aim
from infopt_passes.prune.distill.parameters import tensors, trained, write, zeros
from infopt_passes.prune.distill.teacher import Kept, Teacher, powers
from infopt_passes.prune.distill.training import Lesson, State, train
from infopt_passes.prune.recovery.recover import FEWEST

if TYPE_CHECKING:
    import numpy.typing as npt

    from infopt_passes.prune import Prune

BATCH = 32
"""Samples of a step."""

INNER = 5.0
"""Weight of all tensors inside together, beside each output's: few samples tell more by them than by outputs alone."""

SEEN = 64
"""Samples that tell how much outputs vary."""

EPOCHS = 60
"""Times that the samples are looked at, at most, where nobody says how often."""

FEWEST_EPOCHS = 4

WORK = 5e12
"""Operations of the pruned model, forward and for one sample at a time, that all epochs may take where nobody says how
many; with gradients and the float model it is about four times that, some minutes on two processors."""

SHARE = 4
"""The activations of the samples that run at once, and their gradients, may take this part of the memory budget."""

COPIES = 3
"""What training holds of each activation, about: itself, its gradient, and what its operator keeps."""

FORMAT = 1
"""Number of the checkpoints' content; a change makes older ones useless."""


def distilled(exact: ir.Model, graph: ir.Model, kept: Kept, options: Prune, context: Context) -> list[Note]:
    """Train a pruned graph, in place, to compute what the float model does.

    Memory: the trained weights five times (themselves, their gradients, two moments, the best ones), and the
    activations of as many samples as fit into the budget, at least one. Samples are read as they are needed.

    Args:
        exact: The float model; tensors have the names of ``graph``.
        graph: The pruned model.
        kept: What the pruned model has of the float model's tensors.
        options: How.
        context: Brings samples, seed and memory budget.

    Returns:
        What is told of it.
    """
    samples = context.need_calibration("prune")
    if len(samples) < FEWEST:
        return [_left(f"needs at least {FEWEST} samples")]
    values = trained(graph)
    weights = tensors(values)
    batches = _batches(graph, context)
    aims = _aims(exact, graph, kept, batches, context)
    if not any(aim.name == value.name for aim in aims for value in graph.graph.outputs):
        return [_left("no output depends on weights that can be trained, or none varies")]
    names = [aim.name for aim in aims]
    outputs = sum(value.name in names for value in graph.graph.outputs)
    masks = zeros(graph, values) if options.kind != "structured" else {}
    scores = aims[0].name == graph.graph.outputs[0].name
    teacher = Teacher.of(exact, names, kept, context)
    labels = _labels(teacher, batches) if options.fine_tune and scores else None
    lesson = Lesson(
        Executor(graph, weights, names),
        teacher,
        aims,
        outputs,
        batches,
        masks,
        _epochs(graph, batches, options),
        labels,
        _probable(graph),
    )
    key = key_of(_identity(exact, graph, options, context))
    state = train(lesson, weights, context, Checkpoint(cache_folder("distillation"), key))
    write(values, state.best)
    return _told(lesson, state)


def _batches(graph: ir.Model, context: Context) -> Batches:
    """The samples, as many at once as memory and the model allow."""
    samples = context.need_calibration("prune")
    made = [value.name for node in graph.graph for value in node.outputs if value.name]
    folder = Path(tempfile.mkdtemp(prefix="distill-", dir=context.workdir))
    each = sum(tensor_bytes(graph, made, next(samples.feeds()), folder).values())
    fit = max(1, min(BATCH, context.memory // SHARE // max(COPIES * each, 1)))
    several = Batches(samples, context.seed, BATCH, int(fit))
    return several if fit == 1 or _runs(graph, several, context) else replace(several, at_once=1)


def _epochs(graph: ir.Model, batches: Batches, options: Prune) -> int:
    """Times that the samples are looked at: as often as the user says, or as work of some minutes allows."""
    shapes = {name: array.shape for name, array in next(batches.samples.feeds()).items()}
    each = (flops(graph, shapes) or 0) * len(batches.learned) / (batches.fixed or 1)
    return options.epochs or int(min(EPOCHS, max(FEWEST_EPOCHS, WORK // max(each, 1))))


def _labels(teacher: Teacher, batches: Batches) -> npt.NDArray[Any] | None:
    """The labels of the samples, each a class that the first tensor of the float model has a score for."""
    labels = batches.samples.samples.labels
    if labels is not None:
        scores = teacher.run(next(batches.parts(batches.learned[:1])).feed)[0]
        check_classes(labels, scores.shape[-1])
    return labels


def _runs(graph: ir.Model, batches: Batches, context: Context) -> bool:
    """Whether a model that takes any batch by its inputs' shapes computes several samples at once."""
    teacher = Teacher.of(graph, [value.name or "" for value in graph.graph.outputs], {}, context)
    try:
        for part in batches.parts(batches.learned[:2]):
            teacher.run(part.feed)
    except RuntimeRefused:
        return False
    return True


def _aims(exact: ir.Model, graph: ir.Model, kept: Kept, batches: Batches, context: Context) -> list[Aim]:
    """The outputs and the tensors inside that trained weights have a part in, and how much each varies."""
    outputs = [value.name or "" for value in graph.graph.outputs]
    names = [*outputs, *(name for name in _read(graph, exact) if name not in outputs)]
    weights = {name: weight.requires_grad_() for name, weight in tensors(trained(graph)).items()}
    part = next(batches.parts(batches.learned[:1]))
    student = Executor(graph, weights, names)
    found = student.run({name: as_tensor(array) for name, array in part.feed.items()}, weights)
    wanted = Teacher.of(exact, names, kept, context).run(part.feed)
    both = zip(names, found, wanted, strict=True)
    names = [name for name, made, other in both if made.requires_grad and tuple(made.shape) == other.shape]
    if not names:
        return []
    teacher = Teacher.of(exact, names, kept, context)
    answers = (teacher.run(part.feed) for part in batches.parts(batches.learned[:SEEN]))
    spread = {name: power for name, power in zip(names, powers(answers, len(names)), strict=True) if power > 0}
    inner = INNER / max(1, len(spread.keys() - set(outputs)))
    return [Aim(name, power, 1.0 if name in outputs else inner) for name, power in spread.items()]


def _read(graph: ir.Model, exact: ir.Model) -> list[str]:
    """What layers with trained weights read, of both models."""
    weights, known = set(trained(graph)), values_by_name(exact.graph)
    found = dict.fromkeys(
        value.name or ""
        for node in graph.graph
        if node.op_type in COMPUTE_OPS and weights.intersection(node.inputs)
        for value in node.inputs
        if value is not None and value not in weights and value.producer() is not None
    )
    return [name for name in found if name in known]


def _probable(graph: ir.Model) -> bool:
    """Whether the first output is probabilities."""
    node = graph.graph.outputs[0].producer()
    return node is not None and node.op_type == "Softmax"


def _identity(exact: ir.Model, graph: ir.Model, options: Prune, context: Context) -> dict[str, Any]:
    """All that the result depends on."""
    return {
        "format": FORMAT,
        "versions": [__version__, torch.__version__, version("onnxruntime"), np.__version__],
        "graphs": [graph_digest(exact), graph_digest(graph)],
        "options": plain(options),
        "threads": torch.get_num_threads(),
        "seed": context.seed,
        "memory": context.memory,
        **of_samples(context.need_calibration("prune")),
    }


def _left(why: str) -> Note:
    return Note("warning", "distillation", f"{why}, and is left out")


def _told(lesson: Lesson, state: State) -> list[Note]:
    held, learned = len(lesson.batches.held), len(lesson.batches.learned)
    came = f"{state.start:.3g} -> {state.reached:.3g} of the outputs' variance"
    also = ""
    if lesson.labels is not None:
        came, also = f"{came}, with {LABELLED:.0%} of the labels' cross-entropy", " and their labels"
    epochs = -(-state.step // lesson.batches.steps)
    what = f"{epochs} epochs over {learned} samples{also}: distance to the float model on {held} held back {came}"
    notes = [Note("choice", "distillation", what)]
    if state.reached >= state.start:
        why = "brought the held-back samples no nearer to the float model: the weights are those before it"
        notes.append(Note("warning", "distillation", why))
    if state.rolled:
        when = ", ".join(str(epoch + 1) for epoch in state.rolled)
        why = f"was not finite or diverged in epoch {when}: rolled back to the best weights so far, with half the rate"
        notes.append(Note("warning", "distillation", why))
    return notes
