"""Runs a graph in torch, so that gradients reach its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from infopt_passes.prune.distill.operators import OPERATORS, Call, Function

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One node.

    Attributes:
        function: What computes it.
        call: Its attributes.
        inputs: Names of what it reads, empty where an input is left out.
        outputs: Names of what it gives.
        last: Names that nothing reads afterwards.
    """

    function: Function
    call: Call
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: tuple[str, ...] = ()

    def run(self, values: Tensors) -> None:
        """Compute the outputs from what is known, and forget what is not needed any more."""
        given = [values[name] if name else None for name in self.inputs]
        made = self.function(self.call, *given)
        values.update(zip(self.outputs, (made,) if isinstance(made, Tensor) else made, strict=False))
        for name in self.last:
            values.pop(name, None)


class Executor:
    """A graph in torch; see :func:`infopt_passes.prune.distill.operators.refusal` for what it knows.

    What does not depend on inputs or trained weights is computed once.
    """

    def __init__(self, graph: ir.Model, trained: Iterable[str] = (), wanted: Sequence[str] | None = None) -> None:
        """Make the program.

        Args:
            graph: A model whose values all have names, nodes in topological order; it is left as it was.
            trained: Names of initializers that :meth:`run` is given.
            wanted: Names of the tensors that are computed; the outputs by default.
        """
        main = graph.graph
        self.wanted = tuple(wanted if wanted is not None else (value.name or "" for value in main.outputs))
        self._constants = _constants(main, set(trained))
        opset = graph.opset_imports.get("", 0)
        program = []
        for instruction in (_instruction(node, opset) for node in _needed(main, self.wanted)):
            if all(name in self._constants for name in instruction.inputs if name):
                instruction.run(self._constants)
            else:
                program.append(instruction)
        self._program = _with_lasts(program, self.wanted, self._constants)

    def run(self, feed: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Compute the wanted tensors.

        Args:
            feed: The inputs, by name.
            weights: The trained weights, by name.
        """
        values: Tensors = {**self._constants, **(weights or {}), **feed}
        for instruction in self._program:
            instruction.run(values)
        return [values[name] for name in self.wanted]


def as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """A tensor with memory of its own."""
    return torch.from_numpy(np.array(array, order="C", copy=True))


def _constants(main: ir.Graph, trained: set[str]) -> Tensors:
    found = {}
    for name, value in main.initializers.items():
        if name not in trained and value.const_value is not None:
            found[name] = as_tensor(value.const_value.numpy())
    return found


def _needed(main: ir.Graph, wanted: Sequence[str]) -> list[ir.Node]:
    """Nodes that the wanted tensors depend on, in order."""
    needed, found = set(wanted), []
    for node in reversed(main):
        if any(value.name in needed for value in node.outputs):
            found.append(node)
            needed |= {value.name or "" for value in node.inputs if value is not None}
    return found[::-1]


def _instruction(node: ir.Node, opset: int) -> Instruction:
    attributes = {name: _value(attribute) for name, attribute in node.attributes.items()}
    call = Call(attributes, opset, len(node.outputs))
    inputs = tuple(value.name or "" if value is not None else "" for value in node.inputs)
    return Instruction(OPERATORS[node.op_type], call, inputs, tuple(value.name or "" for value in node.outputs))


def _value(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return as_tensor(attribute.value.numpy())
    return list(attribute.value) if isinstance(attribute.value, (tuple, list)) else attribute.value


def _with_lasts(program: Sequence[Instruction], wanted: Sequence[str], kept: Mapping[str, Any]) -> list[Instruction]:
    later, found = {*wanted, *kept}, []
    for each in reversed(program):
        names = dict.fromkeys((*each.inputs, *each.outputs))
        last = tuple(name for name in names if name not in later)
        later |= set(names)
        found.append(Instruction(each.function, each.call, each.inputs, each.outputs, last))
    return found[::-1]
