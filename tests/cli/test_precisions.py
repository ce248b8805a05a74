"""Precisions from the command line: what needs no calibration gets along without, what cannot be is refused at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
import pytest

if TYPE_CHECKING:
    from conftest import Cli


@pytest.mark.parametrize(
    ("target", "precision"),
    [("onnxruntime", "int8-weights"), ("onnxruntime", "dynamic-int8"), ("openvino", "int8-weights")],
)
def test_weights_alone_need_no_calibration_data(cli: Cli, target: str, precision: str) -> None:
    arguments = ("--target", target, "--precision", precision, "--eval", "eval.npz", "--no-bench", "-o", "out")
    result = cli("quantize", "model.onnx", *arguments)
    assert result.code == 0
    report = json.loads(Path("out", "report.json").read_text())
    assert report["data"]["calib"] is None
    assert report["accuracy"]["drop"] <= 0.1
    assert report["kernels"]["integer"] + report["kernels"]["compressed"] == 1
    assert f"precision = {precision!r}".replace("'", '"') in Path("out", "recipe.toml").read_text()
    nodes = [node.op_type for node in ir.load(Path("out", "model.onnx")).graph]
    assert "QuantizeLinear" not in nodes
    assert cli("run", "out/recipe.toml", "-o", "again").code == 0
    assert Path("again", "model.onnx").read_bytes() == Path("out", "model.onnx").read_bytes()


def test_what_a_target_cannot_run_is_refused_before_anything_is_read(cli: Cli) -> None:
    result = cli("quantize", "missing.onnx", "--target", "openvino", "--precision", "fp8")
    assert result.code == 2
    assert "no kernels for FP8" in result.err
    assert "--precision int8" in result.err


def test_a_length_that_no_kernel_knows_is_refused(cli: Cli) -> None:
    result = cli("quantize", "model.onnx", "--precision", "int4-weights", "--block", "24")
    assert result.code == 2
    assert "16, 32, 64, 128, 256" in result.err


def test_targets_tell_what_they_run(cli: Cli) -> None:
    result = cli("targets", "tensorrt-rtx")
    lines = {line.split()[0]: line for line in result.out.splitlines()[1:]}
    assert list(lines) == ["int8", "int8-weights", "int4-weights", "dynamic-int8", "int16-activations", "fp8"]
    assert "SM89" in lines["fp8"]
    assert "nearest: int8" in lines["dynamic-int8"]
