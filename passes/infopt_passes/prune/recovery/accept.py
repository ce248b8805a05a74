"""Whether a recovery did good: the whole model is judged before and after, and what did harm is taken back.

Each layer is refitted to its own output. That this brings the model's outputs closer is usual and not certain, and a
weight may overflow on samples that it was not fitted to. So outputs decide, on calibration samples that are held back
from recovery. What did good on these is done again with all samples, as none is worth more than others then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import onnx_ir as ir

from infopt.errors import RuntimeRefused
from infopt.model import Note
from infopt.noise import OutputJudge, decibels, output_judge
from infopt.passes import Context
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.readings.stages import Twins

PART = 8
"""Of so many calibration samples one judges."""

MOST = 32
"""Samples that judge, at most."""

ENOUGH = 64
"""Calibration samples from which on some are held back; of fewer all are needed to recover with, and judge too."""

CHUNKS = 12
"""Parts of the model that a recovery is accepted in, where it was not accepted as a whole."""

NAMED = 5
"""Layers that are named in a warning."""

Weights = dict[ir.Value, "ir.TensorProtocol"]
"""The tensors of a graph's initializers."""


@dataclass(frozen=True, slots=True)
class State:
    """A model under way at some time.

    Attributes:
        kept: Units that are kept, of each group.
        weights: Its weights.
    """

    kept: list[np.ndarray]
    weights: Weights

    @staticmethod
    def of(work: Work) -> State:
        """The state that a model is in."""
        return State(list(work.kept), weights(work.graph))

    def restore(self, work: Work) -> None:
        """Bring the model back into it; biases that were added since become zeros."""
        work.kept = list(self.kept)
        for value in weights(work.graph):
            _set(value, self.weights.get(value))


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Judges a model under way by its outputs.

    Attributes:
        judge: Knows the float model's.
        rest: Brings the samples that are left to recover with.
        whole: Brings all samples.
    """

    judge: OutputJudge
    rest: Context
    whole: Context

    @staticmethod
    def of(work: Twins, context: Context) -> Yardstick | None:
        """A yardstick; ``None`` without samples, or where the float model itself gives what is no number."""
        samples = context.calibration
        if samples is None or not len(samples):
            return None
        count, apart, rest = len(samples), samples.thinned(MOST), context
        if count >= ENOUGH:
            apart = samples.thinned(min(MOST, count // PART))
            held = set(apart.indices)
            others = tuple(index for index in samples.indices if index not in held)
            rest = replace(context, calibration=replace(samples, indices=others))
        made = Yardstick(output_judge(work.exact, apart, context.workdir), rest, context)
        return made if math.isfinite(made.noise(work.exact)) else None

    @property
    def samples(self) -> int:
        """Runs that judge."""
        return len(self.judge.feeds)

    def noise(self, graph: ir.Model) -> float:
        """Power of the outputs' error over their own; infinite where they are no numbers, or the runtime fails."""
        try:
            found = self.judge.noise(graph)
        except RuntimeRefused:
            return math.inf
        return found if math.isfinite(found) else math.inf


def weights(graph: ir.Model) -> Weights:
    """The weights of a main graph."""
    return {v: v.const_value for v in graph.graph.initializers.values() if v.const_value is not None}


def accepted(
    work: Work, yardstick: Yardstick, recover: Callable[[Context], list[Note]]
) -> tuple[float, float, list[Note]]:
    """Recover a model, and take back what makes its outputs worse.

    Args:
        work: A model whose units have gone; it is recovered in place.
        yardstick: Judges it.
        recover: Changes its weights in place with the samples of a context, and tells what it did.

    Returns:
        Noise of the outputs without recovery and with what was accepted of it, and what is told.
    """
    before = weights(work.graph)
    told = recover(yardstick.rest)
    plain, reached, refused = judged(work, yardstick, before)
    if refused is not None:
        return plain, reached, [*told, refused]
    return plain, *_again(work, yardstick, recover, (before, reached, told))


def judged(work: Twins, yardstick: Yardstick, before: Weights) -> tuple[float, float, Note | None]:
    """Take back, layer by layer, new weights that make the outputs worse or not finite.

    Args:
        work: A model with new weights; it is changed in place.
        yardstick: Judges it.
        before: The weights that they took the place of; of those that are new, zeros.

    Returns:
        Noise of the outputs with the weights of before and with what was accepted, and what was taken back.
    """
    after = weights(work.graph)
    put(list(after), before)
    plain = yardstick.noise(work.graph)
    put(list(after), after)
    whole = yardstick.noise(work.graph)
    if whole <= plain:
        return plain, whole, None
    reached, refused = _in_parts(work, before, plain, yardstick)
    names = ", ".join(refused[:NAMED]) + (f" and {len(refused) - NAMED} more" if len(refused) > NAMED else "")
    without = f"{decibels(plain):.1f} dB without it, on {yardstick.samples} calibration samples"
    broken = "gave outputs that are not finite" if math.isinf(whole) else "made outputs worse"
    at = "" if math.isinf(whole) else f"{decibels(whole):.1f} dB, "
    why = f"recovery {broken} ({at}{without}): taken back in {len(refused)} layers ({names})"
    return plain, reached, Note("warning", "rolled back", why)


def told_of(plain: float, noise: float, yardstick: Yardstick) -> Note:
    """What recovery made of the outputs, from their noise before and after."""
    without = "" if plain == noise else f", {decibels(plain):.1f} dB before recovery"
    why = f"error {decibels(noise):.1f} dB below what they say{without}, on {yardstick.samples} calibration samples"
    return Note("choice", "outputs", why)


def _again(
    work: Work, yardstick: Yardstick, recover: Callable[[Context], list[Note]], first: tuple[Weights, float, list[Note]]
) -> tuple[float, list[Note]]:
    """Recover with all samples from the same weights, and keep that unless those held back speak against it."""
    before, reached, told = first
    if yardstick.rest is yardstick.whole:
        return reached, told
    proven = weights(work.graph)
    put(list(proven), before)
    anew = recover(yardstick.whole)
    noise = yardstick.noise(work.graph)
    if noise <= reached:
        return noise, anew
    put(list(weights(work.graph)), proven)
    return reached, told


def _in_parts(work: Twins, before: Weights, plain: float, yardstick: Yardstick) -> tuple[float, list[str]]:
    """Put new weights in place part by part, in the order of the graph, where that does not make outputs worse."""
    after = weights(work.graph)
    layers = list(_changed(work.graph.graph, before, after))
    for _, values in layers:
        put(values, before)
    best, refused = plain, list[str]()

    def taken(part: Sequence[tuple[str, list[ir.Value]]]) -> bool:
        nonlocal best
        for _, values in part:
            put(values, after)
        noise = yardstick.noise(work.graph)
        if noise <= best:
            best = noise
            return True
        for _, values in part:
            put(values, before)
        return False

    size = max(ceil(len(layers) / CHUNKS), 1)
    for chunk in (layers[start : start + size] for start in range(0, len(layers), size)):
        if not taken(chunk):
            refused += [layer[0] for layer in chunk if len(chunk) == 1 or not taken([layer])]
    return best, refused


def _changed(graph: ir.Graph, before: Weights, after: Weights) -> Iterator[tuple[str, list[ir.Value]]]:
    """Layers with other weights than before: each by its name, with those weights; a bias behind it is its own."""
    found: dict[ir.Node, list[ir.Value]] = {}
    for node in graph:
        for value in node.inputs:
            if value is not None and value in after and before.get(value) is not after[value]:
                found.setdefault(_owner(node), []).append(value)
    for node, values in found.items():
        yield node.name or node.op_type, values


def _owner(node: ir.Node) -> ir.Node:
    if node.op_type != "Add":
        return node
    makers = [value.producer() for value in node.inputs if value is not None]
    return next((maker for maker in makers if maker is not None), node)


def put(values: Sequence[ir.Value], state: Weights) -> None:
    """Give values the tensors of a state; those that it does not have become zeros."""
    for value in values:
        _set(value, state.get(value))


def _set(value: ir.Value, tensor: ir.TensorProtocol | None) -> None:
    assert value.const_value is not None
    value.const_value = tensor if tensor is not None else ir.tensor(np.zeros_like(value.const_value.numpy()))
