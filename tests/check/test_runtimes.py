"""What the rules say is what real runtimes do; what only runtimes can tell is asked and told by node."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import infopt
from infopt.checks.ask import Answer, Refusal, ask
from infopt.checks.merge import merged
from infopt.checks.report import CheckReport
from infopt.checks.run import findings
from infopt.checks.subject import Subject
from infopt.cpu import machine_isa
from infopt.registry import target
from infopt.target import FloatNode
from infopt.targets.onnxruntime import EMULATE, open_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Build

    Stored = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("here")
CONV = "w = DequantizeLinear<axis=0>(wq, s2, z2) c = Conv<pads=[1,1,1,1]>(d, w)"
WEIGHTS = {
    "wq": np.random.default_rng(0).integers(-127, 128, (16, 16, 3, 3)).astype(np.int8),
    "s2": np.full(16, 0.01, np.float32),
    "z2": np.zeros(16, np.int8),
}


def qdq(build: Build, zero: Any, tail: str = "", output: str = "c", **more: Any) -> Any:
    text = f"""(float[1,16,8,8] x) => (float[a,b,c,d] y) {{
        d_q = QuantizeLinear(x, s, z) d = DequantizeLinear(d_q, s, z) {CONV} {tail}
        y_q = QuantizeLinear({output}, s, z) y = DequantizeLinear(y_q, s, z) }}"""
    return build(text, s=np.float32(0.05), z=zero, **WEIGHTS, **more)


def rules(report: CheckReport) -> dict[str, list[tuple[str | None, tuple[str, ...]]]]:
    found: dict[str, list[tuple[str | None, tuple[str, ...]]]] = {}
    for each in report.findings:
        found.setdefault(each.rule, []).append((each.node, each.confirmed))
    return found


def single(path: Path, op: str, opset: int = 17, domain: str = "", ir_version: int = 8) -> Path:
    """A file with one operator."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node(op, ["a"], ["b"], "odd", domain=domain),
        helper.make_node(op, ["b"], ["y"], "again", domain=domain),
    ]
    opsets = [helper.make_opsetid(domain, opset) for domain, opset in {"": opset, domain: opset}.items()]
    graph = helper.make_graph(nodes, "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), path)
    return path


# --- TensorRT-RTX


def test_the_parser_confirms_what_the_rules_say_of_tensorrt(build: Build, stored: Stored) -> None:
    pytest.importorskip("tensorrt_rtx")
    for zero, rule in ((np.int8(3), "nonzero-zero-point"), (np.uint8(0), "uint8-clipped")):
        report = infopt.check(stored(qdq(build, zero)), target="tensorrt-rtx")
        assert ("d_q", ("tensorrt-rtx",)) in rules(report)[rule]
        assert report.targets[0].state == "refused"
        assert "parser-refused" not in rules(report)
    report = infopt.check(stored(qdq(build, np.int8(0))), target="tensorrt-rtx")
    assert (report.errors, report.targets[0].state) == (0, "built")
    assert (report.targets[0].integer, report.targets[0].total) == (1, 1)


def test_an_int32_bias_does_not_parse_in_tensorrt(build: Build, stored: Stored) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = qdq(build, np.int8(0), "b = DequantizeLinear(bq, s) f = Reshape(b, k) e = Add(c, f)", "e",
                bq=np.ones(16, np.int32), k=np.array([1, 16, 1, 1]))  # fmt: skip
    report = infopt.check(stored(model), target="tensorrt-rtx")
    assert rules(report)["int32-bias"] == [("b", ("tensorrt-rtx",))]


def test_uint8_taken_for_int8_clips_everything_above_127(build: Build, stored: Stored) -> None:
    x = np.linspace(0, 10, 1024, dtype=np.float32).reshape(1, 16, 8, 8)
    text = "(float[1,16,8,8] x) => (float[a,b,c,d] y) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
    right, retyped = (
        open_onnx(stored(build(text, s=np.float32(10 / 255), z=zero)), EMULATE).run({"x": x})[0]
        for zero in (np.uint8(0), np.int8(0))
    )
    assert np.abs(right - x).max() < 0.03
    assert retyped.max() == pytest.approx(127 * 10 / 255)


def test_every_operator_that_the_tensorrt_parser_refuses_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    report = infopt.check(single(tmp_path / "m.onnx", "Blorp", domain="made.up"), target="tensorrt-rtx")
    assert [node for node, _ in rules(report)["parser-refused"]] == ["odd", "again"]


def test_a_model_that_does_not_build_for_guessed_shapes_is_no_error(build: Build, stored: Stored) -> None:
    pytest.importorskip("tensorrt_rtx")
    # What N has to be is known to the user alone: the target shape holds 16 elements.
    path = stored(build("(float[N,8] x) => (float[4,4] y) { y = Reshape(x, k) }", k=np.array([4, 4])))
    guessed = infopt.check(path, target="tensorrt-rtx")
    assert (guessed.errors, guessed.targets[0].state) == (0, "parsed")
    assert {"guessed-shape", "dynamic-shape"} <= set(rules(guessed))
    given = infopt.check(path, target="tensorrt-rtx", shape=["x=2x8"])
    assert (given.targets[0].state, rules(given)) == ("built", {})
    wrong = infopt.check(path, target="tensorrt-rtx", shape=["x=3x8"])
    assert "build-refused" in rules(wrong)


# --- OpenVINO


def test_every_node_of_an_operator_that_openvino_does_not_know_is_named(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    for domain in ("", "made.up"):
        report = infopt.check(single(tmp_path / "m.onnx", "Blorp", domain=domain), target="openvino")
        assert [node for node, _ in rules(report)["parser-refused"]] == ["odd", "again"]
        assert report.targets[0].state == "refused"


def test_openvino_runs_a_layer_whose_weight_has_a_zero_point_in_float(build: Build, stored: Stored) -> None:
    pytest.importorskip("openvino")
    shifted = {"wq": (WEIGHTS["wq"].astype(int) + 128).astype(np.uint8), "z2": np.full(16, 128, np.uint8)}
    model = build(
        "(float[1,16,8,8] x) => (float[a,b,c,d] y) { d_q = QuantizeLinear(x, s, z) d = DequantizeLinear(d_q, s, z) "
        f"{CONV} y = Relu(c) }}",
        s=np.float32(0.05),
        z=np.uint8(120),
        **{**WEIGHTS, **shifted},
    )
    report = infopt.check(stored(model), target="openvino")
    assert rules(report)["weight-zero-point"] == [("w", ())]
    assert rules(report)["kernel-in-float"] == [("c", ("openvino",))]


# --- ONNX Runtime


def test_every_node_of_an_operator_that_onnxruntime_does_not_know_is_named(tmp_path: Path) -> None:
    for domain in ("", "made.up"):
        report = infopt.check(single(tmp_path / "m.onnx", "Blorp", domain=domain), target="onnxruntime")
        assert [node for node, _ in rules(report)["parser-refused"]] == ["odd", "again"]


def test_an_operator_that_came_later_than_the_models_opset_is_named(tmp_path: Path) -> None:
    assert not rules(infopt.check(single(tmp_path / "m.onnx", "Mish", 18), target="onnxruntime")).get("parser-refused")
    report = infopt.check(single(tmp_path / "m.onnx", "Mish", 17), target="onnxruntime")
    assert [node for node, _ in rules(report)["parser-refused"]] == ["odd", "again"]


def test_an_operator_set_or_ir_version_that_is_too_new_is_asked_for_and_told(tmp_path: Path) -> None:
    for opset, version in ((99, 8), (17, 99)):
        report = infopt.check(single(tmp_path / "m.onnx", "Relu", opset, ir_version=version), target="onnxruntime")
        told = [each for each in report.findings if each.rule == "opset-refused"]
        assert f"opset {opset}, IR version {version}" in told[0].reason


def test_twin_names_are_refused_by_onnxruntime(build: Build, stored: Stored) -> None:
    model = build("(float[4] x) => (float[4] y) { a = Relu(x) y = Neg(a) }")
    for node in model.graph.graph:
        node.name = "twin"
    report = infopt.check(stored(model), target="onnxruntime")
    assert [node for node, _ in rules(report)["duplicate-name"]] == ["twin"]
    assert report.targets[0].state == "refused"


def test_a_layer_between_dequantizers_that_runs_in_float_is_told(build: Build, stored: Stored) -> None:
    ones = {name: np.ones(16, np.float32) for name in ("g", "h", "i", "j")}
    model = qdq(build, np.uint8(9), "n = BatchNormalization(c, g, h, i, j)", "n", **ones)
    report = infopt.check(stored(model), target="onnxruntime")
    assert rules(report)["missing-output-q"] == [("c", ("onnxruntime",))]
    assert "batchnorm-unfolded" in rules(report)
    assert report.targets[0].integer == 0


def test_the_runtime_has_the_last_word_about_fusion(build: Build, stored: Stored) -> None:
    # The rule says that a float weight blocks the integer kernel; ONNX Runtime quantizes it by itself.
    text = """(float[1,16,8,8] x) => (float[a,b,c,d] y) {
        d_q = QuantizeLinear(x, s, z) d = DequantizeLinear(d_q, s, z) c = Conv(d, w)
        y_q = QuantizeLinear(c, s, z) y = DequantizeLinear(y_q, s, z) }"""
    path = stored(build(text, s=np.float32(0.05), z=np.uint8(120), w=(16, 16, 3, 3)))
    assert "half-quantized" in rules(infopt.check(path, target="onnxruntime", no_build=True))
    assert "half-quantized" not in rules(infopt.check(path, target="onnxruntime"))


def test_signed_activations_behind_a_branch_stay_in_float_on_x86(build: Build, stored: Stored) -> None:
    text = f"""(float[1,16,8,8] x) => (float[a,b,c,d] y, float[e,f,g,h] k) {{
        d_q = QuantizeLinear(x, s, z) d = DequantizeLinear(d_q, s, z) {CONV} f = Conv<pads=[1,1,1,1]>(d, w)
        y_q = QuantizeLinear(c, s, z) y = DequantizeLinear(y_q, s, z)
        k_q = QuantizeLinear(f, s, z) k = DequantizeLinear(k_q, s, z) }}"""
    if machine_isa() == "arm":
        pytest.skip("the rule is about x86")
    for zero, integer in ((np.int8(0), 0), (np.uint8(128), 2)):
        report = infopt.check(stored(build(text, s=np.float32(0.05), z=zero, **WEIGHTS)), target="onnxruntime")
        assert report.targets[0].integer == integer
        assert ("s8-shared" in rules(report)) is (integer == 0)


# --- asking


def test_a_target_that_is_not_here_is_checked_by_the_rules_and_that_is_said(build: Build, stored: Stored) -> None:
    reason = target("tensorrt").available()
    if reason is None:
        pytest.skip("TensorRT is here")
    report = infopt.check(stored(qdq(build, np.int8(3))), target="tensorrt")
    state = report.targets[0]
    assert (state.state, state.reason, state.version) == ("not asked", reason, None)
    assert "nonzero-zero-point" in rules(report)


def test_a_runtime_that_dies_is_told_with_the_stage(
    build: Build, stored: Stored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A real death: the interpreter that is asked is told to kill itself while it builds.
    script = tmp_path / "python"
    code = (
        "import os, signal, sys, infopt.checks.child as c\n"
        "c._build = lambda *a: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.argv = sys.argv[3:]\nc.main()"
    )
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    script.chmod(0o755)
    monkeypatch.setattr("infopt.checks.ask.sys.executable", str(script))
    monkeypatch.setattr("infopt.checks.run.ask", ask)
    report = infopt.check(stored(qdq(build, np.uint8(0))), target="onnxruntime")
    crashed = next(each for each in report.findings if each.rule == "runtime-crashed")
    assert "'build'" in crashed.reason
    assert "signal 11" in crashed.reason
    assert report.targets[0].state == "crashed"


def test_the_asked_process_prints_nothing_and_leaves_nothing(
    build: Build, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    path = stored(qdq(build, np.uint8(0)))
    answer = ask(target("onnxruntime"), path, (), kernels=True)
    assert (answer.integer, answer.total, answer.refusals) == (1, 1, ())
    assert capfd.readouterr() == ("", "")
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]


def test_a_build_that_succeeds_is_told_with_an_error_that_says_otherwise(build: Build) -> None:
    subject = Subject(qdq(build, np.int8(3)), (target("openvino"),))
    found = merged(findings(subject), "openvino", Answer("1", integer=1, total=1), subject)
    finding = next(each for each in found if each.rule == "s8-asymmetric")
    assert (finding.severity, finding.confirmed) == ("error", ())
    assert "it built on this machine" in finding.reason


def test_a_refusal_of_shapes_that_were_guessed_is_a_warning(build: Build) -> None:
    subject = Subject(qdq(build, np.int8(0)), (target("tensorrt-rtx"),))
    answer = Answer("1", refusals=(Refusal("guess", None, "profile 0 is odd"),))
    found = merged((), "tensorrt-rtx", answer, subject)
    assert [(each.rule, each.severity, each.node) for each in found] == [("guessed-shape", "warning", None)]


def test_a_float_layer_is_found_by_the_names_that_a_runtime_gives_it(build: Build) -> None:
    subject = Subject(qdq(build, np.uint8(0)), (target("openvino"),))
    answer = Answer("1", integer=0, total=1, floats=(FloatNode("other", "Convolution", ("fused c/WithoutBiases",)),))
    found = merged((), "openvino", answer, subject)
    assert [(each.rule, each.node) for each in found] == [("kernel-in-float", "c")]
