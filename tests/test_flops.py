"""Operations counted from shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt.flops import flops
from infopt_passes.quantize import Quantize


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


@pytest.mark.parametrize("precision", ["int8", "dynamic-int8", "int8-weights", "int4-weights"])
def test_quantization_takes_no_operations_away(build: Any, make_context: Any, precision: Any) -> None:
    """A report would say that latency did not follow them."""
    text = """(float[N,64,16] x) => (float[N,64,32] y, float[N,1,64,8] z) {
        h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v)  z, s, t = LSTM<hidden_size=8>(x, k, l) }"""
    model = build(text, w=(16, 32), v=(32, 32), k=(1, 32, 16), l=(1, 32, 8))
    quantized = Quantize(precision=precision, method="fast")(model, make_context(model, "onnxruntime", 8))
    assert quantized.quantized_nodes()
    before = flops(model.graph, {"x": (3, 64, 16)})
    assert before == flops(quantized.graph, {"x": (3, 64, 16)}) == 2 * 64 * (3 * 32 * 48 + 3 * (32 * 16 + 32 * 8))
