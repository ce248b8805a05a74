"""The simplifications themselves: onnx_ir's passes and onnxscript's default rules, run until nothing changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
)
from onnxscript.optimizer import optimize_ir

from infopt.data import InputSpec
from infopt.facts import is_constant
from infopt_passes.quiet import quiet
from infopt_passes.simplify.affine import fold_affine
from infopt_passes.simplify.branches import INDEX_LIMIT, decide_by_rank, fixed, fold_sizes, undecided
from infopt_passes.simplify.gemm import fuse_gemm
from infopt_passes.simplify.pooling import pool_means
from infopt_passes.simplify.turns import turn_at_once
from infopt_passes.simplify.upward import spell_out_padding

ROUNDS = 8
"""Upper bound of rounds; real models settle within three."""


def simplified(graph: ir.Model, fold_limit: int, inputs: Sequence[InputSpec] = ()) -> ir.Model:
    """A simplified copy of a model.

    Args:
        graph: The model; it is left as it was.
        fold_limit: Largest constant in bytes that folding may create.
        inputs: The inputs with sizes that the user has fixed. They are made use of, and fixed in the model, only where
            an If is decided by them.

    Returns:
        A model with the same inputs and outputs.
    """
    result = graph.clone()
    RemoveInitializersFromInputsPass()(result)
    # Before IR version 4 every initializer had to be an input too.
    result.ir_version = max(result.ir_version, 4)
    ClearMetadataAndDocStringPass()(result)
    _unshare_norms(result.graph)
    with quiet():
        result = _specialized(_settled(result, fold_limit), fold_limit, inputs)
        fold_affine(result.graph)
        fuse_gemm(result.graph)
        pool_means(result.graph)
        turn_at_once(result.graph)
        spell_out_padding(result.graph)
        RemoveUnusedNodesPass()(result)
    # Rules leave notes of what they did on the nodes; they are of no use to a runtime.
    ClearMetadataAndDocStringPass()(result)
    return result


def _settled(graph: ir.Model, fold_limit: int) -> ir.Model:
    """The graph optimized, with the branch that always runs in the place of each If that can be decided."""
    result = _optimized(graph, fold_limit)
    for _ in range(ROUNDS):
        if not undecided(result) or not fold_sizes(result.graph) + decide_by_rank(result):
            break
        result = _optimized(result, fold_limit)
    return result


def _specialized(graph: ir.Model, fold_limit: int, inputs: Sequence[InputSpec]) -> ir.Model:
    """The graph for the sizes that the user fixed, if these decide an If that is undecided; else the graph."""
    before, trial = undecided(graph), graph.clone()
    if not before or not fixed(trial, inputs):
        return graph
    result = _settled(trial, fold_limit)
    return result if undecided(result) < before else graph


def _optimized(graph: ir.Model, fold_limit: int) -> ir.Model:
    """The graph after the library's rules; as it was where one of them fails, as some do on rare operators.

    Raises:
        Exception: The library's own, where the graph is to blame because it is not valid.
    """
    result = graph.clone()
    # The library renames an input that is an output as well, and has a node make the output.
    through = [(at, value) for at, value in enumerate(result.graph.outputs) if value.is_graph_input()]
    for at, _ in reversed(through):
        del result.graph.outputs[at]
    try:
        # The library's limits count elements; what they let through is checked in bytes.
        optimize_ir(
            result,
            num_iterations=ROUNDS,
            input_size_limit=fold_limit,
            output_size_limit=fold_limit,
            should_fold=lambda node: False if _grows(node, fold_limit) else _is_index(node) or None,
        )
    except MemoryError:
        raise
    except Exception:  # every rule raises its own
        if not _valid(graph):
            raise
        return graph
    for at, value in through:
        result.graph.outputs.insert(at, value)
    return result


def _valid(graph: ir.Model) -> bool:
    try:
        onnx.checker.check_model(ir.to_proto(graph))
    except Exception:  # of the checker, or of weights that cannot be read
        return False
    return True


def _unshare_norms(graph: ir.Graph) -> None:
    """Give each BatchNormalization, and what it is folded into, vectors of its own: shared ones are not folded."""
    for norm in [node for node in graph if node.op_type == "BatchNormalization"]:
        before = norm.inputs[0].producer() if norm.inputs[0] is not None else None
        for node in (norm, before):
            for index, value in enumerate(node.inputs) if node is not None else ():
                if value is None or not is_constant(value) or len(value.uses()) == 1 or len(value.shape or "..") != 1:
                    continue
                assert value.const_value is not None
                own = ir.Value(name=f"{value.name}:{node.outputs[0].name}:{index}", const_value=value.const_value)  # type: ignore
                own.type, own.shape = value.type, value.shape
                graph.register_initializer(own)
                node.replace_input_with(index, own)  # type: ignore[union-attr]


def _grows(node: ir.Node, limit: int) -> bool:
    """Whether folding a node makes a constant above the limit that is also larger than those that it replaces."""
    made = sum(_bytes(value) for value in node.outputs)
    spent = sum(
        value.const_value.nbytes
        for value in node.inputs
        if value is not None and value.const_value is not None and len(value.uses()) == 1
    )
    return made > max(limit, spent)


def _is_index(node: ir.Node) -> bool:
    """Whether a node makes a constant that is as small as those that index arithmetic is done with."""
    sizes = node.inputs[0].const_value if node.op_type == "ConstantOfShape" and node.inputs[0] is not None else None
    return sizes is not None and math.prod(sizes.numpy().tolist()) * 8 <= INDEX_LIMIT


def _bytes(value: ir.Value) -> int:
    """Size of a tensor; 0 where it is not known."""
    if value.shape is None or value.dtype is None or not value.shape.is_static():
        return 0
    return math.ceil(math.prod(value.shape.numpy()) * value.dtype.itemsize)
