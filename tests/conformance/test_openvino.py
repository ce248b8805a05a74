"""What OpenVINO makes of each row of its table, read from the runtime model of what it compiled."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from infopt import registry
from infopt.errors import RuntimeRefused
from infopt.targets.openvino import IN_FRONT, TABLE

if TYPE_CHECKING:
    from infopt.target import Artifact

pytest.importorskip("openvino")

TARGET = "openvino"

UNPROVEN: dict[str, str] = {}
"""Rows that do not run in integers, with what was seen."""

LEFT = {
    "ConvTranspose grouped", "Add constant", "Mul constant", "Mul per channel", "Mul gate", "Resize linear",
    "Gather of an embedding", "MatMul of computed tensors", "MatMul in attention",
}  # fmt: skip
"""Graphs that a condition leaves in float, or that have no layer of their own."""

ABLE = {
    "Add constant", "Mul constant", "Gather of an embedding", "InstanceNormalization", "MatMul of computed tensors",
    "MatMul in attention",
}  # fmt: skip
"""Those among them for which there is an integer kernel in some surroundings, which does not pay."""

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
    kind = KINDS.get(float_row.op)
    here = [each for each in layers(done.artifact) if (each.kind == kind if kind else "s" in each.nodes)]
    assert here or float_row.op == "Einsum"
    if float_row.name not in ABLE:
        assert not {each.reads for each in here}.intersection(INTEGERS)


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
