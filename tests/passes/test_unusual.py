"""Graphs that are not a plain chain of named nodes, through both passes and the real runtimes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from infopt import registry
from infopt.data import infer_batch_axes
from infopt.model import Model, input_specs, load, save
from infopt.passes import run
from infopt.shapes import complete
from infopt.target import CompileOptions
from infopt_passes.quantize import Quantize
from infopt_passes.simplify import Simplify

NEAR = 22.0
"""dB of signal over noise that INT8 keeps on these graphs; a wrong graph is near 0."""

CONV = "Conv<pads=[1,1,1,1]>"
C32: dict[str, Any] = {"w": (32, 32, 3, 3), "b": (32,)}
X = "float[N,32,8,8] x"


def functions() -> Model:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[N,32,8,8] x) => (float[N,32,8,8] y) { y = own.block<pad=1>(x, w, b) }
        <domain: "own", opset_import: ["" : 17, "own" : 1]>
        block <pad> (v, k, c) => (z) { s = own.layer<pad: int = @pad>(v, k, c)  r = Relu(s)
            t = own.layer<pad: int = @pad>(r, k, c)  z = Add(t, v) }
        <domain: "own", opset_import: ["" : 17]>
        layer <pad> (v, k, c) => (z) { p = Constant<value_int: int = @pad>()  q = Mul(p, p)
            z = Conv<pads=[1,1,1,1]>(v, k, c) }""")
    return Model(ir.from_proto(proto), Path("model.onnx"))


def with_weights(model: Model, **weights: Any) -> Model:
    proto = ir.to_proto(model.graph)
    for name, shape in weights.items():
        array = np.random.default_rng(len(shape)).standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return Model(ir.from_proto(proto), model.path)


TEXTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "an initializer that is an output too": (
        f"({X}) => (float[N,32,8,8] y, float[32] b) {{ y = {CONV}(x, w, b) }}",
        C32,
        {},
    ),
    "initializers listed as inputs": (
        f"({X}) => (float[N,32,8,8] y) {{ y = {CONV}(x, w, b) }}",
        C32,
        {"ir_version": 3, "opset": 8},
    ),
    "unnamed nodes": (
        f"({X}) => (float[N,32,8,8] y) {{ _a = {CONV}(x, w, b)  _r = Relu(_a)  _c = {CONV}(_r, w)  y = Add(_c, x) }}",
        C32,
        {},
    ),
    "a weight that layers share": (
        f"({X}) => (float[N,32,8,8] y) {{ a = {CONV}(x, w, b)  r = Relu(a)  c = {CONV}(r, w)  y = Add(c, a) }}",
        C32,
        {},
    ),
    "several inputs and outputs": (
        f"""({X}, float[N,32,8,8] v, float[N,32,8,8] unread) =>
            (float[N,32,8,8] y, float[N,32,8,8] z, float[N,32,8,8] v2) {{
            a = {CONV}(x, w, b)  c = {CONV}(v, w, b)  y = Add(a, c)  z = Relu(a)  v2 = Neg(v) }}""",
        C32,
        {},
    ),
    "inputs that are outputs": (
        f"({X}, float[N,3] k) => (float[N,32,8,8] x, float[N,32,8,8] y, float[N,3] k) {{ y = {CONV}(x, w, b) }}",
        C32,
        {},
    ),
    "integer inputs": (
        """(int64[N,5] ids, int32[N] more) => (float[N,5,32] y, int32[N] n) {
            e = Gather(table, ids)  h = MatMul(e, w)  r = Relu(h)  y = MatMul(r, u)  n = Add(more, more) }""",
        {"table": (50, 32), "w": (32, 64), "u": (64, 32)},
        {},
    ),
    "a state with the batch on another axis": (
        """(float[N,32] x, float[2,N,32] state, int64 sr) => (float[N,32] y, float[2,N,32] next) {
            h = Gather<axis=0>(state, zero)  a = Gemm(x, w, b)  c = Gemm(h, w, b)  s = Add(a, c)  y = Tanh(s)
            u = Unsqueeze(y, first)  k = Unsqueeze(s, first)  j = Concat<axis=0>(u, k)
            i = Cast<to=1>(sr)  o = Mul(i, none)  next = Add(j, o) }""",
        {"w": (32, 32), "b": (32,), "zero": np.array(0), "first": np.array([0]), "none": np.float32(0)},
        {},
    ),
}

BUILT: dict[str, Any] = {"functions inside of functions": lambda: with_weights(functions(), w=(32, 32, 3, 3), b=(32,))}


def made(build: Any, name: str) -> Model:
    if name in BUILT:
        model: Model = BUILT[name]()
    else:
        text, weights, more = TEXTS[name]
        model = build(text, **weights, **more)
    return model


def feed(model: Model, batch: int) -> dict[str, np.ndarray]:
    rng, result = np.random.default_rng(5), {}
    for spec in infer_batch_axes(input_specs(model.graph), {}):
        sizes = [dim if isinstance(dim, int) else batch for dim in spec.shape]
        whole = spec.dtype.kind == "i"
        result[spec.name] = (rng.integers(0, 9, sizes) if whole else rng.standard_normal(sizes)).astype(spec.dtype)
    return result


def optimized(model: Model, context: Any) -> Model:
    result = run(model, (Simplify(), Quantize(method="fast")), context)
    onnx.checker.check_model(ir.to_proto(result.graph))
    return result


def near(expected: np.ndarray, got: np.ndarray) -> None:
    assert got.shape == expected.shape
    if expected.dtype.kind in "iu":
        assert (got == expected).all()
    else:
        noise, signal = np.square(got - expected).sum(), np.square(expected).sum()
        assert 10 * np.log10(signal / max(noise, 1e-30)) > NEAR


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "tensorrt-rtx"])
@pytest.mark.parametrize("name", [*TEXTS, *BUILT])
def test_unusual_graphs_are_quantized_and_run(
    build: Any, make_context: Any, run_float: Any, tmp_path: Path, name: str, target: str
) -> None:
    before = made(build, name)
    after = optimized(before, make_context(before, target))
    assert after.quantized_nodes()
    assert all(node.name for node in after.graph.graph.all_nodes())
    inputs = feed(before, 3)
    expected = run_float(before, inputs)
    got = run_float(after, inputs)
    for key, array in expected.items():
        near(array, got[key])
    chosen, path = registry.target(target), tmp_path / "model.onnx"
    save(after.graph, path)
    shapes = complete(infer_batch_axes(input_specs(before.graph), {}), ())
    artifact = chosen.compile(path, tmp_path, CompileOptions(next(iter(chosen.settings("int8").values())), shapes))
    if chosen.runnable() is None:
        with chosen.open(artifact) as session:
            for array, other in zip(expected.values(), session.run(inputs), strict=True):
                near(array, other)


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 15, 17, 18, 19, 21, 22])
def test_models_of_every_operator_set_are_simplified_and_quantized(
    build: Any, make_context: Any, run_float: Any, opset: int
) -> None:
    squeezed = "Squeeze(g, axes)" if opset >= 13 else "Squeeze<axes=[2,3]>(g)"
    clipped = "Clip(n, low, high)" if opset >= 11 else "Clip<min=0.0, max=6.0>(n)"
    text = f"""(float[N,32,8,8] x) => (float[N,10] y) {{ c = {CONV}(x, w, b)  n = BatchNormalization(c, s, t, m, v)
        r = {clipped}  d = {CONV}(r, w, b)  e = Add(d, r)  g = GlobalAveragePool(e)  q = {squeezed}
        o = MatMul(q, f)  y = Add(o, z) }}"""
    weights = {**C32, "s": np.ones(32, np.float32), "t": (32,), "m": (32,), "v": np.ones(32, np.float32)}
    weights |= {"f": (32, 10), "z": (10,)}
    if opset >= 13:
        weights["axes"] = np.array([2, 3])
    if opset >= 11:
        weights |= {"low": np.float32(0), "high": np.float32(6)}
    before = build(text, opset=opset, ir_version=3 if opset < 9 else 8, **weights)
    if opset < 9:  # these weights are meant: no value is given for them
        before.graph.graph.inputs[1:] = []
    after = optimized(before, make_context(before, "onnxruntime"))
    assert after.opset == max(opset, 13)
    assert sum(node.op_type == "QuantizeLinear" for node in after.graph.graph) >= 3
    inputs = feed(before, 2)
    near(run_float(before, inputs)["y"], run_float(after, inputs)["y"])


def test_recurrent_layers_are_named_with_a_reason_in_bodies_too(build: Any, make_context: Any) -> None:
    text = """(float[5,N,8] x, bool c) => (float[5,1,N,16] y, float[5,1,N,16] z) { y = If(c) <
        then_branch = t () => (float[5,1,N,16] a) { a, h = GRU<hidden_size=16>(x, w, r) },
        else_branch = e () => (float[5,1,N,16] b) { b, j = RNN<hidden_size=16>(x, u, q) }>
        z, k, l = LSTM<hidden_size=16>(x, o, p) }"""
    shapes = {"w": (1, 48, 8), "r": (1, 48, 16), "u": (1, 16, 8), "q": (1, 16, 16), "o": (1, 64, 8), "p": (1, 64, 16)}
    before = build(text, **shapes)
    for target in ("onnxruntime", "openvino", "tensorrt-rtx"):
        notes = Quantize(method="fast")(before, make_context(before, target)).notes
        assert len([note for note in notes if note.kind == "float" and note.why]) == 3, target


def test_an_artifact_of_weights_in_another_file_is_the_same(
    build: Any, make_context: Any, run_float: Any, tmp_path: Path
) -> None:
    before = made(build, "unnamed nodes")
    ir.save(before.graph, tmp_path / "out.onnx", external_data="out.data", size_threshold_bytes=0)
    outside = load(tmp_path / "out.onnx")
    first = optimized(before, make_context(before, "onnxruntime"))
    second = optimized(outside, replace(make_context(before, "onnxruntime"), workdir=tmp_path))
    inputs = feed(before, 1)
    assert (run_float(first, inputs)["y"] == run_float(second, inputs)["y"]).all()
