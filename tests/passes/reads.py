"""Where products read units of what is in front of them."""

from __future__ import annotations

import onnx_ir as ir


def reads(node: ir.Node) -> list[tuple[int, int]]:
    """Inputs through which a node reads units, each with the axis that it sums over."""
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return [(0, 2), (2, 2)]  # hidden units are read through the columns of R
    if node.op_type == "Einsum":
        return _summed(node)
    if node.op_type in ("MatMul", "FusedMatMul"):
        return _products(node)
    if node.domain == "com.microsoft":
        return [(0, 2)] if node.op_type == "Attention" else []
    known = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1}
    return [(0, known[node.op_type])] if node.op_type in known else []


def _products(node: ir.Node) -> list[tuple[int, int]]:
    turned, flipped = (node.attributes.get_int(name, 0) or 0 for name in ("transA", "transB"))
    one, other = (len(value.shape or ()) if value is not None else 0 for value in node.inputs[:2])
    return [(0, one - 1 - turned), (1, other - 2 + flipped)]


def _summed(node: ir.Node) -> list[tuple[int, int]]:
    terms, result = (node.attributes.get_string("equation") or "").replace(" ", "").split("->")
    parts = terms.split(",")
    return [(i, part.index(c)) for i, part in enumerate(parts) for c in part if c not in result]
