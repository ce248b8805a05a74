"""The largest cut that a budget allows, and recoveries that are taken back where they do harm."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.model import Model, Note
from infopt.passes import Context
from infopt.selection import Trial
from infopt_passes.prune import Prune
from infopt_passes.prune.apply import Cut
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.ranking.plan import Goal, ranked
from infopt_passes.prune.recovery.accept import State, Yardstick, accepted, weights
from infopt_passes.prune.recovery.recover import recover
from infopt_passes.prune.search import NEAR, TRIALS, Search, following

if TYPE_CHECKING:
    from conftest import Build, MakeContext, RunFloat

    from infopt.selection import Selection

MODEL = Model(cast("ir.Model", None), Path("model.onnx"))


@dataclass
class Threshold:
    """Says that every cut down to a share keeps the budget, and none below."""

    least: float
    shares: list[float] = field(default_factory=list)

    def trial(self, model: Model, context: Context) -> Trial:
        kept = self.shares[-1] >= self.least
        return Trial(1.0, 1.0, 0.0, None, "pass" if kept else "fail", kept)

    def make(self, share: float, context: Context) -> Cut:
        self.shares.append(share)
        return Cut(MODEL, share, share)


def searched(threshold: Threshold, seconds: float = 60.0) -> Search:
    search = Search(threshold.make, Context(Path()), cast("Selection", threshold), seconds)
    search.run()
    return search


@settings(max_examples=100)
@given(least=st.floats(0.03, 0.97))
def test_the_share_found_keeps_the_budget_and_little_less_would_not(least: float) -> None:
    threshold = Threshold(least)
    search = searched(threshold)
    assert len(threshold.shares) <= TRIALS
    assert search.best is not None or least > 0.9
    if search.best is not None:
        assert least <= search.best.share <= least + 0.1


def test_a_budget_that_nothing_keeps_has_no_best() -> None:
    assert searched(Threshold(2.0)).best is None


def test_a_budget_that_everything_keeps_ends_with_nearly_nothing_left() -> None:
    best = searched(Threshold(0.0)).best
    assert best is not None
    assert best.share < 0.1


def test_a_search_that_is_out_of_time_tries_one_cut_and_says_so() -> None:
    threshold = Threshold(0.3)

    def slow(share: float, context: Context) -> Cut:
        time.sleep(0.02)
        return threshold.make(share, context)

    search = Search(slow, Context(Path()), cast("Selection", threshold), 0.01)
    search.run()
    assert (len(search.tried), search.late) == (1, True)
    assert search.best is not None


@given(low=st.floats(0.01, 0.4), high=st.floats(0.6, 0.99), step=st.floats(0.01, 1))
def test_the_next_share_lies_between_what_misses_and_what_keeps(low: float, high: float, step: float) -> None:
    for ends in ((low, high), (0.0, high), (low, 1.0)):
        assert ends[0] < following(*ends, step) < ends[1]


def test_few_samples_come_first_and_all_in_the_end(build: Build, make_context: MakeContext) -> None:
    model = build("(float[N,4] x) => (float[N,2] y) { y = MatMul(x, w) }", w=(4, 2))
    threshold = Threshold(0.37)
    search = Search(threshold.make, make_context(model, count=200), cast("Selection", threshold), 60.0)
    search.run()
    counts = [each.samples for each in search.tried]
    assert counts == sorted(counts)
    assert set(counts) == {64, 200}
    assert counts.count(200) <= 4, "full cuts are dear"
    assert search.best is not None
    assert 0.37 <= search.best.share <= 0.37 + 2 * NEAR[1]


CHAIN = (
    "(float[N,8] x) => (float[N,3] y) { a = MatMul(x, w) r = Relu(a) b = MatMul(r, v) s = Relu(b) y = MatMul(s, u) }"
)


def chain(build: Build) -> Model:
    return build(CHAIN, w=(8, 16), v=(16, 16), u=(16, 3))


def half_gone(model: Model) -> Work:
    """A model whose last layer reads half of what it did."""
    work = Work.of(model.graph)
    work.kept[-1] = np.arange(16) % 2 == 0
    work.zero()
    return work


def written(work: Work, name: str, factor: float) -> None:
    value = work.graph.graph.initializers[name]
    assert value.const_value is not None
    with np.errstate(invalid="ignore"):
        value.const_value = ir.tensor((value.const_value.numpy() * factor).astype(np.float32), name=name)


@pytest.mark.parametrize(("factor", "words"), [(np.inf, "not finite"), (100.0, "made outputs worse (")])
def test_the_layer_that_does_harm_is_rolled_back_and_named_and_the_others_stay(
    build: Build, make_context: MakeContext, factor: float, words: str
) -> None:
    model = chain(build)
    work = half_gone(model)
    yardstick = Yardstick.of(work, make_context(model, count=64))
    assert yardstick is not None
    before = weights(work.graph)

    def recovery(some: Context) -> list[Note]:
        recover(work, some)
        written(work, "v", factor)
        return []

    plain, reached, told = accepted(work, yardstick, recovery)
    after = {value.name: tensor for value, tensor in weights(work.graph).items()}
    was = {value.name: tensor for value, tensor in before.items()}
    assert after["v"] is was["v"]
    assert after["u"] is not was["u"]
    assert reached < plain
    assert reached == yardstick.noise(work.graph)
    (note,) = told
    assert (note.kind, note.node) == ("warning", "rolled back")
    assert words in note.why
    assert "in 1 layers (b)" in note.why


def test_a_recovery_that_does_good_stays_whole(build: Build, make_context: MakeContext) -> None:
    model = chain(build)
    work = half_gone(model)
    yardstick = Yardstick.of(work, make_context(model, count=64))
    assert yardstick is not None

    def recovery(some: Context) -> list[Note]:
        recover(work, some)
        return [Note("choice", "recovery", "told")]

    plain, reached, told = accepted(work, yardstick, recovery)
    assert reached < 0.9 * plain
    assert [note.why for note in told] == ["told"]


def test_what_did_good_is_done_again_with_all_samples(build: Build, make_context: MakeContext) -> None:
    model = chain(build)
    work, context = half_gone(model), make_context(model, count=64)
    yardstick = Yardstick.of(work, context)
    assert yardstick is not None
    seen: list[int] = []

    def recovery(some: Context) -> list[Note]:
        seen.append(len(some.need_calibration("test")))
        recover(work, some)
        return []

    _, reached, _ = accepted(work, yardstick, recovery)
    assert seen == [56, 64]
    assert reached == yardstick.noise(work.graph)
    alone = [half_gone(model), half_gone(model)]
    for other, some in zip(alone, (yardstick.rest, context), strict=True):
        recover(other, some)
    first, again = (yardstick.noise(other.graph) for other in alone)
    assert first != again
    assert reached == min(first, again)


def test_a_second_recovery_that_does_harm_gives_way_to_the_first(build: Build, make_context: MakeContext) -> None:
    model = chain(build)
    work, context = half_gone(model), make_context(model, count=64)
    yardstick = Yardstick.of(work, context)
    assert yardstick is not None

    def recovery(some: Context) -> list[Note]:
        recover(work, some)
        if some is context:
            written(work, "v", 100.0)
        return [Note("choice", "recovery", str(len(some.need_calibration("test"))))]

    plain, reached, told = accepted(work, yardstick, recovery)
    assert reached == yardstick.noise(work.graph) < plain
    assert [note.why for note in told] == ["56"]


def test_samples_that_judge_are_held_back_from_recovery(build: Build, make_context: MakeContext) -> None:
    model = chain(build)
    context = make_context(model, count=80)
    yardstick = Yardstick.of(Work.of(model.graph), context)
    assert yardstick is not None
    assert yardstick.rest.calibration is not None
    assert (yardstick.samples, len(yardstick.rest.calibration)) == (10, 70)


def test_a_state_brings_back_masks_weights_and_added_biases(build: Build) -> None:
    work = Work.of(chain(build).graph)
    state = State.of(work)
    name = "added"
    value = ir.Value(name=name, const_value=ir.tensor(np.ones(3, np.float32), name=name))
    work.graph.graph.register_initializer(value)
    work.kept = [np.zeros_like(kept) for kept in work.kept]
    work.zero()
    state.restore(work)
    assert all(kept.all() for kept in work.kept)
    for other, tensor in state.weights.items():
        assert other.const_value is tensor
    assert value.const_value is not None
    assert not value.const_value.numpy().any()


def overflowing() -> dict[str, Any]:
    """Two channels of opposite sign that only together are finite once they are multiplied; and two small ones."""
    first = np.zeros((4, 4), np.float32)
    first[0] = [2e37, -1.99e37, 0, 0]
    first[1:, 2:] = 1
    return {"w": first, "v": np.ones((4, 1), np.float32), "k": np.float32(300)}


def test_a_step_whose_outputs_are_not_finite_is_rolled_back_to_the_last_good_one(
    build: Build, make_context: MakeContext, run_float: RunFloat
) -> None:
    model = build(
        "(float[N,4] x) => (float[N,1] y) { h = MatMul(x, w) s = MatMul(h, v) y = Mul(s, k) }", **overflowing()
    )
    context = make_context(model, count=16)
    result = Prune(flops=0.25, steps=2, multiple=1, importance="magnitude", recover="none")(model, context)
    told = [note.why for note in result.notes if note.kind == "warning"]
    assert told == [
        "step 2 of 2 gave values that are not finite: rolled back to the last good step, 50.0% of the flops are kept"
    ]
    assert (result.pruned[0].before, result.pruned[0].after) == (4, 2)
    assert all(np.isfinite(run_float(result, feed)["y"]).all() for feed in context.calibration.feeds())  # type: ignore[union-attr]


def trained(seed: int) -> dict[str, np.ndarray]:
    """Weights of a small classifier after gradient descent: its first layer is far wider than its four inputs need."""
    rng = np.random.default_rng(seed)
    x, truth = task(rng, 1024)
    sizes = (4, 64, 16, 3)
    net = [rng.standard_normal((m, n)) * np.sqrt(2 / m) for m, n in pairwise(sizes)]
    for _ in range(300):
        layers = [x]
        for number, weight in enumerate(net):
            layers.append(layers[-1] @ weight if number == 2 else np.maximum(layers[-1] @ weight, 0))
        score = np.exp(layers[-1] - layers[-1].max(axis=1, keepdims=True))
        back = score / score.sum(axis=1, keepdims=True) - np.eye(3)[truth]
        for number in (2, 1, 0):
            step = layers[number].T @ back / len(x)
            back = (back @ net[number].T) * (layers[number] > 0)
            net[number] = net[number] - 0.3 * step
    return {name: weight.astype(np.float32) for name, weight in zip(("w", "v", "u"), net, strict=True)}


def task(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and which of three rings they lie on."""
    x = rng.standard_normal((count, 4))
    return x, np.digitize(np.linalg.norm(x, axis=1), (1.5, 2.2))


def test_ratios_by_sensitivity_lose_less_than_the_same_ratio_for_all(
    build: Build, make_context: MakeContext, run_float: RunFloat
) -> None:
    errors = {"sensitive": 0.0, "uniform": 0.0}
    for seed in range(4):
        model = build(CHAIN.replace("N,8", "N,4"), **trained(seed))
        context = make_context(model, count=200)
        order = ranked(model, context, multiple=1)
        allocation = order.allocation(Goal("flops", 0.35))
        uniform = replace(allocation, kept=[best_of(each, 0.58) for each in order.scores])
        uniform.reach(1.0)
        assert uniform.share() >= allocation.share(), "the same ratio for all keeps no less"
        feed = {"x": task(np.random.default_rng(seed + 100), 512)[0].astype(np.float32)}
        wanted = run_float(model, feed)["y"]
        for name, kept in (("sensitive", allocation.kept), ("uniform", uniform.kept)):
            work = Work.of(model.graph)
            work.kept = list(kept)
            work.zero()
            recover(work, context)
            found = run_float(model.edited(work.cut()), feed)["y"]
            errors[name] += float(np.mean((found - wanted) ** 2) / np.mean(wanted**2))
    assert errors["sensitive"] < 0.8 * errors["uniform"]


def best_of(scores: np.ndarray, share: float) -> np.ndarray:
    """The most important units, so many of a group as of every other."""
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[: int(np.ceil(share * len(scores)))]] = True
    return kept
