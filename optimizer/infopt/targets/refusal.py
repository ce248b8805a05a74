"""Reads a runtime's complaint: which node it is about, and the line that says something."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from infopt.errors import RuntimeRefused

LONGEST = 500
"""Characters of the reason; the log keeps the rest."""


def refusal(
    target: str, error: Exception, reason: str, patterns: tuple[Sequence[str], str], model: Path | bytes | None
) -> RuntimeRefused:
    """The error of a runtime as infopt's.

    Args:
        target: Name of the target.
        error: What the runtime raised.
        reason: The line of its message that says something.
        patterns: Regular expressions whose first group is the name of a node; then one whose first group is an
            operator that the runtime does not know, of which the model's first node is named.
        model: The ONNX file, or what would be in it, if there is one.
    """
    text = str(error).strip()
    named, unknown_op = patterns
    found = next((match for pattern in named if (match := re.search(pattern, text))), None)
    name = found[1] if found else None
    op = re.search(unknown_op, text)
    if name is None and op and (isinstance(model, bytes) or (model is not None and model.suffix == ".onnx")):
        name = _first(model, op[1])
    return RuntimeRefused(target, reason[:LONGEST], name, text)


def _first(model: Path | bytes, op: str) -> str | None:
    """Name of a model's first node of an operator, given with or without its domain."""
    import onnx
    import onnx_ir as ir

    graph = ir.from_proto(onnx.ModelProto.FromString(model)) if isinstance(model, bytes) else ir.load(model)
    for node in graph.graph.all_nodes():
        if op in (node.op_type, f"{node.domain}.{node.op_type}", f"{node.domain}:{node.op_type}"):
            return node.name or node.outputs[0].name
    return None
