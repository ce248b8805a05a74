"""Reads a target's table and decides which tensors are quantized for which consumers. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from infopt.bodies import bodies, passages, states
from infopt.facts import BIAS_INPUT, COMPUTE_OPS, CONVOLUTIONS, activations, float_reason, is_constant, operands, row
from infopt.target import Output, Role, Rule, Scheme, Table
from infopt_passes.quantize.flow import Flow, Use, absorbed, is_local


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


def make_plan(
    graph: ir.Graph, opset: int, table: Table, keep_float: Iterable[str], idle: Collection[ir.Graph] = ()
) -> Plan:
    """Place quantization in a graph as a table wants it.

    Args:
        graph: The main graph; constants are initializers and shapes are inferred. Bodies in it are planned as well.
        opset: Version of its default operator set.
        table: The target's table.
        keep_float: Names of nodes that the user keeps in float.
        idle: Bodies that calibration never ran: nothing is known of what is in them.

    Returns:
        The plan; empty when nothing pays.
    """
    float_bodies = _float_bodies(graph, table, idle)
    holders = [graph, *(body.graph for body in bodies(graph))]
    nodes = [node for holder in holders if holder not in float_bodies for node in holder]
    rules = {node: rule for node in nodes if (rule := row(node, opset, table))}
    tail = set(nodes) - _leading_on(graph)
    planner = Planner(table, frozenset(keep_float), Plan())
    for holder, why in float_bodies.items():
        planner.plan.kept.update((node, why) for node in holder if node.op_type in COMPUTE_OPS and node.domain == "")
    unknown = [node for node in nodes if node.op_type in COMPUTE_OPS and node.domain == "" and node not in rules]
    planner.plan.kept.update((node, f"the target's table has no row about {node.op_type}") for node in unknown)
    for node, rule in rules.items():
        if rule.role is Role.COMPUTE:
            planner.compute(node, rule)
        elif rule.role is Role.FLOAT and node.op_type in COMPUTE_OPS:
            planner.plan.kept[node] = rule.why
    # Behind the last layer, a pair would only take from what the model says: scores close to 0 become 0.
    followers = {n: rule for n, rule in rules.items() if not (n in tail and rule.role is Role.FOLLOW)}
    while planner.spread(followers):
        pass
    planner.choose_schemes()
    planner.carry()
    return planner.plan


def _leading_on(graph: ir.Graph) -> set[ir.Node]:
    """The nodes whose results come to a compute node, be it in a body or behind one, and not to a state before.

    An error of what an iteration hands to the next comes back in every iteration: Loops of residual blocks lost 2 to
    6 dB by quantized sums at their ends and gained no time.
    """
    ways = passages(graph)
    layers = [value for node in graph.all_nodes() if node.op_type in COMPUTE_OPS for value in node.inputs]
    return _behind(layers, ways) - _behind(states(graph), ways, COMPUTE_OPS)


def _behind(
    values: Iterable[ir.Value | None], ways: Mapping[ir.Value, Sequence[ir.Value]], stops: Collection[str] = ()
) -> set[ir.Node]:
    """The nodes that values are made by, directly or not, but for some operators and what only they read."""
    found: set[ir.Node] = set()
    pending = [value for value in values if value is not None]
    seen = set(pending)
    while pending:
        value = pending.pop()
        producer, before = value.producer(), ways.get(value, ())
        if producer is not None and value not in ways and producer.op_type not in stops:
            found.add(producer)
            before = [source for source in producer.inputs if source is not None]
        fresh = set(before) - seen
        pending += fresh
        seen |= fresh
    return found


def _float_bodies(graph: ir.Graph, table: Table, idle: Collection[ir.Graph]) -> dict[ir.Graph, str]:
    """The bodies whose nodes stay in float, with the reason."""
    found: dict[ir.Graph, str] = {}
    for body in bodies(graph):
        if body.owner.graph in found:
            found[body.graph] = found[body.owner.graph]
        elif body.owner.domain or body.owner.op_type not in table.bodies:
            found[body.graph] = f"it is in the body of {body.owner.op_type}, which the runtime computes in float"
        elif body.graph in idle:
            found[body.graph] = f"it is in the {body.name}, which calibration never ran"
    return found


@dataclass(frozen=True, slots=True)
class Planner:
    """Fills a plan.

    Attributes:
        table: The target's table.
        kept: Names of nodes that the user keeps in float.
        plan: The plan.
    """

    table: Table
    kept: frozenset[str]
    plan: Plan

    @property
    def flow(self) -> Flow:
        """The graph as far as it is planned."""
        return Flow(self.table, self.plan.integer, self.plan.edges)

    def compute(self, node: ir.Node, rule: Rule) -> None:
        """Take a compute node in, or note why not."""
        reason = self._reason(node, rule)
        if reason:
            self.plan.kept[node] = reason
            return
        self.plan.integer[node] = rule
        if self.table.data != "calibrated":
            return
        for index in activations(node):
            if index < BIAS_INPUT:
                self._use(node, index)
        output = absorbed(node.outputs[0], self.table)
        closed = rule.closes and output is not node.outputs[0] and not output.is_graph_output()
        if rule.output is Output.ALWAYS or closed:
            self._whole(output)

    def spread(self, rules: dict[ir.Node, Rule]) -> bool:
        """Extend the plan by the nodes that can follow in integers; true while something was added."""
        before = len(self.plan.integer)
        # Data are offered downwards and wanted upwards: both ways at once spare rounds.
        for node, rule in (*rules.items(), *reversed(rules.items())):
            if node in self.plan.integer or node.name in self.kept or rule.role not in JOINS_IN:
                continue
            if not all(is_local(node, index) for index in activations(node)):
                continue  # what comes from around a body is quantized inside of it, for layers only
            if JOINS_IN[rule.role](node, rule, self.flow) and not self._reason(node, rule):
                self._admit(node, rule)
        return len(self.plan.integer) > before

    def choose_schemes(self) -> None:
        """Grant each group of tensors the scheme that its readers wish for."""
        for group in self.plan.groups():
            readers = {self.plan.integer[node] for value in group for node, _ in self.plan.edges[value]}
            wish = next((rule.activation for rule in self.table.rules if rule.activation and rule in readers), None)
            if wish is not None:
                self.plan.schemes.update(dict.fromkeys(group, wish))

    def carry(self) -> None:
        """Take away the pairs behind nodes through which the runtime carries the scale."""
        for node, rule in self.plan.integer.items():
            for output in node.outputs if rule.carries else ():
                self.plan.edges.pop(output, None)
                self.plan.whole.discard(output)

    def _reason(self, node: ir.Node, rule: Rule) -> str | None:
        return "kept in float by --keep-float" if node.name in self.kept else float_reason(node, rule, self.table)

    def _admit(self, node: ir.Node, rule: Rule) -> None:
        inputs = self._inputs(node, rule)
        self.plan.integer[node] = rule
        for index in inputs:
            self._use(node, index)
        outputs = [absorbed(output, self.table) for output in node.outputs if _is_data(output)]
        passed_on = rule.role in (Role.MOVE, Role.JOIN) and any(value in self.plan.edges for value in outputs)
        for output in outputs if rule.output is Output.ALWAYS or passed_on else ():
            self._whole(output)
        if rule.role is Role.MOVE or rule.shared:
            values = [value for i in inputs if (value := node.inputs[i]) is not None]
            self.plan.shared += [(values[0], other) for other in (*values[1:], *outputs)]

    def _inputs(self, node: ir.Node, rule: Rule) -> list[int]:
        """Positions of the inputs that are quantized for a node which is not a compute node."""
        if rule.role is Role.RESIDUAL:
            return self.flow.skip(node)
        return activations(node)[:1] if rule.role is Role.MOVE else operands(node, rule.spares)

    def _use(self, node: ir.Node, index: int) -> None:
        value = node.inputs[index]
        assert value is not None
        self.plan.edges.setdefault(value, set()).add((node, index))

    def _whole(self, value: ir.Value) -> None:
        self.plan.whole.add(value)
        self.plan.edges.setdefault(value, set())


def _is_data(value: ir.Value) -> bool:
    """Whether an output is one to quantize: absent ones have no name, and indices are integers."""
    return bool(value.name) and value.dtype in (None, ir.DataType.FLOAT)


def _can_follow(node: ir.Node, rule: Rule, flow: Flow) -> bool:
    """Every input is in integers or can be had so, and the output is of use in integers inside the graph."""
    inputs = [node.inputs[i] for i in operands(node, rule.spares)]
    output = absorbed(node.outputs[0], flow.table)
    useful = rule.output is Output.ALWAYS or flow.wanted(output)
    return bool(inputs) and useful and not output.is_graph_output() and all(map(flow.on_offer, inputs))


def _can_move(node: ir.Node, rule: Rule, flow: Flow) -> bool:
    """The output is wanted in integers, and the data comes, maybe moved before, from where they are or are made."""
    origin = flow.origin(node.inputs[0])
    if origin is None or not any(output in flow.edges for output in node.outputs):
        return False
    return origin in flow.edges or flow.maker(origin) is not None or flow.can_give(origin)


def _can_join(node: ir.Node, rule: Rule, flow: Flow) -> bool:
    """As with a follower; a constant part would have to take part in the choice of a shared scale."""
    apart = rule.shared and any(is_constant(value) for value in node.inputs)
    # An activation behind would have to run in integers: a pair behind it is pushed through both by those who can.
    return flow.wanted(node.outputs[0]) and not apart and _can_follow(node, rule, flow)


def _can_skip(node: ir.Node, rule: Rule, flow: Flow) -> bool:
    """A sum ends a convolution; behind a product, sums are masks or need more than 8 bits."""
    skip = flow.skip(node)
    main = [value for i in activations(node) if i not in skip and (value := node.inputs[i]) is not None]
    makers = [flow.source(value).producer() for value in main]
    return bool(skip) and all(maker is not None and maker.op_type in CONVOLUTIONS for maker in makers)


JOINS_IN: dict[Role, Callable[[ir.Node, Rule, Flow], bool]] = {
    Role.FOLLOW: _can_follow,
    Role.MOVE: _can_move,
    Role.JOIN: _can_join,
    Role.RESIDUAL: _can_skip,
}
"""Whether a node that is no compute node can run in integers too, by its role."""
