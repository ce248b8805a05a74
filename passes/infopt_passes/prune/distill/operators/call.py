"""What a function that stands for an ONNX operator is given besides its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

Outputs = Tensor | Sequence[Tensor]

Function = Callable[..., Outputs]
"""Takes a :class:`Call` and the inputs, ``None`` for one that is left out; gives the outputs."""

Limit = Callable[[ir.Node], str | None]
"""Tells what a function does not know of an operator that a node asks for."""

DTYPES = {
    "FLOAT": torch.float32,
    "DOUBLE": torch.float64,
    "FLOAT16": torch.float16,
    "BFLOAT16": torch.bfloat16,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT16": torch.int16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One node.

    Attributes:
        attributes: Its attributes by name, as numbers, lists, text or tensors.
        opset: Version of the operator set.
        outputs: How many outputs it has.
    """

    attributes: Mapping[str, Any]
    opset: int
    outputs: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def numbers(self, name: str, given: Tensor | None) -> list[int] | None:
        """Whole numbers that older operator sets have as an attribute and newer ones as an input."""
        if given is not None:
            return [int(number) for number in given.reshape(-1).tolist()]
        found = self.get(name)
        return None if found is None else [int(number) for number in found]


def dtype_of(number: int) -> torch.dtype:
    """The torch type of a type that ONNX numbers."""
    return DTYPES[ir.DataType(number).name]


def unknown_type(node: ir.Node) -> str | None:
    """A limit: the type of a Cast that torch does not have."""
    name = ir.DataType(node.attributes.get_int("to", 1) or 1).name
    return None if name in DTYPES else f"to {name.lower()}"


def without(**allowed: Any) -> Limit:
    """A limit: attributes that may only have the given value, or one of the given ones."""

    def limit(node: ir.Node) -> str | None:
        for name, value in allowed.items():
            attribute = node.attributes.get(name)
            fine = value if isinstance(value, tuple) else (value,)
            found = attribute.value if attribute is not None else None
            found = list(found) if isinstance(found, tuple) else found
            if found is not None and found not in fine and found != value:
                return f"with {name}={found}"
        return None

    return limit


def one_output(node: ir.Node) -> str | None:
    """A limit: further outputs are not known."""
    used = [value for value in node.outputs[1:] if value.uses() or value.is_graph_output()]
    return f"with {1 + len(used)} outputs" if used else None
