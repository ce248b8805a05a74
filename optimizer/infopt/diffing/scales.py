"""The scales and zero points of two graphs, tensor by tensor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infopt.diffing.graphs import QUANTIZERS
from infopt.diffing.records import ScaleChange, ScalesDiff

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

    from infopt.model import Model


@dataclass(frozen=True, slots=True)
class Grid:
    """How one tensor is quantized.

    Attributes:
        dtype: The integers' type.
        scale: Float, of any shape; ``None`` where the graph computes it.
        zero: Integers of the same shape, or ``None``.
        axis: Axis of the scales, where there are several.
    """

    dtype: str
    scale: np.ndarray | None
    zero: np.ndarray | None
    axis: int

    def __str__(self) -> str:
        if self.scale is None:
            return f"{self.dtype} with computed scales"
        if self.scale.size == 1:
            return self.dtype
        shape = "x".join(map(str, self.scale.shape))
        return f"{self.dtype} {shape} scales on axis {self.axis}"


def compare_scales(a: Model, b: Model) -> ScalesDiff:
    """What two graphs differ in where they quantize.

    A tensor is known by the name of what goes into ``QuantizeLinear``, a stored weight by what goes into
    ``DequantizeLinear``.

    Args:
        a: The first model.
        b: The second one.
    """
    grids_a, grids_b = dict(_grids(a)), dict(_grids(b))
    changes = (
        _change(place[0], grids_a.get(place), grids_b.get(place)) for place in dict.fromkeys((*grids_a, *grids_b))
    )
    return ScalesDiff(len(grids_a), len(grids_b), tuple(change for change in changes if change))


def _grids(model: Model) -> Iterator[tuple[tuple[str, int], Grid]]:
    seen: Counter[str] = Counter()
    for node in model.graph.graph.all_nodes():
        if node.op_type not in QUANTIZERS or len(node.inputs) < 2 or node.inputs[0] is None:
            continue
        source = node.inputs[0]
        maker = source.producer()
        if node.op_type == "DequantizeLinear" and maker is not None and maker.op_type == "QuantizeLinear":
            continue
        name = source.name or ""
        yield (name, seen[name]), _grid(node)
        seen[name] += 1


def _grid(node: ir.Node) -> Grid:
    scale, zero = _constant(node.inputs[1]), _constant(node.inputs[2] if len(node.inputs) > 2 else None)
    axis = node.attributes.get_int("axis", 1)
    return Grid(_dtype(node, zero), scale, zero, axis)


def _dtype(node: ir.Node, zero: np.ndarray | None) -> str:
    """The integers' type: that of the zero point, of the attribute, of what is dequantized, or the default."""
    point = node.inputs[2] if len(node.inputs) > 2 else None
    value = point if point is not None else node.inputs[0] if node.op_type == "DequantizeLinear" else None
    if value is not None and value.const_value is not None:
        return str(value.const_value.dtype).lower()
    if value is not None and value.dtype is not None:
        return str(value.dtype).lower()
    given = node.attributes.get_int("output_dtype", 0) if node.op_type == "QuantizeLinear" else 0
    if given:
        import onnx_ir as ir

        return str(ir.DataType(given)).lower()
    return str(zero.dtype) if zero is not None else "uint8"


def _constant(value: ir.Value | None) -> np.ndarray | None:
    if value is None or value.const_value is None:
        return None
    array: np.ndarray = value.const_value.numpy()
    return array


def _change(tensor: str, a: Grid | None, b: Grid | None) -> ScaleChange | None:
    """What happened to a tensor; ``None`` if nothing did."""
    if a is None or b is None:
        sides = [None if side is None else str(side) for side in (a, b)]
        return ScaleChange(tensor, "added" if a is None else "removed", sides[0], sides[1])
    ratio, zeros = _ratio(a, b), _changed_zeros(a, b)
    if str(a) == str(b) and ratio in (None, (1.0, 1.0, 1.0)) and not zeros:
        return None
    return ScaleChange(tensor, "changed", str(a), str(b), ratio, zeros)


def _ratio(a: Grid, b: Grid) -> tuple[float, float, float] | None:
    """Smallest, median and largest ratio of the scales; a single one is held against each of many."""
    if a.scale is None or b.scale is None or not a.scale.size or not b.scale.size:
        return None
    if a.scale.shape != b.scale.shape and 1 not in (a.scale.size, b.scale.size):
        return None
    before, after = (np.asarray(side.scale, np.float64).reshape(-1) for side in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        same = (before == after) | (np.isnan(before) & np.isnan(after))
        ratio = np.where(same, 1.0, after / before)
    return float(ratio.min()), float(np.median(ratio)), float(ratio.max())


def _changed_zeros(a: Grid, b: Grid) -> int | None:
    """Zero points that differ; one that is left out is 0."""
    if a.dtype != b.dtype or a.scale is None or b.scale is None or a.scale.shape != b.scale.shape:
        return None
    before, after = (_zeros(side.zero, a.scale.size) for side in (a, b))
    return int((before != after).sum()) if before.shape == after.shape else None


def _zeros(zero: np.ndarray | None, count: int) -> np.ndarray:
    if zero is None:
        return np.zeros(count, np.int64)
    return zero.reshape(-1).astype(np.float64 if zero.dtype.kind == "f" else np.int64)
