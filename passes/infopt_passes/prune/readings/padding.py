"""Finds the input that says which places are padding, and proves that what stands there counts nowhere."""

from __future__ import annotations

import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.passes import Context
from infopt.probe import opened

if TYPE_CHECKING:
    from infopt.data import Feed

Array = npt.NDArray[Any]

PROOFS = 8
"""Samples with padding that a mask is tried on, at most."""

SAME = 1e-4
"""Part of the largest output that outputs may differ by where padding has changed: rounding does not do more."""


def padding_mask(graph: ir.Model, context: Context) -> str | None:
    """Name of the input that is 1 where a place counts and 0 where it is padding; ``None`` where there is none.

    What an input means is not written anywhere, so it is tried: other inputs are changed wherever a candidate is 0,
    and if no output of the model moves, nothing that is computed at these places reaches an output.

    Args:
        graph: The float model.
        context: Brings samples.
    """
    samples = context.need_calibration("fit")
    feeds = list(islice(samples.feeds(), PROOFS))
    names = [name for name in (feeds[0] if feeds else {}) if all(_is_mask(feed[name]) for feed in feeds)]
    tried = [(name, [feed for feed in feeds if not feed[name].all()]) for name in names]
    tried = [(name, padded) for name, padded in tried if padded and any(_changed(feed, name) for feed in padded)]
    if not tried:
        return None
    folder = Path(tempfile.mkdtemp(prefix="padding-", dir=context.workdir))
    session = opened(graph, folder, {"session.intra_op.allow_spinning": "0"})
    shutil.rmtree(folder)
    for name, padded in tried:
        pairs = [(feed, other) for feed in padded if (other := _changed(feed, name))]
        if all(_alike(session.run(dict(feed)), session.run(other)) for feed, other in pairs):
            return name
    return None


def counted(data: Array, mask: Array | None) -> Array:
    """What stands at places that count, of shape (places, columns); as it is where the mask is not for its shape."""
    if mask is None or data.shape[:-1] != mask.shape:
        return data
    found: Array = data[mask != 0]
    return found


def _is_mask(array: Array) -> bool:
    return array.ndim >= 2 and array.dtype.kind in "biu" and bool(((array == 0) | (array == 1)).all())


def _changed(feed: Feed, name: str) -> dict[str, Array]:
    """A feed with other values at the places of a mask that are 0; empty where no input has such places.

    They are what stands at the first place of the sequence that counts.
    """
    mask, moved = feed[name], False
    result: dict[str, Array] = dict(feed)
    for other, array in feed.items():
        if other == name or array.shape[: mask.ndim] != mask.shape:
            continue
        more = (1,) * (array.ndim - mask.ndim)
        first = np.argmax(mask, axis=-1, keepdims=True).reshape(*mask.shape[:-1], 1, *more)
        there = np.take_along_axis(array, first, axis=mask.ndim - 1)
        result[other] = np.where(mask.reshape(*mask.shape, *more) == 0, there, array).astype(array.dtype)
        moved = moved or bool((result[other] != array).any())
    return result if moved else {}


def _alike(one: list[Array], other: list[Array]) -> bool:
    for left, right in zip(one, other, strict=True):
        if left.shape != right.shape:
            return False
        if left.dtype.kind != "f":
            if not np.array_equal(left, right):
                return False
        elif not np.abs(left - right).max(initial=0.0) <= SAME * np.abs(left).max(initial=0.0):
            return False
    return True
