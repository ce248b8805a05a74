"""Fusions that infopt adds to ONNX Runtime's own, run in the real runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from infopt import registry
from infopt.model import save
from infopt.target import CompileOptions
from infopt.targets.onnxruntime import open_onnx, write_optimized
from infopt.targets.ort_fuse import fuse
from infopt_passes.quantize import Quantize

MATRICES = {"w": (8, 6), "b": (6,)}


def fused(model: Any, tmp_path: Path, feed: Any) -> list[str]:
    """Operators after the fusions; the outputs must be those of the graph before."""
    save(model.graph, tmp_path / "m.onnx")
    write_optimized(tmp_path / "m.onnx", tmp_path / "plain.onnx", {})
    (tmp_path / "fused.onnx").write_bytes((tmp_path / "plain.onnx").read_bytes())
    done = fuse(tmp_path / "fused.onnx")
    before, after = (open_onnx(tmp_path / name, {}).run(feed) for name in ("plain.onnx", "fused.onnx"))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    graph = ir.load(tmp_path / "fused.onnx").graph
    nodes = [node.op_type for node in graph.all_nodes()]
    assert all(any(out.uses() or out.is_graph_output() for out in node.outputs) for node in graph), "all is read"
    assert (done == 0) == ((tmp_path / "fused.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes())
    return nodes


def product(build: Any, make_context: Any, tail: str, **weights: Any) -> tuple[Any, Any]:
    model = build(f"(float[N,4,8] x) => (float[N,4,6] y) {{ a = MatMul(x, w)  {tail} }}", **MATRICES, **weights)
    context = make_context(model, "onnxruntime")
    return Quantize(method="fast")(model, context), next(iter(context.calibration.feeds()))


@pytest.mark.parametrize("tail", ["y = Add(a, b)", "y = Add(b, a)", "c = Add(a, b)  y = Tanh(c)"])
def test_a_bias_behind_an_integer_product_is_added_by_it(
    build: Any, make_context: Any, tmp_path: Path, tail: str
) -> None:
    model, feed = product(build, make_context, tail)
    nodes = fused(model, tmp_path, feed)
    assert "Add" not in nodes
    assert "MatMulIntegerToFloat" in nodes


@pytest.mark.parametrize(
    ("tail", "weights"),
    [
        ("c = Add(a, b)  y = Mul(c, a)", {}),  # the product is read twice
        ("y = Add(a, k)", {"k": (4, 6)}),  # no vector
        ("y = Add(a, a)", {}),
    ],
)
def test_what_is_no_bias_stays(build: Any, make_context: Any, tmp_path: Path, tail: str, weights: Any) -> None:
    model, feed = product(build, make_context, tail, **weights)
    assert "Add" in fused(model, tmp_path, feed)


GELU = "d = {scale}  e = Erf(d)  s = Add(e, one)  h = Mul(half, s)  y = Mul(x, h)"
NUMBERS = {"root": np.float32(2**0.5), "inverse": np.float32(0.5**0.5), "one": np.float32(1), "half": np.float32(0.5)}


@pytest.mark.parametrize("scale", ["Div(x, root)", "Mul(inverse, x)"])
def test_the_gelu_that_torch_exports_becomes_one_operator(build: Any, tmp_path: Path, scale: str) -> None:
    text = f"(float[N,8] x) => (float[N,8] y) {{ {GELU.format(scale=scale)} }}"
    model = build(text, **{name: value for name, value in NUMBERS.items() if name in text})
    feed = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
    assert fused(model, tmp_path, feed) == ["Gelu"]


ORDERS = {
    "half of the sum": "h = Mul(half, s)  g = Mul(r, h)",
    "half at last": "h = Mul(r, s)  g = Mul(h, half)",
    "half of the data": "h = Mul(r, half)  g = Mul(h, s)",
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_gelu_behind_an_integer_layer_becomes_one_operator(
    build: Any, make_context: Any, tmp_path: Path, order: str
) -> None:
    conv = "Conv<kernel_shape=[1,1]>"
    text = f"""(float[N,8,4,4] x) => (float[N,8,4,4] y) {{
        r = {conv}(x, w, b)  d = Div(r, root)  e = Erf(d)  s = Add(e, one)  {order}  y = {conv}(g, v, b) }}"""
    numbers = {name: value for name, value in NUMBERS.items() if name != "inverse"}
    model = build(text, w=(8, 8, 1, 1), v=(8, 8, 1, 1), b=(8,), **numbers)
    context = make_context(model, "onnxruntime")
    nodes = fused(Quantize(method="fast")(model, context), tmp_path, next(iter(context.calibration.feeds())))
    assert nodes.count("Gelu") == 1
    assert not {"Erf", "Div", "Mul"}.intersection(nodes)
    assert nodes.count("QLinearConv") == 2


@pytest.mark.parametrize(
    "change",
    [{"half": np.float32(0.4)}, {"root": np.float32(1.5)}, {"one": np.float32(2)}],
    ids=["half", "root", "one"],
)
def test_other_numbers_make_no_gelu(build: Any, tmp_path: Path, change: Any) -> None:
    text = f"(float[N,8] x) => (float[N,8] y) {{ {GELU.format(scale='Div(x, root)')} }}"
    numbers = {name: value for name, value in NUMBERS.items() if name != "inverse"}
    feed = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
    assert "Erf" in fused(build(text, **{**numbers, **change}), tmp_path, feed)


def test_a_gelu_whose_parts_are_read_elsewhere_keeps_them(build: Any, tmp_path: Path) -> None:
    text = f"(float[N,8] x) => (float[N,8] y, float[N,8] d) {{ {GELU.format(scale='Div(x, root)')} }}"
    model = build(text, **{name: value for name, value in NUMBERS.items() if name != "inverse"})
    feed = {"x": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
    assert sorted(fused(model, tmp_path, feed)) == ["Div", "Gelu"]


def test_compile_fuses(build: Any, make_context: Any, tmp_path: Path) -> None:
    model, _ = product(build, make_context, "y = Add(a, b)")
    save(model.graph, tmp_path / "m.onnx")
    artifact = registry.target("onnxruntime").compile(tmp_path / "m.onnx", tmp_path, CompileOptions())
    assert [node.op_type for node in ir.load(artifact.main).graph] == ["QuantizeLinear", "MatMulIntegerToFloat"]
