"""Equalization: which channels can be rescaled, that a float model stays what it was, and that integers gain by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infopt.noise import decibels, output_judge
from infopt.passes import Context
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.equalize.channels import groups
from infopt_passes.quantize.equalize.equalizing import equalized
from infopt_passes.quantize.prepare import prepared

if TYPE_CHECKING:
    from infopt.model import Model

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
IMAGE = "(float[N,3,6,6] x) => (float[N,5,6,6] y)"
ENDS = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (5, 8, 3, 3)}
ROWS = {"w1": (6, 8), "b1": (8,), "w2": (8, 4)}
CHANNELS = {"s": (1, 8, 1, 1)}


@dataclass(frozen=True)
class Case:
    """A graph and the group that is in it: its tensors, what makes them, and what reads them."""

    text: str
    weights: dict[str, Any]
    values: str
    makers: str
    readers: str
    factors: str = ""


FREE = {
    "conv, relu, conv": Case(
        f"{IMAGE} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  y = {CONV}(r, w2) }}", ENDS, "a r", "a", "y"
    ),
    "what is between commutes with factors": Case(
        f"""{IMAGE} {{ a = {CONV}(x, w1, b1)  l = LeakyRelu(a)  p = PRelu(l, k)  h = Mul(half, p)
            m = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(h)  y = {CONV}(m, w2) }}""",
        {**ENDS, "k": (8, 1, 1), "half": np.float32(0.5)},
        "a l p h m",
        "a",
        "y",
    ),
    "clip": Case(
        f"{IMAGE} {{ a = {CONV}(x, w1, b1)  r = Clip(a, lo, hi)  y = {CONV}(r, w2) }}",
        {**ENDS, "lo": np.float32(0), "hi": np.float32(6)},
        "a r",
        "a",
        "y",
    ),
    "residual": Case(
        f"""{IMAGE} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  c = {CONV}(r, k)  s = Add(c, r)  t = Relu(s)
            y = {CONV}(t, w2) }}""",
        {**ENDS, "k": (8, 8, 3, 3)},
        "a r c s t",
        "a c",
        "c y",
    ),
    "one weight, two readers and a maker": Case(
        """(float[N,8] x) => (float[N,8] y) {
            a = MatMul(x, w)  r = Relu(a)  b = MatMul(r, w)  c = MatMul(r, w)  y = Add(b, c) }""",
        {"w": (8, 8)},
        "a r",
        "a",
        "b c",
    ),
    "grouped": Case(
        f"{IMAGE} {{ a = {CONV}(x, w1, b1)  g = Conv<kernel_shape=[1,1], group=2>(a, k)  y = {CONV}(g, w2) }}",
        {**ENDS, "k": (8, 4, 1, 1)},
        "a | g",
        "a | g",
        "g | y",
    ),
    "depthwise": Case(
        f"{IMAGE} {{ a = {CONV}(x, w1, b1)  d = Conv<kernel_shape=[1,1], group=8>(a, k)  y = {CONV}(d, w2) }}",
        {**ENDS, "k": (8, 1, 1, 1)},
        "a | d",
        "a | d",
        "d | y",
    ),
    "transposed convolutions": Case(
        """(float[N,3,6,6] x) => (float[N,5,8,8] y) {
            a = ConvTranspose<kernel_shape=[2,2]>(x, k, b1)  y = ConvTranspose<kernel_shape=[2,2]>(a, v) }""",
        {"k": (3, 8, 2, 2), "b1": (8,), "v": (8, 5, 2, 2)},
        "a",
        "a",
        "y",
    ),
    "one axis": Case(
        """(float[N,3,9] x) => (float[N,5,9] y) {
            a = Conv<kernel_shape=[1]>(x, k)  r = Relu(a)  y = Conv<kernel_shape=[1]>(r, v) }""",
        {"k": (8, 3, 1), "v": (5, 8, 1)},
        "a r",
        "a",
        "y",
    ),
    "gemms": Case(
        """(float[N,6] x) => (float[N,4] y) {
            a = Gemm<transB=1, alpha=0.5>(x, v, b1)  r = Relu(a)  c = Gemm<beta=2.0>(r, k, row)  y = MatMul(c, w2) }""",
        {"v": (8, 6), "b1": (8,), "k": (8, 8), "row": (1, 8), "w2": (8, 4)},
        "a r | c",
        "a | c",
        "c | y",
    ),
    "matmul and its bias": Case(
        "(float[N,5,6] x) => (float[N,5,4] y) { a = MatMul(x, w1)  c = Add(b1, a)  r = Relu(c)  y = MatMul(r, w2) }",
        ROWS,
        "a c r",
        "a",
        "y",
        "c",
    ),
    "layer normalization": Case(
        """(float[N,5,8] x) => (float[N,5,4] y, float[N,5,4] z) {
            n = LayerNormalization<axis=-1>(x, g, b1)  y = MatMul(n, w2)  z = MatMul(n, k) }""",
        {"g": (8,), "b1": (8,), "w2": (8, 4), "k": (8, 4)},
        "n",
        "",
        "y z",
        "n n",
    ),
    "classifier behind a pool": Case(
        f"""(float[N,3,6,6] x) => (float[N,4] y) {{
            a = {CONV}(x, w1, b1)  r = Relu(a)  p = GlobalAveragePool(r)  f = Flatten(p)  y = Gemm(f, w2) }}""",
        {**ENDS, "w2": (8, 4)},
        "a r p f",
        "a",
        "y",
    ),
    "product with a constant on the left": Case(
        f"{IMAGE} {{ a = Sigmoid(x)  m = Mul(s, a)  r = Relu(m)  y = {CONV}(r, k) }}",
        {"s": (1, 3, 1, 1), "k": (5, 3, 3, 3)},
        "m r",
        "",
        "y",
        "m",
    ),
    "product between two convolutions": Case(
        f"{IMAGE} {{ a = {CONV}(x, w1, b1)  m = Mul(a, s)  y = {CONV}(m, w2) }}",
        {**ENDS, **CHANNELS},
        "m",
        "",
        "y",
        "m",
    ),
}

SIDE = "(float[N,3,6,6] x) => (float[N,5,6,6] y, float[N,8,6,6] z)"

BLOCKED = {
    "a tensor is an output": (
        f"(float[N,3,6,6] x) => (float[N,5,6,6] y, float[N,8,6,6] a) {{ a = {CONV}(x, w1, b1)  y = {CONV}(a, w2) }}",
        ENDS,
    ),
    "sigmoid between": (f"{IMAGE} {{ a = {CONV}(x, w1, b1)  r = Sigmoid(a)  y = {CONV}(r, w2) }}", ENDS),
    "somebody else reads": (f"{SIDE} {{ a = {CONV}(x, w1, b1)  z = Tanh(a)  y = {CONV}(a, w2) }}", ENDS),
    "a bound below zero": (
        f"{IMAGE} {{ a = {CONV}(x, w1, b1)  r = Clip(a, lo, hi)  y = {CONV}(r, w2) }}",
        {**ENDS, "lo": np.float32(-1), "hi": np.float32(6)},
    ),
    "broadcast over channels": (
        f"""{IMAGE} {{ a = {CONV}(x, w1, b1)  g = {CONV}(x, k)  s = Add(a, g)  y = {CONV}(s, w2) }}""",
        {**ENDS, "k": (1, 3, 3, 3)},
    ),
    "a sum with fewer axes": (
        f"""(float[N,3,8,8] x, float[8,8] z) => (float[N,5,8,8] y) {{
            k = MatMul(z, v)  a = {CONV}(x, w1, b1)  s = Add(a, k)  y = {CONV}(s, w2) }}""",
        {**ENDS, "v": (8, 8)},
    ),
    "one number added": (
        f"{IMAGE} {{ a = {CONV}(x, w1, b1)  s = Add(a, one)  y = {CONV}(s, w2) }}",
        {**ENDS, "one": np.float32(1)},
    ),
    "scaled and as it was": (
        f"{IMAGE} {{ a = {CONV}(x, w1, b1)  m = Mul(a, s)  t = Add(m, a)  y = {CONV}(t, w2) }}",
        {**ENDS, **CHANNELS},
    ),
    "weight on the left": (
        "(float[8,6] x) => (float[8,6] y) { a = MatMul(k, x)  y = MatMul(v, a) }",
        {"k": (8, 8), "v": (8, 8)},
    ),
    "computed bias": (
        "(float[N,6] x, float[N,8] z) => (float[N,4] y) { a = Gemm(x, w1, z)  y = MatMul(a, w2) }",
        {"w1": (6, 8), "w2": (8, 4)},
    ),
    "one channel": (
        f"{IMAGE} {{ a = {CONV}(x, k)  s = Add(a, one)  y = {CONV}(s, v) }}",
        {"k": (1, 3, 3, 3), "v": (5, 1, 3, 3), "one": np.float32(1)},
    ),
    "a branch reads": (
        f"""(bool c, float[N,3,6,6] x) => (float[N,5,6,6] y, float[N,8,6,6] z) {{
            a = {CONV}(x, w1, b1)  y = {CONV}(a, w2)
            z = If (c) <then_branch = t () => (float[N,8,6,6] u) {{ u = {CONV}(a, k) }},
                        else_branch = e () => (float[N,8,6,6] v) {{ v = {CONV}(a, k) }}> }}""",
        {**ENDS, "k": (8, 8, 3, 3)},
    ),
    "a loop reads": (
        f"""(int64 n, bool c, float[N,3,6,6] x) => (float[N,5,6,6] y, float[N,8,6,6] z) {{
            a = {CONV}(x, w1, b1)  y = {CONV}(a, w2)  zero = Sub(a, a)
            z = Loop (n, c, zero) <body = l (int64 i, bool d, float[N,8,6,6] s) => (bool e, float[N,8,6,6] t)
                {{ e = Identity(d)  t = Add(s, a) }}> }}""",
        ENDS,
    ),
}


def ready(build: Any, text: str, weights: dict[str, Any]) -> Model:
    model = build(text, **weights)
    return model.edited(prepared(model.graph, 13))


@pytest.mark.parametrize("name", FREE)
def test_channels_are_followed_from_where_they_are_made_to_where_they_are_read(build: Any, name: str) -> None:
    case = FREE[name]
    found = groups(ready(build, case.text, case.weights).graph.graph)

    def listed(names: Any) -> str:
        return " | ".join(sorted(" ".join(sorted(each)) for each in names))

    expected = [
        " | ".join(sorted(" ".join(sorted(part.split())) for part in text.split("|")))
        for text in (case.values, case.makers, case.readers, case.factors)
    ]
    assert [
        listed([value.name for value in group.values] for group in found),
        listed([node.name for node in group.makers] for group in found),
        listed([node.name for node in group.readers] for group in found),
        listed([node.name for node, _ in group.factors] for group in found).strip(" |"),
    ] == expected


@pytest.mark.parametrize("name", BLOCKED)
def test_what_does_not_let_factors_pass_is_left_alone(build: Any, name: str) -> None:
    assert groups(ready(build, *BLOCKED[name]).graph.graph) == []


def test_the_lowest_bound_on_the_way_is_known(build: Any) -> None:
    case = FREE["clip"]
    assert groups(ready(build, case.text, case.weights).graph.graph)[0].ceiling == 6


def uneven(weights: dict[str, Any], seed: int) -> dict[str, Any]:
    """Weights whose channels, on all axes, differ by up to 100."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, shape in weights.items():
        if not isinstance(shape, tuple):
            result[name] = shape
            continue
        array = rng.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:]))))
        for axis in range(len(shape)):
            factors = np.exp(rng.uniform(-1.2, 1.2, shape[axis]))
            array = array * factors.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        result[name] = array.astype(np.float32)
    return result


@pytest.mark.parametrize("kind", ["weights", "activations"])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FREE)), seed=st.integers(0, 2**16))
def test_a_float_model_computes_what_it_did(
    build: Any, make_context: Any, run_float: Any, kind: Any, name: str, seed: int
) -> None:
    case = FREE[name]
    model = ready(build, case.text, uneven(case.weights, seed))
    context = make_context(model, "onnxruntime")
    before = {key: value.const_value for key, value in model.graph.graph.initializers.items()}
    after, notes = equalized(model, kind, context)
    assert notes == []
    assert {key: value.const_value for key, value in model.graph.graph.initializers.items()} == before
    for feed in context.calibration.feeds():
        wanted, found = run_float(model, feed), run_float(model.edited(after), feed)
        for output, array in wanted.items():
            assert np.abs(found[output] - array).max() <= 1e-4 * np.abs(array).max()


PLANTED = f"{IMAGE} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  y = {CONV}(r, w2) }}"
SPREAD = np.float32([1, 300, 0.01, 1, 40, 0.1, 1, 3])


def planted() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    made, read = rng.standard_normal((8, 3, 3, 3)) / 5, rng.standard_normal((5, 8, 3, 3)) / 8
    w1, w2 = made * SPREAD.reshape(-1, 1, 1, 1), read / SPREAD.reshape(-1, 1, 1)
    return {"w1": w1.astype("f"), "b1": SPREAD * np.float32(0.1), "w2": w2.astype("f")}


def sqnr(model: Model, context: Context, **options: Any) -> float:
    result = Quantize(method="fast", **options)(model, context)
    return decibels(output_judge(model.graph, context.calibration, context.workdir).noise(result.graph))


def test_planted_differences_of_channels_are_evened_out(build: Any, make_context: Any) -> None:
    model = ready(build, PLANTED, planted())
    after, _ = equalized(model, "weights", make_context(model, "onnxruntime"))
    made = next(node.inputs[1].const_value.numpy() for node in after.graph if node.op_type == "Conv")
    peaks = np.abs(made).max(axis=(1, 2, 3))
    assert peaks.max() / peaks.min() < 4


@pytest.mark.parametrize("kind", ["weights", "activations"])
def test_integers_gain_by_even_channels(build: Any, make_context: Any, kind: str) -> None:
    model = ready(build, PLANTED, planted())
    context = make_context(model, "onnxruntime", 8)
    assert sqnr(model, context, equalize=kind) > sqnr(model, context, equalize="off") + 6


def test_a_value_under_the_bound_stays_under_it(build: Any, make_context: Any, run_float: Any) -> None:
    weights = {**planted(), "lo": np.float32(0), "hi": np.float32(6)}
    model = ready(build, FREE["clip"].text, weights)
    context = make_context(model, "onnxruntime", 8)
    after, _ = equalized(model, "weights", context)
    assert any(name.endswith("equalized0") for name in after.graph.initializers)
    for feed in context.calibration.feeds():
        wanted, found = run_float(model, feed)["y"], run_float(model.edited(after), feed)["y"]
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_an_initializer_that_is_an_output_keeps_its_values(build: Any, make_context: Any, run_float: Any) -> None:
    model = build("(float[N,8] x) => (float[N,4] y) { a = MatMul(x, w1)  r = Relu(a)  y = MatMul(r, w2) }",
                  w1=uneven({"w": (8, 8)}, 0)["w"], w2=(8, 4))  # fmt: skip
    graph = model.graph
    graph.graph.outputs.append(graph.graph.initializers["w1"])
    ready_model = model.edited(prepared(graph, 13))
    context = make_context(ready_model, "onnxruntime")
    after, _ = equalized(ready_model, "weights", context)
    feed = next(iter(context.calibration.feeds()))
    wanted, found = run_float(ready_model, feed), run_float(ready_model.edited(after), feed)
    np.testing.assert_array_equal(found["w1"], wanted["w1"])
    np.testing.assert_allclose(found["y"], wanted["y"], rtol=1e-4, atol=1e-5)


def exploding() -> tuple[str, dict[str, Any]]:
    """A graph in which channel 0 of ``a`` has weights that its factor, which is bounded, takes out of float32.

    The channels of ``p`` can be evened out as they should.
    """
    rng = np.random.default_rng(0)
    made, read = np.ones((8, 8), np.float32), np.full((8, 4), 1e35, np.float32)
    made[:, 0], read[0] = 1e35, 1e36
    weights = {"u": (rng.standard_normal((6, 8)) * SPREAD).astype("f"), "w1": made, "w2": read}
    text = """(float[N,6] x) => (float[N,4] y) {
        p = MatMul(x, u)  q = Relu(p)  a = MatMul(q, w1)  m = Mul(a, tiny)  r = Relu(m)  y = MatMul(r, w2) }"""
    return text, weights | {"tiny": np.float32(1e-37)}


def test_a_layer_that_explodes_is_rolled_back_and_named(build: Any, make_context: Any, run_float: Any) -> None:
    model = ready(build, *exploding())
    context = make_context(model, "onnxruntime")
    after, notes = equalized(model, "weights", context)
    assert [note.node for note in notes] == ["y"]
    assert "stay as they were" in notes[0].why
    weights = {node.name: node.inputs[1].name for node in after.graph if node.op_type == "MatMul"}
    assert weights == {"p": "u:equalized0", "a": "w1:equalized0", "y": "w2"}
    feed = next(iter(context.calibration.feeds()))
    np.testing.assert_allclose(run_float(model.edited(after), feed)["y"], run_float(model, feed)["y"], rtol=1e-4)


def test_a_large_weight_is_rescaled_whenever_it_is_asked_for(build: Any, make_context: Any, run_float: Any) -> None:
    text = "(float[N,640] x) => (float[N,4] y) { a = MatMul(x, w1)  r = Relu(a)  y = MatMul(r, w2) }"
    model = ready(build, text, {"w1": uneven({"w": (640, 640)}, 0)["w"], "w2": (640, 4)})
    context = make_context(model, "onnxruntime")
    after, _ = equalized(model, "weights", context)
    assert isinstance(after.graph.initializers["w1:equalized0"].const_value, ir.LazyTensor)
    feed = next(iter(context.calibration.feeds()))
    wanted = run_float(model, feed)["y"]
    np.testing.assert_allclose(run_float(model.edited(after), feed)["y"], wanted, atol=1e-4 * np.abs(wanted).max())
