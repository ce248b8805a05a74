"""The examples run as they stand: the pipelines of examples/ci in a shell, step by step, and the Python script."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from infopt import registry
from infopt.budget import load_budget
from infopt.recipe import load

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
CI = ROOT / "examples" / "ci"
EXPRESSION = re.compile(r"\$\{\{\s*matrix\.(\w+)\s*\}\}")
Job = dict[str, str]


def github(target: str) -> tuple[Job, list[str]]:
    """Values of the matrix, and the shell steps, of the job for a target."""
    job = read_yaml(CI / "github-actions.yml")["jobs"]["optimize"]
    values = next(row for row in job["strategy"]["matrix"]["include"] if row["target"] == target)
    steps = [step["run"] for step in job["steps"] if "run" in step]
    return values, [EXPRESSION.sub(lambda name: values[name[1]], step) for step in steps]


def gitlab(target: str) -> tuple[Job, list[str]]:
    """Likewise; its matrix is made of variables of the shell."""
    job = read_yaml(CI / "gitlab-ci.yml")["optimize"]
    values = next(row for row in job["parallel"]["matrix"] if row["TARGET"] == target)
    return {key.lower(): value for key, value in values.items()}, job["script"]


PIPELINES: dict[str, Callable[[str], tuple[Job, list[str]]]] = {
    "github-actions.yml": github,
    "gitlab-ci.yml": gitlab,
}
TARGETS = ("onnxruntime", "openvino", "tensorrt-rtx")


def read_yaml(path: Path) -> dict[str, Any]:
    """YAML 1.1 takes the key ``on`` for true; here it stays text."""
    text = re.sub(r"^on:", '"on":', path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    content = yaml.safe_load(text)
    assert isinstance(content, dict)
    return content


def shell(script: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run steps as a runner does, without installing anything and without measuring latency."""
    lines = [line for line in script if not line.startswith("pip install")]
    lines = [line.replace("infopt run ", "infopt run --no-bench ") for line in lines]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
    environment = {**os.environ, "PATH": path, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a tenth of the pictures."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    source, data = ROOT / "calibration_data" / "fashion", folder / "calibration_data" / "fashion"
    for name, count in (("calib", 30), ("eval", 200)):
        (data / name).mkdir(parents=True)
        for picture in sorted((source / name).glob("*.png"))[:count]:
            (data / name / picture.name).symlink_to(picture)
    kept = {picture.name for picture in (data / "eval").iterdir()}
    with (source / "eval" / "labels.csv").open() as old, (data / "eval" / "labels.csv").open("w") as new:
        writer = csv.writer(new)
        writer.writerows(row for row in csv.reader(old) if row[0] in kept or row[0] == "file")
    shutil.copy(source / "preprocess.toml", data)
    return folder


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the GitHub job for ONNX Runtime has run, on all pictures."""
    folder = tmp_path_factory.mktemp("runner")
    for name in ("examples", "calibration_data"):
        (folder / name).symlink_to(ROOT / name)
    done = shell(github("onnxruntime")[1], folder, GITHUB_STEP_SUMMARY=str(folder / "summary.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_github_job_meets_the_budget_and_shows_the_report(optimized: Path) -> None:
    out = optimized / "out" / "onnxruntime"
    report = json.loads((out / "report.json").read_text())
    assert report["accuracy"]["n"] == 2000
    assert report["kernels"]["integer"] >= 20
    assert (optimized / "summary.md").read_text() == (out / "report.md").read_text()
    assert (out / "model.optimized.onnx").exists()


def test_the_gate_stops_the_job_when_the_budget_is_missed(optimized: Path, tmp_path: Path) -> None:
    values, script = github("onnxruntime")
    strict = tmp_path / "strict.toml"
    strict.write_text("max_drop = 0.005\nmax_bytes = 1000\n")
    gate = next(line for line in script if line.startswith("infopt gate"))
    done = shell([gate.replace(f"examples/ci/{values['budget']}", str(strict))], optimized)
    assert done.returncode == 3, done.stderr
    assert "max_bytes" in done.stdout


def test_the_gate_leaves_junit_and_annotations(optimized: Path) -> None:
    gate = next(line for line in github("onnxruntime")[1] if line.startswith("infopt gate"))
    done = shell([gate], optimized)
    assert done.returncode == 0, done.stderr
    assert "::notice title=infopt max_drop%3A pass::" in done.stdout
    assert ET.parse(optimized / "out" / "gate.xml").getroot().attrib["tests"] == "3"
    assert read_yaml(CI / "gitlab-ci.yml")["optimize"]["artifacts"]["reports"] == {"junit": "out/gate.xml"}


def test_the_projects_own_ci_gates_the_example() -> None:
    from typer.main import get_command

    from infopt.cli.app import app

    lines = re.findall(r"\.venv-dev/bin/infopt ([^)\n]+)", (ROOT / ".ci" / "run").read_text())
    given = {}
    for line in lines:
        name, *args = shlex.split(line)
        given[name] = get_command(app).commands[name].make_context(name, args).params  # type: ignore[attr-defined]
    assert ROOT / given["run"]["recipe"] == CI / "recipe.toml"
    assert ROOT / given["gate"]["budget"] == CI / "budget.toml"
    assert given["gate"]["report"] == given["run"]["output"]


def test_the_gitlab_job_meets_the_budget(small: Path) -> None:
    pytest.importorskip("openvino")
    values, script = gitlab("openvino")
    done = shell(script, small, **{key.upper(): value for key, value in values.items()})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (small / "out" / "openvino" / "model.xml").exists()


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_job_installs_what_its_target_needs(pipeline: str, target: str) -> None:
    values, script = PIPELINES[pipeline](target)
    extra = registry.target(target).extra
    assert values["install"] == (f".[{extra}]" if extra else ".")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extra is None or extra in extras
    assert sum("pip install" in line for line in script) == 1
    assert load_budget(CI / values["budget"]).given


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("target", TARGETS)
def test_every_command_of_a_pipeline_is_one_of_infopt(pipeline: str, target: str) -> None:
    from typer.main import get_command

    from infopt.cli.app import app

    values, script = PIPELINES[pipeline](target)
    lines = [line for line in script if line.startswith("infopt ")]
    assert len(lines) == 2
    for line in lines:
        text = re.sub(r"\$([A-Z]+)", lambda name: values[name[1].lower()], line)
        name, *args = shlex.split(text)[1:]
        given = get_command(app).commands[name].make_context(name, args).params  # type: ignore[attr-defined]
        path = given["recipe"] if name == "run" else given["budget"]
        assert (ROOT / path).is_file(), line
        assert target in text


def test_a_speed_limit_is_not_asked_of_an_engine_without_a_gpu() -> None:
    budget = load_budget(CI / "budget-engine.toml")
    assert (budget.min_speedup, budget.max_p99_ms, budget.min_integer_share) == (None, None, None)


def test_outputs_are_kept_when_the_gate_fails() -> None:
    steps = read_yaml(CI / "github-actions.yml")["jobs"]["optimize"]["steps"]
    keep = next(step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert (keep["if"], keep["with"]["path"]) == ("always()", "out/")
    artifacts = read_yaml(CI / "gitlab-ci.yml")["optimize"]["artifacts"]
    assert artifacts["when"] == "always"
    # GitLab shows no link for a path with a variable, or for a folder without its slash.
    assert artifacts["paths"] == ["out/"]


def test_the_recipe_names_files_that_exist() -> None:
    recipe = load(CI / "recipe.toml")
    assert recipe.job.require_engine
    assert recipe.inputs.preprocess
    data = (recipe.calibration.data, recipe.evaluation.data, Path(recipe.inputs.preprocess))
    for path in (recipe.job.model, *data):
        assert path is not None
        assert path.exists()


def test_the_python_script_runs(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("python_api", small / "examples" / "python_api.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(tmp_path)
    assert script.main("onnxruntime", "out") == 0
    assert re.search(r"top1: 0\.\d+ -> 0\.\d+", capsys.readouterr().out)
    assert (tmp_path / "out" / "manifest.json").exists()
    assert script.main("no-such-target") == 2
