"""Reads a target's table and decides which tensors are quantized for which consumers. Nothing is changed here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from infopt.target import Output, Role, Rule, Scheme, Table
from infopt_passes.quantize.facts import (
    BIAS_INPUT,
    COMPUTE_OPS,
    activations,
    clip_bounds,
    facts,
    is_constant,
    operands,
)

Use = tuple[ir.Node, int]

LONGEST = 16
"""Operators that one kernel is thought to compute along at most; the exploded forms of GELU and the like have 5."""


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
    _choose_schemes(table, plan)
    for node, rule in plan.integer.items():
        if rule.carries:
            _carry(node, plan)
    return plan


def _choose_schemes(table: Table, plan: Plan) -> None:
    """Grant each group of tensors the scheme that its readers wish for."""
    for group in plan.groups():
        readers = {plan.integer[node] for value in group for node, _ in plan.edges[value]}
        wish = next((rule.activation for rule in table.rules if rule.activation and rule in readers), None)
        if wish is not None:
            plan.schemes.update(dict.fromkeys(group, wish))


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
            _use(plan, node, index)
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
    inputs = _inputs(node, rule, plan)
    for index in inputs:
        _use(plan, node, index)
    outputs = [absorbed(output, table) for output in node.outputs if output.name]
    if rule.output is Output.ALWAYS or (rule.role in (Role.MOVE, Role.JOIN) and any(v in plan.edges for v in outputs)):
        for output in outputs:
            _whole(plan, output)
    if rule.role is Role.MOVE or rule.shared:
        values = [value for i in inputs if (value := node.inputs[i]) is not None]
        plan.shared += [(values[0], other) for other in (*values[1:], *outputs)]


def _inputs(node: ir.Node, rule: Rule, plan: Plan) -> list[int]:
    """Positions of the inputs that are quantized for a node which is not a compute node."""
    if rule.role is Role.RESIDUAL:
        return _skip(node, plan)
    return activations(node)[:1] if rule.role is Role.MOVE else operands(node, rule.spares)


def _carry(node: ir.Node, plan: Plan) -> None:
    """Take away the pairs behind a node through which the runtime carries the scale."""
    for output in node.outputs:
        plan.edges.pop(output, None)
        plan.whole.discard(output)


def _can_follow(node: ir.Node, table: Table, plan: Plan) -> bool:
    """Every input is in integers or can be had so, and the output is of use in integers inside the graph."""
    rule = table.rule(node.op_type)
    inputs = [node.inputs[i] for i in operands(node, rule is not None and rule.spares)]
    output = absorbed(node.outputs[0], table)
    useful = _wanted(output, table, plan) or (rule is not None and rule.output is Output.ALWAYS)
    return bool(inputs) and useful and not output.is_graph_output() and all(_on_offer(v, table, plan) for v in inputs)


def _can_move(node: ir.Node, table: Table, plan: Plan) -> bool:
    """The output is wanted in integers, and the data comes, maybe moved before, from where they are or are made."""
    origin = _origin(node.inputs[0], table, plan)
    known = origin is not None and (origin in plan.edges or _maker(origin, table, plan) is not None)
    return known and any(output in plan.edges for output in node.outputs)


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
    """Whether a tensor is read in integers, maybe after it was moved or by what can follow in integers then."""
    pending, seen = [value], {value}
    while pending:
        before = pending.pop()
        if before in plan.edges:
            return True
        for use in before.uses():
            if _passes(use.node, use.idx, table, plan):
                behind = {absorbed(output, table) for output in use.node.outputs}
                pending += behind - seen
                seen |= behind
    return False


def _passes(node: ir.Node, index: int, table: Table, plan: Plan) -> bool:
    """Whether a node would run in integers, if the input at an index were an integer and its output were wanted."""
    rule = table.rule(node.op_type) if node.domain == "" else None
    if rule is None or rule.role not in (Role.MOVE, Role.FOLLOW):
        return False
    others = [node.inputs[i] for i in operands(node, rule.spares) if i != index]
    return index == 0 if rule.role is Role.MOVE else all(_on_offer(value, table, plan) for value in others)


def _can_join(node: ir.Node, table: Table, plan: Plan) -> bool:
    rule = table.rule(node.op_type)
    # A constant part would have to take part in the choice of the shared scale.
    apart = rule is not None and rule.shared and any(is_constant(value) for value in node.inputs)
    # An activation behind would have to run in integers: a pair behind it is pushed through both by those who can.
    return _wanted(node.outputs[0], table, plan) and not apart and _can_follow(node, table, plan)


def _on_offer(value: ir.Value | None, table: Table, plan: Plan) -> bool:
    """Whether a tensor is quantized already, or its producer can give integers at no cost."""
    origin = _origin(value, table, plan)
    if origin is None or origin in plan.edges:
        return origin is not None
    rule = _maker(origin, table, plan)
    return rule is not None and rule.output is Output.OFFERED


def _maker(value: ir.Value, table: Table, plan: Plan) -> Rule | None:
    """The rule of the integer node that makes a tensor, operators that vanish or fuse into it passed over."""
    producer = _source(value, table, plan).producer()
    return plan.integer.get(producer) if producer is not None else None


def _source(value: ir.Value, table: Table, plan: Plan) -> ir.Value:
    """The only tensor that operators which vanish or fuse make a tensor from; the tensor itself where there is none."""
    passed: set[ir.Node] = set()
    pending, sources = [value], set()
    while pending and len(passed) <= LONGEST:
        before = pending.pop()
        node = before.producer()
        if node is None or node in plan.integer or not (_vanishes(node, table) or _fuses(node, table)):
            sources.add(before)
        elif node not in passed:
            passed.add(node)
            pending += [data for i in activations(node) if (data := node.inputs[i]) is not None]
    inner = {*sources, *(output for node in passed for output in node.outputs)} - {value}
    closed = all(use.node in passed for each in inner for use in each.uses())
    if pending or len(sources) != 1 or not closed or any(each.is_graph_output() for each in inner):
        return value
    return sources.pop()


def _fuses(node: ir.Node, table: Table) -> bool:
    return node.domain == "" and node.op_type in table.fuses


def _can_skip(node: ir.Node, table: Table, plan: Plan) -> bool:
    return bool(_skip(node, plan))


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


def _use(plan: Plan, node: ir.Node, index: int) -> None:
    value = node.inputs[index]
    assert value is not None
    plan.edges.setdefault(value, set()).add((node, index))


def _whole(plan: Plan, value: ir.Value) -> None:
    plan.whole.add(value)
    plan.edges.setdefault(value, set())
