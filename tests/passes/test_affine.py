"""Constants behind a convolution are folded into it, and only where that is exact."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from infopt_passes.simplify.fold import simplified


def _model(kind: str, tail: list[tuple[str, np.ndarray, bool]], groups: int = 1, bias: bool = False) -> onnx.ModelProto:
    """A convolution of 4 to 6 channels with element-wise constants behind it; True puts the constant first."""
    rng = np.random.default_rng(0)
    shape = (6, 4 // groups, 3, 3) if kind == "Conv" else (4, 6 // groups, 3, 3)
    weights = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), "w")]
    if bias:
        weights.append(numpy_helper.from_array(rng.standard_normal(6).astype(np.float32), "b"))
    nodes = [helper.make_node(kind, ["x", *(w.name for w in weights)], ["t0"], name="conv", group=groups)]
    for i, (op, constant, first) in enumerate(tail):
        weights.append(numpy_helper.from_array(constant, f"c{i}"))
        operands = [f"c{i}", f"t{i}"] if first else [f"t{i}", f"c{i}"]
        nodes.append(helper.make_node(op, operands, [f"t{i + 1}"], name=f"tail{i}"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])]
    outputs = [helper.make_tensor_value_info(f"t{len(tail)}", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    return ir.to_proto(simplified(ir.from_proto(model), 1 << 20))


def _run(model: onnx.ModelProto) -> np.ndarray:
    feed = {"x": np.random.default_rng(1).standard_normal((2, 4, 8, 8)).astype(np.float32)}
    return ort.InferenceSession(model.SerializeToString()).run(None, feed)[0]


VECTOR = np.linspace(-2, 3, 6, dtype=np.float32).reshape(1, 6, 1, 1)
SCALAR = np.array(0.5, np.float32)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_per_channel_constants_become_weight_and_bias(kind: str, groups: int, bias: bool) -> None:
    tail = [
        ("Mul", VECTOR, False),
        ("Add", VECTOR[0], True),
        ("Sub", SCALAR, False),
        ("Div", VECTOR + 5, False),
    ]
    model = _model(kind, tail, groups, bias)
    folded = _folded(model)
    assert Counter(node.op_type for node in folded.graph.node) == {kind: 1}
    assert folded.graph.output[0].name == model.graph.output[0].name
    np.testing.assert_allclose(_run(folded), _run(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("op", "constant", "first"),
    [
        ("Sub", VECTOR, True),  # constant minus output: not affine with factor one
        ("Div", VECTOR + 5, True),  # constant over output
        ("Add", np.ones((1, 1, 6, 6), np.float32), False),  # varies over the picture
        ("Add", np.ones((1, 1, 1, 6), np.float32), False),  # along the width, not the channels
        ("Div", np.array(0, np.float32), False),  # would make infinite weights
    ],
)
def test_what_is_not_a_factor_or_offset_per_channel_stays(op: str, constant: np.ndarray, first: bool) -> None:
    folded = _folded(_model("Conv", [(op, constant, first)]))
    assert op in {node.op_type for node in folded.graph.node}


def test_a_convolution_whose_output_is_used_elsewhere_stays() -> None:
    model = _model("Conv", [("Add", VECTOR, False)])
    model.graph.output.append(helper.make_tensor_value_info("t0", TensorProto.FLOAT, None))
    folded = _folded(onnx.shape_inference.infer_shapes(model))
    assert Counter(node.op_type for node in folded.graph.node) == {"Conv": 1, "Add": 1}
