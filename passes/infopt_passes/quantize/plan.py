"""Reads a target's table and decides which tensors are quantized for which consumers. Nothing is changed here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from infopt.facts import (
    BIAS_INPUT,
    COMPUTE_OPS,
    activations,
    clip_bounds,
    facts,
    is_constant,
)
from infopt.target import Output, Role, Rule, Scheme, Table

Use = tuple[ir.Node, int]


@dataclass(slots=True)
class Plan:
    """What is to be quantized.

    Attributes:
        integer: Nodes that are to run as integers, with their rules.
        edges: Per quantized tensor, the uses that read integers.
        whole: Tensors of which every use reads through Q/DQ, because their producer needs the Q behind it.
        shared: Pairs of tensors that share one scale.
        schemes: Tensors whose readers want another scheme than the table's.
        kept: Compute nodes that stay in float, with the reason.
    """

    integer: dict[ir.Node, Rule] = field(default_factory=dict)
    edges: dict[ir.Value, set[Use]] = field(default_factory=dict)
    whole: set[ir.Value] = field(default_factory=set)
    shared: list[tuple[ir.Value, ir.Value]] = field(default_factory=list)
    schemes: dict[ir.Value, Scheme] = field(default_factory=dict)
    kept: dict[ir.Node, str] = field(default_factory=dict)

    def groups(self) -> list[list[ir.Value]]:
        """The quantized tensors, grouped so that each group has one scale; order follows the graph.

        A scale is shared across tensors without a pair of their own, too.
        """
        leader = {value: value for value in (*self.edges, *(value for pair in self.shared for value in pair))}

        def find(value: ir.Value) -> ir.Value:
            while leader[value] is not value:
                value = leader[value]
            return value

        for first, second in self.shared:
            leader[find(second)] = find(first)
        grouped: dict[ir.Value, list[ir.Value]] = {}
        for value in self.edges:
            grouped.setdefault(find(value), []).append(value)
        return list(grouped.values())


def make_plan(graph: ir.Graph, opset: int, table: Table, keep_float: Iterable[str]) -> Plan:
    """Place quantization in a graph as a table wants it.

    Args:
        graph: The main graph; constants are initializers and shapes are inferred.
        opset: Version of its default operator set.
        table: The target's table.
        keep_float: Names of nodes that the user keeps in float.

    Returns:
        The plan; empty when nothing pays.
    """
    plan, kept = Plan(), frozenset(keep_float)
    rules = {node: rule for node in graph if (rule := _rule(node, opset, table))}
    for node, rule in rules.items():
        if rule.role is Role.COMPUTE:
            _compute(node, rule, table, kept, plan)
        elif rule.role is Role.FLOAT and node.op_type in COMPUTE_OPS:
            plan.kept[node] = rule.why
    while _spread(rules, table, kept, plan):
        pass
    for node, rule in plan.integer.items():
        if rule.carries:
            _carry(node, plan)
    return plan


def absorbed(value: ir.Value, table: Table) -> ir.Value:
    """The tensor behind the activations that vanish into a quantized range: ReLU's output for its input."""
    uses = tuple(value.uses())
    while len(uses) == 1 and not value.is_graph_output():
        node = uses[0].node
        if not _vanishes(node, table):
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


def _vanishes(node: ir.Node, table: Table) -> bool:
    """Whether a range can stand for an activation: a range holds zero, so the activation must let zero pass."""
    bounds = clip_bounds(node) if node.op_type in table.absorbs else None
    return bounds is not None and bounds[0] <= 0 <= bounds[1]


def _rule(node: ir.Node, opset: int, table: Table) -> Rule | None:
    if node.domain != "":
        return None
    rule = table.rule(node.op_type, computed=not any(map(is_constant, node.inputs[:2])))
    return rule if rule and opset >= rule.since else None


def _compute(node: ir.Node, rule: Rule, table: Table, kept: frozenset[str], plan: Plan) -> None:
    reason = _reason(node, rule, table, kept)
    if reason:
        plan.kept[node] = reason
        return
    plan.integer[node] = rule
    for index in activations(node):
        if index < BIAS_INPUT:
            _use(plan, node, index, rule)
    if rule.output is Output.ALWAYS:
        _whole(plan, absorbed(node.outputs[0], table))


def _reason(node: ir.Node, rule: Rule, table: Table, kept: frozenset[str]) -> str | None:
    if node.name in kept:
        return "kept in float by the user"
    # The operands of a compute node are of one type: the weight tells it where shapes were not inferred.
    typed = node.inputs if rule.role is Role.COMPUTE else node.inputs[:1]
    for value in typed:
        if value is not None and value.dtype not in (None, ir.DataType.FLOAT):
            return f"its input is {value.dtype.name.lower()}, not float32"
    seen = facts(node)
    why = next((why for condition in rule.unless if (why := condition(seen))), None)
    return why or (_odd_bias(node) if rule.role is Role.COMPUTE and table.bias == "int32" else None)


def _odd_bias(node: ir.Node) -> str | None:
    """An integer bias is one number per output channel; Gemm allows others."""
    bias = node.inputs[BIAS_INPUT] if len(node.inputs) > BIAS_INPUT else None
    if bias is None or bias.shape is None or all(size == 1 for size in bias.shape[:-1]):
        return None
    return f"its bias has the shape {'x'.join(map(str, bias.shape))}"


def _spread(rules: dict[ir.Node, Rule], table: Table, kept: frozenset[str], plan: Plan) -> bool:
    """Extend the plan by the nodes that can follow in integers; true while something was added."""
    before = len(plan.integer)
    for node, rule in rules.items():
        if node in plan.integer or node.name in kept or rule.role not in _SPREAD:
            continue
        if _SPREAD[rule.role](node, table, plan) and not _reason(node, rule, table, kept):
            _admit(node, rule, table, plan)
    return len(plan.integer) > before


def _admit(node: ir.Node, rule: Rule, table: Table, plan: Plan) -> None:
    plan.integer[node] = rule
    inputs = _skip(node, plan) if rule.role is Role.RESIDUAL else activations(node)
    inputs = inputs[:1] if rule.role is Role.MOVE else inputs
    for index in inputs:
        _use(plan, node, index, rule)
    outputs = [absorbed(output, table) for output in node.outputs if output.name]
    if rule.output is Output.ALWAYS or (rule.role in (Role.MOVE, Role.JOIN) and any(v in plan.edges for v in outputs)):
        for output in outputs:
            _whole(plan, output)
    if rule.role is Role.MOVE or rule.shared:
        values = [value for i in inputs if (value := node.inputs[i]) is not None]
        plan.shared += [(values[0], other) for other in (*values[1:], *outputs)]


def _carry(node: ir.Node, plan: Plan) -> None:
    """Take away the pairs behind a node through which the runtime carries the scale."""
    for output in node.outputs:
        plan.edges.pop(output, None)
        plan.whole.discard(output)


def _can_follow(node: ir.Node, table: Table, plan: Plan) -> bool:
    """Every input is in integers or can be had so, and the output is of use in integers inside the graph."""
    inputs = [node.inputs[i] for i in activations(node)]
    output = absorbed(node.outputs[0], table)
    rule = table.rule(node.op_type)
    useful = _wanted(output, table, plan) or (rule is not None and rule.output is Output.ALWAYS)
    return bool(inputs) and useful and not output.is_graph_output() and all(_on_offer(v, table, plan) for v in inputs)


def _can_move(node: ir.Node, table: Table, plan: Plan) -> bool:
    """The output is wanted in integers, and the data comes, maybe moved before, from where they are or are made."""
    origin = _origin(node.inputs[0], table, plan)
    if origin is None or not any(output in plan.edges for output in node.outputs):
        return False
    return origin in plan.edges or _maker(origin, table, plan) is not None or _is_fused(origin, table)


def _origin(value: ir.Value | None, table: Table, plan: Plan) -> ir.Value | None:
    """The tensor that movers made a float tensor from."""
    while value is not None and value not in plan.edges:
        mover = value.producer()
        if mover is None or not _is_mover(mover, table):
            return value
        value = mover.inputs[0]
    return value


def _is_mover(node: ir.Node, table: Table) -> bool:
    rule = table.rule(node.op_type) if node.domain == "" else None
    return rule is not None and rule.role is Role.MOVE


def _wanted(value: ir.Value, table: Table, plan: Plan) -> bool:
    """Whether a tensor is read in integers, maybe after it was moved."""
    if value in plan.edges:
        return True
    movers = [use.node for use in value.uses() if use.idx == 0 and _is_mover(use.node, table)]
    return any(_wanted(output, table, plan) for mover in movers for output in mover.outputs)


def _can_join(node: ir.Node, table: Table, plan: Plan) -> bool:
    rule = table.rule(node.op_type)
    # A constant part would have to take part in the choice of the shared scale.
    apart = rule is not None and rule.shared and any(is_constant(value) for value in node.inputs)
    return node.outputs[0] in plan.edges and not apart and _can_follow(node, table, plan)


def _on_offer(value: ir.Value | None, table: Table, plan: Plan) -> bool:
    """Whether a tensor is quantized already, or its producer can give integers at no cost."""
    origin = _origin(value, table, plan)
    if origin is None or origin in plan.edges:
        return origin is not None
    rule = _maker(origin, table, plan)
    return _is_fused(origin, table) or (rule is not None and rule.output is Output.OFFERED)


def _is_fused(value: ir.Value, table: Table) -> bool:
    """Whether a tensor is made by a kernel that can just as well give integers."""
    producer = value.producer()
    rule = table.rule(producer.op_type) if producer is not None and producer.domain == "" else None
    return rule is not None and rule.fused


def _maker(value: ir.Value, table: Table, plan: Plan) -> Rule | None:
    """The rule of the integer node that makes a tensor, activations that vanish into its range passed over."""
    producer = value.producer()
    while producer is not None and _vanishes(producer, table):
        before = producer.inputs[0]
        if before is None or len(before.uses()) != 1:
            return None
        producer = before.producer()
    return plan.integer.get(producer) if producer is not None else None


def _can_skip(node: ir.Node, table: Table, plan: Plan) -> bool:
    """Whether a sum ends a convolution; behind a product, sums are masks or need more than 8 bits."""
    skip = _skip(node, plan)
    main = [value for i in activations(node) if i not in skip and (value := node.inputs[i]) is not None]
    makers = [value.producer() for value in main]
    return bool(skip) and all(maker is not None and maker.op_type in ("Conv", "ConvTranspose") for maker in makers)


_SPREAD = {Role.FOLLOW: _can_follow, Role.MOVE: _can_move, Role.JOIN: _can_join, Role.RESIDUAL: _can_skip}


def _skip(node: ir.Node, plan: Plan) -> list[int]:
    """Index of the skip input of a residual Add, where the other side ends in a compute node that Add fuses into."""
    sides = activations(node)
    main = [i for i in sides if _ends_in_compute(node.inputs[i], plan)]
    if len(sides) != 2 or not main:
        return []
    # Where both sides could fuse (a downsampling block), the longer side keeps its fusion; exporters put it first.
    return [i for i in sides if i != main[0]]


def _ends_in_compute(value: ir.Value | None, plan: Plan) -> bool:
    if value is None or len(value.uses()) != 1:
        return False
    producer = value.producer()
    rule = plan.integer.get(producer) if producer is not None else None
    return rule is not None and rule.role is Role.COMPUTE


def _use(plan: Plan, node: ir.Node, index: int, rule: Rule) -> None:
    value = node.inputs[index]
    assert value is not None
    plan.edges.setdefault(value, set()).add((node, index))
    if rule.activation is not None:
        plan.schemes.setdefault(value, rule.activation)


def _whole(plan: Plan, value: ir.Value) -> None:
    plan.whole.add(value)
    plan.edges.setdefault(value, set())
