"""Fits of layers in the bodies of If, Loop and Scan: they see what each run of a body reads, and pay as elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from passes.test_bodies import Samples

from infopt import registry
from infopt.bodies import bodies
from infopt.noise import decibels, output_judge
from infopt.passes import CalibrationSet
from infopt.probe import with_outputs, with_sizes
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.observers import observer
from infopt_passes.fitting.gather import moments
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.fitting.fitted import Fitter
from infopt_passes.quantize.plan import make_plan
from infopt_passes.quantize.prepare import prepared

if TYPE_CHECKING:
    from infopt.model import Model
    from infopt.passes import Context

EITHER = """(float[N,24] x) => (float[N,16] y) {
    s = ReduceSum<keepdims=0>(x)  c = Greater(s, zero)  y = If(c) <
        then_branch = t () => (float[N,16] a) {
            p = Gemm(x, w1, b1)  q = Relu(p)  m = MatMul(q, w2)  r = Relu(m)  a = Gemm(r, w3, b3) },
        else_branch = e () => (float[N,16] b) { u = Gemm(x, w4, b1)  o = Gemm(x, w1, b1)  j = Add(u, o)
            v = Relu(j)  b = Gemm(v, w3, b3) }> }"""
LOOP = """(float[N,24] x) => (float[N,24] y) {
    y = Loop(n, , x) <body = l (int64 i, bool k, float[N,24] h) => (bool k2, float[N,24] z) {
        k2 = Identity(k)  p = Gemm(h, w1, b1)  q = Relu(p)  m = MatMul(q, w5)  o = Add(m, x)  z = Tanh(o) }> }"""
SCAN = """(float[5,4,24] x) => (float[4,24] z) {
    z = Scan<num_scan_inputs=1, body = l (float[4,24] h, float[4,24] v) => (float[4,24] g) {
        j = Add(h, v)  p = Gemm(j, w1, b1)  q = Relu(p)  o = MatMul(q, w5)  g = Tanh(o) }>(first, x) }"""
SHAPES = {"w1": (24, 32), "b1": (32,), "w2": (32, 32), "w3": (32, 16), "b3": (16,), "w4": (24, 32), "w5": (32, 24)}
CONSTANTS: dict[str, Any] = {
    "zero": np.float32(0), "n": np.array(3, np.int64), "first": np.zeros((4, 24), np.float32),
}  # fmt: skip
TEXTS = {"if": EITHER, "loop": LOOP, "scan": SCAN}

ALL = {"weight_ranges": "mse", "rounding": "least-squares", "bias_correction": "on", "reconstruct": "on"}


@pytest.fixture
def body_model(build: Any) -> Any:
    """Makes one of the models above, with weights whose rows differ in size."""

    def make(kind: str, seed: int = 0, spread: float = 0.0) -> Model:
        rng = np.random.default_rng(seed)
        weights = {}
        for name, shape in SHAPES.items():
            # Where few weights are large, the others are rounded to little.
            array = rng.standard_normal(shape) * np.where(rng.random(shape) < 0.02, 20, 1)
            array /= np.sqrt(shape[0] * np.square(array).mean())
            rows = np.exp(rng.uniform(-spread, spread, shape[0]))
            weights[name] = (array * rows.reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32)
        used = {
            name: array for name, array in (weights | CONSTANTS).items() if f" {name}" in TEXTS[kind].replace("(", " ")
        }
        made: Model = build(TEXTS[kind], **used)
        for node in made.graph.graph.all_nodes():
            node.name = node.outputs[0].name
        return made

    return make


def samples(make_context: Any, model: Model, target: str, first: int, count: int) -> Context:
    """A context of samples whose columns are correlated, as those of real data are."""
    plain: Context = make_context(model, target)
    assert plain.calibration is not None
    shape = (5, 4, 24) if plain.calibration.inputs[0].shape[0] == 5 else (4, 24)
    mix = np.random.default_rng(99).standard_normal((6, 24))
    feeds = []
    for i in range(first, first + count):
        rng = np.random.default_rng(i)
        x = rng.standard_normal((*shape[:-1], 6)) @ mix / np.sqrt(6) + 0.1 * rng.standard_normal(shape)
        feeds.append({"x": x.astype(np.float32)})
    given = CalibrationSet(Samples(feeds), tuple(range(count)), plain.calibration.inputs)  # type: ignore[arg-type]
    return replace(plain, calibration=given)


def sqnr(model: Model, result: Model, context: Context) -> float:
    """Of the outputs, in dB, with Q/DQ as written."""
    assert context.calibration is not None
    judge = output_judge(model.graph, context.calibration, context.workdir)
    return decibels(judge.noise(result.graph))


def reached(model: Model, target: str, context: Context) -> tuple[Fitter, dict[str, Any]]:
    """A fitter of a model, and what it reads of each layer."""
    graph, table = prepared(model.graph, 13), registry.target(target).table
    plan = make_plan(graph.graph, 17, table, ())
    fitter = Fitter(graph, plan, {}, table, context)
    readings = [reading for node in fitter.layers() if (reading := fitter.reading(node))]
    return fitter, {reading.node.name or "": reading for reading in readings}


# --- what is seen -------------------------------------------------------------------------------------------------


def test_every_run_of_a_loop_is_seen(body_model: Any, make_context: Any, run_float: Any) -> None:
    """By hand: the first iterations are the same model with fewer of them."""
    model = body_model("loop")
    context = samples(make_context, model, "onnxruntime", 0, 1)
    feed = next(iter(context.need_calibration("test").feeds()))
    probe = with_outputs(model.graph, ["h", "x", "z", "q"])
    h, x, z, q = run_float(model.edited(probe), feed).values()
    assert (x == feed["x"]).all()
    assert len(h) == len(z) == len(q) == 3
    for i, state in enumerate((feed["x"], *z[:2])):
        assert (h[i] == state).all()
    (size,) = run_float(model.edited(with_sizes(model.graph, ["q"])), feed).values()
    assert size == sum(array.size for array in q)


def test_bodies_within_bodies_are_seen_and_other_outputs_stay_in_place(build: Any, run_float: Any) -> None:
    text = """(float[2] x, int64 n) => (float[2] y, float[N,2] w, float[2] d) { d = Neg(x)
        y, w = Loop(n, , x) <body = l (int64 i, bool k, float[2] v) => (bool m, float[2] u, float[2] s) {
            m = Identity(k)  u = Add(v, v)  s = Neg(u)  f = Cast<to=1>(i)  c = Greater(f, one)
            r = If(c) <then_branch = t () => (float[2] a) { a = Mul(u, d) },
                       else_branch = e () => (float[2] b) { b = Neg(d) }>  o = Abs(r) }> }"""
    model = build(text, one=np.float32(1))
    for node in model.graph.graph.all_nodes():
        node.name = node.outputs[0].name
    x = np.array([1, 2], np.float32)
    wanted = ["y", ("d", "a"), "w", "a", "d", "b", "u"]
    for count in (4, 0):
        feed = {"x": x, "n": np.array(count)}
        y, w, d = run_float(model, feed).values()
        got = list(run_float(model.edited(with_outputs(model.graph, wanted)), feed).values())
        assert all((each == right).all() for each, right in zip((got[0], got[2], got[4]), (y, w, d), strict=True))
        runs = [[array.tolist() for array in each if array.size] for each in (got[1], got[3], got[5], got[6])]
        assert runs[0] == [[-1, -2]] * 2 * bool(count)
        assert runs[1] == [[-8, -32], [-16, -64]][: count // 2]
        assert runs[2] == [[1, 2]] * (count // 2)
        assert runs[3] == [[2.0**i, 2.0 ** (i + 1)] for i in range(1, count + 1)]


def test_what_a_branch_reads_counts_where_it_is_taken(body_model: Any, make_context: Any) -> None:
    model = body_model("if")
    context = samples(make_context, model, "openvino", 0, 12)
    fitter, readings = reached(model, "openvino", context)
    rows = {name: [] for name in ("p", "u")}
    for feed in context.need_calibration("test").feeds():
        rows["p" if feed["x"].sum() > 0 else "u"].append(feed["x"])
    seen = {r.node.name: found for r, found in moments(fitter.graph, [readings["p"], readings["u"]], context)}
    for name, own in rows.items():
        together = np.concatenate(own)
        assert 0 < len(own) < 12
        assert seen[name].rows == len(together)
        assert seen[name].second[0] == pytest.approx(together.T @ together / len(together), rel=1e-4, abs=1e-5)


def test_some_runs_of_a_branch_are_held_back_and_some_are_not(body_model: Any, make_context: Any) -> None:
    """Every fourth run is held back: here the branch is taken in these alone."""
    model = body_model("if")
    context = samples(make_context, model, "openvino", 0, 60)
    feeds = list(context.need_calibration("test").feeds())
    taken, others = ([f for f in feeds if (f["x"].sum() > 0) == way] for way in (True, False))
    mixed = [taken.pop() if i % 4 == 3 else others.pop() for i in range(32)]
    inputs = context.need_calibration("test").inputs
    context = replace(context, calibration=CalibrationSet(Samples(mixed), tuple(range(32)), inputs))  # type: ignore
    fitter, readings = reached(model, "openvino", context)
    some = replace(readings["p"], other=("x", "p"))
    ((_, seen),) = moments(fitter.graph, [some], context, fitter.graph)
    assert seen.held is not None
    assert (seen.rows, seen.held.rows) == (6 * 4, 2 * 4)


def test_runs_that_differ_between_two_graphs_are_not_compared(body_model: Any, make_context: Any) -> None:
    """The other graph takes the other branch, and a Loop runs less often in it."""
    for kind, name, other, rows in (("if", "zero", np.float32(1e9), 0), ("loop", "n", np.array(2), 2 * 4 * 8)):
        model = body_model(kind)
        context = samples(make_context, model, "openvino", 0, 8)
        fitter, readings = reached(model, "openvino", context)
        changed = fitter.graph.clone()
        changed.graph.initializers[name].const_value = ir.tensor(other)
        some = replace(readings["p"], other=(readings["p"].name, "p"))
        ((_, seen),) = moments(fitter.graph, [some], context, changed)
        assert seen.held is not None
        assert seen.rows + seen.held.rows == rows


def test_histograms_of_bodies_hold_what_every_run_gives(body_model: Any, make_context: Any, run_float: Any) -> None:
    model = body_model("loop")
    context = samples(make_context, model, "onnxruntime", 0, 6)
    got = calibrate(model, ["q", "h"], observer("percentile", 90.0), context)
    values: dict[str, list[np.ndarray]] = {"q": [], "h": []}
    for feed in context.need_calibration("test").feeds():
        found = run_float(model.edited(with_outputs(model.graph, list(values))), feed)
        for name, each in zip(values, found.values(), strict=True):
            values[name] += each
    for name, arrays in values.items():
        together = np.concatenate([array.reshape(-1) for array in arrays])
        assert got[name].largest == pytest.approx(together.max())
        assert got[name].highs == pytest.approx(np.percentile(together, 90), rel=0.02)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("kind", ["if", "loop", "scan"])
def test_extremes_by_channel_are_those_of_all_runs(
    body_model: Any, make_context: Any, run_float: Any, opset: int, kind: str
) -> None:
    model = body_model(kind)
    model = model.edited(prepared(model.graph, opset))
    model.graph.opset_imports[""] = opset  # nothing in it has changed in between
    context = samples(make_context, model, "onnxruntime", 0, 6)
    got = calibrate(model, ["p", "q"], observer("minmax"), context, axes={"p": 1})
    seen = []
    for feed in context.need_calibration("test").feeds():
        (found,) = run_float(model.edited(with_outputs(model.graph, ["p"])), feed).values()
        seen += [array for array in found if array.size]
    together = np.concatenate(seen)
    assert got["p"].smallest == pytest.approx(together.min(axis=0))
    assert got["p"].largest == pytest.approx(together.max(axis=0))
    assert got["q"].largest == pytest.approx([max(together.max(), 0)])


# --- what it is good for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["openvino", "tensorrt-rtx"])
@pytest.mark.parametrize("kind", ["if", "loop", "scan"])
def test_fits_pay_in_bodies(body_model: Any, make_context: Any, kind: str, target: str) -> None:
    model = body_model(kind, 1, 0.5)
    context, new = samples(make_context, model, target, 0, 64), samples(make_context, model, target, 1000, 40)
    options: tuple[dict[str, Any], ...] = ({}, {"rounding": "least-squares"}, {"reconstruct": "on"})
    plain, rounded, refitted = (sqnr(model, Quantize(method="fast", **each)(model, context), new) for each in options)
    assert rounded > plain + 0.5
    assert refitted > plain + 0.5


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(TEXTS)),
    target=st.sampled_from(["onnxruntime", "openvino", "tensorrt-rtx"]),
    seed=st.integers(0, 2**16),
    spread=st.sampled_from([0.0, 1.0]),
)
def test_auto_never_does_worse_than_fast_in_bodies(
    body_model: Any, make_context: Any, kind: str, target: str, seed: int, spread: float
) -> None:
    model = body_model(kind, seed, spread)
    context = samples(make_context, model, target, 0, 20)
    plain, chosen = Quantize(method="fast")(model, context), Quantize()(model, context)
    assert sqnr(model, chosen, context) >= sqnr(model, plain, context)


def test_a_layer_in_a_body_that_makes_the_error_is_left_in_float(build: Any, make_context: Any) -> None:
    """Half of the samples take the branch, and the layer behind the uneven channels costs next to nothing."""
    text = """(float[N,24] x) => (float[N,32] y) {
        s = ReduceSum<keepdims=0>(x)  c = Greater(s, zero)  y = If(c) <
            then_branch = t () => (float[N,32] a) {
                o = Mul(x, uneven)  bad = MatMul(o, w0)  p = Gemm(x, w1)  q = Relu(p)  m = MatMul(q, w2)  r = Relu(m)
                e = MatMul(r, w3)  f = Relu(e)  g = MatMul(f, w4)  a = Add(bad, g) },
            else_branch = e () => (float[N,32] b) { u = Gemm(x, w1)  v = Relu(u)  b = MatMul(v, w4) }> }"""
    uneven = np.ones(24, np.float32)
    uneven[0] = 300
    w0 = np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32) / 5
    w0[0] /= 300
    large = {"w1": (24, 96), "w2": (96, 96), "w3": (96, 96), "w4": (96, 32)}
    model = build(text, uneven=uneven, w0=w0, zero=np.float32(0), **large)
    for node in model.graph.graph.all_nodes():
        node.name = node.outputs[0].name
    context = samples(make_context, model, "openvino", 0, 16)
    plain = Quantize(method="fast")(model, context)
    result = Quantize(equalize="off", time_limit=120.0)(model, context)
    left = {note.node: note.why for note in result.notes if note.kind == "float"}
    assert left.keys() == {"bad"}
    assert "the cause of" in left["bad"]
    assert sqnr(model, result, context) > sqnr(model, plain, context) + 5


def test_weights_alone_are_rounded_for_what_bodies_read(body_model: Any, make_context: Any) -> None:
    model = body_model("loop", 1, 0.5)
    context, new = (samples(make_context, model, "openvino", first, 40) for first in (0, 1000))
    results = [
        Quantize(precision="int8-weights", rounding=rounding)(model, context) for rounding in ("auto", "least-squares")
    ]
    plain, fitted = (sqnr(model, result, new) for result in results)
    assert fitted > plain + 1


@pytest.mark.parametrize("how", ["activations", "weights"])
def test_channels_in_bodies_are_rescaled(build: Any, make_context: Any, how: str) -> None:
    """The channels of one branch are uneven; what the other one reads, which never runs, is not known."""
    text = """(float[N,24] x, bool c) => (float[N,16] y) { y = If(c) <
        then_branch = t () => (float[N,16] a) { p = Gemm(x, w1, b1)  q = Relu(p)  a = Gemm(q, w2, b2) },
        else_branch = e () => (float[N,16] b) { u = Gemm(x, w1, b1)  v = Relu(u)  b = Gemm(v, w2, b2) }> }"""
    uneven = np.exp(np.random.default_rng(0).uniform(-3, 3, 32)).astype(np.float32)
    rng = np.random.default_rng(1)
    w1, w2 = rng.standard_normal((24, 32)) * uneven / 5, rng.standard_normal((32, 16)) / uneven[:, None] / 5
    model = build(text, w1=w1.astype(np.float32), w2=w2.astype(np.float32), b1=(32,), b2=(16,))
    for node in model.graph.graph.all_nodes():
        node.name = node.outputs[0].name
    context = samples(make_context, model, "openvino", 0, 16)
    feeds = [feed | {"c": np.array(True)} for feed in context.need_calibration("test").feeds()]
    given = CalibrationSet(Samples(feeds), tuple(range(16)), context.need_calibration("test").inputs)  # type: ignore
    context = replace(context, calibration=given)
    plain = Quantize(method="fast")(model, context)
    result = Quantize(method="fast", equalize=how)(model, context)  # type: ignore[arg-type]
    assert sqnr(model, result, context) > sqnr(model, plain, context) + 5
    assert not any("equaliz" in note.why for note in result.notes)
    assert {n.name for b in bodies(result.graph.graph) if b.name == "else_branch" for n in b.graph} == {"u", "v", "b"}
