"""The recipe of a run by method auto: the same bytes without a search, and a report that tells what was asked for."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from passes.test_auto import RUINED, ruined

from infopt.manifest import identity, read_manifest
from infopt.model import save

if TYPE_CHECKING:
    from conftest import Build, Cli

DATA = ("--calib", "calib.npz", "--eval", "eval.npz", "--no-bench")


@pytest.fixture
def spoilt(cli: Cli, build: Build) -> Cli:
    """A model with a layer that stays in float, and samples."""
    save(build(RUINED, **ruined()).graph, Path("model.onnx"))
    for name, seed in (("calib", 0), ("eval", 1)):
        np.savez(f"{name}.npz", x=np.random.default_rng(seed).standard_normal((24, 64)).astype(np.float32))
    return cli


def report(cli: Cli, *args: str) -> Any:
    """The report of a run that ends well."""
    result = cli(*args, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def floats(found: Any) -> dict[str, str]:
    return {each["name"]: each["why"] for each in found["kernels"]["float_nodes"]}


def made(folder: str) -> dict[str, bytes]:
    """The reproducible files of an output directory."""
    return {name: (Path(folder) / name).read_bytes() for name in read_manifest(Path(folder)).outputs}


@pytest.mark.parametrize(("target", "kept"), [("onnxruntime", ["y"]), ("openvino", ["y"]), ("tensorrt-rtx", [])])
def test_a_recipe_makes_the_same_without_searching(
    spoilt: Cli, monkeypatch: pytest.MonkeyPatch, target: str, kept: list[str]
) -> None:
    asked = ("--target", target, "--equalize", "off", "--time-limit", "30")
    first = report(spoilt, "quantize", "model.onnx", *DATA, *asked, "-o", "out")
    step = tomllib.loads(Path("out/recipe.toml").read_text())["pass"][-1]
    assert (step["method"], step["equalize"], step["keep_float"]) == ("fast", "off", kept)
    assert "auto" not in step.values()
    assert "time_limit" not in step
    assert first["steps"][-1]["options"].items() <= step.items()
    assert first["steps"][-1]["asked"]["method"] == "auto"
    assert first["steps"][-1]["asked"]["time_limit"] == 30
    assert all("of the outputs' error" in floats(first)[name] for name in kept)

    monkeypatch.setattr("infopt_passes.quantize.apply.chosen", None)
    second = report(spoilt, "run", "out/recipe.toml", "-o", "again")
    assert made("again") == made("out")
    assert identity(read_manifest(Path("again"))) == identity(read_manifest(Path("out")))
    assert second["steps"][-1]["options"] == first["steps"][-1]["options"]
    assert second["steps"][-1]["asked"] is None
    assert all(floats(second)[name] == "kept in float by --keep-float" for name in kept)
    assert second["accuracy"] == first["accuracy"]
    assert spoilt("diff", "out", "again", "--exit-code", "-q").out.startswith("SAME")


def test_a_pass_without_options_in_the_recipe_searches_again(spoilt: Cli) -> None:
    assert spoilt("quantize", "model.onnx", *DATA, "--no-eval", "-o", "out").code == 0
    recipe = Path("out/recipe.toml")
    head = recipe.read_text().rpartition("[[pass]]")[0]
    recipe.write_text(f'{head}[[pass]]\nuse = "quantize"\n')
    again = report(spoilt, "run", "out/recipe.toml", "-o", "again")
    assert again["steps"][-1]["asked"]["method"] == "auto"
    assert made("again") == made("out")
