"""The numeric parts of fitting: scales, rounding, shifts, patches, refits."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.model import Range
from infopt.target import Scheme
from infopt_passes.fitting.gather import fake_quantized
from infopt_passes.fitting.hessian import DAMPING, damping_for, decomposed, loss
from infopt_passes.fitting.layout import Layout
from infopt_passes.fitting.moments import Adder, Moments
from infopt_passes.fitting.patches import Window, patches
from infopt_passes.quantize.fit import Fit
from infopt_passes.quantize.fitting.bias import bias_shift
from infopt_passes.quantize.fitting.refit import refit
from infopt_passes.quantize.fitting.rounding import Grid, least_squares
from infopt_passes.quantize.fitting.scales import least_error
from infopt_passes.quantize.numbers import guarded, limits, quantize_bias, quantize_weight, weight_scales

SEEDS = st.integers(0, 10_000)
ENDS = {"int8": (-128, 127), "int4": (-8, 7), "uint4": (0, 15)}


def layer(
    seed: int, groups: int = 1, outputs: int = 3, columns: int = 6, rows: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """A weight, and rows of input whose columns are correlated and of different sizes."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((groups, columns, columns)) * np.exp(rng.standard_normal(columns))
    data = rng.standard_normal((groups, rows, columns)) @ mix + rng.standard_normal((groups, 1, columns))
    return rng.standard_normal((groups, outputs, columns)).astype(np.float32), data.astype(np.float32)


def seen(rows: np.ndarray, read: np.ndarray | None = None, crossed: bool = False) -> Moments:
    adder = Adder(rows.shape[0], rows.shape[2], crossed)
    adder.add(rows, rows if read is None else read)
    return adder.moments()


def grid(weight: np.ndarray, kind: str, block: int = 0) -> Grid:
    low, high = ENDS[kind]
    if not block:
        return Grid(np.abs(weight).max(axis=-1, keepdims=True) / high, (low, high))
    parts = weight.reshape(*weight.shape[:-1], -1, block)
    bottom, top = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
    steps = (top - bottom) / (high - low)
    zeros = np.rint(low - bottom / steps)
    return Grid(np.repeat(steps, block, -1), (low, high), np.repeat(zeros, block, -1))


# --- rounding ---------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, groups=st.integers(1, 3), rows=st.integers(1, 40), kind=st.sampled_from(["int8", "int4"]))
def test_least_squares_is_never_worse_than_nearest_for_any_output(seed: int, groups: int, rows: int, kind: str) -> None:
    weight, data = layer(seed, groups, rows=rows)
    known = grid(weight, kind)
    moments = seen(data)
    found = least_squares(weight, moments.second, known)
    assert (np.rint(found.integers) == found.integers).all()
    assert found.integers.min() >= known.ends[0]
    assert found.integers.max() <= known.ends[1]
    plain = loss(weight - known.value(known.nearest(weight)), moments.second)
    assert (loss(weight - known.value(found.integers), moments.second) <= plain).all()


def test_least_squares_pays_on_correlated_inputs_in_more_than_one_block_of_columns() -> None:
    weight, data = layer(1, outputs=8, columns=150, rows=2000)
    known, moments = grid(weight, "int4"), seen(data)
    found = least_squares(weight, moments.second, known)
    plain = loss(weight - known.value(known.nearest(weight)), moments.second)
    assert loss(weight - known.value(found.integers), moments.second).sum() < 0.4 * plain.sum()


def test_least_squares_pays_for_unsigned_blocks_with_zero_points() -> None:
    weight, data = layer(2, outputs=8, columns=64, rows=1000)
    known, moments = grid(weight + 1, "uint4", block=16), seen(data)
    found = least_squares(weight + 1, moments.second, known)
    plain = loss(weight + 1 - known.value(known.nearest(weight + 1)), moments.second)
    assert found.better == 1
    assert loss(weight + 1 - known.value(found.integers), moments.second).sum() < 0.5 * plain.sum()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, kind=st.sampled_from(["int4", "uint4"]))
def test_weights_that_were_pruned_stay_zero(seed: int, kind: str) -> None:
    weight, data = layer(seed, outputs=4, columns=12)
    gone = np.random.default_rng(seed).random(weight.shape) < 0.6
    gone[..., ::4] = False  # each block has something to scale by
    weight[gone] = 0
    known = grid(weight, kind, block=0 if kind == "int4" else 4)
    found = known.value(least_squares(weight, seen(data).second, known).integers)
    assert (found[weight == 0] == 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 20))
def test_a_weight_on_the_grid_is_kept_exactly(seed: int, rows: int) -> None:
    _, data = layer(seed, rows=rows)
    integers = np.random.default_rng(seed).integers(-128, 128, (1, 3, 6)).astype(np.float32)
    known = Grid(np.float32(0.25), ENDS["int8"])
    assert (least_squares(integers * 0.25, seen(data).second, known).integers == integers).all()


def test_a_column_without_input_is_rounded_to_nearest() -> None:
    weight, data = layer(3)
    data[..., 2] = 0
    known = grid(weight, "int4")
    found = least_squares(weight, seen(data).second, known)
    assert np.isfinite(found.integers).all()
    assert (found.integers[..., 2] == known.nearest(weight)[..., 2]).all()


def test_moments_that_are_not_positive_are_damped_until_they_can_be_decomposed() -> None:
    weight, _ = layer(4)
    second = np.ones((1, 6, 6)) - 3 * np.eye(6)[::-1][None]
    found = least_squares(weight, second, grid(weight, "int8"))
    assert found.damping > DAMPING
    assert np.isfinite(found.integers).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_moments_of_rows_that_are_alike_leave_the_nearest_integers(groups: int) -> None:
    """Their covariance is what the rounding of sums left: it may have any sign."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((groups, 16, 16)) * 1e-7
    noise += noise.transpose(0, 2, 1)
    np.einsum("gkk->gk", noise)[:] = 1e-13
    damped, _, upper = decomposed(noise, np.einsum("gkk->gk", noise), 0.01)
    assert (damped[0] == np.diag(np.diag(damped[0]))).all()
    assert np.isfinite(upper).all()
    weight = rng.standard_normal((groups, 8, 16)).astype(np.float32)
    grid = Grid(np.full((groups, 8, 1), np.float32(0.02)), (-127, 127))
    assert (least_squares(weight, noise, grid).integers == grid.nearest(weight)).all()


def test_input_that_is_always_zero_leaves_the_nearest_integers() -> None:
    weight, _ = layer(5)
    known = grid(weight, "int8")
    assert (least_squares(weight, np.zeros((1, 6, 6)), known).integers == known.nearest(weight)).all()


def test_few_rows_are_damped_more() -> None:
    assert damping_for(100, 100_000) == pytest.approx(DAMPING, rel=0.1)
    assert damping_for(100, 50) > 10 * DAMPING


# --- scales -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, weighed=st.booleans(), kind=st.sampled_from(["int8", "int4"]))
def test_scales_for_the_least_error_are_never_worse_than_those_of_the_extremes(
    seed: int, weighed: bool, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_t(3, (4, 30)).astype(np.float32)
    importance = rng.random((1, 30)) if weighed else np.ones((1, 30))
    low, high = ENDS[kind]
    scales = (np.abs(rows).max(axis=1) / high).astype(np.float32)

    def lost(scales: np.ndarray) -> np.ndarray:
        steps = np.clip(np.rint(rows / scales[:, None]), low, high)
        return (np.square(steps * scales[:, None] - rows) * importance).sum(axis=1)

    found = least_error(rows, scales, (low, high), importance if weighed else None)
    assert found.dtype == np.float32
    assert (lost(found) <= lost(scales) * (1 + 1e-5) + 1e-12).all()


def test_an_outlier_that_no_input_meets_is_clipped() -> None:
    rows = np.linspace(-1, 1, 41, dtype=np.float32)[None]
    rows[0, 0] = 2.5
    scales = np.array([2.5 / 7], np.float32)
    importance = np.ones((1, 41))
    importance[0, 0] = 0
    assert least_error(rows, scales, (-8, 7), importance)[0] < 0.5 * scales[0]


def test_rows_of_zeros_keep_their_scale() -> None:
    assert least_error(np.zeros((2, 3), np.float32), np.ones(2, np.float32), (-127, 127)).tolist() == [1, 1]


def test_a_step_that_vanishes_is_never_chosen() -> None:
    tiny = np.full((1, 4), 1e-44, np.float32)
    found = least_error(tiny, np.ones(1, np.float32), (-127, 127))
    assert np.isfinite(tiny / found[:, None]).all()


# --- moments and shifts -------------------------------------------------------------------------------------------


def test_moments_add_up_over_runs() -> None:
    _, data = layer(6, rows=1500)
    adder = Adder(1, 6, crossed=True)
    for part in np.split(data, 15, axis=1):
        adder.add(part, 2 * part)
    found = adder.moments()
    exact = data[0].astype(np.float64)
    assert (found.rows, found.runs) == (1500, 15)
    assert found.mean[0] == pytest.approx(exact.mean(axis=0), rel=1e-4, abs=1e-4)
    assert found.cross is not None
    assert found.second[0] == pytest.approx(4 * exact.T @ exact / 1500, rel=1e-4, abs=1e-3)
    assert found.cross[0] == pytest.approx(2 * exact.T @ exact / 1500, rel=1e-4, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_a_shift_gives_the_outputs_their_mean_back(seed: int) -> None:
    weight, data = layer(seed, groups=2, rows=400)
    read = fake_quantized(data, Range(-4, 4, 8 / 255, 128, "uint8"))
    rounded = np.rint(weight * 4) / 4
    shift = bias_shift(weight, rounded, seen(data, read)).reshape(2, 3)
    wanted = (data @ weight.transpose(0, 2, 1)).mean(axis=1)
    found = (read @ rounded.transpose(0, 2, 1)).mean(axis=1) + shift
    # What is left is what few rows cannot tell from chance.
    error = (data @ (weight - rounded).transpose(0, 2, 1)).std(axis=1) / 20
    assert (np.abs(found - wanted) <= error + 1e-3)[shift != 0].all()


def test_an_absurd_shift_is_left_out() -> None:
    weight = np.ones((1, 2, 1), np.float32)
    data = np.ones((1, 10, 1), np.float32)
    assert bias_shift(weight, np.array([[[0.9], [5.0]]]), seen(data)).tolist() == pytest.approx([0.1, 0])


def test_fake_quantization_clips_and_rounds() -> None:
    known = Range(-1, 2, 0.5, 2, "uint8")
    assert fake_quantized(np.array([-9, 0.3, 0.2], np.float32), known).tolist() == [-1, 0.5, 0]


# --- patches ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    op=st.sampled_from(["Conv", "ConvTranspose"]),
    seed=SEEDS,
    axes=st.integers(1, 3),
    groups=st.integers(1, 2),
    auto=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
)
def test_patches_times_weight_are_the_convolution(op: str, seed: int, axes: int, groups: int, auto: str) -> None:
    rng = np.random.default_rng(seed)
    kernel, strides = rng.integers(1, 4, axes), rng.integers(1, 3, axes)
    dilations = np.ones(axes, int) if auto.startswith("SAME") else rng.integers(1, 3, axes)
    pads = rng.integers(0, 2, 2 * axes) if auto == "NOTSET" else np.zeros(2 * axes, int)
    data = rng.standard_normal((2, 2 * groups, *rng.integers(6, 9, axes))).astype(np.float32)
    channels = (3 * groups, 2) if op == "Conv" else (2 * groups, 3)
    weight = rng.standard_normal((*channels, *kernel)).astype(np.float32)
    attributes = {"kernel_shape": kernel.tolist(), "strides": strides.tolist(), "dilations": dilations.tolist()}
    attributes |= {"auto_pad": auto, "group": groups} | ({"pads": pads.tolist()} if auto == "NOTSET" else {})
    if op == "ConvTranspose":
        attributes["output_padding"] = (strides - 1 if auto == "NOTSET" else np.zeros(axes, int)).tolist()
    node = ir.node(op, [ir.Value(name="x"), ir.Value(name="w")], attributes=attributes)
    window = Window.of(node, [int(size) for size in kernel])
    known = Layout(window, groups, weight.shape)
    rows = patches(data, window, groups, 10_000, rng)
    found = rows @ known.matrix(weight).transpose(0, 2, 1)  # (groups, places, outputs)
    assert (known.weight(known.matrix(weight)) == weight).all()
    wanted = _run_conv(op, data, weight, attributes)
    flat = wanted.reshape(2, groups, 3, -1).transpose(1, 0, 3, 2).reshape(groups, -1, 3)
    assert found == pytest.approx(flat, abs=1e-4)


def _run_conv(op: str, data: np.ndarray, weight: np.ndarray, attributes: dict[str, object]) -> np.ndarray:
    import onnx
    import onnxruntime as ort
    from onnx import helper

    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info(name, kind, array.shape) for name, array in (("x", data), ("w", weight))],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": data, "w": weight})[0]


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS, batch=st.lists(st.integers(1, 3), min_size=1, max_size=2), data=st.lists(st.integers(1, 3), max_size=3)
)
def test_rows_of_a_batch_of_matrices_make_its_product(seed: int, batch: list[int], data: list[int]) -> None:
    """Sizes of the batch are those of the weight, or 1 on either side."""
    rng = np.random.default_rng(seed)
    for i in range(1, min(len(batch), len(data)) + 1):
        data[-i] = data[-i] if batch[-i] == 1 else int(rng.choice([1, batch[-i]]))
    x, w = rng.standard_normal((*data, 4, 5)), rng.standard_normal((*batch, 5, 6))
    known = Layout(None, int(np.prod(batch)), w.shape, columns_first=True)
    assert (known.weight(known.matrix(w)) == w).all()
    rows = known.rows(x, 10_000, rng)
    found = rows @ known.matrix(w).transpose(0, 2, 1)  # (groups, places, outputs)
    wanted = x @ w
    axes = wanted.ndim - 2
    each = [i for i, size in enumerate((1,) * (axes - len(batch)) + tuple(batch)) if size > 1]
    rest = [i for i in range(axes + 1) if i not in each]
    assert found == pytest.approx(wanted.transpose(*each, *rest, axes + 1).reshape(known.groups, -1, 6))


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (2, 3, 6)])
def test_groups_that_share_scales_take_new_ones_together(shape: tuple[int, ...]) -> None:
    """One group has nothing to gain: its integers are of no use with the scale that the other one needs."""
    rng = np.random.default_rng(0)
    window = Window(shape[2:], (1, 1), (1, 1), (0,) * 4, transposed=True, extra=(0, 0)) if len(shape) == 4 else None
    known = Layout(window, 2, shape, columns_first=window is None)
    weight = rng.standard_normal(shape).astype(np.float32)
    axis, outputs = (1, 3) if window else (2, 6)
    rows = rng.standard_normal((2, 200, known.columns)).astype(np.float32)
    found = seen(rows, rows, crossed=True)
    scheme = Scheme("int8", symmetric=True, per_channel=True)
    scales = weight_scales(weight, axis, scheme, None, 1.0)
    assert scales.shape == (outputs,)
    # The first group is as it should be, with another scale; the second one is far off.
    scales = (scales * 0.8).astype(np.float32)
    integers = known.matrix(quantize_weight(weight, scales, axis, scheme))
    integers[1] = 0
    current = Fit(scales, known.weight(integers))

    def grid(array: np.ndarray) -> tuple[np.ndarray, Grid]:
        chosen = weight_scales(array, axis, scheme, None, 1.0)
        return chosen, Grid(known.per_row(chosen), limits(scheme))

    result = refit(weight, current, known, found, grid, free=False)
    assert result.scales is not None
    assert result.integers is not None
    assert result.scales.shape == (outputs,)
    exact = known.matrix(weight).astype(np.float64)

    def distance(fit: Fit) -> float:
        assert fit.integers is not None
        assert fit.scales is not None
        own = known.matrix(fit.integers) * known.per_row(fit.scales)
        return float(np.einsum("gnk,gnk->", own @ found.second - 2 * exact @ found.cross, own))

    assert distance(result) < distance(current)
    for output in range(outputs):  # each output has integers and scale of one and the same fit
        ratio = known.matrix(result.integers)[:, output] * result.scales[output] - exact[:, output]
        assert np.abs(ratio).max() < 0.05


def test_few_places_are_drawn_alike_from_inputs_of_one_shape() -> None:
    window = Window((3,), (1,), (1,), (1, 1))
    data = np.arange(60, dtype=np.float32).reshape(1, 2, 30)
    one, other = (patches(data * k, window, 1, 7, np.random.default_rng(5)) for k in (1, 2))
    assert one.shape == (1, 7, 6)
    assert (other == 2 * one).all()


# --- refits -------------------------------------------------------------------------------------------------------


def narrow(known: Layout, weight: np.ndarray) -> tuple[np.ndarray, Grid]:
    """Scales of outputs and the grid that they make, -128 left out."""
    scales = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
    return scales, Grid(known.per_row(scales), (-127, 127))


def test_a_refit_undoes_what_its_input_lost() -> None:
    weight, data = layer(7, outputs=4, rows=4000)
    read = 0.5 * data + 1  # what earlier layers did to it
    known = Layout(None, 1, (4, 6))
    moments = seen(data, read, crossed=True)

    steps = partial(narrow, known)
    scales, plain = steps(weight[0])
    before = Fit(scales, plain.nearest(weight)[0].astype(np.int8))
    after = refit(weight[0], before, known, moments, steps, free=True)
    assert after.scales is not None
    assert after.integers is not None
    wanted = data[0] @ weight[0].T
    found = read[0] @ (after.integers * after.scales[:, None]).T + after.shift
    assert np.square(found - wanted).mean() < 0.01 * np.square(wanted).mean()


def test_a_refit_leaves_out_what_was_pruned() -> None:
    weight, data = layer(7, outputs=4, rows=4000)
    weight[..., ::2] = 0
    known = Layout(None, 1, (4, 6))

    steps = partial(narrow, known)
    scales, plain = steps(weight[0])
    before = Fit(scales, plain.nearest(weight)[0].astype(np.int8))
    after = refit(weight[0], before, known, seen(data, 0.5 * data, crossed=True), steps, free=True)
    assert after.integers is not None
    assert after.scales is not None
    assert (after.scales > 1.5 * scales).all(), "what is left makes up for what its input lost"
    assert (after.integers[weight[0] == 0] == 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, rows=st.integers(2, 30), free=st.booleans())
def test_a_refit_is_never_further_from_the_float_outputs(seed: int, rows: int, free: bool) -> None:
    weight, data = layer(seed, rows=rows)
    read = data + 0.2 * np.random.default_rng(seed).standard_normal(data.shape).astype(np.float32)
    known = Layout(None, 1, (3, 6))

    def steps(weight: np.ndarray) -> tuple[np.ndarray, Grid]:
        scales = (np.abs(weight).max(axis=1) / 7).astype(np.float32)
        return scales, Grid(known.per_row(scales), (-8, 7))

    scales, plain = steps(weight[0])
    before = Fit(scales, plain.nearest(weight)[0].astype(np.int8))
    after = refit(weight[0], before, known, seen(data, read, crossed=True), steps, free)

    def distance(fit: Fit) -> np.ndarray:
        assert fit.integers is not None
        assert fit.scales is not None
        error = read[0] @ (fit.integers * fit.scales[:, None]).T - data[0] @ weight[0].T
        return (error.var(axis=0) if free else np.square(error).mean(axis=0)).astype(np.float64)

    assert (distance(after) <= distance(before) * 1.001 + 1e-5).all()


def test_a_refit_keeps_zeros_and_makes_up_for_what_is_lost_with_the_others() -> None:
    weight, data = layer(7, outputs=4, rows=4000)
    weight = np.where(np.arange(weight.size).reshape(weight.shape) % 3 == 0, 0, weight).astype(np.float32)
    mixed = 0.5 * np.eye(6) + 0.1 * np.random.default_rng(0).standard_normal((6, 6))
    read = (data @ mixed).astype(np.float32)
    known = Layout(None, 1, (4, 6))

    def steps(weight: np.ndarray) -> tuple[np.ndarray, Grid]:
        scales = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
        return scales, Grid(known.per_row(scales), (-127, 127))

    scales, plain = steps(weight[0])
    before = Fit(scales, plain.nearest(weight)[0].astype(np.int8))
    after = refit(weight[0], before, known, seen(data, read, crossed=True), steps, free=True)
    assert after.integers is not None
    assert (after.integers[weight[0] == 0] == 0).all()

    def distance(fit: Fit) -> float:
        assert fit.integers is not None
        assert fit.scales is not None
        return float((read[0] @ (fit.integers * fit.scales[:, None]).T - data[0] @ weight[0].T).var(axis=0).sum())

    assert distance(after) < 0.5 * distance(before)


# --- dead and tiny channels -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    sizes=st.lists(st.sampled_from([0.0, 1e-44, 1e-38, 1e-30, 1e-3, 1.0, 1e20]), min_size=3, max_size=3),
    bias=st.sampled_from([0.0, 1e-40, 1e-3, 1e3]),
    step=st.sampled_from([1e-12, 1e-3, 10.0]),
)
def test_dead_and_tiny_channels_keep_weight_and_bias(seed: int, sizes: list[float], bias: float, step: float) -> None:
    scheme = Scheme("int8", symmetric=True, per_channel=True, narrow=True)
    _, data = layer(seed)
    weight = (np.random.default_rng(seed).uniform(-1, 1, (3, 6)) * np.array(sizes)[:, None]).astype(np.float32)
    biases = np.full(3, bias, np.float32)
    plain = weight_scales(weight, 0, scheme, biases, step)
    scales = guarded(least_error(weight, plain, limits(scheme)), biases, step)
    with np.errstate(over="raise"):
        assert (np.isfinite(1 / scales) & (scales > 0)).all()
    found = least_squares(weight[None], seen(data).second, Grid(scales[None, :, None], limits(scheme))).integers[0]
    assert np.isfinite(found).all()
    assert (found[~weight.any(axis=1)] == 0).all()
    accumulated = scales * np.float32(step)
    back = quantize_bias(biases, accumulated) * accumulated.astype(np.float64)
    assert (np.abs(back - biases) <= np.maximum(accumulated, np.finfo(np.float32).tiny)).all()
