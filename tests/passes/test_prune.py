"""Structured pruning: what can go, and that what is left computes the same as if the rest were silent."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from passes.architectures import ARCHITECTURES, Net
from passes.silenced import check_equal, chosen

from infopt import registry
from infopt.bench import CandidateLatency, FloatLatency, Latency, Times
from infopt.errors import InputError, OptionError
from infopt.flops import flops
from infopt.following import unfollowed
from infopt.model import Pruned
from infopt_passes.prune import Prune
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.ranking.allocate import Offer, best
from infopt_passes.prune.ranking.multiples import Multiple
from infopt_passes.prune.ranking.plan import Goal, ranked

RESULT = {"shufflenet_v1": 0}
"""Groups of channels to be found in networks of which little can go."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_pruned_network_computes_what_the_silenced_one_does(name: str, run_float: Any) -> None:
    model = ARCHITECTURES[name]()
    work = check_equal(model, run_float, partial(chosen, seed=0))
    assert len(work.groups) > RESULT.get(name, 1) - 1


OPERATORS = ("conv", "grouped", "depthwise", "residual", "concat", "split", "gate", "pool", "bn", "shuffle")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.sampled_from(OPERATORS), st.integers(0, 3)), min_size=2, max_size=8),
    seed=st.integers(0, 99),
)
def test_any_wiring_computes_what_it_does_silenced(steps: Any, seed: int, run_float: Any) -> None:
    net = Net("N", 3, 6, 6)
    past = [net.conv("x", 8)]
    for kind, pick in steps:
        past.append(grown(net, kind, past, pick))
    check_equal(net.model(net.head(past[-1])), run_float, partial(chosen, seed=seed))


def grown(net: Net, kind: str, past: list[str], pick: int) -> str:
    """A net with one more operator; all tensors have 8 channels."""
    x, other = past[-1], past[pick % len(past)]
    if kind == "split":
        return net.concat(*net.split(x, 2)[::-1])
    if kind == "shuffle":
        return net.reshape(net.turn(net.reshape(x, -1, 2, 4, 6, 6), 0, 2, 1, 3, 4), -1, 8, 6, 6, width=8)
    made = {
        "conv": lambda: net.act(net.conv(x, 8)),
        "grouped": lambda: net.conv(x, 8, group=2),
        "depthwise": lambda: net.conv(x, 8, group=8),
        "residual": lambda: net.op("Add", x, other),
        "concat": lambda: net.conv(net.concat(x, other), 8, 1),
        "gate": lambda: net.gate(x, 4),
        "pool": lambda: net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        "bn": lambda: net.act(net.bn(x)),
    }
    return str(made[kind]())


@pytest.mark.parametrize("opset", [11, 17])
def test_a_squeeze_of_all_axes_of_one_leaves_a_channel_that_became_one(
    opset: int, build: Any, make_context: Any, run_float: Any
) -> None:
    text = """(float[4, 3, 6, 6] x) => (float[4, 5] y) {
        a = Conv (x, w) r = Relu(a) p = GlobalAveragePool(r) s = Squeeze(p) y = Gemm (s, v, c)
    }"""
    model = build(text, opset=opset, w=(8, 3, 3, 3), v=(8, 5), c=(5,))
    result = Prune(flops=0.13, multiple=1, recover="none", importance="magnitude")(model, make_context(model))
    assert [each.after for each in result.pruned if each.unit == "channels"] == [1]
    assert run_float(result, {"x": np.ones((4, 3, 6, 6), np.float32)})["y"].shape == (4, 5)


@pytest.mark.parametrize("name", ["shufflenet_v2", "vit"])
def test_what_nothing_reads_any_more_is_not_shipped(name: str, make_context: Any) -> None:
    model = ARCHITECTURES[name]()
    result = Prune(flops=0.6, multiple=1, recover="none", importance="magnitude")(model, make_context(model))
    assert [name for name, value in result.graph.graph.initializers.items() if not value.uses()] == []
    size = sum(tensor.size for v in result.graph.graph.initializers.values() if (tensor := v.const_value) is not None)
    assert next(note.why for note in result.notes if note.node == "parameters").split()[2] == f"{size:,}"


def test_heads_go_as_a_whole_and_their_count_is_rewritten() -> None:
    work = Work.of(ARCHITECTURES["vit_fused"]().graph)
    heads = next(group for group in work.groups if group.width == 4)
    number = work.groups.index(heads)
    work.kept[number] = np.array([True, False, True, True])
    graph = work.cut()
    shapes = [value.const_value.numpy().tolist() for value in graph.graph.initializers.values() if value.const_value]
    assert [-1, 9, 3, 3, 4] in shapes
    assert [-1, 9, 12] in shapes


def test_the_last_to_go_do_not_save_more_than_is_asked_for() -> None:
    none = np.zeros(0, np.int64)
    small, large = Offer(0, none, importance=1.0, saved=10.0), Offer(1, none, importance=2.0, saved=100.0)
    assert best([small, large], missing=50.0) is large
    assert best([small, large], missing=5.0) is small


def test_several_small_steps_reach_a_goal_where_one_goes_far_beyond_it_and_loses_more() -> None:
    none = np.zeros(0, int)
    large = Offer(0, none, importance=3.0, saved=100.0)
    small = [Offer(number, none, importance=0.5, saved=4.0) for number in (1, 2, 3)]
    assert best([large, *small], missing=10.0) is small[0]
    assert best([large, *small], missing=13.0) is large, "they do not reach it"
    assert best([replace(large, importance=1.0), *small], missing=10.0).group == 0, "it loses less than they do"


def test_unfollowed_operations_are_told_of() -> None:
    assert unfollowed(100, 50, Latency(speedup=2.0)) == []
    assert unfollowed(100, 100, Latency(speedup=0.9)) == []
    assert "50% fewer operations, 9% less time" in unfollowed(100, 50, Latency(speedup=1.1))[0]
    assert "50% fewer operations, 11% more time" in unfollowed(100, 50, Latency(speedup=0.9))[0]


def test_the_likely_reason_of_a_latency_that_did_not_follow_is_told() -> None:
    slow = Latency(
        baseline_float=FloatLatency("float32", None, Times(3.0, 3.1, 3.2)),
        candidate=CandidateLatency("float32", Times(2.9, 3.0, 3.0)),
        speedup=1.03,
    )
    uneven = [Pruned("a", "channels", 32, 16), Pruned("b", "channels", 32, 13)]
    assert "3.00 ms before, 2.90 ms after" in unfollowed(100, 50, slow)[0]
    assert "moving data" in unfollowed(100, 50, slow, uneven[:1], 16)[0]
    assert (
        "1 groups have channel counts that are no multiples of 8, such as 13 of b"
        in unfollowed(100, 50, slow, uneven, 16)[0]
    )


def test_an_axis_that_a_layer_norm_reads_stays_and_the_report_says_why(make_context: Any) -> None:
    model = ARCHITECTURES["gpt"]()
    result = Prune(flops=0.8, multiple=1, recover="none")(model, make_context(model, "onnxruntime"))
    assert any(each.remark.startswith("LayerNormalization") for each in result.pruned)
    assert any(each.unit == "units of 4 channels" for each in result.pruned)


@pytest.mark.parametrize(
    ("multiple", "steps"),
    [
        (Multiple.of(16, asked=False), (128, 112, 96, 80, 64, 48, 32, 16, 8, 0)),
        (Multiple.of(16, asked=False), (64, 48, 40, 32, 24, 16, 8, 0)),
        (Multiple.of(16, asked=False), (32, 16, 8, 0)),
        (Multiple.of(16), (64, 48, 32, 16, 0)),
        (Multiple.of(1), (3, 2, 1, 0)),
    ],
    ids=["wide", "narrow", "narrower", "asked", "one"],
)
def test_counts_are_padded_only_where_steps_would_be_coarse_and_something_is_saved(
    multiple: Multiple, steps: tuple[int, ...]
) -> None:
    assert [multiple.below(count, steps[0]) for count in steps[:-1]] == list(steps[1:])
    assert multiple.below(5, 5, width=64) == 4


def test_counts_are_multiples_and_the_goal_is_met(make_context: Any) -> None:
    net = Net("N", 3, 8, 8)
    model = net.model(net.head(net.act(net.conv(net.act(net.conv("x", 32)), 32))))
    result = Prune(flops=0.4, multiple=8, importance="magnitude", recover="none")(model, make_context(model))
    counts = [node.outputs[0].shape[1] for node in result.graph.graph if node.op_type == "Conv"]
    assert all(count % 8 == 0 for count in counts)
    shapes = {"x": (1, 3, 8, 8)}
    before, after = flops(model.graph, shapes), flops(result.graph, shapes)
    assert before is not None
    assert after is not None
    assert after <= 0.4 * before


@pytest.mark.parametrize("importance", ["activations", "magnitude"])
def test_the_channel_that_nobody_needs_goes_first(importance: str, make_context: Any) -> None:
    net = Net("N", 3, 8, 8)
    first = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    second = np.random.default_rng(1).standard_normal((4, 4, 1, 1)).astype(np.float32)
    first[2] *= 1e-3
    second[:, 2] *= 1e-3
    x = net.op("Conv", "x", net.constant(first), width=4)
    model = net.model(net.op("Conv", x, net.constant(second), width=4))
    result = Prune(flops=0.8, multiple=1, importance=importance, recover="none")(model, make_context(model))
    left = next(v.const_value.numpy() for v in result.graph.graph.initializers.values() if v.shape[0] == 3)
    np.testing.assert_array_equal(left, np.delete(first, 2, axis=0))


def test_least_squares_brings_back_what_other_channels_know(make_context: Any, run_float: Any) -> None:
    """A channel that is the sum of two others can go without a loss, once its readers are refitted."""
    net = Net("N", 3, 8, 8)
    first = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    first[3] = first[0] + first[1]
    x = net.op("Conv", "x", net.constant(first), width=4)
    model = net.model(net.conv(x, 4, 1))
    context = make_context(model, count=32)
    feed = next(context.calibration.feeds())
    errors = {}
    for recover in ("none", "lsq"):
        result = Prune(flops=0.8, multiple=1, recover=recover)(model, context)
        (wanted,), (found,) = run_float(model, feed).values(), run_float(result, feed).values()
        errors[recover] = float(np.abs(wanted - found).max() / np.abs(wanted).max())
    assert errors["lsq"] < 2e-3 < 20 * errors["lsq"] + 2e-3 < errors["none"]


def test_steps_of_pruning_and_recovery_reach_the_same_goal(make_context: Any) -> None:
    model = ARCHITECTURES["resnet_basic"]()
    result = Prune(flops=0.6, multiple=2, steps=2)(model, make_context(model, count=16))
    shapes = {"x": (1, 3, 12, 12)}
    before, after = flops(model.graph, shapes), flops(result.graph, shapes)
    assert before is not None
    assert after is not None
    assert after <= 0.6 * before
    onnx.checker.check_model(ir.to_proto(result.graph), full_check=True)


def test_too_few_samples_for_recovery_are_told_of(make_context: Any) -> None:
    model = ARCHITECTURES["resnet_basic"]()
    result = Prune(flops=0.7, multiple=2)(model, make_context(model, count=4))
    assert any(note.kind == "warning" and "at least 16 samples" in note.why for note in result.notes)


def test_nothing_to_prune_is_refused_with_what_blocks_it(make_context: Any) -> None:
    net = Net("N", 3)
    model = net.model(net.gemm("x", 4))
    with pytest.raises(InputError, match=r"nothing can be pruned: .* is an output of the model"):
        Prune(flops=0.5)(model, make_context(model))


def test_a_goal_that_would_empty_a_layer_is_refused_with_what_can_be_had(make_context: Any) -> None:
    model = ARCHITECTURES["mlp"]()
    with pytest.raises(InputError, match=r"no less than \d+% of the flops"):
        Prune(flops=0.001, multiple=1, recover="none")(model, make_context(model))


def test_a_quantized_model_is_refused(build: Any, make_context: Any) -> None:
    model = build(
        "(float[N,4] x) => (float[N,4] y) { q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }",
        s=np.float32(0.1),
        z=np.int8(0),
    )
    with pytest.raises(InputError, match="prune the float model"):
        Prune()(model, make_context(model))


def test_two_goals_are_refused() -> None:
    with pytest.raises(OptionError, match="two goals"):
        Prune(flops=0.5, params=0.5).check_target(registry.target("onnxruntime"))


@pytest.mark.parametrize("name", ["lstm", "mlp", "sliced", "resnet_basic"])
def test_the_least_that_can_be_kept_can_be_had(name: str, make_context: Any) -> None:
    model = ARCHITECTURES[name]()
    order = ranked(model, make_context(model), "magnitude", 1)
    allocation = order.allocation(Goal("flops", 1.0))
    assert not allocation.reach(0.9 * order.least)
    assert order.allocation(Goal("flops", 1.0)).reach(order.least), "sums differ by their order"


def test_a_model_of_which_all_is_to_be_kept_is_left_as_it_is(make_context: Any) -> None:
    model = ARCHITECTURES["mlp"]()
    written = ir.to_proto(model.graph).SerializeToString()
    for options in (Prune(flops=1.0), Prune(params=1.0), Prune(kind="unstructured", sparsity=0.0)):
        result = options(model, make_context(model))
        assert ir.to_proto(result.graph).SerializeToString() == written
        assert [note.why for note in result.notes] == ["all of it is kept, as was asked for"]


def test_a_goal_in_latency_is_met_by_measuring(make_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infopt_passes.prune.timed.SECONDS", 0.3)
    net = Net("N", 3, 48, 48)
    model = net.model(net.head(net.act(net.conv(net.act(net.conv(net.act(net.conv("x", 64)), 64)), 64))))
    context = make_context(model, "onnxruntime", count=1)
    result = Prune(latency=0.7, importance="magnitude", recover="none")(model, context)
    assert result.parameters < 0.9 * model.parameters
