"""Samples that choose are set apart, and a candidate is scored on them by the rule of every budget."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest

from infopt import recipe as recipes
from infopt.errors import InputError, OptionError
from infopt.model import save
from infopt.passes import Context
from infopt.resolve import Resolved, resolve
from infopt.selection import Selection, parted, selection
from infopt.ui import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build, RunFloat

    from infopt.model import Model

ROWS = 400


@pytest.fixture
def linear(build: Build, run_float: RunFloat, tmp_path: Path) -> tuple[Model, Path]:
    """A classifier and samples that it labels itself."""
    model = build(
        "(float[N,6] x) => (float[N,3] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }", w=(6, 8), v=(8, 3)
    )
    save(model.graph, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * ROWS, 6)).astype(np.float32)
    labels = run_float(model, {"x": x})["y"].argmax(axis=1)
    np.savez(tmp_path / "eval.npz", x=x[:ROWS], labels=labels[:ROWS])
    np.savez(tmp_path / "calib.npz", x=x[ROWS:])
    return replace(model, path=tmp_path / "model.onnx"), tmp_path


def resolved(folder: Path, max_drop: float | None = 0.05, evaluated: bool = True, **prune: Any) -> Resolved:
    data = {"evaluation": {"data": str(folder / "eval.npz")}} if evaluated else {"evaluation": {"skip": True}}
    table = {
        "model": str(folder / "model.onnx"),
        "calibration": {"data": str(folder / "calib.npz"), "samples": 80},
        "budget": {} if max_drop is None else {"max_drop": max_drop},
        "pass": [{"use": "prune", **prune}, {"use": "quantize"}],
        **data,
    }
    return resolve(recipes.parse(table, "test"), True)


def opened(stack: ExitStack, found: Resolved) -> Selection:
    chosen = stack.enter_context(selection(parted(found), Silent()))
    assert chosen is not None
    return chosen


def broken(model: Model, value: float) -> Model:
    """The model with another last weight."""
    graph = model.graph.clone()
    weight = graph.graph.initializers["v"]
    assert weight.const_value is not None
    weight.const_value = ir.tensor((weight.const_value.numpy() * value).astype(np.float32), name="v")
    return model.edited(graph)


def test_what_chooses_and_what_confirms_are_all_samples_and_none_twice(linear: tuple[Model, Path]) -> None:
    whole = resolved(linear[1])
    parts = parted(whole)
    assert parts.search is not None
    assert whole.evaluation is not None
    confirming = parts.resolved.evaluation
    assert confirming is not None
    assert parts.resolved.searched == len(parts.search) > ROWS / 3
    assert sorted(parts.search.digests() + confirming.digests()) == sorted(whole.evaluation.digests())
    assert set(parts.search.digests()).isdisjoint(confirming.digests())


def test_nothing_is_set_apart_where_nothing_is_chosen(linear: tuple[Model, Path]) -> None:
    for found in (resolved(linear[1], None), resolved(linear[1], flops=0.5)):
        parts = parted(found)
        assert parts.search is None
        assert parts.resolved is found


def test_without_evaluation_some_calibration_samples_choose_and_no_pass_sees_them(linear: tuple[Model, Path]) -> None:
    found = resolved(linear[1], evaluated=False)
    parts = parted(found)
    assert parts.search is not None
    assert parts.metric is not None
    assert parts.metric.name == "agreement"
    assert found.calibration is not None
    assert parts.resolved.calibration is not None
    left = set(parts.resolved.calibration.indices)
    assert len(parts.search) == 20
    assert left.isdisjoint(parts.search.rows.tolist())
    assert left | set(parts.search.rows.tolist()) == set(found.calibration.indices)


@pytest.mark.parametrize("evaluated", [True, False])
def test_samples_that_chose_once_stay_apart_where_nothing_is_chosen_any_more(
    linear: tuple[Model, Path], evaluated: bool
) -> None:
    searched = parted(resolved(linear[1], evaluated=evaluated)).resolved
    marks = searched.recipe.evaluation.confirmation, searched.recipe.calibration.held_back
    assert marks == (evaluated, not evaluated)
    decided = resolved(linear[1], evaluated=evaluated, flops=0.5)
    sections = {"evaluation": searched.recipe.evaluation, "calibration": searched.recipe.calibration}
    parts = parted(replace(decided, recipe=replace(decided.recipe, **sections)))
    assert parts.search is None
    assert parts.resolved.calibration == searched.calibration
    assert parts.resolved.searched == searched.searched
    for found in (parts.resolved, searched):
        assert found.evaluation is None or len(found.evaluation) == ROWS - found.searched


def test_a_recipe_that_chooses_again_chooses_by_the_same_samples(linear: tuple[Model, Path]) -> None:
    for evaluated in (True, False):
        first = parted(resolved(linear[1], evaluated=evaluated))
        whole = resolved(linear[1], evaluated=evaluated)
        second = parted(replace(whole, recipe=first.resolved.recipe))
        assert first.search is not None
        assert second.search is not None
        assert first.search.rows.tolist() == second.search.rows.tolist()
        assert first.resolved.calibration == second.resolved.calibration


def test_a_candidate_is_judged_by_the_rule_of_budgets(linear: tuple[Model, Path], tmp_path: Path) -> None:
    model, folder = linear
    with ExitStack() as stack:
        chosen = opened(stack, resolved(folder))
        same, other, lost = (chosen.trial(broken(model, f), Context(tmp_path)) for f in (1.0, -1.0, np.nan))
    assert chosen.proves
    assert chosen.labelled
    assert chosen.later == ("quantize",)
    assert (same.baseline, same.drop, same.status, same.kept) == (1.0, 0.0, "pass", True)
    assert other.drop > 0.5
    assert (other.status, other.kept, lost.kept) == ("fail", False, False)
    assert not list(tmp_path.glob("*/model.onnx")), "candidates are not left on the disk"


def test_samples_that_cannot_prove_leave_it_to_the_measured_drop(linear: tuple[Model, Path], tmp_path: Path) -> None:
    model, folder = linear
    with ExitStack() as stack:
        chosen = opened(stack, resolved(folder, 0.001))
        same = chosen.trial(model, Context(tmp_path))
    assert not chosen.proves
    assert chosen.lacking is not None
    assert chosen.lacking > 1000
    assert (same.status, same.kept) == ("undecided", True)


def test_made_up_samples_choose_nothing(linear: tuple[Model, Path]) -> None:
    found = resolved(linear[1], evaluated=False)
    calibration = replace(found.recipe.calibration, data=None, synthetic=True)
    made_up = replace(found, recipe=replace(found.recipe, calibration=calibration))
    with pytest.raises(InputError, match="no samples to choose by; give --eval"):
        parted(made_up)


def test_a_handful_of_samples_chooses_nothing(linear: tuple[Model, Path]) -> None:
    found = resolved(linear[1], evaluated=False)
    assert found.calibration is not None
    few = replace(found, calibration=found.calibration.thinned(12))
    with pytest.raises(InputError, match="3 samples are too few"):
        parted(few)


def test_a_percentage_that_is_meant_as_one_is_refused(linear: tuple[Model, Path]) -> None:
    with pytest.raises(OptionError, match="above 1"):
        resolved(linear[1], 1.5)
