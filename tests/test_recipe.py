from __future__ import annotations

import string
import tomllib
from os.path import normpath
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.budget import Budget
from infopt.errors import InputError, OptionError
from infopt.recipe import Calibration, Evaluation, Inputs, Job, Recipe, load, merge, parse, rebase, to_table, to_toml
from infopt_passes.quantize import Quantize
from infopt_passes.simplify import Simplify

text = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(string.ascii_letters + string.digits + "äß日 -'", min_size=1).filter(lambda name: name.strip())
paths = names.map(lambda name: Path("/data") / name)
rates = st.floats(0, 1, allow_nan=False)

recipes = st.builds(
    Recipe,
    job=st.builds(
        Job,
        model=paths,
        target=text,
        output=st.none() | paths,
        force=st.booleans(),
        require_engine=st.booleans(),
        seed=st.integers(0),
    ),
    calibration=st.builds(Calibration, data=st.none() | paths, samples=st.integers(1), synthetic=st.booleans()),
    evaluation=st.builds(
        Evaluation,
        data=st.none() | paths,
        metric=st.none() | names | names.map(lambda name: f"/metrics/{name}.py:score"),
        seconds=st.floats(0.1, 1e300),
    ),
    inputs=st.builds(
        Inputs,
        preprocess=st.none() | names | names.map(lambda name: f"/{name}.toml"),
        batch=st.integers(1),
        batch_axis=st.lists(text).map(tuple),
        shape=st.lists(text).map(tuple),
    ),
    budget=st.builds(Budget, max_drop=st.none() | rates, max_bytes=st.none() | st.integers(1)),
    passes=st.lists(
        st.builds(Simplify, fold_limit=st.integers(0)) | st.builds(Quantize, keep_float=st.lists(text).map(tuple))
    ).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(recipes)
def test_a_recipe_survives_its_file(recipe: Recipe) -> None:
    folder = Path("/data")
    again = parse(tomllib.loads(to_toml(recipe, folder)), "again")
    assert _absolute(again, folder) == recipe


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    """A recipe whose paths are all written from the root; its file holds them relative to its folder."""
    moved = to_table(rebase(recipe, folder))
    for section, key in (("", "model"), ("", "output"), ("calibration", "data"), ("evaluation", "data")):
        part = moved[section] if section else moved
        if key in part:
            part[key] = normpath(part[key])
    for section, key in (("evaluation", "metric"), ("inputs", "preprocess")):
        value = moved[section].get(key, "")
        if ".py:" in value or ".toml" in value:
            moved[section][key] = normpath(value)
    return parse(moved, "absolute")


def write(folder: Path, content: str, name: str = "recipe.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


FULL = """
model = "model.onnx"
target = "openvino"
output = "out"
[calibration]
data = "calib"
samples = 7
[evaluation]
data = "/far/eval"
metric = "score.py:top"
[inputs]
preprocess = "pre.toml"
[[pass]]
use = "simplify"
[[pass]]
use = "quantize"
ranges = "minmax"
"""


def test_relative_paths_are_relative_to_the_files_folder(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, FULL))
    assert recipe.job.model == tmp_path / "model.onnx"
    assert recipe.job.output == tmp_path / "out"
    assert recipe.calibration.data == tmp_path / "calib"
    assert recipe.evaluation.data == Path("/far/eval")
    assert recipe.evaluation.metric == f"{tmp_path}/score.py:top"
    assert recipe.inputs.preprocess == f"{tmp_path}/pre.toml"


@pytest.mark.parametrize("name", ["imagenet", "top1"])
def test_names_of_built_ins_are_no_paths(tmp_path: Path, name: str) -> None:
    content = f'model = "m.onnx"\n[inputs]\npreprocess = "{name}"\n[evaluation]\nmetric = "{name}"\n'
    recipe = load(write(tmp_path, content))
    assert (recipe.inputs.preprocess, recipe.evaluation.metric) == (name, name)


def test_a_saved_recipe_names_the_same_files_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load(write(tmp_path, FULL))
    saved = load(write(tmp_path / "deep" / "er", to_toml(recipe, tmp_path / "deep" / "er")))
    assert saved.job.model.resolve() == recipe.job.model
    assert saved.calibration.data is not None
    assert saved.calibration.data.resolve() == recipe.calibration.data
    assert Path(saved.inputs.preprocess or "").resolve() == Path(recipe.inputs.preprocess or "")
    assert saved.passes == recipe.passes


def test_passes_keep_their_order_and_options(tmp_path: Path) -> None:
    assert load(write(tmp_path, FULL)).passes == (Simplify(), Quantize(ranges="minmax"))


def test_overrides_win_key_by_key_and_are_relative_to_the_current_directory(tmp_path: Path) -> None:
    overrides = {"target": "onnxruntime", "calibration": {"samples": 9}, "evaluation": {"data": "here"}}
    recipe = load(write(tmp_path, FULL), overrides)
    assert recipe.job.target == "onnxruntime"
    assert recipe.job.model == tmp_path / "model.onnx"
    assert recipe.calibration == Calibration(tmp_path / "calib", 9)
    assert recipe.evaluation.data == Path("here")
    assert recipe.passes == (Simplify(), Quantize(ranges="minmax"))


def test_merging_leaves_both_mappings_alone() -> None:
    below: dict[str, Any] = {"a": {"b": 1}, "c": 2}
    assert merge(below, {"a": {"d": 3}}) == {"a": {"b": 1, "d": 3}, "c": 2}
    assert below == {"a": {"b": 1}, "c": 2}


def test_a_recipe_without_passes_takes_those_of_the_verb() -> None:
    assert parse({"model": "m"}, "x", (Simplify(),)).passes == (Simplify(),)
    assert parse({"model": "m", "pass": [{"use": "quantize"}]}, "x", (Simplify(),)).passes == (Quantize(),)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"model": "m", "modle": 1}, r"unknown key in r: 'modle'; did you mean 'model'\?"),
        ({"model": "m", "calibation": {}}, r"did you mean 'calibration'\?"),
        ({"model": "m", "calibration": {"sample": 3}}, r"r \[calibration\]: 'sample'; did you mean 'samples'\?"),
        ({"model": "m", "calibration": 3}, "'calibration' is not a section"),
        ({"model": "m", "pass": {"use": "simplify"}}, "'pass' is not a section"),
        ({"model": "m", "pass": [{"ranges": "minmax"}]}, r"\[\[pass\]\] lacks its 'use' key"),
        ({"model": "m", "pass": [{"use": 3}]}, "lacks its 'use' key"),
        ({"model": "m", "pass": ["simplify"]}, "lacks its 'use' key"),
        ({"model": "m", "pass": [{"use": "quantise"}]}, r"did you mean 'quantize'\?"),
        ({"model": "m", "pass": [{"use": "quantize", "range": "x"}]}, "'range'; did you mean 'ranges'"),
        ({"model": "m", "pass": [{"use": "quantize", "ranges": "x"}]}, "choose auto, minmax, mean-minmax"),
        ({}, "r lacks 'model'"),
        ({"model": "m", "seed": -1}, "outside 0 to inf"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse(table, "r")


@pytest.mark.parametrize(
    "content", [b"model = ", b"\xff\xfe", b"seed = " + b"9" * 5000], ids=["syntax", "bytes", "huge integer"]
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "r.toml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"recipe .*r\.toml is not TOML"):
        load(file)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read recipe .*none\.toml"):
        load(tmp_path / "none.toml")


def test_defaults_are_written_out_so_that_a_saved_recipe_does_not_change_with_infopt(tmp_path: Path) -> None:
    table = tomllib.loads(to_toml(Recipe(Job(tmp_path / "m.onnx"), passes=(Simplify(),)), tmp_path))
    assert table["seed"] == 0
    assert table["calibration"]["samples"] == 300
    assert table["pass"] == [{"use": "simplify", "fold_limit": Simplify().fold_limit}]
