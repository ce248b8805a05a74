from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from infopt.bodies import bodies
from infopt.errors import OptionError
from infopt.target import Output, Role, Rule, Scheme, Table
from infopt.targets.conditions import runtime_weight
from infopt.targets.onnxruntime import TABLE as ORT
from infopt.targets.openvino import TABLE as OV
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.flow import absorbed
from infopt_passes.quantize.plan import Plan, make_plan

if TYPE_CHECKING:
    from infopt.model import Model

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
X = "(float[N,4,8,8] x) => (float[N,4,8,8] y)"
W = {"w1": (4, 4, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (4, 4, 3, 3), "b3": (4,)}
"""Weights of up to three convolutions of four channels."""

RESIDUAL = Table(
    activation=Scheme("int8", symmetric=True),
    weight=Scheme("int8", symmetric=True, per_channel=True, narrow=True),
    bias="float",
    rules=(
        Rule(("Conv", "MatMul"), Role.COMPUTE, Output.WANTED, (runtime_weight,)),
        Rule(("Add",), Role.RESIDUAL),
        Rule(("MaxPool", "Reshape"), Role.MOVE),
        Rule(("Concat",), Role.JOIN, shared=True),
    ),
    absorbs=frozenset(),
)
"""A target that fuses Add into the convolution before it, and joins with one scale."""


def planned(model: Model, table: Table, *keep: str) -> Plan:
    return make_plan(model.graph.graph, model.opset, table, keep)


def tensors(plan: Plan) -> set[str]:
    """Names of the quantized tensors."""
    return {value.name or "" for value in plan.edges}


def reads(plan: Plan, tensor: str) -> set[tuple[str, int]]:
    """Who reads a tensor's integers, when not all do."""
    value = next(value for value in plan.edges if value.name == tensor)
    return {(node.name or "", index) for node, index in plan.edges[value]}


def whole(plan: Plan) -> set[str]:
    """Names of the tensors that everybody reads through Q/DQ."""
    return {value.name or "" for value in plan.whole}


def integers(plan: Plan) -> list[str]:
    """Names of the nodes that run as integers."""
    return sorted(node.name or "" for node in plan.integer)


def kept(plan: Plan) -> dict[str, str]:
    """Names of the compute nodes that stay in float, with the reason."""
    return {node.name or "": why for node, why in plan.kept.items()}


def scales(plan: Plan) -> list[set[str]]:
    """Tensors that share a scale."""
    return [names for group in plan.groups() if len(names := {value.name or "" for value in group}) > 1]


def only(names: str) -> dict[str, Any]:
    """Some of the weights."""
    return {name: W[name] for name in names.split()}


# --- convolutions and what they absorb ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "found"), [(ORT, {"x", "y"}), (OV, {"x"}), (RESIDUAL, {"x"})], ids=["ort", "ov", "r"]
)
def test_a_convolutions_output_is_quantized_only_where_the_table_says_always(
    build: Any, table: Table, found: set[str]
) -> None:
    plan = planned(build(f"{X} {{ y = {CONV}(x, w1, b1) }}", **only("w1 b1")), table)
    assert tensors(plan) == found
    assert integers(plan) == ["y"]
    assert reads(plan, "x") == {("y", 0)}
    assert whole(plan) == found - {"x"}


@pytest.mark.parametrize("activation", ["Relu(a)", "Clip(a, lo, hi)"])
@pytest.mark.parametrize("table", [ORT, OV], ids=["ort", "ov"])
def test_an_activation_is_absorbed_into_the_range_behind_it(build: Any, activation: str, table: Table) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  r = {activation}  y = {CONV}(r, w2, b2) }}"
    plan = planned(build(text, lo=np.float32(0), hi=np.float32(6), **only("w1 b1 w2 b2")), table)
    assert "a" not in tensors(plan)
    assert {"x", "r"} <= tensors(plan)


def test_a_chain_of_activations_is_absorbed(build: Any) -> None:
    model = build(
        f"{X} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  c = Clip(r, lo)  y = Relu(c) }}", lo=np.float32(0), **only("w1 b1")
    )
    conv = next(iter(model.graph.graph))
    assert absorbed(conv.outputs[0], ORT).name == "y"
    assert absorbed(conv.outputs[0], RESIDUAL).name == "a"


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("r = Relu(a)  y = Add(r, a)", "y"),
        ("y = Relu(a)", "y, float[N,4,8,8] a"),
        ("y = Clip(a, bound)", "y"),
        ("y = Sigmoid(a)", "y"),
    ],
    ids=["read twice", "is an output", "computed bound", "another activation"],
)
def test_an_activation_that_cannot_vanish_is_not_absorbed(build: Any, body: str, outputs: str) -> None:
    text = f"(float[N,4,8,8] x, float bound) => (float[N,4,8,8] {outputs}) {{ a = {CONV}(x, w1, b1)  {body} }}"
    plan = planned(build(text, **only("w1 b1")), ORT)
    assert whole(plan) == {"a"}


def test_a_constant_that_is_no_initializer_is_lifted_first(build: Any, make_context: Any) -> None:
    text = "(float[N,2] x) => (float[N,2] y) { w = Constant<value = float[2,2] {1., 2., 3., 4.}>()  y = MatMul(x, w) }"
    model = build(text)
    assert list(kept(planned(model, ORT))) == ["y"]
    assert Quantize(method="fast")(model, make_context(model, "onnxruntime")).notes == ()


# --- what stays in float, and why -----------------------------------------------------------------------------


ATTENTION = """(float[N,6,8] x) => (float[N,6,8] y) {
    q = MatMul(x, wq)  k = MatMul(x, wk)  t = Transpose<perm=[0,2,1]>(k)  s = MatMul(q, t)
    p = Softmax<axis=-1>(s)  v = MatMul(x, wv)  o = MatMul(p, v)  y = MatMul(o, wo) }"""


@pytest.mark.parametrize("table", [ORT, OV], ids=["ort", "ov"])
def test_a_product_of_two_activations_stays_in_float(build: Any, table: Table) -> None:
    plan = planned(build(ATTENTION, **dict.fromkeys(["wq", "wk", "wv", "wo"], (8, 8))), table)
    assert integers(plan) == ["k", "q", "v", "y"]
    assert tensors(plan) == {"x", "o"}
    assert list(kept(plan)) == ["s", "o"]
    assert all("at run time" in why for why in kept(plan).values())


def test_a_product_of_two_activations_runs_in_integers_where_the_table_says_so(build: Any) -> None:
    signed = Scheme("int8", symmetric=True, unsigned=True)
    computed = Rule(("MatMul",), Role.COMPUTE, activation=signed, computed=True)
    table = replace(OV, rules=(computed, *(rule for rule in OV.rules if not rule.computed)))
    plan = planned(build(ATTENTION, **dict.fromkeys(["wq", "wk", "wv", "wo"], (8, 8))), table)
    assert integers(plan) == ["k", "o", "q", "s", "t", "v", "y"]
    assert tensors(plan) == {"x", "q", "k", "p", "v", "o"}
    wishes = {value.name for value, scheme in plan.schemes.items() if scheme is signed}
    assert wishes >= {"q", "k", "p", "v"}
    assert not {"x", "o"} & wishes


def test_a_products_output_is_quantized_only_if_it_is_wanted(build: Any) -> None:
    text = "(float[N,8] x) => (float[N,8] y) { h = MatMul(x, w)  s = Softmax(h)  g = MatMul(s, v)  y = MatMul(g, u) }"
    plan = planned(build(text, w=(8, 8), v=(8, 8), u=(8, 8)), ORT)
    assert tensors(plan) == {"x", "s", "g"}
    assert whole(plan) == set()


@pytest.mark.parametrize(
    ("text", "weights", "why"),
    [
        ("(float[N,4,8] x) => (float[N,4,8] y) { y = MatMul(x, w) }", {"w": (4, 8, 8)}, "its weight has 3 axes"),
        ("(float[N,8] x) => (float[N] y) { y = MatMul(x, w) }", {"w": (8,)}, "its weight has 1 axes"),
        ("(float[8,N] x) => (float[8,N] y) { y = MatMul(w, x) }", {"w": (8, 8)}, "its second operand is computed"),
        ("(float[8,8] x) => (float[8,8] y) { y = Gemm<alpha=0.5>(x, w) }", {"w": (8, 8)}, "its alpha or beta is not 1"),
        ("(float[8,8] x) => (float[8,8] y) { y = Gemm<transA=1>(x, w) }", {"w": (8, 8)}, "its input is transposed"),
        ("(float[4,8] x) => (float[4,8] y) { y = Gemm(x, w, b) }", {"w": (8, 8), "b": (4, 8)}, "has the shape 4x8"),
        ("(float[8,8] x) => (float[8,8] y) { y = Gemm(x, w, b) }", {"w": (8, 8), "b": (8, 1)}, "has the shape 8x1"),
        ("(float[N,8] x, float[8] b) => (float[N,8] y) { y = Gemm(x, w, b) }", {"w": (8, 8)}, "its bias is computed"),
        ("(double[N,8] x) => (double[N,8] y) { y = MatMul(x, w) }", {"w": np.eye(8)}, "its input is double"),
    ],
    ids="stack vector constant-first alpha transposed bias-of-rows bias-of-a-column bias-fed double".split(),
)  # fmt: skip
def test_what_integer_kernels_cannot_do_stays_in_float_with_the_reason(
    build: Any, text: str, weights: dict[str, Any], why: str
) -> None:
    plan = planned(build(text, **weights), ORT)
    assert tensors(plan) == set()
    assert why in kept(plan)["y"]


@pytest.mark.parametrize("bias", [(), (1,), (8,), (1, 8), (1, 1)], ids=str)
def test_a_gemms_bias_may_be_anything_that_is_one_number_per_channel(build: Any, bias: tuple[int, ...]) -> None:
    model = build("(float[N,8] x) => (float[N,8] y) { y = Gemm(x, w, b) }", w=(8, 8), b=bias)
    assert integers(planned(model, ORT)) == ["y"]


def test_half_precision_is_seen_by_the_weight_where_shapes_are_not_inferred(build: Any) -> None:
    text = "(float[N,8] x) => (float16[N,8] y) { h = Cast<to=10>(x)  y = MatMul(h, w) }"
    plan = planned(build(text, infer=False, w=np.eye(8, dtype=np.float16)), ORT)
    assert kept(plan) == {"y": "its input is float16, not float32"}


def test_a_node_that_the_user_keeps_stays_in_float(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  y = {CONV}(r, w2, b2) }}"
    plan = planned(build(text, **only("w1 b1 w2 b2")), ORT, "a")
    assert kept(plan) == {"a": "kept in float by --keep-float"}
    assert tensors(plan) == {"r", "y"}


def test_a_follower_that_the_user_keeps_stays_in_float(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  c = {CONV}(x, w2, b2)  s = Add(a, c)  y = {CONV}(s, w3, b3) }}"
    assert "s" not in integers(planned(build(text, **W), ORT, "s"))
    assert "s" in integers(planned(build(text, **W), ORT))


def test_a_name_to_keep_that_is_not_there_is_named(build: Any, make_context: Any) -> None:
    model = build(f"{X} {{ first = {CONV}(x, w1, b1)  y = Relu(first) }}", **only("w1 b1"))
    with pytest.raises(OptionError, match=r"unknown node 'frist'; did you mean 'first'\?"):
        Quantize(method="fast", keep_float=("frist",))(model, make_context(model, "onnxruntime"))


def test_layers_in_bodies_are_planned_where_the_runtime_and_the_samples_run_them(build: Any) -> None:
    text = """(bool c, float[N,4] x) => (float[N,2] y) {
        y = If (c) <
            then_branch = t () => (float[N,2] u) { u = MatMul(x, w) },
            else_branch = e () => (float[N,2] z) { z = MatMul(x, w) }>
    }"""
    model = build(text, w=(4, 2))
    inner = {each.name: each.graph for each in bodies(model.graph.graph)}
    plan = planned(model, ORT)
    assert {node.graph for node in plan.integer} == set(inner.values())
    idle = make_plan(model.graph.graph, model.opset, ORT, (), {inner["else_branch"]})
    assert {node.graph for node in idle.integer} == {inner["then_branch"]}
    assert list(idle.kept.values()) == ["it is in the else_branch, which calibration never ran"]
    without = planned(model, replace(ORT, bodies=frozenset()))
    assert not without.integer
    assert list(without.kept.values()) == ["it is in the body of If, which the runtime computes in float"] * 2


def test_operators_of_other_domains_are_left_alone(build: Any) -> None:
    text = "(float[N,8] x) => (float[N,8] y) { y = com.microsoft.MatMul(x, w) }"
    assert tensors(planned(build(text, infer=False, w=(8, 8)), ORT)) == set()


def test_a_row_holds_from_its_opset_on(build: Any) -> None:
    text = (
        "(float[N,4,8,8] x) => (float[N,4,4,4] y)"
        f" {{ a = {CONV}(x, w1, b1)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)  y = {CONV}(p, w2, b2) }}"
    )
    model = build(text, **only("w1 b1 w2 b2"))
    assert "p" in integers(make_plan(model.graph.graph, 12, ORT, ()))
    assert "p" not in integers(make_plan(model.graph.graph, 11, ORT, ()))


# --- what follows ---------------------------------------------------------------------------------------------

BLOCK = f"""{X} {{
    a = {CONV}(x, w1, b1)  r = Relu(a)  c = {CONV}(r, w2, b2)  s = Add(c, r)  t = Relu(s)  y = {CONV}(t, w3, b3) }}"""


@pytest.mark.parametrize("table", [ORT, OV], ids=["ort", "ov"])
def test_both_inputs_of_a_residual_add_are_quantized(build: Any, table: Table) -> None:
    plan = planned(build(BLOCK, **W), table)
    assert integers(plan) == ["a", "c", "s", "y"]
    assert {"x", "r", "c", "t"} <= tensors(plan)
    assert ("s", 0) in reads(plan, "c")
    assert {("s", 1), ("c", 0)} <= reads(plan, "r")


def test_only_the_skip_input_of_a_residual_add_is_quantized_where_add_fuses(build: Any) -> None:
    plan = planned(build(BLOCK, **W), RESIDUAL)
    assert tensors(plan) == {"x", "r", "t"}
    assert reads(plan, "r") == {("c", 0), ("s", 1)}


def test_where_both_sides_could_fuse_the_first_keeps_its_fusion(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  c = {CONV}(x, w2, b2)  s = Add(a, c)  y = {CONV}(s, w3, b3) }}"
    assert tensors(planned(build(text, **W), RESIDUAL)) == {"x", "c", "s"}


SILU = f"a = {CONV}(x, w1, b1)  g = Sigmoid(a)  h = Mul(a, g)"
GELU = f"a = {CONV}(x, w1, b1)  d = Div(a, two)  e = Erf(d)  f = Add(e, one)  g = Mul(a, f)  h = Mul(g, half)"
NUMBERS = {"two": np.float32(1.414), "one": np.float32(1), "half": np.float32(0.5)}


@pytest.mark.parametrize("activation", [SILU, GELU], ids=["silu", "gelu"])
def test_what_runs_in_a_compute_nodes_kernel_is_on_offer_as_its_own_output(build: Any, activation: str) -> None:
    text = f"{X} {{ {activation}  c = {CONV}(h, w2, b2)  s = Add(c, h)  y = {CONV}(s, w3, b3) }}"
    weights = W | (NUMBERS if activation is GELU else {})
    plan = planned(build(text, **weights), OV)
    assert integers(plan) == ["a", "c", "s", "y"]
    assert tensors(plan) == {"x", "h", "c", "s"}
    assert reads(plan, "h") == {("c", 0), ("s", 1)}


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        (f"a = {CONV}(x, w1, b1)  h = Tanh(a)  z = Exp(a)", "y, z"),
        (f"a = {CONV}(x, w1, b1)  z = Tanh(a)  h = Tanh(z)", "y, z"),
        (f"a = {CONV}(x, w1, b1)  h = Mul(a, x)", "y"),
        (f"a = {CONV}(x, w1, b1)  h = Exp(a)", "y"),
    ],
    ids=["read elsewhere", "an output on the way", "of two tensors", "not fused"],
)
def test_what_cannot_run_in_a_compute_nodes_kernel_is_not_on_offer(build: Any, text: str, outputs: str) -> None:
    head = X.replace("y)", f"{outputs})").replace("y, z", "y, float[N,4,8,8] z")
    model = build(f"{head} {{ {text}  c = {CONV}(x, w2, b2)  s = Add(h, c)  y = {CONV}(s, w3, b3) }}", **W)
    no_gate = replace(OV, rules=tuple(rule for rule in OV.rules if "Mul" not in rule.ops))
    assert "s" not in integers(planned(model, no_gate))


def test_an_add_fuses_into_a_compute_node_and_into_no_other(build: Any) -> None:
    text = (
        "(float[N,4,8,8] x) => (float[N,4,8,8] y) { r = Reshape(x, k)  "
        f"a = {CONV}(x, w1, b1)  s = Add(r, a)  p = Reshape(x, k)  y = {CONV}(s, w2, b2) }}"
    )
    plan = planned(build(text, k=np.int64([0, 4, 8, 8]), **only("w1 b1 w2 b2")), RESIDUAL)
    assert tensors(plan) == {"x", "r", "s"}


@pytest.mark.parametrize("epilogue", [False, True])
def test_a_residual_sum_is_seen_through_the_gate_that_ends_its_convolution(build: Any, epilogue: bool) -> None:
    text = f"""{X} {{ r = {CONV}(x, w1, b1)  a = {CONV}(r, w2, b2)  g = Sigmoid(a)  m = Mul(a, g)
        s = Add(r, m)  y = {CONV}(s, w3, b3) }}"""
    gate = Rule(("Sigmoid", "Mul"), Role.FLOAT, epilogue=epilogue, why="ends the kernel")
    plan = planned(build(text, **W), replace(RESIDUAL, rules=(*RESIDUAL.rules, gate)))
    assert reads(plan, "r") == {("a", 0), ("s", 0)} if epilogue else {("a", 0)}
    assert "m" not in tensors(plan)


def test_a_sum_with_a_matrix_product_has_no_skip_input(build: Any) -> None:
    text = "(float[N,4] x) => (float[N,4] y) { a = MatMul(x, k)  s = Add(a, x)  y = MatMul(s, m) }"
    plan = planned(build(text, k=(4, 4), m=(4, 4)), RESIDUAL)
    assert integers(plan) == ["a", "y"]
    assert reads(plan, "x") == {("a", 0)}


def test_an_add_without_a_fusing_side_stays_in_float(build: Any) -> None:
    text = f"{X} {{ e = Exp(x)  s = Add(e, x)  y = {CONV}(s, w1, b1) }}"
    for table in (ORT, OV, RESIDUAL):
        assert integers(planned(build(text, **only("w1 b1")), table)) == ["y"]


def test_an_add_that_is_an_output_keeps_its_precision(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  c = {CONV}(x, w2, b2)  y = Add(a, c) }}"
    assert integers(planned(build(text, **only("w1 b1 w2 b2")), ORT)) == ["a", "c"]


def test_scores_behind_the_last_layer_keep_their_digits(build: Any) -> None:
    """In integers, a detector's scores below 1/510 would be 0."""
    tail = build(f"{X} {{ a = {CONV}(x, w1, b1)  s = Sigmoid(a)  y = Concat<axis=1>(s, x) }}", **only("w1 b1"))
    assert tensors(planned(tail, ORT)) == {"x", "a"}
    inner = build(f"{X} {{ a = {CONV}(x, w1, b1)  s = Sigmoid(a)  y = {CONV}(s, w2, b2) }}", **only("w1 b1 w2 b2"))
    assert tensors(planned(inner, ORT)) == {"x", "a", "s", "y"}


def test_a_follower_whose_integers_nobody_wants_stays_in_float(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  c = {CONV}(x, w2, b2)  s = Add(a, c)  y = Exp(s) }}"
    model = build(text, **only("w1 b1 w2 b2"))
    assert tensors(planned(model, OV)) == {"x"}
    assert tensors(planned(model, ORT)) == {"x", "a", "c"}


def test_an_output_on_offer_is_taken_by_a_follower_that_is_wanted(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  c = {CONV}(x, w2, b2)  s = Add(a, c)  y = {CONV}(s, w3, b3) }}"
    model = build(text, **W)
    assert tensors(planned(model, OV)) == {"x", "a", "c", "s"}
    wanted = replace(OV, rules=tuple(replace(rule, output=Output.WANTED) for rule in OV.rules))
    assert tensors(planned(model, wanted)) == {"x", "s"}


def test_an_offer_reaches_through_an_absorbed_activation(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  p = Relu(a)  c = {CONV}(x, w2, b2)  s = Add(p, c)  y = {CONV}(s, w3, b3) }}"
    assert tensors(planned(build(text, **W), OV)) == {"x", "p", "c", "s"}


VIT = f"""(float[N,4,8,8] x, float[N,1,4] cls) => (float[N,65,4] y) {{
    a = {CONV}(x, w1, b1)  r = Reshape(a, k)  t = Transpose<perm=[0,2,1]>(r)  j = Concat<axis=1>(cls, t)
    n = LayerNormalization<axis=-1>(j, g)  y = MatMul(n, m) }}"""


def test_nothing_is_quantized_behind_a_convolution_whose_integers_lead_nowhere(build: Any) -> None:
    weights = {"k": np.int64([0, 4, 64]), "g": (4,), "m": (4, 4), **only("w1 b1")}
    model = build(VIT, **weights)
    assert tensors(planned(model, OV)) == {"x", "n"}
    assert tensors(planned(model, ORT)) == {"x", "a", "n"}


def test_a_gate_follows_with_both_operands(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  g = Sigmoid(a)  s = Mul(a, g)  y = {CONV}(s, w2, b2) }}"
    plan = planned(build(text, **only("w1 b1 w2 b2")), ORT)
    assert integers(plan) == ["a", "g", "s", "y"]
    assert tensors(plan) == {"x", "a", "g", "s", "y"}


SQUEEZE = f"""{X} {{ a = {CONV}(x, w1, b1)  p = GlobalAveragePool(a)  h = Exp(p)  s = Mul(a, h)
    y = {CONV}(s, w2, b2) }}"""


def test_a_gate_that_is_broadcast_is_spared(build: Any) -> None:
    plan = planned(build(SQUEEZE, **only("w1 b1 w2 b2")), OV)
    assert integers(plan) == ["a", "s", "y"]
    assert tensors(plan) == {"x", "a", "s"}
    assert reads(plan, "a") == {("s", 0)}


def test_a_gate_of_unknown_size_is_not_spared(build: Any) -> None:
    assert integers(planned(build(SQUEEZE, infer=False, **only("w1 b1 w2 b2")), OV)) == ["a", "y"]


def test_a_follower_is_wanted_by_the_follower_behind_it(build: Any) -> None:
    text = f"""(float[N,4,8,8] x) => (float[N,4,1,1] y) {{ a = {CONV}(x, w1, b1)  c = {CONV}(a, w2, b2)  s = Add(c, a)
        p = GlobalAveragePool(s)  y = Conv(p, w, b3) }}"""
    plan = planned(build(text, w=(4, 4, 1, 1), **only("w1 b1 w2 b2 b3")), OV)
    assert integers(plan) == ["a", "c", "p", "s", "y"]
    assert tensors(plan) == {"x", "a", "c", "s", "p"}


# --- movers and joins -----------------------------------------------------------------------------------------

POOL = "MaxPool<kernel_shape=[2,2], strides=[2,2]>"


@pytest.mark.parametrize("table", [ORT, RESIDUAL], ids=["ort", "r"])
def test_a_mover_shares_its_scale_with_its_input(build: Any, table: Table) -> None:
    text = f"""(float[N,4,8,8] x) => (float[N,4,4,4] y) {{
        p = {POOL}(x)  q = Reshape(p, k)  z = {CONV}(x, w1)  u = {CONV}(q, w2)  y = Exp(u) }}"""
    plan = planned(build(text, k=np.int64([0, 4, 4, 4]), **only("w1 w2")), table)
    assert {"p", "q"} <= set(integers(plan))
    assert scales(plan) == [{"x", "p", "q"}]


def test_nothing_is_quantized_behind_a_mover_that_carries_the_scale(build: Any) -> None:
    text = f"""(float[N,4,8,8] x) => (float[N,4,4,4] y) {{
        p = {POOL}(x)  q = Reshape(p, k)  z = {CONV}(x, w1)  u = {CONV}(q, w2)  y = Exp(u) }}"""
    plan = planned(build(text, k=np.int64([0, 4, 4, 4]), **only("w1 w2")), OV)
    assert integers(plan) == ["p", "q", "u", "z"]
    assert tensors(plan) == {"x"}


def test_a_scale_is_shared_through_what_carries_it(build: Any) -> None:
    text = f"""{X} {{ a = {CONV}(x, w1, b1)  p = Transpose<perm=[0,1,3,2]>(a)  c = {CONV}(x, w2, b2)
        j = Concat<axis=1>(p, c)  q = Reshape(j, k)  y = {CONV}(q, w3, b3) }}"""
    plan = planned(build(text, k=np.int64([0, 8, 8, 8]), **WIDE), OV)
    assert integers(plan) == ["a", "c", "j", "p", "q", "y"]
    assert tensors(plan) == {"x", "a", "c"}
    assert scales(plan) == [{"a", "c"}]


def test_a_wish_for_a_scheme_reaches_the_tensor_that_a_carried_scale_comes_from(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  p = Reshape(a, k)  y = ConvTranspose<pads=[1,1,1,1]>(p, w2, b2) }}"
    plan = planned(build(text, k=np.int64([0, 4, 8, 8]), **only("w1 b1 w2 b2")), OV)
    assert {value.name: scheme.dtype for value, scheme in plan.schemes.items() if value in plan.edges} == {"a": "int8"}


def test_of_two_wishes_for_a_scheme_that_of_the_first_row_is_granted(build: Any) -> None:
    text = f"""{X} {{ a = {CONV}(x, w1, b1)  c = {CONV}(x, w2, b2)  j = Concat<axis=1>(a, c)  m = Mul(a, c)
        d = {CONV}(j, w3, b3)  e = {CONV}(m, w1, b1)  y = Add(d, e) }}"""
    model = build(text, **WIDE)
    dtypes = {value.name: scheme.dtype for value, scheme in planned(model, OV).schemes.items()}
    assert dtypes == {"a": "uint8", "c": "uint8", "j": "uint8"}
    turned = replace(OV, rules=OV.rules[::-1])
    dtypes = {value.name: scheme.dtype for value, scheme in planned(model, turned).schemes.items()}
    assert dtypes == {"a": "int8", "c": "int8", "j": "int8"}


def test_an_activation_behind_a_join_takes_the_pair_behind_it(build: Any) -> None:
    text = JOIN.replace("j = ", "_j = ").replace(f"y = {CONV}", f"j = Relu(_j)  y = {CONV}")
    assert tensors(planned(build(text, **WIDE), OV)) == {"x", "j"}


def test_a_mover_whose_input_is_float_is_left_alone(build: Any) -> None:
    text = f"{X} {{ e = Exp(x)  p = Reshape(e, k)  y = {CONV}(p, w1, b1) }}"
    plan = planned(build(text, k=np.int64([0, 4, 8, 8]), **only("w1 b1")), ORT)
    assert tensors(plan) == {"p", "y"}


def test_a_mover_whose_output_nobody_wants_in_integers_is_left_alone(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  p = Reshape(a, k)  y = Exp(p) }}"
    plan = planned(build(text, k=np.int64([0, 4, 8, 8]), **only("w1 b1")), ORT)
    assert tensors(plan) == {"x", "a"}


@pytest.mark.parametrize("table", [ORT, OV], ids=["ort", "ov"])
def test_the_head_of_a_classifier_runs_in_integers(build: Any, table: Table) -> None:
    text = f"""(float[N,4,8,8] x) => (float[N,5] y) {{
        a = {CONV}(x, w1, b1)  r = Relu(a)  g = GlobalAveragePool(r)  f = Flatten(g)  y = Gemm(f, w, b) }}"""
    plan = planned(build(text, w=(4, 5), b=(5,), **only("w1 b1")), table)
    assert integers(plan) == ["a", "f", "g", "y"]
    assert tensors(plan) - {"f"} == {"x", "r", "g"}
    assert scales(plan) == ([{"g", "f"}] if table is ORT else [])


def test_what_a_compute_node_makes_is_moved_to_another_in_integers(build: Any) -> None:
    text = (
        "(float[N,8] x) => (float[N,4] y) { h = MatMul(x, w)  r = Reshape(h, k)  e = Reshape(r, i)  y = MatMul(e, v) }"
    )
    model = build(text, w=(8, 8), v=(8, 4), k=np.int64([0, 2, 4]), i=np.int64([0, 8]))
    plan = planned(model, RESIDUAL)
    assert integers(plan) == ["e", "h", "r", "y"]
    assert scales(plan) == [{"h", "r", "e"}]


JOIN = (
    "(float[N,4,8,8] x) => (float[N,4,8,8] y)"
    f" {{ a = {CONV}(x, w1, b1)  c = {CONV}(x, w2, b2)  j = Concat<axis=1>(a, c)  y = {CONV}(j, w3, b3) }}"
)
WIDE = {**W, "w3": (4, 8, 3, 3)}


def test_a_join_keeps_a_scale_for_each_part_where_the_kernel_rescales(build: Any) -> None:
    plan = planned(build(JOIN, **WIDE), ORT)
    assert tensors(plan) == {"x", "a", "c", "j", "y"}
    assert scales(plan) == []


def test_a_join_has_one_scale_where_the_table_says_shared(build: Any) -> None:
    plan = planned(build(JOIN, **WIDE), RESIDUAL)
    assert scales(plan) == [{"a", "c", "j"}] or tensors(plan) == {"x", "j"}
    plan = planned(build(JOIN, **WIDE), OV)
    assert scales(plan) == [{"a", "c"}]


def test_a_shared_join_of_inputs_has_one_scale_for_all_of_them(build: Any) -> None:
    text = (
        "(float[N,4,8,8] x, float[N,4,8,8] z) => (float[N,4,8,8] y, float[N,4,8,8] u, float[N,4,8,8] v)"
        f" {{ u = {CONV}(x, w1)  v = {CONV}(z, w2)  j = Concat<axis=1>(x, z)  y = {CONV}(j, w3) }}"
    )
    plan = planned(build(text, w1=W["w1"], w2=W["w2"], w3=WIDE["w3"]), RESIDUAL)
    assert scales(plan) == [{"x", "z", "j"}]


def test_a_join_with_a_float_part_is_left_alone(build: Any) -> None:
    text = JOIN.replace(f"c = {CONV}(x, w2, b2)", "c = Exp(x)")
    plan = planned(build(text, **{name: shape for name, shape in WIDE.items() if name not in ("w2", "b2")}), ORT)
    assert "j" not in integers(plan)
    assert tensors(plan) == {"x", "a", "j", "y"}


def test_a_constant_part_joins_where_each_part_has_its_own_scale(build: Any) -> None:
    text = JOIN.replace("Concat<axis=1>(a, c)", "Concat<axis=1>(a, c, k)").replace("N,", "2,")
    weights = {**WIDE, "w3": (4, 10, 3, 3), "k": (2, 2, 8, 8)}
    assert "j" in integers(planned(build(text, **weights), ORT))
    assert "j" not in integers(planned(build(text, **weights), OV))


# --- who reads what -------------------------------------------------------------------------------------------


def test_a_tensor_is_quantized_only_for_those_that_read_integers(build: Any) -> None:
    text = f"{X[:-1]}, float[N,4,8,8] z) {{ y = {CONV}(x, w1, b1)  z = Exp(x) }}"
    plan = planned(build(text, **only("w1 b1")), OV)
    assert reads(plan, "x") == {("y", 0)}
    assert whole(plan) == set()


def test_two_convolutions_of_one_tensor_share_its_quantization(build: Any) -> None:
    text = f"{X[:-1]}, float[N,4,8,8] z) {{ y = {CONV}(x, w1, b1)  z = {CONV}(x, w2, b2) }}"
    plan = planned(build(text, **only("w1 b1 w2 b2")), ORT)
    assert reads(plan, "x") == {("y", 0), ("z", 0)}
    assert len(plan.groups()) == len(plan.edges) == 3


def test_an_empty_plan_for_a_graph_without_compute_nodes(build: Any) -> None:
    plan = planned(build("(float[N,4] x) => (float[N,4] y) { h = Add(x, x)  y = Relu(h) }"), ORT)
    assert (tensors(plan), plan.groups()) == (set(), [])


def test_planning_changes_nothing(build: Any) -> None:
    import onnx_ir as ir

    model = build(BLOCK, **W)
    before = ir.to_proto(model.graph).SerializeToString(deterministic=True)
    planned(model, ORT)
    assert ir.to_proto(model.graph).SerializeToString(deterministic=True) == before


# --- kernels that a neighbour's results end in ----------------------------------------------------------------

FUSED = replace(
    RESIDUAL,
    rules=(
        *RESIDUAL.rules,
        Rule(("Sigmoid", "Mul"), Role.FLOAT, writes=True, why="fused"),
        Rule(("Softmax",), Role.FLOAT, why="wide"),
    ),
)
"""A target that computes a gate at the end of the convolution in front of it."""


@pytest.mark.parametrize(("op", "joined"), [("Sigmoid", True), ("Softmax", False), ("Erf", False)])
def test_what_ends_a_neighbours_kernel_gives_integers_to_a_join(build: Any, op: str, joined: bool) -> None:
    text = f"""(float[N,4,8,8] x) => (float[N,4,8,8] y) {{
        a = {CONV}(x, w1, b1)  g = {op}(a)  p = {CONV}(g, w2, b2)  h = {op}(p)
        s = Concat<axis=2>(g, h)  y = {CONV}(s, w3, b3) }}"""
    plan = planned(build(text, **W), FUSED)
    assert ("s" in integers(plan)) is joined
    assert scales(plan) == ([{"g", "h", "s"}] if joined else [])


def test_a_gate_that_ends_a_neighbours_kernel_is_not_cut_off_from_it(build: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  g = Sigmoid(a)  m = Mul(a, g)  y = {CONV}(m, w2, b2) }}"
    assert tensors(planned(build(text, **only("w1 b1 w2 b2")), FUSED)) == {"x", "m"}


# --- what a graph holds besides -------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [ORT, OV], ids=["ort", "ov"])
@pytest.mark.parametrize("read", [False, True])
def test_a_pooling_whose_indices_are_read_stays_in_float(build: Any, table: Table, read: bool) -> None:
    pool = "MaxPool<kernel_shape=[2,2], strides=[2,2]>"
    text = f"""(float[N,4,8,8] x) => (float[N,4,4,4] y{", int64[N,4,4,4] i" if read else ""}) {{
        a = {CONV}(x, w1, b1)  m, i = {pool}(a)  y = {CONV}(m, w2, b2) }}"""
    plan = planned(build(text, **only("w1 b1 w2 b2")), table)
    assert ("m" in integers(plan)) == (not read)
    assert "i" not in tensors(plan)


def test_what_a_branch_reads_is_planned_in_the_main_graph_alone(build: Any) -> None:
    text = f"""(bool c, float[N,4,8,8] x) => (float[N,4,8,8] y) {{
        a = {CONV}(x, w1, b1)
        y = If (c) <then_branch = t () => (float[N,4,8,8] u) {{ u = Relu(a) }},
                    else_branch = e () => (float[N,4,8,8] z) {{ z = Neg(x) }}> }}"""
    assert tensors(planned(build(text, **only("w1 b1")), ORT)) == {"x", "a"}


def test_a_pair_stands_behind_an_activation_that_would_be_fused_in_float(build: Any) -> None:
    text = "(float[N,8] x) => (float[N,8] y) { a = Gemm(x, w, b)  r = Relu(a)  y = Softmax(r) }"
    assert whole(planned(build(text, w=(8, 8), b=(8,)), ORT)) == {"r"}


def test_a_long_chain_of_movers_is_planned_in_no_time(build: Any) -> None:
    import time

    moves = "  ".join(f"t{i} = Transpose<perm=[0,1,3,2]>({f't{i - 1}' if i else 'r'})" for i in range(400))
    text = f"{X} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  {moves}  y = {CONV}(t399, w2, b2) }}"
    model = build(text, **only("w1 b1 w2 b2"))
    start = time.process_time()
    plan = planned(model, ORT)
    assert time.process_time() - start < 3
    assert len(integers(plan)) == 402


# --- what leads on through bodies -----------------------------------------------------------------------------

GATE = f"a = {CONV}(x, w1, b1)  s = Sigmoid(a)"


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_end_of_a_branch_leads_on_where_a_layer_reads_it(build: Any, read: bool, depth: int) -> None:
    """As it would without the branch around it."""
    inner, name = GATE, "s"
    for i in range(depth):
        taken = f"(float[1,4,8,8] m{i}) {{ {inner}  m{i} = Mul({name}, {name}) }}"
        other = f"(float[1,4,8,8] n{i}) {{ n{i} = Neg(x) }}"
        inner = f"z{i} = If(c) <then_branch = t{i} () => {taken}, else_branch = e{i} () => {other}>"
        name = f"z{i}"
    end = f"y = {CONV}({name}, w2, b2)" if read else f"y = Neg({name})"
    text = f"(bool c, float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {inner}  {end} }}"
    plan = planned(build(text, **only("w1 b1 w2 b2" if read else "w1 b1")), ORT)
    assert ("s" in {node.outputs[0].name for node in plan.integer}) is read


@pytest.mark.parametrize(("layer", "stacked"), [(False, False), (True, False), (True, True)])
def test_what_a_loop_stacks_leads_on_and_what_it_carries_does_not(build: Any, layer: bool, stacked: bool) -> None:
    """An error of a state would come back in every iteration."""
    state, other = ("v", "m") if stacked else ("m", "v")
    end = f"y = {CONV}(r, w2, b2)" if layer else "y = Neg(r)"
    text = f"""(int64 n, float[1,4,8,8] x) => (float[1,4,8,8] y) {{
        z, q = Loop(n, , x) <body = l (int64 i, bool k, float[1,4,8,8] h)
                                      => (bool k2, float[1,4,8,8] o, float[1,4,8,8] u) {{
            k2 = Identity(k)  {GATE.replace("(x,", "(h,")}  m = Mul(s, s)  v = Neg(h)
            o = Identity({state})  u = Identity({other}) }}>
        t = ReduceSum<keepdims=0>(q, zero)  r = Add(z, t)  {end} }}"""
    weights = only("w1 b1 w2 b2" if layer else "w1 b1") | {"zero": np.array([0])}
    plan = planned(build(text, **weights), ORT)
    assert ("s" in {node.outputs[0].name for node in plan.integer}) is stacked


def test_what_goes_into_a_body_leads_on_where_a_layer_is_in_it(build: Any) -> None:
    for inside, quantized in ((f"o = {CONV}(h, w2, b2)", True), ("o = Neg(h)", False)):
        text = f"""(int64 n, float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {GATE}  m = Mul(s, s)
            y = Loop(n, , m) <body = l (int64 i, bool k, float[1,4,8,8] h) => (bool k2, float[1,4,8,8] o) {{
                k2 = Identity(k)  {inside} }}> }}"""
        plan = planned(build(text, **only("w1 b1 w2 b2" if quantized else "w1 b1")), ORT)
        assert ("s" in integers(plan)) is quantized
