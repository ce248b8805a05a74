"""infopt prune from the command line to the report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from conftest import Cli


@pytest.fixture
def wide(cli: Cli) -> Cli:
    """A folder whose model has layers to prune."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (4, 16)}
    weights = [
        numpy_helper.from_array((rng.standard_normal(s) / np.sqrt(np.prod(s[1:]))).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["b"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["b"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], "last", transB=1),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "g", [image], [out], weights)
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), cli.folder / "wide.onnx"
    )
    np.savez(cli.folder / "wide.npz", x=rng.standard_normal((32, 3, 8, 8)).astype(np.float32))
    return cli


def test_a_pruned_model_comes_with_its_counts_before_and_after(wide: Cli) -> None:
    data = ("--calib", "wide.npz", "--no-eval")
    result = wide("prune", "wide.onnx", "--target", "onnxruntime", "--flops", "0.5", *data, "-o", "out", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    told = dict(choice.split(": ", 1) for step in report["steps"] for choice in step["choices"])
    assert report["model"]["flops"] == 2 * 64 * (16 * 27 + 16 * 144) + 2 * 64
    assert told["operations"].startswith(f"{report['model']['flops']:,} -> ")
    assert told["parameters"].startswith("2,80")
    assert [(each["before"], each["after"], each["unit"]) for each in report["pruned"][:1]] == [(16, 8, "channels")]
    assert report["result"]["flops"] < 0.5 * report["model"]["flops"]
    assert report["result"]["parameters"] < report["model"]["parameters"]
    pruned = onnx.load(wide.folder / "out" / "model.onnx")
    assert {8} >= {t.dims[0] for t in pruned.graph.initializer if t.name == "w2"}


def test_a_share_that_leaves_nothing_is_refused(wide: Cli) -> None:
    arguments = ("--flops", "0", "--calib", "wide.npz")
    wide.refuses("prune", "wide.onnx", "--target", "onnxruntime", *arguments, says=("nothing",))


def test_two_goals_are_refused_before_any_work(wide: Cli) -> None:
    arguments = ("--flops", "0.5", "--params", "0.5", "--calib", "wide.npz")
    wide.refuses("prune", "wide.onnx", "--target", "onnxruntime", *arguments, says=("two goals",))


def test_weights_are_zeroed_by_share(wide: Cli) -> None:
    call = ("prune", "wide.onnx", "--target", "onnxruntime", "--calib", "wide.npz", "--no-eval", "-o", "sparse")
    assert wide(*call, "--kind", "unstructured", "--sparsity", "0.6").code == 0
    weights = [numpy_helper.to_array(i) for i in onnx.load(wide.folder / "sparse" / "model.onnx").graph.initializer]
    zeros, total = (sum(count(w) for w in weights if w.ndim > 1) for count in (lambda w: (w == 0).sum(), np.size))
    assert zeros / total == pytest.approx(0.6, abs=0.05)


def test_two_of_four_is_for_targets_that_have_kernels_for_it(wide: Cli) -> None:
    call = ("prune", "wide.onnx", "--calib", "wide.npz", "--no-eval", "--kind", "2:4", "--force")
    wide.refuses(*call[:-1], "--target", "openvino", says=("no kernels for 2:4", "--target tensorrt"))
    assert wide(*call[:-1], "--target", "tensorrt", "-o", "fit").code == 0
    assert wide(*call, "--target", "onnxruntime", "-o", "forced").code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sparsity", "0.5"), "--sparsity has no use with --kind structured"),
        (("--kind", "unstructured", "--flops", "0.5"), "--flops is a goal of the kind structured"),
    ],
)
def test_goals_that_a_kind_does_not_have_are_refused(wide: Cli, options: tuple[str, ...], words: str) -> None:
    call = ("prune", "wide.onnx", "--target", "onnxruntime", "--calib", "wide.npz", "--no-eval")
    wide.refuses(*call, *options, says=(words,))
