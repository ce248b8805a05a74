"""Blame finds a culprit that was planted, says why, and its remedies raise the SQNR for real."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest

import infopt
from infopt.blaming.graph import quantized_layers
from infopt.blaming.remedies import Trials, tried
from infopt.blaming.report import BlamedLayer, BlameReport, Flips, Remedy
from infopt.blaming.restore import restorer, stored_values
from infopt.errors import InputError, OptionError
from infopt.model import load, save
from infopt.views.blame import headline, tables

if TYPE_CHECKING:
    from conftest import Build

PLAIN = {"no_bench": True, "no_eval": True, "method": "fast"}


def normal(*shape: int) -> np.ndarray:
    fan_in = int(np.prod(shape[1:])) or 1
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def chain(build: Build, first: np.ndarray, second: np.ndarray) -> Any:
    """Three convolutions of 8 channels; the weights of the middle ones are given."""
    text = (
        "(float[N, 8, 8, 8] x) => (float[N, 8, 2, 2] y) "
        "{ stem = Conv (x, w0) maker = Conv (stem, w1) r = Relu (maker) reader = Conv (r, w2) y = Conv (reader, w3) }"
    )
    return build(text, w0=normal(8, 8, 1, 1), w1=first, w2=second, w3=normal(8, 8, 3, 3))


class Folder:
    """A folder with a model and its samples, quantized and blamed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def quantize(self, model: Any, samples: np.ndarray, target: str = "onnxruntime", **options: Any) -> Path:
        save(model.graph, self.path / "model.onnx")
        np.savez(self.path / "calib.npz", x=samples)
        out = self.path / "out"
        infopt.quantize(
            self.path / "model.onnx", target=target, calib=self.path / "calib.npz", output=out, **(PLAIN | options)
        )
        return out

    def blame(self, **options: Any) -> BlameReport:
        return infopt.blame(self.path / "out", **({"no_bench": True} | options))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def kinds(layer: BlamedLayer) -> set[str]:
    return {cause.kind for cause in layer.causes}


def layer(report: BlameReport, name: str) -> BlamedLayer:
    return next(each for each in report.layers if each.name == name)


def samples(count: int = 24) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 8, 8, 8)).astype(np.float32)


def uneven(build: Build) -> Any:
    """One channel of 200 times the others' magnitude, which the reader takes back: the others are lost in rounding."""
    sizes = np.ones(8, np.float32)
    sizes[3] = 200
    return chain(build, normal(8, 8, 3, 3) * sizes[:, None, None, None], normal(8, 8, 3, 3) / sizes[:, None, None])


def test_an_outlier_channel_is_named_with_the_layer_that_reads_it(build: Build, folder: Folder) -> None:
    folder.quantize(uneven(build), samples())
    report = folder.blame()
    worst = report.layers[0]
    assert worst.name == "reader"
    assert worst.gain_db is not None
    assert worst.gain_db > 5
    assert "tiny channels" in kinds(worst)
    cause = next(cause for cause in worst.causes if cause.kind == "tiny channels")
    assert (cause.tensor, cause.numbers["tiny"], cause.numbers["channels"]) == ("r", 7, 8)
    assert worst.remedy is not None
    assert worst.remedy.startswith("--equalize activations")


def test_the_remedy_of_an_outlier_channel_raises_the_sqnr_for_real(build: Build, folder: Folder) -> None:
    out = folder.quantize(uneven(build), samples())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    report = folder.blame(apply=True, output=folder.path / "better")
    assert report.applied is not None
    assert report.applied.before_db is not None
    assert report.applied.after_db is not None
    assert report.applied.after_db > report.applied.before_db + 5
    assert "--equalize activations" in report.applied.options
    assert 'equalize = "activations"' in (folder.path / "better" / "recipe.toml").read_text()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    again = infopt.blame(folder.path / "better", no_bench=True)
    assert again.output_sqnr_db == pytest.approx(report.applied.after_db, abs=0.01)


def test_a_range_that_clips_is_named_and_the_extremes_are_the_remedy(build: Build, folder: Folder) -> None:
    model = chain(build, normal(8, 8, 3, 3), normal(8, 8, 3, 3))
    folder.quantize(model, samples(), ranges="percentile", percentile=90.0)
    report = folder.blame(apply=True, output=folder.path / "better")
    clipped = [each for each in report.layers if "clipping" in kinds(each)]
    assert "reader" in {each.name for each in clipped}
    causes = [cause for each in clipped for cause in each.causes if cause.kind == "clipping"]
    told = max(causes, key=lambda cause: cause.numbers["clipped"])
    assert 0.05 < told.numbers["clipped"] < 0.3
    assert told.numbers["power"] > 0.5
    assert report.remedies[0].option in ("--ranges minmax", "--ranges mse")
    assert report.applied is not None
    assert report.applied.after_db is not None
    assert report.applied.before_db is not None
    # What was predicted on a part of the samples comes true.
    assert report.applied.after_db - report.applied.before_db > report.remedies[0].gain_db - 1.5
    assert report.remedies[0].gain_db > 5


def mixed(build: Build) -> Any:
    text = (
        "(float[N, 8, 8, 8] x) => (float[N, 8, 4, 4] y) "
        "{ big = Conv (x, w0) small = Conv (x, w1) both = Concat <axis = 1> (big, small) "
        "reader = Conv (both, w2) y = Conv (reader, w3) }"
    )
    read = normal(8, 16, 3, 3)
    read[:, :8] /= 300
    return build(text, w0=300 * normal(8, 8, 1, 1), w1=normal(8, 8, 1, 1)[::-1].copy(), w2=read, w3=normal(8, 8, 3, 3))


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])  # the latter has one scale for all parts
def test_a_concat_of_mixed_magnitude_is_named_with_its_parts(build: Build, folder: Folder, target: str) -> None:
    folder.quantize(mixed(build), samples(), target)
    report = folder.blame()
    reader = layer(report, "reader")
    assert "mixed-magnitude Concat" in kinds(reader)
    cause = next(cause for cause in reader.causes if cause.kind == "mixed-magnitude Concat")
    assert cause.numbers["ratio"] > 100
    assert cause.numbers["steps"] < 3
    assert "big in both" in cause.told
    assert "small" in cause.told
    # In float, its reader frees the Concat too: that is what --keep-float does.
    assert reader.gain_db is not None
    assert reader.gain_db > 5


def test_rare_spikes_are_an_outlier_range(build: Build, folder: Folder) -> None:
    data = samples(16)
    flat = data.reshape(-1)
    flat[:: flat.size // 3] = 120
    folder.quantize(chain(build, normal(8, 8, 3, 3), normal(8, 8, 3, 3)), data)
    stem = layer(folder.blame(samples=16), "stem")
    cause = next(cause for cause in stem.causes if cause.kind == "outlier range")
    assert cause.tensor == "x"
    assert cause.numbers["levels"] * 4 < cause.numbers["range"]


def test_layers_in_float_bring_what_was_promised(build: Build, folder: Folder) -> None:
    folder.quantize(uneven(build), samples())
    report = folder.blame()
    kept = next(each for each in report.remedies if "keep_float" in each.changes)
    # The reader alone would go on reading what its maker rounds, whose kernel wants that.
    assert kept.option == "--keep-float maker --keep-float reader"
    folder.quantize(uneven(build), samples(), keep_float=kept.changes["keep_float"])
    assert report.output_sqnr_db is not None
    assert folder.blame().output_sqnr_db == pytest.approx(report.output_sqnr_db + kept.gain_db, abs=0.1)


def test_what_brings_nothing_on_top_is_not_applied(build: Build, folder: Folder) -> None:
    folder.quantize(uneven(build), samples())
    report = folder.blame()
    chosen = [each.option for each in report.remedies if each.chosen]
    assert chosen == ["--equalize activations"]  # which costs no time, and is enough
    assert any("keep_float" in each.changes for each in report.remedies)


def test_without_an_option_that_helps_layers_are_left_in_float(build: Build, folder: Folder) -> None:
    folder.quantize(uneven(build), samples(), equalize="off", method="auto", ranges="minmax", time_limit=1.0)
    report = folder.blame(apply=True, output=folder.path / "better")
    assert report.applied is not None
    assert report.applied.after_db is not None
    assert report.applied.before_db is not None
    assert report.applied.after_db > report.applied.before_db + 3


def test_remedies_come_on_top_of_what_the_method_chose(
    build: Build, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infopt_passes.quantize.auto.spared", lambda *given: ([], given[3]))
    folder.quantize(uneven(build), samples(), equalize="off", method="auto", ranges="minmax")
    monkeypatch.setattr("infopt_passes.quantize.apply.chosen", None)  # nothing is searched again
    bases: list[float] = []

    def watched(rows: Any, layers: Any, trials: Trials) -> Any:
        found = tried(rows, layers, trials)
        bases.append(trials.sqnr)
        return found

    monkeypatch.setattr("infopt.blaming.run.tried", watched)
    report = folder.blame(apply=True, output=folder.path / "better")
    assert bases == pytest.approx([report.output_sqnr_db], abs=0.01)
    assert report.applied is not None
    assert report.applied.after_db is not None
    assert report.applied.before_db is not None
    assert report.applied.after_db > report.applied.before_db + 3
    options = tomllib.loads((folder.path / "better" / "recipe.toml").read_text())["pass"][-1]
    assert (options["method"], options["rounding"], options["equalize"]) == ("fast", "least-squares", "activations")


def test_the_price_of_a_layer_in_float_is_measured(build: Build, folder: Folder) -> None:
    folder.quantize(uneven(build), samples())
    report = folder.blame(no_bench=False)
    prices = {each.option: each.price_ms for each in report.remedies}
    assert prices["--equalize activations"] == 0
    kept = next(ms for option, ms in prices.items() if option.startswith("--keep-float"))
    assert kept is not None
    assert abs(kept) < 50


@pytest.mark.parametrize("target", ["openvino", "tensorrt-rtx", "tensorrt"])
def test_every_target_with_qdq_is_looked_into(build: Build, folder: Folder, target: str) -> None:
    wide = {f"w{i}": normal(32, 32, 3, 3) for i in range(3)}
    text = (
        "(float[N, 32, 12, 12] x) => (float[N, 32, 6, 6] y) "
        "{ a = Conv (x, w0) r = Relu (a) b = Conv (r, w1) y = Conv (b, w2) }"
    )
    data = np.random.default_rng(2).standard_normal((12, 32, 12, 12)).astype(np.float32)
    folder.quantize(build(text, **wide), data, target)
    report = folder.blame()
    assert {each.name for each in report.layers} == {"a", "b", "y"}
    assert all(each.gain_db is not None and each.sqnr_db is not None for each in report.layers)
    assert report.output_sqnr_db is not None


def test_in_an_equalized_model_rescaled_channels_are_no_error(build: Build, folder: Folder) -> None:
    folder.quantize(uneven(build), samples(), equalize="activations")
    report = folder.blame()
    maker = layer(report, "maker")
    assert maker.sqnr_db is not None
    assert maker.sqnr_db > 20  # compared as it is, one channel of 200 would be all error
    assert any("equalized" in note for note in report.notes)


def test_the_weights_of_an_equalized_model_are_found_again(build: Build, folder: Folder) -> None:
    out = folder.quantize(uneven(build), samples(), equalize="activations")
    graph, plain = load(out / "model.onnx").graph, load(folder.path / "model.onnx").graph
    restore = restorer(graph, plain)
    assert restore.rescaled
    node = next(node for node in graph.graph if node.name == "reader")
    value = node.inputs[1]
    assert value is not None
    found, rounded = restore.weight(node, 1, value), stored_values(value)
    assert found is not None
    error = np.square(found - rounded).sum() / np.square(rounded).sum()
    assert error < 1e-3


def test_weights_alone_are_judged_by_their_rounding(build: Build, folder: Folder) -> None:
    text = "(float[N, 64] x) => (float[N, 32] y) { h = MatMul (x, w0) r = Relu (h) y = MatMul (r, w1) }"
    model = build(text, opset=21, ir_version=10, w0=normal(64, 64), w1=normal(64, 32))
    data = np.random.default_rng(3).standard_normal((24, 64)).astype(np.float32)
    folder.quantize(model, data, precision="int4-weights")
    report = folder.blame(calib=folder.path / "calib.npz")
    assert {each.name for each in report.layers} == {"h", "y"}
    assert all("weight rounding" in kinds(each) for each in report.layers)
    assert all((each.gain_db or 0) > 0.5 for each in report.layers)


def test_quantize_reports_how_far_each_layer_moved(build: Build, folder: Folder) -> None:
    data = samples()
    np.savez(folder.path / "eval.npz", x=data[:10], labels=np.zeros(10, np.int64))
    text = (
        "(float[N, 8, 8, 8] x) => (float[N, 8] y) "
        "{ a = Conv (x, w0) r = Relu (a) g = GlobalAveragePool (r) f = Flatten (g) y = Gemm (f, w1) }"
    )
    out = folder.quantize(
        build(text, w0=normal(8, 8, 3, 3), w1=normal(8, 8)),
        data,
        no_eval=False,
        eval=folder.path / "eval.npz",
        metric="top1",
    )
    layers = json.loads((out / "report.json").read_text())["layers"]
    order = [node.name for node in load(out / "model.onnx").graph.graph]
    assert {"a", "y"} <= {each["name"] for each in layers}
    assert [each["name"] for each in layers] == sorted((each["name"] for each in layers), key=order.index)
    found = {each.name: each.sqnr_db for each in folder.blame(samples=16).layers}
    assert found == pytest.approx({each["name"]: each["sqnr_db"] for each in layers}, abs=0.05)
    flips = next(each.flips for each in folder.blame().layers if (each.gain_db or 0) > 0)
    assert flips is not None
    assert flips.samples == 10


def test_what_was_tried_is_remembered(
    build: Build, folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "cache"))
    folder.quantize(uneven(build), samples())
    first = folder.blame()
    (kept,) = (tmp_path / "cache" / "blame").glob("*.json")
    known = json.loads(kept.read_text())
    assert "reader" in known
    kept.write_text(json.dumps(known | {"reader": known[""]}))
    assert layer(first, "reader").gain_db != pytest.approx(0, abs=1e-6)
    assert layer(folder.blame(), "reader").gain_db == pytest.approx(0, abs=1e-6)  # read, not measured again
    kept.write_text("{")
    assert layer(folder.blame(), "reader").gain_db == layer(first, "reader").gain_db


def test_what_is_remembered_belongs_to_the_samples(
    build: Build, folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder.quantize(uneven(build), samples())
    options: dict[str, Any] = {"time_limit": 0.0, "samples": 9}
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "first"))
    alone = folder.blame(**options).output_sqnr_db
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "second"))
    assert folder.blame(time_limit=0.0, samples=24).output_sqnr_db != pytest.approx(alone)
    assert folder.blame(**options).output_sqnr_db == pytest.approx(alone)


def test_a_fast_model_is_judged_on_more_samples(build: Build, folder: Folder) -> None:
    folder.quantize(uneven(build), samples(70))
    assert folder.blame(time_limit=0.0).judged == 8
    assert folder.blame().judged == 64


def test_only_what_was_tried_is_promised() -> None:
    culprit = BlamedLayer("conv1", "Conv", 20.0, gain_db=2.4, flips=Flips(256, 0.0039, 3, 2, "top1"))
    nothing = Remedy("--keep-float conv1", {"keep_float": ("conv1",)}, 0.0, None)
    bare = BlameReport("0", "out", "onnxruntime", "m.onnx", 16, 8, 20.0, (culprit,), (), 1.0)
    assert headline(bare) == "BLAME  out: outputs at 20.0 dB SQNR; conv1 costs most"
    tried = replace(bare, useless=(nothing,))
    assert headline(tried).endswith("; conv1 costs most; tried 1 remedies, none brings 0.5 dB")
    assert "--keep-float conv1" not in str(tables(tried))
    assert "--keep-float conv1" in str(tables(tried, details=True))
    helped = replace(bare, remedies=(replace(nothing, gain_db=2.0),))
    assert headline(helped).endswith("; conv1 costs most; --keep-float conv1 would bring +2.0 dB")
    told = tables(bare)[0]
    assert told.rows[0][-1] == "+0.0039 (3 gained, 2 lost)"
    assert "what top1 gains on 256 evaluation samples" in told.notes[1]
    assert "one flip is 0.0039" in told.notes[1]


def test_trials_keep_no_graph_that_needs_no_price(
    build: Build, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.quantize(uneven(build), samples())
    kept: list[set[str]] = []

    def watched(rows: Any, layers: Any, trials: Trials) -> Any:
        found = tried(rows, layers, trials)
        kept.append(set(trials.graphs))
        assert "--equalize activations" in {each.option for each in found[0]}
        helping = {each.option for each in found[0] if each.price_ms is None}
        assert set(trials.graphs) == ({"", *helping} if trials.priced else set())
        return found

    monkeypatch.setattr("infopt.blaming.run.tried", watched)
    folder.blame()
    folder.blame(no_bench=False)
    assert [bool(each) for each in kept] == [False, True]


def test_without_time_the_layers_are_still_compared(build: Build, folder: Folder) -> None:
    folder.quantize(uneven(build), samples())
    report = folder.blame(time_limit=0.0)
    assert len(report.layers) == 4
    assert all(each.gain_db is None for each in report.layers)
    assert "reader" in {each.name for each in report.layers if "tiny channels" in kinds(each)}
    assert any("--time-limit" in note for note in report.notes)


def test_memory_bounds_what_is_fetched_at_once(build: Build, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.quantize(uneven(build), samples())
    whole = folder.blame(time_limit=0.0)
    monkeypatch.setattr("infopt.blaming.sweep.SHARE", 10**6)  # no two tensors fit
    assert [(each.name, each.sqnr_db) for each in folder.blame(time_limit=0.0).layers] == [
        (each.name, each.sqnr_db) for each in whole.layers
    ]


def float_output(folder: Folder, build: Build) -> Path:
    save(chain(build, normal(8, 8, 3, 3), normal(8, 8, 3, 3)).graph, folder.path / "model.onnx")
    infopt.compile(folder.path / "model.onnx", output=folder.path / "out", no_eval=True, no_bench=True)
    return folder.path / "out"


def gone(out: Path) -> None:
    (out.parent / "model.onnx").unlink()


def changed(out: Path) -> None:
    graph = load(out.parent / "model.onnx").graph
    array = graph.graph.initializers["w3"].const_value
    assert array is not None
    graph.graph.initializers["w3"].const_value = ir.tensor(array.numpy() * 2, name="w3")
    save(graph, out.parent / "model.onnx")


def without_data(out: Path) -> None:
    (out.parent / "calib.npz").unlink()


def edited(out: Path) -> None:
    (out / "model.onnx").write_bytes((out / "model.onnx").read_bytes() + b"\x00")


def without_recipe(out: Path) -> None:
    (out / "recipe.toml").unlink()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (gone, "model.onnx is gone"),
        (changed, "has changed since"),
        (without_data, "calibration samples"),
        (edited, "manifest"),
        (without_recipe, "recipe.toml"),
    ],
)
def test_what_belongs_to_the_directory_has_to_be_as_it_was(
    build: Build, folder: Folder, harm: Callable[[Path], None], says: str
) -> None:
    out = folder.quantize(uneven(build), samples())
    harm(out)
    with pytest.raises(InputError, match=says):
        folder.blame()


def test_what_is_no_quantized_output_is_refused(build: Build, folder: Folder) -> None:
    with pytest.raises(InputError, match="does not exist"):
        folder.blame()
    (folder.path / "out").mkdir()
    with pytest.raises(InputError, match="not an output directory"):
        folder.blame()
    (folder.path / "out").rmdir()
    float_output(folder, build)
    with pytest.raises(InputError, match="float model"):
        folder.blame()


def test_ranges_made_at_run_time_are_not_blamed(build: Build, folder: Folder) -> None:
    text = "(float[N, 64] x) => (float[N, 32] y) { h = MatMul (x, w0) r = Relu (h) y = MatMul (r, w1) }"
    data = np.random.default_rng(3).standard_normal((24, 64)).astype(np.float32)
    folder.quantize(build(text, w0=normal(64, 64), w1=normal(64, 32)), data, precision="dynamic-int8")
    with pytest.raises(InputError, match="at run time"):
        folder.blame(calib=folder.path / "calib.npz")


def test_apply_needs_a_place_that_is_not_the_directory_itself(build: Build, folder: Folder) -> None:
    out = folder.quantize(uneven(build), samples())
    for options in ({"apply": True}, {"output": folder.path / "b"}, {"apply": True, "output": out}):
        with pytest.raises(OptionError):
            folder.blame(**options)


def test_the_graph_is_read_as_it_was_written(build: Build, folder: Folder) -> None:
    out = folder.quantize(uneven(build), samples())
    layers = {each.name: each for each in quantized_layers(load(out / "model.onnx").graph.graph)}
    assert set(layers) == {"stem", "maker", "reader", "y"}
    assert layers["maker"].output == "r"  # what is quantized is behind the ReLU
    assert layers["y"].output == "y"  # the output's pair took the name
    assert [pair.name for pair in layers["reader"].inputs] == ["r"]
    assert layers["reader"].weights[0] == 1
