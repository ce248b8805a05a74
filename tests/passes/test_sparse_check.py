"""Sparse weights are judged by the whole model's outputs, and zeros stay zeros behind quantization."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.data import Batch
from infopt.facts import WEIGHT_INPUT
from infopt.passes import CalibrationSet, Context
from infopt.sparsity import has_pattern
from infopt_passes.fitting.hessian import loss
from infopt_passes.prune import Prune
from infopt_passes.prune.sparse import sparsified
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.fitting.rounding import Grid, least_squares

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Build, MakeContext, RunFloat

    from infopt.model import Model

COUNT, JUDGING = 64, range(0, 64, 8)
"""Calibration samples, and those of them that are held back to judge."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples that are the rows of one array."""

    array: np.ndarray

    def batches(self, size: int, indices: np.ndarray) -> Iterator[Batch]:
        return (Batch({"x": self.array[[i]]}, size) for i in indices)


def pairs(scale: float) -> np.ndarray:
    """Inputs that come in equal pairs, but for the samples that judge, where they come in opposite ones."""
    rng = np.random.default_rng(0)
    half = rng.uniform(0.1, 1, (COUNT, 2)).astype(np.float32) * np.float32(scale)
    signs = np.ones((COUNT, 1), np.float32)
    signs[JUDGING] = -1
    return np.stack([half, signs * half], axis=2).reshape(COUNT, 4)


def with_others(array: np.ndarray) -> np.ndarray:
    """Four more inputs, in pairs that are nearly equal in all samples."""
    rng = np.random.default_rng(1)
    half = np.repeat(rng.uniform(0.1, 1, (COUNT, 2)), 2, axis=1)
    return np.hstack([array, half + 0.01 * rng.standard_normal((COUNT, 4))]).astype(np.float32)


def context_of(make_context: MakeContext, model: Model, array: np.ndarray) -> Context:
    made = make_context(model)
    assert made.calibration is not None
    samples: Any = Rows(array)
    return replace(made, calibration=CalibrationSet(samples, tuple(range(len(array))), made.calibration.inputs))


def weights(model: Model) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.graph.graph.initializers.items()}  # type: ignore[union-attr]


TWO = "(float[N,8] x) => (float[N,1] y, float[N,1] z) { y = Gemm(x, w, b) z = MatMul(x, v) }"
W, NONE = np.array([[1.0], [1.1], [0.9], [1.2]], np.float32), np.zeros((4, 1), np.float32)


def two(build: Build) -> Model:
    """A layer that reads the first four inputs, and one that reads the others."""
    return build(TWO, w=np.vstack([W, NONE]), v=np.vstack([NONE, W]), b=np.array([0.5], np.float32))


def test_a_recovery_that_does_harm_is_taken_back_and_its_zeros_stay(build: Build, make_context: MakeContext) -> None:
    model = two(build)
    context = context_of(make_context, model, with_others(pairs(1)))
    result = sparsified(model, context, "2:4", 0.5)
    found = weights(result)
    assert has_pattern(found["w"], 0)
    assert np.array_equal(found["w"], np.where(found["w"] == 0, 0, weights(model)["w"])), (
        "what is left are the float weights"
    )
    assert found["b"].tolist() == [0.5]
    (note,) = [each for each in result.notes if each.node == "rolled back"]
    assert note.kind == "warning"
    assert "recovery made outputs worse (" in note.why
    assert "on 8 calibration samples): taken back in 1 layers (y)" in note.why
    assert sorted(found["v"].ravel())[6:] == pytest.approx([2.1, 2.1], abs=0.05)
    remarks = {each.name: each.remark for each in result.pruned}
    assert remarks["y"].endswith("; taken back")
    assert not remarks["z"].endswith("; taken back")


def test_without_harm_the_other_weights_make_up_for_zeros(build: Build, make_context: MakeContext) -> None:
    model = two(build)
    array = pairs(1)
    array[JUDGING] = np.abs(array[JUDGING])
    result = sparsified(model, context_of(make_context, model, with_others(array)), "2:4", 0.5)
    assert not [each for each in result.notes if each.node == "rolled back"]
    assert sorted(weights(result)["w"].ravel())[6:] == pytest.approx([2.1, 2.1], abs=0.05)
    (note,) = [each for each in result.notes if each.node == "outputs"]
    assert "dB before recovery, on 8 calibration samples" in note.why


EXP = "(float[N,4] x) => (float[N,1] y, float[N,1] z) { h = MatMul(x, w) y = Exp(h) z = MatMul(x, v) }"


def test_a_recovery_that_overflows_is_taken_back(build: Build, make_context: MakeContext, run_float: RunFloat) -> None:
    model = build(EXP, w=np.ones((4, 1), np.float32), v=W)
    array = pairs(1)
    array[JUDGING] = [[30 * i, -30 * i, 30 * j, -30 * j] for i in (-1, 1) for j in (-1, 1)] * 2
    context = context_of(make_context, model, array)
    result = sparsified(model, context, "2:4", 0.5)
    found = weights(result)
    assert sorted(found["w"].ravel()) == [0, 0, 1, 1]
    (note,) = [each for each in result.notes if each.node == "rolled back"]
    assert "recovery gave outputs that are not finite (" in note.why
    assert note.why.endswith("taken back in 1 layers (h)")
    assert all(np.isfinite(run_float(result, {"x": array[[i]]})["y"]).all() for i in range(COUNT))


def test_where_zeros_themselves_overflow_all_layers_stay_dense(build: Build, make_context: MakeContext) -> None:
    model = build(EXP, w=np.array([[1], [-0.5], [-0.25], [-0.25]], np.float32), v=W)
    array = np.random.default_rng(0).standard_normal((COUNT, 4)).astype(np.float32)
    array[JUDGING] = np.array([[1000], [-1000]] * 4)
    result = sparsified(model, context_of(make_context, model, array), "2:4", 0.5)
    kept = weights(result)
    assert np.array_equal(kept["w"], weights(model)["w"])
    assert np.array_equal(kept["v"], W)
    (note,) = [each for each in result.notes if each.node == "rolled back"]
    assert note.why.endswith("not finite, whether the other weights made up for them or not: all layers stay dense")
    assert {each.name: (each.before, each.after) for each in result.pruned} == {"h": (4, 4), "z": (4, 4)}


def test_judged_samples_are_not_fitted_to(build: Build, make_context: MakeContext) -> None:
    model = two(build)
    other = pairs(1)
    other[JUDGING] = np.abs(other[JUDGING])
    changed = other.copy()
    changed[JUDGING] *= np.float32(1.5)
    first, second = (
        weights(sparsified(model, context_of(make_context, model, with_others(array)), "2:4", 0.5))
        for array in (other, changed)
    )
    assert np.array_equal(first["w"], second["w"])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.1, 0.9), zero=st.sampled_from([0.0, 7.0]))
def test_least_squares_rounds_zeros_to_zero_and_is_never_worse_than_nearest(
    seed: int, share: float, zero: float
) -> None:
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((100, 24)) @ rng.standard_normal((24, 24))
    second = (data.T @ data / 100)[None]
    weight = rng.standard_normal((1, 3, 24)).astype(np.float32)
    weight[rng.random(weight.shape) < share] = 0
    grid = Grid(np.float32(0.4), (-8, 15), np.full((1, 3, 1), zero, np.float32))
    found = least_squares(weight, second, grid).integers
    assert (found[weight == 0] == zero).all()
    new, plain = (loss(weight - grid.value(each), second) for each in (found, grid.nearest(weight)))
    assert (new <= plain * (1 + 1e-5)).all()


NET = """(float[N,16] x) => (float[N,4] y) {
    a = MatMul(x, w1) r = Relu(a) b = Gemm(r, w2, b2) s = Relu(b) y = MatMul(s, w3)
}"""


@pytest.mark.parametrize(
    "options",
    [{"method": "fast"}, {"method": "fast", "rounding": "least-squares"}, {"method": "fast", "reconstruct": "on"}, {}],
    ids=["plain", "rounding", "refit", "auto"],
)
def test_pruned_weights_are_zero_in_int8(build: Build, make_context: MakeContext, options: dict[str, Any]) -> None:
    model = build(NET, w1=(16, 32), w2=(32, 32), b2=(32,), w3=(32, 4))
    context = make_context(model, "openvino", count=32)
    sparse = Prune(kind="unstructured", sparsity=0.7)(model, context)
    wanted = {n.name: _weight(n) == 0 for n in sparse.graph.graph if n.op_type in ("MatMul", "Gemm")}
    result = Quantize(**options)(sparse, context)
    seen = 0
    for node in result.graph.graph:
        if node.name in wanted:
            stored = _weight(node)
            seen += stored.dtype == np.int8
            assert (stored[wanted[node.name]] == 0).all()
    assert seen == 3


def _weight(node: Any) -> np.ndarray:
    """The weight of a product, as it is stored."""
    value = node.inputs[WEIGHT_INPUT]
    maker = value.producer()
    stored = (maker.inputs[0] if maker is not None else value).const_value.numpy()
    assert isinstance(stored, np.ndarray)
    return stored
