"""Bodies within bodies, with Scans around or inside: seen run by run and fitted as the layers of a plain graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from passes.test_body_fits import CONSTANTS, SHAPES, reached, samples, sqnr

from infopt.model import Model
from infopt.probe import with_outputs, with_sizes
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.observers import observer
from infopt_passes.fitting.gather import moments
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.fitting.fitted import Wanted

DEEP = "p = Gemm(j, w1, b1)  q = Relu(p)  o = MatMul(q, w5)"
"""The layers that are out of reach of a plain graph; every text below has them once."""

SCAN = """(float[5,4,24] x) => (float[4,24] y) { y = Scan<num_scan_inputs=1,
    body = s (float[4,24] h, float[4,24] v) => (float[4,24] g) { INSIDE }>(first, x) }"""
BRANCH = """s = ReduceSum<keepdims=0>(t)  c = Greater(s, zero)
    g = If(c) <then_branch = yes () => (float[4,24] a) { INSIDE },
               else_branch = no () => (float[4,24] b) { b = Neg(t) }>"""
TEXTS = {
    "if in scan": SCAN.replace("INSIDE", "t = Add(h, v)" + BRANCH.replace("INSIDE", f"j = Abs(t) {DEEP} a = Tanh(o)")),
    "loop in scan": SCAN.replace(
        "INSIDE",
        """t = Add(h, v)  s = ReduceSum<keepdims=0>(v)  c = Greater(s, zero)  k = Where(c, three, one)
        g = Loop(k, , t) <body = l (int64 i, bool on, float[4,24] j) => (bool on2, float[4,24] u) {
            on2 = Identity(on) DEEP r = Add(o, v)  u = Tanh(r) }>""".replace("DEEP", DEEP),
    ),
    "scan in scan": SCAN.replace(
        "INSIDE",
        """t = Add(h, v)  g = Scan<num_scan_inputs=1, scan_input_directions=[1],
            body = i (float[4,24] k, float[4,24] e) => (float[4,24] u) {
                j = Add(k, e) DEEP u = Tanh(o) }>(t, x)""".replace("DEEP", DEEP),
    ),
    "if in loop in if": """(float[4,24] x) => (float[4,24] y) { s0 = ReduceSum<keepdims=0>(x)  c0 = Less(s0, much)
        y = If(c0) <then_branch = yes0 () => (float[4,24] a0) {
            a0 = Loop(three, , x) <body = l (int64 i, bool on, float[4,24] t) => (bool on2, float[4,24] g) {
                on2 = Identity(on) BRANCH }> },
        else_branch = no0 () => (float[4,24] b0) { b0 = Abs(x) }> }""".replace(
        "BRANCH", BRANCH.replace("INSIDE", f"j = Mul(t, two) {DEEP} a = Tanh(o)")
    ),
    "scan in loop": """(float[5,4,24] x) => (float[4,24] y) {
        y = Loop(three, , first) <body = l (int64 n, bool on, float[4,24] t) => (bool on2, float[4,24] g) {
            on2 = Identity(on)  g, all = Scan<num_scan_inputs=1, scan_output_axes=[1],
                body = i (float[4,24] k, float[4,24] e) => (float[4,24] u, float[4,24] again) {
                    j = Add(k, e) DEEP u = Tanh(o)  again = Neg(u) }>(t, x) }> }""".replace("DEEP", DEEP),
}  # fmt: skip
NUMBERS: dict[str, Any] = {
    "zero": np.float32(0), "much": np.float32(60), "two": np.float32(2), "first": CONSTANTS["first"],
    "one": np.array(1, np.int64), "three": np.array(3, np.int64),
}  # fmt: skip


class Unrolled:
    """What the models above compute, in plain steps; ``seen`` holds what each of the layers read and gave."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.seen: dict[str, list[np.ndarray]] = {name: [] for name in ("j", "p", "q", "o")}

    def deep(self, j: np.ndarray) -> np.ndarray:
        p = j @ self.weights["w1"] + self.weights["b1"]
        q = np.maximum(p, 0)
        o = q @ self.weights["w5"]
        for name, array in {"j": j, "p": p, "q": q, "o": o}.items():
            self.seen[name].append(array)
        return o

    def run(self, kind: str, x: np.ndarray) -> np.ndarray:
        if kind == "if in loop in if":
            return self.branches(x)
        state: np.ndarray = CONSTANTS["first"]
        if kind == "scan in loop":
            return self.inner_scan(state, (*x, *x, *x))
        for v in x:
            state = state + v
            if kind == "if in scan":
                state = np.tanh(self.deep(np.abs(state))) if state.sum() > 0 else -state
            elif kind == "scan in scan":
                state = self.inner_scan(state, x[::-1])
            for _ in range((3 if v.sum() > 0 else 1) if kind == "loop in scan" else 0):
                state = np.tanh(self.deep(state) + v)
        return state

    def branches(self, x: np.ndarray) -> np.ndarray:
        if x.sum() >= NUMBERS["much"]:
            return np.abs(x)
        for _ in range(3):
            x = np.tanh(self.deep(x * 2)) if x.sum() > 0 else -x
        return x

    def inner_scan(self, state: np.ndarray, slices: Any) -> np.ndarray:
        for e in slices:
            state = np.tanh(self.deep(state + e))
        return state


@pytest.fixture
def nested(build: Any) -> Any:
    """Makes one of the models above and its weights, few of which are large."""

    def make(kind: str, seed: int = 0) -> tuple[Model, Unrolled]:
        rng = np.random.default_rng(seed)
        weights = {}
        for name in ("w1", "b1", "w5"):
            shape = SHAPES[name]
            array = rng.standard_normal(shape) * np.where(rng.random(shape) < 0.02, 20, 1)
            weights[name] = (array / np.sqrt(shape[0] * np.square(array).mean())).astype(np.float32)
        used = {name: array for name, array in NUMBERS.items() if f" {name}" in TEXTS[kind].replace("(", " ")}
        model: Model = build(TEXTS[kind], **weights, **used)
        for node in model.graph.graph.all_nodes():
            node.name = node.outputs[0].name
        return model, Unrolled(weights)

    return make


@pytest.mark.parametrize("kind", TEXTS)
def test_every_run_within_bodies_is_seen(nested: Any, make_context: Any, run_float: Any, kind: str) -> None:
    model, unrolled = nested(kind)
    context = samples(make_context, model, "openvino", 0, 6)
    spots = ["p", ("j", "p"), "y"]
    counts = []
    for feed in context.need_calibration("test").feeds():
        before = len(unrolled.seen["p"])
        expected = unrolled.run(kind, feed["x"])
        probe = with_outputs(model.graph, spots)
        p, j, y = run_float(model.edited(probe), feed).values()
        assert y == pytest.approx(expected, abs=1e-4)
        for got, name in ((p, "p"), (j, "j")):
            arrays = [array for array in got if array.size]
            assert len(arrays) == len(unrolled.seen[name]) - before
            for array, right in zip(arrays, unrolled.seen[name][before:], strict=True):
                assert array == pytest.approx(right, abs=1e-3)
        (size,) = run_float(model.edited(with_sizes(model.graph, ["p"])), feed).values()
        counts.append(len(unrolled.seen["p"]) - before)
        assert size == 4 * 32 * counts[-1]
    assert max(counts) > 1


@pytest.mark.parametrize("how", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("kind", TEXTS)
def test_ranges_are_those_of_the_unrolled_graph(nested: Any, make_context: Any, kind: str, how: str) -> None:
    """The unrolled graph's tensors are one sample's more, each."""
    model, unrolled = nested(kind)
    context = samples(make_context, model, "openvino", 0, 12)
    got = calibrate(model, list(unrolled.seen), observer(how, 95.0), context)
    for feed in context.need_calibration("test").feeds():
        unrolled.run(kind, feed["x"])
    for name, arrays in unrolled.seen.items():
        watch = observer(how, 95.0)
        together = np.concatenate([array.reshape(-1) for array in arrays])
        assert got[name].largest == pytest.approx(together.max(), rel=1e-4)
        assert got[name].smallest == pytest.approx(together.min(), rel=1e-4, abs=1e-6)
        if how == "minmax":
            continue
        state = watch.init()
        for array in arrays:
            state = watch.update(state, array)
        assert (got[name].lows[0], got[name].highs[0]) == pytest.approx(watch.finish(state), rel=0.01, abs=1e-3)
    if how == "percentile":
        assert got["o"].highs < got["o"].largest


@pytest.mark.parametrize("kind", TEXTS)
def test_moments_are_those_of_the_unrolled_graph(nested: Any, make_context: Any, kind: str) -> None:
    model, unrolled = nested(kind)
    context = samples(make_context, model, "openvino", 0, 12)
    fitter, readings = reached(model, "openvino", context)
    assert {"p", "o"} <= readings.keys()
    for feed in context.need_calibration("test").feeds():
        unrolled.run(kind, feed["x"])
    seen = {r.node.name: found for r, found in moments(fitter.graph, [readings["p"], readings["o"]], context)}
    for node, name in (("p", "j"), ("o", "q")):
        together = np.concatenate(unrolled.seen[name])
        assert seen[node].rows == len(together)
        assert seen[node].second[0] == pytest.approx(together.T @ together / len(together), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", TEXTS)
def test_fits_pay_within_bodies(nested: Any, make_context: Any, kind: str) -> None:
    model, _ = nested(kind, 1)
    context = samples(make_context, model, "openvino", 0, 40)
    new = samples(make_context, model, "openvino", 1000, 30)
    options: tuple[dict[str, Any], ...] = ({}, {"rounding": "least-squares"}, {"reconstruct": "on"})
    plain, rounded, refitted = (sqnr(model, Quantize(method="fast", **each)(model, context), new) for each in options)
    assert rounded > plain + 0.5
    assert refitted > plain + 0.5
    fitter, readings = reached(model, "openvino", context)
    fits = fitter.fits(Wanted(bias=True))
    shift = fits[readings["p"].node].shift
    assert shift is not None
    assert np.abs(shift).max() > 0
