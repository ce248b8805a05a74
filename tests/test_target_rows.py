"""A target's table in words."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from infopt import registry
from infopt.target import Facts, Output, Role, Rule, Scheme, Table
from infopt.views.target_rows import ROLES, rows_in_words, scheme_in_words, target_in_json, target_table

INT8 = Scheme("int8", symmetric=True)


def too_small(facts: Facts) -> str | None:
    """Small ones do not pay.

    They never did.
    """


def of_no_use(facts: Facts) -> str | None:
    return None


@dataclass(frozen=True)
class Mine:
    table: Table
    name: str = "mine"
    runtime: str = "My Runtime"


TABLE = Table(
    activation=Scheme("uint8", symmetric=False),
    weight=Scheme("int8", symmetric=True, per_channel=True, narrow=True),
    bias="int32",
    rules=(
        Rule(("Conv", "Gemm"), Role.COMPUTE, Output.ALWAYS, unless=(too_small, of_no_use), activation=INT8),
        Rule(("MatMul",), Role.COMPUTE, computed=True),
        Rule(("MaxPool",), Role.MOVE, since=12),
        Rule(("Relu",), Role.FLOAT, writes=True, why="it is fused"),
    ),
)


def test_every_fact_of_a_row_is_told() -> None:
    conv, product, pool, relu = rows_in_words(TABLE)
    assert conv.operators == ("Conv", "Gemm")
    assert (conv.role, conv.output, conv.data) == ("integer kernel", "always", "int8, symmetric")
    assert conv.weights == "int8 from -127, symmetric, per channel"
    assert conv.unless == ("Small ones do not pay.", "of no use")
    assert (product.computed, product.weights, product.data) == (True, None, "uint8, asymmetric")
    assert (pool.since, pool.role, pool.output) == (12, "moves integers, one scale", "as its input")
    assert (relu.why, relu.data, relu.weights, relu.output) == ("it is fused", None, None, None)
    assert relu.role == "float, in a neighbour's kernel"


def test_the_terminal_shows_schemes_only_where_they_differ() -> None:
    table = target_table(Mine(TABLE))  # type: ignore[arg-type]
    conv, product, pool, relu = table.rows
    assert conv == ("Conv, Gemm", "integer kernel; int8, symmetric", "always", "Small ones do not pay. of no use")
    assert product == ("MatMul (of computed tensors)", "integer kernel", "where wanted", "-")
    assert pool[3] == "before opset 12"
    assert relu[1:] == ("float, in a neighbour's kernel", "-", "it is fused")
    assert "Biases: int32." in table.notes[0]
    assert "My Runtime" in table.title


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (INT8, "int8, symmetric"),
        (Scheme("int8", symmetric=True, unsigned=True), "int8, symmetric, uint8 where never negative"),
        (Scheme("int8", symmetric=True, per_channel=True, reduced=True), "int8, symmetric, per channel, of 7 bits"),
    ],
)
def test_a_scheme_is_told_in_words(scheme: Scheme, words: str) -> None:
    assert scheme_in_words(scheme) == words


def test_every_role_has_words() -> None:
    assert set(ROLES) == set(Role)


@pytest.mark.parametrize("name", registry.names("targets"))
def test_every_condition_of_a_target_says_what_it_is_about(name: str) -> None:
    for row in target_in_json(registry.target(name))["rows"]:
        assert all(text.endswith(".") for text in row["unless"]), row
