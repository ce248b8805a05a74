"""What becomes of each row of a target's table in the real runtime; the graphs are in ``rows.py``.

A module of tests names its table in ``TABLE``, in ``LEFT`` the graphs that a condition of the table leaves in float,
and in ``UNPROVEN`` what its runtime does otherwise than the table says. ``EXTRA`` holds graphs of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conformance.rows import CONV, ROWS, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from infopt.model import Model
    from infopt.target import Artifact, Target


@dataclass(frozen=True)
class Ran:
    """A graph that was quantized, compiled and run.

    Attributes:
        result: The quantized model.
        artifact: What was compiled.
        kernels: What the target counts in it.
        steps: Largest difference from float, in steps of an 8-bit output.
        astray: Largest difference from the quantized graph computed as it is written, in the same steps.
    """

    result: Model
    artifact: Artifact
    kernels: Any
    steps: float
    astray: float


SURROUNDINGS = {"any batch, signed": ("N", True), "fixed batch, after Relu": ("2", False)}
"""Batch, and whether the data that arrives has both signs."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize by the graphs of the module's table, in each surrounding.

    A test that takes ``row`` gets those that the table runs in integers, one that takes ``float_row`` the others.
    """
    for name in {"row", "float_row"}.intersection(metafunc.fixturenames):
        module, pairs = metafunc.module, []
        for row in (*ROWS, *getattr(module, "EXTRA", ())):
            for title, around in SURROUNDINGS.items() if chosen(row, module, name == "row") else ():
                case = f"{row.name}: {title}"
                why = module.UNPROVEN.get(case)
                marks = [pytest.mark.xfail(strict=True, reason=why)] if why else []
                pairs.append(pytest.param(row, around, id=case, marks=marks))
        metafunc.parametrize((name, "around"), pairs)


def chosen(row: Row, module: Any, integer: bool) -> bool:
    """Whether a graph's operator runs in integers by the module's table, or stays in float by it."""
    from infopt.target import Role

    rule = module.TABLE.rule(row.op, row.computed)
    if rule is None:
        return False
    return integer == (rule.role is not Role.FLOAT and row.name not in module.LEFT)


def table_ops(table: Any) -> set[str]:
    """Operators that a table has a row about."""
    return {op for rule in table.rules for op in rule.ops}


@pytest.fixture(scope="session")
def proven_ops() -> set[str]:
    """Operators that there is a graph for."""
    return {row.op for row in ROWS}


@pytest.fixture(scope="session")
def make_row(build: Any) -> Callable[..., Model]:
    """Make the graph of a row; ``signed`` data has a zero point in the middle of its range."""

    def make(row: Row, batch: str, signed: bool) -> Model:
        first, weights = "", dict(row.weights)
        for letter in "ac"[: row.first] if row.middle else "":
            conv = f"{CONV}(x, w{letter}, b{letter})"
            first += f"{letter} = {conv}  " if signed else f"_{letter} = {conv}  {letter} = Relu(_{letter})  "
            weights |= {f"w{letter}": (16, 3, 3, 3), f"b{letter}": (16,)}
        text = row.whole or f"(float[N,3,8,8] x) => (float[N,{row.shape}] y) {{ {first}{row.middle}  y = {row.last} }}"
        model: Model = build(text.replace("N,", f"{batch},"), opset=row.opset, **weights)
        return model

    return make


@pytest.fixture(scope="session")
def forced() -> Callable[[Target, Row], Target]:
    """Make a target quantize an operator whatever its table says, to see whether the runtime has a kernel for it."""
    from infopt.target import Output, Role, Rule

    def make(target: Target, row: Row) -> Target:
        rule = target.table.rule(row.op, row.computed)
        recurrent = row.op in ("LSTM", "GRU")  # what would be a bias is a second weight
        compute = recurrent or row.op in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")
        role = Role.COMPUTE if compute else Role.FOLLOW if rule is None or rule.role is Role.FLOAT else rule.role
        wanted = Rule((row.op,), role, Output.ALWAYS, computed=row.computed)
        others = tuple(other for other in target.table.rules if other is not rule)
        bias = "float" if recurrent else target.table.bias
        table = replace(target.table, rules=(wanted, *others), bias=bias)
        return replace(target, table=table)  # type: ignore[type-var]

    return make


@pytest.fixture(scope="session")
def run_quantized(make_context: Any, run_float: Any) -> Callable[..., Ran]:
    """Quantize, compile and run a model for a target; its range is that of the samples that it is run on."""
    from infopt import registry
    from infopt.target import CompileOptions
    from infopt_passes.quantize import Quantize

    def apply(model: Model, target: str | Target, setting: str | None = None) -> Ran:
        chosen = registry.target(target) if isinstance(target, str) else target
        context = make_context(model, chosen, count=2)
        result = Quantize(method="fast")(model, context)
        path = context.on_disk(result)
        settings = chosen.settings("int8")
        options = CompileOptions(settings[setting] if setting else next(iter(settings.values())))
        artifact = chosen.compile(path, path.parent, options)
        feeds = list(context.calibration.feeds())
        with chosen.open(artifact) as session:
            found = [session.run(feed) for feed in feeds]
        steps, astray = (
            max(_steps(list(run_float(each, feed).values()), ours) for feed, ours in zip(feeds, found, strict=True))
            for each in (model, result)
        )
        return Ran(result, artifact, chosen.kernels(artifact), steps, astray)

    return apply


def _steps(wanted: list[np.ndarray], found: list[np.ndarray]) -> float:
    return max(
        float(np.abs(a - b).max() / ((max(a.max(), 0) - min(a.min(), 0)) / 255))
        for a, b in zip(wanted, found, strict=True)
    )


@pytest.fixture(scope="session")
def largest_step() -> Callable[..., float]:
    """Largest difference of outputs from the wanted ones, in steps of 8 bits over their range."""
    return _steps
