"""Operators that ONNX Runtime writes in the place of several: shapes, which ONNX's own inference does not know."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

DOMAIN = "com.microsoft"

Shape = list[int | ir.SymbolicDim]

SAME = frozenset(
    "Gelu BiasGelu FastGelu QuickGelu SkipLayerNormalization SkipSimplifiedLayerNormalization RotaryEmbedding "
    "SimplifiedLayerNormalization LayerNormalization RMSNormalization GroupNormalization Softmax Relu Tanh Sigmoid "
    "Erf Sqrt Cast".split()
)
"""Operators whose first output has the shape of their first input."""

UNKNOWN = frozenset({"SimplifiedLayerNormalization", "GroupNormalization"})
"""Operators outside of the domain that inference says nothing of either."""

BROADCAST = frozenset("Add Sub Mul Div Pow".split())


def note_shapes(graph: ir.Graph) -> bool:
    """Note, in place, shapes of what contributed operators make, and of usual ones between them.

    Returns:
        Whether anything new was noted; inference may find more behind it then.
    """
    if all(node.domain != DOMAIN and node.op_type not in UNKNOWN for node in graph):
        return False
    news = False
    for node in graph:
        found = _shape(node) if any(value.shape is None for value in node.outputs) else None
        same = [node.outputs[0], *(node.outputs[3:] if node.op_type.startswith("Skip") else ())]
        for output in same if found is not None else ():
            if output.shape is None and output.name:
                output.shape, news = ir.Shape(found or ()), True
                output.type = output.type or (node.inputs[0].type if node.inputs[0] is not None else None)
    return news


def _shape(node: ir.Node) -> Shape | None:
    first = _sizes(node, 0)
    if first is None or node.domain not in ("", DOMAIN):
        return None
    if node.op_type in SAME:
        return first
    if node.domain == "" and node.op_type in BROADCAST:
        return _wider(first, _sizes(node, 1))
    rule = RULES.get(node.op_type) if node.domain == DOMAIN else _product if node.op_type == "MatMul" else None
    return rule(node, first) if rule is not None else None


def _wider(one: Shape, other: Shape | None) -> Shape | None:
    """Shape of what is broadcast, where one of both is no wider than 1 or alike on every axis."""
    if other is None:
        return None
    long, short = (one, other) if len(one) >= len(other) else (other, one)
    pairs = list(zip(long[len(long) - len(short) :], short, strict=True))
    if not all(a == b or 1 in (a, b) for a, b in pairs):
        return None
    return [*long[: len(long) - len(short)], *(b if a == 1 else a for a, b in pairs)]


def _sizes(node: ir.Node, index: int) -> Shape | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return list(value.shape) if value is not None and value.shape is not None else None


def _product(node: ir.Node, first: Shape) -> Shape | None:
    second = _sizes(node, 1)
    if second is None or len(first) < 2 or len(second) not in (2, len(first)):
        return None
    rows, columns = (
        (-1 if node.attributes.get_int("transA", 0) else -2),
        -2 if node.attributes.get_int("transB", 0) else -1,
    )
    return [*first[:-2], first[rows], second[columns]]


def _attention(node: ir.Node, first: Shape) -> Shape | None:
    weight = _sizes(node, 1)
    sizes = node.attributes.get_ints("qkv_hidden_sizes", None)
    if weight is None or len(first) != 3 or not isinstance(weight[1], int):
        return None
    return [*first[:2], sizes[2] if sizes else weight[1] // 3]


def _multi_head(node: ir.Node, first: Shape) -> Shape | None:
    if len(first) == 5:
        return [*first[:2], _times(first[2], first[4])]
    value = _sizes(node, 2)
    if value is None:
        return first if len(first) == 3 else None
    return [*first[:2], value[2] if len(value) == 3 else _times(value[1], value[3])]


def _grouped_query(node: ir.Node, first: Shape) -> Shape | None:
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        return first
    heads, own = node.attributes.get_int("num_heads", 0) or 0, node.attributes.get_int("kv_num_heads", 0) or 0
    wide = first[2]
    return [*first[:2], wide * heads // max(1, heads + 2 * own)] if isinstance(wide, int) else None


def _times(one: int | ir.SymbolicDim, other: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    return one * other if isinstance(one, int) and isinstance(other, int) else ir.SymbolicDim(None)


def _embedded(node: ir.Node, first: Shape) -> Shape | None:
    table = _sizes(node, 2)
    return [*first, table[1]] if table is not None and len(first) == 2 else None


RULES: dict[str, Callable[[ir.Node, Shape], Shape | None]] = {
    "FusedMatMul": _product,
    "Attention": _attention,
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _grouped_query,
    "EmbedLayerNormalization": _embedded,
}
"""Shape of the first output, by operator."""
