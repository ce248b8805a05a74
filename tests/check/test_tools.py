"""What the quantizers of the field emit, and what they say of it for each target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import infopt
from infopt.model import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from check.conftest import Find
    from conftest import Build

    from infopt.model import Model


pytestmark = pytest.mark.usefixtures("here")


def branchy(path: Path) -> Path:
    """A residual block and a classifier, as exporters write it."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,), "w3": (16, 16), "b3": (16,)}
    weights = [numpy_helper.from_array((rng.standard_normal(s) / 5).astype(np.float32), n) for n, s in shapes.items()]
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", **pads),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", **pads),
        helper.make_node("Add", ["c2", "r1"], ["a"], "add"),
        helper.make_node("LeakyRelu", ["a"], ["r2"], "act"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "gemm", transB=1),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 16, 16]), ("y", [1, 16])))
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Reader:
    """A calibration reader as ONNX Runtime's quantizer wants it."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.feeds: Iterator[dict[str, np.ndarray]] = iter(
            [{"x": rng.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in range(4)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that ONNX Runtime's own quantizer writes with its four usual settings."""
    # It asks symbolic shape inference for sympy, which warns about its own use of mpmath.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    folder = tmp_path_factory.mktemp("ort")
    source = branchy(folder / "float.onnx")
    kinds: dict[str, dict[str, Any]] = {
        "default": {},
        "u8s8": {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
        "qoperator": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8},
    }
    for name, options in kinds.items():
        quantize_static(str(source), str(folder / f"{name}.onnx"), Reader(), **options)
    quantize_dynamic(str(source), str(folder / "dynamic.onnx"))
    return {name: folder / f"{name}.onnx" for name in (*kinds, "dynamic")}


EXPECTED = {
    ("default", "tensorrt"): {"int32-bias", "nonzero-zero-point"},
    ("default", "openvino"): {"s8-asymmetric"},
    ("default", "onnxruntime"): set(),
    ("u8s8", "tensorrt"): {"int32-bias", "nonzero-zero-point"},
    ("u8s8", "openvino"): set(),
    ("u8s8", "onnxruntime"): set(),
    ("qoperator", "tensorrt"): {"integer-operator", "nonzero-zero-point"},
    ("qoperator", "openvino"): set(),
    ("qoperator", "onnxruntime"): set(),
    ("dynamic", "tensorrt"): {"integer-operator"},
    ("dynamic", "openvino"): set(),
    ("dynamic", "onnxruntime"): set(),
}


@pytest.mark.parametrize(("kind", "target"), EXPECTED)
def test_errors_of_what_onnxruntimes_quantizer_emits(
    emitted: dict[str, Path], find: Find, kind: str, target: str
) -> None:
    found = find(load(emitted[kind]), target)
    assert {rule for rule, each in found.items() if each[0].severity == "error"} - {"uint8-clipped"} == EXPECTED[
        kind, target
    ]


def test_the_default_of_onnxruntimes_quantizer_is_slow_on_its_own_runtime_where_it_branches(
    emitted: dict[str, Path], find: Find
) -> None:
    shared = find(load(emitted["default"]), "onnxruntime")["s8-shared"]
    assert {each.node for each in shared} == {"r1_QuantizeLinear"}
    assert "s8-shared" not in find(load(emitted["u8s8"]), "onnxruntime")


def test_the_tensorrt_parser_agrees_about_what_it_emits(emitted: dict[str, Path]) -> None:
    pytest.importorskip("tensorrt_rtx")
    for path in emitted.values():
        report = infopt.check(path, target="tensorrt-rtx")
        assert report.targets[0].state == "refused"
        assert any(each.confirmed for each in report.findings), path.name
        assert not [each for each in report.findings if each.rule == "parser-refused"], path.name


def mixed(build: Build) -> Model:
    """In the shape of NNCF's ONNX backend: uint8 with zero point 0 behind ReLU, int8 elsewhere, no bias Q."""
    text = """(float[1,16,8,8] x) => (float[a,b,c,d] y) {
        q1 = QuantizeLinear(x, s, z8) d1 = DequantizeLinear(q1, s, z8) w1 = DequantizeLinear<axis=0>(v1, sw, zw)
        c1 = Conv<pads=[1,1,1,1]>(d1, w1, b) r1 = Relu(c1)
        q2 = QuantizeLinear(r1, s, zu) d2 = DequantizeLinear(q2, s, zu) w2 = DequantizeLinear<axis=0>(v2, sw, zw)
        y = Conv<pads=[1,1,1,1]>(d2, w2, b) }"""
    rng = np.random.default_rng(0)
    v1, v2 = (rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8) for _ in range(2))
    return build(text, opset=13, s=np.float32(0.03), z8=np.int8(0), zu=np.uint8(0), v1=v1, v2=v2, b=(16,),
                 sw=np.full(16, 0.01, np.float32), zw=np.zeros(16, np.int8))  # fmt: skip


def symmetric(build: Build) -> Model:
    """In the shape of NVIDIA ModelOpt's: int8 symmetric everywhere, float bias, no Q on outputs of convolutions."""
    text = """(float[1,16,8,8] x) => (float[a,b,c,d] y) {
        q1 = QuantizeLinear(x, s, z) d1 = DequantizeLinear(q1, s, z) w1 = DequantizeLinear<axis=0>(v, sw, zw)
        c1 = Conv<pads=[1,1,1,1]>(d1, w1, b) a = Add(c1, d1) r1 = Relu(a)
        q2 = QuantizeLinear(r1, s, z) d2 = DequantizeLinear(q2, s, z)
        y = Conv<pads=[1,1,1,1]>(d2, w1, b) }"""
    v = np.random.default_rng(0).integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
    return build(text, opset=19, s=np.float32(0.03), z=np.int8(0), v=v, b=(16,),
                 sw=np.full(16, 0.01, np.float32), zw=np.zeros(16, np.int8))  # fmt: skip


def test_mixed_signs_are_clipped_by_tensorrt_and_nowhere_else(build: Build, find: Find) -> None:
    model = mixed(build)
    found = find(model)
    assert [each.node for each in found["uint8-clipped"]] == ["q2"]
    assert "values above 3.81" in found["uint8-clipped"][0].reason
    errors = [each for group in found.values() for each in group if each.severity == "error"]
    assert {each.targets for each in errors} == {("tensorrt", "tensorrt-rtx")}


def test_symmetric_int8_is_right_for_tensorrt_and_slow_on_onnxruntime(build: Build, find: Find) -> None:
    found = find(symmetric(build))
    assert [each for group in found.values() for each in group if each.severity == "error"] == []
    assert {each.node for each in found["s8-shared"]} == {"q1"}
    assert {each.node for each in found["missing-output-q"]} == {"c1", "y"}
    assert "residual-main-quantized" not in found
