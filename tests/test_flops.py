"""Operations counted from shapes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from infopt.flops import flops


def test_sizes_that_a_graph_computes_from_a_shape_are_known() -> None:
    """As exporters cut a table of positions to the length of a sequence."""
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[batch, length, 4] x) => (float[batch, p, q] z)
        <int64 one = {1}, int64[1] zeros = {0}, int64[1] axes = {1}, int64[1] front = {0}> {
            shape = Shape(x)
            length = Gather(shape, one)
            end = Unsqueeze(length, front)
            rows = Slice(table, zeros, end, axes)
            y = MatMul(x, rows)
            z = Relu(y)
        }
    """)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 9), np.float32), "table"))
    assert flops(ir.from_proto(proto), {"x": (1, 5, 4)}) == 2 * 5 * 4 * 5
