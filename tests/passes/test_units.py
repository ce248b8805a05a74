"""Structured pruning of networks over sequences: hidden units of recurrent layers, and heads in all their forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from passes.sequences import GATES, SEQUENCES, TOKENS, Sequence, steps, tokens
from passes.silenced import check_equal, chosen, feed_of

from infopt.flops import flops
from infopt.model import Model
from infopt_passes.prune import Prune
from infopt_passes.prune.cutting.prepare import prepared
from infopt_passes.prune.cutting.work import Work
from infopt_passes.prune.ranking.cost import Costs
from infopt_passes.prune.ranking.importance import importances
from infopt_passes.prune.wiring.recurrent import products

FOUND = {
    "stacked_lstm": [(12, 1), (10, 1)],
    "bidirectional_gru": [(12, 1), (10, 1)],
    "rnn_of_last_states": [(12, 1)],
    "lstm_with_peepholes": [(12, 1)],
    "residual_lstm": [(12, 1)],
    "encoder_decoder": [(12, 1)],
    "conv_recurrent": [(8, 1), (12, 1)],
    "grouped_query": [(4, 4)],
    "tiled_query": [(4, 4)],
    "multi_query": [(8, 4)],
    "llama": [(4, 4), (24, 1)],
    "gpt_per_head": [(4, 4)],
    "cross_attention": [(4, 4)],
    "swin_bias": [(4, 4)],
    "attention_of_three_axes": [(4, 4)],
    "einsum_attention": [(4, 1)],
    "geglu": [(24, 1)],
    "single_head": [(16, 1), (16, 1)],
    "operator_attention": [(4, 4)],
    "operator_attention_of_heads": [(8, 4)],
    "fused_bert": [(24, 1), (20, 1), (4, 4), (24, 1)],
    "fused_multi_head": [(4, 4), (16, 1), (4, 4)],
    "fused_grouped_query": [(4, 32)],
}
"""Units of each group that is to be found, and how many rows of a weight one takes at least."""


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_pruned_network_computes_what_the_silenced_one_does(name: str, run_float: Any) -> None:
    work = check_equal(SEQUENCES[name](), run_float, lambda work: chosen(work, 0))
    assert [(group.units, group.width) for group in work.groups] == FOUND[name]


@pytest.mark.parametrize("name", SEQUENCES)
def test_what_is_left_costs_what_was_foretold(name: str) -> None:
    model = SEQUENCES[name]()
    inputs = {value.name: value.shape for value in model.graph.graph.inputs}
    shapes = {name: [size if isinstance(size, int) else 3 for size in shape] for name, shape in inputs.items()}
    work = Work.of(model.graph)
    costs = Costs.of(work.graph, shapes)
    assert costs.total("flops", {}) == flops(model.graph, shapes)
    work.kept = [np.arange(len(kept)) % 2 == 0 for kept in work.kept]
    foretold = costs.total("flops", {axis: kept.mean() for axis, kept in work.removed().items()})
    assert flops(work.cut(), shapes) == pytest.approx(foretold, rel=1e-9)


def test_operations_of_recurrent_layers_are_those_of_all_gates_steps_and_directions() -> None:
    shapes = {"x": (TOKENS, 5, 8)}
    for kind, gates in GATES.items():
        net = steps()
        model = net.model(net.recurrent(kind, "x", 6, 2)[0])
        assert flops(model.graph, shapes) == 2 * TOKENS * 5 * 2 * gates * 6 * (8 + 6)


HALF = numpy_helper.from_array(np.array([0.5], np.float32))

LAYER = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(GATES)),
        "units": st.integers(2, 7),
        "ways": st.sampled_from([1, 2]),
        "states": st.sampled_from(["", "constant", "shared", "made"]),
        "flag": st.booleans(),
        "relu": st.booleans(),
        "lengths": st.booleans(),
        "residual": st.booleans(),
        "last": st.booleans(),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(LAYER, min_size=1, max_size=3), seed=st.integers(0, 99))
def test_any_recurrent_stack_computes_what_it_does_silenced(layers: Any, seed: int, run_float: Any) -> None:
    net = Sequence(TOKENS, 2, 8, width=8)
    x = net.linear("x", 6)
    for layer in layers:
        x = grown(net, x, layer)
    assert check_equal(net.model(net.linear(x, 3)), run_float, lambda work: chosen(work, seed)).groups


def grown(net: Sequence, x: str, layer: Any) -> str:
    """The states of one more layer at all steps, or those of its last one beside them."""
    kind, units, ways = layer["kind"], layer["units"], layer["ways"]
    activations = ["Relu", "Softsign", "HardSigmoid"] if layer["relu"] else ["Sigmoid", "Tanh", "Tanh"]
    count = {"LSTM": 3, "GRU": 2, "RNN": 1}[kind]
    flags = {"LSTM": {"input_forget": 1}, "GRU": {"linear_before_reset": 1}, "RNN": {"clip": 0.5}}[kind]
    extra = [net.constant(np.array([4, 9], np.int32)) if layer["lengths"] else "", *begun(net, layer)]
    if kind == "LSTM" and layer["last"]:
        extra += [""] * (3 - len(extra)) + [net.weight(ways, 3 * units)]
    settings = {"activations": (activations[:count] * ways), **(flags if layer["flag"] else {})}
    y, last = net.recurrent(kind, x, units, ways, extra, **settings)[:2]
    flat = net.flat(y, ways)
    if layer["residual"] and net.width[flat] == net.width[x]:
        flat = net.op("Add", flat, x)
    if layer["last"]:
        flat = net.op("Mul", flat, net.op("Sigmoid", net.reshape(net.turn(last, 1, 0, 2), 1, 2, -1)))
    return flat


def begun(net: Sequence, layer: Any) -> list[str]:
    """Initial states for two samples: made of a shape, or constants, the same one twice or not."""
    count, shape = (2 if layer["kind"] == "LSTM" else 1), (layer["ways"], 2, layer["units"])
    if layer["states"] == "made":
        return [net.op("ConstantOfShape", net.ints(*shape), value=HALF) for _ in range(count)]
    if layer["states"] == "shared":
        return [net.weight(*shape)] * count
    return [net.weight(*shape) for _ in range(count)] if layer["states"] else []


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("before", [0, 1])
def test_a_unit_that_is_gone_is_silent_in_the_form_that_keeps_shapes(kind: str, before: int, run_float: Any) -> None:
    net = steps()
    attributes = {"linear_before_reset": before} if kind == "GRU" else {}
    y = net.recurrent(kind, "x", 6, 2, **attributes)[0]
    z = net.flat(net.recurrent("RNN", net.flat(y, 2), 4)[0])
    model = net.model(net.linear(z, 3), y)
    work = Work.of(model.graph)
    assert not any(group.units == 6 for group in work.groups)  # its states are an output of the model
    inner = steps()
    hidden = inner.recurrent(kind, "x", 6, 2, **attributes)[0]
    model = inner.model(inner.linear(inner.flat(hidden, 2), 3))
    work = Work.of(model.graph)
    work.kept = [np.array([True, False, True, True, False, True])]
    work.zero()
    work.graph.graph.outputs.append(next(node for node in work.graph.graph if node.op_type == kind).outputs[0])
    states = list(run_float(Model(work.graph, model.path), feed_of(model)).values())[1]
    assert not states[..., [1, 4]].any()
    assert states[..., [0, 2, 3, 5]].all()


@pytest.mark.parametrize("given", ["input", "output"])
def test_units_whose_state_the_outside_knows_stay_and_the_reason_is_told(given: str) -> None:
    net = steps()
    states = [net.state(name, 1, "N", 6) for name in ("h0", "c0")] if given == "input" else []
    y, hidden, _ = net.recurrent("LSTM", "x", 6, 1, ["", *states])
    model = net.model(net.linear(net.flat(y), 3), *([hidden] if given == "output" else []))
    work = Work.of(model.graph)
    assert not work.groups
    name = "h0" if given == "input" else hidden
    assert f"{name!r} is an {given} of the model" in work.found.kept.values()


@pytest.mark.parametrize("importance", ["activations", "magnitude"])
@pytest.mark.parametrize("reader", ["layer", "itself"])
def test_the_hidden_unit_that_nobody_needs_goes_first(importance: str, reader: str, make_context: Any) -> None:
    net = steps()
    one = net.flat(net.recurrent("LSTM", "x", 6)[0])
    two = net.flat(net.recurrent("LSTM", one, 5)[0])
    weights = {array.name: array for array in net.weights}
    faint(weights[net.nodes[0].input[2]], 3, 0.0)
    faint(weights[net.nodes[2].input[1]], 3, 0.0)
    if reader == "itself":  # another is read by the second layer as little, but by its own one all the more
        faint(weights[net.nodes[2].input[1]], 1, 0.0)
        faint(weights[net.nodes[0].input[2]], 1, 5.0)
    model = net.model(net.linear(two, 3))
    work = Work.of(model.graph)
    scores = importances(work, importance, make_context(model), 1)[0]
    assert scores.argmin() == 3
    assert scores[3] < 0.7 * np.delete(scores, 3).min()


def faint(tensor: Any, column: int, factor: float) -> None:
    """Scale a column of a weight."""
    array = numpy_helper.to_array(tensor).copy()
    array[:, :, column] *= factor
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def test_parts_that_gates_lose_add_up_to_all_of_them(make_context: Any) -> None:
    """Features and states, forward and backward, are parts of one whole: no unit is worth more than all gates."""
    net = steps()
    one = net.flat(net.recurrent("GRU", "x", 6, 2)[0], 2)
    model = net.model(net.linear(net.flat(net.recurrent("GRU", one, 5, 2)[0], 2), 3))
    scores = importances(Work.of(model.graph), "activations", make_context(model, count=16), 1)
    # The first layer is read by the second and by itself; the second by itself and by the product behind.
    assert all(0 < score < 2 for group in scores for score in group)


@pytest.mark.parametrize("batched", [0, 1])
def test_states_of_each_direction_are_rows_of_their_own(batched: int) -> None:
    net = steps()
    model = net.model(net.recurrent("RNN", "x", 4, 2)[0])
    node = next(iter(model.graph.graph))
    node.attributes["layout"] = ir.AttrInt64("layout", batched)
    reading = dict(products(node))[2]
    data = np.random.default_rng(0).standard_normal((5, 2, 3, 4))  # steps, directions, samples, units
    turned = data.transpose(2, 0, 1, 3) if batched else data
    rows = reading.layout.rows(turned, 100, np.random.default_rng(0))
    for way in (0, 1):
        wanted = turned[:, :, way] if batched else data[:, way]
        np.testing.assert_array_equal(rows[way], wanted.reshape(-1, 4))


def test_heads_that_nobody_needs_go_first_with_their_keys(make_context: Any) -> None:
    model = SEQUENCES["grouped_query"]()
    last = [node for node in model.graph.graph if node.op_type == "MatMul"][-1].inputs[1]
    array = last.const_value.numpy().copy()
    array[8:16] = 0  # what the two query heads of the second pair of keys and values give
    last.const_value = ir.tensor(array, name=last.name)
    result = Prune(flops=0.8, multiple=1, recover="none")(model, make_context(model))
    left = [node for node in result.graph.graph if node.op_type == "MatMul"][-1].inputs[1].const_value.numpy()
    np.testing.assert_array_equal(left, np.delete(array, np.arange(8, 16), axis=0))


def test_counts_that_are_attributes_are_rewritten() -> None:
    def cut(name: str) -> list[ir.Node]:
        work = Work.of(SEQUENCES[name]().graph)
        work.kept = [np.arange(len(kept)) > 0 for kept in work.kept]
        return list(work.cut().graph)

    attention = next(node for node in cut("operator_attention") if node.op_type == "Attention")
    assert (attention.attributes["q_num_heads"].value, attention.attributes["kv_num_heads"].value) == (6, 3)
    turned = [node.attributes["num_heads"].value for node in cut("operator_attention") if "Rotary" in node.op_type]
    assert turned == [6, 3]
    assert [n.attributes["hidden_size"].value for n in cut("stacked_lstm") if n.op_type == "LSTM"] == [11, 9]
    fused = next(node for node in cut("fused_bert") if node.op_type == "Attention")
    assert fused.attributes["num_heads"].value == 3


def test_keys_and_values_that_all_heads_share_are_still_one_head() -> None:
    net = tokens(23)
    q, k, v = net.linear("x", 32), net.linear("x", 4), net.linear("x", 4)
    y = net.op("Attention", q, k, v, q_num_heads=8, kv_num_heads=1, width=32)
    work = Work.of(net.model(net.linear(y, 16)).graph)
    work.kept = [np.arange(8) > 2]
    attention = next(node for node in work.cut().graph if node.op_type == "Attention")
    assert (attention.attributes["q_num_heads"].value, attention.attributes["kv_num_heads"].value) == (5, 1)


def test_operations_of_fused_attention_are_those_of_its_parts() -> None:
    shapes = {"x": (3, TOKENS, 16)}

    def count(made: Any, opset: int = 20) -> int | None:
        net = tokens(opset)
        return flops(net.model(made(net)).graph, shapes)

    wanted = count(lambda net: net.mixed(*(net.heads("x", 4, 24) for _ in range(3)), 24))

    def operator(net: Sequence) -> str:
        y = net.op("Attention", *(net.linear("x", 24) for _ in range(3)), q_num_heads=4, kv_num_heads=4, width=24)
        return net.linear(y, 16)

    def fused(net: Sequence) -> str:
        y = net.fused("Attention", "x", net.weight(16, 72), net.weight(72), width=24, num_heads=4)
        return net.linear(y, 16)

    assert count(operator, 23) == count(fused) == wanted


def test_packed_queries_keys_and_values_lose_whole_heads() -> None:
    net = tokens()
    packed = net.reshape(net.linear("x", 48), -1, TOKENS, 4, 3, 4)
    model = net.model(net.linear(net.fused("MultiHeadAttention", packed, width=16, num_heads=4), 16))
    work = Work.of(model.graph)
    assert [(group.units, group.width) for group in work.groups] == [(4, 4)]
    work.kept = [np.array([True, False, True, True])]
    graph = work.cut().graph
    assert [list(graph.initializers[name].shape) for name in ("w0", "w3")] == [[16, 36], [12, 16]]


@pytest.mark.parametrize(("name", "norm"), [("swin_bias", "LayerNormalization"), ("llama", "ReduceMean")])
def test_widths_that_are_normalized_stay_and_the_reason_is_the_norm(name: str, norm: str) -> None:
    kept = list(Work.of(SEQUENCES[name]().graph).found.kept.values())
    assert kept
    assert all(why.startswith(norm) and len(why) < 60 for why in kept)


def test_cached_keys_and_values_are_known_outside_so_that_heads_stay() -> None:
    net = tokens()
    past = net.state("past", "N", 4, 5, 4)
    q, k, v = (net.heads("x", 4, 16) for _ in range(3))
    k, v = net.op("Concat", past, k, axis=2), net.op("Concat", past, v, axis=2)
    work = Work.of(net.model(net.mixed(q, k, v, 16)).graph)
    assert not work.groups
    assert "'past' is an input of the model" in work.found.kept.values()


def test_layers_that_begin_with_the_same_zeros_are_not_alike() -> None:
    net = steps()
    batch = net.op("Gather", net.op("Shape", "x"), net.ints(1), axis=0)
    zeros = net.op("ConstantOfShape", net.op("Concat", net.ints(2), batch, net.ints(6), axis=0))
    x = "x"
    for layer in (0, 1):
        state = net.op("Slice", zeros, *(net.ints(n) for n in (layer, layer + 1, 0)))
        x = net.flat(net.recurrent("LSTM", x, 6, 1, ["", state, state])[0])
    work = Work.of(net.model(net.linear(x, 3)).graph)
    assert [group.units for group in work.groups] == [6, 6]
    assert not any(node.op_type == "ConstantOfShape" for node in work.graph.graph)


@pytest.mark.parametrize(("perm", "is_known"), [((1, 0, 2), True), ((2, 1, 0), False)])
def test_axes_that_are_joined_and_taken_apart_become_one_transpose(
    perm: tuple[int, ...], is_known: bool, run_float: Any
) -> None:
    """Where the axes behind are others than those that were joined, the chain stays."""
    net = Sequence(5, "N", 6, width=6)
    batch = net.op("Gather", net.op("Shape", "x"), net.ints(1), axis=0)
    joined = net.op(
        "Reshape", "x", net.op("Concat", net.ints(5), net.op("Mul", batch, net.ints(2)), net.ints(3), axis=0)
    )
    sizes = [batch, net.ints(2, 5, 3)] if is_known else [net.ints(3, 5), batch, net.ints(2)]
    target = net.op("Concat", *sizes, axis=0)
    model = net.model(net.op("Relu", net.op("Reshape", net.turn(joined, *perm), target)))
    graph = prepared(model.graph)
    kinds = [node.op_type for node in graph.graph if node.op_type in ("Reshape", "Transpose")]
    assert kinds == (["Reshape", "Transpose"] if is_known else ["Reshape", "Transpose", "Reshape"])
    feed = {"x": np.random.default_rng(0).standard_normal((5, 4, 6)).astype(np.float32)}
    (wanted,), (found,) = run_float(model, feed).values(), run_float(model.edited(graph), feed).values()
    np.testing.assert_array_equal(wanted, found)
