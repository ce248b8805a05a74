"""Whether the weights that make up for zeros did good to the whole model; where they did not, they are taken back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from infopt.facts import WEIGHT_INPUT
from infopt.model import Note
from infopt_passes.fitting.gather import Reading
from infopt_passes.prune.recovery.accept import Weights, Yardstick, judged, put, told_of, weights
from infopt_passes.prune.sparse.layers import Pair


def checked(
    work: Pair, layers: Sequence[tuple[ir.Node, Reading]], yardstick: Yardstick, notes: Sequence[Note]
) -> list[Note]:
    """Judge a sparse model by its outputs, and take back what makes them worse.

    A layer that is taken back keeps its zeros: its other weights, and its bias, are the float layer's. Where outputs
    are not finite even so, all layers get their float weights back.

    Args:
        work: The sparse model; it is changed in place.
        layers: Those that were made sparse.
        yardstick: Judges it, on samples that the layers were not fitted to where there are enough.
        notes: What was told of the layers.

    Returns:
        The notes, with what came of the layers now, and what is told of the outputs.
    """
    exact = _exact(work)
    masked = dict(_masked(exact, layers))
    plain, noise, refused = judged(work, yardstick, exact | masked)
    if math.isfinite(noise):
        back = {_name(node) for node, _ in layers if _weight(node).const_value is masked[_weight(node)]}
        told = [replace(n, why=f"{n.why}; taken back") if n.kind == "layer" and n.node in back else n for n in notes]
        return [*told, told_of(plain, noise, yardstick), *([refused] if refused else [])]
    put(list(weights(work.graph)), exact)
    why = "zeros gave outputs that are not finite, whether the other weights made up for them or not"
    dense = [_name(node) for node, _ in layers]
    left = [Note("layer", name, f"left dense: {why}") for name in dense]
    kept = [note for note in notes if note.node not in dense]
    return [*kept, *left, Note("warning", "rolled back", f"{why}: all layers stay dense")]


def _exact(work: Pair) -> Weights:
    """The float model's weights, by the values of the sparse one."""
    before = {value.name: tensor for value, tensor in weights(work.exact).items()}
    return {value: before[value.name] for value in weights(work.graph) if value.name in before}


def _masked(exact: Weights, layers: Sequence[tuple[ir.Node, Reading]]) -> Iterable[tuple[ir.Value, ir.TensorProtocol]]:
    """The float layers' weights with the zeros of the sparse ones."""
    for node, _ in layers:
        value = _weight(node)
        assert value.const_value is not None
        array = np.where(value.const_value.numpy() == 0, np.float32(0), exact[value].numpy())
        yield value, ir.tensor(array, name=value.name)


def _weight(node: ir.Node) -> ir.Value:
    value = node.inputs[WEIGHT_INPUT]
    assert value is not None
    return value


def _name(node: ir.Node) -> str:
    return node.name or node.op_type
