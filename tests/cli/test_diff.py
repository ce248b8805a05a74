"""``infopt diff`` on output directories of the embedded model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import onnx
import pytest

import infopt
from infopt.diffing.records import Diff, NodeChange, ScaleChange, ValueChange, WeightChange
from infopt.schema import schema_text
from infopt.views.diff import diff_markdown, headline, tables

if TYPE_CHECKING:
    from typing import Any

    from conftest import Cli


@pytest.fixture
def pair(cli: Cli, quantized: Path) -> Cli:
    """The command line beside equal output directories ``a`` and ``b``."""
    for name in "ab":
        shutil.copytree(quantized, name)
    return cli


def diff(cli: Cli, *args: str, code: int = 0) -> Any:
    """What it prints as JSON, held to its schema."""
    result = cli("diff", *args, "--json")
    assert (result.code, result.err) == (code, "")
    found = json.loads(result.out)
    jsonschema.Draft202012Validator(json.loads(schema_text("diff"))).validate(found)
    return found


def test_equal_directories_are_the_same_wherever_they_lie(pair: Cli) -> None:
    Path("deep/down").mkdir(parents=True)
    Path("b").rename("deep/down/b")
    found = diff(pair, "a", "deep/down/b", "--exit-code")
    assert found["same"]
    assert [found[key] for key in ("inputs", "options", "versions", "environment")] == [[]] * 4
    result = pair("diff", "a", "deep/down/b", "-q")
    assert result.out.startswith("SAME  a and deep/down/b")


def test_a_run_with_other_options_differs_in_them_and_in_what_they_did(pair: Cli) -> None:
    assert pair.quantize("-o", "c", "--samples", "4", "--seed", "1").code == 0
    found = diff(pair, "a", "c")
    assert {(each["key"], each["a"], each["b"]) for each in found["options"]} == {
        ("seed", 0, 1), ("calibration.samples", 300, 4),
    }  # fmt: skip
    assert not found["same"]
    changed = {each["tensor"]: each for each in found["scales"]["changes"]}
    assert changed
    assert all(each["a"] == each["b"] for each in changed.values())
    assert all(low <= middle <= high for low, middle, high in (each["ratio"] for each in changed.values()))
    assert found["scales"]["a"] == found["scales"]["b"] >= 5
    assert found["graph"]["nodes"] == []
    assert pair("diff", "a", "c").code == 0
    assert pair("diff", "a", "c", "--exit-code").code == 3


def test_another_target_and_precision_differ_in_graph_and_coverage(pair: Cli) -> None:
    assert pair("compile", "model.onnx", "--eval", "eval.npz", "--no-bench", "-o", "float").code == 0
    found = diff(pair, "float", "a")
    counts = {each["op"]: (each["a"], each["b"]) for each in found["graph"]["operators"]}
    assert counts["QuantizeLinear"][0] == 0
    assert counts["QuantizeLinear"][1] > 0
    assert {each["change"] for each in found["scales"]["changes"]} == {"added"}
    assert (found["kernels"]["a"], found["kernels"]["b"]) == ([0, 3], [3, 3])
    assert found["kernels"]["now_integer"] == []  # the report of a float artifact names no layers
    measured = {each["what"]: each for each in found["measured"]}
    assert measured["accuracy.candidate"]["interval"][0] <= 0 <= measured["accuracy.candidate"]["interval"][1]
    assert measured["size.candidate_bytes"]["a"] != measured["size.candidate_bytes"]["b"]
    result = pair("diff", "float", "a", "-v")
    for title in ("Measured", "Integer coverage", "Options", "Graph", "Nodes", "Scales"):
        assert f"\n{title}\n" in result.out
    assert "0 of 3 -> 3 of 3" in result.out


def test_layers_that_fell_back_to_float_are_named(pair: Cli) -> None:
    assert pair.quantize("-o", "c", "--keep-float", "conv1").code == 0
    found = diff(pair, "a", "c")
    assert (found["kernels"]["now_float"], found["kernels"]["now_integer"]) == (["conv1"], [])
    assert {each["tensor"] for each in found["scales"]["changes"] if each["change"] == "removed"}
    assert pair("compile", "model.onnx", "--eval", "eval.npz", "--no-bench", "-o", "float").code == 0
    assert diff(pair, "float", "c")["kernels"]["now_float"] == []  # all of it ran in float before
    assert "conv1" in pair("diff", "a", "c").out.partition("Integer coverage")[2].partition("Options")[0]


def test_other_inputs_are_told_by_their_contents(pair: Cli) -> None:
    proto = onnx.load("model.onnx")
    proto.graph.doc_string = "another"
    Path("other.onnx").write_bytes(proto.SerializeToString())
    args = ("--calib", "calib.npz", "--eval", "eval.npz", "--method", "fast", "--no-bench")
    assert pair("quantize", "other.onnx", *args, "-o", "c").code == 0
    found = diff(pair, "a", "c", "--exit-code", code=3)
    assert [each["key"] for each in found["inputs"]] == ["model"]
    assert [each["key"] for each in found["options"]] == ["model"]


def test_versions_and_machine_are_told_apart(pair: Cli) -> None:
    manifest = json.loads(Path("b/manifest.json").read_text())
    manifest["versions"]["numpy"] = "0.1"
    manifest["record"]["environment"] |= {"numpy": "0.1", "cpu": "another"}
    Path("b/manifest.json").write_text(json.dumps(manifest))
    found = diff(pair, "a", "b")
    assert [each["key"] for each in found["versions"]] == ["numpy"]
    assert [each["key"] for each in found["environment"]] == ["cpu"]


def test_markdown_goes_to_a_file_or_stands_alone(pair: Cli) -> None:
    assert pair.quantize("-o", "c", "--samples", "4").code == 0
    alone = pair("diff", "a", "c", "--markdown", "-").out
    assert alone.startswith("**DIFFERENT a and c: ")
    assert "| `calibration.samples` | `300` | `4` |" in alone
    assert pair("diff", "a", "c", "--markdown", "diff.md", "-q").out.startswith("DIFFERENT")
    assert Path("diff.md").read_text() == alone


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("a", "nosuch"), ("nosuch is not a directory", "output directories of infopt")),
        (("a", "scratch"), ("scratch is not an output directory",)),
        (("a", "model.onnx"), ("model.onnx is not a directory",)),
        (("a", "no-report"), ("no report at no-report",)),
        (("a", "no-graph"), ("model.onnx",)),
        (("a", "no-recipe"), ("recipe.toml",)),
        (("a", "cut"), ("cut", "truncated")),
        (("a", "b", "--json", "--markdown", "-"), ("both want stdout",)),
        (("a", "b", "--markdown", "no/such.md"), ("cannot write", "--markdown")),
        (("a", "b", "--markdown", "b/report.json"), ("b/report.json was read", "--markdown")),
    ],
)
def test_diff_refuses(pair: Cli, args: tuple[str, ...], says: tuple[str, ...]) -> None:
    for name, file in (("no-report", "report.json"), ("no-graph", "model.onnx"), ("no-recipe", "recipe.toml")):
        shutil.copytree("a", name)
        Path(name, file).unlink()
    shutil.copytree("a", "cut")
    Path("cut/manifest.json").write_text(Path("a/manifest.json").read_text()[:100])
    pair.refuses("diff", *args, says=says)


def test_a_recipe_of_another_version_is_compared_as_it_stands(pair: Cli) -> None:
    with Path("b/recipe.toml").open("a") as file:
        file.write('\n[[pass]]\nuse = "simplify"\nwonder = 3\n')
    keys = {each["key"] for each in diff(pair, "a", "b")["options"]}
    assert {"pass", "pass simplify #2.wonder"} <= keys


def test_python_does_what_the_command_line_does(pair: Cli) -> None:
    assert infopt.diff("a", "b").to_json() == diff(pair, "a", "b")


HOSTILE = "a|b`\n# x\x1b[31m<b>@all"


def test_hostile_names_stay_in_their_cells(pair: Cli) -> None:
    import dataclasses

    plain = infopt.diff("a", "b")

    def named(name: str) -> Diff:
        graph = dataclasses.replace(
            plain.graph,
            nodes=tuple(NodeChange(name, name, "changed", (name,)) for _ in range(40)),
            weights=(WeightChange(name, "added", None, name),),
            interface=(name,),
        )
        scales = dataclasses.replace(plain.scales, changes=(ScaleChange(name, "changed", name, name, None, 1),))
        return dataclasses.replace(
            plain, a=name, same=False, graph=graph, scales=scales, options=(ValueChange(name, name, [name]),)
        )

    assert headline(named(HOSTILE)).isprintable()
    assert diff_markdown(named(HOSTILE)).count("\n") == diff_markdown(named("x")).count("\n")
    assert len(diff_markdown(named(HOSTILE * 100))) < 65_000
    table = next(table for table in tables(named("x")) if table.title == "Nodes")
    assert (len(table.rows), table.more) == (15, 25)
