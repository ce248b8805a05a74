"""What a rounding does alone: everything is the quantized model, nothing the float model, and parts add up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infopt.noise import output_judge
from infopt.registry import target
from infopt_passes.quantize.alone import Alone, alone
from infopt_passes.quantize.culprits import Rounding, roundings
from infopt_passes.quantize.fitting.fitted import Wanted
from infopt_passes.quantize.plan import make_plan
from infopt_passes.quantize.prepare import prepared
from infopt_passes.quantize.static import Settings, Static

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
CNN = f"""(float[N,16,8,8] x) => (float[N,16,8,8] y) {{
    a = {CONV}(x, w1, b1)  r = Relu(a)  b = {CONV}(r, w2)  s = Add(b, r)  y = {CONV}(s, w2) }}"""
MLP = """(float[N,24] x) => (float[N,8] y) { a = MatMul(x, w1)  h = Add(a, b1)  r = Relu(h)  y = MatMul(r, w2) }"""
BRANCH = """(float[N,24] x) => (float[N,24] y) {
    s = ReduceSum<keepdims=0>(x)  c = Greater(s, zero)  y = If(c) <
        then_branch = t () => (float[N,24] a) { a = Gemm(x, w1, b1) },
        else_branch = e () => (float[N,24] b) { p = Gemm(x, w2, b1)  q = Relu(p)  b = Gemm(q, w1) }> }"""
GRAPHS: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": (CNN, {"w1": (16, 16, 3, 3), "w2": (16, 16, 3, 3), "b1": (16,)}),
    "mlp": (MLP, {"w1": (24, 32), "b1": (32,), "w2": (32, 8)}),
    "branch": (BRANCH, {"w1": (24, 24), "w2": (24, 24), "b1": (24,), "zero": np.float32(0)}),
}
FITTED = Wanted("minmax", "least-squares", bias=True)


@pytest.fixture
def split(build: Any, make_context: Any, tmp_path: Path) -> Callable[..., tuple[Alone, list[Rounding], float]]:
    """Quantizes a graph and takes it apart: the parts, what is rounded, and the error of the whole."""

    def make(name: str, runtime: str, wanted: Wanted) -> tuple[Alone, list[Rounding], float]:
        text, weights = GRAPHS[name]
        model, table = build(text, **weights), target(runtime).table
        model = model.edited(prepared(model.graph, table.opset))
        context = make_context(model, runtime, 12)
        static, settings = Static(model, table, context), Settings(weights=wanted)
        built, judge = static.build(settings).graph, output_judge(model.graph, context.calibration, context.workdir)
        plan = make_plan(model.graph.graph, model.opset, table, ())
        found = roundings(model.graph.graph, plan, table)
        return alone(model.graph, built, judge, tmp_path), found, judge.noise(built)

    return make


@pytest.mark.parametrize("wanted", [Wanted(), FITTED], ids=["plain", "fitted"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "tensorrt-rtx"])
@pytest.mark.parametrize("name", GRAPHS)
def test_all_roundings_are_the_quantized_model_and_none_the_float_model(
    split: Any, name: str, runtime: str, wanted: Wanted
) -> None:
    parts, found, whole = split(name, runtime, wanted)
    tensors = {tensor for each in found for tensor in each.tensors}
    nodes = {node for each in found for node in each.constants}
    assert whole > 1e-7
    assert parts.noise(tensors, nodes) == pytest.approx(whole, rel=1e-3)
    assert parts.noise((), ()) < 1e-9


def test_what_roundings_do_alone_adds_up(split: Any) -> None:
    parts, found, whole = split("cnn", "onnxruntime", Wanted())
    single = [parts.noise(each.tensors, each.constants) for each in found]
    assert sum(noise > 0 for noise in single) >= 6
    assert sum(single) == pytest.approx(whole, rel=0.25)


def test_pairs_that_the_float_model_had_already_stay(build: Any, make_context: Any, tmp_path: Path) -> None:
    text = """(float[N,24] x) => (float[N,8] y) {
        q = QuantizeLinear(x, step, zero)  d = DequantizeLinear(q, step, zero)  y = MatMul(d, w) }"""
    model = build(text, step=np.float32(0.5), zero=np.uint8(128), w=(24, 8))
    context = make_context(model, "onnxruntime", 8)
    judge = output_judge(model.graph, context.calibration, context.workdir)
    assert alone(model.graph, model.graph, judge, tmp_path).noise((), ()) < 1e-12
