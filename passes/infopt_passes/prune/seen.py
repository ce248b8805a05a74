"""What the layers of a model under way read on calibration samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import onnx_ir as ir

from infopt.facts import WEIGHT_INPUT, is_constant
from infopt.passes import Context
from infopt_passes.fitting.gather import Reading, moments
from infopt_passes.fitting.layout import layout
from infopt_passes.fitting.moments import Moments

ROWS = 32768
"""Rows of a layer that all runs together give, about: least squares of new weights wants more than rounding does."""

COPIES = 6
"""Matrices of a layer's columns that are in memory at once, about."""


class Twins(Protocol):
    """A model as it was, and the same one under way."""

    @property
    def exact(self) -> ir.Model:
        """The model as it was."""
        ...

    @property
    def graph(self) -> ir.Model:
        """The model under way, with the names of ``exact``."""
        ...

    def pairs(self) -> Iterator[tuple[ir.Node, ir.Node]]:
        """Each node as it was, and as it is."""
        ...


def readings(work: Twins, context: Context) -> list[tuple[ir.Node, Reading]]:
    """Layers that can be looked at: each as it is, with a reading of it as it was."""
    found = []
    for exact, node in work.pairs():
        known = layout(exact)
        known = known if known and known.ordinary else None
        weight = node.inputs[WEIGHT_INPUT] if known else None
        data = exact.inputs[0] if known else None
        if (
            known is None
            or not known.ordinary
            or weight is None
            or weight.dtype != ir.DataType.FLOAT
            or is_constant(data)
        ):
            continue
        if COPIES * known.groups * known.columns**2 * 8 <= context.memory:
            found.append((node, Reading(exact, known, other=data.name if data is not None else None)))
    return found


def observed(
    work: Twins, some: Sequence[tuple[ir.Node, Reading]], context: Context
) -> Iterator[tuple[ir.Node, Reading, Moments]]:
    """Moments of what layers read, in the model as it was and as it is."""
    nodes = {id(reading): node for node, reading in some}
    for reading, seen in moments(work.exact, [reading for _, reading in some], context, work.graph, ROWS):
        yield nodes[id(reading)], reading, seen
