"""High biases move into the next layer: the float model stays what it was, and the range between shrinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.observers import ExtremesObserver
from infopt_passes.quantize.equalize.absorb import pairs
from infopt_passes.quantize.equalize.equalizing import equalized
from infopt_passes.quantize.prepare import prepared

if TYPE_CHECKING:
    from infopt.model import Model

RNG = np.random.default_rng(0)
HIGH = np.array([9, 0, 7, 0, 0, 8, 0, 0], np.float32)


def weight(*shape: int) -> Any:
    return (RNG.standard_normal(shape) / 4).astype(np.float32)


GRAPHS: dict[str, tuple[str, dict[str, Any]]] = {
    "convolutions": (
        """(float[N,3,6,6] x) => (float[N,6,4,4] y) { a = Conv<kernel_shape=[1,1]>(x, w1, b)  r = Relu(a)
            y = Conv<kernel_shape=[3,3], group=2>(r, w2) }""",
        {"w1": weight(8, 3, 1, 1), "w2": weight(6, 4, 3, 3)},
    ),
    "gemms, one transposed and scaled": (
        """(float[N,6] x) => (float[N,5] y, float[N,5] z) { a = Gemm(x, w1, b)  r = Relu(a)
            y = Gemm<transB=1, alpha=0.5, beta=2.0>(r, w2, c)  z = Gemm(r, w3) }""",
        {"w1": weight(6, 8), "w2": weight(5, 8), "w3": weight(8, 5), "c": weight(5)},
    ),
    "products whose bias is an Add": (
        """(float[N,6] x) => (float[N,5] y) { a = Gemm(x, w1, b)  r = Relu(a)  m = MatMul(r, w2)  y = Add(m, c) }""",
        {"w1": weight(6, 8), "w2": weight(8, 5), "c": weight(5)},
    ),
}
PADDED = """(float[N,3,6,6] x) => (float[N,5,6,6] y) { a = Conv<kernel_shape=[1,1]>(x, w1, b)  r = Relu(a)
    y = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r, w2) }"""
CLIPPED = """(float[N,6] x) => (float[N,5] y) { a = Gemm(x, w1, b)  r = Clip(a, lo, hi)  y = Gemm(r, w2) }"""
PLAIN = """(float[N,6] x) => (float[N,5] y) { a = Gemm(x, w1, b)  r = Relu(a)  y = MatMul(r, w2) }"""


def ready(model: Model) -> Model:
    """A model as the passes see it."""
    return model.edited(prepared(model.graph, 13))


@pytest.mark.parametrize("name", GRAPHS)
def test_high_biases_are_absorbed_and_the_model_computes_the_same(
    build: Any, make_context: Any, run_float: Any, name: str
) -> None:
    text, weights = GRAPHS[name]
    model = ready(build(text, **weights, b=HIGH))
    context = make_context(model, "onnxruntime", 16)
    after, notes = equalized(model, "weights", context)
    assert notes == []
    assert any("absorbed" in value for value in after.graph.initializers)
    for feed in context.need_calibration("test").feeds():
        wanted, found = run_float(model, feed), run_float(model.edited(after), feed)
        assert found.keys() == wanted.keys()
        for output, array in wanted.items():
            np.testing.assert_allclose(found[output], array, rtol=1e-4, atol=1e-4)
    before = calibrate(model, ["r"], ExtremesObserver(), context, axes={"r": 1})["r"]
    now = calibrate(model.edited(after), ["r"], ExtremesObserver(), context, axes={"r": 1})["r"]
    assert (before.smallest[HIGH > 0] > 1).all()
    np.testing.assert_allclose(now.smallest[HIGH > 0], 0, atol=1e-4)


@pytest.mark.parametrize("text", [PADDED, CLIPPED, PLAIN])
def test_where_the_constant_would_not_be_one_everywhere_nothing_is_absorbed(build: Any, text: str) -> None:
    shapes = {"w1": weight(8, 3, 1, 1), "w2": weight(5, 8, 3, 3)} if text is PADDED else {}
    shapes = shapes or {"w1": weight(6, 8), "w2": weight(8, 5)}
    model = ready(build(text, **shapes, b=HIGH, lo=np.float32(0), hi=np.float32(6)))
    assert pairs(model.graph.graph) == []
