"""Forms that exporters write: what of them can go, and that what is left computes the same."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from passes.architectures import Net, image
from passes.silenced import check_equal, chosen

from infopt.model import Model
from infopt_passes.prune.cutting.work import Work
from infopt_passes.simplify import Simplify


def pruned(model: Model, run_float: Any) -> list[tuple[int, int]]:
    """Units and fewest channels of a unit, of each group, when what they allow was checked."""
    work = check_equal(model, run_float, partial(chosen, seed=0))
    return [(group.units, group.width) for group in work.groups]


def sizes(net: Net, *names: str) -> str:
    """A target of a Reshape of the parts."""
    return str(net.op("Concat", *names, axis=0))


def size(net: Net, x: str, axis: int) -> str:
    """One size of a tensor as a vector, the way that exporters read it."""
    at = net.op("Gather", net.op("Shape", x), net.constant(np.int64(axis)), axis=0)
    return str(net.op("Unsqueeze", at, net.constant(np.array([0]))))


def test_channels_that_a_target_reads_from_a_shape_may_go(run_float: Any) -> None:
    net = image(6)
    x = net.act(net.conv("x", 8))
    target = sizes(net, size(net, x, 0), size(net, x, 1), net.constant(np.array([36])))
    flat = net.op("Reshape", x, target, width=8)
    mean = net.op("ReduceMean", flat, net.constant(np.array([2])), keepdims=0)
    assert pruned(net.model(net.gemm(mean, 5)), run_float) == [(8, 1)]


def test_numbers_that_are_computed_from_sizes_are_written_down(run_float: Any) -> None:
    """Half of the channels, read from the shape, halved and cut out, as ``chunk`` is traced."""
    net = image(6)
    x = net.act(net.conv("x", 8))
    half = net.op("Div", size(net, x, 1), net.constant(np.array([2])))
    zero, axis, end = (net.constant(np.array([n])) for n in (0, 1, 2**31))
    one, two = net.op("Slice", x, zero, half, axis, width=4), net.op("Slice", x, half, end, axis, width=4)
    found = pruned(net.model(net.head(net.concat(net.conv(one, 6), net.conv(two, 6)))), run_float)
    assert found == [(4, 1), (4, 1), (6, 1), (6, 1)]


def test_what_minus_one_stands_for_is_found_where_the_batch_is_free(run_float: Any) -> None:
    net = image(6)
    x = net.act(net.conv("x", 8))
    flat = net.op("Reshape", x, sizes(net, size(net, x, 0), net.constant(np.array([-1]))), width=8 * 36)
    assert pruned(net.model(net.gemm(flat, 5)), run_float) == [(8, 1)]


def test_several_numbers_of_a_target_in_one_constant_are_taken_apart(run_float: Any) -> None:
    net = Net("N", 5)
    x = net.act(net.gemm("x", 8 * 9))
    target = sizes(net, size(net, x, 0), net.constant(np.array([8, 3, 3])))
    assert pruned(net.model(net.conv(net.op("Reshape", x, target, width=8), 4)), run_float) == [(8, 1)]


def test_groups_of_channels_go_as_a_whole_where_their_mean_is_taken(run_float: Any) -> None:
    net = image(6)
    x = net.conv("x", 8)
    ones, zeros = net.constant(np.ones(4, np.float32)), net.constant(np.zeros(4, np.float32))
    apart = net.reshape(x, 0, 4, -1, width=4)
    normed = net.op("Reshape", net.op("InstanceNormalization", apart, ones, zeros), net.op("Shape", x), width=8)
    scale = net.constant(np.linspace(0.5, 1.5, 8, dtype=np.float32).reshape(8, 1, 1))
    assert pruned(net.model(net.head(net.op("Mul", normed, scale))), run_float) == [(4, 2)]


def test_all_channels_stay_where_one_mean_is_over_them() -> None:
    net = image(6)
    x = net.conv("x", 8)
    one, zero = net.constant(np.ones(1, np.float32)), net.constant(np.zeros(1, np.float32))
    normed = net.op("InstanceNormalization", net.reshape(x, 0, 1, -1), one, zero)
    work = Work.of(net.model(net.head(net.reshape(normed, -1, 8, 6, 6, width=8))).graph)
    assert not work.groups
    assert any("computes its mean over them" in why for why in work.found.kept.values())


GROUP_NORM = """(float[N,3,6,6] x) => (float[N,5] y) {{
    a = Conv<pads=[1,1,1,1]>(x, w) n = GroupNormalization<num_groups={groups}>(a, s, b) r = Relu(n)
    g = GlobalAveragePool(r) f = Flatten(g) y = Gemm<transB=1>(f, v) }}"""


@pytest.mark.parametrize(("groups", "found"), [(4, [(4, 2)]), (8, [(8, 1)]), (1, [])])
def test_the_operator_of_group_norm_loses_whole_groups(
    groups: int, found: list[tuple[int, int]], build: Any, run_float: Any
) -> None:
    vectors = {"s": np.linspace(0.5, 1.5, 8, dtype=np.float32), "b": np.linspace(-1, 1, 8, dtype=np.float32)}
    model = build(GROUP_NORM.format(groups=groups), opset=21, ir_version=10, w=(8, 3, 3, 3), v=(5, 8), **vectors)
    assert pruned(model, run_float) == found


def test_what_a_body_of_if_reads_stays_and_the_reason_says_so(build: Any, run_float: Any) -> None:
    sides = "then_branch = t () => (float[N,8] p) { p = Relu(h) }, else_branch = e () => (float[N,8] q) { q = Neg(h) }"
    text = f"""(float[N,4] x, bool c) => (float[N,3] y) {{
        k = MatMul(x, w1) r = Relu(k) h = MatMul(r, w2) i = If(c) <{sides}> y = MatMul(i, w3) }}"""
    model = build(text, w1=(4, 6), w2=(6, 8), w3=(8, 3))
    assert pruned(model, run_float) == [(6, 1)]
    kept = Work.of(model.graph).found.kept
    assert any("is read in a body of If" in why for why in kept.values())


def test_equal_vectors_that_were_merged_tie_nothing(run_float: Any) -> None:
    net = image(6)
    shared = net.vector(8)
    x = net.op("InstanceNormalization", net.conv("x", 8), shared, shared)
    x = net.op("InstanceNormalization", net.conv(net.act(x), 8), shared, shared)
    assert pruned(net.model(net.head(x)), run_float) == [(8, 1), (8, 1)]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_channels_whose_pixels_become_one_channel_go_together(mode: str, run_float: Any) -> None:
    net = image(6)
    up = net.op("DepthToSpace", net.conv("x", 24), blocksize=2, mode=mode, width=6)
    assert pruned(net.model(net.conv(net.act(up), 2)), run_float) == [(6, 1)]


def test_pixels_that_become_channels_go_with_their_channel(run_float: Any) -> None:
    net = image(6)
    down = net.op("SpaceToDepth", net.conv("x", 6), blocksize=2, width=24)
    assert pruned(net.model(net.conv(net.act(down), 2)), run_float) == [(6, 1)]


def test_a_tensor_is_expanded_to_the_channels_that_are_left(run_float: Any) -> None:
    net = image(6)
    x = net.act(net.conv("x", 8))
    whole = net.op("ReduceMax", x, net.constant(np.array([2, 3])), keepdims=1)
    both = net.concat(x, net.op("Expand", whole, net.op("Shape", x), width=8))
    assert pruned(net.model(net.conv(both, 2)), run_float) == [(8, 1)]


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand"])
def test_what_is_filled_has_the_size_of_what_it_is_added_to(kind: str, run_float: Any) -> None:
    net = image(6)
    x = net.act(net.conv("x", 8))
    number = [net.constant(np.full((1, 1, 1, 1), 2, np.float32))] if kind == "Expand" else []
    zeros = net.op(kind, *number, net.op("Shape", x))
    assert pruned(net.model(net.conv(net.op("Add", x, zeros, width=8), 2)), run_float) == [(8, 1)]


def test_axes_of_one_letter_are_one(run_float: Any) -> None:
    net = Net("N", 4, 6, width=6)
    x = net.act(net.linear("x", 8))
    rows = net.op("Einsum", x, x, equation="bik,bjk->bij", width=4)
    scaled = net.op("Einsum", x, net.weight(8, 5), equation="bik,ko->bio", width=5)
    model = net.model(net.linear(scaled, 3), rows)
    work = check_equal(model, run_float, partial(chosen, seed=0), weighed=False)
    assert [group.units for group in work.groups] == [8, 5]


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_few_wide_groups_lose_as_many_channels_each(kind: str, run_float: Any) -> None:
    net = image(6)
    x = net.act(net.conv("x", 12))
    shape = (16, 6, 3, 3) if kind == "Conv" else (12, 8, 3, 3)
    y = net.op(kind, x, net.weight(*shape), net.weight(16), width=16, kernel_shape=[3, 3], pads=[1] * 4, group=2)
    work = check_equal(net.model(net.head(net.act(y))), run_float, partial(chosen, seed=0))
    assert sorted(group.units for group in work.groups) == [6, 8]
    assert [node.attributes.get_int("group", 1) for node in work.graph.graph if node.op_type == kind][-1] == 2


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_many_narrow_groups_go_as_a_whole(kind: str, run_float: Any) -> None:
    net = image(6)
    x = net.act(net.conv("x", 12))
    weight = net.weight(12, 2, 3, 3)
    y = net.op(kind, x, weight, net.weight(12), width=12, kernel_shape=[3, 3], pads=[1] * 4, group=6)
    work = check_equal(net.model(net.head(net.act(y))), run_float, partial(chosen, seed=0))
    assert [group.units for group in work.groups] == [6]
    assert [node.attributes.get_int("group", 1) for node in work.graph.graph if node.op_type == kind][-1] == 4


def test_shuffled_channels_go_with_those_that_they_are_dealt_out_with(run_float: Any) -> None:
    net = image(6)
    both = net.concat(net.conv("x", 8), net.conv("x", 8))
    x = net.reshape(net.turn(net.reshape(both, -1, 2, 8, 6, 6), 0, 2, 1, 3, 4), -1, 16, 6, 6, width=16)
    assert pruned(net.model(net.head(x)), run_float) == [(8, 1)]


def test_a_reason_that_says_why_is_told_before_one_that_says_where() -> None:
    net = image(6)
    x = net.conv("x", 8)
    summed = net.op("CumSum", x, net.constant(np.int64(1)))
    (why,) = Work.of(net.model(summed, x).graph).found.kept.values()
    assert "is an output of the model" in why


def keys(tokens: int | str, last: str = "DS") -> Model:
    """Keys that are merged over batch and heads, turned and split again, as PyTorch's exporter writes them."""
    net = Net("N", 3, tokens, 4, width=4)
    shape = net.op("Shape", "x")
    lead, s, d = (
        net.op("Slice", shape, *(net.constant(np.array([n])) for n in bounds)) for bounds in ((0, 2), (2, 3), (3, 4))
    )
    merged = net.op("Reshape", "x", sizes(net, net.constant(np.array([-1])), s, d))
    order = (d, s) if last == "DS" else (s, d)
    return net.model(net.op("Relu", net.op("Reshape", net.turn(merged, 0, 2, 1), sizes(net, lead, *order))))


@pytest.mark.parametrize("tokens", [5, "T"])
def test_keys_that_are_merged_turned_and_split_are_turned_at_once(
    tokens: Any, run_float: Any, make_context: Any
) -> None:
    model = keys(tokens)
    result = Simplify()(model, make_context(model))
    assert [node.op_type for node in result.graph.graph] == ["Transpose", "Relu"]
    feed = {"x": np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)}
    for wanted, found in zip(run_float(model, feed).values(), run_float(result, feed).values(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_keys_that_are_split_otherwise_than_they_were_merged_are_left(make_context: Any) -> None:
    model = keys("T", last="SD")
    kinds = [node.op_type for node in Simplify()(model, make_context(model)).graph.graph]
    assert kinds.count("Reshape") == 2


def test_a_second_time_nothing_is_left_to_write_down() -> None:
    net = image(6)
    x = net.act(net.conv("x", 8))
    target = sizes(net, size(net, x, 0), size(net, x, 1), net.constant(np.array([36])))
    model = net.model(net.op("Reshape", x, target, width=8))
    once = Work.of(model.graph).graph
    twice = Work.of(once).graph
    assert [node.op_type for node in twice.graph] == [node.op_type for node in once.graph]
    assert isinstance(twice, ir.Model)
