"""What the pass writes for precisions other than static INT8, and the numbers in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt import registry
from infopt.errors import OptionError
from infopt.passes import Context
from infopt.precisions import PRECISIONS, Refusal, plans
from infopt.target import Scheme
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.blocks import block_scales, fitting_block
from infopt_passes.quantize.numbers import quantize_weight, weight_scales

if TYPE_CHECKING:
    from pathlib import Path

    from infopt.model import Model

INT4 = Scheme("int4", symmetric=True, per_channel=True, blocked=True)
INT8 = Scheme("int8", symmetric=True, per_channel=True, narrow=True)
FP8 = Scheme("float8e4m3fn", symmetric=True, per_channel=True)


def compressed(model: Model, tmp_path: Path, precision: Any, target: str = "onnxruntime", block: int = 32) -> Model:
    """A model quantized with nothing to calibrate with."""
    return Quantize(precision=precision, block=block, method="fast")(model, Context(tmp_path, registry.target(target)))


def matrices(rows: int, columns: int) -> st.SearchStrategy[np.ndarray]:
    """Weights of many magnitudes, and some that are all zero."""
    seeds = st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e4]))
    made = seeds.map(lambda it: np.random.default_rng(it[0]).standard_t(3, (rows, columns)) * it[1])
    return made.map(lambda array: array.astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(matrices(64, 5), st.sampled_from([16, 32, 64]))
def test_blocks_are_rounded_to_nearest_and_never_worse_than_without_clipping(weight: np.ndarray, block: int) -> None:
    scales = block_scales(weight, block, INT4)
    assert scales.shape == (64 // block, 5)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    steps = np.repeat(scales, block, axis=0)
    back = quantize_weight(weight, scales, 1, INT4).astype(np.float32) * steps
    inside = (weight >= -8.5 * steps) & (weight <= 7.5 * steps)
    assert (np.abs(back - weight)[inside] <= 0.5001 * steps[inside]).all()
    blocks = weight.reshape(-1, block, 5)
    whole = np.maximum(np.abs(blocks).max(axis=1) / 7, 1e-34).astype(np.float32)
    plain = quantize_weight(weight, whole, 1, INT4).astype(np.float32) * np.repeat(whole, block, axis=0)
    ours, theirs = (np.square((each - weight).astype(np.float64)).sum() for each in (back, plain))
    assert ours <= 1.0001 * theirs


@settings(max_examples=40, deadline=None)
@given(matrices(24, 7))
def test_int8_columns_are_within_half_a_step(weight: np.ndarray) -> None:
    scales = weight_scales(weight, 1, INT8, None, 1.0)
    back = quantize_weight(weight, scales, 1, INT8).astype(np.float32) * scales
    assert (np.abs(back - weight) <= 0.5001 * scales).all()


@settings(max_examples=40, deadline=None)
@given(matrices(24, 7))
def test_fp8_columns_are_within_a_sixteenth_of_each_value(weight: np.ndarray) -> None:
    scales = weight_scales(weight, 1, FP8, None, 1.0)
    stored = quantize_weight(weight, scales, 1, FP8)
    assert stored.dtype == ir.DataType.FLOAT8E4M3FN.numpy()
    back = stored.astype(np.float32) * scales
    # 3 bits behind the point for normal numbers; subnormal ones are 2^-9 apart.
    assert (np.abs(back - weight) <= np.maximum(np.abs(weight) / 16, scales * 2.0**-10) * 1.001).all()


@pytest.mark.parametrize(
    ("rows", "wanted", "found"), [(384, 128, 128), (96, 128, 32), (48, 32, 16), (100, 32, None), (16, 256, 16)]
)
def test_a_block_divides_the_rows(rows: int, wanted: int, found: int | None) -> None:
    assert fitting_block(rows, wanted) == found


def test_a_matrix_that_no_block_divides_stays_in_float_and_says_so(build: Any, tmp_path: Path) -> None:
    model = build("(float[N,20] x) => (float[N,8] y) { y = MatMul(x, w) }", w=(20, 8))
    result = compressed(model, tmp_path, "int4-weights")
    assert not result.quantized_nodes()
    left = [(note.node, note.why) for note in result.notes if note.kind == "float"]
    assert left == [("y", "its 20 rows do not divide into blocks")]


@pytest.mark.parametrize("precision", ["int8-weights", "int4-weights", "dynamic-int8"])
@pytest.mark.parametrize("opset", [13, 17, 21])
def test_every_gemm_that_is_taken_computes_what_it_did(
    build: Any, run_float: Any, tmp_path: Path, precision: str, opset: int
) -> None:
    text = """(float[N,64] x, float[32,N] z) => (float[N,32] y, float[N,8] t) {
        a = Gemm<transB=1>(x, w, b)  c = Gemm(a, v)  y = Gemm(c, v, row)  s = Gemm<transA=1>(z, u)  t = Relu(s) }"""
    weights = {"w": (32, 64), "b": (32,), "v": (32, 32), "row": (1, 32), "u": (32, 8)}
    model = build(text, opset=opset, ir_version=10 if opset > 20 else 8, **weights)
    result = compressed(model, tmp_path, precision)
    feed = {"x": np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32), "z": np.ones((32, 5), "f")}
    wanted, found = run_float(model, feed), run_float(result, feed)
    error = np.linalg.norm(found["y"] - wanted["y"]) / np.linalg.norm(wanted["y"])
    assert 1e-4 < error < (0.25 if precision == "int4-weights" else 0.03)
    np.testing.assert_array_equal(found["t"], wanted["t"])
    assert [note.node for note in result.notes if note.kind == "float"] == ["s"]
    onnx.checker.check_model(ir.to_proto(result.graph))


def test_without_calibration_there_is_nothing_to_see(build: Any, make_context: Any) -> None:
    assert not any(Quantize(precision=name).calibrated for name in ("int8-weights", "int4-weights", "dynamic-int8"))
    assert all(Quantize(precision=name).calibrated for name in ("int8", "fp8", "int16-activations"))
    model = build("(float[N,64] x) => (float[N,32] y) { y = MatMul(x, w) }", w=(64, 32))
    result = Quantize(precision="int4-weights")(model, make_context(model, "openvino"))
    assert result.ranges == ()


@pytest.mark.parametrize("block", [16, 64, 128])
def test_the_length_of_blocks_is_the_users(build: Any, tmp_path: Path, block: int) -> None:
    model = build("(float[N,128] x) => (float[N,4] y) { y = MatMul(x, w) }", w=(128, 4))
    (node, _) = compressed(model, tmp_path, "int4-weights", block=block).graph.graph
    assert node.attributes["block_size"].value == block
    assert [tuple(value.shape.numpy()) for value in node.inputs] == [(128, 4), (128 // block, 4)]
    assert node.inputs[0].dtype == ir.DataType.INT4


def test_a_large_weight_is_made_when_it_is_written(build: Any, tmp_path: Path) -> None:
    model = build("(float[N,1024] x) => (float[N,512] y) { y = Gemm<transB=1>(x, w) }", w=(512, 1024))
    for precision in ("int8-weights", "int4-weights"):
        node = compressed(model, tmp_path, precision).graph.graph[0]
        tensor = node.inputs[0].const_value
        assert isinstance(tensor, ir.LazyTensor)
        assert tuple(tensor.shape.numpy()) == tensor.numpy().shape == (1024, 512)


REFUSED = [
    (name, precision, plan)
    for name in registry.names("targets")
    for precision, plan in plans(registry.target(name)).items()
    if isinstance(plan, Refusal)
]


@pytest.mark.parametrize(("target", "precision", "plan"), REFUSED, ids=lambda value: str(value)[:20])
def test_what_a_target_cannot_run_is_refused_with_the_nearest_that_it_can(
    target: str, precision: Any, plan: Refusal
) -> None:
    with pytest.raises(OptionError) as caught:
        Quantize(precision=precision).check_target(registry.target(target))
    assert plan.why in str(caught.value)
    assert str(caught.value).endswith(f"--precision {plan.nearest}")
    assert not isinstance(plans(registry.target(target))[plan.nearest], Refusal)


def test_each_target_answers_for_every_precision() -> None:
    for name in registry.names("targets"):
        assert tuple(plans(registry.target(name))) == PRECISIONS
    assert {precision for _, precision, _ in REFUSED} == {"dynamic-int8", "int16-activations", "fp8"}


class Plain:
    """A target of somebody who knows of no precisions."""

    name, runtime = "plain", "Plain"
    table = registry.target("openvino").table


class Wrong(Plain):
    """One with a table that contradicts itself."""

    precisions: ClassVar[dict[str, Any]] = {"int4-weights": replace(Plain.table, weight=INT4, rules=())}


def test_a_target_that_tells_nothing_runs_static_int8_alone() -> None:
    Quantize().check_target(Plain())  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"'plain' brings no table for it; .* --precision int8$"):
        Quantize(precision="int8-weights").check_target(Plain())  # type: ignore[arg-type]


@pytest.mark.parametrize("one", [Plain, Wrong])
def test_the_tables_of_others_are_checked_for_every_precision(monkeypatch: pytest.MonkeyPatch, one: Any) -> None:
    monkeypatch.setattr(registry, "names", lambda group: {"other": "somewhere:Else"})
    monkeypatch.setattr(registry, "_load", lambda group, name: one)
    if one is Plain:
        assert isinstance(registry.target("other"), Plain)
        return
    with pytest.raises(OptionError, match="int4 and blocks are for tables that leave data in float"):
        registry.target("other")


@pytest.mark.parametrize(
    ("target", "precision", "opset", "version"), [("openvino", "int4-weights", 21, 10), ("tensorrt-rtx", "fp8", 19, 9)]
)
def test_the_file_is_of_a_version_that_knows_the_type(
    build: Any, make_context: Any, target: str, precision: Any, opset: int, version: int
) -> None:
    model = build("(float[N,64] x) => (float[N,32] y) { y = MatMul(x, w) }", w=(64, 32), opset=13, ir_version=7)
    result = Quantize(precision=precision, method="fast")(model, make_context(model, target))
    assert (result.opset, result.graph.ir_version) == (opset, version)
