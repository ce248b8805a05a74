"""Ifs that do not depend on data are decided; what is decided computes the same, what is not is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from infopt import passes
from infopt.data import infer_batch_axes
from infopt.model import Model, input_specs
from infopt.shapes import narrowed, parse_shape
from infopt_passes.simplify import Simplify

EITHER = "<then_branch = t () => ({then}) {{ {a} }}, else_branch = e () => ({other}) {{ {b} }}>"
SQUEEZED = EITHER.format(then="float[N,8] a", a="a = Squeeze(r, two)", other="float[N,8,S] b", b="b = Identity(r)")
TWO = {"two": np.array([2], np.int64), "one": np.array(1, np.int64), "last": np.array(-1, np.int64)}
ASKED = "s = Shape(r)  g = Gather<axis=0>(s, last)  c = Equal(g, one)"


def run(model: Model, context: Any, *shapes: str) -> Model:
    inputs = infer_batch_axes(input_specs(model.graph), {})
    fixed = narrowed(inputs, [parse_shape(text) for text in shapes]) if shapes else ()
    result = Simplify()(model, replace(context, inputs=fixed))
    onnx.checker.check_model(ir.to_proto(result.graph))
    return result


def count(model: Model, op: str) -> int:
    return Counter(node.op_type for node in model.graph.graph.all_nodes())[op]


def same(run_float: Any, before: Model, after: Model, *shape: int, **more: Any) -> None:
    feed = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32), **more}
    for first, second in zip(run_float(before, feed).values(), run_float(after, feed).values(), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-5)


def doubled(condition: str, x: str = "float[N,8,S] x") -> str:
    """A graph that doubles its input where a condition holds, and halves it elsewhere."""
    branches = EITHER.format(then="float[N,8,S] a", a="a = Add(x, x)", other="float[N,8,S] b", b="b = Div(x, h)")
    return f"({x}) => (float[N,8,S] y) {{ {condition}  y = If(c) {branches} }}"


H = {"h": np.float32(2), "three": np.array(3, np.int64), "eight": np.array(8, np.int64), **TWO}
DECIDED = {
    "a constant": "z = Constant<value_int=1>()  c = Cast<to=9>(z)",
    "a rank": "s = Shape(x)  z = Size(s)  c = Equal(z, three)",
    "a rank that is not so": "s = Shape(x)  z = Size(s)  q = Equal(z, one)  c = Not(q)",
    "a size": "s = Shape(x)  g = Gather<axis=0>(s, one)  c = Equal(g, eight)",
    "a size from behind": "s = Shape(x)  i = Constant<value_int=-2>()  g = Gather<axis=0>(s, i)  c = Less(g, three)",
    "a slice of sizes": "s = Shape(x)  z = Unsqueeze(one, o)  f = Add(z, z)  g = Slice(s, z, f)  q = Squeeze(g) "
    "c = Equal(q, eight)",
    "sizes from an index on": "s = Shape<start=1, end=2>(x)  q = Squeeze(s)  c = Greater(q, three)",
    "a size as a truth": "s = Shape(x)  g = Gather<axis=0>(s, one)  c = Cast<to=9>(g)",
}


@pytest.mark.parametrize("condition", DECIDED.values(), ids=DECIDED)
def test_what_shapes_decide_is_inlined(build: Any, make_context: Any, run_float: Any, condition: str) -> None:
    before = build(doubled(condition), o=np.array([0], np.int64), **H)
    after = run(before, make_context(before))
    assert count(after, "If") == 0
    same(run_float, before, after, 2, 8, 5)


OPEN = {
    "an open size": "s = Shape(x)  g = Gather<axis=0>(s, two0)  c = Equal(g, three)",
    "an open size as a truth": "s = Shape(x)  g = Gather<axis=0>(s, two0)  c = Cast<to=9>(g)",
    "the data": "m = ReduceMax<keepdims=0>(x)  c = Greater(m, h)",
}


@pytest.mark.parametrize("condition", OPEN.values(), ids=OPEN)
def test_what_they_do_not_decide_is_kept(build: Any, make_context: Any, run_float: Any, condition: str) -> None:
    before = build(doubled(condition), two0=np.array(2, np.int64), **H)
    after = run(before, make_context(before))
    assert count(after, "If") == 1
    for size in (1, 3, 0) if "two0" in condition else (1, 30):
        same(run_float, before, after, 2, 8, size)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, None]), min_size=2, max_size=4), st.data())
def test_any_question_about_any_size_is_answered_right(
    build: Any, make_context: Any, run_float: Any, sizes: list[int | None], data: Any
) -> None:
    axis, asked = data.draw(st.integers(-len(sizes), len(sizes) - 1)), data.draw(st.integers(1, 3))
    x = f"float[{','.join(f'D{i}' if size is None else str(size) for i, size in enumerate(sizes))}] x"
    text = doubled("s = Shape(x)  g = Gather<axis=0>(s, k)  c = Equal(g, v)", x).replace("N,8,S", x[6:-3])
    before = build(text, k=np.array(axis, np.int64), v=np.array(asked, np.int64), h=np.float32(2))
    after = run(before, make_context(before))
    assert count(after, "If") == (sizes[axis] is None)
    for size in {1, 3}:
        same(run_float, before, after, *(size if each is None else each for each in sizes))


GEMM = f"(float[N,8,S] x) => (float[N,8] y) {{ r = Relu(x)  {ASKED}  q = If(c) {SQUEEZED}  y = Gemm(q, w) }}"


def test_a_branch_that_every_run_would_fail_over_is_left_out(build: Any, make_context: Any, run_float: Any) -> None:
    before = build(GEMM, w=(8, 8), **TWO)
    after = run(before, make_context(before))
    assert count(after, "If") == 0
    same(run_float, before, after, 3, 8, 1)


def test_a_branch_that_some_runs_get_along_with_is_kept(build: Any, make_context: Any, run_float: Any) -> None:
    """Behind the If, another one asks what it got: both branches have what fits them, one of them fits all."""
    behind = EITHER.format(
        then="float[N,8] f", a="f = Gemm(q, w)", other="float[N,8] v", b="v = ReduceMean<axes=[-1], keepdims=0>(q)"
    )
    text = f"(float[N,8,S] x) => (float[N,8] y) {{ r = Relu(x)  {ASKED}  q = If(c) {SQUEEZED}  y = If(c) {behind} }}"
    before = build(text, infer=False, w=(8, 8), **TWO)
    after = run(before, make_context(before))
    assert count(after, "If") == 2
    same(run_float, before, after, 3, 8, 1)
    same(run_float, before, after, 3, 8, 4)


def test_an_output_of_unknown_rank_may_get_one(build: Any, make_context: Any, run_float: Any) -> None:
    before = build(doubled(DECIDED["a rank"]), infer=False, **H)
    before.graph.graph.outputs[0].shape = None
    after = passes.run(before, (Simplify(),), make_context(before))
    assert count(after, "If") == 0
    same(run_float, before, after, 2, 8, 5)


def test_matmul_takes_either_rank(build: Any, make_context: Any, run_float: Any) -> None:
    before = build(GEMM.replace("Gemm", "MatMul"), w=(8, 8), infer=False, **TWO)
    after = run(before, make_context(before))
    assert count(after, "If") == 1
    same(run_float, before, after, 3, 8, 1)
    same(run_float, before, after, 3, 8, 8)


def test_sizes_that_the_user_fixed_decide_and_are_fixed_in_the_model(
    build: Any, make_context: Any, run_float: Any
) -> None:
    before = build(doubled(OPEN["an open size"]), two0=np.array(2, np.int64), **H)
    after = run(before, make_context(before), "x=1x8x3")
    assert count(after, "If") == 0
    assert after.graph.graph.inputs[0].shape == ir.Shape([1, 8, 3])
    assert [note.why for note in after.notes] == ["If nodes were decided by --shape: it takes x [1,8,3] only"]
    same(run_float, before, after, 1, 8, 3)


def test_a_fixed_size_is_known_wherever_its_name_stands(build: Any, make_context: Any) -> None:
    """Also where no inference leads: behind a Reshape to a shape that is computed."""
    text = doubled("r = Reshape(x, k)  s = Shape(r)  g = Gather<axis=0>(s, two0)  c = Equal(g, three)")
    text = text.replace("float[N,8,S] x", "float[N,8,S] x, int64[3] k")
    before = build(text, two0=np.array(2, np.int64), infer=False, **H)
    value = next(iter(before.graph.graph)).outputs[0]
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["N", 8, "S"])
    assert count(run(before, make_context(before)), "If") == 1
    assert count(run(before, make_context(before), "x=1x8x3"), "If") == 0


def test_a_batch_that_the_user_fixed_stays_open_for_calibration(build: Any, make_context: Any, run_float: Any) -> None:
    before = build(doubled(OPEN["an open size"]), two0=np.array(2, np.int64), **H)
    after = run(before, make_context(before), "x=4x8x5")
    assert after.graph.graph.inputs[0].shape == ir.Shape(["N", 8, 5])
    same(run_float, before, after, 2, 8, 5)


def test_sizes_are_left_open_where_they_decide_nothing(build: Any, make_context: Any) -> None:
    before = build(doubled(OPEN["the data"]), **H)
    after = run(before, make_context(before), "x=1x8x3")
    assert after.graph.graph.inputs[0].shape == ir.Shape(["N", 8, "S"])
    assert not after.notes


def test_bodies_that_used_the_same_names_can_be_inlined_side_by_side(
    build: Any, make_context: Any, run_float: Any
) -> None:
    either = EITHER.format(then="float[N,8] a", a="m = Relu(x)  a = Add(m, x)", other="float[N,8] b", b="b = Neg(x)")
    text = f"""(float[N,8] x) => (float[N,8] y) {{ s = Shape(x)  z = Size(s)  c = Equal(z, k)
        u = If(c) {either}  v = If(c) {either.replace("Relu", "Sin")}  y = Sub(u, v) }}"""
    before = build(text, k=np.array(2, np.int64))
    after = run(before, make_context(before))
    assert count(after, "If") == 0
    same(run_float, before, after, 2, 8)


def test_nested_ifs_are_decided_inside_of_one_that_is_not(build: Any, make_context: Any, run_float: Any) -> None:
    inner = EITHER.format(then="float[N,8,S] p", a="p = Sin(x)", other="float[N,8,S] q", b="q = Cos(x)")
    text = f"""(float[N,8,S] x, bool k) => (float[N,8,S] y) {{ y = If(k) <then_branch = t () => (float[N,8,S] a) {{
        s = Shape(x)  g = Gather<axis=0>(s, one)  c = Equal(g, eight)  i = If(c) {inner}  a = Add(i, x) }},
        else_branch = e () => (float[N,8,S] b) {{ b = Neg(x) }}> }}"""
    before = build(text, **H)
    after = run(before, make_context(before))
    assert (count(after, "If"), count(after, "Cos")) == (1, 0)
    for way in (True, False):
        same(run_float, before, after, 2, 8, 3, k=np.array(way))


def test_functions_are_inlined_with_their_attributes(make_context: Any, run_float: Any) -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[2,8] x) => (float[2,8] y) { a = own.outer<slope=0.3>(x)  y = own.outer<slope=0.5>(a) }
        <domain: "own", opset_import: ["" : 17, "own" : 1]>
        outer <slope> (v) => (w) { u = own.inner<alpha: float = @slope>(v)  w = Add(u, v) }
        <domain: "own", opset_import: ["" : 17]>
        inner <alpha> (v) => (w) { u = Neg(v)  w = LeakyRelu<alpha: float = @alpha>(u) }""")
    before = Model(ir.from_proto(proto), Path("model.onnx"))
    after = run(before, make_context(before))
    assert not after.graph.functions
    assert count(after, "LeakyRelu") == 2
    same(run_float, before, after, 2, 8)


def test_pad_widths_become_constants_and_large_fills_do_not(build: Any, make_context: Any) -> None:
    text = """(float[N,8] x) => (float[N,12] y, float[64,64] z) { p = ConstantOfShape(four)  q = Concat<axis=0>(p, u)
        e = Cast<to=7>(p)  r = Concat<axis=0>(e, u)  y = Pad(x, r)  z = ConstantOfShape(big) }"""
    before = build(text.replace("q = Concat<axis=0>(p, u)", ""), four=np.array([2], np.int64),
                   u=np.array([0, 4], np.int64), big=np.array([64, 64], np.int64))  # fmt: skip
    after = run(before, make_context(before))
    assert sorted(node.op_type for node in after.graph.graph) == ["ConstantOfShape", "Pad"]


def test_the_step_of_a_slice_without_axes_is_its_step(build: Any, make_context: Any, run_float: Any) -> None:
    model = build(
        """(float[N,4,6] x) => (int64[K] y, float[N,4,6] z) {
            s = Shape(x)  p = Slice(s, start, end, , step)  y = Concat<axis=0>(p, p)  u = Gather<axis=0>(s, zero)
            c = Equal(u, one)
            z = If(c) <then_branch = t () => (float[N,4,6] a) { a = Relu(x) },
                       else_branch = e () => (float[N,4,6] b) { b = Neg(x) }> }""",
        **{name: np.array([n], np.int64) for name, n in {"start": 2, "end": 0, "step": -1}.items()},
        zero=np.array(0, np.int64),
        one=np.array(1, np.int64),
    )
    feed = {"x": np.ones((3, 4, 6), np.float32)}
    found = run_float(run(model, make_context(model, "onnxruntime")), feed)
    assert found["y"].tolist() == run_float(model, feed)["y"].tolist() == [6, 4, 6, 4]


def test_branches_may_use_the_same_names(build: Any, make_context: Any, run_float: Any) -> None:
    inner = "s = Shape(x)  g = Gather<axis=0>(s, {at})  f = Cast<to=1>(g)"
    model = build(
        f"""(float[N,4,6] x, bool c) => (float[N,4,6] z) {{
            z = If(c) <then_branch = t () => (float[N,4,6] a) {{ {inner.format(at="one")}  a = Mul(x, f) }},
                       else_branch = e () => (float[N,4,6] b) {{ {inner.format(at="two")}  b = Mul(x, f) }}> }}""",
        one=np.array(1, np.int64),
        two=np.array(2, np.int64),
    )
    result = run(model, make_context(model, "onnxruntime"))
    for way, factor in ((True, 4), (False, 6)):
        feed = {"x": np.ones((2, 4, 6), np.float32), "c": np.array(way)}
        assert np.all(run_float(result, feed)["z"] == factor)
