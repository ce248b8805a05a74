"""Brings a graph into the form that the plan reads."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, NameFixPass

from infopt.bodies import name_apart
from infopt_passes.quantize.opset import converted
from infopt_passes.quiet import quiet

IR_VERSIONS = ((19, 9), (21, 10))
"""The operator sets that brought new types, with the first version of the file format that holds them: FP8, int4."""


def prepared(graph: ir.Model, opset: int) -> ir.Model:
    """A copy of a graph with unique names, with constants as initializers and of a sufficient opset.

    Args:
        graph: The model; it is left as it was.
        opset: Smallest version of the default operator set; Q/DQ per channel came with 13.

    Raises:
        ModelError: The graph is older and cannot be converted.
    """
    result = graph.clone()
    # Graphs of IR version 3 list every initializer as an input; the constants of Q/DQ are none.
    result.ir_version = max(result.ir_version, 4, *(version for since, version in IR_VERSIONS if opset >= since))
    with quiet():
        result = converted(result, opset)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(result)
        NameFixPass()(result)
    name_apart(result.graph)
    return result
