"""Method auto: it never does worse than fast, says what it chose and why, and keeps to what the user decided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infopt.noise import decibels, output_judge
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.auto import FEWEST
from infopt_passes.quantize.settings import LAST_STEPS
from infopt_passes.quantize.static import Settings
from infopt_passes.quantize.structure import reason

if TYPE_CHECKING:
    from infopt.model import Model
    from infopt.passes import Context

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
DEEP = "Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=16>"
TARGETS = ("onnxruntime", "openvino", "tensorrt-rtx")

GRAPHS = {
    "cnn": (
        f"""(float[N,3,8,8] x) => (float[N,16] y) {{
            a = {CONV}(x, w1, b1)  r = Relu(a)  d = {DEEP}(r, w2)  c = Clip(d, lo, hi)  e = {CONV}(c, w3, b1)
            s = Add(e, r)  t = Relu(s)  g = GlobalAveragePool(t)  f = Flatten(g)  y = Gemm<transB=1>(f, w4, b1) }}""",
        {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "w3": (16, 16, 3, 3), "w4": (16, 16)},
    ),
    "mlp": (
        """(float[N,16] x) => (float[N,16] y) {
            a = Gemm(x, w1, b)  r = Relu(a)  m = MatMul(r, w2)  s = Sigmoid(m)  p = Mul(s, r)  y = MatMul(p, w3) }""",
        {"w1": (16, 16), "b": (16,), "w2": (16, 16), "w3": (16, 16)},
    ),
    "attention": (
        """(float[N,6,16] x) => (float[N,6,16] y) {
            n = LayerNormalization<axis=-1>(x, g, h)
            q = MatMul(n, wq)  k = MatMul(n, wk)  u = Transpose<perm=[0,2,1]>(k)  a = MatMul(q, u)
            s = Softmax<axis=-1>(a)  v = MatMul(n, wv)  o = MatMul(s, v)  p = MatMul(o, wo)  y = Add(p, x) }""",
        {"g": (16,), "h": (16,), "wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wo": (16, 16)},
    ),
}
BOUNDS = {"lo": np.float32(0), "hi": np.float32(6)}


def drawn(shapes: dict[str, Any], seed: int, spread: float) -> dict[str, Any]:
    """Weights whose channels differ."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Any] = dict(BOUNDS)
    for name, shape in shapes.items():
        array = rng.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:]))))
        rows = np.exp(rng.uniform(-spread, spread, shape[0]))
        weights[name] = (array * rows.reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32)
    return weights


def sqnr(model: Model, result: Model, context: Context) -> float:
    """Of the outputs, in dB, over all calibration samples, with Q/DQ as written."""
    assert context.calibration is not None
    return decibels(output_judge(model.graph, context.calibration, context.workdir).noise(result.graph))


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(GRAPHS)),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([0.0, 1.5, 3.0]),
)
def test_it_never_does_worse_than_fast(
    build: Any, make_context: Any, name: str, target: str, seed: int, spread: float
) -> None:
    text, shapes = GRAPHS[name]
    model = build(text, **drawn(shapes, seed, spread))
    context = make_context(model, target, 20)
    plain, chosen = Quantize(method="fast")(model, context), Quantize()(model, context)
    assert chosen.quantized_nodes()
    assert sqnr(model, chosen, context) >= sqnr(model, plain, context)


def test_it_gains_where_there_is_something_to_gain(build: Any, make_context: Any) -> None:
    text, shapes = GRAPHS["cnn"]
    model = build(text, **drawn(shapes, 2, 3.0))
    context = make_context(model, "onnxruntime", 20)
    plain, chosen = Quantize(method="fast")(model, context), Quantize()(model, context)
    assert sqnr(model, chosen, context) > sqnr(model, plain, context) + 1
    choices = {note.node: note.why for note in chosen.notes if note.kind == "choice"}
    assert any("used" in why for why in choices.values())
    assert "with --method fast" in choices["method auto"]


@pytest.mark.parametrize("name", GRAPHS)
def test_two_runs_are_the_same(build: Any, make_context: Any, name: str) -> None:
    text, shapes = GRAPHS[name]
    model = build(text, **drawn(shapes, 5, 2.0))
    first, second = (Quantize()(model, make_context(model, "onnxruntime", 18)) for _ in range(2))
    assert first.notes == second.notes
    assert ir.to_proto(first.graph).SerializeToString() == ir.to_proto(second.graph).SerializeToString()


@pytest.mark.parametrize("missing", [0, 1])
def test_too_few_samples_to_choose_by_are_said(build: Any, make_context: Any, missing: int) -> None:
    text, shapes = GRAPHS["mlp"]
    model = build(text, **drawn(shapes, 0, 1.0))
    context = make_context(model, "onnxruntime", FEWEST - missing)
    result = Quantize()(model, context)
    told = [note.why for note in result.notes if note.node == "method auto" and note.kind == "warning"]
    assert len(told) == missing
    assert all("16 samples" in why for why in told)
    chosen = [note.node for note in result.notes if note.kind == "choice"]
    assert ("method auto" in chosen) == (not missing)


def test_a_time_limit_that_is_reached_is_said(build: Any, make_context: Any) -> None:
    text, shapes = GRAPHS["mlp"]
    model = build(text, **drawn(shapes, 0, 2.0))
    context = make_context(model, "onnxruntime", 16)
    result = Quantize(time_limit=1e-6)(model, context)
    assert any(note.kind == "warning" and "time limit" in note.why for note in result.notes)
    assert result.ranges == Quantize(method="fast")(model, context).ranges


HELD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"equalize": "off"}, "channels rescaled"),
    ({"rounding": "nearest"}, "rounded by least squares"),
    ({"bias_correction": "off"}, "biases corrected"),
    ({"ranges": "minmax"}, "activation ranges"),
    ({"weight_ranges": "minmax"}, "weight ranges"),
    ({"reconstruct": "off"}, "layers refitted"),
)


@pytest.mark.parametrize(("option", "label"), HELD)
def test_what_the_user_decided_is_not_tried(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch, option: dict[str, Any], label: str
) -> None:
    monkeypatch.setattr("infopt_passes.quantize.auto.ENOUGH", np.inf)  # everything is tried
    text, shapes = GRAPHS["cnn"]
    model = build(text, **drawn(shapes, 2, 3.0))
    context = make_context(model, "onnxruntime", 16)
    assert any(label in note.node for note in Quantize()(model, context).notes)
    assert not any(label in note.node for note in Quantize(**option)(model, context).notes)


def test_all_decided_is_what_fast_does(build: Any, make_context: Any) -> None:
    text, shapes = GRAPHS["cnn"]
    model = build(text, **drawn(shapes, 1, 0.0))
    context = make_context(model, "onnxruntime", 16)
    decided: dict[str, Any] = {key: value for option, _ in HELD for key, value in option.items()}
    chosen, plain = Quantize(**decided)(model, context), Quantize(method="fast")(model, context)
    assert [note.node for note in chosen.notes if note.kind == "choice"] == ["method auto"]
    assert ir.to_proto(chosen.graph) == ir.to_proto(plain.graph)


RUINED = """(float[N,64] x) => (float[N,4] y) {
    a = MatMul(x, w1)  r = Relu(a)  c = MatMul(r, w2)  t = Relu(c)  s = Tanh(t)  u = Mul(s, k)  y = MatMul(u, w3) }"""


def ruined() -> dict[str, Any]:
    """One channel is so large that the others vanish beside it, and it hardly counts."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": (rng.standard_normal((64, 64)) / 8).astype("f") for i in (1, 2)}
    last, k = rng.standard_normal((64, 4)).astype("f"), np.ones(64, np.float32)
    k[0], last[0] = 3000, 1e-4
    return weights | {"w3": last, "k": k}


def test_a_layer_that_ruins_the_outputs_stays_in_float_with_the_reason(build: Any, make_context: Any) -> None:
    model = build(RUINED, **ruined())
    context = make_context(model, "onnxruntime", 16)
    held = Quantize(equalize="off")
    result = held(model, context)
    floats = {note.node: note.why for note in result.notes if note.kind == "float"}
    assert floats.keys() == {"y"}
    assert "the last layer's error is the output's" in floats["y"]
    assert "of the outputs' error" in floats["y"]
    assert "of the work" in floats["y"]
    assert "its price is" in floats["y"]  # measured in the runtime
    assert sqnr(model, result, context) > sqnr(model, replace(held, method="fast")(model, context), context) + 10


def test_what_equalization_mends_need_not_stay_in_float(build: Any, make_context: Any) -> None:
    model = build(RUINED, **ruined())
    result = Quantize()(model, make_context(model, "onnxruntime", 16))
    assert [note.node for note in result.notes if note.kind == "float"] == []
    assert any("channels rescaled" in note.node and "used" in note.why for note in result.notes)


STRUCTURE: tuple[tuple[str, dict[str, Any], dict[str, str | None]], ...] = (
    (
        f"""(float[N,3,6,6] x) => (float[N,5,6,6] y) {{
            a = {CONV}(x, w1)  r = Relu(a)  d = {DEEP}(r, w2)  s = Relu(d)  e = {CONV}(s, w3)  t = Relu(e)
            y = {CONV}(t, w4) }}""",
        {"w1": (16, 3, 3, 3), "w2": (16, 1, 3, 3), "w3": (16, 16, 3, 3), "w4": (5, 16, 3, 3)},
        {"a": "first layer", "d": "depthwise", "e": None, "y": "last layer"},
    ),
    (
        f"""(float[N,8,6,6] x) => (float[N,8,6,6] y) {{
            a = {CONV}(x, k)  p = GlobalAveragePool(a)  s = Conv(p, w1)  r = Relu(s)  e = Conv(r, w2)
            g = Sigmoid(e)  m = Mul(a, g)  b = {CONV}(m, k)  y = {CONV}(b, k) }}""",
        {"k": (8, 8, 3, 3), "w1": (2, 8, 1, 1), "w2": (8, 2, 1, 1)},
        {"a": "first layer", "s": "squeeze-and-excite", "e": "squeeze-and-excite", "b": None, "y": "last layer"},
    ),
    (
        """(float[N,6,8] x) => (float[N,6,8] y) {
            q = MatMul(x, w)  k = MatMul(x, w)  u = Transpose<perm=[0,2,1]>(k)  a = MatMul(q, u)
            s = Softmax<axis=-1>(a)  v = MatMul(x, w)  o = MatMul(s, v)  p = MatMul(o, w)  y = MatMul(p, w) }""",
        {"w": (8, 8)},
        {"q": "first layer", "a": None, "o": "softmax", "p": None, "y": "last layer"},
    ),
    (
        """(float[N,8] x) => (float[N,8] y) {
            a = MatMul(x, w)  s = Softmax<axis=-1>(a)  b = MatMul(s, w)  y = MatMul(b, w) }""",
        {"w": (8, 8)},
        {"a": "first layer", "b": None, "y": "last layer"},
    ),
)


@pytest.mark.parametrize(("text", "weights", "known"), STRUCTURE)
def test_layers_that_are_known_to_cost_more_are_told_by_what_is_around_them(
    build: Any, text: str, weights: dict[str, Any], known: dict[str, str | None]
) -> None:
    nodes = {node.name: node for node in build(text, **weights).graph.graph}
    for name, words in known.items():
        found = reason(nodes[name])
        assert (found is None) if words is None else words in (found or ""), (name, found)


MLP = "a = Gemm(x, w1, b)  r = Relu(a)  m = MatMul(r, w2)  t = Relu(m)  l = MatMul(t, w3)"
MLP_SHAPES = {"w1": (16, 16), "b": (16,), "w2": (16, 16), "w3": (16, 16)}


def test_integer_outputs_are_judged_where_there_are_no_others(build: Any, make_context: Any) -> None:
    text = f"(float[N,16] x) => (int64[N] y) {{ {MLP}  y = ArgMax<axis=1, keepdims=0>(l) }}"
    model = build(text, **drawn(MLP_SHAPES, 0, 2.0))
    context = make_context(model, "onnxruntime", 60)
    judges = output_judge(model.graph, context.need_calibration("test"), context.workdir)
    assert judges.noise(model.graph) == 0
    other = build(text, **drawn(MLP_SHAPES, 1, 2.0))
    assert 0.1 < judges.noise(other.graph) <= 1


def test_outputs_that_are_no_tensors_are_passed_over(build: Any, make_context: Any) -> None:
    text = f"(float[N,16] x) => (seq(float[N,4]) y, float[N,16] l) {{ {MLP}  y = SplitToSequence<axis=1>(l, four) }}"
    model = build(text, **drawn(MLP_SHAPES, 0, 0.5), four=np.int64(4))
    result = Quantize()(model, make_context(model, "onnxruntime", 20))
    assert result.quantized_nodes()


def test_refitting_is_not_tried_against_an_explicit_rounding() -> None:
    (refit,) = [step for step in LAST_STEPS if step.apply(Settings()).reconstruct]
    assert refit.open(Quantize())
    assert not refit.open(Quantize(rounding="nearest"))
    assert not refit.open(Quantize(bias_correction="off"))
