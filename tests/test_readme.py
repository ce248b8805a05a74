"""README says what is so: its commands run, its examples work, its tables are those of the code, CI runs its tests."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import infopt
from infopt import registry
from infopt.budget import Budget, load_budget
from infopt.cli import main
from infopt.cli.app import app
from infopt.locate import data_folder
from infopt.metrics import load_metric, measure
from infopt.passes import run
from infopt.recipe import parse
from infopt.report import read_report
from infopt.verbs import recipe_of
from infopt.views.target_rows import operator_matrix, scheme_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from conftest import Build, MakeContext

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / name for name in ("README.md", "calibration_data/README.md", "examples/fashion/README.md")]


def block(marker: str, text: str = README) -> str:
    """The fenced block after a marker."""
    found = re.search(rf"^<!-- {marker} -->\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, marker
    return found[1].strip("\n")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def commands() -> dict[str, Any]:
    from typer.main import get_command

    found: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return found


def typed_commands() -> Iterator[str]:
    """Every infopt command in the shell blocks of the documents."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for body in re.findall(r"^```(?:sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            for line in body.splitlines():
                for part in line.removeprefix("$ ").split("&&"):
                    if re.match(r"(\S*/)?infopt ", part.strip()):
                        yield part.strip()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = block("test-command")
    parts = (r"python3 -m venv (\S+)", r'\1/bin/pip install -e "\.\[dev\]"', r"\1/bin/python -m pytest")
    assert re.fullmatch(" && ".join(parts), command)
    shown = subprocess.run([ROOT / ".ci" / "run", "--show"], capture_output=True, text=True, check=True, cwd="/")
    assert shown.stdout.rstrip("\n") == command
    # It has the command from nowhere else.
    assert "pytest" not in (ROOT / ".ci" / "run").read_text()
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with .ci/run, and a README whose test command makes tools that write down how they are called."""
    folder = tmp_path / "project"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    tool = folder / "tool"
    tool.write_text('#!/bin/sh\necho "$(basename "$0") $*" >> "$LOG"\n')
    tool.chmod(0o755)
    copies = " && ".join(f"cp tool .venv-dev/bin/{name}" for name in ("ruff", "mypy", "infopt"))
    command = f'pwd > "$LOG" && mkdir -p .venv-dev/bin && {copies}'
    (folder / "README.md").write_text(f"<!-- test-command -->\n```sh\n{command}\n```\n")
    (folder / ".gitignore").write_text(".venv*/\n")
    (folder / "bin").mkdir()
    shutil.copy(tool, folder / "bin" / "chromium")  # so that nothing is installed for it
    (folder / ".venv-dev").mkdir()
    (folder / ".venv-dev" / "developers-own").touch()
    return folder


def run_ci(project: Path, **variables: str) -> tuple[int, list[str]]:
    log = project.parent / "log"
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "LOG": str(log), "TMPDIR": str(project.parent), "PATH": path, **variables}
    done = subprocess.run([project / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, log.read_text().splitlines()


@pytest.mark.parametrize("git", [True, False])
def test_ci_works_in_a_copy_and_leaves_nothing(project: Path, git: bool) -> None:
    if git:
        if not shutil.which("git"):
            pytest.skip("git is not installed")
        subprocess.run(["git", "init", "-q", project], check=True)
    code, (place, *calls) = run_ci(project, GITHUB_ACTIONS="")
    assert code == 0
    assert [call.strip() for call in calls] == [
        "infopt run examples/ci/recipe.toml --no-bench --quiet --output out/example",
        "infopt gate out/example --budget examples/ci/budget.toml",
        "ruff format --check --exclude .venv* .",
        "ruff check --extend-exclude .venv* .",
        "mypy",
    ]
    assert Path(place).parent == project.parent
    assert not Path(place).exists()
    assert [path.name for path in (project / ".venv-dev").iterdir()] == ["developers-own"]


def test_ci_annotates_where_annotations_are_read(project: Path) -> None:
    _, calls = run_ci(project, GITHUB_ACTIONS="true")
    assert [call.split()[-1] for call in calls if call.startswith("infopt gate")] == ["--github"]


def test_ci_fails_with_the_tests(project: Path) -> None:
    readme = project / "README.md"
    readme.write_text(readme.read_text().replace('"$LOG" &&', '"$LOG" && exit 7 &&'))
    code, (place, *calls) = run_ci(project)
    assert (code, calls) == (7, [])
    assert not Path(place).exists()


def test_ci_installs_a_browser_where_there_is_none_and_insists_on_it(project: Path) -> None:
    (project / "bin" / "chromium").rename(project / "bin" / "apt-get")
    (project / "bin" / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (project / "bin" / "sudo").chmod(0o755)
    for name in "bash sh awk git tar mktemp rm mkdir cp cat basename dirname env find".split():
        (project / "bin" / name).symlink_to(shutil.which(name) or pytest.skip(f"there is no {name}"))
    readme = project / "README.md"
    readme.write_text(readme.read_text().replace('pwd > "$LOG"', 'echo "$INFOPT_REQUIRE_CHROMIUM" >> "$LOG"'))
    code, (update, install, required, *_) = run_ci(project, PATH=str(project / "bin"))
    assert code == 0
    assert update == "apt-get update"
    assert install.startswith("apt-get install")
    assert install.endswith(" chromium")
    assert required == "1"


def test_ci_needs_a_test_command(project: Path) -> None:
    (project / "README.md").write_text("nothing\n")
    done = subprocess.run([project / ".ci" / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "README.md has no fenced block" in done.stderr


def test_the_first_command_finds_its_data_and_leaves_what_the_readme_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    venv, install, quantize = block("first-command").split(" && ")
    assert (venv, install) == ("python3 -m venv .venv", ".venv/bin/pip install .")
    for name in ("examples", "calibration_data"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    program, *args = shlex.split(quantize)
    assert program == ".venv/bin/infopt"
    monkeypatch.setattr(sys, "argv", ["infopt", *args, "--no-eval"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    out = tmp_path / "fashion.onnxruntime.infopt"
    report = read_report(out)
    assert report.data.calib
    assert report.data.calib.path == "calibration_data/fashion/calib"
    data = data_folder(Path(args[1]))
    assert data
    assert data.eval
    for file in out.iterdir():
        assert f"`{file.name}`" in README
    for name in re.findall(r"^\| `([\w.]+)`", section("What a run leaves"), re.MULTILINE):
        assert (out / name).exists(), name


@pytest.mark.parametrize("command", sorted(set(typed_commands())))
def test_a_documented_command_is_one_of_infopt(command: str) -> None:
    _, name, *args = shlex.split(command)
    given = commands()[name].make_context(name, args).params
    assert (ROOT / given["base" if name == "compare" else "model"]).is_file()


def test_the_table_of_commands_is_complete() -> None:
    listed = re.findall(r"^\| `infopt (\w+)([^`]*)`", section("Commands"), re.MULTILINE)
    assert {name for name, _ in listed} == commands().keys()
    for name, rest in listed:
        commands()[name].make_context(name, shlex.split(rest))


def test_the_options_that_the_readme_names_exist() -> None:
    known = {flag for command in commands().values() for option in command.params for flag in option.opts}
    rows = re.findall(r"^\| (`-.*?) \|", section("Commands"), re.MULTILINE)
    assert len(rows) > 10
    of_quantize = {flag for option in commands()["quantize"].params for flag in option.opts}
    for row in rows:
        assert set(re.findall(r"`(-[\w-]+)`", row)) <= of_quantize, row
    for flag in re.findall(r"`(--[\w-]+)", README):
        assert flag in known, flag


def test_links_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["targets", "operators"])
def test_the_tables_of_targets_are_those_of_the_code(name: str) -> None:
    shown = README.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]
    assert shown == {"targets": schemes_table, "operators": operators_table}[name]()


ORDER = ("onnxruntime", "openvino", "tensorrt-rtx", "tensorrt")


def schemes_table() -> str:
    """The table of schemes as README should have it."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in ORDER:
        table = registry.target(name).table
        schemes = scheme_in_words(table.activation), scheme_in_words(table.weight), table.bias
        rows.setdefault(schemes, []).append(f"`{name}`")
    return in_markdown(("target", "data", "weights", "bias"), [(", ".join(names), *row) for row, names in rows.items()])


def operators_table() -> str:
    """The table of operators as README should have it."""
    matrix = operator_matrix([registry.target(name) for name in ORDER])
    return in_markdown([column.title for column in matrix.columns], matrix.rows)


def in_markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(head), *(" | ".join(row) for row in rows)]
    shown = [f"| {line} |" for line in lines]
    return "\n".join([shown[0], "|" + "|".join(["---"] * len(head)) + "|", *shown[1:]])


def test_the_exit_codes_are_those_of_the_errors() -> None:
    from infopt import errors

    shown = {int(code) for code in re.findall(r"^\| (\d) \|", section("Budgets"), re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.InfoptError)]
    assert shown == {kind.exit_code for kind in kinds} | {0, 3}


def test_the_budget_shows_every_limit(tmp_path: Path) -> None:
    file = tmp_path / "budget.toml"
    file.write_text(block("budget"))
    assert load_budget(file).max_drop == 0.005
    # What no command measures yet is shown, but not set: the example could never pass.
    every = block("budget").replace("# max_peak_bytes", "max_peak_bytes")
    assert set(tomllib.loads(every)) == set(Budget.__slots__)


def test_the_recipe_is_one() -> None:
    recipe = parse(tomllib.loads(block("recipe")), "README")
    assert [step.name for step in recipe.passes] == ["simplify", "quantize"]
    assert recipe.budget.given


def test_the_metric_scores(tmp_path: Path) -> None:
    (tmp_path / "recall.py").write_text(block("metric"))
    metric = load_metric(f"{tmp_path / 'recall.py'}:score")
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    assert measure(metric, [logits], np.array([0, 0, 0, 2])) == pytest.approx((2 / 3 + 1) / 2)
    assert metric.outputs == (0,)


def test_the_python_lines_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    report = read_report(ROOT / "tests" / "goldens" / "report.json")

    def quantize(model: str, **options: Any) -> Any:
        recipe_of("quantize", model, options)  # refuses what is no option
        return report

    monkeypatch.setattr(infopt, "quantize", quantize, raising=False)
    monkeypatch.setattr(infopt, "gate", lambda path, budget: report, raising=False)
    exec(compile(ast.parse(block("python")), "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith(report.verdict.status)


@pytest.fixture
def extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of the README's last example, installed."""
    (tmp_path / "infopt_extras.py").write_text(block("extras"))
    points = tomllib.loads(block("entry-points"))["project"]["entry-points"]
    lines = [f"[{group}]\n{key} = {value}" for group, listed in points.items() for key, value in listed.items()]
    installed = tmp_path / "infopt_extras-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: infopt-extras\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("infopt_extras", None)


@pytest.mark.usefixtures("extras")
def test_the_pass_of_another_package_runs(build: Build, make_context: MakeContext) -> None:
    weight = np.ones((4, 4), np.float32)
    weight[0, 0] = 100.0
    model = build("(float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }", w=weight)
    step = parse({"model": "m.onnx", "pass": [{"use": "clip-weights", "sigmas": 2}]}, "recipe").passes[0]
    after = run(model, [step], make_context(model))
    assert after.graph.graph.initializers["w"].const_value.numpy().max() == pytest.approx(2 * weight.std())
    assert model.graph.graph.initializers["w"].const_value.numpy().max() == 100.0
    assert after.steps[0].name == "clip-weights"


@pytest.mark.usefixtures("extras")
def test_the_target_of_another_package_has_its_own_table() -> None:
    target = registry.target("onnxruntime-conv")
    assert target.name == "onnxruntime-conv"
    assert target.table.compute_ops == {"Conv"}
