"""What a model answers about one sample and what is right, in words and as classes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from infopt.wording import digits, visible

if TYPE_CHECKING:
    from infopt.data import Samples

FEW_NUMBERS = 6
"""Values of an answer up to which all are told."""

MOST_VALUES = 100
"""Different labels up to which labels of a model without class scores are taken for classes."""

MOST_CLASSES = 10_000
"""Classes of a model up to which those without samples are listed one by one."""

FEW_MISSING = 10
"""Of more classes so many without samples are named: none is forgotten, and a report stays readable."""

_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the samples beside the outputs.

    Attributes:
        count: Number of samples N.
        ids: Names of the samples, if they have any.
        labels: The labels as they are.
        names: Names of the classes, as far as they have any.
        scores: Output rows are scores of classes: float [N, C], and the labels or the metric say so.
        accepted: The labels as classes, int64 [N, K] padded with -1, where they are classes.
        members: Class to the rows of its samples, where labels are classes.
        missing: Classes of the model without samples; a few of them where the model has more than 10,000 classes.
        empty: How many classes have no samples.
    """

    count: int
    ids: tuple[str, ...] | None
    labels: np.ndarray | None
    names: tuple[str, ...] = ()
    scores: bool = False
    accepted: np.ndarray | None = None
    members: dict[int, np.ndarray] | None = field(default=None, repr=False)
    missing: tuple[int, ...] = ()
    empty: int = 0

    @classmethod
    def of(cls, samples: Samples, output: np.ndarray, classifies: bool | None) -> Truth:
        """What is known of samples.

        Args:
            samples: The N samples.
            output: The output that answers about them, ``[N * k, ...]``.
            classifies: Whether the metric takes float [N, C] for class scores; ``None`` leaves it to the labels.
        """
        count, labels, names = len(samples), samples.labels, samples.classes
        bare = cls(count, samples.ids, labels, names)
        width = output.shape[1] if output.ndim == 2 and output.dtype.kind == "f" and len(output) == count else 0
        accepted = _accepted(labels, count, width)
        fits = accepted is not None and width > 1 and accepted.max() < width and classifies is not False
        if accepted is None or not (fits or _few_values(accepted)):
            return replace(bare, scores=bool(classifies) and width > 1)
        members = {int(number): (accepted == number).any(axis=1) for number in np.unique(accepted[accepted >= 0])}
        known = range(width) if fits else range(len(names))
        without = [number for number in known if number not in members]
        missing = tuple(without if len(known) <= MOST_CLASSES else without[:FEW_MISSING])
        found = replace(bare, scores=fits, accepted=accepted, members=members)
        return replace(found, missing=missing, empty=len(without))

    def name(self, number: int) -> str:
        """What a class is called."""
        return self.names[number] if 0 <= number < len(self.names) else str(number)


def answer(output: np.ndarray, index: int, truth: Truth) -> str:
    """A sample's answer as short text: its highest class with the score, or its numbers.

    Args:
        output: Joined output, ``[N * k, ...]``.
        index: The sample.
        truth: Says whether rows are class scores, and the names of classes.
    """
    count = truth.count
    if not output.size or len(output) % count:
        return ""
    value = output.reshape(count, -1, *output.shape[1:])[index]
    if truth.scores and value.shape[0] == 1:
        return _class_answer(value[0], truth)
    flat = value.reshape(-1)
    if value.dtype.kind not in "biuf":
        return visible(", ".join(str(item) for item in flat[:FEW_NUMBERS]), _LENGTH)
    if flat.size <= FEW_NUMBERS:
        return ", ".join(_number(item) for item in flat)
    shape = value.shape[1:] if value.shape[0] == 1 else value.shape
    kept = flat[np.isfinite(flat)].astype(np.float64)
    told = f"mean {digits(float(kept.mean()))}, largest {digits(float(kept.max()))}" if kept.size else "no number"
    return f"[{', '.join(map(str, shape))}]: {told}"


def label_text(truth: Truth, index: int) -> str | None:
    """What is right for a sample, as short text; ``None`` without labels, and for labels that are arrays."""
    if truth.accepted is not None:
        classes = [truth.name(int(number)) for number in truth.accepted[index] if number >= 0]
        return visible(" or ".join(classes), _LENGTH) if classes else None
    if truth.labels is None:
        return None
    value = truth.labels[index]
    if np.size(value) > FEW_NUMBERS:
        return None
    return visible(", ".join(_number(item) for item in np.reshape(value, -1)), _LENGTH)


def _class_answer(scores: np.ndarray, truth: Truth) -> str:
    if np.isnan(scores).all():
        return "no number"
    best = int(np.where(np.isnan(scores), -np.inf, scores).argmax())
    return f"{visible(truth.name(best), _LENGTH)} ({digits(float(scores[best]))})"


def _number(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return digits(float(value), 4) if np.isfinite(value) else str(float(value))
    return str(value)


def _accepted(labels: np.ndarray | None, count: int, width: int) -> np.ndarray | None:
    """Labels that are classes as int64 [N, K]: whole numbers [N], or [N, K] padded with -1.

    A column of zeros and ones for each of ``width`` classes is none of them.
    """
    if labels is None or labels.dtype.kind not in "biu" or labels.ndim not in (1, 2) or len(labels) != count:
        return None
    table = labels.reshape(count, -1).astype(np.int64)
    if not table.size or (table < -1).any() or (table < 0).all() or (1 < width == table.shape[1] and table.max() <= 1):
        return None
    return table


def _few_values(accepted: np.ndarray) -> bool:
    """Whether labels of a model without class scores look like classes: few values, each of several samples."""
    values = np.unique(accepted[accepted >= 0])
    return accepted.shape[1] == 1 and len(values) <= min(MOST_VALUES, len(accepted) // 2)
