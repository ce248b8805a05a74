from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from infopt.errors import OptionError, RuntimeRefused, Unmeasured
from infopt.shapes import parse_shape
from infopt.target import Artifact, CompileOptions, Facts, FloatNode, Kernels
from infopt.targets.trt import tensorrt, tensorrt_rtx
from infopt.targets.trt_kernels import Operation, planned_kernels, program
from infopt.targets.trt_table import (
    long_attention,
    narrow_conv,
    other_equation,
    other_window,
    small_attention,
    small_product,
    vector_product,
    volume_window,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("tensorrt_rtx")


@dataclass
class Graph:
    """Builds a QDQ graph node by node; nodes are named after their operators."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def const(self, array: object) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, op: str, *inputs: str, name: str | None = None, domain: str = "", **attributes: object) -> str:
        output = f"v{len(self.nodes)}"
        name = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, domain=domain, **attributes))
        return output

    def pair(self, value: str, zero: object = np.int8(0), **names: str) -> str:
        scale, point = self.const(np.float32(0.05)), self.const(zero)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", value, scale, point, **names), scale, point)

    def weight(self, shape: tuple[int, ...], axis: int) -> str:
        count = shape[axis]
        array = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
        scales, zeros = self.const(np.full(count, 0.01, np.float32)), self.const(np.zeros(count, np.int8))
        return self.op("DequantizeLinear", self.const(array), scales, zeros, axis=axis)

    def save(self, path: Path, output: str, opset: int = 13, **inputs: tuple) -> Path:
        wanted = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "graph", wanted, [result], self.constants)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("made.up", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return path


def conv(path: Path, weight: tuple[int, ...] = (32, 16, 3, 3), group: int = 1, opset: int = 13) -> Path:
    g = Graph()
    bias = g.const(np.ones(weight[0], np.float32))
    y = g.op("Conv", g.pair("x"), g.weight(weight, 0), bias, name="layer", group=group)
    return g.save(path, y, opset, x=("N", weight[1] * group, *[16] * (len(weight) - 2)))


def matmul(path: Path, axis: int = 1) -> Path:
    g = Graph()
    y = g.op("MatMul", g.pair("x"), g.weight((64, 32), axis), name="layer")
    return g.save(path, g.op("Add", y, g.const(np.ones(32, np.float32))), x=("N", 10, 64))


def gemm(path: Path, trans: int, **attributes: float) -> Path:
    g = Graph()
    weight, bias = g.weight((32, 64) if trans else (64, 32), 1 - trans), g.const(np.ones(32, np.float32))
    y = g.op("Gemm", g.pair("x"), weight, bias, name="layer", transB=trans, **attributes)
    return g.save(path, y, x=("N", 64))


INTEGER: dict[str, Callable[[Path], Path]] = {
    "Conv, opset 21": lambda path: conv(path, opset=21),
    "Conv, first layer": lambda path: conv(path, (64, 3, 7, 7)),
    "Gemm, scaled": lambda path: gemm(path, 1, alpha=0.5, beta=2.0),
}


def built(path: Path, **settings: str) -> Path:
    return tensorrt_rtx().compile(path, path.parent, CompileOptions(settings)).main


def refusal(path: Path, **settings: str) -> RuntimeRefused:
    with pytest.raises(RuntimeRefused) as caught:
        built(path, **settings)
    assert caught.value.target == "tensorrt-rtx"
    return caught.value


def step(engine: Path, node: str) -> Operation:
    """The operation that a node went into."""
    return next(operation for operation in program(engine) if node in operation.nodes)


# --- what an engine runs in integers; the table's rows are proven in conformance/test_tensorrt_rtx.py


@pytest.mark.parametrize("case", INTEGER)
def test_layers_run_in_integers(case: str, tmp_path: Path):
    engine = built(INTEGER[case](tmp_path / "model.onnx"))
    assert planned_kernels(engine) == Kernels(1, 1, ())


def test_the_skip_input_of_a_residual_add_stays_in_integers(tmp_path: Path):
    g = Graph()
    y = g.op("Conv", g.pair("x"), g.weight((16, 16, 3, 3), 0), pads=[1] * 4)
    y = g.op("Relu", g.op("Add", y, g.pair("x"), name="add"))
    y = g.op("Conv", g.pair(y), g.weight((32, 16, 1, 1), 0))
    engine = built(g.save(tmp_path / "model.onnx", y, x=("N", 16, 16, 16)))
    assert planned_kernels(engine) == Kernels(2, 2, ())
    fused = step(engine, "add")
    assert "int8" in fused.inputs
    assert fused.outputs == ("int8",)


def test_transposed_convolutions_run_in_float(tmp_path: Path):
    g = Graph()
    y = g.op("ConvTranspose", g.pair("x"), g.weight((16, 32, 2, 2), 1), name="up", strides=[2, 2])
    engine = built(g.save(tmp_path / "model.onnx", y, x=("N", 16, 8, 8)))
    assert planned_kernels(engine) == Kernels(0, 1, (FloatNode("up", "ConvTranspose"),))


def test_a_weight_scaled_along_the_inner_axis_runs_in_float(tmp_path: Path):
    assert planned_kernels(built(matmul(tmp_path / "model.onnx", axis=0))).integer == 0


def test_merged_products_are_counted_one_by_one(tmp_path: Path):
    g = Graph()
    weights = [g.const(np.full((64, 64), 0.5 + i, np.float32)) for i in range(3)]
    parts = [g.op("MatMul", "x", weight, name=f"part{i}") for i, weight in enumerate(weights)]
    path = g.save(tmp_path / "model.onnx", g.op("Concat", *parts, axis=2), x=("N", 10, 64))
    found = planned_kernels(built(path))
    assert {node.name for node in found.float_nodes} == {"part0", "part1", "part2"}
    assert (found.integer, found.total) == (0, 3)


def test_a_layer_that_is_called_like_its_tensor_is_known_by_its_name(tmp_path: Path):
    g = Graph()
    path = g.save(
        tmp_path / "model.onnx", g.op("MatMul", "x", g.const(np.ones((64, 32), np.float32)), name="v0"), x=("N", 10, 64)
    )
    assert planned_kernels(built(path)) == Kernels(0, 1, (FloatNode("v0", "MatMul"),))


def attention(path: Path, tokens: int = 64, quantized: bool = True) -> Path:
    """Two heads of 32 over some tokens, with a scale and a mask as exporters write them."""
    g = Graph()

    def pair(value: str) -> str:
        return g.pair(value) if quantized else value

    def heads(source: str, perm: list[int]) -> str:
        product = g.op("MatMul", g.pair(source), g.weight((64, 64), 1))
        split = g.op("Reshape", product, g.const(np.array([0, tokens, 2, 32])))
        return g.op("Transpose", split, perm=perm)

    scores = g.op("MatMul", pair(heads("x", [0, 2, 1, 3])), pair(heads("x", [0, 2, 3, 1])), name="scores")
    scaled = g.op("Add", g.op("Div", scores, g.const(np.float32(5.6))), "mask")
    context = g.op("MatMul", pair(g.op("Softmax", scaled, axis=-1)), pair(heads("x", [0, 2, 1, 3])), name="context")
    joined = g.op("Reshape", g.op("Transpose", context, perm=[0, 2, 1, 3]), g.const(np.array([0, tokens, 64])))
    y = g.op("MatMul", g.pair(joined), g.weight((64, 64), 1), name="out")
    return g.save(path, y, x=("N", tokens, 64), mask=("N", 1, 1, tokens))


def test_an_attention_with_integer_products_becomes_one_kernel(tmp_path: Path):
    engine = built(attention(tmp_path / "model.onnx"))
    (fused,) = (each for each in program(engine) if each.op == "Attention")
    assert fused.integer
    assert {"scores", "context"} <= set(fused.nodes)
    assert planned_kernels(engine) == Kernels(5, 5, ())


def test_an_attention_with_float_products_is_counted_as_float(tmp_path: Path):
    found = planned_kernels(built(attention(tmp_path / "model.onnx", quantized=False)))
    assert (found.integer, found.total) == (4, 6)
    assert {node.name for node in found.float_nodes} == {"scores", "context"}


def test_an_engine_without_a_program_is_not_counted(tmp_path: Path):
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"ptrt" + bytes(100))
    with pytest.raises(Unmeasured, match="no program"):
        planned_kernels(engine)


def test_q_and_dq_surround_the_parsed_convolution(tmp_path: Path):
    layers = tensorrt_rtx().parsed_layers(conv(tmp_path / "model.onnx"))
    kinds = {layer.name: layer.kind for layer in layers}
    assert [kind for kind in kinds.values() if kind != "CONSTANT"] == ["QUANTIZE", *["DEQUANTIZE"] * 2, "CONVOLUTION"]
    (layer,) = (each for each in layers if each.name == "layer")
    assert [kinds[source] for source in layer.sources] == ["DEQUANTIZE", "DEQUANTIZE"]


# --- conditions


def facts(op: str, weight: tuple[int, ...] | None, rows: tuple = (None, None), **others: object) -> Facts:
    axis = 0 if op == "Conv" else -1
    known = {"op": op, "weight": weight, "channel_axis": axis, "groups": 1, "inputs": (rows,), "output": None}
    return Facts(**(known | {"attributes": {}} | others))


@pytest.mark.parametrize(
    ("weight", "groups", "stays"),
    [
        ((64, 64, 3, 3), 1, False),
        ((64, 3, 7, 7), 1, False),
        ((8, 16, 1, 1), 1, False),
        ((64, 3, 1, 3), 1, True),
        ((15, 3, 3, 3), 1, True),
        ((8, 8, 3, 3), 1, True),
        ((32, 1, 3, 3), 32, False),
        ((32, 1, 1, 1), 32, True),
        ((36, 1, 3, 3), 36, True),
    ],
)
def test_convolutions_with_few_channels_stay_in_float(weight: tuple[int, ...], groups: int, stays: bool):
    assert bool(narrow_conv(facts("Conv", weight, groups=groups))) is stays


def test_products_that_do_not_pay_stay_in_float():
    assert vector_product(facts("MatMul", (64, 1)))
    assert vector_product(facts("MatMul", (64, 64), (1, 1, 64)))
    assert vector_product(facts("Gemm", (64, 64), (64, 1), attributes={"transA": 1}))
    assert small_product(facts("MatMul", (8, 64)))
    assert small_product(facts("MatMul", (64, 8)))
    for rows in ((None, 1, 64), (1, 10, 64)):
        assert not vector_product(facts("MatMul", (64, 64), rows))
    assert not small_product(facts("MatMul", (16, 16)))


@pytest.mark.parametrize(
    ("equation", "weight", "stays"),
    [
        ("bij,jk->bik", (32, 16), False),
        ("b i j, j k -> b i k", (32, 16), False),
        ("bij,kj->bik", (16, 32), True),
        ("bij,jhk->bihk", (32, 4, 16), True),
        ("bhqd,bhkd->bhqk", None, False),
        ("bij,bij->bi", None, True),
        ("bi,bj->bij", None, True),
        ("bij,bij->b", None, True),
        ("...ij,jk->...ik", (32, 16), True),
        ("bij->bji", None, True),
    ],
)
def test_only_equations_that_are_products_with_a_matrix_run_in_integers(
    equation: str, weight: tuple[int, ...] | None, stays: bool
):
    assert bool(other_equation(facts("Einsum", weight, attributes={"equation": equation}))) is stays


def test_attention_of_long_sequences_or_small_heads_stays_in_float():
    def seen(*shapes: tuple[int | None, ...] | None) -> Facts:
        return facts("MatMul", None, inputs=shapes)

    assert "513 tokens" in str(long_attention(seen((1, 4, 513, 64), (1, 4, 64, 513))))
    assert not long_attention(seen((1, 4, 512, 64), (1, 4, 64, 512)))
    assert small_attention(seen((1, 4, 64, 8), (1, 4, 8, 64)))
    assert small_attention(seen((1, 4, 1, 64), None))
    for unknown in ((None, 4, None, 64), None):
        assert not long_attention(seen(unknown, None))
        assert not small_attention(seen(unknown, None))


@pytest.mark.parametrize(
    ("window", "strides", "stays"),
    [((3, 3), (), False), ((7, 7), (1, 1), False), ((3, 3), (2, 2), True), ((5, 5), (), True), ((3, 3, 3), (), True)],
)
def test_averages_over_other_windows_stay_in_float(window: tuple[int, ...], strides: tuple[int, ...], stays: bool):
    given = {"kernel_shape": window} | ({"strides": strides} if strides else {})
    assert bool(other_window(facts("AveragePool", None, attributes=given))) is stays


def test_pooling_over_three_axes_stays_in_float():
    assert volume_window(facts("MaxPool", None, attributes={"kernel_shape": (2, 2, 2)}))
    assert not volume_window(facts("MaxPool", None, attributes={"kernel_shape": (2, 2)}))


# --- refusals


def test_an_integer_bias_is_refused_by_name(tmp_path: Path):
    g = Graph()
    scale, zero = g.const(np.full(32, 0.1, np.float32)), g.const(np.zeros(32, np.int32))
    bias = g.op("DequantizeLinear", g.const(np.ones(32, np.int32)), scale, zero, name="bias", axis=0)
    y = g.op("Conv", g.pair("x"), g.weight((32, 16, 3, 3), 0), bias)
    error = refusal(g.save(tmp_path / "model.onnx", y, x=(1, 16, 8, 8)))
    assert error.node == "bias"
    assert "DequantizeLinear: INVALID_NODE" in str(error)
    assert "Int32" in str(error)
    assert "Begin node" in error.log


def test_a_zero_point_other_than_zero_is_refused_by_name(tmp_path: Path):
    g = Graph()
    error = refusal(g.save(tmp_path / "model.onnx", g.pair("x", np.int8(3), name="shifted"), x=(1, 16)))
    assert error.node == "shifted"
    assert "Non-zero zero point" in str(error)


def test_a_uint8_zero_point_is_refused_because_it_would_be_retyped(tmp_path: Path):
    g = Graph()
    error = refusal(g.save(tmp_path / "model.onnx", g.pair("x", np.uint8(0), name="unsigned"), x=(1, 16)))
    assert error.node == "unsigned"
    assert "clipped" in str(error)


def test_unknown_operators_are_all_told(tmp_path: Path):
    g = Graph()
    y = g.op("Frob", g.op("Frob", "x", name="first", domain="made.up"), name="second", domain="made.up")
    error = refusal(g.save(tmp_path / "model.onnx", y, x=(1, 4)))
    assert error.node == "first"
    assert "'second'" in str(error)


def test_what_only_the_builder_refuses_is_told_by_name(tmp_path: Path):
    error = refusal(matmul(tmp_path / "model.onnx"), compute_capability="SM75")
    assert error.node == "layer"
    assert "SM75" in str(error)
    assert "ERROR" in error.log


def test_a_refusal_does_not_spoil_the_next_build(tmp_path: Path):
    error = refusal(matmul(tmp_path / "model.onnx"), compute_capability="SM75")
    assert planned_kernels(built(conv(tmp_path / "next.onnx"))) == Kernels(1, 1, ())
    g = Graph()
    again = refusal(g.save(tmp_path / "other.onnx", g.pair("x", np.int8(3), name="shifted"), x=(1, 16)))
    assert again.node == "shifted", error


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_files_that_hold_no_model_are_refused(content: bytes | None, tmp_path: Path):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    assert refusal(path).node is None


# --- building


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    built(conv(tmp_path / "model.onnx"))
    refusal(matmul(tmp_path / "other.onnx"), compute_capability="SM75")
    assert capfd.readouterr() == ("", "")


def test_the_same_graph_gives_the_same_engine(tmp_path: Path):
    path = conv(tmp_path / "model.onnx")
    assert built(path).read_bytes() == built(path).read_bytes()


def test_the_artifact_names_what_belongs_to_it(tmp_path: Path):
    path = conv(tmp_path / "model.onnx")
    options = CompileOptions({"compute_capability": "SM86,SM89"}, (parse_shape("x=2x16x16x16"),))
    artifact = tensorrt_rtx().compile(path, tmp_path, options)
    engine = tmp_path / "model.engine"
    assert artifact == Artifact("tensorrt-rtx", engine, (engine,), path, options.settings)
    assert b"accelerators={sm86 sm89 }" in engine.read_bytes()


def test_external_data_beside_the_model_is_found(tmp_path: Path):
    model = onnx.load(conv(tmp_path / "model.onnx"))
    path = tmp_path / "apart.onnx"
    onnx.save(model, path, save_as_external_data=True, location="apart.data", size_threshold=0)
    assert (tmp_path / "apart.data").exists()
    assert planned_kernels(built(path)).integer == 1


def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path):
    path = conv(tmp_path / "model.onnx")
    options = CompileOptions(shapes=(parse_shape("x=1x8x16x16"),))
    with pytest.raises(OptionError, match="contradicts the model"):
        tensorrt_rtx().compile(path, tmp_path, options)


@pytest.mark.parametrize(
    ("texts", "reason"), [((), ""), (("s=1x4..8x4..9x4",), ""), (("s=1..2..3",), "holds 2 values")]
)
def test_a_shape_tensor_gets_a_range_of_values(texts: tuple[str, ...], reason: str, tmp_path: Path):
    values = [("x", TensorProto.FLOAT, [1, 1]), ("s", TensorProto.INT64, [2])]
    inputs = [helper.make_tensor_value_info(*each) for each in values]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Expand", ["x", "s"], ["y"])], "graph", inputs, [output])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10), path)
    options = CompileOptions(shapes=tuple(parse_shape(text) for text in texts))
    if reason:
        with pytest.raises(OptionError, match=reason):
            tensorrt_rtx().compile(path, tmp_path, options)
    else:
        assert tensorrt_rtx().compile(path, tmp_path, options).main.stat().st_size


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [("compute_capability", "SM90", "did you mean 'SM"), ("compute_capabilty", "SM86", "compute_capability")],
)
def test_settings_that_do_not_exist_are_refused(key: str, value: str, reason: str, tmp_path: Path):
    with pytest.raises(OptionError, match=reason):
        built(conv(tmp_path / "model.onnx"), **{key: value})


def test_the_build_command_has_a_range_for_every_dynamic_input(tmp_path: Path):
    path = conv(tmp_path / "model.onnx")
    shapes = "--minShapes=x:1x16x16x16 --optShapes=x:8x16x16x16 --maxShapes=x:32x16x16x16"
    files = "--onnx=model.onnx --saveEngine=model.engine --skipInference"
    assert tensorrt().build_command(path, ()) == f"trtexec --stronglyTyped {files} {shapes}"
    assert tensorrt_rtx().build_command(path, ()) == f"tensorrt_rtx {files} {shapes}"
    given = tensorrt_rtx().build_command(path, (parse_shape("x=4x16x16x16"),))
    assert given.endswith("--minShapes=x:4x16x16x16 --optShapes=x:4x16x16x16 --maxShapes=x:4x16x16x16")


def test_the_build_command_of_a_static_model_has_no_shapes(tmp_path: Path):
    g = Graph()
    path = g.save(tmp_path / "a model.onnx", g.op("Relu", "x"), x=(1, 4))
    command = tensorrt_rtx().build_command(path, ())
    assert command == "tensorrt_rtx '--onnx=a model.onnx' --saveEngine=model.engine --skipInference"
