"""Counts of hidden units and heads that operators have as attributes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from infopt_passes.prune.wiring.axes import Axis, rank, size_of
from infopt_passes.prune.wiring.recurrent import Array, is_recurrent, unname_states

HEADS = ("num_heads", "q_num_heads", "kv_num_heads")


def recount(node: ir.Node, kept: Mapping[Axis, Array]) -> None:
    """Write what is left of hidden units or heads into a node, in place.

    Args:
        node: The node; its shapes are still those of before.
        kept: Which indices of each axis are kept, as booleans.
    """
    if is_recurrent(node):
        back = node.inputs[2]
        if back is not None and (back, 2) in kept:
            node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", int(kept[back, 2].sum()))
        unname_states(node)
        return
    output = node.outputs[0]
    mask = kept.get((output, 1 if rank(output) == 4 else 2))
    if mask is None:
        return
    for name in HEADS:
        count = node.attributes.get_int(name, 0) or 0
        if count > 1:  # keys and values that all heads share stay
            node.attributes[name] = ir.AttrInt64(name, count * int(mask.sum()) // len(mask))
    sizes = node.attributes.get_ints("qkv_hidden_sizes", None)
    if sizes:
        cut = [size * int(mask.sum()) // len(mask) for size in sizes]
        node.attributes["qkv_hidden_sizes"] = ir.AttrInt64s("qkv_hidden_sizes", cut)


def is_cut_alone(node: ir.Node, axis: int) -> bool:
    """Whether the number that a node has written down for an axis is not one of positions (repeats of a Tile)."""
    data = node.inputs[0]
    return node.op_type == "Tile" and data is not None and size_of(data, axis) != 1
