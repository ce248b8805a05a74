"""Fine-tuning within a time, towards labels or towards the outputs of the model before it was pruned."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

FEWEST = 4
"""Steps that are made even if the time is too short for them."""


@dataclass(frozen=True)
class Lesson:
    """What is learnt from.

    Attributes:
        data: Samples by input.
        labels: Their classes; without them the teacher's outputs are the targets.
        teacher: The model before it was pruned.
    """

    data: dict[str, torch.Tensor]
    labels: torch.Tensor | None
    teacher: torch.nn.Module

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    def batch(self, rows: slice | torch.Tensor) -> dict[str, torch.Tensor]:
        """Some samples."""
        return {name: each[rows] for name, each in self.data.items()}

    def classes(self, rows: slice | torch.Tensor) -> torch.Tensor:
        """The classes of some samples; without labels those that the teacher sees."""
        if self.labels is not None:
            return self.labels[rows]
        with torch.no_grad():
            return self.teacher(*self.batch(rows).values()).argmax(1)


@dataclass(frozen=True)
class Schedule:
    """How is learnt.

    Attributes:
        optimizer: Makes the optimizer of some parameters.
        factor: Factor of the learning rate by the part of the time that has gone.
        batch: Samples in a step.
        smoothing: Label smoothing.
        clip: Largest norm of the gradient; 0 for any.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    factor: Callable[[float], float]
    batch: int = 128
    smoothing: float = 0.0
    clip: float = 0.0


def milestones(gone: float) -> float:
    """A tenth of the rate from 60 % of the time on, a hundredth from 80 %."""
    return 0.1 ** sum(gone >= mark for mark in (0.6, 0.8))


def cosine(gone: float) -> float:
    """Half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(gone, 1.0)))


def tuned(net: torch.nn.Module, lesson: Lesson, schedule: Schedule, budget: tuple[float, float]) -> int:
    """Train a module for some time.

    Args:
        net: The module.
        lesson: What it learns from.
        schedule: How.
        budget: Seconds of wall time and of all processors; it goes on until both are over.

    Returns:
        The steps that were made.
    """
    optimizer = schedule.optimizer(net.parameters())
    start, turns = (time.perf_counter(), time.process_time()), 0
    rates = [group["lr"] for group in optimizer.param_groups]
    net.train()
    while (gone := _gone(start, budget)) < 1 or turns < FEWEST:
        for rows in torch.randperm(len(lesson)).split(min(schedule.batch, len(lesson)))[: _whole(lesson, schedule)]:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule.factor(gone)
            optimizer.zero_grad()
            _loss(net, lesson, rows, schedule).backward()
            if schedule.clip:
                torch.nn.utils.clip_grad_norm_(net.parameters(), schedule.clip)
            optimizer.step()
            turns += 1
    net.eval()
    return turns


def _gone(start: tuple[float, float], budget: tuple[float, float]) -> float:
    """The part of a budget that is over."""
    now = time.perf_counter(), time.process_time()
    return min((at - begun) / max(given, 1e-9) for at, begun, given in zip(now, start, budget, strict=True))


def _whole(lesson: Lesson, schedule: Schedule) -> int:
    """Full batches in the samples."""
    return max(1, len(lesson) // schedule.batch)


def _loss(net: torch.nn.Module, lesson: Lesson, rows: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    feed = {name: changed(each) if each.ndim == 4 else each for name, each in lesson.batch(rows).items()}
    out = net(*feed.values())
    if lesson.labels is not None:
        return functional.cross_entropy(out, lesson.labels[rows], label_smoothing=schedule.smoothing)
    with torch.no_grad():
        wanted = lesson.teacher(*feed.values()).softmax(1)
    return functional.cross_entropy(out, wanted)


def changed(images: torch.Tensor, room: int = 4) -> torch.Tensor:
    """Pictures mirrored at random and moved by up to four pixels, with the darkest value beside them."""
    mirrored = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)
    wide = functional.pad(mirrored, (room,) * 4, value=float(images.min()))
    height, width = images.shape[-2:]
    places = torch.randint(0, 2 * room + 1, (len(images), 2)).tolist()
    return torch.stack([each[:, y : y + height, x : x + width] for each, (y, x) in zip(wide, places, strict=True)])
