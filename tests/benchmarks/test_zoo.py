"""The main job on real models: every model, every target, with the bars of drop, kernels and speed."""

from __future__ import annotations

from pathlib import Path

import pytest

import infopt
from infopt.report import Report

MODELS = ("resnet20_fashion", "letter_mlp", "vit_fashion", "ppocr_det")
TARGETS = ("onnxruntime", "openvino", "tensorrt-rtx")
MAX_DROP = 0.01
MIN_INTEGER = 0.9


def _quantized(zoo: Path, model: str, target: str, out: Path) -> Report:
    folder = zoo / model
    return infopt.quantize(
        folder / "model.onnx",
        target=target,
        calib=str(folder / "calib.npz"),
        eval=str(folder / "eval.npz"),
        metric=f"{folder / 'score.py'}:score",
        output=str(out),
    )


def _show(model: str, target: str, report: Report) -> None:
    accuracy, latency, kernels = report.accuracy, report.latency, report.kernels
    assert accuracy is not None
    base = latency.baseline_float
    speed = f"{latency.speedup:.2f}x of {base.setting}" if base and latency.speedup else latency.reason
    print(f"\n{model:18} {target:13} {accuracy.baseline:.4f} -> {accuracy.candidate:.4f} ", end="")
    print(f"(drop {accuracy.drop:+.4f}, delta {accuracy.ci95}), {speed}, integer {kernels.integer}/{kernels.total}")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", MODELS)
def test_main_job(zoo: Path, tmp_path: Path, model: str, target: str) -> None:
    report = _quantized(zoo, model, target, tmp_path / "out")
    _show(model, target, report)
    assert report.accuracy is not None
    assert report.accuracy.drop <= MAX_DROP
    if target == "tensorrt-rtx":
        assert report.size.candidate_bytes, "the engine builds"
    if target == "onnxruntime":
        assert report.kernels.integer is not None
        unexplained = [node for node in report.kernels.float_nodes if not node.why or "runtime did not" in node.why]
        assert report.kernels.integer / (report.kernels.integer + len(unexplained)) >= MIN_INTEGER
    if (model, target) == ("resnet20_fashion", "onnxruntime"):
        assert report.latency.speedup is not None
        assert report.latency.speedup >= 1.5
