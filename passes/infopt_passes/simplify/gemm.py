"""Makes a matrix product and the bias behind it one Gemm.

Runtimes do that to float graphs by themselves. ONNX Runtime does it to Q/DQ graphs as well, before it looks for
integer kernels, and then finds none for a Gemm whose bias is float; a Gemm that is there from the start is quantized
with its bias.
"""

from __future__ import annotations

import onnx_ir as ir

from infopt.facts import is_constant

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def fuse_gemm(graph: ir.Graph) -> int:
    """Fuse in place what can be fused.

    Args:
        graph: The graph; weights are initializers, shapes are inferred.

    Returns:
        Number of nodes removed.
    """
    return sum(_fuse(graph, node) for node in list(graph) if node.op_type == "MatMul" and node.domain == "")


def _fuse(graph: ir.Graph, product: ir.Node) -> bool:
    output = product.outputs[0]
    uses = tuple(output.uses())
    if len(uses) != 1 or output.is_graph_output() or not _matrices(product):
        return False
    add, index = uses[0].node, uses[0].idx
    if add.op_type != "Add" or add.domain or add.graph is not graph:
        return False
    weight, bias = product.inputs[1], add.inputs[1 - index]
    assert weight is not None
    if weight.dtype not in FLOATS:  # runtimes have no Gemm of integers
        return False
    if bias is None or not is_constant(bias) or bias.shape is None or bias.dtype != weight.dtype:
        return False
    if tuple(bias.shape) not in ((weight.shape[1],), (1, weight.shape[1])):  # type: ignore[index]
        return False
    gemm = ir.node("Gemm", [product.inputs[0], weight, bias], name=product.name)
    old, new = add.outputs[0], gemm.outputs[0]
    name, new.shape, new.type = old.name, old.shape, old.type
    graph.insert_before(add, gemm)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove([add, product], safe=True)
    new.name = name
    return True


def _matrices(product: ir.Node) -> bool:
    """Whether a constant matrix is multiplied to a matrix."""
    data, weight = product.inputs
    known = data is not None and weight is not None and data.shape is not None and weight.shape is not None
    return known and is_constant(weight) and len(data.shape) == len(weight.shape) == 2  # type: ignore
