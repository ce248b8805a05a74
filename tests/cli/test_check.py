"""The command check: exit codes, what goes where, bad input."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from infopt.checks.rules import RULES

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Cli


def quantized(path: Path, zero: np.generic) -> None:
    """x -> Q/DQ -> y."""
    values = (("s", np.float32(0.1)), ("z", zero))
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dequantize"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_sound_model_passes_with_exit_code_0(cli: Cli) -> None:
    result = cli("check", "model.onnx", "--target", "onnxruntime")
    assert result.code == 0
    assert result.err == ""
    assert result.out.startswith("PASS  model.onnx: ")
    assert "parsed and built by ONNX Runtime" in " ".join(result.out.split())
    assert cli.listing("scratch") == {}


def test_errors_end_with_exit_code_3(cli: Cli) -> None:
    quantized(cli.folder / "q.onnx", np.int8(3))
    result = cli("check", "q.onnx", "--target", "tensorrt", "--no-build")
    assert (result.code, result.err) == (3, "")
    assert result.out.startswith("FAIL  q.onnx: 1 error")
    assert "nonzero-zero-point" in result.out


def test_all_targets_are_checked_by_default(cli: Cli) -> None:
    quantized(cli.folder / "q.onnx", np.int8(3))
    result = cli("check", "q.onnx", "--no-build", "--json")
    assert result.code == 3
    told = json.loads(result.out)
    assert [each["name"] for each in told["targets"]] == ["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
    assert {each["state"] for each in told["targets"]} == {"not asked"}
    two = cli("check", "q.onnx", "--no-build", "--json", "--target", "openvino", "--target", "onnxruntime")
    assert [each["name"] for each in json.loads(two.out)["targets"]] == ["openvino", "onnxruntime"]


def test_quiet_prints_the_first_line_alone(cli: Cli) -> None:
    result = cli("check", "model.onnx", "--no-build", "-q", "--target", "onnxruntime")
    assert (result.code, result.out.count("\n")) == (0, 1)


def test_a_repaired_model_is_checked_again_and_decides(cli: Cli) -> None:
    quantized(cli.folder / "q.onnx", np.int8(3))
    result = cli("check", "q.onnx", "--target", "openvino", "--no-build", "--fix", "-o", "fixed.onnx")
    assert result.code == 0, result
    assert "PASS  fixed.onnx: nothing found; 1 place repaired" in result.out
    assert cli("check", "q.onnx", "--target", "openvino", "--no-build").code == 3
    again = cli("check", "q.onnx", "--target", "openvino", "--no-build", "--fix", "-o", "fixed.onnx")
    assert again.code == 2
    assert "--force" in again.err


def test_a_check_that_is_stopped_leaves_nothing(cli: Cli) -> None:
    child = cli.start("check", "model.onnx", "--target", "onnxruntime")
    deadline = time.monotonic() + 60
    while not list(cli.folder.glob("scratch/*/reply.json")) and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (143, ""), err
    assert cli.listing("scratch") == {}


def test_rules_are_listed_without_a_model(cli: Cli) -> None:
    result = cli("check", "--rules")
    assert (result.code, result.err) == (0, "")
    assert all(rule.id in result.out for rule in RULES)


def test_sarif_goes_to_its_file(cli: Cli) -> None:
    quantized(cli.folder / "q.onnx", np.int8(3))
    result = cli("check", "q.onnx", "--target", "tensorrt", "--no-build", "--sarif", "out.sarif", "-q")
    assert result.code == 3
    assert json.loads((cli.folder / "out.sarif").read_text())["runs"][0]["results"][0]["level"] == "error"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument"),
        (("nowhere.onnx",), "not a file"),
        (("calib.npz",), "not a readable ONNX model"),
        (("model.onnx", "--target", "openvin"), "did you mean 'openvino'"),
        (("model.onnx", "--fix", "--target", "openvino"), "not told where"),
        (("model.onnx", "--fix", "-o", "o.onnx"), "for one target"),
        (("model.onnx", "-o", "o.onnx"), "none is asked for"),
        (("model.onnx", "--fix", "-o", "o", "--target", "openvino"), "not the name of an ONNX file"),
        (("model.onnx", "--shape", "x=1"), "contradicts the model"),
        (("model.onnx", "--shape", "nope=1"), "unknown input"),
        (("model.onnx", "--sarif", "nowhere/out.sarif"), "nowhere"),
        (("model.onnx", "--sarif", "model.onnx"), "input of this run"),
    ],
)
def test_what_cannot_be_used_is_refused_with_exit_code_2(cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    cli.refuses("check", *arguments, says=(says,))


def test_an_input_that_holds_strings_is_a_finding(cli: Cli) -> None:
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.STRING, [4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"], "n")], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "s.onnx")
    result = cli("check", "s.onnx", "--no-build")
    assert result.code == 3
    assert "non-tensor-input" in result.out
