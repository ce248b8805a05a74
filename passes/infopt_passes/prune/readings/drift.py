"""What a sum lacks before a layer's output is added to it: the layer can make up for that besides its own error.

A residual stream is a sum over all layers so far. If each reproduces its own output alone, their errors pile up; a
target of the whole sum, less what is in it already, lets each one take back what the ones before it left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import is_constant
from infopt_passes.fitting.gather import Reading
from infopt_passes.fitting.layout import Layout
from infopt_passes.fitting.patches import Window
from infopt_passes.fitting.places import output_channels

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Drift:
    """The other operand of a sum.

    Attributes:
        name: Its name.
        layout: How rows of it are drawn where the layer's places of output are.
        groups: Groups of the layer.
    """

    name: str
    layout: Layout
    groups: int

    def rows(self, data: Array, limit: int, rng: np.random.Generator) -> Array:
        """Rows at the places of output that the layer's own rows are drawn of, of shape (groups, rows, outputs)."""
        flat = self.layout.rows(data, limit, rng)[0]
        found: Array = flat.reshape(len(flat), self.groups, -1).transpose(1, 0, 2)
        return found

    def fits(self, data: Array, read: Array, reading: Reading) -> bool:
        """Whether the operand has the shape of the layer's output for what the layer reads."""
        window, channels = reading.layout.window, self.layout.columns
        if window is None:
            return data.shape == (*read.shape[:-1], channels)
        return data.shape == (read.shape[0], channels, *window.places(read.shape[2:])[0])


def drift_of(reading: Reading) -> Drift | None:
    """The operand that a layer's output is added to, directly or after its bias; ``None`` where it is not.

    Args:
        reading: The layer, in the float graph.
    """
    node = reading.node
    if reading.layout.factor != 1 or reading.layout.transposed:
        return None
    other = _partner(node.outputs[0])
    if other is not None and is_constant(other):
        other = _partner(_only_use(node.outputs[0]).outputs[0])  # type: ignore[union-attr]
    if other is None or is_constant(other) or not other.name:
        return None
    channels = output_channels(node)
    axes = len(reading.layout.window.kernel) if reading.layout.window else 0
    ones = (1,) * axes
    window = Window(ones, ones, ones, (0,) * 2 * axes) if axes else None
    return Drift(other.name, Layout(window, 1, (channels, channels, *ones)), reading.layout.groups)


def _partner(value: ir.Value) -> ir.Value | None:
    """The other operand of the Add that alone reads a tensor."""
    node = _only_use(value)
    if node is None or node.op_type != "Add" or node.domain != "":
        return None
    return next((other for other in node.inputs if other is not value), None)


def _only_use(value: ir.Value) -> ir.Node | None:
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None
