"""What ONNX Runtime's optimizer leaves undone: each is one pass over every activation of a transformer, or four.

``MatMulIntegerToFloat`` takes a bias, but the runtime only puts one there in dynamically quantized graphs
(onnxruntime/core/optimizer/matmul_integer_to_float.cc). On Q/DQ graphs it leaves an Add, or a ``BiasGelu``, behind it.
GELU is recognized in two orders of its factors (onnxruntime/core/optimizer/gelu_fusion.cc), of which torch exports a
third, and in none where the data are dequantized, once for each reader.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

PRODUCT = "MatMulIntegerToFloat"
BIAS = 6
"""Position of the bias among the inputs of the product."""


SQRT_2 = math.sqrt(2)


def fuse(optimized: Path) -> int:
    """Fuse what is left, in place.

    Args:
        optimized: A graph that ONNX Runtime has optimized; its external data stays as it is.

    Returns:
        Number of fusions; with 0 the file is not touched.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = ir.load(optimized)
    nodes = list(model.graph.all_nodes())
    done = sum(_fuse_gelu(node) for node in nodes if node.op_type == "Erf")
    done += sum(_fuse_bias(node) for node in nodes if node.op_type == PRODUCT and len(node.inputs) <= BIAS)
    if done:
        # The runtime executes what nobody reads: a reader that was fused away leaves the DQ behind that was its own.
        RemoveUnusedNodesPass()(model)
        model.opset_imports.setdefault("com.microsoft", 1)
        ir.save(model, optimized)
    return done


def _fuse_gelu(erf: ir.Node) -> bool:
    """Make ``x * 0.5 * (erf(x / sqrt(2)) + 1)``, its factors in any order, a Gelu."""
    import onnx_ir as ir

    graph, scaled = erf.graph, erf.inputs[0].producer() if erf.inputs[0] is not None else None
    data = _scaled_by(scaled, 1 / SQRT_2) if scaled is not None else None
    shifted = _reader(erf, "Add")
    if data is None or shifted is None or graph is None or not _is_number(_other(shifted, erf), 1.0):
        return False
    factors = _factors(shifted, data)
    if factors is None or factors[-1].graph is not graph:
        return False
    last = factors[-1]
    gelu = ir.node("Gelu", [data], domain="com.microsoft", name=last.name)
    old, new = last.outputs[0], gelu.outputs[0]
    name, new.shape, new.type = old.name, old.shape, old.type
    graph.insert_after(last, gelu)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    for node in (*reversed(factors), shifted, erf, scaled):
        if node is not None and not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    new.name = name
    return True


def _factors(shifted: ir.Node, data: ir.Value) -> list[ir.Node] | None:
    """The products by ``data`` and by a half behind a node, the last one last."""
    first = _reader(shifted, "Mul")
    if first is None:
        return None
    by = _other(first, shifted)
    halved = by.producer() if by is not None else None
    if halved is not None and halved.op_type == "Mul" and _same(_scaled_by(halved, 0.5), data):
        return [halved, first]
    last = _reader(first, "Mul")
    if last is None:
        return None
    pair = (by, _other(last, first))
    if any(_is_number(pair[i], 0.5) and _same(pair[1 - i], data) for i in (0, 1)):
        return [first, last]
    return None


def _reader(node: ir.Node, op: str) -> ir.Node | None:
    """The only reader of a node, if it is that operator."""
    output = node.outputs[0]
    uses = tuple(output.uses())
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != op:
        return None
    return uses[0].node


def _other(reader: ir.Node, node: ir.Node) -> ir.Value | None:
    """The operand of a reader that a node does not make."""
    return reader.inputs[1 if reader.inputs[0] is node.outputs[0] else 0]


def _same(one: ir.Value | None, other: ir.Value) -> bool:
    """Whether two values are one, or what the runtime made of one: each reader of a DQ gets a DQ of its own."""
    if one is other:
        return True
    makers = (one.producer() if one is not None else None, other.producer())
    if any(maker is None or maker.op_type != "DequantizeLinear" for maker in makers):
        return False
    return makers[0].inputs == makers[1].inputs  # type: ignore[union-attr]


def _scaled_by(node: ir.Node, factor: float) -> ir.Value | None:
    """What a node multiplies by a factor, or divides by its inverse."""
    if node.op_type == "Div" and _is_number(node.inputs[1], 1 / factor):
        return node.inputs[0]
    if node.op_type == "Mul":
        return next((node.inputs[1 - i] for i in (0, 1) if _is_number(node.inputs[i], factor)), None)
    return None


def _is_number(value: ir.Value | None, number: float) -> bool:
    known = value.const_value if value is not None and value.is_initializer() else None
    return (
        known is not None and known.size == 1 and math.isclose(float(known.numpy().reshape(())), number, rel_tol=1e-5)
    )


def _fuse_bias(product: ir.Node) -> bool:
    """Move a bias behind an integer product into it."""
    output = product.outputs[0]
    uses = tuple(output.uses())
    if len(uses) != 1 or output.is_graph_output() or product.graph is None:
        return False
    reader = uses[0].node
    bias = reader.inputs[1 - uses[0].idx] if reader.op_type in ("Add", "BiasGelu") and len(reader.inputs) == 2 else None
    columns = product.inputs[1].shape if product.inputs[1] is not None else None
    if bias is None or columns is None or not bias.is_initializer() or bias.shape is None:
        return False
    if len(bias.shape) != 1 or bias.shape[0] != columns[-1] or reader.graph is not product.graph:
        return False
    product.resize_inputs(BIAS + 1)
    product.replace_input_with(BIAS, bias)
    if reader.op_type == "Add":
        _take_over(product, reader)
    else:
        _without_bias(reader, output)
    return True


def _take_over(product: ir.Node, add: ir.Node) -> None:
    """Give the product the output of the Add."""
    old, new = product.outputs[0], add.outputs[0]
    name = new.name
    assert add.graph is not None
    new.replace_all_uses_with(old, replace_graph_outputs=True)
    old.shape, old.type = new.shape, new.type
    add.graph.remove(add, safe=True)
    old.name = name


def _without_bias(gelu: ir.Node, data: ir.Value) -> None:
    """Make a BiasGelu a Gelu of the same domain."""
    gelu.op_type = "Gelu"
    gelu.replace_input_with(0, data)
    gelu.resize_inputs(1)
