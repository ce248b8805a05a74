"""What pruning learns from samples: part by part as in one run, without padding, with what sums lack."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passes.architectures import ARCHITECTURES

from infopt.data import infer_batch_axes
from infopt.facts import WEIGHT_INPUT
from infopt.model import Model, input_specs
from infopt.passes import CalibrationSet, Context
from infopt.readers.npz import open_npz
from infopt_passes.calibrate.sweep import Streams
from infopt_passes.fitting.masked import stepped
from infopt_passes.prune import Prune
from infopt_passes.prune.cutting.prepare import prepared
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.ranking.importance import importances
from infopt_passes.prune.readings.padding import counted, padding_mask
from infopt_passes.prune.readings.seen import PER_SQUARE, PER_WEIGHT, in_order, observed, readings
from infopt_passes.prune.readings.stages import March, stages_of
from infopt_passes.prune.readings.sums import Sums, joined
from infopt_passes.prune.recovery.recover import rows_of
from infopt_passes.prune.sparse import sparsified
from infopt_passes.prune.sparse.layers import Pair
from infopt_passes.prune.sparse.solve import smallest, solved

if TYPE_CHECKING:
    from conftest import Build, MakeContext, RunFloat


def pair(model: Model) -> Pair:
    graph = prepared(model.graph)
    return Pair(graph.clone(), graph)


def doubled(node: ir.Node) -> None:
    weight = node.inputs[WEIGHT_INPUT]
    assert weight is not None
    assert weight.const_value is not None
    weight.const_value = ir.tensor(1.1 * weight.const_value.numpy(), name=weight.name)


@pytest.mark.parametrize("memory", [10**9, 1])
@pytest.mark.parametrize("name", ["resnet_basic", "vit_fused"])
def test_parts_see_what_the_whole_model_computes_with_the_weights_so_far(
    name: str, memory: int, make_context: MakeContext, run_float: RunFloat
) -> None:
    """With room on disk each part starts where the last one ended; without it, from the inputs."""
    model = ARCHITECTURES[name]()
    context = replace(make_context(model, count=3), memory=memory)
    work = pair(model)
    some = readings(work, replace(context, memory=10**9))
    wanted = {node for node, _ in some}
    order = stages_of(work.graph.graph, wanted)
    march = March(work, order, context, Streams(1, 1))
    feeds, spooled = list(context.need_calibration("test").feeds()), False
    for row in rows_of(work.graph.graph, some):
        stage = order[list(work.graph.graph).index(row[0][0])] - 1
        names = [reading.name for _, reading in row]
        found = list(march.sweep(stage, names))
        spooled |= bool(march._spools[0])
        for (was, now), feed in zip(found, feeds, strict=True):
            for graph, tensors in ((work.exact, was), (work.graph, now)):
                whole = whole_run(model, graph, names, feed, run_float)
                for each in names:
                    np.testing.assert_allclose(tensors[each], whole[each], rtol=1e-4, atol=1e-5)
        for node, _ in row:
            doubled(node)
    march.close()
    assert spooled == (memory > 1)
    assert not list(Path(context.workdir).glob("stage-*"))


def whole_run(model: Model, graph: ir.Model, names: list[str], feed: Any, run_float: RunFloat) -> dict[str, np.ndarray]:
    from infopt.probe import with_outputs

    outside = {name: feed[name] for name in names if name in feed}
    inner = [name for name in dict.fromkeys(names) if name not in outside]
    found = run_float(model.edited(with_outputs(graph, inner)), feed) if inner else {}
    return outside | {name: found[f"{name}:whole"] for name in inner}


MASKED = """(float[N, 6, 4] x, int64[N, 6] mask) => (float[N, 4] y) {
    m = Cast <to = 1> (mask)
    e = Unsqueeze(m, axes)
    h = MatMul(x, w)
    r = Relu(h)
    k = MatMul(r, v)
    c = Mul(k, e)
    y = ReduceSum <keepdims = 0> (c, one)
}"""
SEEN = MASKED.replace("c = Mul(k, e)", "g = Mul(k, e)  c = Add(g, k)")


def masked(build: Build, text: str, folder: Path) -> tuple[Model, Context]:
    model = build(text, axes=np.array([2]), one=np.array([1]), w=(4, 8), v=(8, 4))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 6, 4)).astype(np.float32)
    mask = (np.arange(6) < rng.integers(2, 5, (20, 1))).astype(np.int64)
    x[mask == 0] = 100
    np.savez(folder / "calib.npz", x=x, mask=mask)
    inputs = infer_batch_axes(input_specs(model.graph), {})
    samples = open_npz(folder / "calib.npz", inputs, None)
    return model, Context(folder, None, CalibrationSet(samples, tuple(range(20)), inputs))


def test_padding_does_not_count_where_no_output_depends_on_it(build: Build, tmp_path: Path) -> None:
    model, context = masked(build, MASKED, tmp_path)
    assert padding_mask(prepared(model.graph), context) == "mask"
    work = pair(model)
    seen = {reading.node.name: seen for _, reading, seen in observed(work, readings(work, context), context)}
    assert abs(seen["h"].mean).max() < 1
    assert seen["h"].rows == sum(int(feed["mask"].sum()) for feed in context.need_calibration("test").feeds())


def test_an_input_of_zeros_and_ones_is_no_mask_where_outputs_depend_on_its_zeros(build: Build, tmp_path: Path) -> None:
    model, context = masked(build, SEEN, tmp_path)
    assert padding_mask(prepared(model.graph), context) is None


def test_a_mask_of_another_shape_leaves_rows_as_they_are() -> None:
    data = np.ones((1, 3, 4))
    assert counted(data, np.array([[1, 0]])) is data
    assert counted(data, None) is data
    assert counted(data, np.array([[1, 0, 1]])).shape == (2, 4)


RESIDUAL = """(float[N, 8] x) => (float[N, 8] y) {
    a = MatMul(x, w)
    s = Add(x, a)
    b = MatMul(x, v)
    t = Add(b, bias)
    y = Add(s, t)
}"""


def test_a_layer_makes_up_for_what_the_sum_lacks_that_it_goes_into(build: Build, make_context: MakeContext) -> None:
    """Not its own output but the sum is what counts: what went wrong in another branch is told to the layer."""
    model = build(RESIDUAL, w=(8, 8), v=(8, 8), bias=(8,))
    context = make_context(model, count=40)
    work = pair(model)
    layers = {node.name: (node, reading) for node, reading in readings(work, context)}
    exact = {name: node.inputs[WEIGHT_INPUT].const_value.numpy() for name, (node, _) in layers.items()}  # type: ignore[union-attr]
    chain = in_order(work, [[layers["b"]]], context)
    doubled(layers["a"][0])
    ((_, reading, seen),) = next(chain)
    target = reading.layout.matrix(exact["b"]).astype(np.float64)
    fit = np.linalg.solve(seen.square(free=True), seen.aim(target, free=True).transpose(0, 2, 1))[0]
    np.testing.assert_allclose(fit, exact["b"] - 0.1 * exact["a"], atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), groups=st.integers(1, 2), drift=st.booleans(), outputs=st.booleans())
def test_moments_of_halves_join_to_those_of_the_whole(seed: int, groups: int, drift: bool, outputs: bool) -> None:
    """Whichever is collected: what the float layer reads, or its outputs."""
    rng = np.random.default_rng(seed)
    rows, read, more = (rng.standard_normal((groups, 30, size)).astype(np.float32) for size in (5, 5, 3))
    target, parts = rng.standard_normal((groups, 3, 5)), []
    by_outputs = target.astype(np.float32) if outputs else None
    for where in (slice(0, 12), slice(12, 30), slice(0, 30)):
        whole = where == slice(0, 30)
        sums = Sums(groups, 5, target=None if whole else by_outputs)
        sums.add(rows[:, where], read[:, where], more[:, where] if drift else None)
        parts.append(sums.seen())
    both = joined(parts[0], parts[1])
    for free in (False, True):
        np.testing.assert_allclose(both.square(free), parts[2].square(free), atol=1e-5)
        np.testing.assert_allclose(both.aim(target, free), parts[2].aim(target, free), atol=1e-5)
    np.testing.assert_allclose(both.shift(target, target), parts[2].shift(target, target), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), groups=st.integers(1, 3))
def test_conjugate_gradients_go_to_the_exact_solution(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((groups, 100, 12))
    second, start = data.transpose(0, 2, 1) @ data / 100, rng.standard_normal((groups, 4, 12))
    start[rng.random(start.shape) < 0.5] = 0
    wanted = rng.standard_normal((groups, 4, 12)) @ second
    wanted = wanted.astype(np.float64)
    exact = solved(wanted, start != 0, second, 1e-3, start)
    found = stepped(second, wanted, start, 40)
    assert not found[start == 0].any()
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_wide_layers_are_solved_in_steps_and_come_out_nearer(
    build: Build, make_context: MakeContext, run_float: RunFloat, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("(float[N, 64] x) => (float[N, 16] y) { h = MatMul(x, w) y = MatMul(h, v) }", w=(64, 64), v=(64, 16))
    context = make_context(model, count=300)
    feed = next(context.need_calibration("test").feeds())
    errors = []
    for steps, work in (((), 0.0), ((4, 12, 36), 0.0), ((), 1e9)):
        monkeypatch.setattr("infopt_passes.prune.sparse.fit.STEPS", steps)
        monkeypatch.setattr("infopt_passes.prune.sparse.fit.MOST_WORK", work)
        found = run_float(sparsified(model, context, "unstructured", 0.5), feed)["y"]
        errors.append(float(np.square(found - run_float(model, feed)["y"]).mean()))
    eliminated, in_steps, exactly = errors
    assert in_steps < 0.9 * eliminated
    assert in_steps < 1.2 * exactly


KINDS = {
    "one axis": ("(float[N, 8, 20] x) => (float[N, 8, 20] y) { y = Conv <pads = [1, 1]> (x, w) }", (8, 8, 3)),
    "groups": ("(float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) { y = Conv <group = 2> (x, w) }", (8, 4, 1, 1)),
    "three axes of data": ("(float[N, 5, 8] x) => (float[N, 5, 6] y) { y = MatMul(x, w) }", (8, 6)),
    "transposed": ("(float[N, 8] x) => (float[N, 6] y) { y = Gemm <transB = 1, alpha = 0.5> (x, w) }", (6, 8)),
}


@pytest.mark.parametrize("name", KINDS)
def test_layers_of_every_kind_are_solved_on_samples(
    name: str, build: Build, make_context: MakeContext, run_float: RunFloat
) -> None:
    text, shape = KINDS[name]
    model = build(text, w=shape)
    context = make_context(model, count=60)
    result = sparsified(model, context, "unstructured", 0.3)
    (weight,) = [node.inputs[WEIGHT_INPUT].const_value.numpy() for node in result.graph.graph]  # type: ignore[union-attr]
    assert np.mean(weight == 0) == pytest.approx(0.3, abs=0.05)
    feed = next(context.need_calibration("test").feeds())
    wanted, found = run_float(model, feed)["y"], run_float(result, feed)["y"]
    assert np.square(found - wanted).mean() < 0.15 * np.square(wanted).mean()


def test_tables_that_are_looked_up_stay_as_they_are(build: Build, make_context: MakeContext) -> None:
    model = build("(int64[N] x) => (float[N, 8] y) { e = Gather(t, x) y = MatMul(e, w) }", t=(16, 8), w=(8, 8))
    result = sparsified(model, make_context(model, count=16), "unstructured", 0.5)
    table = result.graph.graph.initializers["t"].const_value
    assert table is not None
    np.testing.assert_array_equal(table.numpy(), model.graph.graph.initializers["t"].const_value.numpy())  # type: ignore[union-attr]


SLIM, SQUARE = 128, 512
CHAIN = """(float[N, 8] x) => (float[N, 4] y) {
    a = MatMul(x, u)
    b = Relu(a)
    c = MatMul(b, v)
    d = Relu(c)
    y = MatMul(d, w)
}"""


@pytest.mark.parametrize("kind", ["structured", "2:4", "unstructured"])
@pytest.mark.parametrize("outputs", [SLIM, SQUARE])
def test_memory_is_what_a_layer_is_said_to_take(
    kind: Any, outputs: int, build: Build, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that would take more is left alone, so what is said must hold."""
    monkeypatch.setattr("infopt_passes.prune.readings.sums.WIDE", 256)
    monkeypatch.setattr("infopt_passes.prune.ranking.importance.WIDE", 256)
    model = build(CHAIN, u=(8, SQUARE), v=(SQUARE, outputs), w=(outputs, 4))
    context = replace(make_context(model, count=40), force=True)
    said = PER_SQUARE * SQUARE**2 + PER_WEIGHT * SQUARE * outputs
    assert "c" in {r.node.name for _, r in readings(pair(model), replace(context, memory=said))}
    assert "c" not in {r.node.name for _, r in readings(pair(model), replace(context, memory=said - 1))}
    Prune(kind=kind, importance="activations")(model, context)  # so that what is loaded once does not count
    tracemalloc.start()
    Prune(kind=kind, importance="activations")(model, context)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.15 * said + 2_000_000


DROWNED = """(float[N, 8] x) => (float[N, 8] y) {
    a = MatMul(x, u1)
    b = Relu(a)
    c = MatMul(b, v1)
    d = MatMul(x, u2)
    e = Relu(d)
    f = MatMul(e, v2)
    y = Add(c, f)
}"""


def test_what_is_drowned_in_a_sum_goes_before_what_is_not(build: Build, make_context: MakeContext) -> None:
    """Both branches lose the same part of their own output; only one of them can be heard in the model's."""
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((8, 16)).astype(np.float32), rng.standard_normal((16, 8)).astype(np.float32)
    model = build(DROWNED, u1=u, v1=v, u2=-u, v2=1e-3 * v)
    work = Work.of(model.graph)
    loud, quiet = importances(work, "activations", make_context(model, count=40), 1)
    assert [group.name for group in work.groups] == ["a", "d"]
    assert quiet.sum() < 1e-4 * loud.sum()


@settings(max_examples=50, deadline=None)
@given(scores=st.lists(st.integers(0, 3), min_size=1, max_size=20), data=st.data())
def test_the_smallest_are_the_first_of_equal_ones(scores: list[int], data: Any) -> None:
    count = data.draw(st.integers(0, len(scores)))
    wanted = np.zeros(len(scores), bool)
    wanted[np.argsort(scores, kind="stable")[:count]] = True
    np.testing.assert_array_equal(smallest(np.array(scores, float), count), wanted)
