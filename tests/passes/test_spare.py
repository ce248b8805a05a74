"""Layers are left in float for what they cost and for what is left of the error, and not more than is allowed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from infopt.model import Model
from infopt_passes.quantize.culprits import Culprit, Rounding
from infopt_passes.quantize.spare import LEAST_BARGAIN, MOST_PRICE, Bargain, _pays

CHAIN = """(float[N,4] x) => (float[N,4] e) {
    a = Relu(x)  b = Relu(a)  c = Relu(b)  d = Relu(c)  e = Relu(d) }"""


@pytest.fixture
def chain(build: Any) -> Model:
    result: Model = build(CHAIN)
    return result


def bargain(model: Model, shares: dict[str, float], prices: dict[str, float]) -> Bargain:
    """Of roundings whose name says which nodes they need."""
    found = [Culprit(Rounding(f"rounding {names}", frozenset(names)), share) for names, share in shares.items()]
    return Bargain(found, dict.fromkeys("abcde", 0.0) | prices, {node.name or "": node for node in model.graph.graph})


def order(choice: Bargain) -> list[str]:
    while choice.take():
        pass
    return [each.name for each in choice.taken]


def test_the_most_error_for_the_least_work_comes_first(chain: Model) -> None:
    choice = bargain(chain, {"a": 0.2, "b": 0.3, "c": 0.1}, {"a": 0.02, "b": 0.05, "c": 0.005})
    assert order(choice) == ["c", "a", "b"]
    assert choice.gain == pytest.approx(0.6)


def test_what_a_choice_gets_for_nothing_counts(chain: Model) -> None:
    """With b and c in float, what both of them need is not rounded either."""
    choice = bargain(chain, {"a": 0.1, "b": 0.09, "bc": 0.09, "c": 0.09}, {"a": 0.05, "b": 0.05, "c": 0.05})
    assert order(choice)[:2] == ["b", "c"]
    assert choice.gain == pytest.approx(0.37)


def test_a_layer_is_worth_more_when_less_of_the_error_is_left(chain: Model) -> None:
    prices = {"a": 0.01, "b": 0.05}
    alone = bargain(chain, {"b": 0.05}, prices)
    assert order(alone) == []  # as much of the error as of the work
    assert order(bargain(chain, {"a": 0.5, "b": 0.05}, prices)) == ["a", "b"]  # a tenth of what is left
    assert LEAST_BARGAIN < 2


def test_no_more_work_than_is_allowed_is_left_in_float(chain: Model) -> None:
    shares, prices = {"a": 0.4, "b": 0.3, "c": 0.1}, {"a": MOST_PRICE / 2, "b": MOST_PRICE * 0.6, "c": MOST_PRICE / 4}
    assert order(bargain(chain, shares, prices)) == ["a", "c"]


def test_reasons_tell_the_error_and_the_work(chain: Model) -> None:
    choice = bargain(chain, {"ab": 0.25}, {"a": 0.02, "b": 0.03})
    assert order(choice) == ["a", "b"]
    told = "rounding ab would be the cause of 25% of the outputs' error, for 5.0% of the work in 2 nodes"
    assert all(each.why.endswith(told) for each in choice.taken)
    assert "the first layer's error is carried through all others" in choice.taken[0].why


@pytest.mark.parametrize(
    ("before", "after", "price", "pays"),
    [
        (1.0, 0.4, 0.2, True),
        (1.0, 0.8, 0.2, False),
        (1.0, 0.995, 0.0, False),
        (math.inf, 0.5, 0.2, True),
        (math.inf, math.inf, 0.0, False),
    ],
)
def test_a_choice_has_to_be_in_fact_the_bargain_that_was_predicted(
    before: float, after: float, price: float, pays: bool
) -> None:
    assert _pays(before, after, price) == pays
