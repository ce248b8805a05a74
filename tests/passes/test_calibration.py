from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from infopt_passes.quantize.observe import OBSERVERS, calibrate

from infopt.data import Batch
from infopt.errors import DataError
from infopt.passes import CalibrationSet
from infopt_passes.quantize import observe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.data import Feed
    from infopt.model import Model

NET = """(float[N,3,6,6] x) => (float[N,4] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, b)  r = Relu(a)  g = GlobalAveragePool(r)
    f = Flatten(g)  y = Gemm<transB=1>(f, v, c) }"""
WEIGHTS = {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 4), "c": (4,)}
NAMES = ["x", "a", "r", "f", "y"]


class Given:
    """Samples that a test wrote down."""

    def __init__(self, *feeds: Feed) -> None:
        self.feeds = feeds

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
    graph.graph.outputs.extend(values[name] for name in names if name not in ("x", "y"))
    opened = model.edited(graph)
    return [run_float(opened, feed) | feed for feed in context.calibration.feeds()]


@pytest.mark.parametrize("batch", ["N", "2"])
def test_extremes_are_those_of_the_activations(build: Any, make_context: Any, run_float: Any, batch: str) -> None:
    model = build(NET.replace("N", batch), **WEIGHTS)
    context = make_context(model, count=6)
    seen = activations(model, NAMES, context, run_float)
    assert len(seen) == (6 if batch == "N" else 3)
    for name in NAMES:
        lows, highs = [s[name].min() for s in seen], [s[name].max() for s in seen]
        whole = calibrate(model, NAMES, OBSERVERS["minmax"], context)[name]
        mean = calibrate(model, NAMES, OBSERVERS["mean-minmax"], context)[name]
        assert whole == pytest.approx((min(lows), max(highs)), rel=1e-5, abs=1e-6)
        assert mean == pytest.approx((np.mean(lows), np.mean(highs)), rel=1e-5, abs=1e-6)


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 4), min_size=1, max_size=9))
def test_folding_sample_by_sample_equals_folding_at_once(rows: list[tuple[float, ...]]) -> None:
    extremes = np.sort(np.array(rows).reshape(-1, 2, 2), axis=2)  # sample, tensor, (low, high)
    found = {}
    for name, observer in OBSERVERS.items():
        state = observer.init(2)
        for sample in extremes:
            state = observer.update(state, sample[:, 0], sample[:, 1])
        found[name] = np.stack(observer.finish(state, len(extremes)), axis=1)
    np.testing.assert_array_equal(found["minmax"], np.stack([extremes[..., 0].min(0), extremes[..., 1].max(0)], axis=1))
    np.testing.assert_allclose(found["mean-minmax"], extremes.mean(axis=0), rtol=1e-9, atol=1e-6)


def test_only_scalars_leave_the_runtime(build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, shapes = build(NET, **WEIGHTS), []

    def spying(path: Any, settings: Any) -> Any:
        session = opened(path, settings)

        class Spy:
            def run(self, feed: Feed) -> list[np.ndarray]:
                outputs: list[np.ndarray] = session.run(feed)
                shapes.extend(output.shape for output in outputs)
                return outputs

        return Spy()

    opened = observe.open_onnx
    monkeypatch.setattr(observe, "open_onnx", spying)
    calibrate(model, NAMES, OBSERVERS["minmax"], make_context(model, count=3))
    assert shapes
    assert set(shapes) == {()}


def test_samples_are_read_one_at_a_time(build: Any, make_context: Any) -> None:
    model, alive = build(NET, **WEIGHTS), []

    class Counting(Given):
        def batches(self, size: int, indices: np.ndarray) -> Iterator[Batch]:
            assert size == 1
            for batch in super().batches(size, indices):
                alive.append("read")
                yield batch

    context = make_context(model)
    steps: list[tuple[str, int, int]] = []
    feeds = [{"x": np.ones((1, 3, 6, 6), np.float32)}] * 4
    context = replace(
        context,
        calibration=replace(fed(context, *feeds).calibration, samples=Counting(*feeds)),
        progress=lambda *step: steps.append((*step[1:], len(alive))),
    )
    calibrate(model, NAMES, OBSERVERS["minmax"], context)
    assert steps == [(1, 4, 1), (2, 4, 2), (3, 4, 3), (4, 4, 4)]


@pytest.mark.parametrize("kind", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("place", [0, 1, 5, 63, 511])
def test_a_tensor_that_is_not_finite_is_named_wherever_it_is_so(
    build: Any, make_context: Any, kind: str, place: int
) -> None:
    text = "(float[N,512] x) => (float[N,512] y) { fine = Abs(x)  bad = Add(fine, k)  y = Exp(bad) }"
    weight = np.zeros(512, np.float32)
    weight[place] = float(kind)
    model = build(text, k=weight)
    context = make_context(model, count=1)
    with pytest.raises(DataError, match="tensor 'bad' is NaN or infinite in float on calibration sample 0"):
        calibrate(model, ["x", "fine", "bad"], OBSERVERS["minmax"], context)


def test_the_sample_that_is_not_finite_is_numbered(build: Any, make_context: Any) -> None:
    model = build("(float[N,2] x) => (float[N,2] y) { l = Log(x)  y = Exp(l) }")
    feeds = [{"x": np.float32([[1, 2]])}, {"x": np.float32([[3, 4]])}, {"x": np.float32([[5, -1]])}]
    with pytest.raises(DataError, match="tensor 'l' is NaN or infinite in float on calibration sample 2"):
        calibrate(model, ["x", "l"], OBSERVERS["minmax"], fed(make_context(model), *feeds))


def test_large_values_of_either_sign_are_finite(build: Any, make_context: Any) -> None:
    model = build("(float[N,4] x) => (float[N,4] y) { h = Abs(x)  y = Neg(h) }")
    feed = {"x": np.float32([[3e38, 3e38, 3e38, 1.0]])}
    found = calibrate(model, ["h", "y"], OBSERVERS["minmax"], fed(make_context(model), feed))
    assert found == {"h": (1.0, pytest.approx(3e38)), "y": (pytest.approx(-3e38), -1.0)}


def test_calibrating_leaves_the_model_as_it_was(build: Any, make_context: Any) -> None:
    import onnx_ir as ir

    model = build(NET, **WEIGHTS)
    before = ir.to_proto(model.graph).SerializeToString(deterministic=True)
    calibrate(model, NAMES, OBSERVERS["minmax"], make_context(model))
    assert ir.to_proto(model.graph).SerializeToString(deterministic=True) == before
