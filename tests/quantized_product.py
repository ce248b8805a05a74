"""A graph of one product in INT8, with as many zeros as are wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def product(folder: Path, shape: tuple[int, int], zeros: float, wide: type = np.int8, data: bool = True) -> Path:
    """An ONNX file with one quantized MatMul, of whose weight a part is zero."""
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 100, shape).astype(wide)
    weight.reshape(-1)[: round(zeros * weight.size)] = 0
    arrays = {"w": weight, "ws": np.float32(0.01), "wz": wide(0), "xs": np.float32(0.02), "xz": np.uint8(128)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["v"]),
        helper.make_node("MatMul", ["d" if data else "x", "v"], ["y"], name="product"),
    ]
    ends = [helper.make_tensor_value_info(*each) for each in (("x", 1, ["N", shape[0]]), ("y", 1, ["N", shape[1]]))]
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes if data else nodes[2:], "g", ends[:1], ends[1:], constants)
    path = folder / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
