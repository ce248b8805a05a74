"""Two graphs node by node and weight by weight; weights are read in pieces, and only where they may differ."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from infopt.diffing.records import Change, GraphDiff, NodeChange, OpCount, WeightChange
from infopt.wording import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from infopt.model import Model

CHUNK = 1 << 22
"""Bytes of a weight that are looked at at a time."""

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")

_NAME, _VALUE = 120, 80


def compare_graphs(a: Model, b: Model) -> GraphDiff:
    """What two graphs differ in, bodies of control flow included.

    Nodes are matched by name, what is left by the name of the first output; equal names are matched in their order.

    Args:
        a: The first model; its weights may be lazy.
        b: The second one.
    """
    nodes_a, nodes_b = list(a.graph.graph.all_nodes()), list(b.graph.graph.all_nodes())
    return GraphDiff(
        len(nodes_a),
        len(nodes_b),
        tuple(_interface(a, b)),
        tuple(_operators(nodes_a, nodes_b)),
        tuple(_nodes(nodes_a, nodes_b)),
        tuple(_weights(a, b)),
    )


def operator(node: ir.Node) -> str:
    """A node's operator with its domain, unless that is the default one."""
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _interface(a: Model, b: Model) -> Iterator[str]:
    for what in ("inputs", "outputs"):
        sides = [", ".join(map(_typed, getattr(side.graph.graph, what))) for side in (a, b)]
        if sides[0] != sides[1]:
            yield f"{what}: {visible(sides[0], 400)} -> {visible(sides[1], 400)}"
    opsets = [dict(side.graph.opset_imports) for side in (a, b)]
    for domain in sorted(opsets[0].keys() | opsets[1].keys()):
        versions = [side.get(domain) for side in opsets]
        if versions[0] != versions[1]:
            yield f"opset {visible(domain) or 'ai.onnx'}: {versions[0]} -> {versions[1]}"


def _typed(value: ir.Value) -> str:
    return f"{value.name} {value.dtype}{value.shape}"


def _operators(a: list[ir.Node], b: list[ir.Node]) -> Iterator[OpCount]:
    counts = [Counter(map(operator, nodes)) for nodes in (a, b)]
    for op in sorted(counts[0].keys() | counts[1].keys()):
        if counts[0][op] != counts[1][op]:
            yield OpCount(op, counts[0][op], counts[1][op])


def _nodes(a: list[ir.Node], b: list[ir.Node]) -> Iterator[NodeChange]:
    named, left_a, left_b = _matched(a, b, lambda node: node.name or "")
    by_output, left_a, left_b = _matched(left_a, left_b, _first_output)
    for before, after in (*named, *by_output):
        details = tuple(_details(before, after))
        if details:
            yield NodeChange(_label(after), operator(after), "changed", details)
    yield from (NodeChange(_label(node), operator(node), "removed") for node in left_a)
    yield from (NodeChange(_label(node), operator(node), "added") for node in left_b)


def _matched(
    a: list[ir.Node], b: list[ir.Node], key: Callable[[ir.Node], str]
) -> tuple[list[tuple[ir.Node, ir.Node]], list[ir.Node], list[ir.Node]]:
    """Pairs of nodes with the same key, and what is left of both sides; an empty key matches nothing."""
    known = dict(_numbered(b, key))
    pairs, left = [], []
    for place, node in _numbered(a, key):
        other = known.pop(place, None) if place[0] else None
        if other is None:
            left.append(node)
        else:
            pairs.append((node, other))
    return pairs, left, list(known.values())


def _numbered(nodes: Iterable[ir.Node], key: Callable[[ir.Node], str]) -> Iterator[tuple[tuple[str, int], ir.Node]]:
    seen: Counter[str] = Counter()
    for node in nodes:
        name = key(node)
        yield (name, seen[name]), node
        seen[name] += 1


def _first_output(node: ir.Node) -> str:
    return next((value.name for value in node.outputs if value.name), "")


def _label(node: ir.Node) -> str:
    return node.name or _first_output(node) or node.op_type


def _details(a: ir.Node, b: ir.Node) -> Iterator[str]:
    if operator(a) != operator(b) or a.overload != b.overload:
        yield f"operator {operator(a)} -> {operator(b)}"
    if (a.name or "") != (b.name or ""):
        yield f"name {visible(a.name or 'none', _NAME)} -> {visible(b.name or 'none', _NAME)}"
    for what, sides in (("inputs", (a.inputs, b.inputs)), ("outputs", (a.outputs, b.outputs))):
        names = [[(value.name or "") if value else "" for value in side] for side in sides]
        if names[0] != names[1]:
            moved = [index for index, (one, other) in enumerate(zip_longest(*names)) if one != other]
            shown = [_listed(side, moved) for side in names]
            yield f"{what} {', '.join(map(str, moved))}: {shown[0]} -> {shown[1]}"
    for name in sorted(a.attributes.keys() | b.attributes.keys()):
        before, after = a.attributes.get(name), b.attributes.get(name)
        if not _same_attribute(before, after):
            yield f"{visible(name, _NAME)} {_shown(before)} -> {_shown(after)}"


def _listed(names: list[str], places: list[int]) -> str:
    """Names at some places, as far as there are any."""
    return visible(", ".join(names[place] for place in places if place < len(names)), _NAME) or "none"


def _same_attribute(a: ir.Attr | None, b: ir.Attr | None) -> bool:
    """Whether two attributes hold the same; the nodes of bodies are compared as nodes."""
    if a is None or b is None or a.type != b.type or a.ref_attr_name != b.ref_attr_name:
        return a is b
    if a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return True
    if a.type == ir.AttributeType.TENSOR:
        return same_tensor(a.value, b.value)
    if a.type == ir.AttributeType.FLOAT:
        return bool(np.array_equal(a.value, b.value, equal_nan=True))
    return bool(a.value == b.value)


def _shown(attribute: ir.Attr | None) -> str:
    if attribute is None:
        return "(none)"
    if attribute.type == ir.AttributeType.TENSOR:
        return _described(attribute.value) or ""
    return visible(str(attribute.value), _VALUE)


def _weights(a: Model, b: Model) -> Iterator[WeightChange]:
    sides = [dict(_tensors(side)) for side in (a, b)]
    for place in dict.fromkeys((*sides[0], *sides[1])):
        before, after = sides[0].get(place), sides[1].get(place)
        if before is None or after is None:
            change: Change = "added" if before is None else "removed"
            yield WeightChange(place[0], change, _described(before), _described(after))
        elif not same_tensor(before, after):
            yield WeightChange(place[0], "changed", _described(before), _described(after))


def _tensors(model: Model) -> Iterator[tuple[tuple[str, int], ir.TensorProtocol]]:
    """Weights by name, without scales and zero points; bodies may have names of their own again."""
    seen: Counter[str] = Counter()
    for holder in (model.graph.graph, *model.graph.graph.subgraphs()):
        for name, value in holder.initializers.items():
            if value.const_value is not None and not _only_grids(value):
                yield (name, seen[name]), value.const_value
                seen[name] += 1


def _only_grids(value: ir.Value) -> bool:
    """Whether a constant only says how others are quantized: :mod:`infopt.diffing.scales` compares these."""
    uses = list(value.uses())
    return bool(uses) and all(use.node.op_type in QUANTIZERS and use.idx > 0 for use in uses)


def _described(tensor: ir.TensorProtocol | None) -> str | None:
    if tensor is None:
        return None
    return f"{str(tensor.dtype).lower()}[{','.join(map(str, tensor.shape))}]"


def same_tensor(a: ir.TensorProtocol, b: ir.TensorProtocol) -> bool:
    """Whether two tensors have the same type, shape and bytes; text is compared as text."""
    if a.dtype != b.dtype or tuple(a.shape) != tuple(b.shape):
        return False
    if a.dtype == ir.DataType.STRING:
        return bool(np.array_equal(a.numpy(), b.numpy()))
    return all(left == right for left, right in zip_longest(_chunks(a), _chunks(b)))


def _chunks(tensor: ir.TensorProtocol) -> Iterator[bytes]:
    if isinstance(tensor, ir.ExternalTensor):
        yield from _file_chunks(tensor)
        return
    whole = memoryview(tensor.tobytes())
    for start in range(0, len(whole), CHUNK):
        yield bytes(whole[start : start + CHUNK])


def _file_chunks(tensor: ir.ExternalTensor) -> Iterator[bytes]:
    """The bytes of a weight that lies in a file of its own, read and forgotten."""
    left = tensor.length or tensor.nbytes
    with open(tensor.path, "rb") as file:  # noqa: PTH123 - a path of the model's own library
        file.seek(tensor.offset or 0)
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
