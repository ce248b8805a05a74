"""What is known of layers that lose more than others when they are quantized, as rules with their reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from infopt.facts import COMPUTE_OPS, activations

FARTHEST = 24
"""Nodes that are passed on the way to the next compute node."""

GATES = frozenset({"Sigmoid", "HardSigmoid", "HardSwish"})
POOLS = frozenset({"GlobalAveragePool", "ReduceMean", "GlobalMaxPool"})


@dataclass(frozen=True, slots=True)
class Known:
    """A rule.

    Attributes:
        holds: Whether a node is such a layer.
        why: Why it may cost more than others.
    """

    holds: Callable[[ir.Node], bool]
    why: str


def reason(node: ir.Node) -> str | None:
    """Why a layer is known to cost more than others in integers, or ``None``."""
    return next((known.why for known in KNOWN if known.holds(node)), None)


def _gates(node: ir.Node) -> bool:
    """Part of a squeeze-and-excite block: computed from a pooled tensor, it multiplies another."""
    pooled = any(other.op_type in POOLS for other in _reach(node, up=True, through=COMPUTE_OPS))
    behind = _reach(node, up=False, through=frozenset({"Conv", "Gemm", "MatMul"}))
    return pooled and any(n.op_type in GATES for n in behind) and any(n.op_type == "Mul" for n in behind)


def _weighs_softmax(node: ir.Node) -> bool:
    """Attention: a product of a softmax with values."""
    return len(activations(node)) > 1 and any(n.op_type == "Softmax" for n in _reach(node, up=True))


def _first(node: ir.Node) -> bool:
    return not any(other.op_type in COMPUTE_OPS for other in _reach(node, up=True))


def _last(node: ir.Node) -> bool:
    return not any(other.op_type in COMPUTE_OPS for other in _reach(node, up=False))


def _depthwise(node: ir.Node) -> bool:
    return node.op_type == "Conv" and node.attributes.get_int("group", 1) > 1


KNOWN = (
    Known(_gates, "a squeeze-and-excite gate scales whole channels, and so does its error"),
    Known(_weighs_softmax, "softmax weights are small and many, and a step of 1/255 rounds most of them away"),
    Known(_first, "the first layer's error is carried through all others"),
    Known(_last, "the last layer's error is the output's, nothing averages it out"),
    Known(_depthwise, "a depthwise layer sums few products, so their errors hardly average out"),
)


def _reach(node: ir.Node, up: bool, through: frozenset[str] = frozenset()) -> list[ir.Node]:
    """The nodes before or behind one, up to and including the nearest compute nodes.

    Args:
        node: Where to start.
        up: Whether to look before it.
        through: Compute nodes that do not end the search.
    """
    found: dict[ir.Node, None] = {}
    pending = list(_next(node, up))
    while pending and len(found) < FARTHEST:
        other = pending.pop(0)
        if other in found:
            continue
        found[other] = None
        if other.op_type not in COMPUTE_OPS or other.op_type in through:
            pending += _next(other, up)
    return list(found)


def _next(node: ir.Node, up: bool) -> list[ir.Node]:
    if up:
        return [p for value in node.inputs if value is not None and (p := value.producer()) is not None]
    return [use.node for value in node.outputs for use in value.uses()]
