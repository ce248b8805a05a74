"""Finds where NaN and infinities come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.errors import DataError
from infopt.probe import opened, values_by_name, with_faults

if TYPE_CHECKING:
    from infopt.data import Feed

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})


def fault(graph: ir.Model, names: list[str], feed: Feed, sample: int, workdir: Path) -> DataError | None:
    """The error that names the first node that makes NaN or infinity on the way to some tensors.

    An infinity that a node merely takes over from a constant is no fault: masks are made so.

    Args:
        graph: The float model.
        names: Tensors that seem not to be finite.
        feed: The sample on which.
        sample: Its number, for the message.
        workdir: Folder for files that only live during the run.

    Returns:
        The error, or ``None`` when all of the tensors are finite after all.
    """
    inner = [name for name in names if name not in values_by_name(graph.graph)]
    if inner:
        return DataError(
            f"the float model gives NaN or infinity on calibration sample {sample} in {inner[0]!r}, inside of a body: "
            "there is nothing to quantize from",
            "mend the model, or the samples if they are not what it takes",
        )
    nodes = _ancestors(graph.graph, set(names))
    outputs = [value.name for node in nodes for value in node.outputs if value.name and value.dtype in FLOATS]
    session = opened(with_faults(graph, outputs), workdir, {"graph_optimization_level": "0"})
    flags = np.array(session.run(feed), np.float64).reshape(2, -1) > 0
    nan, bad = (dict(zip(outputs, row, strict=True)) for row in flags)
    if not any(bad.get(name) for name in names):
        return None
    guilty = [node for node in nodes if any(bad.get(value.name or "") for value in node.outputs)]
    first = next((node for node in guilty if not _takes_over(node, nan)), guilty[0])
    return _error(first, nan, sample)


def _ancestors(graph: ir.Graph, names: set[str]) -> list[ir.Node]:
    """The nodes that tensors are made by, directly or not, in the graph's order."""
    found: list[ir.Node] = []
    wanted = set(names)
    for node in reversed(graph):
        if any(value.name in wanted for value in node.outputs):
            found.append(node)
            wanted |= {value.name for value in node.inputs if value is not None and value.name}
    return found[::-1]


def _takes_over(node: ir.Node, nan: dict[str, Any]) -> bool:
    """Whether a node's output is infinite, not NaN, and one of its constants is so too."""
    if any(nan.get(value.name or "") for value in node.outputs):
        return False
    return any(np.isinf(array).any() for _, array in _constants(node))


def _constants(node: ir.Node) -> list[tuple[str, Any]]:
    held = [value for value in node.inputs if value is not None and value.const_value is not None]
    return [
        (value.name or "", value.const_value.numpy())
        for value in held
        if value.dtype in FLOATS and value.const_value is not None
    ]


def _error(node: ir.Node, nan: dict[str, Any], sample: int) -> DataError:
    what = "NaN" if any(nan.get(value.name or "") for value in node.outputs) else "infinity"
    broken = [name for name, array in _constants(node) if not np.isfinite(array).all()]
    because = f", whose weight {broken[0]!r} holds NaN or infinity" if broken else ""
    return DataError(
        f"the float model gives {what} on calibration sample {sample}, first at node {node.name!r} ({node.op_type})"
        f"{because}: there is nothing to quantize from",
        "mend the model, or the samples if they are not what it takes",
    )
