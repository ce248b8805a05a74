from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt_passes.simplify import Simplify

if TYPE_CHECKING:
    from infopt.model import Model

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
X = "(float[N,3,6,6] x) => (float[N,4,6,6] y)"


@pytest.fixture
def simplified(make_context: Any, run_float: Any) -> Any:
    """Simplify a model and check that it is valid and computes the same."""

    def apply(model: Model, **options: Any) -> Model:
        context = make_context(model)
        result = Simplify(**options)(model, context)
        onnx.checker.check_model(ir.to_proto(result.graph), full_check=True)
        feed = next(iter(context.calibration.feeds()))
        before, after = run_float(model, feed), run_float(result, feed)
        assert list(before) == list(after)
        for name in before:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-5)
        return result

    return apply


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.graph]


def test_a_batch_norm_folds_into_its_convolution(build: Any, simplified: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w)  y = BatchNormalization(a, s, b, m, v) }}"
    model = build(text, w=(4, 3, 3, 3), s=(4,), b=(4,), m=(4,), v=np.float32([1, 2, 3, 4]))
    assert ops(simplified(model)) == ["Conv"]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_constant_per_channel_folds_into_the_convolution(
    build: Any, simplified: Any, op: str, shape: tuple[int, ...], bias: bool
) -> None:
    weights = {"w": (4, 3, 3, 3), "k": np.float32(np.arange(2, 2 + np.prod(shape)).reshape(shape))}
    weights |= {"b": (4,)} if bias else {}
    model = build(f"{X} {{ a = {CONV}(x, w{', b' if bias else ''})  y = {op}(a, k) }}", **weights)
    assert ops(simplified(model)) == ["Conv"]


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        ("Add(a, k)", (1, 4, 6, 6)),
        ("Mul(a, k)", (1, 1, 1, 6)),
        ("Add(a, k)", (4, 4, 1, 1)),
        ("Sub(k, a)", (4, 1, 1)),
        ("Div(k, a)", (4, 1, 1)),
        ("Add(a, a)", ()),
    ],
    ids=str,
)
def test_what_is_no_constant_per_channel_stays(build: Any, simplified: Any, node: str, shape: tuple[int, ...]) -> None:
    text = X.replace("N,", "4,") if shape[:1] == (4,) and len(shape) == 4 else X
    weights = {"k": np.full(shape, 2, np.float32)} if shape else {}
    model = build(f"{text} {{ a = {CONV}(x, w, b)  y = {node} }}", w=(4, 3, 3, 3), b=(4,), **weights)
    assert ops(simplified(model)) == ["Conv", node.split("(")[0]]


def test_dividing_by_zero_is_left_to_the_runtime(build: Any, make_context: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w, b)  y = Div(a, k) }}"
    model = build(text, w=(4, 3, 3, 3), b=(4,), k=np.float32([1, 0, 2, 3]).reshape(4, 1, 1))
    assert ops(Simplify()(model, make_context(model))) == ["Conv", "Div"]


def test_a_convolution_that_is_read_twice_keeps_its_output(build: Any, simplified: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w, b)  m = Mul(a, k)  y = Add(a, m) }}"
    assert ops(simplified(build(text, w=(4, 3, 3, 3), b=(4,), k=np.float32(3)))) == ["Conv", "Mul", "Add"]


def test_a_convolution_that_is_an_output_keeps_its_values(build: Any, simplified: Any) -> None:
    text = f"{X[:-1]}, float[N,4,6,6] a) {{ a = {CONV}(x, w, b)  y = Add(a, k) }}"
    assert ops(simplified(build(text, w=(4, 3, 3, 3), b=(4,), k=(4, 1, 1)))) == ["Conv", "Add"]


def test_folding_into_a_shared_weight_leaves_the_other_reader_alone(build: Any, simplified: Any) -> None:
    text = (
        "(float[N,4,6,6] x) => (float[N,4,6,6] y)"
        f" {{ a = {CONV}(x, w, b)  m = Mul(a, k)  r = Relu(m)  y = {CONV}(r, w, b) }}"
    )
    assert ops(simplified(build(text, w=(4, 4, 3, 3), b=(4,), k=(4, 1, 1)))) == ["Conv", "Relu", "Conv"]


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolution_takes_a_factor_by_group(build: Any, simplified: Any, group: int) -> None:
    text = (
        "(float[N,4,6,6] x) => (float[N,6,6,6] y) "
        f"{{ a = ConvTranspose<kernel_shape=[3,3], pads=[1,1,1,1], group={group}>(x, w, b)  y = Mul(a, k) }}"
    )
    model = build(text, w=(4, 6 // group, 3, 3), b=(6,), k=(6, 1, 1))
    assert ops(simplified(model)) == ["ConvTranspose"]


def test_several_nodes_without_names_fold(build: Any, simplified: Any) -> None:
    text = (
        f"{X} {{ _a = {CONV}(x, w)  _b = Add(_a, k)  _r = Relu(_b)  _c = {CONV}(_r, v)  _d = Add(_c, j)"
        "  y = Relu(_d) }"
    )
    weights = {"w": (4, 3, 3, 3), "k": (4, 1, 1), "v": (4, 4, 3, 3), "j": (4, 1, 1)}
    assert ops(simplified(build(text, **weights))) == ["Conv", "Relu", "Conv", "Relu"]


def test_nodes_without_effect_and_without_readers_go(build: Any, simplified: Any) -> None:
    text = "(float[N,4] x) => (float[N,4] y) { i = Identity(x)  d = Dropout(i)  u = Exp(d)  y = Relu(d) }"
    assert ops(simplified(build(text))) == ["Relu"]


def test_constants_fold_into_one(build: Any, simplified: Any) -> None:
    text = "(float[N,4] x) => (float[N,4] y) { a = Add(p, q)  b = Exp(a)  y = Add(x, b) }"
    result = simplified(build(text, p=(4,), q=(4,)))
    assert ops(result) == ["Add"]
    assert result.parameters == 4


def test_a_constant_above_the_limit_is_not_made(build: Any, simplified: Any) -> None:
    text = "(float[N,64,64] x) => (float[N,64,64] y) { outer = Mul(p, q)  y = Add(x, outer) }"
    model, size = build(text, p=(64, 1), q=(1, 64)), 64 * 64 * 4
    assert ops(simplified(model, fold_limit=size - 1)) == ["Mul", "Add"]
    assert ops(simplified(model, fold_limit=size)) == ["Add"]


def test_a_transposed_weight_folds_however_large_it_is(build: Any, simplified: Any) -> None:
    text = "(float[N,64] x) => (float[N,32] y) { t = Transpose(w)  y = MatMul(x, t) }"
    assert "Transpose" not in ops(simplified(build(text, w=(32, 64)), fold_limit=16))


def test_inputs_that_are_not_read_stay_inputs(build: Any, simplified: Any) -> None:
    result = simplified(build("(float[N,4] x, float[N,4] unused) => (float[N,4] y) { y = Relu(x) }"))
    assert [value.name for value in result.graph.graph.inputs] == ["x", "unused"]


def test_an_input_that_goes_straight_out_keeps_both_names(build: Any, simplified: Any) -> None:
    result = simplified(build("(float[N,4] x) => (float[N,4] y) { y = Identity(x) }"))
    assert result.output_names == ("y",)


def test_weights_that_were_listed_as_inputs_become_constants(build: Any, simplified: Any) -> None:
    text = "(float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }"
    result = simplified(build(text, opset=9, ir_version=3, w=(4, 4)))
    assert [value.name for value in result.graph.graph.inputs] == ["x"]
    assert result.graph.ir_version >= 4


def test_shapes_are_inferred_for_the_passes_that_follow(build: Any, simplified: Any) -> None:
    text = f"{X} {{ a = {CONV}(x, w, b)  r = Relu(a)  y = {CONV}(r, v, b) }}"
    result = simplified(build(text, infer=False, w=(4, 3, 3, 3), v=(4, 4, 3, 3), b=(4,)))
    relu = next(node for node in result.graph.graph if node.op_type == "Relu")
    assert relu.outputs[0].dtype == ir.DataType.FLOAT
    assert str(relu.outputs[0].shape) == "[N,4,6,6]"


def test_external_weights_are_not_read_without_need(build: Any, make_context: Any, tmp_path: Any) -> None:
    from infopt.model import load

    path = tmp_path / "m.onnx"
    model = build("(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", w=(64, 64))
    ir.save(model.graph, path, external_data="m.bin", size_threshold_bytes=0)
    loaded = load(path)
    result = Simplify()(loaded, make_context(loaded))
    assert isinstance(result.graph.graph.initializers["w"].const_value, ir.ExternalTensor)


def test_nothing_is_logged(build: Any, make_context: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = build(f"{X} {{ a = {CONV}(x, w)  y = Clip<min=0.0, max=6.0>(a) }}", opset=9, w=(4, 3, 3, 3))
    Simplify()(model, make_context(model))
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("tail", ["y = Add(a, b)", "y = Add(b, a)", "c = Add(a, k)  y = Relu(c)"])
def test_a_product_with_a_bias_becomes_a_gemm(build: Any, make_context: Any, run_float: Any, tail: str) -> None:
    weights = {"w": (8, 6), "b": (6,), "k": (1, 6)}
    used = {name: shape for name, shape in weights.items() if name == "w" or f" {name})" in tail or f"({name}," in tail}
    model = build(f"(float[N,8] x) => (float[N,6] y) {{ a = MatMul(x, w)  {tail} }}", **used)
    context = make_context(model)
    result = Simplify()(model, context)
    assert next(node.op_type for node in result.graph.graph) == "Gemm"
    feed = next(iter(context.calibration.feeds()))
    np.testing.assert_allclose(run_float(result, feed)["y"], run_float(model, feed)["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("(float[N,4,8] x) => (float[N,4,6] y) { a = MatMul(x, w)  y = Add(a, b) }", {"w": (8, 6), "b": (6,)}),
        ("(float[N,8] x) => (float[N,6] y) { a = MatMul(x, w)  y = Add(a, b) }", {"w": (8, 6), "b": (1,)}),
        (
            "(float[N,8] x) => (float[N,6] y, float[N,6] a) { a = MatMul(x, w)  y = Add(a, b) }",
            {"w": (8, 6), "b": (6,)},
        ),
        ("(float[N,8] x, float[N,6] z) => (float[N,6] y) { a = MatMul(x, w)  y = Add(a, z) }", {"w": (8, 6)}),
        (
            "(int64[N,8] x) => (int64[N,6] y) { a = MatMul(x, w)  y = Add(a, b) }",
            {"w": np.ones((8, 6), np.int64), "b": np.ones(6, np.int64)},
        ),
    ],
    ids=["tokens", "scalar", "read elsewhere", "computed", "integers"],
)
def test_other_products_stay(build: Any, make_context: Any, text: str, weights: Any) -> None:
    model = build(text, **weights)
    assert [node.op_type for node in Simplify()(model, make_context(model)).graph.graph] == ["MatMul", "Add"]


def test_norms_that_share_their_vectors_are_folded_all_the_same(build: Any, make_context: Any, run_float: Any) -> None:
    conv = "Conv<kernel_shape=[1,1]>"
    text = f"""(float[N,4,6,6] x) => (float[N,4,6,6] y) {{
        a = {conv}(x, w, z)  n = BatchNormalization(a, s, z, z, v)  r = Relu(n)
        b = {conv}(r, u, z)  m = BatchNormalization(b, s, z, z, v)  y = Relu(m) }}"""
    vectors = {"s": np.float32([1, 2, 3, 4]), "z": np.float32([0, 1, 0, -1]), "v": np.float32([1, 2, 1, 2])}
    model = build(text, w=(4, 4, 1, 1), u=(4, 4, 1, 1), **vectors)
    context = make_context(model)
    result = Simplify()(model, context)
    assert [node.op_type for node in result.graph.graph] == ["Conv", "Relu", "Conv", "Relu"]
    feed = next(iter(context.calibration.feeds()))
    np.testing.assert_allclose(run_float(result, feed)["y"], run_float(model, feed)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("mean", "shape", "opset", "expected"),
    [
        ("ReduceMean<axes=[2,3], keepdims=1>(x)", "N,4,1,1", 17, ["GlobalAveragePool"]),
        ("ReduceMean<axes=[-1,-2], keepdims=0>(x)", "N,4", 17, ["GlobalAveragePool", "Flatten"]),
        ("ReduceMean<keepdims=0>(x, k)", "N,4", 18, ["GlobalAveragePool", "Flatten"]),
        ("ReduceMean<axes=[1,2,3], keepdims=1>(x)", "N,1,1,1", 17, ["ReduceMean"]),
        ("ReduceMean<axes=[3], keepdims=1>(x)", "N,4,6,1", 17, ["ReduceMean"]),
    ],
)
def test_a_mean_over_all_places_becomes_a_pooling(
    build: Any, make_context: Any, run_float: Any, mean: str, shape: str, opset: int, expected: list[str]
) -> None:
    weights = {"k": np.int64([2, 3])} if "k)" in mean else {}
    model = build(f"(float[N,4,6,6] x) => (float[{shape}] y) {{ y = {mean} }}", opset=opset, **weights)
    context = make_context(model)
    result = Simplify()(model, context)
    assert [node.op_type for node in result.graph.graph] == expected
    feed = next(iter(context.calibration.feeds()))
    np.testing.assert_allclose(run_float(result, feed)["y"], run_float(model, feed)["y"], rtol=1e-5, atol=1e-6)


def test_a_graph_on_which_the_library_fails_is_left_as_it_was(build: Any, make_context: Any) -> None:
    text = """(float[6] x, int64 k) => (float y) {
        s = SplitToSequence<axis=0>(x, k)  a = SequenceAt(s, i)  y = ReduceSum(a) }"""
    model = build(text, i=np.int64(0))
    result = Simplify()(model, make_context(model))
    assert [node.op_type for node in result.graph.graph] == ["SplitToSequence", "SequenceAt", "ReduceSum"]


def test_means_over_tokens_stay_what_norms_are_recognized_by(build: Any, make_context: Any) -> None:
    text = """(float[N,4,8] x) => (float[N,4,8] y) {
        m = ReduceMean<axes=[-1], keepdims=1>(x)  d = Sub(x, m)  p = Mul(d, d)
        v = ReduceMean<axes=[-1], keepdims=1>(p)  y = Div(d, v) }"""
    model = build(text)
    assert "GlobalAveragePool" not in ops(Simplify()(model, make_context(model)))


def test_a_constant_that_is_added_in_a_branch_is_not_folded(build: Any, make_context: Any) -> None:
    text = """(bool c, float[N,4,6,6] x) => (float[N,4,6,6] y) {
        a = Conv<kernel_shape=[1,1]>(x, w)
        y = If (c) <then_branch = t () => (float[N,4,6,6] u) { u = Add(a, k) },
                    else_branch = e () => (float[N,4,6,6] z) { z = Neg(x) }> }"""
    model = build(text, w=(4, 4, 1, 1), k=(1, 4, 1, 1))
    assert ops(Simplify()(model, make_context(model))) == ["Conv", "If"]
