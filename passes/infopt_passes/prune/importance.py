"""How much a unit matters: the part of what its readers compute that is lost without it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from infopt.facts import WEIGHT_INPUT, is_constant
from infopt.passes import Context
from infopt_passes.fitting.gather import Reading
from infopt_passes.fitting.moments import Moments
from infopt_passes.fitting.places import bias_place
from infopt_passes.prune.groups import Group
from infopt_passes.prune.seen import observed, readings
from infopt_passes.prune.work import Work, weight_of

Array = npt.NDArray[Any]

TINY = 1e-30

DAMPING = 0.01
"""Added to the diagonal of second moments, as a part of its mean."""


def magnitudes(work: Work) -> list[Array]:
    """Importance from weights alone: each unit's share of the squares of every weight that makes or reads it."""
    return [_of_weights(group) for group in work.groups]


def activations(work: Work, context: Context) -> list[Array]:
    """Importance from what calibration samples show.

    For each layer that reads a unit: the share of its outputs' variance that is lost when the unit goes and the others
    make up for it as well as they linearly can (Hassibi and Stork 1993, "Optimal Brain Surgeon", for blocks of
    columns). Units that no such layer reads are judged by their weights.
    """
    places = [_read_by(group) for group in work.groups]
    wanted = {node for found in places for node in found}
    some = [(node, reading) for node, reading in readings(work, context) if node in wanted]
    scores = [np.zeros(group.units) for group in work.groups]
    scored = [False] * len(scores)
    for node, reading, seen in observed(work, some, context):
        losses = _losses(node, reading, seen)
        for number, found in enumerate(places):
            if losses is not None and node in found:
                columns = _columns(found[node], reading, work.groups[number].units)
                scores[number] += losses(columns)
                scored[number] = True
    return [
        np.where(np.isfinite(score), score, np.inf) if known else _of_weights(group)
        for score, known, group in zip(scores, scored, work.groups, strict=True)
    ]


def _losses(node: ir.Node, reading: Reading, seen: Moments) -> Any:
    """A function of units' columns that gives what is lost without each; ``None`` where samples show nothing."""
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.const_value is not None
    second = (seen.spread if bias_place(node) else seen.second)[0]
    if reading.layout.groups != 1 or not seen.rows or not np.isfinite(second).all():
        return None
    matrix = reading.layout.matrix(weight.const_value.numpy())[0].astype(np.float64)
    whole = float(np.einsum("nk,nk->", matrix @ second, matrix))
    mean = float(np.trace(second)) / len(second)
    if whole <= TINY or mean <= TINY:
        return None
    inverse = np.linalg.inv(second + DAMPING * mean * np.eye(len(second)))

    def lost(columns: Array) -> Array:
        blocks = np.linalg.inv(inverse[columns[:, :, None], columns[:, None, :]])
        parts = matrix[:, columns].transpose(1, 0, 2)  # (units, outputs, columns of a unit)
        return np.asarray(np.einsum("unk,unk->u", parts @ blocks, parts) / whole)

    return lost


def _read_by(group: Group) -> dict[ir.Node, Array]:
    """Layers with a constant weight that read a group: the indices of each unit on the weight's axis."""
    found = {}
    for (value, axis), places in group.places.items():
        for use in value.uses():
            if use.idx == WEIGHT_INPUT and weight_of(use.node) is value and axis == _read_axis(use.node):
                found[use.node] = places
    return found


def _read_axis(node: ir.Node) -> int | None:
    if node.op_type == "Conv":
        return 1 if node.attributes.get_int("group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 1 if node.attributes.get_int("transB", 0) else 0
    weight = node.inputs[WEIGHT_INPUT]
    return 0 if node.op_type == "MatMul" and weight is not None and len(weight.shape or ()) == 2 else None


def _columns(places: Array, reading: Reading, units: int) -> Array:
    """Columns of a layer's rows that each unit takes."""
    kernel = 1 if reading.layout.columns_first else reading.layout.columns // reading.layout.shape[1]
    return (places[:, :, None] * kernel + np.arange(kernel)).reshape(units, -1)


def _of_weights(group: Group) -> Array:
    shares: Mapping[ir.Value, list[Array]] = defaultdict(list)
    for (value, axis), places in group.places.items():
        if is_constant(value) and value.const_value is not None and len(value.shape or ()) > 1:
            shares[value].append(_share(value.const_value.numpy(), axis, places))
    return np.asarray(sum((np.maximum.reduce(found) for found in shares.values()), np.zeros(group.units)))


def _share(weight: Array, axis: int, places: Array) -> Array:
    squares = np.square(weight.astype(np.float64)).sum(axis=tuple(a for a in range(weight.ndim) if a != axis))
    return np.asarray(squares[places].sum(axis=1) / max(float(squares.sum()), TINY))


def importances(work: Work, kind: str, context: Context) -> Sequence[Array]:
    """Importance of each unit of each group; comparable between groups."""
    return magnitudes(work) if kind == "magnitude" else activations(work, context)
