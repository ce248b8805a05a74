"""A model that is being pruned: its weights are zeroed where units are gone, and cut only at the end.

All tensors keep their shapes until then, so that what a layer reads can be compared with the float model's, index by
index; a layer whose weight is zero where it reads a unit computes what it will when the unit is removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt_passes.prune.cutting.prepare import prepared
from infopt_passes.prune.cutting.surgery import masks_of, removal, remove, zeroed
from infopt_passes.prune.wiring.axes import Axis
from infopt_passes.prune.wiring.groups import Group, Structure, structure
from infopt_passes.prune.wiring.weights import weights_of

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Work:
    """A model under way.

    Attributes:
        exact: The model as it was, with the names of ``graph``.
        graph: The model with zeroed weights.
        found: What can be pruned of ``graph``.
        kept: Units that are kept, as booleans, of each group.
        added: Axes of constants that were added on the way, each with the axis that it goes along with.
    """

    exact: ir.Model
    graph: ir.Model
    found: Structure
    kept: list[Array]
    added: dict[Axis, Axis] = field(default_factory=dict)

    @staticmethod
    def of(graph: ir.Model) -> Work:
        """Begin with a model; it is left as it was."""
        work = prepared(graph)
        found = structure(work.graph)
        return Work(work.clone(), work, found, [np.ones(group.units, bool) for group in found.groups])

    @property
    def groups(self) -> Sequence[Group]:
        """The groups."""
        return self.found.groups

    def pairs(self) -> Iterator[tuple[ir.Node, ir.Node]]:
        """Each node as it was, and as it is."""
        yield from zip(self.exact.graph, self.graph.graph, strict=True)

    def removed(self) -> dict[Axis, Array]:
        """What is kept of each axis that loses something."""
        found = removal(zip(self.groups, self.kept, strict=True))
        return found | {new: found[along] for new, along in self.added.items() if along in found}

    def zero(self) -> None:
        """Zero the weights of products where units are gone, in place."""
        gone = self.removed()
        for value in dict.fromkeys(value for node in self.graph.graph for value in weights_of(node)):
            masks = masks_of(value, gone)
            if value.const_value is not None and masks:
                value.const_value = ir.tensor(zeroed(value.const_value.numpy(), masks), name=value.name)

    def cut(self) -> ir.Model:
        """The model without the units that are gone; this one must not be used any more."""
        remove(self.graph.graph, self.removed())
        return self.graph
