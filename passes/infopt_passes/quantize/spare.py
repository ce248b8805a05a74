"""Finds the layers that are worth leaving in float: much of the outputs' error for little of the arithmetic."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from infopt.bodies import body_values, homes
from infopt.facts import COMPUTE_OPS, WEIGHT_INPUT, channel_axis, is_constant
from infopt.noise import OutputJudge, decibels
from infopt.probe import Spot, values_by_name
from infopt_passes.calibrate.sizes import tensor_bytes
from infopt_passes.quantize.alone import alone
from infopt_passes.quantize.culprits import Culprit, Rounding, culprits, roundings
from infopt_passes.quantize.insert import graph_of
from infopt_passes.quantize.plan import make_plan
from infopt_passes.quantize.static import Settings, Static
from infopt_passes.quantize.structure import reason

GOAL = 25.0
"""SQNR in dB of the outputs from which on no layer has to be left in float."""

MOST_ASKED = 96
"""Groups of roundings that are tried alone, to find what makes the error."""

MOST_ROUNDS = 4
"""Times that layers are chosen: what a choice gains together is only known when it is tried."""

MOST_SHARE = 0.95
"""Part of the error that culprits are the cause of together, at most: they hide some of each other's."""

TRIAL_SAMPLES = 8
"""Samples that judge single roundings."""

LEAST_GAIN = 0.01
"""Part of the error that something has to be the cause of."""

MOST_PRICE = 0.3
"""Part of the model's work that may be left in float."""

LEAST_BARGAIN = 1.25
"""Layers have to be the cause of so many times the part of the error that they are of the work."""

MOVED = 8.0
"""Multiplications that take as long as reading or writing one number in float instead of as an integer, about."""


@dataclass(frozen=True, slots=True)
class Spared:
    """A layer that is left in float.

    Attributes:
        name: The node.
        price: Its part of the model's work.
        why: The reason in words.
    """

    name: str
    price: float
    why: str


def spared(
    static: Static, settings: Settings, judge: OutputJudge, noise: float, late: Callable[[str], bool]
) -> tuple[list[Spared], float]:
    """Find what makes the error and leave the layers around it in float, where that pays.

    Args:
        static: Builds candidates.
        settings: Everything else.
        judge: Judges them.
        noise: Error of the outputs with no layer spared.
        late: Whether to stop for the time limit.

    Returns:
        The layers, in the order in which they were chosen, and the error of the outputs with them in float; none where
        the outputs are close to the float model's.
    """
    if decibels(noise) >= GOAL:
        return [], noise
    base = static.float_model(settings)[0]
    plan = make_plan(base.graph, base.opset_imports.get("", 0), static.table, settings.keep_float)
    found = roundings(base.graph, plan, static.table)
    names = {name for rounding in found for name in rounding.nodes}
    nodes = {node.name or "": node for node in base.graph.all_nodes() if node.name in names}
    worst = _worst(static, settings, judge, found, late)
    bargain = Bargain(worst, _prices(base, list(nodes.values()), judge), nodes)
    taken: list[Spared] = []
    for _ in range(MOST_ROUNDS):
        if decibels(noise) >= GOAL or late("leaving further layers in float"):
            break
        before = bargain.gain
        # What is left of the error is known; what goes of that is predicted.
        while decibels(noise * (1 - bargain.gain) / (1 - before)) < GOAL and bargain.take():
            pass
        more = bargain.taken[len(taken) :]
        if not more:
            break
        reached = judge.noise(static.build(_with(settings, bargain.done)).graph)
        if not _pays(noise, reached, sum(each.price for each in more)):
            break
        taken, noise = [*taken, *more], reached
    return taken, noise


def _with(settings: Settings, names: Collection[str]) -> Settings:
    return replace(settings, keep_float=settings.keep_float | frozenset(names))


def _pays(before: float, after: float, price: float) -> bool:
    """Whether a choice is in fact the bargain that it was predicted to be."""
    if not math.isfinite(before):
        return math.isfinite(after)
    return 1 - after / before >= max(LEAST_GAIN, LEAST_BARGAIN * price)


def _worst(
    static: Static, settings: Settings, judge: OutputJudge, found: Sequence[Rounding], late: Callable[[str], bool]
) -> list[Culprit]:
    """What makes the error of a model that is quantized by settings; the shares of all are 1 at most."""
    built, base = static.build(settings).graph, static.float_model(settings)[0]
    some = judge.thinned(TRIAL_SAMPLES)
    total = some.noise(built)
    if not total:  # samples that show no error cannot tell what makes it
        some, total = judge, judge.noise(built)
    with tempfile.TemporaryDirectory(prefix="alone-", dir=judge.folder) as folder:
        asked = alone(base, built, some, Path(folder))

        def share(group: Sequence[Rounding]) -> float:
            tensors = frozenset[str]().union(*(each.tensors for each in group))
            noise = asked.noise(tensors, frozenset[str]().union(*(each.constants for each in group)))
            return noise / total if math.isfinite(total) else float(not math.isfinite(noise))

        worst = culprits(found, share, least=LEAST_GAIN, most=MOST_ASKED, late=lambda: late("looking for culprits"))
    whole = max(sum(each.share for each in worst), MOST_SHARE) / MOST_SHARE
    return [replace(each, share=each.share / whole) for each in worst]


@dataclass(slots=True)
class Bargain:
    """A choice of layers under way.

    The powers of errors add up: what a choice gains is what its roundings make alone.

    Attributes:
        culprits: What makes the error.
        prices: Part of the work of each node.
        nodes: The nodes by name.
        taken: The layers chosen.
        done: Their names.
        gain: Part of the error that goes with them.
    """

    culprits: list[Culprit]
    prices: dict[str, float]
    nodes: dict[str, ir.Node]
    taken: list[Spared] = field(default_factory=list)
    done: frozenset[str] = frozenset()
    gain: float = 0.0

    def take(self) -> bool:
        """Take the best bargain that is left; false if there is none."""
        spent = sum(self.prices[name] for name in self.done)
        best, best_ratio = None, LEAST_BARGAIN
        for culprit in self.culprits:
            extra = culprit.rounding.nodes - self.done
            price = sum(self.prices[name] for name in extra)
            if not extra or spent + price > MOST_PRICE:
                continue
            gain = self._gain(self.done | extra) - self.gain
            part = gain / (1 - self.gain)  # of the error that is left
            if part >= max(LEAST_GAIN, best_ratio * price):
                best, best_ratio = (culprit, extra, gain, price), part / max(price, 1e-6)
        if best is None:
            return False
        self._leave(*best)
        return True

    def _gain(self, names: frozenset[str]) -> float:
        return sum(each.share for each in self.culprits if each.rounding.nodes <= names)

    def _leave(self, culprit: Culprit, extra: frozenset[str], gain: float, price: float) -> None:
        work = f"{price:.1%} of the work" + (f" in {len(extra)} nodes" if len(extra) > 1 else "")
        cause = f"{culprit.rounding.what} would be the cause of {gain:.0%} of the outputs' error, for {work}"
        for name in sorted(extra):
            known = reason(self.nodes[name])
            self.taken.append(Spared(name, self.prices[name], f"{known}; {cause}" if known else cause))
        self.done, self.gain = self.done | extra, self.gain + gain


def _prices(graph: ir.Model, nodes: list[ir.Node], judge: OutputJudge) -> dict[str, float]:
    """Each node's part of the work of all of them: what it multiplies, reads and writes."""
    main = graph.graph
    known, labels = values_by_name(main).keys() | body_values(main).keys(), {main: "", **homes(main)}

    def spots(node: ir.Node, values: Iterable[ir.Value | None]) -> list[str | Spot]:
        label = labels[graph_of(node)]
        return [(name, label) if label else name for name in _names(values) if name in known]

    touched = {node: spots(node, (*node.inputs, *node.outputs)) for node in nodes}
    sizes = _sizes(graph, list({spot: None for each in touched.values() for spot in each}), judge)
    work = {
        node.name or "": MOVED * sum(sizes[spot] for spot in each)
        + sum(sizes[spot] for spot in spots(node, node.outputs[:1])) * _inner(node)
        for node, each in touched.items()
    }
    total = sum(work.values()) or 1
    return {name: count / total for name, count in work.items()}


def _sizes(graph: ir.Model, spots: list[str | Spot], judge: OutputJudge) -> Counter[str | Spot]:
    """Sizes of tensors; where there are bodies, which need not run, of all samples together."""
    folder, result = Path(tempfile.mkdtemp(prefix="sizes-", dir=judge.folder)), Counter[str | Spot]()
    for feed in judge.feeds if any(not isinstance(spot, str) for spot in spots) else judge.feeds[:1]:
        result.update(tensor_bytes(graph, spots, feed, folder))
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _names(values: Iterable[ir.Value | None]) -> list[str]:
    return [value.name for value in values if value is not None and value.name and not is_constant(value)]


def _inner(node: ir.Node) -> float:
    """Products that one number of a layer's output sums up; none for what is no layer."""
    if node.op_type not in COMPUTE_OPS or not is_constant(node.inputs[WEIGHT_INPUT]):
        return 0.0
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.shape is not None
    shape = [int(size) for size in weight.shape.numpy()]
    return math.prod(shape) / max(shape[channel_axis(node) % len(shape)], 1)
