"""Two graphs node by node and weight by weight."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from infopt.diffing import graphs
from infopt.diffing.graphs import compare_graphs, same_tensor
from infopt.model import Model, load

PLAIN = "(float[N, 4] x) => (float[N, 4] y) { h = MatMul(x, w)  a = Add(h, b)  y = Relu(a) }"
WEIGHTS = {"w": (4, 4), "b": (4,)}


def changes(a: Model, b: Model) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {each.name: (each.change, each.details) for each in compare_graphs(a, b).nodes}


def test_a_graph_is_the_same_as_itself(build: Any) -> None:
    found = compare_graphs(build(PLAIN, **WEIGHTS), build(PLAIN, **WEIGHTS))
    assert found.same
    assert (found.a, found.b) == (3, 3)


def test_added_removed_and_rewired_nodes_are_told(build: Any) -> None:
    other = "(float[N, 4] x) => (float[N, 4] y) { h = MatMul(x, w)  t = Tanh(h)  y = Relu(t) }"
    found = compare_graphs(build(PLAIN, **WEIGHTS), build(other, w=(4, 4)))
    assert changes(build(PLAIN, **WEIGHTS), build(other, w=(4, 4))) == {
        "y": ("changed", ("inputs 0: a -> t",)), "a": ("removed", ()), "t": ("added", ()),
    }  # fmt: skip
    assert [(each.op, each.a, each.b) for each in found.operators] == [("Add", 1, 0), ("Tanh", 0, 1)]
    assert [(each.name, each.change) for each in found.weights] == [("b", "removed")]


def test_another_operator_and_other_attributes_are_told(build: Any) -> None:
    left = "(float[N, 4] x) => (float[N, 4] y) { h = LeakyRelu <alpha = 0.1> (x)  y = Softmax <axis = 1> (h) }"
    right = "(float[N, 4] x) => (float[N, 4] y) { h = LeakyRelu <alpha = 0.2> (x)  y = LogSoftmax <axis = 1> (h) }"
    found = changes(build(left), build(right))
    assert found["h"][1][0].startswith("alpha 0.1")
    assert "-> 0.2" in found["h"][1][0]
    assert found["y"][1] == ("operator Softmax -> LogSoftmax",)
    gone = changes(build(left), build(left.replace(" <alpha = 0.1>", "")))
    assert gone["h"][1][0].endswith("-> (none)")


def test_nodes_without_a_name_are_matched_by_their_output(build: Any) -> None:
    text = "(float[N] x) => (float[N] y) { _a = Relu(x)  _b = Neg(_a)  y = Abs(_b) }"
    assert compare_graphs(build(text), build(text)).same
    found = changes(build(text), build(text.replace("Neg", "Exp")))
    assert found == {"_b": ("changed", ("operator Neg -> Exp",))}


def test_equal_names_are_matched_in_their_order(build: Any) -> None:
    text = "(float[N] x) => (float[N] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }"
    models = [build(text), build(text.replace("Neg", "Exp"))]
    for model in models:
        for node in model.graph.graph:
            node.name = "same"
    assert [each.details for each in compare_graphs(*models).nodes] == [("operator Neg -> Exp",)]


def test_a_renamed_node_is_the_node_of_its_output(build: Any) -> None:
    a, b = build(PLAIN, **WEIGHTS), build(PLAIN, **WEIGHTS)
    next(iter(b.graph.graph)).name = "renamed"
    assert changes(a, b) == {"renamed": ("changed", ("name h -> renamed",))}


def test_bodies_are_looked_into(build: Any) -> None:
    text = """(float[N] x, bool c) => (float[N] y) {
        y = If (c) <then_branch = t () => (float[N] p) { p = Relu(x) },
                    else_branch = e () => (float[N] q) { q = Neg(x) }>
    }"""
    a, b = build(text, infer=False), build(text.replace("Neg", "Exp"), infer=False)
    assert compare_graphs(a, a).same
    assert changes(a, b) == {"q": ("changed", ("operator Neg -> Exp",))}


def test_interface_and_opset_are_told(build: Any) -> None:
    other = PLAIN.replace("float[N, 4] x", "float[8, 4] x")
    found = compare_graphs(build(PLAIN, **WEIGHTS), build(other, opset=18, **WEIGHTS)).interface
    assert any(each.startswith("inputs: x FLOAT[N,4] -> x FLOAT[8,4]") for each in found), found
    assert "opset ai.onnx: 17 -> 18" in found


def test_weights_are_compared_by_type_shape_and_value(build: Any) -> None:
    ones = np.ones((4, 4), np.float32)
    almost = ones.copy()
    almost[3, 3] = np.nextafter(np.float32(1), np.float32(2))
    for other, told in ((almost, "float[4,4]"), (ones[:, :1] * np.ones(4, np.float32), None)):
        found = compare_graphs(build(PLAIN, w=ones, b=(4,)), build(PLAIN, w=other, b=(4,))).weights
        assert [each.b for each in found] == ([told] if told else [])
    nan = np.full((4, 4), np.nan, np.float32)
    assert compare_graphs(build(PLAIN, w=nan, b=(4,)), build(PLAIN, w=nan.copy(), b=(4,))).same


@pytest.mark.parametrize("kind", ["UINT4", "INT4", "FLOAT8E4M3FN", "FLOAT16", "BOOL", "STRING"])
def test_every_type_of_weight_can_be_compared(kind: str) -> None:
    def tensor(*values: int) -> ir.TensorProtocol:
        if kind == "STRING":
            return ir.tensor([str(value) for value in values])
        return ir.tensor(list(values), dtype=ir.DataType[kind])

    assert same_tensor(tensor(1, 1), tensor(1, 1))
    assert not same_tensor(tensor(1, 1), tensor(1, 0))
    assert not same_tensor(tensor(1, 1), tensor(1, 1, 1))


def external(path: Path, values: np.ndarray) -> Model:
    """A model whose weight lies in a file of its own."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "first"], ["h"], "one"), helper.make_node("Add", ["h", "w"], ["y"], "add")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, values.shape)],
        [numpy_helper.from_array(np.zeros_like(values), "first"), numpy_helper.from_array(values, "w")],
    )
    path.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        path / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    return load(path / "m.onnx")


def test_external_weights_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CHUNK", 1000)
    values = np.arange(5000, dtype=np.float32)
    other = values.copy()
    other[-1] += 1
    models = [external(tmp_path / name, array) for name, array in (("a", values), ("b", values), ("c", other))]
    assert compare_graphs(models[0], models[1]).same
    assert [each.name for each in compare_graphs(models[0], models[2]).weights] == ["w"]
    tensors = [model.graph.graph.initializers["w"].const_value for model in models]
    assert all(getattr(tensor, "_array", None) is None for tensor in tensors), "nothing was kept in memory"


def test_an_external_weight_equals_the_same_one_inline(tmp_path: Path, build: Any) -> None:
    values = np.arange(64, dtype=np.float32)
    apart = external(tmp_path / "a", values).graph.graph.initializers["w"].const_value
    assert apart is not None
    assert same_tensor(apart, ir.tensor(values.copy()))
    assert not same_tensor(apart, ir.tensor(values + 1))


def test_big_graphs_are_compared_in_seconds() -> None:
    def chain(count: int, op: str) -> Model:
        nodes = [helper.make_node("Relu" if k else op, [f"v{k}"], [f"v{k + 1}"], f"n{k}") for k in range(count)]
        info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("v0", f"v{count}")]
        graph = helper.make_graph(nodes, "g", info[:1], info[1:])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return Model(ir.from_proto(proto), Path("chain.onnx"))

    a, b = chain(20_000, "Neg"), chain(20_001, "Exp")
    start = time.process_time()
    found = compare_graphs(a, b)
    assert time.process_time() - start < 5
    assert {each.name: each.change for each in found.nodes} == {"n0": "changed", "n20000": "added"}
