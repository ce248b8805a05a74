"""What one sample is like, in few numbers.

The values of one sample (pixels of a picture) depend on each other, samples do not. So the unit that is compared is
the sample: a channel counts with its mean, its spread and so on, one number a sample each.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from infopt.drifting.kinds import MOST_CHANNELS, View

Floats = np.ndarray[Any, np.dtype[np.float64]]

BUCKETS = 128
"""Token ids are counted by the remainder of a hash."""

MOST_POSITIONS = 1 << 16
"""Of larger channels whole lines are left out."""

VALUES = "values"
"""The statistic that is a sample of a channel's values: many a sample, so shown and never tested."""

CLIPPED = "clipped"
"""The statistic of a quantized tensor: share of its values outside its range."""

CLASSES, IDS = "top class", "ids"
"""What is counted: one class a sample; buckets of ids that occur in a sample."""


NOT_FINITE = "not finite"
"""The class of scores that hold NaN or infinity."""


class Key(NamedTuple):
    """Names a statistic.

    Attributes:
        of: ``"input"``, ``"output"`` or ``"tensor"`` (a quantized one).
        name: Name of the tensor.
        part: ``"channel 0"``, ``"column 3"``, ``"channels 0 and 1"``; ``""`` for the whole.
        what: The statistic.
    """

    of: str
    name: str
    part: str
    what: str


class Facts(NamedTuple):
    """What is known of one sample.

    Attributes:
        numbers: Number by part and statistic.
        items: Items that occur, by what is counted.
        values: Some values, by part.
    """

    numbers: dict[tuple[str, str], float]
    items: dict[str, list[str]]
    values: dict[str, Floats]


def describe(sample: np.ndarray, view: View, rng: np.random.Generator, values: int = 0) -> Facts:
    """Describe one sample of one tensor.

    Args:
        sample: Its array, without the batch axis.
        view: How it is looked at.
        rng: Chooses the values.
        values: How many values of each channel to give.
    """
    if view.kind == "tokens":
        return _tokens(sample)
    numbers = np.asarray(sample, np.float64)
    if view.kind == "classes":
        return _classes(numbers)
    if view.kind == "columns":
        found = enumerate(numbers.reshape(-1))
        return Facts({(f"column {i}", "value"): float(value) for i, value in found}, {}, {})
    with np.errstate(all="ignore"):  # outputs may be infinite; what comes of it is left out
        return _channels(numbers, view.axis, rng, values)


def _tokens(sample: np.ndarray) -> Facts:
    """Length, variety, and which buckets of ids occur; zeros and empty strings are padding."""
    flat = np.asarray(sample).reshape(-1)
    ids = [each for each in flat.tolist() if each]
    buckets = sorted({zlib.crc32(str(each).encode()) % BUCKETS for each in ids})
    numbers = {("", "length"): float(len(ids)), ("", "distinct"): float(len(set(ids)))}
    return Facts(numbers, {IDS: [str(bucket) for bucket in buckets]}, {})


def _classes(scores: Floats) -> Facts:
    """Confidence, the largest score and the class that has it.

    Scores that are not probabilities are taken for logits; of these there is the free energy too (W. Liu et al.,
    "Energy-based out-of-distribution detection", 2020), which tells of inputs that belong to no class.
    """
    if not np.isfinite(scores).all():
        return Facts({}, {CLASSES: [NOT_FINITE]}, {})
    top = int(scores.argmax())
    numbers = {}
    if scores.min() >= 0 and abs(scores.sum() - 1) < 1e-2:
        shares = scores
    else:
        exponentials = np.exp(scores - scores[top])
        shares = exponentials / exponentials.sum()
        numbers[("", "energy")] = float(scores[top] + np.log(exponentials.sum()))
    ordered = np.partition(shares, -2)
    numbers |= {("", "confidence"): float(ordered[-1]), ("", "margin"): float(ordered[-1] - ordered[-2])}
    return Facts(numbers, {CLASSES: [str(top)]}, {})


def _channels(sample: Floats, axis: int | None, rng: np.random.Generator, values: int) -> Facts:
    planes = _thinned(sample[None] if axis is None else np.moveaxis(sample, axis, 0))
    if not planes.size:
        return Facts({}, {}, {})
    flat = planes.reshape(len(planes), -1)
    means, spreads = flat.mean(axis=1), flat.std(axis=1)
    table = {"mean": means}
    if flat.shape[1] > 1:
        table |= {"spread": spreads, "lowest": flat.min(axis=1), "highest": flat.max(axis=1), "texture": _rough(planes)}
    numbers = {(_part(i), what): float(row[i]) for what, row in table.items() for i in range(len(flat))}
    for one, two in _pairs(len(flat)):
        part = f"channels {one} and {two}"
        numbers[part, "difference"] = float(means[one] - means[two])
        if flat.shape[1] > 1:
            numbers[part, "correlation"] = _correlation(flat[one], flat[two])
    places = rng.integers(0, flat.shape[1], values)
    return Facts(numbers, {}, {_part(i): flat[i, places] for i in range(len(flat))} if values else {})


def _thinned(planes: np.ndarray) -> Floats:
    """At most so many channels and lines, evenly spread; neighbours in a line stay neighbours."""
    if len(planes) > MOST_CHANNELS:
        planes = planes[:: -(-len(planes) // MOST_CHANNELS)]
    size = planes[0].size if len(planes) else 0
    if size > MOST_POSITIONS and planes.ndim > 2:
        planes = planes[:, :: -(-size // MOST_POSITIONS)]
    return np.asarray(planes, np.float64)


def _rough(planes: Floats) -> Floats:
    """Mean difference of neighbours along each axis: noise raises it, blur lowers it."""
    steps = [np.abs(np.diff(planes, axis=axis)).reshape(len(planes), -1) for axis in range(1, planes.ndim)]
    result: Floats = np.mean([each.mean(axis=1) for each in steps if each.shape[1]] or [np.zeros(len(planes))], axis=0)
    return result


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    """Neighbouring channels, and the first with the last: their differences tell channels apart."""
    yield from ((i, i + 1) for i in range(count - 1))
    if count > 2:
        yield 0, count - 1


def _correlation(one: Floats, two: Floats) -> float:
    one, two = one - one.mean(), two - two.mean()
    # Products summed by numpy: a product of vectors starts BLAS's threads, which get in the runtime's way.
    scale = float(np.sqrt(np.square(one).sum() * np.square(two).sum()))
    return float((one * two).sum()) / scale if scale > 1e-12 else 0.0


def _part(channel: int) -> str:
    return f"channel {channel}"
