"""The gate from the command line, on artifacts of the embedded model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import onnx
import pytest

import infopt
from infopt.report import read_report

if TYPE_CHECKING:
    from typing import Any

    from conftest import Cli

KEPT = "max_bytes = 20_000_000\nmin_integer_share = 0.9\n"


@pytest.fixture
def out(cli: Cli, quantized: Path) -> Cli:
    """The command line beside an output directory ``out`` and budgets."""
    shutil.copytree(quantized, "out")
    Path("kept.toml").write_text(KEPT)
    Path("missed.toml").write_text(KEPT + "max_bytes = 10\n".replace("max_bytes", "max_peak_bytes"))
    Path("open.toml").write_text(KEPT + "max_drop = 0.01\n")  # 40 samples cannot show that
    return cli


def edited(target: str, **changes: Any) -> str:
    """The report of ``out`` with some keys replaced, as a file."""
    content = json.loads(Path("out/report.json").read_text())
    for place, value in changes.items():
        holder, *rest = place.split("__")
        content[holder] = {**content[holder], rest[0]: value} if rest else value
    Path(target).write_text(json.dumps(content))
    return target


def test_every_output_tells_the_same_answer(out: Cli) -> None:
    args = ("gate", "out", "--budget", "missed.toml", "--markdown", "gate.md", "--junit", "gate.xml", "--github")
    result = out(*args)
    assert result.code == 3
    assert "::error title=infopt max_peak_bytes%3A unmeasured::max_peak_bytes was not measured" in result.out
    assert Path("gate.md").read_text().startswith("**Gate: FAIL** (exit code 3)\n")
    root = ET.parse("gate.xml").getroot()
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == ("3", "0", "1")
    first = {name: Path(name).read_bytes() for name in ("gate.md", "gate.xml")}
    again = out(*args)
    assert again == result
    assert {name: Path(name).read_bytes() for name in first} == first


def test_markdown_and_json_can_stand_alone_on_stdout(out: Cli) -> None:
    result = out("gate", "out", "--budget", "kept.toml", "--markdown", "-", "--github")
    assert (result.code, result.err.count("::notice ")) == (0, 2)
    assert result.out.startswith("**Gate: pass** (exit code 0)\n")
    assert "::" not in result.out
    result = out("gate", "out", "--budget", "kept.toml", "--json", "--github")
    assert [each["status"] for each in json.loads(result.out)["verdict"]["budgets"]] == ["pass", "pass"]
    assert result.err.startswith("::notice ")
    out.refuses("gate", "out", "--budget", "kept.toml", "--json", "--markdown", "-", says=("both want stdout",))


@pytest.mark.parametrize(("undecided", "code"), [(None, 0), ("warn", 0), ("pass", 0), ("fail", 3)])
def test_the_user_settles_what_the_interval_leaves_open(out: Cli, undecided: str | None, code: int) -> None:
    more = ("--undecided", undecided) if undecided else ()
    result = out("gate", "out", "--budget", "open.toml", "--junit", "gate.xml", "--github", *more)
    assert result.code == code
    assert "undecided" in result.out
    kind = {0: "::notice" if undecided == "pass" else "::warning", 3: "::error"}[code]
    assert f"{kind} title=infopt max_drop" in result.out
    assert (ET.parse("gate.xml").getroot().attrib["failures"] == "1") == (code == 3)


def test_the_same_commit_has_no_regression_and_a_worse_one_has(out: Cli) -> None:
    assert out("gate", "out", "--baseline", "out", "-q").code == 0
    better = edited("better.json", size__candidate_bytes=1000, kernels__integer=3)
    result = out("gate", "out", "--budget", "kept.toml", "--baseline", better, "--json")
    assert result.code == 3
    found = {each["name"]: each["status"] for each in json.loads(result.out)["verdict"]["budgets"]}
    assert found == {
        "max_bytes": "pass", "min_integer_share": "pass", "regression_drop": "pass", "regression_bytes": "fail",
        "regression_integer_share": "pass",
    }  # fmt: skip
    slightly = edited("slightly.json", size__candidate_bytes=read_report(Path("out")).size.candidate_bytes - 1)
    assert out("gate", "out", "--baseline", slightly, "-q").code == 0
    assert out("gate", "out", "--baseline", slightly, "--tolerance", "0", "-q").code == 3


def test_a_candidate_that_broke_between_commits_is_a_regression(out: Cli) -> None:
    proto = onnx.load("model.onnx")
    proto.graph.node[-1].attribute.append(onnx.helper.make_attribute("alpha", -1.0))
    Path("broken.onnx").write_bytes(proto.SerializeToString())
    Path("new.json").write_text(
        out("compare", "model.onnx", "broken.onnx", "--eval", "eval.npz", "--no-bench", "--json").out
    )
    Path("old.json").write_text(
        out("compare", "model.onnx", "model.onnx", "--eval", "eval.npz", "--no-bench", "--json").out
    )
    result = out("gate", "new.json", "--baseline", "old.json")
    assert result.code == 3
    assert "regression_drop: top1 1.0000 -> 0" in " ".join(result.out.split())
    assert out("gate", "old.json", "--baseline", "new.json", "-q").code == 0


def test_other_evaluation_samples_are_unmeasured(out: Cli) -> None:
    content = json.loads(Path("out/report.json").read_text())
    content["data"]["eval"]["sha256"] = "0" * 64
    Path("old.json").write_text(json.dumps(content))
    result = out("gate", "out", "--baseline", "old.json")
    assert result.code == 3
    assert "not about the same evaluation samples" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("out",), ("nothing to hold out against", "--budget", "--baseline")),
        (("out", "--baseline", "nosuch"), ("no report at nosuch",)),
        (("out", "--baseline", "cut.json"), ("cut.json is truncated or not JSON",)),
        (("cut.json", "--budget", "kept.toml"), ("cut.json is truncated or not JSON",)),
        (("newer.json", "--budget", "kept.toml"), ("infopt.report/2", "update infopt")),
        (("out", "--baseline", "newer.json"), ("infopt.report/2", "update infopt")),
        (("out", "--baseline", "other.json"), ("baseline is for openvino, the report for onnxruntime",)),
        (("out", "--budget", "wrong.toml"), ("unknown key", "max_class_dorp", "did you mean 'max_class_drop'")),
        (("out", "--budget", "kept.toml", "--undecided", "maybe"), ("undecided", "choose warn, pass, fail")),
        (("out", "--budget", "kept.toml", "--tolerance", "-1"), ("tolerance", "outside")),
        (("out", "--budget", "kept.toml", "--junit", "no/such/gate.xml"), ("cannot write", "--junit")),
        (("out", "--budget", "kept.toml", "--markdown", "out"), ("cannot write out", "--markdown")),
        (("out", "--budget", "kept.toml", "--markdown", "out/report.json"), ("out/report.json was read", "--markdown")),
        (("out", "--budget", "kept.toml", "--junit", "kept.toml"), ("kept.toml was read", "--junit")),
        (("out", "--baseline", "out", "--junit", "out/model.onnx"), ("out/model.onnx was read", "--junit")),
    ],
)
def test_gate_refuses(out: Cli, args: tuple[str, ...], says: tuple[str, ...]) -> None:
    whole = Path("out/report.json").read_text()
    Path("cut.json").write_text(whole[: len(whole) // 2])
    edited("newer.json", schema="infopt.report/2")
    edited("other.json", target__name="openvino")
    Path("wrong.toml").write_text("max_class_dorp = 0.1\n")
    out.refuses("gate", *args, says=says)


def test_python_gates_as_the_command_line_does(out: Cli) -> None:
    report = infopt.gate("out", "kept.toml", baseline="out", junit="gate.xml")
    assert report.verdict.status == "pass"
    assert len(report.verdict.budgets) == 5
    assert Path("gate.xml").exists()


def test_the_schema_is_printed(cli: Cli) -> None:
    result = cli("schema")
    assert json.loads(result.out)["title"] == "infopt.report/1"
    assert json.loads(cli("schema", "manifest").out)["title"] == "infopt.manifest/1"
    cli.refuses("schema", "reprot", says=("did you mean 'report'",))
