"""Finds the layers that are worth leaving in float: much of the outputs' error for little of the arithmetic."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from infopt.facts import WEIGHT_INPUT, channel_axis, is_constant
from infopt.model import Range
from infopt.probe import opened, values_by_name, with_outputs
from infopt.target import Role
from infopt_passes.calibrate.sizes import tensor_bytes
from infopt_passes.quantize.fitting.gather import fake_quantized
from infopt_passes.quantize.judge import Judge, decibels
from infopt_passes.quantize.plan import make_plan
from infopt_passes.quantize.static import Settings, Static
from infopt_passes.quantize.structure import reason

GOAL = 25.0
"""SQNR in dB of the outputs from which on no layer has to be left in float."""

MOST_TRIED = 16
"""Layers that are tried one by one."""

LEAST_GAIN = 0.04
"""Part of the error that a layer has to be the cause of."""

MOST_PRICE = 0.1
"""Part of the multiplications that may be left in float."""

LOOKED_AT = 4
"""Samples on which the error of each layer's input is looked at."""


@dataclass(frozen=True, slots=True)
class Spared:
    """A layer that is left in float.

    Attributes:
        name: The node.
        gain: Part of the outputs' error power that goes with it.
        price: Its part of the model's multiplications.
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
    layers = _layers(static, settings, graph)
    prices = _prices(graph, layers, judge)
    tried: list[Spared] = []
    for node in _shortlist(static, settings, graph, layers, judge):
        if late(f"leaving {node.name} in float"):
            break
        name = node.name or ""
        alone = judge.noise(static.build(replace(settings, keep_float=settings.keep_float | {name})).graph)
        gain = 1 - alone / noise if math.isfinite(noise) else float(math.isfinite(alone))
        if gain >= LEAST_GAIN:
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
    cause = f"in integers it would be the cause of {gain:.0%} of the outputs' error, for {price:.1%} of the arithmetic"
    known = reason(node)
    return f"{known}; {cause}" if known else cause


def _layers(static: Static, settings: Settings, graph: ir.Model) -> list[ir.Node]:
    """The compute nodes of the main graph that would run in integers."""
    plan = make_plan(graph.graph, graph.opset_imports.get("", 0), static.table, settings.keep_float)
    return [
        node
        for node, rule in plan.integer.items()
        if rule.role is Role.COMPUTE and node.graph is graph.graph and is_constant(node.inputs[WEIGHT_INPUT])
    ]


def _shortlist(
    static: Static, settings: Settings, graph: ir.Model, layers: list[ir.Node], judge: Judge
) -> list[ir.Node]:
    """The layers to try: those of which it is known that they may cost much, then those that read the most noise."""
    if len(layers) <= MOST_TRIED:
        return layers
    built = static.build(settings)
    errors = _errors(graph, layers, dict(built.ranges), judge)
    known = [node for node in layers if reason(node) and node.attributes.get_int("group", 1) == 1]
    first = sorted(known, key=lambda node: -errors[node.name or ""])[: MOST_TRIED // 3]
    others = sorted((n for n in layers if n not in first), key=lambda node: -errors[node.name or ""])
    return [*first, *others][:MOST_TRIED]


def _errors(graph: ir.Model, layers: list[ir.Node], ranges: Mapping[str, Range], judge: Judge) -> dict[str, float]:
    """Power of the rounding error of each layer's input over the input's power."""
    names = {node.name or "": (node.inputs[0].name if node.inputs[0] is not None else None) or "" for node in layers}
    read = sorted({name for name in names.values() if name in ranges and name in values_by_name(graph.graph)})
    folder = Path(tempfile.mkdtemp(prefix="errors-", dir=judge.folder))
    session = opened(with_outputs(graph, read), folder, {})
    noise, signal = dict.fromkeys(read, 0.0), dict.fromkeys(read, 0.0)
    for feed in judge.feeds[:LOOKED_AT]:
        for name, array in zip(read, session.run(feed), strict=True):
            noise[name] += float(np.square(fake_quantized(array, ranges[name]) - array, dtype=np.float64).sum())
            signal[name] += float(np.square(array, dtype=np.float64).sum())
    shutil.rmtree(folder, ignore_errors=True)
    return {node: noise[name] / signal[name] if signal.get(name) else 0.0 for node, name in names.items()}


def _prices(graph: ir.Model, layers: list[ir.Node], judge: Judge) -> dict[str, float]:
    """Each layer's part of the multiplications of all layers."""
    outputs = {node.name or "": node.outputs[0].name or "" for node in layers}
    folder = Path(tempfile.mkdtemp(prefix="sizes-", dir=judge.folder))
    sizes = tensor_bytes(graph, list(outputs.values()), judge.feeds[0], folder)
    shutil.rmtree(folder, ignore_errors=True)
    products = {node.name or "": sizes[outputs[node.name or ""]] * _inner(node) for node in layers}
    total = sum(products.values()) or 1
    return {name: count / total for name, count in products.items()}


def _inner(node: ir.Node) -> float:
    """Products that one number of a layer's output sums up."""
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.shape is not None
    shape = [int(size) for size in weight.shape.numpy()]
    return math.prod(shape) / max(shape[channel_axis(node) % len(shape)], 1)
