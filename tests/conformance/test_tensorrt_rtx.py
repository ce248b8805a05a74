"""What TensorRT-RTX makes of each row of its table: read from the parsed network and from the engine's own program.

Engines are built without a GPU; their outputs are emulated by running Q and DQ as they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from conformance.rows import END, GEMM, ROWS, Row, _int

from infopt import registry
from infopt.errors import RuntimeRefused
from infopt.target import CompileOptions, Role
from infopt.targets.onnxruntime import EMULATE, open_onnx
from infopt.targets.trt_kernels import planned_kernels, program
from infopt.targets.trt_table import DIFFERENT, TABLE, TENSORRT_TABLE
from infopt_passes.quantize import Quantize

if TYPE_CHECKING:
    from collections.abc import Callable

    from infopt.model import Model
    from infopt.target import Kernels, Target
    from infopt.targets.trt_build import Layer
    from infopt.targets.trt_kernels import Operation

pytest.importorskip("tensorrt_rtx")

TARGET = "tensorrt-rtx"

UNPROVEN: dict[str, str] = {}
"""Rows that do not run in integers, with what was seen."""

LEFT = {"Add constant", "AveragePool", "Resize linear", "Gather of an embedding", "Squeeze", "Expand"}
"""Graphs that stay in float: by a condition, or because what is in front of them does."""

ABLE = {"Gather of an embedding"}
"""What stays in float in the graph, but not in the engine."""

POOLED = "p = MaxPool<kernel_shape=[8,8]>(a)"

EXTRA = (
    Row("Squeeze", "after MaxPool", f"{POOLED}  s = Squeeze(p, k)",
        {"k": _int(2, 3), "we": (16, 16), "be": (16,)}, "16", last=GEMM),
    Row("Expand", "after MaxPool", f"{POOLED}  s = Expand(p, k)", {"k": _int(1, 16, 8, 8), **END}),
    Row("MaxPool", "behind Relu", "r = Relu(a)  s = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)", END, "16,4,4"),
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A graph that was quantized and built.

    Attributes:
        operations: The engine's program without what only computes shapes.
        kernels: Compute layers with integer operands.
        layers: The parsed network by name.
        steps: Largest difference of the emulated output from float, in steps of an 8-bit output.
    """

    operations: list[Operation]
    kernels: Kernels
    layers: dict[str, Layer]
    steps: float

    def of(self, node: str) -> list[Operation]:
        """The operations that a node went into; movers often vanish."""
        return [each for each in self.operations if node in each.nodes or node in each.layers]

    def fed_by(self, node: str) -> list[str]:
        """Kinds of the layers in front of a layer; those that only move data are passed over."""
        return [self._kind(source) for source in self.layers[node].sources]

    def read_by(self, node: str) -> list[str]:
        """Kinds of the layers behind a layer."""
        readers = [each for each in self.layers.values() if node in each.sources]
        return [kind for each in readers for kind in (self.read_by(each.name) if helps(each) else [each.kind])]

    def _kind(self, name: str) -> str:
        layer = self.layers[name]
        return self._kind(layer.sources[0]) if helps(layer) else layer.kind


@pytest.fixture(scope="module")
def quantize_and_build(make_context: Any, run_float: Any, largest_step: Any) -> Callable[..., Built]:
    """Quantize a model, build its engine and emulate it; its range is that of the samples that it is run on."""

    def apply(model: Model, chosen: Target) -> Built:
        context = make_context(model, chosen, count=2)
        path = context.on_disk(Quantize(method="fast")(model, context))
        builder: Any = registry.target(TARGET)
        engine = builder.compile(path, path.parent, CompileOptions()).main
        emulated = open_onnx(path, EMULATE)
        pairs = ((run_float(model, feed), emulated.run(feed)) for feed in context.calibration.feeds())
        steps = max(largest_step(list(wanted.values()), found) for wanted, found in pairs)
        operations = [each for each in program(engine) if each.kind != "shape_call"]
        layers = {layer.name: layer for layer in builder.parsed_layers(path)}
        return Built(operations, planned_kernels(engine), layers, steps)

    return apply


def helps(layer: Layer) -> bool:
    """Whether a layer only moves data, as far as these graphs have it."""
    return layer.kind in ("SHUFFLE", "SQUEEZE", "UNSQUEEZE", "POOLING")


def gives_floats(operations: list[Operation]) -> list[Operation]:
    """Those that write floats to memory; a compute layer's sums are floats that the next operation takes up."""
    return [each for each in operations if not each.op and "int8" not in each.outputs]


def subject(row: Row) -> str:
    """Name of the row's node in its graph."""
    if row.whole and "s =" not in row.whole:
        return "y"
    return "p" if "then Relu" in row.name or row.op == "Split" else "s"


def test_the_tables_have_a_row_for_every_operator_that_there_is_a_graph_for(proven_ops: set[str]) -> None:
    for table in (TABLE, TENSORRT_TABLE):
        assert {op for rule in table.rules for op in rule.ops} == proven_ops


def test_the_operator_runs_in_integers(
    row: Row, around: tuple[str, bool], make_row: Any, quantize_and_build: Any
) -> None:
    done, node = quantize_and_build(make_row(row, *around), registry.target(TARGET)), subject(row)
    rule = TABLE.rule(row.op, row.computed)
    assert rule is not None
    assert (done.kernels.integer, done.kernels.float_nodes) == (done.kernels.total, ())
    assert done.kernels.total >= 1
    assert done.steps <= (12 if row.computed else 6)
    if rule.role is Role.COMPUTE:
        assert done.fed_by(node)[:2] == ["DEQUANTIZE", "DEQUANTIZE"]
        assert [each.integer for each in done.of(node) if each.op] == [True]
        return
    if "then Relu" not in row.name:
        assert ("QUANTIZE" in done.read_by(node)) is not rule.carries
        assert "DEQUANTIZE" in done.fed_by(node)
    # Nothing but the last layer's result is written as floats between the integer layers.
    assert [each for each in gives_floats(done.operations) if "y" not in each.nodes] == []


def test_an_operator_that_stays_in_float_has_no_kernel_that_would_pay(
    float_row: Row, around: tuple[str, bool], make_row: Any, quantize_and_build: Any, forced: Any
) -> None:
    model, target = make_row(float_row, *around), registry.target(TARGET)
    done = quantize_and_build(model, target)
    rule = TABLE.rule(float_row.op, float_row.computed)
    assert rule is not None
    assert rule.why or float_row.name in LEFT
    assert "s" not in done.layers or "DEQUANTIZE" not in done.fed_by("s")
    assert done.steps <= 6
    if rule.writes:
        # What gives integers in one go with the operator leaves nothing to gain.
        here = done.of("s") or [each for each in done.operations if "y" not in each.nodes]
        assert gives_floats(here) == []
        return
    try:
        tried = quantize_and_build(model, forced(target, float_row))
    except RuntimeRefused:
        assert float_row.op in ("LSTM", "GRU")
        return
    here = tried.of("s") or tried.of("p") or [each for each in tried.operations if each.op]
    assert here
    assert any(each.integer or {"int8"} <= {*each.inputs} & {*each.outputs} for each in here) == (
        float_row.name in ABLE
    )


def test_a_product_that_is_cut_into_heads_stays_in_integers(build: Any, quantize_and_build: Any) -> None:
    cut = "".join(
        f"{name}s = Slice(t, at{i}, at{i + 1}, axis)  {name} = Squeeze({name}s, axis)  " for i, name in enumerate("qkv")
    )
    text = f"""(float[N,32,64] x) => (float[N,32,64] y) {{
        n = LayerNormalization(x, g, h)  m = MatMul(n, w)  l = Add(m, b)
        r = Reshape(l, parts)  t = Transpose<perm=[2,0,3,1,4]>(r)  {cut}
        kt = Transpose<perm=[0,1,3,2]>(k)  a = MatMul(q, kt)  p = Softmax<axis=-1>(a)  c = MatMul(p, v)
        d = Transpose<perm=[0,2,1,3]>(c)  e = Reshape(d, whole)  y = MatMul(e, o) }}"""
    places = {f"at{i}": _int(i) for i in range(4)}
    shapes = {"parts": _int(0, 32, 3, 2, 32), "whole": _int(0, 32, 64), "axis": _int(0), "g": (64,), "h": (64,)}
    weights = {"w": (64, 192), "b": (192,), "o": (64, 64)}
    done = quantize_and_build(build(text, **weights, **shapes, **places), registry.target(TARGET))
    assert (done.kernels.integer, done.kernels.float_nodes) == (done.kernels.total, ())
    assert [each.integer for each in done.operations if each.op == "Attention"] == [True]


ALONE = [row for row in ROWS if row.op in {op for rule in DIFFERENT for op in rule.ops}]


@pytest.mark.parametrize("graph", ALONE, ids=lambda row: row.name)
@pytest.mark.parametrize("batch", ["N", "2"])
def test_the_parser_takes_what_tensorrt_alone_runs_in_integers(
    graph: Row, batch: str, make_row: Any, quantize_and_build: Any
) -> None:
    done = quantize_and_build(make_row(graph, batch, True), registry.target("tensorrt"))
    weighted = graph.op == "ConvTranspose"
    assert done.fed_by("s")[: 1 + weighted] == ["DEQUANTIZE"] * (1 + weighted)
    assert done.read_by("s") == ["QUANTIZE"]
    assert done.steps <= 6
