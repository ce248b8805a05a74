"""Finds the layers that are worth leaving in float: much of the outputs' error for little of the arithmetic."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from infopt.facts import COMPUTE_OPS, WEIGHT_INPUT, channel_axis, is_constant
from infopt.model import Range
from infopt.probe import opened, values_by_name, with_outputs
from infopt.target import Role
from infopt_passes.calibrate.sizes import tensor_bytes
from infopt_passes.quantize.fitting.gather import fake_quantized
from infopt_passes.quantize.judge import Judge, decibels
from infopt_passes.quantize.plan import make_plan
from infopt_passes.quantize.static import Settings, Static
from infopt_passes.quantize.structure import reason

GOAL = 23.0
"""SQNR in dB of the outputs from which on no layer has to be left in float."""

MOST_TRIED = 48
"""Nodes that are tried one by one."""

TRIAL_SAMPLES = 12
"""Samples that judge a single node."""

LEAST_GAIN = 0.015
"""Part of the error that a node has to be the cause of."""

MOST_PRICE = 0.2
"""Part of the model's work that may be left in float."""

LEAST_BARGAIN = 1.5
"""A node has to be the cause of so many times the part of the error that it is of the work."""

MOVED = 8.0
"""Multiplications that take as long as reading or writing one number in float instead of as an integer, about."""

COSTLY = (Role.COMPUTE, Role.FOLLOW, Role.RESIDUAL)
"""Roles of nodes that compute."""

LOOKED_AT = 4
"""Samples on which the error of each layer's input is looked at."""


@dataclass(frozen=True, slots=True)
class Spared:
    """A layer that is left in float.

    Attributes:
        name: The node.
        gain: Part of the outputs' error power that goes with it.
        price: Its part of the model's work.
        why: The reason in words.
    """

    name: str
    gain: float
    price: float
    why: str


def spared(static: Static, settings: Settings, judge: Judge, noise: float, late: Callable[[str], bool]) -> list[Spared]:
    """Try layers one by one in float and take those that pay.

    Args:
        static: Builds candidates.
        settings: Everything else.
        judge: Judges them.
        noise: Error of the outputs with no layer spared.
        late: Whether to stop for the time limit.

    Returns:
        The layers, the best bargain first; none where the outputs are close to the float model's already.
    """
    if decibels(noise) >= GOAL:
        return []
    graph = static.float_model(settings)[0]
    nodes = _candidates(static, settings, graph)
    prices, tried = _prices(graph, nodes, judge), list[Spared]()
    some, built = judge.thinned(TRIAL_SAMPLES), static.build(settings).graph
    few = some.noise(built)
    # Samples that show no error cannot tell which layer makes it.
    some, noise = (some, few) if few else (judge, noise)
    for node in _shortlist(static, settings, graph, nodes, judge):
        if late(f"leaving {node.name} in float"):
            break
        name = node.name or ""
        alone = some.noise(static.build(replace(settings, keep_float=settings.keep_float | {name})).graph)
        gain = 1 - alone / noise if math.isfinite(noise) else float(math.isfinite(alone))
        if gain >= max(LEAST_GAIN, LEAST_BARGAIN * prices[name]):
            tried.append(Spared(name, gain, prices[name], _why(node, gain, prices[name])))
    return _bargains(tried, noise)


def _bargains(tried: list[Spared], noise: float) -> list[Spared]:
    taken: list[Spared] = []
    for each in sorted(tried, key=lambda spared: spared.gain / max(spared.price, 1e-6), reverse=True):
        left = 1 - sum(other.gain for other in taken)
        reached = decibels(noise * max(left, 0.0)) >= GOAL
        if not reached and sum(other.price for other in taken) + each.price <= MOST_PRICE:
            taken.append(each)
    return taken


def _why(node: ir.Node, gain: float, price: float) -> str:
    cause = f"in integers it would be the cause of {gain:.0%} of the outputs' error, for {price:.1%} of the work"
    known = reason(node)
    return f"{known}; {cause}" if known else cause


def _candidates(static: Static, settings: Settings, graph: ir.Model) -> list[ir.Node]:
    """The nodes of the main graph that would compute in integers."""
    plan = make_plan(graph.graph, graph.opset_imports.get("", 0), static.table, settings.keep_float)
    roles = {node: rule.role for node, rule in plan.integer.items() if node.graph is graph.graph}
    return [node for node in graph.graph if roles.get(node) in COSTLY and node.inputs[0] is not None]


def _shortlist(
    static: Static, settings: Settings, graph: ir.Model, nodes: list[ir.Node], judge: Judge
) -> list[ir.Node]:
    """The nodes to try: those of which it is known that they may cost much, then those that read the most noise."""
    if len(nodes) <= MOST_TRIED:
        return nodes
    errors = _errors(graph, nodes, dict(static.build(settings).ranges), judge)
    ordered = sorted(nodes, key=lambda node: -errors[node.name or ""])
    known = [node for node in ordered if reason(node)][: MOST_TRIED // 2]
    return [*known, *(node for node in ordered if node not in known)][:MOST_TRIED]


def _errors(graph: ir.Model, nodes: list[ir.Node], ranges: Mapping[str, Range], judge: Judge) -> dict[str, float]:
    """Power of the rounding error of each node's inputs over their own power, of the worst input."""
    known = values_by_name(graph.graph)
    names = {node.name or "": [n for n in _names(node.inputs) if n in ranges and n in known] for node in nodes}
    read = sorted({name for each in names.values() for name in each})
    folder = Path(tempfile.mkdtemp(prefix="errors-", dir=judge.folder))
    session = opened(with_outputs(graph, read), folder, {})
    noise, signal = dict.fromkeys(read, 0.0), dict.fromkeys(read, 0.0)
    for feed in judge.feeds[:LOOKED_AT]:
        for name, array in zip(read, session.run(feed), strict=True):
            noise[name] += float(np.square(fake_quantized(array, ranges[name]) - array, dtype=np.float64).sum())
            signal[name] += float(np.square(array, dtype=np.float64).sum())
    shutil.rmtree(folder, ignore_errors=True)
    return {node: max((noise[n] / (signal[n] or 1.0) for n in each), default=0.0) for node, each in names.items()}


def _prices(graph: ir.Model, nodes: list[ir.Node], judge: Judge) -> dict[str, float]:
    """Each node's part of the work of all of them: what it multiplies, reads and writes."""
    known = values_by_name(graph.graph)
    touched = {node.name or "": [n for n in _names((*node.inputs, *node.outputs)) if n in known] for node in nodes}
    folder = Path(tempfile.mkdtemp(prefix="sizes-", dir=judge.folder))
    names = list({name: None for each in touched.values() for name in each})
    sizes = tensor_bytes(graph, names, judge.feeds[0], folder)
    shutil.rmtree(folder, ignore_errors=True)
    work = {
        node.name or "": MOVED * sum(sizes[name] for name in touched[node.name or ""])
        + sizes.get(node.outputs[0].name or "", 0) * _inner(node)
        for node in nodes
    }
    total = sum(work.values()) or 1
    return {name: count / total for name, count in work.items()}


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
