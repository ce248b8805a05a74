"""What makes the error is found with few questions, and every layer left in float was tried on top of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopt.registry import target
from infopt_passes.quantize.culprits import Rounding, culprits, roundings
from infopt_passes.quantize.equalize.channels import groups
from infopt_passes.quantize.plan import make_plan


@given(
    parts=st.dictionaries(st.integers(0, 199), st.floats(0.02, 0.2), min_size=1, max_size=5),
    count=st.integers(200, 300),
)
def test_few_culprits_among_many_are_found_with_few_questions(parts: dict[int, float], count: int) -> None:
    found = [Rounding(f"rounding {i}", frozenset({str(i)})) for i in range(count)]
    asked = []

    def share(group: Sequence[Rounding]) -> float:
        asked.append(group)
        return sum(part for i, part in parts.items() if found[i] in group)

    worst = culprits(found, share, least=0.01, most=1000, late=lambda: False)
    assert {next(iter(each.rounding.nodes)): each.share for each in worst} == pytest.approx(
        {str(i): part for i, part in parts.items()}
    )
    assert [each.share for each in worst] == sorted((each.share for each in worst), reverse=True)
    assert len(asked) <= 2 * 9 * len(parts)


def test_the_worst_is_found_first_where_questions_are_few() -> None:
    found = [Rounding(str(i), frozenset({str(i)})) for i in range(64)]
    parts = {"3": 0.1, "40": 0.6, "41": 0.2}
    worst = culprits(
        found, lambda group: sum(parts.get(each.what, 0.0) for each in group), least=0.01, most=12, late=lambda: False
    )
    assert next(each.rounding.what for each in worst) == "40"
    assert "3" not in [each.rounding.what for each in worst]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_or_one_thing_to_look_for(count: int) -> None:
    found = [Rounding("x", frozenset({"x"}))][:count]
    worst = culprits(found, lambda group: 0.4, least=0.01, most=10, late=lambda: False)
    assert [each.share for each in worst] == [0.4][:count]


def test_it_stops_when_it_is_late() -> None:
    found = [Rounding(str(i), frozenset({str(i)})) for i in range(64)]
    assert culprits(found, lambda group: 1.0, least=0.01, most=1000, late=lambda: True) == []


CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
RESIDUAL = f"""(float[N,16,8,8] x) => (float[N,16,8,8] y) {{
    a = {CONV}(x, w)  r = Relu(a)  b = {CONV}(r, w)  s = Add(b, r)  y = {CONV}(s, w) }}"""


def test_a_tensor_is_gone_when_all_that_make_and_read_it_in_integers_are_float(build: Any) -> None:
    weights = {"w": np.ones((16, 16, 3, 3), np.float32)}
    graph = build(RESIDUAL, **weights).graph
    table = target("onnxruntime").table
    plan = make_plan(graph.graph, 17, table, ())
    everything = roundings(graph.graph, plan, table)
    assert {frozenset(name) for name in "absy"} <= {each.nodes for each in everything}
    found = {each.what: each.nodes for each in everything if each.what.startswith("rounding")}
    assert found["rounding s"] == {"s", "y"}
    assert found["rounding r"] == {"a", "b", "s"}
    for what, nodes in found.items():
        left = make_plan(graph.graph, 17, table, nodes)
        assert what.removeprefix("rounding ") not in {value.name for value in left.edges}, what


def test_what_a_relu_cuts_off_is_not_range_that_a_channel_needs(build: Any) -> None:
    text = f"""(float[N,16,8,8] x) => (float[N,16,8,8] y) {{
        a = {CONV}(x, w)  r = Relu(a)  b = {CONV}(r, w)  s = Add(b, k)  y = {CONV}(s, w) }}"""
    weights = {"w": np.ones((16, 16, 3, 3), np.float32), "k": np.ones((1, 16, 1, 1), np.float32)}
    found = groups(build(text, **weights).graph.graph)
    assert [[value.name for value in group.rounded()] for group in found] == [["r"], ["b", "s"]]
