"""Scales and zero points of two graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infopt.diffing.graphs import compare_graphs
from infopt.diffing.records import ScaleChange
from infopt.diffing.scales import compare_scales

TEXT = """(float[N, 4] x) => (float[N, 3] y) {
    xq = QuantizeLinear(x, s, z)
    xd = DequantizeLinear(xq, s, z)
    wd = DequantizeLinear <axis = 1> (w, ws, wz)
    y = MatMul(xd, wd)
}"""


def weights(**changes: Any) -> dict[str, Any]:
    plain = {
        "s": np.float32(0.5), "z": np.uint8(3), "w": np.ones((4, 3), np.int8),
        "ws": np.array([1, 2, 4], np.float32), "wz": np.zeros(3, np.int8),
    }  # fmt: skip
    return plain | changes


def changed(build: Any, text: str = TEXT, opset: int = 17, **changes: Any) -> tuple[ScaleChange, ...]:
    a, b = build(TEXT, opset=opset, **weights()), build(text, opset=opset, **weights(**changes))
    return compare_scales(a, b).changes


def test_equal_scales_are_not_told(build: Any) -> None:
    assert changed(build) == ()
    found = compare_scales(build(TEXT, **weights()), build(TEXT, **weights()))
    assert (found.a, found.b) == (2, 2)


def test_ratio_and_zero_point_of_a_tensor(build: Any) -> None:
    (change,) = changed(build, s=np.float32(0.75), z=np.uint8(4))
    assert change == ScaleChange("x", "changed", "uint8", "uint8", (1.5, 1.5, 1.5), 1)


def test_scales_and_zero_points_are_no_weights(build: Any) -> None:
    other = build(TEXT, **weights(s=np.float32(0.75), z=np.uint8(4), ws=np.array([2, 2, 1], np.float32)))
    assert compare_graphs(build(TEXT, **weights()), other).weights == ()
    other = build(TEXT, **weights(w=np.zeros((4, 3), np.int8)))
    assert [each.name for each in compare_graphs(build(TEXT, **weights()), other).weights] == ["w"]


def test_ratios_of_many_scales(build: Any) -> None:
    (change,) = changed(build, ws=np.array([2, 2, 1], np.float32), wz=np.array([0, 1, 1], np.int8))
    assert change == ScaleChange(
        "w", "changed", "int8 3 scales on axis 1", "int8 3 scales on axis 1", (0.25, 1.0, 2.0), 2
    )


def test_another_type_is_told(build: Any) -> None:
    (change,) = changed(build, z=np.int8(3))
    assert (change.a, change.b, change.ratio, change.zero_points) == ("uint8", "int8", (1.0, 1.0, 1.0), None)


def test_one_scale_is_held_against_each_of_many(build: Any) -> None:
    text = TEXT.replace(" <axis = 1> (w, ws, wz)", "(w, ws, wz)")
    (change,) = changed(build, text, ws=np.float32(2), wz=np.int8(0))
    assert (change.a, change.b, change.ratio) == ("int8 3 scales on axis 1", "int8", (0.5, 1.0, 2.0))


def test_tensors_that_are_quantized_on_one_side_only(build: Any) -> None:
    text = """(float[N, 4] x) => (float[N, 3] y) {
        wd = DequantizeLinear <axis = 1> (w, ws, wz)
        h = MatMul(x, wd)
        hq = QuantizeLinear(h, s, z)
        y = DequantizeLinear(hq, s, z)
    }"""
    found = {each.tensor: (each.change, each.a, each.b) for each in changed(build, text)}
    assert found == {"x": ("removed", "uint8", None), "h": ("added", None, "uint8")}


def test_scales_that_the_graph_computes_are_told_as_such(build: Any) -> None:
    text = """(float[N, 4] x) => (float[N, 3] y) {
        d = Mul(s, s)
        xq = QuantizeLinear(x, d, z)
        xd = DequantizeLinear(xq, d, z)
        wd = DequantizeLinear <axis = 1> (w, ws, wz)
        y = MatMul(xd, wd)
    }"""
    (change,) = changed(build, text)
    assert (change.b, change.ratio) == ("uint8 with computed scales", None)


@pytest.mark.parametrize("scale", [0.0, np.inf, np.nan])
def test_scales_that_are_none_do_not_break_it(build: Any, scale: float) -> None:
    (change,) = changed(build, s=np.float32(scale))
    assert change.tensor == "x"


def test_a_zero_point_that_is_left_out_is_zero(build: Any) -> None:
    text = TEXT.replace("(w, ws, wz)", "(w, ws)")
    assert changed(build, text) == ()
