"""infopt prune from the command line to the report."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from passes.architectures import Net

from infopt.model import save

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_latency_is_measured_on_samples_so_they_are_asked_for_before_any_work(wide: Cli) -> None:
    call = ("prune", "wide.onnx", "--target", "onnxruntime", "--importance", "magnitude", "--recover", "none")
    wide.refuses(*call, "--latency", "0.5", says=("there are no calibration samples", "--synthetic"))


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
    forced = wide(*call, "--target", "onnxruntime", "-o", "forced", "--json")
    assert forced.code == 0
    assert any("no kernels for 2:4 sparse weights" in each for each in json.loads(forced.out)["warnings"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sparsity", "0.5"), "--sparsity has no use with --kind structured"),
        (("--kind", "unstructured", "--flops", "0.5"), "--flops is a goal of the kind structured"),
        (("--kind", "unstructured", "--steps", "3"), "--steps has no use with --kind unstructured"),
        (("--kind", "unstructured", "--multiple", "16"), "--multiple has no use with --kind unstructured"),
        (("--kind", "unstructured", "--importance", "magnitude"), "--importance has no use with --kind unstructured"),
        (("--kind", "unstructured", "--recover", "none"), "--recover none has no use with --kind unstructured"),
        (("--flops", "0.5", "--epochs", "3"), "--epochs has no use with --recover lsq"),
        (("--latency", "0.5", "--multiple", "64"), "no layer can lose channels or units in steps of --multiple 64"),
        (("--flops", "0.5", "--multiple", "64"), "no layer can lose channels or units in steps of --multiple 64"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(wide: Cli, options: tuple[str, ...], words: str) -> None:
    call = ("prune", "wide.onnx", "--target", "onnxruntime", "--calib", "wide.npz", "--no-eval")
    wide.refuses(*call, *options, says=(words,))


BUDGET = """
model = "wide.onnx"
target = "onnxruntime"
output = "out"
[calibration]
data = "wide.npz"
[evaluation]
data = "labelled.npz"
skip_bench = true
[budget]
max_drop = 0.1
[[pass]]
use = "prune"
"""


@pytest.fixture
def labelled(wide: Cli) -> Cli:
    """The wide model with coloured samples that it labels itself."""
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((632, 3, 8, 8)) + 3 * rng.standard_normal((632, 3, 1, 1))).astype(np.float32)
    np.savez(wide.folder / "wide.npz", x=x[600:])
    x = x[:600]
    session = onnxruntime.InferenceSession(wide.folder / "wide.onnx", providers=["CPUExecutionProvider"])
    np.savez(wide.folder / "labelled.npz", x=x, labels=session.run(None, {"x": x})[0].argmax(axis=1))
    return wide


def told_of(report: dict[str, Any]) -> dict[str, str]:
    return dict(choice.split(": ", 1) for step in report["steps"] for choice in step["choices"])


SEARCHES = {
    "structured": ("--multiple", "1"),
    "unstructured": ("--kind", "unstructured"),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_the_budget_says_how_much_goes_and_other_samples_confirm_it(labelled: Cli, kind: str) -> None:
    data = ("--calib", "wide.npz", "--eval", "labelled.npz", "--no-bench", "--max-drop", "3%", "-o", "out")
    result = labelled("prune", "wide.onnx", "--target", "onnxruntime", *data, *SEARCHES[kind], "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    used, told = report["data"]["eval"], told_of(report)
    assert used["samples"] + used["search"] == 600
    assert report["accuracy"]["n"] == used["samples"] < 400
    assert (
        f"within 0.0300 on {used['search']} evaluation samples that chose it; {used['samples']} others confirm"
        in (told["largest cut"])
    )
    cuts = [why for what, why in told.items() if what.startswith("cut ")]
    assert any(why.endswith(": kept") for why in cuts)
    assert any(why.endswith("not kept") for why in cuts), "one that goes further was tried"
    assert sum(each["before"] - each["after"] for each in report["pruned"] if each["before"]) > 0


def again(cli: Cli, *options: str, name: str = "wide") -> tuple[dict[str, Any], dict[str, Any]]:
    """The report of a run, and that of its recipe, which makes the same graph without a search of its own."""
    call = ("prune", f"{name}.onnx", "--target", "onnxruntime", "--calib", f"{name}.npz", "-o", "out", "--json")
    first = cli(*call, *options)
    second = cli("run", "out/recipe.toml", "-o", "again", "--json")
    assert first.code == second.code, second.err
    graphs = [(cli.folder / name / "model.onnx").read_bytes() for name in ("out", "again")]
    assert graphs[0] == graphs[1]
    reports = json.loads(first.out), json.loads(second.out)
    assert reports[0]["steps"][-1]["options"] == reports[1]["steps"][-1]["options"]
    assert not [what for what in told_of(reports[1]) if what.startswith(("cut ", "largest cut"))]
    assert reports[0]["pruned"] == reports[1]["pruned"]
    return reports


@pytest.mark.parametrize("kind", SEARCHES)
def test_the_recipe_of_a_search_holds_what_was_found(labelled: Cli, kind: str) -> None:
    budget = ("--eval", "labelled.npz", "--no-bench", "--max-drop", "3%")
    first, second = again(labelled, *budget, *SEARCHES[kind])
    assert "largest cut" in told_of(first)
    recipe = tomllib.loads((labelled.folder / "out" / "recipe.toml").read_text())
    step = recipe["pass"][-1]
    assert 0 < step["flops" if kind == "structured" else "sparsity"] < 1
    assert recipe["budget"]["max_drop"] == 0.03, "the gate asks for it as before"
    assert first["accuracy"] == second["accuracy"]
    assert first["data"]["eval"] == second["data"]["eval"], "what chose confirms nothing later"


@pytest.mark.parametrize("kind", SEARCHES)
def test_samples_that_chose_are_held_back_by_the_recipe_too(wide: Cli, kind: str) -> None:
    first, second = again(wide, "--no-eval", "--max-drop", "50%", *SEARCHES[kind])
    assert first["data"]["calib"] == second["data"]["calib"]
    assert first["data"]["calib"]["samples"] == 24


def test_a_search_whose_end_is_the_least_that_can_be_kept_is_repeated(wide: Cli) -> None:
    first, _ = again(wide, "--no-eval", "--max-drop", "100%", "--steps", "3", "--multiple", "4")
    share = first["steps"][-1]["options"]["flops"]
    assert share > 0.02, "all layers keep some channels"
    assert first["pruned"][0]["after"] == 4


def test_a_search_that_found_nothing_is_repeated_too(labelled: Cli) -> None:
    first, second = again(labelled, "--eval", "labelled.npz", "--no-bench", "--max-drop", "0", "--recover", "none")
    assert "no cut keeps" in "".join(first["warnings"])
    assert (first["steps"][-1]["options"]["flops"], second["pruned"]) == (1.0, [])


def test_the_recipe_of_a_goal_in_latency_holds_the_share_that_was_measured(
    wide: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infopt_passes.prune.timed.SECONDS", 0.1)
    net = Net("N", 3, 32, 32)
    model = net.model(net.head(net.act(net.conv(net.act(net.conv(net.act(net.conv("x", 64)), 64)), 64))))
    save(model.graph, wide.folder / "slow.onnx")
    np.savez(wide.folder / "slow.npz", x=np.random.default_rng(0).standard_normal((16, 3, 32, 32)).astype(np.float32))
    first, _ = again(wide, "--latency", "0.8", "--no-eval", "--recover", "none", name="slow")
    options = first["steps"][-1]["options"]
    assert "latency" not in options
    assert 0 < options["flops"] < 1
    monkeypatch.setattr("infopt_passes.prune.timed.share_for", None)
    assert wide("run", "out/recipe.toml", "-o", "third").code == 0, "nothing is measured"


def test_a_recipe_whose_budget_is_the_goal_runs(labelled: Cli) -> None:
    (labelled.folder / "recipe.toml").write_text(BUDGET)
    result = labelled("run", "recipe.toml", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["data"]["eval"]["search"] > 200
    assert "largest cut" in told_of(report)


def test_a_goal_that_was_given_is_not_searched(labelled: Cli) -> None:
    data = ("--calib", "wide.npz", "--eval", "labelled.npz", "--no-bench", "--max-drop", "90%", "-o", "out")
    result = labelled("prune", "wide.onnx", "--target", "onnxruntime", *data, "--flops", "0.5", "--json")
    report = json.loads(result.out)
    assert (report["data"]["eval"]["search"], report["accuracy"]["n"]) == (0, 600)


def test_a_budget_that_no_cut_keeps_leaves_the_model_and_says_so(labelled: Cli) -> None:
    data = ("--calib", "wide.npz", "--eval", "labelled.npz", "--no-bench", "--max-drop", "0", "-o", "out")
    result = labelled("prune", "wide.onnx", "--target", "onnxruntime", *data, "--recover", "none", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["pruned"] == []
    assert report["accuracy"]["drop"] == 0
    assert any("no cut keeps a drop of top1 of at most 0.0000" in each for each in report["warnings"])
    assert any("samples are too few to show with 95% confidence" in each for each in report["warnings"])


def test_without_labels_the_bound_is_on_the_distance_to_the_float_model(wide: Cli) -> None:
    data = ("--calib", "wide.npz", "--no-eval", "--max-drop", "50%", "-o", "out")
    result = wide("prune", "wide.onnx", "--target", "onnxruntime", *data, "--json")
    assert result.code == 3, "a drop that was demanded was not measured on labels"
    report = json.loads(result.out)
    assert "drop of agreement with the float model stays" in told_of(report)["largest cut"]
    assert any("no labels said what is right" in each for each in report["warnings"])
    assert report["data"]["calib"]["samples"] == 24


def saved(cli: Cli, nodes: list[onnx.NodeProto], shapes: dict[str, list[Any]], **weights: Any) -> None:
    """Save ``other.onnx``, of x to y."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(np.asarray(w, np.float32), name) for name, w in weights.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, cli.folder / "other.onnx")
    x = np.random.default_rng(0).standard_normal((32, *shapes["x"][1:])).astype(np.float32)
    np.savez(cli.folder / "other.npz", x=x)


def test_a_ratio_that_would_empty_a_layer_is_refused_with_what_can_be_had(wide: Cli) -> None:
    words = ("no less than", "without emptying a layer", "give --flops 0.")
    call = ("prune", "wide.onnx", "--target", "onnxruntime", "--calib", "wide.npz", "--no-eval")
    wide.refuses(*call, "--flops", "0.001", says=words)


def test_a_model_with_nothing_to_prune_is_refused_with_what_is_in_the_way(wide: Cli) -> None:
    saved(
        wide, [helper.make_node("MatMul", ["x", "w"], ["y"], "only")], {"x": ["N", 4], "y": ["N", 2]}, w=np.ones((4, 2))
    )
    call = ("prune", "other.onnx", "--target", "onnxruntime", "--calib", "other.npz", "--no-eval")
    says = ("nothing can be pruned", "'y' is an output of the model", "--kind unstructured")
    wide.refuses(*call, "--flops", "0.5", says=says)
    wide.refuses(*call, "--max-drop", "50%", says=says)


def test_a_model_without_weights_is_not_sent_to_prune_its_weights(wide: Cli) -> None:
    saved(wide, [helper.make_node("Relu", ["x"], ["y"], "only")], {"x": ["N", 4], "y": ["N", 4]})
    call = ("prune", "other.onnx", "--target", "onnxruntime", "--calib", "other.npz", "--no-eval", "--flops", "0.5")
    wide.refuses(*call, says=("nothing can be pruned: it has no weights",))
    assert "unstructured" not in wide(*call).err


def test_an_int8_model_is_refused(cli: Cli, quantized: Path) -> None:
    call = ("prune", quantized / "model.onnx", "--target", "onnxruntime", "--calib", "calib.npz", "--no-eval")
    for kind in ("structured", "unstructured", "2:4"):
        cli.refuses(
            *call, "--kind", kind, *(["--force"] if kind == "2:4" else []), says=("is quantized", "prune the float")
        )


def test_samples_that_are_too_few_are_told_of_or_refused(wide: Cli) -> None:
    x = np.load(wide.folder / "wide.npz")["x"]
    np.savez(wide.folder / "few.npz", x=x[:6])
    call = ("prune", "wide.onnx", "--target", "onnxruntime", "--calib", "few.npz", "--no-eval")
    result = wide(*call, "--flops", "0.5", "-o", "out", "--json")
    assert result.code == 0
    assert any("needs at least 16 samples" in each for each in json.loads(result.out)["warnings"])
    wide.refuses(*call, "--max-drop", "1%", says=("too few to choose by", "--flops 0.5"))


def test_what_is_not_finite_is_rolled_back_to_the_last_good_step(wide: Cli) -> None:
    first = np.zeros((4, 4))
    first[0] = [2e37, -1.99e37, 0, 0]
    first[1:, 2:] = 1
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "v"], ["s"], "second"),
        helper.make_node("Mul", ["s", "k"], ["y"], "third"),
    ]
    saved(wide, nodes, {"x": ["N", 4], "y": ["N", 1]}, w=first, v=np.ones((4, 1)), k=300.0)
    goal = ("--flops", "0.25", "--steps", "2", "--multiple", "1", "--importance", "magnitude")
    call = ("prune", "other.onnx", "--target", "onnxruntime", "--calib", "other.npz", "--no-eval", "-o", "out")
    result = wide(*call, *goal, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert any("rolled back" in each for each in report["warnings"])
    for initializer in onnx.load(wide.folder / "out" / "model.onnx").graph.initializer:
        assert np.isfinite(numpy_helper.to_array(initializer)).all()


def test_zeros_are_counted_and_the_compressed_artifact_is_told(labelled: Cli) -> None:
    data = ("--calib", "wide.npz", "--eval", "labelled.npz", "--no-bench", "-o", "out")
    call = ("prune", "wide.onnx", "--target", "onnxruntime", "--kind", "unstructured", "--sparsity", "0.8")
    result = labelled(*call, *data)
    assert result.code == 0, result.err
    report = json.loads((labelled.folder / "out" / "report.json").read_text())
    size = report["size"]
    assert size["candidate_compressed_bytes"] < 0.7 * size["baseline_compressed_bytes"]
    assert "As an archive holds it: compressed" in result.out
    assert "of the weights of 3 layers are zero" in result.out
    assert all(each["unit"] == "weights" and each["after"] < each["before"] for each in report["pruned"])


@pytest.mark.parametrize("view", ["terminal", "report.md", "report.html"])
def test_a_person_reads_what_shrank_and_what_stayed(labelled: Cli, view: str) -> None:
    data = ("--calib", "wide.npz", "--eval", "labelled.npz", "--no-bench", "-o", "out")
    result = labelled("prune", "wide.onnx", "--target", "onnxruntime", "--flops", "0.5", *data)
    shown = result.out if view == "terminal" else (labelled.folder / "out" / view).read_text()
    plain = re.sub(r"[`|\s]+|<[^>]*>", " ", shown.replace("&#39;", "'"))
    assert re.search(r"\ba +channels +16 +8 +50\.0 %", plain)
    assert re.search(r"'?y'? is an output of the model +1 +last", plain)
    assert "Operations of a sample: 350,336 ->" in " ".join(plain.split()).replace("&gt;", ">").replace("-&#62;", "->")
