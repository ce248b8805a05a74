"""Finds the layers that are worth leaving in float: much of the outputs' error for little of the arithmetic."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from infopt.bodies import body_values, homes
from infopt.facts import COMPUTE_OPS, WEIGHT_INPUT, channel_axis, is_constant
from infopt.noise import OutputJudge, decibels
from infopt.probe import Spot, values_by_name
from infopt_passes.calibrate.sizes import tensor_bytes
from infopt_passes.quantize.culprits import Culprit, culprits, roundings
from infopt_passes.quantize.insert import graph_of
from infopt_passes.quantize.plan import make_plan
from infopt_passes.quantize.static import Settings, Static
from infopt_passes.quantize.structure import reason

GOAL = 23.0
"""SQNR in dB of the outputs from which on no layer has to be left in float."""

MOST_ASKED = 48
"""Groups of layers that are tried in float, to find what makes the error."""

MOST_TAKEN = 24
"""Bargains that are tried on top of each other."""

TRIAL_SAMPLES = 12
"""Samples that judge while trying."""

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
) -> list[Spared]:
    """Find what makes the error and leave the layers around it in float, where that pays.

    Args:
        static: Builds candidates.
        settings: Everything else.
        judge: Judges them.
        noise: Error of the outputs with no layer spared.
        late: Whether to stop for the time limit.

    Returns:
        The layers, in the order in which they were chosen; none where the outputs are close to the float model's.
    """
    if decibels(noise) >= GOAL:
        return []
    base = static.float_model(settings)[0]
    plan = make_plan(base.graph, base.opset_imports.get("", 0), static.table, settings.keep_float)
    found = roundings(base.graph, plan, static.table)
    some = judge.thinned(TRIAL_SAMPLES)
    # Samples that show no error cannot tell what makes it.
    some = some if some.noise(static.build(settings).graph) else judge
    trials = Trials(static, settings, some)
    worst = culprits(found, trials.gain, least=LEAST_GAIN, most=MOST_ASKED, late=lambda: late("looking for culprits"))
    names = {name for rounding in found for name in rounding.nodes}
    nodes = [node for node in base.graph.all_nodes() if node.name in names]
    bargain = Bargain(trials, worst, _prices(base, nodes, some), {node.name or "": node for node in nodes})
    for _ in range(MOST_TAKEN):
        reached = decibels(noise * max(1 - bargain.gain, 0.0)) >= GOAL
        if reached or late("leaving further layers in float") or not bargain.take():
            break
    return bargain.taken


@dataclass(slots=True)
class Trials:
    """Tries what becomes of the error with layers in float."""

    static: Static
    settings: Settings
    judge: OutputJudge
    known: dict[frozenset[str], float] = field(default_factory=dict)

    def gain(self, names: frozenset[str]) -> float:
        """Part of the error that goes when the nodes of these names compute in float."""
        before, after = self._noise(frozenset()), self._noise(names)
        return 1 - after / before if math.isfinite(before) else float(math.isfinite(after))

    def _noise(self, names: frozenset[str]) -> float:
        if names not in self.known:
            settings = replace(self.settings, keep_float=self.settings.keep_float | names)
            self.known[names] = self.judge.noise(self.static.build(settings).graph)
        return self.known[names]


@dataclass(slots=True)
class Bargain:
    """A choice of layers under way.

    Attributes:
        trials: Tells what a choice gains.
        open: What makes the error and was not tried yet on top of what is taken.
        prices: Part of the work of each node.
        nodes: The nodes by name.
        gain: Part of the error that is gone.
        taken: The layers chosen.
    """

    trials: Trials
    open: list[Culprit]
    prices: dict[str, float]
    nodes: dict[str, ir.Node]
    gain: float = 0.0
    taken: list[Spared] = field(default_factory=list)

    def take(self) -> bool:
        """Try the best bargain that is left, and take it if it is one; false if there is none."""
        names = frozenset(each.name for each in self.taken)
        spent = sum(each.price for each in self.taken)
        rests = [(culprit, culprit.rounding.nodes - names) for culprit in self.open]
        left = [(culprit, self._price(extra), extra) for culprit, extra in rests if extra]
        left = [each for each in left if spent + each[1] <= MOST_PRICE]
        self.open = [culprit for culprit, _, _ in left]
        if not left:
            return False
        culprit, price, extra = max(left, key=lambda each: each[0].share / max(each[1], 1e-6))
        self.open.remove(culprit)
        total = self.trials.gain(names | extra)
        if total - self.gain >= max(LEAST_GAIN, LEAST_BARGAIN * price):
            self._leave(culprit, sorted(extra), total - self.gain, price)
            self.gain = total
        return True

    def _leave(self, culprit: Culprit, extra: list[str], gain: float, price: float) -> None:
        work = f"{price:.1%} of the work" + (f" in {len(extra)} nodes" if len(extra) > 1 else "")
        cause = f"{culprit.rounding.what} would be the cause of {gain:.0%} of the outputs' error, for {work}"
        for name in extra:
            known = reason(self.nodes[name])
            self.taken.append(Spared(name, self.prices[name], f"{known}; {cause}" if known else cause))

    def _price(self, names: Iterable[str]) -> float:
        return sum(self.prices[name] for name in names)


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
