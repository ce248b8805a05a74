"""Finds what makes the error of a quantized model's outputs: which layers would have to compute in float.

What is rounded is tried in groups, with all else in float, and only groups that matter are looked into (adaptive group
testing, Dorfman 1943): a few culprits among hundreds of roundings are found with some dozen runs.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import onnx_ir as ir

from infopt.target import Role, Table
from infopt_passes.fitting.places import bias_place
from infopt_passes.quantize.flow import absorbed
from infopt_passes.quantize.plan import Plan

COSTLY = (Role.COMPUTE, Role.FOLLOW, Role.RESIDUAL)
"""Roles of nodes that compute."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """One thing that is rounded: a tensor with those that share its scale, or what a single node reads.

    Attributes:
        what: In words that "would be the cause of ..." follow.
        nodes: Names of the nodes that have to compute in float for it not to be rounded.
        tensors: Names of the activations that are rounded.
        constants: Names of the nodes of which constants are.
    """

    what: str
    nodes: frozenset[str]
    tensors: frozenset[str] = frozenset()
    constants: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Culprit:
    """A rounding, and the part of the outputs' error power that it makes."""

    rounding: Rounding
    share: float


def roundings(graph: ir.Graph, plan: Plan, table: Table) -> list[Rounding]:
    """All that a plan rounds, tensors and then constants, in the graph's order: what is near to each other errs alike.

    Args:
        graph: The main graph; the plan is about it and its bodies.
        plan: What is quantized.
        table: The target's table.
    """
    position = {value: i for i, value in enumerate(value for node in graph.all_nodes() for value in node.outputs)}
    placed: dict[frozenset[str], tuple[int, Rounding]] = {}
    for node, rule in plan.integer.items():
        if rule.role in COSTLY and node.inputs[0] is not None:
            name, place = node.name or "", bias_place(node)
            constants = frozenset({name, place[0].name or ""} if place else {name})
            names = frozenset({name})
            placed[names] = position[node.outputs[0]], Rounding("in integers it", names, constants=constants)
    for group in plan.groups():
        nodes = [node for value in group for node in _touching(value, plan, table)]
        if nodes and all(node.inputs[0] is not None for node in nodes):
            first = min(group, key=lambda value: position.get(value, -1))
            names, tensors = (frozenset(each.name or "" for each in which) for which in (nodes, group))
            usual = position.get(first, -1), Rounding(f"rounding {first.name}", names)
            where, known = placed.get(names, usual)
            placed[names] = where, replace(known, tensors=known.tensors | tensors)
    # Constants mostly make little of the error: behind the tensors, they are passed over together.
    ordered = sorted(placed.values(), key=lambda each: (not each[1].tensors, each[0]))
    return [rounding for _, rounding in ordered]


def culprits(
    found: Sequence[Rounding],
    share: Callable[[Sequence[Rounding]], float],
    *,
    least: float,
    most: int,
    late: Callable[[], bool],
) -> list[Culprit]:
    """The roundings that make the error, the worst first.

    Args:
        found: What is rounded.
        share: Part of the error that some of the roundings make alone.
        least: Part of the error from which on something is looked into.
        most: How often to ask, at most; the worst groups are split first.
        late: Whether to stop.
    """
    result: list[Culprit] = []
    order, asked = count(), 0
    pending = [(-math.inf, next(order), list(found))] if found else []
    while pending and -pending[0][0] >= least:
        part, _, group = heapq.heappop(pending)
        if len(group) == 1:
            result.append(Culprit(group[0], -part if math.isfinite(part) else share(group)))
            continue
        if asked >= most or late():
            break
        middle = len(group) // 2
        for half in (group[:middle], group[middle:]):
            heapq.heappush(pending, (-share(half), next(order), half))
            asked += 1
    return sorted(result, key=lambda culprit: -culprit.share)


def _touching(value: ir.Value, plan: Plan, table: Table) -> list[ir.Node]:
    """The computing nodes for whose sake a tensor is rounded."""
    nodes = [node for node, _ in plan.edges[value] if plan.integer[node].role in COSTLY]
    if value in plan.whole:
        makers = (node for node in plan.integer if plan.integer[node].role in COSTLY)
        nodes += [node for node in makers if absorbed(node.outputs[0], table) is value]
    return nodes
