"""Weights that are quantized alone, rounded for the least square error of their layers' outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest

from infopt import registry
from infopt.errors import InputError, OptionError
from infopt.passes import Context
from infopt.target import CompileOptions
from infopt_passes.quantize import Quantize

if TYPE_CHECKING:
    from pathlib import Path

GRAPHS = {
    "MatMul(x, w)": (64, 24),
    "Gemm(x, w, b)": (64, 24),
    "Gemm<transB=1>(x, w, b)": (24, 64),
}


def error(run: Any, model: Any, other: Any, context: Any) -> float:
    """Square error over the calibration samples."""
    feeds = context.calibration.feeds()
    return float(sum(np.square(run(model, feed)["y"] - run(other, feed)["y"]).sum() for feed in feeds))


@pytest.mark.parametrize("layer", GRAPHS)
@pytest.mark.parametrize(("precision", "block"), [("int4-weights", 16), ("int4-weights", 64), ("int8-weights", 32)])
def test_outputs_on_the_samples_are_closer_than_with_the_nearest(
    build: Any, make_context: Any, run_float: Any, layer: str, precision: Any, block: int
) -> None:
    given = {"w": GRAPHS[layer]} | ({"b": (24,)} if "b)" in layer else {})
    model = build(f"(float[N,64] x) => (float[N,24] y) {{ y = {layer} }}", **given)
    context = make_context(model, "onnxruntime", 24)
    options = {"precision": precision, "block": block}
    nearest = Quantize(**options)(model, context)
    fitted = Quantize(**options, rounding="least-squares")(model, context)
    ours, theirs = (error(run_float, model, each, context) for each in (fitted, nearest))
    assert 0 < ours < 0.9 * theirs
    path = context.on_disk(fitted)
    nodes = ir.load(registry.target("onnxruntime").compile(path, path.parent, CompileOptions()).main).graph
    assert "MatMulNBits" in [node.op_type for node in nodes]


def test_few_samples_leave_the_nearest_and_a_note(build: Any, make_context: Any) -> None:
    model = build("(float[N,64] x) => (float[N,8] y) { y = MatMul(x, w) }", w=(64, 8))
    result = Quantize(precision="int4-weights", rounding="least-squares")(model, make_context(model, "onnxruntime", 4))
    assert [(note.node, note.kind) for note in result.notes if note.node == "rounding"] == [("rounding", "warning")]
    assert result.quantized_nodes()


def test_samples_are_asked_for_by_least_squares_alone(build: Any, tmp_path: Path) -> None:
    model = build("(float[N,64] x) => (float[N,8] y) { y = MatMul(x, w) }", w=(64, 8))
    context = Context(tmp_path, registry.target("onnxruntime"))
    assert not Quantize(precision="int4-weights").calibrated
    assert Quantize(precision="int4-weights")(model, context).quantized_nodes()
    assert Quantize(precision="int4-weights", rounding="least-squares").calibrated
    with pytest.raises(InputError, match="calibration"):
        Quantize(precision="int4-weights", rounding="least-squares")(model, context)


@pytest.mark.parametrize(
    ("target", "precision", "option"),
    [
        *(("onnxruntime", "int4-weights", each) for each in (
            {"weight_ranges": "mse"}, {"bias_correction": "on"}, {"equalize": "weights"}, {"reconstruct": "on"},
            {"ranges": "entropy"},
        )),
        ("onnxruntime", "dynamic-int8", {"rounding": "least-squares"}),
        ("tensorrt-rtx", "fp8", {"rounding": "least-squares"}),
    ],
)  # fmt: skip
def test_what_a_precision_has_no_use_for_is_refused(target: str, precision: Any, option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} .*{precision}"):
        Quantize(precision=precision, **option).check_target(registry.target(target))


def test_fp8_is_built_plainly_with_either_method(build: Any, make_context: Any) -> None:
    model = build("(float[N,64] x) => (float[N,64] y) { y = MatMul(x, w) }", w=(64, 64))
    context = make_context(model, "tensorrt-rtx", 12)
    auto, fast = (Quantize(precision="fp8", method=each)(model, context) for each in ("auto", "fast"))
    assert auto.quantized_nodes() == fast.quantized_nodes() != []
