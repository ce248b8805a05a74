"""The weights of a graph: what products multiply with."""

from __future__ import annotations

import onnx_ir as ir

from infopt.facts import WEIGHT_INPUT, is_constant
from infopt_passes.prune.wiring.recurrent import is_recurrent
from infopt_passes.prune.wiring.recurrent import weights as gates

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")

FUSED = ("Attention", "FusedMatMul")
"""Products of ONNX Runtime's own domain."""


def weight_of(node: ir.Node) -> ir.Value | None:
    """The constant weight of a product, if it has one; of a recurrent layer, that of what it reads."""
    if node.domain != "" or node.op_type not in PRODUCTS:
        return None
    places = (WEIGHT_INPUT, 0) if node.op_type == "MatMul" else (WEIGHT_INPUT,)
    return next((node.inputs[i] for i in places if is_constant(node.inputs[i])), None)


def weights_of(node: ir.Node) -> list[ir.Value]:
    """Every constant through which a node reads or makes units: zeros in it silence them."""
    if is_recurrent(node):
        return gates(node)
    if (node.domain == "" and node.op_type == "Einsum") or (node.domain == "com.microsoft" and node.op_type in FUSED):
        return [value for value in node.inputs[:2] if value is not None and is_constant(value)]
    found = weight_of(node)
    return [found] if found is not None else []


def is_weight(value: ir.Value) -> bool:
    """Whether a value is multiplied with, rather than a bias or a table."""
    return is_constant(value) and any(value in weights_of(use.node) for use in value.uses() if use.idx <= 2)
