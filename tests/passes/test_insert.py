from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt.errors import InputError
from infopt.model import load, save
from infopt.target import Output, Role, Rule, Scheme
from infopt.targets.conditions import runtime_weight
from infopt.targets.onnxruntime import OnnxRuntimeTarget
from infopt.targets.openvino import TABLE as OV
from infopt_passes.quantize import Quantize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infopt.model import Model

    Quantized = Callable[..., Model]

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
X = "(float[N,4,8,8] x) => (float[N,4,8,8] y)"
W = {"w1": (4, 4, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (4, 4, 3, 3), "b3": (4,)}

BASE = OnnxRuntimeTarget().table
OPENVINO = OnnxRuntimeTarget(table=OV)
PER_TENSOR = OnnxRuntimeTarget(table=replace(BASE, weight=Scheme("int8", symmetric=True)))
RESIDUAL = OnnxRuntimeTarget(
    table=replace(
        OV,
        activation=Scheme("int8", symmetric=True),
        rules=(
            Rule(("Conv",), Role.COMPUTE, Output.WANTED, (runtime_weight,)),
            Rule(("Add",), Role.RESIDUAL),
            Rule(("Concat",), Role.JOIN, shared=True),
        ),
        absorbs=frozenset(),
    )
)
TABLES = {"ort": "onnxruntime", "ov": OPENVINO, "per tensor": PER_TENSOR, "residual": RESIDUAL}


@pytest.fixture
def quantized(make_context: Any, run_float: Any) -> Quantized:
    """Quantize a model, check that it is valid, and that its outputs are near the float model's."""

    def apply(model: Model, target: Any = "onnxruntime", force: bool = False, **options: Any) -> Model:
        context = replace(make_context(model, target), force=force)
        result = Quantize(**{"method": "fast", **options})(model, context)
        onnx.checker.check_model(ir.to_proto(result.graph), full_check=True)
        assert context.calibration is not None
        feed = next(iter(context.calibration.feeds()))
        before, after = run_float(model, feed), run_float(result, feed)
        assert list(before) == list(after)
        for name, wanted in before.items():
            # Some three layers of 8 bits each.
            assert np.abs(after[name] - wanted).max() <= 0.05 * np.abs(wanted).max(), name
        return result

    return apply


def node(model: Model, name: str) -> ir.Node:
    return next(node for node in model.graph.graph if node.name == name)


def produced(value: ir.Value | None) -> ir.Node:
    """The node behind a value."""
    assert value is not None
    found = value.producer()
    assert found is not None
    return found


def constant(value: ir.Value | None) -> np.ndarray:
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def reads_integers(found: ir.Node, index: int) -> bool:
    """Whether an input comes out of a Q/DQ pair, or out of a DQ of a constant."""
    value = found.inputs[index]
    return value is not None and value.producer() is not None and produced(value).op_type == "DequantizeLinear"


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.graph]


def only(names: str) -> dict[str, Any]:
    return {name: W[name] for name in names.split()}


# --- weights and biases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape", "axis", "channels"),
    [
        (f"{X} {{ y = {CONV}(x, w) }}", (4, 4, 3, 3), 0, 4),
        ("(float[N,8] x) => (float[N,6] y) { y = Gemm(x, w) }", (8, 6), 1, 6),
        ("(float[N,8] x) => (float[N,6] y) { y = Gemm<transB=1>(x, w) }", (6, 8), 0, 6),
        ("(float[N,8] x) => (float[N,6] y) { y = MatMul(x, w) }", (8, 6), 1, 6),
    ],
    ids=["Conv", "Gemm", "Gemm transB", "MatMul"],
)
def test_a_weight_becomes_integers_with_a_scale_per_output_channel(
    build: Any, quantized: Quantized, text: str, shape: tuple[int, ...], axis: int, channels: int
) -> None:
    result = quantized(build(text, w=shape), OPENVINO)
    dequantize = produced(node(result, "y").inputs[1])
    stored, scales, zeros = (constant(value) for value in dequantize.inputs)
    assert (dequantize.op_type, dequantize.attributes["axis"].value) == ("DequantizeLinear", axis)
    assert (stored.dtype, stored.shape, scales.dtype, scales.shape) == (np.int8, shape, np.float32, (channels,))
    assert zeros.tolist() == [0] * channels
    assert "w" not in result.graph.graph.initializers, "the float weight is gone"


def test_a_gemm_has_one_scale_where_that_costs_at_most_a_bit(build: Any, quantized: Quantized) -> None:
    text = "(float[N,8] x) => (float[N,6] y) { y = Gemm<transB=1>(x, w, b) }"
    weight = np.random.default_rng(0).uniform(-1, 1, (6, 8)).astype(np.float32)
    even = weight / np.abs(weight).max(axis=1, keepdims=True)
    uneven = even * np.float32([[1], [1e-2], [1e-2], [1e-2], [1e-2], [1e-2]])
    for array, shape in ((even, ()), (uneven, (6,))):
        result = quantized(build(text, w=array, b=(6,)), "onnxruntime")
        scales, zeros = map(constant, produced(node(result, "y").inputs[1]).inputs[1:])
        assert (scales.shape, zeros.shape) == (shape, shape)


def test_a_zero_point_of_a_product_stays_out_where_the_table_says_so(build: Any, quantized: Quantized) -> None:
    result = quantized(build("(float[N,8] x) => (float[N,6] y) { y = MatMul(x, w) }", w=(8, 6)), "onnxruntime")
    assert len(produced(node(result, "y").inputs[1]).inputs) == 2


def test_a_weight_has_one_scale_where_the_table_says_so(build: Any, quantized: Quantized) -> None:
    result = quantized(build(f"{X} {{ y = {CONV}(x, w1, b1) }}", **only("w1 b1")), PER_TENSOR)
    dequantize = produced(node(result, "y").inputs[1])
    assert constant(dequantize.inputs[1]).shape == ()
    assert "axis" not in dequantize.attributes


@pytest.mark.parametrize("target", ["onnxruntime", PER_TENSOR], ids=["per channel", "per tensor"])
def test_a_bias_becomes_int32_with_the_accumulators_scale(build: Any, quantized: Quantized, target: Any) -> None:
    result = quantized(build(f"{X} {{ y = {CONV}(x, w1, b1) }}", **only("w1 b1")), target)
    data, weight, bias = (produced(value) for value in node(result, "y").inputs)
    stored, scales, zeros = (constant(value) for value in bias.inputs)
    assert stored.dtype == zeros.dtype == np.int32
    np.testing.assert_array_equal(
        scales, constant(data.inputs[1]) * constant(weight.inputs[1]) * np.ones(4, np.float32)
    )
    assert not zeros.any()


def test_a_bias_is_left_alone_where_the_table_says_float(build: Any, quantized: Quantized) -> None:
    result = quantized(build(f"{X} {{ y = {CONV}(x, w1, b1) }}", **only("w1 b1")), OPENVINO)
    assert node(result, "y").inputs[2] is result.graph.graph.initializers["b1"]


@pytest.mark.parametrize("bias", [(), (1,), (6,), (1, 6)], ids=str)
def test_a_gemms_bias_is_spread_over_the_channels(build: Any, quantized: Quantized, bias: tuple[int, ...]) -> None:
    result = quantized(build("(float[N,8] x) => (float[N,6] y) { y = Gemm(x, w, b) }", w=(8, 6), b=bias))
    assert constant(produced(node(result, "y").inputs[2]).inputs[0]).shape == (6,)


def test_a_weight_of_two_nodes_is_quantized_for_each(build: Any, quantized: Quantized) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  y = {CONV}(r, w1, b2) }}"
    result = quantized(build(text, **only("w1 b1 b2")))
    assert all(reads_integers(node(result, name), 1) for name in ("a", "y"))


def test_a_weight_that_others_read_as_floats_stays_for_them(build: Any, quantized: Quantized) -> None:
    text = "(float[N,8] x, int64[N] i) => (float[N,4] y, float[N,4] g) { y = MatMul(x, w)  g = Gather(w, i) }"
    result = quantized(build(text, w=(8, 4)))
    assert node(result, "g").inputs[0] is result.graph.graph.initializers["w"]
    assert reads_integers(node(result, "y"), 1)


def test_external_weights_are_quantized_and_their_file_is_left_alone(
    build: Any, quantized: Quantized, tmp_path: Path
) -> None:
    model = build("(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", w=(64, 64))
    path = tmp_path / "m.onnx"
    ir.save(model.graph, path, external_data="m.bin", size_threshold_bytes=0)
    before = (tmp_path / "m.bin").read_bytes()
    result = quantized(load(path))
    save(result.graph, tmp_path / "out.onnx")
    assert (tmp_path / "m.bin").read_bytes() == before
    assert load(tmp_path / "out.onnx").bytes < 5000


# --- activations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TABLES.values(), ids=TABLES)
def test_a_tensor_that_is_an_output_keeps_its_name(build: Any, quantized: Quantized, target: Any) -> None:
    text = f"{X[:-1]}, float[N,4,8,8] r) {{ a = {CONV}(x, w1, b1)  r = Relu(a)  y = {CONV}(r, w2, b2) }}"
    result = quantized(build(text, **only("w1 b1 w2 b2")), target)
    assert result.output_names == ("y", "r")
    assert reads_integers(node(result, "y"), 0)


def test_an_output_behind_a_kernel_that_gives_integers_is_dequantized(build: Any, quantized: Quantized) -> None:
    result = quantized(build(f"{X} {{ y = {CONV}(x, w1, b1) }}", **only("w1 b1")))
    assert produced(result.graph.graph.outputs[0]).op_type == "DequantizeLinear"
    assert [name for name, _ in result.ranges] == ["x", "y"], "ranges go by the model's own names"


def test_readers_in_float_read_the_float_tensor(build: Any, quantized: Quantized) -> None:
    text = f"{X[:-1]}, float[N,4,8,8] z) {{ y = {CONV}(x, w1, b1)  z = Exp(x) }}"
    result = quantized(build(text, **only("w1 b1")))
    assert node(result, "z").inputs[0] is result.graph.graph.inputs[0]
    assert reads_integers(node(result, "y"), 0)


def test_behind_a_kernel_that_gives_integers_everybody_reads_them(build: Any, quantized: Quantized) -> None:
    text = f"{X[:-1]}, float[N,4,8,8] z) {{ a = {CONV}(x, w1, b1)  y = {CONV}(a, w2, b2)  z = Exp(a) }}"
    model = build(text, **only("w1 b1 w2 b2"))
    assert reads_integers(node(quantized(model), "z"), 0)
    assert not reads_integers(node(quantized(model, OPENVINO), "z"), 0)


def test_one_pair_serves_all_readers_of_a_tensor(build: Any, quantized: Quantized) -> None:
    text = f"{X[:-1]}, float[N,4,8,8] z) {{ y = {CONV}(x, w1, b1)  z = {CONV}(x, w2, b2) }}"
    result = quantized(build(text, **only("w1 b1 w2 b2")), OPENVINO)
    assert ops(result).count("QuantizeLinear") == 1
    assert node(result, "y").inputs[0] is node(result, "z").inputs[0]


def test_a_node_that_reads_a_tensor_twice_reads_integers_twice(build: Any, quantized: Quantized) -> None:
    result = quantized(
        build(f"{X} {{ a = {CONV}(x, w1, b1)  s = Add(a, a)  y = {CONV}(s, w2, b2) }}", **only("w1 b1 w2 b2"))
    )
    assert reads_integers(node(result, "s"), 0)
    assert reads_integers(node(result, "s"), 1)


BRANCHES = """(bool c, float[N,4] x) => (float[N,4] y, float[N,4] z) {
    h = Gemm(x, w, b)  z = MatMul(READ, v)
    y = If (c) <
        then_branch = t () => (float[N,4] u) { u = Exp(READ) },
        else_branch = e () => (float[N,4] q) { q = MatMul(READ, w) }>
}"""


@pytest.mark.parametrize("read", ["x", "h"])
def test_readers_inside_a_branch_are_served(build: Any, quantized: Quantized, read: str) -> None:
    result = quantized(build(BRANCHES.replace("READ", read), w=(4, 4), b=(4,), v=(4, 4)))
    inner = [inside for graph in result.graph.graph.subgraphs() for inside in graph]
    assert sorted(found.op_type for found in inner) == ["Exp", "MatMul"], "nothing is inserted into a branch"
    assert reads_integers(node(result, "z"), 0)


def test_scales_in_the_graph_are_those_of_the_record(build: Any, quantized: Quantized) -> None:
    result = quantized(
        build(f"{X} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  y = {CONV}(r, w2, b2) }}", **only("w1 b1 w2 b2"))
    )
    assert [name for name, _ in result.ranges] == ["x", "r", "y"]
    for name, known in result.ranges:
        # The output's name belongs to what leaves the graph; the tensor in front of Q is another.
        quantize = node(result, f"{name}:float:Q" if name == "y" else f"{name}:Q")
        assert constant(quantize.inputs[1]) == np.float32(known.scale)
        assert constant(quantize.inputs[2]) == known.zero_point
        assert constant(quantize.inputs[2]).dtype == known.dtype
        assert known.low <= 0 <= known.high
    assert dict(result.ranges)["r"].zero_point == 0


def test_tensors_that_share_a_scale_span_the_widest(build: Any, quantized: Quantized) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  c = {CONV}(x, wide, b2)  j = Concat<axis=1>(a, c)  y = {CONV}(j, w, b3) }}"
    wide = 5 * np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32)
    result = quantized(build(text, wide=wide, w=(4, 8, 3, 3), **only("w1 b1 b2 b3")), OPENVINO)
    known = dict(result.ranges)
    assert known["a"] == known["c"]
    apart = quantized(build(text, wide=wide, w=(4, 8, 3, 3), **only("w1 b1 b2 b3")))
    assert known["a"].low == pytest.approx(min(dict(apart.ranges)[name].low for name in "ac"))


def test_bounds_that_only_part_of_a_shared_scale_keeps_do_not_narrow_it(build: Any, quantized: Quantized) -> None:
    text = f"""{X} {{ a = {CONV}(x, w1, b1)  r = Clip(a, lo, hi)  c = {CONV}(x, w2, b2)  j = Concat<axis=1>(r, c)
        y = {CONV}(j, w, b3) }}"""
    bounds = {"lo": np.float32(0), "hi": np.float32(0.1)}
    result = quantized(build(text, w=(4, 8, 3, 3), **bounds, **only("w1 b1 w2 b2 b3")), OPENVINO)
    known = dict(result.ranges)["r"]
    assert known == dict(result.ranges)["c"]
    assert known.scale == pytest.approx((known.high - known.low) / 255)


@pytest.mark.parametrize("bias", ["", ", zero"])
def test_a_convolution_without_bias_gets_one_that_changes_nothing(build: Any, quantized: Quantized, bias: str) -> None:
    text = f"{X} {{ a = {CONV}(x, w1{bias})  y = ConvTranspose(a, w2{bias}) }}"
    zero = {"zero": np.zeros(4, np.float32)} if bias else {}
    model = build(text, w1=(4, 4, 3, 3), w2=(4, 4, 1, 1), **zero)
    result = quantized(model, OPENVINO)
    for name in "ay":
        added = constant(node(result, name).inputs[2])
        assert added.shape == (4,)
        assert 0 < added.max() < 1e-20
    assert all(len(each.inputs) == 2 for each in quantized(model).graph.graph if "Conv" in each.op_type) or bias


def test_convolutions_that_share_a_bias_get_one_each(build: Any, quantized: Quantized) -> None:
    model = build(f"{X} {{ a = {CONV}(x, w1, b1)  y = {CONV}(a, w2, b1) }}", **only("w1 w2 b1"))
    result = quantized(model, OPENVINO)
    first, second = (node(result, name).inputs[2] for name in "ay")
    assert first is not second
    np.testing.assert_array_equal(constant(first), constant(second))


def test_constant_operands_are_quantized_with_those_that_are_computed(build: Any, quantized: Quantized) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  s = Mul(a, k)  y = {CONV}(s, w2, b2) }}"
    result = quantized(build(text, k=(1, 4, 8, 8), **only("w1 b1 w2 b2")))
    assert constant(produced(node(result, "s").inputs[1]).inputs[0]).dtype == np.uint8
    assert "k" not in result.graph.graph.initializers


def test_what_stays_in_float_is_noted(build: Any, quantized: Quantized) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  y = {CONV}(a, w2, b2) }}"
    result = quantized(build(text, **only("w1 b1 w2 b2")), keep_float=("a",))
    assert [(note.kind, note.node, note.why) for note in result.notes] == [
        ("float", "a", "kept in float by --keep-float")
    ]
    assert not reads_integers(node(result, "a"), 1)


def test_a_tensor_that_is_always_zero_is_noted(build: Any, make_context: Any) -> None:
    model = build(f"{X} {{ a = Mul(x, zero)  y = {CONV}(a, w1, b1) }}", zero=np.float32(0), **only("w1 b1"))
    result = Quantize(method="fast")(model, make_context(model, OPENVINO))
    assert [(note.kind, note.node) for note in result.notes] == [("warning", "a")]


# --- names, opsets, repetition --------------------------------------------------------------------------------


def test_nodes_without_names_are_quantized(build: Any, quantized: Quantized) -> None:
    text = f"{X} {{ _a = {CONV}(x, w1, b1)  _r = Relu(_a)  y = {CONV}(_r, w2, b2) }}"
    result = quantized(build(text, **only("w1 b1 w2 b2")))
    assert ops(result).count("DequantizeLinear") == 7
    names = [found.name for found in result.graph.graph]
    assert len(set(names)) == len(names)


def test_names_that_are_taken_are_not_taken_again(build: Any, quantized: Quantized) -> None:
    model = build(f"{X} {{ a = Add(x, k)  y = {CONV}(x, w1, b1)  u = Exp(a) }}", k=(1, 4, 8, 8), **only("w1 b1"))
    graph = model.graph.graph
    for old, new in (("k", "x:scale"), ("w1", "x:zero_point"), ("b1", "w1:quantized")):
        value = graph.initializers.pop(old)
        value.name = new
        graph.register_initializer(value)
    node(model, "a").outputs[0].name = "x:quantized"
    node(model, "u").outputs[0].name = "x:dequantized"
    node(model, "u").name = "x:Q"
    graph = quantized(model).graph.graph
    made = [value.name for found in graph for value in found.outputs]
    names = [*made, *graph.initializers]
    assert len(set(names)) == len(names)
    assert len({found.name for found in graph}) == len(list(graph))
    assert {"QuantizeLinear", "DequantizeLinear"} <= {found.op_type for found in graph}


@pytest.mark.parametrize(("opset", "ir_version"), [(9, 4), (11, 6), (12, 7)])
def test_an_old_operator_set_is_raised_to_one_with_scales_per_channel(
    build: Any, quantized: Quantized, opset: int, ir_version: int
) -> None:
    text = f"{X} {{ a = {CONV}(x, w1, b1)  r = Relu(a)  y = {CONV}(r, w2, b2) }}"
    model = build(text, opset=opset, ir_version=ir_version, **only("w1 b1 w2 b2"))
    assert quantized(model).opset == 13
    assert model.opset == opset


def test_weights_that_are_listed_as_inputs_may_change_and_are_not_quantized(build: Any, quantized: Quantized) -> None:
    model = build("(float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", opset=9, ir_version=3, w=(4, 4))
    assert ops(quantized(model)) == ["MatMul"]


def test_a_quantized_model_is_refused(build: Any, quantized: Quantized, make_context: Any) -> None:
    result = quantized(build(f"{X} {{ y = {CONV}(x, w1, b1) }}", **only("w1 b1")))
    with pytest.raises(InputError, match=r"quantized already \(node '.+'\); .*--force"):
        Quantize(method="fast")(result, make_context(result, "onnxruntime"))


@pytest.mark.parametrize("target", TABLES.values(), ids=TABLES)
def test_force_quantizes_what_is_still_float(build: Any, quantized: Quantized, target: Any) -> None:
    text = f"{X[:-1]}, float[N,4,8,8] z) {{ y = {CONV}(x, w1, b1)  z = {CONV}(x, w2, b2) }}"
    once = quantized(build(text, **only("w1 b1 w2 b2")), target, keep_float=("z",))
    assert not reads_integers(node(once, "z"), 1)
    twice = quantized(once, target, force=True)
    assert reads_integers(node(twice, "z"), 0)
    assert reads_integers(node(twice, "z"), 1)


def test_a_target_and_samples_are_needed(build: Any, make_context: Any) -> None:
    model = build(f"{X} {{ y = {CONV}(x, w1, b1) }}", **only("w1 b1"))
    with pytest.raises(InputError, match="needs a target"):
        Quantize(method="fast")(model, make_context(model))
    with pytest.raises(InputError, match="needs calibration samples"):
        Quantize(method="fast")(model, replace(make_context(model, "onnxruntime"), calibration=None))


@pytest.mark.parametrize("target", TABLES.values(), ids=TABLES)
def test_a_deeper_net_stays_near_its_float_self_for_every_kind_of_table(
    build: Any, quantized: Quantized, target: Any
) -> None:
    text = f"""(float[N,4,8,8] x) => (float[N,5] y) {{
        a = {CONV}(x, w1, b1)  r = Relu(a)  c = {CONV}(r, w2, b2)  s = Add(c, r)  t = Relu(s)
        p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t)  d = {CONV}(p, w3, b3)  j = Concat<axis=1>(p, d)
        g = GlobalAveragePool(j)  f = Flatten(g)  y = Gemm<transB=1>(f, w4, b4) }}"""
    result = quantized(build(text, w4=(5, 8), b4=(5,), **W), target)
    assert ops(result).count("DequantizeLinear") > ops(result).count("QuantizeLinear") >= 3
