"""Brings a graph into the form in which its structure is looked for: constants lifted, names unique, sizes known."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
)

from infopt.bodies import name_apart
from infopt.contributed import note_shapes
from infopt_passes.prune.cutting.chains import unchained
from infopt_passes.prune.cutting.sizes import spelled
from infopt_passes.prune.wiring.recurrent import drop_zeros, name_states
from infopt_passes.prune.wiring.shapes import written_sizes
from infopt_passes.quiet import quiet

ROUNDS = 8
"""Sizes in Reshapes open up shapes behind them, which may be read to make further ones."""


FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


def prepared(graph: ir.Model) -> ir.Model:
    """A copy of a graph for the search and for surgery.

    Args:
        graph: The model; it is left as it was.
    """
    result = graph.clone()
    main = result.graph
    result.ir_version = max(result.ir_version, 4)
    with quiet():
        RemoveInitializersFromInputsPass()(result)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(result)
        drop_zeros(main)
        RemoveUnusedNodesPass()(result)
        name_states(main)
        NameFixPass()(result)
        name_apart(main)
        _unshare_vectors(main)
        for _ in range(ROUNDS):
            ShapeInferencePass()(result)
            if not any([written_sizes(main), note_shapes(main), spelled(result), unchained(main)]):
                break
            LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(result)
            RemoveUnusedNodesPass()(result)
    name_states(main)
    return result


def _unshare_vectors(graph: ir.Graph) -> None:
    """Give each reader a vector of its own: equal ones that were merged would tie what has nothing else in common."""
    for name, value in list(graph.initializers.items()):
        long = sum(size != 1 for size in value.shape or ())
        if value.dtype not in FLOATS or long != 1 or value.is_graph_output():
            continue
        for number, use in enumerate(list(value.uses())[1:], 2):
            if use.node.graph is not graph:
                continue
            own = ir.Value(name=f"{name}:own:{number}", const_value=value.const_value)
            own.type, own.shape = value.type, value.shape
            graph.register_initializer(own)
            use.node.replace_input_with(use.idx, own)
