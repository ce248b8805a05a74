"""A converted graph is of the wanted operator set, is valid, and computes what it computed before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.errors import ModelError
from infopt.model import Model
from infopt_passes.quantize import Quantize
from infopt_passes.quantize import opset as opset_module
from infopt_passes.quantize.opset import converted

LATEST = 22
PICTURE = "(float[1,3,6,6] x) => (float[a,b,c,d] y)"
CUBE = "(float[2,4,3] x) => (float[a,b,c] y)"
FLAT = "(float[2,4,3] x) => (float[a,b] y)"
AXES = {"axes": np.array([1], np.int64)}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


GRAPHS: dict[str, list[tuple[int, str, dict[str, Any]]]] = {
    "cnn": [
        (
            7,
            "(float[1,3,6,6] x) => (float[a,b] y) { c = Conv<pads=[1,1,1,1]>(x, w) "
            "n = BatchNormalization(c, s, t, m, v)  r = Relu(n)  p = MaxPool<kernel_shape=[2,2]>(r) "
            "q = GlobalAveragePool(p)  f = Flatten(q)  y = Gemm<transB=1>(f, u, e) }",
            {"w": (64, 3, 3, 3), "s": (64,), "t": (64,), "m": (64,), "v": np.ones(64, np.float32), "u": (5, 64)}
            | {"e": (5,)},
        )
    ],
    "attention": [
        (
            7,
            "(float[1,4,24] x) => (float[a,b,c] y) { q = MatMul(x, w)  k = MatMul(x, u) "
            "t = Transpose<perm=[0,2,1]>(k)  s = MatMul(q, t)  d = Div(s, h)  p = Softmax<axis=2>(d)  v = MatMul(x, n) "
            "o = MatMul(p, v)  y = Add(o, x) }",
            {"w": (24, 24), "u": (24, 24), "n": (24, 24), "h": np.float32(4.9)},
        )
    ],
    "softmax over several axes": [(7, f"{CUBE} {{ y = Softmax<axis=1>(x) }}", {})],
    "softmax by default": [(7, f"{CUBE} {{ a = Softmax(x)  y = LogSoftmax(a) }}", {})],
    "clip": [
        (7, f"{CUBE} {{ y = Clip<min=-0.5, max=0.5>(x) }}", {}),
        (11, f"{CUBE} {{ y = Clip(x, l, h) }}", {"l": np.float32(-0.5), "h": np.float32(0.5)}),
    ],
    "dropout": [
        (7, f"{CUBE} {{ a = Dropout<ratio=0.5>(x)  y = Relu(a) }}", {}),
        (12, f"{CUBE} {{ a = Dropout(x)  y = Relu(a) }}", {}),
    ],
    "pad": [
        (7, f"{PICTURE} {{ y = Pad<pads=[0,0,1,1,0,0,1,1]>(x) }}", {}),
        (11, f"{PICTURE} {{ y = Pad(x, p) }}", {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    ],
    "squeeze": [
        (7, "(float[2,1,3] x) => (float[a,b,c] y) { s = Squeeze<axes=[1]>(x)  y = Unsqueeze<axes=[0]>(s) }", {}),
        (13, "(float[2,1,3] x) => (float[a,b,c] y) { s = Squeeze(x, axes)  y = Unsqueeze(s, o) }",
         AXES | {"o": ints(0)}),
    ],
    "slice": [
        (7, f"{CUBE} {{ y = Slice<axes=[1], starts=[1], ends=[3]>(x) }}", {}),
        (10, f"{CUBE} {{ y = Slice(x, s, e, axes) }}", AXES | {"s": ints(1), "e": ints(3)}),
    ],
    "sums": [
        (7, f"{FLAT} {{ y = ReduceSum<axes=[1], keepdims=0>(x) }}", {}),
        (13, f"{FLAT} {{ y = ReduceSum<keepdims=0>(x, axes) }}", AXES),
    ],
    "reductions": [
        (
            7,
            f"{FLAT} {{ a = ReduceMax<axes=[1], keepdims=0>(x)  b = ReduceL2<axes=[1], keepdims=0>(x)  "
            "c = ReduceMean<axes=[1], keepdims=0>(x)  d = Add(a, b)  y = Add(c, d) }",
            {},
        ),
        (
            18,
            f"{FLAT} {{ a = ReduceMax<keepdims=0>(x, axes)  b = ReduceL2<keepdims=0>(x, axes)  "
            "c = ReduceMean<keepdims=0>(x, axes)  d = Add(a, b)  y = Add(c, d) }",
            AXES,
        ),
    ],
    "split": [
        (7, f"{CUBE} {{ a, b = Split<axis=1, split=[1,3]>(x)  y = Concat<axis=1>(b, a) }}", {}),
        (13, f"{CUBE} {{ a, b = Split<axis=1>(x, s)  y = Concat<axis=1>(b, a) }}", {"s": ints(1, 3)}),
    ],
    "split evenly": [
        (7, f"{CUBE} {{ a, b = Split<axis=1>(x)  y = Concat<axis=1>(b, a) }}", {}),
        (18, f"{CUBE} {{ a, b = Split<axis=1, num_outputs=2>(x)  y = Concat<axis=1>(b, a) }}", {}),
    ],
    "top k": [
        (7, f"{CUBE} {{ y, i = TopK<axis=1, k=3>(x) }}", {}),
        (10, f"{CUBE} {{ y, i = TopK<axis=1>(x, k) }}", {"k": ints(3)}),
    ],
    "recurrent": [
        (
            7,
            "(float[3,1,4] x) => (float[a,b,c,d] y, float[e,f,g,h] z) { y, hy = LSTM<hidden_size=5>(x, w, r, b) "
            "z, hz = GRU<hidden_size=5>(x, u, s, n) }",
            {"w": (1, 20, 4), "r": (1, 20, 5), "b": (1, 40), "u": (1, 15, 4), "s": (1, 15, 5), "n": (1, 30)},
        )
    ],
    "bodies": [
        (
            7,
            "(float[1,3] x, bool c) => (float[3] y) { y = If(c) <"
            "then_branch = t () => (float[3] a) { r = Softmax<axis=0>(x)  a = Squeeze<axes=[0]>(r) }, "
            "else_branch = e () => (float[3] b) { q = MatMul(x, w)  b = Squeeze<axes=[0]>(q) }> }",
            {"w": (3, 3)},
        ),
        (
            13,
            "(float[1,3] x, bool c) => (float[3] y) { y = If(c) <"
            "then_branch = t () => (float[3] a) { r = Softmax<axis=0>(x)  a = Squeeze(r, axes) }, "
            "else_branch = e () => (float[3] b) { q = MatMul(x, w)  b = Squeeze(q, axes) }> }",
            {"axes": ints(0), "w": (3, 3)},
        ),
    ],
    "norms": [
        (
            7,
            f"{PICTURE} {{ a = PRelu(x, s)  b = Elu(a)  c = Sum(b, x)  d = InstanceNormalization(c, g, h) "
            "e = AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad=\"SAME_UPPER\">(d)  "
            "f = ConvTranspose<strides=[2,2]>(e, w)  y = LRN<size=3>(f) }",
            {"s": (3, 1, 1), "g": (3,), "h": (3,), "w": (3, 2, 2, 2)},
        )
    ],
    "casts": [(7, f"{CUBE} {{ i = Cast<to=6>(x)  f = Cast<to=1>(i)  m = Max(f, x)  y = Min(m, f) }}", {})],
    "shapes": [
        (7, f"{FLAT} {{ s = Shape(x)  k = Gather(s, i)  l = Concat<axis=0>(k, r)  y = Reshape(x, l) }}",
         {"i": ints(1), "r": ints(-1)})
    ],
    "scatter": [
        (9, f"{CUBE} {{ y = Scatter<axis=1>(x, i, u) }}", {"i": np.zeros((2, 1, 3), np.int64), "u": (2, 1, 3)}),
        (11, f"{CUBE} {{ y = ScatterElements<axis=1>(x, i, u) }}",
         {"i": np.zeros((2, 1, 3), np.int64), "u": (2, 1, 3)}),
    ],
    "groups": [
        (21, f"{PICTURE} {{ c = Conv(x, w)  y = GroupNormalization<num_groups=2>(c, s, t) }}",
         {"w": (4, 3, 3, 3), "s": (4,), "t": (4,)}),
    ],
}  # fmt: skip
"""Graphs with the first operator set that they are valid in."""

SCALED = [(7, "Upsample<mode={mode}, scales=[1.0, 1.0, {a}, {b}]>(x)"), (9, "Upsample<mode={mode}>(x, s)")]
SCALED += [(10, "Resize<mode={mode}>(x, s)"), (11, "Resize<mode={mode}>(x, r, s)")]


def variant(name: str, opset: int) -> tuple[str, dict[str, Any]] | None:
    fitting = [(text, weights) for first, text, weights in GRAPHS[name] if first <= opset]
    return fitting[-1] if fitting else None


def ready(build: Any, text: str, opset: int, weights: dict[str, Any]) -> Model:
    result: Model = build(text, opset=opset, ir_version=3 if opset < 9 else 8, **weights)
    return result


def feed(model: Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    given = [value for value in model.graph.graph.inputs if value.name not in model.graph.graph.initializers]
    arrays = {v.name or "": rng.standard_normal([int(d) for d in v.shape or ()]).astype(np.float32) for v in given}
    return {name: np.array(False) if name == "c" else array for name, array in arrays.items()}


def same(expected: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        assert array.shape == got[name].shape
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5)


def newer(opset: int) -> Iterator[int]:
    yield from (each for each in (13, 18, 21, 22) if each > opset)


@pytest.mark.parametrize("opset", range(7, LATEST))
def test_every_operator_set_is_converted_without_a_change_in_what_is_computed(
    build: Any, run_float: Any, opset: int
) -> None:
    for name in GRAPHS:
        found = variant(name, opset)
        if found is None:
            continue
        before = ready(build, found[0], opset, found[1])
        expected = run_float(before, feed(before))
        for wanted in newer(opset):
            graph = converted(before.graph.clone(), wanted)
            assert graph.opset_imports[""] == wanted, name
            onnx.checker.check_model(ir.to_proto(graph))
            same(expected, run_float(before.edited(graph), feed(before)))


@pytest.mark.parametrize("opset", [7, 9, 10, 11])
@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["nearest", "linear"]), st.floats(1, 3.3), st.sampled_from([1.0, 2.0, 1.5]))
def test_resizing_keeps_its_places(build: Any, run_float: Any, opset: int, mode: str, a: float, b: float) -> None:
    op = [text for first, text in SCALED if first <= opset][-1].format(mode=f'"{mode}"', a=round(a, 2), b=b)
    weights = {"s": np.array([1, 1, round(a, 2), b], np.float32), "r": np.zeros(0, np.float32)}
    before = ready(build, f"{PICTURE} {{ y = {op} }}", opset, {k: v for k, v in weights.items() if f" {k}" in op})
    after = converted(before.graph.clone(), 13)
    assert [node.op_type for node in after.graph if node.op_type != "Constant"] == ["Resize"]
    same(run_float(before, feed(before)), run_float(before.edited(after), feed(before)))


def test_an_operator_that_cannot_be_converted_is_named(build: Any) -> None:
    model = build("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }", opset=11)
    next(iter(model.graph.graph)).op_type = "Snort"
    with pytest.raises(ModelError, match=r"operator set 11 .* cannot be converted to 17: Snort .*opset 17 or later"):
        converted(model.graph, 17)


def test_group_norms_of_unknown_channels_are_not_converted_wrongly(build: Any) -> None:
    text = "(float[N,C,6,6] x, float[2] s, float[2] t) => (float[N,C,6,6] y) { y = InstanceNormalization(x, s, t) }"
    model = build(text, opset=20)
    norm = next(iter(model.graph.graph))
    norm.op_type, norm.attributes["num_groups"] = "GroupNormalization", ir.AttrInt64("num_groups", 2)
    with pytest.raises(ModelError, match="GroupNormalization has scales by group"):
        converted(model.graph, 21)


def test_shapes_need_not_be_known_before(build: Any, run_float: Any) -> None:
    text = "(float[2,4,3] x) => (float[a,b,c] y) { r = Relu(x)  y = Softmax<axis=1>(r) }"
    before = build(text, opset=11, infer=False)
    after = before.edited(converted(before.graph.clone(), 13))
    same(run_float(before, feed(before)), run_float(after, feed(before)))


def test_weights_are_handed_over_as_they_are(build: Any) -> None:
    """Large weights are not read: the tensors are the same objects afterwards, in files or not."""
    model = build("(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", opset=9, w=(64, 64))
    tensor = model.graph.graph.initializers["w"].const_value
    graph = converted(model.graph.clone(), 17)
    assert graph.graph.initializers["w"].const_value is tensor
    assert [value.name for value in graph.graph.inputs] == ["x"]


def test_a_conversion_that_changes_what_is_computed_is_refused(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was found in a converter: Resize before version 11 had other places than its default has since."""
    text = f'{PICTURE.replace("1,3,6,6", "N,3,6,6")} {{ c = Conv(x, w)  y = Upsample<mode="linear">(c, s) }}'
    model = build(text, opset=9, w=(16, 3, 3, 3), s=np.array([1, 1, 2, 2], np.float32))
    assert Quantize(method="fast")(model, make_context(model, "onnxruntime")).quantized_nodes()
    monkeypatch.setattr(opset_module, "_keep_coordinates", lambda graph: None)
    with pytest.raises(ModelError, match=r"converted from operator set 9 to 13, the model gives another output 'y'"):
        Quantize(method="fast")(model, make_context(model, "onnxruntime"))


def test_random_numbers_are_no_change(build: Any, make_context: Any) -> None:
    text = "(float[N,16] x) => (float[N,16] y) { m = MatMul(x, w)  r = RandomNormalLike(m)  y = Add(m, r) }"
    model = build(text, opset=9, w=(16, 16))
    assert Quantize(method="fast")(model, make_context(model, "onnxruntime")).opset == 13


def test_the_user_is_told(build: Any, make_context: Any) -> None:
    model = build("(float[N,16] x) => (float[N,16] y) { y = MatMul(x, w) }", opset=9, w=(16, 16))
    notes = Quantize(method="fast")(model, make_context(model, "onnxruntime")).notes
    assert [note.why for note in notes if note.kind == "warning"] == ["converted from operator set 9 to 13"]
    model = build("(float[N,16] x) => (float[N,16] y) { y = MatMul(x, w) }", opset=13, w=(16, 16))
    assert not Quantize(method="fast")(model, make_context(model, "onnxruntime")).notes
