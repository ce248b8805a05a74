from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infopt import verbs
from infopt.errors import OptionError
from infopt.flags import recipe_flags, section_flags, to_recipe_table
from infopt.options import fields
from infopt.recipe import SECTIONS, Calibration, Evaluation, Job, parse
from infopt.registry import pass_class
from infopt_passes.quantize import Quantize
from infopt_passes.simplify import Simplify

QUANTIZE = ("simplify", "quantize")


def table(**values: Any) -> dict[str, Any]:
    return to_recipe_table(recipe_flags(QUANTIZE), values, QUANTIZE)


@pytest.mark.parametrize("passes", [(), *verbs.PASSES.values()], ids=str)
def test_no_two_options_of_a_verb_claim_the_same_flag(passes: tuple[str, ...]) -> None:
    classes = [Job, *SECTIONS.values(), *map(pass_class, passes)]
    spelt = Counter(flag for cls in classes for field in fields(cls) if field.opt.cli for flag in field.flags)
    assert [flag for flag, count in spelt.items() if count > 1] == []
    assert len(recipe_flags(passes)) == len(set(_offered(classes)))


def _offered(classes: list[type]) -> list[tuple[type, str]]:
    return [(cls, field.name) for cls in classes for field in fields(cls) if field.opt.cli]


def test_a_flag_is_the_python_keyword_with_hyphens() -> None:
    flags = recipe_flags(QUANTIZE)
    assert flags["no_eval"].field.flags == ("--no-eval",)
    assert flags["output"].field.flags == ("--output", "-o")
    assert (flags["calib"].section, flags["calib"].field.name) == ("calibration", "data")
    assert (flags["target"].section, flags["keep_float"].section) == ("", "pass quantize")


def test_what_is_meant_for_recipes_alone_is_no_flag() -> None:
    flags = recipe_flags(QUANTIZE)
    assert flags.keys().isdisjoint({"model", "max_p99_ms", "max_bytes", "confidence"})


def test_the_flags_of_the_design_are_there() -> None:
    wanted = (
        "output calib eval metric preprocess samples batch batch_axis shape seed no_eval no_bench force max_drop "
        "min_speedup require_engine synthetic target"
    ).split()
    assert set(wanted) <= recipe_flags(QUANTIZE).keys()


def test_compare_offers_the_options_of_its_sections_only() -> None:
    flags = section_flags(verbs.COMPARE_SECTIONS)
    assert {"eval", "metric", "batch", "max_drop"} <= flags.keys()
    assert flags.keys().isdisjoint({"calib", "samples", "target", "synthetic"})


def test_every_value_arrives_at_its_option() -> None:
    found = table(target="openvino", calib="c", no_eval=True, max_drop="0.5%", keep_float=["n"], fold_limit=3)
    recipe = parse({"model": "m.onnx", **found}, "test")
    assert recipe.job == Job(Path("m.onnx"), "openvino")
    assert recipe.calibration == Calibration(Path("c"))
    assert recipe.evaluation == Evaluation(skip=True)
    assert recipe.budget.max_drop == 0.005
    assert recipe.passes == (Simplify(fold_limit=3), Quantize(keep_float=("n",)))


def test_a_value_that_is_not_given_leaves_the_default() -> None:
    assert table(target=None, samples=None) == {"pass": [{"use": "simplify"}, {"use": "quantize"}]}
    assert to_recipe_table(recipe_flags(), {"seed": None}) == {}


def test_false_and_zero_are_values() -> None:
    assert to_recipe_table(recipe_flags(), {"force": False, "seed": 0}) == {"force": False, "seed": 0}


def test_an_option_that_the_verb_does_not_offer_gets_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown option 'max_dropp'; did you mean 'max_drop'\?"):
        table(max_dropp=1)
    with pytest.raises(OptionError, match="'keep_float'"):
        to_recipe_table(recipe_flags(), {"keep_float": ["n"]})
