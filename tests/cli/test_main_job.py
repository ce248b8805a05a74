"""The main job from the command line: what is left, what is said, and that it can be done again."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest

import infopt
from infopt import registry
from infopt.manifest import identity, read_manifest, verify
from infopt.precisions import PRECISIONS
from infopt.report import read_report
from infopt.targets.openvino import ir_interface
from infopt.verbs import recipe_of

if TYPE_CHECKING:
    from typing import Any

    from conftest import Cli

COMMON = {"manifest.json", "model.onnx", "profile.json", "recipe.toml", "report.html", "report.json", "report.md"}
ARTIFACTS = {"onnxruntime": {"model.optimized.onnx"}, "openvino": {"model.xml", "model.bin"}}
KEYS = {
    "schema", "infopt", "command", "candidate", "verdict", "model", "target", "data", "accuracy", "fidelity", "latency",
    "size", "memory", "kernels", "layers", "classes", "samples", "steps", "environment", "warnings",
}  # fmt: skip
DATA = {"calib": "calib.npz", "eval": "eval.npz", "no_bench": True, "method": "fast"}
both = pytest.mark.parametrize("target", list(ARTIFACTS))


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def evidence(report: Any) -> dict[str, Any]:
    """A report without what two equal runs may differ in: time, and the names that OpenVINO counts up in a process."""
    content: dict[str, Any] = report if isinstance(report, dict) else report.to_json()
    steps = [{**step, "seconds": 0} for step in content["steps"]]
    return {**content, "steps": steps, "size": None}


@both
def test_everything_is_left_in_the_output_directory(cli: Cli, target: str) -> None:
    result = cli.quantize("--target", target, "--bench-seconds", "0.4", quick=False)
    folder = f"model.{target}.infopt"
    assert (result.code, result.err) == (0, f"\nwritten to {folder}\n")
    assert names(folder) == COMMON | ARTIFACTS[target]
    assert not list(Path("scratch").iterdir())
    assert verify(Path(folder)) == []
    report = json.loads(Path(folder, "report.json").read_text())
    assert report.keys() >= KEYS
    assert (report["schema"], report["command"]) == ("infopt.report/1", "quantize")
    assert report["target"]["name"] == target
    assert [step["pass"] for step in report["steps"]] == ["simplify", "quantize"]
    assert (report["data"]["calib"]["samples"], report["data"]["eval"]["samples"]) == (16, 40)
    assert report["accuracy"]["metric"] == "top1"
    assert report["accuracy"]["baseline"] == 1.0
    assert report["accuracy"]["where"] == "deployed"
    assert (report["kernels"]["integer"], report["kernels"]["total"]) == (3, 3)
    assert report["latency"]["speedup"] > 0
    assert report["latency"]["baseline_float"]["accuracy"] == 1.0
    onnx.checker.check_model(f"{folder}/model.onnx")


def test_the_default_output_and_data_are_found_and_told(cli: Cli) -> None:
    Path("calibration_data").mkdir()
    for name in ("calib.npz", "eval.npz"):
        Path(name).rename(f"calibration_data/{name}")
    result = cli("quantize", "model.onnx", "--no-bench", "-v")
    assert result.code == 0
    assert "calibration_data" in result.err
    report = read_report(Path("model.onnxruntime.infopt"))
    assert report.data.calib.path == "calibration_data/calib.npz"
    assert report.data.eval.path == "calibration_data/eval.npz"


def test_a_first_line_says_the_verdict_and_quiet_says_it_alone(cli: Cli) -> None:
    loud, quiet = cli.quantize("-o", "out"), cli.quantize("-o", "out", "-q")
    assert loud.out.splitlines()[0] == quiet.out.rstrip("\n")
    assert quiet.out.count("\n") == 1
    assert quiet.err == ""


@both
def test_json_is_alone_on_stdout(cli: Cli, target: str) -> None:
    args = ("quantize", "model.onnx", "--calib", "calib.npz", "--eval", "eval.npz", "--target", target)
    result = cli.process(*args, "--bench-seconds", "0.3", "--json", "-o", "out")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == json.loads(Path("out/report.json").read_text())


def test_a_metric_that_prints_does_not_get_into_the_json(cli: Cli) -> None:
    Path("metric.py").write_text("def score(outputs, labels):\n    print('scoring')\n    return 1.0\n")
    result = cli.quantize("--metric", "metric.py:score", "--json")
    assert json.loads(result.out)["accuracy"]["metric"] == "score"
    assert "scoring" in result.err


@both
def test_running_the_recipe_again_gives_the_same_identity(cli: Cli, target: str) -> None:
    assert cli.quantize("--target", target, "-o", "out").code == 0
    first, report = read_manifest(Path("out")), read_report(Path("out"))
    assert cli("run", "out/recipe.toml").code == 0  # in place
    second = read_manifest(Path("out"))
    assert identity(second) == identity(first)
    assert second.outputs == first.outputs
    assert cli("run", "out/recipe.toml", "-o", "a/b/elsewhere").code == 0
    assert identity(read_manifest(Path("a/b/elsewhere"))) == identity(first)
    again = evidence(read_report(Path("a/b/elsewhere")))
    assert again == {**evidence(report), "command": "run", "model": again["model"], "data": again["data"]}


def test_the_identity_does_not_depend_on_where_things_lie(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.quantize("-o", "out").code == 0
    Path("place").mkdir()
    shutil.copy("model.onnx", "place/model.onnx")
    shutil.copy("eval.npz", "place/renamed.npz")
    monkeypatch.chdir("place")
    args = ("quantize", "model.onnx", "--calib", "../calib.npz", "--eval", "renamed.npz", "--no-bench")
    assert cli(*args, "--method", "fast").code == 0
    assert identity(read_manifest(Path("model.onnxruntime.infopt"))) == identity(read_manifest(Path("../out")))


@pytest.mark.parametrize("change", ["model", "weights", "calib", "option", "metric"])
def test_the_identity_depends_on_what_went_in(cli: Cli, change: str) -> None:
    proto = onnx.load("model.onnx")
    onnx.save(proto, "model.onnx", save_as_external_data=True, location="weights.data", size_threshold=0)
    Path("metric.py").write_text("def score(outputs, labels):\n    return 1.0\n")
    metric = ("--metric", "metric.py:score")
    assert cli.quantize(*metric, "-o", "out").code == 0
    if change == "model":
        proto.graph.name = "other"
        Path("model.onnx").write_bytes(proto.SerializeToString())
    elif change == "weights":
        data = bytearray(Path("weights.data").read_bytes())
        data[1] ^= 1
        Path("weights.data").write_bytes(data)
    elif change == "calib":
        Path("eval.npz").replace("calib.npz")
        shutil.copy("calib.npz", "eval.npz")
    elif change == "metric":
        Path("metric.py").write_text("def score(outputs, labels):\n    return 0.5\n")
    options = ("--seed", "1") if change == "option" else ()
    assert cli.quantize(*metric, *options, "-o", "other").code == 0
    assert identity(read_manifest(Path("other"))) != identity(read_manifest(Path("out")))


def test_a_recipe_finds_its_files_from_its_own_folder(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("metric.py").write_text("def score(outputs, labels):\n    return 1.0\n")
    text = "model = 'model.onnx'\n[evaluation]\ndata = 'eval.npz'\nmetric = 'metric.py'\nskip_bench = true\n"
    Path("recipe.toml").write_text(text)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert cli("run", "../recipe.toml", "-o", "out").code == 0
    assert cli("run", "out/recipe.toml").code == 0
    assert read_report(Path("out")).accuracy.metric == "score"


def test_flags_win_over_a_recipe(cli: Cli) -> None:
    assert cli.quantize("-o", "out").code == 0
    assert cli("run", "out/recipe.toml", "--target", "openvino", "--samples", "5", "-o", "other").code == 0
    report = read_report(Path("other"))
    assert (report.target.name, report.data.calib.samples) == ("openvino", 5)


def test_python_does_what_the_command_line_does(cli: Cli) -> None:
    assert cli.quantize("--target", "openvino", "-o", "shell").code == 0
    report = infopt.quantize("model.onnx", target="openvino", output="python", **DATA)
    assert identity(read_manifest(Path("python"))) == identity(read_manifest(Path("shell")))
    assert evidence(report) == evidence(read_report(Path("shell"))) == evidence(read_report(Path("python")))
    assert recipe_of("quantize", "model.onnx", {"max_drop": "0.5%"}).budget.max_drop == 0.005
    with pytest.raises(infopt.errors.OptionError, match="did you mean 'target'"):
        infopt.quantize("model.onnx", targett="openvino")


@both
def test_compile_leaves_a_float_artifact(cli: Cli, target: str) -> None:
    result = cli("compile", "model.onnx", "--eval", "eval.npz", "--target", target, "--no-bench", "-o", "out")
    assert result.code == 0
    assert names("out") == COMMON | ARTIFACTS[target]
    report = read_report(Path("out"))
    assert report.accuracy.candidate == 1.0
    assert report.kernels.integer == 0
    assert report.data.calib is None


def test_compare_takes_files_directories_and_irs(cli: Cli) -> None:
    assert cli.quantize("--target", "openvino", "-o", "ov").code == 0
    assert cli.quantize("-o", "ort").code == 0
    measured = {}
    for base, candidate in (("model.onnx", "ov"), ("model.onnx", "ov/model.xml"), ("ort", "ov"), ("ov", "model.onnx")):
        result = cli("compare", base, candidate, "--eval", "eval.npz", "--no-bench", "--json")
        assert (result.code, result.err) == (0, "")
        report = json.loads(result.out)
        assert report["command"] == "compare"
        assert report["data"]["eval"]["samples"] == 40
        measured[base, candidate] = report["accuracy"]["candidate"]
    own = read_report(Path("ov")).accuracy.candidate
    assert measured["model.onnx", "ov"] == measured["model.onnx", "ov/model.xml"] == own
    assert measured["ov", "model.onnx"] == 1.0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("model.onnx", "nosuch", "--eval", "eval.npz"), ("nosuch does not exist",)),
        (("model.onnx", "scratch", "--eval", "eval.npz"), ("scratch is not an output directory",)),
        (("model.onnx", "eval.npz", "--eval", "eval.npz"), ("eval.npz has no output 'logits'",)),
        (("model.onnx", "model.onnx"), ("no samples to compare on", "--eval")),
        (("model.onnx", "model.onnx", "--eval", "calib.npz", "--metric", "top1"), ("needs labels",)),
        (("model.onnx", "model.onnx", "--eval", "eval.npz", "--max-drop", "5"), ("max_drop",)),
        (("model.onnx", "model.xml", "--eval", "eval.npz"), ("model.xml",)),
    ],
)
def test_compare_refuses(cli: Cli, args: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses("compare", *args, "--no-bench", says=says)


def test_compare_refuses_an_ir_without_its_weights(cli: Cli) -> None:
    assert cli.quantize("--target", "openvino", "-o", "ov").code == 0
    Path("ov/model.bin").unlink()
    cli.refuses("compare", "model.onnx", "ov/model.xml", "--eval", "eval.npz", says=("model.bin is missing",))
    cli.refuses("compare", "model.onnx", "ov", "--eval", "eval.npz", says=("model.bin",))


def test_compare_with_a_budget_answers_with_its_exit_code(cli: Cli) -> None:
    proto = onnx.load("model.onnx")
    proto.graph.node[-1].attribute.append(onnx.helper.make_attribute("alpha", -1.0))
    Path("wrong.onnx").write_bytes(proto.SerializeToString())
    args = ("compare", "model.onnx", "wrong.onnx", "--eval", "eval.npz", "--no-bench")
    assert cli(*args, "--max-drop", "100%").code == 0
    missed = cli(*args, "--max-drop", "1%")
    assert missed.code == 3
    assert "max_drop" in missed.out


def test_gate_answers_with_its_exit_code(cli: Cli) -> None:
    assert cli.quantize("-o", "out").code == 0
    Path("kept.toml").write_text("max_bytes = 20_000_000\nmin_integer_share = 0.9\n")
    Path("missed.toml").write_text("max_bytes = 10\n")
    Path("unmeasured.toml").write_text("max_p99_ms = 50\n")
    assert cli("gate", "out", "--budget", "kept.toml").code == 0
    assert cli("gate", "out/report.json", "--budget", "kept.toml", "-q").code == 0
    missed = cli("gate", "out", "--budget", "missed.toml", "--json")
    assert missed.code == 3
    assert json.loads(missed.out)["verdict"]["status"] == "fail"
    assert cli("gate", "out", "--budget", "unmeasured.toml").code == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_dorp = 0.1", ("'max_dorp'", "'max_drop'")),
        ("max_drop = ", ("budget.toml", "TOML")),
        ("max_drop = 5", ("max_drop = 5", "0.5%")),
        ("confidence = 0.9", ("no limit",)),
        ("min_integer_share = 2", ("min_integer_share",)),
    ],
)
def test_gate_refuses_a_budget(cli: Cli, text: str, says: tuple[str, ...]) -> None:
    assert cli.quantize("-o", "out").code == 0
    Path("budget.toml").write_text(text)
    cli.refuses("gate", "out", "--budget", "budget.toml", says=says)


def test_gate_refuses_what_is_no_report(cli: Cli) -> None:
    Path("budget.toml").write_text("max_drop = 0.01")
    Path("cut.json").write_text('{"schema": "infopt.report/1", "verd')
    cli.refuses("gate", "nosuch", "--budget", "budget.toml", says=("no report at nosuch",))
    cli.refuses("gate", "cut.json", "--budget", "budget.toml", says=("truncated or not JSON",))
    cli.refuses("gate", "budget.toml", "--budget", "budget.toml", says=("not JSON",))
    cli.refuses("gate", "model.onnx", "--budget", "budget.toml", says=("model.onnx",))


def test_simplify_writes_the_file_with_its_proof(cli: Cli) -> None:
    result = cli("simplify", "model.onnx", "-o", "small.onnx")
    assert (result.code, result.err) == (0, "")
    assert "largest difference" in result.out
    onnx.checker.check_model("small.onnx")
    cli.refuses("simplify", "model.onnx", "-o", "small.onnx", says=("small.onnx exists", "--force"))
    assert cli("simplify", "model.onnx", "-o", "small.onnx", "--force", "--no-verify").code == 0
    cli.refuses("simplify", "model.onnx", "-o", "model.onnx", "--force", says=("input of this run",))
    cli.refuses("simplify", "model.onnx", "-o", "small", says=("FILE.onnx",))
    cli.refuses("simplify", "model.onnx", "-o", "new.onnx", "--fold-limit", "-1", says=("fold_limit",))
    cli.refuses("simplify", "nosuch.onnx", "-o", "new.onnx", says=("nosuch.onnx is not a file",))


def test_targets_and_passes_are_listed(cli: Cli) -> None:
    targets, passes = cli("targets"), cli("passes")
    assert (targets.code, targets.err, passes.code, passes.err) == (0, "", 0, "")
    assert all(name in targets.out for name in registry.names("targets"))
    assert all(name in passes.out for name in registry.names("passes"))


def test_one_target_can_be_asked_for(cli: Cli) -> None:
    asked = cli("targets", "onnxruntime")
    assert asked.out.startswith("onnxruntime ")
    state, *precisions = asked.out.splitlines()
    assert "ONNX Runtime" in state
    assert [line.split()[0] for line in precisions] == list(PRECISIONS)


@pytest.mark.parametrize("name", registry.names("targets"))
def test_what_a_target_runs_in_integers_is_printed_by_operator(cli: Cli, name: str) -> None:
    printed, told = cli("targets", name, "--ops"), json.loads(cli("targets", name, "--ops", "--json").out)
    assert (printed.code, printed.err) == (0, "")
    table = registry.target(name).table
    assert [row["operators"] for row in told["rows"]] == [list(rule.ops) for rule in table.rules]
    assert all(re.search(rf"\b{op}\b", printed.out) for rule in table.rules for op in rule.ops)


def test_all_targets_stand_side_by_side(cli: Cli) -> None:
    result = cli("targets", "--ops")
    assert "MatMul of computed tensors" in result.out
    assert all(name in result.out for name in ("onnxruntime", "openvino", "tensorrt-rtx"))


def test_a_table_needs_its_target(cli: Cli) -> None:
    cli.refuses("targets", "onnxruntime", "--json", says=("--json goes with --ops",))
    cli.refuses("targets", "tensort", "--ops", says=("did you mean 'tensorrt'?",))


@pytest.mark.parametrize(
    "command",
    [
        "quantize",
        "compile",
        "run",
        "compare",
        "predict",
        "gate",
        "report",
        "diff",
        "schema",
        "simplify",
        "targets",
        "passes",
    ],
)
def test_every_command_has_help(cli: Cli, command: str) -> None:
    result = cli(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"infopt {command}" in result.out


def test_help_keeps_what_is_in_brackets(cli: Cli) -> None:
    assert "infopt[torch]" in "".join(cli("prune", "--help").out.replace("│", " ").split())


def test_help_and_version(cli: Cli) -> None:
    assert "quantize" in cli("--help").out
    assert cli("--version").out == f"infopt {infopt.__version__}\n"
    bare = cli()
    assert bare.code == 2
    assert "quantize" in bare.err + bare.out


def test_a_target_that_must_be_there_and_is_not_is_exit_code_4(cli: Cli) -> None:
    absent = [name for name in registry.names("targets") if registry.target(name).available()]
    if not absent:
        pytest.skip("every target is available here")
    for name in absent:
        args = ("quantize", "model.onnx", "--calib", "calib.npz", "--eval", "eval.npz", "--target", name)
        cli.refuses(*args, "--require-engine", code=4, says=(f"{name!r} is not available",))
        result = cli(*args, "--no-bench", "-o", name)
        assert result.code == 0
        assert names(name) == COMMON
        assert read_report(Path(name)).accuracy.where == "emulated"


def test_no_module_takes_the_name_of_a_verb() -> None:
    """Once it is imported, ``infopt.NAME`` would be the module."""
    assert [name for name in infopt.__all__ if importlib.util.find_spec(f"infopt.{name}")] == []


def test_a_run_tells_nobody_about_the_model(cli: Cli) -> None:
    script = "import infopt, os, sys\nimport onnxruntime\nsys.exit(os.path.exists(os.environ['TMPDIR'] + '/.ses'))"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)


def test_a_fixed_shape_is_compiled_in_and_fed_and_compared(cli: Cli) -> None:
    pytest.importorskip("openvino")
    result = cli.quantize("--target", "openvino", "--shape", "x=2x1x8x8", "--bench-seconds", "0.4", quick=False)
    assert result.code == 0, result.err
    (inputs,), _ = ir_interface(Path("model.openvino.infopt/model.xml"))
    assert inputs.shape == (2, 1, 8, 8)
    assert read_report(Path("model.openvino.infopt/report.json")).latency.batch == 2
    compared = infopt.compare("model.onnx", "model.openvino.infopt", eval="eval.npz", no_bench=True)
    assert compared.accuracy.n == read_report(Path("model.openvino.infopt/report.json")).accuracy.n
