from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, parser
from onnx.reference import ReferenceEvaluator

from infopt.model import Range
from infopt.target import Scheme
from infopt_passes.quantize.numbers import (
    BIAS_LIMIT,
    activation_range,
    limits,
    quantize_bias,
    quantize_weight,
    weight_scales,
)

ASYMMETRIC = Scheme("uint8", symmetric=False)
ACTIVATIONS = [
    ASYMMETRIC,
    Scheme("int8", symmetric=False),
    Scheme("int8", symmetric=True),
    Scheme("int8", symmetric=True, narrow=True),
    Scheme("uint8", symmetric=True),
]
WEIGHTS = [Scheme("int8", symmetric=True, per_channel=p, narrow=n) for p in (True, False) for n in (True, False)]

floats = st.floats(-(2.0**99), 2.0**99, width=32)
ranges = st.tuples(floats, floats).map(sorted).map(tuple)
schemes = st.sampled_from(ACTIVATIONS)
weights = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-(2.0**66), 2.0**66, width=32)
)


def dequantized(value: np.ndarray, known: Range) -> np.ndarray:
    """Q and DQ as the ONNX standard defines them, computed by its reference implementation."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 21]> g (float[N] x, float s, '
        f"{known.dtype} z) => (float[N] y) {{ q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }}"
    )
    feed = {"x": value.astype(np.float32), "s": np.float32(known.scale), "z": np.array(known.zero_point, known.dtype)}
    with np.errstate(over="ignore"):
        return ReferenceEvaluator(model).run(None, feed)[0]


# --- activations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "bottom", "top"),
    [(ASYMMETRIC, 0, 255), (ACTIVATIONS[1], -128, 127), (ACTIVATIONS[3], -127, 127)],
    ids=["uint8", "int8", "narrow"],
)
def test_the_integers_of_a_scheme(scheme: Scheme, bottom: int, top: int) -> None:
    assert limits(scheme) == (bottom, top)


@given(ranges, schemes)
def test_zero_is_represented_exactly(span: tuple[float, float], scheme: Scheme) -> None:
    known = activation_range(*span, scheme)
    assert dequantized(np.zeros(1), known).tolist() == [0.0]


@settings(max_examples=60)
@given(ranges, schemes, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_inside_the_range_the_error_is_at_most_half_a_step(
    span: tuple[float, float], scheme: Scheme, places: list[float]
) -> None:
    known = activation_range(*span, scheme)
    values = np.float32([known.low + (known.high - known.low) * place for place in [0.0, 1.0, *places]])
    error = np.abs(dequantized(values, known).astype(np.float64) - values)
    # Scales are rounded to float32, and so is every product.
    slack = 1e-5 * max(abs(known.low), abs(known.high))
    assert (error <= known.scale / 2 + slack).all() or known.scale == 1.0


@given(ranges, schemes)
def test_a_range_is_sound_whatever_calibration_saw(span: tuple[float, float], scheme: Scheme) -> None:
    known = activation_range(*span, scheme)
    bottom, top = limits(scheme)
    assert bottom <= known.zero_point <= top
    assert known.low <= 0 <= known.high
    assert np.isfinite(np.float32(1) / np.float32(known.scale))
    assert np.float32(known.scale) == known.scale > 0
    assert known.dtype == scheme.dtype


@given(ranges)
def test_a_symmetric_zero_point_is_the_middle(span: tuple[float, float]) -> None:
    points = [activation_range(*span, scheme).zero_point for scheme in ACTIVATIONS if scheme.symmetric]
    assert points == [0, 0, 128]


@given(ranges)
def test_a_symmetric_range_covers_both_sides(span: tuple[float, float]) -> None:
    known = activation_range(*span, ACTIVATIONS[3])
    assume(known.scale != 1.0)
    assert known.scale * 127 >= max(-known.low, known.high) * (1 - 1e-6)


@pytest.mark.parametrize("scheme", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("span", [(0.0, 0.0), (-0.0, 1e-45), (-1e-40, 1e-40)], ids=str)
def test_a_tensor_that_hardly_leaves_zero_gets_the_step_one(span: tuple[float, float], scheme: Scheme) -> None:
    assert activation_range(*span, scheme).scale == 1.0


@pytest.mark.parametrize("value", [3.0, -3.0])
def test_a_constant_is_represented_exactly(value: float) -> None:
    known = activation_range(value, value, ASYMMETRIC)
    assert dequantized(np.array([value]), known)[0] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("extreme", [3.4028234663852886e38, 1e38])
def test_the_largest_floats_do_not_overflow(extreme: float) -> None:
    known = activation_range(-extreme, extreme, ASYMMETRIC)
    assert np.isfinite(np.float32(known.scale))


def test_a_known_range_gives_the_textbook_numbers() -> None:
    assert activation_range(-1.0, 1.55, ASYMMETRIC) == Range(-1.0, 1.55, float(np.float32(0.01)), 100, "uint8")
    assert activation_range(0.0, 2.55, ASYMMETRIC) == Range(0.0, 2.55, float(np.float32(0.01)), 0, "uint8")
    assert activation_range(-2.55, 0.0, ASYMMETRIC) == Range(-2.55, 0.0, float(np.float32(0.01)), 255, "uint8")
    assert activation_range(-1.27, 1.0, ACTIVATIONS[2]) == Range(-1.27, 1.0, float(np.float32(0.01)), 0, "int8")


# --- weights --------------------------------------------------------------------------------------------------


def restored(weight: np.ndarray, scales: np.ndarray, axis: int, scheme: Scheme) -> np.ndarray:
    """The weight as the ONNX reference gives it back from the stored integers."""
    integers = quantize_weight(weight, scales, axis, scheme)
    inputs = ["q", "s", "z"]
    node = helper.make_node("DequantizeLinear", inputs, ["y"], **({"axis": axis} if scales.ndim else {}))
    kinds = [TensorProto.INT8, TensorProto.FLOAT, TensorProto.INT8]
    infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(inputs, kinds, strict=True)]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "g", infos, [output]), opset_imports=[helper.make_opsetid("", 21)]
    )
    feed = {"q": integers, "s": scales, "z": np.zeros(scales.shape, np.int8)}
    return ReferenceEvaluator(model).run(None, feed)[0]


@settings(max_examples=60)
@given(weights, st.sampled_from(WEIGHTS), st.data())
def test_a_weight_moves_by_at_most_half_a_step(weight: np.ndarray, scheme: Scheme, data: Any) -> None:
    axis = data.draw(st.integers(0, weight.ndim - 1))
    scales = weight_scales(weight, axis, scheme, None, 1.0)
    assert scales.shape == ((weight.shape[axis],) if scheme.per_channel else ())
    step = scales.reshape([-1 if i == axis else 1 for i in range(weight.ndim)]) if scales.ndim else scales
    error = np.abs(restored(weight, scales, axis, scheme).astype(np.float64) - weight)
    assert (error <= step * (0.5 + 1e-4)).all()


@given(weights, st.sampled_from(WEIGHTS))
def test_stored_weights_stay_within_the_schemes_integers(weight: np.ndarray, scheme: Scheme) -> None:
    stored = quantize_weight(weight, weight_scales(weight, 0, scheme, None, 1.0), 0, scheme)
    assert stored.dtype == np.int8
    assert stored.min() >= -127, "scales are symmetric: the lowest integer is only reached where it is left over"


def test_a_narrow_scheme_leaves_out_the_lowest_integer() -> None:
    weight, scales = np.float32([[-1.3, 1.0]]), np.float32([0.01])
    assert quantize_weight(weight, scales, 0, WEIGHTS[0]).tolist() == [[-127, 100]]
    assert quantize_weight(weight, scales, 0, WEIGHTS[1]).tolist() == [[-128, 100]]


def test_halves_are_rounded_to_even() -> None:
    weight, scales = np.float32([[0.5, 1.5, 2.5, -0.5, -1.5]]), np.float32([1.0])
    assert quantize_weight(weight, scales, 0, WEIGHTS[0]).tolist() == [[0, 2, 2, 0, -2]]


@given(weights)
def test_a_scale_per_channel_is_never_coarser_than_one_for_all(weight: np.ndarray) -> None:
    each = weight_scales(weight, 0, WEIGHTS[0], None, 1.0)
    one = weight_scales(weight, 0, WEIGHTS[2], None, 1.0)
    assert (each[each != 1.0] <= one).all() or one == 1.0


def test_every_channel_uses_all_of_its_integers() -> None:
    weight = np.float32([[1.0, -0.5], [0.001, 0.0], [0.0, 0.0]])
    scales = weight_scales(weight, 0, WEIGHTS[0], None, 1.0)
    assert scales.tolist() == pytest.approx([1 / 127, 0.001 / 127, 1.0])
    assert np.abs(quantize_weight(weight, scales, 0, WEIGHTS[0])).max(axis=1).tolist() == [127, 127, 0]


def test_the_channel_axis_may_be_the_last() -> None:
    weight = np.float32([[1.0, 2.0], [-4.0, 0.5]])
    assert weight_scales(weight, -1, WEIGHTS[0], None, 1.0).tolist() == pytest.approx([4 / 127, 2 / 127])


# --- biases ---------------------------------------------------------------------------------------------------

moderate = st.floats(-(2.0**40), 2.0**40, width=32)
biases = hnp.arrays(np.float32, 3, elements=moderate)
small = hnp.arrays(np.float32, (3, 4), elements=moderate)
steps = st.floats(1e-15, 1e15).map(np.float32).map(float)


@given(small, biases, steps, st.sampled_from(WEIGHTS))
def test_a_bias_fits_whatever_the_weights_are(
    weight: np.ndarray, bias: np.ndarray, step: float, scheme: Scheme
) -> None:
    accumulated = weight_scales(weight, 0, scheme, bias, step).astype(np.float64) * step
    stored = quantize_bias(bias, np.broadcast_to(accumulated, bias.shape))
    error = np.abs(stored * accumulated - bias.astype(np.float64))
    assert (error <= accumulated * 0.5 + np.abs(bias) * 1e-6).all()


@given(small, biases, steps)
def test_an_accumulator_never_overflows(weight: np.ndarray, bias: np.ndarray, step: float) -> None:
    scales = weight_scales(weight, 0, WEIGHTS[0], bias, step)
    stored = quantize_bias(bias, scales * np.float64(step)).astype(np.int64)
    assert np.abs(stored).max() <= BIAS_LIMIT
    # The largest layers sum some 30,000 products of an unsigned and a signed byte.
    assert np.abs(stored).max() + 30_000 * 255 * 127 < 2**31


def test_a_channel_with_a_large_bias_and_tiny_weights_gets_a_larger_scale() -> None:
    weight, bias = np.full((2, 3), 1e-12, np.float32), np.float32([1000.0, 0.0])
    large, plain = weight_scales(weight, 0, WEIGHTS[0], bias, 0.1)
    assert plain == pytest.approx(1e-12 / 127)
    assert large == pytest.approx(1000 / (0.1 * BIAS_LIMIT))


def test_a_bias_whose_scale_vanishes_in_float32_vanishes_too() -> None:
    scales = np.float32([1e-30]) * np.float32(1e-30)
    assert scales == 0
    assert quantize_bias(np.float32([1e-30]), scales).tolist() == [0]


@pytest.mark.parametrize(
    ("low", "high"), [(-0.015, 6), (-0.06, 6), (-0.1, 10), (-0.5, 6), (-6, 0.015), (-1, 1), (0, 6)]
)
def test_a_range_within_bounds_keeps_both_and_loses_less_than_a_step(low: float, high: float) -> None:
    known = activation_range(low, high, ASYMMETRIC, (low, high))
    ends = [np.float32(known.scale) * np.float32(end - known.zero_point) for end in (0, 255)]
    assert ends[0] >= np.float32(low)
    assert ends[1] <= np.float32(high)
    step = (high - low) / 255
    assert ends[0] <= low + 1.01 * step
    assert ends[1] >= high - 1.01 * step
