"""Graphs that cannot be converted, or that a runtime refuses over an If: the line says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

if TYPE_CHECKING:
    from conftest import Cli

DATA = ("--calib", "calib.npz", "--eval", "eval.npz", "--no-bench")


def write(text: str, opset: int = 17) -> None:
    """model.onnx of a graph in ONNX text, with a weight w for a convolution and f for a classifier."""
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')
    rng = np.random.default_rng(0)
    for name, shape in {"w": (8, 1, 3, 3), "f": (8, 4)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    for name, number in {"two": 2, "eight": 8}.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(number), name))
    Path("model.onnx").write_bytes(proto.SerializeToString())


def test_an_operator_that_cannot_be_converted_is_named(cli: Cli) -> None:
    write("(float[N,1,8,8] x) => (float[N,8,8,8] y) { c = Conv<pads=[1,1,1,1]>(x, w)  y = Snort(c) }", opset=11)
    cli.refuses("quantize", "model.onnx", *DATA, "--target", "onnxruntime", says=("cannot be converted to 13: Snort",))


SIZED = """(float[N,1,H,8] x) => (float[N,4] y) { c = Conv<pads=[1,1,1,1]>(x, w)  s = Shape(c)
    g = Gather<axis=0>(s, two)  q = Equal(g, eight)  k = If(q) <
        then_branch = t () => (float[N,8] a) { a = ReduceMean<axes=[2,3], keepdims=0>(c) },
        else_branch = e () => (float[N,8,H,8] b) { b = Relu(c) }>  d = MatMul(k, f)
    y = ReduceMax<axes=[1], keepdims=1>(d) }"""


def test_a_refusal_over_an_if_says_how_to_decide_it(cli: Cli) -> None:
    pytest.importorskip("openvino")
    write(SIZED)
    call = ("quantize", "model.onnx", "--synthetic", "--no-eval", "--target", "openvino")
    cli.refuses(*call, code=5, says=("dynamic rank", "fix these, as in --shape x=8x1x640x8, and they are decided"))
    result = cli(*call, "--shape", "x=1x1x8x8")
    assert result.code == 0, result.err
    assert "If nodes were decided by --shape: it takes x [1,1,8,8] only" in result.out + result.err


def test_a_float_model_that_is_refused_is_raced_as_the_passes_leave_it(cli: Cli) -> None:
    pytest.importorskip("openvino")
    write(SIZED.replace("float[N,4] y", "float[N,1] y").replace("MatMul", "Gemm"))  # takes one of the branches only
    np.savez("eval.npz", x=np.load("calib.npz")["x"][:4] + 1)
    cli("quantize", "model.onnx", "--calib", "calib.npz", "--eval", "eval.npz", "--bench-seconds", "0.4",
        "--target", "openvino", "-o", "out")  # fmt: skip
    report = json.loads(Path("out/report.json").read_text())
    assert report["latency"]["baseline_float"]["setting"].endswith(", simplified")


def test_usual_shapes_that_are_refused_give_way_to_those_of_the_samples(cli: Cli) -> None:
    pytest.importorskip("tensorrt_rtx")
    # The length is left open by the graph, and only one works.
    write(
        """(float[N,L] x) => (float[N,8] y) {
        r = Reshape(x, s)  c = Conv<pads=[1,1,1,1]>(r, w)  y = ReduceMax<axes=[2,3], keepdims=0>(c) }"""
    )
    proto = onnx.load("model.onnx")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1, 1, 12, 8], np.int64), "s"))
    onnx.save(proto, "model.onnx")
    np.savez("calib.npz", x=np.random.default_rng(0).standard_normal((20, 96)).astype(np.float32))
    call = ("quantize", "model.onnx", "--calib", "calib.npz", "--no-eval", "--method", "fast")
    result = cli(*call, "--target", "tensorrt-rtx")
    assert result.code == 0, result.err
    assert "refused the usual ranges of shapes" in result.out
    assert "--shape x=1x96..8x96..32x96" in " ".join(result.out.split())
