"""Brings together what the rules found and what a runtime said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from infopt.checks.ask import Answer, Refusal
from infopt.checks.report import Finding
from infopt.checks.rules import RULES
from infopt.checks.subject import Subject, label
from infopt.target import FloatNode

BY_ID = {rule.id: rule for rule in RULES}
STAGES = {
    "opset": "opset-refused",
    "parse": "parser-refused",
    "build": "build-refused",
    "guess": "guessed-shape",
    "crash": "runtime-crashed",
}
BUILT = "it built on this machine, which need not hold for another processor or version"


def merged(found: Iterable[Finding], target: str, answer: Answer, subject: Subject) -> tuple[Finding, ...]:
    """Findings after a runtime was asked.

    A refusal of a node that a rule has an error for confirms that error; any other is a finding of its own. What the
    rules say about fusion holds unless the runtime was seen to run the node in integers.

    Args:
        found: What the rules found.
        target: Name of the target.
        answer: What its runtime said.
        subject: The model.
    """
    result = list(found)
    for refusal in answer.refusals:
        result = _with_refusal(result, target, refusal, subject)
    if answer.version is not None and not answer.refusals:
        result = [_contradicted(each, target) for each in result]
    if answer.integer is not None:
        result = _with_kernels(result, target, answer.floats, subject)
    return tuple(result)


def _contradicted(finding: Finding, target: str) -> Finding:
    """A finding that the runtime refuses the model, where it did not."""
    if not BY_ID[finding.rule].refused or target not in finding.targets:
        return finding
    return replace(finding, reason=f"{finding.reason}; {target}: {BUILT}")


def _with_refusal(found: list[Finding], target: str, refusal: Refusal, subject: Subject) -> list[Finding]:
    explained = [
        index
        for index, each in enumerate(found)
        if each.severity == "error" and target in each.targets and _same_place(each, refusal.node, subject)
    ]
    if not explained:
        return [*found, _refusal_finding(target, refusal, subject)]
    for index in explained:
        found[index] = replace(found[index], confirmed=(*found[index].confirmed, target))
    return found


def _same_place(finding: Finding, node: str | None, subject: Subject) -> bool:
    if node is None or finding.node is None:
        return False
    return finding.node in _aliases(node, subject)


def _aliases(name: str, subject: Subject) -> set[str]:
    """The names by which a runtime may mean a node: its own, and those of its outputs."""
    nodes = (node for node in subject.nodes if name in (node.name, *(value.name for value in node.outputs)))
    return {name, *(label(node) for node in nodes)}


def _refusal_finding(target: str, refusal: Refusal, subject: Subject) -> Finding:
    rule = BY_ID[STAGES[refusal.stage]]
    aliases = _aliases(refusal.node, subject) if refusal.node else set()
    node = next((each for each in subject.nodes if label(each) in aliases), None)
    return Finding(
        rule.id,
        rule.severity,
        (target,),
        label(node) if node is not None else refusal.node,
        node.op_type if node is not None else None,
        refusal.reason,
        rule.remedy,
        confirmed=(target,),
    )


def _with_kernels(found: list[Finding], target: str, floats: tuple[FloatNode, ...], subject: Subject) -> list[Finding]:
    known = {name for node in subject.nodes for name in (node.name, *(value.name for value in node.outputs)) if name}
    slow = {alias for layer in floats for alias in _aliases(layer.origin(known), subject)}
    result: list[Finding] = []
    explained: set[str | None] = set()
    for each in found:
        if not BY_ID[each.rule].fusion or target not in each.targets:
            result.append(each)
        elif each.node in slow:
            explained.add(each.node)
            result.append(replace(each, confirmed=(*each.confirmed, target)))
        elif len(each.targets) > 1:
            result.append(replace(each, targets=tuple(name for name in each.targets if name != target)))
    rule = BY_ID["kernel-in-float"]
    for node in subject.products():
        quantized = all(subject.dequantized(value) is not None for value in node.inputs[:2])
        if quantized and label(node) in slow - explained:
            reason = f"{node.op_type} between DequantizeLinear nodes runs in float"
            told = (rule.id, rule.severity, (target,), label(node), node.op_type, reason, rule.remedy)
            result.append(Finding(*told, confirmed=(target,)))
    return result
