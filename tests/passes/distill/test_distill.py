"""Distillation of pruned models: nearer to the float model, the same for a seed, and picked up after interruptions."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passes.architectures import Net

from infopt import registry
from infopt.data import Batch, infer_batch_axes, open_samples
from infopt.errors import OptionError
from infopt.flops import flops
from infopt.model import Model, input_specs
from infopt.options import build
from infopt.passes import CalibrationSet, Context, interface
from infopt.readers.synthetic import SyntheticSamples
from infopt.selection import Trial
from infopt.sparsity import has_pattern
from infopt_passes.prune import Prune
from infopt_passes.prune.cutting.prepare import prepared
from infopt_passes.prune.search import largest

if TYPE_CHECKING:
    from conftest import Build, MakeContext, RunFloat

    from infopt.selection import Selection

torch = pytest.importorskip("torch", reason="distillation needs torch")

from infopt_passes.prune.distill import checkpoint, run, training  # noqa: E402 - they import torch
from infopt_passes.prune.distill.batches import Batches  # noqa: E402
from infopt_passes.prune.distill.loss import Aim, cross_entropy, distance  # noqa: E402
from infopt_passes.prune.distill.parameters import trained  # noqa: E402
from infopt_passes.prune.distill.run import distilled  # noqa: E402
from infopt_passes.prune.distill.teacher import powers  # noqa: E402

DISTILL = Prune(flops=0.4, multiple=4, recover="distill", epochs=6)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Small layers are slower with more, and the machine has other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def net() -> Model:
    """Four layers with BatchNormalization; pruning leaves an error that a later layer alone cannot mend."""
    wide = Net("N", 3, 8, 8)
    x = wide.cbr("x", 16)
    x = wide.act(wide.op("Add", x, wide.bn(wide.conv(wide.cbr(x, 16), 16))))
    return wide.model(wide.head(wide.cbr(x, 16, 3, 2)))


def pictures(count: int, seed: int) -> np.ndarray:
    """Samples whose values vary together."""
    basis = np.random.default_rng(0).standard_normal((6, 3, 8, 8))
    shares = np.random.default_rng([seed, 1]).standard_normal((count, 6))
    return np.einsum("nk,kchw->nchw", shares, basis).astype(np.float32)


def context_of(model: Model, folder: Path, count: int = 40, seed: int = 0, **given: Any) -> Context:
    """A context with pictures for samples."""
    inputs = infer_batch_axes(input_specs(model.graph), {})
    np.savez(folder / "calib.npz", x=pictures(count, 0), **given)
    samples = open_samples(folder / "calib.npz", inputs, None)
    return Context(folder, None, CalibrationSet(samples, tuple(range(count)), inputs), seed=seed)


def arrays(model: Model) -> dict[str, np.ndarray]:
    found = {name: value.const_value for name, value in model.graph.graph.initializers.items()}
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


def same(one: Model, other: Model) -> bool:
    first, second = arrays(one), arrays(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def told(model: Model, kind: str) -> str:
    return "; ".join(note.why for note in model.notes if note.node == "distillation" and note.kind == kind)


def test_outputs_come_nearer_to_the_float_models(net: Model, tmp_path: Path, run_float: RunFloat) -> None:
    exact = prepared(net.graph)
    shaken = exact.clone()
    rng = np.random.default_rng(2)
    for value in trained(shaken):
        array = value.const_value.numpy()  # type: ignore[union-attr]
        noise = 0.2 * array.std() * rng.standard_normal(array.shape)
        value.const_value = ir.tensor((array + noise).astype(np.float32), name=value.name)
    feed = {"x": pictures(64, 1)}
    name = net.output_names[0]
    wanted = run_float(net, feed)[name]

    def error() -> float:
        return float(np.square(run_float(net.edited(shaken), feed)[name] - wanted).mean())

    before = error()
    notes = distilled(exact, shaken, {}, replace(DISTILL, epochs=20), context_of(net, tmp_path, 80))
    assert error() < 0.5 * before
    assert ["on 16 held back" in note.why for note in notes] == [True]


def test_a_pruned_model_keeps_its_interface_and_its_shapes(net: Model, tmp_path: Path) -> None:
    context = context_of(net, tmp_path)
    fitted, result = replace(DISTILL, recover="lsq")(net, context), DISTILL(net, context)
    onnx.checker.check_model(ir.to_proto(result.graph), full_check=True)
    assert interface(result) == interface(net)
    assert {n: a.shape for n, a in arrays(result).items()} == {n: a.shape for n, a in arrays(fitted).items()}
    assert not same(result, fitted)


def test_statistics_of_batch_normalizations_and_masks_stay(net: Model, build: Build) -> None:
    names = {value.name for value in trained(net.graph)}
    frozen = {v.name for node in net.graph.graph if node.op_type == "BatchNormalization" for v in node.inputs[3:]}
    learned = {v.name for node in net.graph.graph if node.op_type == "BatchNormalization" for v in node.inputs[1:3]}
    assert learned <= names
    assert not frozen & names
    mask = build("(float[N, 3, 3] x) => (float[N, 3, 3] y) { a = MatMul(x, w) y = Add(a, m) }", w=(3, 3), m=(1, 3, 3))
    assert [value.name for value in trained(mask.graph)] == ["w"]


def test_a_seed_gives_the_same_weights_and_another_one_others(net: Model, tmp_path: Path) -> None:
    first, again, other = (DISTILL(net, context_of(net, tmp_path, seed=seed)) for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other)


class Stopped(Exception):  # noqa: N818 - a state, not a mistake
    """Stands for Ctrl-C."""


def test_an_interrupted_distillation_goes_on_to_the_same_weights(
    net: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(net, tmp_path)
    whole = DISTILL(net, context)
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0)
    steps: list[int] = []

    def stop(what: str, done: int, total: int) -> None:
        if what == "distilling":
            steps.append(done)
            if done == total // 2:
                raise Stopped

    with pytest.raises(Stopped):
        DISTILL(net, replace(context, progress=stop))
    assert len(list((tmp_path / "cache").rglob("*.pt"))) == 1
    half, steps[:] = list(steps), []
    resumed = DISTILL(net, replace(context, progress=lambda what, done, total: stop(what, done, 2 * total + 2)))
    assert same(resumed, whole)
    assert half == [1, 2, 3]
    assert steps == [3, 4, 5, 6], "what was done before the interruption is not done again"
    assert not list((tmp_path / "cache").rglob("*.pt")), "it is removed when done"


@pytest.mark.parametrize(("work", "epochs"), [(1e18, 60), (0.0, 4), (None, 7)])
def test_epochs_are_what_work_of_some_minutes_allows(
    net: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: float | None, epochs: int
) -> None:
    context = context_of(net, tmp_path)
    operations = flops(net.graph, {"x": (1, 3, 8, 8)})
    assert operations is not None
    monkeypatch.setattr(run, "WORK", 7.5 * 32 * operations if work is None else work)
    batches = Batches(context.need_calibration("prune"), 0, 32, 32)
    assert run._epochs(net.graph, batches, Prune()) == epochs
    assert run._epochs(net.graph, batches, Prune(epochs=3)) == 3


def test_without_a_number_of_epochs_some_are_chosen(
    net: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "EPOCHS", 2)
    result = replace(DISTILL, epochs=0)(net, context_of(net, tmp_path))
    assert told(result, "choice").startswith("2 epochs over 32 samples")


def test_a_damaged_checkpoint_is_as_good_as_none(net: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = checkpoint.Checkpoint(tmp_path / "cache", "key")
    place.save({"step": 3}, force=True)
    assert place.load() == {"step": 3}
    place.path.write_bytes(place.path.read_bytes()[:-40])
    assert place.load() is None
    place.remove()
    assert place.load() is None


@pytest.mark.parametrize("rate", [1e4, float("inf")])
def test_what_diverges_is_rolled_back_and_told_of(
    net: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    monkeypatch.setattr(training, "RATE", rate)
    context = context_of(net, tmp_path)
    result = DISTILL(net, context)
    assert same(result, replace(DISTILL, recover="lsq")(net, context))
    assert "rolled back to the best weights so far" in told(result, "warning")


def test_a_roll_back_goes_on_from_the_best_weights_more_slowly() -> None:
    state = training.State({"w": torch.tensor([5.0])}, {"w": torch.tensor([2.0])}, rates=[0.1])
    optimizer = training._rolled_back(state, 3)
    assert state.weights["w"].tolist() == [2.0]
    assert state.weights["w"].requires_grad
    assert state.best["w"] is not state.weights["w"]
    assert [group["params"] for group in optimizer.param_groups] == [[state.weights["w"]]]
    assert (state.factor, state.rolled, state.optimizer) == (0.5, [3], {})


def test_few_samples_are_not_learned_from(net: Model, tmp_path: Path) -> None:
    result = DISTILL(net, context_of(net, tmp_path, 8))
    assert "at least 16 samples" in told(result, "warning")


@pytest.mark.parametrize("kind", ["2:4", "unstructured"])
def test_sparse_weights_stay_sparse(kind: Any, build: Build, make_context: MakeContext) -> None:
    text = "(float[N, 8] x) => (float[N, 4] y) { a = MatMul(x, w) r = Relu(a) b = MatMul(r, v) y = Add(b, c) }"
    model = build(text, w=(8, 16), v=(16, 4), c=(4,))
    context, options = make_context(model, "tensorrt", count=40), Prune(kind=kind, recover="distill", epochs=10)
    result = options(model, context)
    assert "epochs over 32 samples" in told(result, "choice")
    before, exact = arrays(result), prepared(model.graph)
    shaken = result.edited(result.graph.clone())
    for value in trained(shaken.graph):
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.2), name=value.name)  # type: ignore[union-attr]
    distilled(exact, shaken.graph, {}, options, context)
    after = arrays(shaken)
    assert all(np.array_equal(before[name] == 0, after[name] == 0) for name in ("w", "v"))
    assert not np.array_equal(after["w"], before["w"] * np.float32(1.2))
    if kind == "2:4":
        assert has_pattern(after["w"], 0)


def test_a_model_with_nothing_to_train_keeps_its_weights_and_says_so(build: Build, make_context: MakeContext) -> None:
    text = "(float16[N, 8] x) => (float16[N, 4] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"
    rng = np.random.default_rng(0)
    model = build(text, w=rng.random((8, 16)).astype(np.float16), v=rng.random((16, 4)).astype(np.float16))
    context = make_context(model, count=40)
    result = DISTILL(model, context)
    assert "no output depends on weights that can be trained" in told(result, "warning")
    assert ["nothing was refitted" in note.why for note in result.notes if note.node == "recover"] == [True]


def test_an_operator_that_is_not_known_is_named_before_any_work(build: Build, make_context: MakeContext) -> None:
    text = "(float[N, 8] x) => (float[N, 4] y) { a = MatMul(x, w) r = com.microsoft.FastGelu(a) y = MatMul(r, v) }"
    model = build(text, infer=False, w=(8, 16), v=(16, 4))
    with pytest.raises(OptionError, match=r"does not know com\.microsoft\.FastGelu; give --recover lsq"):
        DISTILL(model, make_context(model))


def test_without_torch_it_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else found(name))
    with pytest.raises(OptionError, match=r"needs torch.*pip install 'infopt\[torch\]'"):
        DISTILL.check_target(registry.target("onnxruntime"))


def test_other_recoveries_never_import_torch() -> None:
    parts = "infopt.cli, infopt_passes.prune.apply, infopt_passes.prune.sparse.apply"
    code = f"import sys, {parts}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_labels_are_learned_from_where_that_is_asked_for(net: Model, tmp_path: Path, run_float: RunFloat) -> None:
    labels = np.arange(40) % 5
    context = context_of(net, tmp_path, labels=labels)
    name = net.output_names[0]
    feed = {"x": np.load(tmp_path / "calib.npz")["x"]}

    def right(model: Model) -> float:
        scores = torch.from_numpy(run_float(model, feed)[name])
        return float(-cross_entropy(scores, labels, False))

    tuned = replace(DISTILL, fine_tune=True, epochs=20)(net, context)
    assert right(tuned) > right(replace(DISTILL, epochs=20)(net, context))
    assert "32 samples and their labels" in told(tuned, "choice")
    assert "of the outputs' variance, with 10% of the labels' cross-entropy" in told(tuned, "choice")


@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.arange(40) % 5 + 1, "have a label 5, the model has 5 classes"), (np.full((40, 2), -1), "are negative")],
)
@pytest.mark.parametrize("known", [True, False])
def test_labels_that_are_no_classes_are_refused(
    net: Model, tmp_path: Path, labels: np.ndarray, words: str, known: bool
) -> None:
    if not known:
        net.graph.graph.outputs[0].shape = ir.Shape(["N", "classes"])
    with pytest.raises(OptionError, match=words):
        replace(DISTILL, fine_tune=True)(net, context_of(net, tmp_path, labels=labels))


def test_samples_without_a_label_count_for_nothing() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.5], [0.2, 0.8]])).requires_grad_()
    assert float(cross_entropy(scores, np.array([0, -1]), False).detach()) == pytest.approx(np.log(2))
    nothing = cross_entropy(scores, np.array([-1, -1]), False)
    nothing.backward()  # type: ignore[no-untyped-call]
    assert float(nothing.detach()) == 0.0
    assert torch.isfinite(scores.grad).all()


def test_outputs_of_a_layer_that_nothing_reads_need_no_name(tmp_path: Path) -> None:
    """An LSTM of which the last state alone is read, as exporters write it."""
    from passes.sequences import Sequence

    wide = Sequence("T", "N", 8, width=8)
    _, state, _ = wide.recurrent("LSTM", "x", 16)
    model = wide.model(wide.linear(wide.op("Squeeze", state, wide.ints(0), width=16), 4))
    lstm = next(node for node in model.graph.graph if node.op_type == "LSTM")
    lstm.outputs[0].name = lstm.outputs[2].name = ""
    x = np.random.default_rng(0).standard_normal((6, 40, 8)).astype(np.float32)
    inputs = infer_batch_axes(input_specs(model.graph), {"x": 1})
    np.savez(tmp_path / "calib.npz", x=x)
    samples = open_samples(tmp_path / "calib.npz", inputs, None)
    context = Context(tmp_path, None, CalibrationSet(samples, tuple(range(40)), inputs))
    assert "epochs over" in told(replace(DISTILL, epochs=1)(model, context), "choice")


def test_fine_tuning_without_labels_or_without_distillation_is_refused(net: Model, tmp_path: Path) -> None:

    with pytest.raises(OptionError, match="the calibration samples have none"):
        replace(DISTILL, fine_tune=True)(net, context_of(net, tmp_path))
    with pytest.raises(OptionError, match="--fine-tune has no use with --recover lsq"):
        Prune(fine_tune=True).check_target(registry.target("onnxruntime"))


@settings(max_examples=20, deadline=None)
@given(count=st.integers(16, 60), size=st.integers(1, 40), at_once=st.integers(1, 40), fixed=st.integers(0, 5))
def test_an_epoch_shows_each_sample_once_and_none_that_is_held_back(
    count: int, size: int, at_once: int, fixed: int, build: Build
) -> None:
    head = f"(float[{fixed or 'N'}, 3] x) => (float[{fixed or 'N'}, 3] y)"
    model = build(f"{head} {{ y = Relu(x) }}")
    inputs = infer_batch_axes(input_specs(model.graph), {})
    samples = CalibrationSet(SyntheticSamples(inputs, count, 0), tuple(range(count)), inputs)
    batches = Batches(samples, 0, size, at_once)
    shown: list[int] = []
    for step in range(batches.steps, 2 * batches.steps):
        for part in batches.parts(batches.step(step)):
            assert part.feed["x"].shape[0] == len(part.indices) == (fixed or len(part.indices))
            assert fixed or len(part.indices) <= at_once
            shown += dict.fromkeys(part.indices.tolist())
    assert sorted([*shown, *batches.held]) == list(range(count))
    assert abs(len(batches.held) - count / 5) < 1


class Ragged:
    """Samples of two lengths, all of whose values are their number."""

    def batches(self, size: int, indices: Any) -> Iterator[Batch]:
        for index in indices:
            yield Batch({"x": np.full((1, 2 + index % 2), index, np.float32)}, size)


def test_samples_of_unlike_shapes_run_apart(build: Build) -> None:
    model = build("(float[N, T] x) => (float[N, T] y) { y = Relu(x) }")
    inputs = infer_batch_axes(input_specs(model.graph), {})
    batches = Batches(CalibrationSet(Ragged(), tuple(range(20)), inputs), 0, 32, 32)  # type: ignore[arg-type]
    parts = list(batches.parts(np.arange(20)))
    assert [part.feed["x"].shape for part in parts] == [(10, 2), (10, 3)]
    assert all(np.array_equal(part.feed["x"][:, 0], part.indices) for part in parts)


def test_values_that_are_not_finite_count_for_nothing() -> None:
    wanted = np.float32([[1, -np.inf], [3, -np.inf]])
    assert powers([[wanted], [wanted + 4]], 1) == [pytest.approx(5.0)]
    assert powers([[np.ones((2, 3), np.float32)]], 1) == [0.0]
    found = torch.zeros(2, 2, requires_grad=True)
    total = distance([found], [wanted], [Aim("y", 5.0, 2.0)])
    total.backward()
    assert float(total.detach()) == pytest.approx(2 / 5 * (1 + 9) / 4)
    assert found.grad.tolist() == [[pytest.approx(-0.2), 0.0], [pytest.approx(-0.6), 0.0]]


def test_any_of_several_right_classes_will_do() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    labels = np.array([[0, 1], [2, -1]])
    wanted = pytest.approx(-(np.log(0.8) + np.log(0.8)) / 2)
    assert float(cross_entropy(scores, labels, False)) == wanted
    assert float(cross_entropy(scores.exp(), labels, True)) == wanted


@dataclass
class FirstAlone:
    """A selection in which nothing but the first candidate keeps the budget."""

    tried: int = 0
    metric: str = "top1"
    samples: int = 8
    limit: float = 0.1
    confirmed: int = 8
    labelled: bool = True
    proves: bool = True
    confidence: float = 0.95
    later: tuple[str, ...] = ()

    def trial(self, model: Model, context: Context) -> Trial:
        self.tried += 1
        kept = self.tried == 1
        return Trial(1.0, 1.0, 0.0, None, "pass" if kept else "fail", kept)


def test_where_distillation_misses_the_budget_the_recovery_of_the_trials_is_what_a_recipe_repeats(
    net: Model, make_context: MakeContext
) -> None:
    context = make_context(net, count=64)
    options = replace(DISTILL, flops=None, epochs=1, time_limit=1.0)
    found = largest(net, options, context, cast("Selection", FirstAlone()))
    again = build(Prune, found.settled or {}, "pass 'prune'")
    assert again == replace(options, flops=0.5, recover="lsq", epochs=0)
    again.check_target(registry.target("onnxruntime"))
    graphs = [ir.to_proto(each.graph).SerializeToString() for each in (found, again(net, context))]
    assert graphs[0] == graphs[1]
