"""The findings on a terminal, as JSON and as SARIF."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

import infopt
from infopt.checks.report import CheckReport, Finding, Fixed, ModelState, Repair, TargetState
from infopt.checks.rules import RULES
from infopt.checks.sarif import sarif
from infopt.views.check import headline, render, render_rules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Build

MODEL = ModelState("nets/a model.onnx", 9, 99, 396, 17, 8, quantized=True)
FINDINGS = (
    *(Finding("int32-bias", "error", ("tensorrt",), f"b{i}", "DequantizeLinear", "a bias of int32 is dequantized",
              "keep biases in float", fixable=True) for i in range(9)),
    Finding("mixed-concat", "warning", ("openvino", "tensorrt"), "cat", "Concat", "scales differ by 80x", "leave it"),
    Finding("old-opset", "note", ("openvino", "tensorrt"), None, None, "operator set 11", "export again"),
)  # fmt: skip
STATES = (
    TargetState("openvino", "OpenVINO", "2026.4", "built", integer=3, total=4),
    TargetState("tensorrt", "TensorRT", None, "not asked", "it is not installed"),
)
REPORT = CheckReport("1.0", MODEL, STATES, FINDINGS)


def printed(report: CheckReport, width: int = 80, details: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None, legacy_windows=False)
    render(report, console, details)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_first_line_counts() -> None:
    assert headline(REPORT) == "FAIL  nets/a model.onnx: 9 errors, 1 warning, 1 note"
    assert headline(CheckReport("1", MODEL, STATES, ())) == "PASS  nets/a model.onnx: nothing found"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_width_shows_rules_nodes_reasons_and_remedies(width: int) -> None:
    text = printed(REPORT, width)
    assert all(len(line) <= width for line in text.splitlines())
    words = " ".join(text.split())
    for part in ("int32-bias", "and 6 more", "error fix", "mixed-concat", "all targets", "the model"):
        assert part in words
    assert "openvino: 1 warning, 1 note; parsed and built by OpenVINO 2026.4; 3 of 4 compute layers" in words
    assert "9 findings marked fix" in words


def test_details_name_every_node() -> None:
    assert "b8" in printed(REPORT, details=True)
    assert "b8" not in printed(REPORT)


def test_names_cannot_reach_the_terminal() -> None:
    hostile = "[bold red]x\x1b[31m\u202e\nfoo"
    finding = Finding("mixed-concat", "warning", ("openvino",), hostile, "Concat", hostile, hostile)
    text = printed(CheckReport("1", MODEL, STATES, (finding,)))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold red]x" in text


def test_repairs_and_what_is_left_are_told() -> None:
    fixed = Fixed("out.onnx", (Repair("int32-bias", "b0", "kept as float32"),), 0.0)
    text = " ".join(printed(CheckReport("1", MODEL, STATES, FINDINGS[-2:], fixed)).split())
    assert "PASS out.onnx: 1 warning, 1 note; 1 place repaired" in text
    assert "largest difference 0.0e+00" in text
    assert "int32-bias: kept as float32 (b0)" in text
    assert "no repair without another result: mixed-concat" in text


def test_rules_are_listed_with_everything() -> None:
    console = Console(width=100, file=io.StringIO())
    render_rules(RULES, console)
    assert isinstance(console.file, io.StringIO)
    words = " ".join(console.file.getvalue().split())
    for rule in RULES:
        assert rule.id in words
        assert rule.severity in words


def test_json_holds_everything() -> None:
    told = json.loads(REPORT.text())
    assert next(iter(told)) == "schema"
    assert told["schema"] == "infopt.check/1"
    assert told["counts"] == {"errors": 9, "warnings": 1, "notes": 1}
    assert told["findings"][0] == {
        "rule": "int32-bias", "severity": "error", "targets": ["tensorrt"], "node": "b0", "op": "DequantizeLinear",
        "reason": "a bias of int32 is dequantized", "remedy": "keep biases in float", "fixable": True, "confirmed": [],
    }  # fmt: skip
    assert told["targets"][1] == {
        "name": "tensorrt", "runtime": "TensorRT", "version": None, "state": "not asked",
        "reason": "it is not installed", "integer": None, "total": None, "rows": None, "compute": None,
    }  # fmt: skip


def check_sarif(text: str) -> dict[str, Any]:
    """What SARIF 2.1.0 demands (sections 3.13, 3.14, 3.19, 3.27, 3.49) of the parts that are used."""
    log: dict[str, Any] = json.loads(text)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "infopt"
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        for location in result["locations"]:
            where = location["physicalLocation"]["artifactLocation"]
            assert run["artifacts"][where["index"]]["location"]["uri"] == where["uri"]
            assert " " not in where["uri"]
            for logical in location.get("logicalLocations", []):
                assert logical["name"]
    return log


def test_sarif_is_what_the_standard_demands() -> None:
    (run,) = check_sarif(sarif(REPORT))["runs"]
    assert [each["ruleId"] for each in run["results"]] == [each.rule for each in FINDINGS]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [rule.id for rule in RULES]
    first = run["results"][0]
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "nets/a%20model.onnx"
    assert first["locations"][0]["logicalLocations"][0]["name"] == "b0"
    assert "Remedy: keep biases in float." in first["message"]["text"]
    assert len({each["partialFingerprints"]["ruleAndNode/v1"] for each in run["results"]}) == len(FINDINGS)


def test_a_real_models_sarif_is_written(build: Build, stored: Callable[..., Path]) -> None:
    path = stored(build("(float[4] x) => (float[4] y) { y = Mul(x, k) }", k=np.float32(np.nan)))
    report = infopt.check(path, target="onnxruntime", no_build=True, sarif=path.with_name("out.sarif"))
    (run,) = check_sarif(path.with_name("out.sarif").read_text())["runs"]
    assert [each["ruleId"] for each in run["results"]] == ["nan-weight"] == [each.rule for each in report.findings]
