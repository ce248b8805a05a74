"""Calibration of whole models against the activations themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from infopt.data import Batch
from infopt.errors import DataError
from infopt.passes import CalibrationSet
from infopt_passes.calibrate import calibration, gathering, sweep
from infopt_passes.calibrate.calibration import calibrate
from infopt_passes.calibrate.clipping import Grid
from infopt_passes.calibrate.observers import INT8, MAKERS, HistogramObserver, observer
from infopt_passes.quantize import Quantize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.data import Feed
    from infopt.model import Model

NET = """(float[N,3,6,6] x) => (float[N,4] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, b)  r = Relu(a)  g = GlobalAveragePool(r)
    f = Flatten(g)  y = Gemm<transB=1>(f, v, c) }"""
WEIGHTS = {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 4), "c": (4,)}
NAMES = ["x", "a", "r", "f", "y"]

DEEP = """(float[N,8] x, float[N,8] z) => (float[N,8] y) {
    a = MatMul(x, w1)  b = Relu(a)  c = MatMul(b, w2)  d = Add(c, z)  e = MatMul(d, w3)  f = Add(e, b)
    g = MatMul(f, w4)  h = Add(g, x)  i = MatMul(h, w5)  y = Sub(i, d) }"""
DEEP_WEIGHTS = {f"w{i}": (8, 8) for i in range(1, 6)}
DEEP_NAMES = list("xzabcdefghiy")


class Given:
    """Samples that a test wrote down."""

    path = "given"

    def __init__(self, *feeds: Feed) -> None:
        self.feeds = feeds

    def __len__(self) -> int:
        return len(self.feeds)

    def batches(self, size: int, indices: np.ndarray) -> Iterator[Batch]:
        for index in indices:
            yield Batch(self.feeds[index], 1)


def fed(context: Any, *feeds: Feed) -> Any:
    """A context whose calibration samples are these feeds."""
    samples = CalibrationSet(Given(*feeds), tuple(range(len(feeds))), context.calibration.inputs)  # type: ignore[arg-type]
    return replace(context, calibration=samples)


def activations(model: Model, names: list[str], context: Any, run_float: Any) -> list[dict[str, np.ndarray]]:
    """Every named tensor of every sample, by making them outputs."""
    graph = model.graph.clone()
    values = {value.name: value for node in graph.graph for value in node.outputs}
    known = {value.name for value in (*graph.graph.inputs, *graph.graph.outputs)}
    graph.graph.outputs.extend(values[name] for name in names if name not in known)
    opened = model.edited(graph)
    return [run_float(opened, feed) | feed for feed in context.calibration.feeds()]


def ranges(name: str, model: Model, names: list[str], context: Any) -> dict[str, tuple[float, float]]:
    """Range of each tensor by an observer."""
    seen = calibrate(model, names, observer(name), context)
    return {name: (float(span.lows[0]), float(span.highs[0])) for name, span in seen.items()}


@pytest.mark.parametrize("batch", ["N", "2"])
def test_extremes_are_those_of_the_activations(build: Any, make_context: Any, run_float: Any, batch: str) -> None:
    model = build(NET.replace("N", batch), **WEIGHTS)
    context = make_context(model, count=6)
    seen = activations(model, NAMES, context, run_float)
    assert len(seen) == (6 if batch == "N" else 3)
    found = {kind: ranges(kind, model, NAMES, context) for kind in ("minmax", "mean-minmax")}
    for name in NAMES:
        lows, highs = [s[name].min() for s in seen], [s[name].max() for s in seen]
        whole, mean = found["minmax"][name], found["mean-minmax"][name]
        assert whole == pytest.approx((min(lows), max(highs)), rel=1e-5, abs=1e-6)
        assert mean == pytest.approx((np.mean(lows), np.mean(highs)), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", ["percentile", "entropy", "mse"])
def test_clipped_ranges_are_those_of_the_activations(build: Any, make_context: Any, run_float: Any, kind: str) -> None:
    model = build(NET, **WEIGHTS)
    context = make_context(model, count=6)
    seen, found, chosen = (
        activations(model, NAMES, context, run_float),
        ranges(kind, model, NAMES, context),
        observer(kind),
    )
    assert isinstance(chosen, HistogramObserver)
    for name in NAMES:
        values = np.concatenate([sample[name].ravel() for sample in seen])
        assert found[name] == pytest.approx(chosen.finish(chosen.update(chosen.init(), values)), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("kind", ["minmax", "mean-minmax"])
def test_extremes_per_channel(build: Any, make_context: Any, run_float: Any, kind: str, opset: int) -> None:
    model = build(NET, opset=opset, **WEIGHTS)
    context = make_context(model, count=5)
    found = calibrate(model, NAMES, observer(kind), context, axes={"a": 1, "x": -1})
    seen = activations(model, NAMES, context, run_float)
    for name, others in (("a", (0, 2, 3)), ("x", (0, 1, 2)), ("r", (0, 1, 2, 3))):
        lows, highs = (np.stack([pick(s[name], axis=others) for s in seen]) for pick in (np.min, np.max))
        best = (lows.min(0), highs.max(0)) if kind == "minmax" else (lows.mean(0), highs.mean(0))
        np.testing.assert_allclose(found[name].lows, np.atleast_1d(best[0]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[name].highs, np.atleast_1d(best[1]), rtol=1e-5, atol=1e-6)


def test_what_a_tensor_is_rounded_to_is_taken_into_account(build: Any, make_context: Any) -> None:
    model = build(NET, **WEIGHTS)
    context, grid = make_context(model, count=6), Grid(16, symmetric=True)
    coarse, fine = (calibrate(model, ["a"], observer("mse", grid=each), context)["a"].highs[0] for each in (grid, INT8))
    assert coarse < fine
    seen = calibrate(model, ["a", "x"], observer("mse"), context, grids={"a": grid})
    assert seen["a"].highs[0] == coarse
    assert seen["x"].highs[0] == calibrate(model, ["x"], observer("mse"), context)["x"].highs[0]


def test_histograms_per_channel_are_not_on_offer(build: Any, make_context: Any) -> None:
    model = build(NET, **WEIGHTS)
    with pytest.raises(ValueError, match="per tensor only"):
        calibrate(model, NAMES, observer("mse"), make_context(model), axes={"a": 1})


@pytest.mark.parametrize("kind", list(MAKERS))
def test_samples_of_different_shapes(build: Any, make_context: Any, run_float: Any, kind: str) -> None:
    model = build(NET.replace("N,3,6,6", "N,3,H,W"), **WEIGHTS)
    rng = np.random.default_rng(0)
    feeds = [
        {"x": rng.standard_normal((1, 3, *size)).astype(np.float32)} for size in ((6, 6), (9, 5), (1, 17), (30, 2))
    ]
    context = fed(make_context(model), *feeds)
    seen, found = activations(model, NAMES, context, run_float), ranges(kind, model, NAMES, context)
    for name in NAMES:
        values = np.concatenate([sample[name].ravel() for sample in seen])
        chosen = observer(kind)
        if isinstance(chosen, HistogramObserver):
            expected = chosen.finish(chosen.update(chosen.init(), values))
        elif kind == "minmax":
            expected = (values.min(), values.max())
        else:
            expected = tuple(np.mean([pick(s[name]) for s in seen]) for pick in (np.min, np.max))
        assert found[name] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("memory", [4 * 256, 4 * 600, 4 * 32])
def test_a_model_in_parts_gives_the_same_ranges(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch, kind: str, memory: int
) -> None:
    model = build(DEEP, **DEEP_WEIGHTS)
    context, opened, weights = make_context(model, count=7), calibration.opened, []

    def spying(graph: Any, workdir: Any, settings: Any) -> Any:
        weights.append(sum(v.const_value.nbytes for v in graph.graph.initializers.values()))
        return opened(graph, workdir, settings)

    monkeypatch.setattr(calibration, "opened", spying)
    whole = ranges(kind, model, DEEP_NAMES, context)
    assert weights == [5 * 256]
    parts = ranges(kind, model, DEEP_NAMES, replace(context, memory=memory))
    assert max(weights[1:]) <= max(memory // 4, 256)
    assert len(weights) > 3
    assert parts == {name: pytest.approx(span, rel=1e-5, abs=1e-6) for name, span in whole.items()}


def test_what_parts_leave_on_disk_is_gone_in_the_end(build: Any, make_context: Any) -> None:
    model = build(DEEP, **DEEP_WEIGHTS)
    context = replace(make_context(model, count=3), memory=4 * 256)
    calibrate(model, DEEP_NAMES, observer("minmax"), context)
    assert [path for path in context.workdir.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_several_samples_at_once_change_nothing(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    model = build(NET, **WEIGHTS)
    context = make_context(model, count=9)
    monkeypatch.setattr(sweep.os, "sched_getaffinity", lambda pid: set(range(streams)))
    assert sweep.streams(1, 100).count == streams
    expected = ranges("mean-minmax", model, NAMES, context)
    monkeypatch.setattr(sweep, "MOST_STREAMS", 1)
    assert ranges("mean-minmax", model, NAMES, context) == expected


def test_tensors_are_fetched_in_groups_that_fit(build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, fetched = build(NET, **WEIGHTS), []
    outputs = gathering.with_outputs
    monkeypatch.setattr(gathering, "with_outputs", lambda graph, names: fetched.append(names) or outputs(graph, names))
    context, steps = make_context(model, count=3), []
    context = replace(context, memory=15_000, progress=lambda what, done, total: steps.append((done, total)))
    ranges("percentile", model, NAMES, context)
    assert [name for group in fetched for name in group] == NAMES
    assert len(fetched) > 2
    assert steps == [(i + 1, 3 * len(fetched)) for i in range(3 * len(fetched))]


def test_only_scalars_leave_the_runtime(build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, shapes = build(NET, **WEIGHTS), []

    def spying(graph: Any, workdir: Any, settings: Any) -> Any:
        session = opened(graph, workdir, settings)

        class Spy:
            def run(self, feed: Feed) -> list[np.ndarray]:
                outputs: list[np.ndarray] = session.run(feed)
                shapes.extend(output.shape for output in outputs)
                return outputs

        return Spy()

    opened = calibration.opened
    monkeypatch.setattr(calibration, "opened", spying)
    calibrate(model, NAMES, observer("minmax"), make_context(model, count=3))
    assert shapes
    assert set(shapes) == {()}


def test_samples_are_read_as_they_are_needed(build: Any, make_context: Any) -> None:
    model, read = build(NET, **WEIGHTS), []

    class Counting(Given):
        def batches(self, size: int, indices: np.ndarray) -> Iterator[Batch]:
            assert size == 1
            for batch in super().batches(size, indices):
                read.append(batch)
                yield batch

    context, ahead = make_context(model), []
    feeds = [{"x": np.ones((1, 3, 6, 6), np.float32)}] * 40
    context = replace(
        context,
        calibration=replace(fed(context, *feeds).calibration, samples=Counting(*feeds)),
        progress=lambda what, done, total: ahead.append((len(read) - done, total)),
    )
    calibrate(model, NAMES, observer("minmax"), context)
    assert len(ahead) == 40
    # One sample is read beforehand, to see how large samples are.
    assert max(ahead) <= (sweep.MOST_STREAMS + 2, 40)


@pytest.mark.parametrize("ranging", ["minmax", "percentile"])
@pytest.mark.parametrize("kind", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("place", [0, 63, 511])
def test_a_weight_that_is_not_finite_is_named_wherever_it_is_so(
    build: Any, make_context: Any, kind: str, place: int, ranging: str
) -> None:
    text = "(float[N,512] x) => (float[N,512] y) { fine = Abs(x)  bad = Add(fine, k)  y = Exp(bad) }"
    weight = np.zeros(512, np.float32)
    weight[place] = float(kind)
    model = build(text, k=weight)
    context = make_context(model, count=1)
    with pytest.raises(
        DataError, match=r"on calibration sample 0, first at node 'bad' \(Add\), whose weight 'k' holds"
    ):
        calibrate(model, ["x", "fine", "bad"], observer(ranging), context)


@pytest.mark.parametrize("ranging", ["minmax", "percentile"])
def test_the_first_node_that_is_not_finite_is_named_though_it_is_not_observed(
    build: Any, make_context: Any, ranging: str
) -> None:
    text = """(float[N,2] x) => (float[N,2] y) {
        u = Neg(x)  l = Log(x)  n = Neg(l)  s = Sigmoid(n)  other = Add(u, s)  y = Add(other, n) }"""
    model = build(text)
    feeds = [{"x": np.float32([[1, 2]])}, {"x": np.float32([[3, 4]])}, {"x": np.float32([[5, -1]])}]
    with pytest.raises(DataError, match=r"gives NaN on calibration sample 2, first at node 'l' \(Log\)"):
        calibrate(model, ["x", "other", "y"], observer(ranging), fed(make_context(model), *feeds))


def test_an_infinite_mask_is_not_blamed_for_a_nan_behind_it(build: Any, make_context: Any) -> None:
    text = """(float[N,2] x) => (float[N,2] y) {
        m = Add(x, k)  s = Softmax<axis=-1>(m)  l = Log(s)  z = Mul(l, s)  y = Relu(z) }"""
    model = build(text, k=np.float32([0, -np.inf]))
    with pytest.raises(DataError, match=r"first at node 'l' \(Log\)"):
        calibrate(model, ["x", "s", "y", "z"], observer("minmax"), make_context(model))
    assert ranges("minmax", model, ["x", "s"], make_context(model))["s"] == (0, 1)


def test_a_fault_behind_the_first_part_is_named(build: Any, make_context: Any) -> None:
    text = DEEP.replace("i = MatMul(h, w5)", "q = Sqrt(h)  i = MatMul(q, w5)")
    model = build(text, **DEEP_WEIGHTS)
    context = replace(make_context(model, count=3), memory=4 * 256)
    with pytest.raises(DataError, match=r"first at node 'q' \(Sqrt\)"):
        calibrate(model, DEEP_NAMES, observer("minmax"), context)


def test_sums_that_overflow_are_no_fault(build: Any, make_context: Any) -> None:
    model = build("(float[N,4] x) => (float[N,4] y) { y = Neg(x) }")
    feed = {"x": np.float32([[3e38, 3e38, -3e38, -3e38]])}
    assert ranges("minmax", model, ["x", "y"], fed(make_context(model), feed))["y"] == pytest.approx((-3e38, 3e38))


def test_large_values_of_either_sign_are_finite(build: Any, make_context: Any) -> None:
    model = build("(float[N,4] x) => (float[N,4] y) { h = Abs(x)  y = Neg(h) }")
    feed = {"x": np.float32([[3e38, 3e38, 3e38, 1.0]])}
    found = ranges("minmax", model, ["h", "y"], fed(make_context(model), feed))
    assert found == {"h": (1.0, pytest.approx(3e38)), "y": (pytest.approx(-3e38), -1.0)}


def test_calibrating_leaves_the_model_as_it_was(build: Any, make_context: Any) -> None:
    import onnx_ir as ir

    model = build(NET, **WEIGHTS)
    before = ir.to_proto(model.graph).SerializeToString(deterministic=True)
    calibrate(model, NAMES, observer("minmax"), replace(make_context(model), memory=4 * 256))
    assert ir.to_proto(model.graph).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("value", [0.0, 0.37, -2.0])
def test_a_constant_tensor_is_named_and_kept(build: Any, make_context: Any, kind: str, value: float) -> None:
    text = (
        "(float[N,2,8,8] x) => (float[N,2,8,8] y) { z = Mul(x, o)  a = Add(z, k)  y = Conv<kernel_shape=[1,1]>(a, w) }"
    )
    model = build(text, o=np.float32(0), k=np.float32(value), w=(2, 2, 1, 1))
    result = Quantize(method="fast", ranges=kind, keep_float=("z", "a"))(model, make_context(model, "openvino"))
    said = "always zero" if not value else f"always {value:g}"
    assert [(note.node, note.why) for note in result.notes if note.kind == "warning"] == [
        ("a", f"{said} on the calibration samples")
    ]
    known = dict(result.ranges)["a"]
    assert round(value / known.scale) * known.scale == pytest.approx(value, rel=1e-2)
    assert known.scale == 1 or value
