"""The simplifications themselves: onnx_ir's passes and onnxscript's default rules, run until nothing changes."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
)
from onnxscript.optimizer import optimize_ir

from infopt_passes.quiet import quiet
from infopt_passes.simplify.affine import fold_affine

ROUNDS = 8
"""Upper bound of rounds; real models settle within three."""


def simplified(graph: ir.Model, fold_limit: int) -> ir.Model:
    """A simplified copy of a model.

    Args:
        graph: The model; it is left as it was.
        fold_limit: Largest constant in bytes that folding may create.

    Returns:
        A model with the same inputs and outputs.
    """
    result = graph.clone()
    RemoveInitializersFromInputsPass()(result)
    # Before IR version 4 every initializer had to be an input too.
    result.ir_version = max(result.ir_version, 4)
    ClearMetadataAndDocStringPass()(result)
    with quiet():
        optimize_ir(result, num_iterations=ROUNDS, input_size_limit=fold_limit, output_size_limit=fold_limit)
        fold_affine(result.graph)
        RemoveUnusedNodesPass()(result)
    # Rules leave notes of what they did on the nodes; they are of no use to a runtime.
    ClearMetadataAndDocStringPass()(result)
    return result
