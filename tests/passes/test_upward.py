"""Transposed convolutions with their pads spelled out give what they gave, and in every runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from infopt import registry
from infopt.model import Model, save
from infopt.target import CompileOptions
from infopt_passes.fitting.layout import layout
from infopt_passes.simplify import Simplify
from infopt_passes.simplify.upward import spell_out_padding

WEIGHT = np.random.default_rng(3).standard_normal((4, 3, 5, 5)).astype(np.float32)


def up(attributes: dict[str, Any], kernel: int = 3, height: int | str = 5) -> Model:
    """One layer, of pictures of 5 rows and 4 columns; OpenVINO is wrong where a size such as the batch is not known."""
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", **attributes)
    taken = helper.make_tensor_value_info("x", 1, ["N", 4, height, 4])
    given = helper.make_tensor_value_info("y", 1, ["N", 3 * attributes.get("group", 1), "H", "W"])
    weight = numpy_helper.from_array(np.ascontiguousarray(WEIGHT[:, :, :kernel, :kernel]), "w")
    graph = helper.make_graph([node], "g", [taken], [given], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Model(ir.from_proto(proto), Path("model.onnx"))


def spelled_out(model: Model) -> Model:
    clone = model.graph.clone()
    spell_out_padding(clone.graph)
    return model.edited(clone)


FEED = {"x": np.random.default_rng(0).standard_normal((1, 4, 5, 4)).astype(np.float32)}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    more=st.integers(0, 2),
    group=st.sampled_from([1, 2]),
    mode=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    less=st.none() | st.tuples(st.integers(-1, 3), st.integers(0, 3)),
)
def test_any_padding_is_the_same_spelled_out(run_float: Any, **case: Any) -> None:
    kernel, stride, dilation, more, mode = (case[n] for n in ("kernel", "stride", "dilation", "more", "mode"))
    natural = [(n - 1) * stride + (kernel - 1) * dilation + 1 + more for n in (5, 4)]
    assume(more < stride)
    attributes = {"strides": [stride] * 2, "dilations": [dilation] * 2, "output_padding": [more] * 2, "auto_pad": mode}
    if case["less"] is not None:
        sizes = [n - fewer for n, fewer in zip(natural, case["less"], strict=True)]
        assume(min(sizes) > 0)
        attributes["output_shape"] = sizes
    model = up(attributes | {"group": case["group"]}, kernel)
    try:
        (expected,) = run_float(model, FEED).values()
    except Exception:  # the runtime refuses the combination
        assume(False)
    result = spelled_out(model)
    (node,) = result.graph.graph
    beyond = case["less"] is not None and case["less"][0] < 0
    plain = mode == "NOTSET" and case["less"] is None
    if not beyond and not plain and (mode in ("NOTSET", "VALID") or "output_shape" in attributes):
        assert node.attributes.keys().isdisjoint({"output_shape", "auto_pad"})
    (got,) = run_float(result, FEED).values()
    assert got.shape == expected.shape
    assert got == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("attributes", [{"output_shape": [10, 8]}, {"auto_pad": "SAME_UPPER"}])
def test_openvino_gives_what_onnx_means(run_float: Any, tmp_path: Path, attributes: dict[str, Any]) -> None:
    pytest.importorskip("openvino")
    model = up({"strides": [2, 2], **attributes})
    (expected,) = run_float(model, FEED).values()
    target, right = registry.target("openvino"), []
    for i, each in enumerate((model, spelled_out(model))):
        folder = tmp_path / str(i)
        folder.mkdir()
        save(each.graph, folder / "model.onnx")
        artifact = target.compile(folder / "model.onnx", folder, CompileOptions({"INFERENCE_PRECISION_HINT": "f32"}))
        with target.open(artifact) as session:
            (got,) = session.run(FEED)
        right.append(got.shape == expected.shape and bool(np.allclose(got, expected, atol=1e-4)))
    assert right == [False, True]


def test_a_size_that_is_not_known_leaves_the_layer_as_it_was() -> None:
    model = up({"strides": [2, 2], "output_shape": [10, 8]}, height="H")
    assert spell_out_padding(model.graph.clone().graph) == 0
    same = up({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, height="H").graph
    assert spell_out_padding(same.graph) == 1
    assert list(next(iter(same.graph)).attributes["pads"].as_ints()) == [0, 0, 1, 1]


def test_simplify_spells_out_and_the_layer_can_be_fitted(make_context: Any) -> None:
    model = up({"strides": [2, 2], "output_shape": [10, 8]})
    (before,) = model.graph.graph
    (after,) = Simplify()(model, make_context(model)).graph.graph
    assert layout(before) is None
    assert layout(after) is not None
