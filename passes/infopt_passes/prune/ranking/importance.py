"""How much a unit matters: the part of what its readers compute that is lost without it."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from scipy.linalg.blas import dgemm
from scipy.linalg.lapack import dpotrf, dpotri

from infopt.facts import WEIGHT_INPUT
from infopt.passes import Context
from infopt_passes.fitting.gather import Reading
from infopt_passes.fitting.places import bias_place
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.ranking.sensitivity import Change, scaled, trial_size
from infopt_passes.prune.ranking.states import recurrent_products
from infopt_passes.prune.readings.seen import observed, readings
from infopt_passes.prune.readings.sums import WIDE, Seen
from infopt_passes.prune.wiring.groups import Group
from infopt_passes.prune.wiring.weights import is_weight, weight_of

Array = npt.NDArray[Any]

TINY = 1e-30

DAMPING = 0.01
"""Added to the diagonal of second moments, as a part of its mean."""


def magnitudes(work: Work) -> list[Array]:
    """Importance from weights alone: each unit's share of the squares of every weight that makes or reads it."""
    return [_of_weights(group) for group in work.groups]


def activations(work: Work, context: Context, chunk: int) -> list[Array]:
    """Importance from what calibration samples show.

    For each layer that reads a unit: the share of its outputs' variance that is lost when the unit goes and the others
    make up for it as well as they linearly can (Hassibi and Stork 1993, "Optimal Brain Surgeon", for blocks of
    columns). Units go one chunk after the other, each judged by what is left then, so that of several that could stand
    in for each other not all are cheap. Units that no such layer reads are judged by their weights.

    Args:
        work: The model under way.
        context: Brings samples and memory.
        chunk: Units of a group that go at once.
    """
    places = [_read_by(group) for group in work.groups]
    wanted = {node for found in places for node in found}
    some = [(node, reading) for node, reading in readings(work, context) if node in wanted]
    readers: list[list[Reader]] = [[] for _ in work.groups]
    for node, reading, seen in observed(work, some, context):
        known = _reader(node, reading, seen)
        if known is None:
            continue
        second = parked(known[1], context)
        for number, found in enumerate(places):
            if node in found:
                columns = _columns(found[node], reading, work.groups[number].units)
                change = Change(node, reading.layout, known[0], seen.read[0])
                readers[number].append(Reader(known[0], second, known[2], columns, change))
    for product, whole in recurrent_products(work, context):
        for number, columns in product.columns.items():
            if min(whole, float(np.trace(product.second))) > TINY:
                readers[number].append(Reader(product.matrix, parked(product.second, context), whole, columns))
    result, trials = [], []
    for group, kept, own in zip(work.groups, work.kept, readers, strict=True):
        result.append(eliminated(own, kept, max(1, chunk // group.width)) if own else _of_weights(group))
        tried = [reader.trial for reader in own if reader.trial is not None and reader.trial.gone]
        trials.append(tried if len(tried) == len(own) else [])
        own.clear()
    return scaled(work.graph, result, trials, work.kept, context)


@dataclass(slots=True)
class Reader:
    """A layer that reads a group.

    Attributes:
        weight: Its weight, of shape (outputs, columns); other units make up for those that are gone.
        second: Second moments of its columns; on disk where there are many.
        whole: The variance of its outputs.
        columns: The columns of each unit, of shape (units, columns of a unit).
        trial: What becomes of the layer where some units are gone, see :mod:`infopt_passes.prune.ranking.sensitivity`.
        inverse: Inverse of the damped second moments, once units begin to go.
    """

    weight: Array
    second: Array
    whole: float
    columns: Array
    trial: Change | None = None
    inverse: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def begin(self) -> None:
        """Make ready to let units go.

        Raises:
            numpy.linalg.LinAlgError: The moments are not those of any columns.
        """
        # In the order of columns, BLAS changes them in place: with thousands of columns, copies take most of the time.
        self.weight = np.asfortranarray(self.weight)
        self.inverse = np.array(self.second, np.float64, order="F")
        mean = float(np.trace(self.inverse)) / len(self.inverse)
        self.inverse[np.diag_indices(len(self.inverse))] += DAMPING * mean
        factor, failed = dpotrf(self.inverse, lower=True, clean=True, overwrite_a=True)
        if failed:
            raise np.linalg.LinAlgError("the second moments are not positive definite")
        self.inverse, _ = dpotri(factor, lower=True, overwrite_c=True)
        for row in range(len(self.inverse)):  # in place, where indices of a triangle would take as much as it does
            self.inverse[row, row + 1 :] = self.inverse[row + 1 :, row]

    def losses(self, units: Array) -> Array:
        """Share of the outputs' variance that is lost without each of some units."""
        columns = self.columns[units]
        blocks = np.linalg.inv(self.inverse[columns[:, :, None], columns[:, None, :]])
        parts = self.weight[:, columns].transpose(1, 0, 2)  # (units, outputs, columns of a unit)
        return np.asarray(np.einsum("unk,unk->u", parts @ blocks, parts) / self.whole)

    def drop(self, units: Array) -> None:
        """Let some units go, and the others make up for them."""
        gone = self.columns[units].ravel()
        share = np.linalg.solve(self.inverse[np.ix_(gone, gone)], self.inverse[gone])
        self.weight = dgemm(-1.0, self.weight[:, gone], share, 1.0, self.weight, overwrite_c=True)
        self.inverse = dgemm(-1.0, self.inverse[:, gone], share, 1.0, self.inverse, overwrite_c=True)
        self.weight[:, gone] = 0
        self.inverse[gone], self.inverse[:, gone] = 0, 0
        self.inverse[gone, gone] = 1  # what is gone is a column by itself

    def keep(self, gone: int) -> None:
        """Let the trial be of the weight as it is now, with so many units gone."""
        if self.trial is not None:
            self.trial = replace(self.trial, weight=self.weight.astype(np.float32), gone=gone)


def eliminated(readers: Sequence[Reader], kept: Array, chunk: int) -> Array:
    """Importance of units by what is lost at the moment when each goes, the least important first.

    Args:
        readers: The layers that read them.
        kept: Units that are there at the start; for the others, which go free, the result says 0.
        chunk: How many go at once.

    Returns:
        Of shape (units,); infinite where nothing finite came out.
    """
    scores, alive, least = np.zeros(len(kept)), np.flatnonzero(kept), 0.0
    if not _begun(readers):
        return np.where(kept, np.inf, 0.0)
    if not kept.all():
        for reader in readers:
            reader.drop(np.flatnonzero(~kept))
    start, tried = len(alive), trial_size(len(alive))
    while len(alive):
        losses = np.sum([reader.losses(alive) for reader in readers], axis=0)
        if not np.isfinite(losses).all():
            scores[alive] = np.inf
            break
        order = np.argsort(losses, kind="stable")[:chunk]
        for unit, loss in zip(alive[order], losses[order], strict=True):
            scores[unit] = least = max(least, float(loss))
        if len(order) < len(alive):
            for reader in readers:
                reader.drop(alive[order])
                if start - len(alive) < tried <= start - len(alive) + len(order):
                    reader.keep(start - len(alive) + len(order))
        alive = np.delete(alive, order)
    return scores


def _begun(readers: Sequence[Reader]) -> bool:
    try:
        for reader in readers:
            reader.begin()
    except np.linalg.LinAlgError:
        return False
    return True


def parked(second: Array, context: Context) -> Array:
    """Moments that wait until all readers of a group are known: of many columns on disk, or memory would fill up."""
    if len(second) < WIDE:
        return second
    with tempfile.NamedTemporaryFile(dir=context.workdir, suffix=".moments", delete=False) as file:
        file.write(np.ascontiguousarray(second).data)
    return np.memmap(file.name, second.dtype, "r", shape=second.shape)


def _reader(node: ir.Node, reading: Reading, seen: Seen) -> tuple[Array, Array, float] | None:
    """Weight, second moments and variance of outputs of a layer; ``None`` where samples show nothing."""
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.const_value is not None
    second = seen.square(bias_place(node) is not None)[0]
    if reading.layout.groups != 1 or not seen.rows or not np.isfinite(second).all():
        return None
    matrix = reading.layout.matrix(weight.const_value.numpy())[0].astype(np.float64)
    whole = float(np.einsum("nk,nk->", matrix @ second, matrix))
    mean = float(np.trace(second)) / len(second)
    if whole <= TINY or mean <= TINY:
        return None
    return matrix, second, whole


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
        if value.const_value is not None and len(value.shape or ()) > 1 and is_weight(value):
            shares[value].append(_share(value.const_value.numpy(), axis, places))
    return np.asarray(sum((np.maximum.reduce(found) for found in shares.values()), np.zeros(group.units)))


def _share(weight: Array, axis: int, places: Array) -> Array:
    squares = np.square(weight.astype(np.float64)).sum(axis=tuple(a for a in range(weight.ndim) if a != axis))
    return np.asarray(squares[places].sum(axis=1) / max(float(squares.sum()), TINY))


def importances(work: Work, kind: str, context: Context, chunk: int) -> Sequence[Array]:
    """Importance of each unit of each group; comparable between groups.

    Args:
        work: The model under way.
        kind: ``"magnitude"`` or ``"activations"``.
        context: Brings samples.
        chunk: Units of a group that go at once.
    """
    return magnitudes(work) if kind == "magnitude" else activations(work, context, chunk)
