"""Follows tensors through a graph as a target's runtime would: what makes them, and what they come to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from infopt.facts import activations, clip_bounds, operands
from infopt.target import Output, Role, Rule, Table

Use = tuple[ir.Node, int]

LONGEST = 16
"""Operators that one kernel is thought to compute along at most; the exploded forms of GELU and the like have 5."""


def absorbed(value: ir.Value, table: Table) -> ir.Value:
    """The tensor behind the activations that vanish into a quantized range: ReLU's output for its input."""
    uses, home = tuple(value.uses()), home_of(value)
    while len(uses) == 1 and not value.is_graph_output():
        node = uses[0].node
        if node.graph is not home or not _vanishes(node, table):
            return value
        value = node.outputs[0]
        uses = tuple(value.uses())
    return value


def clipped(value: ir.Value, table: Table) -> tuple[float, float]:
    """The bounds that a tensor's range must keep, so that the activations in front of it can vanish into it."""
    low, high = -math.inf, math.inf
    producer = value.producer()
    while producer is not None and _vanishes(producer, table):
        bounds = clip_bounds(producer) or (low, high)
        low, high = max(low, bounds[0]), min(high, bounds[1])
        before = producer.inputs[0]
        producer = None if before is None else before.producer()
    return low, high


@dataclass(frozen=True, slots=True)
class Flow:
    """A graph's tensors, as far as they are planned to be integers.

    Attributes:
        table: The target's table.
        integer: Nodes that are to run as integers, with their rules; grows while a plan is made.
        edges: Per quantized tensor, the uses that read integers; likewise.
    """

    table: Table
    integer: dict[ir.Node, Rule]
    edges: dict[ir.Value, set[Use]]

    def rule(self, node: ir.Node | None) -> Rule | None:
        """The row about a node's operator, if there is one."""
        return self.table.rule(node.op_type) if node is not None and node.domain == "" else None

    def origin(self, value: ir.Value | None) -> ir.Value | None:
        """The tensor that movers made a float tensor from."""
        while value is not None and value not in self.edges:
            mover = value.producer()
            rule = self.rule(mover)
            if mover is None or rule is None or rule.role is not Role.MOVE:
                return value
            value = mover.inputs[0]
        return value

    def source(self, value: ir.Value) -> ir.Value:
        """The only tensor that operators which vanish or end a kernel make a tensor from; else the tensor itself."""
        passed: set[ir.Node] = set()
        pending, sources = [value], set()
        while pending and len(passed) <= LONGEST:
            before = pending.pop()
            node = before.producer()
            if node is None or node in self.integer or not self._passes_by(node):
                sources.add(before)
            elif node not in passed:
                passed.add(node)
                pending += [data for i in activations(node) if (data := node.inputs[i]) is not None]
        inner = {*sources, *(output for node in passed for output in node.outputs)} - {value}
        closed = all(use.node in passed for each in inner for use in each.uses())
        if pending or len(sources) != 1 or not closed or any(each.is_graph_output() for each in inner):
            return value
        return sources.pop()

    def maker(self, value: ir.Value) -> Rule | None:
        """The rule of the integer node that makes a tensor, operators that vanish or end its kernel passed over."""
        producer = self.source(value).producer()
        return self.integer.get(producer) if producer is not None else None

    def can_give(self, value: ir.Value) -> bool:
        """Whether a tensor is made by a kernel that writes integers just as well."""
        rule = self.rule(value.producer())
        return rule is not None and rule.writes

    def on_offer(self, value: ir.Value | None) -> bool:
        """Whether a tensor is quantized already, or its producer can give integers at no cost."""
        origin = self.origin(value)
        if origin is None or origin in self.edges:
            return origin is not None
        rule = self.maker(origin)
        return self.can_give(origin) or (rule is not None and rule.output is Output.OFFERED)

    def wanted(self, value: ir.Value) -> bool:
        """Whether a tensor is read in integers, maybe after it was moved or by what can follow in integers then."""
        pending, seen = [value], {value}
        while pending:
            before = pending.pop()
            if before in self.edges:
                return True
            for use in before.uses():
                if use.node.graph is home_of(before) and self._would_follow(use.node, use.idx):
                    behind = {absorbed(output, self.table) for output in use.node.outputs}
                    pending += behind - seen
                    seen |= behind
        return False

    def ends_in_compute(self, value: ir.Value | None) -> bool:
        """Whether a compute node makes a tensor for its only reader, which can end that node's kernel."""
        if value is None or len(value.uses()) != 1 or value.is_graph_output():
            return False
        source = self.source(value) if self.table.epilogues else value
        producer = source.producer()
        rule = self.integer.get(producer) if producer is not None else None
        return rule is not None and rule.role is Role.COMPUTE

    def skip(self, node: ir.Node) -> list[int]:
        """Index of the skip input of a residual Add, whose other side ends in a compute node that it fuses into."""
        sides = activations(node)
        main = [i for i in sides if is_local(node, i) and self.ends_in_compute(node.inputs[i])]
        if len(sides) != 2 or not main:
            return []
        # Where both sides could fuse (a downsampling block), the longer side keeps its fusion; exporters put it first.
        return [i for i in sides if i != main[0]]

    def _would_follow(self, node: ir.Node, index: int) -> bool:
        """Whether a node would run in integers, if the input at an index were an integer and its output were wanted."""
        rule = self.rule(node)
        if rule is None or rule.role not in (Role.MOVE, Role.FOLLOW):
            return False
        others = [node.inputs[i] for i in operands(node, rule.spares) if i != index]
        return index == 0 if rule.role is Role.MOVE else all(map(self.on_offer, others))

    def _passes_by(self, node: ir.Node) -> bool:
        rule = self.rule(node)
        return _vanishes(node, self.table) or (rule is not None and rule.epilogue)


def home_of(value: ir.Value) -> ir.Graph | ir.Function | None:
    """The graph that a tensor is made in; the bodies of If and Loop may read it too."""
    producer = value.producer()
    return producer.graph if producer is not None else value.graph


def is_local(node: ir.Node, index: int) -> bool:
    """Whether a node reads a tensor of its own graph, not one from around the body that it is in."""
    value = node.inputs[index]
    return value is not None and home_of(value) is node.graph


def _vanishes(node: ir.Node, table: Table) -> bool:
    """Whether a range can stand for an activation: a range holds zero, so the activation must let zero pass."""
    bounds = clip_bounds(node) if node.op_type in table.absorbs else None
    return bounds is not None and bounds[0] <= 0 <= bounds[1]
