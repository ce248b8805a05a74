"""What every reader does with its samples: split into batches, pad the last one, hash each sample."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

import numpy as np

from infopt.data import Batch
from infopt.errors import DataError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infopt.data import Feed, InputSpec


def batch_size(inputs: Sequence[InputSpec], size: int) -> int:
    """The batch to feed: the model's own if it is fixed, else ``size``.

    Raises:
        DataError: Inputs with different fixed batches.
        OptionError: ``size`` is less than 1.
    """
    fixed = {spec.fixed_batch for spec in inputs} - {None}
    if len(fixed) > 1:
        raise DataError(
            f"the inputs disagree on the batch: {', '.join(f'{s.name} {s}' for s in inputs)}",
            "say which axis counts samples with --batch-axis NAME=AXIS|none",
        )
    if size < 1:
        raise OptionError(f"a batch of {size} is not possible")
    return fixed.pop() or size if fixed else size


def chunks(indices: np.ndarray | None, total: int, size: int) -> list[np.ndarray]:
    """Split a choice of samples into batches.

    Args:
        indices: The choice; all ``total`` samples by default.
        total: How many samples there are.
        size: Samples in a batch.

    Raises:
        DataError: An index out of range.
    """
    chosen = np.arange(total) if indices is None else np.asarray(indices, np.int64)
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < total):
        raise DataError(f"samples {chosen.min()} to {chosen.max()} were asked for, there are {total}")
    return [chosen[start : start + size] for start in range(0, chosen.size, size)]


def padded(feed: Feed, inputs: Sequence[InputSpec], count: int) -> Batch:
    """Fill a batch up to the model's fixed batch by repeating its last sample."""
    full = dict(feed)
    for spec in inputs:
        missing = (spec.fixed_batch or count) - count
        if missing > 0:
            last = feed[spec.name].take([-1] * missing, axis=spec.batch_axis)
            full[spec.name] = np.concatenate([feed[spec.name], last], axis=cast("int", spec.batch_axis))
    return Batch(full, count)


def row_digests(feed: Feed, inputs: Sequence[InputSpec], count: int) -> list[str]:
    """Hash of the content of each sample of a feed, over the inputs that have a batch."""
    hashes = [hashlib.blake2b(digest_size=16) for _ in range(count)]
    for spec in inputs:
        if spec.batch_axis is None:
            continue
        rows = np.moveaxis(feed[spec.name], spec.batch_axis, 0)
        for number, state in enumerate(hashes):
            row = rows[number, ...]
            state.update(f"{spec.name}{row.shape}".encode())
            state.update(repr(row.tolist()).encode() if row.dtype.hasobject else row.tobytes())
    return [state.hexdigest() for state in hashes]
