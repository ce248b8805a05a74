"""Sparse weights: the pattern, the share, and that what is left makes up for what went."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.errors import InputError, OptionError
from infopt.facts import WEIGHT_INPUT
from infopt.model import save
from infopt.sparsity import compressed_bytes, has_pattern, two_of_four
from infopt.targets.trt import tensorrt
from infopt_passes.fitting.hessian import loss
from infopt_passes.prune.readings.sums import Seen
from infopt_passes.prune.sparse import sparsified
from infopt_passes.prune.sparse.allocate import Costs, allocated
from infopt_passes.prune.sparse.fit import fitted, magnitude

if TYPE_CHECKING:
    from conftest import Build, MakeContext, RunFloat

    from infopt.model import Model

CONVS = """(float[1, 8, 6, 6] x) => (float[1, 4, 4, 4] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    r = Relu(a)
    g = Conv <group = 2> (r, w2)
    y = Conv (g, w3)
}"""


def convs(build: Build) -> Model:
    return build(CONVS, w1=(8, 8, 3, 3), b1=(8,), w2=(8, 4, 1, 1), w3=(4, 8, 3, 3))


def arrays(model: Model) -> dict[str, np.ndarray]:
    nodes = [node for node in model.graph.graph if node.op_type in ("Conv", "Gemm", "MatMul")]
    return {node.name or "": node.inputs[WEIGHT_INPUT].const_value.numpy() for node in nodes}  # type: ignore[union-attr]


def seen(seed: int, columns: int, rows: int = 200) -> Seen:
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((rows, columns)) @ rng.standard_normal((columns, columns)) + 1
    second = (data.T @ data / rows)[None]
    mean = data.mean(axis=0)[None]
    return Seen(rows, rows, mean, mean, second, second)


def test_every_four_input_channels_of_each_place_hold_two_zeros(build: Build, make_context: MakeContext) -> None:
    model = convs(build)
    found = arrays(sparsified(model, make_context(model, count=16), "2:4", 0.5))
    assert all(has_pattern(weight, 1) for weight in found.values())
    assert all(np.mean(weight == 0) == 0.5 for weight in found.values())
    assert not any(has_pattern(weight, 1) for weight in arrays(model).values()), "the model given is left as it was"


@pytest.mark.parametrize(("transposed", "axis"), [(0, 0), (1, 1)])
def test_products_are_sparse_along_their_inputs(
    build: Build, make_context: MakeContext, transposed: int, axis: int
) -> None:
    shape = (6, 8) if transposed else (8, 6)
    head = "(float[N, 8] x) => (float[N, 3] y)"
    text = f"{head} {{ h = Gemm <transB = {transposed}, alpha = 0.5> (x, w) y = MatMul(h, v) }}"
    model = build(text, w=shape, v=(6, 3))
    result = sparsified(model, make_context(model, count=16), "2:4", 0.5)
    assert has_pattern(arrays(result)["h"], axis)
    assert [note.why for note in result.notes if note.node == "y"] == [
        "left dense: its 6 input channels are not a multiple of 4"
    ]


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_the_share_of_zeros_is_reached_over_all_layers(build: Build, make_context: MakeContext, share: float) -> None:
    model = convs(build)
    found = arrays(sparsified(model, make_context(model, count=16), "unstructured", share)).values()
    reached = sum(int(np.sum(each == 0)) for each in found) / sum(each.size for each in found)
    assert reached == pytest.approx(share, abs=0.005)
    assert all(each.any() for each in found)


@pytest.mark.parametrize("pattern", ["2:4", "unstructured"])
def test_outputs_stay_nearer_than_with_the_smallest_weights_gone(
    build: Build, make_context: MakeContext, run_float: RunFloat, pattern: str
) -> None:
    model = convs(build)
    context = make_context(model, count=32)
    ours = sparsified(model, context, pattern, 0.5)  # type: ignore[arg-type]
    plain = replace(ours, graph=ours.graph.clone())
    exact = arrays(model)
    import onnx_ir as ir

    for node in plain.graph.graph:
        if node.name in exact:
            count = int(exact[node.name].size / 2)
            least = magnitude(exact[node.name].reshape(1, len(exact[node.name]), -1), count)
            value = node.inputs[WEIGHT_INPUT]
            assert value is not None
            value.const_value = ir.tensor(least.reshape(exact[node.name].shape), name=value.name)
    feed = next(context.need_calibration("test").feeds())
    wanted, got, other = (run_float(each, feed)["y"] for each in (model, ours, plain))
    assert np.mean((got - wanted) ** 2) < np.mean((other - wanted) ** 2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), outputs=st.integers(1, 5), fours=st.integers(1, 20), semi=st.booleans())
def test_a_solve_is_never_worse_than_magnitude(seed: int, outputs: int, fours: int, semi: bool) -> None:
    weight = np.random.default_rng(seed).standard_normal((1, outputs, 4 * fours))
    known, count = seen(seed, 4 * fours), None if semi else weight.size // 2
    found = fitted(weight, known, count, free=False)
    assert np.isfinite(found.weight).all()
    assert np.sum(found.weight == 0) >= weight.size // 2
    assert loss(weight - found.weight, known.second).sum() <= loss(
        weight - magnitude(weight, count), known.second
    ).sum() * (1 + 1e-9)


def test_inputs_that_depend_on_each_other_are_damped_and_said(build: Build, make_context: MakeContext) -> None:
    model = build("(float[N, 64] x) => (float[N, 4] y) { y = MatMul(x, w) }", w=(64, 4))
    result = sparsified(model, make_context(model, count=8), "2:4", 0.5)
    assert np.isfinite(arrays(result)["y"]).all()
    assert any("6 rows for 64 columns: damped" in note.why for note in result.notes if note.kind == "warning")


def test_moments_that_are_not_finite_leave_the_largest_weights(build: Build) -> None:
    weight = np.arange(1.0, 9.0).reshape(1, 1, 8)
    found = fitted(weight, replace(seen(0, 8), second=np.full((1, 8, 8), np.nan)), None, free=False)
    assert found.weight.ravel().tolist() == [0, 0, 3, 4, 0, 0, 7, 8]
    assert not found.finite


def test_shared_weights_are_left_dense(build: Build, make_context: MakeContext) -> None:
    model = build(
        "(float[N, 8] x) => (float[N, 8] y) { a = MatMul(x, w) b = MatMul(a, w) y = MatMul(b, v) }", w=(8, 8), v=(8, 8)
    )
    result = sparsified(model, make_context(model, count=16), "2:4", 0.5)
    found = arrays(result)
    assert has_pattern(found["y"], 0)
    assert not (found["a"] == 0).any()
    assert "left dense: its weight is shared" in [note.why for note in result.notes if note.node == "a"]


def test_weights_of_another_type_are_left_dense_and_named(build: Build, make_context: MakeContext) -> None:
    text = "(float16[N, 8] x) => (float16[N, 4] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"
    model = build(text, w=np.ones((8, 16), np.float16), v=np.ones((16, 4), np.float16))
    with pytest.raises(InputError, match=r"can be made sparse: its weight is float16, only float32 is solved for; "):
        sparsified(model, make_context(model), "unstructured", 0.5)


def test_a_model_without_a_layer_of_fours_is_refused(build: Build, make_context: MakeContext) -> None:
    model = build("(float[N, 3] x) => (float[N, 3] y) { y = MatMul(x, w) }", w=(3, 3))
    with pytest.raises(InputError, match="3 input channels are not a multiple of 4"):
        sparsified(model, make_context(model), "2:4", 0.5)


def test_a_share_of_everything_is_refused(build: Build, make_context: MakeContext) -> None:
    model = convs(build)
    with pytest.raises(OptionError, match="not between 0 and 1"):
        sparsified(model, make_context(model), "unstructured", 1.0)


def test_sensitive_layers_keep_more() -> None:
    rng = np.random.default_rng(0)
    costs = rng.random(1000)
    counts = allocated({"robust": Costs.of(costs * 1e-6), "sensitive": Costs.of(costs)}, 0.5)
    assert counts["robust"] > counts["sensitive"]
    assert sum(counts.values()) == pytest.approx(1000, abs=2)


def test_zeros_are_seen_in_the_file_and_save_compressed_bytes(
    build: Build, make_context: MakeContext, tmp_path: Path
) -> None:
    model = convs(build)
    for name, each in (("dense", model), ("sparse", sparsified(model, make_context(model, count=16), "2:4", 0.5))):
        save(each.graph, tmp_path / f"{name}.onnx")
    assert not two_of_four(tmp_path / "dense.onnx")
    assert two_of_four(tmp_path / "sparse.onnx")
    for name, flag in (("dense", False), ("sparse", True)):
        assert ("--sparsity=enable" in tensorrt().build_command(tmp_path / f"{name}.onnx", ())) == flag
    assert compressed_bytes([tmp_path / "sparse.onnx"]) < 0.8 * compressed_bytes([tmp_path / "dense.onnx"])


def test_tensorrt_may_try_sparse_kernels_where_weights_have_the_pattern(
    build: Build, make_context: MakeContext, tmp_path: Path
) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    from infopt.target import CompileOptions
    from infopt.targets.trt_build import allow_sparse, build_engine, quiet_logger

    model = convs(build)
    save(model.graph, tmp_path / "dense.onnx")
    save(sparsified(model, make_context(model, count=16), "2:4", 0.5).graph, tmp_path / "sparse.onnx")
    builder = trt.Builder(quiet_logger(trt))
    for name in ("dense", "sparse"):
        config = builder.create_builder_config()
        allow_sparse(trt, config, tmp_path / f"{name}.onnx")
        assert config.get_flag(trt.BuilderFlag.SPARSE_WEIGHTS) == (name == "sparse")
    del config, builder
    build_engine(trt, "tensorrt-rtx", tmp_path / "sparse.onnx", tmp_path / "model.engine", CompileOptions())
    assert (tmp_path / "model.engine").stat().st_size > 0
