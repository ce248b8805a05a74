"""The rules of all operators. One without a rule freezes all that it touches."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from infopt_passes.prune.wiring.copies import COPIES
from infopt_passes.prune.wiring.fused import FUSED
from infopt_passes.prune.wiring.heads import HEADED
from infopt_passes.prune.wiring.recurrent import GATES, recurrent
from infopt_passes.prune.wiring.rules import RULES
from infopt_passes.prune.wiring.ties import Ties, called

TABLES: Mapping[str, Mapping[str, Callable[[ir.Node, Ties], None]]] = {
    "": RULES | COPIES | HEADED | dict.fromkeys(GATES, recurrent),
    "com.microsoft": FUSED,
}
"""Rule by operator, by domain."""


def apply(node: ir.Node, tie: Ties) -> None:
    """Tie what a node ties together, and freeze the rest."""
    rule = TABLES.get(node.domain, {}).get(node.op_type)
    if rule is not None:
        rule(node, tie)
    tie.finish(f"{called(node)} " + ("needs them as they are" if rule else "is an operator without a rule"))
