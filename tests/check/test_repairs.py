"""Repairs change no result: proven in ONNX Runtime on what they wrote, and the target takes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infopt
from infopt.checks.mend import mended
from infopt.errors import InfoptError, OptionError, OutputError
from infopt.model import load
from infopt.registry import target

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Build, RunFloat

    from infopt.checks.report import CheckReport
    from infopt.model import Model

    Stored = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("here")
RNG = np.random.default_rng(0)
FEED = {"x": (RNG.standard_normal((1, 16, 8, 8)) * 3).astype(np.float32)}
SIGNED = RNG.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)


def net(build: Build, zero: Any, weight: np.ndarray = SIGNED, weight_zero: Any = None, bias: bool = False) -> Model:
    """Two branches from one Q, with movers among the integers, and a residual."""
    point = np.zeros(16, np.int8) if weight_zero is None else weight_zero
    text = f"""(float[1,16,8,8] x) => (float[a,b,c,d] y) {{
        a_q = QuantizeLinear(x, s, z) a = DequantizeLinear(a_q, s, z) t = Transpose<perm=[0,1,3,2]>(a_q)
        b = DequantizeLinear(t, s, z) w = DequantizeLinear<axis=0>(wq, ws, wz)
        v = {"DequantizeLinear<axis=0>(vq, vs)" if bias else "Identity(vf)"}
        c = Conv<pads=[1,1,1,1]>(a, w, v) d = Conv<pads=[1,1,1,1]>(b, w) e = Add(c, d)
        y_q = QuantizeLinear(e, s, z) y = DequantizeLinear(y_q, s, z) }}"""
    values = {"vq": np.arange(16, dtype=np.int32) - 7, "vs": (RNG.random(16) / 99).astype(np.float32)}
    more = values if bias else {"vf": (16,)}
    scales = np.full(16, 0.003, np.float32)
    return build(text, s=np.float32(0.05), z=zero, wq=weight, ws=scales, wz=point, **more)


def fixed(path: Path, name: str, *, no_build: bool = False) -> tuple[CheckReport, Model]:
    out = path.with_name("out.onnx")
    report = infopt.check(path, target=name, fix=True, output=out, force=True, no_build=no_build)
    return report, load(out)


def what(report: CheckReport) -> list[tuple[str, str | None]]:
    assert report.fixed is not None
    return [(each.rule, each.node) for each in report.fixed.repairs]


def same(run_float: RunFloat, one: Model, other: Model) -> None:
    before, after = run_float(one, FEED), run_float(other, FEED)
    np.testing.assert_array_equal(before["y"], after["y"])


@pytest.mark.parametrize("zero", [np.int8(-10), np.int8(0)])
def test_signed_activations_become_unsigned_for_onnxruntime(
    build: Build, stored: Stored, run_float: RunFloat, zero: np.int8
) -> None:
    model = net(build, zero)
    report, other = fixed(stored(model), "onnxruntime")
    assert {node for _, node in what(report)} == {"a_q", "y_q"}
    assert not {"s8-shared", "s8-activation"} & {each.rule for each in report.findings}
    assert report.fixed is not None
    assert report.fixed.difference == 0
    same(run_float, model, other)


def test_asymmetric_signed_activations_become_unsigned_for_openvino(
    build: Build, stored: Stored, run_float: RunFloat
) -> None:
    pytest.importorskip("openvino")
    model = net(build, np.int8(-10))
    report, other = fixed(stored(model), "openvino")
    assert sorted(what(report)) == [("s8-asymmetric", "a_q"), ("s8-asymmetric", "y_q")]
    assert (report.errors, report.targets[0].state) == (0, "built")
    same(run_float, model, other)


def test_a_model_becomes_fit_for_tensorrt(build: Build, stored: Stored, run_float: RunFloat) -> None:
    pytest.importorskip("tensorrt_rtx")
    unsigned = (SIGNED.astype(int) + 128).astype(np.uint8)
    model = net(build, np.uint8(128), unsigned, np.full(16, 128, np.uint8), bias=True)
    path = stored(model)
    assert infopt.check(path, target="tensorrt-rtx").errors == 4
    report, other = fixed(path, "tensorrt-rtx")
    assert sorted(what(report)) == [
        ("int32-bias", "v"),
        ("nonzero-zero-point", "a_q"),
        ("nonzero-zero-point", "w"),
        ("nonzero-zero-point", "y_q"),
    ]
    assert (report.errors, report.targets[0].state) == (0, "built")
    assert (report.targets[0].integer, report.targets[0].total) == (2, 2)
    same(run_float, model, other)


def test_what_no_lossless_repair_exists_for_is_left_and_told(build: Build, stored: Stored, run_float: RunFloat) -> None:
    for zero in (np.uint8(120), np.uint8(0)):
        model = net(build, zero, bias=True)
        report, other = fixed(stored(model), "tensorrt-rtx", no_build=True)
        assert what(report) == [("int32-bias", "v")]
        assert report.errors == 2
        assert not any(each.fixable for each in report.findings)
        same(run_float, model, other)


def test_weights_that_do_not_fit_int8_are_not_shifted(build: Build, stored: Stored) -> None:
    wide = np.full((16, 16, 3, 3), 250, np.uint8)  # 250 - 100 is beyond int8
    report, _ = fixed(stored(net(build, np.int8(0), wide, np.full(16, 100, np.uint8))), "tensorrt-rtx", no_build=True)
    assert what(report) == []
    assert [each.node for each in report.findings if each.rule == "nonzero-zero-point"] == ["w"]


def test_integers_that_leave_the_model_are_not_shifted(build: Build, stored: Stored) -> None:
    text = "(float[4] x) => (float[4] y, int8[4] q) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
    report, _ = fixed(stored(build(text, s=np.float32(0.1), z=np.int8(3))), "openvino", no_build=True)
    assert what(report) == []
    assert report.errors == 1


def test_integers_that_something_computes_with_are_not_shifted(build: Build, stored: Stored) -> None:
    text = """(float[1,4,4,4] x) => (float[a,b,c,d] y) { q = QuantizeLinear(x, s, z) p = MaxPool<kernel_shape=[2,2]>(q)
        y = DequantizeLinear(p, s, z) }"""
    report, _ = fixed(stored(build(text, s=np.float32(0.1), z=np.int8(3))), "openvino", no_build=True)
    assert what(report) == []


def test_a_pair_that_does_nothing_goes(build: Build, stored: Stored) -> None:
    text = """(float[4] x) => (float[4] y) { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
        r = QuantizeLinear(d, s, z) e = DequantizeLinear(r, s, z) t = QuantizeLinear(e, s, z)
        y = DequantizeLinear(t, s, z) }"""
    report, other = fixed(stored(build(text, s=np.float32(0.1), z=np.uint8(7))), "onnxruntime")
    assert what(report) == [("redundant-pair", "r"), ("redundant-pair", "t")]
    assert [node.op_type for node in other.graph.graph] == ["QuantizeLinear", "DequantizeLinear"]


def test_names_are_given(build: Build, stored: Stored) -> None:
    model = build("(float[4] x) => (float[4] y) { a = Relu(x) b = Neg(a) c = Abs(b) y = Neg(c) }")
    for node, name in zip(model.graph.graph, ("n", "n", "", ""), strict=True):
        node.name = name
    report, other = fixed(stored(model), "onnxruntime")
    assert [node.name for node in other.graph.graph] == ["n", "n:2", "c", "y"]
    assert report.targets[0].state == "built"
    assert report.fixed is not None
    assert report.fixed.unproven is not None  # the original does not open


def test_nothing_to_repair_gives_a_copy(build: Build, stored: Stored) -> None:
    model = build("(float[4] x) => (float[4] y) { y = Relu(x) }")
    report, other = fixed(stored(model), "onnxruntime")
    assert what(report) == []
    assert other.nodes == 1


def test_the_original_is_not_touched(build: Build, stored: Stored) -> None:
    model = net(build, np.int8(-10))
    path = stored(model)
    before = path.read_bytes()
    fixed(path, "openvino", no_build=True)
    assert path.read_bytes() == before
    mended(model, (target("openvino"),), ())
    assert "uint8" not in {str(value.dtype).lower() for node in model.graph.graph for value in node.outputs}


def test_a_repair_that_changes_a_result_is_never_written(
    build: Build, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infopt.checks.repair.SHIFT", 127)
    path = stored(net(build, np.int8(-10)))
    with pytest.raises(InfoptError, match="differs by"):
        fixed(path, "openvino", no_build=True)
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]


def test_the_input_is_replaced_by_force_alone(build: Build, stored: Stored) -> None:
    path = stored(net(build, np.int8(-10)))
    with pytest.raises(OutputError, match="input of this run"):
        infopt.check(path, target="openvino", no_build=True, fix=True, output=path)
    infopt.check(path, target="openvino", no_build=True, fix=True, output=path, force=True)
    assert infopt.check(path, target="openvino", no_build=True).errors == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fix": True, "target": "openvino"}, "not told where"),
        ({"output": "o.onnx", "target": "openvino"}, "none is asked for"),
        ({"fix": True, "output": "o.onnx"}, "for one target"),
        ({"fix": True, "output": "o.txt", "target": "openvino"}, "not the name of an ONNX file"),
        ({"target": "openvin"}, "did you mean 'openvino'"),
        ({"shape": ["x=2x2..1x1"]}, "does not ascend"),
        ({"shape": ["z=4"]}, "unknown input 'z'"),
    ],
)
def test_options_that_do_not_fit_are_refused(build: Build, stored: Stored, options: Any, words: str) -> None:
    path = stored(build("(float[4] x) => (float[4] y) { y = Relu(x) }"))
    with pytest.raises(OptionError, match=words):
        infopt.check(path, **options)
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]


@settings(max_examples=15, deadline=None)
@given(zero=st.integers(-128, 127), scale=st.floats(2**-10, 0.5, width=32), seed=st.integers(0, 99))
def test_a_shift_by_128_is_exact_for_every_zero_point(
    build: Build, run_float: RunFloat, zero: int, scale: float, seed: int
) -> None:
    text = "(float[64] x) => (float[64] y) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
    model = build(text, s=np.float32(scale), z=np.int8(zero))
    result = mended(model, (target("openvino"),), ())
    assert bool(result.repairs) is (zero != 0)
    feed = {"x": (np.random.default_rng(seed).standard_normal(64) * scale * 99).astype(np.float32)}
    np.testing.assert_array_equal(run_float(model, feed)["y"], run_float(result.model, feed)["y"])
