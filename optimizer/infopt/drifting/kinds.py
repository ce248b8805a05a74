"""How a tensor is looked at: as columns of a table, as channels of a picture or signal, or as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["columns", "channels", "tokens", "classes"]

MOST_COLUMNS = 256
"""A row of more numbers is a signal."""

MOST_CHANNELS = 32
"""More channels are thinned evenly."""

MOST_ID_COLUMNS = 32
"""A row of more integers, or of any number of them, is text rather than a table."""


@dataclass(frozen=True, slots=True)
class View:
    """How a tensor is looked at.

    Attributes:
        kind: ``columns``: a statistic is a column's value; ``channels``: statistics are computed over a channel's
            values; ``tokens``: ids without an order; ``classes``: scores of classes.
        axis: Of ``channels``: the axis of the channels in a sample (without the batch), ``None`` for a single one.
    """

    kind: Kind
    axis: int | None = None


def input_view(dtype: np.dtype[Any], shape: Sequence[int | str | None]) -> View:
    """How an input is looked at; its dtype and rank decide.

    Args:
        dtype: Its element type.
        shape: Of one sample, without the batch; what is no integer may vary.
    """
    if dtype.kind not in "biuf" and not dtype.name.startswith(("bfloat", "float")):
        return View("tokens")
    width = shape[0] if shape else 1
    if len(shape) > 1:
        return View("channels", channel_axis(shape))
    if dtype.kind in "iu" and dtype.itemsize >= 4:
        return View("columns" if isinstance(width, int) and width <= MOST_ID_COLUMNS else "tokens")
    return View("columns" if isinstance(width, int) and width <= MOST_COLUMNS else "channels")


def output_view(shape: Sequence[int]) -> View:
    """How a float output is looked at: a row of several numbers is taken for scores of classes."""
    if len(shape) > 1:
        return View("channels", channel_axis(shape))
    return View("classes") if shape and shape[0] > 1 else View("columns")


def channel_axis(shape: Sequence[int | str | None]) -> int:
    """The axis of a sample that counts channels: the first or the last, whichever is fixed, then whichever is shorter.

    Args:
        shape: Of one sample, two axes at least.
    """
    first, last = shape[0], shape[-1]
    if isinstance(first, int) != isinstance(last, int):
        return 0 if isinstance(first, int) else len(shape) - 1
    shorter = isinstance(first, int) and isinstance(last, int) and last < first
    return len(shape) - 1 if shorter else 0
