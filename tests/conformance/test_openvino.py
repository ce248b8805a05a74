"""What OpenVINO makes of each row of its table, read from the runtime model of what it compiled."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest

from infopt import registry
from infopt.errors import RuntimeRefused
from infopt.target import Role, Rule
from infopt.targets.openvino import IN_FRONT, TABLE

if TYPE_CHECKING:
    from infopt.target import Artifact

pytest.importorskip("openvino")

TARGET = "openvino"

UNPROVEN: dict[str, str] = {}
"""Rows that do not run in integers, with what was seen."""

LEFT = {
    "ConvTranspose grouped", "Add constant", "Mul constant", "Mul per channel", "Mul gate", "Resize linear",
    "Gather of an embedding", "MatMul of computed tensors", "MatMul in attention", "MatMul by several matrices",
}  # fmt: skip
"""Graphs that a condition leaves in float, or that have no layer of their own."""

ABLE = {
    "Add constant", "Mul constant", "Gather of an embedding", "InstanceNormalization", "MatMul of computed tensors",
    "MatMul in attention", "MatMul by several matrices",
}  # fmt: skip
"""Those among them for which there is an integer kernel in some surroundings, which does not pay or is wrong."""

FOLDED = {"Pad", "Gather"}
"""Graphs whose operator becomes part of the layer behind."""

KINDS = {"InstanceNormalization": "MVN", "LayerNormalization": "MVN", "LSTM": "RNNSeq", "GRU": "RNNSeq"}
"""The runtime's own names of layer types, where the layer does not bear the node's name."""

ALONG = {"Mul per channel", "Mul gate"}
"""Those among them that run in the kernel of the layer before them."""


@dataclass(frozen=True)
class Layer:
    """A layer of the runtime model.

    Attributes:
        kind: The runtime's layer type.
        reads: Precision that it computes in, which is that of the data it reads.
        gives: Precision of its output.
        primitive: The kernel.
        nodes: Names of the ONNX nodes in it.
    """

    kind: str
    reads: str
    gives: str
    primitive: str
    nodes: tuple[str, ...]


def layers(artifact: Artifact) -> list[Layer]:
    """The layers that the runtime compiles an artifact to."""
    import openvino as ov

    compiled = ov.Core().compile_model(os.fspath(artifact.main), "CPU", dict(artifact.settings))
    found = []
    for op in compiled.get_runtime_model().get_ops():
        info = op.get_rt_info()
        keys = "layerType", "runtimePrecision", "outputPrecisions", "primitiveType", "originalLayersNames"
        kind, reads, gives, primitive, names = (info[key].astype(str) if key in info else "" for key in keys)
        # A bias moves to a node of its own before it is fused again; what is left has this suffix.
        nodes = tuple(name.removesuffix("/WithoutBiases") for name in names.split(","))
        found.append(Layer(kind, reads, gives, primitive, nodes))
    return found


def layer(found: list[Layer], node: str) -> Layer:
    """The layer that a node became or was fused into, alone or with the Q behind it."""
    # What is left of a node whose zero point's part or bias runs apart has the suffix.
    for names in ({f"{node}_original"}, {node, f"{node}:Q"}):
        for each in found:
            if names.intersection(each.nodes):
                return each
    raise AssertionError(f"{node} is in none of {found}")


def test_every_row_of_the_table_has_a_graph(proven_ops: set[str]) -> None:
    assert {op for rule in TABLE.rules for op in rule.ops} <= proven_ops


INTEGERS = ("u8", "i8")
BETWEEN = {"Subgraph", "FakeQuantize", "Convert", "Eltwise"}
"""Layers that requantize."""


def test_the_operator_runs_in_integers(row: Any, around: tuple[str, bool], make_row: Any, run_quantized: Any) -> None:
    done = run_quantized(make_row(row, *around), TARGET)
    found = layers(done.artifact)
    assert (done.kernels.integer, done.kernels.float_nodes) == (done.kernels.total, ())
    assert done.kernels.total >= 1
    assert done.steps <= 6
    assert done.astray <= 2.5
    last = layer(found, "y")
    assert last.reads in INTEGERS
    if row.name in FOLDED:
        assert not [each for each in found if each.kind == row.op]
    elif row.middle:
        here = layer(found, "p" if "then Relu" in row.name else "s")
        assert {here.reads, here.gives} <= set(INTEGERS), here
    between = [each for each in found if each.kind in BETWEEN and not {"x:Q", "s", "y"}.intersection(each.nodes)]
    assert between == []


def test_what_stays_in_float_has_no_integer_kernel_or_runs_along(
    float_row: Any, around: tuple[str, bool], make_row: Any, run_quantized: Any, forced: Any
) -> None:
    rule = TABLE.rule(float_row.op, float_row.computed)
    assert rule is not None
    assert rule.why or float_row.name in LEFT
    model = make_row(float_row, *around)
    if rule.why == IN_FRONT or float_row.name in ALONG:
        _runs_in_the_layer_before_it(run_quantized(model, TARGET))
        return
    try:
        done = run_quantized(model, forced(registry.target(TARGET), float_row))
    except RuntimeRefused:
        return
    kind, node = KINDS.get(float_row.op), "s" if float_row.middle or " s = " in float_row.whole else "y"
    here = [each for each in layers(done.artifact) if (each.kind == kind if kind else node in each.nodes)]
    assert here or float_row.op == "Einsum"
    if float_row.name not in ABLE:
        assert not {each.reads for each in here}.intersection(INTEGERS)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # in what is wrong, anything may stand
@pytest.mark.parametrize("stack", [(3,), (1,)])
def test_a_stack_of_matrices_is_wrong_behind_a_relu_and_one_matrix_is_not(
    build: Any, run_quantized: Any, stack: tuple[int, ...]
) -> None:
    """Which is why the table leaves it in float; with a zero point other than 0 it is right."""
    text = "(float[N,3,5,16] x) => (float[N,3,5,32] y) { a = MatMul(x, v)  r = Relu(a)  y = MatMul(r, w) }"
    model = build(text, v=(16, 16), w=(*stack, 16, 32))
    forced = replace(TABLE, rules=(Rule(("MatMul",), Role.COMPUTE), *TABLE.rules))
    done = run_quantized(model, replace(registry.target(TARGET), table=forced))  # type: ignore[type-var]
    assert (done.kernels.integer, done.kernels.total) == (2, 2)
    assert (done.astray > 100) is (stack == (3,))
    done = run_quantized(model, TARGET)
    assert done.kernels.integer == (1 if stack == (3,) else 2)
    assert done.astray <= 2.5


def _runs_in_the_layer_before_it(done: Any) -> None:
    found = layers(done.artifact)
    assert done.astray <= 2.5
    (first,) = (each for each in found if "s:Q" in each.nodes)
    assert (first.kind, first.reads, first.gives) == ("Convolution", "u8", "u8")
    assert layer(found, "y").reads == "u8"


@pytest.mark.parametrize("setting", registry.target(TARGET).settings("int8"))
def test_every_setting_for_integers_compiles_and_keeps_them(build: Any, run_quantized: Any, setting: str) -> None:
    conv = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
    text = f"""(float[2,3,8,8] x) => (float[2,5] y) {{
        a = {conv}(x, w, b)  r = Relu(a)  c = {conv}(r, v, d)  s = Add(c, r)  t = Relu(s)
        g = GlobalAveragePool(t)  f = Flatten(g)  y = Gemm<transB=1>(f, u, e) }}"""
    weights = {"w": (16, 3, 3, 3), "b": (16,), "v": (16, 16, 3, 3), "d": (16,), "u": (5, 16), "e": (5,)}
    done = run_quantized(build(text, **weights), TARGET, setting)
    assert (done.kernels.integer, done.kernels.total) == (3, 3)
    assert done.steps <= (6 if setting.endswith("f32") else 12)


CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
UP = "ConvTranspose<kernel_shape=[2,2], strides=[2,2]>"
POOL = "MaxPool<kernel_shape=[2,2], strides=[2,2]>"

PATTERNS = {
    "residual blocks": (f"""
        c = {CONV}(a, w, b)  r = Relu(c)  d = {CONV}(r, w, b)  e = Add(d, a)  f = Relu(e)
        g = {CONV}(f, w, b)  h = Relu(g)  i = {CONV}(h, w, b)  j = Add(i, f)  s = Relu(j)""", 4),
    "a downsampling block": (f"""
        c = {CONV}(a, w, b)  r = Relu(c)  d = {CONV}(r, w, b)  e = {CONV}(a, w, b)  f = Add(d, e)  s = Relu(f)""", 3),
    "a gated residual block": (f"""
        c = {CONV}(a, w, b)  p = Sigmoid(c)  d = Mul(c, p)  e = {CONV}(d, w, b)  q = Sigmoid(e)  f = Mul(e, q)
        s = Add(f, a)""", 2),
    "joined gates": (f"""
        c = {CONV}(a, w, b)  p = Sigmoid(c)  d = Mul(c, p)  e = {CONV}(d, w, b)  q = Sigmoid(e)  f = Mul(e, q)
        j = Concat<axis=1>(d, f)  k = {POOL}(j)  s = {CONV}(k, wide, b)""", 3),
    "a U": (f"""
        r = Relu(a)  p = {POOL}(r)  c = {CONV}(p, w, b)  u = {UP}(c, up, b)  j = Concat<axis=1>(r, u)
        s = {CONV}(j, wide, b)""", 3),
    "padding in front of a pool": (f"r = Relu(a)  p = Pad(r, ends)  m = {POOL}(p)  s = {CONV}(m, w, b)", 1),
    "a head": (f"c = {CONV}(a, w, b)  r = Relu(c)  d = {CONV}(r, w, b)  e = Add(d, a)  s = GlobalAveragePool(e)", 2),
    "a convolution without bias that is read in float, too": (f"c = {CONV}(a, w)  t = Tanh(a)  s = Add(c, t)", 1),
}  # fmt: skip
"""Nodes between a first convolution that gives ``a`` and a last one that reads ``s``, and compute layers in them."""


@pytest.mark.parametrize("batch", ["2", "N"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_runs_in_integers_and_right(build: Any, run_quantized: Any, pattern: str, batch: str) -> None:
    nodes, compute = PATTERNS[pattern]
    text = (
        f"(float[{batch},3,8,8] x) => (float[{batch},4,H,W] y) {{ a = {CONV}(x, first) {nodes} y = {CONV}(s, last) }}"
    )
    weights = {"first": (16, 3, 3, 3), "last": (4, 16, 3, 3)}
    known = {
        "w": (16, 16, 3, 3), "b": (16,), "up": (16, 16, 2, 2), "wide": (16, 32, 3, 3),
        "ends": np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
    }  # fmt: skip
    used = {name: value for name, value in known.items() if f" {name})" in nodes or f" {name}," in nodes}
    done = run_quantized(build(text, **weights, **used), TARGET)
    found = layers(done.artifact)
    assert done.kernels.integer == done.kernels.total == compute + 2
    assert done.astray <= 2.5
    assert done.steps <= 6
    single = [each for each in found if each.kind == "Convolution" and "y" not in " ".join(each.nodes)]
    if "float, too" not in pattern and pattern != "a gated residual block":
        assert {each.gives for each in single} <= set(INTEGERS)
        assert not [each for each in found if each.kind in BETWEEN and "x:Q" not in each.nodes]


def test_without_vnni_no_weight_is_so_large_that_sums_of_16_bits_saturate(build: Any, run_quantized: Any) -> None:
    text = f"(float[2,3,8,8] x) => (float[2,16,8,8] y) {{ a = {CONV}(x, w, b)  r = Relu(a)  y = {CONV}(r, v, c) }}"
    model = build(text, w=(16, 3, 3, 3), b=(16,), v=(16, 16, 3, 3), c=(16,))
    done = run_quantized(model, registry.target(TARGET, "avx2"))
    stored = [value.const_value.numpy() for name, value in done.result.graph.graph.initializers.items()
              if name.endswith(":quantized") and value.dtype == ir.DataType.INT8]  # fmt: skip
    assert len(stored) == 2
    assert {int(np.abs(array).max()) for array in stored} == {63}
    assert done.kernels.integer == done.kernels.total == 2
    assert done.astray <= 2.5
