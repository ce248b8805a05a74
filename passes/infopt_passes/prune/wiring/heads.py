"""Attention as one operator: heads come and go as a whole, with the query heads that share their keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from infopt_passes.prune.wiring.axes import rank, size_of
from infopt_passes.prune.wiring.ties import Ties, given


@dataclass(frozen=True, slots=True)
class Part:
    """An axis that holds all heads in order, or does so several times, one after the other.

    Attributes:
        value: The tensor, where there is one.
        axis: The axis.
        sections: How many positions each time takes; all in one where nothing is said.
    """

    value: ir.Value | None
    axis: int
    sections: tuple[int, ...] = ()


def tie_heads(tie: Ties, count: int, output: Part, parts: Iterable[Part]) -> None:
    """Tie axes that hold heads; where one of them does not fit, all are left to be frozen.

    Args:
        tie: Of the node.
        count: Number of units: of heads, or of those that have keys and values of their own.
        output: The axis of the result.
        parts: The other axes.
    """
    some = [output, *(part for part in parts if _is_there(part.value) and size_of(part.value, part.axis) != 1)]  # type: ignore[arg-type]
    sizes = [size_of(part.value, part.axis) if part.value is not None else None for part in some]
    wide = [part.sections or (size or 0,) for part, size in zip(some, sizes, strict=True)]
    for size, sections in zip(sizes, wide, strict=True):
        if not size or sum(sections) != size or any(section % count or not section for section in sections):
            return
    assert output.value is not None
    made = tie.axes.ids(output.value, output.axis)
    units = made[:: len(made) // count]
    for part, sections in zip(some, wide, strict=True):
        assert part.value is not None
        kin = np.concatenate([np.repeat(units, section // count) for section in sections])
        places = tie.axes.ids(part.value, part.axis)
        tie.positions((part.value, part.axis), places, (output.value, output.axis), kin)


def _is_there(value: ir.Value | None) -> bool:
    return value is not None and bool(value.name) and (value.shape is not None or bool(value.uses()))


def _on(value: ir.Value | None, *sections: int) -> Part:
    """Where heads are in a tensor: axis 1 of (batch, heads, tokens, features), else the axis behind the tokens."""
    return Part(value, 1 if rank(value) == 4 else 2, sections)


def _output(node: ir.Node, index: int) -> ir.Value | None:
    return node.outputs[index] if index < len(node.outputs) else None


def attention(node: ir.Node, tie: Ties) -> None:
    """Attention of operator set 23: of three axes, with head counts as attributes, or of four."""
    query, key = node.inputs[0], node.inputs[1]
    counted = rank(query) == 4
    heads = size_of(query, 1) if counted and query is not None else node.attributes.get_int("q_num_heads", 0)
    own = size_of(key, 1) if counted and key is not None else node.attributes.get_int("kv_num_heads", 0)
    mask, past = given(node, 3), (given(node, 4), given(node, 5), _output(node, 1), _output(node, 2))
    masks = [Part(mask, (rank(mask) or 0) - 3)] if (rank(mask) or 0) > 2 else []
    masks.append(_on(_output(node, 3)))
    _shared(tie, heads or 0, own or 0, _on(node.outputs[0]), [_on(query), *masks], [*node.inputs[1:3], *past])


def _shared(
    tie: Ties, heads: int, own: int, output: Part, queries: list[Part], keys: Iterable[ir.Value | None]
) -> None:
    """Heads, of which several may share keys and values; where all share the same, these stay."""
    if heads and own and heads % own == 0:
        rest = [] if own == 1 else [_on(key) for key in keys]
        tie_heads(tie, heads if own == 1 else own, output, [*queries, *rest])


def multi_head(node: ir.Node, tie: Ties) -> None:
    """MultiHeadAttention: queries, keys and values apart, or packed behind the axis of the heads; one bias for all."""
    heads = node.attributes.get_int("num_heads", 0) or 0
    query, key, value = (given(node, index) for index in range(3))
    output = Part(node.outputs[0], 2)
    wide, narrow = size_of(query, 2) if query is not None else None, size_of(output.value, 2)  # type: ignore[arg-type]
    if not heads or wide is None or narrow is None or given(node, 9) is not None:
        return
    each = narrow if rank(query) == 5 else wide
    states = (given(node, 6), given(node, 7), *(_output(node, index) for index in (1, 2, 3)))
    rest = [_on(query), _on(key), _on(value), Part(given(node, 3), 0, (each, each, narrow)), _on(given(node, 5))]
    tie_heads(tie, heads, output, [*rest, *map(_on, states)])


def self_attention(node: ir.Node, tie: Ties) -> None:
    """Attention of ONNX Runtime's own operators: with the weights of queries, keys and values side by side."""
    heads, weight = node.attributes.get_int("num_heads", 0) or 0, node.inputs[1]
    wide = size_of(weight, 1) if weight is not None else None
    if not heads or wide is None:
        return
    sections = tuple(node.attributes.get_ints("qkv_hidden_sizes", []) or [wide // 3] * 3)
    tie(node.inputs[0], 2, weight, 0)
    rest = [Part(weight, 1, sections), Part(given(node, 2), 0, sections), Part(given(node, 5), 1)]
    tie_heads(tie, heads, Part(node.outputs[0], 2), [*rest, Part(given(node, 4), 2), Part(_output(node, 1), 2)])


def grouped_query(node: ir.Node, tie: Ties) -> None:
    """GroupQueryAttention: keys and values that several heads share; packed where there is no input for keys."""
    heads, own = (node.attributes.get_int(name, 0) or 0 for name in ("num_heads", "kv_num_heads"))
    query, key, value = (given(node, index) for index in range(3))
    wide = size_of(query, 2) if query is not None else None
    scaled = any(given(node, index) is not None for index in (12, 13))
    if not heads or not own or wide is None or scaled or (key is None and own == 1):
        return
    each = wide // (heads + 2 * own)
    sections = () if key is not None else (heads * each, own * each, own * each)
    states = (given(node, 3), given(node, 4), _output(node, 1), _output(node, 2))
    queries = [_on(query, *sections), _on(given(node, 10)), Part(given(node, 11), 0), _on(_output(node, 3))]
    _shared(tie, heads, own, Part(node.outputs[0], 2), queries, [key, value, *states])


def rotary(node: ir.Node, tie: Ties) -> None:
    """RotaryEmbedding: each head is turned by itself."""
    data, cosines = node.inputs[0], given(node, 1 if node.domain == "" else 2)
    if rank(data) == 4:
        tie(data, 1, node.outputs[0], 1)
        return
    heads, size = node.attributes.get_int("num_heads", 0), size_of(data, 2) if data is not None else None
    if not heads and size and cosines is not None and not node.attributes.get_int("rotary_embedding_dim", 0):
        heads = size // (2 * (size_of(cosines, (rank(cosines) or 1) - 1) or size))
    if heads:
        tie_heads(tie, heads, Part(node.outputs[0], 2), [Part(data, 2)])


HEADED: dict[str, Callable[[ir.Node, Ties], None]] = {"Attention": attention, "RotaryEmbedding": rotary}
"""Rule by operator of ONNX."""
