"""Layers in the bodies of If, Loop and Scan: observed, quantized and run as those of the main graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt import registry
from infopt.bodies import bodies
from infopt.data import Batch
from infopt.model import Model, save
from infopt.passes import CalibrationSet
from infopt.probe import with_extremes
from infopt.target import CompileOptions
from infopt.targets.onnxruntime import open_onnx
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.observers import observer
from infopt_passes.quantize import Quantize

CONV = "Conv<pads=[1,1,1,1]>"
EITHER = f"""(float[N,16,8,8] x, bool c) => (float[N,16,8,8] y) {{
    y = If(c) <
        then_branch = t () => (float[N,16,8,8] a) {{ p = {CONV}(x, w1, b1)  q = Relu(p)  a = {CONV}(q, w2, b2) }},
        else_branch = e () => (float[N,16,8,8] b) {{ r = {CONV}(x, w2, b2)  b = Relu(r) }}> }}"""
LOOP = f"""(float[N,16,8,8] x, int64 n) => (float[N,16,8,8] y) {{
    y = Loop(n, on, x) <body = l (int64 i, bool k, float[N,16,8,8] v) => (bool k2, float[N,16,8,8] u) {{
        k2 = Identity(k)  p = {CONV}(v, w1, b1)  q = Relu(p)  r = {CONV}(q, w2, b2)  u = Tanh(r) }}> }}"""
SCAN = """(float[T,N,16] x, float[N,16] s) => (float[N,16] z, float[T,N,16] y) {
    z, y = Scan<num_scan_inputs=1, body = l (float[N,16] h, float[N,16] v) => (float[N,16] g, float[N,16] o) {
        m = Gemm<transB=1>(v, f1, g1)  k = Gemm<transB=1>(h, f2, g2)  j = Add(m, k)  g = Tanh(j)
        o = Relu(g) }>(s, x) }"""
WEIGHTS: dict[str, Any] = {"w1": (16, 16, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,)}
GEMMS: dict[str, Any] = {"f1": (16, 16), "g1": (16,), "f2": (16, 16), "g2": (16,)}


class Samples:
    """Feeds as they are."""

    path, notes, labels, groups = Path("made up"), (), None, None

    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self.feeds = feeds

    def __len__(self) -> int:
        return len(self.feeds)

    def batches(self, size: int, indices: Any = None) -> Any:
        yield from (Batch(self.feeds[int(i)], 1) for i in (range(len(self)) if indices is None else indices))

    def sha256(self) -> str:
        return "none"

    def describe(self) -> str:
        return ""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def feeds(kind: str, ways: tuple[int, ...]) -> list[dict[str, np.ndarray]]:
    if kind == "scan":
        return [{"x": normal(way, 1, 16, seed=i), "s": normal(1, 16, seed=9)} for i, way in enumerate(ways)]
    name, dtype = ("c", bool) if kind == "if" else ("n", np.int64)
    return [{"x": normal(1, 16, 8, 8, seed=i), name: np.array(way, dtype)} for i, way in enumerate(ways)]


@pytest.fixture
def model(build: Any) -> Any:
    """Makes one of the models above."""
    texts = {"if": (EITHER, WEIGHTS), "loop": (LOOP, WEIGHTS | {"on": np.array(True)}), "scan": (SCAN, GEMMS)}

    def make(kind: str) -> Model:
        made: Model = build(texts[kind][0], **texts[kind][1])
        for node in made.graph.graph.all_nodes():
            node.name = node.outputs[0].name
        return made

    return make


@pytest.fixture
def context(make_context: Any) -> Any:
    """Makes a context with given feeds."""

    def make(model: Model, target: str, given: list[dict[str, np.ndarray]]) -> Any:
        plain = make_context(model, "onnxruntime" if target == "tensorrt" else target)
        samples = CalibrationSet(Samples(given), tuple(range(len(given))), plain.calibration.inputs)  # type: ignore
        return replace(plain, calibration=samples)

    return make


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - got).sum()))


def inner(model: Model, kind: str, op: str) -> list[ir.Node]:
    return [n for body in bodies(model.graph.graph) if body.name == kind for n in body.graph if n.op_type == op]


@pytest.mark.parametrize(("kind", "names"), [("if", "p r x"), ("loop", "p u v"), ("scan", "m g v h")])
@pytest.mark.parametrize("observed", ["minmax", "percentile"])
def test_extremes_in_bodies_are_those_that_a_run_by_hand_sees(
    model: Any, context: Any, kind: str, names: str, observed: str
) -> None:
    """By hand: the body's tensors are made outputs of the body, so that the runtime gives them whole."""
    before = model(kind)
    given = feeds(kind, (1, 0, 1) if kind == "if" else (3, 1, 2))
    got = calibrate(before, names.split(), observer(observed), context(before, "onnxruntime", given))
    for name in names.split():
        values = by_hand(before, name, given)
        assert got[name].smallest.min() == pytest.approx(min(v.min() for v in values), rel=1e-5)
        assert got[name].largest.max() == pytest.approx(max(v.max() for v in values), rel=1e-5)


def by_hand(model: Model, name: str, given: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    if name == "x":
        return [feed["x"] for feed in given]
    proto = ir.to_proto(model.graph)
    (node,) = proto.graph.node
    for attribute in node.attribute:
        if attribute.HasField("g") and any(
            name in (*n.output, *(i.name for i in attribute.g.input)) for n in attribute.g.node
        ):
            seen = onnx.helper.make_node("Identity", [name], ["seen"])
            attribute.g.node.append(seen)
            attribute.g.output.append(onnx.helper.make_tensor_value_info("seen", 1, None))
        elif attribute.HasField("g"):
            attribute.g.node.append(
                onnx.helper.make_node(
                    "Constant", [], ["seen"], value=onnx.numpy_helper.from_array(np.zeros((0,), np.float32))
                )
            )
            attribute.g.output.append(onnx.helper.make_tensor_value_info("seen", 1, None))
    node.output.append("out:seen")
    proto.graph.output.append(onnx.helper.make_tensor_value_info("out:seen", 1, None))
    session = open_onnx(proto.SerializeToString(), {})
    return [array for feed in given if (array := session.run(feed)[-1]).size]


def test_a_body_inside_of_a_body_is_observed(build: Any, run_float: Any) -> None:
    text = """(float[2,4] x, int64 n, bool c) => (float[2,4] y) { y = If(c) <
        then_branch = t () => (float[2,4] a) { a = Loop(n, , x) <
            body = l (int64 i, bool k, float[2,4] v) => (bool m, float[2,4] u) {
                m = Identity(k)  u = Add(v, one) }> },
        else_branch = e () => (float[2,4] b) { b = Neg(x) }> }"""
    before = build(text, one=np.float32(1))
    probe = with_extremes(before.graph, ["u", "b", "x"])
    x = normal(2, 4)
    for n, c, expected in [
        (3, True, (x.min() + 1, np.inf)),
        (0, True, (np.inf, np.inf)),
        (3, False, (np.inf, (-x).min())),
    ]:
        feed = {"x": x, "n": np.array(n), "c": np.array(c)}
        got = run_float(before.edited(probe), feed)
        lows = list(got.values())[:3]
        np.testing.assert_allclose(lows[:2], expected, rtol=1e-6)
        assert lows[2] == x.min()


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "tensorrt-rtx"])
@pytest.mark.parametrize("kind", ["if", "loop", "scan"])
def test_layers_in_bodies_are_quantized_and_stay_near_float(
    model: Any, context: Any, run_float: Any, tmp_path: Path, kind: str, target: str
) -> None:
    before = model(kind)
    given = feeds(kind, (1, 0, 1, 0) if kind == "if" else (2, 3, 1, 2))
    after = Quantize(method="fast")(before, context(before, target, given))
    onnx.checker.check_model(ir.to_proto(after.graph))
    float_nodes = [note.why for note in after.notes if note.kind == "float"]
    layers = [n for n in after.graph.graph.all_nodes() if n.op_type in ("Conv", "Gemm")]
    assert len(layers) == (3 if kind == "if" else 2)
    if kind in ("if", "loop", "scan") and registry.target(target).table.bodies >= {kind.capitalize()}:
        assert not float_nodes
        assert all(n.inputs[0].producer().op_type == "DequantizeLinear" for n in layers)  # type: ignore[union-attr]
        assert all(n.inputs[0].producer().graph is n.graph for n in layers)  # type: ignore[union-attr]
    else:
        assert len(float_nodes) == len(layers)
        assert all(kind.capitalize() in why for why in float_nodes)
    for feed in given:
        expected, got = run_float(before, feed), run_float(after, feed)
        assert all(sqnr(expected[name], got[name]) > 25 for name in expected)
    save(after.graph, tmp_path / "model.onnx")
    chosen = registry.target(target)
    artifact = chosen.compile(
        tmp_path / "model.onnx", tmp_path, CompileOptions(next(iter(chosen.settings("int8").values())))
    )
    if target == "onnxruntime":
        kernels = chosen.kernels(artifact)
        assert (kernels.integer, kernels.total) == (len(layers),) * 2
    if target == "tensorrt-rtx":
        return
    with chosen.open(artifact) as session:
        for feed in given:
            for first, second in zip(run_float(before, feed).values(), session.run(feed), strict=True):
                assert sqnr(first, second) > 25


@pytest.mark.parametrize(
    ("precision", "target"),
    [("int8-weights", "openvino"), ("int8-weights", "onnxruntime"), ("dynamic-int8", "onnxruntime")],
)
def test_other_precisions_reach_into_bodies_too(
    build: Any, context: Any, run_float: Any, tmp_path: Path, precision: Any, target: str
) -> None:
    text = """(float[N,4,64] x, float[N,4,64] s, bool c) => (float[N,4,64] y) { o = MatMul(x, w1)  y = If(c) <
        then_branch = t () => (float[N,4,64] a) { m = MatMul(o, w1)  a = MatMul(m, w2) },
        else_branch = e () => (float[N,4,64] b) { b = MatMul(x, w2) }> }"""
    before = build(text, w1=(64, 64), w2=(64, 64))
    given = [{"x": normal(1, 4, 64, seed=i), "s": normal(1, 4, 64), "c": np.array(i % 2)} for i in range(2)]
    given = [feed | {"c": feed["c"].astype(bool)} for feed in given]
    after = Quantize(method="fast", precision=precision)(before, context(before, target, given))
    onnx.checker.check_model(ir.to_proto(after.graph))
    wanted = "MatMulInteger" if precision == "dynamic-int8" else "DequantizeLinear"
    assert (len(inner(after, "then_branch", wanted)), len(inner(after, "else_branch", wanted))) == (2, 1)
    save(after.graph, tmp_path / "model.onnx")
    chosen = registry.target(target)
    artifact = chosen.compile(
        tmp_path / "model.onnx", tmp_path, CompileOptions(next(iter(chosen.settings("int8").values())))
    )
    with chosen.open(artifact) as session:
        for feed in given:
            assert sqnr(run_float(before, feed)["y"], session.run(feed)[0]) > 25


@pytest.mark.parametrize("ranges", ["minmax", "percentile"])
def test_a_branch_that_calibration_never_took_stays_in_float_and_is_named(
    model: Any, context: Any, run_float: Any, ranges: Any
) -> None:
    before = model("if")
    after = Quantize(method="fast", ranges=ranges)(before, context(before, "onnxruntime", feeds("if", (1, 1, 1))))
    assert [(note.node, note.why) for note in after.notes if note.kind == "warning"] == [
        ("y", "its else_branch never ran on the calibration samples: it stays in float")
    ]
    assert [(note.node, note.why) for note in after.notes if note.kind == "float"] == [
        ("r", "it is in the else_branch, which calibration never ran")
    ]
    assert not inner(after, "else_branch", "QuantizeLinear")
    assert len(inner(after, "then_branch", "QuantizeLinear")) == 3
    (feed,) = feeds("if", (0,))
    assert (run_float(before, feed)["y"] == run_float(after, feed)["y"]).all()


def test_a_loop_that_never_ran_stays_in_float(model: Any, context: Any) -> None:
    before = model("loop")
    after = Quantize(method="fast")(before, context(before, "onnxruntime", feeds("loop", (0, 0))))
    assert after.notes[0].why == "its body never ran on the calibration samples: it stays in float"
    assert not inner(after, "body", "QuantizeLinear")


def test_bodies_side_by_side_may_use_the_same_names(build: Any, context: Any, run_float: Any) -> None:
    """Each has ranges of its own: what one branch sees is a hundred times as large as what the other sees."""
    branch = f"""{{name}} () => (float[N,16,8,8] {{out}}) {{{{ q = {CONV}(x, w1, b1)  r = Relu(q)
        {{out}} = {CONV}(r, w2, b2) }}}}"""
    sides = (branch.format(name="t", out="a"), branch.format(name="e", out="b"))
    text = f"""(float[N,16,8,8] x, bool c) => (float[N,16,8,8] y) {{
        y = If(c) <then_branch = {sides[0]}, else_branch = {sides[1]}> }}"""
    before = build(text, **WEIGHTS)
    given = feeds("if", (1, 0, 1, 0))
    for i in (0, 2):
        given[i]["x"] *= 100
    after = Quantize(method="fast")(before, context(before, "onnxruntime", given))
    large, small = ({n.inputs[1].const_value.numpy().item() for n in inner(after, side, "QuantizeLinear")}  # type: ignore
                    for side in ("then_branch", "else_branch"))  # fmt: skip
    assert min(large - small) > 20 * min(small - large)
    assert sqnr(run_float(before, given[0])["y"], run_float(after, given[0])["y"]) > 25


def test_a_mean_of_ranges_is_taken_where_a_body_always_ran(model: Any, context: Any) -> None:
    before = model("if")
    given = feeds("if", (1, 0, 1))
    got = calibrate(before, ["p", "x"], observer("mean-minmax"), context(before, "onnxruntime", given))
    assert got["p"].lows == got["p"].smallest
    assert got["x"].lows > got["x"].smallest


def test_what_comes_from_around_a_body_is_quantized_in_it_for_layers_only(build: Any, context: Any) -> None:
    text = f"""(float[N,16,8,8] x, bool c) => (float[N,16,8,8] y) {{ o = {CONV}(x, w1, b1)  y = If(c) <
        then_branch = t () => (float[N,16,8,8] a) {{ s = Add(o, x)  m = {CONV}(s, w2, b2)  a = Add(m, o) }},
        else_branch = e () => (float[N,16,8,8] b) {{ b = {CONV}(o, w2, b2) }}> }}"""
    before = build(text, **WEIGHTS)
    after = Quantize(method="fast")(before, context(before, "onnxruntime", feeds("if", (1, 0))))
    read = {n.name: n.inputs[0].name for n in inner(after, "then_branch", "QuantizeLinear")}  # type: ignore[union-attr]
    assert "o" not in read.values()
    assert "s" in read.values()


def test_engines_hold_the_layers_of_bodies_in_integers(build: Any, context: Any, tmp_path: Path) -> None:
    """Without a GPU nobody can look into an engine, but its size tells of what type the weights in it are."""
    target = registry.target("tensorrt-rtx")
    text = EITHER.replace("N,16,8,8", "1,96,8,8")
    before = build(text, w1=(96, 96, 3, 3), b1=(96,), w2=(96, 96, 3, 3), b2=(96,))
    given = [{"x": normal(1, 96, 8, 8, seed=i), "c": np.array(bool(i))} for i in range(2)]
    after = Quantize(method="fast")(before, context(before, "tensorrt-rtx", given))
    sizes = []
    for name, model in (("float", before), ("integer", after)):
        folder = tmp_path / name
        folder.mkdir()
        save(model.graph, folder / "model.onnx")
        sizes.append(target.compile(folder / "model.onnx", folder, CompileOptions()).main.stat().st_size)
    assert sizes[0] - sizes[1] > 0.5 * 2 * 96 * 96 * 9 * 4  # of three quarters that could be saved


def test_the_search_for_the_best_way_gets_along_with_bodies(model: Any, context: Any, run_float: Any) -> None:
    before = model("loop")
    given = feeds("loop", tuple(1 + i % 3 for i in range(16)))
    after = Quantize(time_limit=10.0)(before, context(before, "onnxruntime", given))
    assert len(inner(after, "body", "QuantizeLinear")) >= 2
    plain = Quantize(method="fast")(before, context(before, "onnxruntime", given))
    feed = feeds("loop", (2,))[0] | {"x": normal(1, 16, 8, 8, seed=77)}
    expected = run_float(before, feed)["y"]
    assert sqnr(expected, run_float(after, feed)["y"]) > sqnr(expected, run_float(plain, feed)["y"]) - 0.5


def test_layers_beside_bodies_are_refitted(build: Any, context: Any) -> None:
    both = build(
        """(float[N,16] x, bool c) => (float[N,16] y) {
            a = MatMul(x, w)  r = Relu(a)
            z = If(c) <then_branch = t () => (float[N,16] p) { p = MatMul(r, w) },
                       else_branch = e () => (float[N,16] q) { q = MatMul(r, v) }>
            h = Relu(z)  y = MatMul(h, v) }""",
        w=normal(16, 16, seed=1),
        v=normal(16, 16, seed=2),
    )
    given = [{"x": normal(4, 16, seed=i), "c": np.array(i % 2 == 0)} for i in range(16)]
    options = {"method": "fast", "rounding": "least-squares", "reconstruct": "on"}
    result = Quantize(**options)(both, context(both, "onnxruntime", given))
    assert len([n for n in result.graph.graph.all_nodes() if n.op_type == "QuantizeLinear"]) >= 3
