"""Rules of operators that ONNX Runtime writes in the place of several."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from infopt_passes.prune.wiring.axes import rank
from infopt_passes.prune.wiring.heads import grouped_query, multi_head, rotary, self_attention
from infopt_passes.prune.wiring.rules import RULES, product
from infopt_passes.prune.wiring.ties import Ties, called


def _normalized_sum(node: ir.Node, tie: Ties) -> None:
    """Normalization of a sum: all of the last axis, in both parts, the result and the sum that it may hand out."""
    output = node.outputs[0]
    last = (rank(output) or 1) - 1
    for value in (*node.inputs[:2], *node.outputs[1:]):
        tie.all_but(value, output, last)
        tie.freeze(value, _why(node), last)
    tie.freeze(output, _why(node), last)


def _embedded(node: ir.Node, tie: Ties) -> None:
    for value in (*node.inputs[2:7], node.outputs[0]):
        tie.freeze(value, _why(node), (rank(value) or 1) - 1)


def _why(node: ir.Node) -> str:
    return f"{called(node)} computes its mean over them"


def _turned(node: ir.Node, tie: Ties) -> None:
    """FusedMatMul: a product of matrices that may be transposed first."""
    if not any(node.attributes.get_int(name, 0) for name in ("transBatchA", "transBatchB")):
        product(node, tie, bool(node.attributes.get_int("transA", 0)), bool(node.attributes.get_int("transB", 0)))


FUSED: dict[str, Callable[[ir.Node, Ties], None]] = {
    "Attention": self_attention,
    "MultiHeadAttention": multi_head,
    "GroupQueryAttention": grouped_query,
    "RotaryEmbedding": rotary,
    "SkipLayerNormalization": _normalized_sum,
    "SkipSimplifiedLayerNormalization": _normalized_sum,
    "EmbedLayerNormalization": _embedded,
    "FusedMatMul": _turned,
    **dict.fromkeys(("Gelu", "QuickGelu"), RULES["Gelu"]),
    **dict.fromkeys(("BiasGelu", "FastGelu"), RULES["Add"]),
}
"""Rule by operator."""
