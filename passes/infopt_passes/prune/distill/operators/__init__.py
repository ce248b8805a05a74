"""ONNX operators as functions of torch: what the executor knows, and what it does not."""

from __future__ import annotations

import onnx_ir as ir

from infopt_passes.prune.distill.operators import elementwise, moving, products, recurrent, resizing, windows
from infopt_passes.prune.distill.operators.call import Call, Function, Limit

__all__ = ["OPERATORS", "Call", "Function", "refusal"]

MODULES = (elementwise, windows, products, moving, resizing, recurrent)

OPERATORS: dict[str, Function] = (
    elementwise.ELEMENTWISE
    | windows.WINDOWS
    | products.PRODUCTS
    | moving.MOVING
    | resizing.RESIZING
    | recurrent.RECURRENT
)
"""Operators of the default domain."""

LIMITS: dict[str, Limit] = {name: limit for module in MODULES for name, limit in module.LIMITS.items()}


def refusal(node: ir.Node) -> str | None:
    """What is not known of a node, in a few words; ``None`` for one that can run."""
    if node.domain != "":
        return f"{node.domain}.{node.op_type}"
    if node.op_type not in OPERATORS:
        return node.op_type
    limit = LIMITS.get(node.op_type)
    why = limit(node) if limit is not None else None
    return None if why is None else f"{node.op_type} {why}"
