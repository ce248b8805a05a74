"""A Scan written as a Loop gives what it gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.bodies import name_apart
from infopt.scans import as_loop

WHOLE = """(float[5,4,3] x, float[4,5] w, float[3] s) => (float[3] z, {y} y, {q} q) {{
    z, y, q = Scan<num_scan_inputs=2, scan_input_axes=[0, {axis}], scan_input_directions=[{one}, {other}],
                   scan_output_axes=[{first}, {second}], scan_output_directions=[{third}, {fourth}],
        body = l (float[3] h, float[4,3] v, float[4] u) => (float[3] g, float[3] o, float[3] p) {{
            m = MatMul(u, v)  g = Add(h, m)  o = Neg(g)  p = Add(m, s) }}>(s, x, w) }}"""
SHAPES = ("float[5,3]", "float[3,5]")


def rewritten(model: Any) -> Any:
    """The model with Loops in place of all Scans, inner ones last."""
    clone = model.graph.clone()
    name_apart(clone.graph)
    while scans := [node for node in clone.graph.all_nodes() if node.op_type == "Scan"]:
        as_loop(scans[0])
    return model.edited(clone)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        (one[n] == other[n]).all() and one[n].shape == other[n].shape for n in one
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(bits=st.lists(st.integers(0, 1), min_size=6, max_size=6), axis=st.sampled_from([1, -1]))
def test_any_axes_and_directions_give_the_same(build: Any, run_float: Any, bits: list[int], axis: int) -> None:
    one, other, first, second, third, fourth = bits
    text = WHOLE.format(
        y=SHAPES[first], q=SHAPES[second], axis=axis, one=one, other=other, first=first, second=second,
        third=third, fourth=fourth,
    )  # fmt: skip
    sizes: list[Any] = [(5, 4, 3), (4, 5), 3]
    model, rng = build(text), np.random.default_rng(sum(bits))
    feed = {name: rng.standard_normal(size).astype(np.float32) for name, size in zip("xws", sizes, strict=True)}
    result = rewritten(model)
    onnx.checker.check_model(ir.to_proto(result.graph))
    assert same(run_float(model, feed), run_float(result, feed))


@pytest.mark.parametrize("infer", [True, False])
def test_a_scan_in_a_scan_in_a_branch_gives_the_same(build: Any, run_float: Any, infer: bool) -> None:
    """The inner one reads from around all bodies, and its results are those of the bodies around it."""
    text = """(float[T,3,2] x, bool c) => (float[2] z, float[T,3,2] y) { s = ReduceSum<keepdims=0>(x, axes)
        z, y = If(c) <then_branch = t () => (float[2] a, float[T,3,2] b) {
            a, b = Scan<num_scan_inputs=1, body = o (float[2] h, float[3,2] v) => (float[2] g, float[3,2] d) {
                g, d = Scan<num_scan_inputs=1, scan_input_directions=[1], scan_output_directions=[1],
                    body = i (float[2] k, float[2] e) => (float[2] j, float[2] f) {
                    j = Add(k, e)  f = Mul(j, s) }>(h, v) }>(s, x) },
        else_branch = n () => (float[2] a2, float[T,3,2] b2) { a2 = Neg(s)  b2 = Abs(x) }> }"""
    model = build(text, infer=infer, axes=np.array([0, 1]))
    result = rewritten(model)
    assert sum(node.op_type == "Loop" for node in result.graph.graph.all_nodes()) == 2
    for taken in (True, False):
        feed = {"x": np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32), "c": np.array(taken)}
        assert same(run_float(model, feed), run_float(result, feed))


def test_a_scan_without_a_state_and_one_without_an_output_give_the_same(build: Any, run_float: Any) -> None:
    text = """(float[4,2] x, float[2] s) => (float[4,2] y, float[2] z) {
        y = Scan<num_scan_inputs=1, body = l (float[2] v) => (float[2] o) { o = Exp(v) }>(x)
        z = Scan<num_scan_inputs=1, body = m (float[2] h, float[2] u) => (float[2] g) { g = Sub(h, u) }>(s, x) }"""
    model = build(text)
    feed = {"x": np.arange(8, dtype=np.float32).reshape(4, 2), "s": np.ones(2, np.float32)}
    assert same(run_float(model, feed), run_float(rewritten(model), feed))
