"""What the targets' tables would leave in float."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from infopt.checks.rule import LintRule, Spot
from infopt.checks.subject import DOMAINS, Subject, label
from infopt.facts import COMPUTE_OPS, float_reason, row
from infopt.target import Target


def stays(subject: Subject) -> Iterator[Spot]:
    """Compute nodes of a float model that a target's table does not quantize, with the table's own reason."""
    if subject.model.quantized_nodes():
        return
    nodes = {label(node): node for node in subject.nodes}
    told: dict[tuple[str, str], set[str]] = {}
    for target in subject.targets:
        for name, why in float_nodes(subject, target)[1].items():
            told.setdefault((name, why), set()).add(target.name)
    for (name, why), targets in told.items():
        yield Spot(why, nodes.get(name), place=name, targets=frozenset(targets))


def float_nodes(subject: Subject, target: Target) -> tuple[int, dict[str, str]]:
    """How many compute nodes a table quantizes, those in bodies included, and why it does not quantize the others.

    Args:
        subject: A float model.
        target: Brings the table.

    Returns:
        The count, and a reason by the node's name.
    """
    graph = subject.model.graph.clone()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    reasons = {
        label(node): _why(node, target, subject.opset) for node in graph.graph.all_nodes() if _counts(node, target)
    }
    return sum(why is None for why in reasons.values()), {name: why for name, why in reasons.items() if why}


def _counts(node: ir.Node, target: Target) -> bool:
    return node.domain in DOMAINS and (node.op_type in COMPUTE_OPS or node.op_type in target.table.compute_ops)


def _why(node: ir.Node, target: Target, opset: int) -> str | None:
    rule = row(node, max(opset, target.table.opset), target.table)
    if rule is None:
        return f"{node.op_type} has no row in its table"
    return float_reason(node, rule, target.table)


ROWS = (
    LintRule(
        "stays-float", "note", "The target's table has no integer kernel for this compute node: quantize leaves it in "
        "float.", "nothing to do unless the node takes most of the time (infopt targets NAME --ops shows the table)",
        stays,
    ),
)  # fmt: skip
