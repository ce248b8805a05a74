"""The loop of a distillation: steps, held-back samples after each epoch, roll backs, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from infopt.passes import Context
from infopt_passes.prune.distill.batches import Batches, Part
from infopt_passes.prune.distill.checkpoint import Checkpoint
from infopt_passes.prune.distill.executor import Executor, Tensors, as_tensor
from infopt_passes.prune.distill.loss import LABELLED, Aim, cross_entropy, distance
from infopt_passes.prune.distill.teacher import Teacher

RATE = 0.05
"""Learning rate at its height, as a part of each weight's root mean square and of the error at the start: AdamW makes
steps of about this size whatever the gradients are, and a model that is nearly right must not be shaken."""

SMALLEST = 0.01
"""Root mean square of a weight that is smaller, such as a bias of zeros, for its rate."""

WARM = 20
"""Steps over which the rate rises, at most a tenth of all: the optimizer does not know yet how large gradients are."""

PATIENCE, LEAST_PATIENCE = 0.34, 8
"""Part of all epochs, and epochs at least, without anything better after which it stops: at the height of the rate the
samples held back may well move away for a while."""

DIVERGED = 10.0
"""Times the distance at the start beyond which training has diverged."""

MOST_ROLLBACKS = 3


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned, and from whom.

    Attributes:
        student: The pruned model.
        teacher: The float model; it gives the tensors of ``aims``, in this order.
        aims: What the student computes, in its order.
        outputs: How many of them, the first ones, are the model's outputs.
        batches: The samples.
        masks: Where weights may differ from zero, by name, of those that stay sparse.
        epochs: Times that the samples are looked at, at most.
        labels: Labels by sample, where they are learned as well.
        probable: Whether the first output is probabilities.
    """

    student: Executor
    teacher: Teacher
    aims: Sequence[Aim]
    outputs: int
    batches: Batches
    masks: Tensors
    epochs: int
    labels: npt.NDArray[Any] | None = None
    probable: bool = False

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.epochs * self.batches.steps


@dataclass(slots=True)
class State:
    """How far training is; all of it goes into a checkpoint.

    Attributes:
        weights: As they are.
        best: As they were when the held-back samples were nearest to the float model.
        optimizer: State of the optimizer.
        rates: Learning rate of each weight, at its height.
        step: Steps that are done.
        start: Distance of held-back samples at the start.
        reached: Their distance with ``best``.
        better: Epoch in which that was reached.
        factor: Of the learning rate, halved with each roll back.
        rolled: Epochs in which weights were rolled back.
    """

    weights: Tensors
    best: Tensors
    optimizer: dict[str, Any] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    step: int = 0
    start: float = math.inf
    reached: float = math.inf
    better: int = 0
    factor: float = 1.0
    rolled: list[int] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As a checkpoint holds it."""
        return {name: getattr(self, name) for name in self.__slots__}


def train(lesson: Lesson, weights: Tensors, context: Context, checkpoint: Checkpoint) -> State:
    """Train weights, or go on with that.

    Args:
        lesson: What is learned.
        weights: What to start from, by name.
        context: Hears of the progress.
        checkpoint: Where the state is kept meanwhile; the file is there after an interruption alone.

    Returns:
        The state at the end; ``best`` is what counts.
    """
    saved = checkpoint.load()
    state = State(**saved) if saved else State(_copied(weights), _copied(weights))
    if not saved:
        state.start = state.reached = held_distance(lesson, state.weights)
        state.rates = _rates(state.weights, state.start)
    optimizer = _optimizer(state)
    epochs = range(state.step // lesson.batches.steps, lesson.epochs)
    for epoch in epochs:
        sound = all(_step(lesson, state, optimizer, context) for _ in range(lesson.batches.steps))
        state.step = (epoch + 1) * lesson.batches.steps
        found = held_distance(lesson, state.weights) if sound else math.nan
        if not found <= DIVERGED * state.start:
            if len(state.rolled) == MOST_ROLLBACKS:
                break
            optimizer = _rolled_back(state, epoch)
        elif found < state.reached:
            state.reached, state.best, state.better = found, _copied(state.weights), epoch
        if epoch - max([state.better, *state.rolled]) > max(LEAST_PATIENCE, PATIENCE * lesson.epochs):
            break
        state.optimizer = optimizer.state_dict()
        checkpoint.save(state.plain())
    checkpoint.remove()
    return state


def held_distance(lesson: Lesson, weights: Tensors) -> float:
    """Distance to the float model's outputs, and to labels where they are learned, of the samples held back."""
    total, count = 0.0, 0
    with torch.no_grad():
        for part in lesson.batches.parts(lesson.batches.held):
            total += float(_loss(lesson, part, weights, lesson.outputs)) * len(part.indices)
            count += len(part.indices)
    return total / max(count, 1)


def _step(lesson: Lesson, state: State, optimizer: torch.optim.Optimizer, context: Context) -> bool:
    """One step; whether loss and gradients were finite."""
    batches = lesson.batches
    warm = min(WARM, lesson.steps // 10 + 1)
    share = 0.5 * (1 + math.cos(math.pi * state.step / lesson.steps)) * min(1.0, (state.step + 1) / warm)
    for group, rate in zip(optimizer.param_groups, state.rates, strict=True):
        group["lr"] = rate * state.factor * share
    chosen = batches.step(state.step)
    optimizer.zero_grad()
    for part in batches.parts(chosen):
        loss = _loss(lesson, part, state.weights) * (len(part.indices) / len(chosen))
        loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(state.weights.values(), math.inf)
    if not bool(torch.isfinite(norm)):
        return False
    optimizer.step()
    with torch.no_grad():
        for name, mask in lesson.masks.items():
            state.weights[name].mul_(mask)
    state.step += 1
    context.progress("distilling", state.step, lesson.steps)
    return True


def _loss(lesson: Lesson, part: Part, weights: Tensors, count: int | None = None) -> Tensor:
    """Distance of the first tensors, or of all, and to labels."""
    wanted = lesson.teacher.run(part.feed)
    found = lesson.student.run({name: as_tensor(array) for name, array in part.feed.items()}, weights)
    total = distance(found[:count], wanted[:count], lesson.aims[:count])
    if lesson.labels is not None:
        total = total + LABELLED * cross_entropy(found[0], lesson.labels[part.indices], lesson.probable)
    return total


def _rolled_back(state: State, epoch: int) -> torch.optim.Optimizer:
    """Go back to the best weights, more slowly."""
    state.rolled.append(epoch)
    state.factor /= 2
    state.optimizer = {}
    state.weights = _copied(state.best)
    return _optimizer(state)


def _rates(weights: Tensors, start: float) -> list[float]:
    part = RATE * min(1.0, math.sqrt(start))
    return [part * max(float(weight.square().mean().sqrt()), SMALLEST) for weight in weights.values()]


def _optimizer(state: State) -> torch.optim.Optimizer:
    for weight in state.weights.values():
        weight.requires_grad_()
    groups = [{"params": [weight]} for weight in state.weights.values()]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    if state.optimizer:
        optimizer.load_state_dict(state.optimizer)
    return optimizer


def _copied(weights: Tensors) -> Tensors:
    return {name: weight.detach().clone() for name, weight in weights.items()}
