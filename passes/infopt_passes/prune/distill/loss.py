"""How far a pruned model is from the float model, and from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LABELLED = 0.1
"""Weight of the cross-entropy of labels beside the distance to the float model's outputs."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A tensor to come near to.

    Attributes:
        name: Its name.
        power: Variance of the float model's values, by which the squared error is divided.
        weight: Its share of the loss.
    """

    name: str
    power: float
    weight: float


def distance(found: Sequence[Tensor], wanted: Sequence[npt.NDArray[Any]], aims: Sequence[Aim]) -> Tensor:
    """Sum of the mean squared errors, each as a part of the variance of what is wanted; a scalar.

    Values that are not finite in the float model, such as masked scores, are left out.
    """
    total = torch.zeros(())
    for one, other, aim in zip(found, wanted, aims, strict=True):
        exact = torch.from_numpy(other)
        sound = torch.isfinite(exact)
        error = one - exact if bool(sound.all()) else torch.where(sound, one - exact, 0.0)
        total = total + aim.weight / aim.power * error.square().mean()
    return total


def cross_entropy(scores: Tensor, labels: npt.NDArray[Any], probable: bool) -> Tensor:
    """Mean cross-entropy of classes, of the samples that have a label; 0 where none has.

    Args:
        scores: Of shape (N, C).
        labels: int64 of shape (N,), or (N, K) padded with -1 where several are right; -1 alone is no label.
        probable: Whether the scores are probabilities rather than logits.
    """
    logs = scores.clamp_min(1e-12).log() if probable else torch.log_softmax(scores, -1)
    given = torch.from_numpy(np.asarray(labels, np.int64).reshape(len(labels), -1))
    right = torch.gather(logs, 1, given.clamp_min(0)).masked_fill(given < 0, float("-inf"))
    known = (given >= 0).any(1)
    return -torch.logsumexp(right[known], 1).sum() / max(int(known.sum()), 1)
