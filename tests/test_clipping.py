from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import infopt
from infopt.clipping import Clipping, clipping, doubts, quantized_tensors, scale_warnings
from infopt.data import Batch, infer_batch_axes
from infopt.model import input_specs, save
from infopt.passes import CalibrationSet, Context
from infopt.probe import opened, with_clipping
from infopt.registry import target
from infopt.targets.onnxruntime import EMULATE
from infopt_passes.quantize import Quantize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.model import Model

NET = """(float[N,3,8,8] x) => (float[N,4,8,8] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, b)  r = Relu(a)
    y = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r, v, b) }"""
WEIGHTS = {"w": (4, 3, 3, 3), "b": np.zeros(4, np.float32), "v": (4, 4, 3, 3)}


class Scaled:
    """Normal values of one scale."""

    def __init__(self, scale: float, count: int = 40) -> None:
        rng = np.random.default_rng(round(scale * 1000))
        self.rows = (scale * rng.standard_normal((count, 3, 8, 8))).astype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, indices: np.ndarray) -> Iterator[Batch]:
        for index in indices:
            yield Batch({"x": self.rows[index : index + 1]}, 1)


def quantized(model: Model, name: str, tmp_path: Path) -> tuple[Model, CalibrationSet]:
    inputs = infer_batch_axes(input_specs(model.graph), {})
    calibration = CalibrationSet(Scaled(1.0), tuple(range(40)), inputs)  # type: ignore[arg-type]
    return Quantize(method="fast")(model, Context(tmp_path, target(name), calibration)), calibration


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_rate_is_that_of_the_values_outside_the_range(build: Any, tmp_path: Path, name: str, scale: float) -> None:
    model, calibration = quantized(build(NET, **WEIGHTS), name, tmp_path)
    samples = Scaled(scale, 20)
    found = clipping(model, samples, calibration.inputs, 0, tmp_path)["x"]  # type: ignore[arg-type]
    known = dict(model.ranges)["x"]
    info = np.iinfo(known.dtype)
    integers = np.rint(samples.rows / known.scale) + known.zero_point
    assert found.clipped == pytest.approx(((integers < info.min) | (integers > info.max)).mean(), abs=1e-4)
    span = (info.max - info.min) * known.scale
    assert found.used == pytest.approx((samples.rows.max() - samples.rows.min()) / span, rel=1e-4)


def test_a_large_tensor_is_thinned_evenly_and_the_models_own_outputs_stay_in_front(build: Any, tmp_path: Path) -> None:
    model, _ = quantized(build(NET, **WEIGHTS), "onnxruntime", tmp_path)
    ranges = quantized_tensors(model)
    feed = {"x": np.concatenate([each.feed["x"] for each in Scaled(4.0).batches(1, np.arange(40))])}
    whole = opened(with_clipping(model.graph, ranges), tmp_path, EMULATE).run(feed)
    thin = opened(with_clipping(model.graph, ranges, most=1000, outputs=True), tmp_path, EMULATE).run(feed)
    assert len(thin) == 1 + len(whole)
    np.testing.assert_allclose(thin[0], opened(model.graph, tmp_path, EMULATE).run(feed)[0], rtol=1e-5)
    np.testing.assert_allclose(thin[1::3], whole[::3], atol=0.02)
    small = opened(with_clipping(model.graph, ranges, most=10**6), tmp_path, EMULATE).run(feed)
    np.testing.assert_allclose(small, whole, rtol=1e-6)
    assert thin[3] < whole[2] or thin[2] > whole[1]  # it has not seen every value


def test_every_quantized_tensor_is_looked_at(build: Any, tmp_path: Path) -> None:
    model, calibration = quantized(build(NET, **WEIGHTS), "onnxruntime", tmp_path)
    found = clipping(model, Scaled(1.0), calibration.inputs, 0, tmp_path)  # type: ignore[arg-type]
    assert set(found) == {"x", "r", "y:float"}


def test_samples_of_a_larger_scale_are_warned_about_by_the_worst_tensors(build: Any, tmp_path: Path) -> None:
    model, calibration = quantized(build(NET, **WEIGHTS), "onnxruntime", tmp_path)
    (text,) = scale_warnings(model, calibration, Scaled(8.0), 0, tmp_path)  # type: ignore[arg-type]
    assert text.startswith("evaluation samples leave the calibrated ranges: clipped are ")
    assert "% of x (0.0% in calibration)" in text


def test_samples_of_a_smaller_scale_are_warned_about(build: Any, tmp_path: Path) -> None:
    model, calibration = quantized(build(NET, **WEIGHTS), "onnxruntime", tmp_path)
    (text,) = scale_warnings(model, calibration, Scaled(1 / 255), 0, tmp_path)  # type: ignore[arg-type]
    assert text.startswith("evaluation samples use little of the calibrated ranges: ")
    assert "% by x (" in text


def test_samples_of_the_same_scale_are_not(build: Any, tmp_path: Path) -> None:
    model, calibration = quantized(build(NET, **WEIGHTS), "onnxruntime", tmp_path)
    assert scale_warnings(model, calibration, Scaled(1.1), 0, tmp_path) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(("scale", "expected"), [(8.0, 1), (1.0, 0)])
def test_the_report_warns(build: Any, tmp_path: Path, scale: float, expected: int) -> None:
    save(build(NET, **WEIGHTS).graph, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=Scaled(1.0).rows)
    np.savez(tmp_path / "eval.npz", x=Scaled(scale, 50).rows)
    data = {"calib": tmp_path / "calib.npz", "eval": tmp_path / "eval.npz"}
    report = infopt.quantize(tmp_path / "model.onnx", output=tmp_path / "out", no_bench=True, **data)
    assert sum("% of x (0.0% in calibration)" in text for text in report.warnings) == expected


@pytest.mark.parametrize(("count", "said"), [(1, "a single sample"), (7, "7 samples"), (10, "")])
def test_few_calibration_samples_are_doubted(build: Any, tmp_path: Path, count: int, said: str) -> None:
    save(build(NET, **WEIGHTS).graph, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=Scaled(1.0, count).rows)
    report = infopt.quantize(tmp_path / "model.onnx", output=tmp_path / "o", no_eval=True, calib=tmp_path / "calib.npz")
    assert [text for text in report.warnings if "too few" in text] == (
        [f"ranges come from {said} only, which is too few to trust them: 100 or more are usual"] if said else []
    )


def test_what_calibration_clips_as_well_is_no_news() -> None:
    assert doubts({"t": Clipping(0.05, 1.0)}, {"t": Clipping(0.02, 1.0)}) == []
    assert doubts({"t": Clipping(0.0, 0.03)}, {"t": Clipping(0.0, 0.04)}) == []


def test_the_worst_come_first_and_the_others_are_counted() -> None:
    found = {f"t{i}": Clipping(0.1 * i, 1.0) for i in range(1, 6)}
    (text,) = doubts(found, {name: Clipping(0.0, 1.0) for name in found})
    assert [text.index(name) for name in ("t5", "t4", "t3")] == sorted(text.index(n) for n in ("t5", "t4", "t3"))
    assert "and 2 more" in text
    assert "t2" not in text
