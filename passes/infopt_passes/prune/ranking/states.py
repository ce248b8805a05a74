"""What recurrent layers read of units: through W of what is in front of them, and through R of their own states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.passes import Context
from infopt_passes.fitting.gather import Reading
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.readings.seen import observed
from infopt_passes.prune.wiring.groups import Group
from infopt_passes.prune.wiring.recurrent import is_recurrent, products

Array = npt.NDArray[Any]

COPIES = 6
"""Matrices of a layer's columns that are in memory at once, about."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a recurrent layer, of all directions or of one.

    Attributes:
        matrix: Its weight, float64 of shape (gates, columns).
        second: Second moments of its columns.
        columns: Columns of each unit, of shape (units, columns of a unit), by number of the group.
    """

    matrix: Array
    second: Array
    columns: dict[int, Array]

    @property
    def power(self) -> float:
        """Mean square of what it adds to the gates."""
        return float(np.einsum("nk,nk->", self.matrix @ self.second, self.matrix))


def recurrent_products(work: Work, context: Context) -> Iterator[tuple[Product, float]]:
    """Products of recurrent layers through which units are read, with the power of all that their gates add up.

    Features and states, forward and backward, are parts of one whole: a state that hardly counts beside the features
    matters little, however large a part of the states it is. Biases make up for nothing here: they are not refitted
    when importance is asked for.

    Args:
        work: The model under way.
        context: Brings samples and memory.
    """
    readers = _readers(work.groups)
    some, slots = [], dict[int, int]()
    for exact, node in work.pairs() if readers else ():
        for slot, reading in products(exact) if node in readers else ():
            if _is_small(reading, node.inputs[slot], context):
                some.append((node, reading))
                slots[id(reading)] = slot
    found: dict[ir.Node, list[Product]] = defaultdict(list)
    for node, reading, seen in observed(work, some, context):
        weight, slot = node.inputs[slots[id(reading)]], slots[id(reading)]
        assert weight is not None
        assert weight.const_value is not None
        if seen.rows and np.isfinite(seen.second).all():
            matrices = reading.layout.matrix(weight.const_value.numpy()).astype(np.float64)
            columns = readers[node].get(slot, {})
            found[node] += [Product(*pair, columns) for pair in zip(matrices, seen.second, strict=True)]
    for layer in found.values():
        whole = sum(product.power for product in layer)
        yield from ((product, whole) for product in layer if product.columns)


def _readers(groups: Sequence[Group]) -> dict[ir.Node, dict[int, dict[int, Array]]]:
    """Recurrent layers that read groups: by position of the weight and number of the group, the units' columns."""
    found: dict[ir.Node, dict[int, dict[int, Array]]] = {}
    for number, group in enumerate(groups):
        for (value, axis), places in group.places.items():
            for use in value.uses():
                if axis == 2 and use.idx in (1, 2) and is_recurrent(use.node):
                    found.setdefault(use.node, {}).setdefault(use.idx, {})[number] = places
    return found


def _is_small(reading: Reading, weight: ir.Value | None, context: Context) -> bool:
    size = COPIES * reading.layout.groups * reading.layout.columns**2 * 8
    return weight is not None and weight.dtype == ir.DataType.FLOAT and size <= context.memory
