"""Applies the repairs of the rules to a copy of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onnx_ir.passes.common import RemoveUnusedNodesPass

from infopt.checks.report import Repair
from infopt.checks.rules import RULES
from infopt.checks.subject import Subject, label
from infopt.model import Model

if TYPE_CHECKING:
    from infopt.shapes import ShapeRange
    from infopt.target import Target

ROUNDS = 8
"""Upper bound of rounds: a repair may make another one possible."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A repaired model.

    Attributes:
        model: The model.
        repairs: What was done, in order.
    """

    model: Model
    repairs: tuple[Repair, ...]


def mended(model: Model, targets: Sequence[Target], shapes: Sequence[ShapeRange]) -> Mended:
    """Apply every repair that changes no result.

    Args:
        model: The model; it is left as it was.
        targets: The target that it is repaired for.
        shapes: Ranges of dynamic inputs.

    Returns:
        The repaired model, and what was done.
    """
    result = replace(model, graph=model.graph.clone())
    # Graphs of IR version 3 list every initializer as an input; the constants of a repair are none.
    result.graph.ir_version = max(result.graph.ir_version, 4)
    done: list[Repair] = []
    names = {target.name for target in targets}
    for _ in range(ROUNDS):
        before = len(done)
        for rule in RULES:
            if rule.repair is None or rule.find is None or (rule.targets is not None and not rule.targets & names):
                continue
            done += _applied(rule, Subject(result, tuple(targets), tuple(shapes)))
        if len(done) == before:
            break
    RemoveUnusedNodesPass()(result.graph)
    return Mended(result, tuple(done))


def _applied(rule: object, subject: Subject) -> list[Repair]:
    """One rule's repairs; each sees the graph that the one before left."""
    from infopt.checks.rule import LintRule

    assert isinstance(rule, LintRule)
    assert rule.find is not None
    assert rule.repair is not None
    done: list[Repair] = []
    while spot := next((each for each in rule.find(subject) if each.fixable), None):
        where = label(spot.node) if spot.node is not None else spot.place
        done.append(Repair(rule.id, where, rule.repair(subject, spot)))
        subject = Subject(subject.model, subject.targets, subject.shapes)
    return done
