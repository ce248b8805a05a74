"""Which constants of a graph are trained."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from infopt.facts import WEIGHT_INPUT, is_constant
from infopt_passes.prune.distill.executor import Tensors, as_tensor

PLACES = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "LSTM": (1, 2, 3),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
}
"""Inputs that are weights, by operator. The running statistics of a BatchNormalization stay: what ships computes with
them, those of a few samples would be worse, and scale and bias can make up for whatever they are."""

VECTORS = ("Add", "Sub", "Mul", "Div")
"""Operators whose constants are biases and scales, where these are vectors; a matrix there may be a mask."""


def trained(graph: ir.Model) -> list[ir.Value]:
    """The constants that are trained: float32 weights, biases and scales, each once."""
    found: dict[ir.Value, None] = {}
    for node in graph.graph:
        for index, value in enumerate(node.inputs):
            if value is not None and _weighs(node, index, value):
                found[value] = None
    return list(found)


def _weighs(node: ir.Node, index: int, value: ir.Value) -> bool:
    if not is_constant(value) or value.const_value is None or value.dtype != ir.DataType.FLOAT or node.domain != "":
        return False
    if node.op_type in VECTORS:
        return value.const_value.numpy().size == max(value.const_value.numpy().shape, default=1) > 1
    return index in PLACES.get(node.op_type, ())


def tensors(values: list[ir.Value]) -> Tensors:
    """Copies of constants as they are, by name."""
    return {v.name or "": as_tensor(v.const_value.numpy()) for v in values if v.const_value is not None}


def zeros(graph: ir.Model, values: list[ir.Value]) -> dict[str, Tensor]:
    """Where the weights of products are not zero, by name, of those that have zeros: a mask that keeps them sparse."""
    masks = {}
    for value in values:
        products = any(use.node.op_type in PLACES and use.idx == WEIGHT_INPUT for use in value.uses())
        array = value.const_value.numpy() if value.const_value is not None else np.ones(1)
        if products and array.ndim > 1 and not array.all():
            masks[value.name or ""] = torch.from_numpy(array != 0)
    return masks


def write(values: list[ir.Value], found: Tensors) -> None:
    """Put trained weights back into the graph, in place."""
    for value in values:
        value.const_value = ir.tensor(found[value.name or ""].detach().numpy().copy(), name=value.name)
