"""The smallest graph for each row of a target's table, and what becomes of it in the real runtime.

An operator that follows, moves or joins stands between convolutions that give and take integers; it is the node ``s``.
A module of tests names its table in ``TABLE``, and in ``UNPROVEN`` the rows that its runtime does not run in integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from infopt.model import Model
    from infopt.target import Artifact

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
PICTURE = "16,8,8"


@dataclass(frozen=True)
class Row:
    """An operator in its surroundings.

    Attributes:
        op: Operator type.
        variant: What is special about this graph.
        middle: The nodes between the first convolutions, which give ``a`` (and ``c``), and the last, which reads ``s``.
        weights: Weights of these nodes and of the last layer.
        shape: Shape of the output without the batch.
        first: Number of first convolutions.
        last: The last layer.
        whole: The graph, where it has no such surroundings.
    """

    op: str
    variant: str = ""
    middle: str = ""
    weights: dict[str, Any] = field(default_factory=dict)
    shape: str = PICTURE
    first: int = 1
    last: str = f"{CONV}(s, we, be)"
    whole: str = ""

    @property
    def name(self) -> str:
        """What test reports call it."""
        return f"{self.op} {self.variant}".strip()


END = {"we": (16, 16, 3, 3), "be": (16,)}
GEMM = "Gemm(s, we, be)"


def _int(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _layer(op: str, variant: str, shapes: str, call: str, **weights: Any) -> Row:
    return Row(op, variant, weights=weights, whole=f"{shapes} {{ y = {call} }}")


CHANNELS = "(float[N,16,8,8] x) => (float[N,16,8,8] y)"
VECTORS = "(float[N,16] x) => (float[N,8] y)"

ROWS = [
    _layer("Conv", "", CHANNELS, f"{CONV}(x, w, b)", w=(16, 16, 3, 3), b=(16,)),
    _layer("Conv", "without bias", CHANNELS, f"{CONV}(x, w)", w=(16, 16, 3, 3)),
    _layer(
        "Conv", "depthwise", CHANNELS, "Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=16>(x, w, b)",
        w=(16, 1, 3, 3), b=(16,),
    ),
    _layer("Conv", "pointwise", CHANNELS, "Conv<kernel_shape=[1,1]>(x, w, b)", w=(16, 16, 1, 1), b=(16,)),
    _layer(
        "Conv", "1D", "(float[N,16,9] x) => (float[N,16,9] y)", "Conv<kernel_shape=[3], pads=[1,1]>(x, w, b)",
        w=(16, 16, 3), b=(16,),
    ),
    _layer("Gemm", "", VECTORS, "Gemm(x, w, b)", w=(16, 8), b=(8,)),
    _layer("Gemm", "transB", VECTORS, "Gemm<transB=1>(x, w, b)", w=(8, 16), b=(8,)),
    _layer("Gemm", "without bias", VECTORS, "Gemm<transB=1>(x, w)", w=(8, 16)),
    _layer("MatMul", "", VECTORS, "MatMul(x, w)", w=(16, 8)),
    _layer("MatMul", "of tokens", "(float[N,5,16] x) => (float[N,5,8] y)", "MatMul(x, w)", w=(16, 8)),
    Row("Add", "", "s = Add(a, c)", END, first=2),
    Row("Add", "then Relu", "p = Add(a, c)  s = Relu(p)", END, first=2),
    Row("Add", "residual", f"d = {CONV}(a, wd, bd)  s = Add(d, a)", {"wd": (16, 16, 3, 3), "bd": (16,), **END}),
    Row("Add", "constant", "s = Add(a, k)", {"k": (1, 16, 8, 8), **END}),
    Row("Mul", "", "s = Mul(a, c)", END, first=2),
    Row("Mul", "constant", "s = Mul(a, k)", {"k": (1, 16, 8, 8), **END}),
    Row("Mul", "gate", "g = Sigmoid(a)  s = Mul(a, g)", END),
    Row("AveragePool", "", "s = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a)", END, "16,4,4"),
    Row("GlobalAveragePool", "", "s = GlobalAveragePool(a)", END, "16,1,1"),
    Row("LeakyRelu", "", "s = LeakyRelu<alpha=0.1>(a)", END),
    Row("Sigmoid", "", "s = Sigmoid(a)", END),
    Row("MaxPool", "", "s = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)", END, "16,4,4"),
    Row("Reshape", "", "s = Reshape(a, k)", {"k": _int(0, 16, 16, 4), **END}, "16,16,4"),
    Row("Transpose", "", "s = Transpose<perm=[0,1,3,2]>(a)", END),
    Row("Flatten", "", "s = Flatten(a)", {"we": (1024, 4), "be": (4,)}, "4", last=GEMM),
    Row(
        "Flatten", "after MaxPool", "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)  s = Flatten(p)",
        {"we": (256, 4), "be": (4,)}, "4", last=GEMM,
    ),
    Row(
        "Squeeze", "", "p = GlobalAveragePool(a)  s = Squeeze(p, k)",
        {"k": _int(2, 3), "we": (16, 4), "be": (4,)}, "4", last=GEMM,
    ),
    Row(
        "Unsqueeze", "", "r = Reshape(a, i)  s = Unsqueeze(r, k)",
        {"i": _int(0, 16, 64), "k": _int(3), **END}, "16,64,1",
    ),
    Row("Slice", "", "s = Slice(a, p, q, k)", {"p": _int(2), "q": _int(6), "k": _int(3), **END}, "16,8,4"),
    Row("Concat", "", "s = Concat<axis=1>(a, c)", {**END, "we": (16, 32, 3, 3)}, first=2),
    Row("Concat", "then Relu", "p = Concat<axis=1>(a, c)  s = Relu(p)", {**END, "we": (16, 32, 3, 3)}, first=2),
]  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """A graph that was quantized, compiled and run.

    Attributes:
        artifact: What was compiled.
        kernels: What the target counts in it.
        steps: Largest difference from float, in steps of an 8-bit output.
    """

    artifact: Artifact
    kernels: Any
    steps: float


SURROUNDINGS = {"any batch, signed": ("N", True), "fixed batch, after Relu": ("2", False)}
"""Batch, and whether the data that arrives has both signs."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test that takes ``row`` and ``around`` by the rows of its module's table in each surrounding."""
    if "row" not in metafunc.fixturenames:
        return
    unproven, pairs = metafunc.module.UNPROVEN, []
    for row in ROWS:
        for title, around in SURROUNDINGS.items() if row.op in table_ops(metafunc.module.TABLE) else ():
            name = f"{row.name}: {title}"
            marks = [pytest.mark.xfail(strict=True, reason=unproven[name])] if name in unproven else []
            pairs.append(pytest.param(row, around, id=name, marks=marks))
    metafunc.parametrize(("row", "around"), pairs)


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
        model: Model = build(text.replace("[N,", f"[{batch},"), **weights)
        return model

    return make


@pytest.fixture(scope="session")
def run_quantized(make_context: Any, run_float: Any) -> Callable[..., Ran]:
    """Quantize, compile and run a model for a target; its range is that of the samples that it is run on."""
    from infopt import registry
    from infopt.target import CompileOptions
    from infopt_passes.quantize import Quantize

    def apply(model: Model, target: str, setting: str | None = None) -> Ran:
        context, chosen = make_context(model, target, count=2), registry.target(target)
        result = Quantize(ranges="minmax")(model, context)
        path = context.on_disk(result)
        settings = chosen.settings("int8")
        options = CompileOptions(settings[setting] if setting else next(iter(settings.values())))
        artifact = chosen.compile(path, path.parent, options)
        with chosen.open(artifact) as session:
            steps = max(
                _steps(list(run_float(model, feed).values()), session.run(feed)) for feed in context.calibration.feeds()
            )
        return Ran(artifact, chosen.kernels(artifact), steps)

    return apply


def _steps(wanted: list[np.ndarray], found: list[np.ndarray]) -> float:
    return max(
        float(np.abs(a - b).max() / ((max(a.max(), 0) - min(a.min(), 0)) / 255))
        for a, b in zip(wanted, found, strict=True)
    )
