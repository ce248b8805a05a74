"""Sound models get no error, for any target, from the rules or from the runtimes that are here."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import infopt
from infopt.passes import run
from infopt.registry import names, pass_class, target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Build, MakeContext

    from infopt.model import Model

pytestmark = pytest.mark.usefixtures("here")

TARGETS = tuple(names("targets"))
PADS = "pads=[1,1,1,1]"
HALF = np.float16


def cnn(build: Build, batch: str = "N", **options: Any) -> Model:
    text = f"""(float[{batch},3,16,16] x) => (float[{batch},10] y) {{
        a = Conv<{PADS}>(x, w1, b1) b = Relu(a) c = Conv<{PADS}>(b, w2, b2) d = Add(c, b) e = Relu(d)
        f = GlobalAveragePool(e) g = Flatten(f) y = Gemm<transB=1>(g, w3, b3) }}"""
    return build(text, w1=(16, 3, 3, 3), b1=(16,), w2=(16, 16, 3, 3), b2=(16,), w3=(10, 16), b3=(10,), **options)


def depthwise(build: Build) -> Model:
    text = f"""(float[1,16,16,16] x) => (float[a,b,c,d] y) {{
        a = Conv(x, w1) b = Clip(a, lo, hi) c = Conv<{PADS}, group=32>(b, w2) d = Clip(c, lo, hi) e = Conv(d, w3)
        y = Add(e, x) }}"""
    low, high = np.float32(0), np.float32(6)
    return build(text, w1=(32, 16, 1, 1), w2=(32, 1, 3, 3), w3=(16, 32, 1, 1), lo=low, hi=high)


def transformer(build: Build) -> Model:
    text = """(int64[N,T] ids) => (float[N,T,32] y) {
        e = Gather(table, ids) n = LayerNormalization<axis=-1>(e, g, h) q0 = MatMul(n, wq) k0 = MatMul(n, wk)
        v0 = MatMul(n, wv) q1 = Reshape(q0, split) k1 = Reshape(k0, split) v1 = Reshape(v0, split)
        q = Transpose<perm=[0,2,1,3]>(q1) k = Transpose<perm=[0,2,3,1]>(k1) v = Transpose<perm=[0,2,1,3]>(v1)
        s = MatMul(q, k) t = Div(s, root) p = Softmax<axis=-1>(t) o = MatMul(p, v) r = Transpose<perm=[0,2,1,3]>(o)
        u = Reshape(r, whole) w = MatMul(u, wo) z = Add(w, e) f = MatMul(z, w1) i = Mul(f, half) j = Erf(i)
        y = MatMul(j, w2) }"""
    return build(text, table=(50, 32), g=(32,), h=(32,), wq=(32, 32), wk=(32, 32), wv=(32, 32), wo=(32, 32),
                 w1=(32, 64), w2=(64, 32), split=np.array([0, 0, 4, 8]), whole=np.array([0, 0, 32]),
                 root=np.float32(8**0.5), half=np.float32(0.5))  # fmt: skip


def lstm(build: Build) -> Model:
    text = "(float[5,1,16] x) => (float[1,8] y) { a, b, c = LSTM<hidden_size=8>(x, w, r) y = Squeeze(b, k) }"
    return build(text, w=(1, 32, 16), r=(1, 32, 8), k=np.array([0]))


def gru(build: Build) -> Model:
    text = "(float[5,2,16] x) => (float[a,b,c,d] y) { y, b = GRU<hidden_size=8>(x, w, r) }"
    return build(text, w=(1, 24, 16), r=(1, 24, 8))


def branching(build: Build) -> Model:
    sides = "then_branch = t () => (float[4] a) { a = Relu(x) }, else_branch = e () => (float[4] b) { b = Neg(x) }"
    return build(f"(float[4] x, bool c) => (float[4] y) {{ y = If(c) <{sides}> }}")


def half_precision(build: Build) -> Model:
    text = f"""(float16[1,16,8,8] x) => (float16[a,b,c,d] y) {{
        a = Conv<{PADS}>(x, w) b = Relu(a) y = MaxPool<kernel_shape=[2,2]>(b) }}"""
    return build(text, w=np.ones((16, 16, 3, 3), HALF) / HALF(100))


def casts(build: Build) -> Model:
    text = """(float[N,16] x) => (float[N,16] y) {
        a = Cast<to=10>(x) b = MatMul(a, w) c = Cast<to=1>(b) y = Softmax(c) }"""
    return build(text, w=np.ones((16, 16), HALF))


def upsampling(build: Build) -> Model:
    text = f"""(float[1,16,H,W] x) => (float[a,b,c,d] y) {{
        a = Conv<{PADS}>(x, w) b = Resize<mode="nearest">(a, , k) c = ConvTranspose<strides=[2,2]>(a, v)
        y = Concat<axis=1>(b, c) }}"""
    return build(text, w=(16, 16, 3, 3), v=(16, 16, 2, 2), k=np.array([1, 1, 2, 2], np.float32))


def volume(build: Build) -> Model:
    text = "(float[1,4,8,8,8] x) => (float[1,8,8,8,8] y) { a = Conv<pads=[1,1,1,1,1,1]>(x, w) y = Relu(a) }"
    return build(text, w=(8, 4, 3, 3, 3))


def signal(build: Build) -> Model:
    text = "(float[N,1,T] x) => (float[N,16,U] y) { a = Conv<pads=[1,1]>(x, w) b = Sigmoid(a) y = Mul(a, b) }"
    return build(text, w=(16, 1, 3))


def tabular(build: Build) -> Model:
    text = """(float[N,8] x) => (float[N,3] y) {
        a = Gemm(x, w1, b1) b = BatchNormalization(a, g, h, i, j) c = Relu(b)
        y = Gemm(c, w2, b2) }"""
    ones = {name: np.ones(32, np.float32) for name in "ghij"}
    return build(text, w1=(8, 32), b1=(32,), w2=(32, 3), b2=(3,), **ones)


def masked(build: Build) -> Model:
    """Minus infinity in a mask and the largest integers as ends of slices are what exporters write."""
    text = """(float[2,4,4] x, bool[2,4,4] m) => (float[2,1,4] y) { a = Where(m, x, low) b = Softmax(a)
        y = Slice(b, start, end, axes) }"""
    return build(text, low=np.float32(-np.inf), start=np.array([1]), end=np.array([2**63 - 1]), axes=np.array([1]))


def constants_as_nodes(build: Build) -> Model:
    text = """(float[N,4] x) => (float[N,4] y) { k = Constant<value = float[4] {1, 2, 3, 4}>() a = Mul(x, k)
        i = Constant<value_int = 1>() y = Cast<to=1>(a) z = Identity(i) }"""
    return build(text)


def squeeze_excite(build: Build) -> Model:
    text = """(float[1,16,8,8] x) => (float[a,b,c,d] y) {
        a = GlobalAveragePool(x) b = Conv(a, w1) c = Relu(b) d = Conv(c, w2)
        e = HardSigmoid(d) y = Mul(x, e) }"""
    return build(text, w1=(8, 16, 1, 1), w2=(16, 8, 1, 1))


FLOAT: dict[str, Callable[[Build], Model]] = {
    "cnn": cnn,
    **{f"cnn, opset {opset}": partial(cnn, opset=opset, ir_version=version)
       for opset, version in ((11, 6), (12, 7), (13, 7), (15, 8), (18, 8), (19, 9), (21, 10), (22, 10))},
    "cnn, IR version 3": lambda build: cnn(build, opset=8, ir_version=3),
    "cnn, fixed batch": lambda build: cnn(build, batch="1"),
    "depthwise": depthwise,
    "transformer": transformer,
    "lstm": lstm,
    "gru": gru,
    "if": branching,
    "float16": half_precision,
    "casts to float16": casts,
    "upsampling, dynamic size": upsampling,
    "volume": volume,
    "signal": signal,
    "tabular": tabular,
    "masked": masked,
    "constants as nodes": constants_as_nodes,
    "squeeze-excite": squeeze_excite,
}  # fmt: skip
QUANTIZED = {"cnn": cnn, "depthwise": depthwise, "transformer": transformer, "squeeze-excite": squeeze_excite}


def errors(path: Path, *targets: str) -> list[tuple[Any, ...]]:
    report = infopt.check(path, target=targets)
    return [(each.rule, each.targets, each.node, each.reason) for each in report.findings if each.severity == "error"]


@pytest.mark.parametrize("kind", FLOAT)
def test_float_models_have_no_errors(kind: str, build: Build, stored: Callable[..., Path]) -> None:
    assert errors(stored(FLOAT[kind](build)), *TARGETS) == []


@pytest.mark.parametrize("kind", QUANTIZED)
@pytest.mark.parametrize("name", TARGETS)
def test_what_infopt_quantizes_has_no_errors_for_its_target(
    kind: str, name: str, build: Build, make_context: MakeContext, stored: Callable[..., Path]
) -> None:
    model = QUANTIZED[kind](build)
    quantized = run(model, [pass_class("quantize")(method="fast")], make_context(model, name))
    assert quantized.quantized_nodes()
    path = stored(quantized)
    assert errors(path, name) == []
    if target(name).available() is None:
        warnings = {each.rule for each in infopt.check(path, target=name).findings if each.severity == "warning"}
        assert warnings <= {"dynamic-shape"}


def test_there_are_at_least_twenty() -> None:
    assert len(FLOAT) + len(QUANTIZED) * len(TARGETS) >= 20
