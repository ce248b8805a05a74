"""What ONNX Runtime makes of each row of its table, read from the graph that it optimized."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from infopt import registry
from infopt.errors import RuntimeRefused
from infopt.model import save
from infopt.passes import run
from infopt.target import Role
from infopt.targets.onnxruntime import EMULATE, TABLE, open_onnx
from infopt_passes.quantize import Quantize

TARGET = "onnxruntime"

UNPROVEN: dict[str, str] = {}
"""Rows that do not run in integers, with what was seen."""

LEFT = {"MatMul by several matrices", "Resize linear", "Gather of an embedding"}
"""Graphs that a condition leaves in float."""

ABLE = {"MatMul", "Softmax"}
"""Operators that stay in float although there is a kernel, because it does not pay."""

FIRST, LAST = ["QuantizeLinear", "QLinearConv"], ["QLinearConv", "DequantizeLinear"]

KERNELS = {
    "Conv": ["QuantizeLinear", "QLinearConv", "DequantizeLinear"],
    "Gemm": ["QuantizeLinear", "QGemm"],
    "MatMul": ["QuantizeLinear", "MatMulIntegerToFloat"],
    "Add": [*FIRST, "QLinearConv", "QLinearAdd", *LAST],
    "Add constant": [*FIRST, "QLinearAdd", *LAST],
    "Mul": [*FIRST, "QLinearConv", "QLinearMul", *LAST],
    "Mul constant": [*FIRST, "QLinearMul", *LAST],
    "Mul gate": [*FIRST, "QLinearSigmoid", "QLinearMul", *LAST],
    "AveragePool": [*FIRST, "QLinearAveragePool", *LAST],
    "GlobalAveragePool": [*FIRST, "QLinearGlobalAveragePool", *LAST],
    "LeakyRelu": [*FIRST, "QLinearLeakyRelu", *LAST],
    "Sigmoid": [*FIRST, "QLinearSigmoid", *LAST],
    "MaxPool": [*FIRST, "MaxPool", *LAST],
    "Reshape": [*FIRST, "Reshape", *LAST],
    "Transpose": [*FIRST, "Transpose", *LAST],
    "Flatten": [*FIRST, "Flatten", "QGemm"],
    "Flatten after MaxPool": [*FIRST, "MaxPool", "Flatten", "QGemm"],
    "Squeeze": [*FIRST, "QLinearGlobalAveragePool", "Squeeze", "QGemm"],
    "Unsqueeze": [*FIRST, "Reshape", "Unsqueeze", *LAST],
    "Slice": [*FIRST, "Slice", *LAST],
    "Mul per channel": [*FIRST, "QLinearMul", *LAST],
    "Mul squeeze and excite": [
        *FIRST, "QLinearGlobalAveragePool", "QLinearConv", "QLinearConv", "QLinearSigmoid", "QLinearMul", *LAST,
    ],
    "ReduceMax": [*FIRST, "ReduceMax", *LAST],
    "Resize nearest": [*FIRST, "Resize", *LAST],
    "Split": [*FIRST, "Split", "QLinearConcat", *LAST],
    "Gather": [*FIRST, "Gather", *LAST],
    "DepthToSpace": [*FIRST, "DepthToSpace", *LAST],
    "Expand": [*FIRST, "QLinearGlobalAveragePool", "Expand", *LAST],
    "Tile": [*FIRST, "Tile", *LAST],
    "Concat": [*FIRST, "QLinearConv", "QLinearConcat", *LAST],
}  # fmt: skip
"""The whole optimized graph by row; a variant that is not listed has that of its operator."""


def ran(artifact: Any) -> list[str]:
    """Operator types of the graph as the runtime optimized it."""
    return [node.op_type for node in ir.load(artifact.main).graph]


def test_every_row_of_the_table_has_a_graph(proven_ops: set[str]) -> None:
    assert {op for rule in TABLE.rules for op in rule.ops} <= proven_ops


MOVERS = {op for rule in TABLE.rules if rule.role is Role.MOVE for op in rule.ops}


def test_the_operator_runs_in_integers(row: Any, around: tuple[str, bool], make_row: Any, run_quantized: Any) -> None:
    done = run_quantized(make_row(row, *around), TARGET)
    graph = ir.load(done.artifact.main).graph
    assert [node.op_type for node in graph] == (KERNELS.get(row.name) or KERNELS[row.op])
    for node in graph:
        if node.op_type in MOVERS:
            assert node.inputs[0] is not None
            assert node.inputs[0].dtype == node.outputs[0].dtype == ir.DataType.UINT8
    assert (done.kernels.integer, done.kernels.float_nodes) == (done.kernels.total, ())
    assert done.kernels.total >= 1
    assert done.steps <= 6


def test_an_operator_that_stays_in_float_has_no_kernel_that_would_pay(
    float_row: Any, around: tuple[str, bool], make_row: Any, run_quantized: Any, forced: Any
) -> None:
    try:
        done = run_quantized(make_row(float_row, *around), forced(registry.target(TARGET), float_row))
    except RuntimeRefused:
        return
    graph = ir.load(done.artifact.main).graph
    output = "y" if "y =" in float_row.whole and "s =" not in float_row.whole else "s"
    makers = [node for node in graph if any(value.name.startswith(output) for value in node.outputs)]
    rule = TABLE.rule(float_row.op, float_row.computed)
    assert rule is not None
    assert rule.why or float_row.name in LEFT
    able = float_row.op in ABLE and float_row.name not in LEFT
    kernels = [node for node in makers if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    assert kernels
    assert able == any(value.dtype == ir.DataType.UINT8 for node in kernels for value in node.inputs if value)


CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 6.0), (0.0, 0.1), (-0.3, 0.5), (-1.0, 1.0), (-0.1, 0.7), (-np.inf, 0.2)],
)
def test_a_clip_vanishes_into_the_range_behind_it(build: Any, run_quantized: Any, low: float, high: float) -> None:
    text = (
        f"(float[N,3,8,8] x) => (float[N,16,8,8] y) {{ a = {CONV}(x, w, b)  r = Clip(a, lo, hi)  y = {CONV}(r, v, c) }}"
    )
    bounds = {"lo": np.float32(low), "hi": np.float32(high)}
    model = build(text, w=(16, 3, 3, 3), b=(16,), v=(16, 16, 3, 3), c=(16,), **bounds)
    assert ran(run_quantized(model, TARGET).artifact) == [*FIRST, *LAST]


def test_a_clip_that_never_gives_zero_runs_in_float_between_integer_layers(build: Any, run_quantized: Any) -> None:
    text = (
        f"(float[N,3,8,8] x) => (float[N,16,8,8] y) {{ a = {CONV}(x, w, b)  r = Clip(a, lo, hi)  y = {CONV}(r, v, c) }}"
    )
    bounds = {"lo": np.float32(0.2), "hi": np.float32(0.5)}
    model = build(text, w=(16, 3, 3, 3), b=(16,), v=(16, 16, 3, 3), c=(16,), **bounds)
    between = ["DequantizeLinear", "Clip", "QuantizeLinear"]
    assert ran(run_quantized(model, TARGET).artifact) == [*FIRST, *between, *LAST]


def test_a_constant_part_is_joined_in_integers(build: Any, run_quantized: Any) -> None:
    text = f"""(float[2,3,8,8] x) => (float[2,16,8,8] y) {{
        a = {CONV}(x, w, b)  s = Concat<axis=1>(a, k)  y = {CONV}(s, v, c) }}"""
    model = build(text, w=(16, 3, 3, 3), b=(16,), k=(2, 8, 8, 8), v=(16, 24, 3, 3), c=(16,))
    assert ran(run_quantized(model, TARGET).artifact) == [*FIRST, "QLinearConcat", *LAST]


def test_a_tower_of_products_gives_integers_to_the_next(build: Any, run_quantized: Any) -> None:
    text = "(float[N,16] x) => (float[N,4] y) { h = MatMul(x, w)  g = MatMul(h, v)  y = MatMul(g, u) }"
    done = run_quantized(build(text, w=(16, 16), v=(16, 16), u=(16, 4)), TARGET)
    assert ran(done.artifact) == ["QuantizeLinear", "QLinearMatMul", "QLinearMatMul", "MatMulIntegerToFloat"]


def test_only_the_products_with_weights_of_an_attention_run_in_integers(build: Any, run_quantized: Any) -> None:
    text = """(float[N,6,16] x) => (float[N,6,16] y) {
        q = MatMul(x, wq)  k = MatMul(x, wk)  t = Transpose<perm=[0,2,1]>(k)  a = MatMul(q, t)
        p = Softmax<axis=-1>(a)  v = MatMul(x, wv)  o = MatMul(p, v)  y = MatMul(o, wo) }"""
    done = run_quantized(build(text, **dict.fromkeys(["wq", "wk", "wv", "wo"], (16, 16))), TARGET)
    assert ran(done.artifact).count("MatMulIntegerToFloat") == 4
    assert (done.kernels.integer, done.kernels.total) == (4, 6)
    assert len(done.kernels.float_nodes) == 2


def test_emulation_runs_q_and_dq_as_they_are_written(
    build: Any, make_context: Any, run_float: Any, tmp_path: Any
) -> None:
    text = f"(float[N,3,8,8] x) => (float[N,16,8,8] y) {{ a = {CONV}(x, w, b)  r = Relu(a)  y = {CONV}(r, v, c) }}"
    model = build(text, w=(16, 3, 3, 3), b=(16,), v=(16, 16, 3, 3), c=(16,))
    context = make_context(model, "tensorrt")
    result = run(model, (Quantize(method="fast"),), context)
    save(result.graph, tmp_path / "m.onnx")
    feed = next(iter(context.calibration.feeds()))
    (found,) = open_onnx(tmp_path / "m.onnx", EMULATE).run(feed)
    np.testing.assert_allclose(found, run_float(result, feed)["y"], atol=1e-5)


def test_a_gemm_whose_activation_is_read_in_float_runs_in_integers(build: Any, run_quantized: Any) -> None:
    text = "(float[N,16] x) => (float[N,8] y) { a = Gemm(x, w, b)  r = Relu(a)  y = Softmax(r) }"
    done = run_quantized(build(text, w=(16, 8), b=(8,)), TARGET)
    assert ran(done.artifact) == ["QuantizeLinear", "QGemm", "DequantizeLinear", "Softmax"]


def test_a_clip_close_to_zero_costs_no_range(build: Any, run_quantized: Any) -> None:
    text = f"""(float[N,3,8,8] x) => (float[N,16,8,8] y) {{
        a = {CONV}(x, w, b)  r = Clip(a, lo, hi)  y = {CONV}(r, v, c) }}"""
    weights = {"w": (16, 3, 3, 3), "b": (16,), "v": (16, 16, 3, 3), "c": (16,)}
    model = build(text, lo=np.float32(-0.015), hi=np.float32(1), **weights)
    assert run_quantized(model, TARGET).steps <= 4
