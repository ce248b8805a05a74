"""Tables of third parties that contradict themselves are refused when the target is asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from infopt import registry
from infopt.errors import OptionError
from infopt.table_check import check_table
from infopt.target import Output, Role, Rule, Scheme, Table
from infopt.targets.conditions import runtime_weight

if TYPE_CHECKING:
    from collections.abc import Callable

INT8, UINT8 = Scheme("int8", symmetric=True), Scheme("uint8", symmetric=False)
CONV = Rule(("Conv",), Role.COMPUTE)
GOOD = Table(
    activation=UINT8,
    weight=Scheme("int8", symmetric=True, per_channel=True, narrow=True),
    bias="int32",
    rules=(
        CONV,
        Rule(("MatMul",), Role.COMPUTE, weight=INT8, activation=INT8, since=13),
        Rule(("MatMul",), Role.FLOAT, computed=True, why="slower"),
        Rule(("Add",), Role.FOLLOW, Output.ALWAYS, unless=(runtime_weight,)),
        Rule(("Reshape",), Role.MOVE, carries=True),
        Rule(("Concat",), Role.JOIN, shared=True),
    ),
)


@dataclass(frozen=True)
class Mine:
    """A third party's target."""

    table: Any
    name: str = "mine"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Install a package whose target has this table, and ask the registry for it."""

    class Point:
        def load(self) -> dict[str, str]:
            return {"mine": "somebodys_package:target"}

    def apply(table: Any) -> Any:
        module = ModuleType("somebodys_package")
        module.target = lambda: Mine(table)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "somebodys_package", module)
        monkeypatch.setattr(registry, "entry_points", lambda group: [Point()])
        return registry.target("mine")

    return apply


def test_a_table_without_contradictions_is_taken(load: Any) -> None:
    assert load(GOOD).table is GOOD


ROWS = {
    "named twice": (Rule(("Gemm", "Conv"), Role.COMPUTE), "row Gemm, Conv: Conv has a row already"),
    "named twice in a row": (Rule(("Gemm", "Gemm"), Role.COMPUTE), "Gemm has a row already"),
    "no operator": (Rule((), Role.FOLLOW), "it names no operator"),
    "misspelt": (Rule(("Convv",), Role.COMPUTE), "row Convv: unknown operator 'Convv'; did you mean 'Conv'"),
    "mover that quantizes": (Rule(("Slice",), Role.MOVE, Output.ALWAYS), "row Slice: what only moves data"),
    "mover with weights": (Rule(("Slice",), Role.MOVE, weight=INT8), "a scheme of weights, but the role move"),
    "join with weights": (Rule(("Sum",), Role.JOIN, weight=INT8), "a scheme of weights, but the role join"),
    "weights of computed tensors": (Rule(("Einsum",), Role.COMPUTE, weight=INT8, computed=True), "computed operands"),
    "float without why": (Rule(("Elu",), Role.FLOAT), "row Elu: it stays in float, but does not say why"),
    "float with output": (Rule(("Elu",), Role.FLOAT, Output.ALWAYS, why="slow"), "but sets output"),
    "float with conditions": (Rule(("Elu",), Role.FLOAT, unless=(runtime_weight,), why="slow"), "but sets unless"),
    "float with a scheme": (Rule(("Elu",), Role.FLOAT, activation=INT8, why="slow"), "but sets activation"),
    "why without float": (Rule(("Elu",), Role.FOLLOW, why="slow"), "why it stays in float, but its role is follow"),
    "carried by a layer": (Rule(("Gemm",), Role.COMPUTE, carries=True), "is marked carries"),
    "shared by a layer": (Rule(("Gemm",), Role.COMPUTE, shared=True), "is marked shared"),
    "layer that writes": (Rule(("Gemm",), Role.COMPUTE, writes=True), "is marked writes"),
    "layer in an epilogue": (Rule(("Gemm",), Role.COMPUTE, epilogue=True), "is marked epilogue"),
    "carried and quantized": (Rule(("Elu",), Role.FOLLOW, Output.ALWAYS, carries=True), "it carries the scale"),
    "beyond the opset": (Rule(("Elu",), Role.FOLLOW, since=14), "it holds since opset 14, but .* have opset 13"),
    "before the first": (Rule(("Elu",), Role.FOLLOW, since=0), "it holds since opset 0"),
    "asymmetric weights": (
        Rule(("Gemm",), Role.COMPUTE, weight=Scheme("int8", symmetric=False)),
        "row Gemm: weights: asymmetric int8 cannot be",
    ),
    "uint8 weights": (
        Rule(("Gemm",), Role.COMPUTE, weight=Scheme("uint8", symmetric=True)),
        "symmetric uint8 cannot be",
    ),
    "narrow uint8": (
        Rule(("Elu",), Role.FOLLOW, activation=replace(UINT8, narrow=True)),
        "row Elu: activations: narrow leaves out -128",
    ),
    "data per channel": (Rule(("Elu",), Role.FOLLOW, activation=replace(INT8, per_channel=True)), "one scale a tensor"),
    "unsigned asymmetric": (
        Rule(("Elu",), Role.FOLLOW, activation=Scheme("int8", symmetric=False, unsigned=True)),
        "unsigned is for symmetric int8",
    ),
    "another type": (Rule(("Elu",), Role.FOLLOW, activation=Scheme("int4", symmetric=True)), "int4 is neither"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", ROWS)
def test_a_contradictory_row_is_refused_by_name(load: Any, case: str) -> None:
    rule, reason = ROWS[case]
    with pytest.raises(OptionError, match=reason) as caught:
        load(replace(GOOD, rules=(CONV, rule)))
    assert "the table of target 'mine'" in str(caught.value)


TABLES = {
    "asymmetric weights": (replace(GOOD, weight=Scheme("int8", symmetric=False)), "weights: asymmetric int8"),
    "unsigned weights": (replace(GOOD, weight=replace(INT8, unsigned=True)), "weights: unsigned is for data"),
    "narrow uint8": (replace(GOOD, activation=replace(UINT8, narrow=True)), "activations: narrow"),
    "bias": (replace(GOOD, bias="int8"), "bias is 'int8'"),  # type: ignore[arg-type]
    "absorbs": (replace(GOOD, absorbs=frozenset({"Relu", "Sigmoid"})), "absorbs Sigmoid, but only Clip and Relu"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_contradictory_table_is_refused(load: Any, case: str) -> None:
    table, reason = TABLES[case]
    with pytest.raises(OptionError, match=f"the table of target 'mine': {reason}"):
        load(table)


def test_a_row_about_computed_tensors_is_named_as_such(load: Any) -> None:
    rules = (*GOOD.rules, Rule(("MatMul",), Role.COMPUTE, computed=True))
    with pytest.raises(OptionError, match=r"row MatMul \(of computed tensors\): MatMul has a row already"):
        load(replace(GOOD, rules=rules))


def test_something_else_than_a_table_is_refused(load: Any) -> None:
    with pytest.raises(OptionError, match="target 'mine' has no table but dict"):
        load({})


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"])
def test_infopts_own_tables_have_no_contradictions(name: str) -> None:
    check_table(name, registry.target(name).table)
