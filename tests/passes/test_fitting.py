"""Fitting end to end: small graphs, quantized and run by ONNX Runtime as they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt import registry
from infopt_passes.fitting.gather import moments
from infopt_passes.fitting.places import bias_place
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.fit import Fit
from infopt_passes.quantize.fitting.fitted import FEWEST, Fitter, Wanted
from infopt_passes.quantize.fitting.reconstruct import reconstructed
from infopt_passes.quantize.insert import insert
from infopt_passes.quantize.plan import make_plan
from infopt_passes.quantize.prepare import prepared
from infopt_passes.quantize.static import ranges_of as _ranges

if TYPE_CHECKING:
    from infopt.model import Model

CNN = """(float[N,3,10,10] x) => (float[N,5] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)
    b = Relu(a)
    c = Conv<kernel_shape=[3,3], group=16, strides=[2,2], pads=[1,1,1,1]>(b, w2)
    d = Relu(c)
    e = Conv<kernel_shape=[1,1]>(d, w3, b3)
    f = Relu(e)
    g = GlobalAveragePool(f)
    h = Flatten(g)
    y = Gemm<transB=1>(h, w4, b4)
}"""
CNN_WEIGHTS = {
    "w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "w3": (24, 16, 1, 1), "b3": (24,), "w4": (5, 24), "b4": (5,),
}  # fmt: skip
MLP = """(float[N,20] x) => (float[N,6] y) {
    a = Gemm(x, w1, b1)
    b = Relu(a)
    c = MatMul(b, w2)
    d = Add(c, b2)
    e = Relu(d)
    y = Gemm<alpha=0.5>(e, w3)
}"""
MLP_WEIGHTS = {"w1": (20, 32), "b1": (32,), "w2": (32, 32), "b2": (32,), "w3": (32, 6)}
ATTENTION = """(float[N,8,16] x) => (float[N,8,16] y) {
    q = MatMul(x, wq)
    k = MatMul(x, wk)
    v = MatMul(x, wv)
    kt = Transpose<perm=[0,2,1]>(k)
    s = MatMul(q, kt)
    p = Softmax(s)
    o = MatMul(p, v)
    r = MatMul(o, wo)
    y = Add(r, bo)
}"""
ATTENTION_WEIGHTS = {"wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wo": (16, 16), "bo": (16,)}
GRAPHS = {"cnn": (CNN, CNN_WEIGHTS), "mlp": (MLP, MLP_WEIGHTS), "attention": (ATTENTION, ATTENTION_WEIGHTS)}

ALL = {"weight_ranges": "mse", "rounding": "least-squares", "bias_correction": "on", "reconstruct": "on"}
OPTIONS = {name: {name: value} for name, value in ALL.items()} | {"all": ALL}


@pytest.fixture
def sqnr(make_context: Any, run_float: Any) -> Any:
    """Signal to noise of the first output in dB, on samples that were not fitted to; and the quantized model."""

    def measure(model: Model, target: str = "onnxruntime", count: int = 64, **options: Any) -> tuple[float, Model]:
        result = Quantize(**{"method": "fast", **options})(model, make_context(model, target, count))
        onnx.checker.check_model(ir.to_proto(result.graph), full_check=True)
        fresh = make_context(model, target, count + 20).need_calibration("test")
        signal = noise = 0.0
        for feed in fresh.feeds(count):
            wanted, found = (next(iter(run_float(each, feed).values())) for each in (model, result))
            signal, noise = signal + np.square(wanted).sum(), noise + np.square(wanted - found).sum()
        return float(10 * np.log10(signal / noise)), result

    return measure


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt-rtx"])
def test_what_is_fitted_is_not_further_from_the_float_model_on_new_samples(
    build: Any, sqnr: Any, name: str, target: str
) -> None:
    text, weights = GRAPHS[name]
    model = build(text, **weights)
    plain, _ = sqnr(model, target, 128)
    fitted, _ = sqnr(model, target, 128, **ALL)
    assert fitted > plain - 0.3


def test_fitting_pays_on_average(build: Any, sqnr: Any) -> None:
    gains = []
    for text, weights in GRAPHS.values():
        model = build(text, **weights)
        gains.append(sqnr(model, **ALL)[0] - sqnr(model)[0])
    assert np.mean(gains) > 0.5


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_the_model(build: Any, make_context: Any, option: str) -> None:
    model = build(CNN, **CNN_WEIGHTS)
    context = make_context(model, "openvino", 16)
    plain, fitted = (ir.to_proto(Quantize(method="fast", **o)(model, context).graph) for o in ({}, OPTIONS[option]))
    assert plain.SerializeToString() != fitted.SerializeToString()
    again = ir.to_proto(Quantize(method="fast", **OPTIONS[option])(model, context).graph)
    assert again.SerializeToString() == fitted.SerializeToString()


def test_auto_is_plain_with_the_fast_method(build: Any, make_context: Any) -> None:
    model = build(MLP, **MLP_WEIGHTS)
    context = make_context(model, "onnxruntime", 16)
    explicit = {"weight_ranges": "minmax", "rounding": "nearest", "bias_correction": "off", "reconstruct": "off"}
    one, other = (ir.to_proto(Quantize(method="fast", **o)(model, context).graph) for o in ({}, explicit))
    assert one.SerializeToString() == other.SerializeToString()


@pytest.mark.parametrize("option", ["rounding", "bias_correction", "reconstruct"])
def test_with_too_few_samples_an_algorithm_is_left_out_and_that_is_said(
    build: Any, make_context: Any, option: str
) -> None:
    model = build(MLP, **MLP_WEIGHTS)
    context = make_context(model, "onnxruntime", FEWEST - 1)
    plain = Quantize(method="fast")(model, context)
    result = Quantize(method="fast", **{option: ALL[option]})(model, context)
    assert [(note.node, "at least 8 samples" in note.why) for note in result.notes if note.kind == "warning"] == [
        (option, True)
    ]
    assert ir.to_proto(result.graph).SerializeToString() == ir.to_proto(plain.graph).SerializeToString()


def test_inputs_seen_less_often_than_there_are_of_them_are_named(build: Any, make_context: Any) -> None:
    model = build("(float[N,40] x) => (float[N,3] y) { y = MatMul(x, w) }", w=(40, 3))
    result = Quantize(method="fast", rounding="least-squares")(model, make_context(model, "onnxruntime", 10))
    assert [(note.node, "singular" in note.why) for note in result.notes if note.kind == "warning"] == [("y", True)]


@pytest.mark.parametrize("option", OPTIONS)
def test_unusual_layers_are_left_as_they_can_be(build: Any, sqnr: Any, option: str) -> None:
    text = """(float[N,4,12] x) => (float[N,6,?] y) {
        a = Conv<kernel_shape=[3], auto_pad="SAME_UPPER", group=2>(x, w1)
        y = ConvTranspose<kernel_shape=[2], strides=[2]>(a, w2)
    }"""
    found, result = sqnr(build(text, w1=(4, 2, 3), w2=(4, 6, 2)), "openvino", **OPTIONS[option])
    assert found > 25
    assert {node.name for node in result.graph.graph} >= {"a", "y"}


def rough(*shape: int) -> np.ndarray:
    """Weights of which few are large, so that the others are rounded to little."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) * np.where(rng.random(shape) < 0.02, 5, 0.2)).astype(np.float32)


@pytest.mark.parametrize(
    ("target", "text", "weights"),
    [
        (
            "openvino",
            """(float[N,4,6,6] x) => (float[N,8,13,13] y) {
                m = Conv(x, mix)  y = ConvTranspose<strides=[2,2]>(m, w, b) }""",
            {"mix": (16, 4, 1, 1), "w": rough(16, 8, 3, 3), "b": (8,)},
        ),
        (
            "tensorrt-rtx",
            "(float[N,4,6,8] x) => (float[N,4,6,24] y) { m = MatMul(x, mix)  y = MatMul(m, w) }",
            {"mix": (8, 32), "w": rough(4, 32, 24)},
        ),
    ],
    ids=["transposed convolution", "batch of matrices"],
)
@pytest.mark.parametrize("options", [{"rounding": "least-squares"}, {"reconstruct": "on"}], ids=["round", "refit"])
def test_layers_that_are_no_plain_matrix_are_fitted_too(
    build: Any, sqnr: Any, target: str, text: str, weights: Any, options: Any
) -> None:
    model = build(text, **weights)
    kept = {"keep_float": ("m",)}  # what it makes of few inputs is correlated
    (plain, _), (fitted, _) = sqnr(model, target, **kept), sqnr(model, target, **kept, **options)
    assert fitted > plain + 1.5


# --- where shifts go --------------------------------------------------------------------------------------------


def inserted(model: Model, context: Any, target: str, **shifts: Any) -> Model:
    """A model quantized with shifts of nodes."""
    graph, table = prepared(model.graph, 13), registry.target(target).table
    plan = make_plan(graph.graph, 17, table, ())
    from infopt_passes.calibrate.calibration import calibrate
    from infopt_passes.calibrate.observers import observer

    names = [value.name or "" for group in plan.groups() for value in group]
    ranges = _ranges(plan, calibrate(model.edited(graph), names, observer("minmax"), context), table)
    nodes = {node.name: node for node in graph.graph}
    fits = {nodes[name]: Fit(shift=np.asarray(shift, np.float32)) for name, shift in shifts.items()}
    insert(graph.graph, plan, ranges, table, fits)
    return model.edited(graph)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "tensorrt-rtx"])
@pytest.mark.parametrize(
    ("body", "shapes"),
    [
        ("y = Conv<kernel_shape=[1,1]>(x, w)", {"w": (3, 16, 1, 1)}),
        ("y = Conv<kernel_shape=[1,1]>(x, w, b)", {"w": (3, 16, 1, 1), "b": (3,)}),
    ],
    ids=["without a bias", "with a bias"],
)
def test_a_shift_moves_the_outputs_of_a_convolution(
    build: Any, make_context: Any, run_float: Any, target: str, body: str, shapes: Any
) -> None:
    model = build(f"(float[N,16,6,6] x) => (float[N,3,6,6] y) {{ {body} }}", **shapes)
    context = make_context(model, target, 8)
    feed = next(iter(context.need_calibration("test").feeds()))
    before, after = (
        run_float(inserted(model, context, target, **shift), feed)["y"] for shift in ({}, {"y": [1, 0, -2]})
    )
    assert (after - before).mean(axis=(0, 2, 3)) == pytest.approx([1, 0, -2], abs=0.05)


def test_a_bias_that_two_layers_share_is_shifted_for_each_alone(build: Any, make_context: Any, run_float: Any) -> None:
    text = """(float[N,8] x) => (float[N,3] y, float[N,3] z) {
        y = Gemm(x, w, b)
        z = Gemm(x, w, b)
    }"""
    model = build(text, w=(8, 3), b=(3,))
    context = make_context(model, "onnxruntime", 8)
    feed = next(iter(context.need_calibration("test").feeds()))
    before = run_float(inserted(model, context, "onnxruntime"), feed)
    after = run_float(inserted(model, context, "onnxruntime", y=[1, 1, 1]), feed)
    assert after["y"] - before["y"] == pytest.approx(np.ones_like(before["y"]), abs=0.02)
    assert (after["z"] == before["z"]).all()


def test_a_product_is_shifted_by_the_add_behind_it_alone(build: Any) -> None:
    text = """(float[N,8] x) => (float[N,3] y, float[N,3] z) {
        a = MatMul(x, w)
        y = Add(b, a)
        z = MatMul(x, w)
    }"""
    nodes = {node.name: node for node in build(text, w=(8, 3), b=(3,)).graph.graph}
    assert bias_place(nodes["a"]) == (nodes["y"], 0)
    assert bias_place(nodes["z"]) is None


def test_bias_correction_takes_back_the_mean_that_clipped_weights_lose(
    build: Any, make_context: Any, run_float: Any
) -> None:
    # All inputs are positive, and all weights of a row are rounded the same way: the errors add up.
    w = np.full((40, 4), 0.4 / 127, np.float32)
    w[0] = 1
    model = build("(float[N,40] x) => (float[N,4] y) { a = Relu(x) y = Gemm(a, w, b) }", w=w, b=(4,))
    context = make_context(model, "onnxruntime", 64)
    feeds = list(context.need_calibration("test").feeds())

    def bias(result: Model) -> float:
        pairs = [(run_float(model, feed)["y"], run_float(result, feed)["y"]) for feed in feeds]
        return float(np.abs(np.mean([wanted - found for wanted, found in pairs], axis=0)).max())

    plain, corrected = (bias(Quantize(method="fast", bias_correction=how)(model, context)) for how in ("off", "on"))
    assert corrected < 0.2 * plain


# --- sweeps ----------------------------------------------------------------------------------------------------


def fitter(model: Model, context: Any) -> Fitter:
    graph = prepared(model.graph, 13)
    table = registry.target("onnxruntime").table
    return Fitter(graph, make_plan(graph.graph, 17, table, ()), {}, table, context)


def test_moments_do_not_depend_on_how_much_memory_there_is(build: Any, make_context: Any) -> None:
    model = build(CNN, **CNN_WEIGHTS)
    context = make_context(model, "onnxruntime", 8)
    ample = fitter(model, context)
    readings = [reading for node in ample.layers() if (reading := ample.reading(node))]
    scarce = replace(context, memory=20_000)
    found = [[seen for _, seen in moments(ample.graph, readings, each)] for each in (context, scarce)]
    assert len(found[0]) == 4
    for one, other in zip(*found, strict=True):
        assert (one.rows, one.runs) == (other.rows, other.runs)
        assert one.second == pytest.approx(other.second, rel=1e-4, abs=1e-5)


def test_only_the_layers_asked_for_are_reconstructed(build: Any, make_context: Any) -> None:
    model = build(MLP, **MLP_WEIGHTS)
    context = make_context(model, "onnxruntime", 16)
    each = fitter(model, context)
    from infopt_passes.calibrate.calibration import calibrate
    from infopt_passes.calibrate.observers import observer

    names = [value.name or "" for group in each.plan.groups() for value in group]
    seen = calibrate(model.edited(each.graph), names, observer("minmax"), context)
    each.ranges = _ranges(each.plan, seen, each.table)
    fits = each.fits(Wanted("mse"))
    last = each.layers()[-1]
    result = reconstructed(each, fits, [last])
    assert {node for node, fit in result.items() if fit is not fits[node]} == {last}


def test_a_layer_whose_moments_do_not_fit_into_memory_is_rounded_to_nearest_and_named(
    build: Any, make_context: Any
) -> None:
    model = build(CNN, **CNN_WEIGHTS)
    each = fitter(model, replace(make_context(model, "onnxruntime", 8), memory=20_000))
    left = [node.name for node in each.layers() if each.reading(node) is None]
    assert left
    assert [note.node for note in each.notes] == left
    assert all("--memory" in note.why for note in each.notes)
