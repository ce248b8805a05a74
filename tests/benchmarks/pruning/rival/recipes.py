"""What Torch-Pruning's own examples do, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch_pruning as tp
from cutting import evenly, progressively
from tuning import Lesson, Schedule, cosine, milestones


@dataclass(frozen=True)
class Recipe:
    """How a model is pruned and recovered.

    Attributes:
        cut: Prunes a module to a part of its operations.
        schedule: The training behind it.
    """

    cut: Callable[[torch.nn.Module, Lesson, float], torch.nn.Module]
    schedule: Schedule


SGD = Schedule(partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=5e-4), milestones)
"""That of its benchmark on CIFAR-10 (``reproduce/main.py``), stretched or shortened to the time there is."""

ADAMW = Schedule(partial(torch.optim.AdamW, lr=1.5e-4, weight_decay=0.3), cosine, batch=64, smoothing=0.11, clip=1.0)
"""That of its example for vision transformers, without mixed pictures, and in small batches: the time is short."""

RECIPES = {
    "group-norm": Recipe(progressively, SGD),
    "quick-start": Recipe(evenly(partial(tp.importance.GroupMagnitudeImportance, p=2), round_to=8), SGD),
    "taylor": Recipe(evenly(tp.importance.GroupTaylorImportance), ADAMW),
    "taylor-bottleneck": Recipe(evenly(tp.importance.GroupTaylorImportance, bottleneck=True), ADAMW),
}
"""``group-norm`` is that of its benchmark, ``quick-start`` that of its README, ``taylor`` that of its transformers:
all widths, or those inside the blocks alone."""
