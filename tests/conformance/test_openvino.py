"""What OpenVINO makes of each row of its table, read from the runtime model of what it compiled."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from infopt import registry
from infopt.target import Role
from infopt.targets.openvino import TABLE

if TYPE_CHECKING:
    from infopt.target import Artifact

pytest.importorskip("openvino")

TARGET = "openvino"

UNPROVEN = {"Add constant: any batch, signed": "both operands are converted to f32 for an Eltwise in f32"}
"""Rows that do not run in integers, with what was seen."""

LEFT: set[str] = {"MatMul by several matrices", "MatMul of computed tensors", "MatMul in attention"}
"""Graphs that a condition leaves in float."""


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
    """The layer that a node became or was fused into."""
    return next(each for each in found if node in each.nodes)


def test_every_row_of_the_table_has_a_graph(proven_ops: set[str]) -> None:
    assert {op for rule in TABLE.rules for op in rule.ops} <= proven_ops


INTEGERS = ("u8", "i8")
COMPUTE = {op for rule in TABLE.rules if rule.role is Role.COMPUTE for op in rule.ops}


def test_the_operator_runs_in_integers(row: Any, around: tuple[str, bool], make_row: Any, run_quantized: Any) -> None:
    done = run_quantized(make_row(row, *around), TARGET)
    found = layers(done.artifact)
    assert (done.kernels.integer, done.kernels.float_nodes) == (done.kernels.total, ())
    assert done.kernels.total >= 1
    assert done.steps <= 6
    here = layer(found, "y" if row.op in COMPUTE else "p" if "then Relu" in row.name else "s")
    assert here.reads in INTEGERS, here
    if row.op not in COMPUTE:
        assert here.gives in INTEGERS, here
        assert layer(found, "y").reads in INTEGERS


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


MOVING = {
    "MaxPool": ("s = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)", {}, "16,4,4"),
    "Transpose": ("s = Transpose<perm=[0,1,3,2]>(a)", {}, "16,8,8"),
    "Reshape": ("s = Reshape(a, k)", {"k": np.array([0, 16, 16, 4])}, "16,16,4"),
    "Concat": ("s = Concat<axis=1>(a, a)", {}, "16,8,8"),
}

BETWEEN = {"Subgraph", "FakeQuantize", "Convert", "Eltwise"}
"""Layers that requantize."""


@pytest.mark.parametrize("op", MOVING)
@pytest.mark.parametrize(
    "signed",
    [
        pytest.param(False, id="after Relu"),
        pytest.param(
            True, id="signed",
            marks=pytest.mark.xfail(
                strict=True,
                reason="with a zero point other than 0 the pair behind becomes a pass over the data (Subgraph)",
            ),
        ),
    ],
)  # fmt: skip
def test_nothing_is_requantized_around_what_only_moves(build: Any, run_quantized: Any, op: str, signed: bool) -> None:
    middle, weights, shape = MOVING[op]
    conv = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
    first = f"a = {conv}(x, w, b)" if signed else f"_a = {conv}(x, w, b)  a = Relu(_a)"
    last = (16, 32 if op == "Concat" else 16, 3, 3)
    text = f"(float[2,3,8,8] x) => (float[2,{shape}] y) {{ {first}  {middle}  y = {conv}(s, v, d) }}"
    done = run_quantized(build(text, w=(16, 3, 3, 3), b=(16,), v=last, d=(16,), **weights), TARGET)
    extra = [each for each in layers(done.artifact) if each.kind in BETWEEN and "x:Q" not in each.nodes]
    assert extra == []


def test_only_the_products_with_weights_of_an_attention_run_in_integers(build: Any, run_quantized: Any) -> None:
    text = """(float[2,6,16] x) => (float[2,6,16] y) {
        q = MatMul(x, wq)  k = MatMul(x, wk)  t = Transpose<perm=[0,2,1]>(k)  a = MatMul(q, t)
        p = Softmax<axis=-1>(a)  v = MatMul(x, wv)  o = MatMul(p, v)  y = MatMul(o, wo) }"""
    done = run_quantized(build(text, **dict.fromkeys(["wq", "wk", "wv", "wo"], (16, 16))), TARGET)
    found = layers(done.artifact)
    assert [layer(found, name).reads for name in "qkvy"] == ["u8"] * 4
    assert [layer(found, name).reads for name in "ao"] == ["f32"] * 2
    assert done.kernels.integer == 4
