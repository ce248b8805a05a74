"""Cutting a graph into parts that run one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopt_passes.calibrate.segments import cut, extracted

if TYPE_CHECKING:
    from infopt.data import Feed

BRANCHES = """(bool c, float[N,4] x) => (float[N,2] y, float[N,4] d) {
    h = MatMul(x, w)  d = Add(h, x)  r = Relu(d)
    t = If (c) <
        then_branch = t () => (float[N,2] u) { u = MatMul(h, v) },
        else_branch = e () => (float[N,2] z) { z = MatMul(r, v) }>
    s = Sum(t, b)  y = Identity(s) }"""
WEIGHTS = {"w": (4, 4), "v": (4, 2), "b": (2,)}
NAMES = ["x", "h", "d", "r", "t", "s", "y"]


def run_parts(model: Any, segments: Any, feed: Feed, run_float: Any) -> dict[str, np.ndarray]:
    """Every tensor that the parts give, each part fed with what the ones before gave."""
    known: dict[str, np.ndarray] = dict(feed)
    for segment in segments:
        part = extracted(model.graph, segment)
        values = {value.name: value for node in part.graph for value in node.outputs}
        given = {value.name for value in part.graph.outputs}
        part.graph.outputs.extend(values[name] for name in segment.watched if name in values and name not in given)
        needed = {value.name: known[value.name] for value in part.graph.inputs if value.name}
        assert set(segment.takes) <= needed.keys()
        if part.graph.outputs:
            known |= run_float(model.edited(part), needed)
    return known


@pytest.mark.parametrize("limit", [1, 70, 100, 1000])
@pytest.mark.parametrize("chosen", [True, False])
def test_parts_with_branches_compute_what_the_whole_does(build: Any, run_float: Any, limit: int, chosen: bool) -> None:
    model = build(BRANCHES, **WEIGHTS)
    feed = {"c": np.array(chosen), "x": np.float32([[1, -2, 3, 4], [5, 6, -7, 8]])}
    segments = cut(model.graph.graph, NAMES, limit)
    assert len(segments) == {1: 3, 70: 2, 100: 2, 1000: 1}[limit]
    assert [name for segment in segments for name in segment.watched] == NAMES
    found = run_parts(model, segments, feed, run_float)
    for name, array in run_float(model, feed).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6)


@given(st.data())
def test_every_node_is_in_one_part_and_what_a_part_takes_was_given_before(data: st.DataObject) -> None:
    graph = random_graph(data)
    limit = data.draw(st.integers(1, 200))
    names = [value.name or "" for node in graph for value in node.outputs]
    segments = cut(graph, names, limit)
    assert [i for segment in segments for i in segment.nodes] == list(range(len(list(graph))))
    given_so_far: set[str] = set()
    for segment in segments:
        assert set(segment.takes) <= given_so_far
        given_so_far |= set(segment.gives)
        nodes = list(graph)[segment.nodes.start : segment.nodes.stop]
        weights = {v for node in nodes for v in node.inputs if v is not None and v.is_initializer()}
        size = sum(weight.const_value.nbytes for weight in weights if weight.const_value is not None)
        assert size <= max(limit, max(_bytes(node) for node in nodes))
    assert [name for segment in segments for name in segment.watched] == names


def random_graph(data: st.DataObject) -> ir.Graph:
    """A graph of sums of earlier tensors and of weights of different sizes."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    values, nodes, weights = [x], [], []
    for i in range(data.draw(st.integers(1, 8))):
        inputs = [data.draw(st.sampled_from(values)) for _ in range(data.draw(st.integers(1, 3)))]
        if data.draw(st.booleans()):
            array = np.zeros(data.draw(st.integers(1, 30)), np.float32)
            weight = ir.Value(name=f"w{i}", const_value=ir.tensor(array, name=f"w{i}"))
            weights.append(weight)
            inputs.append(weight)
        node = ir.node("Sum", inputs, name=f"n{i}")
        node.outputs[0].name = f"v{i}"
        nodes.append(node)
        values.append(node.outputs[0])
    return ir.Graph([x], [values[-1]], nodes=nodes, initializers=weights, opset_imports={"": 17})


def _bytes(node: ir.Node) -> int:
    held = {value for value in node.inputs if value is not None and value.const_value is not None}
    return sum(value.const_value.nbytes for value in held if value.const_value is not None)
