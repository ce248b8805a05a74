"""The differentiable executor computes what ONNX Runtime does."""

from __future__ import annotations

import re
import string
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, parser
from passes.architectures import ARCHITECTURES
from passes.distill.operator_rows import ROWS, X, normal, whole

from infopt.data import infer_batch_axes
from infopt.model import input_specs
from infopt.readers.synthetic import SyntheticSamples
from infopt.targets.onnxruntime import open_onnx
from infopt_passes.prune.cutting.prepare import prepared

torch = pytest.importorskip("torch", reason="distillation needs torch")

from infopt_passes.prune.distill.executor import Executor, as_tensor  # noqa: E402 - it imports torch
from infopt_passes.prune.distill.operators import OPERATORS, refusal  # noqa: E402

PLAIN = {"graph_optimization_level": "0"}


def graph_of(text: str, inputs: list[Any], opset: int) -> Any:
    """A model of one node."""
    node = parser.parse_node(text)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(string.ascii_lowercase, inputs, strict=False)
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "g", infos, outputs)
    proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
    return onnx.shape_inference.infer_shapes(proto)


@pytest.mark.parametrize(("text", "inputs", "opset"), ROWS, ids=[f"{text[4:50]}@{opset}" for text, _, opset in ROWS])
def test_an_operator_computes_what_the_runtime_does(text: str, inputs: list[Any], opset: int) -> None:
    proto = graph_of(text, inputs, opset)
    feed = dict(zip(string.ascii_lowercase, inputs, strict=False))
    wanted = open_onnx(proto.SerializeToString(), PLAIN).run(feed)
    graph = ir.from_proto(proto)
    assert [refusal(node) for node in graph.graph] == [None]
    found = Executor(graph).run({name: as_tensor(array) for name, array in feed.items()})
    for one, other in zip(wanted, found, strict=True):
        assert other.numpy().dtype == one.dtype
        np.testing.assert_allclose(other.numpy(), one, rtol=1e-4, atol=1e-5, strict=True)


def test_every_operator_has_a_row() -> None:
    tried = {re.split(r"[<(]", text.partition("= ")[2])[0] for text, _, _ in ROWS}
    assert tried == set(OPERATORS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_computes_what_the_runtime_does(name: str) -> None:
    model = ARCHITECTURES[name]()
    inputs = infer_batch_axes(input_specs(model.graph), {})
    feed = next(SyntheticSamples(inputs, 2, 0).batches(2, np.arange(2))).feed
    wanted = open_onnx(ir.to_proto(model.graph).SerializeToString(), PLAIN).run(feed)
    found = Executor(prepared(model.graph)).run({name: as_tensor(array) for name, array in feed.items()})
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(other.numpy(), one, rtol=0, atol=1e-5 * max(1.0, float(np.abs(one).max())))


UNKNOWN = [
    ("y = NonMaxSuppression(a, b)", [normal(1, 3, 4), normal(1, 1, 3)], "NonMaxSuppression"),
    ("y, z = MaxPool<kernel_shape=[2,2]>(a)", [X], "MaxPool with 2 outputs"),
    (
        'y = Resize<coordinate_transformation_mode="tf_crop_and_resize">(a, b, c)',
        [X, normal(8), normal(4)],
        "Resize with coordinate_transformation_mode=tf_crop_and_resize",
    ),
    ("y = Cast<to=8>(a)", [X], "Cast to string"),
    ("y = LRN<size=4>(a)", [X], "LRN of 4 channels, an even number"),
    ('y = ScatterND<reduction="add">(a, b, c)', [X, whole(1)[None], X[:1]], "ScatterND with reduction=add"),
    (
        "y = LSTM<hidden_size=4>(a, b, c, , d)",
        [normal(5, 2, 3), normal(1, 16, 3), normal(1, 16, 4), np.int32([3, 5])],
        "LSTM with sequence lengths",
    ),
    (
        'y = GRU<hidden_size=4, activations=["Relu", "Tanh"]>(a, b, c)',
        [normal(5, 2, 3), normal(1, 12, 3), normal(1, 12, 4)],
        "GRU with activations Relu, Tanh",
    ),
    ("y = AveragePool<kernel_shape=[2,2], dilations=[2,2]>(a)", [X], "AveragePool with dilations=[2, 2]"),
]


@pytest.mark.parametrize(("text", "inputs", "why"), UNKNOWN, ids=[why for _, _, why in UNKNOWN])
def test_what_is_not_known_of_an_operator_is_told(text: str, inputs: list[Any], why: str) -> None:
    graph = ir.from_proto(graph_of(text, inputs, 19))
    for value in graph.graph.outputs:
        assert value.name
    assert [refusal(node) for node in graph.graph] == [why]


def test_gradients_reach_weights_through_constants_that_are_computed_once() -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], np.arange(6, dtype=np.float32))
    shape = helper.make_tensor("s", TensorProto.INT64, [1], [-1])
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["h"]),
        helper.make_node("Reshape", ["h", "s"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M"])
    graph = ir.from_proto(helper.make_model(helper.make_graph(nodes, "g", [x], [y], [weight, shape])))
    data, trained = torch.ones(4, 3), torch.zeros(2, 3, requires_grad=True)
    (found,) = Executor(graph, ["w"]).run({"x": data}, {"w": trained})
    found.sum().backward()
    assert found.tolist() == [0.0] * 8
    assert trained.grad.tolist() == [[4.0] * 3] * 2
